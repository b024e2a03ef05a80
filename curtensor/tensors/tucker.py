"""Tucker decompositions: a small core times an orthonormal factor in each mode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from curtensor import _validation, operands
from curtensor.operands import on_host
from curtensor.operands.arithmetic import dense, times_power
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.operands.tensor_blocks import norm
from curtensor.results import in_kind, named
from curtensor.svd import randomized_svd
from curtensor.tensors.result import Tucker
from curtensor.tensors.unfolding import mode_factor, products

EPS = float(np.finfo(float).eps)
OVERSAMPLING = 10  # vectors of the randomized method beyond the rank
NEARLY = 0.1  # of the last share within the rank: vectors with more may change places once other modes are cut down
FOLDED = 100  # columns of a folded unfolding, over the rank: it costs the error half a part in so many
FOLDS = 8  # columns of the unfolding, over these, from which on folding pays
TRUE = 1.05  # times what a folded unfolding loses, that the unfolding itself may
WIDTH = 1024  # columns of an unfolding taken at a time where it is cut


class Basis(NamedTuple):
    """Leading left singular vectors of an unfolding, some more than asked for, and shares of its squared norm."""

    vectors: np.ndarray
    shares: np.ndarray  # of each vector
    rest: float  # of all that has no vector here
    doubt: float  # by how much rounding may have changed these
    folded: float = 0.0  # squared norm of the tensor, where the shares are seen on random sums of its columns

    @property
    def losses(self):
        """Shares that are lost with the first 0, 1, 2, ... vectors alone."""
        return np.append(np.cumsum(self.shares[::-1])[::-1], 0) + self.rest


def gram_basis(X, mode, rank, rtol, rng):
    """Eigenvectors of the Gram matrix: the fastest, and blind to what is below 1e-8 of the norm."""
    d = X.shape[mode]
    if not X.forms_gram(mode):
        return svd_basis(X, mode, rank, rtol, rng)
    G = in_range(gram, X, mode)[0]
    total = G.diagonal().real.sum()
    wanted = d if rank is None else min(rank + spare(rank), d)
    squares, vectors = linalg.eigh(G, subset_by_index=(d - wanted, d - 1), overwrite_a=True, check_finite=False)
    shares = np.maximum(squares[::-1], 0) / (total or 1)
    return Basis(vectors[:, ::-1], shares, remainder(shares, d), d * EPS)


def qr_basis(X, mode, rank, rtol, rng):
    """Singular vectors of the triangular factor: all digits, at two to four times the cost."""
    if not X.forms_gram(mode):
        return svd_basis(X, mode, rank, rtol, rng)
    _, s, Wh = np.linalg.svd(in_range(triangular_factor, X, mode)[0])
    return basis_from_svd(Wh.conj().T, s)


def svd_basis(X, mode, rank, rtol, rng):
    """Singular vectors of an unfolding with fewer columns than rows; as many more as a rank above the columns asks."""
    if X.sparse:
        return krylov_vectors(X, mode, rank, rtol, rng)
    M = in_range(scaled_unfolding, X, mode)[0]
    U, s, _ = np.linalg.svd(M, full_matrices=False)
    more = max((rank or 0) - len(s), 0)
    return basis_from_svd(filled_up(U, more), np.pad(s, (0, more)))


def filled_up(U, more):
    """Orthonormal columns, and more of these."""
    beyond = np.linalg.qr(np.pad(U, ((0, 0), (0, more))))[0][:, U.shape[1] :]  # reflectors make any columns orthonormal
    return np.hstack([U, beyond])


def krylov_vectors(X, mode, rank, rtol, rng):
    """Leading singular vectors of a sparse unfolding, of which not even a Gram matrix is formed."""
    (A,) = X.columns(mode)
    d, size = A.shape[0], norm(A)
    wanted = None if rank is None else min(rank + spare(rank), *A.shape)
    if size == 0:
        return Basis(np.eye(d, rank or 1), np.zeros(rank or 1), 0.0, 0.0)
    closeness = None if rtol is None or rank is not None else max(rtol / (2 * X.ndim), 64 * np.finfo(A.dtype).eps)
    U, s, _ = randomized_svd(A, wanted, rtol=closeness, rng=rng)
    more = max((rank or 0) - len(s), 0)
    shares = np.pad((s.astype(float) / size) ** 2, (0, more))
    return Basis(filled_up(U, more), shares, remainder(shares, d), d * EPS)


def basis_from_svd(U, s):
    """The `Basis` of all left singular vectors and values."""
    shares = (s / (s[0] or 1)) ** 2
    return Basis(U, shares / (shares.sum() or 1), 0.0, len(U) * EPS**2)


def randomized_basis(X, mode, rank, rtol, rng):
    """Eigenvectors of a Nystrom approximation of the Gram matrix: fast where the rank is far below the length.

    Of long unfoldings in memory those of random sums of columns, in a fraction of a pass; `sequential` checks them.
    """
    d = X.shape[mode]
    wanted = rank + spare(rank)
    width = max(FOLDED * rank, 4 * d)
    double = np.finfo(X.dtype).eps == EPS  # whose norm shows what is lost
    if double and X.in_memory and not X.sparse and wanted < d and X.size // d > FOLDS * width:
        return folded_basis(X, mode, wanted, width, rng)
    size = wanted + OVERSAMPLING
    if 2 * size >= d:
        return gram_basis(X, mode, rank, rtol, rng)
    sketch, exponent = in_range(sketched_unfolding, X, mode, size, rng)
    Q = np.linalg.qr(sketch)[0]
    image, total = np.zeros_like(Q), 0.0
    for piece in X.pieces(mode, exponent, WIDTH):
        image += piece @ (piece.conj().T @ Q)
        total += norm(piece) ** 2
    shift = np.sqrt(d) * EPS * np.linalg.norm(image) + np.finfo(float).tiny
    image += shift * Q
    lower = np.linalg.cholesky(Q.conj().T @ image)
    U, s, _ = np.linalg.svd(linalg.solve_triangular(lower, image.conj().T, lower=True).conj().T, full_matrices=False)
    shares = np.maximum(s[:wanted] ** 2 - shift, 0) / (total or 1)
    return Basis(U[:, :wanted], shares, remainder(shares, d), d * EPS)


def folded_basis(X, mode, wanted, width, rng):
    """Leading singular vectors of the unfolding's columns added up in as many as the width, with random signs."""
    d = X.shape[mode]
    G, exponent = in_range(folded_gram, X, mode, width, rng)
    if exponent:  # its norm is beyond what floats hold
        return gram_basis(X, mode, wanted, None, rng)
    total = X.norm() ** 2 or 1
    whole = G.diagonal().real.sum()
    squares, vectors = linalg.eigh(G, subset_by_index=(d - wanted, d - 1), overwrite_a=True, check_finite=False)
    rest = max(float(whole - squares.sum()), 0.0) / total
    return Basis(vectors[:, ::-1], np.maximum(squares[::-1], 0) / total, rest, d * EPS, folded=total)


