"""Every method on every kind of matrix: CPU time and error over the optimum, and peak memory."""

from functools import partial

import numpy as np

from benchmarks import common
from benchmarks.common import BENCHMARKED, COHERENT, FAMILIES, METHODS, error, measured, tail


class Matrices(common.Comparison):
    """Rank 40 of matrices of at most 1500 x 1000."""

    families = BENCHMARKED
    params = (list(METHODS), list(families))
    shape, k = (1500, 1000), 40

    def setup_cache(self):
        return common.outcomes(METHODS, {name: partial(self.matrix, name) for name in self.families}, self.figures)

    def matrix(self, family):
        """A matrix, and the error of its truncated SVD."""
        A = FAMILIES[family](*self.shape, 0)
        return A, tail(np.linalg.svd(A, compute_uv=False), self.k)

    def figures(self, method, data):
        A, optimum = data
        return measured(lambda seed: method(A, self.k, seed), lambda factors: [error(A, factors) / optimum])

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    track_error.unit = "error / that of the truncated SVD"


class Memory:
    """Peak memory, which hardly depends on the entries: one family."""

    params = list(METHODS)
    param_names = ("method",)

    def setup(self, method):
        self.A = FAMILIES[COHERENT](*Matrices.shape, 0)
        with common.skipped_where_missing():
            METHODS[method](self.A[:100, :80].copy(), 5, 0)  # imports and compiles

    def peakmem_method(self, method):
        METHODS[method](self.A, Matrices.k, 0)
