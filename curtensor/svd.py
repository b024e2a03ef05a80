"""Randomized singular value decomposition."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg, sparse

from curtensor import _validation, archive, operands, plots
from curtensor.operands import on_host
from curtensor.operands.arithmetic import dense, times_power
from curtensor.results import MatrixResult, named, result_like
from curtensor.sketching import ENERGY_FLOOR, SKETCHES, error_by_energy, gaussian, random_matrix, sketch_matrix

BLOCK = 16  # vectors to begin with where a tolerance is given
PROBES = 10  # random vectors kept out of the basis, on which its error is seen
NOISE = 10  # times the dtype's epsilon, of ||A||_F: a direction no longer than that is rounding
CONDITION = 10  # square roots of epsilon, below which a Gram matrix shows too few digits of the smaller directions
STEPS = 4  # by default, where each is taken
MOST_STEPS = 8  # by default, where no more are taken than serve
DEEP_STEPS = 5  # where the error is too small to be followed
MIN_GAIN = 1.5e-3  # of the error: what further blocks must be seen to gain, or they are not taken
FLAT = 100  # times as much left as kept, above which the gain of what is kept counts, too
STEEPEST = 0.1  # ratio of the gains of two blocks that is counted on, however steep the last fall was
REPEATED = 1e-2  # of a squared value: closer ones may be equal
BASIS_BYTES = 3 * 2**27  # above which a basis is cut back to what matters of it, and its images are not held
PANEL = 2**14  # rows
SAFETY = 10  # a rank-one remainder shows less than a tenth of its norm on 10 probes once in 4e8 times


@dataclass(frozen=True, eq=False, repr=False)
class SVD(MatrixResult):
    """A truncated singular value decomposition, which unpacks to ``U, s, Vh``.

    Attributes
    ----------
    U : array, shape (m, k)
        Orthonormal left singular vectors.
    s : array, shape (k,)
        Singular values, descending.
    Vh : array, shape (k, n)
        Orthonormal right singular vectors, as rows.
    error_estimate : float
        Estimate of ``||A - U diag(s) Vh||_F / ||A||_F``.
    names : tuple of (pandas Index or ndarray of str or None)
        `row_names` and `col_names`: those of all rows and of all columns, None where A has none.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    U: np.ndarray
    s: np.ndarray
    Vh: np.ndarray
    error_estimate: float

    MAIN = "U"

    def __iter__(self) -> Iterator[np.ndarray]:
        """U, s, Vh."""
        return iter((self.U, self.s, self.Vh))

    @property
    def rank(self) -> int:
        """Number of singular values."""
        return len(self.s)

    @property
    def product(self) -> tuple[Any, Any]:
        """``U`` and ``diag(s) @ Vh``."""
        return self.U, self.s[:, None] * self.Vh

    def plot(self, *, ax: Any = None, rtol: float | None = None) -> Any:
        """Draw the share of the squared norm that the first 1, 2, ... singular values explain, with matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.
        rtol : float, optional
            A relative error, 0 to 1, at which a line is drawn.

        Returns
        -------
        ax : matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        curves = {"SVD": self._so_far()[1]}
        return plots.draw_shares(ax, curves, "number of singular values", rtol=rtol)

    def _so_far(self) -> tuple[Any, Any]:
        """No names, and the shares that the singular values explain."""
        s = np.asarray(on_host(self.s), dtype=float) / (float(self.s[0]) if self.rank else 1)
        return [""] * self.rank, np.cumsum(s**2) / ((s**2).sum() or 1) * (1 - self.error_estimate**2)

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """U, s, Vh and the error in a file."""
        U = archive.numbers(members, "U", (None, None))
        m, k = U.shape
        Vh = archive.numbers(members, "Vh", (k, None), U.dtype)
        _validation.matrix_shape((m, Vh.shape[1]))
        s = archive.numbers(members, "s", (k,), U.real.dtype)
        return {"U": U, "s": s, "Vh": Vh, "error_estimate": archive.scalar(members, "error_estimate", "f")}


def block_krylov(operand, A, Y, steps, basis, images, scale):
    """Extend an orthonormal basis by ``Y, A A^H Y, (A A^H)^2 Y, ...``, each step from the last block's image."""
    for step in range(steps + 1):
        block = new_directions(Y, [basis], scale)
        if block.shape[1] == 0:
            break
        image = operand.rmatmat(A, block)
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        if block.shape[1] < Y.shape[1]:  # the powers have run dry: what they would add next grows out of rounding
            break
        if step < steps:
            Y = operand.matmat(A, np.linalg.qr(image)[0])
    return basis, images


