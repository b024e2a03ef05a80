"""Arrays of every framework: what comes in comes out, and gradients go through the decomposition of given indices."""

import numpy as np
import pytest
from frameworks import FRAMEWORKS, jax_doubles, numpys
from matrices import DTYPES, SHAPES, eps, low_rank, normal
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct
from curtensor import operands
from curtensor.operands import arithmetic, array_api, ndarray
from curtensor.selection import SELECTION_RULES
from curtensor.sketching import SKETCHES

torch = pytest.importorskip("torch")
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
    monkeypatch.setattr(array_api, "PANEL_BYTES", panel_bytes)
    array = normal(shape, dtype, rng)
    operand, A = operands.find(VIEWS[view](torch.from_numpy(array)))
    assert operand is array_api
    assert operand.dtype(A) == dtype
    X, Y = (SKETCHES["sparse_sign"](n, 7, dtype, rng) for n in (shape[1], shape[0]))
    tolerance = {"atol": 100 * eps(dtype), "rtol": 1e-5 if eps(dtype) > 1e-10 else 1e-12}
    for thin in (X, X.toarray(), normal((shape[1], 3), dtype, rng)):
        assert_allclose(operand.matmat(A, thin), array @ thin, **tolerance)
    for thin in (Y, Y.toarray(), normal((shape[0], 3), dtype, rng)):
        assert_allclose(operand.rmatmat(A, thin), array.conj().T @ thin, **tolerance)
    for ours, theirs in zip(operand.sketch_both(A, Y, X), ndarray.sketch_both(array, Y, X), strict=True):
        assert_allclose(ours, theirs, **tolerance)
    for axis in (0, 1):
        part = operand.take(A, np.array([5, 2]), axis)
        assert_array_equal(part, np.take(array, [5, 2], axis=axis))
        assert part.dtype == dtype
    assert_array_equal(np.concatenate([panel for _, panel in operand.panels(A)]), array)
    assert [rows.start for rows, _ in operand.panels(A)] == sorted(rows.start for rows, _ in operand.panels(A))
    assert operand.first_nonfinite(A) is None
    assert_allclose(operand.largest(A), ndarray.largest(array))


@pytest.fixture(autouse=True)
def doubles():
    with jax_doubles():
        yield


def assert_same_kind(A, *parts):
    """Each part is of A's class, dtype (real where it must be) and device."""
    for part in parts:
        assert type(part) is type(A)
        assert part.device == A.device
        assert str(part.dtype).rpartition(".")[2] in (str(A.dtype).rpartition(".")[2], "float64")


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_comes_in_comes_out(name, dtype, rng, tmp_path):
    array = low_rank(60, 40, 30, dtype, rng)
    A = FRAMEWORKS[name](array)
    cur = ct.cur_decomposition(A, 8, rng=0)
    given = ct.cur_from_indices(A, cur.col_indices, cur.row_indices)
    more, x = cur.refine(A, 9, rng=0), rng.standard_normal(40).astype(dtype)
    for result in (cur, given, more):
        assert_same_kind(A, *list(result)[:3], result.to_array(), result.left, result.middle, result.right)
        assert_same_kind(A, result @ x, result @ FRAMEWORKS[name](x), *result.to_svd())
        assert_array_equal(numpys(result.C), array[:, result.col_indices])
        assert_array_equal(numpys(result.R), array[result.row_indices])
        assert type(result.col_indices) is type(result.row_indices) is np.ndarray
        assert_allclose(numpys(result @ x), numpys(result.to_array()) @ x, atol=1e-13)
        assert result.dtype == A.dtype
        parts = (result.C, result.R, result.left, result.middle, result.right)
        assert result.nbytes == sum(numpys(part).nbytes for part in parts) + 16 * result.rank
    assert_allclose(numpys(cur.C @ cur.U @ cur.R), numpys(cur.to_array()), atol=1e-10)
    assert cur.condition == pytest.approx(ct.cur_decomposition(array, 8, rng=0).condition)
    for axis in (0, 1):
        found = ct.interpolative_decomposition(A, 8, axis=axis, rng=0)
        assert_same_kind(A, found.skeleton, found.coefficients, found.to_array())
        assert ct.relative_error(A, found) == pytest.approx(found.error_estimate)
    for method in ("block_krylov", "subspace", "single_pass"):
        svd = ct.randomized_svd(A, 8, method=method, rng=0)
        assert_same_kind(A, *svd, svd.to_array())
    assert_same_kind(A, ct.leverage_scores(A), ct.leverage_scores(A, 5, method="sketch", rng=0))
    assert ct.relative_error(A, cur.to_array()) == pytest.approx(ct.relative_error(A, cur))
    cur.save(tmp_path / "cur.npz")
    loaded = ct.CUR.load(tmp_path / "cur.npz")
    assert_array_equal(loaded.C, array[:, cur.col_indices])
    assert_allclose(loaded.to_array(), numpys(cur.to_array()), atol=1e-14)


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


