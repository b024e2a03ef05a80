"""Tucker decompositions of large tensors, ours and the peers': time and memory."""

import time

import numpy as np

import curtensor as ct
from benchmarks import common
from benchmarks.tensors import low_rank, noise
from curtensor.tensors.tucker import TUCKER_METHODS


def ours(method):
    def decompose(X, ranks, seed):
        return ct.st_hosvd(X, ranks, method=method, rng=seed).to_array

    return decompose


def our_hooi(X, ranks, seed):
    return ct.hooi(X, ranks).to_array


def tensorly_tucker(**options):
    def decompose(X, ranks, seed):
        from tensorly import tucker_to_tensor
        from tensorly.decomposition import tucker

        result = tucker(X, list(ranks), random_state=seed, **options)
        return lambda: tucker_to_tensor(result)

    return decompose


def pyttb_hosvd(X, ranks, seed):
    import pyttb

    return pyttb.hosvd(pyttb.tensor(X), tol=1e-4, ranks=np.array(ranks), verbosity=0).full().double


def pyttb_tucker_als(X, ranks, seed):
    import pyttb

    np.random.seed(seed)  # noqa: NPY002  (pyttb draws from the global state)
    return pyttb.tucker_als(pyttb.tensor(X), np.array(ranks), printitn=-1)[0].full().double


def naive_st_hosvd(X, ranks, seed):
    """A dozen lines with Gram matrices of unfoldings, in the order of the modes."""
    core, factors = X, []
    for mode, rank in enumerate(ranks):
        unfolded = np.moveaxis(core, mode, 0).reshape(core.shape[mode], -1)
        factors.append(np.linalg.eigh(unfolded @ unfolded.T)[1][:, -rank:])
        core = np.moveaxis(np.tensordot(factors[-1].T, core, (1, mode)), 0, mode)
    return lambda: ct.tucker_to_tensor(core, factors)


# (X, ranks, seed) to a function without arguments that gives the approximation as an array
OURS = {f"st_hosvd, {method}": ours(method) for method in TUCKER_METHODS} | {"hooi": our_hooi}
TENSORLY = {
    "TensorLy": tensorly_tucker(),
    "TensorLy, randomized": tensorly_tucker(svd="randomized_svd"),
    "TensorLy, random start": tensorly_tucker(init="random"),
    "TensorLy, randomized, random start": tensorly_tucker(svd="randomized_svd", init="random"),
}
PYTTB = {"pyttb hosvd": pyttb_hosvd, "pyttb tucker_als": pyttb_tucker_als}
METHODS = OURS | {"a dozen lines": naive_st_hosvd} | TENSORLY | PYTTB


def signal_and_noise(shape, rank):
    """A tensor of given ranks and one percent of noise."""
    rng = np.random.default_rng(0)
    return low_rank(shape, rank, rng) + 1e-2 * noise(shape, rng), (rank,) * len(shape)


CASES = {"200^3, r=10": ((200, 200, 200), 10), "60^4, r=8": ((60, 60, 60, 60), 8)}


def prepared(method, case):
    """The tensor of a case and its ranks, when the method has imported and compiled what it needs."""
    X, ranks = signal_and_noise(*CASES[case])
    with common.skipped_where_missing():
        METHODS[method](X[:20, :20, :20], (2,) * X.ndim, 0)
    return X, ranks


class Large:
    """Time where passes over the tensor decide."""

    params = (list(METHODS), list(CASES))
    param_names = ("method", "case")
    timer = time.process_time
    timeout = 300

    def setup(self, method, case):
        self.X, self.ranks = prepared(method, case)

    def time_method(self, method, case):
        METHODS[method](self.X, self.ranks, 0)


class Memory:
    """Peak memory, of one case."""

    params = list(METHODS)
    param_names = ("method",)
    timeout = 300

    def setup(self, method):
        self.X, self.ranks = prepared(method, "200^3, r=10")

    def peakmem_method(self, method):
        METHODS[method](self.X, self.ranks, 0)