def subspace(operand, A, Y, steps, basis, images, scale):
    """Extend an orthonormal basis by the last of the powers ``(A A^H)^steps Y`` alone; LU between, QR last."""
    for _ in range(steps):
        Y = linalg.lu(outside(outside(Y, [basis]), [basis]), permute_l=True)[0]
        Y = operand.matmat(A, linalg.lu(operand.rmatmat(A, Y), permute_l=True)[0])
    block = new_directions(Y, [basis], scale)
    return np.hstack([basis, block]), np.hstack([images, operand.rmatmat(A, block)])


def new_directions(Y, basis, scale):
    """Orthonormal basis of what Y has outside of a basis, reorthogonalised; fewer columns where little is left.

    The basis is in blocks. Y is the product of a matrix, of norm `scale`, with orthonormal or with random vectors.
    """
    least = NOISE * np.finfo(Y.dtype).eps * max(scale, np.linalg.norm(Y))
    most = len(Y) - sum(block.shape[1] for block in basis)
    outer = outside(Y, basis)
    Q, R = thin_qr(outer, out=outer)
    if Y.shape[1] <= most and np.abs(R.diagonal()).min(initial=np.inf) > 10 * least:
        outer = outside(Q, basis)
        return thin_qr(outer, out=outer)[0]
    Q, R, _ = linalg.qr(outside(outside(Y, basis), basis), mode="economic", pivoting=True)
    Q = Q[:, np.abs(R.diagonal()) > least][:, :most]
    return np.linalg.qr(outside(Q, basis))[0]


def outside(Y, basis):
    """What Y has outside of a basis in blocks."""
    parts = [block.conj().T @ Y for block in basis]
    return plus_products(Y.copy(), basis, [-part for part in parts])


def combined(blocks, Z):
    """The product of a matrix in blocks of columns with another."""
    parts = np.split(Z, np.cumsum([block.shape[1] for block in blocks])[:-1])
    return plus_products(np.zeros((len(blocks[0]), Z.shape[1]), Z.dtype), blocks, parts)


def plus_products(total, blocks, parts):
    """A tall matrix plus the products of others, in place, panel by panel: none is ever there as a whole."""
    for rows in panels(total):
        for block, part in zip(blocks, parts, strict=True):
            total[rows] += block[rows] @ part
    return total


def panels(X):
    """Slices of rows."""
    return [slice(start, start + PANEL) for start in range(0, len(X), PANEL)]


def thin_qr(Y, out=None):
    """``Y = Q R`` by the Cholesky factor of the Gram matrix, Q well conditioned; orthonormal where Y is the former.

    By reflections, and orthonormal, where the Gram matrix would lose the digits of some direction. Q may overwrite Y.
    """
    gram = Y.conj().T @ Y
    R, failed = linalg.lapack.get_lapack_funcs("potrf", (gram,))(gram, clean=True)
    diagonal = np.abs(R.diagonal())
    if failed or diagonal.min(initial=1) <= CONDITION * np.sqrt(np.finfo(Y.dtype).eps) * diagonal.max(initial=0):
        return np.linalg.qr(Y)
    # a product with this small inverse is several times faster than to solve, and a second turn mends what it loses
    inverse = linalg.solve_triangular(R, np.eye(len(R), dtype=Y.dtype))
    Q = np.empty_like(Y) if out is None else out
    for rows in panels(Y):
        Q[rows] = Y[rows] @ inverse
    return Q, R


