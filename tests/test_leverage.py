import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matrices import DTYPES, FAMILIES, SHAPES, eps, low_rank, normal, sparse_low_rank
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct
from curtensor.leverage import SCORE_METHODS


def by_definition(A, k, axis):
    U, _, Vh = np.linalg.svd(np.asarray(A, np.result_type(A.dtype, float)))
    return (np.abs(U[:, :k]) ** 2).sum(axis=1) if axis == 0 else (np.abs(Vh[:k]) ** 2).sum(axis=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_scores_are_squared_norms_of_singular_vectors(method, shape, axis, dtype, rng):
    A = FAMILIES["exponential"](*shape, dtype, rng)
    scores = ct.leverage_scores(A, 5, axis=axis, method=method, rng=0)
    assert scores.dtype == A.real.dtype
    assert_allclose(scores, by_definition(A, 5, axis), atol=1000 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(300, 80), (80, 300)], ids=["tall", "wide"])
@pytest.mark.parametrize("decay", [2, 30])
def test_sketched_scores_of_both_sides(decay, shape, axis, dtype, rng):
    """With a mild decay by the Gram matrix of the shorter side, with a steep one without it."""
    A = low_rank(*shape, 30, dtype, rng)
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    A = (U * np.where(np.arange(len(s)) < 4, decay ** -np.arange(len(s), dtype=float), 0) @ Vh).astype(dtype)
    scores = ct.leverage_scores(A, 4, axis=axis, method="sketch", rng=0)
    assert scores.dtype == A.real.dtype
    assert_allclose(scores, by_definition(A, 4, axis), atol=100 * decay**3 * eps(dtype))


@pytest.mark.parametrize("method", SCORE_METHODS)
@pytest.mark.parametrize("axis", [0, 1])
def test_sparse_scores_are_dense_scores(axis, method, rng):
    A = sparse_low_rank(60, 50, 5, "float64", rng)
    scores = ct.leverage_scores(A, 5, axis=axis, method=method, rng=0)
    assert_allclose(scores, by_definition(A.toarray(), 5, axis), atol=1e-12)


@pytest.mark.parametrize("method", SCORE_METHODS)
@pytest.mark.parametrize("axis", [0, 1])
def test_by_default_up_to_the_numerical_rank(axis, method, rng):
    A = low_rank(40, 30, 6, "complex128", rng)
    scores = ct.leverage_scores(A, axis=axis, method=method, rng=0)
    assert_allclose(scores, by_definition(A, 6, axis), atol=1e-12)
    assert_allclose(scores, ct.leverage_scores(A, 20, axis=axis, method=method, rng=0), atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_scores_lie_between_0_and_1_and_sum_to_k(method, family, rng):
    A = FAMILIES[family](60, 45, "float64", rng)
    for axis in (0, 1):
        scores = ct.leverage_scores(A, 7, axis=axis, method=method, rng=0)
        assert scores.shape == (A.shape[axis],)
        assert ((scores >= 0) & (scores <= 1)).all()
        assert_allclose(scores.sum(), 7, rtol=1e-12)
        normalized = ct.leverage_scores(A, 7, axis=axis, method=method, normalize=True, rng=0)
        assert_allclose(normalized, scores / 7, rtol=1e-12)


@given(hnp.arrays(float, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e3, 1e3, width=16)))
def test_scores_of_any_small_matrix(A):
    for axis in (0, 1):
        scores = ct.leverage_scores(A, axis=axis)
        assert ((scores >= 0) & (scores <= 1)).all()
        assert_allclose(scores.sum(), np.linalg.matrix_rank(A), atol=1e-10)


def test_a_row_alone_in_its_direction_has_score_1(rng):
    A = np.zeros((8, 5))
    A[3, 2] = 1e-3
    A[5:, :2] = rng.standard_normal((3, 2))
    assert_allclose(ct.leverage_scores(A)[3], 1)
    assert_allclose(ct.leverage_scores(A, axis=1)[2], 1)
    assert_allclose(ct.leverage_scores(A)[[0, 1, 2, 4]], 0, atol=1e-30)


@pytest.mark.parametrize("shape", [(4, 3), (300, 80), (80, 300)])
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_zero_matrix_has_no_leverage(method, shape):
    for axis in (0, 1):
        scores = ct.leverage_scores(np.zeros(shape), 3, axis=axis, method=method, rng=0)
        assert_array_equal(scores, np.zeros(shape[axis]))


@pytest.mark.parametrize("shape", [(300, 80), (80, 300)])
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_scores_sum_to_a_rank_below_k(method, shape, rng):
    for axis in (0, 1):
        scores = ct.leverage_scores(low_rank(*shape, 2, "float64", rng), 4, axis=axis, method=method, rng=0)
        assert_allclose(scores.sum(), 2, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-310])
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_any_scale(method, scale, rng):
    A = low_rank(30, 20, 4, "float64", rng)
    scores = ct.leverage_scores(A * scale, 4, method=method, rng=0)
    assert_allclose(scores, by_definition(A, 4, 0), atol=1e-10)


@pytest.mark.parametrize(("method", "axis", "passes"), [("exact", 0, 1), ("sketch", 0, 8), ("sketch", 1, 7)])
def test_passes_over_the_matrix(method, axis, passes, distant, rng):
    A = distant(normal((90, 80), "float64", rng))
    ct.leverage_scores(A, 5, axis=axis, method=method, rng=0)
    assert A.passes == passes


def test_same_seed_same_result(rng):
    A = rng.standard_normal((50, 40))
    first, second = (ct.leverage_scores(A, 5, method="sketch", rng=7) for _ in range(2))
    assert_allclose(first, second, rtol=1e-11)
