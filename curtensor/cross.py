"""Adaptive cross approximation of matrices known by their entries, checked on entries that no choice has seen."""

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy import linalg

from curtensor import _validation

PROBES = 100**2  # random entries on which the residual is kept, and as many fresh ones at each gate
MANY = 250**2  # fresh ones before a tolerance is said to be held, but of no more than a part of all entries
PART = 80
AIM = 0.9  # times the tolerance on the probes that choose, before the fresh ones are asked: these add their errors
APART = 16  # for one in so many others at places of their own: in gaps, beside pivots, where A seems faint or strong
SURE = 3  # standard errors added to what a gate's probes show: one of many results was beyond two
SMALL = 2**14  # entries of a matrix that is read whole
WHOLE = 2**27  # entries of the largest that is read whole where a cross would read half of it
ROOM = 2**28  # entries of the rows and columns at most that a tolerance may ask for
MOST = 2**34  # entries of the rows and columns at most of any cross: 128 GiB
FIRST = 2**24  # entries of each array that there is room for from the start: memory is taken where it is written to
AHEAD = 2.0  # times what is left of the last column: a probe's residual, from which the next pivot starts
NEAR = 2  # how far from chosen rows and columns a gate looks, too
FLOOR = 12  # times the dtype's epsilon, of what the rows' rounding can have grown to: no pivot is below


class PivotedCross(NamedTuple):
    """Pivots and what was read there: A is close to ``U.T @ V``.

    Attributes
    ----------
    rows, columns : ndarray of int
        The pivots.
    C, R : ndarray, shapes (k, m) and (k, n)
        The columns, as rows, and the rows.
    U, V : ndarray, shapes (k, m) and (k, n)
        The residual's columns over the pivots, and its rows.
    error : float
        Relative error as fresh probes show it, with three standard errors; 1 where all that was read is zero.
    seen : bool
        Whether an entry other than zero has been.
    """

    rows: np.ndarray
    columns: np.ndarray
    C: np.ndarray
    R: np.ndarray
    U: np.ndarray
    V: np.ndarray
    error: float
    seen: bool


class Probes:
    """Entries at given places, and what a cross leaves of them."""

    def __init__(self, entries, rows, columns, U=(), V=()):
        self.rows, self.columns = rows, columns
        self.values = entries.at(rows, columns)
        self.left = self.values - at(U, V, rows, columns)

    def take(self, u, v):
        """Take one more product from what is left."""
        self.left -= u[self.rows] * v[self.columns]

    def join(self, others):
        """Add other probes."""
        for name in ("rows", "columns", "values", "left"):
            setattr(self, name, np.concatenate([getattr(self, name), *(getattr(other, name) for other in others)]))

    def largest(self):
        """The largest modulus of an entry."""
        return float(np.abs(self.values).max())

    def worst(self, used):
        """The row of the largest residual, of those that have not been read, and that residual."""
        sizes = np.where(used[self.rows], 0, np.abs(self.left))
        place = int(np.argmax(sizes))
        return int(self.rows[place]), float(sizes[place])

    def rms(self, left=False):
        """Root of the mean square of the entries, or of what is left of them, safe from overflow."""
        values = np.abs(self.left if left else self.values)
        scale = values.max() or 1
        return float(scale * np.sqrt(np.mean((values / scale) ** 2)))


def at(U, V, rows, columns):
    """Entries of ``U.T @ V`` at pairs of indices."""
    values = 0.0
    for u, v in zip(U, V, strict=True):
        values = values + u[rows] * v[columns]
    return values