def randomized_svd(
    A: Any,
    /,
    rank: int | None = None,
    *,
    rtol: float | None = None,
    method: str = "block_krylov",
    oversampling: int = 10,
    power_iterations: int | None = None,
    sketch: str | Callable = "sparse_sign",
    rng: _validation.RandomSource = None,
) -> SVD:
    """Leading singular values and vectors of a matrix, from its products with random vectors.

    ``A`` is close to ``U diag(s) Vh``, with an error close to that of the truncated SVD.

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, dask array, `row_blocks` or LinearOperator, shape (m, n)
        Real or complex; integers and bool are taken as float64.
    rank : int, optional
        Number of singular values, 1 to min(m, n). Exactly one of `rank` and `rtol` is given.
    rtol : float, optional
        Largest ``||A - U diag(s) Vh||_F / ||A||_F`` wanted, 64 times the dtype's epsilon to below 1; the basis grows
        until more would not lower the rank. For a LinearOperator the norms are seen on random vectors.
    method : "block_krylov", "subspace" or "single_pass", default "block_krylov"
        Block Krylov keeps all powers, subspace iteration the last; single pass needs but one pass and is the least
        accurate. `single_pass` goes with `rank` only.
    oversampling : int, default 10
        Vectors beyond `rank` in a block of the other methods, at least 0; two Krylov blocks have so many together.
    power_iterations : int, optional
        Products with A A^H, at least 0; not used by the single pass. By default at most 8 for a rank by Krylov blocks,
        fewer where the next are seen to lower the error by less than 0.15 %: the error was at most 0.2 % above that of
        the truncated SVD on every matrix tried. Otherwise 4.
    sketch : str or callable, default "sparse_sign"
        A test matrix of `curtensor.sketching.SKETCHES`, or a function ``(n, size, dtype, rng)`` to a real one.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.

    Returns
    -------
    result : SVD
        Unpacks to ``U, s, Vh``; with `error_estimate`. Fewer than `rank` values where the numerical rank is lower.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if not exactly one of `rank` and `rtol` is given; if a
        number is out of range; if `rtol` cannot be reached.

    Notes
    -----
    Passes over A: at most 2 power_iterations + 2; one more of an operator, and where the error is below about
    1e-6 (1e-2 in single precision), and one for each block of random vectors that goes in where values repeat. The
    single pass 1; with `rtol`, 2 power_iterations + 2 for each block by which the basis grows. O(m n b (q + 1))
    operations for q iterations with blocks of b vectors: rank + oversampling, and half of these for Krylov blocks.

    Krylov blocks hold a basis of the shorter side and its images, O((m + n) b (q + 1)) numbers; where that is above
    400 MB, its leading part alone, O((m + n) b), at the cost of one more pass.

    The error is known from the norm of A and the singular values. Where that would be rounding, and for operators, the
    estimate adds to the singular values that were cut off what ten random vectors kept out of the basis show of A
    outside of it: with a Krylov basis these serve where the leave-one-out estimate of [3]_ would need each vector's
    powers kept apart.

    A is copied in no layout, but a sparse one is converted where it is neither CSR nor CSC or not of floats, and a
    DataFrame with columns of several dtypes is put together.

    References
    ----------
    .. [1] C. Musco, C. Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
       decomposition", NeurIPS 2015, Algorithm 2.
    .. [2] N. Halko, P.-G. Martinsson, J. A. Tropp, "Finding structure with randomness", SIAM Review 53(2), 2011,
       Algorithm 4.4.
    .. [3] E. N. Epperly, J. A. Tropp, "Efficient error and variance estimation for randomized matrix computations",
       2022, arXiv:2207.06342.
    .. [4] J. A. Tropp, A. Yurtsever, M. Udell, V. Cevher, "Practical sketching algorithms for low-rank matrix
       approximation", SIAM J. Matrix Anal. Appl. 38(4), 2017, Algorithm 7.
    .. [5] R. A. Meyer, C. Musco, C. Musco, "On the unreasonable effectiveness of single vector Krylov methods for
       low-rank approximation", SODA 2024, arXiv:2305.02535.
    .. [6] K. Wu, H. Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix Anal.
       Appl. 22(2), 2000.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> A = np.diag([5.0, 4, 3, 2, 1])
    >>> U, s, Vh = ct.randomized_svd(A, 2, rng=0)
    >>> s.round(6)
    array([5., 4.])
    >>> ct.randomized_svd(A, rtol=0.31, rng=0).rank
    3
    """
    given, (operand, A) = A, operands.find(A, only_products=True)
    rank, rtol = _validation.rank_or_rtol(rank, rtol, A.shape, operand.dtype(A))
    chosen = SVD_METHODS[_validation.one_of(SVD_METHODS, method, "method")]
    if chosen.extend is None and rank is None:
        raise _validation.complain(ValueError, "method", "block_krylov or subspace where rtol is given", repr(method))
    oversampling = _validation.integer(oversampling, "oversampling", 0, np.inf)
    if power_iterations is None:
        power_iterations = STEPS if rank is None else chosen.steps
    steps = _validation.integer(power_iterations, "power_iterations", 0, 100)
    sketch = _validation.choose(SKETCHES, sketch, "sketch")
    rng = _validation.generator(rng)

    if rank is None:
        result = svd_to_tolerance(operand, A, rtol, chosen.extend, steps, sketch, rng)
    else:
        result = chosen.of_rank(operand, A, rank, oversampling, steps, sketch, rng)
    return named(result_like(operand, A, result), given)


