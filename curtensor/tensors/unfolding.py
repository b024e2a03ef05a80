"""Unfoldings, and the products and Gram matrices of a tensor's modes that need none."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from curtensor import _validation, operands


def unfold(X: Any, /, mode: int) -> Any:
    """Unfolding of a tensor along a mode: its fibres in that mode, as columns.

    ``unfold(X, n)[i, j] = X[i_0, ..., i_n = i, ..., i_{N-1}]`` with j counting the other indices in C order, the last
    one fastest: the convention of TensorLy, and not that of [1]_, where the first is fastest.

    Parameters
    ----------
    X : array of any framework or store, or sparse array, shape (d_0, ..., d_{N-1})
        Numbers of any dtype, in any memory order.
    mode : int
        0 to N - 1; negative modes count from the last.

    Returns
    -------
    M : array of X's kind, shape (d_mode, product of the others)
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
    tensor = operands.find_tensor(X, gradients=True)
    mode = mode_index(mode, tensor.ndim)

    d = tensor.shape[mode]
    return tensor.permuted(mode_first(mode, tensor.ndim), (d, tensor.size // d))


def fold(M: Any, /, mode: int, shape: _validation.Integers) -> Any:
    """Tensor of a given shape whose unfolding along a mode is given: the inverse of `unfold`.

    ``unfold(fold(M, n, shape), n) == M``.

    Parameters
    ----------
    M : array of any framework or store, or sparse array, shape (d_mode, product of the others)
        An unfolding.
    mode : int
        0 to N - 1; negative modes count from the last.
    shape : sequence of int
        Lengths (d_0, ..., d_{N-1}) of the tensor.

    Returns
    -------
    X : array of M's kind, shape (d_0, ..., d_{N-1})
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
    unfolding = operands.find_tensor(M, "M", gradients=True)
    shape = _validation.lengths(shape)
    mode = mode_index(mode, len(shape))
    unfolded = shape[mode], math.prod(shape) // shape[mode]
    if unfolding.shape != unfolded:
        raise _validation.complain(ValueError, "M", f"of shape {unfolded}", f"shape {unfolding.shape}")

    order = mode_first(mode, len(shape))
    apart = operands.find_tensor(unfolding.permuted((0, 1), [shape[axis] for axis in order]), gradients=True)
    return apart.permuted(np.argsort(order).tolist(), shape)


def mode_dot(X: Any, M: Any, /, mode: int, *, transpose: bool = False) -> Any:
    """Product of a tensor and a matrix, or a vector, in one mode.

    ``Y[..., j, ...] = sum over i of M[j, i] X[..., i, ...]``, that is ``unfold(Y, n) = M @ unfold(X, n)``.

    Parameters
    ----------
    X : array of any framework or store, or sparse array, shape (d_0, ..., d_{N-1})
        Real or complex, in any memory order; integers and bool are taken as float64.
    M : array of any framework or store, or sparse array, shape (J, d_mode) or (d_mode,)
        A matrix, or a vector: then the mode vanishes from the result.
    mode : int
        0 to N - 1; negative modes count from the last.
    transpose : bool, default False
        Multiply by the adjoint ``M.conj().T`` of an M of shape (d_mode, J), or by the conjugate vector.

    Returns
    -------
    Y : array of X's kind
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
    tensor = operands.find_tensor(X, gradients=True)
    mode = mode_index(mode, tensor.ndim)
    M = mode_factor(M, tensor.shape[mode], _validation.flag(transpose, "transpose"))

    return products(tensor, {mode: M})


def multi_mode_dot(
    X: Any,
    Ms: Sequence[Any],
    /,
    modes: _validation.Integers | None = None,
    *,
    skip: int | None = None,
    transpose: bool = False,
) -> Any:
    """Product of a tensor and several matrices, or vectors, each in its own mode.

    ``X x_0 Ms[0] x_1 Ms[1] ...`` in the notation of [1]_; the mode which shrinks the tensor at the least cost comes
    first.

    Parameters
    ----------
    X : array of any framework or store, or sparse array, shape (d_0, ..., d_{N-1})
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
    Y : array of X's kind
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
    tensor = operands.find_tensor(X, gradients=True)
    factors = mode_factors(Ms, modes, skip, _validation.flag(transpose, "transpose"), tensor.shape)

    return products(tensor, factors)


def mode_gram(X: Any, /, mode: int) -> Any:
    """Gram matrix of a mode: inner products of the slices of a tensor.

    ``G = unfold(X, n) @ unfold(X, n).conj().T``.

    Parameters
    ----------
    X : array of any framework or store, or sparse array, shape (d_0, ..., d_{N-1})
        Real or complex, in any memory order.
    mode : int
        0 to N - 1; negative modes count from the last.

    Returns
    -------
    G : array of X's framework, NumPy's for sparse X, shape (d_mode, d_mode)
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
    tensor = operands.find_tensor(X, gradients=True)
    mode = mode_index(mode, tensor.ndim)

    G = tensor.mode_gram(mode)
    return tensor.like(G) if isinstance(G, np.ndarray) else G


def mode_first(mode, ndim):
    """A mode, and the others in their order."""
    return mode, *(axis for axis in range(ndim) if axis != mode)


def mode_products(X, factors):
    """Products of an array with a matrix or vector for each of some modes, in the array's kind."""
    return products(operands.find_tensor(X, gradients=True), factors)


def mode_product(X, M, mode):
    """Product of an array and a matrix in one mode, in the array's kind."""
    return mode_products(X, {mode: M})


def products(tensor, factors):
    """The body of `multi_mode_dot`, an array; the modes of vectors vanish."""
    factors = {mode: tensor.thin(M) for mode, M in factors.items()}
    product = tensor.mode_products({mode: M[None, :] if M.ndim == 1 else M for mode, M in factors.items()})
    kept = [length for mode, length in enumerate(product.shape) if mode not in factors or factors[mode].ndim > 1]
    if len(kept) == product.ndim:
        return tensor.as_given(product)
    return operands.find_tensor(tensor.as_given(product), gradients=True).permuted(range(product.ndim), kept)


def mode_factor(M, size, transpose=False, name="M"):
    """A vector (size,) or a matrix (J, size) of numbers to multiply a mode by; the adjoint of M for transpose."""
    matrix = operands.find_tensor(M, name, gradients=True)
    if matrix.ndim > 2 or matrix.shape[0 if transpose else -1] != size:
        what = f"of shape ({size},) or {f'({size}, J)' if transpose else f'(J, {size})'}"
        raise _validation.complain(ValueError, name, what, f"shape {matrix.shape}")
    return operands.conjugate_transposed(matrix.floats()) if transpose else matrix.floats()


def mode_index(mode, ndim, name="mode") -> int:
    """A mode from 0; negative ones count from the last."""
    return _validation.integer(mode, name, -ndim, ndim - 1) % ndim


def mode_factors(Ms, modes, skip, transpose, shape) -> dict[int, np.ndarray]:
    """What to multiply each mode by, in the order of modes, without the skipped one."""
    Ms = _validation.several(Ms, "Ms", "a sequence of matrices")
    if len(Ms) > len(shape):
        raise _validation.complain(ValueError, "Ms", f"at most one for each of {len(shape)} modes", f"{len(Ms)}")
    modes = range(len(Ms)) if modes is None else _validation.several(modes, "modes", "a sequence of integers")
    modes = [mode_index(mode, len(shape), "each of modes") for mode in modes]
    if len(modes) != len(Ms):
        raise _validation.complain(ValueError, "modes", f"as many as Ms ({len(Ms)})", len(modes))
    if len(set(modes)) != len(modes):
        raise _validation.complain(ValueError, "modes", "distinct", _validation.describe(modes))
    order = np.argsort(modes).tolist()
    if skip is not None:
        del order[_validation.integer(skip, "skip", 0, len(Ms) - 1)]
    return {modes[i]: mode_factor(Ms[i], shape[modes[i]], transpose, f"Ms[{i}]") for i in order}
