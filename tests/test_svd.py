import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matrices import DTYPES, FAMILIES, SHAPES, eps, low_rank, normal, optimum, sparse_low_rank, with_spectrum
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.linalg import hadamard
from scipy.sparse.linalg import aslinearoperator

import curtensor as ct
from curtensor.sketching import SKETCHES
from curtensor.svd import SVD_METHODS

FULL = (40, 25)


def check_orthonormal(X):
    assert_allclose(X.conj().T @ X, np.eye(X.shape[1]), atol=100 * eps(X.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", SVD_METHODS)
def test_full_rank_is_numpys_svd(method, dtype, rng):
    A = with_spectrum(*FULL, np.geomspace(1, 1e-2, 25), dtype, rng)
    U, s, Vh = ct.randomized_svd(A, 25, method=method, rng=0)
    assert U.dtype == Vh.dtype == dtype
    assert_allclose(s, np.linalg.svd(A, compute_uv=False), atol=100 * eps(dtype))
    assert_allclose(U * s @ Vh, A, atol=100 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("method", SVD_METHODS)
@pytest.mark.parametrize("beyond", [0, 7])
def test_exact_when_rank_is_reached(beyond, method, shape, dtype, rng):
    A = low_rank(*shape, 6, dtype, rng)
    result = ct.randomized_svd(A, 6 + beyond, method=method, rng=0)
    assert result.rank == 6
    assert_allclose(result.to_array(), A, atol=50 * eps(dtype))
    assert result.error_estimate < 50 * eps(dtype)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_exact_for_every_sketch(sketch, rng):
    A = low_rank(60, 50, 6, "complex128", rng)
    for method in SVD_METHODS:
        assert_allclose(ct.randomized_svd(A, 6, method=method, sketch=sketch, rng=0).to_array(), A, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_for_sparse(dtype, rng):
    A = sparse_low_rank(60, 50, 5, dtype, rng)
    result = ct.randomized_svd(A, 8, rng=0)
    assert result.rank == 5
    assert_allclose(result.to_array(), A.toarray(), atol=100 * eps(dtype) * np.abs(A).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", SVD_METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_orthonormal_and_values_descend(family, method, dtype, rng):
    U, s, Vh = ct.randomized_svd(FAMILIES[family](60, 45, dtype, rng), 10, method=method, rng=0)
    check_orthonormal(U)
    check_orthonormal(Vh.conj().T)
    assert (np.diff(s) <= 0).all()
    assert (s >= 0).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("k", [5, 20])
def test_error_is_within_a_five_hundredth_of_the_optimum(family, k, rng):
    A = FAMILIES[family](150, 120, "float64", rng)
    for seed in range(3):
        error = np.linalg.norm(A - ct.randomized_svd(A, k, rng=seed).to_array())
        assert error <= 1.002 * optimum(A, k) + 1e-14 * np.linalg.norm(A)


@pytest.mark.parametrize(("method", "factor"), [("subspace", 1.02), ("single_pass", 4)])
@pytest.mark.parametrize("family", FAMILIES)
def test_other_methods_stay_near_the_optimum(family, method, factor, rng):
    A = FAMILIES[family](150, 120, "float64", rng)
    for seed in range(3):
        error = np.linalg.norm(A - ct.randomized_svd(A, 15, method=method, rng=seed).to_array())
        assert error <= factor * optimum(A, 15) + 1e-13 * np.linalg.norm(A)


@pytest.mark.parametrize("method", SVD_METHODS)
def test_error_estimate_is_near_the_error(method, rng):
    ratios = []
    for family in ("exponential", "harmonic", "slow", "noisy_low_rank", "lehmer", "mixture", "circulant"):
        A = FAMILIES[family](120, 90, "float64", rng)
        for seed in range(10):
            result = ct.randomized_svd(A, 10, method=method, rng=seed)
            ratios.append(result.error_estimate * np.linalg.norm(A) / np.linalg.norm(A - result.to_array()))
    inside = np.mean((np.array(ratios) >= 0.85) & (np.array(ratios) <= 1.5))
    assert inside >= 0.95


@pytest.mark.parametrize("rtol", [0.3, 1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("method", ["block_krylov", "subspace"])
def test_tolerance_is_held_with_the_smallest_rank(method, rtol, rng):
    for family in ("exponential", "harmonic", "cauchy"):
        A = FAMILIES[family](110, 90, "float64", rng)
        s = np.linalg.svd(A, compute_uv=False)
        tails = np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0))
        least = int(np.argmax(tails <= rtol * tails[0]))
        for seed in range(3):
            result = ct.randomized_svd(A, rtol=rtol, method=method, rng=seed)
            assert np.linalg.norm(A - result.to_array()) <= rtol * np.linalg.norm(A)
            assert result.rank <= 1.25 * least + 1
            assert result.error_estimate <= rtol


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_floor_of_noise_below_the_tolerance_does_not_make_the_basis_grow(dtype, distant, rng):
    A = low_rank(300, 200, 6, dtype, rng)
    noise = normal(A.shape, dtype, rng)
    A = A + (0.035 * np.linalg.norm(A) / np.linalg.norm(noise)) * noise
    whole = distant(A.astype(dtype))
    result = ct.randomized_svd(whole, rtol=0.1, rng=0)
    assert result.rank <= 6 and whole.passes == 2 * 4 + 2
    assert np.linalg.norm(A - result.to_array()) <= 0.1 * np.linalg.norm(A)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tolerance_is_held_in_every_dtype(dtype, rng):
    A = FAMILIES["exponential"](80, 60, dtype, rng)
    for rtol in (1e-1, 1e-3, 2e-5 if eps(dtype) > 1e-10 else 1e-12):  # below, one seed in a hundred is refused
        result = ct.randomized_svd(A, rtol=rtol, rng=0)
        assert np.linalg.norm(A - result.to_array()) <= rtol * np.linalg.norm(A)


@pytest.mark.parametrize("method", ["block_krylov", "subspace"])
def test_tolerance_of_a_zero_matrix_takes_nothing(method):
    result = ct.randomized_svd(np.zeros((9, 7)), rtol=1e-3, method=method, rng=0)
    assert result.rank == 0
    assert_array_equal(result.to_array(), np.zeros((9, 7)))


@pytest.mark.parametrize("power_iterations", [0, 1, 3])
def test_no_more_oversampling_is_needed_than_there_are_columns(power_iterations, rng):
    A = rng.standard_normal((6, 5))
    result = ct.randomized_svd(A, 2, oversampling=1000, power_iterations=power_iterations, rng=0)
    assert_allclose(result.s, np.linalg.svd(A, compute_uv=False)[:2])


@pytest.mark.parametrize("power_iterations", [0, 1, 4])
@pytest.mark.parametrize("method", ["block_krylov", "subspace"])
def test_passes_over_the_matrix(method, power_iterations, distant, rng):
    A = distant(with_spectrum(90, 80, np.arange(80, 0, -1), "float64", rng))
    ct.randomized_svd(A, 5, method=method, power_iterations=power_iterations, rng=0)
    assert A.passes == 2 * power_iterations + 2


def test_no_more_passes_are_taken_than_lower_the_error(distant, rng):
    fast = distant(with_spectrum(200, 150, 0.8 ** np.arange(150), "float64", rng))
    flat = distant(rng.standard_normal((200, 150)))
    for A in (fast, flat):
        ct.randomized_svd(A, 20, rng=0)
    assert fast.passes <= 8 < flat.passes <= 2 * 8 + 2


REPEATED = {
    "few of many": np.repeat([1, 0.1], [50, 70]),
    "weak steps": 0.8 ** (np.arange(120) // 25),
    "nearly equal": np.r_[1 + 1e-5 * np.arange(40), np.full(80, 0.5)],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REPEATED)
def test_values_repeated_more_often_than_a_block_has_vectors_are_all_found(name, dtype, rng):
    A = with_spectrum(160, 120, REPEATED[name], dtype, rng)
    for k in (20, 30, 45, 60):
        for X in (A, A.T):
            error = np.linalg.norm(X - ct.randomized_svd(X, k, rng=0).to_array())
            assert error <= 1.002 * optimum(A, k) + 100 * eps(dtype) * np.linalg.norm(A)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_basis_beyond_memory_is_cut_back_and_comes_close(dtype, monkeypatch, rng):
    monkeypatch.setattr("curtensor.svd.BASIS_BYTES", 0)
    for family in ("harmonic", "slow", "exponential", "noisy_low_rank"):
        A = FAMILIES[family](150, 120, dtype, rng)
        for X in (A, A.T):
            result = ct.randomized_svd(X, 15, rng=0)
            error = np.linalg.norm(X - result.to_array())
            assert error <= 1.01 * optimum(A, 15) + 30 * eps(dtype) * np.linalg.norm(A)
            check_orthonormal(result.U)


def test_rows_of_panels_do_not_matter(monkeypatch, rng):
    A = normal((130, 60), "complex128", rng)
    whole = ct.randomized_svd(A, 9, rng=0)
    monkeypatch.setattr("curtensor.svd.PANEL", 7)
    assert_allclose(ct.randomized_svd(A, 9, rng=0).s, whole.s, rtol=1e-12)


def test_single_pass_is_one_pass(distant, rng):
    A = distant(rng.standard_normal((90, 80)))
    ct.randomized_svd(A, 5, method="single_pass", rng=0)
    assert A.log == ["sketch_both"]


def test_passes_with_a_tolerance_go_by_blocks(distant, rng):
    A = distant(low_rank(90, 80, 5, "float64", rng))
    ct.randomized_svd(A, rtol=1e-3, rng=0)
    assert A.passes <= 2 * 3 + 2


@pytest.mark.parametrize("method", SVD_METHODS)
def test_same_seed_same_result(method, rng):
    A = normal((50, 40), "complex128", rng)
    first, second = (ct.randomized_svd(A, 5, method=method, rng=7) for _ in range(2))
    for part, other in zip(first, second, strict=True):
        assert_allclose(part, other, rtol=0, atol=1e-11)
    assert first.error_estimate == pytest.approx(second.error_estimate, rel=1e-11)


def test_the_generator_moves_on(rng):
    A = rng.standard_normal((50, 40))
    shared = np.random.default_rng(0)
    first, second = (ct.randomized_svd(A, 5, power_iterations=0, rng=shared).s for _ in range(2))
    assert not np.allclose(first, second, rtol=1e-6)
    again = ct.randomized_svd(A, 5, power_iterations=0, rng=np.random.SeedSequence(0)).s
    assert_allclose(first, again, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-310, 1e150])
@pytest.mark.parametrize("method", SVD_METHODS)
def test_any_scale(method, scale, rng):
    A = scale * low_rank(40, 30, 5, "float64", rng)
    U, s, Vh = ct.randomized_svd(A, 8, method=method, rng=0)
    largest = np.abs(A).max()
    assert np.isfinite(s).all()
    assert_allclose(U * (s / largest) @ Vh, A / largest, atol=1e-13 + 2e-324 / largest * 100)


@pytest.mark.parametrize("A", [np.ones((1, 9)), np.ones((9, 1)), np.ones((1, 1)), np.ones((7, 5)), np.zeros((4, 3))])
@pytest.mark.parametrize("method", SVD_METHODS)
def test_thin_constant_and_zero(method, A):
    result = ct.randomized_svd(A, 1, method=method, rng=0)
    assert_allclose(result.to_array(), A, atol=1e-14)
    assert result.rank == np.linalg.matrix_rank(A)
    assert result.error_estimate < 1e-14


def test_products_of_the_operator_are_those_of_the_array(rng):
    result = ct.randomized_svd(normal((30, 20), "complex128", rng), 4, rng=0)
    operator, array = result.as_linear_operator(), result.to_array()
    X, Y = normal((20, 3), "complex128", rng), normal((30, 2), "complex128", rng)
    assert operator.shape == result.shape == array.shape
    assert operator.dtype == result.dtype
    assert_allclose(operator @ X, array @ X, atol=1e-13)
    assert_allclose(operator.H @ Y, array.conj().T @ Y, atol=1e-13)
    assert_allclose(operator @ X[:, 0], array @ X[:, 0], atol=1e-13)


def test_an_unreachable_tolerance_is_refused(rng):
    A = rng.standard_normal((40, 30))
    with pytest.raises(ValueError, match="rtol must be at least"):
        ct.randomized_svd(A, rtol=1e-14, rng=0)


def test_tolerance_of_an_operator_is_relative_to_the_norm_its_products_show(rng):
    A = FAMILIES["exponential"](80, 60, "complex128", rng)
    for rtol in (1e-2, 1e-8):
        result = ct.randomized_svd(aslinearoperator(A), rtol=rtol, rng=0)
        assert np.linalg.norm(A - result.to_array()) <= 2 * rtol * np.linalg.norm(A)


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.complex128, np.int8, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=10),
        elements=st.sampled_from([0, 1]),
    ),
    st.sampled_from(sorted(SVD_METHODS)),
)
def test_any_small_matrix_of_zeros_and_ones_comes_back(A, method):
    result = ct.randomized_svd(A, min(A.shape), method=method, rng=0)
    assert result.rank == np.linalg.matrix_rank(A.astype(np.result_type(A, np.float64)))
    assert_allclose(result.to_array(), A, atol=1000 * eps(result.dtype))


def test_sparse_and_dense_have_the_same_values(rng):
    A = sparse.random_array((80, 60), density=0.1, rng=rng)
    assert_allclose(ct.randomized_svd(A, 10, rng=0).s, ct.randomized_svd(A.toarray(), 10, rng=0).s, rtol=1e-10)


FEW_VALUES = {
    "two values": lambda rng: with_spectrum(250, 100, np.repeat([1, 0.1], 50), "float64", rng),
    "small second value": lambda rng: with_spectrum(250, 100, np.repeat([1, 1e-6], 50), "float64", rng),
    "orthonormal columns": lambda rng: with_spectrum(250, 100, np.ones(100), "float64", rng),
    "one-hot": lambda rng: np.eye(100)[rng.integers(0, 100, 2000)],
    "stacked Hadamard": lambda rng: np.vstack([hadamard(64).astype(float)] * 4),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["block_krylov", "subspace"])
@pytest.mark.parametrize("name", FEW_VALUES)
def test_a_tolerance_is_not_refused_where_the_powers_run_dry(name, method, dtype, rng):
    A = FEW_VALUES[name](rng).astype(dtype)
    for X in (A, sparse.csr_array(A), A.T):
        dense = X.toarray() if sparse.issparse(X) else X
        for rtol in (0.3, 1e-2, 1e-4, 400 * eps(dtype)):
            result = ct.randomized_svd(X, rtol=rtol, method=method, rng=0)
            assert np.linalg.norm(dense - result.to_array()) <= (rtol + 20 * eps(dtype)) * np.linalg.norm(dense)
