"""Tests of the t-product, the tubal SVD and the tubal CUR."""

import tracemalloc

import hypothesis
import hypothesis.strategies as st
import naive
import numpy as np
import pytest

import curtensor as ct
from curtensor.operands import dense_tensor
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.selection import SELECTION_RULES
from curtensor.tensors import tubal

DTYPES = ("float32", "float64", "complex64", "complex128")
SHAPES = {"tall, odd": (16, 9, 5), "wide, even": (9, 16, 6), "square, two": (12, 12, 2), "square, one": (12, 12, 1)}


def normal(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype)


def of_tubal_rank(rank, shape, dtype, seed):
    d1, d2, d3 = shape
    wide = np.result_type(dtype, float)
    product = ct.t_product(normal((d1, rank, d3), wide, seed), normal((rank, d2, d3), wide, seed + 1))
    return product.astype(dtype)


def smooth(shape, dtype="float64"):
    grids = np.meshgrid(*(np.arange(1.0, d + 1) for d in shape), indexing="ij")
    return (1 / np.sqrt(sum(grid**2 for grid in grids))).astype(dtype)


def relative_error(X, Y):
    return np.linalg.norm(X - Y) / np.linalg.norm(X)


def close(actual, wanted, factor):
    """Whether no entry is off by more than the factor times rounding of the largest."""
    scale = np.abs(wanted).max(initial=0) * max(wanted.shape)
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=factor * np.finfo(actual.dtype).eps * scale)


def identity(k, d3):
    return np.eye(k)[:, :, None] * (np.arange(d3) == 0)


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


# oracle


@hypothesis.given(st.tuples(*[st.integers(1, 6)] * 4), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_t_product_is_that_of_the_block_circulant_matrix(sizes, first, second):
    d1, p, d2, d3 = sizes
    X, Y = normal((d1, p, d3), first, 1), normal((p, d2, d3), second, 2)
    Z = ct.t_product(X, Y)
    wanted = naive.block_circulant(X) @ np.concatenate(np.moveaxis(Y, 2, 0))
    assert Z.dtype == np.result_type(X, Y)
    np.testing.assert_allclose(
        np.concatenate(np.moveaxis(Z, 2, 0)), wanted, rtol=0, atol=200 * np.finfo(Z.dtype).eps * max(sizes)
    )


def test_t_adjoint_is_that_of_the_block_circulant_matrix(shape, dtype):
    X = normal(shape, dtype, 1)
    np.testing.assert_array_equal(naive.block_circulant(ct.t_adjoint(X)), naive.block_circulant(X).conj().T)


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_tubal_svd_is_the_truncation_of_each_spectral_slice(shape, dtype, rank):
    X = normal(shape, dtype, 1)
    result = ct.tubal_svd(X, rank)
    wanted = naive.tubal_truncation(X, rank)
    close(result.to_array(), wanted, 20)
    U, S, Vh = result
    close(ct.t_product(ct.t_product(U, S), Vh), wanted, 20)
    error = relative_error(X.astype(complex), wanted)
    np.testing.assert_allclose(result.error_estimate, error, rtol=0, atol=20 * np.finfo(dtype).eps)


def decaying(shape, dtype, seed):
    return t_of(normal(shape, dtype, seed), 10.0 ** -np.linspace(0, 6, min(shape[:2])))


def t_of(X, s):
    """A tensor with these singular values in each slice of its spectrum."""
    U, _, Vh = ct.tubal_svd(X, len(s))
    return ct.t_product(U * s.astype(U.real.dtype)[:, None], Vh)


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-4])
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_tubal_svd_holds_a_tolerance_by_the_smallest_rank(shape, dtype, rtol, scale):
    X = decaying(shape, dtype, 1) * np.asarray(scale, np.empty(0, dtype).real.dtype)
    result = ct.tubal_svd(X, rtol=rtol)
    assert relative_error(X / scale, result.to_array() / scale) <= rtol
    if result.rank > 1:
        assert ct.tubal_svd(X, result.rank - 1).error_estimate > rtol * (1 - 1e-6)


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-4])
def test_tubal_cur_holds_a_tolerance(shape, dtype, rtol, core):
    X = decaying(shape, dtype, 1)
    result = ct.tubal_cur(X, rtol=rtol, core=core, rng=0)
    assert relative_error(X, result.to_array()) <= rtol
    assert result.error_estimate <= rtol
    np.testing.assert_array_equal(result.C, X[:, result.col_indices])


