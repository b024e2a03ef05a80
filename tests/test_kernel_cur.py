"""Positive semidefinite matrices and kernels by pivoted Cholesky."""

import numpy as np
import pytest
from matrices import DTYPES, eps, normal
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.spatial.distance import cdist

import curtensor as ct
from curtensor.cholesky import BLOCK, KERNEL_METHODS


def semidefinite(n, rank, dtype, rng):
    B = normal((n, rank), dtype, rng)
    return (B @ B.conj().T).astype(dtype)


def gaussian(width):
    return lambda X, Y: np.exp(-cdist(X, Y, "sqeuclidean") / (2 * width**2))


class Columns:
    """An object that has nothing but a diagonal and columns."""

    def __init__(self, A):
        self.A, self.shape = A, A.shape

    def diagonal(self):
        return self.A.diagonal()

    def columns(self, indices):
        return self.A[:, indices]


def forms(points, width):
    """The same kernel in each of the forms that it may have: the data and the options."""
    A = gaussian(width)(points, points)
    n = len(points)
    return {
        "array": (A, {}),
        "Fortran order": (np.asfortranarray(A), {}),
        "sparse": (sparse.csr_array(A), {}),
        "points": (points, {"kernel": gaussian(width)}),
        "entries": (lambda i, j: A[i, j], {"shape": (n, n)}),
        "object": (Columns(A), {}),
    }


FORMS = list(forms(np.zeros((1, 1)), 1.0))


@pytest.fixture
def points(rng):
    return rng.standard_normal((400, 3))


