"""Methods of tensor CUR, which choose slices and fibres: ``(entries, ranks, sizes, rule, rng, sweeps)`` to `Chosen`.

`entries` is an `ArrayEntries` or a `FunctionEntries`, `sizes` the numbers of slices of the modes, and `sweeps` an
iterator as long as the largest number of sweeps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from curtensor import _validation
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.tensors.entries import between, random_places
from curtensor.tensors.indices import choices_by_sketch, choose_slices, fibre_factor, fibres, through

POOL = 4096  # fibres from which some are chosen
ROUNDING = 1e3  # times the dtype's epsilon: what interpolation may make of rounding
SETTLED = 2  # the second smallest error of a sweep, over the smallest; and that over the tail


@dataclass(frozen=True)
class TensorMethod:
    """A method of tensor CUR: its function, and what it needs. A bare function is ``TensorMethod(function)``.

    Attributes
    ----------
    function : callable
        ``(entries, ranks, sizes, rule, rng, sweeps)`` to `Chosen`.
    sees : "tensor" or "entries", default "tensor"
        All of an array, by its sketch, or some entries, which are then all that is read of a store.
    by_pivots : bool, default False
        Whether functions are decomposed by pivots instead: fibres through the entries where the error is largest.
    """

    function: Callable
    sees: Literal["tensor", "entries"] = "tensor"
    by_pivots: bool = False

    def __call__(self, entries: Any, ranks: Any, sizes: Any, rule: Any, rng: Any, sweeps: Any) -> "Chosen":
        """What the function chooses, its indices checked, since it may be a user's."""
        chosen = self.function(entries, ranks, sizes, rule, rng, sweeps)
        if not isinstance(chosen, Chosen) or not len(chosen.indices) == len(chosen.places) == len(sizes):
            what = f"Chosen of {len(sizes)} modes"
            raise _validation.complain(TypeError, "what method gives", what, _validation.describe(chosen))
        each = zip(chosen.indices, entries.shape, sizes, strict=True)
        return chosen._replace(indices=[_validation.rule_choice(*one, "what method chooses") for one in each])


class Chosen(NamedTuple):
    """Slices and places of the fibres of each mode, what a truncated HOSVD leaves, and whether all settled."""

    indices: list[np.ndarray]
    places: list[list[np.ndarray]]
    tail: float
    settled: bool


class Sweep(NamedTuple):
    """What a sweep over the modes leaves: slices, places of fibres, factors, and the tail."""

    indices: list[np.ndarray]
    places: list[list[np.ndarray]]
    factors: list[np.ndarray]
    tail: float


def auto(entries, ranks, sizes, rule, rng, sweeps):
    """`chidori` for arrays, `cross` for functions."""
    method = chidori if entries.whole else cross
    return method(entries, ranks, sizes, rule, rng, sweeps)


def chidori(entries, ranks, sizes, rule, rng, sweeps):
    """Fibres through the chosen slices of the other modes (Cai, Hamm, Huang, Needell 2021)."""
    indices, tail = slices(entries, ranks, sizes, rule, rng)
    return Chosen(indices, [through(indices, mode) for mode in range(len(ranks))], tail, True)


def fiber(entries, ranks, sizes, rule, rng, sweeps):
    """Fibres chosen from any, by what the chosen slices of their mode show of them (the same authors)."""
    indices, tail = slices(entries, ranks, sizes, rule, rng)
    places = [chosen_fibres(entries, mode, indices, ranks, sizes, rule, rng) for mode in range(len(ranks))]
    return Chosen(indices, places, tail, True)