def test_tubal_cur_needs_few_slices_more_for_a_tolerance_than_the_optimum():
    X = decaying((60, 50, 7), "float64", 1)
    best = ct.tubal_svd(X, rtol=1e-3).rank
    for seed in range(3):
        assert best <= ct.tubal_cur(X, rtol=1e-3, rng=seed).rank <= 1.4 * best


def test_a_tolerance_of_a_zero_tensor_is_held_by_nothing():
    for decompose in (ct.tubal_svd, ct.tubal_cur):
        result = decompose(np.zeros((4, 5, 3)), rtol=0.1)
        assert (result.rank, result.error_estimate) == (0, 0)


def test_numbers_of_slices_alone_have_the_smaller_for_a_rank(shape, dtype):
    X = normal(shape, dtype, 1)
    for core in tubal.TUBAL_CORES:
        alone = ct.tubal_cur(X, n_columns=3, n_rows=5, core=core, rng=0)
        same = ct.tubal_cur(X, 3, n_columns=3, n_rows=5, core=core, rng=0)
        np.testing.assert_array_equal(alone.to_array(), same.to_array())


def test_projection_has_the_middle_of_the_block_circulant_matrices(shape, dtype):
    X = normal(shape, dtype, 1)
    C, U, R, _, _ = ct.tubal_cur(X, 4, rng=0)
    pinv = [np.linalg.pinv(naive.block_circulant(part).astype(np.result_type(dtype, float))) for part in (C, R)]
    wanted = pinv[0] @ naive.block_circulant(X) @ pinv[1]
    condition = np.linalg.norm(pinv[0], 2) * np.linalg.norm(pinv[1], 2) * np.linalg.norm(X) ** 2
    close(naive.block_circulant(U), wanted, 20 * condition)


def test_intersection_has_the_inverse_of_the_block_circulant_matrix(shape, dtype):
    X = smooth(shape, dtype)
    _, U, _, columns, rows = ct.tubal_cur(X, 2, core="intersection", rng=0)
    W = naive.block_circulant(X[rows][:, columns].astype(np.result_type(dtype, float)))
    close(naive.block_circulant(U), np.linalg.inv(W), 20 * np.linalg.cond(W))


def test_truncated_core_has_the_cut_inverse_of_the_block_circulant_matrix(shape, dtype):
    X = smooth(shape, dtype)
    C, U, R, columns, rows = ct.tubal_cur(X, 2, core="truncated", rng=0)
    W = X[rows][:, columns].astype(np.result_type(dtype, float))
    wanted = np.linalg.pinv(naive.block_circulant(naive.tubal_truncation(W, 2)), rcond=1e-9)
    assert C.shape[1] == R.shape[0] == 4
    error = np.linalg.norm(naive.block_circulant(U) - wanted, 2) / np.linalg.norm(wanted, 2)
    assert (
        error <= 100 * np.finfo(dtype).eps * np.linalg.cond(naive.block_circulant(X[rows][:, columns])) or error < 1e-6
    )


@pytest.mark.parametrize("core", ["projection", "intersection"])
@pytest.mark.parametrize("size", [(40, 30), (30, 40)])
def test_with_one_frontal_slice_it_is_the_cur_of_a_matrix(core, size, dtype):
    rng = np.random.default_rng(3)
    A = (normal(size, dtype, 1) * 0.5 ** np.arange(size[1])).astype(dtype)
    sizes = {"n_columns": 7, "n_rows": 10}
    tensor = ct.tubal_cur(A[:, :, None], 5, core=core, rng=rng, **sizes)
    rng = np.random.default_rng(3)
    matrix = ct.cur_decomposition(A, 5, core=core, rng=rng, **sizes)
    np.testing.assert_array_equal(tensor.col_indices, matrix.col_indices)
    np.testing.assert_array_equal(tensor.row_indices, matrix.row_indices)
    close(tensor.to_array()[:, :, 0], matrix.to_array(), 100)


# exactness


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_exact_for_a_tensor_of_the_tubal_rank(core, shape, dtype):
    X = of_tubal_rank(3, shape, dtype, 1)
    result = ct.tubal_cur(X, 3, core=core, rng=0)
    assert result.error_estimate < 1e4 * np.finfo(dtype).eps
    assert relative_error(X, result.to_array()) < 1e4 * np.finfo(dtype).eps


