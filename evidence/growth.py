"""What a tolerance and a large rank cost, and the iterative method: ``python -m evidence.growth [claim ...]``.

As `evidence.matrices`: one line for each figure, with its target. Times are CPU seconds on one thread, both sides in
turn in the same process.
"""

import itertools
from functools import partial

import numpy as np
from scipy import linalg

import curtensor as ct
from benchmarks.common import CONFIRMING, FAMILIES, cpu_seconds, tail
from evidence.claims import Line, at_most, command, shown
from evidence.matrices import PUBLISHED, geometric_mean, matrix
from evidence.reproduction import iterative_cur

KINDS = {"CUR": ct.cur_decomposition, "ID": ct.interpolative_decomposition}
TOLERANCES = (0.3, 0.1, 3e-2, 1e-2, 1e-3, 1e-5)


def seconds_and_rank(decompose, A, rtol, seed=0):
    """CPU seconds to a tolerance, at the rank that it found, and of the full SVD; and that rank."""
    rank = decompose(A, rtol=rtol, rng=seed).rank
    calls = [partial(decompose, A, rtol=rtol, rng=seed), partial(decompose, A, rank, rng=seed)]
    return *cpu_seconds([*calls, partial(np.linalg.svd, A, full_matrices=False)], 2), rank


def tolerance_time():
    """Time to a tolerance over that of the call at the rank found, and over a full SVD."""
    for kind, decompose in KINDS.items():
        over_call, over_svd = {}, {}
        for name, rtol in itertools.product(CONFIRMING, TOLERANCES):
            A, _ = matrix(name, 0)
            grown, call, svd, rank = seconds_and_rank(decompose, A, rtol)
            over_call[grown / call] = over_svd[grown / svd] = f"{name}, {rtol:g}: rank {rank} of {min(A.shape)}"
        for what, found in (("the call at the rank found", over_call), ("a full SVD", over_svd)):
            note = f" ({found[max(found)]}; mean {geometric_mean(found):.2f}, {len(found)} cases)"
            yield at_most(f"{kind} to a tolerance, 700 x 500, over {what}, worst", 2.0, max(found), note)


def issue():
    """The two cases of 1500 x 1000 from which this began."""
    for name, rtol in (("inverse decay", 3e-2), ("slow decay", 0.2)):
        A, _ = matrix(name, 0, (1500, 1000))
        for kind, decompose in KINDS.items():
            grown, svd = cpu_seconds([partial(decompose, A, rtol=rtol, rng=0), partial(np.linalg.svd, A, False)], 1)
            yield at_most(f"{kind}, 1500 x 1000, {name}, rtol {rtol:g}, over a full SVD", 2.0, grown / svd)


def pivoted_qr():
    """Time to a tolerance on 4000 x 3000 over SciPy's pivoted QR."""
    A, _ = matrix("inverse decay", 0, (4000, 3000))
    calls = [partial(decompose, A, rtol=1e-2, rng=0) for decompose in KINDS.values()]
    *ours, theirs = cpu_seconds([*calls, partial(linalg.qr, A, mode="economic", pivoting=True)], 1)
    for kind, time in zip(KINDS, ours, strict=True):
        note = f" ({time:.1f} s / {theirs:.1f} s)"
        yield at_most(
            f"{kind}, 4000 x 3000, 1/i, rtol 1e-2, over scipy.linalg.qr with pivoting", 2.0, time / theirs, note
        )


def any_rank():
    """k x k CUR, and columns, of 1000 x 1000 over a full SVD, by method."""
    A, spectrum = matrix("inverse decay", 0, (1000, 1000))
    for method, (kind, decompose) in itertools.product(("osinsky", "iterative"), KINDS.items()):
        worst, where, ratios = 0.0, "", []
        for k in (50, 100, 200, 300, 400, 500, 550, 700, 800, 950):
            call = partial(decompose, A, k, method=method, rng=0)
            ours, svd = cpu_seconds([call, partial(np.linalg.svd, A, full_matrices=False)], 1)
            error = np.linalg.norm(A - call().to_array()) / tail(spectrum, k)
            ratios.append(f"{k}: {ours / svd:.2f} ({error:.2f})")
            if ours / svd > worst:
                worst, where = ours / svd, f" (k={k})"
        target = 0.8 if kind == "CUR" else 0.5
        yield at_most(f"{kind}, {method}, 1000 x 1000, 1/i, over a full SVD, worst", target, worst, where)
        yield shown(f"{kind}, {method}: k: time (error / optimum)", ", ".join(ratios))


