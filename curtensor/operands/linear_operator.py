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
    """Where a product with a small vector is NaN or infinite, or None: no single entry can be read."""
    bad = ~np.isfinite(_product(A, 2.0**-64))
    return f"entry {int(bad.argmax())} of a product A @ x" if bad.any() else None


def largest(A):
    """Largest modulus of a real or imaginary part in a product with a vector of random signs."""
    product = _product(A, 1.0)
    if not np.isfinite(product).all():
        product = _product(A, 2.0**-64)
    return float(np.abs(product.view(product.real.dtype)).max())


def like(A, X, own=False):
    """X itself."""
    return X


def _product(A, scale):
    signs = np.random.default_rng(0).choice([-1.0, 1.0], A.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(A.matvec((scale * signs).astype(dtype(A))))
