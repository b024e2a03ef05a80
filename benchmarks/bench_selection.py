"""Selection rules and column interpolative decompositions: time, memory, error over the optimum."""

import time

import numpy as np

import curtensor
from benchmarks.common import COHERENT, COLUMNS, METHODS, SELECTION_RULES, OnFamilies, error, projected_columns, tail


class Columns(OnFamilies):
    """The choice with the coefficients of all other columns."""

    params = (list(COLUMNS), list(OnFamilies.families))

    def time_method(self, cache, method, family):
        METHODS[method](self.A, self.k, 0)

    def track_error_over_optimum(self, cache, method, family):
        return error(self.A, METHODS[method](self.A, self.k, 0)) / tail(self.spectrum, self.k)


class ColumnsMemory(OnFamilies):
    """Peak memory, which hardly depends on the entries: one family."""

    params = (list(COLUMNS), [COHERENT])

    def peakmem_method(self, cache, method, family):
        METHODS[method](self.A, self.k, 0)


class WideSelection:
    """The choice alone, among many columns."""

    params = list(SELECTION_RULES)
    param_names = ("rule",)
    timer = time.process_time

    shape = (500, 10_000)

    def setup_cache(self):
        return np.random.default_rng(0).standard_normal(self.shape)

    def setup(self, A, rule):
        curtensor.select_columns(A[:, :2000], 5, method=rule, rng=0)

    def time_select_columns(self, A, rule):
        curtensor.select_columns(A, 40, method=rule, rng=0)


class PositiveSemidefinite:
    """A Gaussian kernel matrix, for which `rpcholesky` reads k columns."""

    params = ("rpcholesky", "osinsky", "uniform")
    param_names = ("rule",)
    timer = time.process_time
    n = 1000

    def setup_cache(self):
        x = np.random.default_rng(0).standard_normal((self.n, 1, 4))
        A = np.exp(-((x - x.transpose(1, 0, 2)) ** 2).sum(axis=2) / 4)
        return A, np.linalg.svd(A, compute_uv=False)

    def setup(self, cache, rule):
        curtensor.select_columns(cache[0], 5, method=rule, rng=0)

    def time_select_columns(self, cache, rule):
        curtensor.select_columns(cache[0], 40, method=rule, rng=0)

    def track_error_over_optimum(self, cache, rule):
        A, spectrum = cache
        return error(A, projected_columns(rule)(A, 40, 0)) / tail(spectrum, 40)