def halves():
    """Half precision of each framework that has it, by names."""
    made = {f"torch {name}": lambda A, kind=kind: torch.from_numpy(A).to(kind) for name, kind in HALF.items()}
    made |= {f"jax {name}": lambda A, name=name: FRAMEWORKS["jax"](A).astype(name) for name in HALF}
    return made


@pytest.mark.parametrize("half", halves())
def test_half_precision_is_computed_in_float32_and_slices_stay_as_they_are(half, rng, tmp_path):
    A = halves()[half](low_rank(60, 40, 5, np.float32, rng))
    widened = numpys(array_api.like(A, array_api.take(A, np.arange(40), 1)))
    result, exact = ct.cur_decomposition(A, 8, rng=0), ct.cur_decomposition(widened, 8, rng=0)
    assert result.C.dtype == result.R.dtype == A.dtype
    assert "float32" in str(result.dtype) and "float32" in str(result.U.dtype)
    assert bool((A[:, result.col_indices] == result.C).all())
    assert_array_equal(result.col_indices, exact.col_indices)
    assert_allclose(numpys(result.to_array()), exact.to_array(), atol=1e-5)
    assert_allclose(numpys(result.U), exact.U, rtol=1e-2, atol=1e-2 * np.abs(exact.U).max())
    found = ct.interpolative_decomposition(A, 5, rng=0)
    assert found.skeleton.dtype == A.dtype and "float32" in str(found.to_array().dtype)
    assert ct.relative_error(A, found) < 0.05
    result.save(tmp_path / "cur.npz")
    assert_array_equal(ct.CUR.load(tmp_path / "cur.npz").C, widened[:, result.col_indices])


