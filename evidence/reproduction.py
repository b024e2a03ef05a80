"""Published figures beside ours: ``python -m evidence.reproduction [table ...]``.

Measures the tables named, or all, and writes them into docs/reproduction.md and docs/results/reproduction.csv, where
the others stay as they are. Errors are medians over seeds, the least and the most are in the file; times are CPU
seconds on one thread, the best of several.
"""

import math
import sys
import warnings
from functools import partial

import numpy as np
from scipy import linalg

import curtensor as ct
from benchmarks import bench_tubal, bench_tucker
from benchmarks.common import METHODS, cpu_seconds, error, tail
from benchmarks.tensors import TENSORS
from curtensor.tensors.entries import tucker_entries
from evidence import pages
from evidence.matrices import PUBLISHED, matrix, square_intersection
from evidence.tensors import REAL_RANKS, coulomb_entries, relative

PAGE = pages.ROOT / "docs" / "reproduction.md"
SEEDS = range(5)


# ---- the published algorithms, from their papers


def iterative_cur(A, k, seed, block=50):
    """IterativeCUR (Pritchard and others 2025) with pivoted QR: blocks chosen from what one small sketch has left."""
    rng = np.random.default_rng(seed)
    sketch = rng.standard_normal((math.ceil(1.1 * block), A.shape[0])) @ A
    columns, rows = [], []
    residual, core = sketch, np.empty((0, A.shape[1]))
    while len(columns) < k:
        size = min(block, k - len(columns))
        fresh = linalg.qr(residual, mode="r", pivoting=True)[1][:size].tolist()
        left = A[:, fresh] - A[:, columns] @ core[:, fresh]
        rows += linalg.qr(left.T, mode="r", pivoting=True)[1][:size].tolist()
        columns += fresh
        Q, T = np.linalg.qr(A[np.ix_(rows, columns)])
        core = linalg.solve_triangular(T, Q.T @ A[rows])
        residual = sketch - sketch[:, columns] @ core
    return A[:, columns], core


def published_factors(X, r, fibres_of, rng):
    """Core and factors of Cai, Hamm, Huang and Needell (2021): slices drawn uniformly, U_n cut to rank r, C_n U_n^+."""
    indices = [rng.integers(d, size=min(math.ceil(2 * r * math.log(d)), d)) for d in X.shape]
    factors = []
    for mode, chosen in enumerate(indices):
        C = fibres_of(X, mode, indices)
        u, s, vh = np.linalg.svd(C[chosen], full_matrices=False)
        factors.append(C @ (vh[:r].T / s[:r]) @ u[:, :r].T)
    return X[np.ix_(*indices)], factors


def chidori_fibres(X, mode, indices):
    """The fibres of a mode through the chosen slices of all others."""
    places = [*indices[:mode], np.arange(X.shape[mode]), *indices[mode + 1 :]]
    return ct.unfold(X[np.ix_(*places)], mode)


def published_chidori(X, r, seed):
    return published_factors(X, r, chidori_fibres, np.random.default_rng(seed))


def published_fiber(X, r, seed):
    rng = np.random.default_rng(seed)

    def drawn_fibres(X, mode, indices):
        others = [d for n, d in enumerate(X.shape) if n != mode]
        drawn = rng.integers(math.prod(others), size=math.ceil(4 * r * math.log(math.prod(others))))
        return np.moveaxis(X, mode, 0)[:, *np.unravel_index(drawn, others)]

    return published_factors(X, r, drawn_fibres, rng)


# ---- tables: generators of a case, a figure, and its values, one for each seed

# relative errors of IterativeCUR with pivoted QR, from the results beside the code of Pritchard and others
PIVOTED_QR = {
    ("Lehmer", 150): 9.918e-4,
    ("Lehmer", 350): 2.315e-4,
    ("Lehmer", 550): 9.442e-5,
    ("low rank + diagonal", 150): 3.707e-3,
    ("low rank + diagonal", 550): 1.132e-5,
    ("circulant", 150): 0.1493,
    ("grcar", 300): 0.8828,
}
CURS = {
    "IterativeCUR here": iterative_cur,
    "`intersection`": square_intersection,
    "`projection`": METHODS["CUR"],
    "`intersection`, 1.5 k rows": METHODS["CUR, intersection, 1.5 k rows"],
    "pivoted QR of sketches": METHODS["CUR, pivoted QR of a sketch"],
    "leverage scores": METHODS["naive leverage CUR"],
}


