"""CUR of tensors: the public function, by ranks or to a tolerance."""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from curtensor import _validation
from curtensor.operands import find_tensor
from curtensor.operands.arithmetic import times_power
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.operands.entries import indexed_function, is_function, only_for_functions
from curtensor.results import in_kind, named
from curtensor.selection import chosen_rule
from curtensor.tensors.entries import ArrayEntries, FunctionEntries, StoreEntries
from curtensor.tensors.indices import KEPT, fibre_factor, mixed_fibres
from curtensor.tensors.methods import TENSOR_METHODS, TensorMethod
from curtensor.tensors.result import TensorCUR
from curtensor.tensors.tucker import auto_basis, sequential, tucker_parts
from curtensor.tensors.tucker_cross import GOOD, LARGEST_CORE, pivoted_slices, slice_numbers, small_enough

SAMPLES = 4  # slices of a mode, over its rank
DOUBTFUL = 0.8  # of the norm left: an interpolation could be worse than nothing
GROWTH = 1.5  # of the ranks of a function, and of a sketch's rows, while they are too few
STEP = 1.2  # of those of an array, at least, where what its sketch had promised was not held
FEWEST = 2  # for a tolerance: slices of rank 1 interpolate badly
ENOUGH = 0.8  # of the rows of a sketch, that a rank in its mode may be
MARGIN = 0.8  # of rtol, that a truncated HOSVD of the sketch is to have
CLOSER = 0.95  # of the error that would do, from what the last try has shown
SURELY = 1.1  # times rtol, from which on the sketch's error is believed
ALL = 4400  # entries of a function, which are read once