@pytest.mark.parametrize("kind", ["int8", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_integers_and_bool_become_float64(name, kind, rng):
    array = rng.integers(0, 2, (20, 15)).astype(kind)
    ours, theirs = (ct.cur_decomposition(A, 3, rng=0) for A in (FRAMEWORKS[name](array), array))
    assert str(ours.dtype).endswith("float64") and str(ours.C.dtype).endswith("float64")
    assert_allclose(numpys(ours.to_array()), theirs.to_array(), atol=1e-12)


def test_integers_become_float32_where_there_is_no_float64(rng):
    jax = pytest.importorskip("jax")
    array = rng.integers(0, 9, (20, 15))
    jax.config.update("jax_enable_x64", False)
    assert ct.cur_decomposition(jax.numpy.asarray(array), 3, rng=0).dtype == np.float32
    strict = pytest.importorskip("array_api_strict")
    assert (
        ct.cur_decomposition(strict.asarray(array, device=strict.Device("no_float64")), 3, rng=0).dtype
        == strict.float32
    )


@pytest.mark.parametrize("scale", [1e-300, 1e300, 1e-320])
@pytest.mark.parametrize("name", ["torch", "array-api-strict"])  # JAX takes numbers below 1e-307 for zero
def test_any_scale(name, scale, rng):
    array = low_rank(30, 20, 4, np.float64, rng)
    A = FRAMEWORKS[name](array * scale)
    result = ct.cur_decomposition(A, 4, rng=0)
    assert result.error_estimate < (1e-12 if scale != 1e-320 else 0.1)
    assert_array_equal(numpys(result.C), array[:, result.col_indices] * scale)
    given = ct.cur_from_indices(A, result.col_indices, result.row_indices)
    assert given.error_estimate < (1e-12 if scale != 1e-320 else 0.1)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_zero_array_has_no_columns(name):
    A = FRAMEWORKS[name](np.zeros((6, 5)))
    result = ct.cur_decomposition(A, 2, rng=0)
    assert result.rank == 0 and tuple(result.U.shape) == (0, 0)
    assert_array_equal(numpys(result.to_array()), np.zeros((6, 5)))


LARGE = {name: view for name, view in VIEWS.items() if name not in ("with gradients", "a parameter")}
LARGE |= {"integers": lambda A: (9 * A.real).to(torch.int16), "huge": lambda A: A * 1e300}
CALLS = {
    "cur": lambda A, first: ct.cur_decomposition(A, 5, rng=0),
    "given": lambda A, first: ct.cur_from_indices(A, first.col_indices, first.row_indices),
    "svd": lambda A, first: ct.randomized_svd(A, 5, rng=0),
    "leverage": lambda A, first: ct.leverage_scores(A, 5, method="sketch", rng=0),
    "error": lambda A, first: ct.relative_error(A, first),
}


QUICK = ("cur", "given")


@pytest.mark.parametrize("call", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CALLS])
@pytest.mark.parametrize("view", LARGE)
def test_torch_allocates_nothing_of_the_size_of_a_tensor_in_any_layout(view, call, rng, monkeypatch):
    monkeypatch.setattr(arithmetic, "SMALLEST_PANEL", 2**12)
    dtype = "complex128" if "conjugate" in view else "float64"
    A = LARGE[view](torch.from_numpy(low_rank(900, 600, 8, dtype, rng)))
    first = ct.cur_decomposition(A, 5, rng=0)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        CALLS[call](A, first)
    assert max(event.self_cpu_memory_usage for event in profile.events()) < 2 * A.numel()


def test_a_choice_follows_no_gradients_and_leaves_the_tensor_as_it_was(rng):
    A = torch.from_numpy(rng.standard_normal((30, 20))).requires_grad_()
    before = A.detach().clone()
    result = ct.cur_decomposition(A, 5, rng=0)
    assert not result.C.requires_grad and not result.to_array().requires_grad
    assert A.requires_grad and torch.equal(A.detach(), before)


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


@pytest.mark.parametrize(
    "other", [torch.float64, torch.device("cpu"), torch.Generator()], ids=lambda other: type(other).__name__
)
def test_what_torch_has_beside_tensors_is_refused(other):
    with pytest.raises(TypeError, match="A must be an array, a sparse matrix or a DataFrame, got <class"):
        ct.cur_decomposition(other, 1)


def test_what_does_not_hand_on_its_data_is_refused_by_name():
    keys = pytest.importorskip("jax").random.split(pytest.importorskip("jax").random.key(0), (4, 3))
    with pytest.raises(TypeError, match=r"^A must be an array whose framework .* DLPack, got .*PRNGKeyArray"):
        ct.randomized_svd(keys, 2)


@pytest.mark.parametrize("transform", ["jit", "vmap"])
def test_what_jax_traces_cannot_be_chosen_from(transform):
    jax = pytest.importorskip("jax")
    A = jax.numpy.ones((5, 4) if transform == "jit" else (2, 5, 4))
    with pytest.raises(TypeError, match=r"^A must be an array with entries .*cur_from_indices.*, got a traced one"):
        getattr(jax, transform)(lambda A: ct.cur_decomposition(A, 2).to_array())(A)


# What may be differentiated, each a function of A and of the arguments of cur_from_indices.
DIFFERENTIABLE = {
    "to_array": lambda result: result.to_array(),
    "U": lambda result: result.U,
    "C and R": lambda result: result.C @ (result.C.conj().T @ result.to_array()) @ result.R.conj().T,
    "product": lambda result: result @ np.ones(9),
}
COLUMNS, ROWS = [4, 0, 2], [3, 1, 7, 8]


@pytest.mark.parametrize("part", DIFFERENTIABLE)
@pytest.mark.parametrize("core", ["projection", "intersection"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gradients_of_given_indices_are_those_of_finite_differences_in_torch(dtype, core, part, rng):
    A = torch.from_numpy(low_rank(12, 9, 5, dtype, rng) + 0.1 * normal((12, 9), dtype, rng)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda A: DIFFERENTIABLE[part](ct.cur_from_indices(A, COLUMNS, ROWS, core=core)), (A,)
    )


@pytest.mark.parametrize("part", DIFFERENTIABLE)
@pytest.mark.parametrize("core", ["projection", "intersection"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gradients_of_given_indices_are_those_of_finite_differences_in_jax(dtype, core, part, rng):
    jax = pytest.importorskip("jax")

    def loss(A):
        value = DIFFERENTIABLE[part](ct.cur_from_indices(A, COLUMNS, ROWS, core=core))
        return (abs(value - 0.3) ** 2).sum()

    A = jax.numpy.asarray(low_rank(12, 9, 5, dtype, rng) + 0.1 * normal((12, 9), dtype, rng))
    step = 1e-6 * normal((12, 9), dtype, rng)
    gradient = jax.jit(jax.grad(loss))(A)
    assert_allclose((gradient * step).sum().real, (loss(A + step) - loss(A - step)) / 2, rtol=1e-6)


@pytest.mark.parametrize("core", ["projection", "intersection"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_differentiated_has_the_values_of_what_is_not(dtype, core, rng):
    array = low_rank(12, 9, 5, dtype, rng)
    A = torch.from_numpy(array).requires_grad_()
    ours, theirs = (ct.cur_from_indices(X, COLUMNS, ROWS, core=core) for X in (A, array))
    assert_allclose(numpys(ours.to_array()), theirs.to_array(), atol=1e3 * eps(dtype))
    assert_allclose(numpys(ours.U), theirs.U, rtol=1e4 * eps(dtype), atol=1e4 * eps(dtype) * np.abs(theirs.U).max())
    assert ours.error_estimate == pytest.approx(theirs.error_estimate, rel=1e3 * eps(dtype))
    assert ours.C.requires_grad and ours.R.requires_grad and A.grad is None
    assert ours.condition == pytest.approx(theirs.condition, rel=1e5 * eps(dtype))


def test_transformed_functions_may_hold_a_cur_of_given_indices(rng):
    jax = pytest.importorskip("jax")
    array = rng.standard_normal((12, 9))

    def approximation(A):
        result = ct.cur_from_indices(A, COLUMNS, ROWS)
        assert np.isnan(result.error_estimate)
        return result.to_array()

    expected = ct.cur_from_indices(array, COLUMNS, ROWS).to_array()
    assert_allclose(jax.jit(approximation)(array), expected, atol=1e-13)
    assert_allclose(jax.vmap(approximation)(jax.numpy.stack([array, 2 * array]))[1], 2 * expected, atol=1e-13)
    gradient = torch.func.grad(lambda A: approximation(A).sum())(torch.from_numpy(array))
    A = torch.from_numpy(array).requires_grad_()
    ct.cur_from_indices(A, COLUMNS, ROWS).to_array().sum().backward()
    assert_allclose(numpys(gradient), numpys(A.grad), atol=1e-12)


@pytest.mark.parametrize("half", HALF.values(), ids=HALF)
def test_gradients_go_back_to_half_precision(half, rng):
    A = torch.from_numpy(rng.standard_normal((12, 9))).to(half).requires_grad_()
    result = ct.cur_from_indices(A, COLUMNS, ROWS)
    assert result.C.dtype == half and result.dtype == torch.float32
    (result.to_array().sum() + result.U.sum()).backward()
    assert A.grad.dtype == half and A.grad.isfinite().all()


@pytest.mark.parametrize(("name", "columns", "rows"), [("columns", [0, 1], [0, 1]), ("rows", [0, 2], [0, 1])])
def test_no_gradient_goes_through_columns_or_rows_that_depend_on_each_other(name, columns, rows):
    A = torch.tensor([[1.0, 2, 0], [2, 4, 0], [0, 0, 1]])
    assert ct.cur_from_indices(A, columns, rows).rank == 1
    with pytest.raises(ValueError, match=f"^{name} must be linearly independent where gradients are followed, got 1 "):
        ct.cur_from_indices(A.requires_grad_(), columns, rows)
