"""SciPy sparse matrices and sparse arrays: CSR and CSC as they are, other formats converted to CSR once."""

import numpy as np

from curtensor import _validation, operands

PANEL_BYTES = 2**24


def wrap(A):
    """A in CSR or CSC, without duplicate entries."""
    _validation.matrix_shape(A.shape)
    _validation.array_dtype(A.dtype)
    if A.format not in ("csr", "csc"):
        A = A.tocsr()
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A if A.dtype == dtype(A) else A.astype(dtype(A))


def dtype(A):
    """The dtype to compute in."""
    return _validation.array_dtype(A.dtype)


def matmat(A, X):
    """``A @ X``."""
    return operands.dense(A @ X)


def rmatmat(A, Y):
    """``A^H @ Y``."""
    return operands.dense(A.conj().T @ Y)


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm."""
    modulus = np.abs(A.data).astype(float, copy=False)
    return rmatmat(A, Y).astype(A.dtype, copy=False), matmat(A, X).astype(A.dtype, copy=False), modulus @ modulus


def add_sketch(A, Y, X, left):
    """Add ``Y^T @ A`` to left, and return ``(A @ X)^T`` and the squared norm, for real Y and X."""
    share, right, square = sketch_both(A, Y, X)
    left += share.T.conj()
    return right.T, square


def take(A, indices, axis):
    """Rows (axis 0, as CSR) or columns (axis 1, as CSC), sparse like A."""
    return A.tocsr()[indices] if axis == 0 else A.tocsc()[:, indices]


def panels(A):
    """Dense panels of rows with their slices."""
    height = max(1, PANEL_BYTES // (A.shape[1] * A.dtype.itemsize))
    A = A.tocsr()
    for start in range(0, A.shape[0], height):
        rows = slice(start, min(start + height, A.shape[0]))
        yield rows, A[rows].toarray()


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    if np.isfinite(A.data).all():
        return None
    entries = A.tocoo()
    bad = ~np.isfinite(entries.data)
    return min(zip(entries.row[bad].tolist(), entries.col[bad].tolist(), strict=True))


def largest(A):
    """Largest modulus of a real or imaginary part."""
    return float(np.abs(A.data.view(A.data.real.dtype)).max(initial=0))


def diagonal(A):
    """The diagonal."""
    return A.diagonal()


def take_and_rmatmat(A, indices, Y):
    """Rows of A, and ``A^H @ Y``."""
    return take(A, indices, 0), rmatmat(A, Y)


def normal_product(A, X):
    """``A^H @ (A @ X)``."""
    return rmatmat(A, matmat(A, X))


def like(A, X, own=False):
    """X itself."""
    return X