def tensor_cur(
    X: Any | Callable,
    /,
    ranks: int | _validation.Integers | None = None,
    *,
    rtol: float | None = None,
    n_samples: int | _validation.Integers | None = None,
    method: str | Callable = "auto",
    selection: str | Callable = "osinsky",
    core: str | Callable = "intersection",
    shape: _validation.Integers | None = None,
    dtype: Any = None,
    batch: int | None = None,
    vectorized: bool = True,
    max_sweeps: int = 8,
    rng: _validation.RandomSource = None,
    callback: Callable[[float], object] | None = None,
) -> TensorCUR:
    """Approximate a tensor by a sub-tensor of it and a factor for each mode.

    ``X`` is close to ``core x_0 factors[0] x_1 factors[1] ...`` with ``core = X[np.ix_(*indices)]`` and
    ``factors[n] = C_n U_n^+``: C_n holds fibres of mode n, U_n their entries in the chosen slices of that mode.

    Parameters
    ----------
    X : array of any framework or store, sparse array, DataArray or callable, shape (d_0, ..., d_{N-1})
        Real or complex, with two modes or more; integers and bool are taken as float64. Coordinates and dimensions of
        an xarray DataArray are kept as names. A callable is given one integer array for each mode, its own to change,
        which broadcast to a common shape, and returns the entries there in that shape.
    ranks : int or sequence of int, optional
        Target multilinear rank, 1 to the length of each mode; an int is meant for every mode that is as long. One above
        the product of the others counts as that product, the most there can be. Exactly one of `ranks` and `rtol` is
        given.
    rtol : float, optional
        Largest ``||X - approximation||_F / ||X||_F`` wanted, 64 times the dtype's epsilon to below 1: held for every
        entry of an array, or an error; for a function on probes which the choice has not seen.
    n_samples : int or sequence of int, optional
        Chosen slices of each mode, `ranks` to its length; 4 `ranks` by default, of a function fewer where that
        makes a large sub-tensor.
    method : str or callable, default "auto"
        "chidori" reads all fibres through the chosen slices of the other modes, and works on random combinations of
        them, "fiber" the best of these and of random ones, "cross" chooses slices by fibres in sweeps and reads nothing
        else; "auto" is "chidori" for an array and "cross" for a callable.
    selection : str or callable, default "osinsky"
        Rule for slices and fibres, one of `curtensor.selection.SELECTION_RULES`, or such a function; "uniform" is that
        of [1]_. In other functions this is the `method`, which is the algorithm here.
    core : "intersection", "projection" or callable, default "intersection"
        The sub-tensor itself, with interpolating factors, or the best core for orthonormal ones: one more pass over an
        array, not to be had of a function.
    shape : sequence of int, optional
        Lengths of the modes where X is callable, and only then.
    dtype : dtype, optional
        Of a function's values; by default that of its first.
    batch : int, optional
        Entries that a function is asked for in one call at most, by default 262144.
    vectorized : bool, default True
        Whether a function takes index arrays; else it is called with N integers for each entry.
    max_sweeps : int, default 8
        Sweeps of "cross" at most, 1 or more.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.
    callback : callable, optional
        Called with the fraction of the sweeps done, a float from 0 to 1.

    Returns
    -------
    result : TensorCUR
        Unpacks to ``core, factors``. Its `error_estimate` is for an array what a random sketch of the longest mode
        shows of the error, in which every entry has its share; for a function the larger of the relative root mean
        square errors on two kinds of fresh entries, anywhere and where the approximation is large, with two standard
        errors added: what neither meets, such as one entry unlike all others, no estimate can show. Where all of these
        are zero it is 1, and `converged` is False.

    Raises
    ------
    TypeError
        If X is no array of numbers and no callable, or another argument of the wrong kind.
    ValueError
        If X has fewer than two modes, is empty or not finite; if a callable comes without a shape, an array with one,
        or the callable's values are not finite or of another shape; if not exactly one of `ranks` and `rtol` is given;
        if a number is out of range; if `rtol` cannot be reached, or nothing but zeros is seen of a function; if the
        sub-tensor of a function would have more than 4194304 entries, as of many variables: `tt_cross` is the form for
        these; if an entry is another one when asked for again. What the callable itself raises comes through.

    Notes
    -----
    Array: one pass, for the sketch, besides reading fibres: O(size(X) r) operations. Memory beside the result, in any
    order of the array in memory: the sketch of the longest mode d, which is (r + 10) / d of X or a tenth, whichever is
    more, and about as much again in pieces and thin factors; up to twice X below a million entries; a copy of X where
    squares of its entries would overflow or vanish. The choice follows from the data and the seed alone, whatever
    their order in memory and kind of store, ties of symmetric tensors apart.

    With `rtol` about twice as many operations as with the ranks found: the sketch, which grows by what it lacks, tells
    the ranks, and one more pass the error; seldom a second try. Ranks of a mode may then be above the product of the
    others; factors twice as wide are what holds the tolerance.

    Function, by "auto" and "cross": fibres through pivots and through the slices chosen before, and the sub-tensor of
    the slices, are read in sweeps, O(N d r) entries and those of the sub-tensor each. After every sweep the
    approximation is compared with fresh entries; the worst of them, and points climbed to from these by coordinates,
    are the next pivots. The last comparison is with as many as half of what was read, up to 4000. Slices are 4 `ranks`
    where the sub-tensor then has no more than four times as many entries as the fibres, and `ranks` + 1 at least. Up to
    4194304 entries of X each is asked for once, but one to see whether it is the same again; X is read whole where that
    is less, and up to 4400 entries, and treated as an array then.

    HDF5, zarr or dask by "cross": each chunk once where all of them fit into 128 MiB; in larger stores random places
    are taken from few chunks, and sweeps end, not converged, before 3.5 times the chunks have been read.

    The factors are cut to twice the rank, so that the approximation has a multilinear rank of up to 2 r: it can be
    better than a truncated HOSVD of rank r, and holds more numbers; `TensorCUR.to_tucker` cuts it to r.

    Exact if the rank of each U_n is the multilinear rank ([1]_, Theorem 3.3). The pseudo-inverse is never formed.

    References
    ----------
    .. [1] H. Cai, K. Hamm, L. Huang, D. Needell, "Mode-wise tensor decompositions: multi-dimensional generalizations of
       CUR decompositions", J. Mach. Learn. Res. 22(185), 2021.
    .. [2] I. V. Oseledets, D. V. Savostianov, E. E. Tyrtyshnikov, "Tucker dimensionality reduction of three-dimensional
       arrays in linear time", SIAM J. Matrix Anal. Appl. 30(3), 2008.
    .. [3] R. Minster, A. K. Saibaba, M. E. Kilmer, "Randomized algorithms for low-rank tensor decompositions in the
       Tucker format", SIAM J. Math. Data Sci. 2(1), 2020.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> i, j, k = np.ogrid[:30, :40, :50]
    >>> X = 1 / (1.0 + i + j + k)
    >>> result = ct.tensor_cur(X, 4, rng=0)
    >>> core, factors = result
    >>> bool((core == X[np.ix_(*result.indices)]).all())
    True
    >>> bool(np.linalg.norm(X - result.to_array()) < 1e-5 * np.linalg.norm(X))
    True
    >>> implicit = ct.tensor_cur(lambda i, j, k: 1 / (1.0 + i + j + k), 4, shape=(3000, 3000, 3000), rng=0)
    >>> implicit.converged, implicit.error_estimate < 0.05, implicit.n_entries_read < 1e6
    (True, True, True)
    """
    choose = _validation.choose(TENSOR_METHODS, method, "method", TensorMethod)
    middle_of = _validation.choose(TENSOR_CORES, core, "core", TensorCore)
    entries = entries_of(X, shape, dtype, batch, vectorized, only_some=choose.sees == middle_of.sees == "entries")
    ranks, rtol = _validation.ranks_or_rtol(ranks, rtol, entries.shape, entries.dtype)
    _validation.only_without(n_samples is not None, "n_samples", ranks is None, "rtol")
    rule = chosen_rule(selection, "selection", entries=False)
    _validation.only_without(
        middle_of.sees == "tensor", f"core={_validation.describe(core)}", is_function(X), "a function"
    )
    max_sweeps = _validation.integer(max_sweeps, "max_sweeps", 1, 1000)
    rng = _validation.generator(rng)
    callback = _validation.callback_function(callback)

    if ranks is not None:
        ranks = _validation.possible_ranks(_validation.multilinear_ranks(ranks, entries.shape))
    if is_function(X) and choose.by_pivots:
        sizes = None if n_samples is None else sample_sizes(n_samples, ranks, entries.shape, SAMPLES)
        sweeps = reported(max_sweeps, callback)
        result = function_by_pivots(entries, ranks, sizes, rtol, rule, middle_of, sweeps, rng)
        if result is not None:
            return named(result, X)
        entries = ArrayEntries(DenseTensor(entries.read(np.ix_(*map(np.arange, entries.shape)))))

    def attempt(ranks, sizes):
        sweeps = reported(max_sweeps, callback)
        return approximate(entries, ranks, sizes, choose, rule, middle_of, sweeps, rng)

    if ranks is not None:
        result = attempt(ranks, sample_sizes(n_samples, ranks, entries.shape, SAMPLES))
    else:
        result = smallest_ranks(entries, attempt, rtol, rng)
    if is_function(X) and entries.whole:
        result = replace(result, n_entries_read=math.prod(entries.shape))
    return named(in_kind(result, entries), X)


