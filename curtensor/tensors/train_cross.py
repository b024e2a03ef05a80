"""Tensor trains of functions and stores out of few of their entries: cross approximation, checked on others."""

import math
from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from curtensor import _validation
from curtensor.operands import find_tensor
from curtensor.operands.arithmetic import times_power
from curtensor.operands.entries import BATCH, IndexedFunction, indexed_function, is_function, only_for_functions
from curtensor.results import in_kind, named
from curtensor.tensors.entries import FunctionEntries, random_places
from curtensor.tensors.trains import (
    TensorTrain,
    backward_cores,
    largest_ranks,
    orthogonalised,
    rescaled,
    train_entries,
    train_ranks_or_rtol,
    train_step,
)

STARTS = 4  # points from which the first sweep begins, and the gate climbs
PROBES = 400  # fresh entries looked at after every sweep
GATE = 4000  # fresh entries that the error must be seen on, or half of what was read where that is less
SIXTEENTH = 16  # and at least so small a part of all that was read
DRAWN = 500  # of them where the train is large
SHARE = 4  # the cut of each unfolding, below rtol over the root of the number of modes
GROWTH = 2  # new pivots: the rank over this
STALLED = 0.5  # of the error before: not less than that
TRIED = 3  # gates that are held, but show next to nothing, before that is said
PLAINLY = 0.5  # of an entry: a train that says less there misses it
DOUBTFUL = 0.8  # of the norm left: an interpolation could be worse than nothing
WORST = 10  # times rtol of the largest entry, which no entry seen may be off
FAINT = 0.01  # of the train's mean square, which the mean square of entries seen anywhere counts for at least
SWAPPED = 1.05  # the largest modulus left by swaps of rows
KEPT = 2**24  # entries of blocks that are remembered
LARGEST_BLOCK = 2**26  # entries of a block


