"""Rules which pick rows of a basis, and the selection of a matrix's columns and rows by them.

A rule takes a basis (n, k) with orthonormal columns, one row a candidate, and a residual (n, p): what a sketch of each
candidate has outside the basis. It returns at most k distinct indices, in the order of choice.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import linalg, sparse

from curtensor import _validation, operands
from curtensor.cholesky import KERNEL_METHODS, MatrixSource, pivoted_cholesky, square
from curtensor.cross import checked_cross, read_whole
from curtensor.groups import choose_groups, members_of
from curtensor.operands.arithmetic import careful_svd, dense, orthonormal_rest
from curtensor.operands.entries import indexed_function, is_function, left_out, only_for_functions
from curtensor.sketching import SKETCHES, gaussian, random_matrix, sketch_matrix

RIDGE = 1e-2  # of the mean squared residual; anything in 1e-6..1e-1 does
TALL = 2**14  # rows of a sketch worked on at a time, to save memory
PANEL = 1024  # candidates scanned at a time, to stay in the cache
POOL = 256  # candidates that one stretch of the default rule looks at
NOISE = 1e3  # times the dtype's epsilon, of ||A||: a residual which is smaller in all is rounding, and tells nothing
CHOLESKY = 2**15  # entries from which on a basis of columns is worth two Cholesky factorisations
NARROW = 3  # times as many rows as columns that they must have for it
FITTED = 64  # rows looked at for each one that is added to those of the basis
SCORE_RANK = 50  # of leverage scores by default: with many more vectors all candidates have the same score
BLOCK = 50  # rows that the iterative rule takes at a time
CANDIDATES = 4  # for each, drawn by what is left of them
PATIENCE = 2  # how much worse than the worst of the pool a choice may be before all candidates are scanned again
GAIN = 1e-3  # of what a chosen row explains alone: an exchange must explain so much more
ROUNDS = 6  # of exchanges at most: of 1, 2, 4 and 6 each comes a little closer
SKETCH_WORK = 1e8  # operations which a sketch of more than twice the rank may cost for itself
MIXED = 128  # combinations of a residual's columns that stand for all of them, where a sketch costs more than that


@dataclass(frozen=True)
class Rule:
    """A rule of choice: its function, and what it needs. A bare function is as good as ``Rule(function)``.

    Attributes
    ----------
    function : callable
        To at most k distinct indices in the order of choice; its arguments are those that `sees` says.
    sees : "basis", "sketch", "entries" or "nothing", default "basis"
        ``(basis, residual, k, rng)``, and ``weights=`` where there are any; the same with the sketch itself in the
        basis' place; ``(operand, A, k, rng, weights, include)`` to read A by; or as for "basis", by the weights alone.
    beyond_rank : bool, default False
        Whether it may choose more candidates than the basis has columns.
    most_vectors : int, optional
        Columns of the basis at most, unless the caller gives the rank of it.
    direct : bool, default False
        Whether pivots of A itself stand for it where the rank is nearly all of A's shorter side, or is to be found and
        is a large part of it.
    blocks : callable, optional
        What chooses in the function's place where a rank is given, and sees a sketch that is hardly larger than that:
        decompositions sketch but a block, and look at what A itself leaves of it, block by block. Pivots of A itself
        stand for it where the rank is a large part of A's shorter side.
    exchanges : bool, default False
        Whether `exchange` follows, on a larger sketch.
    """

    function: Callable
    sees: Literal["basis", "sketch", "entries", "nothing"] = "basis"
    beyond_rank: bool = False
    most_vectors: int | None = None
    direct: bool = False
    blocks: Callable | None = None
    exchanges: bool = False

    @property
    def of_blocks(self) -> "Rule":
        """The rule which chooses by blocks, or the rule itself where there is none."""
        return Rule(self.blocks, sees="sketch") if self.blocks else self

    def __call__(self, *arguments: Any, **options: Any) -> np.ndarray:
        """What the function chooses."""
        return self.function(*arguments, **options)


def osinsky(basis, residual, k, rng, weights=None):
    """Smallest residual over leverage, both updated after each choice (Osinsky 2023, on a sketch, with a ridge).

    A stretch of choices looks at the best candidates of all, for as long as none of the others can have become better
    by standing still; then the scores of all are updated at once.
    """
    n, width, tie = len(basis), residual.shape[1], rounding(basis.dtype)
    weights = np.ones(n) if weights is None else weights
    leverage, loss = row_norms_squared(basis), row_norms_squared(residual)
    ridge = RIDGE * (loss.mean() or 1)
    loss += ridge
    wide = np.result_type(basis, float)
    span, pivots = np.empty((basis.shape[1], 0), wide), np.empty((0, width + k), wide)
    chosen = np.empty(0, dtype=np.intp)
    while True:
        done = len(chosen)
        pool, limit = np.delete(np.arange(n), chosen), np.inf
        if len(pool) > POOL:
            scores = loss / np.maximum(leverage, 1e-30) / weights
            scores[chosen] = np.inf
            pool = lowest(scores, POOL + 1, tie)
            limit = PATIENCE * scores[pool].max()
        rows = basis[pool].astype(wide, copy=False)
        rest = np.zeros((len(pool), width + done), wide)
        rest[:, :width] = residual[pool]
        rest -= (rows @ span) @ pivots[:, : width + done]
        outside = beyond_span(rows, span)
        found = stretch(outside, rest, min(k - done, len(pool)), ridge, weights[pool], limit, tie)
        chosen = np.append(chosen, pool[found])
        if len(found) == 0 or len(chosen) == min(k, n):
            return chosen
        added, turn = linalg.qr(outside[found].conj().T, mode="economic")
        added = beyond_span(added.conj().T, span).conj().T
        pivot = np.zeros((len(found), width + k), wide)
        pivot[:, : width + done] = rest[found]
        pivot[:, width + done : width + len(chosen)] = np.sqrt(ridge) * np.eye(len(found))
        pivot = linalg.solve_triangular(turn, pivot, trans="C")
        if n > POOL:
            update_scores(leverage, loss, basis, residual, span, added, pivots, pivot)
        span, pivots = np.hstack([span, added]), np.vstack([pivots, pivot])


def update_scores(leverage, loss, basis, residual, span, added, pivots, pivot):
    """All rows' leverage outside of a span and loss, after directions with the given pivots were added to it."""
    change = 2 * span @ (pivots @ pivot.conj().T) + added @ (pivot @ pivot.conj().T)
    turn = np.hstack([added, change]).astype(basis.dtype)
    twice = 2 * pivot[:, : residual.shape[1]].conj().T.astype(basis.dtype)
    for start in range(0, len(basis), PANEL):
        rows = slice(start, start + PANEL)
        turned = basis[rows] @ turn
        along, seen = turned[:, : len(pivot)], turned[:, len(pivot) :]
        leverage[rows] -= row_norms_squared(along)
        loss[rows] += row_products(seen - residual[rows] @ twice, along)