def cross(entries, ranks, sizes, rule, rng, sweeps):
    """Slices of each mode in turn, by fibres through those of the others and random ones, until the error settles.

    After Oseledets, Savostianov and Tyrtyshnikov 2008. The best sweep counts. It has settled where another
    came near, and fresh entries show the same error again; errors of rounding are all the same.
    """
    rounding = ROUNDING * np.finfo(entries.dtype).eps
    indices, _ = slices(entries, ranks, sizes, rule, rng)
    done, settled = [], False
    for _ in sweeps:
        sweep = swept(entries, indices, ranks, sizes, rule, rng)
        done.append((max(sweep_error(entries, sweep, rng), rounding), sweep))
        done.sort(key=lambda item: item[0])
        error, best = done[0]
        if len(done) > 1 and done[1][0] <= SETTLED * error <= SETTLED**2 * max(best.tail, rounding):
            again = max(sweep_error(entries, best, rng), rounding)
            settled = again <= SETTLED * error
            if settled:
                break
            done[0] = again, best
        if not entries.afford(len(done)):
            break
    error, best = min(done, key=lambda item: item[0])
    return Chosen(best.indices, best.places, max(best.tail, error), settled and entries.seen_anywhere)


def swept(entries, indices, ranks, sizes, rule, rng):
    """One sweep over the modes, which changes the indices in place."""
    places, factors, tails = [], [], []
    for mode, rank in enumerate(ranks):
        places.append(chosen_fibres(entries, mode, indices, ranks, sizes, rule, rng))
        C = fibres(entries, mode, places[mode])
        choice = choose_slices(DenseTensor(C), rank, sizes[mode], rule, rng)
        indices[mode] = choice.indices
        factors.append(fibre_factor(C, choice.indices, rank))
        tails.append(choice.tail)
    return Sweep(list(indices), places, factors, math.hypot(*tails))


def sweep_error(entries, sweep, rng):
    """The error that a sweep's choice is seen to have on fresh entries."""
    return entries.error(entries.at(np.ix_(*sweep.indices)), sweep.factors, sweep.indices, rng)


def slices(entries, ranks, sizes, rule, rng):
    """Slices of each mode by a rule on the sketch of an array, and the tail; drawn uniformly where X is a function."""
    if entries.whole:
        entries.sketch(max(ranks), rng)  # which also shows whether X is finite
    if rule.sees == "nothing" or not entries.whole:
        drawn = [rng.choice(length, size, replace=False) for length, size in zip(entries.shape, sizes, strict=True)]
        return drawn, math.inf
    choices = choices_by_sketch(entries, ranks, sizes, rule, rng)
    return [choice.indices for choice in choices], math.hypot(*(choice.tail for choice in choices))


def chosen_fibres(entries, mode, indices, ranks, sizes, rule, rng):
    """Places of fibres: the best of those through the other modes' slices and of random ones, and more random ones."""
    fresh = spread(indices, entries.shape, sizes[mode], rng)
    if rule.sees == "nothing":
        return places_at(fresh, entries.few(fresh, mode, rng))
    pool = joined(some_of(through(indices, mode), POOL, rng), spread(indices, entries.shape, POOL, rng))
    few = entries.few(pool, mode, rng)
    if len(few) < len(pool[0]):  # then the fresh ones are to lie in the same chunks
        pool = places_at(pool, few)
        fresh = places_at(pool, rng.permutation(len(few))[: sizes[mode]])
    rows = list(pool)
    rows[mode] = indices[mode][:, None]
    seen = DenseTensor(entries.at(rows).conj().T)
    picked = choose_slices(seen, ranks[mode], sizes[mode], rule, rng).indices
    return joined(places_at(pool, picked), fresh)


def spread(indices, shape, count, rng):
    """Random places, half of them anywhere and half in the gaps between chosen slices."""
    return joined(random_places(shape, count - count // 2, rng), between(indices, shape, count // 2, rng))


def joined(places, more):
    """Places and more places, as one."""
    return [np.append(some, others) for some, others in zip(places, more, strict=True)]


def places_at(places, some):
    """Some of the places."""
    return [place[some] for place in places]


def some_of(places, limit, rng):
    """The places, or a random part of them where they are many."""
    count = len(places[0])
    few = rng.choice(count, limit, replace=False) if count > limit else slice(None)
    return [place[few] for place in places]


TENSOR_METHODS = {
    "auto": TensorMethod(auto, by_pivots=True),
    "chidori": TensorMethod(chidori),
    "fiber": TensorMethod(fiber),
    "cross": TensorMethod(cross, sees="entries", by_pivots=True),
}
