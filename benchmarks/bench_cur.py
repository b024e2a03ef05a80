"""CUR decompositions at a given tolerance, and of a large sparse array: rank, time, memory."""

import time
from functools import partial

import numpy as np

import curtensor
from benchmarks import common
from benchmarks.common import BENCHMARKED, FAMILIES, measured, tail

# name -> core and rtol
TOLERANCES = {
    f"{core}, {rtol:g}": (core, rtol) for core in ("projection", "intersection") for rtol in (1e-1, 1e-2, 1e-4)
}


class Tolerance(common.Comparison):
    """Times and ranks at a given tolerance."""

    families = BENCHMARKED
    params = (list(TOLERANCES), list(families))
    shape = (400, 300)

    def setup_cache(self):
        return common.outcomes(TOLERANCES, {name: partial(self.matrix, name) for name in self.families}, self.figures)

    def matrix(self, family):
        """A matrix, and the relative errors of its truncated SVDs of rank 0, 1, ..."""
        A = FAMILIES[family](*self.shape, 0)
        spectrum = np.linalg.svd(A, compute_uv=False)
        return A, np.array([tail(spectrum, k) for k in range(len(spectrum) + 1)]) / tail(spectrum, 0)

    def figures(self, tolerance, data):
        (core, rtol), (A, errors) = tolerance, data
        optimum = np.argmax(errors <= rtol)
        return measured(
            lambda seed: curtensor.cur_decomposition(A, core=core, rtol=rtol, rng=seed),
            lambda result: [result.rank / optimum],
        )

    def track_rank(self, cache, method, family):
        return cache[method, family][1]

    track_rank.unit = "rank / least that holds the tolerance"


class Sparse:
    """A sparse array that would not fit in memory as a dense one."""

    timer = time.process_time
    shape = (100_000, 20_000)

    def setup_cache(self):
        A = common.random_sparse(*self.shape, 5 * self.shape[0], 0)
        curtensor.cur_decomposition(A[:200, :100], 5, rng=0)
        return A

    def time_cur(self, A):
        curtensor.cur_decomposition(A, 30, rng=0)

    def peakmem_cur(self, A):
        curtensor.cur_decomposition(A, 30, rng=0)

    def time_randomized_svd(self, A):
        curtensor.randomized_svd(A, 30, rng=0)