def row_products(X, Y):
    """Real parts of the rows' inner products."""
    return np.einsum("ij,ij->i", X.real, Y.real) + (np.einsum("ij,ij->i", X.imag, Y.imag) if np.iscomplexobj(X) else 0)


def beyond_span(rows, span):
    """Rows less their part in the span of orthonormal columns, taken out twice."""
    for _ in range(2):
        rows = rows - (rows @ span) @ span.conj().T
    return rows


def stretch(basis, residual, k, ridge, weights, limit, tie):
    """Places of at most k rows, each that of the smallest loss over leverage and weight after those before it.

    Ends early when nothing is left, and after the first choice also when the best score exceeds the limit or what is
    left of the best row may be rounding.
    """
    n, width = residual.shape
    residual = residual.astype(basis.dtype, copy=False)
    leverage, loss = row_norms_squared(basis), row_norms_squared(residual) + ridge
    floor, scores = np.maximum(1e-8 * leverage, 1e-24), np.empty(n)
    along, pivots = np.empty((n, k), basis.dtype, order="F"), np.zeros((k, width + k), basis.dtype)
    chosen = np.empty(k, dtype=np.intp)
    for i in range(k):
        scores.fill(np.inf)
        np.divide(loss, leverage, out=scores, where=leverage > (floor if i else 1e-24))
        scores /= weights
        best = scores.min()
        if best == np.inf or (i and best > limit):
            return chosen[:i]
        p = chosen[i] = (scores <= (1 + tie) * best).argmax()
        height, known = np.sqrt(leverage[p]), along[p, :i].copy()
        pivot, column = pivots[i], along[:, i]
        pivot[:width] = residual[p]
        pivot[width + i] = np.sqrt(ridge)
        pivot -= known @ pivots[:i]
        pivot /= height
        column[:] = basis @ basis[p].conj()
        column -= along[:, :i] @ known.conj()
        column /= height
        inner = residual @ pivot[:width].conj()
        inner -= along[:, :i] @ (pivots[:i] @ pivot.conj())
        share = (column * column.conj()).real
        loss += share * np.vdot(pivot, pivot).real - 2 * (column.conj() * inner).real
        leverage -= share
        leverage[p] = -1
    return chosen


def rounding(dtype):
    """Relative difference which rounding can explain between scores: those that are nearer to each other are ties."""
    return np.finfo(dtype).eps ** 0.5


def first_largest(scores, tie):
    """The lowest index among those whose scores tie with the largest."""
    return int(np.argmax(scores >= (1 - tie) * scores.max()))


def lowest(scores, size, tie):
    """Ascending indices of the smallest scores; of those that tie with the last of these the lowest indices."""
    last = np.partition(scores, size - 1)[size - 1]
    below = np.flatnonzero(scores < last * (1 - tie))
    tied = np.flatnonzero((scores >= last * (1 - tie)) & (scores <= last * (1 + tie)))
    return np.sort(np.concatenate([below, tied[: size - len(below)]]))


def bsqr(basis, residual, k, rng, weights=None):
    """The default rule without a residual: the best conditioned interpolation."""
    return osinsky(basis, np.zeros((len(basis), 0), basis.dtype), k, rng, weights)


def lupp(sketch, residual, k, rng, weights=None):
    """Row pivots of an LU factorisation of k combinations of the sketch's columns (Dong and Martinsson 2023)."""
    mixed = sketch @ gaussian(sketch.shape[1], k, sketch.dtype, rng)  # a small A is its own sketch, in A's order
    return deim(mixed, residual, k, rng, weights)


def cpqr(sketch, residual, k, rng, weights=None):
    """Pivots of a column-pivoted QR factorisation of the whole sketch."""
    return qdeim(sketch, residual, k, rng, weights)


def deim(basis, residual, k, rng, weights=None):
    """Row pivots of one LU factorisation of the basis (Sorensen and Embree 2016)."""
    basis, tie = _weighted(basis, weights), rounding(basis.dtype)
    lower = np.zeros_like(basis, order="F")
    chosen = []
    for j in range(min(k, *basis.shape)):
        known = linalg.solve_triangular(lower[chosen, :j], basis[chosen, j], lower=True) if j else basis[:0, j]
        column = basis[:, j] - lower[:, :j] @ known
        sizes = np.abs(column)
        sizes[chosen] = -1
        p = first_largest(sizes, tie)
        lower[:, j] = column / (column[p] or 1)
        lower[p, j] = 1
        chosen.append(p)
    return np.array(chosen, dtype=np.intp)


def qdeim(basis, residual, k, rng, weights=None):
    """Pivots of a column-pivoted QR factorisation of the adjoint basis (Drmac and Gugercin 2016)."""
    return pivots(_weighted(basis, weights), k)


def pivots(X, k):
    """At most k rows of X, each the one with the largest part outside the span of those before it.

    LAPACK's pivoted QR has no rule for ties, and takes what its rounding favours.
    """
    eps, tie = np.finfo(X.dtype).eps, rounding(X.dtype)
    most = min(k, *X.shape)
    chosen, directions = [], np.empty((most, X.shape[1]), X.dtype)
    norms = row_norms_squared(X)
    fresh, floor = norms.max(initial=0), eps**2 * norms.max(initial=0)
    for i in range(most):
        known = directions[:i]
        if norms.max() <= 100 * tie * fresh:  # what was subtracted has cost digits
            for _ in range(2):
                X = X - (X @ known.conj().T) @ known
            norms = row_norms_squared(X)
            norms[chosen] = -1
            fresh = norms.max()
        if fresh <= floor:
            break
        p = first_largest(norms, tie)
        direction = X[p]
        for _ in range(2):
            direction = direction - (direction @ known.conj().T) @ known
        directions[i] = direction / np.linalg.norm(direction)
        along = X @ directions[i].conj()
        norms -= (along * along.conj()).real
        norms[p] = -1
        chosen.append(p)
    return np.array(chosen, dtype=np.intp)


