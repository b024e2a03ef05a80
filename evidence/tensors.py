"""The figures claimed for tensors, measured: ``python -m evidence.tensors [claim ...]``.

One line for each: the claim, its target, what was measured, held or MISSED. Exit status 1 where one was missed.
Names of claims pick some; ``--list`` shows them. On one thread; times are CPU seconds, the best of several, both sides
in turn in the same process.
"""

import time
import tracemalloc
import warnings
from functools import partial

import numpy as np

import curtensor as ct
from benchmarks import bench_tubal, bench_tucker, bench_unfolding
from benchmarks.common import cpu_seconds
from benchmarks.tensors import TENSORS, UNSEEN
from curtensor.tensors.entries import tucker_entries
from curtensor.tensors.tubal import TUBAL_CORES
from evidence.claims import Line, at_least, at_most, command

REAL_RANKS = {
    "kinetic": [(2, 2, 2, 2), (3, 3, 3, 3), (4, 3, 3, 6), (5, 5, 5, 5), (8, 4, 4, 8)],
    "Indian Pines": [(5, 5, 5), (10, 10, 10), (20, 20, 8), (30, 30, 30), (40, 40, 10)],
}


def extra_megabytes(call):
    """Most memory that a call takes besides its result, in MB."""
    call()
    tracemalloc.start()
    result = call()
    extra = tracemalloc.get_traced_memory()[1] - getattr(result, "nbytes", 0)
    tracemalloc.stop()
    return extra / 1e6


def products():
    """Mode products against TensorLy's: inner modes 1.8 times as fast, outer ones no slower; 32 MB at most."""
    for name in bench_unfolding.CASES:
        X, M, mode = bench_unfolding.case(name)
        calls = [partial(f, X, M, mode) for f in (ct.mode_dot, bench_unfolding.tensorly_mode_dot)]
        ours, theirs = cpu_seconds(calls, 9)
        yield at_least(
            f"mode_dot, {name}: speed over TensorLy's", 1.8 if 0 < mode < X.ndim - 1 else 0.95, theirs / ours
        )
        yield at_most(f"mode_dot, {name}: extra MB", 32, extra_megabytes(calls[0]))


def grams():
    """Gram matrices of modes against unfolding and one BLAS call, 31 and 3 trailing entries included; 32 MB at most."""
    for name in bench_unfolding.CASES:
        X, _, mode = bench_unfolding.case(name)
        calls = [partial(f, X, mode) for f in (ct.mode_gram, bench_unfolding.tensorly_gram)]
        ours, theirs = cpu_seconds(calls, 9)
        yield at_least(f"mode_gram, {name}: speed over unfold and syrk", 0.97, theirs / ours)
        yield at_most(f"mode_gram, {name}: extra MB", 32, extra_megabytes(calls[0]))


def converted_gram(X, mode):
    return bench_unfolding.tensorly_gram(X.astype("f8"), mode)


def single_precision_grams():
    """Gram matrices of float32, summed in float64, against unfolding, conversion and one BLAS call."""
    for name in bench_unfolding.CASES:
        X, _, mode = bench_unfolding.case(name, "f4")
        calls = [partial(f, X, mode) for f in (ct.mode_gram, converted_gram)]
        ours, theirs = cpu_seconds(calls, 5)
        yield at_least(f"mode_gram of float32, {name}: speed over unfold and syrk", 0.97, theirs / ours)