def spare(rank):
    """How many vectors beyond a rank to look at."""
    return rank // 2 + 1


def remainder(shares, d):
    """What some of d shares leave of 1."""
    return max(1 - float(shares.sum()), 0.0) if len(shares) < d and shares.any() else 0.0


def auto_basis(X, mode, rank, rtol, rng):
    """`gram_basis`, or `qr_basis` where the tolerance, or what the spectrum leaves, asks for more digits."""
    d = X.shape[mode]
    visible = 20 * d * EPS  # shares that a Gram matrix shows well
    if np.finfo(X.dtype).eps > EPS:
        return gram_basis(X, mode, rank, rtol, rng)
    if rank is None:
        return (gram_basis if rtol**2 > X.ndim * visible else qr_basis)(X, mode, rank, rtol, rng)
    found = gram_basis(X, mode, rank, rtol, rng)
    return found if rank == d or found.losses[rank] > visible else qr_basis(X, mode, rank, rtol, rng)


@dataclass(frozen=True)
class TuckerMethod:
    """How singular vectors are found: the function, and what it needs. A bare one is ``TuckerMethod(function)``.

    Attributes
    ----------
    function : callable
        ``(X, mode, rank, rtol, rng)`` to a `Basis` of a mode of the tensor X; one of rank and rtol is None.
    finds_rank : bool, default True
        Whether it can be given a tolerance in place of a rank.
    """

    function: Callable
    finds_rank: bool = True

    def __call__(self, X: Any, mode: int, rank: int | None, rtol: float | None, rng: Any) -> "Basis":
        """The basis, checked, since it may come from a user's function."""
        basis = self.function(X, mode, rank, rtol, rng)
        if not isinstance(basis, Basis) or np.shape(basis.vectors) != (X.shape[mode], len(basis.shares)):
            what = f"a Basis of vectors of length {X.shape[mode]} with as many shares"
            raise _validation.complain(TypeError, "what method gives", what, _validation.describe(basis))
        return basis