def tt_cross(
    X: Any | Callable,
    /,
    ranks: int | _validation.Integers | None = None,
    *,
    rtol: float | None = None,
    shape: _validation.Integers | None = None,
    dtype: Any = None,
    batch: int | None = None,
    vectorized: bool = True,
    max_entries: int = 10**7,
    max_sweeps: int = 30,
    rng: _validation.RandomSource = None,
    callback: Callable[[float], object] | None = None,
) -> TensorTrain:
    """Approximate a tensor by a tensor train out of few of its entries.

    ``X[i_0, ..., i_{N-1}]`` is close to ``cores[0][:, i_0] @ cores[1][:, i_1] @ ... @ cores[N-1][:, i_{N-1}]``: the
    form for many variables, in which numbers held grow with their number and not exponentially.

    Parameters
    ----------
    X : array_like, sparse array, DataArray or callable, shape (d_0, ..., d_{N-1})
        Real or complex, with two modes or more; integers and bool are taken as float64. Coordinates and dimensions of
        an xarray DataArray are kept as names. A callable is given one integer array for each mode, its own to change,
        which broadcast to a common shape, and returns the entries there in that shape.
    ranks : int or sequence of int, optional
        The N - 1 ranks between neighbouring cores, each at most the product of the lengths on either side; an int is
        meant for all of them, as far as that. Exactly one of `ranks` and `rtol` is given.
    rtol : float, optional
        Largest ``||X - approximation||_F / ||X||_F`` wanted, 64 times the dtype's epsilon to below 1: held on fresh
        entries, or `converged` is False.
    shape : sequence of int, optional
        Lengths of the modes where X is callable, and only then.
    dtype : dtype, optional
        Of a function's values; by default that of its first.
    batch : int, optional
        Entries that a function is asked for in one call at most, by default 262144.
    vectorized : bool, default True
        Whether a function takes index arrays; else it is called with N integers for each entry.
    max_entries : int, default 10000000
        Entries read at most, 1 or more: where more would be needed, the train found by then is given back, not
        converged.
    max_sweeps : int, default 30
        Sweeps, one way, at most, 1 or more.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.
    callback : callable, optional
        Called with the fraction of the sweeps done, a float from 0 to 1.

    Returns
    -------
    result : TensorTrain
        Unpacks to its cores. Its `error_estimate` is the larger of the relative root mean square errors on two kinds of
        fresh entries, anywhere and where the train is large, with two standard errors added. `converged` says that it
        is at most `rtol`, or about what the sweeps saw for `ranks`, on entries that no choice had seen, and that
        climbing by coordinates from the worst of them met nothing ten times as far off. What neither meets, such as one
        entry unlike all others, or a peak far narrower than the space between probes upon a background, no probe can
        see. Where nothing but zeros was seen the error is 1, and `converged` False; so it is where most entries seen
        are zero and the others next to it, as in a narrow peak that is zero for want of digits.

    Raises
    ------
    TypeError
        If X is no array of numbers and no callable, or another argument of the wrong kind.
    ValueError
        If X has fewer than two modes or is empty; if a callable comes without a shape, an array with one; if entries
        read are not finite, of another shape, or other ones when asked for again; if not exactly one of `ranks` and
        `rtol` is given; if a number is out of range; if `max_entries` is too few for a first sweep. What the callable
        itself raises comes through.

    Notes
    -----
    Sweeps to and fro ([1]_): the slices of a mode between the index sets on either side are read, cut by an SVD to a
    part of `rtol`, and rows of nearly the largest volume [2]_ chosen. After each the train is compared with fresh
    entries, and the worst of them, and points climbed to from these, join the index sets of the next. A tensor of
    at most 4400 entries is read whole, once. Entries read:
    O(d r^2) for each mode and sweep; O(d r^3) operations; memory for the entries of a mode, and 128 MiB for entries
    read before. Of a store entries are read one by one.

    References
    ----------
    .. [1] I. V. Oseledets, E. E. Tyrtyshnikov, "TT-cross approximation for multidimensional arrays", Linear Algebra
       Appl. 432(1), 2010.
    .. [2] S. A. Goreinov, I. V. Oseledets, D. V. Savostyanov, E. E. Tyrtyshnikov, N. L. Zamarashkin, "How to find a
       good submatrix", in Matrix Methods: Theory, Algorithms and Applications, World Scientific, 2010.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> x = np.linspace(0, 1, 20)
    >>> train = ct.tt_cross(lambda *i: 1 / (1 + sum(x[k] for k in i)), rtol=1e-6, shape=(20,) * 10, rng=0)
    >>> train.converged, train.n_entries_read < 40000
    (True, True)
    >>> bool(abs(train.at([19] * 10) - 1 / 11) < 1e-6)
    True
    """
    entries = train_source(X, shape, dtype, batch, vectorized)
    ranks, rtol = train_ranks_or_rtol(ranks, rtol, entries.shape, entries.dtype)
    max_entries = _validation.integer(max_entries, "max_entries", 1, 10**18)
    max_sweeps = _validation.integer(max_sweeps, "max_sweeps", 1, 1000)
    rng = _validation.generator(rng)
    callback = _validation.callback_function(callback)

    if math.prod(entries.shape) <= min(PROBES + GATE, max_entries):
        entries.read(np.ix_(*map(np.arange, entries.shape)))  # and remembered
    result = crossed(entries, ranks, rtol, max_entries, max_sweeps, rng, callback)
    return named(in_kind(result, entries), X)


class Spent(Exception):
    """More entries would be read than are allowed, or held at once."""


class Look(NamedTuple):
    """Entries looked at: where, what they are, how far an approximation is from them, and what it says there.

    Of two kinds: drawn from anywhere, with a density of 0 here, and where the approximation is large, with the density
    they are drawn by, over that of anywhere. The root mean square of the approximation is `size`.
    """

    places: np.ndarray
    values: np.ndarray
    gaps: np.ndarray
    shown: np.ndarray
    density: np.ndarray
    size: float

    @property
    def drawn(self):
        """Which are drawn where the approximation is large."""
        return self.density > 0

    def __add__(self, other):
        """Both looks at the same train in one."""
        both = zip(self[:-1], other[:-1], strict=True)
        return Look(*(np.concatenate(parts) for parts in both), max(self.size, other.size))

    def error(self, margin):
        """The larger of the relative root mean squares of both kinds, with so many standard errors added."""
        scale = max(float(np.abs(self.values).max()), float(self.gaps.max())) or 1.0
        squares = (self.gaps / scale) ** 2
        whole = (np.abs(self.values[~self.drawn] / scale).astype(float) ** 2).mean()
        whole = max(whole, FAINT * (self.size / scale) ** 2)
        errors = [likely(squares[~self.drawn], margin) / (whole or 1)]
        if self.drawn.any():
            errors.append(likely(squares[self.drawn] / (self.density[self.drawn] * (self.size / scale) ** 2), margin))
        return math.sqrt(max(errors))


