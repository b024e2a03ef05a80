"""Functions of index arrays: data whose entries are known one by one, whatever an entry costs."""

import math

import numpy as np

from curtensor import _validation
from curtensor.operands import on_host
from curtensor.operands.dense_tensor import plain_array
from curtensor.operands.sources import dtype_asked_for

BATCH = 2**18  # entries asked for in one call by default: what a function computes on its way stays in the cache
REMEMBERED = 2**22  # entries of the largest matrix or tensor of which those read are remembered


class IndexedFunction:
    """A matrix or tensor known by a function of index arrays, one for each mode.

    Up to `REMEMBERED` entries each of them is asked for once; of larger data it may be again.

    Attributes
    ----------
    shape, dtype
        Lengths of the modes, and the dtype to compute in.
    n_read : int
        Entries asked for so far.
    """

    def __init__(self, function, shape, dtype=None, batch=None, vectorized=True, name="A"):
        self.function, self.shape, self.batch, self.vectorized, self.name = function, shape, batch, vectorized, name
        self.n_read, self._known, size = 0, None, math.prod(shape)
        self.dtype = None if dtype is None else dtype_asked_for(dtype)
        first = None if dtype is not None else self._call([np.zeros(1, dtype=np.intp) for _ in shape], (1,))
        if first is not None:
            self.dtype = first.dtype
        if size <= REMEMBERED:
            self._known, self._values = np.zeros(size, dtype=bool), np.empty(size, self.dtype)
            if first is not None:
                self._known[0], self._values[0] = True, first[0]

    @property
    def remembers(self):
        """Whether each entry is asked for once."""
        return self._known is not None

    def at(self, *indices):
        """Entries at broadcastable index arrays, no more of them in one call than the batch allows."""
        if self._known is None:
            return self._asked(indices)
        places = np.ravel_multi_index(np.broadcast_arrays(*indices), self.shape)
        missing = np.sort(places[~self._known[places]])  # np.unique takes three times as long
        missing = missing[np.diff(missing, prepend=-1) > 0]
        if len(missing):
            as_given = len(missing) == places.size  # in the form which the function may make use of
            values = self._asked(indices if as_given else np.unravel_index(missing, self.shape))
            self._values[places if as_given else missing] = values
            self._known[missing] = True
        return self._values[places]

    def check_again(self, value, slack, *index):
        """Ask once more for an entry that was read; raise if it is not the same."""
        second = self._call([np.array([place]) for place in index], (1,))[0]
        if not abs(value - second) <= slack:
            got = f"{value} and {second} at {index}"
            raise _validation.complain(ValueError, self.name, "the same whenever it is read", got)

    def _asked(self, indices):
        """What the function gives for index arrays, part by part."""
        shape = np.broadcast_shapes(*{index.shape for index in indices})
        if math.prod(shape) <= self.batch:
            return self._call(indices, shape)
        values = np.empty(shape, self.dtype)
        axis = int(np.argmax(shape))
        step = max(1, self.batch * shape[axis] // math.prod(shape))
        for start in range(0, shape[axis], step):
            part = (slice(None),) * axis + (slice(start, start + step),)
            values[part] = self._asked([own_part(index, part, len(shape)) for index in indices])
        return values

    def _call(self, indices, shape):
        """What the function gives for index arrays of its own, which have a common shape, checked."""
        self.n_read += math.prod(shape)
        if self.vectorized:
            values = self.function(*(index.copy() for index in indices))
        else:
            places = zip(*(index.tolist() for index in map(np.ravel, np.broadcast_arrays(*indices))), strict=True)
            values = np.array([self.function(*place) for place in places]).reshape(shape)
        names = ", ".join("ijklmnpq"[: len(indices)]) if len(indices) <= 8 else "*indices"
        return checked_values(values, indices, shape, self.dtype, f"{self.name}({names})")


def own_part(index, part, ndim):
    """What belongs to a part of the common shape; along an axis of length 1 all of it."""
    index = index.reshape((1,) * (ndim - index.ndim) + index.shape)
    return index[part] if index.shape[len(part) - 1] > 1 else index


def checked_values(values, indices, shape, dtype, name):
    """Values of a function of index arrays: finite, and of their common shape; a copy, since it may use them again."""
    values = plain_array(on_host(values), name)
    found = _validation.array_dtype(values.dtype, name)
    if values.shape != shape:
        raise _validation.complain(ValueError, name, f"of the indices' common shape {shape}", f"shape {values.shape}")
    if dtype is not None and not np.can_cast(found, dtype, "same_kind"):
        raise _validation.complain(TypeError, name, f"of dtype {dtype} in every call", f"dtype {values.dtype}")
    finite = np.isfinite(values)
    if not finite.all():
        where = np.unravel_index(finite.argmin(), shape)
        index = tuple(int(np.broadcast_to(place, shape)[where]) for place in indices)
        raise _validation.complain(ValueError, name, "finite", f"{values[where]} at {index}")
    return values.astype(found if dtype is None else dtype)


def indexed_function(function, shape, dtype, batch, vectorized, ndim=None, name="A", least=1):
    """A function of index arrays, with all that goes with it checked."""
    if shape is None:
        raise _validation.complain(ValueError, "shape", f"given where {name} is a function", "None")
    shape = _validation.lengths(shape)
    if ndim is not None and len(shape) != ndim:
        raise _validation.complain(ValueError, "shape", f"of {ndim} lengths", _validation.describe(shape))
    if len(shape) < least:
        raise _validation.complain(ValueError, "shape", f"of at least {least} modes", _validation.describe(shape))
    batch = BATCH if batch is None else _validation.integer(batch, "batch", 1, np.inf)
    return IndexedFunction(function, shape, dtype, batch, _validation.flag(vectorized, "vectorized"), name)


def only_for_functions(name, shape, dtype, batch, vectorized):
    """Raise if what goes with a function is given with data of another kind."""
    given = {"shape": shape, "dtype": dtype, "batch": batch, "vectorized": None if vectorized is True else vectorized}
    for option, value in given.items():
        if value is not None:
            raise _validation.complain(ValueError, option, f"left out where {name} is no function", repr(value))


def is_function(A):
    """Whether data are a function of index arrays; operators and polynomials can be called, too, but are arrays."""
    return callable(A) and not (hasattr(A, "shape") or hasattr(A, "__array__"))


def left_out(**options):
    """Raise if an option is given, as not its default, which a function of index arrays leaves no room for."""
    for name, (value, *defaults) in options.items():
        if not any(value is default or (isinstance(value, str) and value == default) for default in defaults):
            what = "left out where A is a function, whose pivots are taken"
            raise _validation.complain(ValueError, name, what, _validation.describe(value))
