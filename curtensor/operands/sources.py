"""Where the rows of a large matrix come from: files, HDF5, zarr, three arrays of a CSR matrix, or a function."""

import itertools
import mmap
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from curtensor import _validation, operands


class Source(NamedTuple):
    """A matrix of which rows can be read, in any order or, from a function, from the first to the last.

    `begin` starts a new iteration over blocks, given the row numbers between which to cut; a function cuts as it
    likes. `read` gives the rows from one number to another, and is None for a function. `shape_now` is the shape as
    the store has it at the moment.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    begin: Callable[[Any], Iterator]
    read: Callable[[int, int], Any] | None
    shape_now: Callable[[], tuple]
    chunk: int = 1  # rows that the store keeps together
    starts: np.ndarray | None = None  # of a CSR matrix: where each row begins among the entries
    entry_bytes: int = 0  # of a dense matrix or an entry of CSR: as stored, with its index


def find(source, shape, dtype):
    """The `Source` that a user's object is; of what is stored by columns, that of the transpose."""
    if isinstance(source, tuple) or is_group(source):
        *parts, shape = csr_parts(source, shape)
        return csr_source(*parts, shape[::-1] if by_columns(source) else shape)
    if all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        _validation.matrix_shape(source.shape)
        _validation.given_shape(shape, source.shape)
        return array_source(source.T if by_columns(source) else source)
    return function_source(_validation.starts_blocks(source), shape, dtype)


def by_columns(source):
    """Whether an object is stored column by column: a Fortran-ordered mapped file, or CSC in a group."""
    if isinstance(source, np.memmap):
        return source.ndim == 2 and source.flags.f_contiguous and not source.flags.c_contiguous
    return is_group(source) and encoding_of(source) == "csc_matrix"


def encoding_of(group):
    """How a group holds a sparse matrix: CSR unless it says otherwise."""
    return str(getattr(group, "attrs", {}).get("encoding-type", "csr_matrix"))


def is_group(source):
    """Whether an object holds arrays by name, as HDF5 and zarr groups do."""
    return hasattr(source, "keys") and not hasattr(source, "dtype") and hasattr(source, "__getitem__")


def array_source(array):
    """Whatever has a shape and a dtype and can be sliced by rows."""
    read = slices_of(array)
    return Source(
        tuple(map(int, array.shape)),
        np.dtype(array.dtype),
        partial(cut_by, read),
        read,
        partial(shape_of, array),
        rows_together(array),
        None,
        np.dtype(array.dtype).itemsize,
    )


def csr_parts(source, shape):
    """data, indices, indptr and the shape of a CSR (or CSC) matrix in a tuple, or in a group as AnnData writes it."""
    if isinstance(source, tuple):
        return *_validation.three_arrays(source), _validation.shape_of_two(shape)
    parts = _validation.csr_members(source, encoding_of(source))
    stored = getattr(source, "attrs", {}).get("shape")
    if stored is not None:
        _validation.given_shape(shape, tuple(map(int, stored)))
    return *parts, _validation.shape_of_two(shape if stored is None else stored)


def csr_source(data, indices, indptr, shape):
    """A CSR matrix whose entries stay where they are; only where its rows begin is read at once."""
    starts = _validation.row_starts(slices_of(indptr)(0, indptr.shape[0]), data.shape[0], indices.shape[0], shape)
    read_data, read_indices = slices_of(data), slices_of(indices)

    def read(start, stop):
        first, last = int(starts[start]), int(starts[stop])
        columns = _validation.column_numbers(read_indices(first, last), shape[1])
        entries = (read_data(first, last), columns, starts[start : stop + 1] - first)
        return sparse.csr_array(entries, shape=(stop - start, shape[1]))

    def shape_now():
        lengths = shape_of(data), shape_of(indices), shape_of(indptr)
        return shape if lengths == (data_shape, data_shape, (shape[0] + 1,)) else lengths

    data_shape = tuple(data.shape)
    size = np.dtype(data.dtype).itemsize + np.dtype(indices.dtype).itemsize
    kind = np.dtype(data.dtype)
    return Source(shape, kind, partial(cut_by, read), read, shape_now, 1, starts, size)


def function_source(start, shape, dtype):
    """A function that starts a new iteration over blocks of rows; read once to count them if the shape is not given."""
    first = None
    if shape is None:
        rows = 0
        for block in start():
            first = block if first is None else first
            rows += np.shape(block)[0]
        _validation.some_blocks(first)
        shape = rows, np.shape(first)[1]
    shape = _validation.shape_of_two(shape)
    if first is None and dtype is None:
        first = next(iter(start()), None)
        _validation.some_blocks(first)
    kind = _validation.array_dtype(np.dtype(dtype)) if dtype is not None else working_dtype(first)
    return Source(shape, kind, lambda cuts: iter(start()), None, lambda: shape, 1, None, kind.itemsize)


def working_dtype(block):
    """The dtype in which to compute with a block."""
    operand, block = operands.find(block)
    return operand.dtype(block)


def cut_by(read, cuts):
    """Blocks of rows between the numbers, one after the other."""
    for start, stop in itertools.pairwise(cuts):
        yield read(start, stop)


def row_cuts(source, limit, itemsize):
    """Row numbers between which a block has at most `limit` bytes, and is of whole chunks where these are smaller."""
    m, n = source.shape
    stored = source.entry_bytes if source.dtype.itemsize != itemsize else 0
    if source.read is None:
        return []
    if source.starts is None:
        row = n * (itemsize + stored)
        height = limit // _validation.row_bytes(row, limit)
        height -= height % source.chunk if height > source.chunk else 0
        return [*range(0, m, height), m]
    entry = source.entry_bytes + itemsize
    _validation.row_bytes(int(np.diff(source.starts).max()) * entry, limit)
    cuts = [0]
    while cuts[-1] < m:
        beyond = source.starts[cuts[-1]] + limit // entry
        cuts.append(int(np.searchsorted(source.starts, beyond, side="right")) - 1)
    return cuts


def bytes_between(source, start, stop):
    """Bytes read for some rows, whole chunks where the store has such."""
    if source.starts is not None:
        return int(source.starts[stop] - source.starts[start]) * source.entry_bytes
    whole = min(-(-stop // source.chunk) * source.chunk, source.shape[0]) - start // source.chunk * source.chunk
    return whole * source.shape[1] * source.entry_bytes


def rows_together(array):
    """Rows that a store keeps in one chunk, or shard."""
    together = getattr(array, "shards", None) or getattr(array, "chunks", None)
    return int(together[0]) if isinstance(together, tuple) and together else 1


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
    return lambda start, stop: np.asarray(array[start:stop])


def read_file(path, begin, width, dtype, start, stop):
    """Rows of an array in a file."""
    block = np.empty((stop - start, *width), dtype)
    view, done = memoryview(block.view(np.uint8).reshape(-1)), 0
    with open(path, "rb", buffering=0) as file:
        file.seek(begin + start * (block.nbytes // max(len(block), 1)))
        while done < block.nbytes:
            count = file.readinto(view[done:])
            if not count:
                raise _validation.truncated(done, block.nbytes)
            done += count
    return block

