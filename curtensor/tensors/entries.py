"""What can be read of a tensor: an array, whole or by entries, or a function of index arrays, by entries only."""

import math

import numpy as np

from curtensor import _validation
from curtensor.unfolding import memory_order, mode_product, mode_products

PROBES = 2000  # entries of a function looked at for its error, in each of three kinds
SPARE = 10  # rows of the sketch beyond the rank, where that is more than twice the rank


class ArrayEntries:
    """Entries of an array, and a sketch of it in the mode whose slices lie farthest apart in memory.

    Attributes
    ----------
    shape, dtype
        The tensor's, with the dtype to compute in.
    n_read : int
        Entries read so far.
    norm : float
        Frobenius norm.
    sketched_mode : int
        The mode which the sketch contracts.
    """

    def __init__(self, X):
        self.X = X
        self.shape = X.shape
        self.dtype = _validation.array_dtype(X.dtype)
        self.sketched_mode = memory_order(X)[0]
        self.norm = norm(X)
        self.n_read = X.size
        self._test_matrix = np.zeros((0, X.shape[self.sketched_mode]), self.dtype)

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode."""
        values = self.X[tuple(indices)].astype(self.dtype, copy=False)
        self.n_read += values.size
        return values

    def sketch(self, rank, rng):
        """X with the sketched mode contracted to some random combinations of its slices; X itself where it is short."""
        length = self.shape[self.sketched_mode]
        size = max(2 * rank, rank + SPARE)
        if size >= length:
            self._test_matrix = np.eye(length, dtype=self.dtype)
            self._sketch = self.X.astype(self.dtype, copy=False)
        elif size > len(self._test_matrix):
            self._test_matrix = (rng.standard_normal((size, length)) / np.sqrt(size)).astype(self.dtype)
            self._sketch = mode_product(self.X, self._test_matrix, self.sketched_mode)
            self.n_read += self.X.size
        return self._sketch

    def error(self, core, factors, indices, rng):
        """Relative error as the sketch shows it, in which every entry has its share."""
        sketch = self.sketch(0, rng)
        factors = list(factors)
        factors[self.sketched_mode] = self._test_matrix @ factors[self.sketched_mode]
        return float(np.linalg.norm(sketch - mode_products(core, dict(enumerate(factors))))) / (self.norm or 1)

    def true_error(self, core, factors, indices, rng):
        """Relative error of every entry."""
        self.n_read += self.X.size
        rest = norm(self.X - mode_products(core, dict(enumerate(factors))))
        return rest / (self.norm or 1)

    def projected(self, factors):
        """Core of the best approximation with orthonormal factors."""
        self.n_read += self.X.size
        return mode_products(self.X, {mode: Q.conj().T for mode, Q in enumerate(factors)})


class FunctionEntries:
    """Entries of a function of index arrays.

    Attributes
    ----------
    shape, dtype, n_read
        As for `ArrayEntries`; the dtype is that of the function's values.
    """

    def __init__(self, function, shape):
        self.function = function
        self.shape = shape
        self.n_read = 0
        first = np.asarray(function(*(np.zeros(1, dtype=np.intp) for _ in shape)))
        self.dtype = _validation.array_dtype(first.dtype, "X(*indices)")

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode."""
        values = _validation.function_values(self.function(*indices), indices, self.dtype)
        self.n_read += values.size
        return values

    def error(self, core, factors, indices, rng):
        """The largest of the relative errors on some kinds of random entries, none of them read for the choice.

        Kinds: anywhere; in the gaps between chosen slices; in the chosen slices of each mode in turn.
        """
        anywhere = random_places(self.shape, PROBES, rng)
        kinds = [anywhere, between(indices, self.shape, PROBES, rng)]
        for mode, I in enumerate(indices):
            kinds.append([*anywhere[:mode], rng.choice(I, PROBES), *anywhere[mode + 1 :]])
        errors = []
        for places in kinds:
            values = self.at(places)
            rest = np.linalg.norm(values - tucker_entries(core, factors, places))
            errors.append(float(rest / (np.linalg.norm(values) or 1)))
        return max(errors)


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


def tucker_entries(core, factors, places):
    """Entries of a Tucker tensor at tuples of indices, one array (p,) for each mode."""
    values = (factors[0][places[0]] @ core.reshape(len(core), -1)).reshape(-1, *core.shape[1:])
    for factor, place in zip(factors[1:], places[1:], strict=True):
        values = np.einsum("pi,pi...->p...", factor[place], values)
    return values


def norm(X):
    """Frobenius norm; raises where X is not finite."""
    square = 0.0
    for panel in _panels(X):
        square += float(np.vdot(panel, panel).real)
    if not math.isfinite(square):
        _validation.finite_tensor(X)
    return math.sqrt(square)


def _panels(X):
    """Contiguous pieces of a tensor in the dtype to compute in, at most of about 16 megabytes where copied."""
    kind = _validation.array_dtype(X.dtype)
    X = X.transpose(memory_order(X))
    if X.flags.c_contiguous and X.dtype == kind:
        yield X.reshape(-1)
        return
    step = max(1, 2**24 * len(X) // (X.size * kind.itemsize))
    for start in range(0, len(X), step):
        yield np.ascontiguousarray(X[start : start + step], dtype=kind).reshape(-1)
