"""What can be read of a tensor: an array, whole or by entries, or a function of index arrays, by entries only."""

import math

import numpy as np

from curtensor import _validation
from curtensor.operands.arithmetic import times_power
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.operands.entries import checked_values
from curtensor.operands.stored_tensor import BOX_BYTES, Recent

PROBES = 10000  # entries of a function looked at for its error, of each kind
PASSES = 3.5  # times its chunks that are read of a store for single entries
KEPT_ENTRIES = 2**26  # bytes of the entries kept where the chunks cannot be
SPARE = 10  # rows of the sketch beyond the rank, at least
SMALL = 2**20  # entries of a tensor whose sketch may be as large as itself
SHARE = 10  # the sketch of a larger one is at most so small a part of it, as far as the rank allows
TUPLES = 128  # entries of a Tucker tensor formed at a time, to stay in the cache: twice as fast, a kernel is slower
HELD = 2**22  # numbers held for them at most, or for one of them
SKETCH_WORK = 10**9  # products which a sketch of up to four times the rank may cost


class Entries:
    """What any tensor's entries can be asked, whether reading them is dear or not."""

    whole = False  # whether all of X can be read at once, so that there is a sketch
    exponent = 0  # of the power of two by which entries are multiplied
    seen = True
    seen_anywhere = True  # the error, on entries from everywhere and not from a few chunks alone

    def few(self, places, mode, rng):
        """Numbers of those of some random places, or of the fibres of a mode through them, that are to be read: all."""
        return np.arange(len(places[0]))

    def afford(self, sweeps):
        """Whether another sweep, like so many before, may be read: always."""
        return True

    def like(self, array):
        """An array of NumPy as the user expects what is made of X: itself."""
        return array


