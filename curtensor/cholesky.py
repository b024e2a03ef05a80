"""Pivoted Cholesky decomposition of positive semidefinite matrices that are known by their diagonal and columns."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from curtensor import _validation
from curtensor.operands.arithmetic import dense

BLOCK = 128  # proposals at a time; a blocked update of so many columns runs at the speed of BLAS 3
MOST_PROPOSALS = 1024  # where few of them are taken
FEW = 32  # taken of a block, below which the next is larger
PANEL = 2**18  # entries of the matrix worked on at a time, to stay in the cache
NOISE = 8  # times the dtype's epsilon and the root of the number of pivots, of a diagonal entry: rounding
GROWTH = 16  # the same of what a pivot smaller than others makes of it, times the root of their ratio


@dataclass(frozen=True)
class Pivoting:
    """How pivots are chosen. A bare function is ``Pivoting(function)``: it proposes, and what it proposes is taken.

    Attributes
    ----------
    function : callable
        ``(remainder, size, rng)`` to at most so many indices: the remainder (n,) is the diagonal of what is left.
    block : int, default 128
        Proposals at a time.
    rejects : bool, default False
        Whether a proposal is taken with a probability only: by how much of its remainder those before it in the block
        have left. Drawn by the remainder, pivots then are distributed as if drawn one by one.
    """

    function: Callable
    block: int = BLOCK
    rejects: bool = False

    def __call__(self, remainder: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Proposals, checked where they may be of a user's function."""
        found = self.function(remainder, size, rng)
        return found if self in KERNEL_METHODS.values() else _validation.rule_choice(found, len(remainder), size)


def by_remainder(remainder, size, rng):
    """Drawn independently, with probabilities in proportion to the remainder."""
    heights = np.cumsum(remainder)
    return np.searchsorted(heights, rng.random(size) * heights[-1], side="right")


def largest(remainder, size, rng):
    """The largest of the remainder; of those that tie the first."""
    tie = np.finfo(float).eps ** 0.5
    return np.flatnonzero(remainder >= (1 - tie) * remainder.max())[:1]


def alike(remainder, size, rng):
    """Drawn uniformly, of those that have a remainder."""
    left = np.flatnonzero(remainder)
    return rng.choice(left, min(size, len(left)), replace=False)


KERNEL_METHODS = {
    "rpcholesky": Pivoting(by_remainder, rejects=True),
    "plain": Pivoting(by_remainder, block=1),
    "greedy": Pivoting(largest, block=1),
    "uniform": Pivoting(alike),
}


def pivoted_cholesky(source, rank, trace_rtol, pivoting, rng, callback=lambda done: None, weights=1.0, include=()):
    """So many pivots, or the first that leave so little of the trace, the factor's columns as rows, and what is left.

    Included pivots come first, where they leave anything; weights multiply what pivots are drawn by.
    """
    n, eps = source.n, np.finfo(source.dtype).eps
    diagonal = checked_diagonal(source)
    trace, most = diagonal.sum(), n if rank is None else rank
    goal = 0.0 if rank is not None else trace_rtol * trace
    remainder, chosen = diagonal.copy(), np.empty(0, dtype=np.intp)
    if trace == 0:
        some = rng.integers(0, n, min(n, BLOCK))
        consistent(source.among(some), diagonal, some)  # zeros alone, or no positive semidefinite matrix
    F = np.empty((most if rank is not None else min(2 * BLOCK, n), n), source.dtype)  # the factor's columns, as rows
    size, worst = min(pivoting.block, 16), 1.0  # worst: what was left at most, over the pivot, by which rounding grows
    while len(chosen) < most and np.abs(remainder).sum() > goal:
        done = len(chosen)
        rounding = max(NOISE * np.sqrt(16 + done), GROWTH * np.sqrt(worst)) * eps
        share = max(rounding, negative(remainder, diagonal))
        noise = np.maximum(share * diagonal, eps**0.5 * remainder.max())  # a far smaller pivot spoils larger entries
        left, highest = np.where(remainder > noise, remainder, 0) * weights, remainder.max()
        if not left.any():
            break
        forced = done == 0 and len(include) > 0
        proposals = np.asarray(include) if forced else pivoting(left, min(size, most - done), rng)
        inner = consistent(source.among(proposals), diagonal, proposals) - among_rows(F[:done, proposals])
        draws = rng.random(len(proposals)) if pivoting.rejects and not forced else np.zeros(len(proposals))
        taken, triangle = accepted(inner, noise[proposals], draws, most - done)
        if done + len(taken) > len(F):
            F.resize((min(max(2 * len(F), done + len(taken)), n), n), refcheck=False)
        lost = add_columns(F, chosen, source, proposals[taken], triangle, remainder)
        worst = max(worst, highest / np.min(np.abs(triangle.diagonal()) ** 2, initial=np.inf))
        indefinite(remainder, diagonal, eps * worst, source.name)
        if np.abs(remainder).sum() <= goal:
            taken = taken[: enough_columns(F[: done + len(taken)], diagonal, lost, goal)]
            remainder = uncovered(F[: done + len(taken)], diagonal)
        chosen = np.append(chosen, proposals[taken])
        if len(taken) == 0 and not (pivoting.rejects or forced):
            break
        size = next_size(size, len(taken), pivoting.block)
        callback(min(max(len(chosen) / most, goal / (remainder.sum() or 1)), 0.99))
    F.resize((len(chosen), n), refcheck=False)
    error = float(np.abs(uncovered(F, diagonal)).sum() / (trace or 1))
    if trace_rtol is not None and error > trace_rtol:
        raise _validation.complain(ValueError, "trace_rtol", f"at least {error:.2g} for this {source.name}", trace_rtol)
    return chosen, F, min(error, 1.0)


