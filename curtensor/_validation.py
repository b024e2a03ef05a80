"""Every check of a user's argument, and the one form of complaint: ``<name> must be <what>, got <value>``."""

import base64
import contextlib
import itertools
import math
import numbers
import os
import re

import numpy as np

RandomSource = int | np.random.SeedSequence | np.random.Generator | None
DTYPES = ("float32", "float64", "complex64", "complex128")


def describe(value):
    """What to show of a bad value: a repr cut to one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


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


def multilinear_ranks(ranks, shape) -> tuple[int, ...]:
    """One rank for each mode, between 1 and its length; an int stands for all modes, cut to their lengths."""
    if isinstance(ranks, numbers.Integral):
        rank = integer(ranks, "ranks", 1, max(shape))
        return tuple(min(rank, length) for length in shape)
    if isinstance(ranks, (str, bytes)) or not np.iterable(ranks):
        raise complain(TypeError, "ranks", f"an integer or a sequence of {len(shape)} integers", describe(ranks))
    ranks = tuple(ranks)
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


def tucker_parts(core, factors) -> tuple[np.ndarray, list[np.ndarray]]:
    """A core and one matrix for each of its modes, with as many columns as the mode is long."""
    core = tensor(core, "core")
    if isinstance(factors, (str, bytes)) or not np.iterable(factors):
        raise complain(TypeError, "factors", f"a sequence of {core.ndim} matrices", describe(factors))
    factors = list(factors)
    if len(factors) != core.ndim:
        raise complain(ValueError, "factors", f"one for each of {core.ndim} modes", f"{len(factors)} factors")
    for mode, size in enumerate(core.shape):
        name = f"factors[{mode}]"
        factors[mode] = mode_factor(factors[mode], size, name=name)
        if factors[mode].ndim != 2:
            raise complain(ValueError, name, f"of shape (d, {size})", f"shape {factors[mode].shape}")
    return core, factors


def index_list(values, name, size):
    """Distinct integers in [0, size) as an index array."""
    values = list(np.atleast_1d(values)) if np.ndim(values) <= 1 else values
    indices = [integer(value, f"each index of {name}", 0, size - 1) for value in values]
    if len(set(indices)) != len(indices):
        raise complain(ValueError, name, "distinct indices", describe(indices))
    return np.array(indices, dtype=np.intp)


def candidate_weights(weights, size):
    """Finite weights above or equal to zero, one a candidate, scaled to a maximum of 1."""
    array = np.asarray(weights)
    if array.dtype.kind not in "fiub":
        raise complain(TypeError, "weights", "real numbers", describe(weights))
    if array.shape != (size,):
        raise complain(ValueError, "weights", f"of shape ({size},)", array.shape)
    array = array.astype(float)
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise complain(ValueError, "weights", "finite, not negative and not all zero", describe(weights))
    return array / array.max()


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
    if dtype.name in DTYPES:
        return np.dtype(dtype.name)
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


def test_matrix(S, shape, dtype, name):
    """A real, finite test matrix of the shape asked for, dense or sparse, in the dtype asked for."""
    S = S if hasattr(S, "nnz") else nested_numbers(S, name)
    if S.dtype.kind not in "fiub":
        raise complain(TypeError, name, "an array or sparse matrix of real numbers", f"dtype {S.dtype}")
    if S.shape != shape:
        raise complain(ValueError, name, f"of shape {shape}", f"shape {S.shape}")
    S = S.astype(dtype, copy=False)
    if not np.isfinite(S.data if hasattr(S, "nnz") else S).all():
        raise complain(ValueError, name, "finite", "NaN or infinity")
    return S


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


def declared_chunk(chunk, kind, X, block_info=None):
    """A chunk of a dask array, whose name is X."""
    place = block_info[0]["array-location"]
    where = f" for {X}[{', '.join(f'{start}:{stop}' for start, stop in place)}]"
    return as_declared(chunk, tuple(stop - start for start, stop in place), kind, f"each chunk of {X}", where)


def sound_sparse(A, name="A"):
    """A SciPy sparse matrix whose indices lie within it; those of others would be read and written out of bounds."""
    m, n = A.shape
    if A.format == "coo":
        indices, sizes = A.coords, A.shape
    elif A.format in ("csr", "csc", "bsr"):
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


def all_numbers(kinds, columns, dtypes, name="A"):
    """Raise if a column of a table is of no kind of numbers."""
    for kind, column, dtype in zip(kinds, columns, dtypes, strict=True):
        if kind is None:
            got = f"column {describe(column)} of dtype {describe_dtype(dtype)}"
            raise complain(TypeError, name, "an array, or a table of numbers in all columns", got)


def describe_dtype(dtype):
    """A dtype of a table in one short line."""
    text = " ".join(str(dtype).split())
    return text if len(text) <= 60 else text[:57] + "..."


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


def stored_array(A, name="A"):
    """Raise if what a store holds is no array of decoded numbers: a group or file, an empty dataset, a named type."""
    if hasattr(A, "keys") and not hasattr(A, "dtype"):
        got = f"a group of {describe(sorted(A.keys()))}"
        raise complain(TypeError, name, "an array of a store, not its file or group", got)
    if not hasattr(A, "shape") or not hasattr(A, "dtype"):
        raise complain(TypeError, name, "an array of a store", describe(A))
    if A.shape is None:
        raise complain(ValueError, name, "an array with entries", "an empty dataset of no shape")
    not_packed(getattr(getattr(A, "_dset", A), "attrs", {}), name)  # h5py's view by astype has no attributes


def matrix_shape(shape):
    """A shape of two positive lengths."""
    if len(shape) != 2:
        raise complain(ValueError, "A", "2-dimensional", f"{len(shape)} dimensions")
    if min(shape) == 0:
        raise complain(ValueError, "A", "not empty", f"shape {tuple(shape)}")
    return shape


def tensor(X, name="X", *, least=1) -> np.ndarray:
    """A plain view of an array of numbers with at least so many modes, not empty."""
    if hasattr(X, "dask") and hasattr(X, "map_blocks"):
        X = X.map_blocks(declared_chunk, name=None, meta=X._meta, dtype=X.dtype, kind=X.dtype, X=name).compute()
    X = plain_array(X, name)
    array_dtype(X.dtype, name)
    tensor_shape(X.shape, name, least=least)
    return X


def plain_array(X, name) -> np.ndarray:
    """What NumPy reads an object as; a view where it can be, and never an array of one object."""
    one_of_several(X, name)
    try:
        plain = in_memory(X) if hasattr(X, "detach") else np.asanyarray(X)
    except Exception as error:
        if isinstance(X, (list, tuple)) and isinstance(error, ValueError):
            raise complain(ValueError, name, "nested lists of equal lengths", describe(X)) from None
        got = f"{kind_of(X)}, which NumPy does not read: {describe_error(error)}"
        raise complain(TypeError, name, "an array of numbers", got) from error
    if isinstance(plain, np.ma.MaskedArray) or isinstance(getattr(X, "_meta", None), np.ma.MaskedArray):
        raise complain(TypeError, name, "an array without a mask", "a masked array")
    if plain.dtype == object and plain.ndim == 0 and plain is not X:
        dense = next((f"X.{way}()" for way in ("toarray", "todense") if hasattr(X, way)), None)
        got = f"{kind_of(X)}; {dense} is one" if dense else describe(X)
        raise complain(TypeError, name, "an array of numbers", got)
    return np.asarray(plain)


def one_of_several(X, name):
    """Raise if X is a dict, a group or a file of arrays, or a dataset that is closed or without any entries."""
    try:
        shape = getattr(X, "shape", ())
    except Exception as error:
        raise complain(ValueError, name, "open", describe(X)) from error
    if hasattr(X, "keys") and shape == ():
        raise complain(TypeError, name, f"one array, such as {name}[key] of it", describe(X))
    if shape is None:
        raise complain(ValueError, name, "not empty", describe(X))


def in_memory(X):
    """A tensor of torch as NumPy has it, without its graph, half precision as float32."""
    return (X.float() if X.is_floating_point() and X.element_size() < 4 else X).numpy(force=True)


def kind_of(X):
    """A type by its package and name."""
    package = type(X).__module__.split(".")[0]
    return type(X).__name__ + (f" of {package}" if package != "builtins" else "")


def tensor_shape(shape, name="X", *, least=2) -> tuple[int, ...]:
    """A shape of at least so many positive lengths."""
    shape = tuple(shape)
    if len(shape) < least:
        raise complain(ValueError, name, f"of at least {least} modes", f"shape {shape}")
    if 0 in shape:
        raise complain(ValueError, name, "not empty", f"shape {shape}")
    return shape


def same_box_shape(shape, expected):
    """Raise if what was read of a tensor is of another shape than was asked for."""
    if shape != expected:
        raise complain(ValueError, "X", "of the same shape in every pass", f"shape {shape} for {expected}")


def third_order(X, name="X") -> np.ndarray:
    """A plain view of an array of numbers with three modes, not empty."""
    X = tensor(X, name)
    if X.ndim != 3:
        raise complain(ValueError, name, "of three modes", f"shape {X.shape}")
    return X


def mode_index(mode, ndim, name="mode") -> int:
    """A mode from 0; negative ones count from the last."""
    return integer(mode, name, -ndim, ndim - 1) % ndim


def mode_factor(M, size, transpose=False, name="M") -> np.ndarray:
    """A vector (size,) or a matrix (J, size) of numbers to multiply a mode by; the adjoint of M for transpose."""
    M = tensor(M, name)
    if M.ndim > 2 or M.shape[0 if transpose else -1] != size:
        what = f"of shape ({size},) or {f'({size}, J)' if transpose else f'(J, {size})'}"
        raise complain(ValueError, name, what, f"shape {M.shape}")
    M = M.astype(array_dtype(M.dtype), copy=False)
    return M.conj().T if transpose else M


def mode_factors(Ms, modes, skip, transpose, shape) -> dict[int, np.ndarray]:
    """What to multiply each mode by, in the order of modes, without the skipped one."""
    Ms = list(Ms)
    modes = range(len(Ms)) if modes is None else modes
    modes = [mode_index(mode, len(shape), "each of modes") for mode in modes]
    if len(modes) != len(Ms):
        raise complain(ValueError, "modes", f"as many as Ms ({len(Ms)})", len(modes))
    if len(set(modes)) != len(modes):
        raise complain(ValueError, "modes", "distinct", describe(modes))
    order = np.argsort(modes).tolist()
    if skip is not None:
        del order[integer(skip, "skip", 0, len(Ms) - 1)]
    return {modes[i]: mode_factor(Ms[i], shape[modes[i]], transpose, f"Ms[{i}]") for i in order}


def lengths(shape, name="shape") -> tuple[int, ...]:
    """A tuple of positive lengths."""
    if isinstance(shape, numbers.Integral) or not np.iterable(shape):
        raise complain(TypeError, name, "a sequence of integers", describe(shape))
    return tuple(integer(length, f"each length of {name}", 1, np.iinfo(np.intp).max) for length in shape)


def finite(operand, A, name="A"):
    """Raise with the first index if A holds NaN or infinity."""
    index = operand.first_nonfinite(A)
    if index is not None:
        raise complain(ValueError, name, "finite", f"NaN or infinity, first at {index}")


def enough_candidates(k, size, include, exclude, weights):
    """Raise if included, excluded and weightless candidates leave no way to choose k."""
    both = np.intersect1d(include, exclude)
    if len(both):
        raise complain(ValueError, "include", "disjoint from exclude", describe(both.tolist()))
    if len(include) > k:
        raise complain(ValueError, "include", f"at most k = {k} indices", len(include))
    closed = set(exclude.tolist()) | (set() if weights is None else set(np.flatnonzero(weights == 0).tolist()))
    if size - len(closed - set(include.tolist())) < k:
        raise complain(ValueError, "k", f"at most the {size - len(closed)} candidates left by exclude and weights", k)


def factor_sizes(rank, n_columns, n_rows, shape):
    """Numbers of columns and rows, `rank` where not given; neither goes with rtol."""
    if rank is None:
        for size, name in ((n_columns, "n_columns"), (n_rows, "n_rows")):
            if size is not None:
                raise complain(ValueError, name, "None where rtol is given", describe(size))
        return None, None
    sizes = rank if n_columns is None else n_columns, rank if n_rows is None else n_rows
    return integer(sizes[0], "n_columns", rank, shape[1]), integer(sizes[1], "n_rows", rank, shape[0])


def of_shape(A, shape):
    """Raise if A is of another shape."""
    if tuple(A.shape) != tuple(shape):
        raise complain(ValueError, "A", f"of shape {tuple(shape)}", f"shape {tuple(A.shape)}")


def continued(result, earlier):
    """Raise if a result does not hold the columns and rows of an earlier one: it is of another matrix."""
    for slices, before in (
        (result.C[:, : earlier.C.shape[1]], earlier.C),
        (result.R[: earlier.R.shape[0]], earlier.R),
    ):
        if (slices != before).sum():
            raise complain(ValueError, "A", "the matrix that was decomposed", "other entries in the chosen slices")


def flag(value, name):
    """A bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise complain(TypeError, name, "True or False", describe(value))
    return bool(value)


