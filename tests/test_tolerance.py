"""What grows to a tolerance: spans, what is taken away again, and what it costs in passes."""

import numpy as np
import pytest
from matrices import DTYPES, FAMILIES, column_error, eps, low_rank, normal, optimum, with_spectrum
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor import operands, tolerance
from curtensor.operands.arithmetic import dense
from curtensor.sketching import sparse_sign, unsketched
from curtensor.tolerance import NOTHING


def sketched_of(A):
    operand, A = operands.find(A)
    return unsketched(operand, A)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csc_array])
def test_a_span_that_is_extended_has_an_orthonormal_basis_of_its_columns_in_their_order(kind, dtype, rng):
    A = with_spectrum(60, 40, np.geomspace(1, max(1e-6, 200 * eps(dtype)), 40), dtype, rng)
    span, slices = NOTHING, kind(A)
    for stop in (7, 12, 40):
        span = span.extended(np.arange(stop), slices[:, len(span.indices) : stop])
        span = span.with_image(A.conj().T @ dense(span.basis[:, span.image.shape[1] if stop > 7 else 0 :]))
    Q = dense(span.basis)
    assert_allclose(Q.conj().T @ Q, np.eye(40), rtol=0, atol=300 * eps(dtype))
    assert_allclose(Q @ np.triu(span.triangle), A, rtol=0, atol=300 * eps(dtype))
    assert_allclose(np.tril(span.triangle, -1), 0, rtol=0, atol=300 * eps(dtype))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_reordered_columns_have_a_basis_in_the_new_order(dtype, rng):
    A = normal((30, 12), dtype, rng)
    span = NOTHING.extended(np.arange(12), A).with_image(A.conj().T @ np.linalg.qr(A)[0])
    order = rng.permutation(12)
    turned, turn = span.reordered(order)
    assert_allclose(turned.basis, span.basis @ turn, rtol=0, atol=1e-13)
    assert_array_equal(turned.slices, A[:, order])
    for k in (1, 5, 12):
        part = turned.first(k)
        assert_allclose(part.basis @ (part.basis.conj().T @ part.slices), A[:, order[:k]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_what_is_taken_away_raises_the_error_least_one_after_the_other(dtype, rng):
    A = with_spectrum(40, 30, 1 / np.arange(1, 31), dtype, rng)
    C = A[:, rng.permutation(30)[:12]]
    Q, T = np.linalg.qr(C)
    middle = Q.conj().T @ A
    left = list(range(12))
    before = np.linalg.norm(A - Q @ middle) ** 2
    removed, spent = [], 0.0
    for _ in range(5):  # the slow twin: each candidate tried
        errors = []
        for i in left:
            B = np.linalg.qr(np.delete(C, [*removed, i], axis=1))[0]
            errors.append(np.linalg.norm(A - B @ (B.conj().T @ A)) ** 2)
        worst = left.pop(int(np.argmin(errors)))
        removed.append(worst)
        spent = min(errors) - before
    order = tolerance.thinned(T, middle, 1.0001 * spent)
    assert_array_equal(order[-5:], removed[::-1])
    assert_array_equal(order[:-5], left)
    assert_array_equal(tolerance.thinned(T, middle, 0.9999 * spent)[-4:], removed[3::-1])
    kept = tolerance.thinned(T, middle, np.inf, kept=3)
    assert_array_equal(kept[:3], [0, 1, 2])
    assert_array_equal(tolerance.thinned(T, middle, 0.0), np.arange(12))


def test_what_is_dropped_is_the_norm_outside_of_the_leading_block(rng):
    X = normal((6, 9), "complex128", rng)
    rows, columns = np.array([0, 2, 6, 6]), np.array([3, 4, 5, 9])
    expected = [np.linalg.norm(X) ** 2 - np.linalg.norm(X[:i, :j]) ** 2 for i, j in zip(rows, columns, strict=True)]
    assert_allclose(tolerance.dropped(X, rows, columns), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(50, 30), (30, 50), (90, 30)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, sparse.csr_array])
def test_pivots_show_the_error_of_every_rank(kind, dtype, shape, rng):
    A = FAMILIES["harmonic"](*shape, dtype, rng)
    span, tails = tolerance.pivoted_columns(sketched_of(kind(A)), 30)
    assert sparse.issparse(span.slices) == sparse.issparse(kind(A))
    assert_array_equal(dense(span.slices), A[:, span.indices])
    Q = dense(span.basis)
    assert_allclose(Q @ span.image.conj().T, A, rtol=0, atol=100 * eps(dtype))
    for k in (0, 1, 12, 29):
        assert_allclose(tails[k], column_error(A, span.indices[:k]), rtol=0, atol=30 * eps(dtype))


def test_pivots_of_a_basis_are_those_of_its_first_columns(rng):
    Q = np.linalg.qr(normal((40, 12), "complex128", rng))[0]
    rows = tolerance.pivoted_rows(Q)
    assert len(set(rows.tolist())) == 12
    assert_array_equal(rows[:5], tolerance.pivoted_rows(Q[:, :5]))


@pytest.mark.parametrize("method", ["osinsky", "iterative"])
@pytest.mark.parametrize("decompose", [ct.cur_decomposition, ct.interpolative_decomposition])
@pytest.mark.parametrize("shape", [(170, 130), (110, 190)])
@pytest.mark.parametrize("rtol", [0.2, 3e-2, 1e-3, 1e-7])
def test_a_tolerance_of_any_rank_is_held(rtol, shape, decompose, method, rng):
    for family in ("slow", "harmonic", "exponential", "lehmer", "kahan", "coherent"):
        A = FAMILIES[family](*shape, "float64", rng)
        result = decompose(A, rtol=rtol, method=method, rng=0)
        assert np.linalg.norm(A - result.to_array()) <= rtol * np.linalg.norm(A)
        assert result.error_estimate <= rtol


@pytest.mark.parametrize("decompose", [ct.cur_decomposition, ct.interpolative_decomposition])
def test_one_less_would_not_do_where_columns_were_taken_away(decompose, rng):
    A = FAMILIES["harmonic"](300, 250, "float64", rng)
    result = decompose(A, rtol=0.15, rng=0)
    assert 0.93 * 0.15 < result.error_estimate <= 0.15
    at_once = decompose(A, result.rank, rng=0)
    assert result.error_estimate <= 1.1 * at_once.error_estimate


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 40), (40, 70), (130, 40)])
@pytest.mark.parametrize("rank", [9, 25, 38, 40])
def test_the_iterative_method_is_near_the_default(rank, shape, dtype, rng):
    A = FAMILIES["harmonic"](*shape, dtype, rng)
    for core in ("projection", "intersection"):
        result = ct.cur_decomposition(A, rank, method="iterative", core=core, n_rows=rank, rng=0)
        assert result.rank == rank
        error = np.linalg.norm(A - result.to_array())
        assert_allclose(result.error_estimate * np.linalg.norm(A), error, rtol=0.5, atol=100 * eps(dtype))
        if core == "projection":
            assert error <= 2.5 * optimum(A, rank) + 100 * eps(dtype)
    result = ct.interpolative_decomposition(A, rank, method="iterative", rng=0)
    assert np.linalg.norm(A - result.to_array()) <= 2 * optimum(A, rank) + 100 * eps(dtype)


