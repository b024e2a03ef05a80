"""What each Numba kernel gains over NumPy, BLAS or scipy.sparse doing the same."""

import numpy as np

from benchmarks.common import cpu_seconds
from curtensor import _kernels
from curtensor.sketching import sparse_sign


def sketch_panel():
    """Both sparse-sign sketches and the squared norm, in one reading of the matrix."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((2000, 1500))
    Y, X = (sparse_sign(n, 120, A.dtype, rng) for n in A.shape)
    signs = [array.reshape(S.shape[0], -1) for S in (Y, X) for array in (S.indices, S.data)]
    left, right = np.zeros((120, 1500)), np.zeros((120, 2000))

    def by_scipy():
        return Y.T @ A, (X.T @ A.T), np.linalg.norm(A) ** 2

    return lambda: _kernels.sketch_panel(A, *signs, left, right), by_scipy


def squared_moduli():
    """The squared norm of an array that is larger than the cache."""
    A = np.random.default_rng(0).standard_normal((2000, 1500)).astype(np.float32)
    return lambda: _kernels.squared_moduli(A), lambda: np.einsum("ij,ij->", A, A, dtype=float)


def pack_panel():
    """Slabs with 31 trailing entries laid side by side."""
    slabs = np.random.default_rng(0).standard_normal((33, 64, 31))
    panel = np.empty((64, 33 * 31))

    def by_numpy():
        panel.reshape(64, 33, 31)[:] = slabs.transpose(1, 0, 2)

    return lambda: _kernels.pack_panel(slabs, panel), by_numpy


def gather():
    """A thousand fibres of the first mode of a tensor."""
    rng = np.random.default_rng(0)
    X, columns = rng.standard_normal(200**3), rng.integers(0, 200**2, 1024)
    rows, out = np.arange(200) * 200**2, np.empty((200, 1024))
    i, (j, k) = np.arange(200)[:, None], np.divmod(columns, 200)
    return lambda: _kernels.gather(X, rows, columns, out), lambda: X.reshape(200, 200, 200)[i, j, k]


# name of the kernel -> () to two functions without arguments: the kernel, and the same without it
CASES = {
    "sketch_panel": sketch_panel,
    "squared_moduli": squared_moduli,
    "pack_panel": pack_panel,
    "gather": gather,
}


class Kernels:
    params = list(CASES)
    param_names = ("kernel",)
    unit = "times"

    def track_gain(self, kernel):
        with_kernel, without = cpu_seconds(CASES[kernel](), 5)
        return without / with_kernel
