"""Where the rows of a large matrix come from: files, HDF5, zarr, three arrays of a CSR matrix, or a function."""

import itertools
import mmap
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from curtensor import _validation, operands
from curtensor.operands import is_group
from curtensor.operands.arithmetic import declared

CACHED_BYTES = 2**24  # of a block where the store's chunks are no larger: what a processor's cache may hold


class Source(NamedTuple):
    """A matrix whose rows can be read, in any order or, from a function, from the first to the last.

    `begin` starts a new iteration over blocks, given the row numbers between which to cut; a function cuts as it
    likes. `read` gives the rows from one number to another, and is None for a function. `shape_now` is the shape as
    the store has it at the moment. `cuts` is given the most bytes that a block may take and the size of an entry in
    memory; `size_of` the rows of a block and the block, and says how many bytes were read for it.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    begin: Callable[[Any], Iterator]
    read: Callable[[int, int], Any] | None
    shape_now: Callable[[], tuple]
    cuts: Callable[[int, int], list[int]]
    size_of: Callable[[slice, Any], int]
    chunk: int = 1  # rows that the store keeps together


def source_of(source, shape, dtype, name):
    """The `Source` that a user's object is; of what is stored by columns, that of the transpose."""
    if sparse.issparse(source):
        given_shape(shape, source.shape)
        source, shape = operands.find(source)[1], source.shape
    if sparse.issparse(source) or isinstance(source, tuple) or is_group(source):
        *parts, shape = csr_parts(source, shape, name)
        return csr_source(*parts, shape[::-1] if by_columns(source) else shape)
    if operands.of_package(source, "dask") or operands.of_framework(source):
        operand, source = operands.find(source)
        given_shape(shape, source.shape)
        return array_source(source, partial(operand.rows, source), operand.dtype(source))
    if hasattr(source, "shape") and hasattr(source, "__getitem__"):
        stored_array(source, name)
        _validation.matrix_shape(source.shape)
        given_shape(shape, source.shape)
        return array_source(source.T if by_columns(source) else source)
    return function_source(starts_blocks(source, name), shape, dtype)


def by_columns(source):
    """Whether an object is stored column by column: a Fortran-ordered mapped file, or CSC."""
    if isinstance(source, np.memmap):
        return source.ndim == 2 and source.flags.f_contiguous and not source.flags.c_contiguous
    return getattr(source, "format", "") == "csc" or (is_group(source) and encoding_of(source) == "csc_matrix")


def encoding_of(group):
    """How a group holds a sparse matrix: CSR unless it says otherwise."""
    return str(getattr(group, "attrs", {}).get("encoding-type", "csr_matrix"))