def matrices():
    """Error over the optimum of CUR with k columns and k rows, on the matrices of Pritchard and others."""
    for name, n, k, optimum, best, _ in PUBLISHED:
        A, spectrum = matrix(name, 0, (n, n))
        case = f"{name} {n}, k = {k}"
        yield case, "SVD's error, published", [optimum]
        yield case, "SVD's error", [tail(spectrum, k) / np.linalg.norm(A)]
        yield case, "best published", [best / optimum]
        if (name, k) in PIVOTED_QR:
            yield case, "IterativeCUR published", [PIVOTED_QR[name, k] / optimum]
        for method, cur in CURS.items():
            yield case, method, [error(A, cur(A, k, seed)) / tail(spectrum, k) for seed in SEEDS]


def matrix_times():
    """CPU seconds of the same, and of the full SVD."""
    methods = {name: CURS[name] for name in list(CURS)[:3]} | {"full SVD": METHODS["numpy SVD"]}
    for name, n, k, *_ in PUBLISHED:
        A, _ = matrix(name, 0, (n, n))
        seconds = cpu_seconds([partial(method, A, k, 0) for method in methods.values()], 3)
        for method, time in zip(methods, seconds, strict=True):
            yield f"{name} {n}, k = {k}", method, [time]


def demonstration():
    """The tensor of the authors' own demonstration: 300^3, normal core and factors of rank 5, noise of 1e-3."""
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((300, 5)) for _ in range(3)]
    X = ct.tucker_to_tensor(rng.standard_normal((5, 5, 5)), factors)
    return np.ascontiguousarray(X) + 1e-3 * rng.standard_normal(X.shape)


def tensorly_tucker(X, r, seed):
    from tensorly.decomposition import tucker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tucker(X, [r] * 3)


def pyttb_hosvd(X, r, seed):
    import pyttb

    result = pyttb.hosvd(pyttb.tensor(X), tol=1e-4, ranks=np.array([r] * 3), verbosity=0)
    return result.core.double(), result.factor_matrices


def recompressed(X, r, seed):
    """Tensor CUR, whose ranks are up to 2 r, cut to r."""
    return ct.tensor_cur(X, r, rng=seed).to_tucker((r,) * X.ndim)


DEMONSTRATED = {
    "Fiber CUR as published": (published_fiber, 1.037, 0.0105, SEEDS),
    "Chidori CUR as published": (published_chidori, 1.003, 0.060, SEEDS),
    "`tensor_cur`, `fiber`": (lambda X, r, s: ct.tensor_cur(X, r, method="fiber", rng=s), None, None, SEEDS),
    "`tensor_cur`": (lambda X, r, s: ct.tensor_cur(X, r, rng=s), None, None, SEEDS),
    "`tensor_cur`, cut to r": (recompressed, None, None, SEEDS),
    "`st_hosvd`": (lambda X, r, s: ct.st_hosvd(X, (r, r, r)), 1, 0.232, [0]),
    "pyttb `hosvd`": (pyttb_hosvd, 1, 2.9, [0]),
    "TensorLy `tucker`": (tensorly_tucker, 1, 33.2, [0]),
}


def chidori():
    """The demonstration of Chidori and Fiber CUR: error over that of ST-HOSVD, CPU seconds."""
    X = demonstration()
    best = relative(X, ct.st_hosvd(X, (5, 5, 5)).to_array())
    for name, (method, ratio, seconds, seeds) in DEMONSTRATED.items():
        ours = [relative(X, ct.tucker_to_tensor(*method(X, 5, seed))) / best for seed in seeds]
        if ratio:
            yield name, "error / ST-HOSVD's, before", [ratio]
            yield name, "CPU s, before", [seconds]
        yield name, "error / ST-HOSVD's", ours
        yield name, "CPU s", cpu_seconds([partial(method, X, 5, 0)], 5 if len(seeds) > 1 else 1)


def smooth():
    """Smooth tensors of 200^3: error over that of ST-HOSVD, with uniform slices and with chosen ones."""
    methods = {
        "Chidori CUR as published": published_chidori,
        "`tensor_cur`, uniform": lambda X, r, s: ct.tensor_cur(X, r, selection="uniform", rng=s),
        "`tensor_cur`": lambda X, r, s: ct.tensor_cur(X, r, rng=s),
        "`tensor_cur`, cut to r": recompressed,
    }
    for name in ("Hilbert", "Coulomb", "low rank + noise"):
        X = TENSORS[name]((200, 200, 200), 0)
        for r in (5, 10):
            best = relative(X, ct.st_hosvd(X, (r, r, r)).to_array())
            for method, cur in methods.items():
                ratios = [relative(X, ct.tucker_to_tensor(*cur(X, r, seed))) / best for seed in SEEDS]
                yield f"{name}, r = {r}", method, ratios