def tensor_approximation(approximation, shape):
    """An approximation of a tensor as an array of the right shape."""
    Y = approximation.to_array() if hasattr(approximation, "to_array") else tensor(approximation, "approximation")
    if Y.shape != shape:
        raise complain(ValueError, "approximation", f"of shape {shape}", f"shape {Y.shape}")
    return Y


def finite_tensor(X, name="X"):
    """Raise with the first index if X holds NaN or infinity."""
    for i, slab in enumerate(X):
        bad = ~np.isfinite(slab)
        if bad.any():
            index = (i, *(int(j) for j in np.unravel_index(bad.argmax(), bad.shape)))
            raise complain(ValueError, name, "finite", f"NaN or infinity, first at {index}")


def function_dtype(values) -> np.dtype:
    """The dtype to compute in with a function's values."""
    return array_dtype(plain_array(values, "X(*indices)").dtype, "X(*indices)")


def function_values(values, indices, dtype):
    """Values of a function of index arrays: finite, and of their common shape; a copy, since it may use them again."""
    values = plain_array(values, "X(*indices)")
    found = array_dtype(values.dtype, "X(*indices)")
    shape = np.broadcast_shapes(*(index.shape for index in indices))
    if values.shape != shape:
        raise complain(ValueError, "X(*indices)", f"of the indices' common shape {shape}", f"shape {values.shape}")
    if np.result_type(found, dtype) != dtype:
        raise complain(TypeError, "X(*indices)", f"of dtype {dtype} in every call", f"dtype {values.dtype}")
    bad = ~np.isfinite(values)
    if bad.any():
        where = np.unravel_index(bad.argmax(), shape)
        index = tuple(int(np.broadcast_to(place, shape)[where]) for place in indices)
        raise complain(ValueError, "X(*indices)", "finite", f"{values[where]} at {index}")
    return values.astype(dtype)


