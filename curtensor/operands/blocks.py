"""Matrices on disk, or behind a function, in blocks of whole rows: the next is read while this one is worked on."""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from curtensor import _validation, operands
from curtensor.operands import BLOCK_BYTES, ndarray, scipy_sparse, sources
from curtensor.operands.arithmetic import dense
from curtensor.operands.usual import knows_norm as knows_norm
from curtensor.operands.usual import like as like


@dataclass(eq=False)
class Counts:
    """What has been read so far."""

    passes: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """A matrix read in blocks of rows, as `row_blocks` makes it.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    dtype : dtype
        In which blocks are handed on.
    passes, bytes_read : int
        How often the rows have been read from the first on, and the bytes read in all.
    T : RowBlocks
        The transpose: the same rows, read as columns.
    """

    source: sources.Source
    dtype: np.dtype
    cuts: list[int]  # row numbers between blocks
    callback: Callable[[float], object]
    counts: Counts
    probes: np.ndarray  # a product of each row with one random vector, by which a changed row is noticed
    transposed: bool = False
    factors: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.source.shape[::-1] if self.transposed else self.source.shape

    @property
    def passes(self) -> int:
        """How often the rows have been read from the first on."""
        return self.counts.passes

    @property
    def bytes_read(self) -> int:
        """Bytes read in all."""
        return self.counts.bytes_read

    @property
    def T(self) -> "RowBlocks":
        """The transpose."""
        return replace(self, transposed=not self.transposed)

    def __mul__(self, factor: float) -> "RowBlocks":
        """The matrix times a number, block by block as these are read."""
        return replace(self, factors=(*self.factors, factor))


def row_blocks(
    source: Any,
    /,
    shape: tuple[int, int] | None = None,
    *,
    dtype: Any = None,
    block_bytes: int = BLOCK_BYTES,
    callback: Callable[[float], object] | None = None,
) -> RowBlocks:
    """A matrix larger than memory, which all functions of matrices read in blocks of whole rows.

    `np.memmap`, h5py datasets and zarr arrays, and HDF5 or zarr groups with a CSR matrix, go into these functions as
    they are; this adds functions, three arrays of a CSR matrix, arrays of other kinds, and the options.

    Parameters
    ----------
    source : array_like, sparse matrix, DataFrame, tuple, group or callable
        Anything with a shape and a dtype that slices by rows, dask arrays and those of frameworks too (which then give
        NumPy's results); ``(data, indices, indptr)``, or an HDF5 or zarr group with these names, as AnnData writes it,
        for a CSR matrix (or CSC, where the group says so); or a function without arguments that starts a new iteration
        over blocks of rows, dense or sparse, the same each time.
    shape : tuple of int, optional
        Rows and columns; found from the source by default, for which a function is read once more.
    dtype : dtype, optional
        In which to compute, for example float32 for a store of float64. By default that of the store, or of the
        function's first block; integers and bool as float64.
    block_bytes : int, default 268435456
        Memory for blocks, in bytes, 256 MiB by default: two at a time, one worked on and one being read. What a
        function yields is taken as it comes.
    callback : callable, optional
        Called after each block with the fraction of the pass that is done, a float from 0 to 1.

    Returns
    -------
    A : RowBlocks
        With `shape`, `dtype`, `T`, and the counts `passes` and `bytes_read`.

    Raises
    ------
    TypeError
        If the source is of another kind, an iterator, which can be read but once, among these.
    ValueError
        If it is not a matrix, is packed (see Notes), or a block cannot hold a row. While A is read: if it is not
        finite, changes its shape, its width, or its entries between passes (seen by a product of each row with a random
        vector, if a block changes by more than rounding), or has fewer or more rows than it should.
    OSError
        While A is read: if the store, or the function, fails; the message names the rows.

    Notes
    -----
    Passes over A: none here, one for a function without a shape. A pass reads the rows in order, a whole number of the
    store's chunks at a time where a block can hold these. `cur_decomposition` makes one pass for the sketches, one to
    gather C, and one more for the projection core, which gathers R too; for the intersection core R's rows are read
    alone, or, from a function, by one more pass. Panels of a transpose take a pass each.

    Arrays whose attributes say by the CF conventions that they hold other numbers than they mean (``scale_factor``,
    ``add_offset``, ``_FillValue``, ``missing_value``) are refused: `xarray.open_dataset` decodes them.

    Memory is `block_bytes`, besides O((m + n) k) for the decomposition. For data out of memory it is the passes that
    count [1]_.

    References
    ----------
    .. [1] N. Halko, P.-G. Martinsson, Y. Shkolnisky, M. Tygert, "An algorithm for the principal component analysis of
       large data sets", SIAM J. Sci. Comput. 33(5), 2011.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> def batches():
    ...     for start in range(0, 300, 100):
    ...         yield 1.0 / (1 + np.arange(start, start + 100)[:, None] + np.arange(50))
    >>> A = ct.row_blocks(batches, (300, 50), dtype=float)
    >>> ct.cur_decomposition(A, 5, rng=0).error_estimate < 1e-3
    True
    >>> A.passes
    3
    """
    source = source if isinstance(source, tuple) else operands.plain(source, "source")
    return in_blocks(source, shape, dtype, block_bytes, callback, "source")


