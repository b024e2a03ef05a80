"""Sparse tensors: pydata's COO, GCXS and DOK, and SciPy's sparse arrays of any order. Never made dense.

A tensor is held as its entries other than zero, sorted by their places in reading order. An unfolding is a sparse
matrix of its columns that are not empty, no more than there are entries, so that Gram matrices and products need
memory for these alone. What a product fills is dense from there on.
"""

import itertools
import math

import numpy as np
from scipy import sparse

from curtensor import _validation
from curtensor.operands.arithmetic import times_power
from curtensor.operands.dense_tensor import COLUMNS, DenseTensor
from curtensor.operands.tensor_blocks import InBlocks

PART_BYTES = 2**22  # of what a residual is formed of at a time
FLOOR = 1e-11  # of the squared norm: a residual below is not to be seen by a difference of squares
LONGEST = 2**12  # mode of which a Gram matrix is formed
PIECE = 2**22  # entries of a piece of an unfolding, were it dense
LARGEST = 2**63 - 1  # places that can be counted


def wrap(X, name="X", least=1):
    """A tensor of a sparse array."""
    _validation.tensor_shape(X.shape, name, least=least)
    _validation.array_dtype(np.dtype(X.dtype), name)
    _validation.zero_fill(getattr(X, "fill_value", 0), None, name)
    if math.prod(X.shape) > LARGEST:
        raise _validation.complain(ValueError, name, f"of at most {LARGEST} places", f"shape {tuple(X.shape)}")
    if sparse.issparse(X):
        entries = _validation.sound_sparse(X, name).tocoo()
        coords, values = entries.coords, entries.data
    else:
        entries = X.asformat("coo")
        coords, values = entries.coords, entries.data
    shape = tuple(map(int, X.shape))
    for index, length in zip(coords, shape, strict=True):
        if len(index) and not 0 <= index.min() <= index.max() < length:
            what, got = f"sparse with indices from 0 to {length - 1}", f"{index.min()} to {index.max()}"
            raise _validation.complain(ValueError, name, what, got)
    keys = sum((index.astype(np.int64) * step for index, step in zip(coords, place_steps(shape), strict=True)))
    values = values.astype(_validation.array_dtype(values.dtype, name), copy=False)
    keys, values = with_each_place_once(keys, values)
    filled = values != 0  # some kinds keep zeros, too
    return SparseTensor(keys[filled], values[filled], shape, X, name)


