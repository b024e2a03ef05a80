"""The smallest rank that holds a tolerance: columns grown by blocks, errors read off what they have projected.

A first block has about as many columns as the singular values of a sketch ask for; others follow for what it leaves, if
need be. Then columns and rows are taken away again, the least needed first, for as long as the tolerance holds.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, sparse

from curtensor import _validation
from curtensor.operands.arithmetic import dense
from curtensor.selection import BLOCK, choose_from_sketch, orthonormal_columns
from curtensor.sketching import random_matrix, sketch_matrix

SMALLEST_SKETCH = 32  # rows of a sketch to begin with
SPREAD = 1.3  # times the rank that the tails alone ask for: the most that is tried at first
LARGE, SMALL = 0.2, 16  # ranks above such a share of all, and this number, are found by pivoted QR of A itself
NEARLY_ALL, MUCH = 0.9, 0.4  # the same where the rank is given, and where it is chosen by blocks
MOST_ENTRIES = 2**26  # of A where it is: of a sparse matrix, or one in a store, the dense copy must be no burden
ROWS = 60  # of the sketch from which blocks are chosen
TALL = 2  # times as many rows as columns: these are first reduced to a triangle
LAPACK_BLOCK = 64  # columns for which there must be room, so that reflectors are multiplied by blocks
DEPENDENT = 128  # roundings of the longest column, of which one that depends on others may have 60 left
SPARE = 1.05  # by how much more than the last block's is the error of the next one expected


class Span(NamedTuple):
    """Chosen columns: indices, the columns themselves, an orthonormal basis Q of them in their order, and ``A^H Q``."""

    indices: np.ndarray
    slices: Any
    basis: Any
    image: Any = None

    @property
    def triangle(self):
        """``Q^H C``, upper triangular."""
        if self.image is not None:
            return self.image[self.indices].conj().T
        return dense(self.basis.conj().T @ self.slices)

    def extended(self, indices, slices):
        """With more columns, but those which depend on others: all indices, and the columns that are new."""
        if self is NOTHING:
            return Span(indices, slices, orthonormal_columns(slices))
        old, new = indices[: len(self.indices)], indices[len(self.indices) :]
        inside = dense(self.basis.conj().T @ slices) if self.image is None else self.image[new].conj().T
        rest = slices - turned(self.basis, inside)
        rest = rest - turned(self.basis, dense(self.basis.conj().T @ rest))  # the first time leaves rounding of slices
        fresh = orthonormal_columns(rest)
        free = beyond_dependence(dense(fresh.conj().T @ rest), inside)
        free &= np.cumsum(free) <= self.basis.shape[0] - self.basis.shape[1]
        if not free.all():
            new, slices, fresh = new[free], slices[:, free], orthonormal_columns(rest[:, free])
        fresh = orthogonal(fresh, self.basis)
        indices = np.append(old, new)
        return Span(indices, side_by_side(self.slices, slices), side_by_side(self.basis, fresh), self.image)

    def with_image(self, image):
        """With what was missing of ``A^H Q``."""
        return self._replace(image=image if self.image is None else np.hstack([self.image, image]))

    def reordered(self, order):
        """The columns in another order, and the unitary matrix that turns the basis so that it is of that order."""
        if (np.diff(order) == 1).all():
            return self, np.eye(self.basis.shape[1], dtype=self.basis.dtype)
        turn = linalg.qr(self.triangle[:, order])[0]
        image = None if self.image is None else self.image @ turn
        return Span(self.indices[order], self.slices[:, order], turned(self.basis, turn), image), turn

    def first(self, k):
        """The first k columns."""
        image = None if self.image is None else self.image[:, :k]
        return Span(self.indices[:k], self.slices[:, :k], self.basis[:, :k], image)


NOTHING = Span(np.empty(0, dtype=np.intp), None, np.empty((0, 0)))


def beyond_dependence(triangle, inside):
    """Which columns have more than rounding outside of what is before them, by their parts outside and inside of it."""
    sizes = np.abs(triangle.diagonal())
    whole = np.hypot(np.linalg.norm(triangle, axis=0), np.linalg.norm(inside, axis=0)).max(initial=0)
    return np.append(sizes, np.zeros(triangle.shape[1] - len(sizes))) > DEPENDENT * np.finfo(sizes.dtype).eps * whole


def orthogonal(fresh, basis):
    """Orthonormal columns which are all but orthogonal to a basis, made so where digits have been lost."""
    inside = dense(basis.conj().T @ fresh)
    if np.abs(inside).max(initial=0) <= 64 * np.finfo(inside.dtype).eps:
        return fresh
    return orthonormal_columns(fresh - turned(basis, inside))


def turned(basis, turn):
    """A basis times a small matrix, sparse where the basis is."""
    return basis @ (sparse.csr_array(turn) if sparse.issparse(basis) else turn)


def side_by_side(X, Y):
    """Columns beside columns, all sparse or all dense."""
    return sparse.hstack([X, Y], format=X.format) if sparse.issparse(X) else np.hstack([X, Y])


def next_columns(sketched, span, k, rule, rng, include=()):
    """Indices of k columns, which begin with those of a span or the included ones, and the columns that are new."""
    operand, A, known = sketched.operand, sketched.A, span.indices if len(span.indices) else include
    if rule.sees == "entries":
        indices = rule(operand, A, k, rng, np.ones(A.shape[1]), known)
    else:
        indices = choose_from_sketch(sketched.left, k, rule, rng, include=known)
    return indices, operand.take(A, indices[len(span.indices) :], 1)


def has_pivots(rule, shape):
    """Whether pivots of A itself may stand for a rule, whatever kind of array A is."""
    return rule.direct and shape[0] * shape[1] <= MOST_ENTRIES


def by_pivots(rule, k, shape):
    """Whether they do, where the rank is given."""
    return has_pivots(rule, shape) and k > min(shape) * (MUCH if rule.blocks else NEARLY_ALL)


def columns_by_blocks(operand, A, k, rule, sketch, rng):
    """At most k columns by blocks, each chosen from what the ones before leave of one small sketch; one pass for each.

    With what sketched A.
    """
    test = random_matrix(sketch, A.shape[0], ROWS, operand.dtype(A), rng)
    sketched = sketch_matrix(operand, A, test, sparse.csr_array((A.shape[1], 0), dtype=test.dtype))
    span, rest, found = NOTHING, sketched.left, 0
    while found < k:
        chosen = choose_from_sketch(rest, min(BLOCK, k - found), rule.of_blocks, rng, exclude=span.indices)
        slices = sketched.operand.take(sketched.A, chosen, 1)
        span = span.extended(np.append(span.indices, chosen), slices)
        fresh = span.basis[:, found:]
        span = span.with_image(sketched.operand.rmatmat(sketched.A, fresh))
        rest = rest - span.image[:, found:] @ dense(fresh.conj().T @ test)
        if len(span.indices) == found:  # nothing is left but rounding
            break
        found = len(span.indices)
    return sketched, span


def pivoted_columns(sketched, most):
    """At most so many independent columns, in the order of a pivoted QR factorisation of A itself; one pass over A.

    As a `Span`, and the norms of what its first 0, 1, 2, ... columns leave of A. No sketch shows more than A, and where
    the rank is a large part of A's shorter side, nothing is smaller than A.
    """
    operand, A = sketched.operand, sketched.A
    whole = np.empty(A.shape, operand.dtype(A), order="F")
    for rows, panel in operand.panels(A):
        whole[rows] = panel
    outer = None
    if len(whole) > TALL * whole.shape[1]:  # pivots of the triangle are those of A
        outer, whole = linalg.qr(whole, mode="economic", overwrite_a=True, check_finite=False)
    (reflectors, scales), R, order = linalg.qr(whole, mode="raw", pivoting=True, overwrite_a=True, check_finite=False)
    sizes = np.abs(R.diagonal())
    k = int(np.count_nonzero(sizes > 64 * np.finfo(sizes.dtype).eps * sizes.max(initial=0)))
    k = min(k, most)
    left = np.linalg.norm(R.astype(np.result_type(R, float)), axis=1) ** 2
    make_basis = linalg.get_lapack_funcs("ungqr" if reflectors.dtype.kind == "c" else "orgqr", (reflectors,))
    basis = make_basis(reflectors[:, :k], scales[:k], lwork=LAPACK_BLOCK * k)[0] if k else reflectors[:, :0]
    basis = basis if outer is None else outer @ basis
    image = np.empty((A.shape[1], k), R.dtype)
    image[order] = R[:k].conj().T
    columns = order[:k].astype(np.intp)
    slices = operand.take(A, columns, 1)
    basis = sparse.csr_array(basis) if sparse.issparse(slices) else basis
    return Span(columns, slices, basis, image), np.sqrt(np.append(np.cumsum(left[::-1])[::-1], 0))


def pivoted_rows(basis):
    """As many rows as a basis has columns: pivots of its LU factorisation, of which the first j see j columns."""
    order = linalg.lu(dense(basis), p_indices=True)[0]
    return np.argsort(order)[: basis.shape[1]]


def grow(resketch, attempt, limit, rtol, ratio, least=1, direct=None):
    """What ``attempt(view, k)`` gives once its error is at most rtol.

    ``resketch(size)`` makes a view of A by sketches of that size, and the tails of its singular values relative to
    ||A||_F. An attempt has k columns, those of the one before among them: it returns what it has, the number of columns
    and the relative error, expected to be `ratio` times the tail. Where the rank is a large part of all, what
    ``direct(view)`` gives instead, if its error is.
    """
    size, found, k, large = 0, 0, SMALLEST_SKETCH, max(limit * LARGE, SMALL)
    while True:
        # half of what is left of a sketch can be chosen from it
        while size == 0 or (2 * k - found > size < limit and (direct is None or k <= large)):
            size = max(2 * size, SMALLEST_SKETCH)
            view, tails = resketch(size)
            k = min(rank_for(rtol, ratio, tails, size, limit), SPREAD * rank_for(rtol, 1.0, tails, size, limit) + 1)
            k = int(np.clip(k, least, limit))
        if direct is not None and k > large:
            result, direct = direct(view), None
            if result.error_estimate <= rtol:
                return result
            continue
        result, found, error = attempt(view, k)
        if error <= rtol:
            return result
        if found < k or found == limit:  # nothing is left but rounding, or a small sketch has missed a direction
            if size > 2 * limit:
                raise unreachable(error, rtol)
            size *= 2
            view, tails = resketch(size)
            k = min(found + max(1, found // 8), limit)
            continue
        known = tails[min(found, len(tails) - 1)] * biased(found, size, limit)
        ratio = np.clip(SPARE * error / max(known, 1e-300), 1, 30)
        least = min(found + max(1, found // 8), limit)
        k = max(least, rank_for(rtol, ratio, tails, size, limit))


def unreachable(error, rtol):
    """The complaint about a tolerance that all columns do not hold."""
    return _validation.complain(ValueError, "rtol", f"at least {error:.2g} for this A", rtol)


def rank_for(rtol, ratio, tails, size, limit):
    """The least rank for which so many times the tail is at most rtol."""
    ranks = np.arange(len(tails))
    fitting = np.flatnonzero(ratio * tails * biased(ranks, size, limit) <= rtol)
    return min(int(fitting[0]) if len(fitting) else len(tails), limit)


def biased(k, size, limit):
    """By how much a flat tail is longer than what a sketch of so many rows shows of it."""
    return 1 / np.sqrt(np.maximum(1 - k / size, 0.1)) if size < limit else np.ones_like(k, dtype=float)


def relative_tails(sketch, norm):
    """Norms of the singular values of a sketch beyond the first 0, 1, 2, ..., over ||A||_F."""
    s = np.linalg.svd(np.linalg.qr(sketch, mode="r"), compute_uv=False).astype(float)
    return np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0)) / (norm or 1)


def thinned(triangle, middle, budget, kept=0):
    """An order of columns ``basis @ triangle`` in which those that ``basis @ middle`` needs least are at the end.

    Takes away one after the other for as long as the squared error grows by no more than `budget` in all, never the
    first `kept`.
    """
    everything = np.arange(triangle.shape[1])
    sizes = np.abs(triangle.diagonal())
    dependent = len(triangle) < len(everything) or (sizes <= np.finfo(sizes.dtype).eps * sizes.max(initial=0)).any()
    if budget <= 0 or dependent:
        return everything
    kind = np.result_type(triangle, float)
    inverse = linalg.solve_triangular(triangle.astype(kind), np.eye(len(triangle), dtype=kind))
    inverse /= np.linalg.norm(inverse, axis=1)[:, None]
    coefficients = inverse @ middle
    gram = np.asfortranarray(coefficients @ coefficients.conj().T)
    spread = np.asfortranarray(inverse @ inverse.conj().T)
    update, update_two = linalg.get_blas_funcs(("her", "her2") if kind.kind == "c" else ("syr", "syr2"), (gram,))
    left = np.arange(len(triangle)) >= kept
    removed = []
    while left.any():
        scores = np.where(left, gram.diagonal().real / np.maximum(spread.diagonal().real, 1e-300), np.inf)
        i = int(scores.argmin())
        if scores[i] > budget:
            break
        budget -= scores[i]
        along, cross = hermitian_column(spread, i), hermitian_column(gram, i)
        size = along[i].real
        cross = cross - along * (cross[i].real / size / 2)
        gram = update_two(-1 / size, along, cross, a=gram, lower=1, overwrite_a=1)
        spread = update(-1 / size, along, a=spread, lower=1, overwrite_a=1)
        spread[i, i], left[i] = 1, False
        removed.append(i)
    return np.concatenate([np.setdiff1d(everything, removed), removed[::-1]]).astype(np.intp)


def hermitian_column(X, i):
    """A column of a Hermitian matrix of which the lower triangle is held."""
    return np.concatenate([X[i, :i].conj(), X[i:, i]])


def dropped(middle, n_rows, n_columns):
    """Squared norms of what is outside of leading blocks of a matrix, of ascending numbers of rows and columns."""
    squares = np.abs(middle).astype(float) ** 2
    reached = (
        np.searchsorted(sizes, np.arange(d), "right")
        for sizes, d in zip((n_rows, n_columns), middle.shape, strict=True)
    )
    first = np.maximum.outer(*reached)  # the block which is the first to hold each entry
    shares = np.bincount(first.ravel(), squares.ravel(), len(n_rows) + 1)
    return np.cumsum(shares[:0:-1])[::-1]


def first_within(errors, rtol):
    """The first of some errors that is at most rtol, or the last."""
    fitting = np.flatnonzero(errors <= rtol)
    return int(fitting[0]) if len(fitting) else len(errors) - 1
