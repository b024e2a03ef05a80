"""Third-order tensors (d1, d2, d3) of any kind, in panels of horizontal slices.

The tensor stands for two matrices at once: its unfolding (d1, d2 d3) along mode 0, and the adjoint's (d1 d3, d2) of
that along mode 1, which has a row for each pair of a horizontal and a frontal slice.
"""

import numpy as np
from scipy import sparse

from curtensor.operands import ndarray


def dtype(X):
    """The dtype to compute in."""
    return X.dtype


def panels(X):
    """Contiguous panels of horizontal slices with the numbers of these."""
    return X.horizontal()


def take(X, indices, axis):
    """Horizontal (axis 0) or lateral slices (axis 1) as an ndarray."""
    places = [np.arange(length) for length in X.shape]
    places[axis] = np.asarray(indices, dtype=np.intp)
    return np.ascontiguousarray(X.at(np.ix_(*places)))


def sketch_both(X, Y, W):
    """Sketch of the unfolding along mode 1 by Y (d1 d3, l), of that along mode 0 by W (d2 d3, l), and ``||X||^2``."""
    d1, d2, d3 = X.shape
    left, right = np.zeros((d2, Y.shape[1]), dtype(X)), np.zeros((d1, W.shape[1]), dtype(X))
    square = 0.0
    for rows, panel in panels(X):
        pairs = panel.swapaxes(1, 2).reshape(-1, d2)
        left += ndarray.sketch_both(pairs, Y[rows.start * d3 : rows.stop * d3], no_columns(d2, W))[0]
        _, right[rows], part = ndarray.sketch_both(panel.reshape(-1, d2 * d3), no_columns(len(panel), Y), W)
        square += part
    return left, right, square


def no_columns(n, like):
    """A test matrix (n, 0) of the other's dtype."""
    return sparse.csr_array((n, 0), dtype=like.dtype)


def first_nonfinite(X):
    """Index of the first NaN or infinity in reading order, or None."""
    for rows, panel in panels(X):
        bad = ~np.isfinite(panel)
        if bad.any():
            i, j, k = np.unravel_index(bad.argmax(), bad.shape)
            return int(rows.start + i), int(j), int(k)
    return None


def copies_multiples(X):
    """Not said, though it is so: `scaled` knows no tensors."""
    return False


def largest(X):
    """Largest modulus of a real or imaginary part."""
    return max(ndarray.largest(panel.reshape(len(panel), -1)) for _, panel in panels(X))
