"""What each Numba kernel gains over NumPy, BLAS or scipy.sparse doing the same."""

import numpy as np

from benchmarks.common import cpu_seconds
from curtensor import _kernels
from curtensor.selection import POOL
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


def osinsky_pass():
    """50 choices out of a pool of candidates."""
    rng = np.random.default_rng(0)
    k, width = 50, 100
    state = np.linalg.qr(rng.standard_normal((POOL, width)))[0] * np.geomspace(1, 1e-3, width)
    state[:, :k] = np.linalg.qr(state[:, :k])[0]
    weights, chosen = np.ones(POOL), np.empty(k, dtype=np.int64)

    def by_numpy():
        basis, residual, coefficients = state[:, :k].copy(), state[:, k:].copy(), np.zeros((POOL, k))
        taken = np.zeros(POOL, dtype=bool)
        for i in range(k):
            leverage = np.einsum("ij,ij->i", basis, basis)
            loss = np.einsum("ij,ij->i", residual, residual)
            loss += 1e-6 * (1 + np.einsum("ij,ij->i", coefficients[:, :i], coefficients[:, :i]))
            leverage[taken] = 1e-30
            p = (loss / leverage).argmin()
            taken[p] = True
            shares = basis @ basis[p] / leverage[p]
            basis -= np.outer(shares, basis[p])
            residual -= np.outer(shares, residual[p])
            coefficients[:, :i] -= np.outer(shares, coefficients[p, :i])
            coefficients[:, i] = shares

    return lambda: _kernels.osinsky_pass(state.copy(), k, 0, 1e-6, weights, np.inf, chosen), by_numpy


# name of the kernel -> () to two functions without arguments: the kernel, and the same without it
CASES = {"sketch_panel": sketch_panel, "squared_moduli": squared_moduli, "osinsky_pass": osinsky_pass}


class Kernels:
    params = list(CASES)
    param_names = ("kernel",)
    unit = "times"

    def track_gain(self, kernel):
        with_kernel, without = cpu_seconds(CASES[kernel](), 5)
        return without / with_kernel
