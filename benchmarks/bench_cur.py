"""CUR decompositions and what users write in their place: time, memory, error over the optimum."""

import time

import curtensor
from benchmarks.common import COHERENT, CURS, METHODS, OnFamilies, error, random_sparse, tail


class CUR(OnFamilies):
    params = (list(CURS), list(OnFamilies.families))

    def time_method(self, cache, method, family):
        METHODS[method](self.A, self.k, 0)

    def track_error_over_optimum(self, cache, method, family):
        return error(self.A, METHODS[method](self.A, self.k, 0)) / tail(self.spectrum, self.k)


class CURMemory(OnFamilies):
    """Peak memory, which hardly depends on the entries: one family."""

    params = (list(CURS), [COHERENT])

    def peakmem_method(self, cache, method, family):
        METHODS[method](self.A, self.k, 0)


class Tolerance(OnFamilies):
    """Ranks and times at a given tolerance."""

    shape = (400, 300)
    params = (["projection", "intersection"], list(OnFamilies.families), [1e-1, 1e-2, 1e-4])
    param_names = ("core", "family", "rtol")

    def setup_cache(self):  # of its own, since the shape is another
        return self.matrices()

    def setup(self, cache, core, family, rtol):
        self.A, self.spectrum = cache[family]
        self.decompose(core, 0.5)

    def decompose(self, core, rtol):
        return curtensor.cur_decomposition(self.A, core=core, rtol=rtol, rng=0)

    def time_cur(self, cache, core, family, rtol):
        self.decompose(core, rtol)

    def track_rank_over_optimum(self, cache, core, family, rtol):
        size = tail(self.spectrum, 0)
        optimum = next(k for k in range(len(self.spectrum) + 1) if tail(self.spectrum, k) <= rtol * size)
        return self.decompose(core, rtol).rank / optimum


class Sparse:
    """A sparse array that would not fit in memory as a dense one."""

    timer = time.process_time
    shape = (100_000, 20_000)

    def setup_cache(self):
        A = random_sparse(*self.shape, 5 * self.shape[0], 0)
        curtensor.cur_decomposition(A[:200, :100], 5, rng=0)
        return A

    def time_cur(self, A):
        curtensor.cur_decomposition(A, 30, rng=0)

    def peakmem_cur(self, A):
        curtensor.cur_decomposition(A, 30, rng=0)

    def time_randomized_svd(self, A):
        curtensor.randomized_svd(A, 30, rng=0)