class SparseTensor(InBlocks):
    """A sparse tensor.

    Attributes
    ----------
    keys : ndarray of int64, shape (n,)
        Places of the entries, counted in reading order, ascending.
    values : ndarray, shape (n,)
        The entries, in the dtype to compute in.
    shape : tuple of int
        Lengths of the modes.
    source
        The user's array, of whose kind results are.
    """

    def __init__(self, keys, values, shape, source, name="X"):
        self.keys, self.values, self.shape = keys, values, tuple(shape)
        self.source, self.name = source, name
        self.dtype = values.dtype
        self.axes = list(range(len(shape)))

    sparse = True

    def forms_gram(self, mode):
        """Whether a Gram matrix of a mode has no more places than the tensor, and is small."""
        return super().forms_gram(mode) and self.shape[mode] <= LONGEST

    def __mul__(self, factor):
        """A copy, times a number."""
        return SparseTensor(self.keys, self.values * factor, self.shape, self.source)

    @property
    def nbytes(self):
        """Bytes of the entries held."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def X(self):
        """The array in the user's kind."""
        coords = np.unravel_index(self.keys, self.shape)
        if sparse.issparse(self.source):
            return sparse.coo_array((self.values, coords), shape=self.shape)
        import sparse as pydata

        array = pydata.COO(np.stack(coords), self.values, shape=self.shape, has_duplicates=False, sorted=True)
        return array.asformat(self.source.format)

    def unfolding(self, mode):
        """The unfolding without its empty columns, as a CSR matrix, and the numbers of the others."""
        step, d = place_steps(self.shape)[mode], self.shape[mode]
        above, below = np.divmod(self.keys, step * d)
        numbers, columns = np.unique(above * step + below % step, return_inverse=True)
        shape = d, len(numbers)
        return sparse.csr_array((self.values, (below // step, columns.ravel())), shape=shape), numbers

    def mode_product(self, M, mode):
        """The tensor times a dense matrix in one mode: dense where that takes less memory than its entries."""
        A, numbers = self.unfolding(mode)
        product = (A.T @ M.T).T
        shape = *self.shape[:mode], len(M), *self.shape[mode + 1 :]
        if 2 * product.size >= math.prod(shape):
            whole = np.zeros((len(M), self.size // self.shape[mode]), product.dtype)
            whole[:, numbers] = product
            others = [length for axis, length in enumerate(shape) if axis != mode]
            return DenseTensor(np.ascontiguousarray(np.moveaxis(whole.reshape(len(M), *others), 0, mode)))
        step = place_steps(shape)[mode]
        above, below = np.divmod(numbers, step)
        keys = (above * step * len(M) + below) + np.arange(len(M))[:, None] * step
        order = np.argsort(keys, axis=None, kind="stable")
        return SparseTensor(keys.ravel()[order], product.ravel()[order], shape, self.source)

    def mode_gram(self, mode, exponent=0):
        """Gram matrix of a mode of 2^exponent times the tensor, in double precision."""
        A = self._double(mode, exponent)
        return (A @ A.conj().T).toarray()

    def pieces(self, mode, exponent=0, width=None):
        """Pieces of the unfolding without its empty columns, in double precision, as CSC matrices."""
        A = self._double(mode, exponent).tocsc()
        width = min(width or A.shape[1], max(PIECE // A.shape[0], COLUMNS)) or 1
        for start in range(0, A.shape[1], width):
            yield A[:, start : start + width]

    def _double(self, mode, exponent):
        A = self.unfolding(mode)[0]
        return times_power(A.astype(np.result_type(self.dtype, float)), exponent)

    def columns(self, mode):
        """The unfolding without its empty columns, in one piece."""
        yield self.unfolding(mode)[0]

    def unfolded(self, mode):
        """The unfolding as an ndarray."""
        A, numbers = self.unfolding(mode)
        whole = np.zeros((self.shape[mode], self.size // self.shape[mode]), self.dtype)
        whole[:, numbers] = A.toarray()
        return whole

    def at(self, indices):
        """Entries at broadcastable index arrays, one for each mode, as an ndarray."""
        keys = sum(
            np.asarray(index, dtype=np.int64) * step
            for index, step in zip(indices, place_steps(self.shape), strict=True)
        )
        if not len(self.keys):
            return np.zeros(keys.shape, self.dtype)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.values[places], 0).astype(self.dtype, copy=False)

    def parts(self):
        """Slices and dense tensors of parts, whole in the last mode, one after the other in reading order."""
        size = max(PART_BYTES // self.dtype.itemsize, 1)
        lengths = list(self.shape)
        for axis in range(self.ndim - 1):
            lengths[axis] = max(1, min(lengths[axis], size * lengths[axis] // math.prod(lengths)))
        cuts = [
            [slice(start, min(start + step, length)) for start in range(0, length, step)]
            for length, step in zip(self.shape, lengths, strict=True)
        ]
        for place in itertools.product(*cuts):
            grids = np.ix_(*(np.arange(cut.start, cut.stop) for cut in place))
            yield place, DenseTensor(self.at(grids))

    def first_nonfinite(self):
        """Index of the first NaN or infinity in reading order, or None."""
        bad = ~np.isfinite(self.values)
        if not bad.any():
            return None
        return tuple(map(int, np.unravel_index(self.keys[bad.argmax()], self.shape)))

    def largest(self):
        """Largest modulus of a real or imaginary part."""
        return DenseTensor(self.values).largest() if len(self.values) else 0.0

    def norm(self):
        """Frobenius norm."""
        return float(np.linalg.norm(self.values))

    def horizontal(self):
        """None, since the Fourier transform along the last mode would fill all of it."""
        way = "toarray" if sparse.issparse(self.source) else "todense"
        what, got = (
            "a dense tensor for the t-product",
            f"a sparse {type(self.source).__name__}; {self.name}.{way}() is one",
        )
        raise _validation.complain(TypeError, self.name, what, got)

    def residual(self, core, factors, scale=1):
        """Norms of what a Tucker tensor leaves of this one, and of this one, both over a scale.

        By a difference of squares, and part by part, which are dense, where that would show rounding alone.
        """
        double = np.result_type(self.dtype, float)
        whole = float(np.linalg.norm(self.values.astype(double) / scale))
        core = core.astype(double) / scale
        factors = [factor.astype(double) for factor in factors]
        triangles = [np.linalg.qr(factor, mode="r") for factor in factors]
        shown = DenseTensor(core).mode_products(dict(enumerate(triangles))).norm()
        shared = np.vdot(core, (self * (1 / scale)).projected(factors)).real
        square = float(whole**2 - 2 * shared + shown**2)
        if square > FLOOR * whole**2:
            return math.sqrt(square), whole
        return super().residual(core * scale, factors, scale)

    def projected(self, factors):
        """The tensor times the adjoint of a matrix in each mode."""
        return self.mode_products({mode: Q.conj().T for mode, Q in enumerate(factors)}).whole()

    def beside(self, array):
        """A dense tensor of an array of NumPy, to compute with what is taken of this one."""
        return DenseTensor(array)

    def host(self):
        """The tensor where NumPy and SciPy can compute with it: itself."""
        return self

    def whole(self):
        """All of it as an ndarray."""
        whole = np.zeros(self.size, self.dtype)
        whole[self.keys] = self.values
        return whole.reshape(self.shape)

    def floats(self):
        """The array as an ndarray, in the dtype to compute in."""
        return self.whole()

    def as_given(self, product):
        """What was made of this tensor as a sparse array of the user's kind, also where it is filled."""
        if isinstance(product, DenseTensor):
            keys = np.flatnonzero(product.X)
            product = SparseTensor(keys, product.X.ravel()[keys], product.shape, self.source)
        return product.X

    def permuted(self, axes, shape):
        """The array with its modes in another order, then in another shape, in the user's kind and dtype."""
        if sparse.issparse(self.source):
            return self.source.tocoo().transpose(tuple(axes)).reshape(tuple(shape))
        return self.source.asformat("coo").transpose(tuple(axes)).reshape(tuple(shape)).asformat(self.source.format)

    def like(self, array):
        """An array of NumPy as the user expects what is made of this tensor."""
        return array


def place_steps(shape):
    """By how much the number of a place grows with each index."""
    return [math.prod(shape[mode + 1 :]) for mode in range(len(shape))]


def with_each_place_once(keys, values):
    """Places in ascending order, each once, and what their entries add up to."""
    if (np.diff(keys) > 0).all():
        return keys, values
    unique, inverse = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(unique), values.dtype)
    np.add.at(sums, inverse.ravel(), values)
    return unique, sums