def pivots_by_blocks(sketch, residual, k, rng, weights=None):
    """Blocks of pivots among rows drawn by what the blocks before have left (after Pritchard and others 2025)."""
    rest, chosen = np.array(_weighted(sketch, weights), order="C"), np.empty(0, dtype=np.intp)
    noise = (NOISE * np.finfo(rest.dtype).eps) ** 2 * row_norms_squared(rest).sum()
    while True:
        sizes = row_norms_squared(rest)
        sizes[chosen] = 0
        pool = np.sort(weighted_sample(sizes, CANDIDATES * BLOCK, rng))
        found = pool[pivots(rest[pool], min(BLOCK, k - len(chosen)))]
        chosen = np.append(chosen, found)
        if len(chosen) == k or sizes.sum() <= noise or not len(found):
            return chosen
        directions = linalg.qr(rest[found].conj().T, mode="economic")[0]
        for start in range(0, len(rest), PANEL):
            rows = rest[start : start + PANEL]
            rows -= (rows @ directions) @ directions.conj().T


def _weighted(basis, weights):
    return basis if weights is None else basis * np.sqrt(weights)[:, None].astype(basis.real.dtype)


def arp(basis, residual, k, rng, weights=None):
    """Draw a row by its squared norm, project it out of the basis, repeat (Cortinovis and Kressner 2024)."""
    remainder = _weighted(basis, weights).copy()
    floor = len(basis) * np.finfo(basis.dtype).eps ** 2 * row_norms_squared(remainder).max()
    chosen = []
    for _ in range(k):
        scores = row_norms_squared(remainder)
        scores[chosen] = 0
        scores[scores <= floor] = 0
        if not scores.any():
            break
        p = rng.choice(len(scores), p=scores / scores.sum())
        direction = remainder[p] / np.sqrt(scores[p])
        remainder -= np.outer(remainder @ direction.conj(), direction)
        chosen.append(p)
    return np.array(chosen, dtype=np.intp)


def maxvol(basis, residual, k, rng, weights=None):
    """Swap rows until no coefficient on the chosen ones exceeds 1.05 (Goreinov, Oseledets and others 2010)."""
    basis = _weighted(basis, weights)
    chosen, tie = pivots(basis, k), rounding(basis.dtype)
    if len(chosen) < basis.shape[1] or np.linalg.cond(basis[chosen]) > 1 / np.finfo(basis.dtype).eps:
        return chosen  # nothing to divide by: the candidates span less than the basis
    coefficients = linalg.solve(basis[chosen].T, basis.T).T
    for _ in range(100 * k):
        i, j = np.unravel_index(first_largest(np.abs(coefficients).ravel(), tie), coefficients.shape)
        if np.abs(coefficients[i, j]) <= 1.05:
            break
        step = coefficients[i].copy()
        step[j] -= 1
        coefficients -= np.outer(coefficients[:, j] / coefficients[i, j], step)
        chosen[j] = i
    return chosen


def leverage(basis, residual, k, rng, weights=None):
    """Draw without replacement by the leverage scores (after Drineas, Mahoney and Muthukrishnan 2008)."""
    return weighted_sample(row_norms_squared(_weighted(basis, weights)), k, rng)


def uniform(basis, residual, k, rng, weights=None):
    """Draw without replacement, all alike: the control."""
    return weighted_sample(np.ones(len(basis)) if weights is None else weights, k, rng)


def rpcholesky(operand, A, k, rng, weights, include=()):
    """Randomly pivoted Cholesky of a positive semidefinite A, in blocks: reads k columns and those it rejects."""
    square(A.shape)
    pivots, *_ = pivoted_cholesky(
        MatrixSource(operand, A), k, None, KERNEL_METHODS["rpcholesky"], rng, weights=weights, include=include
    )
    return np.concatenate([include, pivots[~np.isin(pivots, include)]]).astype(np.intp)[:k]


SELECTION_RULES = {
    "osinsky": Rule(osinsky, direct=True),
    "exchange": Rule(osinsky, exchanges=True),
    "iterative": Rule(osinsky, direct=True, blocks=pivots_by_blocks),
    "lupp": Rule(lupp, sees="sketch"),
    "cpqr": Rule(cpqr, sees="sketch"),
    "deim": Rule(deim),
    "qdeim": Rule(qdeim),
    "arp": Rule(arp),
    "bsqr": Rule(bsqr),
    "maxvol": Rule(maxvol),
    "leverage": Rule(leverage, beyond_rank=True, most_vectors=SCORE_RANK),
    "uniform": Rule(uniform, sees="nothing", beyond_rank=True),
}
ENTRY_RULES = {"rpcholesky": Rule(rpcholesky, sees="entries")}  # of matrices alone


def row_norms_squared(X):
    """Squared norms of the rows, in float64."""
    return np.einsum("ij,ij->i", X.real, X.real, dtype=float) + (
        np.einsum("ij,ij->i", X.imag, X.imag, dtype=float) if np.iscomplexobj(X) else 0
    )


def weighted_sample(weights, k, rng):
    """At most k distinct indices, drawn one after the other with probabilities in proportion (Gumbel top-k)."""
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + rng.gumbel(size=len(weights))
    return np.argsort(-keys, kind="stable")[: min(k, np.count_nonzero(weights))]


def exchange(sketch, target, chosen, weights=None):
    """Chosen rows of a sketch, some exchanged for others whose span comes closer to the rows of a target.

    One chosen row after the other is left out, and that row taken which then lowers the residual most (with weights: by
    most, times its own). The rows looked at are those that would be exchanged for a chosen one if the others stayed.
    """
    weights = np.ones(len(sketch)) if weights is None else weights
    target = target.astype(np.result_type(target, float), copy=False)  # nearly dependent rows need the digits
    for _ in range(ROUNDS):
        pool = np.union1d(chosen, better_rows(sketch, target, chosen, weights))
        places = np.searchsorted(pool, chosen)
        rows = sketch[pool].astype(target.dtype, copy=False)
        axes = linalg.qr(rows.conj().T, mode="economic")[0]
        left = np.linalg.qr(target @ axes, mode="r")
        exchanged = exchange_within(rows @ axes, left, places, weights[pool], rounding(sketch.dtype))
        if np.array_equal(exchanged, places):
            break
        chosen = pool[exchanged]
    return chosen