@pytest.mark.parametrize("method", SELECTION_RULES)
def test_exact_by_each_rule(method, shape):
    X = of_tubal_rank(3, shape, "complex128", 1)
    assert relative_error(X, ct.tubal_cur(X, 3, method=method, rng=0).to_array()) < 1e-10


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_exact_where_more_is_asked_for_than_the_tubal_rank(core, shape, dtype):
    X = of_tubal_rank(2, shape, dtype, 1)
    result = ct.tubal_cur(X, 5, core=core, n_columns=6, n_rows=7, rng=0)
    assert relative_error(X, result.to_array()) < 1e4 * np.finfo(dtype).eps
    assert ct.tubal_svd(X, 5).rank == 2


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_exact_where_the_slices_of_the_spectrum_differ_in_rank(core):
    spectrum = np.stack([normal((12, r), "complex128", r) @ normal((r, 11), "complex128", 9 - r) for r in (1, 4, 0, 2)])
    spectrum[0] = spectrum[0].real
    X = np.fft.irfft(np.moveaxis(spectrum, 0, 2), 7)
    result = ct.tubal_cur(X, 4, core=core, rng=0)
    assert relative_error(X, result.to_array()) < 1e-11
    C, U, R, _, _ = result
    assert relative_error(X, ct.t_product(ct.t_product(C, U), R)) < 1e-9


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_nothing_is_taken_from_outside_the_span_of_slices_that_depend_on_each_other(core):
    X = normal((9, 8, 5), "float64", 1)
    X[:, 1] = X[:, 0]
    X[3] = 2 * X[2]

    def first(basis, residual, k, rng):
        return np.arange(k)

    C, U, R, _, _ = result = ct.tubal_cur(X, 4, n_columns=4, n_rows=4, core=core, method=first, rng=0)
    close(ct.t_product(ct.t_product(C, U), R), result.to_array(), 1e4)


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_a_constant_tensor_has_tubal_rank_one(core):
    X = np.full((6, 5, 7), 3.0)
    result = ct.tubal_cur(X, 3, core=core, rng=0)
    np.testing.assert_allclose(result.to_array(), X, rtol=1e-13)
    assert result.C.shape == (6, 1, 7) and result.R.shape == (1, 5, 7)


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_a_zero_tensor_has_no_slices(core, dtype):
    result = ct.tubal_cur(np.zeros((5, 4, 3), dtype), 2, core=core)
    assert result.rank == len(result.col_indices) == len(result.row_indices) == 0
    assert result.error_estimate == 0
    np.testing.assert_array_equal(result.to_array(), np.zeros((5, 4, 3), dtype))
    assert [part.shape for part in result] == [(5, 0, 3), (0, 0, 3), (0, 4, 3), (0,), (0,)]
    factors = ct.tubal_svd(np.zeros((5, 4, 3), dtype), 2)
    assert factors.rank == 0 and factors.error_estimate == 0
    np.testing.assert_array_equal(factors.to_array(), np.zeros((5, 4, 3), dtype))


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 6), (1, 5, 4), (5, 1, 4), (1, 5, 1)])
def test_modes_of_length_one(core, shape, dtype):
    X = normal(shape, dtype, 1)
    assert relative_error(X, ct.tubal_cur(X, 1, core=core, rng=0).to_array()) < 100 * np.finfo(dtype).eps
    assert relative_error(X, ct.tubal_svd(X, 1).to_array()) < 100 * np.finfo(dtype).eps


# invariants


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
@pytest.mark.parametrize("method", SELECTION_RULES)
def test_slices_are_slices_of_the_tensor(core, method, shape):
    dtype = "complex64" if shape[2] % 2 else "float32"
    X = normal(shape, dtype, 1)
    X.flags.writeable = False
    C, U, R, columns, rows = ct.tubal_cur(X, 4, core=core, method=method, n_rows=6, n_columns=5, rng=0)
    np.testing.assert_array_equal(C, X[:, columns])
    np.testing.assert_array_equal(R, X[rows])
    assert len(set(columns)) == 5 and len(set(rows)) == 6
    assert U.shape == (5, 6, shape[2])
    if core != "intersection":  # fewer rows than columns
        assert ct.tubal_cur(X, 4, core=core, method=method, n_rows=4, n_columns=7, rng=0).U.shape == (7, 4, shape[2])
    assert {part.dtype for part in (C, U, R)} == {np.dtype(dtype)}


def test_dtype_and_shape_come_out_as_they_went_in(shape, dtype):
    X = normal(shape, dtype, 1)
    for result in (ct.tubal_cur(X, 3, rng=0), ct.tubal_svd(X, 3)):
        assert result.dtype == result.to_array().dtype == np.dtype(dtype)
        assert result.shape == result.to_array().shape == shape
        assert result.rank == 3


