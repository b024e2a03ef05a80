"""Adaptive cross approximation of matrices known by their entries, checked on entries that no choice has seen."""

from typing import NamedTuple

import numpy as np
from scipy import linalg

from curtensor import _validation

PROBES = 10_000  # random entries on which the residual is kept, and as many fresh ones at each gate
BESIDE = PROBES // 8  # in the gaps between pivots, and next to them
SURE = 3  # standard errors added to what a gate's probes show: one of many results was beyond two
SMALL = 2**14  # entries of a matrix that is read whole
WHOLE = 2**27  # entries of the largest that is read whole where a cross would read half of it
ROOM = 2**28  # entries of the rows and columns at most that a tolerance may ask for
AHEAD = 2.0  # times what is left of the last column: a probe's residual, from which the next pivot starts
NEAR = 2  # how far from chosen rows and columns a gate looks, too
FLOOR = 16  # times the dtype's epsilon, of the largest entry seen: rounding, and no pivot


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
    """Entries at random or given places, and what a cross leaves of them."""

    def __init__(self, entries, rng, U=(), V=(), places=None):
        self.rows, self.columns = places or (rng.integers(0, length, PROBES) for length in entries.shape)
        self.values = entries.at(self.rows, self.columns)
        self.left = self.values - at(U, V, self.rows, self.columns)

    def take(self, u, v):
        """Take one more product from what is left."""
        self.left -= u[self.rows] * v[self.columns]

    def join(self, others):
        """Add other probes."""
        for name in ("rows", "columns", "values", "left"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(others, name)]))

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
    U, V = (np.empty((min(32, most), length), entries.dtype) for length in (m, n))
    C, R, rows, columns, used = [], [], [], [], np.zeros(m, dtype=bool)
    probes = Probes(entries, rng)
    largest = float(np.abs(probes.values).max())
    row, height = 0, 0.0
    while True:
        k = len(rows)
        noise = FLOOR * np.sqrt(k + 1) * eps
        worst, size = probes.worst(used)
        if size > AHEAD * height:
            row, height = worst, size
        exhausted = height <= noise * largest
        if k == most or exhausted or (rtol is not None and probes.rms(left=True) <= goal * probes.rms()):
            error, fresh = gate(entries, U[:k], V[:k], rows, columns, rng)
            if k == most or error <= max(goal, noise):
                break
            probes.join(fresh)
            largest = max(largest, float(np.abs(fresh.values).max()))
            worst, size = probes.worst(used)
            if exhausted and size <= noise * largest:
                break
            row, height = worst, size
        if k >= half and m * n <= WHOLE:
            return None
        if k == len(U):
            U, V = enlarged(U, min(2 * k, most)), enlarged(V, min(2 * k, most))
        used[row] = True
        own = entries.at(np.array([row]), np.arange(n))
        np.subtract(own, U[:k, row] @ V[:k], out=V[k])
        V[k, columns] = 0  # but for rounding it is
        column = int(np.argmax(np.abs(V[k])))
        largest = max(largest, float(np.abs(own).max()))
        if abs(V[k, column]) <= noise * largest:
            height = 0.0  # the row has nothing more: go on from the probes
            continue
        R.append(own)
        C.append(entries.at(np.arange(m), np.array([column])))
        largest = max(largest, float(np.abs(C[k]).max()))
        same(C[k][row], own[column], row, column, eps**0.5 * largest)
        np.subtract(C[k], V[:k, column] @ U[:k], out=U[k])
        U[k, rows] = 0
        U[k] /= V[k, column]
        U[k, row] = 1
        rows.append(row)
        columns.append(column)
        probes.take(U[k], V[k])
        left = np.where(used, 0, np.abs(U[k]))
        row = int(np.argmax(left))
        height = float(left[row] * abs(V[k, column]))
        callback(min((k + 1) / most if rank is not None else goal / (probes.rms(left=True) / probes.rms() or 1), 0.99))
    pivots = np.array(rows, dtype=np.intp), np.array(columns, dtype=np.intp)
    C, R = stacked(C, m, entries.dtype), stacked(R, n, entries.dtype)
    return PivotedCross(*pivots, C, R, U[:k], V[:k], error, largest > 0)