def better_rows(sketch, target, chosen, weights):
    """For each chosen row that some other would replace with gain, the best such row."""
    tie, k = rounding(sketch.dtype), len(chosen)
    span, R = linalg.qr(sketch[chosen].conj().T.astype(target.dtype, copy=False), mode="economic")
    lost = linalg.solve_triangular(R, np.eye(k, dtype=R.dtype), trans="C")  # what the span loses without each row
    lost = lost / np.linalg.norm(lost, axis=0)
    explained = target @ span
    rest, freed = target - explained @ span.conj().T, explained @ lost
    own = row_norms_squared(freed.T)
    span, lost, rest, freed = (X.astype(sketch.dtype, copy=False) for X in (span, lost, rest, freed))
    most, best = own * weights[chosen] * (1 + GAIN), np.full(k, -1)
    for start in range(0, len(sketch), PANEL):
        rows = sketch[start : start + PANEL]
        inside = rows @ span
        outside = rows - inside @ span.conj().T
        share, seen = inside @ lost, outside @ rest.conj().T
        size = row_norms_squared(outside)[:, None] + np.abs(share) ** 2
        gain = row_norms_squared(seen)[:, None] + own * np.abs(share) ** 2
        gain += 2 * (share.conj() * (seen @ freed)).real
        scores = beyond_noise(gain, size, rows) * weights[start : start + PANEL, None]
        scores[chosen[(start <= chosen) & (chosen < start + PANEL)] - start] = 0
        top = scores.max(axis=0)
        larger = top > most * (1 + tie)
        most[larger] = top[larger]
        best[larger] = start + np.argmax(scores >= (1 - tie) * top, axis=0)[larger]
    return best[best >= 0]


def exchange_within(rows, target, chosen, weights, tie):
    """One sweep of exchanges, each with all that it changes: of `rows` few, in few coordinates."""
    chosen = chosen.copy()
    dual = np.linalg.pinv(rows[chosen])
    outside = rows - (rows @ dual) @ rows[chosen]
    rest = target - (target @ dual) @ rows[chosen]
    seen = outside @ rest.conj().T
    for j in range(len(chosen)):
        lost = dual[:, j] / np.linalg.norm(dual[:, j])
        share, freed = rows @ lost, target @ lost
        free, gain = outside + np.outer(share, lost.conj()), seen + np.outer(share, freed.conj())
        size = row_norms_squared(free)
        scores = beyond_noise(row_norms_squared(gain), size, rows) * weights
        own = scores[chosen[j]]
        scores[chosen] = 0
        p = first_largest(scores, tie)
        if scores[p] <= own * (1 + GAIN):
            continue
        chosen[j] = p
        direction = free[p] / np.sqrt(size[p])
        rest = rest + np.outer(freed, lost.conj())
        gone, along = rest @ direction.conj(), free @ direction.conj()
        rest = rest - np.outer(gone, direction)
        outside, seen = free - np.outer(along, direction), gain - np.outer(along, gone.conj())
        dual -= np.outer(lost, lost.conj() @ dual)
        dual[:, j] = 0
        taken = direction.conj() / np.sqrt(size[p])
        dual -= np.outer(taken, rows[p] @ dual)
        dual[:, j] = taken
    return chosen


def beyond_noise(gain, size, rows):
    """Gains over sizes; 0 for rows of which no more is left than rounding."""
    noise = (64 * np.finfo(rows.dtype).eps) ** 2 * row_norms_squared(rows)
    noise = noise.reshape(-1, *[1] * (size.ndim - 1)) + np.finfo(float).tiny
    return np.where(size > noise, gain, 0) / np.maximum(size, noise)


def split_sketch(sketch, k, scale=0.0, rng=None):
    """Leading k left singular vectors of a sketch (n, l) and what it has outside of them: ``(basis, residual)``.

    Fewer than k vectors where the sketch's numerical rank is lower, measured against `scale` where that is larger, and
    a residual without columns where it is rounding. By the Gram matrix, which is 3 to 5 times cheaper, unless the k-th
    singular value or those beyond it are too small for it to show. With a Generator a residual of many columns is
    given by random combinations of them, which costs a rule 0.3 % of its error at most.
    """
    gram = sketch.astype(np.result_type(sketch, float), copy=False)
    squares, P = np.linalg.eigh(gram.conj().T @ gram)
    squares, P = squares[::-1], P[:, ::-1].astype(sketch.dtype)
    k = min(k, len(squares), len(sketch))
    largest, noise = max(squares[0], scale**2), max(1e-13, (NOISE * np.finfo(sketch.dtype).eps) ** 2)
    if squares[k - 1] > 1e-12 * largest and squares[k:].sum() > noise * largest:
        apart = k == len(squares) or squares[k - 1] - squares[k] > rounding(sketch.dtype) * squares[k - 1]
        if rng is not None and apart and len(squares) - k > MIXED:
            P = np.hstack([P[:, :k], P[:, k:] @ gaussian(len(squares) - k, MIXED, P.dtype, rng)])
        parts = settled(sketch @ P, squares, k)
        parts[:, :k] /= np.sqrt(squares[:k]).astype(sketch.real.dtype)
        return parts[:, :k], parts[:, k:]
    Q, R = np.linalg.qr(sketch)
    W, s, _ = careful_svd(R)
    k = min(k, np.count_nonzero(s > 8 * np.finfo(s.dtype).eps * max(s[0], scale)))
    parts = settled(Q @ W, s.astype(float) ** 2, k)
    return parts[:, :k], beyond_rounding(parts[:, k:] * s[k:], max(s[0], scale))


def settled(parts, squares, k):
    """Singular vectors, turned where some of the first k have equal values, so that rounding does not choose them.

    Among the directions of a repeated singular value the first are those in which single candidates are strongest.
    """
    tie = rounding(parts.dtype)
    edges = np.flatnonzero(-np.diff(squares) > tie * squares[:-1]) + 1
    for start, stop in itertools.pairwise([0, *edges, len(squares)]):
        if start < k and stop - start > 1:
            equal = parts[:, start:stop]
            strongest = pivots(equal, k - start)
            parts[:, start:stop] = equal @ linalg.qr(equal[strongest].conj().T)[0]
    return parts


def beyond_rounding(residual, scale):
    """The residual; without columns where all of it may be rounding of what has the norm `scale`."""
    noise = NOISE * np.finfo(residual.dtype).eps * scale
    return residual if row_norms_squared(residual).sum() > noise**2 else residual[:, :0]


def choose_rows(basis, residual, k, rule, rng, weights=None, inside=None):
    """At most k rows of a basis by a rule, and by `oversample` what goes beyond the basis.

    Exchanges need what the sketch has `inside` the basis, and bring the chosen rows' span nearer to it.
    """
    if basis.shape[1] == 0:
        return np.empty(0, dtype=np.intp)
    options = {} if weights is None else {"weights": weights}
    most = min(k, basis.shape[1])
    chosen = _validation.rule_choice(rule(basis, residual, most, rng, **options), len(basis), most)
    if inside is not None and rule.exchanges and residual.shape[1] and len(chosen) == basis.shape[1]:
        chosen = exchange(basis @ inside + residual, inside, chosen, **options)
    return chosen if k <= basis.shape[1] else oversample(basis, residual, chosen, k)


