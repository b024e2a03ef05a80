import itertools
import sys
import tracemalloc

import numpy as np
import pytest
import tensorly
from numpy.testing import assert_allclose, assert_array_equal
from tensorly.datasets import load_indian_pines, load_kinetic

import curtensor as ct
from curtensor.operands import dense_tensor
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.tensors import tucker
from curtensor.tensors.tucker import TUCKER_METHODS

DTYPES = ("f4", "f8", "c8", "c16")


def random_array(rng, shape, dtype="f8"):
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype)


def low_rank(rng, shape, ranks, dtype="f8"):
    factors = [np.linalg.qr(random_array(rng, (d, r), dtype))[0] for d, r in zip(shape, ranks, strict=True)]
    return np.ascontiguousarray(ct.tucker_to_tensor(random_array(rng, ranks, dtype), factors))


def hilbert(*shape):
    indices = np.ogrid[tuple(slice(0, d) for d in shape)]
    return 1 / (1.0 + sum(indices))


def relative_error(X, result):
    X = X.astype(np.result_type(X.dtype, float))
    return np.linalg.norm(X - result.to_array()) / np.linalg.norm(X)


def best_of_each_mode(X, ranks):
    """Lower bound of the error of all tensors of some multilinear ranks: the largest of the modes' tails."""
    tails = [
        np.linalg.norm(np.linalg.svd(ct.unfold(X, mode), compute_uv=False)[rank:]) for mode, rank in enumerate(ranks)
    ]
    return max(tails) / np.linalg.norm(X)


@pytest.fixture
def rng():
    return np.random.default_rng(20260102)


def naive_st_hosvd(X, ranks):
    """Each mode in turn, by ascending length, with an SVD of the unfolding."""
    core, factors = X, {}
    for mode in sorted(range(X.ndim), key=lambda mode: X.shape[mode]):
        factors[mode] = np.linalg.svd(ct.unfold(core, mode), full_matrices=False)[0][:, : ranks[mode]]
        core = ct.mode_dot(core, factors[mode].conj().T, mode)
    return core, [factors[mode] for mode in range(X.ndim)]


# ---- oracle


SHAPES_AND_RANKS = [((7, 9), (3, 4)), ((12, 9, 11), (3, 3, 4)), ((4, 5, 6, 7), (2, 3, 2, 3))]