def tucker_speed():
    """st_hosvd against TensorLy's default (50 times), its fastest setting (7 times) and pyttb.hosvd (10 times)."""
    for name, (shape, rank) in bench_tucker.CASES.items():
        X, ranks = bench_tucker.signal_and_noise(shape, rank)
        ours = {
            "ours": bench_tucker.METHODS["st_hosvd, auto"],
            "randomized": bench_tucker.METHODS["st_hosvd, randomized"],
        }
        methods = ours | bench_tucker.TENSORLY | bench_tucker.PYTTB
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seconds = {m: cpu_seconds([partial(f, X, ranks, 0)], 5 if m in ours else 1)[0] for m, f in methods.items()}
        fastest = min(bench_tucker.TENSORLY, key=seconds.get)
        for peer, target in (("TensorLy", 50), (fastest, 7), ("pyttb hosvd", 10), ("pyttb tucker_als", 1)):
            yield at_least(f"st_hosvd, {name}: times as fast as {peer}", target, seconds[peer] / seconds["ours"])
        for peer, target in ((fastest, 7), ("pyttb hosvd", 10)):
            times = seconds[peer] / seconds["randomized"]
            yield at_least(f"st_hosvd, randomized, {name}: times as fast as {peer}", target, times)
        error, best = (np.linalg.norm(X - methods[m](X, ranks, 0)()) for m in ("ours", fastest))
        yield at_most(f"st_hosvd, {name}: error over that of {fastest}", 1.01, error / best)
        extra = extra_megabytes(partial(ct.st_hosvd, X, ranks)) * 1e6 / X.nbytes
        yield at_most(f"st_hosvd, {name}: extra memory over the tensor's", 0.1, extra)


def tucker_errors():
    """st_hosvd's error over that of HOOI, run until it stands still, on real tensors."""
    for name, choices in REAL_RANKS.items():
        X = TENSORS[name]((1000,) * 4, 0)
        for ranks in choices:
            best = ct.hooi(X, ranks, tol=1e-6, max_sweeps=200)
            ratio = ct.st_hosvd(X, ranks).error_estimate / best.error_estimate
            yield at_most(f"st_hosvd, {name}, ranks {ranks}: error over HOOI's", 1.01, ratio)


def tucker_tolerances():
    """A tolerance is held on every family, to 1e-12."""
    for rtol in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12):
        errors = {}
        for name, family in TENSORS.items():
            X = family((50, 45, 40), 1)
            errors[name] = np.linalg.norm(X - ct.st_hosvd(X, rtol=rtol).to_array()) / np.linalg.norm(X)
        worst = max(errors, key=errors.get)
        yield at_most(f"st_hosvd, rtol={rtol:g}: error, worst of {len(errors)}", rtol, errors[worst], f" ({worst})")


def tubal_errors():
    """tubal_cur over the tubal SVD, with twice as many slices as the rank: the worst of ten seeds."""
    for name, targets in {"Indian Pines": (1.10, 1.5), "photograph": (1.2, 1.6), "coherent": (1.2, 1.6)}.items():
        X, rank = bench_tubal.TENSORS[name]()
        best = ct.tubal_svd(X, rank).error_estimate * np.linalg.norm(X)
        for core, target in zip(("projection", "truncated"), targets, strict=True):
            method = bench_tubal.METHODS[f"tubal CUR, {core}"]
            ratios = [np.linalg.norm(X - method(X, rank, seed)) / best for seed in range(100, 110)]
            note = f" (median {np.median(ratios):.3f})"
            what = f"tubal_cur, {name}, rank {rank}, {2 * rank} slices, {core}: error over t-SVD's"
            yield at_most(what, target, max(ratios), note)


def tubal_exact():
    """A tensor of tubal rank r comes back from r slices each, whatever the dtype, d3 odd, even or one."""
    for kind, limit in {"float32": 1e-4, "float64": 1e-12, "complex64": 1e-4, "complex128": 1e-12}.items():
        for core in TUBAL_CORES:
            worst = 0.0
            for d3, seed in ((1, 0), (8, 1), (15, 2)):
                rng = np.random.default_rng(seed)
                left, right = rng.standard_normal((60, 7, d3, 2)), rng.standard_normal((7, 50, d3, 2))
                left, right = (Z[..., 0] + (1j * Z[..., 1] if "complex" in kind else 0) for Z in (left, right))
                X = ct.t_product(left, right).astype(kind)
                result = ct.tubal_cur(X, 7, n_columns=7, n_rows=7, core=core, rng=seed)
                worst = max(worst, np.linalg.norm(X - result.to_array()) / np.linalg.norm(X))
            yield at_most(f"tubal_cur, tubal rank 7, {core}, {kind}: relative error", limit, worst)


