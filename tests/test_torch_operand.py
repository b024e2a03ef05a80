import numpy as np
import pytest
import torch
from matrices import DTYPES, SHAPES, eps, low_rank, normal
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct
from curtensor import operands
from curtensor.operands import ndarray, torch_tensor
from curtensor.selection import SELECTION_RULES
from curtensor.sketching import SKETCHES

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
VIEWS = {
    "as it is": lambda A: A,
    "with gradients": lambda A: A.clone().requires_grad_(),
    "a parameter": torch.nn.Parameter,
    "transposed": lambda A: A.T.contiguous().T,
    "strided": lambda A: torch.stack([A, A], dim=2)[:, :, 0],
    "conjugate view": lambda A: A.conj_physical().conj(),
}


@pytest.mark.parametrize("panel_bytes", [2**24, 500])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
def test_every_operation_equals_numpys(view, dtype, shape, panel_bytes, rng, monkeypatch):
    monkeypatch.setattr(torch_tensor, "PANEL_BYTES", panel_bytes)
    array = normal(shape, dtype, rng)
    operand, A = operands.find(VIEWS[view](torch.from_numpy(array)))
    assert operand is torch_tensor
    assert operand.dtype(A) == dtype
    X, Y = (SKETCHES["sparse_sign"](n, 7, dtype, rng) for n in (shape[1], shape[0]))
    tolerance = {"atol": 100 * eps(dtype), "rtol": 1e-5 if eps(dtype) > 1e-10 else 1e-12}
    for thin in (X, X.toarray(), normal((shape[1], 3), dtype, rng)):
        assert_allclose(operand.matmat(A, thin), array @ thin, **tolerance)
    for thin in (Y, Y.toarray(), normal((shape[0], 3), dtype, rng)):
        assert_allclose(operand.rmatmat(A, thin), array.conj().T @ thin, **tolerance)
    for ours, numpys in zip(operand.sketch_both(A, Y, X), ndarray.sketch_both(array, Y, X), strict=True):
        assert_allclose(ours, numpys, **tolerance)
    for axis in (0, 1):
        part = operand.take(A, np.array([5, 2]), axis)
        assert_array_equal(part, np.take(array, [5, 2], axis=axis))
        assert part.dtype == dtype
    assert_array_equal(np.concatenate([panel for _, panel in operand.panels(A)]), array)
    assert [rows.start for rows, _ in operand.panels(A)] == sorted(rows.start for rows, _ in operand.panels(A))
    assert operand.first_nonfinite(A) is None
    assert_allclose(operand.largest(A), ndarray.largest(array))


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_takes_a_tensor_and_gives_numpys_result(dtype, requires_grad, rng):
    array = low_rank(60, 40, 30, dtype, rng)
    A = torch.from_numpy(array.copy()).requires_grad_(requires_grad)
    tolerance = {"rtol": 0, "atol": 3000 * eps(dtype)}
    assert_array_equal(ct.select_columns(A, 6, rng=0), ct.select_columns(array, 6, rng=0))
    assert_array_equal(ct.select_rows(A, 6, rng=0), ct.select_rows(array, 6, rng=0))
    for options in ({"rank": 8}, {"rtol": 0.3}, {"rank": 8, "core": "intersection"}):
        ours, numpys = ct.cur_decomposition(A, rng=0, **options), ct.cur_decomposition(array, rng=0, **options)
        for part in ours:
            assert type(part) is np.ndarray
        assert ours.C.dtype == ours.R.dtype == dtype
        assert_array_equal(ours.C, array[:, ours.col_indices])
        assert_array_equal(ours.R, array[ours.row_indices])
        assert_array_equal(ours.col_indices, numpys.col_indices)
        assert_allclose(ours.to_array(), numpys.to_array(), **tolerance)
    for axis in (0, 1):
        ours, numpys = (ct.interpolative_decomposition(B, 8, axis=axis, rng=0) for B in (A, array))
        assert_allclose(ours.coefficients, numpys.coefficients, **tolerance)
    for method in ("block_krylov", "subspace", "single_pass"):
        ours, numpys = (ct.randomized_svd(B, 8, method=method, rng=0) for B in (A, array))
        assert type(ours.U) is np.ndarray
        assert_allclose(ours.to_array(), numpys.to_array(), **tolerance)
    for method in ("exact", "sketch"):
        assert_allclose(*(ct.leverage_scores(B, 5, method=method, rng=0) for B in (A, array)), **tolerance)
    for norm in ("fro", "spectral", "max"):
        assert_allclose(*(ct.relative_error(B, numpys, norm=norm, rng=0) for B in (A, array)), **tolerance)
    assert ct.relative_error(A, numpys, n_probes=5, rng=0) > 0
    assert_array_equal(A.detach().numpy(), array)


