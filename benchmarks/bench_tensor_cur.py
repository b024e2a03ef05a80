"""CUR of tensors beside ST-HOSVD: time, error over that of ST-HOSVD, and entries read."""

import numpy as np

import curtensor as ct
from benchmarks.tensors import TENSORS

SHAPE = (60, 70, 80)
RANK = 6


def uniform(X, r, seed):
    return ct.tensor_cur(X, r, method="chidori", selection="uniform", rng=seed)


def projection(X, r, seed):
    return ct.tensor_cur(X, r, core="projection", rng=seed)


def by(method):
    return lambda X, r, seed: ct.tensor_cur(X, r, method=method, rng=seed)


def st_hosvd(X, r, seed):
    return ct.st_hosvd(X, tuple(min(r, length) for length in X.shape))


METHODS = {
    "st_hosvd": st_hosvd,
    "chidori": by("chidori"),
    "fiber": by("fiber"),
    "cross": by("cross"),
    "projection": projection,
    "uniform": uniform,
}


def error(X, result):
    return float(np.linalg.norm(X - result.to_array()) / np.linalg.norm(X))


class TensorCUR:
    params = (list(TENSORS), list(METHODS))
    param_names = ("tensor", "method")
    shape = SHAPE

    def setup_cache(self):
        tensors = {name: family(self.shape, 0) for name, family in TENSORS.items()}
        return tensors, {name: error(X, st_hosvd(X, RANK, 0)) for name, X in tensors.items()}

    def setup(self, cache, tensor, method):
        METHODS[method](cache[0][tensor], RANK, 0)

    def time_method(self, cache, tensor, method):
        METHODS[method](cache[0][tensor], RANK, 0)

    def track_error_over_st_hosvd(self, cache, tensor, method):
        X = cache[0][tensor]
        return error(X, METHODS[method](X, RANK, 0)) / max(cache[1][tensor], 1e-14)

    def track_entries_read(self, cache, tensor, method):
        X = cache[0][tensor]
        return getattr(METHODS[method](X, RANK, 0), "n_entries_read", X.size)


TensorCUR.track_error_over_st_hosvd.unit = "error / that of ST-HOSVD"
TensorCUR.track_entries_read.unit = "entries"
