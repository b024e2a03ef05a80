"""The smallest rank that holds a tolerance: columns grown by blocks, errors read off what they have projected.

A first block has about as many columns as the singular values of a sketch ask for; others follow for what it leaves, if
need be. Then columns and rows are taken away again, the least needed first, for as long as the tolerance holds.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, sparse

from curtensor import _validation
from curtensor.operands import dense
from curtensor.selection import choose_from_sketch, orthonormal_columns

SMALLEST_SKETCH = 32  # rows of a sketch to begin with
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
        return dense(self.basis.conj().T @ self.slices)

    def extended(self, indices, slices):
        """With more columns: all indices, and the columns that are new."""
        if self is NOTHING:
            return Span(indices, slices, orthonormal_columns(slices))
        room = self.basis.shape[0] - self.basis.shape[1]
        fresh = outside(outside(slices, self.basis), self.basis)[:, :room]
        return Span(indices, beside(self.slices, slices), beside(self.basis, fresh), self.image)

    def with_image(self, image):
        """With what was missing of ``A^H Q``."""
        return self._replace(image=image if self.image is None else np.hstack([self.image, image]))

    def reordered(self, order):
        """The columns in another order, and the unitary matrix that turns the basis so that it is of that order."""
        if (np.diff(order) == 1).all():
            return self, np.eye(self.basis.shape[1], dtype=self.basis.dtype)
        turn = linalg.qr(self.triangle[:, order])[0]
        image = None if self.image is None else self.image @ turn
        return Span(self.indices[order], self.slices[:, order], times(self.basis, turn), image), turn

    def first(self, k):
        """The first k columns."""
        image = None if self.image is None else self.image[:, :k]
        return Span(self.indices[:k], self.slices[:, :k], self.basis[:, :k], image)


NOTHING = Span(np.empty(0, dtype=np.intp), None, np.empty((0, 0)))


def outside(slices, basis):
    """Orthonormal basis of what columns have outside of the span of a basis."""
    return orthonormal_columns(slices - times(basis, dense(basis.conj().T @ slices)))


def times(basis, turn):
    """A basis times a small matrix, sparse where the basis is."""
    return basis @ (sparse.csr_array(turn) if sparse.issparse(basis) else turn)


def beside(X, Y):
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


def grow(resketch, attempt, limit, rtol, ratio, least=1):
    """What ``attempt(view, k)`` gives once its error is at most rtol.

    ``resketch(size)`` makes a view of A by sketches of that size, and the tails of its singular values relative to
    ||A||_F. An attempt has k columns, those of the one before among them: it returns what it has, the number of columns
    and the relative error, expected to be `ratio` times the tail.
    """
    size, found, k = 0, 0, SMALLEST_SKETCH
    while True:
        while 2 * k - found > size < limit or size == 0:  # half of what is left of a sketch can be chosen from it
            size = max(2 * size, SMALLEST_SKETCH)
            view, tails = resketch(size)
            k = max(least, rank_for(rtol, ratio, tails, size, limit))
        result, found, error = attempt(view, k)
        if error <= rtol:
            return result
        if found < k or found == limit:  # nothing is left but rounding, or a small sketch has missed a direction
            if size > 2 * limit:
                raise _validation.complain(ValueError, "rtol", f"at least {error:.2g} for this A", rtol)
            size *= 2
            view, tails = resketch(size)
            k = min(found + max(1, found // 8), limit)
            continue
        known = tails[min(found, len(tails) - 1)] * biased(found, size, limit)
        ratio = np.clip(SPARE * error / max(known, 1e-300), 1, 30)
        least = min(found + max(1, found // 8), limit)
        k = max(least, rank_for(rtol, ratio, tails, size, limit))


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
    """Squared norms of what is outside of leading blocks of a matrix of so many rows and columns."""
    squares = np.pad(np.abs(middle).astype(float) ** 2, (0, 1))
    beyond = np.cumsum(squares[:, ::-1], axis=1)[:, ::-1]
    below = np.cumsum(beyond[::-1, 0])[::-1]
    beside = np.pad(np.cumsum(beyond, axis=0), ((1, 0), (0, 0)))
    return below[n_rows] + beside[n_rows, n_columns]


def first_within(errors, rtol):
    """The first of some errors that is at most rtol, or the last."""
    fitting = np.flatnonzero(errors <= rtol)
    return int(fitting[0]) if len(fitting) else len(errors) - 1
