"""``scipy.sparse.linalg.LinearOperator``: products only, for `randomized_svd`."""

import numpy as np
from scipy.sparse.linalg import LinearOperator

from curtensor import _validation
from curtensor.operands.arithmetic import dense
from curtensor.operands.usual import like as like


def wrap(A):
    """A, checked."""
    if not isinstance(A, LinearOperator):
        raise _validation.complain(TypeError, "A", "an array, a sparse matrix or a DataFrame", type(A))
    _validation.matrix_shape(A.shape)
    dtype(A)
    return A


def dtype(A):
    """The dtype to compute in."""
    return _validation.array_dtype(np.dtype(A.dtype))


def matmat(A, X):
    """``A @ X``."""
    return checked_product(A.matmat(dense(X)), (A.shape[0], X.shape[1]), A)


def rmatmat(A, Y):
    """``A^H @ Y``."""
    try:
        product = A.rmatmat(dense(Y))
    except (NotImplementedError, TypeError) as error:  # SciPy calls None for the adjoint that it was not given
        what, got = "an operator with an adjoint (rmatvec or rmatmat)", _validation.describe_error(error)
        raise _validation.complain(TypeError, "A", what, f"{type(error).__name__}: {got}") from error
    return checked_product(product, (A.shape[1], Y.shape[1]), A)


def checked_product(product, shape, A):
    """A product, which a user's function made."""
    return _validation.as_declared(product, shape, dtype(A), "each product of A")


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm as the columns of X show it, or where it has none, of Y."""
    left = rmatmat(A, Y) if Y.shape[1] else np.zeros((A.shape[1], 0), dtype(A))
    right = matmat(A, X) if X.shape[1] else np.zeros((A.shape[0], 0), dtype(A))
    seen = right if X.shape[1] else left
    return left, right, float(np.linalg.norm(seen) ** 2 / seen.shape[1])


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


def copies_multiples(A):
    """Not so: products are multiplied."""
    return False


def knows_norm(A):
    """Not so: it is seen on random vectors."""
    return False


def _product(A, scale):
    signs = np.random.default_rng(0).choice([-1.0, 1.0], A.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        return matmat(A, (scale * signs).astype(dtype(A))[:, None])[:, 0]