@pytest.mark.parametrize("method", KERNEL_METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_when_rank_is_reached(dtype, method, rng):
    A = semidefinite(60, 7, dtype, rng)
    result = ct.kernel_cur(A, 20, method=method, rng=0)
    assert result.rank - 7 in ((0, 1) if method == "uniform" else (0,)) and result.dtype == A.dtype
    factor = 1e6 if method == "uniform" else 1e3  # pivots that are not chosen by size spoil digits
    assert_allclose(result.to_array(), A, rtol=0, atol=factor * eps(A.dtype) * np.abs(A).max())
    assert result.trace_error <= factor * eps(A.dtype)


@pytest.mark.parametrize("method", KERNEL_METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_factor_is_the_cholesky_factor_of_the_pivots_columns(dtype, method, rng):
    A = semidefinite(60, 60, dtype, rng)
    indices, F = ct.kernel_cur(A, 30, method=method, rng=1)
    C, W = A[:, indices].astype("c16"), A[np.ix_(indices, indices)].astype("c16")
    wanted = C @ np.linalg.solve(W, C.conj().T)
    assert_allclose(F @ F.conj().T, wanted, rtol=0, atol=1e3 * eps(A.dtype) * np.linalg.cond(W) * np.abs(A).max())
    assert_array_equal(np.triu(F[indices], 1), 0)
    assert len(np.unique(indices)) == 30


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_kernel_has_the_same_pivots(form, points):
    A, options = forms(points, 1.0)[form]
    result, numpys = (ct.kernel_cur(K, 150, rng=0, **own) for K, own in ((A, options), forms(points, 1.0)["array"]))
    assert_array_equal(result.indices, numpys.indices)
    assert_allclose(result.F, numpys.F, rtol=0, atol=1e-9)


@pytest.mark.parametrize("trace_rtol", [0.5, 1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("method", KERNEL_METHODS)
def test_the_trace_left_is_what_was_asked_for_and_no_pivot_more(method, trace_rtol, points):
    A = gaussian(2.0)(points, points)
    for seed in range(3):
        result = ct.kernel_cur(A, trace_rtol=trace_rtol, method=method, rng=seed)
        left = (A.trace() - np.linalg.norm(result.F) ** 2) / A.trace()
        assert left <= trace_rtol
        assert_allclose(result.trace_error, left, rtol=1e-5, atol=1e-12)
        fewer = (A.trace() - np.linalg.norm(result.F[:, :-1]) ** 2) / A.trace()
        assert fewer > trace_rtol * (1 - 1e-5)


@pytest.mark.parametrize("trace_rtol", [0.3, 1e-3])
def test_the_trace_bounds_the_error_in_every_norm(trace_rtol, points):
    A = gaussian(1.0)(points, points)
    result = ct.kernel_cur(A, trace_rtol=trace_rtol, rng=0)
    rest = A - result.to_array()
    assert np.linalg.norm(rest, "nuc") <= (trace_rtol + 1e-12) * A.trace()
    assert np.linalg.norm(rest) <= result.error_estimate * np.linalg.norm(A)
    assert np.linalg.eigvalsh(rest).min() > -1e-12


def test_rejection_leaves_the_distribution_of_pivots_as_it_is():
    """Of three pairs of equal points, the two drawn are of different pairs, each as often as one by one."""
    A = np.kron(np.diag([4.0, 2, 1]), np.ones((2, 2)))
    A[0, 2] = A[2, 0] = A[1, 2] = A[2, 1] = A[0, 3] = A[3, 0] = A[1, 3] = A[3, 1] = 2.0
    counts = {method: np.zeros((6, 6)) for method in ("plain", "rpcholesky")}
    draws = 3000
    for method, count in counts.items():
        for seed in range(draws):
            first, second = ct.kernel_cur(A, 2, method=method, rng=seed).indices
            count[first, second] += 1
    wanted = np.zeros((6, 6))
    diagonal = A.diagonal()
    for first in range(6):
        left = np.maximum(diagonal - A[:, first] ** 2 / A[first, first], 0)
        wanted[first] = draws * diagonal[first] / diagonal.sum() * left / left.sum()
    for count in counts.values():
        assert_array_equal(count[wanted == 0], 0)
        seen = wanted > 0
        square = ((count - wanted)[seen] ** 2 / wanted[seen]).sum()
        assert square < seen.sum() + 5 * np.sqrt(2 * seen.sum())


def test_a_block_leaves_as_much_of_the_trace_as_one_by_one(points):
    A = gaussian(0.7)(points, points)
    left = {m: np.mean([ct.kernel_cur(A, 150, method=m, rng=s).trace_error for s in range(8)]) for m in KERNEL_METHODS}
    assert left["rpcholesky"] < 1.05 * left["plain"]


def test_a_function_is_asked_for_the_columns_the_diagonal_and_little_else(points):
    asked = []

    def entries(i, j):
        asked.append(np.broadcast(i, j).size)
        return np.exp(-np.sum((points[i] - points[j]) ** 2, axis=-1))

    n, k = len(points), 100
    result = ct.kernel_cur(entries, k, shape=(n, n), batch=1000, rng=0)
    assert max(asked) <= 1000
    assert sum(asked) == result.n_entries_read <= n * (k + 1) + 10 * BLOCK**2


def test_features_of_other_points_are_those_of_the_kernel(points):
    kernel = gaussian(1.5)
    result = ct.kernel_cur(points, 60, kernel=kernel, rng=0)
    assert_array_equal(result.nystroem(), result.F)
    chosen = points[result.indices]
    assert_allclose(result.nystroem(kernel(points, chosen)), result.F, rtol=0, atol=1e-9)
    new = points[:50] + 0.1
    features = result.nystroem(kernel(new, chosen))
    wanted = kernel(new, chosen) @ np.linalg.solve(kernel(chosen, chosen), kernel(chosen, new))
    assert_allclose(features @ features.T, wanted, rtol=0, atol=1e-8)


def test_kernels_of_gaussian_processes_give_their_diagonal(points):
    from sklearn.gaussian_process.kernels import RBF

    result = ct.kernel_cur(points, 20, kernel=RBF(2.0), rng=0)
    assert result.n_entries_read < len(points) * 22 + 10 * BLOCK**2
    assert_allclose(result.F, ct.kernel_cur(points, 20, kernel=gaussian(2.0), rng=0).F, atol=1e-10)


def test_points_may_be_texts():
    words = ["aa", "ab", "bb", "bc"] * 3

    def kernel(X, Y):
        return np.array([[len(set(x) & set(y)) / (len(set(x)) * len(set(y))) ** 0.5 for y in Y] for x in X])

    result = ct.kernel_cur(words, 5, kernel=kernel, rng=0)
    assert result.rank <= 4
    assert_allclose(result.to_array(), kernel(words, words), atol=1e-12)


def test_names_of_points_are_those_of_the_frame(points):
    import pandas as pd

    frame = pd.DataFrame(points, index=[f"p{i}" for i in range(len(points))])
    result = ct.kernel_cur(frame, 5, kernel=gaussian(1.0), rng=0)
    assert list(result.row_names) == list(result.col_names) == [f"p{i}" for i in result.indices]


def test_a_zero_matrix_needs_no_pivot():
    for options in ({"rank": 3}, {"trace_rtol": 0.5}):
        result = ct.kernel_cur(np.zeros((5, 5)), **options)
        assert result.rank == 0 and result.trace_error == 0 and result.error_estimate == 0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_any_scale_will_do(scale, points):
    A = gaussian(1.0)(points, points)
    result, plain = (ct.kernel_cur(K, trace_rtol=1e-4, rng=0) for K in (A * scale, A))
    assert_array_equal(result.indices, plain.indices)
    assert_allclose(result.error_estimate, plain.error_estimate, rtol=1e-6)


def test_a_function_of_integers_is_called_with_integers():
    def entry(i, j):
        assert type(i) is type(j) is int
        return float(min(i, j) + 1)

    result = ct.kernel_cur(entry, 10, shape=(30, 30), vectorized=False, rng=0)
    i = np.arange(30)
    whole = ct.kernel_cur(np.minimum(i[:, None], i) + 1.0, 10, rng=0)
    assert_array_equal(result.indices, whole.indices)


def test_what_a_function_raises_comes_through():
    def broken(i, j):
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        ct.kernel_cur(broken, 2, shape=(5, 5))


EYE = np.eye(5)
BAD = {
    "neither": (EYE, {}, "rank or trace_rtol must be given, one of the two, got neither"),
    "both": (EYE, {"rank": 1, "trace_rtol": 0.1}, "rank or trace_rtol must be given, one of the two, got both"),
    "rank": (EYE, {"rank": 6}, "rank must be between 1 and 5, got 6"),
    "tolerance": (EYE, {"trace_rtol": 1.0}, "trace_rtol must be"),
    "not square": (np.ones((5, 4)), {"rank": 1}, r"A must be square, got shape \(5, 4\)"),
    "negative diagonal": (-EYE, {"rank": 1}, r"A must be positive semidefinite, got -1.0 at \(0, 0\)"),
    "complex diagonal": (1j * EYE, {"rank": 1}, r"A must be positive semidefinite, got 1j at \(0, 0\)"),
    "a diagonal of zeros": (np.ones((5, 5)) - EYE, {"rank": 2}, "A must be positive semidefinite, got 1.0 at"),
    "distances": (np.ones((5, 5)) - 0.5 * EYE, {"rank": 2}, "A must be positive semidefinite, got 1.0 at"),
    "indefinite": (np.ones((5, 5)) - 0.9 * EYE + np.diag([9.0, 0, 0, 0, 0]), {"rank": 5}, "A must be positive semid"),
    "not Hermitian": (EYE + np.triu(np.full((5, 5), 0.3), 1), {"rank": 5}, "A must be Hermitian, got"),
    "nan": (np.where(EYE, 1, np.nan), {"rank": 2}, "A must be finite, got NaN or infinity, first at"),
    "shape missing": (lambda i, j: i == j, {"rank": 1}, "shape must be given where A is a function, got None"),
    "shape of three": (lambda i, j: i == j, {"rank": 1, "shape": (3, 3, 3)}, "shape must be of 2 lengths"),
    "shape of an array": (EYE, {"rank": 1, "shape": (5, 5)}, "shape must be left out where A is no function"),
    "batch": (lambda i, j: i == j, {"rank": 1, "shape": (3, 3), "batch": 0}, "batch must be between 1 and"),
    "values": (
        lambda i, j: np.ones(3),
        {"rank": 1, "shape": (5, 5)},
        r"A\(i, j\) must be of the indices' common shape",
    ),
    "kernel": (EYE, {"rank": 1, "kernel": lambda X, Y: np.ones(2)}, r"kernel\(X, Y\) must be of shape \(1, 1\)"),
    "method": (EYE, {"rank": 1, "method": "best"}, "method must be a function or one of rpcholesky, plain, greedy"),
    "choice": (EYE, {"rank": 2, "method": lambda r, k, rng: np.array([0, 0])}, "the choice of method must be distinct"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_the_one_form(case):
    A, options, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        ct.kernel_cur(A, rng=0, **options)


def test_a_function_that_gives_two_answers_for_an_entry_is_noticed(rng):
    def changing(i, j):
        return np.where(i == j, rng.uniform(1, 2, np.broadcast(i, j).shape), 0)

    with pytest.raises(ValueError, match=r"^A must be the same whenever it is read, got"):
        ct.kernel_cur(changing, 5, shape=(50, 50), rng=0)


def test_complex_values_of_a_real_function_are_refused():
    def turning(i, j):
        return np.eye(9)[i, j] * (1 if np.broadcast(i, j).size == 1 else 1 + 0j)

    with pytest.raises(TypeError, match=r"^A\(i, j\) must be of dtype float64 in every call, got dtype complex128"):
        ct.kernel_cur(turning, 3, shape=(9, 9))


def test_callback_rises_to_one(points):
    done = []
    ct.kernel_cur(gaussian(1.0)(points, points), trace_rtol=1e-6, rng=0, callback=done.append)
    assert done[-1] == 1 and all(0 <= step <= 1 for step in done)


def test_features_of_the_estimator_are_those_of_the_decomposition(points):
    import pandas as pd

    frame = pd.DataFrame(points, columns=list("xyz"), index=[f"p{i}" for i in range(len(points))])
    estimator = ct.NystroemCUR(40, gamma=0.5, random_state=0)
    features = estimator.fit_transform(frame)
    result = ct.kernel_cur(points, 40, kernel=gaussian(1.0), rng=0)
    assert_array_equal(estimator.row_indices_, result.indices)
    assert_allclose(features, result.F, rtol=0, atol=1e-9)
    assert_allclose(estimator.transform(frame), features, rtol=0, atol=1e-9)
    assert list(estimator.get_feature_names_out()) == [f"row_p{i}" for i in result.indices]
    assert estimator.trace_error_ == pytest.approx(result.trace_error, rel=1e-6)


def test_chosen_landmarks_leave_less_than_uniform_ones_where_points_are_clustered(rng):
    X = np.concatenate([rng.standard_normal((2000, 2)) * 0.1, rng.standard_normal((40, 2)) + np.array([30.0, 0])])
    left = {m: ct.NystroemCUR(30, gamma=1, method=m, random_state=0).fit(X).trace_error_ for m in KERNEL_METHODS}
    assert left["rpcholesky"] < 0.5 * left["uniform"]


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array])
def test_sparse_samples_have_the_features_of_dense_ones(kind, points):
    X = np.where(points > 0.5, points, 0)
    ours, dense = (ct.NystroemCUR(trace_rtol=0.1, random_state=0).fit(x) for x in (kind(X), X))
    assert_array_equal(ours.row_indices_, dense.row_indices_)
    assert_allclose(ours.transform(kind(X)), dense.transform(X), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be between 1 and 400, got 0"),
        ({"rank": 1, "trace_rtol": 0.1}, "rank or trace_rtol must be given, one of the two, got both"),
        ({"kernel": "precomputed"}, "kernel must be one of samples, not precomputed"),
        ({"method": "leverage"}, "method must be a function or one of rpcholesky"),
    ],
)
def test_bad_parameters_of_the_estimator_are_refused_by_fit(options, message, points):
    with pytest.raises(ValueError, match=f"^{message}"):
        ct.NystroemCUR(**options).fit(points)


def test_a_saved_result_is_what_it_was(points, tmp_path):
    result = ct.kernel_cur(points, 9, kernel=gaussian(1.0), rng=0)
    result.save(tmp_path / "kernel.npz")
    again = ct.KernelCUR.load(tmp_path / "kernel.npz")
    assert_array_equal(again.F, result.F)
    assert_array_equal(again.indices, result.indices)
    assert (again.trace_error, again.n_entries_read) == (result.trace_error, result.n_entries_read)
    assert_allclose(again @ np.ones(400), result.to_array() @ np.ones(400), rtol=1e-12)