def in_blocks(source, shape, dtype, block_bytes, callback, name):
    """The checks and the body of `row_blocks`, for an argument of some name."""
    block_bytes = _validation.integer(block_bytes, "block_bytes", 1, np.inf)
    callback = _validation.callback_function(callback)
    try:
        found = sources.source_of(source, shape, dtype, name)
    except (KeyError, RuntimeError) as error:
        if callable(source):
            raise
        raise _validation.unreadable_store(error, name) from error
    kind = _validation.array_dtype(found.dtype) if dtype is None else sources.dtype_asked_for(dtype)
    cuts = found.cuts(block_bytes // 2, kind.itemsize)
    return RowBlocks(found, kind, cuts, callback, Counts(), unknown(found.shape[0], kind), sources.by_columns(source))


def unknown(m, kind):
    """Products of rows that have not been read yet."""
    return np.full(m, np.nan, kind)


def wrap(A):
    """A as `RowBlocks`, which remembers nothing of the rows."""
    A = A if isinstance(A, RowBlocks) else in_blocks(A, None, None, BLOCK_BYTES, None, "A")
    return replace(A, probes=unknown(len(A.probes), A.dtype))


def dtype(A):
    """The dtype to compute in."""
    return A.dtype


def by_columns(A):
    """Whether A.T is read row by row, and A by a pass for each panel."""
    return A.transposed


def matmat(A, X):
    """``A @ X``."""
    if A.transposed:
        return rmatmat(A.T, X.conj()).conj()
    product = np.empty((A.shape[0], X.shape[1]), A.dtype)
    for rows, block in in_turn(A):
        product[rows] = dense(block @ X)
    return product


def rmatmat(A, Y):
    """``A^H @ Y``."""
    if A.transposed:
        return matmat(A.T, Y.conj()).conj()
    product = np.zeros((A.shape[1], Y.shape[1]), A.dtype)
    for rows, block in in_turn(A):
        product += operand_of(block).rmatmat(block, Y[rows])
    return product


def normal_product(A, X):
    """``A^H @ (A @ X)``, in one pass."""
    if A.transposed:
        return rmatmat(A, matmat(A, X))
    product = np.zeros((A.shape[1], X.shape[1]), A.dtype)
    for _, block in in_turn(A):
        product += operand_of(block).rmatmat(block, dense(block @ X))
    return product


def images_and_norms(A, Y, X, exponent=0):
    """``A^H @ Y``, ``A @ X``, and of 2^exponent A the squared norms of rows and of columns, in one pass."""
    if A.transposed:
        right, left, columns, rows = images_and_norms(A.T, X.conj(), Y.conj(), exponent)
        return left.conj(), right.conj(), rows, columns
    left, right = np.zeros((A.shape[1], Y.shape[1]), A.dtype), np.empty((A.shape[0], X.shape[1]), A.dtype)
    of_rows, of_columns = np.empty(A.shape[0]), np.zeros(A.shape[1])
    for rows, block in in_turn(A):
        share, right[rows], of_rows[rows], squares = operand_of(block).images_and_norms(block, Y[rows], X, exponent)
        left += share
        of_columns += squares
    return left, right, of_rows, of_columns


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm in one pass, for real Y and X."""
    if A.transposed:
        left, right, square = sketch_both(A.T, X, Y)
        return right.conj(), left.conj(), square
    left = np.zeros((Y.shape[1], A.shape[1]), A.dtype)
    right = np.empty((X.shape[1], A.shape[0]), A.dtype)
    square = 0.0
    for rows, block in in_turn(A):
        right[:, rows], part = operand_of(block).add_sketch(block, Y[rows], X, left)
        square += part
    return left.T.conj(), right.T, square


def take(A, indices, axis):
    """Copies of rows (axis 0), by reading these alone where a store can, or of columns (axis 1), by a pass."""
    if A.transposed:
        return take(A.T, indices, 1 - axis).T
    if axis == 1:
        return joined_rows((block[:, indices] for _, block in in_turn(A)), (A.shape[0], len(indices)), A.dtype)
    wanted, places = np.unique(np.asarray(indices, dtype=np.intp), return_inverse=True)
    found = in_turn(A, wanted.max(initial=-1) + 1) if A.source.read is None else around(A, wanted)
    return joined_rows((part_of(wanted, *pair) for pair in found), (len(wanted), A.shape[1]), A.dtype)[places]


def take_and_rmatmat(A, indices, Y):
    """Rows and ``A^H @ Y``, in one pass."""
    if A.transposed:
        return take(A, indices, 0), rmatmat(A, Y)
    wanted, places = np.unique(np.asarray(indices, dtype=np.intp), return_inverse=True)
    parts, product = [], np.zeros((A.shape[1], Y.shape[1]), A.dtype)
    for rows, block in in_turn(A):
        parts.append(part_of(wanted, rows, block))
        product += operand_of(block).rmatmat(block, Y[rows])
    return joined_rows(parts, (len(wanted), A.shape[1]), A.dtype)[places], product


def panels(A):
    """Dense panels of rows with their slices; of a transpose, a pass for each of as many columns as a block holds."""
    if not A.transposed:
        for rows, block in in_turn(A):
            for within, panel in operand_of(block).panels(block):
                yield slice(rows.start + within.start, rows.start + within.stop), panel
        return
    height = max(1, max(np.diff(A.cuts), default=1) * A.shape[0] // A.shape[1])
    for start in range(0, A.shape[0], height):
        rows = slice(start, min(start + height, A.shape[0]))
        yield rows, np.ascontiguousarray(dense(take(A, np.arange(rows.start, rows.stop), 0)))


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    found = []
    for rows, block in in_turn(A):
        block = block.T if A.transposed else block
        index = operand_of(block).first_nonfinite(block)
        if index is not None:
            i, j = index
            found.append((i, rows.start + j) if A.transposed else (rows.start + i, j))
    return min(found, default=None)


def largest(A):
    """Largest modulus of a real or imaginary part."""
    return float(np.max([operand_of(block).largest(block) for _, block in in_turn(A)]))


def diagonal(A):
    """The diagonal, by a pass."""
    return np.concatenate([block.diagonal(rows.start) for rows, block in in_turn(A)])


def whole(A):
    """All rows in memory."""
    return take(A, np.arange(A.shape[0]), 0)


def squared_norm(A, exponent=0):
    """``||2^exponent A||_F^2``."""
    return sum(operand_of(block).squared_norm(block, exponent) for _, block in in_turn(A))


def copies_multiples(A):
    """Not so: blocks are multiplied as they are read."""
    return False


def operand_of(block):
    """The operand for a block in memory."""
    return scipy_sparse if sparse.issparse(block) else ndarray


def in_turn(A, stop=None):
    """(slice of rows, block) up to a row, the next one read by a second thread while this one is worked on."""
    m = A.source.shape[0]
    with closing(read_in_turn(A, m if stop is None else stop)) as blocks, ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(next, blocks, None)
        while (found := ahead.result()) is not None:
            ahead = reader.submit(next, blocks, None)
            yield found
            A.callback(found[0].stop / m)


def read_in_turn(A, stop):
    """(slice of rows, block) up to a row, each block checked and in the dtype to compute in."""
    source = A.source
    A.counts.passes += 1
    with reading(0, None):
        now, blocks = source.shape_now(), source.begin(A.cuts)
    same_shape(now, source.shape)
    done = 0
    while done < stop:
        with reading(done, next_cut(A, done)):
            block = next(blocks, None)
        if block is None:
            all_rows(done, source.shape[0])
        rows, block = checked_block(A, block, done)
        yield rows, block
        done = rows.stop
    if stop == source.shape[0]:
        with reading(done, None):
            done += sum(np.shape(block)[0] for block in itertools.islice(blocks, 1))  # one too many, or none
        all_rows(done, stop)


def next_cut(A, start):
    """Where the block ends that begins at a row; None where a function decides."""
    return None if A.source.read is None else A.cuts[np.searchsorted(A.cuts, start) + 1]


def around(A, wanted):
    """(slice of rows, block) with some of the wanted rows, chunk by chunk."""
    together = min(A.source.chunk, A.cuts[1])
    for group in np.split(wanted, np.flatnonzero(np.diff(wanted // together)) + 1):
        if len(group):
            start, stop = int(group[0]), int(group[-1]) + 1
            with reading(start, stop):
                block = A.source.read(start, stop)
            yield checked_block(A, block, start)


@contextmanager
def reading(start, stop):
    """Names the rows in what a store, or a user's function, raises."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise unreadable_rows(start, stop, error) from error


def checked_block(A, block, start):
    """Its slice of rows, and a block in the dtype to compute in, its rows contiguous, after a look for changes."""
    source = A.source
    block = operands.find(block)[1]
    block = whole(block) if isinstance(block, RowBlocks) else block
    block_of_rows(block, source.shape, A.dtype, start)
    rows = slice(start, start + block.shape[0])
    A.counts.bytes_read += source.size_of(rows, block)
    own = source.read is not None  # a function may use its block's memory again
    if sparse.issparse(block):
        block = sparse.csr_array(block, dtype=A.dtype, copy=not own)
    else:
        block = np.array(block, A.dtype, order="C", copy=None if own else True)
    with np.errstate(all="ignore"):
        products = block @ random_vector(block.shape[1], A.dtype)
        change = np.abs(products - A.probes[rows]).max(initial=0)
        slack = 100 * np.sqrt(block.shape[1]) * np.finfo(A.dtype).eps * np.abs(products).max(initial=0)
    same_data(not change > slack, rows.start, rows.stop)  # NaN: not read before, or not finite
    A.probes[rows] = products
    for factor in A.factors:
        block = block * factor
    return rows, block


@functools.lru_cache(4)
def random_vector(n, kind):
    """The vector with which rows are multiplied."""
    return np.random.default_rng(n).standard_normal(n).astype(np.empty(0, kind).real.dtype)


def part_of(wanted, rows, block):
    """Those of the wanted rows, in order, that a block holds."""
    first, last = np.searchsorted(wanted, (rows.start, rows.stop))
    return block[wanted[first:last] - rows.start]


def joined_rows(parts, shape, kind):
    """One array of its parts, from the first rows to the last, each no longer needed once it is copied."""
    parts = iter(parts)
    first = next(parts, np.empty((0, shape[1]), kind))
    if sparse.issparse(first):
        return sparse.vstack([sparse.csr_array(part) for part in (first, *parts)], format="csr")
    whole, done = np.empty(shape, kind), 0
    for part in itertools.chain([first], parts):
        whole[done : done + len(part)] = dense(part)
        done += len(part)
    return whole


def unreadable_rows(start, stop, error):
    """The exception for rows that a store, or a user's function, did not give."""
    got = f"{type(error).__name__}: {_validation.describe_error(error)}"
    return _validation.complain(
        OSError, "A", "readable", f"{got}, in rows {start} to {'the next' if stop is None else stop - 1}"
    )


def block_of_rows(block, shape, kind, start):
    """Raise if a block is not of the width and the dtype of the others, or goes beyond the last row."""
    where = f"in the block from row {start}"
    if block.shape[1] != shape[1]:
        raise _validation.complain(ValueError, "each block of A", f"of {shape[1]} columns", f"{block.shape[1]} {where}")
    if start + block.shape[0] > shape[0]:
        raise _validation.complain(
            ValueError, "blocks of A", f"of {shape[0]} rows in all", f"{start + block.shape[0]} or more"
        )
    if not np.can_cast(_validation.array_dtype(block.dtype), kind, "same_kind"):
        raise _validation.complain(TypeError, "each block of A", f"of dtype {kind}", f"dtype {block.dtype} {where}")


def all_rows(done, wanted):
    """Raise if the blocks do not add up to the rows."""
    if done != wanted:
        raise _validation.complain(ValueError, "blocks of A", f"of {wanted} rows in all", done)


def same_shape(now, before):
    """Raise if a store has another shape than it had."""
    if tuple(now) != tuple(before):
        raise _validation.complain(ValueError, "A", f"of the same shape in every pass, {tuple(before)}", tuple(now))


def same_data(same, start, stop):
    """Raise if rows are not what they were in the pass before."""
    if not same:
        got = f"other entries in rows {start} to {stop - 1}"
        raise _validation.complain(ValueError, "A", "the same in every pass", got)
