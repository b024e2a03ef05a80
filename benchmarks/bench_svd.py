"""`randomized_svd`: what it says of its own error, time and error beside its peers; leverage scores."""

import time
from functools import partial

import numpy as np

import curtensor
from benchmarks import common
from benchmarks.common import BENCHMARKED, COHERENT, FAMILIES, FAST, measured
from curtensor.svd import SVD_METHODS


class ErrorEstimate:
    """The estimate over the true error."""

    params = (list(SVD_METHODS), list(BENCHMARKED))
    param_names = ("method", "family")
    shape, k = (700, 500), 40

    def setup(self, method, family):
        with common.skipped_where_missing():
            self.A = FAMILIES[family](*self.shape, 0)

    def track_estimate(self, method, family):
        result = curtensor.randomized_svd(self.A, self.k, method=method, rng=0)
        return result.error_estimate / curtensor.relative_error(self.A, result)

    track_estimate.unit = "estimate / error"


class Front:
    """CPU time and error over the optimum of each SVD, at 1500 x 1500."""

    params = (list(common.SVDS), (20, 50, 150), list(BENCHMARKED))
    param_names = ("method", "k", "family")
    timer = staticmethod(time.process_time)

    def setup(self, method, k, family):
        with common.skipped_where_missing():
            self.A = FAMILIES[family](1500, 1500, 0)
            if k >= min(self.A.shape):
                raise NotImplementedError(f"{k} is no rank below full of this matrix")
            common.SVDS[method](self.A, k, 0)

    def time_svd(self, method, k, family):
        common.SVDS[method](self.A, k, 0)

    def track_error(self, method, k, family):
        right = common.SVDS[method](self.A, k, 0)[1]
        spectrum = np.linalg.svd(self.A, compute_uv=False)
        error = np.sqrt(max(np.linalg.norm(self.A) ** 2 - np.linalg.norm(right) ** 2, 0))
        return error / common.tail(spectrum, k)

    track_error.unit = "error / optimum"


class LeverageScores(common.Comparison):
    """Time, and the largest difference from the exact scores."""

    methods, families, shape = ("exact", "sketch"), (COHERENT, FAST), (2000, 600)
    params = (list(methods), list(families))

    def setup_cache(self):
        matrices = {name: partial(self.matrix, name) for name in self.families}
        return common.outcomes({name: name for name in self.methods}, matrices, self.figures)

    def matrix(self, family):
        """A matrix, and its scores."""
        A = FAMILIES[family](*self.shape, 0)
        return A, curtensor.leverage_scores(A, 20)

    def figures(self, method, data):
        A, exact = data
        return measured(
            lambda seed: curtensor.leverage_scores(A, 20, method=method, rng=seed),
            lambda scores: [np.abs(scores - exact).max()],
        )

    def track_difference(self, cache, method, family):
        return cache[method, family][1]

    track_difference.unit = "largest difference of a score"
