"""Matrices known by entries, and kernels, measured: ``python -m evidence.kernels [claim ...]``; ``--list`` shows them.

On one BLAS thread, in CPU seconds, beside plain loops as they stand in textbooks: adaptive cross approximation and
randomly pivoted Cholesky, one pivot at a time.
"""

import time

import numpy as np

import curtensor
from evidence.claims import Line, at_most, command

RTOL = 1e-6
SEEN = 300  # rows on which a true error is seen, drawn apart


def counted(function):
    """A function, and the list of how many entries each of its calls was asked for."""
    sizes = []

    def called(i, j):
        values = function(i, j)
        sizes.append(values.size)
        return values

    return called, sizes


def inverse_distance(x, y):
    """1 / |x_i - y_j| for points in a few dimensions."""
    x, y = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
    return lambda i, j: 1 / np.sqrt(sum((a[i] - b[j]) ** 2 for a, b in zip(x, y, strict=True)))


def separated(n, rng):
    """Two unit cubes, a cube apart."""
    return inverse_distance(rng.random((n, 3)), rng.random((n, 3)) + np.array([2, 0, 0]))


def blocks(n, rng):
    """The same in two blocks, and zeros beside them."""
    inside = separated(n, rng)
    return lambda i, j: np.where((i < n // 2) == (j < n // 2), inside(i, j), 0.0)


def clustered(n, rng):
    """Clusters on a line, next to each other."""
    x, y = (np.sort(rng.choice([0, 1, 3, 7], n) + s + 0.01 * rng.standard_normal(n)) for s in (0, 0.2))
    return inverse_distance(x[:, None], y[:, None])


def textbook_cross(function, m, n, rtol):
    """Adaptive cross approximation that ends when the last term is small (Bebendorf 2000): the factors."""
    U, V, square, row, used = [], [], 0.0, 0, np.zeros(m, dtype=bool)
    while True:
        v = function(np.array([row]), np.arange(n)) - sum(u[row] * w for u, w in zip(U, V, strict=True))
        used[row], column = True, int(np.argmax(np.abs(v)))
        u = function(np.arange(m), np.array([column])) - sum(w[column] * u for u, w in zip(U, V, strict=True))
        u = u / v[column]
        term = (u @ u) * (v @ v)
        square += term + 2 * sum((u @ x) * (v @ y) for x, y in zip(U, V, strict=True))
        U.append(u)
        V.append(v)
        if term <= rtol**2 * square:
            return np.array(U), np.array(V)
        row = int(np.argmax(np.where(used, 0, np.abs(u))))


def error_on_rows(function, n, rows, product):
    """Relative error on some rows."""
    A = function(rows[:, None], np.arange(n))
    return float(np.linalg.norm(A - product) / np.linalg.norm(A))


def cross_lines(n, allowed, times, seeds=3):
    """For each kind of kernel what is read, the true error, and the time over the textbook's where that is right."""
    for make, most in zip((separated, blocks, clustered), allowed, strict=True):
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            function, sizes = counted(make(n, rng))
            start = time.process_time()
            result = curtensor.cur_decomposition(function, rtol=RTOL, shape=(n, n), rng=seed)
            ours, read = time.process_time() - start, sum(sizes)
            rows = rng.integers(0, n, SEEN)
            error = error_on_rows(function, n, rows, (result.left[rows] @ result.middle) @ result.right)
            start = time.process_time()
            U, V = textbook_cross(function, n, n, RTOL)
            theirs = time.process_time() - start
            right = error_on_rows(function, n, rows, U[:, rows].T @ V) <= RTOL
            beside = f"CPU {ours:.2f}, textbook {theirs:.2f}" + ("" if right else f", wrong (rank {len(U)})")
            held = error <= RTOL and read <= most and (not right or ours <= times * theirs)
            text = f"error {error:.2g}, {read:.3g} entries, rank {result.rank}; {beside}"
            yield Line(f"{make.__name__}, {n} x {n}, seed {seed}", f"<= {RTOL:g}, {most:.1g}, {times:g}", text, held)


def large():
    """1e5 x 1e5, rtol 1e-6: entries read, error, time beside textbook ACA."""
    yield from cross_lines(100_000, (3e7, 6e7, 6e7), 1.5)


def small():
    """2000 x 2000, rtol 1e-6: at most 15 % of the entries."""
    yield from cross_lines(2000, (6e5, 6e5, 6e5), np.inf)


def gaussian(X, Y):
    """exp(-|x - y|^2 / 18)."""
    squares = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1) - 2 * X @ Y.T
    return np.exp(np.maximum(squares, 0) / -18)


def plain_cholesky(points, k, rng):
    """Randomly pivoted Cholesky, one pivot at a time (Chen and others 2022, Algorithm 2.1): the share of trace left."""
    n = len(points)
    left, F = np.ones(n), np.zeros((k, n))
    for i in range(k):
        p = rng.choice(n, p=left / left.sum())
        column = gaussian(points[p : p + 1], points)[0] - F[:i, p] @ F[:i]
        F[i] = column / np.sqrt(column[p])
        left = np.maximum(left - F[i] ** 2, 0)
    return left.sum() / n


def cholesky():
    """Gaussian kernel of 1e5 points, 1000 pivots: trace left and CPU beside plain randomly pivoted Cholesky."""
    points = np.random.default_rng(0).standard_normal((100_000, 10))
    start = time.process_time()
    plain = plain_cholesky(points, 1000, np.random.default_rng(0))
    seconds = time.process_time() - start
    start = time.process_time()
    result = curtensor.kernel_cur(points, 1000, kernel=gaussian, rng=0)
    share = (time.process_time() - start) / seconds
    yield at_most("trace left over plain", 1.05, result.trace_error / plain)
    yield at_most("CPU over plain", 0.3, share)
    for method in ("uniform", "greedy"):
        other = curtensor.kernel_cur(points[:20_000], 300, kernel=gaussian, method=method, rng=0).trace_error
        ours = curtensor.kernel_cur(points[:20_000], 300, kernel=gaussian, rng=0).trace_error
        yield Line(f"trace left, {method}, over ours; 20000 points, 300 pivots", "-", f"{other / ours:.3g}", True)


def trace():
    """trace_rtol: the share left, computed anew, over what was asked for; the worst of 40 runs."""
    worst = 0.0
    for seed in range(10):
        points = np.random.default_rng(seed).standard_normal((1500, 4))
        for rtol in (0.3, 1e-2, 1e-4, 1e-8):
            F = curtensor.kernel_cur(points, trace_rtol=rtol, kernel=gaussian, rng=seed).F
            worst = max(worst, float(1 - np.linalg.norm(F) ** 2 / len(points)) / rtol)
    yield at_most("share of the trace left over trace_rtol, the worst of 40", 1, worst)


CLAIMS = {"cholesky": cholesky, "trace": trace, "large": large, "small": small}

if __name__ == "__main__":
    command(CLAIMS)
