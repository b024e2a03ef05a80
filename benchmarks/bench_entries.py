"""Matrices known by their entries, and kernels: error against entries read and time, beside other packages' ways."""

import numpy as np

import curtensor
from benchmarks import common
from benchmarks.common import measured


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


def hilbert(n, rng):
    """1 / (1 + i + j)."""
    return lambda i, j: 1.0 / (1 + i + j)


def scattered(n, rng):
    """Blocks of rows and columns here and there, the smaller the larger their entries, and zeros beside them."""
    inside, shares = separated(n, rng), 2.0 ** -np.arange(7)
    of_row, of_column = (rng.choice(7, n, p=shares / shares.sum()) for _ in range(2))
    return lambda i, j: np.where(of_row[i] == of_column[j], 2.0 ** of_row[i] * inside(i, j), 0.0)


def scaled(n, rng):
    """Rows of scales over eight decades."""
    inside, scales = separated(n, rng), 10.0 ** rng.uniform(-4, 4, n)
    return lambda i, j: scales[i] * inside(i, j)


def with_peak(n, rng):
    """A peak of a hundredth of all rows and columns over a background."""
    inside, center = separated(n, rng), rng.uniform(0, n, 2)
    return lambda i, j: inside(i, j) + 30 * np.exp(-((i - center[0]) ** 2 + (j - center[1]) ** 2) / (n / 100) ** 2)


def ridge(n, rng):
    """A ridge along the diagonal: a rank that grows with its sharpness."""
    return lambda i, j: 1 / (1 + ((i - j) * (40 / n)) ** 2)


def textbook_cross(function, m, n, rtol):
    """Adaptive cross approximation that ends when the last term is small (Bebendorf 2000): the factors."""
    U, V, square, row, used = [], [], 0.0, 0, np.zeros(m, dtype=bool)
    while True:
        v = function(np.array([row]), np.arange(n)) - sum(u[row] * w for u, w in zip(U, V, strict=True))
        used[row], column = True, int(np.argmax(np.abs(v)))
        if v[column] == 0:  # the row is exhausted, and with it the textbook
            return np.array(U), np.array(V)
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


def gaussian(X, Y):
    """exp(-|x - y|^2 / 18)."""
    squares = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1) - 2 * X @ Y.T
    return np.exp(np.maximum(squares, 0) / -18)


def plain_cholesky(points, k, rng):
    """Randomly pivoted Cholesky, one pivot at a time (Chen and others 2022, Algorithm 2.1): the factor."""
    n = len(points)
    left, F = np.ones(n), np.zeros((k, n))
    for i in range(k):
        p = rng.choice(n, p=left / left.sum())
        column = gaussian(points[p : p + 1], points)[0] - F[:i, p] @ F[:i]
        F[i] = column / np.sqrt(column[p])
        left = np.maximum(left - F[i] ** 2, 0)
    return F.T


class Counted:
    """A function of index arrays, and how many entries it was asked for."""

    def __init__(self, function):
        self.function, self.n_read = function, 0

    def __call__(self, i, j):
        values = self.function(i, j)
        self.n_read += values.size
        return values


def by_cur(function, n, rtol, seed):
    """Factors whose product is the approximation."""
    result = curtensor.cur_decomposition(function, rtol=rtol, shape=(n, n), rng=seed)
    return result.left @ result.middle, result.right


def by_textbook(function, n, rtol, seed):
    """The same, of what says nothing of its error."""
    U, V = textbook_cross(function, n, n, rtol)
    return U.T, V


FUNCTIONS = {
    "separated": separated,
    "two blocks": blocks,
    "clustered": clustered,
    "Hilbert": hilbert,
    "scattered blocks": scattered,
    "scaled rows": scaled,
    "peak": with_peak,
    "ridge": ridge,
}


class Functions(common.Comparison):
    """1 / distance to a tolerance: the true error over it, and the entries read over all."""

    methods, families = {"cur_decomposition": by_cur, "textbook ACA": by_textbook}, FUNCTIONS
    params = (list(methods), list(families))
    n, rtol = 20_000, 1e-6

    def setup_cache(self):
        families = {
            name: lambda make=make: make(self.n, np.random.default_rng(0)) for name, make in self.families.items()
        }
        return common.outcomes(self.methods, families, self.figures)

    def figures(self, method, function):
        rows = np.random.default_rng(1).integers(0, self.n, 200)

        def call(seed):
            counted = Counted(function)
            return counted, method(counted, self.n, self.rtol, seed)

        def figures(outcome):
            counted, (left, right) = outcome
            error = error_on_rows(function, self.n, rows, left[rows] @ right)
            return [error / self.rtol, counted.n_read / self.n**2]

        return measured(call, figures)

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    track_error.unit = "error / tolerance"

    def track_entries(self, cache, method, family):
        return cache[method, family][2]

    track_entries.unit = "entries read / all"


def by_kernel_cur(points, k, seed):
    """Factors F with F F^T close to the Gaussian kernel."""
    return curtensor.kernel_cur(points, k, kernel=gaussian, rng=seed).F


def greedily(points, k, seed):
    return curtensor.kernel_cur(points, k, kernel=gaussian, method="greedy", rng=seed).F


def by_plain(points, k, seed):
    return plain_cholesky(points, k, np.random.default_rng(seed))


def by_scikit_learn(points, k, seed):
    from sklearn.kernel_approximation import Nystroem

    return Nystroem(gamma=1 / 18, n_components=k, random_state=seed).fit_transform(points)


def by_gpytorch(points, k, seed):
    import gpytorch
    import torch

    kernel = gpytorch.kernels.RBFKernel()
    kernel.lengthscale = 3.0
    with torch.no_grad(), gpytorch.settings.max_preconditioner_size(k):
        return kernel(torch.from_numpy(points)).double().pivoted_cholesky(k, error_tol=0.0).numpy()


def normal_points(n):
    return np.random.default_rng(0).standard_normal((n, 10))


def clustered_points(n):
    """Nine tenths of the points close together, the others far out."""
    points = normal_points(n)
    points[n // 10 :] *= 0.1
    points[: n // 10] *= 3
    return points


class Kernels(common.Comparison):
    """A Gaussian kernel by k columns: the share of its trace that is left."""

    methods = {
        "kernel_cur": by_kernel_cur,
        "greedy": greedily,
        "plain RPCholesky": by_plain,
        "scikit-learn Nystroem": by_scikit_learn,
        "GPyTorch pivoted Cholesky": by_gpytorch,
    }
    families = {"normal points": normal_points, "clustered points": clustered_points}
    params = (list(methods), list(families))
    n, k = 10_000, 300

    def setup_cache(self):
        families = {name: lambda make=make: make(self.n) for name, make in self.families.items()}
        return common.outcomes(self.methods, families, self.figures)

    def figures(self, method, points):
        return measured(lambda seed: method(points, self.k, seed), lambda F: [1 - np.linalg.norm(F) ** 2 / len(F)])

    def track_trace(self, cache, method, family):
        return cache[method, family][1]

    track_trace.unit = "share of the trace left"
