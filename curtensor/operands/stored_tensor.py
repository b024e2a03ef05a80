"""Tensors of any order on disk or on a cluster: np.memmap, h5py, zarr and dask, read box by box into bounded memory.

A pass reads boxes which are whole in one mode and made up of the store's own chunks: slabs of the first mode wherever
these fit. A thread reads the next box while this one is at work. Single entries are read from the chunks that hold
them and from no others; the chunks used last are kept, as many as fit into two boxes.
"""

import itertools
import math
import mmap
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curtensor import _validation
from curtensor.operands import dense_tensor
from curtensor.operands.arithmetic import declared
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.operands.tensor_blocks import InBlocks

BOX_BYTES = 2**26  # read at a time; two such are held
KEPT_BYTES = 2**27  # of chunks kept for the entries asked for next
FEW = 24  # a part of the chunks, one in so many, is what random places in a larger store may lie in
PIECE_BYTES = 2**20  # what is read at least of a store without chunks of its own
RUNS = 64  # slices of a memory map copied at a time
PICKED = 2**8  # entries picked from one at a time: the kernel may map some 100 kB around each


def wrap(X, name="X", least=1):
    """A tensor of what does not lie in memory; of what is memory-mapped no more, it is a `dense_tensor`."""
    if isinstance(X, np.memmap):
        return MappedTensor(X, name, least) if mapped(X) is not None else dense_tensor.wrap(X, name, least)
    if any(base.__module__.startswith("dask.") for base in type(X).__mro__):
        return DaskTensor(X, name, least)
    return StoredTensor(X, name, least)