def truncated_svd(operand, A, rank, oversampling, steps, sketch, rng, min_gain=0.0):
    """The body of `randomized_svd` for a rank: images of the best of a block Krylov basis of the shorter side.

    T is A where that is tall, else its adjoint. Of the longer side nothing is held but blocks, until the images are.
    """
    wide = A.shape[0] < A.shape[1]
    n, m = sorted(A.shape)
    kind, knows_norm = operand.dtype(A), operand.knows_norm(A)
    width = min(-(-(rank + oversampling) // min(2, steps + 1)), n)
    test = random_matrix(sketch, m, width, kind, rng) * np.sqrt(width, dtype=np.empty(0, kind).real.dtype)
    unused = sparse.csr_array((n, 0), dtype=test.dtype)
    sketched = sketch_matrix(operand, A, *((unused, test) if wide else (test, unused)))
    del test  # what is as long as a side, and not needed on, makes room
    start = [sketched.right if wide else sketched.left]
    norm, exponent = sketched.norm, sketched.exponent
    times, adjoint_times = partial(sketched.operand.matmat, sketched.A), partial(sketched.operand.rmatmat, sketched.A)
    del sketched
    if wide:
        times, adjoint_times = adjoint_times, times

    def another():
        return adjoint_times(gaussian(m, width, kind, rng))

    if width == n:  # no sketch beats the whole space
        start = [np.eye(n, dtype=kind) * kind.type(norm)]
    square = norm**2 if knows_norm else 0
    basis, images, gram = krylov_basis(
        times, adjoint_times, m, start, norm, rank, rank + oversampling, steps, square, min_gain, another
    )
    squares, Z = (part[..., ::-1] for part in np.linalg.eigh(gram))
    error = error_by_energy(norm, np.sqrt(np.maximum(squares[:rank], 0))) if knows_norm else None
    V, s, Uh = svd_of_images(times, basis, images, squares, Z, rank, beyond=error is None)
    if error is None:
        unseen = adjoint_times(probe_vectors(m, kind, rng))
        error = np.hypot(np.linalg.norm(s[rank:]), norm_outside(unseen, V)) / (norm or 1)
    rank = min(rank, numerical_rank(s, A.shape))
    V, s, Uh = V[:, :rank], times_power(s[:rank], -exponent), Uh[:rank]
    return SVD(V, s, Uh, float(error)) if wide else SVD(Uh.conj().T, s, V.conj().T, float(error))


def subspace_svd(operand, A, rank, oversampling, steps, sketch, rng):
    """The same from the last of the powers alone."""
    sketched, Y, unseen = first_products(operand, A, rank + oversampling, sketch, rng)
    basis, images = subspace(sketched.operand, sketched.A, Y, steps, *nothing(sketched.A.shape, Y.dtype), sketched.norm)
    remainder = norm_outside(unseen, basis)
    U, s, Vh = svd_of_product(basis, images)
    return cut(U, s, Vh, min(rank, numerical_rank(s, A.shape)), remainder, sketched)


def krylov_basis(times, adjoint_times, m, start, scale, rank, size, steps, square, min_gain, another):
    """A basis V of ``Y, T^H T Y, (T^H T)^2 Y, ...``, its images T V, and ``V^H T^H T V``, read off the recurrence.

    Where the powers run dry, or a value is found as often as a block has vectors and may be there more often, a block
    of random vectors is put in. Where the basis outgrows memory, only its leading part is kept, and of its images none.
    """
    Y = start.pop()
    n = len(Y)
    basis, images = [], []
    gram, gain, kept_before = np.zeros((0, 0), Y.dtype), None, -np.inf
    R = gram
    for step in itertools.count():
        width = Y.shape[1]
        block = new_directions(Y, basis, scale)
        values = np.linalg.eigvalsh(gram)[::-1]
        random = len(gram) + block.shape[1] < n and (block.shape[1] < width or may_repeat(values, rank, width))
        kept = values[:rank].sum()
        rest = max(square - kept, values[rank:].sum())
        settled = random and len(gram) >= rank and kept - kept_before <= 2 * min_gain * rest
        if random and not settled:
            kept_before = kept
            block = np.hstack([block, new_directions(another(), [*basis, block], scale)])
        link = np.zeros((block.shape[1], len(gram)), Y.dtype)
        if step:
            link[:, -len(R) :] = (block.conj().T @ Y) @ R
        Y = None
        last = settled or not block.shape[1] or (step >= steps and len(gram) + block.shape[1] >= rank)
        before, gain = gain, None
        if step and not random:
            foreseen = values_with(gram, link)
            gain = foreseen[:rank].sum() - values[:rank].sum()
            if before is not None and not may_repeat(foreseen, rank, width):
                last |= little_ahead(before, gain, kept, rest, min_gain, step)
        if not last and len(gram) * (m + n) * gram.itemsize > BASIS_BYTES:
            images = None
            basis, gram, link = leading_part(basis, gram, link, size)
        image = times(block) if block.size else np.zeros((m, 0), block.dtype)
        P, R = thin_qr(image)
        gram = np.block([[gram, link.conj().T], [link, R.conj().T @ R]])
        basis.append(block)
        if images is not None:
            images.append(image)
        del image
        if last:
            return basis, images, gram
        Y = adjoint_times(P)


def may_repeat(values, rank, width):
    """Whether a value above that of the rank is found as often as a block has vectors, so that more may be there."""
    later = values[width - 1 :][:rank]
    first = values[: len(later)]
    least = max(
        values[rank - 1] if len(values) >= rank else 0, NOISE * np.finfo(values.dtype).eps * values.max(initial=0)
    )
    return bool(((1 - REPEATED) * first > least)[later > (1 - REPEATED) * first].any())


def values_with(gram, link):
    """The values after one more block, if its own are on average those of the last one."""
    mean = np.mean(gram.diagonal()[-len(link) :])
    wider = np.block([[gram, link.conj().T], [link, mean * np.eye(len(link))]])
    return np.linalg.eigvalsh(wider)[::-1]


def little_ahead(before, gain, kept, rest, min_gain, step):
    """Whether further blocks would lower the error by no more than a share, the gains falling on as they fell.

    Where the Gram matrix does not show the error, a number of steps decides. After a gain that was mostly of what had
    been missing, little is known of how they fall.
    """
    if rest <= ENERGY_FLOOR**2 * np.finfo(kept.dtype).eps * kept:
        return bool(min_gain) and step >= DEEP_STEPS
    if gain >= before:
        return False
    fall = max(gain / before, STEEPEST if before < rest / 2 else 0.5)
    ahead = gain * fall / (1 - fall) ** 2  # a geometric series, and more of it where it is slow, which grows slower yet
    return ahead <= 2 * min_gain * min(rest, FLAT * kept)


def leading_part(basis, gram, link, size):
    """The leading Ritz vectors; all of the basis where it is no larger, or its values fall too far to be told apart."""
    values, Z = np.linalg.eigh(gram)
    if len(gram) <= size or too_deep(values[::-1], size):
        return basis, gram, link
    Z = Z[:, -size:]
    return [combined(basis, Z)], np.diag(values[-size:]).astype(gram.dtype), link @ Z


def too_deep(squares, rank):
    """Whether squares of singular values fall so far that fewer than half of the digits of the last are known."""
    return squares[rank - 1] <= CONDITION * np.sqrt(np.finfo(squares.dtype).eps) * squares[0]


def svd_of_images(times, basis, images, squares, Z, rank, beyond):
    """The leading part of the SVD of ``basis @ images^H`` by eigenvectors Z of a Gram matrix; all where digits lack.

    What the Gram matrix has lost of the digits, that of the vectors themselves brings back. `beyond` asks for what lies
    beyond the rank, as far as it goes.
    """
    if len(squares) < rank or too_deep(squares, rank):
        basis = np.hstack(basis)
        return svd_of_product(basis, times(basis) if images is None else np.hstack(images))
    while beyond and rank < len(squares) and not too_deep(squares, rank + 1):
        rank += 1
    s = np.sqrt(squares[:rank])
    Z = Z[:, :rank] / s
    V = combined(basis, Z)
    basis.clear()  # whoever called holds it, and it is large
    U = times(V) if images is None else combined(images, Z)
    R = linalg.cholesky(U.conj().T @ U)
    W, s, Xh = np.linalg.svd(R * s)
    return V @ (np.sqrt(squares[:rank, None]) * Xh.conj().T), s, (U @ linalg.solve_triangular(R, W)).conj().T


def svd_to_tolerance(operand, A, rtol, extend, steps, sketch, rng):
    """The body of `randomized_svd` for a tolerance: chains of blocks until more would not lower the rank."""
    sketched, Y, unseen = first_products(operand, A, BLOCK, sketch, rng)
    basis, images = nothing(sketched.A.shape, Y.dtype)
    while True:
        size = basis.shape[1]
        basis, images = extend(sketched.operand, sketched.A, Y, steps, basis, images, sketched.norm)
        complete = basis.shape[1] in (size, A.shape[0])  # nothing is left but rounding
        remainder, bound = left_over(sketched, basis, images, unseen, 2 if complete else SAFETY)
        U, s, Vh = svd_of_product(basis, images)
        tails = np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0) + bound**2)
        rank = int(np.argmax(tails <= rtol * sketched.norm))
        if complete or (tails[-1] <= rtol * sketched.norm and rank + BLOCK <= basis.shape[1]):
            break
        test = random_matrix(sketch, A.shape[1], max(basis.shape[1], BLOCK), Y.dtype, rng)
        Y = sketched.operand.matmat(sketched.A, dense(test))
    if tails[-1] > rtol * sketched.norm:
        raise _validation.complain(ValueError, "rtol", f"at least {tails[-1] / sketched.norm:.2g} for this A", rtol)
    return cut(U, s, Vh, rank, remainder, sketched)


