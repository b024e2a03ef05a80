"""Arrays in memory, and small np.memmap: any order, any strides, copied panel by panel where a copy is needed."""

import numpy as np
from scipy import sparse

from curtensor import _kernels, _validation
from curtensor.operands.arithmetic import dense, row_slices, times_power
from curtensor.operands.usual import copies_multiples as copies_multiples
from curtensor.operands.usual import knows_norm as knows_norm
from curtensor.operands.usual import like as like

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
    if multiplies_as_it_is(A, X):
        return (X.T @ A.T).T  # the thin factor first: BLAS is a third faster so
    product = np.empty((A.shape[0], X.shape[1]), np.result_type(dtype(A), X))
    for rows in panel_slices(A):
        product[rows] = np.array(A[rows], dtype(A), order="K") @ X
    return product


def rmatmat(A, Y):
    """``A^H @ Y``."""
    if multiplies_as_it_is(A, Y):
        return (Y.conj().T @ A).conj().T
    return matmat(A.T, Y.conj()).conj()


def multiplies_as_it_is(A, X):
    """Whether BLAS takes A where it lies, and NumPy converts nothing of it, in a product with X."""
    steps = [stride // A.itemsize for stride in A.strides]
    one_apart = (steps[1] == 1 and steps[0] >= A.shape[1]) or (steps[0] == 1 and steps[1] >= A.shape[0])
    whole_steps = A.flags.aligned and all(stride % A.itemsize == 0 for stride in A.strides)
    return one_apart and whole_steps and A.dtype == np.result_type(dtype(A), X)


def by_columns(A):
    """Whether A's columns are closer together in memory than its rows, so that panels of A.T are cheaper."""
    return abs(A.strides[0]) < abs(A.strides[1])


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm, for real Y and X; sparse-sign ones in one pass over A."""
    if by_columns(A):
        left, right, square = sketch_both(A.T, X, Y)
        return right.conj(), left.conj(), square
    left = np.zeros((Y.shape[1], A.shape[1]), dtype(A))
    right, square = add_sketch(A, Y, X, left)
    return left.T.conj(), right.T, square


def add_sketch(A, Y, X, left):
    """Add ``Y^T @ A`` to left, and return ``(A @ X)^T`` and the squared norm, for real Y and X."""
    if not (_even(Y) and _even(X)):
        if Y.shape[1]:
            left += rmatmat(A, dense(Y)).conj().T
        return matmat(A, dense(X)).T, squared_norm(A)
    kind = dtype(A)
    if A.size < _kernels.SMALL:
        A = A.astype(kind, copy=False)
        left += Y.T @ A
        return X.T @ A.T, squared_norm(A)
    right = np.zeros((X.shape[1], A.shape[0]), kind)
    (targets, signs), columns, square = _signs(Y, kind), _signs(X, kind), 0.0
    for rows, panel in [(slice(0, len(A)), A)] if _ready(A) else panels(A):
        share = right if len(panel) == len(A) else np.zeros((X.shape[1], len(panel)), kind)
        square += _kernels.sketch_panel(panel, targets[rows], signs[rows], *columns, left, share)
        if share is not right:
            right[:, rows] = share
    return right, square


def squared_norm(A, exponent=0):
    """``||2^exponent A||_F^2``."""
    A = A.T if by_columns(A) else A
    moduli = moduli_squared if A.size < _kernels.SMALL else _kernels.squared_moduli
    return sum(moduli(times_power(panel, exponent)) for _, panel in panels(A))


def moduli_squared(panel):
    """What the kernel of this name does."""
    return sum(float(np.einsum("ij,ij->", part, part, dtype=float)) for part in (panel.real, panel.imag))


def _even(S):
    """Whether S is a CSR matrix with equally many entries in each row."""
    return sparse.issparse(S) and S.format == "csr" and bool((np.diff(S.indptr) == S.nnz // S.shape[0]).all())


def _signs(S, kind):
    """Such a matrix as (n, entries) arrays of columns and signs."""
    shape = (S.shape[0], S.nnz // S.shape[0])
    real = np.empty(0, kind).real.dtype
    return S.indices.reshape(shape).astype(np.int64, copy=False), S.data.astype(real, copy=False).reshape(shape)


def take(A, indices, axis):
    """Copies of rows (axis 0) or columns (axis 1), in the order of A."""
    if by_columns(A):
        return take(A.T, indices, 1 - axis).T
    in_order = axis == 1 and A.flags.c_contiguous and A.flags.aligned  # np.take copies all of what is not
    taken = np.take(A, indices, 1) if in_order else A[indices] if axis == 0 else A[:, indices]
    return taken.astype(dtype(A), order="C", copy=False)


def panels(A):
    """Contiguous panels of rows with their slices; views where A's rows already are contiguous floats."""
    for rows in panel_slices(A):
        yield rows, A[rows] if _ready(A) else np.array(A[rows], dtype(A), order="C")


def panel_slices(A):
    """Slices of few rows."""
    return row_slices(A.shape, A.nbytes, dtype(A).itemsize, PANEL_BYTES)


def _ready(A):
    """Whether kernels take A as it is."""
    return A.flags.carray and A.dtype == dtype(A)


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
    parts = (panel.view(panel.real.dtype) for _, panel in panels(A.T if by_columns(A) else A))
    return float(np.max([(part.max(), -part.min()) for part in parts]))


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
    return rmatmat(A, Y), matmat(A, X), *_squares_of_panels(A, exponent)


def _squares_of_panels(A, exponent):
    """Squared norms of rows and of columns in float64, panel by panel."""
    if by_columns(A):
        return _squares_of_panels(A.T, exponent)[::-1]
    of_rows, of_columns = np.empty(A.shape[0]), np.zeros(A.shape[1])
    for rows, panel in panels(A):
        panel = times_power(panel, exponent)
        squares = np.square(panel.real, dtype=float)
        if panel.dtype.kind == "c":
            squares += np.square(panel.imag, dtype=float)
        of_rows[rows] = squares.sum(axis=1)
        of_columns += squares.sum(axis=0)
    return of_rows, of_columns
