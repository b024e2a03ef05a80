"""Dask arrays, chunked either way or both: small tasks beside each chunk, and only their small results travel.

Each chunk meets its slices of the test matrices, which are drawn once as for an array in memory: the choice is the
same. Sums are taken over the chunks in a fixed order, so that neither scheduler nor number of workers matters. What a
lost worker held is computed again from the graph, which holds these slices, too. A chunk's shape and dtype are only
a promise until it is computed, so that each is checked beside it before anything reads it.
"""

import itertools
from functools import partial
from typing import Any, NamedTuple

import dask
import dask.array
import numpy as np
from dask.array.optimization import optimize
from dask.base import get_scheduler, unpack_collections
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph

from curtensor import _validation
from curtensor.operands import ndarray
from curtensor.operands.arithmetic import declared
from curtensor.operands.usual import by_columns as by_columns
from curtensor.operands.usual import knows_norm as knows_norm
from curtensor.operands.usual import like as like

FAN = 8  # summands of a sum that is one task
FIRST_WORKER_SECONDS = 30  # seconds to wait for a cluster's first worker
GRAPH_BYTES = 2**32  # from which on dask may warn of a large graph


def wrap(A):
    """A two-dimensional dask array of numbers in chunks of known sizes."""
    _validation.array_dtype(checked_dask(A, "A").dtype)
    _validation.matrix_shape(A.shape)
    return A


def checked_dask(A, name):
    """A dask array without a mask, in chunks of known sizes."""
    if not isinstance(A, dask.array.Array):
        raise _validation.complain(TypeError, name, "a dask array, such as df.to_dask_array(lengths=True)", type(A))
    if np.isnan(A.shape).any():
        what = f"in chunks of known sizes, as after {name}.compute_chunk_sizes()"
        raise _validation.complain(ValueError, name, what, f"shape {A.shape}")
    if isinstance(A._meta, np.ma.MaskedArray):
        raise _validation.complain(TypeError, name, "an array without a mask", "masked chunks")
    return A


def dtype(A):
    """The dtype to compute in."""
    return _validation.array_dtype(A.dtype)


def matmat(A, X):
    """``A @ X``."""
    _, columns, blocks = grid(A)
    parts = sent_slices(X, columns, len(blocks))
    return np.concatenate(compute([total(of_blocks(ndarray.matmat, line, parts)) for line in blocks]))


