"""CUR of tensors: the public function, by ranks or to a tolerance."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from curtensor import _validation
from curtensor.selection import SELECTION_RULES
from curtensor.tensors.entries import ArrayEntries, FunctionEntries
from curtensor.tensors.indices import fibre_factor, fibres
from curtensor.tensors.methods import TENSOR_METHODS
from curtensor.tensors.result import TensorCUR

SAMPLES = 3  # slices of a mode, over its rank
GROWTH = 1.5  # of the ranks, while the error is above rtol
LARGEST_CORE = 2**27  # entries, from which on a function's rtol is given up
GOOD = 1.5  # times the tail: what the error may be for a converged result


def tensor_cur(
    X: ArrayLike | Callable,
    ranks: int | Sequence[int] | None = None,
    *,
    rtol: float | None = None,
    method: str | Callable = "auto",
    selection: str | Callable = "osinsky",
    n_samples: int | Sequence[int] | None = None,
    core: str | Callable = "intersection",
    shape: Sequence[int] | None = None,
    max_sweeps: int = 8,
    rng: _validation.RandomSource = None,
    callback: Callable | None = None,
) -> TensorCUR:
    """Approximate a tensor by a sub-tensor of it and a factor for each mode."""
    if callable(X):
        entries = FunctionEntries(X, _validation.lengths(shape))
    else:
        entries = ArrayEntries(_validation.tensor(X, least=2))
    if (ranks is None) == (rtol is None):
        raise _validation.complain(
            ValueError, "ranks or rtol", "given, one of the two", "neither" if ranks is None else "both"
        )
    method = _validation.choose(TENSOR_METHODS, method, "method")
    rule = _validation.choose(SELECTION_RULES, selection, "selection")
    core = _validation.choose(TENSOR_CORES, core, "core")
    max_sweeps = _validation.integer(max_sweeps, "max_sweeps", 1, 1000)
    rng = _validation.generator(rng)
    callback = _validation.callback_function(callback)

    def attempt(ranks, sizes):
        sweeps = reported(max_sweeps, callback)
        return approximate(entries, ranks, sizes, method, rule, core, sweeps, rng)

    if ranks is not None:
        ranks = _validation.tensor_ranks(ranks, entries.shape)
        return attempt(ranks, _validation.sample_sizes(n_samples, ranks, entries.shape, SAMPLES))
    return smallest_ranks(entries, attempt, rtol, rng)


def reported(count, callback):
    """Numbers below the count, each reported as done when the next is asked for."""
    for i in range(count):
        callback(i / count)
        yield i


def approximate(entries, ranks, sizes, method, rule, core, sweeps, rng):
    """The tensor CUR of given ranks."""
    chosen = method(entries, ranks, sizes, rule, rng, sweeps)
    factors = [
        fibre_factor(fibres(entries, mode, places), chosen.indices[mode], ranks[mode])
        for mode, places in enumerate(chosen.places)
    ]
    middle, factors = core(entries, chosen.indices, factors)
    error = entries.error(middle, factors, chosen.indices, rng)
    good = error <= GOOD * chosen.tail + 64 * np.finfo(entries.dtype).eps
    return TensorCUR(middle, factors, chosen.indices, entries.n_read, error, bool(chosen.settled and good))


def intersection(entries, indices, factors):
    """The sub-tensor of the chosen slices."""
    return entries.at(np.ix_(*indices)), factors


def projection(entries, indices, factors):
    """The best core for the factors' spans, by one more pass over the array."""
    factors = [np.linalg.qr(factor)[0] for factor in factors]
    return entries.projected(factors), factors


TENSOR_CORES = {"intersection": intersection, "projection": projection}


def smallest_ranks(entries, attempt, rtol, rng):
    """A result whose error, seen on what the choice has not, is at most rtol."""
    rank = 2
    while True:
        ranks = tuple(min(rank, length) for length in entries.shape)
        result = attempt(ranks, tuple(min(SAMPLES * r, length) for r, length in zip(ranks, entries.shape)))
        error = entries.true_error(result.core, result.factors, result.indices, rng)
        if error <= rtol:
            return replace(result, error_estimate=error, converged=True)
        if rank >= max(entries.shape):
            raise _validation.complain(ValueError, "rtol", f"at least {error:.2g} for this X", rtol)
        rank = math.ceil(GROWTH * rank)