TUCKER_METHODS = {
    "auto": TuckerMethod(auto_basis),
    "gram": TuckerMethod(gram_basis),
    "qr": TuckerMethod(qr_basis),
    "randomized": TuckerMethod(randomized_basis, finds_rank=False),
}


def in_range(condense, X, mode, *rest):
    """A small matrix made of X, or of 2^e X where the range of floats asks for it, and e; X is found finite or not."""
    with np.errstate(all="ignore"):
        small = condense(X, mode, 0, *rest)
        fits = 1e-95 < np.abs(small).max() < 1e95  # so that squares of sketches fit, too
    if fits:
        return small, 0
    exponent = safe_exponent(X)
    return condense(X, mode, exponent, *rest), exponent


def safe_exponent(X):
    """An exponent e with which squares of 2^e X neither overflow nor underflow; raises if X is not finite."""
    _validation.found_finite(X.first_nonfinite(), "X")
    return -int(np.clip(np.frexp(X.largest())[1], -1000, 1000))


def gram(X, mode, exponent):
    """The Gram matrix of a mode of 2^exponent X."""
    return on_host(X.mode_gram(mode, exponent))


def triangular_factor(X, mode, exponent):
    """R of a QR decomposition of the adjoint of an unfolding of 2^exponent X, updated piece by piece."""
    d = X.shape[mode]
    kind = np.result_type(X.dtype, float)
    factor, factor_size = linalg.get_lapack_funcs(("geqrf", "geqrf_lwork"), dtype=kind)
    work = int(factor_size(2 * d, d)[0].real)
    adjoint = np.zeros((d, d), kind)
    for piece in X.pieces(mode, exponent, 4 * d):
        stack = np.hstack([adjoint, dense(piece).conj()])
        adjoint = np.triu(factor(stack.T, lwork=work, overwrite_a=True)[0][:d]).T
    return adjoint.T


def scaled_unfolding(X, mode, exponent):
    """The unfolding of 2^exponent X, in double precision."""
    return times_power(X.unfolded(mode).astype(np.result_type(X.dtype, float)), exponent)