def function_shape(shape) -> tuple[int, ...]:
    """The lengths of two modes or more which go with a function."""
    if shape is None:
        raise complain(ValueError, "shape", "given where X is a function", "None")
    shape = lengths(shape)
    if len(shape) < 2:
        raise complain(ValueError, "shape", "of at least 2 modes", describe(shape))
    return shape


def sample_sizes(n_samples, ranks, shape, times) -> tuple[int, ...]:
    """Numbers of slices of each mode, from the rank to the length; a few times the rank where not given."""
    if n_samples is None:
        return tuple(min(times * rank, length) for rank, length in zip(ranks, shape, strict=True))
    if isinstance(n_samples, numbers.Integral):
        n_samples = [min(integer(n_samples, "n_samples", max(ranks), max(shape)), length) for length in shape]
    sizes = tuple(n_samples)
    if len(sizes) != len(shape):
        raise complain(ValueError, "n_samples", f"of length {len(shape)}, one for each mode", describe(n_samples))
    return tuple(
        integer(size, f"n_samples[{n}]", rank, length)
        for n, (size, rank, length) in enumerate(zip(sizes, ranks, shape, strict=True))
    )


def rank_list(ranks, shape):
    """Distinct ranks as a list of ints; a single one is a list of one."""
    if isinstance(ranks, (str, bytes)) or not np.iterable(ranks):
        ranks = [ranks]
    ranks = [integer(rank, "each of ranks", 1, min(shape)) for rank in ranks]
    if not ranks or len(set(ranks)) != len(ranks):
        raise complain(ValueError, "ranks", "distinct and at least one", describe(ranks))
    return ranks


