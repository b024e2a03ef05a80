"""Unfoldings, and the products and Gram matrices of a tensor's modes that need none.

A tensor in memory is seen as (L, d, R): the modes before the one in question, that mode, and the modes after, in the
order in which they lie in memory. Where it cannot be seen so (gaps, negative strides, another dtype), small blocks of
it are copied in turn.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import blas

from curtensor import _kernels, _validation
from curtensor.operands import times_power
from curtensor.operands.stored_tensor import StoredTensor

PART_BYTES = 2**19  # of what a residual is formed of at a time
BLOCK_BYTES = 2**19  # copied at a time: small enough for the second-level cache
COLUMNS = 256  # at least, so that the additions to the Gram matrix are few
SHORT = 64  # trailing entries, below which the kernel packs faster than NumPy
TILE = 64  # rows and columns mirrored at a time
LONG = 2**31  # columns of an unfolding from which on BLAS cannot count them


def unfold(X: ArrayLike, /, mode: int) -> np.ndarray:
    """Unfolding of a tensor along a mode: its fibres in that mode, as columns.

    ``unfold(X, n)[i, j] = X[i_0, ..., i_n = i, ..., i_{N-1}]`` with j counting the other indices in C order, the last
    one fastest: the convention of TensorLy, and not that of [1]_, where the first is fastest.

    Parameters
    ----------
    X : array_like, shape (d_0, ..., d_{N-1})
        Numbers of any dtype, in any memory order.
    mode : int
        0 to N - 1; negative modes count from the last.

    Returns
    -------
    M : ndarray, shape (d_mode, product of the others)
        In X's dtype; a view of X where its memory order allows one, else a copy.

    Raises
    ------
    TypeError
        If X is no array of numbers, or the mode no integer.
    ValueError
        If X is empty or has no mode, or the mode is out of range.

    Notes
    -----
    No arithmetic. Every other function of this library works without the unfolding, which for all but the first mode
    is a copy of the whole tensor.

    References
    ----------
    .. [1] T. G. Kolda, B. W. Bader, "Tensor decompositions and applications", SIAM Review 51(3), 2009, section 2.4.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> X = np.arange(8).reshape(2, 2, 2)
    >>> ct.unfold(X, 1)
    array([[0, 1, 4, 5],
           [2, 3, 6, 7]])
    """
    X = _validation.tensor(X)
    mode = mode_index(mode, X.ndim)

    return np.moveaxis(X, mode, 0).reshape(X.shape[mode], -1)


def fold(M: ArrayLike, /, mode: int, shape: _validation.Integers) -> np.ndarray:
    """Tensor of a given shape whose unfolding along a mode is given: the inverse of `unfold`.

    ``unfold(fold(M, n, shape), n) == M``.

    Parameters
    ----------
    M : array_like, shape (d_mode, product of the others)
        An unfolding.
    mode : int
        0 to N - 1; negative modes count from the last.
    shape : sequence of int
        Lengths (d_0, ..., d_{N-1}) of the tensor.

    Returns
    -------
    X : ndarray, shape (d_0, ..., d_{N-1})
        In M's dtype; a view of M where its memory order allows one, else a copy.

    Raises
    ------
    TypeError
        If M is no array of numbers, or a mode or a length no integer.
    ValueError
        If M is empty or not of the shape that the unfolding would have, or the mode is out of range.

    Notes
    -----
    No arithmetic.

    References
    ----------
    .. [1] T. G. Kolda, B. W. Bader, "Tensor decompositions and applications", SIAM Review 51(3), 2009, section 2.4.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> X = np.arange(24).reshape(2, 3, 4)
    >>> bool((ct.fold(ct.unfold(X, 2), 2, (2, 3, 4)) == X).all())
    True
    """
    M = _validation.tensor(M, "M")
    shape = _validation.lengths(shape)
    mode = mode_index(mode, len(shape))
    unfolded = shape[mode], math.prod(shape) // shape[mode]
    if M.shape != unfolded:
        raise _validation.complain(ValueError, "M", f"of shape {unfolded}", f"shape {M.shape}")

    return np.moveaxis(M.reshape(shape[mode], *shape[:mode], *shape[mode + 1 :]), 0, mode)


def mode_dot(X: ArrayLike, M: ArrayLike, /, mode: int, *, transpose: bool = False) -> np.ndarray:
    """Product of a tensor and a matrix, or a vector, in one mode.

    ``Y[..., j, ...] = sum over i of M[j, i] X[..., i, ...]``, that is ``unfold(Y, n) = M @ unfold(X, n)``.

    Parameters
    ----------
    X : array_like, shape (d_0, ..., d_{N-1})
        Real or complex, in any memory order; integers and bool are taken as float64.
    M : array_like, shape (J, d_mode) or (d_mode,)
        A matrix, or a vector: then the mode vanishes from the result.
    mode : int
        0 to N - 1; negative modes count from the last.
    transpose : bool, default False
        Multiply by the adjoint ``M.conj().T`` of an M of shape (d_mode, J), or by the conjugate vector.

    Returns
    -------
    Y : ndarray
        X's shape with J in place of d_mode, or without that mode, in the common dtype of X and M; its memory order is
        that in which it was made.

    Raises
    ------
    TypeError
        If X or M is no array of numbers, or another argument of the wrong kind.
    ValueError
        If X or M is empty, their shapes do not fit, or the mode is out of range.

    Notes
    -----
    2 J size(X) operations and one pass over X, with no memory beside the result where X lies without gaps in its own
    dtype, in any order of its modes; else blocks of half a megabyte, or one fibre, are copied.

    References
    ----------
    .. [1] T. G. Kolda, B. W. Bader, "Tensor decompositions and applications", SIAM Review 51(3), 2009, section 2.5.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> X = np.arange(8.0).reshape(2, 2, 2)
    >>> ct.mode_dot(X, [[1, 1]], 1)
    array([[[ 2.,  4.]],
           [[10., 12.]]])
    >>> ct.mode_dot(X, [1, 1], 1)
    array([[ 2.,  4.],
           [10., 12.]])
    """
    X = _validation.tensor(X)
    mode = mode_index(mode, X.ndim)
    M = _validation.mode_factor(M, X.shape[mode], _validation.flag(transpose, "transpose"))

    return mode_products(X, {mode: M})


def multi_mode_dot(
    X: ArrayLike,
    Ms: Sequence[ArrayLike],
    /,
    modes: _validation.Integers | None = None,
    *,
    skip: int | None = None,
    transpose: bool = False,
) -> np.ndarray:
    """Product of a tensor and several matrices, or vectors, each in its own mode.

    ``X x_0 Ms[0] x_1 Ms[1] ...`` in the notation of [1]_; the mode which shrinks the tensor at the least cost comes
    first.

    Parameters
    ----------
    X : array_like, shape (d_0, ..., d_{N-1})
        Real or complex, in any memory order; integers and bool are taken as float64.
    Ms : sequence of array_like, shapes (J, d_n) or (d_n,)
        At most N matrices or vectors; the mode of a vector vanishes from the result.
    modes : sequence of int, optional
        The mode of each, distinct; 0, 1, 2, ... if not given.
    skip : int, optional
        Leave out one of `Ms`: its place when they are sorted by mode.
    transpose : bool, default False
        Multiply by the adjoints.

    Returns
    -------
    Y : ndarray
        X's shape with the new lengths, and without the modes of vectors, in the common dtype.

    Raises
    ------
    TypeError
        If X or one of Ms is no array of numbers, or another argument of the wrong kind.
    ValueError
        If X or one of Ms is empty, shapes do not fit, or modes are out of range, repeated or not as many as Ms.

    Notes
    -----
    The products are taken in the order of least cost, by descending 1 / J - 1 / d; else as `mode_dot`. Only the
    first product passes over X.

    References
    ----------
    .. [1] T. G. Kolda, B. W. Bader, "Tensor decompositions and applications", SIAM Review 51(3), 2009, section 2.5.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> X = np.ones((2, 3, 4))
    >>> ct.multi_mode_dot(X, [np.ones((5, 2)), np.ones(4)], modes=[0, 2]).shape
    (5, 3)
    """
    X = _validation.tensor(X)
    factors = mode_factors(Ms, modes, skip, _validation.flag(transpose, "transpose"), X.shape)

    return mode_products(X, factors)


def mode_gram(X: ArrayLike, /, mode: int) -> np.ndarray:
    """Gram matrix of a mode: inner products of the slices of a tensor.

    ``G = unfold(X, n) @ unfold(X, n).conj().T``.

    Parameters
    ----------
    X : array_like, shape (d_0, ..., d_{N-1})
        Real or complex, in any memory order.
    mode : int
        0 to N - 1; negative modes count from the last.

    Returns
    -------
    G : ndarray, shape (d_mode, d_mode)
        Hermitian and positive semidefinite up to rounding; float64 or complex128, also where X has single precision.

    Raises
    ------
    TypeError
        If X is no array of numbers, or the mode no integer.
    ValueError
        If X is empty or has no mode, or the mode is out of range.

    Notes
    -----
    d_mode size(X) operations and one pass over X. The first and the last mode in memory need no copy; for the others
    half a megabyte at a time is laid side by side, and for single precision, integers and arrays with gaps also
    converted, so that all sums are taken in double precision.

    References
    ----------
    .. [1] N. Vannieuwenhoven, R. Vandebril, K. Meerbergen, "A new truncation strategy for the higher-order singular
       value decomposition", SIAM J. Sci. Comput. 34(2), 2012.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> ct.mode_gram(np.arange(8.0).reshape(2, 2, 2), 1)
    array([[42., 62.],
           [62., 98.]])
    """
    X = _validation.tensor(X)
    mode = mode_index(mode, X.ndim)

    return gram(X, mode)


def mode_products(X, factors):
    """Products of X with a matrix or vector of floats for each of some modes, by mode: the body of `multi_mode_dot`."""
    matrices = {mode: np.atleast_2d(M) for mode, M in factors.items()}
    # a before b costs J_a + J_b J_a / d_a an entry, b before a J_b + J_a J_b / d_b
    for mode in sorted(matrices, key=lambda mode: 1 / matrices[mode].shape[1] - 1 / matrices[mode].shape[0]):
        X = mode_product(X, matrices[mode], mode)
    return X.squeeze(axis=tuple(mode for mode, M in factors.items() if M.ndim == 1))


def mode_product(X, M, mode):
    """Product of X and a matrix of floats in one mode."""
    kind = np.result_type(_validation.array_dtype(X.dtype), M.dtype)
    axes = memory_order(X)
    if X.dtype == kind and is_dense(X, axes):
        return _viewed_product(X, M.astype(kind, copy=False), mode, axes)
    shape = *X.shape[:mode], len(M), *X.shape[mode + 1 :]
    product = np.empty([shape[axis] for axis in axes], kind).transpose(np.argsort(axes))
    for place, block in copied_blocks(X, axes, mode, kind):
        product[place] = mode_product(block, M, mode)
    return product


def _viewed_product(X, M, mode, axes):
    L, d, R = three_way(X, axes, mode)
    shape = [X.shape[axis] for axis in axes]
    place = axes.index(mode)
    Y = X.transpose(axes)
    if L == 1 or R == 1:
        unfolded = Y.reshape(d, R) if L == 1 else Y.reshape(L, d).T
        product = np.moveaxis((M @ unfolded).reshape(len(M), *shape[:place], *shape[place + 1 :]), 0, place)
    else:
        shape[place] = len(M)
        product = np.matmul(M, Y.reshape(L, d, R)).reshape(shape)
    return product.transpose(np.argsort(axes))


def gram(X, mode, exponent=0):
    """The body of `mode_gram`, for 2^exponent X."""
    kind = np.result_type(X.dtype, float)
    axes = memory_order(X)
    L, d, R = three_way(X, axes, mode)
    update = blas.get_blas_funcs("herk" if kind.kind == "c" else "syrk", dtype=kind)
    last = R == 1 and L > 1
    if kind.kind == "f" and X.dtype == kind and 1 in (L, R) and exponent == 0 and is_dense(X, axes):
        whole = X.transpose(axes).reshape((d, R) if L == 1 else (L, d))
        whole = whole if L == 1 else whole.T
        return whole @ whole.T  # one call of BLAS by NumPy, which mirrors it itself
    adjoint = 2 if kind.kind == "c" else 1
    total = np.zeros((d, d), kind, order="F")
    for piece in unfolded_pieces(X, mode, kind, exponent):
        if last:
            total = update(1, piece, lower=1, beta=1, c=total, overwrite_c=1)
        else:  # piece.T in Fortran order: the conjugate of G, in the upper triangle
            total = update(1, piece.T, trans=adjoint, beta=1, c=total, overwrite_c=1)
    return hermitian(total if last else total.T)


def hermitian(G):
    """G, of which only the lower triangle is filled, completed in tiles that stay in the cache."""
    for start in range(0, len(G), TILE):
        stop = start + TILE
        G[:start, start:stop] = G[start:stop, :start].conj().T
        tile = G[start:stop, start:stop]
        diagonal = tile.diagonal().copy()
        tile += tile.conj().T
        np.fill_diagonal(tile, diagonal)
    return G


def unfolded_pieces(X, mode, kind, exponent=0, width=None):
    """Pieces (d, p) of the unfolding of 2^exponent X, contiguous: in C order, but in Fortran order for the last mode.

    As large as X allows without a copy, or of about the given width.
    """
    axes = memory_order(X)
    if is_dense(X, axes):
        slabs = X.transpose(axes).reshape(three_way(X, axes, mode))
        whole = X.dtype == kind and X.size // X.shape[mode] < LONG and exponent == 0 and width is None
        for piece in slab_pieces(
            slabs, kind, width or max(BLOCK_BYTES // (X.shape[mode] * kind.itemsize), COLUMNS), whole
        ):
            yield times_power(piece, exponent)
    else:
        for _, block in copied_blocks(X, axes, mode, kind):
            yield from unfolded_pieces(block, mode, kind, exponent, width)


def ordered_pieces(X, mode):
    """Pieces (d, p) of the unfolding, cut and ordered by X's shape alone, whatever its order in memory."""
    for place in blocks(X.shape, range(X.ndim), mode, X.dtype):
        yield np.moveaxis(X[place], mode, 0).reshape(X.shape[mode], -1)


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
    if R < SHORT and slabs.dtype.kind in "fc":
        _kernels.pack_panel(slabs, panel)
    else:
        panel.reshape(d, l, R)[:] = slabs.transpose(1, 0, 2)
    return panel