def hooi():
    """Error of ST-HOSVD over that of HOOI run until it stands still, on real tensors."""
    for name, choices in REAL_RANKS.items():
        X = TENSORS[name]((1000,) * 4, 0)
        for ranks in choices:
            best = relative(X, ct.hooi(X, ranks, tol=1e-6, max_sweeps=200).to_array())
            case = f"{name}, ranks {', '.join(map(str, ranks))}"
            yield case, "modes in their order", [relative(X, bench_tucker.naive_st_hosvd(X, ranks, 0)()) / best]
            yield case, "`st_hosvd`", [relative(X, ct.st_hosvd(X, ranks).to_array()) / best]


SPEED_AIMS = {"TensorLy": 50, "TensorLy, random start": 7, "pyttb hosvd": 10, "pyttb tucker_als": 1}


def tucker_times():
    """How many times as fast `st_hosvd` is as others, and how many times was aimed at."""
    for name, (shape, rank) in bench_tucker.CASES.items():
        X, ranks = bench_tucker.signal_and_noise(shape, rank)
        for peer, aim in SPEED_AIMS.items():
            calls = [partial(bench_tucker.METHODS[method], X, ranks, 0) for method in ("st_hosvd, auto", peer)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours, theirs = cpu_seconds(calls, 3)
            yield f"{name}: {peer}", "aimed at", [aim]
            yield f"{name}: {peer}", "times as fast, CPU s", [theirs / ours]


def tubal():
    """Indian Pines, tubal rank 20 from 40 slices: error over that of the tubal SVD."""
    X, rank = bench_tubal.TENSORS["Indian Pines"]()
    best = relative(X, bench_tubal.METHODS["tubal SVD"](X, rank, 0))
    for core, known in {"projection": (1.04, 1.9), "truncated": (1.3, 2.0), "intersection": (10, 38)}.items():
        cur = bench_tubal.METHODS[f"tubal CUR, {core}"]
        yield f"`{core}`", "before, least", known[:1]
        yield f"`{core}`", "before, most", known[1:]
        yield f"`{core}`", "here", [relative(X, cur(X, rank, seed)) / best for seed in SEEDS]


def cross():
    """A Coulomb kernel of 10000^3 (8 TB) given as a function, r = 10: relative error on 50000 random entries."""
    shape = (10000,) * 3
    places = [np.random.default_rng(100 + mode).integers(0, 10000, 50000) for mode in range(3)]
    values = coulomb_entries(*places)
    results = [ct.tensor_cur(coulomb_entries, 10, shape=shape, rng=seed) for seed in SEEDS]
    errors = [np.linalg.norm(values - tucker_entries(*r, places)) / np.linalg.norm(values) for r in results]
    yield "cross, 4 sweeps", "error", [3e-3]
    yield "`tensor_cur`", "error", errors
    yield "`tensor_cur`", "entries read", [r.n_entries_read for r in results]
    yield "`tensor_cur`", "converged", [r.converged for r in results]


TABLES = {
    "matrices": matrices,
    "matrix times": matrix_times,
    "chidori": chidori,
    "smooth": smooth,
    "hooi": hooi,
    "tucker times": tucker_times,
    "tubal": tubal,
    "cross": cross,
}


# ---- results and pages


def is_time(row):
    """Whether a figure differs from run to run."""
    return "times" in row["table"] or "CPU s" in row["figure"]


def measured(table):
    """The rows of a table for the file of results."""
    for case, figure, values in TABLES[table]():
        row = {"table": table, "case": case, "figure": figure}
        digits = 3 if is_time(row) else 4
        numbers = {"median": np.median(values), "least": np.min(values), "most": np.max(values)}
        yield row | {name: f"{x:.{digits}g}" for name, x in numbers.items()}


def layout(rows):
    """The table of a page from its rows in the file: a line for each case, a column for each figure."""
    figures, cells = dict.fromkeys(row["figure"] for row in rows), {}
    for row in rows:
        cells.setdefault(row["case"], {})[row["figure"]] = row["median"]
    return [["", *figures], *([case, *(line.get(f, "-") for f in figures)] for case, line in cells.items())]


def main(names):
    for name in names or TABLES:
        fresh = list(measured(name))
        kept = [row for row in pages.read_results("reproduction") if row["table"] != name]
        order = list(TABLES).index
        pages.write_results("reproduction", sorted(kept + fresh, key=lambda row: order(row["table"])))
        pages.rewrite(PAGE, name, layout(fresh))
        print("\n".join(" | ".join(line) for line in layout(fresh)), end="\n\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