class StoredTensor(InBlocks):
    """A tensor of which boxes can be read, as ``X[slices]``.

    Attributes
    ----------
    X
        What is read from.
    shape, nbytes, strides
        As of an array; the strides say which modes are the farthest apart in the store.
    stored_dtype, dtype
        That of the store, and that to compute in.
    factors : tuple of float
        What all that is read is multiplied by.
    n_chunks, n_chunks_read : int
        Chunks in the store, and those read for single entries so far.
    """

    in_memory = False

    def __init__(self, X, name="X", least=1, factors=()):
        self.X, self.name, self.factors = X, name, factors
        self.shape, self.stored_dtype = _validation.tensor_shape(X.shape, name, least=least), np.dtype(X.dtype)
        self.dtype = _validation.array_dtype(self.stored_dtype, name)
        self.nbytes = self.size * self.stored_dtype.itemsize
        self.strides = self._strides()
        self.axes = sorted(range(self.ndim), key=lambda axis: -abs(self.strides[axis]))
        self._bounds = [_bounds(length, sizes) for length, sizes in zip(self.shape, self._chunks(), strict=True)]
        self.n_chunks, self.n_chunks_read = math.prod(len(bounds) - 1 for bounds in self._bounds), 0
        self._kept = Recent(KEPT_BYTES)

    def __mul__(self, factor):
        """The same with all entries multiplied when read."""
        return type(self)(self.X, self.name, factors=(*self.factors, factor))

    @property
    def fibre_bytes(self):
        """Bytes of fibres to be read at a time, many, since each reading goes through their chunks."""
        return BOX_BYTES

    def whole(self):
        """All of it as an ndarray, in the dtype to compute in."""
        return self._whole(self.dtype)

    def _whole(self, dtype):
        """All of it, in memory."""
        whole = np.empty(self.shape, dtype)
        for place, box in self.boxes(self.ndim - 1):
            whole[place] = box
        return whole

    def floats(self):
        """The array in memory, in the dtype to compute in."""
        return self.whole()

    def as_given(self, product):
        """What was made of this tensor as an ndarray."""
        return product.host().X

    def host(self):
        """The tensor in memory."""
        return DenseTensor(self.whole())

    def permuted(self, axes, shape):
        """The array in memory, with its modes in another order, then in another shape."""
        return self._whole(self.stored_dtype).transpose(axes).reshape(shape)

    def like(self, array):
        """An array of NumPy as the user expects what is made of this tensor."""
        return array

    def beside(self, array):
        """A tensor of an array of NumPy, to compute with what is read."""
        return DenseTensor(array)

    def unfolded(self, mode):
        """The unfolding, in the dtype to compute in."""
        return self.host().unfolded(mode)

    def blocks(self, mode, kind):
        """Slices and tensors of boxes which make up this one, whole in a mode, in a dtype."""
        for place, box in self.boxes(mode):
            yield place, DenseTensor(box.astype(kind, copy=False))

    def parts(self):
        """Slices and tensors of boxes."""
        for place, box in self.boxes(self.ndim - 1):
            yield place, DenseTensor(box)

    def horizontal(self):
        """Slices of the first mode and what lies in them, of as many chunks as there is room for."""
        room = max(BOX_BYTES * self.shape[0] // self.nbytes, 1)
        starts = self._bounds[0]
        if np.diff(starts).max() > room:  # chunks that are read several times, rather than too much memory
            starts = np.append(np.arange(0, self.shape[0], room), self.shape[0])
        whole = [slice(0, length) for length in self.shape[1:]]
        first = 0
        while first < len(starts) - 1:
            last = max(int(np.searchsorted(starts, starts[first] + room, "right")) - 1, first + 1)
            rows = slice(int(starts[first]), int(starts[last]))
            box = self._scaled(self.read((rows, *whole)))
            yield rows, np.ascontiguousarray(box, dtype=self.dtype)
            first = last

    def boxes(self, mode):
        """Slices and contents of boxes that make up the tensor, whole in a mode; the next is read ahead."""
        places = list(itertools.product(*self._cuts(mode)))
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.read, places[0])
            for place, following in itertools.zip_longest(places, places[1:]):
                box = coming.result()
                if following is not None:
                    coming = reader.submit(self.read, following)
                yield place, self._scaled(box)

    def read(self, place):
        """A box in memory, as it is in the store."""
        try:
            box = self._read(place)
        except Exception as error:
            error.add_note(f"while reading {self.name}[{', '.join(f'{cut.start}:{cut.stop}' for cut in place)}]")
            raise
        return self._checked(place, box)

    def _checked(self, place, box):
        """What was read of a box, of the shape and dtype that the store declares."""
        lengths = tuple(cut.stop - cut.start for cut in place)
        if np.shape(box) != lengths:
            what, got = "of the same shape in every pass", f"shape {np.shape(box)} for {lengths}"
            raise _validation.complain(ValueError, self.name, what, got)
        return declared(box, lengths, self.stored_dtype, f"each box of {self.name}")

    def at(self, indices):
        """Entries at broadcastable index arrays, each along the last axis or along all others."""
        shape = np.broadcast_shapes(*(index.shape for index in indices))
        along_rows = [index.ndim > 1 and index.shape[-1] == 1 for index in indices]
        places = [
            np.broadcast_to(index[..., 0] if row else index.reshape(-1), shape[:-1] if row else shape[-1:]).ravel()
            for index, row in zip(indices, along_rows, strict=True)
        ]
        out = np.empty((math.prod(shape[:-1]), shape[-1]), self.stored_dtype)
        self._pick(places, along_rows, out)
        return self._scaled(out.reshape(shape)).astype(self.dtype, copy=False)

    @property
    def can_be_kept(self):
        """Whether all chunks fit among those that are kept, so that none is read twice."""
        return self.nbytes <= KEPT_BYTES

    def in_few_chunks(self, places, mode, rng):
        """Numbers of those of some places, or of the fibres of a mode through them, that lie in a few random chunks.

        Of all of them where all chunks can be kept.
        """
        if self.can_be_kept:
            return np.arange(len(places[0]))
        axes = [axis for axis in range(self.ndim) if axis != mode]
        limit = self.n_chunks // (FEW * (1 if mode is None else len(self._bounds[mode]) - 1))
        cells = np.stack([np.searchsorted(self._bounds[axis], places[axis], "right") for axis in axes])
        cells = np.unique(cells, axis=1, return_inverse=True)[1].ravel()
        order = rng.permutation(cells)
        first = np.sort(np.unique(order, return_index=True)[1])[: max(limit, 1)]
        return np.flatnonzero(np.isin(cells, order[first]))

    def _scaled(self, values):
        for factor in self.factors:
            values = values * factor
        return values

    def _pick(self, places, along_rows, out):
        """Fill a matrix of entries, chunk by chunk."""
        for cell, rows, columns, local in self._picks(places, along_rows, out.shape):
            chunk = self._kept.get(cell)
            if chunk is None:
                self.n_chunks_read += 1
                chunk = self._kept.put(cell, self.read(self._place(cell)))
            out[np.ix_(rows, columns)] = chunk[local]

    def _place(self, cell):
        """Slices of a chunk."""
        return tuple(slice(*bounds[i : i + 2]) for bounds, i in zip(self._bounds, cell, strict=True))

    def _picks(self, places, along_rows, shape):
        """The chunks that hold some entries: their numbers, the rows and columns they fill, and from where in them."""
        cells = [np.searchsorted(bounds, p, "right") - 1 for bounds, p in zip(self._bounds, places, strict=True)]
        groups = [
            _alike(
                [
                    cell if row is along else np.zeros(1, dtype=np.intp)
                    for cell, row in zip(cells, along_rows, strict=True)
                ],
                count,
            )
            for along, count in zip((True, False), shape, strict=True)
        ]
        for (row_cell, rows), (column_cell, columns) in itertools.product(*groups):
            cell = row_cell + column_cell
            local = tuple(
                (place[rows][:, None] if row else place[columns]) - bounds[c]
                for place, row, bounds, c in zip(places, along_rows, self._bounds, cell, strict=True)
            )
            yield tuple(cell.tolist()), rows, columns, local

    def _cuts(self, mode):
        """Slices of each mode: whole in one, else of as many chunks as a box has room for, the nearest modes first."""
        nearest_first = sorted(range(self.ndim), key=lambda axis: abs(self.strides[axis]))
        widest = [int(np.diff(bounds).max()) for bounds in self._bounds]
        widest[mode] = self.shape[mode]
        cuts = [[slice(0, length)] for length in self.shape]
        for axis in nearest_first:
            if axis != mode:
                others = math.prod(widest) // widest[axis] * self.stored_dtype.itemsize
                room = max(BOX_BYTES // others // widest[axis], 1)
                bounds = np.unique(np.append(self._bounds[axis][::room], self.shape[axis])).tolist()
                cuts[axis] = [slice(*pair) for pair in itertools.pairwise(bounds)]
                widest[axis] = max(cut.stop - cut.start for cut in cuts[axis])
        return cuts

    def _strides(self):
        return tuple(self.stored_dtype.itemsize * math.prod(self.shape[axis + 1 :]) for axis in range(self.ndim))

    def _chunks(self):
        """Lengths of chunks in each mode: one number, or one for each chunk."""
        if getattr(self.X, "chunks", None) is not None:  # a view of HDF5 in another dtype has none
            return self.X.chunks
        chunks, room = [1] * self.ndim, max(PIECE_BYTES // self.stored_dtype.itemsize, 1)
        for axis in sorted(range(self.ndim), key=lambda axis: abs(self.strides[axis])):
            chunks[axis] = max(min(room // math.prod(chunks), self.shape[axis]), 1)
        return chunks

    def _read(self, place):
        try:
            return self.X[place]
        except (KeyError, RuntimeError) as error:  # h5py's and zarr's, of what is damaged
            raise _validation.unreadable_store(error, self.name) from error


class MappedTensor(StoredTensor):
    """A memory map; its pages, which count as memory of the process, are given back as soon as they are copied."""

    def permuted(self, axes, shape):
        """The map itself, with its modes in another order, then in another shape; a view where that can be."""
        return np.asarray(self.X).transpose(axes).reshape(shape)

    def _strides(self):
        return self.X.strides

    def _chunks(self):
        return [1] * self.ndim

    def _read(self, place):
        view = self.X[place]
        box = np.empty_like(view, subok=False)
        far = int(np.argmax(np.abs(view.strides)))
        for start in range(0, view.shape[far], RUNS):
            part = (slice(None),) * far + (slice(start, start + RUNS),)
            box[part] = view[part]
            release(self.X)
        return box

    def _pick(self, places, along_rows, out):
        rows, columns = out.shape
        height = max(1, PICKED // columns)
        for i, j in itertools.product(range(0, rows, height), range(0, columns, PICKED)):
            part = slice(i, i + height), slice(j, j + PICKED)
            index = (
                place[part[0], None] if row else place[part[1]] for place, row in zip(places, along_rows, strict=True)
            )
            out[part] = self.X[tuple(index)]
            release(self.X)


class DaskTensor(StoredTensor):
    """A dask array; boxes are computed, and chunks pick the entries they hold where they are."""

    def __init__(self, X, name="X", least=1, factors=()):
        from curtensor.operands import dask_array

        self._dask = dask_array
        super().__init__(dask_array.checked_dask(X, name), name, least, factors)

    def _read(self, place):
        return self._dask.box(self.X, place, self.name)

    def _pick(self, places, along_rows, out):
        picks = list(self._picks(places, along_rows, out.shape))
        if self.can_be_kept:
            self._keep([cell for cell, *_ in picks])
            return super()._pick(places, along_rows, out)
        *_, blocks = self._dask.grid(self.X, self.name)
        self.n_chunks_read += len(picks)
        parts = self._dask.entries([(blocks[cell], local) for cell, _, _, local in picks])
        for (_, rows, columns, _), part in zip(picks, parts, strict=True):
            out[np.ix_(rows, columns)] = part

    def _keep(self, cells):
        """Compute those of some chunks that are not kept yet, all in one go."""
        missing = [cell for cell in cells if self._kept.get(cell) is None]
        self.n_chunks_read += len(missing)
        *_, blocks = self._dask.grid(self.X, self.name)
        whole = (slice(None),) * self.ndim
        chunks = self._dask.entries([(blocks[cell], whole) for cell in missing])
        for cell, chunk in zip(missing, chunks, strict=True):
            self._kept.put(cell, chunk)


class Recent:
    """The arrays used last, by key, as many as fit; always the very last one."""

    def __init__(self, limit):
        self.limit, self.nbytes, self.arrays = limit, 0, OrderedDict()

    def get(self, key):
        """An array, or None."""
        if key in self.arrays:
            self.arrays.move_to_end(key)
        return self.arrays.get(key)

    def put(self, key, array):
        """Keep an array, and let go of those unused for longest; the array."""
        self.arrays[key] = array
        self.nbytes += array.nbytes
        while self.nbytes > self.limit and len(self.arrays) > 1:
            self.nbytes -= self.arrays.popitem(last=False)[1].nbytes
        return array


def mapped(X):
    """The memory map beneath an array, or None."""
    while X is not None and not isinstance(X, mmap.mmap):
        X = getattr(X, "base", None)
    return X


def release(X):
    """Let the pages of a memory map go; they are read again where needed. Not those that hold a user's changes."""
    if X.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapped(X).madvise(mmap.MADV_DONTNEED)


def _bounds(length, sizes):
    """Where chunks begin and end, empty ones left out."""
    ends = np.cumsum(sizes) if np.iterable(sizes) else np.append(np.arange(0, length, sizes), length)
    return np.unique(np.append(0, ends))


def _alike(cells, count):
    """Numbers of chunks, a tuple for each that occurs, and which of `count` places lie in it."""
    table = np.stack([np.broadcast_to(cell, count) for cell in cells])
    unique, inverse = np.unique(table, axis=1, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(inverse.ravel(), minlength=unique.shape[1]))
    return [(column, part) for column, part in zip(unique.T, np.split(order, ends[:-1]), strict=True)]
