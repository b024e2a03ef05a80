"""Tensors of any framework of the array API standard, on its device: PyTorch, JAX, CuPy, array-api-strict and others.

Large products, Gram matrices, residuals and gathering run there; what is thin comes and goes as NumPy arrays, but
what is of the framework already stays in it, and gradients follow it. Half precision, integers and bool are widened
block by block.
"""

import array_api_compat as compat
import numpy as np

from curtensor import _validation
from curtensor.operands import array_api, on_host
from curtensor.operands.arithmetic import times_power
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.operands.tensor_blocks import InBlocks

BLOCK_BYTES = 2**24  # copied at a time


def wrap(X, name="X", least=1):
    """A tensor of a framework's array, cut off from what gradients follow."""
    return FrameworkTensor(array_api.untraced(followable(X, name, least).X, name))


def followable(X, name="X", least=1):
    """A tensor of a framework's array through which gradients may go."""
    X = array_api.array_of_numbers(X, name)
    _validation.tensor_shape(X.shape, name, least=least)
    return FrameworkTensor(X)


class FrameworkTensor(InBlocks):
    """An array of a framework as a tensor.

    Attributes
    ----------
    X
        The array, in its own dtype.
    dtype : dtype
        NumPy's name of that to compute in.
    """

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, tuple(X.shape), array_api.dtype(X, "X")
        self.xp = compat.array_namespace(X)
        self.axes = sorted(range(len(self.shape)), key=lambda axis: -distances(X)[axis])

    def __mul__(self, factor):
        """A copy, times a number."""
        return FrameworkTensor(array_api.computable(self.X, self.X) * factor)

    def is_ready(self, kind):
        """Whether X is of a dtype, and without gaps in memory, so that it can be reshaped without a copy."""
        if self.X.dtype != getattr(self.xp, kind.name):
            return False
        if compat.is_torch_array(self.X):
            in_order = self.X.permute(self.axes)
            return in_order.is_contiguous() and not (self.X.is_conj() or self.X.is_neg())
        return not compat.is_cupy_array(self.X) or self.X.transpose(self.axes).flags.c_contiguous

    def in_order(self, shape):
        """X in memory order, in another shape."""
        return self.xp.reshape(self.xp.permute_dims(self.X, tuple(self.axes)), shape)

    def mode_product(self, M, mode):
        """The tensor times a matrix of floats in one mode, NumPy's or the framework's."""
        kind = np.result_type(self.dtype, array_api.dtype(M) if not isinstance(M, np.ndarray) else M.dtype)
        M = self.xp.astype(self.beside(M).X, getattr(self.xp, kind.name))
        if not self.is_ready(kind):
            parts = [block.mode_product(M, mode).X for _, block in self.blocks(mode, kind)]
            return FrameworkTensor(self.xp.concat(parts, axis=self.cut_axis(mode)) if len(parts) > 1 else parts[0])
        L, d, R = self.three_way(mode)
        shape = [self.shape[axis] for axis in self.axes]
        shape[self.axes.index(mode)] = M.shape[0]
        if L == 1:
            product = array_api.product(M, self.in_order((d, R)))
        elif R == 1:
            product = array_api.product(self.in_order((L, d)), M.T)
        else:
            product = array_api.product(M, self.in_order((L, d, R)))
        product = self.xp.reshape(product, tuple(shape))
        return FrameworkTensor(self.xp.permute_dims(product, tuple(np.argsort(self.axes).tolist())))

    def thin(self, M):
        """A matrix or vector that the tensor is multiplied by, in the framework."""
        same = not isinstance(M, np.ndarray) and compat.array_namespace(M) is self.xp
        return M if same else self.like(on_host(M))

    def mode_gram(self, mode, exponent=0):
        """Gram matrix of a mode of 2^exponent times the tensor in double precision, on the host if need be."""
        kind = np.result_type(self.dtype, float)
        if not array_api.knows(self.X, kind):
            return sum(block.host().mode_gram(mode, exponent) for _, block in self.blocks(mode, self.dtype))
        L, d, R = self.three_way(mode)
        if self.is_ready(kind) and exponent == 0 and 1 in (L, R):
            whole = self.in_order((d, R)) if L == 1 else self.in_order((L, d)).T
            return array_api.product(whole, array_api.conjugate_transpose(whole))
        total = 0
        for _, block in self.blocks(mode, kind):
            whole = times_power(block.permuted(order_from(mode, self.ndim), (d, -1)), exponent)
            total = total + array_api.product(whole, array_api.conjugate_transpose(whole))
        return total

    def pieces(self, mode, exponent=0, width=None):
        """Pieces of the unfolding in double precision, as NumPy arrays."""
        for _, block in self.blocks(mode, self.dtype):
            yield from block.host().pieces(mode, exponent, width)

    def unfolded(self, mode):
        """The unfolding as a NumPy array, in the dtype to compute in."""
        return self.host().unfolded(mode)

    def cut_axis(self, mode):
        """The mode across which blocks are cut that are whole in a mode: the farthest apart in memory of the others."""
        return next((axis for axis in self.axes if axis != mode), mode)

    def blocks(self, mode, kind):
        """Slices and tensors of blocks which make up this one, whole in a mode, in a dtype, without gaps."""
        axis = self.cut_axis(mode)
        length = self.shape[axis]
        height = length if axis == mode else max(1, BLOCK_BYTES * length // (self.size * kind.itemsize))
        for start in range(0, length, height):
            place = [slice(None)] * self.ndim
            place[axis] = slice(start, min(start + height, length))
            block = self.X[tuple(place)]
            if block.dtype != getattr(self.xp, kind.name):
                block = self.xp.astype(block, getattr(self.xp, kind.name))
            yield tuple(place), FrameworkTensor(contiguous(block))

    def parts(self):
        """Slices and tensors of parts, in the dtype to compute in."""
        yield from self.blocks(None, self.dtype)

    def horizontal(self):
        """Slices of the first mode and what lies in them, as contiguous NumPy arrays."""
        height = max(1, BLOCK_BYTES * self.shape[0] // (self.size * self.dtype.itemsize))
        for start in range(0, self.shape[0], height):
            rows = slice(start, min(start + height, self.shape[0]))
            part = array_api.computable(self.X[(rows, *[slice(None)] * (self.ndim - 1))], self.X)
            yield rows, np.ascontiguousarray(array_api.to_numpy(part))

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode, as a NumPy array."""
        return array_api.to_numpy(array_api.computable(self._gathered(np.broadcast_arrays(*indices)), self.X))

    def _gathered(self, indices):
        """Entries in the framework, from an array in its own order in memory."""
        if compat.is_torch_array(self.X) and self.X.is_conj():
            return FrameworkTensor(self.X.conj())._gathered(indices).conj()  # else all of it is conjugated first
        if compat.is_array_api_strict_namespace(self.xp):  # whose indices are of its own
            flat = np.ravel_multi_index(indices, self.shape)
            taken = self.xp.take(self.xp.reshape(self.X, (-1,)), self._index(flat.ravel()), axis=0)
            return self.xp.reshape(taken, flat.shape)
        taken = array_api.signed(self.X)[tuple(self._index(index) for index in indices)]
        return taken if taken.dtype == self.X.dtype else taken.view(self.X.dtype)

    def _index(self, index):
        return self.xp.asarray(np.array(index, dtype=np.int64), device=array_api.place(self.X))

    def first_nonfinite(self):
        """Index of the first NaN or infinity in reading order, or None."""
        found = []
        for place, block in self.parts():
            if not self.xp.isfinite(self.xp.sum(block.X)):  # no sum loses NaN or infinity, and it costs a tenth
                index = block.host().first_nonfinite()
                if index is not None:
                    found.append(tuple(int(cut.start or 0) + i for cut, i in zip(place, index, strict=True)))
        return min(found, default=None)

    def largest(self):
        """Largest modulus of a real or imaginary part."""
        moduli = (self.xp.max(self.xp.abs(part)) for _, X in self.parts() for part in array_api.real_parts(X.X))
        return max(map(float, moduli))

    def norm(self):
        """Frobenius norm."""
        return float(self.xp.linalg.vector_norm(self.X))

    def over(self, scale):
        """The tensor divided by a scale; itself where the scale is 1."""
        return self if scale == 1 else FrameworkTensor(self.X / scale)

    def beside(self, array):
        """A tensor of an array, NumPy's or the framework's, on the device of this one."""
        return FrameworkTensor(self.like(array) if isinstance(array, np.ndarray) else array)

    def host(self):
        """The tensor in NumPy."""
        return DenseTensor(self.whole())

    def whole(self):
        """All of it as an ndarray, in the dtype to compute in."""
        return array_api.to_numpy(array_api.computable(self.X, self.X))

    def floats(self):
        """The array in its own kind, in the dtype to compute in."""
        return array_api.computable(self.X, self.X)

    def as_given(self, product):
        """What was made of this tensor as an array of its kind."""
        return product.X

    def permuted(self, axes, shape):
        """The array with its modes in another order, then in another shape, in its own dtype."""
        return self.xp.reshape(self.xp.permute_dims(self.X, tuple(axes)), tuple(shape))

    def like(self, array):
        """An array of NumPy as one of the framework, on the device of this tensor."""
        return array_api.like(self.X, array)


def distances(X):
    """How far apart entries of each mode are in memory; where a framework does not say, as in C order."""
    if compat.is_torch_array(X):
        return X.stride()
    return X.strides if compat.is_cupy_array(X) else tuple(range(len(X.shape), 0, -1))


def order_from(mode, ndim):
    """A mode, and the others in their order."""
    return mode, *(axis for axis in range(ndim) if axis != mode)


def contiguous(X):
    """X without gaps in memory, and multiplied out where PyTorch only notes that it is conjugated or negative."""
    if compat.is_torch_array(X):
        return X.resolve_conj().resolve_neg().contiguous()
    return compat.array_namespace(X).ascontiguousarray(X) if compat.is_cupy_array(X) else X