def choose_more_rows(basis, residual, chosen, k, rule, rng, inside=None):
    """The chosen rows of a basis and others for what these leave undetermined, to k that determine something."""
    if len(chosen) == 0:
        return choose_rows(basis, residual, k, rule, rng, inside=inside)
    W, s, Zh = np.linalg.svd(basis[chosen])
    known = np.count_nonzero(s > np.sqrt(np.finfo(s.dtype).eps) * s[0])
    wanted = min(k, basis.shape[1]) - known
    if wanted > 0:
        coefficients = (basis @ (Zh[:known].conj().T / s[:known])) @ W[:, :known].conj().T
        others = np.delete(np.arange(len(basis)), chosen)
        undetermined = (basis @ Zh[known:].conj().T)[others]
        rest = (residual - coefficients @ residual[chosen])[others]
        chosen = np.concatenate([chosen, others[choose_rows(undetermined, rest, wanted, rule, rng)]])
    return chosen if k <= basis.shape[1] else oversample(basis, residual, chosen, k)


def oversample(basis, residual, chosen, k):
    """Rows added to the chosen ones, to k in all, which determine the basis' coefficients best.

    Each maximises q^H M^-1 q over rows q of the basis, M the sum of q q^H over the chosen ones, among those with which
    a least-squares fit of all of A by these rows leaves no larger error, as their residuals show it.
    """
    tie = rounding(basis.dtype)
    R = np.linalg.qr(basis[chosen], mode="r")
    if np.linalg.matrix_rank(R) < basis.shape[1]:
        return chosen
    turn = linalg.solve_triangular(R, np.eye(len(R), dtype=R.dtype))  # W with M^-1 = W W^H
    turned = basis @ turn  # squared row norms: q^H M^-1 q
    for _ in range(min(k, len(basis)) - len(chosen)):
        scores = row_norms_squared(turned)
        scores[chosen] = -1
        best = np.sort(np.argsort(-scores, kind="stable")[: min(FITTED, len(basis) - len(chosen))])
        growth = fit_growth(basis, residual, turn, turned, chosen, best)
        allowed = np.where(growth <= 0, scores[best], -1)
        p = int(best[first_largest(allowed, tie) if (growth <= 0).any() else growth.argmin()])
        direction = turned[p].copy()
        shrink = (1 - 1 / np.sqrt(1 + scores[p])) / (scores[p] or 1)
        for X in (turned, turn):
            X -= np.outer(X @ (shrink * direction.conj()), direction)
        chosen = np.append(chosen, p)
    return chosen


def fit_growth(basis, residual, turn, turned, chosen, others):
    """By how much ``||basis[I]^+ residual[I]||_F^2``, I the chosen rows, grows with each of the others.

    The chosen rows of `turned`, which is ``basis @ turn``, have orthonormal columns.
    """
    error = turn @ (turned[chosen].conj().T @ residual[chosen])
    gain = turned[others].conj() @ turn.T
    step = (residual[others] - basis[others] @ error) / (1 + row_norms_squared(turned[others]))[:, None]
    slope = row_products(step, gain.conj() @ error)
    return 2 * slope + row_norms_squared(step) * row_norms_squared(gain)


def choose_from_sketch(sketch, k, rule, rng, *, rank=None, weights=None, include=(), exclude=()):
    """At most k rows of a sketch (n, l): the included ones, then the best beyond their span, by a rule.

    With a rank the rule sees so many singular vectors and may take more rows than that.
    """
    include = np.asarray(include, dtype=np.intp)
    scale = 0.0
    if len(include):
        scale = float(np.linalg.norm(sketch))
        sketch = orthonormal_rest(sketch, include)
    if k == len(include) or not sketch.any():
        return include
    size = rank or k - len(include)
    mixer = rng if sketch.size * sketch.shape[1] > SKETCH_WORK and not rule.exchanges else None
    basis, residual = (sketch, sketch[:, :0]) if rule.sees == "sketch" else split_sketch(sketch, size, scale, mixer)
    allowed = np.ones(len(sketch), dtype=bool)
    allowed[include] = False
    allowed[np.asarray(exclude, dtype=np.intp)] = False
    if weights is not None:
        allowed &= weights > 0
    if allowed.all():
        allowed = slice(None)
    wanted = min(k - len(include), len(basis[allowed]), basis.shape[1] if rank is None else len(basis))
    if wanted == 0:
        return include
    options = {} if weights is None else {"weights": weights[allowed]}
    found = rule(basis[allowed], residual[allowed], wanted, rng, **options)
    chosen = _validation.rule_choice(found, len(basis[allowed]), wanted)
    if rule.exchanges and residual.shape[1] and len(chosen) == size:  # else nothing but rounding would be gained
        chosen = exchange(sketch[allowed], np.linalg.qr(sketch, mode="r"), chosen, **options)
    chosen = np.arange(len(sketch))[allowed][chosen]
    if rule.sees == "sketch":  # which does not see the numerical rank by themselves
        chosen = chosen[independent(sketch[chosen], scale)]
    return np.concatenate([include, chosen])


def independent(rows, scale=0.0):
    """Which rows have more than rounding outside of the span of those before them."""
    size = np.abs(np.linalg.qr(rows.conj().T, mode="r").diagonal())
    return np.flatnonzero(size > 64 * np.finfo(size.dtype).eps * max(size.max(), scale))