@pytest.mark.parametrize("method", SELECTION_RULES)
def test_every_rule_takes_a_tensor(method, rng):
    array = rng.standard_normal((40, 30))
    ours, numpys = (ct.select_columns(B, 5, method=method, rng=0) for B in (torch.from_numpy(array), array))
    assert_array_equal(ours, numpys)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_rpcholesky_takes_a_tensor(kind):
    t = np.linspace(0, 1, 30)
    A = torch.from_numpy(np.exp(-((t[:, None] - t) ** 2))).to(kind)
    if kind != torch.bfloat16:  # rounded to bfloat16 it is no longer semidefinite
        assert len(set(ct.select_columns(A, 4, method="rpcholesky", rng=0).tolist())) == 4
    assert ct.select_columns(torch.eye(9, dtype=kind), 9, method="rpcholesky", rng=0).size == 9


@pytest.mark.parametrize("half", HALF.values(), ids=HALF)
def test_half_precision_is_computed_in_float32(half, rng):
    A = torch.from_numpy(low_rank(60, 40, 5, np.float32, rng)).to(half)
    result = ct.cur_decomposition(A, 8, rng=0)
    exact = ct.cur_decomposition(A.float(), 8, rng=0)
    assert result.dtype == result.C.dtype == np.float32
    assert_array_equal(result.C, A.float().numpy()[:, result.col_indices])
    assert_array_equal(result.col_indices, exact.col_indices)
    assert_allclose(result.to_array(), exact.to_array(), atol=1e-5)


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.uint8, torch.bool])
def test_integers_and_bool_become_float64(kind, rng):
    array = rng.integers(0, 2, (20, 15))
    ours, numpys = (ct.cur_decomposition(B, 3, rng=0) for B in (torch.from_numpy(array).to(kind), array))
    assert ours.dtype == np.float64
    assert_allclose(ours.to_array(), numpys.to_array(), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e300, 1e-320])
def test_any_scale(scale, rng):
    array = low_rank(30, 20, 4, np.float64, rng)
    result = ct.cur_decomposition(torch.from_numpy(array * scale), 4, rng=0)
    assert result.error_estimate < (1e-12 if scale != 1e-320 else 0.1)
    assert_array_equal(result.C, array[:, result.col_indices] * scale)


@pytest.mark.parametrize("place", [(0, 0), (17, 3), (29, 19)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_nan_is_found(value, place, rng):
    A = torch.from_numpy(rng.standard_normal((30, 20)))
    A[place] = value
    message = rf"A must be finite, got NaN or infinity, first at \({place[0]}, {place[1]}\)"
    for function in (ct.cur_decomposition, ct.randomized_svd, ct.select_columns, ct.leverage_scores):
        with pytest.raises(ValueError, match=message):
            function(A, 3)


WRONG = {
    "sparse": (torch.eye(4).to_sparse(), TypeError, "a dense tensor"),
    "compressed": (torch.eye(4).to_sparse_csr, TypeError, "a dense tensor"),
    "meta": (torch.zeros(4, 4, device="meta"), ValueError, "a tensor with data"),
    "float8": (torch.zeros(4, 4).to(torch.float8_e4m3fn), TypeError, "float8_e4m3fn"),
    "one-dimensional": (torch.zeros(4), ValueError, "2-dimensional"),
    "empty": (torch.zeros(4, 0), ValueError, "not empty"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_dense_matrix_is_refused(wrong):
    A, error, message = WRONG[wrong]
    with pytest.raises(error, match=f"A must be .*{message}" if message != "float8_e4m3fn" else message):
        ct.select_columns(A() if callable(A) else A, 2)
