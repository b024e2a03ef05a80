"""Randomized SVD, ours and the peers', and leverage scores: time, memory, error over the optimum."""

import time

import numpy as np

import curtensor
from benchmarks.common import COHERENT, METHODS, SVDS, OnFamilies, error, prescribed, tail


class SVD(OnFamilies):
    params = (list(SVDS), list(OnFamilies.families))

    def time_method(self, cache, method, family):
        METHODS[method](self.A, self.k, 0)

    def track_error_over_optimum(self, cache, method, family):
        return error(self.A, METHODS[method](self.A, self.k, 0)) / tail(self.spectrum, self.k)


class SVDMemory(OnFamilies):
    """Peak memory, which hardly depends on the entries: one family."""

    params = (list(SVDS), [COHERENT])

    def peakmem_method(self, cache, method, family):
        METHODS[method](self.A, self.k, 0)


class ErrorEstimate(OnFamilies):
    """What `randomized_svd` says of its own error, over the true error."""

    params = (["block_krylov", "subspace", "single_pass"], list(OnFamilies.families))

    def setup(self, cache, method, family):
        self.A, _ = cache[family]

    def track_estimate_over_truth(self, cache, method, family):
        result = curtensor.randomized_svd(self.A, self.k, method=method, rng=0)
        return result.error_estimate / curtensor.relative_error(self.A, result)


class LeverageScores:
    params = ("exact", "sketch")
    param_names = ("method",)
    timer = time.process_time
    shape = (2000, 600)

    def setup_cache(self):
        return prescribed(*self.shape, 0.9 ** np.arange(self.shape[1]), np.random.default_rng(0))

    def setup(self, A, method):
        curtensor.leverage_scores(A[:100, :50], 5, method=method, rng=0)

    def time_leverage_scores(self, A, method):
        curtensor.leverage_scores(A, 20, method=method, rng=0)

    def track_largest_difference(self, A, method):
        exact = curtensor.leverage_scores(A, 20)
        return float(np.abs(curtensor.leverage_scores(A, 20, method=method, rng=0) - exact).max())