def select_columns(
    A: Any,
    /,
    k: int,
    *,
    rank: int | None = None,
    method: str | Callable = "osinsky",
    weights: Any = None,
    include: _validation.Integers = (),
    exclude: _validation.Integers = (),
    groups: Iterable[Hashable] | None = None,
    sketch: str | Callable = "sparse_sign",
    shape: _validation.Integers | None = None,
    dtype: Any = None,
    batch: int | None = None,
    vectorized: bool = True,
    rng: _validation.RandomSource = None,
) -> np.ndarray:
    """Choose k columns of a matrix whose span comes close to it.

    With C = A[:, indices], the error is ||A - C C^+ A||_F; no k columns can bring it below that of the truncated SVD.

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, dask array, `row_blocks` or callable, shape (m, n)
        Real or complex; integers and bool are taken as float64. A callable gives entries at index arrays, as for
        `cur_decomposition`: then `method` and what follows it, up to `sketch`, must be left out.
    k : int
        Number of columns, 1 to min(m, n); with "leverage", "uniform" and a `rank` up to all columns.
    rank : int, optional
        The rank of a later approximation, where that is less than k, and no `weights` are given: the method chooses so
        many columns, and others are added that determine the leading `rank` directions best, as more sensors than modes
        lessen noise. For "leverage" the number of singular vectors whose scores are drawn by, 1 to min(m, n), by
        default k, but no more than 50; functions get so many and may take any number of columns. "uniform" draws all
        alike for any rank; "lupp", "cpqr" and "rpcholesky" have none.
    method : str or callable, default "osinsky"
        A rule of `curtensor.selection.SELECTION_RULES`, or "rpcholesky" for positive semidefinite A, or a function
        ``(basis, residual, k, rng)`` to at most k distinct row numbers of the basis (n, k). With `weights` it is
        called with ``weights=`` too.
    weights : array_like of float, shape (n,), optional
        Multiply each column's score; at least 0, where 0 excludes.
    include, exclude : sequence of int, optional
        Columns that must be chosen (they come first, and the others are chosen for what they leave), and columns that
        must not.
    groups : sequence of n labels, optional
        Columns with the same label are chosen together or not at all: the indicators of one category, the sensors of
        one station. k is a number of groups then, `include` and `exclude` name groups by any of their columns, and
        there are no `rank`, `weights` and other methods.
    sketch : str or callable, default "sparse_sign"
        A test matrix of `curtensor.sketching.SKETCHES`, or a function ``(n, size, dtype, rng)`` to a real one.
    shape : sequence of int, optional
        (m, n), where A is a function, and only then.
    dtype : dtype, optional
        Of a function's values; by default that of its first.
    batch : int, optional
        Entries that a function is asked for in one call at most, by default 262144.
    vectorized : bool, default True
        Whether a function takes index arrays; else it is called with two integers for each entry.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.

    Returns
    -------
    indices : ndarray of int, shape (k,)
        Distinct column numbers in the order of choice; fewer than k where the numerical rank of A is lower, and with
        "leverage" where fewer have a score. With `groups` the columns of at most k of them, group by group.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if k or an index is out of range, indices are repeated, or
        a column is both included and excluded; if too few columns are left to choose from.

    Notes
    -----
    One pass over A (`rpcholesky`: none, it reads k columns and those it rejects; `uniform`: none, it reads nothing).
    A sketch of l rows, then O(n l^2) operations and O(n l) memory: l = 8 k, down to max(2 k, k + 20) where that would
    cost more than 1e8 operations, with the rank in place of k for "leverage". Method "exchange" has min(8 k, m) rows
    (k + 20 at least), and improves the default's choice by at most six rounds of exchanges, each as dear as the choice.
    Method "iterative" has max(1.2 k, k + 20) and O(n l k) operations, all of them products of matrices.
    Scores that differ by less than rounding can explain, the square root of the dtype's epsilon, are
    ties, of which the lowest index is taken. The default takes the leading singular vectors and the residual
    of the sketch and applies Osinsky's greedy rule with a small ridge. "leverage" draws by the scores that one pass
    shows; where the leading directions stand out little, draw by better ones: ``method="uniform"`` with
    ``weights=leverage_scores(A, rank, axis=1, method="sketch")``. With exact singular vectors and no ridge
    the error is at most sqrt(k + 1) times that of the truncated SVD [1]_; for a sketch this bound is not proved.
    Groups: each time the one whose span takes most of what is left of the sketch, then exchanges as long as these take
    more; O(n l^2) operations for each choice and each exchange, l at least the number of columns in k groups.

    A is copied in no layout, but a sparse one is converted where it is neither CSR nor CSC or not of floats, and a
    DataFrame with columns of several dtypes is put together.

    References
    ----------
    .. [1] A. Osinsky, "Close to optimal column approximations with a single SVD", 2023, arXiv:2308.09068.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> A = np.outer(np.arange(1.0, 7), [1, 0, 2, 0]) + np.outer(np.ones(6), [0, 3, 0, 0])
    >>> sorted(ct.select_columns(A, 2, rng=0).tolist())
    [1, 2]
    """
    if is_function(A):
        left_out(method=(method, "osinsky"), sketch=(sketch, "sparse_sign"), rank=(rank, None), weights=(weights, None))
        left_out(include=(include, ()), exclude=(exclude, ()), groups=(groups, None))
        return pivots_of_function(1, indexed_function(A, shape, dtype, batch, vectorized, 2), k, rng)
    only_for_functions("A", shape, dtype, batch, vectorized)
    return indices_along(1, A, k, rank, method, weights, include, exclude, groups, sketch, rng)


def select_rows(
    A: Any,
    /,
    k: int,
    *,
    rank: int | None = None,
    method: str | Callable = "osinsky",
    weights: Any = None,
    include: _validation.Integers = (),
    exclude: _validation.Integers = (),
    groups: Iterable[Hashable] | None = None,
    sketch: str | Callable = "sparse_sign",
    shape: _validation.Integers | None = None,
    dtype: Any = None,
    batch: int | None = None,
    vectorized: bool = True,
    rng: _validation.RandomSource = None,
) -> np.ndarray:
    """Choose k rows of a matrix whose span comes close to it: `select_columns` of the adjoint.

    With R = A[indices], the error is ||A - A R^+ R||_F.

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, dask array, `row_blocks` or callable, shape (m, n)
        Real or complex; integers and bool are taken as float64. A callable gives entries at index arrays, as for
        `cur_decomposition`: then `method` and what follows it, up to `sketch`, must be left out.
    k : int
        Number of rows, 1 to min(m, n); with "leverage", "uniform" and a `rank` up to all rows.
    rank : int, optional
        As for `select_columns`: the rank of a later approximation, and for "leverage" of the scores.
    method : str or callable, default "osinsky"
        As for `select_columns`.
    weights : array_like of float, shape (m,), optional
        Multiply each row's score; at least 0, where 0 excludes.
    include, exclude : sequence of int, optional
        Rows that must be chosen, and rows that must not.
    groups : sequence of m labels, optional
        As for `select_columns`: rows with the same label are chosen together or not at all.
    sketch : str or callable, default "sparse_sign"
        As for `select_columns`.
    shape : sequence of int, optional
        (m, n), where A is a function, and only then.
    dtype : dtype, optional
        Of a function's values; by default that of its first.
    batch : int, optional
        Entries that a function is asked for in one call at most, by default 262144.
    vectorized : bool, default True
        Whether a function takes index arrays; else it is called with two integers for each entry.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.

    Returns
    -------
    indices : ndarray of int, shape (k,)
        Distinct row numbers in the order of choice; fewer than k where the numerical rank of A is lower, and with
        "leverage" where fewer have a score.

    Raises
    ------
    TypeError, ValueError
        As `select_columns`.

    Notes
    -----
    One pass over A; costs, memory and bound as for `select_columns`, with rows and columns exchanged.

    References
    ----------
    .. [1] A. Osinsky, "Close to optimal column approximations with a single SVD", 2023, arXiv:2308.09068.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> sorted(ct.select_rows(np.diag([1.0, 5, 2, 9]), 2, rng=0).tolist())
    [1, 3]
    """
    if is_function(A):
        left_out(method=(method, "osinsky"), sketch=(sketch, "sparse_sign"), rank=(rank, None), weights=(weights, None))
        left_out(include=(include, ()), exclude=(exclude, ()), groups=(groups, None))
        return pivots_of_function(0, indexed_function(A, shape, dtype, batch, vectorized, 2), k, rng)
    only_for_functions("A", shape, dtype, batch, vectorized)
    return indices_along(0, A, k, rank, method, weights, include, exclude, groups, sketch, rng)