def next_size(size, taken, block):
    """How many to propose next: more until blocks are full, and where few are taken."""
    if size < block:
        return min(2 * size, block)
    return min(2 * size, MOST_PROPOSALS) if block > 1 and taken < FEW else size


def enough_columns(F, diagonal, lost, goal):
    """How many of a block's columns, the last of a factor, to keep: the fewest that leave at most the goal, or all."""
    done = len(F) - len(lost)
    without = np.abs(uncovered(F, diagonal)).sum() + np.append(np.cumsum(lost[::-1])[::-1], 0)
    enough = int(np.argmax(np.append(without[:-1] <= goal, True)))
    while enough < len(lost) and np.abs(uncovered(F[: done + enough], diagonal)).sum() > goal:
        enough += 1
    return enough


def uncovered(F, diagonal):
    """The diagonal of what a factor, given by its columns as rows, leaves."""
    remainder = diagonal.copy()
    for column in F:
        remainder -= squares(column)
    return remainder


def squares(F):
    """Squared moduli in double precision."""
    return (F.real**2 + F.imag**2 if np.iscomplexobj(F) else F**2).astype(float, copy=False)


def among_rows(rows):
    """``F_S F_S^H`` for chosen rows S of the factor, given as columns."""
    return rows.T @ rows.conj()


def accepted(inner, noise, draws, most):
    """Places of the proposals that are taken, and the triangle of their Cholesky decomposition.

    `inner` is what is left of the matrix on the proposals (Alg. 2.2 of Epperly, Tropp and Webber 2024: a proposal is
    taken with the probability of its remainder now over that at the block's start).
    """
    left = inner.diagonal().real.copy()
    start = left.copy()
    columns = np.zeros(inner.shape, inner.dtype)
    taken = []
    for place in range(len(left)):
        if draws[place] * start[place] >= left[place] or left[place] <= max(1, negative(left, noise)) * noise[place]:
            continue
        i = len(taken)
        column = inner[:, place] - columns[:, :i] @ columns[place, :i].conj()
        columns[:, i] = column / np.sqrt(left[place])
        left -= np.abs(columns[:, i]) ** 2
        left[place] = 0
        taken.append(place)
        if len(taken) == most:
            break
    return taken, np.tril(columns[taken, : len(taken)])


def negative(left, diagonal):
    """How far below zero some of a remainder are, over a diagonal: as much of the others may be rounding."""
    return 4 * float(np.max(-left / np.where(diagonal > 0, diagonal, 1), initial=0))


def add_columns(F, chosen, source, pivots, triangle, remainder):
    """Write the columns of new pivots into the factor, panel by panel, and take them from the remainder.

    Returns what each of the columns takes of the trace.
    """
    done, k = len(chosen), len(pivots)
    lost = np.zeros(k)
    if k == 0:
        return lost
    known = np.ascontiguousarray(F[:done, pivots].conj().T)
    solve = linalg.get_blas_funcs("trsm", (F,))
    for rows, fresh in source.columns(pivots):
        fresh = fresh - known @ F[:done, rows]
        # the transposes lie as BLAS wants them
        F[done : done + k, rows] = solve(1, triangle.conj(), fresh.T, side=1, lower=1, trans_a=1, overwrite_b=1).T
        fresh = F[done : done + k, rows]
        taken = squares(fresh)
        remainder[rows] -= taken.sum(axis=0)
        lost += taken.sum(axis=1)
    F[done : done + k, chosen] = 0  # but for rounding it is
    F[done : done + k, pivots] = triangle.T
    return lost