class Train:
    """A train, as an approximation that is looked at."""

    def __init__(self, cores):
        self.cores = cores

    def at(self, points):
        """Its entries at points (p, N)."""
        return train_entries(self.cores, list(points.T))

    def drawn(self, count, rng):
        """Points drawn by the square moduli of its entries, these over their mean, and the root of that."""
        points, size = sampled(self.cores, count, rng)
        return points, (np.abs(self.at(points)).astype(float) / (size or 1)) ** 2, size

    def lines(self, points):
        """For one mode after the other, its entries (p, d) along that mode through points, which may move meanwhile."""
        behind = [np.ones((len(points), 1))]
        for core, place in zip(backward_cores(self.cores)[:-1], points.T[:0:-1], strict=True):
            behind.append(train_step(behind[-1], core, place))
        rows = np.ones((len(points), 1))
        for n, core in enumerate(self.cores):
            ahead = (rows @ core.reshape(len(core), -1)).reshape(len(points), *core.shape[1:])
            yield np.einsum("pnb,pb->pn", ahead, behind.pop())
            rows = train_step(rows, core, points[:, n])


class Blocks:
    """Blocks of a tensor: all slices of a mode between sets of indices before and behind. The last ones are remembered.

    Attributes
    ----------
    entries : FunctionEntries
        What is read.
    limit : int
        Entries that may be read in all.
    largest : float
        The largest modulus seen.
    """

    def __init__(self, entries, limit):
        self.entries, self.limit = entries, limit
        self.shape = entries.shape
        self.largest = 0.0
        self.kept = {}

    def read(self, indices):
        """Entries at broadcastable index arrays, within the limit."""
        size = math.prod(np.broadcast_shapes(*{index.shape for index in indices}))
        if size > LARGEST_BLOCK or self.entries.n_read + size > self.limit:
            raise Spent
        values = times_power(self.entries.read(indices), self.entries.exponent)
        self.largest = max(self.largest, float(np.abs(values).max(initial=0)))
        return values

    def at(self, points):
        """Entries at points (p, N)."""
        return self.read(list(points.T))

    def between(self, left, mode, right):
        """The block (r, d, s), of which entries that were in the last one of this mode are not asked for again."""
        size = len(left) * self.shape[mode] * len(right)
        if size > LARGEST_BLOCK:
            raise Spent
        old_left, old_right, old = self.kept.get(mode, ({}, {}, None))
        rows, columns = places_in(old_left, left), places_in(old_right, right)
        new_rows, new_columns = np.flatnonzero(rows < 0), np.flatnonzero(columns < 0)
        if len(new_rows) == len(left) or len(new_columns) == len(right):
            block = self.asked(left, mode, right)
        else:
            block = old[rows][:, :, columns]
            if len(new_rows):
                block[new_rows] = self.asked(left[new_rows], mode, right)
            if len(new_columns):
                here = np.flatnonzero(rows >= 0)
                block[here[:, None], :, new_columns] = self.asked(left[here], mode, right[new_columns]).swapaxes(1, 2)
        if size <= KEPT // len(self.shape):
            self.kept[mode] = keys(left), keys(right), block
        return block

    def asked(self, left, mode, right):
        """The block, asked for."""
        before = [place[:, None, None] for place in left.T]
        behind = [place[None, None, :] for place in right.T]
        return self.read([*before, np.arange(self.shape[mode])[None, :, None], *behind])


def keys(points):
    """The number of each point (p, m) by its bytes."""
    return {point.tobytes(): number for number, point in enumerate(np.ascontiguousarray(points))}


def places_in(known, points):
    """The numbers of points among known ones, -1 for others."""
    return np.array([known.get(point.tobytes(), -1) for point in np.ascontiguousarray(points)], dtype=np.intp)