def left_over(sketched, basis, images, unseen, safety):
    """``||A - Q Q^H A||_F``, and what it is at most: exact by the energies of A and of what is inside, where A's is.

    Below their rounding, and of what gives products alone, it is as vectors kept out of the basis show it.
    """
    remainder = norm_outside(unseen, basis)
    if not sketched.operand.knows_norm(sketched.A):
        return remainder, safety * remainder
    exact = error_by_energy(sketched.norm, images)
    if exact is not None:
        return exact * sketched.norm, exact * sketched.norm
    return remainder, min(safety * remainder, ENERGY_FLOOR * np.sqrt(np.finfo(images.dtype).eps) * sketched.norm)


def single_pass_svd(operand, A, rank, oversampling, steps, sketch, rng):
    """Range and co-range sketches in one pass, without steps, and a least-squares fit of the one by the other."""
    m, n = A.shape
    size = min(rank + oversampling, n)
    Y = random_matrix(sketch, m, 2 * size + 1, operand.dtype(A), rng)
    X = with_probes(random_matrix(sketch, n, size, operand.dtype(A), rng), n, operand.dtype(A), rng)
    sketched = sketch_matrix(operand, A, Y, X)
    basis = new_directions(sketched.right[:, :-PROBES], [], sketched.norm)
    fit = np.linalg.lstsq(dense(Y.conj().T @ basis), sketched.left.conj().T)[0]
    unseen = sketched.right[:, -PROBES:]
    remainder = np.linalg.norm(unseen - basis @ (fit @ X[:, -PROBES:])) / np.sqrt(PROBES)
    U, s, Vh = svd_of_product(basis, fit.conj().T)
    return cut(U, s, Vh, min(rank, numerical_rank(s, A.shape)), remainder, sketched)