def test_tubal_svd_has_orthonormal_factors_and_a_diagonal_middle(shape, dtype):
    U, S, Vh = ct.tubal_svd(normal(shape, dtype, 1), 4)
    unit, tolerance = identity(4, shape[2]), 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(ct.t_product(ct.t_adjoint(U), U), unit, rtol=0, atol=tolerance)
    np.testing.assert_allclose(ct.t_product(Vh, ct.t_adjoint(Vh)), unit, rtol=0, atol=tolerance)
    assert not S[~np.eye(4, dtype=bool)].any()
    values = np.fft.fft(S[range(4), range(4)])
    assert np.abs(values.imag).max() < tolerance * values.real.max()
    assert (np.diff(values.real, axis=0) < tolerance * values.real.max()).all() and (values.real > 0).all()


def test_the_adjoint_of_a_product_is_the_product_of_the_adjoints(shape, dtype):
    X, Y = normal(shape, dtype, 1), normal((shape[1], 3, shape[2]), dtype, 2)
    left, right = ct.t_adjoint(ct.t_product(X, Y)), ct.t_product(ct.t_adjoint(Y), ct.t_adjoint(X))
    close(left, right, 20)


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_c_u_r_multiply_to_the_approximation(core, shape):
    X = smooth(shape)
    result = ct.tubal_cur(X, 2, core=core, rng=0)
    C, U, R, _, _ = result
    close(ct.t_product(ct.t_product(C, U), R), result.to_array(), 1e6)


def test_held_factors_are_orthonormal(shape, dtype):
    for core in tubal.TUBAL_CORES:
        result = ct.tubal_cur(normal(shape, dtype, 1), 4, core=core, rng=0)
        for basis in (result.left, tubal.adjoint(result.right)):
            gram = tubal.adjoint(basis) @ basis
            np.testing.assert_allclose(
                gram, np.eye(gram.shape[1])[None].repeat(len(gram), 0), atol=50 * np.finfo(dtype).eps
            )


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_same_seed_same_result_in_any_memory_order(core, shape):
    X = normal(shape, "float64", 1)
    gaps = np.zeros((2 * shape[0], shape[1], 3 * shape[2]))
    gaps[::2, :, ::3] = X
    first = ct.tubal_cur(X, 4, core=core, rng=7)
    reverse = X[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    for same in (X.copy(), np.asfortranarray(X), gaps[::2, :, ::3], reverse, X.astype(">f8")):
        again = ct.tubal_cur(same, 4, core=core, rng=7)
        np.testing.assert_array_equal(first.col_indices, again.col_indices)
        np.testing.assert_array_equal(first.row_indices, again.row_indices)
        np.testing.assert_array_equal(first.C, again.C)
        close(again.to_array(), first.to_array(), 1e4)
        close(ct.tubal_svd(same, 4).to_array(), ct.tubal_svd(X, 4).to_array(), 100)


def test_integers_and_bool_are_floats():
    X = np.random.default_rng(1).integers(-9, 9, (7, 6, 5))
    for core in tubal.TUBAL_CORES:
        result, same = ct.tubal_cur(X, 3, core=core, rng=0), ct.tubal_cur(X.astype(float), 3, core=core, rng=0)
        assert result.dtype == result.C.dtype == float
        np.testing.assert_array_equal(result.to_array(), same.to_array())
    np.testing.assert_array_equal(ct.tubal_svd(X, 3).s, ct.tubal_svd(X.astype(float), 3).s)
    assert ct.t_product(X > 0, ct.t_adjoint(X) > 0).dtype == float


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_scale_does_not_matter(core, scale):
    X = of_tubal_rank(3, (9, 8, 5), "float64", 1)
    large, result = ct.tubal_cur(X * scale, 3, core=core, rng=0), ct.tubal_cur(X, 3, core=core, rng=0)
    np.testing.assert_array_equal(large.col_indices, result.col_indices)
    close(large.to_array() / scale, result.to_array(), 1e4)
    close(large.U * scale, result.U, 1e6)
    close(ct.tubal_svd(X * scale, 2).s / scale, ct.tubal_svd(X, 2).s, 100)
    np.testing.assert_allclose(ct.tubal_svd(X * scale, 2).error_estimate, ct.tubal_svd(X, 2).error_estimate, rtol=1e-10)


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_saved_and_loaded_it_is_the_same(core, dtype, tmp_path):
    result = ct.tubal_cur(normal((7, 6, 5), dtype, 1), 3, core=core, rng=0)
    result.save(tmp_path / "result.npz")
    again = ct.TubalCUR.load(tmp_path / "result.npz")
    close(again.to_array(), result.to_array(), 10)
    close(again.U, result.U, 100)
    assert again.error_estimate == result.error_estimate and again.dtype == result.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["result.npz"]


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", C=np.ones(3), error_estimate=0.0)
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "empty.npz").touch()
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=r"^path must be a file written by TubalCUR.save, got"):
            ct.TubalCUR.load(path)
    with pytest.raises(FileNotFoundError):
        ct.TubalCUR.load(tmp_path / "none.npz")


