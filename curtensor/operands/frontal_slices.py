"""Third-order tensors (d1, d2, d3) as d3 frontal slices, a few of which are copied at a time.

The tensor stands for two matrices at once, with the frontal slices one above the other (d3 d1, d2) and side by side
(d1, d3 d2): its unfoldings along modes 1 and 0, up to the order of the fibres.
"""

import numpy as np

from curtensor import _validation
from curtensor.operands import ndarray

SLICES = 8  # copied at a time: with the last mode fastest in memory, whole cache lines


def dtype(X):
    """The dtype to compute in."""
    return _validation.array_dtype(X.dtype)


def stacks(X):
    """Contiguous stacks (b, d1, d2) of frontal slices in turn."""
    for start in range(0, X.shape[2], SLICES):
        yield np.array(np.moveaxis(X[:, :, start : start + SLICES], 2, 0), dtype=dtype(X), order="C")


def sketch_both(X, Y, W):
    """Sum of ``A_k^H @ Y_k``, sum of ``A_k @ W_k`` over the frontal slices A_k, and the squared norm of X.

    Y_k and W_k are the k-th parts of Y (d3 d1, l) and W (d3 d2, l).
    """
    d1, d2 = X.shape[:2]
    left, right = np.zeros((d2, Y.shape[1]), dtype(X)), np.zeros((d1, W.shape[1]), dtype(X))
    square = 0.0
    for k, A in enumerate(A for stack in stacks(X) for A in stack):
        parts = ndarray.sketch_both(A, Y[k * d1 : (k + 1) * d1], W[k * d2 : (k + 1) * d2])
        left += parts[0]
        right += parts[1]
        square += parts[2]
    return left, right, square


def first_nonfinite(X):
    """Index of the first NaN or infinity in reading order, or None."""
    for i, slab in enumerate(X):
        bad = ~np.isfinite(slab)
        if bad.any():
            return i, *(int(index) for index in np.unravel_index(bad.argmax(), bad.shape))
    return None


def largest(X):
    """Largest modulus of a real or imaginary part."""
    return max(ndarray.largest(stack.reshape(len(stack), -1)) for stack in stacks(X))