def tubal_speed():
    """The half spectrum against every slice of the whole one, and CUR against the tubal SVD."""
    for name, make in bench_tubal.TENSORS.items():
        X, rank = make()
        methods = ("tubal CUR, projection", "tubal SVD", "tubal SVD, slice by slice of the whole transform")
        cur, svd, slices = cpu_seconds([partial(bench_tubal.METHODS[m], X, rank, 0) for m in methods], 3)
        yield at_least(f"tubal_svd, {name}: speed over the whole transform, slice by slice", 1.2, slices / svd)
        yield at_least(f"tubal_cur, {name}: speed over tubal_svd", 1.5, svd / cur)


# name -> () to lines
WHOLE = {"Indian Pines": (145, 145, 200), "digits": (1797, 8, 8), "photograph": (427, 640, 3)}
WHOLE["other photograph"] = WHOLE["photograph"]


def relative(X, approximation):
    return float(np.linalg.norm(X - approximation) / np.linalg.norm(X))


def cur_errors():
    """tensor_cur as it comes over st_hosvd of the same ranks, each family, ranks 5 and 10, ten seeds."""
    ratios, above, silent = {}, 0, []
    for name, family in TENSORS.items():
        X = family(WHOLE.get(name, (60, 70, 80)), 3)
        for r in (5, 10):
            ranks = tuple(min(r, length) for length in X.shape)
            best = max(relative(X, ct.st_hosvd(X, ranks).to_array()), 1e-14)
            for seed in range(10):
                result = ct.tensor_cur(X, ranks, rng=seed)
                error = relative(X, result.to_array())
                ratios[name, r, seed] = error / best
                above += error > 1
                if error > 1.5 * best and result.converged and result.error_estimate <= 1.5 * best:
                    silent.append((name, r, seed))
    count = f" ({len(TENSORS)} tensors, {len(ratios)} runs)"
    yield at_most("tensor_cur: error over st_hosvd's, median", 1.05, float(np.median(list(ratios.values()))), count)
    where, worst = max(ratios.items(), key=lambda item: item[1])
    yield at_most("tensor_cur: error over st_hosvd's, worst", 1.25, worst, f" {where}")
    yield Line("tensor_cur: runs worse than zero", "0", str(above), above == 0)
    yield Line("tensor_cur: ratio above 1.5, and the result does not say so", "0", str(len(silent)), not silent)


def unseen():
    """tensor_cur over st_hosvd on tensors that no constant was chosen by, as it comes and cut to the ranks; 3 seeds."""
    whole, cut, runs = {}, {}, 0
    for name, make in UNSEEN.items():
        X = make()
        floor = max(X.shape) * float(np.finfo(X.dtype).eps)  # rounding, and no more to be had
        for r in (5, 8, 12, 18, 24, 30):
            ranks = tuple(min(r, length) for length in X.shape)
            if np.prod(ranks) * 4 > X.size:
                continue
            best = max(relative(X, ct.st_hosvd(X, ranks).to_array()), floor)
            results = [ct.tensor_cur(X, ranks, rng=seed) for seed in range(3)]
            runs += len(results)
            for seed, result in enumerate(results):
                whole[name, r, seed] = relative(X, result.to_array()) / best
                cut[name, r, seed] = relative(X, ct.tucker_to_tensor(*result.to_tucker(ranks))) / best
    for what, ratios, typical, limit in (("", whole, 1.02, 1.25), (", cut to the ranks", cut, 1.03, 1.15)):
        note = f" ({len(UNSEEN)} tensors, {runs} runs)"
        median = float(np.median(list(ratios.values())))
        where, worst = max(ratios.items(), key=lambda item: item[1])
        yield at_most(f"tensor_cur{what}, unseen tensors: error over st_hosvd's, median", typical, median, note)
        yield at_most(f"tensor_cur{what}, unseen tensors: error over st_hosvd's, worst", limit, worst, f" {where}")


