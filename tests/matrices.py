"""Matrix families with known spectra, and what the tests measure on them."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, sparse

from curtensor import operands
from curtensor.operands.arithmetic import dense
from curtensor.sketching import gaussian, sparse_sign

DTYPES = ("float32", "float64", "complex64", "complex128")
INTEGERS = ("bool", "int8", "uint16", "int64")
SHAPES = {"tall": (70, 40), "wide": (40, 70), "square": (50, 50)}


def normal(shape, dtype, rng):
    """Independent standard normal entries, complex where the dtype is."""
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype)


def orthonormal(n, k, dtype, rng):
    """k random orthonormal columns of length n."""
    return np.linalg.qr(normal((n, k), np.result_type(dtype, float), rng))[0]


def with_spectrum(m, n, s, dtype, rng):
    """Random singular vectors and the given singular values."""
    s = np.asarray(s)[: min(m, n)]
    left, right = orthonormal(m, len(s), dtype, rng), orthonormal(n, len(s), dtype, rng)
    return (left * s @ right.conj().T).astype(dtype)


def low_rank(m, n, k, dtype, rng, condition=10.0):
    """Rank k to rounding, with the given condition number on its range."""
    return with_spectrum(m, n, np.geomspace(1, 1 / condition, k), dtype, rng)


def exponential(m, n, dtype, rng):
    """Singular values exp(-i / 4)."""
    return with_spectrum(m, n, np.exp(-np.arange(min(m, n)) / 4), dtype, rng)


def harmonic(m, n, dtype, rng):
    """Singular values 1 / i."""
    return with_spectrum(m, n, 1 / np.arange(1, min(m, n) + 1), dtype, rng)


def slow(m, n, dtype, rng):
    """Singular values 1 / sqrt(i)."""
    return with_spectrum(m, n, 1 / np.sqrt(np.arange(1, min(m, n) + 1)), dtype, rng)


def noisy_low_rank(m, n, dtype, rng):
    """Rank 8 and noise of 1e-3."""
    noise = normal((m, n), dtype, rng) * np.array(1e-3 / np.sqrt(max(m, n)), dtype)
    return (low_rank(m, n, 8, dtype, rng) + noise).astype(dtype)


def coherent(m, n, dtype, rng):
    """Rows and columns of heavy-tailed scales, and a few spikes."""
    A = exponential(m, n, np.result_type(dtype, float), rng)
    A = rng.pareto(1.5, (m, 1)) * A * rng.pareto(1.5, n)
    A[rng.integers(m, size=5), rng.integers(n, size=5)] += np.abs(A).max()
    return (A / np.linalg.norm(A)).astype(dtype)


def mostly_zero(m, n, dtype, rng):
    """One entry in twenty, of every size."""
    A = np.where(rng.random((m, n)) < 0.05, normal((m, n), np.result_type(dtype, float), rng), 0)
    return (A * np.exp(rng.normal(size=(m, 1)))).astype(dtype)


def mixture(m, n, dtype, rng):
    """Points around ten centres, as rows."""
    centres = normal((10, n), np.result_type(dtype, float), rng)
    return (centres[rng.integers(10, size=m)] + 0.1 * normal((m, n), dtype, rng)).astype(dtype)


def lehmer(m, n, dtype, rng):
    """min(i, j) / max(i, j)."""
    i, j = np.arange(1, m + 1)[:, None], np.arange(1, n + 1)
    return (np.minimum(i, j) / np.maximum(i, j)).astype(dtype)


def cauchy(m, n, dtype, rng):
    """1 / (i + j + 1): singular values fall below rounding."""
    return (1 / (np.arange(m)[:, None] + np.arange(n) + 1)).astype(dtype)


def kahan(m, n, dtype, rng):
    """Kahan's triangular matrix of angle 1.2, on which pivoted QR is at its worst."""
    size = max(m, n)
    upper = np.eye(size) - np.cos(1.2) * np.triu(np.ones((size, size)), 1)
    return (np.sin(1.2) ** np.arange(size)[:, None] * upper)[:m, :n].astype(dtype)


def circulant(m, n, dtype, rng):
    """A circulant of 1, 2, ..., n."""
    return linalg.circulant(np.arange(1.0, max(m, n) + 1))[:m, :n].astype(dtype)


