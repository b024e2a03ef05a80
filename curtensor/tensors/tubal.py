"""Third-order tensors under the t-product: the product, the tubal SVD and CUR decompositions.

A tensor (d1, d2, d3) is taken to its spectrum: the discrete Fourier transform along the last mode, held as a stack
(h, d1, d2) of frontal slices, on which the t-product is the product of matrices, slice by slice. Of a real tensor only
the h = d3 // 2 + 1 slices are held which determine the others, so that results are real. Norms weigh them accordingly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from curtensor import _validation, archive, operands
from curtensor.operands import horizontal_slices
from curtensor.operands.arithmetic import times_power
from curtensor.results import Named, in_kind, named, result_on_host
from curtensor.selection import (
    beyond_rounding,
    choose_from_sketch,
    choose_rows,
    chosen_rule,
    sketch_size,
    split_sketch,
)
from curtensor.sketching import SKETCHES, error_by_energy, gaussian, random_matrix, sketch_matrix

PROBES = 10  # random vectors on which the error of a core that is no projection is seen


def spectrum(X, half):
    """Stack of the frontal slices of the transform along the last mode; for real X the half of them."""
    return (fft.rfft if half else fft.fft)(np.moveaxis(X, 2, 0), axis=0)


def from_spectrum(stack, d3, half):
    """The tensor of a spectrum."""
    tubes = fft.irfft(stack, d3, axis=0) if half else fft.ifft(stack, axis=0)
    return np.ascontiguousarray(np.moveaxis(tubes, 0, 2))


def slice_weights(d3, half):
    """What each slice of a spectrum counts in squared norms, shape (h, 1, 1)."""
    weights = np.full(d3 // 2 + 1 if half else d3, (1 + half) / d3)
    weights[0] = 1 / d3
    if half and d3 % 2 == 0:
        weights[-1] = 1 / d3
    return weights[:, None, None]


def weighted_square(stack, weights):
    """Squared Frobenius norm of the tensor of a spectrum."""
    return float(weights[:, 0, 0] @ np.linalg.norm(stack, axis=(1, 2)).astype(float) ** 2)


def adjoint(stack):
    """Adjoint of each matrix of a stack."""
    return stack.conj().swapaxes(1, 2)


def is_real(X):
    """Whether the half of the spectrum is enough."""
    return X.dtype.kind != "c"


def in_kind_of(X, array):
    """An array of NumPy in the kind of an array that is part of a result."""
    return operands.kind_of(X).like(X, array)


def t_product(X: Any, Y: Any, /) -> Any:
    """Product of two third-order tensors: of matrices whose entries are tubes under circular convolution.

    ``Z[i, j, t] = sum_l sum_s X[i, l, s] Y[l, j, (t - s) mod d3]``

    Parameters
    ----------
    X : array of any framework or store, shape (d1, p, d3)
        Real or complex; integers and bool are taken as float64.
    Y : array of any framework or store, shape (p, d2, d3)
        The same.

    Returns
    -------
    Z : array of X's kind, shape (d1, d2, d3)
        Real if both are; single precision if both are.

    Raises
    ------
    TypeError
        If X or Y is no array of numbers.
    ValueError
        If X or Y has not three modes, is empty or not finite, or their shapes do not fit.

    Notes
    -----
    O((d1 p + p d2 + d1 d2) d3 log d3 + d1 p d2 d3) operations, by Fourier transforms along the last mode [1]_; memory
    for the spectra, which are as large as X, Y and Z. For d3 = 1 the product of matrices.

    References
    ----------
    .. [1] M. E. Kilmer, C. D. Martin, "Factorization strategies for third-order tensors", Linear Algebra Appl.
       435(3), 2011.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> X, Y = np.array([[[1, 2, 0]]]), np.array([[[0, 1, 3]]])
    >>> ct.t_product(X, Y).round(12) + 0
    array([[[6., 1., 5.]]])
    """
    X, Y = third_order(X), third_order(Y, "Y")
    if (Y.shape[0], Y.shape[2]) != X.shape[1:]:
        raise _validation.complain(ValueError, "Y", f"of shape ({X.shape[1]}, d2, {X.shape[2]})", f"shape {Y.shape}")
    _validation.finite(horizontal_slices, X, "X")
    _validation.finite(horizontal_slices, Y, "Y")

    dtype = np.result_type(horizontal_slices.dtype(X), horizontal_slices.dtype(Y))
    half = dtype.kind == "f"
    Z = whole_spectrum(X, dtype) @ whole_spectrum(Y, dtype)
    return X.like(from_spectrum(Z, X.shape[2], half))


def whole_spectrum(X, dtype, exponent=0):
    """Spectrum of 2^exponent X in a dtype, the half of it where that is real."""
    half, d3 = dtype.kind == "f", X.shape[2]
    stack = np.empty((d3 // 2 + 1 if half else d3, *X.shape[:2]), np.result_type(dtype, np.complex64))
    for rows, panel in horizontal_slices.panels(X):
        stack[:, rows] = spectrum(times_power(panel, exponent).astype(dtype, copy=False), half)
    return stack


def t_adjoint(X: Any, /) -> Any:
    """Adjoint of a third-order tensor under the t-product: of each frontal slice, with all but the first in reverse.

    ``Y[j, i, t] = conj(X[i, j, -t mod d3])``, so that ``t_adjoint(t_product(X, Y))`` is
    ``t_product(t_adjoint(Y), t_adjoint(X))``.

    Parameters
    ----------
    X : array of any framework or store, shape (d1, d2, d3)
        Numbers of any dtype.

    Returns
    -------
    Y : array of X's kind, shape (d2, d1, d3)
        In X's dtype.

    Raises
    ------
    TypeError
        If X is no array of numbers.
    ValueError
        If X has not three modes, or is empty.

    Notes
    -----
    A copy of X, and no arithmetic. Each matrix of the spectrum becomes its own adjoint, for complex X too.

    References
    ----------
    .. [1] M. E. Kilmer, C. D. Martin, "Factorization strategies for third-order tensors", Linear Algebra Appl.
       435(3), 2011, section 3.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> ct.t_adjoint(np.array([[[1, 2, 3], [4, 5, 6j]]])).tolist()[1]
    [[(4-0j), -6j, (5-0j)]]
    """
    X = third_order(X)

    d1, d2, d3 = X.shape
    tubes = operands.conjugated(X.permuted((1, 0, 2), (d2 * d1, d3)))
    return operands.find_tensor(operands.columns(tubes, -np.arange(d3) % d3)).permuted((0, 1), (d2, d1, d3))


@dataclass(frozen=True, eq=False, repr=False)
class TubalSVD(Named):
    """A truncated tubal SVD, which unpacks to ``U, S, Vh``: the tensor is close to U * S * Vh under the t-product.

    Attributes
    ----------
    U : array, shape (d1, k, d3)
        ``t_product(t_adjoint(U), U)`` is the identity, whose first frontal slice is that of matrices, the others zero.
    s : array, shape (k, d3)
        The singular tubes: the diagonal of S. Their transform holds the singular values of each slice, descending.
    Vh : array, shape (k, d2, d3)
        ``t_product(Vh, t_adjoint(Vh))`` is the identity.
    error_estimate : float
        Relative error in the Frobenius norm, exact up to rounding.
    names : tuple of (pandas Index or ndarray of str or None)
        Those of all slices of each mode, the first two also as `row_names` and `col_names`; None where X has none.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    U: np.ndarray
    s: np.ndarray
    Vh: np.ndarray
    error_estimate: float

    MAIN = "U"

    def __iter__(self) -> Iterator:
        """U, S, Vh."""
        return iter((self.U, self.S, self.Vh))

    @property
    def S(self) -> Any:
        """The f-diagonal tensor (k, k, d3) with the singular tubes on its diagonal, formed when asked for."""
        s = operands.on_host(self.s)
        return in_kind_of(self.s, np.eye(self.rank, dtype=s.dtype)[:, :, None] * s)

    @property
    def rank(self) -> int:
        """Number of singular tubes: the tubal rank of the approximation."""
        return self.s.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (d1, d2, d3) of the approximation."""
        return self.U.shape[0], self.Vh.shape[1], self.s.shape[1]

    def to_array(self) -> Any:
        """The approximation as an array (d1, d2, d3)."""
        parts = result_on_host(self)
        half = is_real(parts.U)
        U, s, Vh = (spectrum(part, half) for part in (parts.U, parts.s[None], parts.Vh))
        return in_kind_of(self.U, from_spectrum((U * s) @ Vh, self.shape[2], half))

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """U, s, Vh and the error in a file."""
        U = archive.numbers(members, "U", (None, None, None))
        d1, k, d3 = U.shape
        Vh = archive.numbers(members, "Vh", (k, None, d3), U.dtype)
        _validation.tensor_shape((d1, Vh.shape[1], d3))
        s = archive.numbers(members, "s", (k, d3), U.dtype)
        return {"U": U, "s": s, "Vh": Vh, "error_estimate": archive.scalar(members, "error_estimate", "f")}


def tubal_svd(X: Any, /, rank: int | None = None, *, rtol: float | None = None) -> TubalSVD:
    """Truncated tubal SVD (t-SVD): the best approximation of a third-order tensor by a tubal rank.

    X is close to U * S * Vh under the t-product, with orthonormal U and Vh, and S f-diagonal.

    Parameters
    ----------
    X : array of any framework or store, shape (d1, d2, d3)
        Real or complex; integers and bool are taken as float64.
    rank : int, optional
        Number of singular tubes, 1 to min(d1, d2). Exactly one of `rank` and `rtol` is given.
    rtol : float, optional
        Largest ``||X - U * S * Vh||_F / ||X||_F`` wanted, 64 times the dtype's epsilon to below 1; held, by the
        smallest rank that does.

    Returns
    -------
    result : TubalSVD
        Unpacks to ``U, S, Vh``. Fewer singular tubes than asked for where the numerical tubal rank of X is lower, none
        for a zero tensor.

    Raises
    ------
    TypeError
        If X is no array of numbers, the rank no integer, or `rtol` no float.
    ValueError
        If X has not three modes, is empty or not finite; if not exactly one of `rank` and `rtol` is given, or it is out
        of range.

    Notes
    -----
    Three passes over X: for NaN, for its scale, and for the transform. The full SVD of each slice of the spectrum,
    O(d1 d2 min(d1, d2) d3) operations, and with `rtol` the singular values of each before; memory for the spectrum,
    which is as large as X, and for the singular vectors that are kept. No tensor of this tubal rank comes closer in the
    Frobenius norm [1]_.

    References
    ----------
    .. [1] M. E. Kilmer, C. D. Martin, "Factorization strategies for third-order tensors", Linear Algebra Appl.
       435(3), 2011, section 4.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> t = np.arange(1.0, 21)
    >>> X = 1 / (t[:, None, None] + t[:, None] + t[:4])
    >>> U, S, Vh = ct.tubal_svd(X, 3)
    >>> U.shape, S.shape, Vh.shape
    ((20, 3, 4), (3, 3, 4), (3, 20, 4))
    >>> bool(np.linalg.norm(X - ct.t_product(ct.t_product(U, S), Vh)) < 1e-3 * np.linalg.norm(X))
    True
    >>> ct.tubal_svd(X, rtol=1e-3).rank
    3
    """
    given, X = X, third_order(X)
    rank, rtol = _validation.rank_or_rtol(rank, rtol, X.shape[:2], horizontal_slices.dtype(X))
    _validation.finite(horizontal_slices, X, "X")

    half, d3 = is_real(X), X.shape[2]
    exponent = -int(np.frexp(horizontal_slices.largest(X))[1])
    stack = whole_spectrum(X, X.dtype, exponent)
    weights = slice_weights(d3, half)
    if rank is None:
        rank = least_tubal_rank(stack, weights, rtol)
    U, s, Vh = (np.array(parts) for parts in zip(*(leading_svd(matrix, rank) for matrix in stack), strict=True))
    squares = weights[:, 0] * s.astype(float) ** 2
    rank = min(rank, int(above_rounding(s).sum(axis=1).max()))
    error = np.sqrt(squares[:, rank:].sum() / (squares.sum() or 1))
    tubes = times_power(from_spectrum(s[:, None, :rank].astype(U.dtype), d3, half)[0], -exponent)
    U, Vh = from_spectrum(U[:, :, :rank], d3, half), from_spectrum(Vh[:, :rank], d3, half)
    return named(in_kind(TubalSVD(U, tubes, Vh, float(error)), X), given)


def least_tubal_rank(stack, weights, rtol):
    """The smallest rank, from 1 on, whose part cut off is surely at most rtol of the tensor of a spectrum."""
    s = np.array([np.linalg.svd(matrix, compute_uv=False) for matrix in stack])
    squares = (weights[:, 0] * s.astype(float) ** 2).sum(axis=0)
    tails = np.append(np.cumsum(squares[::-1])[::-1], 0)[1:]  # beyond the first 1, 2, ...
    budget = rtol**2 - (16 * np.finfo(s.dtype).eps) ** 2  # the rest is for rounding
    return int(np.argmax(tails <= budget * squares.sum())) + 1


def leading_svd(A, rank):
    """All singular values of a matrix, and the leading singular vectors."""
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    return U[:, :rank].copy(), s, Vh[:rank].copy()


def above_rounding(s):
    """Which singular values (h, k) are more than rounding of their own slice, or of the transform."""
    eps = np.finfo(s.dtype).eps
    return s > eps * np.maximum(8 * s.max(axis=1, keepdims=True, initial=0), s.max(initial=0))


@dataclass(frozen=True, eq=False, repr=False)
class TubalCUR(Named):
    """A tubal CUR decomposition, which unpacks to ``C, U, R, col_indices, row_indices``.

    Held as the spectrum of ``left * middle * right`` with orthonormal columns in each slice of `left` and orthonormal
    rows in each of `right` (or zeros, where a slice's rank is lower): products go through these, never through U, whose
    entries can be so large that their rounding errors spoil the product.

    Attributes
    ----------
    C : array, shape (d1, c, d3)
        Lateral slices ``X[:, col_indices]`` to the bit.
    R : array, shape (r, d2, d3)
        Horizontal slices ``X[row_indices]`` to the bit.
    col_indices, row_indices : ndarray of int
        Distinct, in the order of choice.
    left, middle, right : ndarray, shapes (h, d1, p), (h, p, q), (h, q, d2)
        The factored form; h = d3 // 2 + 1 for a real tensor, d3 for a complex one.
    error_estimate : float
        ``||X - C * U * R||_F / ||X||_F``: exact up to rounding for the projection core, else as random vectors show it.
    names : tuple of (pandas Index or ndarray of str or None)
        Those of the chosen horizontal and lateral slices, also as `row_names` and `col_names`, and of all slices of the
        third mode; None where X has none.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    C: np.ndarray
    R: np.ndarray
    col_indices: np.ndarray
    row_indices: np.ndarray
    left: np.ndarray
    middle: np.ndarray
    right: np.ndarray
    error_estimate: float

    MAIN = "C"
    OWN = ("C", "R")

    def __iter__(self) -> Iterator:
        """C, U, R, col_indices, row_indices."""
        return iter((self.C, self.U, self.R, self.col_indices, self.row_indices))

    @property
    def U(self) -> Any:
        """Middle tensor (c, r, d3) with X close to C * U * R, formed when asked for."""
        parts = result_on_host(self)
        half = is_real(parts.C)
        scale = np.abs(parts.middle).max(initial=0) or parts.middle.real.dtype.type(1)
        C, R = spectrum(parts.C / scale, half), spectrum(parts.R / scale, half)
        part = least_squares(C, parts.left @ (parts.middle / scale))
        part = adjoint(least_squares(adjoint(R), adjoint(part @ parts.right)))
        with np.errstate(over="ignore"):
            U = from_spectrum(part, self.shape[2], half) / scale
        if not np.isfinite(U).all():
            raise OverflowError(f"U must be representable in {self.dtype}, got entries beyond; use to_array()")
        return in_kind_of(self.C, U)

    @property
    def rank(self) -> int:
        """Largest tubal rank that the approximation can have."""
        return min(self.middle.shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (d1, d2, d3) of the approximation."""
        return self.C.shape[0], self.R.shape[1], self.C.shape[2]

    @property
    def n_stored(self) -> int:
        """Numbers in C, U and R."""
        return self.C.size + self.C.shape[1] * self.R.shape[0] * self.C.shape[2] + self.R.size

    @property
    def chosen(self) -> tuple[np.ndarray | None, ...]:
        """The indices of the chosen horizontal and lateral slices; None for the third mode."""
        return self.row_indices, self.col_indices, None

    def to_array(self) -> Any:
        """The approximation as an array (d1, d2, d3)."""
        parts = result_on_host(self)
        product = parts.left @ (parts.middle @ parts.right)
        return in_kind_of(self.C, from_spectrum(product, self.shape[2], is_real(parts.C)))

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """C, R, the indices, the factored form and the error in a file."""
        C = archive.numbers(members, "C", (None, None, None))
        d1, c, d3 = C.shape
        R = archive.numbers(members, "R", (None, None, d3), C.dtype)
        r, d2, _ = R.shape
        _validation.tensor_shape((d1, d2, d3))
        h = d3 // 2 + 1 if is_real(C) else d3
        middle = archive.numbers(members, "middle", (h, None, None))
        _, p, q = middle.shape
        return {
            "C": C,
            "R": R,
            "col_indices": archive.indices(members, "col_indices", c, d2),
            "row_indices": archive.indices(members, "row_indices", r, d1),
            "left": archive.numbers(members, "left", (h, d1, p)),
            "middle": middle,
            "right": archive.numbers(members, "right", (h, q, d2)),
            "error_estimate": archive.scalar(members, "error_estimate", "f"),
        }


def least_squares(A, B):
    """Least-squares solutions of smallest norm, ``A_k^+ @ B_k``, cut where A_k's singular values are rounding."""
    P, s, Qh = np.linalg.svd(A, full_matrices=False)
    return adjoint(Qh) @ divided(adjoint(P) @ B, s, 1)


def divided(stack, s, axis):
    """Rows (axis 1) or columns (axis 2) of each matrix by the singular values; zero where these are rounding."""
    kept, s = np.expand_dims(above_rounding(s), 3 - axis), np.expand_dims(s, 3 - axis)
    return np.where(kept, stack, 0) / np.where(kept, s, 1)


def column_bases(C):
    """Orthonormal basis of each matrix's columns, filled up with zeros where its numerical rank is lower."""
    Q, s, _ = np.linalg.svd(C, full_matrices=False)
    return Q * above_rounding(s)[:, None]


def row_bases(R):
    """The same of the rows."""
    return adjoint(column_bases(adjoint(R)))


def spectral_panels(X):
    """Spectra of a few horizontal slices at a time, with the numbers of these slices."""
    for rows, panel in horizontal_slices.panels(X):
        yield rows, spectrum(panel, is_real(X))


@dataclass(frozen=True)
class TubalCore:
    """A core: the function that makes the factored form, and what it needs. A bare function is ``TubalCore(function)``.

    Attributes
    ----------
    function : callable
        ``(X, C, R, rows, rank)`` to ``left, middle, right``, the last four as spectra, `rows` the chosen slices.
    best : bool, default False
        Whether no other middle leaves less of X, so that the error follows from the norms.
    slices : float, default 1
        Slices to choose, over the rank.
    solves : bool, default False
        Whether it solves for the columns by the rows, of which there must be no fewer then.
    """

    function: Callable
    best: bool = False
    slices: float = 1
    solves: bool = False

    def __call__(self, X: Any, C: Any, R: Any, rows: Any, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The factored form, checked, since it may come from a user's function."""
        parts = _validation.several(self.function(X, C, R, rows, rank), "what core gives", "left, middle, right")
        shapes = [np.shape(part) for part in parts]
        left, _, right = shapes if list(map(len, shapes)) == [3, 3, 3] else ((0, 0, 0),) * 3
        fitting = [(*C.shape[:2], left[2]), (len(C), left[2], right[1]), (len(R), right[1], R.shape[2])]
        if shapes != fitting:
            what = "left, middle, right of shapes (h, d1, p), (h, p, q), (h, q, d2)"
            raise _validation.complain(ValueError, "what core gives", what, f"shapes {shapes}")
        return parts


def tubal_projection(X, C, R, rows, rank):
    """``C^+ * X * R^+``: the best for the given slices; one pass over X."""
    left, right = column_bases(C), row_bases(R)
    images = np.concatenate([panel @ adjoint(right) for _, panel in spectral_panels(X)], axis=1)
    return left, adjoint(left) @ images, right


def tubal_truncated(X, C, R, rows, rank):
    """``W^+`` with W = X[I, J], cut to the rank in each slice of the spectrum; no pass over X."""
    P, s, Qh = np.linalg.svd(C[:, rows], full_matrices=False)
    left, T = np.linalg.qr(C @ adjoint(Qh[:, :rank]))
    right = row_bases(R)
    return left, divided(T, s[:, :rank], 2) @ (adjoint(P[:, :, :rank]) @ (R @ adjoint(right))), right


def tubal_intersection(X, C, R, rows, rank):
    """``W^+`` with W = X[I, J], through an orthonormal basis of C's columns; no pass over X."""
    left, right = column_bases(C), row_bases(R)
    return left, least_squares(left[:, rows], R @ adjoint(right)), right


TUBAL_CORES = {
    "projection": TubalCore(tubal_projection, best=True),
    "truncated": TubalCore(tubal_truncated, slices=2),
    "intersection": TubalCore(tubal_intersection, solves=True),
}


def tubal_cur(
    X: Any,
    /,
    rank: int | None = None,
    *,
    rtol: float | None = None,
    n_columns: int | None = None,
    n_rows: int | None = None,
    method: str | Callable = "osinsky",
    core: str | Callable = "projection",
    sketch: str | Callable = "sparse_sign",
    rng: _validation.RandomSource = None,
) -> TubalCUR:
    """Approximate a third-order tensor by its own lateral and horizontal slices, under the t-product.

    X is close to C * U * R with C = X[:, J], R = X[I] and U = C^+ * X * R^+ (``core="projection"``, the best for the
    chosen slices), or U made of W = X[I, J] alone: W^+ cut to the rank in each slice of the spectrum
    (``core="truncated"``) or W^+ itself (``core="intersection"``).

    Parameters
    ----------
    X : array of any framework or store, shape (d1, d2, d3)
        Real or complex; integers and bool are taken as float64.
    rank : int, optional
        Tubal rank, 1 to min(d1, d2). Exactly one of `rank` and `rtol` is given, or neither where both `n_columns` and
        `n_rows` are: then it is the smaller of these.
    rtol : float, optional
        Largest ``||X - C * U * R||_F / ||X||_F`` wanted, 64 times the dtype's epsilon to below 1; held, or an error.
        The rank is doubled until it is enough, and then lowered to within four percent, or one, of one that is not.
    n_columns, n_rows : int, optional
        Numbers of lateral and of horizontal slices, at least `rank`: by default `rank`, and twice as many (or all) for
        the truncated core. Not with `rtol`.
    method : str or callable, default "osinsky"
        Rule of `curtensor.selection.SELECTION_RULES`, or a function as in `select_columns`, which chooses slices for
        all of the spectrum at once. Horizontal slices are chosen from C.
    core : "projection" or "truncated" or "intersection" or callable, default "projection"
        Which middle tensor. The two others than the projection need no transform of X; the intersection needs
        n_rows >= n_columns and is the worst by far on noisy data.
    sketch : str or callable, default "sparse_sign"
        As in `select_columns`.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.

    Returns
    -------
    result : TubalCUR
        Unpacks to ``C, U, R, col_indices, row_indices``. Fewer slices than asked for where an unfolding's numerical
        rank is lower, none for a zero tensor.

    Raises
    ------
    TypeError
        If X is no array of numbers, or another argument of the wrong kind.
    ValueError
        If X has not three modes, is empty or not finite; if not exactly one of `rank` and `rtol`, or both numbers of
        slices, are given; if a number is out of range; if `rtol` cannot be reached.

    Notes
    -----
    Passes over X: one that looks for NaN, one for the sketches and the norm; then one more for the projection, which
    transforms X in panels (and another where the error is so small that only the residual shows it), or one for the
    random vectors on which the error of another core is seen. With `rtol`, all but the first for each rank
    tried, and the error of another core from the residual. O(d1 d2 d3 (log d3 + n)) operations for n slices and
    O((d1 + d2) n d3) memory.

    Slices are chosen by the rules for matrices on sketches of X's unfoldings along modes 1 and 0: those of the d2 by
    d1 d3 matrix with a lateral slice in each row, and the like. The result is exact where in each slice of the
    spectrum the chosen columns and rows have the rank of the slice: r slices are enough for a tensor of tubal rank r
    unless the slices of the spectrum need different ones. For d3 = 1 and n_rows >= n_columns this is
    `cur_decomposition`. No bound is proved; on the Indian Pines image (145, 145, 200), rank 20 and 40 slices each, the
    error was 1.05 times that of the t-SVD of this rank with the projection, and 1.30 times with the truncated core
    (medians of ten seeds).

    Where random vectors say that more than 0.8 of a slice of the spectrum would be left by a core other than the
    projection, its part is multiplied by the factor which fits best, so that it does not become worse than zero: U is
    then less than W^+.

    References
    ----------
    .. [1] J. Chen, Y. Wei, Y. Xu, "Tensor CUR decomposition under t-product and its perturbation", Numer. Funct. Anal.
       Optim. 43(6), 2022.
    .. [2] D. A. Tarzanagh, G. Michailidis, "Fast randomized algorithms for t-product based tensor operations and
       decompositions with applications to imaging data", SIAM J. Imaging Sci. 11(4), 2018.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> t = np.arange(1.0, 41)
    >>> X = 1 / np.sqrt(t[:, None, None] ** 2 + t[:, None] ** 2 + t[:8] ** 2)
    >>> result = ct.tubal_cur(X, 6, rng=0)
    >>> C, U, R, columns, rows = result
    >>> bool(np.array_equal(C, X[:, columns]) and np.array_equal(R, X[rows]))
    True
    >>> bool(np.linalg.norm(X - result.to_array()) < 1e-3 * np.linalg.norm(X))
    True
    >>> ct.tubal_cur(X, rtol=1e-3, rng=0).error_estimate < 1e-3
    True
    """
    given, X = X, third_order(X)
    rank = _validation.rank_of_sizes(rank, rtol, n_columns, n_rows, X.shape)
    rank, rtol = _validation.rank_or_rtol(rank, rtol, X.shape[:2], horizontal_slices.dtype(X))
    middle_of = _validation.choose(TUBAL_CORES, core, "core", TubalCore)
    n_columns, n_rows = numbers_of_slices(rank, n_columns, n_rows, X, middle_of)
    rule = chosen_rule(method, entries=False)
    sketch = _validation.choose(SKETCHES, sketch, "sketch")
    rng = _validation.generator(rng)
    _validation.finite(horizontal_slices, X, "X")

    if rank is None:
        result = tubal_cur_to_tolerance(X, rtol, rule, middle_of, sketch, rng)
    else:
        result = tubal_cur_of_sizes(X, rank, n_columns, n_rows, rule, middle_of, sketch, rng)
    return named(in_kind(result, X), given)


def numbers_of_slices(rank, n_columns, n_rows, X, core):
    """Numbers of lateral and horizontal slices, those that the core needs where not given; none without a rank."""
    if rank is None:
        return _validation.factor_sizes(rank, n_columns, n_rows, X.shape)
    wanted = int(core.slices * rank)
    n_columns = min(wanted, X.shape[1]) if n_columns is None else n_columns
    n_rows = min(wanted, X.shape[0]) if n_rows is None else n_rows
    n_columns, n_rows = _validation.factor_sizes(rank, n_columns, n_rows, X.shape)
    # no more than the unfoldings can have of rank, to keep the sketches small
    n_columns, n_rows = min(n_columns, X.shape[0] * X.shape[2]), min(n_rows, X.shape[1] * X.shape[2])
    if core.solves and n_rows < n_columns:
        raise _validation.complain(ValueError, "n_rows", f"at least n_columns = {n_columns} for this core", n_rows)
    return n_columns, n_rows


def tubal_cur_to_tolerance(X, rtol, rule, core, sketch, rng):
    """The tubal CUR of the smallest rank found whose error is at most rtol, seen on the residual itself."""
    most = min(X.shape[:2])
    low, high, best = 0, most + 1, None
    while best is None or high - low > max(1, high // 25):
        rank = min(2 * low or 1, most) if best is None else (low + high) // 2
        sizes = numbers_of_slices(rank, None, None, X, core)
        result = tubal_cur_of_sizes(X, rank, *sizes, rule, core, sketch, rng, exact=True)
        if result.error_estimate <= rtol:
            high, best = rank, result
        elif rank == most:
            raise _validation.complain(ValueError, "rtol", f"at least {result.error_estimate:.2g} for this X", rtol)
        else:
            low = rank
    return best


def tubal_cur_of_sizes(X, rank, n_columns, n_rows, rule, core, sketch, rng, exact=False):
    """The body of `tubal_cur` for a rank; its error estimate from the residual if it is to be exact."""
    sketched = sketch_unfoldings(X, n_columns, sketch, rng)
    columns = choose_from_sketch(sketched.left, n_columns, rule, rng)
    C = horizontal_slices.take(X, columns, 1)
    rows = horizontal_choice(sketched, C, n_columns, n_rows, rule, sketch, rng)
    R = horizontal_slices.take(X, rows, 0)
    spectra = (spectrum(times_power(part, sketched.exponent), is_real(X)) for part in (C, R))
    left, middle, right = core(sketched.A, *spectra, rows, rank)
    if core.best:
        error = projection_error(sketched, left, middle, right)
    else:
        middle, error = shrunken(sketched, left, middle, right, rng)
    if exact and not core.best:
        error = residual_error(sketched, left, middle, right)
    middle = times_power(middle, -sketched.exponent)
    return TubalCUR(C, R, columns, rows, left, middle, right, error)


def sketch_unfoldings(X, k, sketch, rng):
    """`Sketched` of the unfoldings along mode 1 (left) and mode 0 (right), to choose k slices from."""
    d1, d2, d3 = X.shape
    size = sketch_size(k, max(d1, d2), max(d1, d2) * d3)
    Y = random_matrix(sketch, d1 * d3, size, horizontal_slices.dtype(X), rng)
    W = random_matrix(sketch, d2 * d3, size, horizontal_slices.dtype(X), rng)
    return sketch_matrix(horizontal_slices, X, Y, W)


def horizontal_choice(sketched, C, n_columns, n_rows, rule, sketch, rng):
    """Horizontal slices chosen from C by its unfolding along mode 0, and by what the sketch has outside of it."""
    d1, count, d3 = C.shape
    if count < n_columns:  # the unfoldings' ranks are lower
        n_rows = min(n_rows, split_sketch(sketched.right, n_rows)[0].shape[1]) if count else 0
    if n_rows == 0:
        return np.zeros(0, dtype=np.intp)
    test = random_matrix(sketch, count * d3, sketched.right.shape[1], C.dtype, rng)
    basis, _ = split_sketch(times_power(C, sketched.exponent).reshape(d1, -1) @ test, n_rows)
    rest = sketched.right - basis @ (basis.conj().T @ sketched.right)
    return choose_rows(basis, beyond_rounding(rest, sketched.norm), n_rows, rule, rng)


def projection_error(sketched, left, middle, right):
    """Relative error of a projection: from the norms, or from the residual where rounding would spoil these."""
    X = sketched.A
    weights = slice_weights(X.shape[2], is_real(X))
    error = error_by_energy(sketched.norm, middle * np.sqrt(weights).astype(middle.real.dtype))
    return residual_error(sketched, left, middle, right) if error is None else float(error)


def residual_error(sketched, left, middle, right):
    """Relative error from the residual itself."""
    X = sketched.A
    weights = slice_weights(X.shape[2], is_real(X))
    product = middle @ right
    squares = [weighted_square(panel - left[:, rows] @ product, weights) for rows, panel in spectral_panels(X)]
    return float(np.sqrt(sum(squares)) / (sketched.norm or 1))


def shrunken(sketched, left, middle, right, rng):
    """The middle, less where a slice's product would be worse than zero, and the relative error on random vectors."""
    X = sketched.A
    weights = slice_weights(X.shape[2], is_real(X))
    probes = gaussian(X.shape[1], PROBES, middle.dtype, rng)
    images = np.concatenate([probes.T @ panel for _, panel in horizontal_slices.panels(X)])
    images = spectrum(images, is_real(X))
    products = left @ (middle @ (right @ probes))
    along = np.einsum("kij,kij->k", products.conj(), images).real
    sizes = np.linalg.norm(products, axis=(1, 2)) ** 2
    poor = np.linalg.norm(images - products, axis=(1, 2)) > 0.8 * np.linalg.norm(images, axis=(1, 2))
    factors = np.where(poor, np.maximum(along, 0) / np.where(sizes > 0, sizes, 1), 1).astype(sizes.dtype)[:, None, None]
    error = np.sqrt(weighted_square(images - factors * products, weights)) / (sketched.norm or 1)
    return factors * middle, float(error)


def third_order(X, name="X"):
    """A tensor of three modes, not empty."""
    X = operands.find_tensor(X, name)
    if X.ndim != 3:
        raise _validation.complain(ValueError, name, "of three modes", f"shape {X.shape}")
    return X