def first_products(operand, A, size, sketch, rng):
    """A scaled if need be, its product with a test matrix, and with vectors which the basis is not to see."""
    n = A.shape[1]
    kind = operand.dtype(A)
    test = random_matrix(sketch, n, size, kind, rng)
    X = with_probes(test, n, kind, rng)
    sketched = sketch_matrix(operand, A, sparse.csr_array((A.shape[0], 0), dtype=X.dtype), X)
    return sketched, sketched.right[:, :-PROBES], sketched.right[:, -PROBES:]


def with_probes(test, n, kind, rng):
    """A dense test matrix with the probes as its last columns."""
    return np.hstack([dense(test), probe_vectors(n, kind, rng)])


def probe_vectors(n, kind, rng):
    """Random vectors for the basis not to see, of independent normal entries of variance 1."""
    X = gaussian(n, PROBES, kind, rng)
    X *= np.sqrt(PROBES)
    return X


def norm_outside(unseen, basis):
    """Estimate of ``||A - Q Q^H A||_F`` from products of A with the probes."""
    return np.linalg.norm(unseen - basis @ (basis.conj().T @ unseen)) / np.sqrt(PROBES)


def nothing(shape, dtype):
    """A basis of no vectors, and their images."""
    return np.zeros((shape[0], 0), dtype), np.zeros((shape[1], 0), dtype)


