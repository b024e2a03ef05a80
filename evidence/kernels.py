"""Matrices known by entries, and kernels, measured: ``python -m evidence.kernels [claim ...]``; ``--list`` shows them.

On one BLAS thread, in CPU seconds, beside plain loops as they stand in textbooks: adaptive cross approximation and
randomly pivoted Cholesky, one pivot at a time.
"""

import time

import numpy as np

import curtensor
from benchmarks.bench_entries import (
    FUNCTIONS,
    blocks,
    clustered,
    error_on_rows,
    gaussian,
    plain_cholesky,
    separated,
    textbook_cross,
)
from evidence.claims import Line, at_most, command

RTOL = 1e-6


def textbook_where_right(function, n, rows):
    """CPU seconds of the textbook's loop at the largest tolerance at which it is right, and that; None if at none."""
    for rtol in RTOL * 10.0 ** np.arange(0, -2.5, -0.5):
        start = time.process_time()
        U, V = textbook_cross(function, n, n, rtol)
        seconds = time.process_time() - start
        if error_on_rows(function, n, rows, U[:, rows].T @ V) <= RTOL:
            return seconds, rtol
    return None


def cross_lines(n, allowed, times, seeds=3):
    """For each kind of kernel what is read, the true error, and the time over the textbook's where that is right."""
    curtensor.cur_decomposition(separated(n, np.random.default_rng(0)), rtol=0.1, shape=(n, n), rng=0)  # loads all
    for make, most in zip((separated, blocks, clustered), allowed, strict=True):
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            function = make(n, rng)
            start = time.process_time()
            result = curtensor.cur_decomposition(function, rtol=RTOL, shape=(n, n), rng=seed)
            ours = time.process_time() - start
            rows = rng.integers(0, n, 300)
            error = error_on_rows(function, n, rows, (result.left[rows] @ result.middle) @ result.right)
            theirs = textbook_where_right(function, n, rows)
            beside = f"CPU {ours:.2f}, textbook " + (
                "never right"
                if theirs is None
                else f"{theirs[0]:.2f}, right at {theirs[1]:.1g}: {ours / theirs[0]:.2f}"
            )
            read = result.n_entries_read
            held = error <= RTOL and read <= most and (theirs is None or ours <= times * theirs[0])
            text = f"error {error:.2g}, {read:.3g} entries, rank {result.rank}; {beside}"
            yield Line(f"{make.__name__}, {n} x {n}, seed {seed}", f"<= {RTOL:g}, {most:.1g}, {times:g}", text, held)


def large():
    """1e5 x 1e5, rtol 1e-6: entries read, error, time beside textbook ACA."""
    yield from cross_lines(100_000, (3e7, 6e7, 6e7), 1.5)


def small():
    """2000 x 2000, rtol 1e-6: at most 15 % of the entries."""
    yield from cross_lines(2000, (6e5, 6e5, 6e5), np.inf)


def held():
    """Tolerances of 1e-2 to 1e-6 on eight kinds of functions, 1500 x 1500, five seeds: claims that do not hold."""
    n, claims, wrong = 1500, 0, 0
    for make in FUNCTIONS.values():
        for seed in range(5):
            function = make(n, np.random.default_rng([seed, 1]))
            A = function(np.arange(n)[:, None], np.arange(n))
            for rtol in (1e-2, 1e-4, 1e-6):
                result = curtensor.cur_decomposition(function, rtol=rtol, shape=A.shape, rng=seed)
                claims += result.converged
                wrong += result.converged and np.linalg.norm(A - result.to_array()) > rtol * np.linalg.norm(A)
    yield at_most(f"claims that do not hold, of {claims}", 0, wrong)


def cholesky():
    """Gaussian kernel of 1e5 points, 1000 pivots: trace left and CPU beside plain randomly pivoted Cholesky."""
    points = np.random.default_rng(0).standard_normal((100_000, 10))
    start = time.process_time()
    F = plain_cholesky(points, 1000, np.random.default_rng(0))
    plain = 1 - np.linalg.norm(F) ** 2 / len(points)
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


CLAIMS = {"held": held, "cholesky": cholesky, "trace": trace, "large": large, "small": small}

if __name__ == "__main__":
    command(CLAIMS)