FAMILIES = {
    "exponential": exponential,
    "harmonic": harmonic,
    "slow": slow,
    "noisy_low_rank": noisy_low_rank,
    "coherent": coherent,
    "mostly_zero": mostly_zero,
    "mixture": mixture,
    "lehmer": lehmer,
    "cauchy": cauchy,
    "kahan": kahan,
    "circulant": circulant,
}

SPARSE_KINDS = {
    "csr_matrix": sparse.csr_matrix,
    "csc_matrix": sparse.csc_matrix,
    "coo_matrix": sparse.coo_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "coo_array": sparse.coo_array,
}


def sparse_low_rank(m, n, k, dtype, rng):
    """Rank k, with a few entries a column: sparse factors multiplied."""
    left = sparse.random_array((m, k), density=0.1, rng=rng).toarray() + np.eye(m, k)
    right = sparse.random_array((k, n), density=0.1, rng=rng).toarray() + np.eye(k, n)
    return sparse.csr_array((left @ (normal((k, 1), np.result_type(dtype, float), rng) * right)).astype(dtype))


def with_duplicates(A):
    """The same matrix in COO form, with each entry in two halves and some explicit zeros."""
    A = sparse.coo_array(A)
    zeros = np.zeros(3, A.dtype)
    data = np.concatenate([A.data / 2, A.data / 2, zeros])
    rows = np.concatenate([A.row, A.row, [0, 1, 2]])
    cols = np.concatenate([A.col, A.col, [0, 0, 0]])
    return sparse.coo_array((data, (rows, cols)), shape=A.shape)


def optimum(A, k):
    """Frobenius error of the best approximation of rank k."""
    s = np.linalg.svd(np.asarray(A, np.result_type(A.dtype, float)), compute_uv=False)
    return float(np.linalg.norm(s[k:]))


def column_error(A, indices):
    """``||A - C C^+ A||_F`` for ``C = A[:, indices]``."""
    A = np.asarray(A, np.result_type(A.dtype, float))
    Q = np.linalg.qr(A[:, indices])[0]
    return float(np.linalg.norm(A - Q @ (Q.conj().T @ A)))


def eps(dtype):
    """Machine epsilon."""
    return float(np.finfo(dtype).eps)


def assert_operations_equal_numpys(kind, dtype, rng, sparse_slices=None):
    """Each operation of the operand of ``kind(array)`` does what NumPy does; returns operand, A, and the array."""
    whole = (4 * mostly_zero(37, 29, np.result_type(dtype, "f4"), rng)).real.astype(dtype)
    if whole.dtype.kind == "c":
        whole = whole + 1j * np.roll(whole, 1)
    operand, A = operands.find(kind(whole))
    sparse_slices = sparse.issparse(A) if sparse_slices is None else sparse_slices
    working = np.dtype(dtype) if dtype in DTYPES else np.dtype(float)
    B = whole.astype(working)
    assert operand.dtype(A) == working
    tolerance = 50 * eps(working) * np.abs(B).max()
    X, Y = normal((29, 6), working, rng), normal((37, 5), working, rng)
    assert_allclose(operand.matmat(A, X), B @ X, atol=tolerance)
    assert_allclose(operand.rmatmat(A, Y), B.conj().T @ Y, atol=tolerance)
    rebuilt = np.zeros_like(B)
    for rows, panel in operand.panels(A):
        assert panel.dtype == working
        rebuilt[rows] = panel
    assert_array_equal(rebuilt, B)
    for axis, indices in ((0, [5, 0, 36]), (1, [28, 3])):
        taken = operand.take(A, np.array(indices), axis)
        assert taken.dtype == working
        assert sparse.issparse(taken) == sparse_slices
        assert_array_equal(dense(taken), np.take(B, indices, axis))
    assert operand.first_nonfinite(A) is None
    assert operand.largest(A) == np.abs(np.ascontiguousarray(B).view(B.real.dtype)).max()
    square = np.linalg.norm(B) ** 2
    for make in (sparse_sign, gaussian):
        Y, X = make(37, 7, working, rng), make(29, 9, working, rng)
        left, right, total = operand.sketch_both(A, Y, X)
        assert left.dtype == right.dtype == working
        assert_allclose(left, B.conj().T @ dense(Y), atol=tolerance)
        assert_allclose(right, B @ dense(X), atol=tolerance)
        assert_allclose(total, square, rtol=100 * eps(working))
    return operand, A, B
