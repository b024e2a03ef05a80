"""CUR of functions of few variables: slices of each mode by pivots, checked on entries that no choice has seen."""

import math
from typing import NamedTuple

import numpy as np

from curtensor import _validation
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.tensors.entries import tucker_entries, tuples_at_once
from curtensor.tensors.indices import KEPT, choose_slices, fibre_factor, fibres
from curtensor.tensors.train_cross import (
    PROBES,
    STALLED,
    WORST,
    Blocks,
    climbed,
    distinct,
    drawn_by,
    first_points,
    gate_size,
    looked,
    starts,
    worst,
)
from curtensor.tensors.unfolding import mode_products, unfold

ROUNDING = 1e3  # times the dtype's epsilon: what interpolation may make of rounding
GOOD = 1.5  # times the tail: what the error may be for a converged result
SHARE = 4  # the cut of each mode's fibres, below rtol over the root of the number of modes
SLICES = 4  # of a mode, over its rank, where the sub-tensor is not too large for that
BESIDE = 4  # times the entries of the fibres, which the sub-tensor may have for more slices than there must be
LARGEST_CORE = 2**22  # entries of a function's sub-tensor
DRAWN = 500  # entries of a gate where the approximation is large
CLIMBED = 2  # points climbed from after a sweep, at least


class Pivoted(NamedTuple):
    """What is chosen of a function: core and factors, slices, the error on fresh entries, and whether it will do."""

    core: np.ndarray
    factors: list[np.ndarray]
    indices: list[np.ndarray]
    error: float
    passed: bool


