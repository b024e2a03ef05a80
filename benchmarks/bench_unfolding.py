"""Products and Gram matrices of modes: ours, TensorLy's and NumPy's; time and memory."""

import time

import numpy as np

import curtensor as ct
from benchmarks.common import cpu_seconds
from curtensor import _kernels

# shape and mode: inner modes with long and with short slices behind them, outer modes
CASES = {
    "200^3, mode 0": ((200, 200, 200), 0),
    "200^3, mode 1": ((200, 200, 200), 1),
    "200^3, mode 2": ((200, 200, 200), 2),
    "60^4, mode 1": ((60, 60, 60, 60), 1),
    "60^4, mode 2": ((60, 60, 60, 60), 2),
    "512 x 512 x 31, mode 0": ((512, 512, 31), 0),
    "512 x 512 x 31, mode 1": ((512, 512, 31), 1),
    "512 x 512 x 31, mode 2": ((512, 512, 31), 2),
    "427 x 640 x 3, mode 1": ((427, 640, 3), 1),
}
INNER = ("200^3, mode 1", "60^4, mode 1", "60^4, mode 2", "512 x 512 x 31, mode 1")


def tensorly_mode_dot(X, M, mode):
    from tensorly.tenalg import mode_dot

    return mode_dot(X, M, mode)


def numpy_mode_dot(X, M, mode):
    return np.moveaxis(np.tensordot(M, X, (1, mode)), 0, mode)


def einsum_mode_dot(X, M, mode):
    letters = "abcdefgh"[: X.ndim]
    return np.einsum(f"{letters},z{letters[mode]}->{letters.replace(letters[mode], 'z')}", X, M, optimize=True)


def tensorly_gram(X, mode):
    from tensorly import unfold

    unfolded = unfold(X, mode)
    return unfolded @ unfolded.conj().T


def numpy_gram(X, mode):
    others = [n for n in range(X.ndim) if n != mode]
    return np.tensordot(X, X.conj(), (others, others))


PRODUCTS = {
    "mode_dot": ct.mode_dot,
    "TensorLy": tensorly_mode_dot,
    "tensordot": numpy_mode_dot,
    "einsum": einsum_mode_dot,
}
GRAMS = {"mode_gram": ct.mode_gram, "TensorLy unfold + syrk": tensorly_gram, "tensordot": numpy_gram}


def case(name, dtype="f8", rank=10):
    """The tensor of a case, a matrix to multiply it by, and the mode."""
    shape, mode = CASES[name]
    rng = np.random.default_rng(0)
    M = rng.standard_normal((min(rank, shape[mode]), shape[mode])).astype(dtype)
    return rng.standard_normal(shape).astype(dtype), M, mode


class Products:
    params = (list(PRODUCTS), list(CASES))
    param_names = ("method", "case")
    timer = time.process_time

    def setup(self, method, name):
        self.X, self.M, self.mode = case(name)
        PRODUCTS[method](self.X[:2], self.M[:, :2] if self.mode == 0 else self.M, self.mode)

    def time_product(self, method, name):
        PRODUCTS[method](self.X, self.M, self.mode)

    def peakmem_product(self, method, name):
        PRODUCTS[method](self.X, self.M, self.mode)


class Grams:
    params = (list(GRAMS), list(CASES))
    param_names = ("method", "case")
    timer = time.process_time

    def setup(self, method, name):
        self.X, _, self.mode = case(name)
        GRAMS[method](self.X, self.mode)

    def time_gram(self, method, name):
        GRAMS[method](self.X, self.mode)

    def peakmem_gram(self, method, name):
        GRAMS[method](self.X, self.mode)


class PackPanel:
    """What the kernel gains over NumPy's copy of the transposed slabs, by the length of the slices behind the mode."""

    params = (1, 3, 8, 31, 60)
    param_names = ("trailing",)
    unit = "times"

    def track_gain(self, trailing):
        slabs = np.random.default_rng(0).standard_normal((2**16 // (64 * trailing), 64, trailing))
        panel = np.empty((64, len(slabs) * trailing))

        def by_numpy():
            panel.reshape(64, len(slabs), trailing)[:] = slabs.transpose(1, 0, 2)

        kernel, plain = cpu_seconds((lambda: _kernels.pack_panel(slabs, panel), by_numpy), 50)
        return plain / kernel