def cur_smooth():
    """Chidori with chosen slices on smooth tensors of 200^3, where uniform slices fail."""
    for name in ("Hilbert", "Coulomb"):
        X = TENSORS[name]((200, 200, 200), 0)
        for r in (5, 10):
            best = relative(X, ct.st_hosvd(X, (r, r, r)).to_array())
            worst, uniform = (
                max(
                    relative(X, ct.tensor_cur(X, r, method="chidori", selection=rule, rng=s).to_array())
                    for s in range(3)
                )
                / best
                for rule in ("osinsky", "uniform")
            )
            yield at_most(f"{name} 200^3, r={r}: over st_hosvd, worst of 3", 1.5, worst, f" (uniform {uniform:.3g})")


def cur_speed():
    """400^3 of rank 10 with one percent of noise: against our own st_hosvd."""
    X = TENSORS["low rank + noise"]((400, 400, 400), 0)
    X = ct.mode_dot(X, np.eye(400), 0)  # in C order
    cur, tucker = (lambda: ct.tensor_cur(X, 10, rng=0)), (lambda: ct.st_hosvd(X, (10, 10, 10)))
    ours, theirs = cpu_seconds([cur, tucker], 3)
    ratio = relative(X, cur().to_array()) / relative(X, tucker().to_array())
    yield at_most("400^3, r=10: error over st_hosvd's", 1.05, ratio)
    yield at_least("400^3, r=10: speed over st_hosvd's", 3, theirs / ours, f" ({ours:.3f} s, {theirs:.3f} s)")


def coulomb_entries(i, j, k):
    return 1 / np.sqrt((i + 1.0) ** 2 + (j + 1.0) ** 2 + (k + 1.0) ** 2)


def cur_of_a_function():
    """A Coulomb kernel of 10000^3 as a function, r=10, ten seeds; errors on fresh random entries."""
    shape, converged, evaluations, seconds, over = (10000,) * 3, 0, 0, 0.0, 0.0
    for seed in range(10):
        start = time.process_time()
        result = ct.tensor_cur(coulomb_entries, 10, shape=shape, rng=seed)
        seconds = max(seconds, time.process_time() - start)
        places = [np.random.default_rng(100 + seed).integers(0, 10000, 50000) for _ in shape]
        values = coulomb_entries(*places)
        error = np.linalg.norm(values - tucker_entries(*result, places)) / np.linalg.norm(values)
        converged += result.converged
        evaluations = max(evaluations, result.n_entries_read)
        over = max(over, float(error / result.error_estimate))
    yield at_least("function of 10000^3, r=10: seeds converged, of ten", 10, converged)
    yield at_most("function of 10000^3, r=10: evaluations, most", 1e8, evaluations)
    yield at_most("function of 10000^3, r=10: CPU seconds, most", 20, seconds)
    yield at_most("function of 10000^3, r=10: error over its estimate, worst", 2, over)


CLAIMS = {
    "products": products,
    "grams": grams,
    "single_precision_grams": single_precision_grams,
    "tucker_speed": tucker_speed,
    "tucker_errors": tucker_errors,
    "tucker_tolerances": tucker_tolerances,
    "cur_errors": cur_errors,
    "unseen": unseen,
    "cur_smooth": cur_smooth,
    "cur_speed": cur_speed,
    "cur_of_a_function": cur_of_a_function,
    "tubal_errors": tubal_errors,
    "tubal_exact": tubal_exact,
    "tubal_speed": tubal_speed,
}


if __name__ == "__main__":
    command(CLAIMS)
