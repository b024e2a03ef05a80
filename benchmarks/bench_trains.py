"""Tensor trains of functions of many variables, ours and the peers': error against entries read and time."""

import contextlib
import signal
import time

import numpy as np

import curtensor as ct
from benchmarks import common

TESTED = 10000  # entries, on which an error is measured
PATIENCE = 60  # seconds, after which a peer is stopped: TensorLy's cross may never return


class Counted:
    """A function of index arrays, which counts the entries that it is asked for."""

    def __init__(self, function):
        self.function, self.entries = function, 0

    def __call__(self, *indices):
        values = self.function(*indices)
        self.entries += values.size
        return values


def ours(f, shape, rtol, seed):
    return ct.tt_cross(f, rtol=rtol, shape=shape, rng=seed).at


def ours_of_few_variables(f, shape, rtol, seed):
    """Tucker form, whose core is too large for many variables."""
    if len(shape) > 5:
        raise NotImplementedError("Tucker form is for few variables")
    core, factors = ct.tensor_cur(f, rtol=rtol, shape=shape, rng=seed)

    def at(places):
        values = factors[0][places[0]] @ core.reshape(len(core), -1)
        for factor, place in zip(factors[1:], places[1:], strict=True):
            values = np.einsum("pi,pij->pj", factor[place], values.reshape(len(values), factor.shape[1], -1))
        return values[:, 0]

    return at


def teneva(f, shape, rtol, seed):
    """From rank 1, which it raises by one a sweep, to its own stop."""
    import teneva as peer

    cores = peer.cross(lambda places: f(*places.T), peer.rand(shape, 1, seed=seed), e=rtol)
    return lambda places: peer.get_many(cores, np.array(places).T)


def torchtt(f, shape, rtol, seed):
    import torch
    import torchtt as peer

    torch.manual_seed(seed)
    train = peer.interpolate.dmrg_cross(
        lambda places: torch.from_numpy(f(*places.numpy().T)), list(shape), eps=rtol, verbose=False
    )
    cores = [core.numpy() for core in train.cores]
    return lambda places: ct.TensorTrain(tuple(cores)).at(places)


def tensorly(f, shape, rtol, seed):
    """It takes arrays alone, so that all entries are formed, and ranks, here 6."""
    from tensorly.contrib.decomposition import tensor_train_cross

    if np.prod(shape) > 10**6:
        raise NotImplementedError("TensorLy's cross takes arrays")
    X = f(*np.ogrid[tuple(slice(length) for length in shape)])
    ranks = [1, *[min(6, np.prod(shape[: n + 1]), np.prod(shape[n + 1 :])) for n in range(len(shape) - 1)], 1]
    cores = tensor_train_cross(X, list(map(int, ranks)), tol=rtol, n_iter_max=20, random_state=seed)
    return lambda places: ct.TensorTrain(tuple(map(np.asarray, cores))).at(places)


# (f, shape, rtol, seed) to a function that gives entries of the approximation
METHODS = {
    "tt_cross": ours,
    "tensor_cur": ours_of_few_variables,
    "teneva": teneva,
    "torchTT": torchtt,
    "TensorLy": tensorly,
}


def reciprocal(*indices):
    return 1 / (1.0 + sum(indices))


def waves(*indices):
    return np.sin(sum(indices) / 9.0) + 1 / np.sqrt(1 + sum((index / 19) ** 2 for index in indices))


def neighbours(*indices):
    """Each variable and the next one."""
    squares = [(indices[n] / 19) ** 2 + (indices[n + 1] / 19) ** 2 for n in range(len(indices) - 1)]
    return sum(np.sin(5 * np.sqrt(s)) ** 2 / (1 + s) for s in squares)


CASES = {
    "1/(1+i+j+...), 12^5": (reciprocal, (12,) * 5),
    "waves, 20^10": (waves, (20,) * 10),
    "neighbours, 20^10": (neighbours, (20,) * 10),
    "waves, 20^30": (waves, (20,) * 30),
}


@contextlib.contextmanager
def bounded():
    """Stop what takes longer than `PATIENCE`, where the system has alarms."""

    def late(*_):
        raise NotImplementedError(f"it is not done after {PATIENCE} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Functions:
    """Error, entries read and time, each method at its own stop for one tolerance."""

    params = (list(METHODS), list(CASES), [1e-3, 1e-6])
    param_names = ("method", "case", "rtol")
    timer = time.process_time
    timeout = 300

    def setup(self, method, case, rtol):
        f, self.shape = CASES[case]
        self.f = Counted(f)
        with common.skipped_where_missing(), bounded():
            self.at = METHODS[method](self.f, self.shape, rtol, 0)

    def time_method(self, method, case, rtol):
        METHODS[method](self.f, self.shape, rtol, 1)

    def track_error(self, method, case, rtol):
        places = list(np.random.default_rng(9).integers(0, np.array(self.shape)[:, None], (len(self.shape), TESTED)))
        values = self.f.function(*places)
        return float(np.linalg.norm(self.at(places) - values) / np.linalg.norm(values))

    def track_entries(self, method, case, rtol):
        return self.f.entries


if __name__ == "__main__":
    print(f"{'method':12}{'case':22}{'rtol':>8}{'error':>10}{'entries':>10}{'CPU s':>8}")
    for case in CASES:
        for rtol in Functions.params[2]:
            for method in METHODS:
                run, start = Functions(), time.process_time()
                try:
                    run.setup(method, case, rtol)
                except Exception as reason:
                    print(f"{method:12}{case:22}{rtol:8.0e}  {type(reason).__name__}: {reason}")
                    continue
                seconds = time.process_time() - start
                error = run.track_error(method, case, rtol)
                print(f"{method:12}{case:22}{rtol:8.0e}{error:10.1e}{run.f.entries:10}{seconds:8.3f}")
