"""SciPy sparse matrices and sparse arrays: CSR and CSC as they are, other formats converted to CSR once."""

import numpy as np

from curtensor import _kernels, _validation
from curtensor.operands.arithmetic import dense, row_slices, times_power
from curtensor.operands.usual import copies_multiples as copies_multiples
from curtensor.operands.usual import knows_norm as knows_norm
from curtensor.operands.usual import like as like

PANEL_BYTES = 2**24
PIECE = 2**16  # stored entries


def wrap(A):
    """A in CSR or CSC, without duplicate entries."""
    _validation.matrix_shape(A.shape)
    _validation.array_dtype(A.dtype)
    A = _validation.sound_sparse(A)
    if A.format not in ("csr", "csc"):
        A = _validation.sound_sparse(A.tocsr())
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A if A.dtype == dtype(A) else A.astype(dtype(A))


def dtype(A):
    """The dtype to compute in."""
    return _validation.array_dtype(A.dtype)


def matmat(A, X):
    """``A @ X``."""
    return dense(A @ X)


def rmatmat(A, Y):
    """``A^H @ Y``."""
    return dense(A.T @ Y.conj()).conj()  # without a copy of A, which even a real one's conj() is


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm."""
    return rmatmat(A, Y).astype(A.dtype, copy=False), matmat(A, X).astype(A.dtype, copy=False), squared_norm(A)


def add_sketch(A, Y, X, left):
    """Add ``Y^T @ A`` to left, and return ``(A @ X)^T`` and the squared norm, for real Y and X."""
    share, right, square = sketch_both(A, Y, X)
    left += share.T.conj()
    return right.T, square


def take(A, indices, axis):
    """Rows (axis 0, as CSR) or columns (axis 1, as CSC), sparse like A."""
    return A[indices].tocsr() if axis == 0 else A[:, indices].tocsc()  # A itself converted would be a copy


def by_columns(A):
    """Whether A is CSC, whose rows are found by a conversion."""
    return A.format == "csc"


def panels(A):
    """Dense panels of rows with their slices."""
    nbytes = A.data.nbytes + A.indices.nbytes
    A = A.tocsr()
    for rows in row_slices(A.shape, nbytes, A.dtype.itemsize, PANEL_BYTES):
        yield rows, A[rows].toarray()


def pieces(A):
    """The stored entries in short pieces, one after the other."""
    for start in range(0, A.nnz, PIECE):
        yield A.data[start : start + PIECE]


def squared_norm(A, exponent=0):
    """``||2^exponent A||_F^2``."""
    return sum(_kernels.squared_moduli(times_power(part, exponent)[None]) for part in pieces(A)) or 0.0


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    if all(np.isfinite(part).all() for part in pieces(A)):
        return None
    entries = A.tocoo()
    bad = ~np.isfinite(entries.data)
    return min(zip(entries.row[bad].tolist(), entries.col[bad].tolist(), strict=True))


def largest(A):
    """Largest modulus of a real or imaginary part."""
    reals = (part.view(part.real.dtype) for part in pieces(A))
    return float(np.max([(part.max(), -part.min()) for part in reals], initial=0))


def diagonal(A):
    """The diagonal."""
    return A.diagonal()


def take_and_rmatmat(A, indices, Y):
    """Rows of A, and ``A^H @ Y``."""
    return take(A, indices, 0), rmatmat(A, Y)


def normal_product(A, X):
    """``A^H @ (A @ X)``."""
    return rmatmat(A, matmat(A, X))


def images_and_norms(A, Y, X, exponent=0):
    """``A^H @ Y``, ``A @ X``, and of 2^exponent A the squared norms of rows and of columns."""
    norms = _squares_of_stored(A, exponent)
    return rmatmat(A, Y), matmat(A, X), *(norms if A.format == "csr" else norms[::-1])


def _squares_of_stored(A, exponent):
    """Squared norms of the rows of a CSR matrix, or the columns of a CSC one, and of the others, in float64."""
    along, across = np.zeros(len(A.indptr) - 1), np.zeros(A.shape[A.format == "csr"])
    cuts = np.unique(np.append(np.searchsorted(A.indptr, np.arange(0, A.nnz, PIECE)), len(along)))
    for first, last in zip(np.append(0, cuts), cuts, strict=False):
        starts = A.indptr[first : last + 1]
        stored = times_power(A.data[starts[0] : starts[-1]], exponent)
        squares = np.square(stored.real, dtype=float)
        if stored.dtype.kind == "c":
            squares += np.square(stored.imag, dtype=float)
        np.add.at(across, A.indices[starts[0] : starts[-1]], squares)
        filled = np.flatnonzero(np.diff(starts))
        if len(filled):
            along[first + filled] = np.add.reduceat(squares, starts[filled] - starts[0])
    return along, across