class MatrixSource:
    """A matrix of any kind, of which columns are taken."""

    name = "A"

    def __init__(self, operand, A):
        self.operand, self.A = operand, A
        self.n, self.dtype, self.n_read = A.shape[0], operand.dtype(A), 0

    def diagonal(self):
        """The diagonal."""
        self.n_read += self.n
        return np.asarray(self.operand.diagonal(self.A))

    def among(self, indices):
        """Entries between some indices; their columns are kept until they are asked for."""
        self._indices, self._columns = indices, dense(self.operand.take(self.A, indices, 1))
        self.n_read += self._columns.size
        return self._columns[indices]

    def columns(self, indices):
        """(slice of rows, these rows of some of the proposals' columns, a row for each column) in turn."""
        order = np.argsort(self._indices, kind="stable")
        places = order[np.searchsorted(self._indices, indices, sorter=order)]
        for rows in row_panels(self.n, len(indices), PANEL):
            panel = self._columns[rows, places]
            finite_panel(panel, rows, indices, self.name)
            yield rows, panel.T

    def like(self, F):
        """The factor in the kind of A."""
        return self.operand.like(self.A, F)


def row_panels(n, width, most):
    """Slices of so few rows that a panel of some width has no more entries than allowed, but for one row."""
    height = max(1, most // width)
    return (slice(start, min(start + height, n)) for start in range(0, n, height))


def square(shape):
    """The length of both modes of a square matrix."""
    shape = _validation.matrix_shape(tuple(shape))
    if shape[0] != shape[1]:
        raise _validation.complain(ValueError, "A", "square", f"shape {shape}")
    return shape[0]


def checked_diagonal(source):
    """The diagonal in double precision: real and not negative."""
    diagonal = source.diagonal()
    bad = ~np.isfinite(diagonal)
    if bad.any():
        _validation.found_finite((int(bad.argmax()),) * 2, source.name)
    slack = 64 * np.finfo(source.dtype).eps * np.abs(diagonal)
    if (diagonal.real < 0).any() or (np.abs(diagonal.imag) > slack).any():
        place = int(np.argmax((diagonal.real < 0) | (np.abs(diagonal.imag) > slack)))
        raise not_semidefinite(source.name, f"{diagonal[place]} at {(place, place)}")
    return diagonal.real.astype(float)


def consistent(inner, diagonal, indices):
    """Entries between some indices: finite, the same on both sides of the diagonal, and on it what was read before."""
    if not np.isfinite(inner).all():
        i, j = np.argwhere(~np.isfinite(inner))[0]
        _validation.found_finite((int(indices[i]), int(indices[j])), "A")
    most = np.outer(*[np.sqrt(diagonal[indices])] * 2)
    slack = np.finfo(inner.dtype).eps ** 0.5 * most
    same = np.where(np.eye(len(inner), dtype=bool), diagonal[indices], inner)
    for other, what in ((same, "pure"), (inner.conj().T, "Hermitian")):
        wrong = np.abs(inner - other) > slack
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            pair, got = (int(indices[i]), int(indices[j])), f"{inner[i, j]} and {other[i, j]}"
            if what == "pure":
                raise _validation.complain(ValueError, "A", "the same whenever it is read", f"{got} at {pair}")
            raise _validation.complain(ValueError, "A", "Hermitian", f"{got} at {pair} and {pair[::-1]}")
    larger = np.abs(inner) > most + slack
    if larger.any():
        i, j = np.argwhere(larger)[0]
        pair = int(indices[i]), int(indices[j])
        raise not_semidefinite("A", f"{inner[i, j]} at {pair}, more than the diagonal allows")
    return inner


def finite_panel(panel, rows, indices, name):
    """Raise if a panel of columns is not finite."""
    if not np.isfinite(panel).all():
        i, j = np.argwhere(~np.isfinite(panel))[0]
        _validation.found_finite((int(rows.start + i), int(indices[j])), name)


def indefinite(remainder, diagonal, rounding, name):
    """Raise if more than rounding was taken from the diagonal."""
    slack = max(100 * len(diagonal) * np.finfo(float).eps, 1e3 * rounding) * diagonal.max(initial=0)
    if not remainder.min() >= -slack:
        raise not_semidefinite(name, f"a pivot of {remainder.min():.2g}")


def not_semidefinite(name, got):
    """The complaint about what is not positive semidefinite."""
    return _validation.complain(ValueError, name, "positive semidefinite", got)
