import numpy as np
import pytest
from matrices import (
    DTYPES,
    FAMILIES,
    SHAPES,
    SPARSE_KINDS,
    column_error,
    eps,
    low_rank,
    normal,
    optimum,
    sparse_low_rank,
    with_spectrum,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor.operands.arithmetic import dense
from curtensor.selection import SELECTION_RULES

GREEDY = set(SELECTION_RULES) - {"uniform", "leverage"}


def product(A, result):
    indices, coefficients = result
    return dense(A[:, indices] @ coefficients if result.axis == 1 else coefficients @ A[indices])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_coefficients_are_those_of_least_squares(axis, dtype, rng):
    A = with_spectrum(60, 50, np.geomspace(1, 1e-2, 50), dtype, rng)
    indices, coefficients = ct.interpolative_decomposition(A, 8, axis=axis, rng=0)
    B = A if axis == 1 else A.T
    expected = np.linalg.lstsq(B[:, indices], B)[0]
    expected = expected if axis == 1 else expected.T
    assert coefficients.dtype == dtype
    assert_allclose(coefficients, expected, atol=3000 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rule", sorted(GREEDY))
def test_exact_when_rank_is_reached(rule, axis, shape, dtype, rng):
    A = low_rank(*shape, 6, dtype, rng)
    for rank in (6, 14):
        result = ct.interpolative_decomposition(A, rank, axis=axis, method=rule, rng=0)
        assert result.rank == 6
        assert result.shape == shape
        assert np.linalg.norm(product(A, result) - A) < 450 * eps(dtype) * np.linalg.norm(A)
        assert_allclose(result.to_array(), product(A, result), rtol=0, atol=50 * eps(dtype) * np.abs(A).max())
        assert result.error_estimate < 50 * eps(dtype)


@pytest.mark.parametrize("kind", SPARSE_KINDS)
@pytest.mark.parametrize("axis", [0, 1])
def test_exact_for_sparse_with_a_sparse_skeleton(axis, kind, rng):
    A = sparse_low_rank(60, 50, 5, "float64", rng)
    result = ct.interpolative_decomposition(SPARSE_KINDS[kind](A), 7, axis=axis, rng=0)
    assert sparse.issparse(result.skeleton)
    assert isinstance(result.coefficients, np.ndarray)
    assert_allclose(product(A, result), A.toarray(), atol=1e-12)
    assert_array_equal(result.skeleton.toarray(), np.take(A.toarray(), result.indices, axis))


def test_rpcholesky_is_exact(rng):
    F = normal((40, 5), "complex128", rng)
    A = F @ F.conj().T
    for axis in (0, 1):
        result = ct.interpolative_decomposition(A, 7, axis=axis, method="rpcholesky", rng=0)
        assert_allclose(result.to_array(), A, atol=1e-11)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_chosen_ones_have_the_identity_for_coefficients(family, axis, rng):
    A = FAMILIES[family](60, 45, "complex128", rng)
    indices, coefficients = result = ct.interpolative_decomposition(A, 8, axis=axis, rng=0)
    assert len(set(indices.tolist())) == len(indices)
    assert_array_equal(np.take(coefficients, indices, axis), np.eye(len(indices)))
    assert_array_equal(result.skeleton, np.take(A, indices, axis))


@pytest.mark.parametrize("family", FAMILIES)
def test_error_estimate_is_the_error(family, rng):
    A = FAMILIES[family](80, 60, "float64", rng)
    for axis in (0, 1):
        result = ct.interpolative_decomposition(A, 10, axis=axis, rng=0)
        error = np.linalg.norm(A - result.to_array()) / np.linalg.norm(A)
        assert_allclose(result.error_estimate, error, rtol=1e-4 if error > 1e-6 else 0.7, atol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_error_is_within_twice_the_optimum(family, rng):
    A = FAMILIES[family](100, 80, "float64", rng)
    for seed in range(3):
        result = ct.interpolative_decomposition(A, 12, rng=seed)
        error = np.linalg.norm(A - result.to_array())
        assert error <= 2 * optimum(A, 12) + 1e-13 * np.linalg.norm(A)
        assert_allclose(error, column_error(A, result.indices), rtol=1e-3, atol=1e-13 * np.linalg.norm(A))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rtol", [0.3, 1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_tolerance_is_held_with_few_columns(rtol, axis, rng):
    for family in ("exponential", "cauchy", "coherent"):
        A = FAMILIES[family](110, 90, "float64", rng)
        s = np.linalg.svd(A, compute_uv=False)
        tails = np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0))
        least = int(np.argmax(tails <= rtol * tails[0]))
        for seed in range(3):
            result = ct.interpolative_decomposition(A, rtol=rtol, axis=axis, rng=seed)
            assert np.linalg.norm(A - result.to_array()) <= rtol * np.linalg.norm(A)
            assert result.error_estimate <= rtol
            assert result.rank <= 1.25 * least + 1


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-310])
@pytest.mark.parametrize("axis", [0, 1])
def test_any_scale(axis, scale, rng):
    A = low_rank(30, 20, 4, "float64", rng) * scale
    for options in ({"rank": 6}, {"rtol": 1e-10}):
        result = ct.interpolative_decomposition(A, axis=axis, **options, rng=0)
        assert_allclose(result.to_array() / np.abs(A).max(), A / np.abs(A).max(), atol=1e-9)


@pytest.mark.parametrize("A", [np.ones((1, 9)), np.ones((9, 1)), np.ones((1, 1)), np.ones((7, 5)), np.zeros((4, 3))])
@pytest.mark.parametrize("options", [{"rank": 1}, {"rtol": 1e-3}])
@pytest.mark.parametrize("axis", [0, 1])
def test_thin_constant_and_zero(axis, options, A):
    result = ct.interpolative_decomposition(A, axis=axis, **options, rng=0)
    assert result.rank == np.linalg.matrix_rank(A)
    assert_allclose(result.to_array(), A, atol=1e-14)
    assert result.error_estimate < 1e-14


@pytest.mark.parametrize("axis", [0, 1])
def test_passes_over_the_matrix(axis, distant, rng):
    A = distant(rng.standard_normal((90, 80)))
    ct.interpolative_decomposition(A, 5, axis=axis, rng=0)
    assert A.passes == 2


def test_products_of_the_operator_are_those_of_the_array(rng):
    A = normal((30, 20), "complex128", rng)
    X, Y = normal((20, 3), "complex128", rng), normal((30, 2), "complex128", rng)
    for axis in (0, 1):
        result = ct.interpolative_decomposition(A, 4, axis=axis, rng=0)
        assert_allclose(result.as_linear_operator() @ X, result.to_array() @ X, atol=1e-12)
        assert_allclose(result.as_linear_operator().H @ Y, result.to_array().conj().T @ Y, atol=1e-12)


def test_same_seed_same_result(rng):
    A = rng.standard_normal((50, 40))
    first, second = (ct.interpolative_decomposition(A, 5, rng=7) for _ in range(2))
    assert_array_equal(first.indices, second.indices)
    assert_allclose(first.coefficients, second.coefficients, rtol=0, atol=1e-12)
