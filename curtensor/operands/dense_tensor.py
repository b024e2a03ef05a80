"""Tensors in memory, of NumPy or read by it: in any order of their modes, with any strides."""

import itertools
import math

import numpy as np

from curtensor import _kernels, _validation
from curtensor.operands.arithmetic import times_power
from curtensor.operands.tensor_blocks import InBlocks

PART_BYTES = 2**19  # of what a residual is formed of at a time
BLOCK_BYTES = 2**19  # copied at a time: small enough for the second-level cache
PANEL = _kernels.SMALL  # entries of horizontal slices at a time, or so few more that kernels are worth it
COLUMNS = 256  # at least, so that the additions to the Gram matrix are few
SHORT = 64  # trailing entries, below which the kernel packs faster than NumPy
LONG = 2**31  # columns of an unfolding from which on BLAS cannot count them


def wrap(X, name="X", least=1):
    """A tensor of what NumPy reads as an array of numbers."""
    X = plain_array(X, name)
    _validation.array_dtype(X.dtype, name)
    _validation.tensor_shape(X.shape, name, least=least)
    return DenseTensor(X)


def plain_array(X, name) -> np.ndarray:
    """What NumPy reads an object as; a view where it can be, and never an array of one object."""
    try:
        plain = np.asanyarray(X)
    except Exception as error:
        if isinstance(X, (list, tuple)) and isinstance(error, ValueError):
            raise _validation.complain(
                ValueError, name, "nested lists of equal lengths", _validation.describe(X)
            ) from None
        got = f"{type_name(X)}, which NumPy does not read: {_validation.describe_error(error)}"
        raise _validation.complain(TypeError, name, "an array of numbers", got) from error
    if isinstance(plain, np.ma.MaskedArray) or isinstance(getattr(X, "_meta", None), np.ma.MaskedArray):
        raise _validation.complain(TypeError, name, "an array without a mask", "a masked array")
    if plain.dtype == object and plain.ndim == 0 and plain is not X:
        dense = next((f"X.{way}()" for way in ("toarray", "todense") if hasattr(X, way)), None)
        got = f"{type_name(X)}; {dense} is one" if dense else _validation.describe(X)
        raise _validation.complain(TypeError, name, "an array of numbers", got)
    return np.asarray(plain)


def type_name(X):
    """A type by its package and name."""
    package = type(X).__module__.split(".")[0]
    return type(X).__name__ + (f" of {package}" if package != "builtins" else "")