class ArrayEntries(Entries):
    """Entries of a tensor that can be read whole, and a sketch of it in its longest mode, the first of these.

    Attributes
    ----------
    X : curtensor.operands.contract.Tensor
        The tensor, times a power of two where squares of its entries would overflow or vanish.
    exponent : int
        That power.
    shape, dtype
        The tensor's, with the dtype to compute in.
    n_read : int
        Entries read so far.
    sketched_mode : int
        The mode which the sketch contracts.
    """

    whole = True

    def __init__(self, X):
        self.X = X
        self.exponent = 0
        self.shape = X.shape
        self.dtype = X.dtype
        self.sketched_mode = int(np.argmax(X.shape))
        self.n_read = 0
        self._test_matrix = np.zeros((0, X.shape[self.sketched_mode]), self.dtype)

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode, each along the last axis or along all others."""
        values = self.X.at(indices)
        self.n_read += values.size
        return values

    def fibres_at_once(self, mode):
        """How many fibres of a mode to read at a time."""
        return max(self.X.fibre_bytes // (self.shape[mode] * self.dtype.itemsize), 1)

    def like(self, array):
        """An array of NumPy in the kind of X."""
        return self.X.like(array)

    def sketch(self, rank, rng):
        """X with the sketched mode contracted to some random combinations of its slices; X itself where it is short.

        Raises where X is not finite.
        """
        length = self.shape[self.sketched_mode]
        room = length if self.X.size <= SMALL else length // SHARE
        size = max(rank + SPARE, min(max(2 * rank, SKETCH_WORK // self.X.size), 4 * rank + 20, room))
        before = len(self._test_matrix)
        if min(size, length) <= before:
            return self._sketch
        self.n_read += self.X.size
        if size >= length:
            self._test_matrix = np.eye(length, dtype=self.dtype)
            self._sketch = self.X.host()
        elif before:  # grown by the rows that it lacks
            shrunk, more = np.sqrt(before / size), self._random_rows(size - before, size, rng)
            rows = self.X.mode_product(more, self.sketched_mode).host().whole()
            rows = np.concatenate([shrunk * self._sketch.whole(), rows], axis=self.sketched_mode)
            self._test_matrix = np.concatenate([shrunk * self._test_matrix, more]).astype(self.dtype, copy=False)
            self._sketch = DenseTensor(rows.astype(self.dtype, copy=False))
            return self._sketch
        else:
            self._test_matrix = self._random_rows(size, size, rng)
            self._sketch = self.X.mode_product(self._test_matrix, self.sketched_mode).host()
        exponent = scaling(self.X, self._sketch)
        if exponent:
            self.X, self.exponent = times_power(self.X, exponent), self.exponent + exponent
            self._sketch = self.X.mode_product(self._test_matrix, self.sketched_mode).host()
        return self._sketch

    def _random_rows(self, count, size, rng):
        """Some rows of a test matrix of `size` rows."""
        return (rng.standard_normal((count, self.shape[self.sketched_mode])) / np.sqrt(size)).astype(self.dtype)

    def error(self, core, factors, indices, rng):
        """Relative error as the sketch shows it, in which every entry has its share."""
        sketch = self.sketch(0, rng)
        factors = list(factors)
        factors[self.sketched_mode] = self._test_matrix @ factors[self.sketched_mode]
        return relative_residual(sketch, core, factors)

    def true_error(self, core, factors, indices, rng):
        """Relative error of every entry."""
        self.n_read += self.X.size
        return relative_residual(self.X, core, factors)

    def projected(self, factors):
        """Core of the best approximation with orthonormal factors, part by part."""
        self.n_read += self.X.size
        return self.X.projected(factors)

    def best_multiple(self, core, factors, rng):
        """The factor by which an approximation fits X best, from every entry: never farther from X than zero is."""
        triangles = [np.linalg.qr(factor, mode="r") for factor in factors]
        square = DenseTensor(core).mode_products(dict(enumerate(triangles))).norm() ** 2
        return max(float(np.vdot(core, self.projected(factors)).real), 0) / (square or 1)


class FunctionEntries(Entries):
    """Entries of a function of index arrays.

    Attributes
    ----------
    function : curtensor.operands.entries.IndexedFunction
        What is asked.
    exponent, shape, dtype, n_read
        As for `ArrayEntries`; the power is that of the first entries seen, the dtype that of the function's values.
    seen : bool
        Whether an entry other than zero has been.
    """

    def __init__(self, function):
        self.function, self.shape, self.dtype = function, function.shape, function.dtype
        self.exponent, self.seen = 0, False

    @property
    def n_read(self):
        """Entries read so far."""
        return self.function.n_read

    def read(self, indices):
        """Entries as they are at broadcastable index arrays."""
        return self.function.at(*indices)

    def check_again(self, look):
        """Ask once more for the largest of the entries looked at; raise if it is another one."""
        largest = np.abs(look.values).argmax()
        value = times_power(look.values[largest], -self.exponent)
        slack = math.sqrt(np.finfo(self.dtype).eps) * abs(value)
        self.function.check_again(value, slack, *look.places[largest].tolist())

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode, times a power of two."""
        values = self.read(indices)
        if not self.seen and values.any():
            size, limits = int(np.frexp(np.abs(values).max())[1]), np.finfo(self.dtype)
            self.seen, self.exponent = True, -size if abs(size) > limits.maxexp // 4 else 0
        return times_power(values, self.exponent)

    def fibres_at_once(self, mode):
        """How many fibres of a mode to read at a time."""
        return max(BOX_BYTES // (self.shape[mode] * self.dtype.itemsize), 1)

    def error(self, core, factors, indices, rng):
        """The largest of the relative errors on some kinds of random entries, none of them read for the choice.

        Each with two standard errors added, since few entries may hold most of it. Kinds: anywhere; in the gaps between
        chosen slices; next to chosen slices; in those of each mode in turn. Where all of them are zero nothing of X
        has been seen: then 1, the error that a zero approximation has of any other X.
        """
        anywhere = random_places(self.shape, PROBES, rng)
        kinds = [anywhere, between(indices, self.shape, PROBES, rng), near_slices(indices, self.shape, PROBES, rng)]
        for mode, I in enumerate(indices):
            kinds.append([*anywhere[:mode], rng.choice(I, PROBES), *anywhere[mode + 1 :]])
        places, kind = np.concatenate(kinds, axis=1), np.repeat(np.arange(len(kinds)), PROBES)
        few = self.few(places, None, rng)
        places, kind = list(places[:, few]), kind[few]
        values = self.at(places)
        largest = float(np.abs(values).max())
        if largest == 0:
            return 1.0
        residuals = np.abs((values - tucker_entries(core, factors, places)) / largest) ** 2
        sizes = np.abs(values / largest) ** 2
        errors = []
        for here in (kind == k for k in np.unique(kind)):
            likely = residuals[here].mean() + 2 * residuals[here].std() / np.sqrt(np.count_nonzero(here))
            errors.append(float(np.sqrt(likely / (sizes[here].mean() or 1))))
        return max(errors)

    true_error = error

    def best_multiple(self, core, factors, rng):
        """The factor by which an approximation fits random entries best."""
        places = random_places(self.shape, PROBES, rng)
        few = self.few(places, None, rng)
        places = [place[few] for place in places]
        values, shown = self.at(places), tucker_entries(core, factors, places)
        largest = np.abs(shown).max() or 1
        values, shown = values / largest, shown / largest
        return max(float(np.vdot(shown, values).real), 0) / (np.linalg.norm(shown) ** 2 or 1)


class StoreEntries(FunctionEntries):
    """Entries of a store, of which about `PASSES` times as many chunks are read as it has, and not more.

    Where the chunks cannot all be kept, random places are taken from few of them, and entries read before are kept.
    """

    n_read = 0

    def __init__(self, X):
        super().__init__(X)
        self.X, self._before = X, Recent(KEPT_ENTRIES)

    def read(self, indices):
        """Entries as they are at broadcastable index arrays."""
        values = self.X.at(indices)
        self.n_read += values.size
        return checked_values(values, indices, values.shape, self.dtype, "X")

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode."""
        if self.X.can_be_kept:
            return super().at(indices)
        key = tuple((index.shape, index.tobytes()) for index in indices)
        values = self._before.get(key)
        return self._before.put(key, super().at(indices)) if values is None else values

    @property
    def seen_anywhere(self):
        """Whether errors are seen on entries from everywhere."""
        return self.X.can_be_kept

    def few(self, places, mode, rng):
        """Numbers of those of some random places, or of the fibres of a mode through them, that lie in few chunks."""
        return self.X.in_few_chunks(places, mode, rng)

    def afford(self, sweeps):
        """Whether another sweep, like so many before, stays below the passes allowed."""
        return self.X.n_chunks_read * (1 + 1 / sweeps) <= PASSES * self.X.n_chunks


def relative_residual(X, core, factors):
    """``||X - approximation|| / ||X||``."""
    rest, size = X.residual(core, factors)
    return rest / (size or 1)


def random_places(shape, count, rng):
    """Places drawn uniformly, as an array (count,) for each mode."""
    return [rng.integers(0, length, count) for length in shape]


def between(indices, shape, count, rng):
    """Places from the gaps between chosen slices, all gaps alike: most where the slices are close together."""
    places = []
    for I, length in zip(indices, shape, strict=True):
        edges = np.unique(np.concatenate([[0], I, [length]]))
        gaps = rng.integers(0, len(edges) - 1, count)
        places.append(rng.integers(edges[gaps], edges[gaps + 1]))
    return places


def near_slices(indices, shape, count, rng):
    """Places at most two from a chosen slice in every mode."""
    return [
        np.clip(rng.choice(I, count) + rng.integers(-2, 3, count), 0, length - 1)
        for I, length in zip(indices, shape, strict=True)
    ]


def tucker_entries(core, factors, places):
    """Entries of a Tucker tensor at tuples of indices, one array (p,) for each mode."""
    pieces, step = [], tuples_at_once(core.size // len(core))
    for start in range(0, len(places[0]), step):
        first, *others = [place[start : start + step] for place in places]
        values = (factors[0][first] @ core.reshape(len(core), -1)).reshape(-1, *core.shape[1:])
        for factor, place in zip(factors[1:], others, strict=True):
            columns = values.reshape(*values.shape[:2], -1)
            values = np.matmul(factor[place][:, None], columns).reshape(len(values), *values.shape[2:])
        pieces.append(values)
    return np.concatenate(pieces)


def tuples_at_once(size):
    """For how many entries of a Tucker tensor to hold so many numbers each."""
    return max(min(TUPLES, HELD // size), 1)


def scaling(X, sketch):
    """The power of two which brings X to where squares neither overflow nor vanish: 0 where it is there."""
    bound = float(np.finfo(sketch.dtype).max) ** (5 / 8)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        size = sketch.norm()
    if 1 / bound < size**2 < bound or (size == 0 and sketch.largest() == 0):
        return 0
    _validation.found_finite(X.first_nonfinite(), "X")
    return -int(np.frexp(X.largest())[1])