def pivots_of_function(axis, entries, k, rng):
    """Columns (axis 1) or rows (axis 0) of a matrix known by its entries: pivots of a cross."""
    k, rng = _validation.integer(k, "k", 1, min(entries.shape)), _validation.generator(rng)
    found = checked_cross(entries, k, None, rng, lambda done: None)
    if found is None:
        return (select_columns if axis == 1 else select_rows)(read_whole(entries), k, rng=rng)
    return found.columns if axis == 1 else found.rows


def indices_along(axis, A, k, rank, method, weights, include, exclude, groups, sketch, rng):
    """The checks and the body of `select_columns` (axis 1) and `select_rows` (axis 0)."""
    operand, A = operands.find(A)
    n = A.shape[axis]
    sketch = _validation.choose(SKETCHES, sketch, "sketch")
    rng = _validation.generator(rng)
    rule = chosen_rule(method, beyond_rank=rank is not None)
    include = _validation.index_list(include, "include", n)
    exclude = _validation.index_list(exclude, "exclude", n)
    if groups is not None:
        for name, value in (("rank", rank), ("weights", weights), ("method", None if method == "osinsky" else method)):
            if value is not None:
                got = _validation.describe(value)
                raise _validation.complain(ValueError, name, "left at its default where groups are given", got)
        return grouped_indices(axis, operand, A, k, members_of(groups, n), include, exclude, sketch, rng)
    k, rank = size_and_rank(k, rank, rule, method, n, min(A.shape), weights)
    weights = None if weights is None else candidate_weights(weights, n)
    enough_candidates(k, n, include, exclude, weights)

    options = {"weights": weights, "include": include, "exclude": exclude}
    if rule.sees == "nothing":
        return uniform_indices(n, k, rng, **options)
    return chosen_indices(axis, operand, A, k, rule, sketch, rng, rank=rank, **options)


def chosen_rule(method, name="method", *, entries=True, beyond_rank=False):
    """The `Rule` that a name or a function stands for; one that reads entries only where these can be had."""
    rules = SELECTION_RULES | ENTRY_RULES if entries else SELECTION_RULES
    rule = _validation.choose(rules, method, name, lambda function: Rule(function, beyond_rank=beyond_rank))
    if rule.sees == "entries" and not entries:
        got = _validation.describe(method)
        raise _validation.complain(ValueError, name, "a rule that sees a sketch of X, not its entries", got)
    return rule


def size_and_rank(k, rank, rule, method, n, least, weights):
    """The number of candidates to choose, and the rank of the basis where that is another number, checked."""
    later = rank is not None and not rule.beyond_rank
    if later and rule.sees != "basis":
        raise _validation.complain(ValueError, "rank", f"None where method={method!r}, which takes k for it", rank)
    if later and weights is not None:
        raise _validation.complain(ValueError, "weights", f"None where method={method!r} is given a rank", "weights")
    k = _validation.integer(k, "k", 1, n if rule.beyond_rank or later else least)
    rank = None if rank is None else _validation.integer(rank, "rank", 1, min(k, least) if later else least)
    return k, min(k, rule.most_vectors, least) if rank is None and rule.most_vectors else rank


def uniform_indices(n, k, rng, weights=None, include=(), exclude=()):
    """The included indices, and others drawn by the weights alone; nothing is read."""
    weights = np.ones(n) if weights is None else weights.copy()
    weights[include] = weights[exclude] = 0
    return np.concatenate([include, weighted_sample(weights, k - len(include), rng)])


def sketch_size(k, candidates, limit, exchanges=False):
    """Rows of the sketch from which k candidates are chosen: 8 k where these are few or exchanged, down to 2 k."""
    if exchanges:
        return min(max(8 * k, k + 20), limit)
    affordable = math.isqrt(int(SKETCH_WORK / candidates))
    return min(max(2 * k, k + 20, min(affordable, max(8 * k, k + 80))), limit)


def sketch_sizes(k, shape, rule):
    """Sizes of the sketches from which k columns and then k rows are chosen: ``size, right_size``.

    Rows are chosen in C's span, which is known: the sketch shows but what lies outside.
    """
    size = sketch_size(k, max(shape), max(shape), rule.exchanges)
    affordable = math.isqrt(int(SKETCH_WORK / max(shape)))
    return {"size": size, "right_size": size if rule.exchanges else min(size, max(MIXED, affordable))}