class DenseTensor(InBlocks):
    """An ndarray as a tensor.

    Attributes
    ----------
    X : ndarray
        In its own dtype.
    dtype : dtype
        To compute in.
    """

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, _validation.array_dtype(X.dtype, "X")
        self.axes = sorted(range(X.ndim), key=lambda axis: -abs(X.strides[axis]))

    def __mul__(self, factor):
        """A copy, times a number."""
        return DenseTensor(self.X * factor)

    @property
    def is_dense(self):
        """Whether X lies in memory without gaps, in numbers the processor can read."""
        in_order = self.X.transpose(self.axes).flags
        return in_order.c_contiguous and in_order.aligned and self.X.dtype.isnative

    @property
    def nbytes(self):
        """Bytes of all entries."""
        return self.X.nbytes

    def mode_product(self, M, mode):
        """The tensor times a matrix of floats in one mode."""
        kind = np.result_type(self.dtype, M.dtype)
        if self.X.dtype != kind or not self.is_dense:
            return super().mode_product(M, mode)
        M = M.astype(kind, copy=False)
        L, d, R = self.three_way(mode)
        shape = [self.shape[axis] for axis in self.axes]
        place = self.axes.index(mode)
        Y = self.X.transpose(self.axes)
        if L == 1 or R == 1:
            unfolded = Y.reshape(d, R) if L == 1 else Y.reshape(L, d).T
            product = np.moveaxis((M @ unfolded).reshape(len(M), *shape[:place], *shape[place + 1 :]), 0, place)
        else:
            shape[place] = len(M)
            product = np.matmul(M, Y.reshape(L, d, R)).reshape(shape)
        return DenseTensor(product.transpose(np.argsort(self.axes)))

    def mode_gram(self, mode, exponent=0):
        """Gram matrix of a mode of 2^exponent times the tensor, in double precision."""
        L, d, R = self.three_way(mode)
        if self.X.dtype == np.float64 and 1 in (L, R) and exponent == 0 and self.is_dense:
            whole = self.X.transpose(self.axes).reshape((d, R) if L == 1 else (L, d))
            whole = whole if L == 1 else whole.T
            return whole @ whole.T  # one call of BLAS by NumPy, which mirrors it itself
        return super().mode_gram(mode, exponent)

    def pieces(self, mode, exponent=0, width=None):
        """Pieces of the unfolding in double precision, without a copy where X allows it."""
        if not self.is_dense:
            yield from super().pieces(mode, exponent, width)
            return
        kind, d = np.result_type(self.dtype, float), self.shape[mode]
        slabs = self.X.transpose(self.axes).reshape(self.three_way(mode))
        whole = self.X.dtype == kind and self.size // d < LONG and exponent == 0 and width is None
        for piece in slab_pieces(slabs, kind, width or max(BLOCK_BYTES // (d * kind.itemsize), COLUMNS), whole):
            yield times_power(piece, exponent)

    def columns(self, mode):
        """Pieces of the unfolding without its empty columns, cut and ordered by the shape, not by the memory order."""
        for place in block_slices(self.shape, range(self.ndim), mode, self.X.dtype):
            piece = np.moveaxis(self.X[place], mode, 0).reshape(self.shape[mode], -1)
            filled = piece.any(axis=0)
            yield piece if filled.all() else piece[:, filled]

    def unfolded(self, mode):
        """The unfolding, in the dtype to compute in."""
        return np.moveaxis(self.X, mode, 0).reshape(self.shape[mode], -1).astype(self.dtype, copy=False)

    def blocks(self, mode, kind):
        """Slices and tensors of blocks which make up this one, whole in a mode, copied in a dtype."""
        for place in block_slices(self.shape, self.axes, mode, kind):
            yield place, DenseTensor(np.array(self.X[place], kind))

    def parts(self):
        """Slices and tensors of parts, cut across the modes farthest apart in memory; views."""
        axis = self.axes[0]
        height = max(1, PART_BYTES * self.shape[axis] // self.X.nbytes)
        for start in range(0, self.shape[axis], height):
            place = [slice(None)] * self.ndim
            place[axis] = slice(start, start + height)
            yield tuple(place), DenseTensor(self.X[tuple(place)])

    def horizontal(self):
        """Slices of the first mode and what lies in them, contiguous, in the dtype to compute in."""
        height = -(-PANEL // self.X[0].size)
        for start in range(0, self.shape[0], height):
            rows = slice(start, min(start + height, self.shape[0]))
            yield rows, np.ascontiguousarray(self.X[rows], dtype=self.dtype)

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode, each along the last axis or along all others."""
        if self.X.dtype == self.dtype and self.is_dense:
            return self._gathered(indices)
        return self.X[tuple(indices)].astype(self.dtype, copy=False)

    def _gathered(self, indices):
        """The same of what has no gaps in memory: three to eight times as fast as by NumPy's indexing."""
        rows, columns = np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp)
        for index, stride in zip(indices, self.X.strides, strict=True):
            offsets = np.asarray(index, dtype=np.intp) * (stride // self.X.itemsize)
            if offsets.ndim > 1 and offsets.shape[-1] == 1:
                rows = rows + offsets[..., 0]
            else:
                columns = columns + offsets.reshape(-1)
        flat, rows = self.X.transpose(self.axes).reshape(-1), rows.reshape(-1)
        if rows.size * columns.size < _kernels.SMALL:
            out = flat[rows[:, None] + columns]
        else:
            out = np.empty((rows.size, columns.size), self.X.dtype)
            _kernels.gather(flat, rows, columns, out)
        return out.reshape(np.broadcast_shapes(*(index.shape for index in indices)))

    def is_finite(self):
        """Whether there is neither NaN nor infinity."""
        return bool(np.isfinite(self.X).all())

    def largest(self):
        """Largest modulus of a real or imaginary part."""
        parts = (self.X.real, self.X.imag) if self.X.dtype.kind == "c" else (self.X,)
        return float(max(max(part.max(), -float(part.min())) for part in parts))

    def norm(self):
        """Frobenius norm."""
        return float(np.linalg.norm(self.X))

    def over(self, scale):
        """The tensor divided by a scale, in double precision; itself where the scale is 1."""
        return self if scale == 1 else DenseTensor((self.X / scale).astype(np.result_type(self.dtype, float)))

    def beside(self, array):
        """A tensor of an array of NumPy, of the kind of this one."""
        return DenseTensor(array)

    def host(self):
        """The tensor where NumPy and SciPy can compute with it: itself."""
        return self

    def whole(self):
        """All of it as an ndarray, in the dtype to compute in."""
        return self.X.astype(self.dtype, copy=False)

    def floats(self):
        """The array in its own kind, in the dtype to compute in."""
        return self.whole()

    def as_given(self, product):
        """What was made of this tensor as an array of its kind."""
        return product.X

    def permuted(self, axes, shape):
        """The array with its modes in another order, then in another shape, in its own kind and dtype."""
        return self.X.transpose(axes).reshape(shape)

    def like(self, array):
        """An array of NumPy as the user expects what is made of this tensor."""
        return array


def block_slices(shape, axes, mode, kind):
    """Slices of blocks which make up a tensor, whole in a mode, cut across the modes farthest apart in memory."""
    size = BLOCK_BYTES // kind.itemsize
    steps = list(shape)
    for axis in axes:
        if axis != mode:
            steps[axis] = min(max(size * steps[axis] // math.prod(steps), 1), shape[axis])
    cuts = [
        [slice(start, start + step) for start in range(0, length, step)]
        for length, step in zip(shape, steps, strict=True)
    ]
    cuts[mode] = [slice(None)]
    yield from itertools.product(*cuts)


def slab_pieces(slabs, kind, width, whole):
    """Pieces of slabs (L, d, R) side by side, of about a width, or uncut where they lie side by side already."""
    L, _, R = slabs.shape
    if L > 1 and R == 1:
        height = L if whole else width
        for start in range(0, L, height):
            yield slabs[start : start + height, :, 0].astype(kind, copy=False).T
    elif L == 1 or width < 2 * R:
        width = R if whole else width
        for slab in slabs:
            for start in range(0, R, width):
                yield slab[:, start : start + width].astype(kind, copy=False)
    else:
        for start in range(0, L, width // R):
            yield packed(slabs[start : start + width // R], kind)


def packed(slabs, kind):
    """Slabs (l, d, R) side by side, as (d, l R)."""
    l, d, R = slabs.shape
    panel = np.empty((d, l * R), kind)
    if R < SHORT and slabs.dtype.kind in "fc" and slabs.size >= _kernels.SMALL:
        _kernels.pack_panel(slabs, panel)
    else:
        panel.reshape(d, l, R)[:] = slabs.transpose(1, 0, 2)
    return panel