def folded_gram(X, mode, exponent, width, rng):
    """Gram matrix of the sums of columns of the unfolding of 2^exponent X a width apart, each times a random sign."""
    folded, column = np.zeros((X.shape[mode], width), np.result_type(X.dtype, float)), 0
    for piece in X.pieces(mode, exponent):
        piece = dense(piece)
        signs = 2.0 * rng.integers(0, 2, piece.shape[1], dtype=np.int8) - 1
        start = 0
        while start < piece.shape[1]:
            place = column % width
            folds = max((piece.shape[1] - start) // width, 1) if place == 0 else 1
            size = min(width - place, piece.shape[1] - start) if folds == 1 else width
            part = slice(start, start + folds * size)
            layers = piece[:, part].reshape(-1, folds, size)
            folded[:, place : place + size] += np.einsum("ijk,jk->ik", layers, signs[part].reshape(folds, size))
            start, column = part.stop, column + folds * size
    return folded @ folded.conj().T


def sketched_unfolding(X, mode, exponent, size, rng):
    """The unfolding of 2^exponent X times a matrix of random signs."""
    sketch = np.zeros((X.shape[mode], size), np.result_type(X.dtype, float))
    for piece in X.pieces(mode, exponent, WIDTH):
        sketch += piece @ (2.0 * rng.integers(0, 2, size=(piece.shape[1], size), dtype=np.int8) - 1)
    return sketch


def st_hosvd(
    X: Any,
    /,
    ranks: int | _validation.Integers | None = None,
    *,
    rtol: float | None = None,
    method: str | Callable = "auto",
    rng: _validation.RandomSource = None,
) -> Tucker:
    """Tucker decomposition of a tensor by the sequentially truncated higher-order SVD.

    X is close to ``core x_0 factors[0] x_1 factors[1] ...``; each factor holds leading left singular vectors of its
    mode's unfolding, after the modes before it have been cut down: ``core = X x_0 factors[0]^H x_1 ...``.

    Parameters
    ----------
    X : array of any framework or store, or sparse array, shape (d_0, ..., d_{N-1}), N >= 2
        Real or complex, in any memory order, of NumPy or a framework of the array API, in a store or sparse; integers
        and bool are taken as float64.
    ranks : int or sequence of int, optional
        Lengths (r_0, ..., r_{N-1}) of the core, 1 to d_n each; an int is meant for every mode that is as long. Exactly
        one of `ranks` and `rtol` is given.
    rtol : float, optional
        Largest ``||X - approximation||_F / ||X||_F`` wanted, 64 times the dtype's epsilon to below 1; held. Each mode
        takes the smallest rank that leaves the modes after it their equal share.
    method : str or callable, default "auto"
        How singular vectors are found. "gram": eigenvectors of the mode's Gram matrix, the fastest. "qr": from the
        triangular factor of the unfolding's adjoint, accurate to rounding. "auto": the first, and the second where
        `rtol`, or the part that is cut off, is below 1e-6 and the dtype has such digits. "randomized": the
        Gram matrix of random sums of columns where the unfolding is long, in memory and in double precision, checked by
        the norm that is kept, else a Nystrom approximation from two passes: the fastest for ranks below a twentieth of
        the lengths; goes with `ranks` only. Or a function as in `curtensor.tensors.tucker.TUCKER_METHODS`.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness, for "randomized", and for a sparse X with a mode above 4096.

    Returns
    -------
    result : Tucker
        Unpacks to ``core, factors``, of X's framework and on its device; the core has the lengths asked for also where
        the rank of X is lower.

    Raises
    ------
    TypeError
        If X is no array of numbers, or another argument of the wrong kind.
    ValueError
        If X has fewer than two modes, is empty or not finite; if not exactly one of `ranks` and `rtol` is given; if
        ranks are not as many as modes or out of range, or `rtol` is below what the dtype can reach.
    OverflowError
        If the norm of X is beyond the range of its dtype.

    Notes
    -----
    Modes are taken by ascending length [1]_. With `ranks`, vectors beyond the rank whose share of the squared norm is
    above a tenth of the last one's within are kept, up to half as many again, and the small core which that leaves is
    cut down to `ranks` by higher-order orthogonal iteration: on Indian Pines and kinetic fluorescence this brought the
    error from 1.012 times that of `hooi` to 1.005. The error of the plain method is at most sqrt(N) times that of the
    best approximation of these ranks [1]_.

    About (d + 2 r) size(X) operations for the first mode (d, r), as little as r / d of that for the others; "qr" two to
    four times as many. Passes over X: one for the singular vectors, one for the product. Memory beside the result:
    the core after the first mode, r to 1.5 r / d of X, and pieces of half a megabyte or 4 d columns.

    References
    ----------
    .. [1] N. Vannieuwenhoven, R. Vandebril, K. Meerbergen, "A new truncation strategy for the higher-order singular
       value decomposition", SIAM J. Sci. Comput. 34(2), 2012.
    .. [2] R. Minster, A. K. Saibaba, M. E. Kilmer, "Randomized algorithms for low-rank tensor decompositions in the
       Tucker format", SIAM J. Math. Data Sci. 2(1), 2020.
    .. [3] J. A. Tropp, A. Yurtsever, M. Udell, V. Cevher, "Fixed-rank approximation of a positive-semidefinite matrix
       from streaming data", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> t = np.linspace(0, 1, 30)
    >>> X = 1 / (1 + t[:, None, None] + t[:, None] + t)
    >>> core, factors = ct.st_hosvd(X, (3, 3, 3))
    >>> core.shape, factors[0].shape
    ((3, 3, 3), (30, 3))
    >>> ct.st_hosvd(X, rtol=1e-6).ranks
    (4, 4, 4)
    """
    given, X = X, operands.find_tensor(X, least=2)
    ranks, rtol = _validation.ranks_or_rtol(ranks, rtol, X.shape, X.dtype)
    find_basis = basis_method(method, ranks)
    rng = _validation.generator(rng)

    return named(in_kind(truncated_hosvd(X, ranks, rtol, find_basis, rng), X), given)


def basis_method(method, ranks):
    """What finds singular vectors, without ranks to a tolerance."""
    find_basis = _validation.choose(TUCKER_METHODS, method, "method", TuckerMethod)
    if ranks is None and not find_basis.finds_rank:
        able = ", ".join(name for name, other in TUCKER_METHODS.items() if other.finds_rank)
        raise _validation.complain(
            ValueError, "method", f"one of {able} where rtol is given", _validation.describe(method)
        )
    return find_basis


def truncated_hosvd(X, ranks, rtol, find_basis, rng):
    """The body of `st_hosvd`: a wider decomposition where spectra fall slowly, whose small core is then refined."""
    wide = sequential(X, ranks, rtol, find_basis, rng, NEARLY)
    if ranks is None or wide.ranks == ranks:
        return wide
    core = DenseTensor(wide.core)
    start = sequential(core, ranks, None, find_basis, rng, 1)
    inner = refined(core, start, 1e-3, 10, find_basis, lambda progress: None, rng)
    factors = tuple(U @ V for U, V in zip(wide.factors, inner.factors, strict=True))
    error = np.hypot(wide.error_estimate, inner.error_estimate * np.sqrt(1 - wide.error_estimate**2))
    return Tucker(inner.core, factors, float(error))


def sequential(X, ranks, rtol, find_basis, rng, nearly):
    """Mode after mode cut down to its rank, and to the vectors beyond it with nearly the share of the last within."""
    kind = X.dtype
    budget = None if rtol is None else rtol**2 - (16 * np.finfo(kind).eps) ** 2  # the rest is for rounding
    core, factors = X, {}
    lost, kept = 0.0, 1.0
    for mode in by_length(X):
        for find in (find_basis, gram_basis):
            found = find(core, mode, None if ranks is None else ranks[mode], rtol, rng)
            if ranks is None:
                rank = least_rank(found, (budget - lost) / kept / (X.ndim - len(factors)))
            else:
                beyond = found.shares[ranks[mode] : ranks[mode] + spare(ranks[mode])]
                rank = ranks[mode] + np.count_nonzero(beyond > nearly * found.shares[ranks[mode] - 1])
            factor = np.ascontiguousarray(found.vectors[:, :rank], kind)
            with np.errstate(over="ignore", invalid="ignore"):
                cut = core.mode_product(factor.conj().T, mode)
            loss = max(1 - cut.norm() ** 2 / found.folded, EPS) if found.folded else found.losses[rank]
            if not found.folded or loss <= TRUE * found.losses[rank] + found.doubt:
                break
        lost, kept = lost + kept * loss, kept * (1 - loss)
        core, factors[mode] = cut, factor
        if not core.is_finite():
            raise OverflowError(f"norm of X must be representable in {kind}, got one beyond")
    return Tucker(core.whole(), tuple(factors[mode] for mode in range(X.ndim)), float(np.sqrt(lost)))


def by_length(X):
    """The modes by ascending length, those farthest apart in memory first where lengths are equal."""
    return sorted(X.axes, key=lambda mode: X.shape[mode])


def least_rank(found, share):
    """The smallest rank whose loss is surely within a share; all vectors lose nothing."""
    fitting = np.flatnonzero(found.losses[1:] + found.doubt <= share)
    return int(fitting[0]) + 1 if len(fitting) else found.vectors.shape[1]


def hooi(
    X: Any,
    /,
    ranks: int | _validation.Integers | None = None,
    *,
    rtol: float | None = None,
    method: str | Callable = "auto",
    tol: float = 1e-4,
    max_sweeps: int = 50,
    rng: _validation.RandomSource = None,
    callback: Callable[[float], object] | None = None,
) -> Tucker:
    """Tucker decomposition of a tensor by higher-order orthogonal iteration, from `st_hosvd`.

    Each factor in turn becomes the best for the others: leading left singular vectors of the mode's unfolding of
    ``X x_m factors[m]^H`` over all other modes m.

    Parameters
    ----------
    X : array of any framework or store, or sparse array, shape (d_0, ..., d_{N-1}), N >= 2
        Real or complex, in any memory order, of NumPy or a framework of the array API, in a store or sparse; integers
        and bool are taken as float64.
    ranks : int or sequence of int, optional
        Lengths (r_0, ..., r_{N-1}) of the core, 1 to d_n each; an int is meant for every mode that is as long. Exactly
        one of `ranks` and `rtol` is given.
    rtol : float, optional
        Largest ``||X - approximation||_F / ||X||_F`` wanted, 64 times the dtype's epsilon to below 1; held. The ranks
        are those by which `st_hosvd` holds it.
    method : str or callable, default "auto"
        How singular vectors are found, as in `st_hosvd`.
    tol : float, default 0.0001
        Converged, when a sweep lowers the error by less than this part of itself; 64 times the dtype's epsilon to
        below 1. No bound on the error: that is `rtol`.
    max_sweeps : int, default 50
        Sweeps over all modes at most, at least 1.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness, for ``method="randomized"``.
    callback : callable, optional
        Called with the fraction of `max_sweeps` done, a float from 0 to 1.

    Returns
    -------
    result : Tucker
        Unpacks to ``core, factors``; its error is at most that of `st_hosvd`, and as a rule by less than one percent
        below it.

    Raises
    ------
    TypeError
        If X is no array of numbers, or another argument of the wrong kind.
    ValueError
        If X has fewer than two modes, is empty or not finite; if not exactly one of `ranks` and `rtol` is given; if
        ranks are not as many as modes or out of range; if another number is out of range.
    OverflowError
        If the norm of X is beyond the range of its dtype.

    Notes
    -----
    Passes over X: two for the start, N for each sweep, one more for the error where that is below 1e-6. About
    2 N r size(X) operations a sweep for ranks r, and r / d to 1.5 r / d of X's memory. Converges to a stationary point,
    not always the best [1]_; its error is at most sqrt(N) times that of the best, as is the start's.

    References
    ----------
    .. [1] L. De Lathauwer, B. De Moor, J. Vandewalle, "On the best rank-1 and rank-(R1, R2, ..., RN) approximation of
       higher-order tensors", SIAM J. Matrix Anal. Appl. 21(4), 2000.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> X = np.random.default_rng(0).standard_normal((6, 7, 8))
    >>> ct.hooi(X, (2, 2, 2)).error_estimate < ct.st_hosvd(X, (2, 2, 2)).error_estimate
    True
    """
    given, X = X, operands.find_tensor(X, least=2)
    ranks, rtol = _validation.ranks_or_rtol(ranks, rtol, X.shape, X.dtype)
    find_basis = basis_method(method, ranks)
    tol = _validation.tolerance(tol, X.dtype, "tol")
    max_sweeps = _validation.integer(max_sweeps, "max_sweeps", 1, 10**6)
    rng = _validation.generator(rng)
    callback = _validation.callback_function(callback)

    start = truncated_hosvd(X, ranks, rtol, find_basis, rng)
    return named(in_kind(refined(X, start, tol, max_sweeps, find_basis, callback, rng), X), given)


def refined(X, start, tol, max_sweeps, find_basis, callback, rng):
    """The body of `hooi`, from a Tucker decomposition."""
    scale = np.abs(start.core).max() or 1
    factors = dict(enumerate(start.factors))
    core, error = start.core, start.error_estimate
    total = sum_of_squares(core, scale) / (1 - error**2) or 1
    shown = np.sqrt(1e4 * np.finfo(core.dtype).eps)  # errors that a difference of squares shows
    for sweep in range(max_sweeps):
        before = error
        for mode in by_length(X):
            others = {other: U.conj().T for other, U in factors.items() if other != mode}
            reduced = X.mode_products(others)
            vectors = find_basis(reduced, mode, start.ranks[mode], None, rng).vectors
            factors[mode] = np.ascontiguousarray(vectors[:, : start.ranks[mode]], core.dtype)
        core = reduced.mode_product(factors[mode].conj().T, mode).whole()
        error = np.sqrt(max(1 - sum_of_squares(core, scale) / total, 0))
        callback((sweep + 1) / max_sweeps)
        if error >= (1 - tol) * before or error < shown:
            break
    callback(1.0)
    result = Tucker(core, tuple(factors[mode] for mode in range(X.ndim)), float(error))
    if error < shown:
        rest, _ = X.residual(result.core, result.factors, float(scale))
        result = replace(result, error_estimate=float(rest / np.sqrt(total)))
    return min(start, result, key=lambda tucker: tucker.error_estimate)


def sum_of_squares(X, scale):
    """Squared norm of X / scale, in double precision."""
    return float(np.linalg.norm((X / scale).astype(np.result_type(X.dtype, float)))) ** 2


def tucker_to_tensor(core: Any, factors: Sequence[Any], /) -> Any:
    """Tensor of a core and a factor in each mode.

    ``core x_0 factors[0] x_1 factors[1] ...``

    Parameters
    ----------
    core : array of any framework or store, or sparse array, shape (r_0, ..., r_{N-1})
        Real or complex; integers and bool are taken as float64.
    factors : sequence of array_like, shapes (d_n, r_n)
        One for each mode.

    Returns
    -------
    X : array of the core's kind, shape (d_0, ..., d_{N-1})
        In the common dtype of the core and the factors.

    Raises
    ------
    TypeError
        If the core or a factor is no array of numbers.
    ValueError
        If it is empty, or of another shape, or factors are not as many as modes.

    Notes
    -----
    At most 2 r size(X) operations for the last mode, and less for those before; their order is that of least cost.

    References
    ----------
    .. [1] T. G. Kolda, B. W. Bader, "Tensor decompositions and applications", SIAM Review 51(3), 2009, section 4.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> X = np.arange(8.0).reshape(2, 2, 2)
    >>> bool(np.allclose(ct.tucker_to_tensor(*ct.st_hosvd(X, (2, 2, 2))), X))
    True
    """
    core, factors = tucker_parts(core, factors)

    return products(core, dict(enumerate(factors)))


def tucker_parts(core, factors):
    """A core's tensor and one matrix for each of its modes, with as many columns as the mode is long."""
    core = operands.find_tensor(core, "core", gradients=True)
    factors = list(_validation.several(factors, "factors", f"a sequence of {core.ndim} matrices"))
    if len(factors) != core.ndim:
        raise _validation.complain(
            ValueError, "factors", f"one for each of {core.ndim} modes", f"{len(factors)} factors"
        )
    for mode, size in enumerate(core.shape):
        name = f"factors[{mode}]"
        factors[mode] = mode_factor(factors[mode], size, name=name)
        if factors[mode].ndim != 2:
            raise _validation.complain(ValueError, name, f"of shape (d, {size})", f"shape {factors[mode].shape}")
    return core, factors