def adaptive_cross(entries, rank, rtol, rng, callback):
    """The cross of so many pivots, or of as many as a tolerance needs; None where reading all of A is less.

    A pivot is the largest entry of a row of the residual; the next row is where its column is largest, or that of the
    probe which is left over most.
    """
    (m, n), eps = entries.shape, np.finfo(entries.dtype).eps
    most = min(m, n, max(1, ROOM // (m + n))) if rank is None else rank
    half, goal = m * n // (2 * (m + n)), rtol or 0.0
    sizes = ((min(max(FIRST // length, 1), most), length) for length in (m, n, m, n))
    C, R, U, V = kept = [np.empty(size, entries.dtype) for size in sizes]
    rows, columns, used = [], [], np.zeros(m, dtype=bool)
    probes = Probes(entries, *in_cells((m, n), PROBES, rng))
    largest, grown = probes.largest(), 0.0  # grown: rows read, each times the column of the residual over its pivot
    row, height = 0, 0.0
    while True:
        k = len(rows)
        noise = FLOOR * eps * max(largest, grown)
        if rtol is not None:
            noise = min(noise, max(eps * largest, goal * probes.rms()))  # what a tolerance asks for is none
        worst, size = probes.worst(used)
        if size > AHEAD * height:
            row, height = worst, size
        exhausted = height <= noise
        if k == most or exhausted or (rtol is not None and probes.rms(left=True) <= AIM * goal * probes.rms()):
            enough = max(goal, noise / (largest or 1)) if k < most else np.inf
            error, fresh = gate(entries, C[:k], R[:k], U[:k], V[:k], rows, columns, enough, rng)
            if error <= enough:
                break
            probes.join(fresh)
            largest = max(largest, *(others.largest() for others in fresh))
            worst, size = probes.worst(used)
            if exhausted and size <= noise:
                break
            row, height = worst, size
        if k >= half and m * n <= WHOLE:
            return None
        if k == min(len(C), len(R)):
            resize(kept, min(2 * k, most))
        used[row] = True
        R[k] = entries.at(np.array([row]), np.arange(n))
        np.subtract(R[k], U[:k, row] @ V[:k], out=V[k])
        V[k, columns] = 0  # but for rounding it is
        column = int(np.argmax(np.abs(V[k])))
        largest = max(largest, float(np.abs(R[k]).max()))
        if abs(V[k, column]) <= noise:
            height = 0.0  # the row has nothing more: go on from the probes
            continue
        entries.check_again(R[k, column], eps**0.5 * largest, row, column)
        C[k] = entries.at(np.arange(m), np.array([column]))
        largest = max(largest, float(np.abs(C[k]).max()))
        np.subtract(C[k], V[:k, column] @ U[:k], out=U[k])
        U[k, rows] = 0
        U[k] /= V[k, column]
        U[k, row] = 1
        sizes = np.abs(U[k])
        grown += float(sizes.max() * np.abs(R[k]).max())
        rows.append(row)
        columns.append(column)
        probes.take(U[k], V[k])
        left = np.where(used, 0, sizes)
        row = int(np.argmax(left))
        height = float(left[row] * abs(V[k, column]))
        callback(min((k + 1) / most if rank is not None else goal / (probes.rms(left=True) / probes.rms() or 1), 0.99))
    resize(kept, k)
    pivots = np.array(rows, dtype=np.intp), np.array(columns, dtype=np.intp)
    return PivotedCross(*pivots, C, R, U, V, error, largest > 0)


def resize(arrays, k):
    """Give arrays k rows, without a copy where memory allows."""
    for X in arrays:
        X.resize((k, X.shape[1]), refcheck=False)


def gate(entries, C, R, U, V, rows, columns, enough, rng):
    """Relative error as fresh probes show it, and these: some, and many more where the error of those is low enough."""
    norm = product_norm(U, V)
    slices = [(np.array(rows), in_order(C, rng)), (np.array(columns), in_order(R, rng))] if rows else []
    for count in (PROBES, max(PROBES, min(MANY, math.prod(entries.shape) // PART))):
        places = [(*in_cells(entries.shape, count, rng), np.ones(1)), *hiding_places(slices, count // APART, rng)]
        fresh = [Probes(entries, i, j, U, V) for i, j, _ in places]
        error = shown_error(fresh, [shares for *_, shares in places], norm, entries.shape)
        if error > enough:
            break
    return error, fresh


def shown_error(fresh, shares, norm, shape):
    """The largest relative error that some sets of probes show, of which the first are from everywhere; 1 for zeros."""
    scale = max(float(np.abs(X).max()) for probes in fresh for X in (probes.values, probes.left))
    if scale == 0:
        return 1.0
    m, n = shape
    size = norm / np.sqrt(m) / np.sqrt(n) / scale or fresh[0].rms() / scale or 1.0
    squares = [np.abs(probes.left / scale) ** 2 for probes in fresh]
    shown = [np.mean(square * share) for square, share in zip(squares, shares, strict=True)]
    shown[0] += SURE * squares[0].std() / np.sqrt(len(squares[0]))
    alone = max(float(square.max()) for square in squares) / m / n
    return float(min(np.sqrt(max(*shown, alone)) / size, 1.0))


def in_cells(shape, count, rng):
    """Random places, one in each cell of a grid over the matrix, so that no block of four cells is missed."""
    side = math.isqrt(count)
    cells = np.divmod(np.arange(side**2), side)
    return [
        np.minimum((cell + rng.random(side**2)) * (length / side), length - 1).astype(np.intp)
        for cell, length in zip(cells, shape, strict=True)
    ]


def hiding_places(slices, count, rng):
    """Rows, columns and shares of places where what random probes do not meet would be, a triple for each kind.

    A share is what part of all entries a place stands for, times the number of places. Gaps between chosen slices are
    drawn all alike, since those of a small block lie close together. Next to chosen slices a narrow peak goes on; an
    entry there stands for itself alone. Where the chosen slices across are small, or zero, is a block that none of them
    has met; where they are large may be all of the norm.
    """
    kinds = (
        [in_gaps(chosen, len(order), count, rng) for chosen, order in slices],
        [(next_to(chosen, len(order), count, rng), np.zeros(count)) for chosen, order in slices],
        [from_the_first(order, count, rng) for _, order in slices],
        [from_the_first(order[::-1], count, rng) for _, order in slices],
    )
    return [(i, j, share * other) for (i, share), (j, other) in filter(None, kinds)]


def in_gaps(chosen, length, count, rng):
    """Places in the gaps between chosen slices, all gaps alike, and their shares."""
    edges = np.unique([0, *chosen, length])
    gaps = rng.integers(0, len(edges) - 1, count)
    return rng.integers(edges[gaps], edges[gaps + 1]), np.diff(edges)[gaps] * (len(edges) - 1) / length


def next_to(chosen, length, count, rng):
    """Places next to chosen slices."""
    return np.clip(rng.choice(chosen, count) + rng.integers(-NEAR, NEAR + 1, count), 0, length - 1)


def in_order(X, rng):
    """Columns in ascending order of their largest entry; those of the same size in a random one."""
    sizes, order = np.abs(X).max(axis=0), rng.permutation(X.shape[1])
    return order[np.argsort(sizes[order])]


def from_the_first(order, count, rng):
    """Places drawn by their inverse rank, as many from each octave, and their shares."""
    length = len(order)
    ranks = np.minimum((length + 1) ** rng.random(count), length).astype(np.intp) - 1
    return order[ranks], np.log(length + 1) / length / np.log1p(1 / (ranks + 1))


def product_norm(U, V):
    """``||U^T V||_F``, safe from overflow."""
    scale = np.abs(V).max(initial=0) or 1
    V = V / scale
    squares = np.sum((U.conj() @ U.T) * (V.conj() @ V.T)).real
    return float(scale * np.sqrt(max(squares, 0)))


def checked_cross(entries, rank, rtol, rng, callback):
    """A cross that holds the tolerance, if one is given, or None; what it leaves is what a gate has seen."""
    m, n = entries.shape
    if m * n <= SMALL:
        return None
    if (m + n) * (rank or 1) > MOST:
        what = f"so small that its columns and rows have at most {MOST} entries"
        got = f"{(m + n) * (rank or 1)}"
        raise _validation.complain(ValueError, "shape" if rank is None else "shape or rank", what, got)
    found = adaptive_cross(entries, rank, rtol, rng, callback)
    if found is None:
        return None
    if not found.seen:
        if rtol is not None:
            what = "other than zero at some of the entries sampled, where rtol is given"
            raise _validation.complain(ValueError, "A", what, f"{entries.n_read} zeros")
        warnings.warn(f"A is zero at all {entries.n_read} entries sampled; no more is known of it", stacklevel=4)
    if rtol is not None and found.error > rtol:
        raise _validation.complain(ValueError, "rtol", f"at least {found.error:.2g} for this A", rtol)
    return found


def read_whole(entries):
    """All of a matrix known by entries."""
    m, n = entries.shape
    return entries.at(np.arange(m)[:, None], np.arange(n))


def coefficients(V, columns):
    """``V[:, columns]^-1 V``: what A's chosen columns are multiplied by; V there is upper triangular."""
    X = linalg.solve_triangular(V[:, columns], V)
    X[:, columns] = np.eye(len(columns))
    return X