def rmatmat(A, Y):
    """``A^H @ Y``."""
    rows, _, blocks = grid(A)
    parts = sent_slices(Y, rows, len(blocks.T))
    return np.concatenate(compute([total(of_blocks(ndarray.rmatmat, line, parts)) for line in blocks.T]))


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm, in one pass over the chunks."""
    rows, columns, blocks = grid(A)
    lefts, rights = np.empty((2, *blocks.shape), dtype=object)
    Ys, Xs = sent_slices(Y, rows, len(blocks.T)), sent_slices(X, columns, len(blocks))
    for i, j in np.ndindex(blocks.shape):
        lefts[i, j], rights[i, j] = on(sketched_block, blocks[i, j], Ys[i], Xs[j], nout=2)
    left, pairs = compute([[total(line) for line in lefts.T], [total(line, summed_pairs) for line in rights]])
    right, squares = zip(*pairs, strict=True)
    return np.concatenate(left), np.concatenate(right), sum(squares)


def sketched_block(block, Y, X):
    """``A^H @ Y`` of a chunk, and ``A @ X`` with the squared norm: each part of a result is a task of its own."""
    left, right, square = ndarray.sketch_both(block, Y, X)
    return left, (right, square)


def images_and_norms(A, Y, X, exponent=0):
    """``A^H @ Y``, ``A @ X``, and of 2^exponent A the squared norms of rows and of columns, in one pass."""
    rows, columns, blocks = grid(A)
    parts = np.empty((4, *blocks.shape), dtype=object)
    Ys, Xs = sent_slices(Y, rows, len(blocks.T)), sent_slices(X, columns, len(blocks))
    operation = partial(norms_of_block, exponent)
    for i, j in np.ndindex(blocks.shape):
        parts[:, i, j] = on(operation, blocks[i, j], Ys[i], Xs[j], nout=4)
    left, right, of_rows, of_columns = parts
    lines = left.T, right, of_rows, of_columns.T
    return tuple(map(np.concatenate, compute([[total(line) for line in part] for part in lines])))


def norms_of_block(exponent, block, Y, X):
    """The same of a chunk."""
    return ndarray.images_and_norms(block, Y, X, exponent)


def summed_pairs(*pairs):
    """Pairs added up."""
    return tuple(sum(parts) for parts in zip(*pairs, strict=True))


def take(A, indices, axis):
    """Rows (axis 0) or columns (axis 1) as a NumPy array; each chunk gives the part of them that it holds."""
    indices = np.asarray(indices, dtype=np.intp)
    rows, columns, blocks = grid(A)
    along, across = (rows, columns) if axis == 0 else (columns, rows)
    places, parts = [], []
    for span, line in zip(along, blocks if axis == 0 else blocks.T, strict=True):
        held = held_by(span, indices)
        if len(held):
            places += [(held, other) for other in across]
            parts += [on(ndarray.take, block, indices[held] - span.start, axis) for block in line]
    return put_together(A, indices, axis, places, compute(parts))


def take_and_rmatmat(A, indices, Y):
    """Rows of A and ``A^H @ Y``, in one pass over the chunks, each let go after its one task."""
    indices = np.asarray(indices, dtype=np.intp)
    rows, columns, blocks = grid(A)
    places, parts, products = [], [], np.empty(blocks.shape, dtype=object)
    for i, (span, Ys) in enumerate(zip(rows, sent_slices(Y, rows, len(columns)), strict=True)):
        held = held_by(span, indices)
        for j, other in enumerate(columns):
            if not len(held):
                products[i, j] = on(ndarray.rmatmat, blocks[i, j], Ys)
                continue
            part, products[i, j] = on(taken_and_product, blocks[i, j], indices[held] - span.start, Ys, nout=2)
            places.append((held, other))
            parts.append(part)
    parts, products = compute([parts, [total(line) for line in products.T]])
    return put_together(A, indices, 0, places, parts), np.concatenate(products)


def taken_and_product(block, indices, Y):
    """Rows of a chunk, and its adjoint times Y."""
    return ndarray.take(block, indices, 0), ndarray.rmatmat(block, Y)


def held_by(span, indices):
    """Which of the indices lie in a slice."""
    return np.flatnonzero((span.start <= indices) & (indices < span.stop))


def put_together(A, indices, axis, places, parts):
    """Rows or columns from their parts."""
    taken = np.empty((len(indices), A.shape[1 - axis]), dtype(A))
    for place, part in zip(places, parts, strict=True):
        taken[place] = part if axis == 0 else part.T
    return taken if axis == 0 else taken.T


def panels(A):
    """The rows of each line of chunks in turn, as NumPy arrays with their slices."""
    rows, _, blocks = grid(A)
    for span, line in zip(rows, blocks, strict=True):
        yield span, np.hstack(compute([on(as_floats, block) for block in line]))


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    rows, columns, blocks = grid(A)
    found = compute([[on(ndarray.first_nonfinite, block) for block in line] for line in blocks])
    indices = [
        (span.start + place[0], other.start + place[1])
        for span, line in zip(rows, found, strict=True)
        for other, place in zip(columns, line, strict=True)
        if place is not None
    ]
    return min(indices, default=None)


def largest(A):
    """Largest modulus of a real or imaginary part."""
    return float(np.max(compute([on(ndarray.largest, block) for block in grid(A)[2].flat])))


def diagonal(A):
    """The diagonal as a NumPy array."""
    rows, columns, blocks = grid(A)
    places = [(i, j) for i, span in enumerate(rows) for j, other in enumerate(columns) if meet(span, other)]
    offsets = [rows[i].start - columns[j].start for i, j in places]
    parts = zip(places, offsets, strict=True)
    return np.concatenate(compute([on(np.diagonal, blocks[place], offset) for place, offset in parts]))


def normal_product(A, X):
    """``A^H @ (A @ X)``."""
    return rmatmat(A, matmat(A, X))


def squared_norm(A, exponent=0):
    """``||2^exponent A||_F^2``."""
    return compute(total([on(ndarray.squared_norm, block, exponent) for block in grid(A)[2].flat]))


def copies_multiples(A):
    """Not so: chunks are multiplied as they are computed."""
    return False


def meet(span, other):
    """Whether two slices have a number in common."""
    return max(span.start, other.start) < min(span.stop, other.stop)


class Chunk(NamedTuple):
    """A chunk that is still to be computed, and what it is to be."""

    block: Any
    name: str
    place: tuple[slice, ...]
    dtype: np.dtype


def grid(A, name="A"):
    """Slices of each mode which are those of the chunks, and the chunks in an array of delayed ones."""
    held = [np.flatnonzero(sizes) for sizes in A.chunks]  # a filter can leave empty chunks
    spans = []
    for sizes, places in zip(A.chunks, held, strict=True):
        stops = np.cumsum(sizes).tolist()
        spans.append([slice(stops[i] - sizes[i], stops[i]) for i in places])
    blocks = A.to_delayed()[np.ix_(*held)]
    for index in np.ndindex(blocks.shape):
        place = tuple(cuts[i] for cuts, i in zip(spans, index, strict=True))
        blocks[index] = Chunk(blocks[index], name, place, A.dtype)
    return *spans, blocks


def box(A, place, name="A"):
    """A part of A, given by slices, as a NumPy array."""
    *spans, blocks = grid(A, name)
    touched = [
        [i for i, span in enumerate(cuts) if meet(span, wanted)] for cuts, wanted in zip(spans, place, strict=True)
    ]
    local, targets = [], []
    for index in itertools.product(*touched):
        within, target = [], []
        for cuts, i, wanted in zip(spans, index, place, strict=True):
            start, stop = max(cuts[i].start, wanted.start), min(cuts[i].stop, wanted.stop)
            within.append(slice(start - cuts[i].start, stop - cuts[i].start))
            target.append(slice(start - wanted.start, stop - wanted.start))
        local.append((blocks[index], tuple(within)))
        targets.append(tuple(target))
    found = np.empty([wanted.stop - wanted.start for wanted in place], A.dtype)
    for target, part in zip(targets, entries(local), strict=True):
        found[target] = part
    return found


def sent_slices(X, spans, uses):
    """Slices of rows of a thin matrix, each sent but once to whoever needs it: in the one task that does, or alone."""
    return [X[span] if uses == 1 else delayed(X[span], traverse=False) for span in spans]


def of_blocks(operation, blocks, parts):
    """An operation on each of some chunks and its part of a test matrix, when computed."""
    return [on(operation, block, part) for block, part in zip(blocks, parts, strict=True)]


def on(operation, chunk, *arguments, nout=None):
    """An operation of arrays in memory on a chunk, when computed; of nout parts that are asked for one by one."""
    block, *said = chunk
    return delayed(partial(of_block, operation, said), nout=nout)(block, *arguments)


def of_block(operation, said, block, *arguments):
    """An operation on a chunk that is what it was said to be."""
    name, place, dtype = said
    where = f" for {name}[{', '.join(f'{cut.start}:{cut.stop}' for cut in place)}]"
    shape = tuple(cut.stop - cut.start for cut in place)
    return operation(declared(block, shape, dtype, f"each chunk of {name}", where), *arguments)


def as_floats(block):
    """The chunk in the dtype to compute in."""
    return block.astype(ndarray.dtype(block), copy=False)


def rows(A, start, stop):
    """Rows from one number to another as a NumPy array."""
    return box(A, (slice(start, stop), slice(0, A.shape[1])))


def entries(picks):
    """Entries of some chunks, each picked by a tuple of index arrays, or slices, beside the chunk."""
    return compute([on(partial(picked, index), block) for block, index in picks])


def picked(index, block):
    """Entries of a chunk."""
    return block[index]


def summed(*parts):
    """Parts added up."""
    return sum(parts)


def total(parts, add=summed):
    """The sum of what is computed in parts, as a tree of sums."""
    while len(parts) > 1:  # not in a list, of which dask would make one layer of a graph
        parts = [delayed(add)(*parts[start : start + FAN]) for start in range(0, len(parts), FAN)]
    return parts[0]


def compute(tasks):
    """Results of tasks, all in one go, from the scheduler that the user chose; in the same nesting."""
    client = getattr(get_scheduler(), "__self__", None)
    if client is not None and not client.nthreads():
        wait_for_worker(client)
    collections, repack = unpack_collections(tasks)
    if not collections:
        return tasks
    keys = [task.key for task in collections]
    graph = fused(HighLevelGraph.merge(*(task.dask for task in collections)))
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": GRAPH_BYTES}):
        return repack(get_scheduler(collections=collections)(graph, keys))[0]


def fused(graph):
    """The tasks of a graph, of which a chunk and its only use are one: dask.compute fuses no delayed tasks.

    Only what uses chunks is shown to dask's optimizer, which would fuse such a use with what follows it instead.
    """
    sources = {name for name, needed in graph.dependencies.items() if not needed}
    first = [name for name, needed in graph.dependencies.items() if needed <= sources]
    own = [name for name in first if name in graph.layers[name]]  # the array's layer is named after no task
    tasks = optimize({key: task for name in first for key, task in graph.layers[name].items()}, own)
    later = graph.layers.keys() - first
    return tasks | {key: task for name in later for key, task in graph.layers[name].items()}


def wait_for_worker(client):
    """Give a cluster without workers something to do, which makes an adaptive one start some, and some time."""
    try:
        client.submit(int, pure=False).result(timeout=FIRST_WORKER_SECONDS)
    except TimeoutError:
        got = f"a cluster without any after {FIRST_WORKER_SECONDS} s"
        raise _validation.complain(ValueError, "the scheduler of A", "one with workers", got) from None
