"""Tensor CUR, Tucker decompositions and tensor trains on every kind of tensor: CPU time, error, entries read."""

from functools import partial

import numpy as np

import curtensor as ct
from benchmarks import bench_tucker, common
from benchmarks.common import measured
from benchmarks.tensors import HOSTILE, RANDOM, SMOOTH, TENSORS


def reads_all(decompose):
    """A method of `bench_tucker` in the form of those here."""
    return lambda X, ranks, seed: (decompose(X, ranks, seed), X.size)


def cur(**options):
    """Tensor CUR cut to the ranks asked for, of which it holds about twice as many."""

    def decompose(X, ranks, seed):
        result = ct.tensor_cur(X, ranks, rng=seed, **options)
        core, factors = result.to_tucker(ranks)
        return partial(ct.tucker_to_tensor, core, factors), result.n_entries_read

    return decompose


def whole_cur(X, ranks, seed):
    result = ct.tensor_cur(X, ranks, rng=seed)
    return result.to_array, result.n_entries_read


def cur_of_a_function(X, ranks, seed):
    """From single entries that are asked for, as of a tensor that cannot be stored."""
    return cur(shape=X.shape)(lambda *places: X[places], ranks, seed)


def teneva_cross(X, ranks, seed):
    """A tensor train between whose modes the ranks are those of the Tucker decomposition, by four sweeps."""
    import teneva

    shape, read = X.shape, {}
    inner = [min(max(ranks), np.prod(shape[:i]), np.prod(shape[i:])) for i in range(1, X.ndim)]
    start = teneva.rand(shape, [1, *inner, 1], seed=seed)
    train = teneva.cross(lambda places: X[tuple(places.T)], start, nswp=4, dr_min=0, dr_max=0, info=read)
    return partial(teneva.full, train), read["m"]


# (X, ranks, seed) to a function without arguments that gives the approximation as an array, and the entries read
CURS = {
    "tensor CUR": cur(),
    "tensor CUR, all ranks held": whole_cur,
    "tensor CUR, projection": cur(core="projection"),
    "tensor CUR, fiber": cur(method="fiber"),
    "tensor CUR, cross": cur(method="cross"),
    "tensor CUR, uniform": cur(method="chidori", selection="uniform"),
}
TUCKER = {name: reads_all(method) for name, method in bench_tucker.METHODS.items()}
METHODS = CURS | {"teneva cross": teneva_cross} | TUCKER
# those that ask for entries one by one, and two that read them all
ENTRYWISE = {
    "tensor CUR of a function": cur_of_a_function,
    "teneva cross": teneva_cross,
    "teneva cross, twice the ranks": lambda X, ranks, seed: teneva_cross(X, [2 * rank for rank in ranks], seed),
    "tensor CUR": CURS["tensor CUR"],
    "st_hosvd": TUCKER["st_hosvd, auto"],
}


class Tensors(common.Comparison):
    """Rank 6 in each mode of tensors of at most 100 x 90 x 80."""

    families = TENSORS
    params = (list(METHODS), list(families))
    shape, rank = (100, 90, 80), 6

    def setup_cache(self):
        return outcomes(METHODS, self.families, self.shape, self.rank)

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    track_error.unit = "error / that of HOOI"


class Entries(common.Comparison):
    """Rank 6 in each mode of tensors of 200 x 200 x 200, of which few entries need be read."""

    families = SMOOTH | RANDOM | HOSTILE
    params = (list(ENTRYWISE), list(families))
    shape, rank = (200, 200, 200), 6

    def setup_cache(self):
        return outcomes(ENTRYWISE, self.families, self.shape, self.rank)

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    def track_entries_read(self, cache, method, family):
        return cache[method, family][2]

    track_error.unit = "error / that of HOOI"
    track_entries_read.unit = "entries read / all"


def outcomes(methods, families, shape, rank):
    return common.outcomes(methods, {name: partial(tensor, families[name], shape, rank) for name in families}, figures)


def tensor(family, shape, rank):
    """A tensor, its ranks, and the error of HOOI, or that of rounding."""
    X = family(shape, 0)
    ranks = tuple(min(rank, length) for length in X.shape)
    return X, ranks, max(np.linalg.norm(X - ct.hooi(X, ranks).to_array()), 1e-14 * np.linalg.norm(X))


def figures(method, data):
    """CPU seconds, error over that of HOOI, entries read over all."""
    X, ranks, best = data

    def error_and_entries(result):
        to_array, n_entries_read = result
        return np.linalg.norm(X - to_array()) / best, n_entries_read / X.size

    return measured(lambda seed: method(X, ranks, seed), error_and_entries)