@pytest.mark.parametrize("method", TUCKER_METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, ranks", SHAPES_AND_RANKS)
def test_st_hosvd_is_its_naive_twin_where_spectra_have_gaps(shape, ranks, dtype, method, rng):
    X = low_rank(rng, shape, ranks, dtype) + 1e-2 * random_array(rng, shape, dtype)
    result = ct.st_hosvd(X, ranks, method=method, rng=0)
    expected = ct.tucker_to_tensor(*naive_st_hosvd(X, ranks))
    assert_allclose(result.to_array(), expected, atol=1e3 * np.finfo(dtype).eps)
    assert result.dtype == np.dtype(dtype)
    assert result.ranks == ranks and result.shape == shape


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", ["auto", "gram", "qr"])
@pytest.mark.parametrize(
    "shape, ranks", [((20, 21, 22), (4, 4, 4)), ((9, 12, 10, 11), (2, 3, 3, 4)), ((3, 40, 40), (2, 5, 5))]
)
def test_st_hosvd_is_within_one_percent_of_hooi_where_spectra_fall_slowly(shape, ranks, method, seed):
    rng = np.random.default_rng(seed)
    decay = 0.8 ** sum(np.ogrid[tuple(slice(0, d) for d in shape)])
    X = ct.tucker_to_tensor(
        rng.standard_normal(shape) * decay, [np.linalg.qr(rng.standard_normal((d, d)))[0] for d in shape]
    )
    result = ct.st_hosvd(X, ranks, method=method)
    assert result.ranks == ranks
    assert relative_error(X, result) < 1.01 * ct.hooi(X, ranks, tol=1e-6, max_sweeps=200).error_estimate
    assert_allclose(result.error_estimate, relative_error(X, result), rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tucker_to_tensor_is_an_einsum(dtype, rng):
    core, shapes = random_array(rng, (2, 3, 4), dtype), [(5, 2), (3, 3), (6, 4)]
    factors = [random_array(rng, shape, dtype) for shape in shapes]
    expected = np.einsum("abc,ia,jb,kc->ijk", core, *factors)
    assert_allclose(ct.tucker_to_tensor(core, factors), expected, atol=1e2 * np.finfo(dtype).eps)
    assert_allclose(tensorly.tucker_to_tensor((core, factors)), expected, atol=1e2 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "load, ranks", [(load_kinetic, (3, 3, 3, 3)), (load_kinetic, (5, 5, 5, 5)), (load_indian_pines, (10, 10, 10))]
)
def test_st_hosvd_is_within_one_percent_of_hooi_on_real_tensors(load, ranks):
    X = np.asarray(load().tensor, dtype=float)
    best = ct.hooi(X, ranks, tol=1e-5)
    assert ct.st_hosvd(X, ranks).error_estimate <= 1.01 * best.error_estimate
    if X.ndim == 4:  # tensorly takes seconds for the other
        theirs = tensorly.decomposition.tucker(X, ranks)
        assert best.error_estimate <= 1.0001 * np.linalg.norm(X - tensorly.tucker_to_tensor(theirs)) / np.linalg.norm(X)


# ---- exactness


@pytest.mark.parametrize("method", TUCKER_METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape, ranks",
    [((40, 6), (3, 3)), ((30, 25, 5), (3, 4, 2)), ((4, 50, 3), (2, 3, 2)), ((1, 9, 30, 2), (1, 2, 2, 2))],
)
def test_exact_when_the_ranks_are_reached(shape, ranks, dtype, method, rng):
    X = low_rank(rng, shape, ranks, dtype)
    result = ct.st_hosvd(X, ranks, method=method, rng=0)
    assert relative_error(X, result) < 4 * max(shape) * np.finfo(dtype).eps
    assert result.error_estimate < 1e-7


@pytest.mark.parametrize("dtype", ["f8", "c16"])
@pytest.mark.parametrize("method", ["auto", "qr"])
def test_exact_to_rounding_where_a_gram_matrix_is_blind(method, dtype, rng):
    ranks = (12, 12, 12)
    X = low_rank(rng, (30, 31, 32), ranks, dtype)
    Q = np.linalg.qr(random_array(rng, (30, 30), dtype))[0]
    X = ct.mode_dot(X, Q * 10.0 ** -np.linspace(0, 25, 30), 0)
    assert relative_error(X, ct.st_hosvd(X, ranks, method=method)) < 1e-14
    assert relative_error(X, ct.st_hosvd(X, ranks, method="gram")) > 1e-12


@pytest.mark.parametrize("method", TUCKER_METHODS)
def test_full_ranks_lose_nothing(method, rng):
    X = random_array(rng, (5, 2, 40, 3))
    for ranks in (X.shape, (5, 2, 35, 3)):
        result = ct.st_hosvd(X, ranks, method=method, rng=0)
        assert relative_error(X, result) < 1e-14
        assert all(
            len(U.T @ U) == r and np.allclose(U.T @ U, np.eye(r)) for U, r in zip(result.factors, ranks, strict=True)
        )


@pytest.mark.parametrize("method", TUCKER_METHODS)
def test_a_zero_tensor_gives_a_zero_core_and_orthonormal_factors(method):
    result = ct.st_hosvd(np.zeros((30, 4, 40)), (2, 2, 2), method=method, rng=0)
    assert result.error_estimate == 0
    assert not result.to_array().any()
    for U in result.factors:
        assert_allclose(U.T @ U, np.eye(2), atol=1e-14)
    assert ct.hooi(np.zeros((3, 4, 5)), (2, 2, 2)).error_estimate == 0
    assert ct.st_hosvd(np.zeros((3, 4, 5)), rtol=1e-3).ranks == (1, 1, 1)


def test_a_constant_tensor_has_ranks_of_one():
    for rtol in (1e-3, 1e-9):
        assert ct.st_hosvd(np.full((5, 6, 7), 3), rtol=rtol).ranks == (1, 1, 1)


@pytest.mark.parametrize("method", TUCKER_METHODS)
@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e160, 1e-160, 1e-307])
def test_the_scale_of_the_tensor_does_not_matter(scale, method, rng):
    X = random_array(rng, (24, 25, 26)) + 3
    result = ct.st_hosvd(X * scale, (3, 3, 3), method=method, rng=0)
    expected = ct.st_hosvd(X, (3, 3, 3), method=method, rng=0)
    assert_allclose(result.to_array() / scale, expected.to_array(), rtol=1e-8)
    assert_allclose(result.error_estimate, expected.error_estimate, rtol=1e-8)
    assert_allclose(
        ct.hooi(X * scale, (3, 3, 3), method=method, rng=0).error_estimate,
        ct.hooi(X, (3, 3, 3)).error_estimate,
        rtol=1e-4,
    )