def entries_of(X, shape, dtype, batch, vectorized, only_some):
    """What reads X: an array, or a function with a shape; a store is one, too, where only some entries are wanted."""
    if is_function(X):
        return FunctionEntries(indexed_function(X, shape, dtype, batch, vectorized, name="X", least=2))
    only_for_functions("X", shape, dtype, batch, vectorized)
    X = find_tensor(X, least=2)
    return StoreEntries(X) if only_some and not X.in_memory else ArrayEntries(X)


def reported(count, callback):
    """Numbers below the count, each reported as done when the next is asked for."""
    for i in range(count):
        callback(i / count)
        yield i


def function_by_pivots(entries, ranks, sizes, rtol, rule, core, sweeps, rng):
    """The tensor CUR of a function by pivots; None where reading all of it is less."""
    if math.prod(entries.shape) <= ALL:
        return None
    if sizes is not None:
        small_enough(sizes, "n_samples", sizes)
    elif ranks is not None:
        sizes = slice_numbers(ranks, entries.shape, "ranks", ranks)
    chosen = pivoted_slices(entries, ranks, sizes, rtol, rule, core, sweeps, rng)
    if chosen is None:
        return None
    middle, factors, indices, error, passed = chosen
    if not entries.seen:
        error = 1.0
    elif error > DOUBTFUL:
        factors[0] = factors[0] * entries.best_multiple(middle, factors, rng)
        error = entries.error(middle, factors, indices, rng)
    if rtol is not None and not (passed and entries.seen):
        raise beyond_reach(entries, rtol, error)
    middle = times_power(middle, -entries.exponent)
    return TensorCUR(middle, tuple(factors), tuple(indices), entries.n_read, error, bool(passed and entries.seen))


