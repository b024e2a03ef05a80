"""The figures claimed for matrices, measured: ``python -m evidence.matrices [claim ...]``.

One line for each: the claim, its target, what was measured, held or MISSED. Exit status 1 where one was missed.
Names of claims pick some; ``--list`` shows them. On one thread; times are CPU seconds, the best of several, both sides
in turn in the same process.
"""

import functools
import tempfile

import numpy as np
from scipy import linalg

import curtensor as ct
from benchmarks import common
from benchmarks.common import CONFIRMING, FAMILIES, METHODS, TUNING, cpu_seconds, error, tail
from curtensor import selection
from curtensor.files import example_matrix
from evidence.claims import Line, at_most, command, fresh_process, shown

SHAPE = (700, 500)
RANKS = (10, 50)
SEEDS = range(3)


@functools.cache
def matrix(name, seed, shape=SHAPE):
    """A matrix of a family, and its singular values."""
    A = FAMILIES[name](*shape, seed)
    A.setflags(write=False)
    return A, np.linalg.svd(A, compute_uv=False)


@functools.cache
def ratios(method, families):
    """Error over the optimum in each case (family, rank, seed)."""
    result = {}
    for name in families:
        for seed in SEEDS:
            A, spectrum = matrix(name, seed)
            for k in RANKS:
                result[name, k, seed] = error(A, METHODS[method](A, k, seed + 100)) / tail(spectrum, k)
    return result


def geometric_mean(values):
    return float(np.exp(np.mean(np.log(list(values)))))


def mean_and_worst(what, method, families, mean, worst):
    """Lines for the geometric mean and for the worst case, which is named."""
    found = ratios(method, families)
    (name, k, seed), most = max(found.items(), key=lambda item: item[1])
    count = f" ({len(families)} families, {len(found)} cases)"
    yield at_most(f"{what}: error / optimum, geometric mean", mean, geometric_mean(found.values()), count)
    yield at_most(f"{what}: error / optimum, worst", worst, most, f" ({name}, k={k}, seed {seed})")


def columns(families=tuple(CONFIRMING)):
    """Columns by the default rule."""
    yield from mean_and_worst("columns", "columns, osinsky", families, 1.22, 2.0)
    ours, pivoted = (ratios(f"columns, {rule}", families) for rule in ("osinsky", "cpqr"))
    gain = geometric_mean(ours.values()) / geometric_mean(pivoted.values())
    note = f" (pivoted QR: mean {geometric_mean(pivoted.values()):.3f}, worst {max(pivoted.values()):.3g})"
    yield at_most("columns: mean over that of pivoted QR of a sketch of the same size", 0.95, gain, note)


@functools.cache
def other_columns(name, k, seed, shape=(1000, 800)):
    """Error over the optimum of columns by pivoted QR of all of A and by Osinsky's rule with exact singular vectors."""
    A, spectrum = matrix(name, seed, shape)
    _, _, Vh = np.linalg.svd(A, full_matrices=False)
    chosen = (
        linalg.qr(A, mode="r", pivoting=True, check_finite=False)[1][:k],
        selection.osinsky(Vh[:k].conj().T, (Vh[k:].conj().T) * spectrum[k:], k, None),
    )
    return [column_error(A, columns) / tail(spectrum, k) for columns in chosen]


def column_error(A, columns):
    """``||A - C C^+ A||_F``."""
    Q = np.linalg.qr(A[:, columns])[0]
    return error(A, (Q, Q.T @ A))


def exchange(families=tuple(CONFIRMING), ranks=(10, 50, 100, 200), shape=(1000, 800)):
    """Columns by exchange steps, beside pivoted QR of all of A and the exact rule; then on the shapes of `columns`."""
    found = {}
    for name in families:
        A, spectrum = matrix(name, 0, shape)
        for k in ranks:
            if k > min(A.shape) // 2 or tail(spectrum, k) < 1e-9 * spectrum[0]:
                continue  # of exact rank, or but for rounding
            best = min(other_columns(name, k, 0, shape))
            for method in ("exchange", "osinsky"):
                columns = ct.select_columns(A, k, method=method, rng=100)
                found[method, name, k] = column_error(A, columns) / tail(spectrum, k) / best
    what = "k=10 to 200: error / the better of pivoted QR of A and the exact rule"
    for method in ("exchange", "osinsky"):
        ours = {case[1:]: value for case, value in found.items() if case[0] == method}
        (name, k), worst = max(ours.items(), key=lambda item: item[1])
        mean, where = geometric_mean(ours.values()), f"{worst:.3f} ({name}, k={k})"
        if method == "exchange":
            yield Line(f"{method}, {what}, mean", "<= 1.00", f"{mean:.4f} ({len(ours)} cases)", round(mean, 2) <= 1)
            yield Line(f"{method}, {what}, worst", "<= 1.03", where, worst <= 1.03)
        else:
            yield shown(f"{method}, {what}, mean and worst", f"{mean:.4f}, {where}")
    yield from mean_and_worst("columns, exchange", "columns, exchange", families, 1.17, 1.48)
    yield from mean_and_worst("CUR k x k, exchange, projection", "CUR, exchange", families, 1.30, 2.0)