def memory_order(X):
    """The modes from the farthest apart in memory to the nearest."""
    return sorted(range(X.ndim), key=lambda axis: -abs(X.strides[axis]))


def is_dense(X, axes):
    """Whether X lies in memory without gaps, in numbers the processor can read."""
    if isinstance(X, StoredTensor):
        return False
    in_order = X.transpose(axes).flags
    return in_order.c_contiguous and in_order.aligned and X.dtype.isnative


def three_way(X, axes, mode):
    """Lengths (L, d, R) before, in and after a mode, in memory order."""
    shape = [X.shape[axis] for axis in axes]
    place = axes.index(mode)
    return math.prod(shape[:place]), shape[place], math.prod(shape[place + 1 :])


def copied_blocks(X, axes, mode, kind):
    """Slices and contents of blocks which make up the tensor, whole in a mode, copied to memory in a dtype."""
    if isinstance(X, StoredTensor):
        for place, box in X.boxes(mode):
            yield place, box.astype(kind, copy=False)
    else:
        for place in blocks(X.shape, axes, mode, kind):
            yield place, np.array(X[place], kind)


def blocks(shape, axes, mode, kind):
    """Slices of blocks which make up the tensor, whole in a mode, cut across the modes farthest apart in memory."""
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


def first_nonfinite(X):
    """Index of the first NaN or infinity in reading order, or None."""
    found = []
    for place, block in copied_blocks(X, range(X.ndim), X.ndim - 1, X.dtype):
        bad = ~np.isfinite(block)
        if bad.any():
            index = np.unravel_index(bad.argmax(), bad.shape)
            found.append(tuple(int(cut.start or 0) + int(i) for cut, i in zip(place, index, strict=True)))
    return min(found, default=None)


