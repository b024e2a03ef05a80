"""The one form of complaint, ``<name> must be <what>, got <value>``, and the checks that several modules share.

A check that one module alone needs stands at the end of that module.
"""

import base64
import contextlib
import math
import numbers
import os
from collections.abc import Sequence

import numpy as np

RandomSource = int | np.random.SeedSequence | np.random.Generator | None
Integers = Sequence[int] | np.ndarray  # several, in order
DTYPES = ("float32", "float64", "complex64", "complex128")


def describe(value):
    """What to show of a bad value: a repr in one short line, cut in the middle, since a path says most at its end."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:37]}...{text[-40:]}"


def complain(error, name, what, got):
    """The exception in the one form, ready to be raised."""
    return error(f"{name} must be {what}, got {got}")


def choose(table, choice, name, plain=None):
    """The entry of a dict by its name; an entry passes through, and a function, made an entry by `plain` if given."""
    if callable(choice):
        return choice if plain is None or type(choice) in map(type, table.values()) else plain(choice)
    if not isinstance(choice, str):
        raise complain(TypeError, name, f"a function or one of {', '.join(table)}", describe(choice))
    if choice not in table:
        raise complain(ValueError, name, f"a function or one of {', '.join(table)}", describe(choice))
    return table[choice]


def one_of(names, choice, name):
    """The choice itself, if it is among the names."""
    if not isinstance(choice, str):
        raise complain(TypeError, name, f"one of {', '.join(names)}", describe(choice))
    if choice not in names:
        raise complain(ValueError, name, f"one of {', '.join(names)}", describe(choice))
    return choice


def integer(value, name, low, high):
    """A Python int between low and high."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise complain(TypeError, name, "an integer", describe(value))
    if not low <= value <= high:
        raise complain(ValueError, name, f"between {low} and {high}", describe(value))
    return int(value)


def tolerance(value, dtype, name="rtol"):
    """A float from what the dtype can reach to below 1."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise complain(TypeError, name, "a float", describe(value))
    low = 64 * float(np.finfo(dtype).eps)
    if not low <= value < 1:
        raise complain(ValueError, name, f"at least {low:.2g} (for {np.dtype(dtype)}) and below 1", describe(value))
    return float(value)


def rank_or_rtol(rank, rtol, shape, dtype, least=1):
    """The pair with exactly one of the two given, checked."""
    if (rank is None) == (rtol is None):
        got = "neither" if rank is None else "both"
        raise complain(ValueError, "rank or rtol", "given, one of the two", got)
    if rank is None:
        return None, tolerance(rtol, dtype)
    return integer(rank, "rank", least, min(shape)), None


def rank_of_sizes(rank, rtol, n_columns, n_rows, shape):
    """The rank; where neither it nor a tolerance is given, the smaller of the numbers of columns and rows, if any."""
    if rank is not None or rtol is not None or n_columns is n_rows is None:
        return rank
    for size, name, other in ((n_columns, "n_columns", "n_rows"), (n_rows, "n_rows", "n_columns")):
        if size is None:
            raise complain(ValueError, name, f"given with {other} where neither rank nor rtol is", None)
    return min(integer(n_columns, "n_columns", 1, shape[1]), integer(n_rows, "n_rows", 1, shape[0]))


def several(values, name, what):
    """The parts of a sequence or an array, as a tuple; a string is none."""
    try:
        return tuple(None if isinstance(values, (str, bytes)) else values)
    except Exception:  # each framework has its own
        raise complain(TypeError, name, what, describe(values)) from None


def multilinear_ranks(ranks, shape) -> tuple[int, ...]:
    """One rank for each mode, between 1 and its length; an int stands for all modes, cut to their lengths."""
    if isinstance(ranks, numbers.Integral):
        rank = integer(ranks, "ranks", 1, max(shape))
        return tuple(min(rank, length) for length in shape)
    ranks = several(ranks, "ranks", f"an integer or a sequence of {len(shape)} integers")
    if len(ranks) != len(shape):
        raise complain(ValueError, "ranks", f"one for each of {len(shape)} modes", describe(ranks))
    return tuple(integer(rank, f"ranks[{mode}]", 1, shape[mode]) for mode, rank in enumerate(ranks))


def possible_ranks(ranks) -> tuple[int, ...]:
    """Multilinear ranks, of which none is above the product of the others: only the largest can be, and is cut."""
    ranks = tuple(ranks)
    return tuple(min(rank, math.prod(ranks[:mode] + ranks[mode + 1 :])) for mode, rank in enumerate(ranks))


def ranks_or_rtol(ranks, rtol, shape, dtype) -> tuple[tuple[int, ...] | None, float | None]:
    """The pair with exactly one of the two given, checked."""
    if (ranks is None) == (rtol is None):
        got = "neither" if ranks is None else "both"
        raise complain(ValueError, "ranks or rtol", "given, one of the two", got)
    return (None, tolerance(rtol, dtype)) if ranks is None else (multilinear_ranks(ranks, shape), None)


def index_list(values, name, size):
    """Distinct integers in [0, size) as an index array."""
    try:
        array = np.atleast_1d(np.asarray(values))
    except Exception:  # each framework has its own for what it cannot hand on
        array = np.empty((0, 0))
    if array.ndim > 1:
        raise complain(TypeError, name, "an integer or a sequence of integers", describe(values))
    indices = [integer(value, f"each index of {name}", 0, size - 1) for value in array]
    if len(set(indices)) != len(indices):
        raise complain(ValueError, name, "distinct indices", describe(indices))
    return np.array(indices, dtype=np.intp)


def generator(rng):
    """A numpy Generator from None, an int, a SeedSequence or a Generator."""
    if isinstance(rng, (bool, np.bool_)):
        raise complain(TypeError, "rng", "None, an int, a SeedSequence or a Generator", describe(rng))
    if isinstance(rng, numbers.Integral):
        rng = integer(rng, "rng", 0, np.inf)
    elif not (rng is None or isinstance(rng, (np.random.SeedSequence, np.random.Generator, np.random.BitGenerator))):
        raise complain(TypeError, "rng", "None, an int, a SeedSequence or a Generator", describe(rng))
    return np.random.default_rng(rng)


def callback_function(callback):
    """The callback, or one that does nothing."""
    if callback is None:
        return lambda progress: None
    if not callable(callback):
        raise complain(TypeError, "callback", "callable or None", describe(callback))
    return callback


def array_dtype(dtype, name="A"):
    """The dtype to compute in: floats and complex numbers as they are, integers and bool as float64."""
    if dtype.char in "fdFD":
        return np.dtype(dtype.char)
    if dtype.kind in "iub":
        return np.dtype(float)
    raise complain(TypeError, name, f"an array of integers, bool, {', '.join(DTYPES)}", f"dtype {dtype}")


def nested_numbers(values, name="A"):
    """An array of nested lists of equal lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise complain(ValueError, name, "rows of equal length", describe(values)) from None