def chosen_methods(table, methods):
    """A dict of the methods asked for by names or as functions, which go by their own names."""
    if isinstance(methods, str) or not np.iterable(methods):
        raise complain(TypeError, "methods", "a sequence of names and functions", describe(methods))
    chosen = {}
    for method in methods:
        name = method if isinstance(method, str) else getattr(method, "__name__", describe(method))
        repeated = name in chosen
        chosen[name] = choose(table, method, "each of methods")
        if repeated or chosen[name] is not table.get(name, chosen[name]):
            raise complain(ValueError, "methods", "of distinct names", describe(methods))
    return chosen


def number_in(text, kind, name):
    """The int or float that a text of the command line says."""
    try:
        return kind(text)
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise complain(ValueError, name, what, describe(text)) from None


def only_one(values, name):
    """The only one of some values."""
    if len(values) != 1:
        raise complain(ValueError, name, "one integer", describe(values))
    return values[0]


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


def storable(array, name):
    """Raise if an array of a result holds Python's objects, NaN or infinity."""
    if array.dtype.kind == "O":
        raise complain(TypeError, name, "an array of numbers or texts", f"dtype {array.dtype}")
    if array.ndim > 0 and array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise complain(ValueError, name, "finite", "NaN or infinity")


def no_pipe(path, name):
    """Raise if a path leads to what can be read once only, or for ever."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise complain(ValueError, name, "a file", "a device or pipe")


def output_path(path, name):
    """The path, if there is a file, a device or a pipe that can be written to, or a file can come to be there."""
    folder = os.path.dirname(os.path.realpath(path))
    fits = not os.path.isdir(path) if os.path.exists(path) else os.path.isdir(folder)
    if not fits or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise complain(ValueError, name, "a file in a folder that can be written to", describe(os.fspath(path)))
    return path


def matrix_market(banner, fields, symmetries):
    """Layout, field and symmetry that the first words of a MatrixMarket file say."""
    if len(banner) != 5 or banner[:2] != ["%%matrixmarket", "matrix"]:
        raise complain(ValueError, "its first line", "that of a MatrixMarket matrix", describe(" ".join(banner)))
    layout, field, symmetry = banner[2:]
    return (
        one_of(("array", "coordinate"), layout, "its layout"),
        one_of(fields, field, "its field"),
        one_of(symmetries, symmetry, "its symmetry"),
    )


def number_table(lines, count, width):
    """The numbers of so many lines, equally many in each."""
    first = list(itertools.islice(lines, 1))
    table = np.loadtxt(itertools.chain(first, lines), ndmin=2) if first else np.zeros((0, width))
    if table.shape != (count, width):
        raise complain(
            ValueError, "its table", f"{count} lines of {width} numbers", f"{len(table)} of {table.shape[1]}"
        )
    return table


def positions(table, shape):
    """Rows and columns, counted from 1, as integers."""
    if not ((table >= 1) & (table <= shape) & (table == np.floor(table))).all():
        raise complain(ValueError, "its rows and columns", f"from 1 to {shape[0]} and {shape[1]}", "others")
    return table.T.astype(np.int64)


def some_lines(lines):
    """Raise if a file has no lines of numbers."""
    if not lines:
        raise complain(ValueError, "its lines", "at least one beside column names", "none")


def real_numbers(fields, size, name):
    """A float array from so many texts."""
    if len(fields) != size:
        raise complain(ValueError, name, f"{size} numbers", len(fields))
    try:
        return np.array(fields, dtype=float)
    except ValueError as error:
        raise complain(ValueError, name, "real numbers with commas between", error) from None


def of_integers(array, name):
    """Raise if an array is not of integers."""
    if getattr(array, "dtype", np.dtype(object)).kind not in "iu":
        raise complain(ValueError, name, "integers", describe(array))


def one_array(content, name):
    """The array or sparse matrix, if the file held one."""
    if not hasattr(content, "shape"):
        got = f"{len(content)} arrays: {', '.join(content)}" if isinstance(content, dict) else describe(content)
        raise complain(ValueError, name, "one array, or as scipy.sparse.save_npz writes it", got)
    return content


def one_dataset(found, wanted, name):
    """The name of the wanted, or the only, dataset of a store."""
    if wanted is not None and found:
        return one_of(found, wanted, "dataset")
    if len(found) != 1:
        names = ", ".join(name if len(name) <= 80 else f"{name[:77]}..." for name in found)
        got = f"{len(found)}: {names}; a dataset must be named" if found else "none"
        raise complain(ValueError, name, "a store of one matrix or tensor", got)
    return found[0]


def byte_count(text, name):
    """The number of bytes that a text says, such as 64M or 2GiB."""
    found = re.fullmatch(r"(\d+)([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise complain(ValueError, name, "a number of bytes such as 512M or 2G", describe(text))
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


def unreadable(name, ending, error):
    """The exception for a file that its ending's reader does not take."""
    return complain(ValueError, name, f"a whole {ending} file without pickled objects", describe_error(error))


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