def projection(families=tuple(CONFIRMING)):
    """CUR k x k with the projection core."""
    yield from mean_and_worst("CUR k x k, projection", "CUR", families, 1.5, 2.8)


def intersection(families=tuple(CONFIRMING)):
    """CUR with 1.5 k rows and the intersection core."""
    yield from mean_and_worst("CUR 1.5 k rows, intersection", "CUR, intersection, 1.5 k rows", families, 1.5, 2.8)


def tuning():
    """The three claims above on the families that constants may be chosen on."""
    for claim in (columns, projection, intersection):
        for line in claim(tuple(TUNING)):
            yield line._replace(what=f"tuning set, {line.what}")


def families():
    """Each family's geometric means, for columns, projection and intersection; no targets."""
    methods = ("columns, osinsky", "CUR", "CUR, intersection, 1.5 k rows")
    for name in FAMILIES:
        found = [ratios(method, (name,)).values() for method in methods]
        figures = "; ".join(f"{geometric_mean(values):.3f} worst {max(values):.2f}" for values in found)
        yield shown(f"{name}: columns; projection; intersection", figures)


def never_above_norm():
    """No CUR is farther from A than zero is, at small ranks and on matrices without structure."""
    extreme = {
        "identity": np.eye(300),
        "normal entries": np.random.default_rng(0).standard_normal((300, 200)),
        "random signs": np.random.default_rng(1).choice([-1.0, 1.0], (200, 300)),
        "Hadamard-like": np.sin(np.outer(np.arange(1, 301.0), np.arange(1, 301.0) ** 2)),
    }
    cases = {name: matrix(name, 0)[0] for name in FAMILIES} | extreme
    for core in ("CUR", "CUR, intersection, 1.5 k rows", "intersection k x k"):
        method = METHODS.get(core, square_intersection)
        worst, name, k = max(
            (error(A, method(A, k, seed)) / np.linalg.norm(A), name, k)
            for name, A in cases.items()
            for k in (1, 2, 5, 20, 50)
            for seed in SEEDS
        )
        note = f" ({name}, k={k})"
        yield Line(f"{core}: error / ||A||, worst", "<= 1", f"{worst:.6g}{note}", worst <= 1 + 1e-12)


def square_intersection(A, k, seed):
    result = ct.cur_decomposition(A, k, core="intersection", rng=seed)
    return result.left, result.middle, result.right


# name, size, rank, error of the truncated SVD and of the best published CUR (relative), target for the ratio
PUBLISHED = (
    ("Lehmer", 1000, 150, 4.3394e-4, 9.918e-4, 1.80),
    ("Lehmer", 1000, 350, 1.1411e-4, 2.315e-4, 1.80),
    ("Lehmer", 1000, 550, 5.0393e-5, 9.442e-5, 1.80),
    ("low rank + diagonal", 1000, 150, 2.69e-4, 7.18e-4, 1.35),
    ("low rank + diagonal", 1000, 550, 9.81e-7, 5.39e-6, 1.35),
    ("circulant", 1000, 150, 4.4563e-2, 0.1140, 1.70),
    ("grcar", 1000, 300, 0.64366, 0.8828, 1.372),
    ("Kahan", 500, 80, 6.0e-4, 8.1e-4, 1.40),
)