def iterative():
    """The iterative method over IterativeCUR as published: time and error, on their matrices and others."""
    others = (("inverse decay", 1500, 50), ("coherent", 2000, 100), ("slow decay", 1000, 200), ("plateau", 1500, 150))
    for core in ("projection", "intersection"):
        times, errors = {}, {}
        for name, n, k in [case[:3] for case in PUBLISHED] + list(others):
            A, spectrum = matrix(name, 0, (n, n))
            call = partial(ct.cur_decomposition, A, k, method="iterative", core=core, rng=0)
            ours, theirs = cpu_seconds([call, partial(iterative_cur, A, k, 0)], 3)
            C, rest = iterative_cur(A, k, 0)
            error = np.linalg.norm(A - call().to_array()) / np.linalg.norm(A - C @ rest)
            where = f"{name} {n}, k={k}: error / optimum {error * np.linalg.norm(A - C @ rest) / tail(spectrum, k):.2f}"
            times[ours / theirs] = errors[error] = where
        for what, target, found in (("time", 1.0, times), ("error", 0.9, errors)):
            note = f" ({found[max(found)]}; mean {geometric_mean(found):.2f})"
            yield at_most(f"iterative, {core}, over IterativeCUR as published, {what}, worst", target, max(found), note)


def dense_svd():
    """The whole CUR of 4000 x 4000 over scikit-learn's randomized_svd, default and iterative."""
    from sklearn.utils.extmath import randomized_svd

    A, _ = matrix("inverse decay", 0, (4000, 4000))
    for k, target in ((50, 0.20), (300, 0.35)):
        calls = [partial(ct.cur_decomposition, A, k, method=method, rng=0) for method in ("osinsky", "iterative")]
        *ours, theirs = cpu_seconds([*calls, partial(randomized_svd, A, k, n_iter=4, random_state=0)], 2)
        for method, time in zip(("osinsky", "iterative"), ours, strict=True):
            yield at_most(f"4000 x 4000, k={k}: CUR, {method}, over scikit-learn's SVD", target, time / theirs)


def held():
    """Tolerances held, in every run."""
    missed, runs = [], 0
    shapes = itertools.cycle([(160, 120), (90, 200), (300, 280), (400, 80)])
    for seed, (name, rtol) in enumerate(itertools.product(FAMILIES, (0.5, 0.2, 5e-2, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8))):
        A = FAMILIES[name](*next(shapes), seed)
        for kind, options in itertools.product(KINDS, ({}, {"core": "intersection"}, {"method": "iterative"})):
            if kind == "ID" and "core" in options:
                options = {"axis": 0}
            runs += 1
            try:
                result = KINDS[kind](A, rtol=rtol, rng=seed, **options)
                error = np.linalg.norm(A - result.to_array()) / np.linalg.norm(A)
            except ValueError:  # it was not reached
                error = np.inf
            if error > rtol:
                missed.append(f"{kind} {options} {name} {rtol:g}: {error:.3g}")
    note = f"{len(missed)} of {runs} {missed[:30] or ''}"
    yield Line("rtol 0.5 .. 1e-8, every family, four shapes: runs that missed it", "0", note, not missed)


# name -> () to the lines of a claim
CLAIMS = {
    "tolerance_time": tolerance_time,
    "issue": issue,
    "pivoted_qr": pivoted_qr,
    "any_rank": any_rank,
    "iterative": iterative,
    "dense_svd": dense_svd,
    "held": held,
}


if __name__ == "__main__":
    command(CLAIMS)