def function(value, name):
    """A callable."""
    if not callable(value):
        raise complain(TypeError, name, "callable", describe(value))
    return value


def fraction(value, name):
    """A float above 0 and below 1."""
    value = positive(value, name)
    if value >= 1:
        raise complain(ValueError, name, "below 1", value)
    return value


def starts_blocks(source, name):
    """A function that starts a new iteration each time, unlike an iterator, which can be read once."""
    if not callable(source) or hasattr(source, "__next__"):
        what = "an array, three arrays of a CSR matrix, or a function that starts a new iteration over blocks of rows"
        raise complain(TypeError, name, what, describe(source))
    return source


def given_shape(shape, found):
    """Raise if a shape was given and is not that found."""
    if shape is not None and lengths(shape) != tuple(found):
        raise complain(ValueError, "shape", f"that of the store, {tuple(found)}", describe(shape))


def shape_of_two(shape):
    """Two positive lengths as ints."""
    if shape is None:
        raise complain(ValueError, "shape", "given where the source does not say it", "None")
    return matrix_shape(lengths(tuple(map(int, shape))))


def some_blocks(first):
    """Raise if an iteration ended before its first block."""
    if first is None:
        raise complain(ValueError, "source", "a function that starts an iteration over blocks of rows", "no block")


def three_arrays(parts, name):
    """Data, column numbers and row starts of a CSR matrix."""
    if len(parts) != 3 or not all(len(getattr(part, "shape", None) or ()) == 1 for part in parts):
        raise complain(TypeError, name, "three 1-dimensional arrays: data, indices, indptr", describe(parts))
    return parts