def published():
    """The matrices of Pritchard, Park, Nakatsukasa and Martinsson (2025): k x k, worst of three seeds."""
    for name, n, k, optimum, best, target in PUBLISHED:
        A, spectrum = matrix(name, 0, (n, n))
        size = np.linalg.norm(A)
        ours, more_rows = (
            [error(A, METHODS[method](A, k, seed)) / size for seed in SEEDS]
            for method in ("CUR", "CUR, intersection, 1.5 k rows")
        )
        known = tail(spectrum, k) / size
        note = (
            f" (error {max(ours):.4g}, published {best:.4g}; SVD {known:.5g}, published {optimum:.5g};"
            f" best seed {min(ours) / known:.3f}; 1.5 k rows {max(more_rows) / known:.3f})"
        )
        yield at_most(f"{name} {n}, k={k}: error / optimum", target, max(ours) / known, note)


def exact_rank():
    """A matrix of exact rank comes back to rounding."""
    limits = {"float32": 1e-5, "float64": 1e-13, "complex64": 1e-5, "complex128": 1e-13}
    for kind, limit in limits.items():
        worst = 0.0
        for m, n in ((300, 200), (200, 300), (250, 250)):
            for seed in SEEDS:
                rng = np.random.default_rng(seed)
                left, right = rng.standard_normal((m, 20, 2)), rng.standard_normal((20, n, 2))
                left, right = (X[..., 0] + (1j * X[..., 1] if "complex" in kind else 0) for X in (left, right))
                A = (left @ right).astype(kind)
                for k in (20, 35):
                    for method in (METHODS["CUR"], METHODS["CUR, intersection, 1.5 k rows"], square_intersection):
                        worst = max(worst, error(A, method(A, k, seed)) / np.linalg.norm(A))
        yield at_most(f"exact rank 20, rank 20 and 35 asked, {kind}: relative error", limit, worst)


