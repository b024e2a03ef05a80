"""What `compare` sets side by side for tensors: functions ``(X, k, rng)`` to an approximation with ``to_array``.

The multilinear rank is k in each mode, or the mode's length where that is less; the tubal rank the same. Tensor CUR
keeps more slices of each mode than that.
"""

import math

import numpy as np

from curtensor import _validation
from curtensor.tensors import tensor_cur, train_cross, trains, tubal, tucker


def ranks(X, k):
    """The rank of each mode of a tensor or a core: k, its length or the product of the others, which is least."""
    return _validation.possible_ranks(min(k, length) for length in X.shape)


def by_st_hosvd(X, k, rng):
    """Tucker decomposition by one SVD a mode: within the square root of the number of modes of the optimum."""
    return tucker.st_hosvd(X, ranks(X, k))


def by_hooi(X, k, rng):
    """Tucker decomposition refined in sweeps."""
    return tucker.hooi(X, ranks(X, k))


def by_tensor_cur(X, k, rng):
    """Tensor CUR as it comes."""
    return tensor_cur(X, ranks(X, k), rng=rng)


def by_recompressed_cur(X, k, rng):
    """The same, cut to the rank itself without reading anything more: a Tucker decomposition as small as the others."""
    result = tensor_cur(X, ranks(X, k), rng=rng)
    return result.to_tucker(ranks(result.core, k))


def by_chidori(X, k, rng):
    """Tensor CUR with the fibres through the chosen slices of the other modes."""
    return tensor_cur(X, ranks(X, k), method="chidori", rng=rng)


def by_fiber(X, k, rng):
    """Tensor CUR with fibres chosen freely."""
    return tensor_cur(X, ranks(X, k), method="fiber", rng=rng)


def by_cross(X, k, rng):
    """Tensor CUR which reads few entries."""
    return tensor_cur(X, ranks(X, k), method="cross", rng=rng)


def by_uniform_slices(X, k, rng):
    """Tensor CUR with slices drawn with equal probabilities: the control."""
    return tensor_cur(X, ranks(X, k), method="chidori", selection="uniform", rng=rng)


def by_tt_svd(X, k, rng):
    """Tensor train of ranks k, by one SVD for each: the baseline of trains."""
    return trains.tt_svd(X, min(k, max(trains.largest_ranks(X.shape))))


def by_tt_cross(X, k, rng):
    """Tensor train of ranks k out of few of the entries, by sweeps."""
    return train_cross.tt_cross(X, min(k, max(trains.largest_ranks(X.shape))), rng=rng)


def by_tubal_svd(X, k, rng):
    """The optimum for a tubal rank, which holds k (d1 + d2) d3 numbers."""
    return tubal.tubal_svd(X, min(ranks(X, k)[:2]))


def by_tubal_cur(X, k, rng):
    """Tubal CUR as it comes; to be set beside the tubal SVD."""
    return tubal.tubal_cur(X, min(ranks(X, k)[:2]), rng=rng)


# The first, the reference, is part of every comparison.
TENSOR_FORMATS = {
    "st_hosvd": by_st_hosvd,
    "hooi": by_hooi,
    "cur": by_tensor_cur,
    "cur_recompressed": by_recompressed_cur,
    "chidori": by_chidori,
    "fiber": by_fiber,
    "cross": by_cross,
    "uniform": by_uniform_slices,
    "tt_svd": by_tt_svd,
    "tt_cross": by_tt_cross,
}
THIRD_ORDER_FORMATS = {"tubal_svd": by_tubal_svd, "tubal_cur": by_tubal_cur}


def formats_for(X):
    """The methods which take tensors with so many modes."""
    return TENSOR_FORMATS | THIRD_ORDER_FORMATS if X.ndim == 3 else TENSOR_FORMATS


def stored_numbers(Y):
    """How many numbers an approximation holds: an array all its entries, others what they say; None if they do not."""
    return getattr(Y, "n_stored", None) if hasattr(Y, "to_array") else math.prod(np.shape(Y))


def error(X, Y):
    """``||X - Y||_F / ||X||_F``, slice by slice, from the residual."""
    double = np.result_type(X, Y, float)
    scale = max(float(np.abs(x.astype(double)).max()) for x in X) or 1.0
    residuals = [np.linalg.norm((x.astype(double) - y) / scale) for x, y in zip(X, Y, strict=True)]
    sizes = [np.linalg.norm(x.astype(double) / scale) for x in X]
    return float(np.linalg.norm(residuals) / (np.linalg.norm(sizes) or 1))
