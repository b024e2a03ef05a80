"""Adaptive cross approximation of matrices known by their entries, checked on entries that no choice has seen."""

from typing import NamedTuple

import numpy as np
from scipy import linalg

from curtensor import _validation

PROBES = 10_000  # random entries on which the residual is kept, and as many fresh ones at each gate
SMALL = 2**14  # entries of a matrix that is read whole
WHOLE = 2**27  # entries of the largest that is read whole where a cross would read half of it
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
        Relative error as fresh probes show it, with two standard errors; 1 where all that was read is zero.
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
    """Entries at random places, and what the cross so far leaves of them."""

    def __init__(self, entries, U, V, rng, count):
        self.rows, self.columns = (rng.integers(0, length, count) for length in entries.shape)
        self.values = entries.at(self.rows, self.columns)
        self.left = self.values - at(U, V, self.rows, self.columns)

    def take(self, u, v):
        """Take one more product from what is left."""
        self.left -= u[self.rows] * v[self.columns]

    def join(self, others):
        """Add other probes."""
        for name in ("rows", "columns", "values", "left"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(others, name)]))

    def worst(self):
        """Place and size of the largest residual."""
        place = int(np.argmax(np.abs(self.left)))
        return int(self.rows[place]), float(abs(self.left[place]))

    def mean_square(self, scale):
        """Mean squared residual over a squared scale, and its standard error."""
        squares = np.abs(self.left / scale) ** 2
        return squares.mean(), squares.std() / np.sqrt(len(squares))


def at(U, V, rows, columns):
    """Entries of ``U.T @ V`` at pairs of indices."""
    values = np.zeros(len(rows), np.result_type(U, V))
    for u, v in zip(U, V, strict=True):
        values += u[rows] * v[columns]
    return values


def adaptive_cross(entries, rank, rtol, rng, callback):
    """The cross of so many pivots, or of as many as a tolerance needs; None where reading all of A is less.

    A pivot is the largest entry of a row of the residual; the next row is where its column is largest, or that of the
    probe which is left over most.
    """
    (m, n), eps = entries.shape, np.finfo(entries.dtype).eps
    most = min(m, n) if rank is None else rank
    half = m * n // (2 * (m + n))
    U, C = (np.empty((0, m), entries.dtype) for _ in range(2))
    V, R = (np.empty((0, n), entries.dtype) for _ in range(2))
    rows, columns, used = [], [], np.zeros(m, dtype=bool)
    probes = Probes(entries, U, V, rng, PROBES)
    largest = float(np.abs(probes.values).max())
    row, height = probes.worst()
    error = None
    while True:
        k = len(rows)
        worst, size = probes.worst()
        if used[worst]:
            size = 0.0 if size <= FLOOR * eps * largest else size
        if size > AHEAD * height and not used[worst]:
            row, height = worst, size
        exhausted = max(size, height) <= FLOOR * np.sqrt(k + 1) * eps * largest
        goal = 0.0 if rtol is None else rtol
        enough = rtol is not None and probes.mean_square(largest or 1)[0] <= (goal / largest * rms(probes.values)) ** 2
        if k >= most or exhausted or enough:
            error, fresh = gate(entries, U[:k], V[:k], rows, columns, probes, largest, rng)
            largest = max(largest, float(np.abs(fresh.values).max()))
            if rank is not None and k >= most:
                break
            if error <= max(goal, FLOOR * np.sqrt(k + 1) * eps) or k >= most:
                break
            probes.join(fresh)
            worst, size = probes.worst()
            if exhausted and size <= FLOOR * np.sqrt(k + 1) * eps * largest:
                break
            if not used[worst]:
                row, height = worst, size
        if k >= half and m * n <= WHOLE:
            return None
        if k == len(U):
            for array in (U, V, C, R):
                array.resize((min(max(2 * k, 16), most), array.shape[1]), refcheck=False)
        R[k] = entries.at(np.array([row]), np.arange(n))
        used[row] = True
        np.subtract(R[k], U[:k, row] @ V[:k], out=V[k])
        if columns:
            V[k, columns] = 0  # but for rounding it is
        column = int(np.argmax(np.abs(V[k])))
        pivot = V[k, column]
        largest = max(largest, float(np.abs(R[k]).max()))
        if abs(pivot) <= FLOOR * np.sqrt(k + 1) * eps * largest:  # the row has nothing more
            row, height = next_row(probes, used)
            if row is None:
                error, _ = gate(entries, U[:k], V[:k], rows, columns, probes, largest, rng)
                break
            continue
        C[k] = entries.at(np.arange(m), np.array([column]))
        same(C[k, row], R[k, column], row, column, eps**0.5 * largest)
        np.subtract(C[k], V[:k, column] @ U[:k], out=U[k])
        U[k, rows] = 0
        U[k] /= pivot
        U[k, row] = 1
        rows.append(row)
        columns.append(column)
        largest = max(largest, float(np.abs(C[k]).max()))
        probes.take(U[k], V[k])
        left = np.where(used, 0, np.abs(U[k]))
        row = int(np.argmax(left))
        height = float(left[row] * abs(pivot))
        callback(min((k + 1) / most if rank is not None else 0.5, 0.99))
    k = len(rows)
    for array in (U, V, C, R):
        array.resize((k, array.shape[1]), refcheck=False)
    pivots = np.array(rows, dtype=np.intp), np.array(columns, dtype=np.intp)
    return PivotedCross(*pivots, C, R, U, V, error, largest > 0)