def residuals(X, core, factors):
    """X less a Tucker tensor, and X, in parts small enough to pass."""
    for place, part in parts(X):
        yield part - mode_products(core, {mode: U[place[mode]] for mode, U in enumerate(factors)}), part


def parts(X):
    """Slices and contents of parts of X, cut across the modes farthest apart in memory."""
    if isinstance(X, StoredTensor):
        yield from X.boxes(X.ndim - 1)
        return
    axis = memory_order(X)[0]
    height = max(1, PART_BYTES * X.shape[axis] // X.nbytes)
    for start in range(0, X.shape[axis], height):
        place = [slice(None)] * X.ndim
        place[axis] = slice(start, start + height)
        yield tuple(place), X[tuple(place)]


def mode_index(mode, ndim, name="mode") -> int:
    """A mode from 0; negative ones count from the last."""
    return _validation.integer(mode, name, -ndim, ndim - 1) % ndim


def mode_factors(Ms, modes, skip, transpose, shape) -> dict[int, np.ndarray]:
    """What to multiply each mode by, in the order of modes, without the skipped one."""
    Ms = list(Ms)
    modes = range(len(Ms)) if modes is None else modes
    modes = [mode_index(mode, len(shape), "each of modes") for mode in modes]
    if len(modes) != len(Ms):
        raise _validation.complain(ValueError, "modes", f"as many as Ms ({len(Ms)})", len(modes))
    if len(set(modes)) != len(modes):
        raise _validation.complain(ValueError, "modes", "distinct", _validation.describe(modes))
    order = np.argsort(modes).tolist()
    if skip is not None:
        del order[_validation.integer(skip, "skip", 0, len(Ms) - 1)]
    return {modes[i]: _validation.mode_factor(Ms[i], shape[modes[i]], transpose, f"Ms[{i}]") for i in order}