def pivoted_slices(entries, ranks, sizes, rtol, rule, core, sweeps, rng):
    """Slices of a function, by fibres through pivots and through slices chosen before; None where all of it is less.

    After every sweep the approximation, as a train, is looked at on fresh entries as that of `tt_cross` is; the worst
    are the next pivots. It will do where a gate of other fresh entries shows `rtol`, or for ranks `GOOD` times what
    their HOSVD leaves.
    """
    shape, eps = entries.shape, float(np.finfo(entries.dtype).eps)
    rounding = ROUNDING * eps
    cut = max((rtol or 0) / (SHARE * math.sqrt(len(shape))), 16 * eps)
    points = first_points(Blocks(entries, np.inf), KEPT * max(ranks or (1,)), rng)
    entries.at(list(points.T))  # of which the largest sets the scale
    blocks, indices, best, drawn, stalls = Blocks(entries, np.inf), None, None, 0, 0
    for _ in sweeps:
        places = [mode_places(entries, indices, ranks, mode, points, rule, rng) for mode in range(len(shape))]
        if dearer_than_all(entries, places, indices):
            return None
        C = [fibres(entries, mode, each) for mode, each in enumerate(places)]
        here = ranks or tuple(math.ceil(span(each, cut) / KEPT) for each in C)
        count = sizes or slice_numbers(here, shape, "ranks" if ranks else "rtol", ranks or rtol)
        choices = [choose_slices(DenseTensor(c), r, s, rule, rng) for c, r, s in zip(C, here, count, strict=True)]
        indices = [choice.indices for choice in choices]
        factors = [fibre_factor(*each) for each in zip(C, indices, here, strict=True)]
        middle, factors = core(entries, indices, factors)
        shown = Shown(middle, factors)
        look = looked(blocks, shown, PROBES, drawn, rng)
        error = look.error(0)
        target = rtol or max(GOOD * hosvd_tail(middle, factors, ranks), rounding)
        passed, more = False, max(*here, CLIMBED)
        if error <= target:
            count = gate_size(entries)
            look = look + looked(blocks, shown, count, min(count // 2, DRAWN), rng)
            drawn = PROBES // 2
            found, gaps = climbed(blocks, shown, worst(look, starts(entries, 2 * CLIMBED)), 1)
            entries.check_again(look)
            error = look.error(2)
            passed = error <= target and gaps.max() <= WORST * target * blocks.largest
        else:
            found, _ = climbed(blocks, shown, worst(look, starts(entries, CLIMBED)), 1)
        stalls = stalls + 1 if best and error > STALLED * best.error else 0
        if stalls:
            cut = max(cut / 4, 16 * eps)
        if best is None or passed or error < best.error:
            best = Pivoted(middle, factors, indices, error, passed)
        if passed or (ranks and stalls == 2) or not entries.seen:
            break
        points = distinct(np.concatenate([found, worst(look, more)]))
    return best


def mode_places(entries, indices, ranks, mode, points, rule, rng):
    """Places of the fibres of a mode through pivots, and through the best of the slices chosen before."""
    points = points.copy()
    points[:, mode] = 0
    if indices is not None:
        seen = unfold(entries.at(np.ix_(*indices)), mode).conj().T
        count = min(*seen.shape, KEPT * ranks[mode] if ranks else len(indices[mode]))
        picked = choose_slices(DenseTensor(seen), max(count // KEPT, 1), count, rule, rng).indices
        others = [I for m, I in enumerate(indices) if m != mode]
        columns = np.unravel_index(picked, [len(I) for I in others])
        chosen = [I[column] for I, column in zip(others, columns, strict=True)]
        chosen.insert(mode, np.zeros(len(picked), np.intp))
        points = np.concatenate([np.stack(chosen, axis=1), points])
    return list(distinct(points).T)


def dearer_than_all(entries, places, indices):
    """Whether as much is left to read of a small function as a sweep may, with half as much for its checks."""
    asked = sum(length * len(each[0]) for length, each in zip(entries.shape, places, strict=True))
    asked += math.prod(map(len, indices)) if indices else 0
    return entries.n_read + 1.5 * asked > math.prod(entries.shape)


def span(C, cut):
    """How many singular values of some fibres are needed to leave out no more than the cut, one at least."""
    s = np.linalg.svd(C, compute_uv=False)
    tails = np.sqrt(np.cumsum((s / (s[0] or 1))[::-1] ** 2))[::-1]
    return max(int(np.count_nonzero(tails > cut * tails[0])), 1)


def slice_numbers(ranks, shape, name, given):
    """Slices of each mode, `SLICES` times the rank where the sub-tensor stays small beside the fibres.

    One more than the rank at least, or, for a tolerance, than the `KEPT` times as many vectors that hold it.
    """
    kept = KEPT if name == "rtol" else 1
    fewest = [min(kept * rank + 1, length) for rank, length in zip(ranks, shape, strict=True)]
    most = [min(max(SLICES * rank, few), length) for rank, few, length in zip(ranks, fewest, shape, strict=True)]
    affordable = BESIDE * sum(length * number for length, number in zip(shape, most, strict=True))
    for share in np.linspace(1, 0, 9):
        numbers = [few + int(share * (many - few)) for few, many in zip(fewest, most, strict=True)]
        if math.prod(numbers) <= affordable:
            break
    small_enough(numbers, name, given)
    return tuple(numbers)


def small_enough(numbers, name, given):
    """Raise if a sub-tensor with so many slices would be too large to ask for."""
    if math.prod(numbers) > LARGEST_CORE:
        what = f"such that a sub-tensor has at most {LARGEST_CORE} entries; of many variables tt_cross is the form"
        got = f"{_validation.describe(given)}, for which it has {float(math.prod(numbers)):.2g}"
        raise _validation.complain(ValueError, name, what, got)


class Shown:
    """A Tucker tensor, as an approximation that is looked at."""

    def __init__(self, core, factors):
        self.core, self.factors = core, factors

    def at(self, points):
        """Its entries at points (p, N)."""
        return tucker_entries(self.core, self.factors, list(points.T))

    def drawn(self, count, rng):
        """Points drawn by the square moduli of its entries, these over their mean, and the root of that.

        With orthonormal factors the index in a mode, given those before, is as likely as its row is long in what is
        left of the core: it is drawn by one of the columns of that, drawn by their norms.
        """
        bases, triangles = zip(*map(np.linalg.qr, self.factors), strict=True)
        core = mode_products(self.core, dict(enumerate(triangles)))
        total = float(np.linalg.norm(core))
        if total == 0:
            return np.zeros((0, core.ndim), np.intp), np.zeros(0), 0.0
        step = tuples_at_once(core.size)
        points = [self._points(core / total, bases, min(count - n, step), rng) for n in range(0, count, step)]
        points, size = np.concatenate(points), total / math.sqrt(math.prod(map(len, bases)))
        return points, (np.abs(self.at(points)).astype(float) / size) ** 2, size

    @staticmethod
    def _points(core, bases, count, rng):
        """Points (count, N) drawn from a core of norm one, by orthonormal bases."""
        numbers, points = np.arange(count), np.empty((count, core.ndim), np.intp)
        rest = np.broadcast_to(core, (count, *core.shape))
        for mode, basis in enumerate(bases):
            rest = rest.reshape(count, basis.shape[1], -1)
            columns = drawn_by(np.linalg.norm(rest, axis=1) ** 2, rng)
            points[:, mode] = drawn_by(np.abs(rest[numbers, :, columns] @ basis.T) ** 2, rng)
            rest = np.matmul(basis[points[:, mode], None], rest)
        return points

    def lines(self, points):
        """For one mode after the other, its entries (p, d) along that mode through points, which may move meanwhile."""
        for mode, factor in enumerate(self.factors):
            first, *others = (self.factors[n][points[:, n]] for n in range(self.core.ndim) if n != mode)
            rows = np.tensordot(first, np.moveaxis(self.core, mode, -1), 1)
            for other in others:
                rows = np.einsum("pi,pi...->p...", other, rows)
            yield rows @ factor.T


def hosvd_tail(core, factors, ranks):
    """What a truncated HOSVD leaves of a Tucker tensor, relative to its norm, at most."""
    triangles = [np.linalg.qr(factor, mode="r") for factor in factors]
    core = mode_products(core, dict(enumerate(triangles)))
    tails = []
    for mode, rank in enumerate(ranks):
        s = np.linalg.svd(unfold(core, mode), compute_uv=False)
        tails.append(np.linalg.norm(s[rank:]) / (np.linalg.norm(s) or 1))
    return math.hypot(*tails)