def enlarged(X, size):
    """An array with room for so many rows."""
    larger = np.empty((size, X.shape[1]), X.dtype)
    larger[: len(X)] = X
    return larger


def stacked(rows, length, dtype):
    """Rows as an array, which may be without any."""
    return np.array(rows, dtype).reshape(-1, length)


def gate(entries, U, V, rows, columns, rng):
    """Relative error as fresh probes show it, and these, with those in the gaps between pivots and next to them."""
    fresh = Probes(entries, rng, U, V)
    m, n = entries.shape
    places, shares = near_pivots(rows, columns, (m, n), rng) if rows else ([], [])
    near = [Probes(entries, rng, U, V, pair) for pair in places]
    scale = max(float(np.abs(X).max()) for probes in (fresh, *near) for X in (probes.values, probes.left))
    if scale == 0:
        return 1.0, fresh
    size = product_norm(U, V, scale) / np.sqrt(m) / np.sqrt(n) or fresh.rms() / scale or 1.0
    squares = np.abs(fresh.left / scale) ** 2
    error = np.sqrt(squares.mean() + SURE * squares.std() / np.sqrt(PROBES)) / size
    for weights, probes in zip(shares, near, strict=True):
        left = np.abs(probes.left / scale) ** 2
        error = max(error, np.sqrt(max(left.max() / m / n, np.mean(left * weights))) / size)
        fresh.join(probes)
    return min(float(error), 1.0), fresh


def near_pivots(rows, columns, shape, rng):
    """Places in the gaps between chosen rows and columns, and next to these, where a narrow peak would hide.

    With them what share of all entries each stands for, times their number: gaps are drawn all alike, so that those
    between pivots that lie close together, as in a small block, are seen too. Next to pivots an entry is itself alone.
    """
    slices = list(zip((rows, columns), shape, strict=True))
    gaps, shares = zip(*(gap_places(I, length, BESIDE, rng) for I, length in slices), strict=True)
    near = [
        np.clip(rng.choice(I, BESIDE) + rng.integers(-NEAR, NEAR + 1, BESIDE), 0, length - 1) for I, length in slices
    ]
    return [list(gaps), near], [shares[0] * shares[1], np.zeros(BESIDE)]


def gap_places(I, length, count, rng):
    """Places from the gaps between chosen slices, all gaps alike, and the gap's share of all times their number."""
    edges = np.unique([0, *I, length])
    gaps = rng.integers(0, len(edges) - 1, count)
    return rng.integers(edges[gaps], edges[gaps + 1]), np.diff(edges)[gaps] * (len(edges) - 1) / length


def product_norm(U, V, scale):
    """``||U^T V||_F`` over a scale."""
    if len(U) == 0:
        return 0.0
    left = U.conj() @ U.T
    V = V / scale
    right = V.conj() @ V.T
    return float(np.sqrt(max(np.sum(left * right).real, 0)))


def same(first, second, row, column, slack):
    """Raise if an entry read twice is not the same."""
    if not abs(first - second) <= slack:
        got = f"{first} and {second} at {(row, column)}"
        raise _validation.complain(ValueError, "A", "the same whenever it is read", got)


def checked_cross(entries, rank, rtol, rng, callback):
    """A cross that holds the tolerance, if one is given, or None; what it leaves is what a gate has seen."""
    if entries.shape[0] * entries.shape[1] <= SMALL:
        return None
    found = adaptive_cross(entries, rank, rtol, rng, callback)
    if found is None or rtol is None:
        return found
    if not found.seen:
        what = "other than zero at some of the entries sampled, where rtol is given"
        raise _validation.complain(ValueError, "A", what, f"{entries.n_read} zeros")
    if found.error > rtol:
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