def csr_members(group, encoding, name):
    """Data, column numbers and row starts in a group."""
    if any(part not in group for part in ("data", "indices", "indptr")):
        got = f"a group of {describe(sorted(group.keys()))}"
        raise complain(ValueError, name, "an array of a store, or a group with data, indices and indptr", got)
    one_of(("csr_matrix", "csc_matrix"), encoding, f"the encoding-type of {name}")
    return three_arrays(tuple(group[part] for part in ("data", "indices", "indptr")), name)


def row_starts(indptr, n_data, n_indices, shape):
    """Where each row begins among the entries, as integers from 0 to their number."""
    starts = np.asarray(indptr)
    if starts.dtype.kind not in "iu":
        raise complain(TypeError, "indptr", "integers", f"dtype {starts.dtype}")
    starts = starts.astype(np.int64, copy=False)
    if len(starts) != shape[0] + 1:
        raise complain(ValueError, "indptr", f"of length {shape[0] + 1} for shape {shape}", len(starts))
    if starts[0] != 0 or starts[-1] != n_data or n_data != n_indices or (np.diff(starts) < 0).any():
        got = f"{starts[0]} to {starts[-1]} for {n_data} and {n_indices} entries"
        raise complain(ValueError, "indptr", "rising from 0 to the number of entries", got)
    return starts