def beyond_reach(entries, rtol, error):
    """What to raise where a tolerance is not held."""
    if not entries.seen:
        what = "other than zero at some of the entries sampled, where rtol is given"
        return _validation.complain(ValueError, "X", what, f"{entries.n_read} zeros")
    return _validation.complain(ValueError, "rtol", f"at least {error:.2g} for this X", rtol)


def approximate(entries, ranks, sizes, method, rule, core, sweeps, rng):
    """The tensor CUR of given ranks."""
    chosen = method(entries, ranks, sizes, rule, rng, sweeps)
    factors = [
        fibre_factor(mixed_fibres(entries, mode, places, sizes[mode], rng), chosen.indices[mode], ranks[mode])
        for mode, places in enumerate(chosen.places)
    ]
    middle, factors = core(entries, chosen.indices, factors)
    error = entries.error(middle, factors, chosen.indices, rng)
    if error > DOUBTFUL and not core.best:
        factors[0] = factors[0] * entries.best_multiple(middle, factors, rng)
        error = entries.error(middle, factors, chosen.indices, rng)
    good = error <= GOOD * chosen.tail + 64 * np.finfo(entries.dtype).eps
    middle = times_power(middle, -entries.exponent)
    settled = bool(chosen.settled and good)
    return TensorCUR(middle, tuple(factors), tuple(chosen.indices), entries.n_read, error, settled)


