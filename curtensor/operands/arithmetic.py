"""What operands and algorithms do alike with parts of an array: panels, powers of two, dense ones, projections."""

import numpy as np
from scipy import sparse

from curtensor import _validation
from curtensor.operands import of_package

PANELS = 128  # of a large array: a few copies of a panel are a few percent of it
SMALLEST_PANEL = 2**19  # bytes, below which kernels and products slow down


def row_slices(shape, nbytes, itemsize, most):
    """Slices of rows which make panels of an array that has so many bytes, none of more than `most` bytes."""
    height = max(1, min(most, max(SMALLEST_PANEL, nbytes // PANELS)) // (shape[1] * itemsize))
    for start in range(0, shape[0], height):
        yield slice(start, min(start + height, shape[0]))


def times_power(X, exponent):
    """X times 2^exponent, in two steps, since 2^1074 is no float; X itself where the exponent is 0."""
    if exponent == 0:
        return X
    half = exponent // 2
    return X * 2.0**half * 2.0 ** (exponent - half)


def dense(X):
    """A sparse array as an ndarray; an ndarray itself."""
    return X.toarray() if sparse.issparse(X) else X


def declared(part, shape, dtype, name, where=""):
    """What a store, a chunk or a user's object gives for a part of A, as an ndarray of the shape and dtype it said."""
    if sparse.issparse(part):
        part = _validation.sound_sparse(part, name).toarray()
    elif of_package(part, "sparse"):
        part = part.todense()
    return _validation.as_declared(part, shape, dtype, name, where)


def careful_svd(X):
    """The singular value decomposition, with values that are right to a few roundings of the largest.

    With vectors, divide and conquer raises smaller values to 32 roundings in newer releases of LAPACK.
    """
    U, _, Vh = np.linalg.svd(X, full_matrices=False)
    return U, np.linalg.svd(X, compute_uv=False), Vh


def orthonormal_rest(sketch, indices):
    """The sketch less its projection on some of its rows, which become zero."""
    directions, s, _ = careful_svd(sketch[indices].conj().T)
    directions = directions[:, s > 8 * np.finfo(s.dtype).eps * s[0]]
    rest = sketch - (sketch @ directions) @ directions.conj().T
    rest[indices] = 0
    return rest
