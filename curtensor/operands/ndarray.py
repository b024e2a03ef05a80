"""Arrays in memory, and small np.memmap: any order, any strides, read in row panels where a copy is needed."""

import numpy as np
from scipy import sparse

from curtensor import _kernels, _validation

PANEL_BYTES = 2**24


def wrap(A):
    """A plain view of a two-dimensional array of numbers."""
    if isinstance(A, np.ma.MaskedArray):
        raise _validation.complain(TypeError, "A", "an array without a mask", "a masked array")
    A = A.view(np.ndarray)
    _validation.array_dtype(A.dtype)
    _validation.matrix_shape(A.shape)
    return A


def dtype(A):
    """The dtype to compute in."""
    return _validation.array_dtype(A.dtype)


def matmat(A, X):
    """``A @ X``."""
    if A.dtype.kind in "fc":
        return A @ X
    return np.concatenate([panel @ X for _, panel in panels(A)])


def rmatmat(A, Y):
    """``A^H @ Y``."""
    if A.dtype.kind in "fc":
        return (Y.conj().T @ A).conj().T
    return sum(panel.T @ Y[rows] for rows, panel in panels(A))


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm; sparse-sign Y and X in one pass over A."""
    by_columns = A.flags.f_contiguous and not A.flags.c_contiguous
    if by_columns:
        A, Y, X = A.T, X, Y
    left = np.zeros((Y.shape[1], A.shape[1]), dtype(A))
    right, square = add_sketch(A, Y, X, left)
    if by_columns:
        left, right = right, left
    return left.T.conj(), right.T, square


def add_sketch(A, Y, X, left):
    """Add ``Y^T @ A`` to left, and return ``(A @ X)^T`` and the squared norm, for real Y and X."""
    kind = dtype(A)
    fused = _even(Y) and _even(X)
    right = np.zeros((X.shape[1], A.shape[0]), kind)
    square = 0.0
    for rows, panel in panels(A):
        if fused:
            share = np.zeros((X.shape[1], len(panel)), kind)
            square += _kernels.sketch_panel(panel, *_signs(Y[rows], kind), *_signs(X, kind), left, share)
            right[:, rows] = share
        else:
            left += Y[rows].T @ panel
            right[:, rows] = (panel @ X).T
            square += _kernels.squared_moduli(panel)
    return right, square


def _even(S):
    """Whether S is a CSR matrix with equally many entries in each row."""
    return sparse.issparse(S) and S.format == "csr" and bool((np.diff(S.indptr) == S.nnz // S.shape[0]).all())


def _signs(S, kind):
    """Such a matrix as (n, entries) arrays of columns and signs."""
    shape = (S.shape[0], S.nnz // S.shape[0])
    real = np.empty(0, kind).real.dtype
    return S.indices.reshape(shape).astype(np.int64, copy=False), S.data.astype(real, copy=False).reshape(shape)


def take(A, indices, axis):
    """Copies of rows (axis 0) or columns (axis 1)."""
    return np.take(A, indices, axis=axis).astype(dtype(A), copy=False)


def panels(A):
    """Contiguous panels of rows with their slices; views where A's rows already are contiguous floats."""
    height = max(1, PANEL_BYTES // (A.shape[1] * A.itemsize))
    if A.flags.c_contiguous and A.flags.writeable and A.dtype.isnative and A.dtype.kind in "fc":
        height = A.shape[0]
    for start in range(0, A.shape[0], height):
        rows = slice(start, min(start + height, A.shape[0]))
        panel = np.ascontiguousarray(A[rows], dtype=dtype(A))
        yield rows, panel if panel.flags.writeable else panel.copy()


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    for rows, panel in panels(A):
        bad = ~np.isfinite(panel)
        if bad.any():
            i, j = np.unravel_index(bad.argmax(), bad.shape)
            return int(rows.start + i), int(j)
    return None


def largest(A):
    """Largest modulus of a real or imaginary part."""
    return float(np.max([np.abs(panel.view(panel.real.dtype)).max() for _, panel in panels(A)]))


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