def svd_of_product(basis, images):
    """SVD of ``basis @ images^H`` for an orthonormal basis."""
    Q, R = np.linalg.qr(images)
    W, s, Zh = np.linalg.svd(R.conj().T, full_matrices=False)
    return basis @ W, s, Zh @ Q.conj().T


def numerical_rank(s, shape):
    """Singular values above rounding."""
    return int(np.count_nonzero(s > np.finfo(s.dtype).eps * s.max(initial=0)))


def cut(U, s, Vh, rank, remainder, sketched):
    """The leading part, with its relative error, in A's own scale."""
    error = np.hypot(np.linalg.norm(s[rank:]), remainder) / (sketched.norm or 1)
    return SVD(U[:, :rank], times_power(s[:rank], -sketched.exponent), Vh[:rank], float(error))


@dataclass(frozen=True)
class SVDMethod:
    """A method of `randomized_svd`: what it does for a rank and for a tolerance.

    Attributes
    ----------
    of_rank : callable
        ``(operand, A, rank, oversampling, steps, sketch, rng)`` to `SVD`.
    extend : callable, optional
        ``(operand, A, Y, steps, basis, images, scale)`` to a longer basis and its images; a tolerance needs it.
    steps : int
        Steps by default, where a rank is given.
    """

    of_rank: Callable
    extend: Callable | None = None
    steps: int = STEPS


SVD_METHODS = {
    "block_krylov": SVDMethod(partial(truncated_svd, min_gain=MIN_GAIN), block_krylov, MOST_STEPS),
    "subspace": SVDMethod(subspace_svd, subspace),
    "single_pass": SVDMethod(single_pass_svd),
}