def conditioning():
    """Products through a result whose columns are nearly dependent."""
    for digits in (12, 14, 16):
        worst = 0.0
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            n = 120
            spectrum = 10.0 ** (-digits * np.arange(n) / (n - 1))
            A = common.prescribed(200, n, spectrum, rng)
            for k in (60, 90, 115):
                optimum = error(A, METHODS["numpy SVD"](A, k, seed))
                for options in ({}, {"core": "intersection", "n_rows": k + k // 2}):
                    result = ct.cur_decomposition(A, k, rng=seed, **options)
                    worst = max(worst, np.linalg.norm(A - result @ np.eye(n)) / optimum)
        yield at_most(f"condition 1e{digits}: error of products / that of NumPy's SVD", 20, worst)


def tolerances():
    """Rtol held in every run, and with few columns."""
    runs, missed, most, where = 0, [], 0.0, ""
    for name in FAMILIES:
        A, spectrum = matrix(name, 0, (300, 200))
        size = np.linalg.norm(A)
        for exponent in range(1, 11):
            for core in ("projection", "intersection"):
                result = ct.cur_decomposition(A, rtol=10.0**-exponent, core=core, rng=exponent)
                measured = np.linalg.norm(A - result.to_array()) / size
                runs += 1
                if measured > 10.0**-exponent:
                    missed.append(f"{name} 1e-{exponent} {core}: {measured:.3g}")
    yield Line(
        "rtol 1e-1 .. 1e-10: runs that missed it", "0", f"{len(missed)} of {runs} {missed[:3] or ''}", not missed
    )
    for name in ("fast decay", "steep decay"):
        for seed in SEEDS:
            A, spectrum = matrix(name, seed)
            tails = np.sqrt(np.cumsum(spectrum[::-1] ** 2)[::-1]) / np.linalg.norm(spectrum)
            for exponent in range(1, 11):
                best = int(np.argmax(np.append(tails, 0) <= 10.0**-exponent))
                rank = ct.cur_decomposition(A, rtol=10.0**-exponent, rng=seed).rank
                if rank / best > most:
                    most, where = rank / best, f" ({name}, 1e-{exponent}: {rank} for {best})"
    yield at_most("rtol: rank over the SVD's on fast decay, worst", 1.25, most, where)


def svd():
    """randomized_svd and its estimate."""
    worst, where, good, low, high, runs = 0.0, "", 0, np.inf, 0.0, 0
    for name in FAMILIES:
        for seed in SEEDS:
            A, spectrum = matrix(name, seed)
            for k in RANKS:
                result = ct.randomized_svd(A, k, rng=seed)
                truth = np.linalg.norm(A - result.to_array())
                if truth / tail(spectrum, k) > worst:
                    worst, where = truth / tail(spectrum, k), f" ({name}, k={k})"
                estimate = result.error_estimate * np.linalg.norm(A) / truth
                low, high = min(low, estimate), max(high, estimate)
                good += 0.85 <= estimate <= 1.5
                runs += 1
    yield at_most("randomized_svd: error / optimum, worst", 1.002, worst, where)
    share = f"{good / runs:.3f} of {runs} runs ({low:.3f} .. {high:.3f})"
    yield Line("randomized_svd: runs with estimate / truth within [0.85, 1.5]", ">= 0.95", share, good >= 0.95 * runs)


def dense_time():
    """The whole CUR of a 4000 x 4000 matrix against scikit-learn's randomized_svd."""
    from sklearn.utils.extmath import randomized_svd

    rng = np.random.default_rng(0)
    A = (rng.standard_normal((4000, 300)) / np.arange(1, 301)) @ rng.standard_normal((300, 4000))
    A += 1e-3 * rng.standard_normal(A.shape)
    ours, more_rows, theirs, product = cpu_seconds(
        [
            lambda: ct.cur_decomposition(A, 50, rng=0),
            lambda: ct.cur_decomposition(A, 50, n_rows=75, core="intersection", rng=0),
            lambda: randomized_svd(A, 50, n_iter=4, random_state=0),
            lambda: A @ A[:, :50],
        ],
        5,
    )
    note = f" ({ours:.3f} s / {theirs:.3f} s; a product with 50 columns {product:.3f} s)"
    yield at_most("4000 x 4000, k=50: CUR over scikit-learn's SVD, CPU time", 0.4, ours / theirs, note)
    note = f" ({more_rows:.3f} s)"
    yield at_most("4000 x 4000, k=50: the same, intersection core, 75 rows", 0.4, more_rows / theirs, note)


def selection_time():
    """The choice of columns of a wide matrix in units of a product with a k-row sketch."""
    A = np.random.default_rng(0).standard_normal((1000, 50000))
    for k, most in ((50, 2.5), (100, 2.5), (300, 3.0)):
        G = np.random.default_rng(1).standard_normal((k, 1000))
        ours, product = cpu_seconds([lambda k=k: ct.select_columns(A, k, rng=0), lambda G=G: G @ A], 5)
        note = f" ({ours:.3f} s / {product:.3f} s)"
        yield at_most(f"1000 x 50000, k={k}: select_columns over one product", most, ours / product, note)


def large_rank_time():
    """A whole CUR with 300 columns and rows in units of a product with so many columns, and by exchange steps."""
    for shape in ((1000, 50000), (4000, 4000), (20000, 2000)):
        A = np.random.default_rng(0).standard_normal(shape)
        G = np.random.default_rng(1).standard_normal((300, shape[0]))
        calls = [lambda A=A: ct.cur_decomposition(A, 300, rng=0), lambda A=A, G=G: G @ A]
        ours, product = cpu_seconds(calls, 3)
        note = f" ({ours:.3f} s / {product:.3f} s)"
        yield at_most(f"{shape[0]} x {shape[1]}, k=300: CUR over one product", 4.5, ours / product, note)


def exchange_time():
    """What exchange steps cost, in units of the default's choice and of a full SVD."""
    for shape, k in (((1500, 1500), 40), ((1500, 1500), 200), ((4000, 4000), 50), ((20000, 2000), 50)):
        A = np.random.default_rng(0).standard_normal(shape) / np.arange(1, shape[1] + 1)
        calls = [lambda A=A, k=k, m=m: ct.select_columns(A, k, method=m, rng=0) for m in ("exchange", "osinsky")]
        exchanged, default = cpu_seconds(calls, 2)
        note = f"{exchanged / default:.2f} ({exchanged:.3f} s / {default:.3f} s)"
        yield shown(f"{shape[0]} x {shape[1]}, k={k}: columns by exchange over those of the default, CPU", note)


SPARSE_PEAK = """
from benchmarks.common import curtensor, peak_gigabytes, random_sparse
A = random_sparse(200000, 50000, 2000000, 0)
before = peak_gigabytes()
curtensor.cur_decomposition(A, 50, rng=0)
print(before, peak_gigabytes())
"""


def sparse_time():
    """The CUR of a large sparse matrix against scikit-learn's randomized_svd, and its memory."""
    from sklearn.utils.extmath import randomized_svd

    A = common.random_sparse(200000, 50000, 2000000, 0)
    ours, theirs = cpu_seconds(
        [lambda: ct.cur_decomposition(A, 50, rng=0), lambda: randomized_svd(A, 50, n_iter=4, random_state=0)], 2
    )
    note = f" ({ours:.2f} s / {theirs:.2f} s)"
    yield at_most("sparse 200000 x 50000, 2e6 entries, k=50: CUR over scikit-learn's SVD", 1.2, ours / theirs, note)
    before, peak = map(float, fresh_process(SPARSE_PEAK).split())
    yield Line("the same: peak memory of the process, GB", "< 1.5", f"{peak:.2f} ({before:.2f} before)", peak < 1.5)


def explained():
    """`CUR.explain`: its time over that of the decomposition, and its shares beside projections by QR."""
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((20000, 60)) @ rng.standard_normal((60, 2000)) + rng.standard_normal((20000, 2000)) / 10
    matrices = {
        "shipped table, k=6": (example_matrix().A, 6),
        "sparse 200000 x 50000, 2e6 entries, k=50": (common.random_sparse(200000, 50000, 2000000, 0), 50),
        "20000 x 2000, k=50": (dense, 50),
        "2000 x 20000, k=50": (np.ascontiguousarray(dense.T), 50),
    }
    for name, (A, k) in matrices.items():
        cur = ct.cur_decomposition(A, k, rng=0)
        calls = [lambda A=A, cur=cur: cur.explain(A), lambda A=A, k=k: ct.cur_decomposition(A, k, rng=0)]
        ours, decomposition = cpu_seconds(calls, 3)
        note = f" ({ours:.4f} s / {decomposition:.4f} s)"
        yield at_most(f"{name}: explain over the decomposition", 1.5, ours / decomposition, note)
        Q = np.linalg.qr(cur.C.toarray() if hasattr(cur.C, "nnz") else cur.C)[0]
        norm = np.linalg.norm(A.data if hasattr(A, "nnz") else A)
        shares = np.cumsum(np.linalg.norm(A.T @ Q, axis=0) ** 2) / norm**2
        yield at_most(f"{name}: shares beside projections", 1e-6, np.abs(cur.explain(A).explained - shares).max())


FIRST_CALL = """
import time, numpy, scipy.linalg, numba
A = numpy.random.default_rng(0).standard_normal((300, 200))
start = time.process_time()
import curtensor
curtensor.cur_decomposition(A, 20, rng=0)
print(time.process_time() - start)
"""


FIRST_LOOK = """
import time, numpy
A = numpy.random.default_rng(0).standard_normal((569, 30))
start = time.perf_counter()
import curtensor
curtensor.cur_decomposition(A, 5, rng=0)
print(time.perf_counter() - start)
"""


def first_call():
    """The first call in a fresh process: with nothing cached, and with kernels cached on disk by an earlier one."""
    with tempfile.TemporaryDirectory() as empty:
        seconds = min(float(fresh_process(FIRST_LOOK, NUMBA_CACHE_DIR=empty)) for _ in range(3))
    yield at_most("first call, 569 x 30, nothing cached: s by the clock above importing numpy", 1.2, seconds)
    fresh_process(FIRST_CALL)
    seconds = min(float(fresh_process(FIRST_CALL)) for _ in range(5))
    yield at_most("first call, warm cache: CPU s above importing scipy.linalg and numba", 1.5, seconds)


IMPORT = """
import resource
import {}
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_utime + usage.ru_stime)
"""


def import_time():
    """`import curtensor` against `import numpy`, each in processes of its own."""
    seconds = np.array(
        [[float(fresh_process(IMPORT.format(name))) for name in ("numpy, curtensor", "numpy")] for _ in range(9)]
    )
    ours, numpy_alone = seconds.min(axis=0)
    note = f" ({ours:.3f} - {numpy_alone:.3f})"
    yield at_most("import curtensor: CPU s above import numpy", 0.08, ours - numpy_alone, note)


# name -> () to the lines of a claim
CLAIMS = {
    "columns": columns,
    "projection": projection,
    "intersection": intersection,
    "exchange": exchange,
    "tuning": tuning,
    "exchange_tuning": lambda: exchange(tuple(TUNING)),
    "norm": never_above_norm,
    "published": published,
    "exact": exact_rank,
    "conditioning": conditioning,
    "rtol": tolerances,
    "svd": svd,
    "dense_time": dense_time,
    "selection_time": selection_time,
    "large_rank_time": large_rank_time,
    "exchange_time": exchange_time,
    "sparse_time": sparse_time,
    "explain": explained,
    "first_call": first_call,
    "import": import_time,
    "families": families,
}


if __name__ == "__main__":
    command(CLAIMS)