def column_numbers(columns, n):
    """Column numbers of a CSR matrix, from 0 to n - 1."""
    if columns.dtype.kind not in "iu" or (len(columns) and not 0 <= columns.min() <= columns.max() < n):
        raise complain(ValueError, "indices", f"integers from 0 to {n - 1}", f"others, of dtype {columns.dtype}")
    return columns


def row_bytes(row, limit):
    """The bytes of the longest row, if a block can hold one."""
    if row > limit:
        raise complain(ValueError, "block_bytes", f"at least {2 * row}, two blocks of one row", 2 * limit)
    return row


def truncated(got, wanted):
    """The exception for a file that ends too early."""
    return EOFError(f"{wanted - got} of {wanted} bytes missing: the file is truncated")


def unreadable_rows(start, stop, error):
    """The exception for rows that a store, or a user's function, did not give."""
    got = f"{type(error).__name__}: {describe_error(error)}"
    return complain(OSError, "A", "readable", f"{got}, in rows {start} to {'the next' if stop is None else stop - 1}")


def unreadable_store(error, name):
    """The exception for what a store's own package raises for a damaged one."""
    return complain(OSError, name, "readable", f"{type(error).__name__}: {describe_error(error)}")


def block_of_rows(block, shape, kind, start):
    """Raise if a block is not of the width and the dtype of the others, or goes beyond the last row."""
    where = f"in the block from row {start}"
    if block.shape[1] != shape[1]:
        raise complain(ValueError, "each block of A", f"of {shape[1]} columns", f"{block.shape[1]} {where}")
    if start + block.shape[0] > shape[0]:
        raise complain(ValueError, "blocks of A", f"of {shape[0]} rows in all", f"{start + block.shape[0]} or more")
    if not np.can_cast(array_dtype(block.dtype), kind, "same_kind"):
        raise complain(TypeError, "each block of A", f"of dtype {kind}", f"dtype {block.dtype} {where}")


def all_rows(done, wanted):
    """Raise if the blocks do not add up to the rows."""
    if done != wanted:
        raise complain(ValueError, "blocks of A", f"of {wanted} rows in all", done)


def same_shape(now, before):
    """Raise if a store has another shape than it had."""
    if tuple(now) != tuple(before):
        raise complain(ValueError, "A", f"of the same shape in every pass, {tuple(before)}", tuple(now))


def same_data(same, start, stop):
    """Raise if rows are not what they were in the pass before."""
    if not same:
        got = f"other entries in rows {start} to {stop - 1}"
        raise complain(ValueError, "A", "the same in every pass", got)