def test_large_tensors_are_transformed_in_panels(monkeypatch):
    X = normal((40, 30, 9), "float64", 1)
    whole = ct.tubal_cur(X, 5, rng=0)
    monkeypatch.setattr(dense_tensor, "PANEL", 7 * X[0].size)
    assert len(list(tubal.spectral_panels(DenseTensor(X)))) == 6
    panels = ct.tubal_cur(X, 5, rng=0)
    np.testing.assert_array_equal(whole.col_indices, panels.col_indices)
    close(panels.to_array(), whole.to_array(), 20)


def test_memory_is_that_of_the_slices_not_of_the_tensor(monkeypatch):
    monkeypatch.setattr(dense_tensor, "PANEL", 2**15)
    X = normal((200, 200, 64), "float64", 1)
    ct.tubal_cur(X[:20, :20, :20], 2, rng=0)
    tracemalloc.start()
    ct.tubal_cur(X, 4, rng=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * X.nbytes


# bound


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_error_estimate_is_the_error(core, dtype):
    for seed, X in enumerate([normal((30, 25, 8), dtype, 1), smooth((30, 25, 7), dtype), smooth((30, 25, 1), dtype)]):
        result = ct.tubal_cur(X, 3, core=core, rng=seed)
        error = relative_error(X, result.to_array())
        if core == "projection":
            np.testing.assert_allclose(result.error_estimate, error, rtol=1e-2 if dtype[-2:] in ("32", "64") else 1e-5)
        else:
            assert error / 2 < result.error_estimate < 2 * error


@pytest.mark.parametrize(("dtype", "size"), [("float64", 1e-10), ("float32", 1e-4)])
def test_error_estimate_of_a_projection_holds_below_the_square_root_of_rounding(dtype, size):
    X = of_tubal_rank(3, (30, 25, 7), "float64", 1)
    noise = normal(X.shape, "float64", 3)
    X = (X + noise * (size * np.linalg.norm(X) / np.linalg.norm(noise))).astype(dtype)
    result = ct.tubal_cur(X, 3, rng=0)
    np.testing.assert_allclose(result.error_estimate, relative_error(X, result.to_array()), rtol=1e-2)


def test_no_middle_is_better_than_the_projection_and_no_cur_than_the_tubal_svd():
    for seed in range(10):
        X = smooth((25, 30, 6)) * normal((25, 1, 1), "float64", seed) + 1e-3 * normal((25, 30, 6), "float64", seed + 10)
        best = ct.tubal_svd(X, 4).error_estimate
        results = [ct.tubal_cur(X, 4, n_columns=4, n_rows=4, core=core, rng=seed) for core in tubal.TUBAL_CORES]
        errors = [relative_error(X, result.to_array()) for result in results]
        assert best <= errors[0] <= min(errors[1:]) * (1 + 1e-12)


@pytest.mark.parametrize("core", tubal.TUBAL_CORES)
def test_never_worse_than_zero(core):
    for seed in range(10):
        noise = normal((40, 40, 8), "float64", seed)
        assert (
            relative_error(noise, ct.tubal_cur(noise, 10, n_columns=10, n_rows=10, core=core, rng=seed).to_array())
            < 1.05
        )


@pytest.mark.parametrize(("core", "factor"), [("projection", 1.1), ("truncated", 1.5)])
def test_error_on_indian_pines_is_near_that_of_the_tubal_svd(core, factor):
    from tensorly import datasets

    X = datasets.load_indian_pines().tensor[::2, ::2, ::2].astype(float)
    best = ct.tubal_svd(X, 15).error_estimate
    for seed in range(3):
        result = ct.tubal_cur(X, 15, n_columns=30, n_rows=30, core=core, rng=seed)
        assert relative_error(X, result.to_array()) <= factor * best


# bad input


def test_a_matrix_or_a_tensor_of_four_modes_is_refused():
    for X in (np.ones((3, 3)), np.ones((2, 2, 2, 2)), 1.0):
        for call in (ct.tubal_cur, ct.tubal_svd):
            with pytest.raises(ValueError, match=r"^X must be of (three|at least 1) modes, got shape"):
                call(X, 1)
        with pytest.raises(ValueError, match=r"^X must be of"):
            ct.t_product(X, X)
        with pytest.raises(ValueError, match=r"^X must be of"):
            ct.t_adjoint(X)


def test_an_empty_tensor_is_refused():
    with pytest.raises(ValueError, match=r"^X must be not empty, got shape \(3, 0, 2\)"):
        ct.tubal_cur(np.ones((3, 0, 2)), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_named(bad, dtype):
    X = normal((4, 5, 6), dtype, 1)
    X[2, 3, 4] = bad
    for call in (
        lambda: ct.tubal_cur(X, 2, rng=0),
        lambda: ct.tubal_svd(X, 2),
        lambda: ct.t_product(X, ct.t_adjoint(np.ones_like(X))),
    ):
        with pytest.raises(ValueError, match=r"^X must be finite, got NaN or infinity, first at \(2, 3, 4\)"):
            call()
    with pytest.raises(ValueError, match=r"^Y must be finite, got NaN or infinity, first at \(2, 3, 4\)"):
        ct.t_product(np.ones((1, 4, 6)), X)


@pytest.mark.parametrize("dtype", ["float16", "object", "U3", "M8[s]"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=r"^X must be an array of integers, bool"):
        ct.tubal_cur(np.ones((2, 2, 2)).astype(dtype), 1)


def test_shapes_which_do_not_fit_are_refused():
    for shape in [(4, 2, 4), (3, 2, 5)]:
        with pytest.raises(ValueError, match=r"^Y must be of shape \(3, d2, 4\), got shape"):
            ct.t_product(np.ones((2, 3, 4)), np.ones(shape))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rank": 0}, ValueError, "rank must be between 1 and 4, got 0"),
        ({"rank": 5}, ValueError, "rank must be between 1 and 4, got 5"),
        ({"rank": 2.0}, TypeError, "rank must be an integer, got 2.0"),
        ({"rank": 2, "n_columns": 1}, ValueError, "n_columns must be between 2 and 5, got 1"),
        ({"rank": 2, "n_rows": 5}, ValueError, "n_rows must be between 2 and 4, got 5"),
        ({"rank": 2, "core": "middle"}, ValueError, "core must be a function or one of projection, truncated, inter"),
        ({"rank": 2, "method": 3}, TypeError, "method must be a function or one of osinsky"),
        ({"rank": 2, "method": "rpcholesky"}, ValueError, "method must be a function or one of osinsky"),
        ({"rank": 2, "rng": "now"}, TypeError, "rng must be None"),
        ({"rank": 2, "core": "intersection", "n_columns": 3}, ValueError, "n_rows must be at least n_columns = 3"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        ct.tubal_cur(np.ones((4, 5, 3)), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "rank or rtol must be given, one of the two, got neither"),
        ({"rank": 2, "rtol": 0.1}, ValueError, "rank or rtol must be given, one of the two, got both"),
        ({"rtol": 1.0}, ValueError, "rtol must be at least 1.4e-14"),
        ({"rtol": "small"}, TypeError, "rtol must be a float"),
    ],
)
@pytest.mark.parametrize("decompose", [ct.tubal_svd, ct.tubal_cur])
def test_a_rank_or_a_tolerance_is_given_and_in_range(decompose, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        decompose(np.ones((4, 5, 3)), **options)


def test_numbers_of_slices_do_not_go_with_a_tolerance():
    with pytest.raises(ValueError, match=r"^n_rows must be None where rtol is given, got 3"):
        ct.tubal_cur(np.ones((4, 5, 3)), rtol=0.1, n_rows=3)


@pytest.mark.parametrize("shape", [(3000, 2, 2), (2, 3000, 2)])
def test_more_slices_than_an_unfolding_has_of_rank_are_not_taken(shape, rng):
    X = rng.standard_normal(shape)
    result = ct.tubal_cur(X, 2, n_columns=shape[1], n_rows=shape[0], rng=0)
    assert max(len(result.col_indices), len(result.row_indices)) <= 4
    assert np.linalg.norm(X - result.to_array()) < 1e-12 * np.linalg.norm(X)
