"""What `randomized_svd` says of its own error; leverage scores."""

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