# ---- invariants


def layouts(X):
    wide = np.full([2 * d for d in X.shape], np.nan, X.dtype)
    gaps = wide[(slice(None, None, 2),) * X.ndim]
    gaps[...] = X
    backwards = (slice(None, None, -1),) * X.ndim
    return [np.asfortranarray(X), gaps, np.ascontiguousarray(X[backwards])[backwards], X.astype(X.dtype.newbyteorder())]


@pytest.mark.parametrize("method", TUCKER_METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_order_does_not_matter_and_nothing_is_written_to(dtype, method, rng):
    X = low_rank(rng, (26, 25, 8), (3, 4, 2), dtype) + 1e-3 * random_array(rng, (26, 25, 8), dtype)
    expected = ct.st_hosvd(X, (3, 4, 2), method=method, rng=0).to_array()
    for Y in layouts(X):
        Y.flags.writeable = False
        result = ct.st_hosvd(Y, (3, 4, 2), method=method, rng=0)
        assert_allclose(result.to_array(), expected, atol=1e-3 if method == "randomized" else 1e3 * np.finfo(dtype).eps)
        assert_array_equal(Y, X)


@pytest.mark.parametrize("dtype", ["i8", "u1", "?"])
def test_integers_are_taken_as_float64(dtype, rng):
    X = rng.integers(0, 2, (6, 7, 8)).astype(dtype)
    result = ct.st_hosvd(X, (3, 3, 3))
    assert_array_equal(result.core, ct.st_hosvd(X.astype(float), (3, 3, 3)).core)
    assert result.dtype == np.dtype(float)


@pytest.mark.parametrize("method", TUCKER_METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_are_orthonormal_and_the_core_is_a_projection(dtype, method, rng):
    X = random_array(rng, (30, 28, 5), dtype)
    core, factors = ct.st_hosvd(X, (3, 4, 2), method=method, rng=0)
    for U in factors:
        assert_allclose(U.conj().T @ U, np.eye(U.shape[1]), atol=1e2 * np.finfo(dtype).eps)
    assert_allclose(core, ct.multi_mode_dot(X, factors, transpose=True), atol=1e3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("method", ["auto", "gram", "qr"])
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_the_error_estimate_is_the_error(dtype, method, rng):
    X = low_rank(rng, (20, 21, 22), (4, 4, 4), dtype) + 1e-3 * random_array(rng, (20, 21, 22), dtype)
    for result in (ct.st_hosvd(X, (4, 4, 4), method=method), ct.hooi(X, (4, 4, 4), method=method)):
        assert_allclose(result.error_estimate, relative_error(X, result), rtol=1e-9)


def test_the_error_estimate_of_the_randomized_method_is_no_less_than_the_error(rng):
    X = hilbert(60, 70, 80) + 1e-3 * random_array(rng, (60, 70, 80))
    result = ct.st_hosvd(X, (5, 5, 5), method="randomized", rng=0)
    assert relative_error(X, result) <= result.error_estimate * (1 + 1e-9)
    assert result.error_estimate <= 1.02 * ct.st_hosvd(X, (5, 5, 5)).error_estimate


FOLDED_SHAPES = [(20, 40, 60), (60, 20, 40), (40, 60, 20)]  # their shortest modes have long unfoldings


@pytest.mark.parametrize("shape", FOLDED_SHAPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_folded_unfoldings_cost_little_error_and_the_estimate_is_the_error(shape, order, dtype, monkeypatch, rng):
    folded, fold = [], tucker.folded_gram
    monkeypatch.setattr(tucker, "folded_gram", lambda X, mode, *rest: folded.append(mode) or fold(X, mode, *rest))
    X = np.array(low_rank(rng, shape, (2, 2, 2), dtype) + 1e-3 * random_array(rng, shape, dtype), order=order)
    result = ct.st_hosvd(X, 2, method="randomized", rng=0)
    assert folded[0] == shape.index(20)
    assert relative_error(X, result) <= 1.01 * ct.st_hosvd(X, 2).error_estimate
    assert_allclose(relative_error(X, result), result.error_estimate, rtol=1e-3)


def test_a_folded_unfolding_that_hides_directions_is_not_believed(monkeypatch, rng):
    X = low_rank(rng, (20, 40, 60), (2, 2, 2)) + 1e-3 * random_array(rng, (20, 40, 60))
    squares, vectors = np.linalg.eigh(ct.mode_gram(X, 0))
    hidden = (vectors[:, :-1] * squares[:-1]) @ vectors[:, :-1].T  # as if columns had cancelled
    monkeypatch.setattr(tucker, "folded_gram", lambda *arguments: hidden)
    assert relative_error(X, ct.st_hosvd(X, 2, method="randomized", rng=0)) <= 1.01 * ct.st_hosvd(X, 2).error_estimate


@pytest.mark.parametrize("shape", [(20, 40, 60), (90, 80, 10)])
@pytest.mark.parametrize("scale", [1e170, 1e-170, 1e110])
def test_the_randomized_method_is_the_same_at_any_scale(scale, shape, rng):
    X = random_array(rng, shape)
    one, other = (ct.st_hosvd(factor * X, 2, method="randomized", rng=0) for factor in (1.0, scale))
    assert_allclose(other.error_estimate, one.error_estimate, rtol=1e-3)


def test_the_shortest_modes_are_cut_first(monkeypatch, rng):
    order, X = [], low_rank(rng, (9, 5, 7), (2, 2, 2))
    product = DenseTensor.mode_product
    monkeypatch.setattr(DenseTensor, "mode_product", lambda X, M, mode: order.append(mode) or product(X, M, mode))
    ct.st_hosvd(X, (2, 2, 2))
    assert order == [1, 2, 0]


def test_same_seed_same_result(rng):
    X = random_array(rng, (50, 50, 10))
    first, second = (ct.st_hosvd(X, (3, 3, 3), method="randomized", rng=5) for _ in range(2))
    assert_array_equal(first.core, second.core)


def test_extra_memory_is_a_tenth_of_the_tensor(rng):
    X = low_rank(rng, (160, 160, 160), (8, 8, 8)) + 1e-3 * random_array(rng, (160, 160, 160))
    ct.st_hosvd(X, (8, 8, 8))
    tracemalloc.start()
    ct.st_hosvd(X, (8, 8, 8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * X.nbytes


def test_two_passes_over_the_tensor(monkeypatch, rng):
    X, passes = random_array(rng, (10, 11, 12)), []

    def counted(name, function):
        def call(Y, *args):
            if Y.X is X:
                passes.append(name)
            return function(Y, *args)

        return call

    for name in ("mode_gram", "mode_product"):
        monkeypatch.setattr(DenseTensor, name, counted(name, getattr(DenseTensor, name)))
    ct.st_hosvd(X, (3, 3, 3))
    assert passes == ["mode_gram", "mode_product"]


def test_save_and_load_keep_everything(tmp_path, rng):
    result = ct.st_hosvd(random_array(rng, (5, 6, 7), "c8"), (2, 3, 4))
    result.save(tmp_path / "result.npz")
    loaded = ct.Tucker.load(tmp_path / "result.npz")
    assert_array_equal(loaded.core, result.core)
    for ours, theirs in zip(loaded.factors, result.factors, strict=True):
        assert_array_equal(ours, theirs)
    assert loaded.error_estimate == result.error_estimate
    assert loaded.nbytes == result.nbytes == result.core.nbytes + sum(U.nbytes for U in result.factors)


def test_tensorly_takes_the_result(rng):
    result = ct.st_hosvd(random_array(rng, (5, 6, 7)), (2, 3, 4))
    assert_allclose(tensorly.tucker_to_tensor(tuple(result)), result.to_array(), atol=1e-14)
    assert_allclose(result.to_tensorly().to_tensor(), result.to_array(), atol=1e-14)


def test_import_of_tucker_does_not_import_tensorly():
    import subprocess

    code = "import curtensor, sys; curtensor.st_hosvd; assert 'tensorly' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- bound


@pytest.mark.parametrize("method", ["auto", "gram", "qr"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(20, 20, 20), (8, 9, 10, 11), (50, 6, 20)])
def test_error_is_at_most_root_n_of_the_best(shape, seed, method):
    rng = np.random.default_rng(seed)
    ranks = tuple(rng.integers(1, d // 2 + 1) for d in shape)
    X = random_array(rng, shape) * np.exp(-hilbert(*shape) * 3)
    error = relative_error(X, ct.st_hosvd(X, ranks, method=method))
    assert (
        best_of_each_mode(X, ranks) * (1 - 1e-12)
        <= error
        <= np.sqrt(len(shape)) * best_of_each_mode(X, ranks) * len(shape)
    )


@pytest.mark.parametrize("rtol", [1e-1, 1e-3, 1e-6, 1e-9, 1e-12, 1.5e-14])
@pytest.mark.parametrize("method", ["auto", "qr"])
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_a_tolerance_is_held(rtol, method, dtype, rng):
    smooth = hilbert(40, 41, 42).astype(dtype)
    noisy = smooth + 1e-5 * random_array(rng, smooth.shape, dtype)
    low = low_rank(rng, (40, 41, 42), (5, 6, 7), dtype)
    for X in (smooth, noisy, low):
        result = ct.st_hosvd(X, rtol=rtol, method=method)
        assert relative_error(X, result) <= rtol
    assert result.ranks <= (5, 6, 7)


@pytest.mark.parametrize("rtol", [1e-1, 1e-3, 1e-5, 8e-6])
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_a_tolerance_is_held_in_single_precision(rtol, dtype, rng):
    for X in (hilbert(40, 41, 42).astype(dtype), low_rank(rng, (40, 41, 42), (5, 6, 7), dtype)):
        assert relative_error(X, ct.st_hosvd(X, rtol=rtol)) <= rtol


def test_the_smallest_rank_that_holds_a_tolerance_is_taken():
    X = hilbert(30, 30, 30)
    result = ct.st_hosvd(X, rtol=1e-4)
    for mode in range(3):
        ranks = [rank - (n == mode) for n, rank in enumerate(result.ranks)]
        assert ct.st_hosvd(X, ranks).error_estimate > 1e-4 / 3


@pytest.mark.parametrize("ranks", [(2, 2, 2), (3, 2, 4), (5, 5, 5)])
def test_hooi_is_no_worse_than_its_start_and_as_good_as_tensorly(ranks, rng):
    X = random_array(rng, (9, 10, 11))
    ours = ct.hooi(X, ranks, tol=1e-8, max_sweeps=300)
    theirs = tensorly.decomposition.tucker(X, ranks, n_iter_max=300, tol=1e-10)
    theirs = np.linalg.norm(X - tensorly.tucker_to_tensor(theirs)) / np.linalg.norm(X)
    assert ours.error_estimate <= ct.st_hosvd(X, ranks).error_estimate
    assert relative_error(X, ours) <= 1.01 * theirs


def test_hooi_of_a_nearly_exact_tensor_keeps_its_digits(rng):
    X = low_rank(rng, (20, 21, 22), (3, 3, 3)) + 1e-10 * random_array(rng, (20, 21, 22))
    result = ct.hooi(X, (3, 3, 3))
    assert_allclose(result.error_estimate, relative_error(X, result), rtol=1e-4)
    assert result.error_estimate <= ct.st_hosvd(X, (3, 3, 3)).error_estimate


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-4])
def test_hooi_holds_a_tolerance_by_the_ranks_of_st_hosvd(rtol, dtype, rng):
    X = low_rank(rng, (14, 15, 16), (14, 14, 14)).astype(dtype)
    for mode in range(3):
        X = ct.mode_dot(X, np.diag(10.0 ** -np.linspace(0, 6, X.shape[mode])).astype(dtype), mode)
    result, start = ct.hooi(X, rtol=rtol), ct.st_hosvd(X, rtol=rtol)
    assert result.ranks == start.ranks
    assert relative_error(X, result) <= rtol
    assert result.error_estimate <= start.error_estimate


def test_hooi_reports_its_progress(rng):
    seen = []
    ct.hooi(random_array(rng, (6, 7, 8)), (2, 2, 2), max_sweeps=10, callback=seen.append)
    assert seen == sorted(seen) and seen[0] > 0 and seen[-1] == 1


# ---- bad input


@pytest.mark.parametrize("method", TUCKER_METHODS)
@pytest.mark.parametrize("dtype, bad", [*itertools.product(DTYPES, [np.nan, np.inf, -np.inf]), ("c16", 1j * np.inf)])
def test_the_first_nonfinite_entry_is_named(dtype, bad, method, rng, monkeypatch):
    monkeypatch.setattr(dense_tensor, "BLOCK_BYTES", 1024)
    X = random_array(rng, (5, 30, 40), dtype)
    X[2, 3, 4] = X[3, 0, 0] = X[2, 4, 0] = bad
    for Y in (X, np.asfortranarray(X), X[::-1][::-1]):
        with pytest.raises(ValueError, match=r"X must be finite, got NaN or infinity, first at \(2, 3, 4\)"):
            ct.st_hosvd(Y, (2, 2, 2), method=method, rng=0)


def test_a_norm_out_of_range_is_an_overflow():
    with pytest.raises(OverflowError, match="norm of X must be representable in float64"):
        ct.st_hosvd(np.full((9, 9, 9), 1e308), (1, 1, 1))


X = np.ones((3, 4, 5))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ct.st_hosvd(X), ValueError, r"ranks or rtol must be given, one of the two, got neither"),
        (lambda: ct.st_hosvd(X, (1, 1, 1), rtol=0.1), ValueError, r"ranks or rtol must be .* got both"),
        (lambda: ct.st_hosvd(X, (1, 1)), ValueError, r"ranks must be one for each of 3 modes, got \(1, 1\)"),
        (lambda: ct.st_hosvd(X, (1, 1, 0)), ValueError, r"ranks\[2\] must be between 1 and 5, got 0"),
        (lambda: ct.st_hosvd(X, (4, 1, 1)), ValueError, r"ranks\[0\] must be between 1 and 3, got 4"),
        (lambda: ct.st_hosvd(X, (2.0, 1, 1)), TypeError, r"ranks\[0\] must be an integer, got 2.0"),
        (lambda: ct.st_hosvd(X, 2.0), TypeError, r"ranks must be an integer or a sequence of 3 integers, got 2.0"),
        (lambda: ct.st_hosvd(X, rtol=1e-15), ValueError, r"rtol must be at least 1.4e-14 \(for float64\) and below 1"),
        (lambda: ct.st_hosvd(X.astype("f4"), rtol=1e-6), ValueError, r"rtol must be at least 7.6e-06 \(for float32\)"),
        (lambda: ct.st_hosvd(X, rtol=1), ValueError, r"rtol must be .* below 1, got 1"),
        (
            lambda: ct.st_hosvd(X, rtol=0.1, method="randomized"),
            ValueError,
            r"method must be one of auto, gram, qr where",
        ),
        (
            lambda: ct.st_hosvd(X, (1, 1, 1), method="svd"),
            ValueError,
            r"method must be a function or one of auto, gram",
        ),
        (lambda: ct.st_hosvd(X, (1, 1, 1), rng="a"), TypeError, r"rng must be None, an int"),
        (lambda: ct.st_hosvd(np.float64(3), ()), ValueError, r"X must be of at least 2 modes, got shape \(\)"),
        (lambda: ct.st_hosvd(np.ones(3), (1,)), ValueError, r"X must be of at least 2 modes, got shape \(3,\)"),
        (lambda: ct.st_hosvd(np.ones((3, 0, 2)), (1, 1, 1)), ValueError, r"X must be not empty, got shape \(3, 0, 2\)"),
        (lambda: ct.st_hosvd(X.astype(object), (1, 1, 1)), TypeError, r"X must be an array of .* got dtype object"),
        (lambda: ct.st_hosvd(X.astype("f2"), (1, 1, 1)), TypeError, r"X must be an array of .* got dtype float16"),
        (lambda: ct.st_hosvd("text", (1, 1)), TypeError, r"X must be an array of .* got dtype <U4"),
        (lambda: ct.hooi(X, (1, 1, 1), tol=0), ValueError, r"tol must be at least 1.4e-14"),
        (lambda: ct.hooi(X), ValueError, r"ranks or rtol must be given, one of the two, got neither"),
        (lambda: ct.hooi(X, 1, rtol=0.1), ValueError, r"ranks or rtol must be given, one of the two, got both"),
        (lambda: ct.hooi(X, rtol=2), ValueError, r"rtol must be at least"),
        (
            lambda: ct.hooi(X, rtol=0.1, method="randomized"),
            ValueError,
            r"method must be one of auto, gram, qr where",
        ),
        (lambda: ct.hooi(X, (1, 1, 1), max_sweeps=0), ValueError, r"max_sweeps must be between 1"),
        (lambda: ct.hooi(X, (1, 1)), ValueError, r"ranks must be one for each of 3 modes"),
        (lambda: ct.tucker_to_tensor(X, [np.ones((2, 3))] * 2), ValueError, r"factors must be one for each of 3 modes"),
        (lambda: ct.tucker_to_tensor(X, [np.ones((2, 3))] * 3), ValueError, r"factors\[1\] must be of shape \(4,\) or"),
        (lambda: ct.tucker_to_tensor(X, 3), TypeError, r"factors must be a sequence of 3 matrices, got 3"),
        (lambda: ct.tucker_to_tensor(np.ones(3), [np.ones(3)]), ValueError, r"factors\[0\] must be of shape \(d, 3\)"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_rank_stands_for_all_modes_cut_to_their_lengths(rng):
    X = rng.standard_normal((9, 3, 8))
    for function in (ct.st_hosvd, ct.hooi):
        assert_array_equal(function(X, 5).core, function(X, (5, 3, 5)).core)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", TUCKER_METHODS)
@pytest.mark.parametrize("shape", [(30000, 2, 2), (2, 30000, 2), (30000, 3)])
def test_ranks_above_the_product_of_the_others_take_no_square_factor(shape, method, dtype, rng):
    X = random_array(rng, shape, dtype)
    tracemalloc.start()
    for result in (ct.st_hosvd(X, 5, method=method, rng=0), ct.hooi(X, 5, method=method, rng=0, max_sweeps=2)):
        assert result.ranks == tuple(min(5, length) for length in shape)
        for U in result.factors:
            assert_allclose(U.conj().T @ U, np.eye(U.shape[1]), atol=1e4 * np.finfo(dtype).eps)
        assert_allclose(result.to_array(), X, atol=1e4 * np.finfo(dtype).eps)
    assert tracemalloc.get_traced_memory()[1] < 1e8  # 30000 x 30000 are 3.6e9 at least
    tracemalloc.stop()