@dataclass(frozen=True)
class TensorCore:
    """A core of a tensor CUR: its function, and what it needs. A bare function is ``TensorCore(function)``.

    Attributes
    ----------
    function : callable
        ``(entries, indices, factors)`` to the core and the factors that go with it.
    sees : "entries" or "tensor", default "entries"
        Some entries, or all of an array: then it is not to be had of a function.
    best : bool, default False
        Whether no other core leaves less of X, so that no multiple of it is tried.
    """

    function: Callable
    sees: Literal["entries", "tensor"] = "entries"
    best: bool = False

    def __call__(self, entries: Any, indices: Any, factors: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        """The core and the factors, checked, since they may come from a user's function."""
        made = _validation.several(self.function(entries, indices, factors), "what core gives", "a core and factors")
        if len(made) != 2:
            raise _validation.complain(ValueError, "what core gives", "a core and factors", f"{len(made)} parts")
        core, factors = tucker_parts(*made)
        lengths = tuple(factor.shape[0] for factor in factors)
        if lengths != tuple(entries.shape):
            raise _validation.complain(ValueError, "factors", f"of lengths {tuple(entries.shape)}", lengths)
        return core.whole(), factors


def subtensor_core(entries, indices, factors):
    """The sub-tensor of the chosen slices."""
    return entries.at(np.ix_(*indices)), factors


def projected_core(entries, indices, factors):
    """The best core for the factors' spans, by one more pass over the array."""
    factors = [np.linalg.qr(factor)[0] for factor in factors]
    return entries.projected(factors), factors


TENSOR_CORES = {
    "intersection": TensorCore(subtensor_core),
    "projection": TensorCore(projected_core, sees="tensor", best=True),
}


def smallest_ranks(entries, attempt, rtol, rng):
    """A result whose error, seen on what the choice has not, is at most rtol.

    Of a function by whole decompositions of growing ranks; of an array at once at those that its sketch shows to do.
    """
    ranks, wanted = (1,) * len(entries.shape), MARGIN * rtol
    while True:
        ranks = larger_ranks(entries, ranks, wanted, rng)
        sizes = tuple(min(SAMPLES * r, length) for r, length in zip(ranks, entries.shape, strict=True))
        result = attempt(ranks, sizes)
        error = result.error_estimate
        if error <= SURELY * rtol or not entries.whole:  # above, every entry says no other
            core = times_power(result.core, entries.exponent)
            error = entries.true_error(core, result.factors, result.indices, rng)
        if error <= rtol:
            return replace(result, error_estimate=error, converged=True)
        if not entries.seen or exhausted(entries, ranks) or math.prod(sizes) > LARGEST_CORE:
            raise beyond_reach(entries, rtol, error)
        wanted *= CLOSER * rtol / error


def larger_ranks(entries, ranks, wanted, rng):
    """The ranks to try after some: of an array those whose factors, `KEPT` times as wide, span what is wanted."""
    if not entries.whole:
        rank = math.ceil(GROWTH * max(ranks))
        return _validation.possible_ranks(min(rank, length) for length in entries.shape)
    spans = wanted_spans(entries, max(wanted, 32 * np.finfo(entries.dtype).eps), max(ranks), rng)
    fewest = [min(FEWEST, length) for length in entries.shape]
    found = [max(math.ceil(span / KEPT), few) for span, few in zip(spans, fewest, strict=True)]
    if max(ranks) > 1:  # what was promised before has not been held
        least = [min(math.ceil(STEP * rank), length) for rank, length in zip(ranks, entries.shape, strict=True)]
        found = map(max, found, least)
    return tuple(found)


def exhausted(entries, ranks):
    """Whether larger ranks would show no more of the tensor."""
    if entries.whole:
        return all(KEPT * rank >= length for rank, length in zip(ranks, entries.shape, strict=True))
    return ranks == _validation.possible_ranks(entries.shape)


def wanted_spans(entries, wanted, rank, rng):
    """Ranks of a truncated HOSVD of a wanted error, seen on a sketch whose rows grow until they show them."""
    while True:
        sketch = entries.sketch(rank, rng)
        mode, rows = entries.sketched_mode, sketch.shape[entries.sketched_mode]
        if rows == entries.shape[mode]:
            return sequential(sketch, None, wanted, auto_basis, rng, 1).ranks
        spans = sequential(sketch, None, wanted, partial(unsketched_basis, mode), rng, 1).ranks
        if spans[mode] <= ENOUGH * rows:
            return spans
        rank = math.ceil(GROWTH * rows)


def unsketched_basis(sketched_mode, X, mode, rank, rtol, rng):
    """`auto_basis`, and in the sketched mode the shares that are lost of the tensor itself.

    Vectors fitted to few rows leave less of them than of what the rows are of: of l rows of noise r vectors leave
    1 - r / l.
    """
    found = auto_basis(X, mode, rank, rtol, rng)
    if mode != sketched_mode:
        return found
    count, rows = len(found.shares), X.shape[mode]
    losses = found.losses / (1 - np.minimum(np.arange(count + 1), rows - 1) / rows)
    return found._replace(shares=-np.diff(losses), rest=losses[-1])


def sample_sizes(n_samples, ranks, shape, times) -> tuple[int, ...]:
    """Numbers of slices of each mode, from the rank to the length; a few times the rank where not given."""
    if n_samples is None:
        return tuple(min(times * rank, length) for rank, length in zip(ranks, shape, strict=True))
    if isinstance(n_samples, numbers.Integral):
        n_samples = [
            min(_validation.integer(n_samples, "n_samples", max(ranks), max(shape)), length) for length in shape
        ]
    sizes = _validation.several(n_samples, "n_samples", f"an integer or a sequence of {len(shape)} integers")
    if len(sizes) != len(shape):
        raise _validation.complain(
            ValueError, "n_samples", f"of length {len(shape)}, one for each mode", _validation.describe(n_samples)
        )
    return tuple(
        _validation.integer(size, f"n_samples[{n}]", rank, length)
        for n, (size, rank, length) in enumerate(zip(sizes, ranks, shape, strict=True))
    )
