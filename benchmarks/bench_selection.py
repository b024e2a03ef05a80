"""Selection rules where `bench_matrices` does not tell: among many columns, and of semidefinite matrices."""

import time

import numpy as np

import curtensor
from benchmarks import common
from benchmarks.common import SELECTION_RULES, error, measured, tail


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


class PositiveSemidefinite(common.Comparison):
    """The choice alone, of which `rpcholesky` reads k columns, and the error of the columns."""

    rules, n, k = ("rpcholesky", "osinsky", "uniform"), 1000, 40
    params = (list(rules), ["Gaussian kernel"])

    def setup_cache(self):
        return common.outcomes({rule: rule for rule in self.rules}, {"Gaussian kernel": self.kernel}, self.figures)

    def kernel(self):
        """A Gaussian kernel matrix, and the error of its truncated SVD."""
        x = np.random.default_rng(0).standard_normal((self.n, 1, 4))
        A = np.exp(-((x - x.transpose(1, 0, 2)) ** 2).sum(axis=2) / 4)
        return A, tail(np.linalg.svd(A, compute_uv=False), self.k)

    def figures(self, rule, data):
        A, optimum = data

        def ratio(columns):
            Q = np.linalg.qr(A[:, columns])[0]
            return [error(A, (Q, Q.T @ A)) / optimum]

        return measured(lambda seed: curtensor.select_columns(A, self.k, method=rule, rng=seed), ratio)

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    track_error.unit = "error / that of the truncated SVD"