def as_declared(part, shape, dtype, name, where=""):
    """A part of a larger array as an ndarray; kernels trust the shape, and nothing is to be lost by the dtype."""
    if isinstance(part, np.ma.MaskedArray):
        raise complain(TypeError, name, "an array without a mask", f"a masked array{where}")
    part = nested_numbers(part, name)
    array_dtype(part.dtype, name)
    if part.shape != tuple(shape):
        raise complain(ValueError, name, f"of shape {tuple(shape)}, as declared", f"shape {part.shape}{where}")
    if not np.can_cast(part.dtype, dtype, "same_kind" if dtype.kind in "fc" else "safe"):
        raise complain(TypeError, name, f"of dtype {dtype}, as declared", f"dtype {part.dtype}{where}")
    return part.astype(dtype, copy=False)


def rule_choice(indices, n, k, name="the choice of method"):
    """What a rule of choice gave, which may be a user's function: at most k distinct row numbers below n."""
    indices = nested_numbers(indices, name)
    if indices.dtype.kind not in "iu" and indices.size:
        raise complain(TypeError, name, "row numbers", f"dtype {indices.dtype}")
    if indices.ndim != 1 or len(indices) > k:
        raise complain(ValueError, name, f"at most {k} row numbers", f"shape {indices.shape}")
    if len(indices) and not 0 <= indices.min() <= indices.max() < n:
        raise complain(ValueError, name, f"row numbers from 0 to {n - 1}", f"{indices.min()} to {indices.max()}")
    if len(np.unique(indices)) < len(indices):
        raise complain(ValueError, name, "distinct row numbers", describe(indices))
    return indices.astype(np.intp, copy=False)