def test_blocks_end_where_the_numerical_rank_is_reached(rng):
    A = low_rank(500, 400, 60, "float64", rng)
    for decompose in (ct.cur_decomposition, ct.interpolative_decomposition):
        result = decompose(A, 80, method="iterative", rng=0)
        assert result.rank == 60
        assert np.linalg.norm(A - result.to_array()) < 1e-12 * np.linalg.norm(A)


def test_blocks_read_the_matrix_once_each(distant, rng):
    A = distant(FAMILIES["slow"](600, 560, "float64", rng))
    ct.cur_decomposition(A, 110, method="iterative", rng=0)
    assert A.log.count("sketch_both") == 1
    assert A.passes == 1 + 3


def test_a_large_rank_by_pivots_reads_the_matrix_twice(distant, rng):
    A = distant(FAMILIES["slow"](90, 80, "float64", rng))
    ct.cur_decomposition(A, 75, rng=0)
    ct.interpolative_decomposition(A, 75, rng=0)
    assert [name for name in A.log if name != "take"] == ["sketch_both", "panels"] * 2


def test_the_same_large_rank_whatever_the_matrix_lies_in(rng):
    A = FAMILIES["mostly_zero"](80, 60, "float64", rng)
    first = ct.cur_decomposition(A, 58, rng=0)
    for X in (np.asfortranarray(A), sparse.csr_array(A), sparse.csc_array(A), A[::-1].copy()[::-1]):
        result = ct.cur_decomposition(X, 58, rng=0)
        assert_array_equal(result.col_indices, first.col_indices)
        assert_array_equal(result.row_indices, first.row_indices)
        assert_allclose(dense(result.R), A[result.row_indices], rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1e300, 1e-300])
@pytest.mark.parametrize("method", ["osinsky", "iterative"])
def test_pivots_and_blocks_at_any_scale(method, scale, rng):
    A = normal((40, 30), "complex128", rng) * scale
    for rank in (5, 29):
        result = ct.cur_decomposition(A, rank, method=method, rng=0)
        assert_array_equal(result.C, A[:, result.col_indices])
        assert_array_equal(result.R, A[result.row_indices])
        assert np.linalg.norm((A - result.to_array()) / scale) <= np.linalg.norm(A / scale)


def test_a_sketch_of_a_tolerance_is_not_what_certifies_it(rng):
    """A test matrix that sees nothing of half of the rows cannot make a tolerance be missed."""
    A = normal((120, 90), "float64", rng)
    A[:60] *= 1e-6
    A[60:, :45] = 0

    def blind(n, size, dtype, rng):
        S = dense(sparse_sign(n, size, dtype, rng))
        S[: n // 2] = 0
        return S

    for decompose in (ct.cur_decomposition, ct.interpolative_decomposition):
        result = decompose(A, rtol=1e-8, sketch=blind, rng=0)
        assert np.linalg.norm(A - result.to_array()) <= 1e-8 * np.linalg.norm(A)


def test_a_cross_core_whose_rows_fill_the_space_still_grows(rng):
    A = low_rank(300, 64, 12, "float64", rng, 100.0) + 1e-3 * FAMILIES["slow"](300, 64, "float64", rng)
    for rtol in (1e-2, 1e-3, 2e-4):
        result = ct.cur_decomposition(A, rtol=rtol, core="intersection", rng=0)
        assert np.linalg.norm(A - result.to_array()) <= rtol * np.linalg.norm(A)