def chosen_indices(axis, operand, A, k, rule, sketch, rng, *, rank=None, weights=None, include=(), exclude=()):
    """At most k columns (axis 1) or rows (axis 0) by a rule, which sees A, or A sketched along the other axis."""
    n, depth = A.shape[axis], A.shape[1 - axis]
    if rule.sees == "entries":
        weights = np.ones(n) if weights is None else weights.copy()
        weights[np.asarray(exclude, dtype=np.intp)] = 0
        return rule(operand, A, k, rng, weights, include)
    by_blocks = rule.blocks and rank is None
    size = min(k + max(20, k // 5), depth) if by_blocks else sketch_size(rank or k, n, depth, rule.exchanges)
    candidates = sketched_candidates(axis, operand, A, size, sketch, rng)
    if rank is not None and not rule.beyond_rank:
        return choose_for_a_later_rank(candidates, k, rank, rule, rng, include, exclude)
    options = {"weights": weights, "include": include, "exclude": exclude}
    return choose_from_sketch(candidates, k, rule.of_blocks, rng, rank=rank, **options)


def choose_for_a_later_rank(sketch, k, rank, rule, rng, include, exclude):
    """At most k rows of a sketch from which its leading `rank` directions are determined well: see `oversample`."""
    if not sketch.any():
        return include
    basis, _ = split_sketch(sketch, rank)
    inside = basis.conj().T @ sketch
    allowed = np.setdiff1d(np.arange(len(sketch)), exclude)
    candidates, residual = basis[allowed], sketch[allowed] - basis[allowed] @ inside
    first = np.searchsorted(allowed, include)
    return allowed[choose_more_rows(candidates, residual, first, k, rule, rng, inside)]


def grouped_indices(axis, operand, A, k, members, include, exclude, sketch, rng):
    """Columns (axis 1) or rows (axis 0) of at most k groups, which see A sketched along the other axis."""
    home = np.empty(A.shape[axis], dtype=np.intp)
    for group, indices in enumerate(members):
        home[indices] = group
    first, never = (list(dict.fromkeys(home[indices].tolist())) for indices in (include, exclude))
    k = _validation.integer(k, "k", 1, len(members))
    enough_candidates(k, len(members), np.array(first, dtype=int), np.array(never, dtype=int), None)
    depth, most = A.shape[1 - axis], sum(sorted(map(len, members))[-k:])
    size = sketch_size(min(most, depth), len(home), depth)
    candidates = sketched_candidates(axis, operand, A, size, sketch, rng)
    chosen = choose_groups(candidates, members, k, first, never)
    return np.concatenate([np.empty(0, dtype=np.intp), *(members[group] for group in chosen)])


def sketched_candidates(axis, operand, A, size, sketch, rng):
    """Columns (axis 1) or rows (axis 0) of A, one a row, sketched along the other axis to so many numbers."""
    test = random_matrix(sketch, A.shape[1 - axis], size, operand.dtype(A), rng)
    nothing = sparse.csr_array((A.shape[axis], 0), dtype=test.dtype)
    sketched = sketch_matrix(operand, A, *((test, nothing) if axis == 1 else (nothing, test)))
    return sketched.left if axis == 1 else sketched.right


def column_basis(operand, sketched, k, rule, rng, include=(), rank=None):
    """Chosen columns: indices, C itself, an orthonormal basis Q of it, and ``Q^H S`` of the right sketch S.

    A rule that may choose more columns than the rank of the scores gets the rank, where it is another number. What S
    has outside of the basis takes its place in memory.
    """
    operand = sketched.operand
    if rule.sees == "entries":
        columns = rule(operand, sketched.A, k, rng, np.ones(sketched.A.shape[1]), include)
    else:
        rank = rank if rule.beyond_rank and rank != k else None
        columns = choose_from_sketch(sketched.left, k, rule, rng, rank=rank, include=include)
    C = operand.take(sketched.A, columns, 1)
    basis = orthonormal_columns(C)
    return columns, C, basis, project_out(sketched.right, basis)


def project_out(S, basis):
    """Take Q Q^H S from S, panel by panel, since S may be as large as memory allows; returns ``Q^H S``."""
    inside = dense(basis.conj().T @ S)
    for start in range(0, len(S), TALL):
        rows = slice(start, start + TALL)
        S[rows] -= basis[rows] @ inside
    return inside


def by_cholesky(C):
    """Orthonormal basis of columns by two Cholesky factorisations of their Gram matrix, 2 to 3 times as fast as a QR.

    None where the columns depend on each other too much for it.
    """
    basis = C
    for _ in range(2):
        gram = basis.conj().T @ basis
        scales = np.sqrt(gram.diagonal().real)
        if not scales.all():
            return None
        R, failed = linalg.lapack.get_lapack_funcs("potrf", (gram,))(gram / np.outer(scales, scales), clean=True)
        size = np.abs(R.diagonal())
        if failed or size.min() < 1e2 * np.finfo(C.dtype).eps ** 0.5:
            return None
        inverse, _ = linalg.lapack.get_lapack_funcs("trtri", (R,))(R)
        basis = times_triangle(basis, inverse / scales[:, None], overwrite=basis is not C)
    return basis


def times_triangle(X, R, overwrite):
    """``X @ R`` for an upper triangle R, which may take the place of X: half the work of a whole matrix."""
    multiply = linalg.get_blas_funcs("trmm", (R,))
    if X.flags.c_contiguous:
        return multiply(1, R, X.T, trans_a=1, overwrite_b=overwrite).T
    return multiply(1, R, X, side=1, overwrite_b=overwrite)


def orthonormal_columns(C):
    """Q of C's QR factorisation; for sparse C sparse too, with C's nonzero rows."""
    if not sparse.issparse(C):
        narrow = C.size > CHOLESKY and C.shape[0] > NARROW * C.shape[1]
        Q = by_cholesky(C) if narrow else None
        return linalg.qr(C, mode="economic", check_finite=False)[0] if Q is None else Q  # NumPy's QR has three copies
    C = sparse.csc_array(C)
    filled = np.unique(C.indices)
    Q = np.linalg.qr(C[filled].toarray())[0]
    starts = np.searchsorted(filled, np.arange(C.shape[0] + 1)) * Q.shape[1]
    columns = np.tile(np.arange(Q.shape[1]), len(filled))
    return sparse.csr_array((Q.ravel(), columns, starts), shape=(C.shape[0], Q.shape[1]))


def candidate_weights(weights, size):
    """Finite weights above or equal to zero, one a candidate, scaled to a maximum of 1."""
    array = operands.find_tensor(weights, "weights").whole()
    if array.dtype.kind == "c":
        raise _validation.complain(TypeError, "weights", "real numbers", _validation.describe(weights))
    if array.shape != (size,):
        raise _validation.complain(ValueError, "weights", f"of shape ({size},)", array.shape)
    array = array.astype(float)
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise _validation.complain(
            ValueError, "weights", "finite, not negative and not all zero", _validation.describe(weights)
        )
    return array / array.max()


def enough_candidates(k, size, include, exclude, weights):
    """Raise if included, excluded and weightless candidates leave no way to choose k."""
    both = np.intersect1d(include, exclude)
    if len(both):
        raise _validation.complain(ValueError, "include", "disjoint from exclude", _validation.describe(both.tolist()))
    if len(include) > k:
        raise _validation.complain(ValueError, "include", f"at most k = {k} indices", len(include))
    closed = set(exclude.tolist()) | (set() if weights is None else set(np.flatnonzero(weights == 0).tolist()))
    if size - len(closed - set(include.tolist())) < k:
        raise _validation.complain(
            ValueError, "k", f"at most the {size - len(closed)} candidates left by exclude and weights", k
        )
