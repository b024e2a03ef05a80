"""``scipy.sparse.linalg.LinearOperator``: products only, for `randomized_svd`."""

import numpy as np

from curtensor import _validation


def wrap(A):
    """A, checked."""
    _validation.matrix_shape(A.shape)
    dtype(A)
    return A


def dtype(A):
    """The dtype to compute in."""
    return _validation.array_dtype(np.dtype(A.dtype))


def matmat(A, X):
    """``A @ X``."""
    return np.asarray(A.matmat(X))


def rmatmat(A, Y):
    """``A^H @ Y``."""
    return np.asarray(A.rmatmat(Y))


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm as the columns of X show it."""
    left = rmatmat(A, Y) if Y.shape[1] else np.zeros((A.shape[1], 0), dtype(A))
    right = matmat(A, X)
    return left, right, float(np.linalg.norm(right) ** 2 / X.shape[1])


def first_nonfinite(A):
    """Not to be found without reading every entry: said to be somewhere in the product."""
    return "a place of A @ X"