def crossed(entries, ranks, rtol, max_entries, max_sweeps, rng, callback):
    """The tensor train, by sweeps to and fro, each followed by a look at entries it has not seen."""
    d = len(entries.shape)
    all_of_it = entries.function.remembers and math.prod(entries.shape) <= max_entries
    blocks = Blocks(entries, np.inf if all_of_it else max_entries)
    rounding = 16 * float(np.finfo(entries.dtype).eps)
    most = largest_ranks(entries.shape) if ranks is None else ranks
    cut = rounding if rtol is None else max(rtol / (SHARE * math.sqrt(d)), rounding)
    prefixes, suffixes = empty_sets(d), empty_sets(d)[::-1]
    before, error, cores, passed, drawn, tried = np.inf, 1.0, None, False, 0, 0
    try:
        points = first_points(blocks, 0 if ranks is None else max(ranks), rng)
        for sweep in range(max_sweeps):
            callback(sweep / max_sweeps)
            if sweep % 2 == 0:
                cores, prefixes = half_sweep(blocks, joined_sets(suffixes, points, behind=True), most, cut, False)
            else:
                cores, suffixes = half_sweep(blocks, joined_sets(prefixes, points, behind=False), most, cut, True)
            forward = sweep % 2 == 0
            look = looked(blocks, Train(cores), PROBES, drawn, rng)
            error = look.error(0)
            rank = max(core.shape[2] for core in cores)
            limit = max(1.5 * error, rounding) if rtol is None else rtol
            if error <= rtol if rtol is not None else error > STALLED * before:
                count = max(gate_size(entries), entries.n_read // SIXTEENTH)
                gate = look + looked(blocks, Train(cores), count, min(count // 2, DRAWN), rng)
                drawn = PROBES // 2
                found, gaps = climbed(blocks, Train(cores), worst(gate, starts(entries, STARTS)), 1)
                entries.check_again(gate)
                error = gate.error(2)
                held = error <= limit and gaps.max() <= WORST * limit * blocks.largest
                passed = held and not fading(gate)
                tried += held
                if passed or tried == TRIED or (ranks is not None and sweep > 6):
                    break
                points = np.concatenate([found, worst(gate, rank // GROWTH)])
            else:
                found, _ = climbed(blocks, Train(cores), worst(look, starts(entries, STARTS // 2)), 1)
                points = np.concatenate([found, worst(look, max(rank // GROWTH, 2))])
            if error > STALLED * before:
                cut = max(cut / 4, rounding)
            before = error
    except Spent:
        if cores is None:
            what = "at least what a first sweep reads"
            raise _validation.complain(ValueError, "max_entries", what, max_entries) from None
    seen = blocks.largest > 0 or entries.n_read >= math.prod(entries.shape)
    if error > DOUBTFUL and seen:
        cores, error = best_multiple(entries, cores, rng)
        passed = False
    if forward:
        left = tuple(prefixes[1:])
        right = tuple(own[:, ::-1] for own in one_sided(backward_cores(cores))[::-1])
    else:
        left, right = one_sided(cores), tuple(suffixes[:-1])
    return TensorTrain(tuple(cores), left, right, entries.n_read, float(error) if seen else 1.0, bool(passed and seen))


def best_multiple(entries, cores, rng):
    """The multiple of a train which fits fresh entries best, and its error on others: no farther off than zero is."""
    blocks = Blocks(entries, np.inf)
    look = looked(blocks, Train(cores), PROBES, 0, rng)
    shown, size = rescaled(look.shown)
    values, more = rescaled(look.values)
    multiple = np.vdot(shown, values).real / (np.linalg.norm(shown) ** 2 or 1) * 2.0 ** (more - size)
    cores = [*cores[:-1], cores[-1] * cores[-1].dtype.type(max(multiple, 0))]
    return cores, min(looked(blocks, Train(cores), PROBES, 0, rng).error(2), 1.0)


def half_sweep(blocks, ahead, most, cut, backward):
    """Cores and nested index sets from one end of the train to the other, given the sets ahead.

    Backward, all is done with the modes in the opposite order, so that there is but one algorithm.
    """
    d = len(blocks.shape)
    known, cores = [np.zeros((1, 0), np.intp)], []
    for n in range(d):
        if backward:
            mode = d - 1 - n
            block = blocks.between(ahead[mode], mode, known[-1][:, ::-1]).transpose(2, 1, 0)
        else:
            block = blocks.between(known[-1], n, ahead[n])
        if n == d - 1:
            cores.append(block)
            break
        r, length, s = block.shape
        limit = most[d - 2 - n] if backward else most[n]
        rows, core = interpolation(leading(block.reshape(r * length, s), cut, limit))
        cores.append(core.reshape(r, length, -1))
        known.append(np.column_stack([known[-1][rows // length], rows % length]))
    if backward:
        return backward_cores(cores), [own[:, ::-1] for own in known[::-1]]
    return cores, known


def leading(M, cut, most):
    """Left singular vectors, as many as leave at most the cut of the norm, one at least."""
    scale = float(np.abs(M).max(initial=0))
    if scale == 0:
        return np.eye(len(M), 1, dtype=M.dtype)
    U, s, _ = np.linalg.svd(M / scale, full_matrices=False)
    tails = np.sqrt(np.cumsum((s**2)[::-1])[::-1])
    return U[:, : min(max(int(np.count_nonzero(tails > cut * tails[0])), 1), most)]


def interpolation(U):
    """Rows of nearly the largest volume (Goreinov et al. 2010), and ``U @ inv(U[rows])``: at most 1.05 everywhere."""
    n, r = U.shape
    (getrf,) = linalg.get_lapack_funcs(("getrf",), (U,))
    factors, swaps, _ = getrf(U)
    order = np.arange(n)
    for i, j in enumerate(swaps[:r]):
        order[i], order[j] = order[j], order[i]
    rows = order[:r].copy()
    B = np.empty_like(U)
    B[rows] = np.eye(r, dtype=U.dtype)
    if n > r:
        (solve,) = linalg.get_blas_funcs(("trsm",), (U,))
        B[order[r:]] = solve(1, factors[:r], factors[r:], side=1, lower=1, diag=1)
    for _ in range(4 * r):
        i, j = divmod(int(np.abs(B).argmax()), r)
        if abs(B[i, j]) <= SWAPPED:
            break
        change = B[i].copy()
        change[j] -= 1
        B -= np.outer(B[:, j] / B[i, j], change)
        rows[j] = i
    return rows, B


def empty_sets(d):
    """No points, in the modes before each mode."""
    return [np.zeros((0, n), np.intp) for n in range(d)]


def joined_sets(sets, points, behind):
    """Index sets with the parts of points behind, or before, each mode; none of them twice."""
    parts = [points[:, n + 1 :] if behind else points[:, :n] for n in range(points.shape[1])]
    return [distinct(np.concatenate([own, part])) for own, part in zip(sets, parts, strict=True)]


def distinct(points):
    """Points without repetitions, in the order in which they come first."""
    first = {}
    for number, point in enumerate(np.ascontiguousarray(points)):
        first.setdefault(point.tobytes(), number)
    return points[list(first.values())]


def first_points(blocks, count, rng):
    """Points of large entries, climbed to from the largest of some, those themselves, and as many random ones."""
    places = np.stack(random_places(blocks.shape, PROBES, rng), axis=1)
    values = np.abs(blocks.at(places))
    largest = places[np.argsort(-values, kind="stable")[:STARTS]]
    found, _ = climbed(blocks, None, largest[:2], 1)
    more = np.stack(random_places(blocks.shape, count, rng), axis=1)
    return distinct(np.concatenate([found, largest, more]))


def looked(blocks, approximation, count, drawn, rng):
    """A `Look` at so many fresh entries, of which so many where the approximation is large, the others anywhere."""
    places, size = np.stack(random_places(blocks.shape, count - drawn, rng), axis=1), 0.0
    density = np.zeros(count - drawn)
    if drawn:
        more, chances, size = approximation.drawn(drawn, rng)
        places, density = np.concatenate([places, more]), np.append(density, chances)
    values, shown = blocks.at(places), approximation.at(places)
    gaps = np.abs(values - shown).astype(float)
    return Look(places, values, gaps, shown, density, size)


def gate_size(entries):
    """How many fresh entries a gate looks at, at least."""
    return min(max(entries.n_read // 2, PROBES), GATE)


def starts(entries, least):
    """How many points are climbed from: more, the more has been read, so that climbing reads a tenth."""
    return min(max(entries.n_read // (10 * sum(entries.shape)), least), 4 * least)


def fading(look):
    """Whether most entries from anywhere are zero, and no others were seen or such as are next to zero.

    Then it is for want of digits that they are zero, and what there is elsewhere cannot be climbed to.
    """
    values = np.abs(look.values[~look.drawn])
    seen = values[values > 0]
    return 2 * len(seen) < len(values) and (len(seen) == 0 or seen.min() < math.sqrt(np.finfo(values.dtype).tiny))


def likely(squares, margin):
    """The mean with so many of its standard errors added."""
    return squares.mean() + margin * squares.std() / math.sqrt(len(squares))


def sampled(cores, count, rng):
    """Points (p, N) drawn by the square modulus of a train's entries, none if all are 0; their root mean square.

    One mode after the other, given those before (Ferris, Vidal 2012).
    """
    reverse, exponent = orthogonalised(backward_cores(cores))
    first, more = rescaled(backward_cores(reverse)[0])
    size = float(np.linalg.norm(first))
    if size == 0:
        return np.zeros((0, len(cores)), np.intp), 0.0
    cores = [first / size, *backward_cores(reverse)[1:]]
    lengths = [core.shape[1] for core in cores]
    mean = np.log2(size) + exponent + more - sum(map(math.log2, lengths)) / 2
    points = np.empty((count, len(cores)), np.intp)
    widest = max(core.shape[1] * core.shape[2] for core in cores)
    step = max(2**20 // widest, 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        rows = np.ones((stop - start, 1), first.dtype)
        for n, core in enumerate(cores):
            ahead = (rows @ core.reshape(len(core), -1)).reshape(len(rows), *core.shape[1:])
            chosen = drawn_by(np.einsum("pnb,pnb->pn", ahead, ahead.conj()).real, rng)
            points[start:stop, n] = chosen
            rows = ahead[np.arange(len(rows)), chosen]
            norms = np.linalg.norm(rows, axis=1)
            rows = rows / np.where(norms > 0, norms, 1)[:, None]
    return points, float(np.exp2(mean))


def drawn_by(weights, rng):
    """An index for each row of weights (p, n), drawn by them."""
    chances = np.cumsum(weights, axis=1)
    marks = rng.random(len(weights)) * chances[:, -1]
    return np.minimum((chances <= marks[:, None]).sum(1), weights.shape[1] - 1)


def worst(look, count):
    """So many points: where the train is farthest from the entries, and where it misses the most of an entry, in turn.

    What it misses is at most the entry itself. So what rounding makes of an entry that is nearly zero does not count,
    nor does a digit lost of a large one: entries of a peak that the train does not know are first, however small.
    """
    sizes = np.abs(look.values)
    missed = np.where(np.abs(look.shown) < PLAINLY * sizes, np.minimum(look.gaps, sizes), 0)
    orders = (np.argsort(-key, kind="stable")[: (count + 1) // 2] for key in (look.gaps, missed))
    return distinct(look.places[np.stack(list(orders), axis=1).ravel()])[:count]


def climbed(blocks, approximation, points, rounds):
    """Points to which the distance of the approximation rises, one coordinate after the other; the distances.

    Of every other point what is missed of an entry, as in `worst`. Without an approximation, to large entries.
    """
    points = points.copy()
    numbers, gaps, known = np.arange(len(points)), np.zeros(len(points)), None
    for _ in range(rounds):
        shown = repeat(0.0) if approximation is None else approximation.lines(points)
        for n, length in enumerate(blocks.shape):
            line = [place[:, None] for place in points.T]
            line[n] = np.arange(length)[None, :]
            values = blocks.read(line)
            here = np.abs(values - next(shown))
            if known is not None:
                same_answers(known, values[numbers, points[:, n]], points)
            here[1::2] = np.minimum(here[1::2], np.abs(values[1::2]))
            gaps = here.max(1)
            points[:, n] = np.where(gaps > here[numbers, points[:, n]], here.argmax(1), points[:, n])
            known = values[numbers, points[:, n]]
    return points, gaps


def same_answers(first, second, points):
    """Raise if a function has given two answers for an entry, more than half of the digits apart."""
    far = np.abs(first - second) > np.sqrt(np.finfo(first.dtype).eps) * (np.abs(first) + np.abs(second))
    if far.any():
        n = int(far.argmax())
        got = f"{first[n]} and {second[n]} at {tuple(points[n].tolist())}"
        raise _validation.complain(ValueError, "X", "the same whenever it is read", got)


def one_sided(cores):
    """Nested index sets of modes 0 to n, for n from 0 to N - 2, of rows which hold the unfoldings of a train."""
    known, T, sets = np.zeros((1, 0), np.intp), np.ones((1, 1)), []
    for core in cores[:-1]:
        A = np.tensordot(T, core, 1)
        A, _ = rescaled(A.reshape(-1, core.shape[2]))
        rows, _ = interpolation(np.linalg.qr(A)[0])
        known = np.column_stack([known[rows // core.shape[1]], rows % core.shape[1]])
        sets.append(known)
        T = A[rows]
    return tuple(sets)


def train_source(X, shape, dtype, batch, vectorized):
    """What is read: a function of index arrays with a shape; or an array, by its entries."""
    if is_function(X):
        return FunctionEntries(indexed_function(X, shape, dtype, batch, vectorized, name="X", least=2))
    only_for_functions("X", shape, dtype, batch, vectorized)
    X = find_tensor(X, least=2)

    def at(*indices):
        common = np.broadcast_shapes(*(index.shape for index in indices))
        return X.at([np.broadcast_to(index, common).ravel() for index in indices]).reshape(common)

    entries = FunctionEntries(IndexedFunction(at, X.shape, X.dtype, BATCH, name="X"))
    entries.like = X.like
    return entries