def sound_sparse(A, name="A"):
    """A SciPy sparse matrix whose indices lie within it; those of others would be read and written out of bounds."""
    if A.format == "coo":
        indices, sizes = A.coords, A.shape
    elif A.format in ("csr", "csc", "bsr"):
        m, n = A.shape
        height, width = getattr(A, "blocksize", (1, 1))
        lines, size = (n, m) if A.format == "csc" else (m // height, n // width)
        indices, sizes = (A.indices[: A.indptr[-1]],), (size,)
        starts, entries = A.indptr, min(len(A.indices), len(A.data))
        if len(starts) != lines + 1 or starts[0] != 0 or starts[-1] > entries or (np.diff(starts) < 0).any():
            what = f"a sparse matrix whose indptr rises from 0 to at most {entries} in {lines} steps"
            raise complain(ValueError, name, what, describe(starts))
    else:
        return A
    for numbers_along, size in zip(indices, sizes, strict=True):
        if len(numbers_along) and not 0 <= numbers_along.min() <= numbers_along.max() < size:
            got = f"{numbers_along.min()} to {numbers_along.max()}"
            raise complain(ValueError, name, f"a sparse matrix whose indices are from 0 to {size - 1}", got)
    return A


def zero_fill(value, column, name="A"):
    """Raise if what a sparse array does not store is not zero."""
    if value != 0:
        where = "" if column is None else f" in column {describe(column)}"
        raise complain(ValueError, name, "sparse with the fill value 0", f"{value}{where}")


PACKING = {"scale_factor": 1, "add_offset": 0, "_FillValue": np.nan, "missing_value": np.nan, "_Unsigned": None}


def not_packed(attributes, name="A"):
    """Raise if attributes by the CF conventions say that an array holds other numbers than it means.

    Those that change nothing pass: scale 1, offset 0, and NaN for what is missing, which is refused where it occurs.
    """
    for key, neutral in PACKING.items():
        if key in attributes and not is_number(attributes[key], neutral):
            got = f"packed ones with the attribute {key}={describe(attributes[key])}"
            raise complain(ValueError, name, "decoded values, as of xarray.open_dataset(path)[name]", got)


def is_number(value, number):
    """Whether an attribute of a store, which may be an array of one or, for zarr, the base64 of it, is a number."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = np.frombuffer(base64.b64decode(value, validate=True), "<f8")
    try:
        return number is not None and bool(np.array_equal(np.ravel(value).astype(float), [number], equal_nan=True))
    except (TypeError, ValueError):
        return False


def matrix_shape(shape):
    """A shape of two positive lengths."""
    if len(shape) != 2:
        raise complain(ValueError, "A", "2-dimensional", f"{len(shape)} dimensions")
    if min(shape) == 0:
        raise complain(ValueError, "A", "not empty", f"shape {tuple(shape)}")
    return shape


def tensor_shape(shape, name="X", *, least=2) -> tuple[int, ...]:
    """A shape of at least so many positive lengths."""
    shape = tuple(shape)
    if len(shape) < least:
        raise complain(ValueError, name, f"of at least {least} modes", f"shape {shape}")
    if 0 in shape:
        raise complain(ValueError, name, "not empty", f"shape {shape}")
    return shape


def lengths(shape, name="shape") -> tuple[int, ...]:
    """A tuple of positive lengths."""
    most = np.iinfo(np.intp).max
    shape = several(shape, name, "a sequence of integers")
    return tuple(integer(length, f"each length of {name}", 1, most) for length in shape)


def finite(operand, A, name="A"):
    """Raise with the first index if A holds NaN or infinity."""
    found_finite(operand.first_nonfinite(A), name)


def found_finite(index, name):
    """Raise if an index of NaN or infinity was found."""
    if index is not None:
        raise complain(ValueError, name, "finite", f"NaN or infinity, first at {index}")


def factor_sizes(rank, n_columns, n_rows, shape):
    """Numbers of columns and rows, `rank` where not given; neither goes with rtol."""
    if rank is None:
        for size, name in ((n_columns, "n_columns"), (n_rows, "n_rows")):
            if size is not None:
                raise complain(ValueError, name, "None where rtol is given", describe(size))
        return None, None
    sizes = rank if n_columns is None else n_columns, rank if n_rows is None else n_rows
    return integer(sizes[0], "n_columns", rank, shape[1]), integer(sizes[1], "n_rows", rank, shape[0])


def flag(value, name):
    """A bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise complain(TypeError, name, "True or False", describe(value))
    return bool(value)


def only_without(given, name, other, other_name):
    """Raise if two things are given of which the one does not go with the other."""
    if given and other:
        raise complain(ValueError, name, f"left out with {other_name}", "both")


def file_path(path, name="path"):
    """A path as text."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise complain(TypeError, name, "a string or path-like", describe(path)) from None
    if "\0" in text:
        raise complain(ValueError, name, "without null characters", describe(path))
    return text


def no_pipe(path, name):
    """Raise if a path leads to what can be read once only, or for ever."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise complain(ValueError, name, "a file", "a device or pipe")


def describe_error(error):
    """The text of an exception in one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def positive(value, name):
    """A finite float above zero."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise complain(TypeError, name, "a number", describe(value))
    if not 0 < value < np.inf:
        raise complain(ValueError, name, "above 0 and finite", describe(value))
    return float(value)


def name_list(values, name):
    """Strings as a tuple; a single string is none."""
    if isinstance(values, str) or not isinstance(values, (list, tuple, set, frozenset)):
        raise complain(TypeError, name, "a list of names", describe(values))
    for value in values:
        if not isinstance(value, str):
            raise complain(TypeError, name, "a list of names", describe(values))
    return tuple(values)


def unreadable_store(error, name):
    """The exception for what a store's own package raises for a damaged one."""
    return complain(OSError, name, "readable", f"{type(error).__name__}: {describe_error(error)}")