def array_source(array, read=None, dtype=None):
    """Whatever has a shape and a dtype and can be sliced by rows, or read by a function from row to row."""
    m, n = shape = tuple(map(int, array.shape))
    stored, chunk, read = np.dtype(dtype or array.dtype), rows_together(array), read or slices_of(array)

    def cuts(limit, itemsize):
        row = n * (itemsize + (stored.itemsize if stored.itemsize != itemsize else 0))
        height = min(max(CACHED_BYTES // row, chunk), limit // row_bytes(row, limit))
        height -= height % chunk if height > chunk else 0
        return [*range(0, m, height), m]

    def size_of(rows, block):
        whole = min(-(-rows.stop // chunk) * chunk, m) - rows.start // chunk * chunk
        return whole * n * stored.itemsize

    return Source(shape, stored, partial(cut_by, read), read, partial(shape_of, array), cuts, size_of, chunk)


def csr_parts(source, shape, name):
    """data, indices, indptr and the shape of a CSR (or CSC) matrix, three arrays of one, or a group as of AnnData."""
    if sparse.issparse(source):
        return source.data, source.indices, source.indptr, shape
    if isinstance(source, tuple):
        return *three_arrays(source, name), shape_of_two(shape)
    parts = csr_members(source, encoding_of(source), name)
    stored = getattr(source, "attrs", {}).get("shape")
    if stored is not None:
        given_shape(shape, tuple(map(int, stored)))
    return *parts, shape_of_two(shape if stored is None else stored)


def csr_source(data, indices, indptr, shape):
    """A CSR matrix whose entries stay where they are; only where its rows begin is read at once."""
    m, n = shape
    stored_array(data)
    starts = row_starts(slices_of(indptr)(0, indptr.shape[0]), data.shape[0], indices.shape[0], shape)
    read_data, read_indices, kind = slices_of(data), slices_of(indices), np.dtype(data.dtype)
    stored = kind.itemsize + np.dtype(indices.dtype).itemsize

    def read(start, stop):
        first, last = int(starts[start]), int(starts[stop])
        columns = column_numbers(read_indices(first, last), n)
        entries = (read_data(first, last), columns, starts[start : stop + 1] - first)
        return sparse.csr_array(entries, shape=(stop - start, n))

    def shape_now():
        lengths = shape_of(data) + shape_of(indices) + shape_of(indptr)
        return shape if lengths == (starts[-1], starts[-1], m + 1) else lengths

    def cuts(limit, itemsize):
        entry = stored + itemsize
        longest = row_bytes(int(np.diff(starts).max()) * entry, limit)
        entries = min(max(CACHED_BYTES, longest), limit) // entry
        found = [0]
        while found[-1] < m:
            found.append(int(np.searchsorted(starts, starts[found[-1]] + entries, side="right")) - 1)
        return found

    def size_of(rows, block):
        return int(starts[rows.stop] - starts[rows.start]) * stored

    return Source(shape, kind, partial(cut_by, read), read, shape_now, cuts, size_of)


def function_source(start, shape, dtype):
    """A function that starts a new iteration over blocks of rows; read once to count them if the shape is not given."""
    first = None
    if shape is None:
        m = 0
        for block in start():
            first = block if first is None else first
            m += np.shape(block)[0]
        some_blocks(first)
        shape = m, np.shape(first)[1]
    shape = shape_of_two(shape)
    if first is None and dtype is None:
        first = next(iter(start()), None)
        some_blocks(first)
    kind = dtype_asked_for(dtype) if dtype is not None else working_dtype(first)
    return Source(
        shape, kind, lambda cuts: iter(start()), None, lambda: shape, lambda limit, itemsize: [], size_in_memory
    )


def working_dtype(block):
    """The dtype in which to compute with a block."""
    operand, block = operands.find(block)
    return operand.dtype(block)


def size_in_memory(rows, block):
    """Bytes that a block takes."""
    parts = (block.data, block.indices, block.indptr) if sparse.issparse(block) else (block,)
    return sum(part.nbytes for part in parts)


def cut_by(read, cuts):
    """Blocks of rows between the numbers, one after the other."""
    for start, stop in itertools.pairwise(cuts):
        yield read(start, stop)


def rows_together(array):
    """Rows that a store keeps in one chunk, or shard."""
    together = getattr(array, "shards", None) or getattr(array, "chunks", None)
    return int(np.max(together[0])) if isinstance(together, tuple) and together else 1


def shape_of(array):
    """The shape as the store has it now."""
    if type(array).__module__.split(".")[0] == "zarr":
        import zarr

        array = zarr.open_array(store=array.store, path=array.path, mode="r")
    return tuple(array.shape)


def slices_of(array):
    """A function that reads from one number to another along the first axis.

    Of a mapped file by reading the file, since mapped pages would count as memory of the process.
    """
    if isinstance(array, np.memmap):
        root = array
        while isinstance(root.base, np.memmap):
            root = root.base
        if array.flags.c_contiguous and isinstance(root.base, mmap.mmap) and array.filename and array.mode != "c":
            begin = root.offset + array.ctypes.data - root.ctypes.data
            return partial(read_file, array.filename, begin, array.shape[1:], array.dtype)
    shape, kind = tuple(array.shape), np.dtype(array.dtype)
    return lambda start, stop: declared(array[start:stop], (stop - start, *shape[1:]), kind, "each block of A")


def read_file(path, begin, width, dtype, start, stop):
    """Rows of an array in a file."""
    block = np.empty((stop - start, *width), dtype)
    view, done = memoryview(block.view(np.uint8).reshape(-1)), 0
    with open(path, "rb", buffering=0) as file:
        file.seek(begin + start * (block.nbytes // max(len(block), 1)))
        while done < block.nbytes:
            count = file.readinto(view[done:])
            if not count:
                raise cut_short(done, block.nbytes)
            done += count
    return block


def stored_array(A, name="A"):
    """Raise if what a store holds is no array of decoded numbers: a group or file, an empty dataset, a named type."""
    if hasattr(A, "keys") and not hasattr(A, "dtype"):
        got = f"a group of {_validation.describe(sorted(A.keys()))}"
        raise _validation.complain(TypeError, name, "an array of a store, not its file or group", got)
    if not hasattr(A, "shape") or not hasattr(A, "dtype"):
        raise _validation.complain(TypeError, name, "an array of a store", _validation.describe(A))
    if A.shape is None:
        raise _validation.complain(ValueError, name, "an array with entries", "an empty dataset of no shape")
    stored = getattr(A, "_dset", A)  # h5py's view by astype has no attributes
    _validation.not_packed(getattr(stored, "attrs", {}), name)


def starts_blocks(source, name):
    """A function that starts a new iteration each time, unlike an iterator, which can be read once."""
    if not callable(source) or hasattr(source, "__next__"):
        what = "an array, three arrays of a CSR matrix, or a function that starts a new iteration over blocks of rows"
        raise _validation.complain(TypeError, name, what, _validation.describe(source))
    return source


def given_shape(shape, found):
    """Raise if a shape was given and is not that found."""
    if shape is not None and _validation.lengths(shape) != tuple(found):
        raise _validation.complain(
            ValueError, "shape", f"that of the store, {tuple(found)}", _validation.describe(shape)
        )


def dtype_asked_for(dtype):
    """The dtype to compute in that a user's argument says."""
    try:
        return _validation.array_dtype(np.dtype(dtype), "dtype")
    except (TypeError, ValueError):
        what = f"integers, bool, {', '.join(_validation.DTYPES)}"
        raise _validation.complain(TypeError, "dtype", what, _validation.describe(dtype)) from None


def shape_of_two(shape):
    """Two positive lengths as ints."""
    if shape is None:
        raise _validation.complain(ValueError, "shape", "given where the source does not say it", "None")
    return _validation.matrix_shape(_validation.lengths(shape))


def some_blocks(first):
    """Raise if an iteration ended before its first block."""
    if first is None:
        raise _validation.complain(
            ValueError, "source", "a function that starts an iteration over blocks of rows", "no block"
        )


def three_arrays(parts, name):
    """Data, column numbers and row starts of a CSR matrix."""
    if len(parts) != 3 or not all(len(getattr(part, "shape", None) or ()) == 1 for part in parts):
        raise _validation.complain(
            TypeError, name, "three 1-dimensional arrays: data, indices, indptr", _validation.describe(parts)
        )
    return parts


def csr_members(group, encoding, name):
    """Data, column numbers and row starts in a group."""
    if any(part not in group for part in ("data", "indices", "indptr")):
        got = f"a group of {_validation.describe(sorted(group.keys()))}"
        raise _validation.complain(
            ValueError, name, "an array of a store, or a group with data, indices and indptr", got
        )
    _validation.one_of(("csr_matrix", "csc_matrix"), encoding, f"the encoding-type of {name}")
    return three_arrays(tuple(group[part] for part in ("data", "indices", "indptr")), name)


def row_starts(indptr, n_data, n_indices, shape):
    """Where each row begins among the entries, as integers from 0 to their number."""
    starts = np.asarray(indptr)
    if starts.dtype.kind not in "iu":
        raise _validation.complain(TypeError, "indptr", "integers", f"dtype {starts.dtype}")
    starts = starts.astype(np.int64, copy=False)
    if len(starts) != shape[0] + 1:
        raise _validation.complain(ValueError, "indptr", f"of length {shape[0] + 1} for shape {shape}", len(starts))
    if starts[0] != 0 or starts[-1] != n_data or n_data != n_indices or (np.diff(starts) < 0).any():
        got = f"{starts[0]} to {starts[-1]} for {n_data} and {n_indices} entries"
        raise _validation.complain(ValueError, "indptr", "rising from 0 to the number of entries", got)
    return starts


def column_numbers(columns, n):
    """Column numbers of a CSR matrix, from 0 to n - 1."""
    if columns.dtype.kind not in "iu" or (len(columns) and not 0 <= columns.min() <= columns.max() < n):
        raise _validation.complain(
            ValueError, "indices", f"integers from 0 to {n - 1}", f"others, of dtype {columns.dtype}"
        )
    return columns


def row_bytes(row, limit):
    """The bytes of the longest row, if a block can hold one."""
    if row > limit:
        raise _validation.complain(ValueError, "block_bytes", f"at least {2 * row}, two blocks of one row", 2 * limit)
    return row


def cut_short(got, wanted):
    """The exception for a file that ends too early."""
    return EOFError(f"{wanted - got} of {wanted} bytes missing: the file is truncated")