def next_row(probes, used):
    """The row of the largest residual of a probe in a row that has not been read, and that residual."""
    sizes = np.where(used[probes.rows], 0, np.abs(probes.left))
    place = int(np.argmax(sizes))
    return (int(probes.rows[place]), float(sizes[place])) if sizes[place] > 0 else (None, 0.0)


def rms(values):
    """Root of the mean square, safe from overflow."""
    scale = float(np.abs(values).max()) or 1.0
    return scale * float(np.sqrt(np.mean(np.abs(values / scale) ** 2)))


def gate(entries, U, V, rows, columns, probes, scale, rng):
    """Relative error as fresh probes show it, and these; probes near pivots and in the gaps between them among them."""
    fresh = Probes(entries, U, V, rng, PROBES)
    if scale == 0 and not fresh.values.any():
        return 1.0, fresh
    scale = max(scale, float(np.abs(fresh.values).max()))
    mean, spread = fresh.mean_square(scale)
    m, n = entries.shape
    size = max(product_norm(U, V, scale) / np.sqrt(float(m) * n), 1e-300)
    if len(rows) == 0:
        size = rms(fresh.values) / scale
    error = float(np.sqrt(mean + 2 * spread) / size)
    if len(rows):
        looked = near_pivots(entries, U, V, rows, columns, rng)
        own = float(np.abs(looked.left).max()) / scale / np.sqrt(float(m) * n) / size  # one entry alone leaves as much
        error = max(error, own)
        fresh.join(looked)
    return min(error, 1.0), fresh


class Looked(Probes):
    """Probes at given places."""

    def __init__(self, entries, U, V, rows, columns):
        self.rows, self.columns = rows, columns
        self.values = entries.at(rows, columns)
        self.left = self.values - at(U, V, rows, columns)


def near_pivots(entries, U, V, rows, columns, rng):
    """Probes in the gaps between chosen rows and columns, and next to these, where a narrow peak would hide."""
    count = PROBES // 8
    m, n = entries.shape
    gaps = [gap_places(I, length, count, rng) for I, length in ((rows, m), (columns, n))]
    near = [
        np.clip(rng.choice(I, count) + rng.integers(-NEAR, NEAR + 1, count), 0, length - 1)
        for I, length in ((rows, m), (columns, n))
    ]
    return Looked(entries, U, V, *(np.concatenate(pair) for pair in zip(gaps, near, strict=True)))


def gap_places(I, length, count, rng):
    """Places from the gaps between chosen slices, all gaps alike."""
    edges = np.unique([0, *I, length])
    gaps = rng.integers(0, len(edges) - 1, count)
    return rng.integers(edges[gaps], edges[gaps + 1])


def product_norm(U, V, scale):
    """``||U^T V||_F`` over a scale."""
    if len(U) == 0:
        return 0.0
    left = U.conj() @ U.T
    right = (V / scale).conj() @ (V / scale).T
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
    cross = adaptive_cross(entries, rank, rtol, rng, callback)
    if cross is None or rtol is None:
        return cross
    if not cross.seen:
        what = "other than zero at some of the entries sampled, where rtol is given"
        raise _validation.complain(ValueError, "A", what, f"{entries.n_read} zeros")
    if cross.error > rtol:
        raise _validation.complain(ValueError, "rtol", f"at least {cross.error:.2g} for this A", rtol)
    return cross


def read_whole(entries):
    """All of a matrix known by entries."""
    m, n = entries.shape
    return entries.at(np.arange(m)[:, None], np.arange(n))


def coefficients(V, columns):
    """``V[:, columns]^-1 V``: what A's chosen columns are multiplied by; V there is upper triangular."""
    X = linalg.solve_triangular(V[:, columns], V)
    X[:, columns] = np.eye(len(columns))
    return X
