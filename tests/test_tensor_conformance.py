"""Tensors of every kind do what `contract.Tensor` says; a line in MAKERS puts a new one through all of it."""

import importlib
import inspect
import itertools
import tracemalloc

import numpy as np
import pytest
from frameworks import FRAMEWORKS, jax_doubles, numpys
from matrices import DTYPES, INTEGERS, eps, normal
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse as scipy_sparse

import curtensor as ct
from curtensor import operands
from curtensor.operands import contract, dense_tensor, framework_tensor, sparse_tensor
from curtensor.operands.arithmetic import dense


def memmap(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def hdf5(X, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "X.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=tuple(max(length // 3, 1) for length in X.shape))
    return h5py.File(folder / "X.h5")["X"]


def zarr(X, folder):
    chunks = tuple(max(length // 2, 1) for length in X.shape)
    Z = pytest.importorskip("zarr").create_array(folder / "X.zarr", shape=X.shape, dtype=X.dtype, chunks=chunks)
    Z[...] = X
    return Z


def dask(X, folder):
    return pytest.importorskip("dask.array").from_array(X, chunks=4)


def data_array(X, folder):
    return pytest.importorskip("xarray").DataArray(X)


def pydata(name):
    return lambda X, folder: getattr(pytest.importorskip("sparse"), name).from_numpy(X)


# From an array, and a folder that it may use, to what stands for the array.
MAKERS = {
    "ndarray": lambda X, folder: X,
    "Fortran order": lambda X, folder: np.asfortranarray(X),
    "with gaps": lambda X, folder: np.repeat(X, 2, axis=-1)[..., ::2],
    "np.memmap": memmap,
    "h5py": hdf5,
    "zarr": zarr,
    "dask": dask,
    "DataArray": data_array,
    "COO": pydata("COO"),
    "GCXS": pydata("GCXS"),
    "SciPy's COO": lambda X, folder: scipy_sparse.coo_array(X),
}
MAKERS |= {name: lambda X, folder, make=make: make(X) for name, make in FRAMEWORKS.items()}
SPARSE = ("COO", "GCXS", "SciPy's COO")
DENSE = [name for name in MAKERS if name not in SPARSE]
SHAPE = (9, 8, 7)


@pytest.fixture(autouse=True)
def surroundings():
    """Float64 in JAX."""
    with jax_doubles():
        yield


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks even of small tensors."""
    monkeypatch.setattr(dense_tensor, "BLOCK_BYTES", 256)
    monkeypatch.setattr(dense_tensor, "PART_BYTES", 500)
    monkeypatch.setattr(dense_tensor, "PANEL", 125)
    monkeypatch.setattr(framework_tensor, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(sparse_tensor, "PART_BYTES", 500)


def on_host(X):
    """An array of any kind, or of a tensor, as a dense one of NumPy."""
    X = getattr(X, "X", X) if not isinstance(X, np.ndarray) else X
    if operands.of_package(X, "sparse"):
        return X.todense()
    return dense(X) if scipy_sparse.issparse(X) else numpys(X)


@pytest.mark.parametrize("name", MAKERS)
def test_a_tensor_has_all_operations_with_the_arguments_of_the_contract(name, tmp_path):
    X = operands.find_tensor(MAKERS[name](np.ones(SHAPE), tmp_path))
    host = {attribute: promised for attribute, promised in vars(contract.HostTensor).items() if callable(promised)}
    for operation, promised in inspect.getmembers(contract.Tensor, inspect.isfunction) + list(host.items()):
        if operation[0] != "_":
            owner = X.host() if operation in host else X
            own = list(inspect.signature(getattr(owner, operation)).parameters)
            wanted = list(inspect.signature(promised).parameters)[1:]
            assert own[: len(wanted)] == wanted
    for attribute in ("in_memory", "sparse", "fibre_bytes", "axes", "X", "shape", "ndim", "size", "dtype"):
        assert hasattr(X, attribute)


def with_dtypes(dtypes, quick=("float64",)):
    """Kinds and dtypes, for JAX, which compiles for each, but some of these in quick tests."""
    pairs = itertools.product(MAKERS, dtypes)
    slow = pytest.mark.slow
    return [pytest.param(*pair, marks=[slow] * (pair[0] == "jax" and pair[1] not in quick)) for pair in pairs]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("name", "dtype"), with_dtypes([*DTYPES, *INTEGERS]))
def test_every_operation_equals_numpys(name, dtype, rng, tmp_path):
    whole = normal(SHAPE, "float64", rng) * (rng.random(SHAPE) < 0.5)
    whole = (3 * whole).astype(dtype) if dtype in INTEGERS else normal(SHAPE, dtype, rng) * (whole != 0)
    X = operands.find_tensor(MAKERS[name](whole, tmp_path))
    B = whole.astype(X.dtype)
    assert X.shape == SHAPE and X.ndim == 3 and X.size == whole.size
    assert X.dtype == (np.dtype(float) if dtype in INTEGERS else np.dtype(dtype))
    tolerance = {"rtol": 0, "atol": 1e3 * eps(X.dtype) * max(np.abs(B).max(), 1) ** 2}
    factors = [np.linalg.qr(normal((length, 3), X.dtype, rng))[0] for length in SHAPE]
    for mode, length in enumerate(SHAPE):
        unfolded = np.moveaxis(B, mode, 0).reshape(length, -1)
        M = normal((4, length), X.dtype, rng)
        product = X.mode_product(M, mode)
        assert_allclose(product.whole(), np.moveaxis(np.tensordot(M, B, (1, mode)), 0, mode), **tolerance)
        assert_allclose(on_host(X.as_given(product)), product.whole(), **tolerance)
        double = unfolded.astype(np.result_type(X.dtype, float))
        assert_allclose(on_host(X.mode_gram(mode)), double @ double.conj().T, rtol=0, atol=1e-12 * np.abs(B).max() ** 2)
        assert_allclose(on_host(X.mode_gram(mode, 3)), 64 * double @ double.conj().T, rtol=0, atol=1e-9)
        pieces = np.hstack([dense(piece) for piece in X.pieces(mode, 1, 5)])
        assert_allclose(np.linalg.norm(pieces), 2 * np.linalg.norm(double))
        assert_allclose(pieces @ pieces.conj().T, 4 * double @ double.conj().T, rtol=0, atol=1e-9)
        assert_array_equal(X.unfolded(mode), unfolded)
        filled = np.hstack([dense(piece) for piece in X.host().columns(mode)])
        assert_array_equal(filled, unfolded[:, unfolded.any(axis=0)])
        assert_array_equal(on_host(X.permuted((mode, *(m for m in range(3) if m != mode)), (length, -1))), unfolded)
    both = X.mode_products({0: factors[0].T, 2: factors[2].T})
    assert_allclose(both.whole(), np.einsum("abc,ai,cj->ibj", B, factors[0], factors[2]), **tolerance)
    core = np.einsum("abc,ai,bj,ck->ijk", B, *(Q.conj() for Q in factors))
    assert_allclose(X.projected(factors), core, **tolerance)
    rest = np.linalg.norm(B - np.einsum("ijk,ai,bj,ck->abc", core, *factors))
    assert_allclose(X.residual(core, factors), (rest, np.linalg.norm(B)), rtol=1e3 * eps(X.dtype))
    assert_allclose(X.residual(core, factors, 4.0), (rest / 4, np.linalg.norm(B) / 4), rtol=1e3 * eps(X.dtype))
    lists = [rng.permutation(length)[:4] for length in SHAPE]
    places = [rng.integers(0, length, 20) for length in SHAPE]
    lines = [places[0], np.arange(8)[:, None], places[2]]
    for indices in (np.ix_(*lists), places, lines):
        values = X.at(indices)
        assert type(values) is np.ndarray and values.dtype == X.dtype
        assert_array_equal(values, B[tuple(indices)])
    assert X.is_finite() and X.first_nonfinite() is None
    assert X.largest() == max(np.abs(B.real).max(), np.abs(B.imag).max())
    assert_array_equal((X * 2.0).whole(), 2 * B)
    assert_array_equal(X.whole(), B)
    assert_array_equal(on_host(X.floats()), B)
    assert_allclose(X.host().norm(), np.linalg.norm(B), rtol=100 * eps(X.dtype))
    if name not in SPARSE:
        rows, panels = zip(*X.horizontal(), strict=True)
        assert_array_equal(np.concatenate(panels), B)
        assert [cut.start for cut in rows] == [0, *(cut.stop for cut in rows[:-1])]
        assert all(panel.flags.c_contiguous and panel.dtype == X.dtype for panel in panels)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("place", [(0, 0, 0), (5, 3, 6), (8, 7, 6)])
@pytest.mark.parametrize("name", MAKERS)
def test_the_first_entry_that_is_not_finite_is_named(name, place, rng, tmp_path):
    whole = rng.standard_normal(SHAPE)
    whole[place] = whole[-1, -1, -1] = np.nan
    X = MAKERS[name](whole, tmp_path)
    functions = [ct.st_hosvd, ct.hooi, ct.tensor_cur] + [ct.tubal_svd, ct.tubal_cur] * (name not in SPARSE)
    for function in functions:
        with pytest.raises(ValueError, match=r"^X must be finite, got NaN or infinity, first at ") as caught:
            function(X, 2)
        assert str(caught.value).endswith(f"first at {place}")


def few_ranks(shape, dtype, rng, noise=1e-4):
    """A tensor near multilinear rank 3, a quarter of whose slices are zero."""
    core, factors = normal((3, 3, 3), dtype, rng), [normal((length, 3), dtype, rng) for length in shape]
    for factor in factors:
        factor[::4] = 0
    X = ct.tucker_to_tensor(core, factors)
    return np.ascontiguousarray(X + noise * normal(shape, dtype, rng) * (X != 0))


def chosen(result):
    """The indices of a result."""
    return result.indices if hasattr(result, "indices") else (result.row_indices, result.col_indices)


CHOICES = {
    "tensor_cur": lambda X: ct.tensor_cur(X, 3, rng=0),
    "tensor_cur, fiber": lambda X: ct.tensor_cur(X, 3, method="fiber", rng=0),
    "tensor_cur, projection": lambda X: ct.tensor_cur(X, 3, core="projection", rng=0),
    "tensor_cur, rtol": lambda X: ct.tensor_cur(X, rtol=1e-2, rng=0),
    "tubal_cur": lambda X: ct.tubal_cur(X, 3, rng=0),
    "tubal_cur, truncated": lambda X: ct.tubal_cur(X, 3, core="truncated", rng=0),
}


@pytest.mark.parametrize(("name", "dtype"), with_dtypes(["float64", "complex128"], ("complex128",)))
def test_the_same_indices_as_of_numpys_array(name, dtype, rng, tmp_path):
    whole = few_ranks((18, 16, 14), dtype, rng)
    X = MAKERS[name](whole, tmp_path)
    for call in CHOICES:
        if name in SPARSE and "tubal" in call:
            continue
        ours, expected = CHOICES[call](X), CHOICES[call](whole)
        for found, known in zip(chosen(ours), chosen(expected), strict=True):
            assert type(found) is np.ndarray
            assert_array_equal(found, known, err_msg=call)
        assert_allclose(on_host(ours.to_array()), expected.to_array(), atol=1e-9)
        assert_allclose(ours.error_estimate, expected.error_estimate, rtol=1e-4)


RESULTS = {
    "unfold": lambda X: [ct.unfold(X, 1), ct.fold(ct.unfold(X, 1), 1, X.shape)],
    "mode_dot": lambda X: [ct.mode_dot(X, np.ones((3, 16)), 1), ct.mode_dot(X, np.ones(18), 0)],
    "multi_mode_dot": lambda X: [ct.multi_mode_dot(X, [np.ones((3, 18)), np.ones(14)], [0, 2])],
    "mode_gram": lambda X: [ct.mode_gram(X, mode) for mode in range(3)],
    "st_hosvd": lambda X: spread_out(ct.st_hosvd(X, 3)),
    "st_hosvd, rtol": lambda X: spread_out(ct.st_hosvd(X, rtol=0.01)),
    "st_hosvd, qr": lambda X: spread_out(ct.st_hosvd(X, 3, method="qr")),
    "hooi": lambda X: spread_out(ct.hooi(X, 3)),
    "tucker_to_tensor": lambda X: [ct.tucker_to_tensor(*ct.st_hosvd(X, 3))],
    "tensor_cur": lambda X: spread_out(ct.tensor_cur(X, 3, rng=0)),
    "to_tucker": lambda X: [ct.tucker_to_tensor(*ct.tensor_cur(X, 3, rng=0).to_tucker())],
    "t_product": lambda X: [ct.t_adjoint(X), ct.t_product(ct.t_adjoint(X), X)],
    "tubal_svd": lambda X: [(svd := ct.tubal_svd(X, 3)).to_array(), svd.S],
    "tubal_cur": lambda X: [(cur := ct.tubal_cur(X, 3, rng=0)).C, cur.R, cur.to_array(), cur.U],
}
OF_SPARSE = [name for name in RESULTS if name[:2] not in ("t_", "tu") or name == "tucker_to_tensor"]


def spread_out(result):
    """What a result makes, of which signs and order of vectors do not matter."""
    parts = (
        [factor @ operands.conjugate_transposed(factor) for factor in result.factors]
        if result.core.shape[0] == 3
        else []
    )
    return [result.to_array(), *parts]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_comes_in_comes_out(name, dtype, rng):
    whole = few_ranks((18, 16, 14), dtype, rng)
    X = FRAMEWORKS[name](whole)
    for call, function in RESULTS.items():
        for ours, expected in zip(function(X), function(whole), strict=True):
            assert type(ours) is type(X), call
            assert ours.device == X.device, call
            assert str(ours.dtype).rpartition(".")[2] == expected.dtype.name, call
            assert_allclose(numpys(ours), expected, rtol=0, atol=1e-7 * np.abs(expected).max(), err_msg=call)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", [name for name in MAKERS if name not in FRAMEWORKS])
def test_functions_give_what_they_give_for_numpys_array(name, dtype, rng, tmp_path):
    whole = few_ranks((18, 16, 14), dtype, rng)
    X = MAKERS[name](whole, tmp_path)
    for call in OF_SPARSE if name in SPARSE else RESULTS:
        for ours, expected in zip(RESULTS[call](X), RESULTS[call](whole), strict=True):
            assert_allclose(on_host(ours), expected, rtol=0, atol=1e-7 * np.abs(expected).max(), err_msg=call)


@pytest.mark.parametrize("name", SPARSE)
def test_products_of_sparse_tensors_are_sparse_and_of_the_same_kind(name, rng, tmp_path):
    X = MAKERS[name](few_ranks((18, 16, 14), "float64", rng), tmp_path)
    for Y in (ct.unfold(X, 1), ct.fold(ct.unfold(X, 2), 2, X.shape), ct.mode_dot(X, np.ones((2, 16)), 1)):
        assert type(Y) is type(X)


@pytest.mark.parametrize("function", [ct.tubal_svd, ct.tubal_cur, lambda X, k: ct.t_product(X, X)])
@pytest.mark.parametrize(("name", "way"), list(zip(SPARSE, ("todense", "todense", "toarray"), strict=True)))
def test_what_would_fill_a_sparse_tensor_is_refused(name, way, function, tmp_path):
    X = MAKERS[name](np.ones((4, 4, 4)), tmp_path)
    with pytest.raises(TypeError, match=rf"^X must be a dense tensor .*X\.{way}\(\) is one$"):
        function(X, 1)


def test_a_sparse_tensor_filled_with_something_else_is_refused():
    sparse = pytest.importorskip("sparse")
    X = sparse.COO(np.zeros((3, 1), int), 2.0, shape=(4, 5, 6), fill_value=1.0)
    for function in (ct.st_hosvd, ct.hooi, ct.tensor_cur):
        with pytest.raises(ValueError, match=r"^X must be sparse with the fill value 0, got 1.0"):
            function(X, 1)


def test_entries_of_a_sparse_tensor_given_twice_are_added(rng):
    coords, values = rng.integers(0, 3, (3, 60)), rng.standard_normal(60)
    X = scipy_sparse.coo_array((values, tuple(coords)), shape=(4, 5, 3))
    whole = np.zeros((4, 5, 3))
    np.add.at(whole, tuple(coords), values)
    assert_allclose(ct.mode_gram(X, 1), ct.mode_gram(whole, 1), atol=1e-13)


@pytest.fixture(scope="module")
def large_sparse_tensor():
    """A hundred thousand entries of 2000 x 2000 x 2000, a part of which lie in a block that a low rank comes near."""
    sparse, rng = pytest.importorskip("sparse"), np.random.default_rng(0)
    coords, values = rng.integers(0, 2000, (3, 100_000)), 0.01 * rng.standard_normal(100_000)
    coords[:, :20_000] = np.unravel_index(rng.permutation(30**3)[:20_000], (30, 30, 30))
    values[:20_000] = 1 + 0.01 * coords[0, :20_000]
    return sparse.COO(coords, values, shape=(2000, 2000, 2000))


LARGE = {
    "st_hosvd": lambda X: ct.st_hosvd(X, 5),
    "hooi": lambda X: ct.hooi(X, 5, max_sweeps=2),
    "tensor_cur": lambda X: ct.tensor_cur(X, 5, rng=0),
    "tensor_cur, projection": lambda X: ct.tensor_cur(X, 5, core="projection", rng=0),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "hooi")) for name in LARGE])
def test_a_large_sparse_tensor_is_never_filled(name, large_sparse_tensor):
    tracemalloc.start()
    try:
        result = LARGE[name](large_sparse_tensor)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**28  # 64 GB when filled
    assert result.error_estimate < 0.9


@pytest.mark.parametrize("rtol", [None, 0.7])
def test_a_mode_of_a_sparse_tensor_may_be_too_long_for_a_gram_matrix(rtol, rng, monkeypatch):
    sparse = pytest.importorskip("sparse")
    monkeypatch.setattr(sparse_tensor, "LONGEST", 10)
    monkeypatch.setattr(sparse_tensor.SparseTensor, "unfolded", None)
    coords = np.array([rng.permutation(3000)[:500], rng.integers(0, 20, 500), rng.integers(0, 25, 500)])
    X = sparse.COO(coords, rng.standard_normal(500), shape=(3000, 4000, 25))
    ranks = 4 if rtol is None else None
    result = ct.st_hosvd(X, ranks, rtol=rtol, rng=0)
    expected = ct.st_hosvd(X[np.unique(coords[0])][:, :20].todense(), ranks, rtol=rtol)
    assert_allclose(result.error_estimate, expected.error_estimate, rtol=2e-2)
    for factor in result.factors:
        assert_allclose(factor.T @ factor, np.eye(factor.shape[1]), atol=1e-12)


HALF = {
    "torch": lambda X, kind: FRAMEWORKS["torch"](X).to(getattr(importlib.import_module("torch"), kind)),
    "jax": lambda X, kind: FRAMEWORKS["jax"](X).astype(kind),
}


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_half_precision_is_computed_in_float32(name, kind, rng):
    pytest.importorskip(name)
    X = HALF[name](few_ranks((18, 16, 14), "float32", rng), kind)
    whole = operands.find_tensor(X).whole()
    assert whole.dtype == np.float32
    for call, function in CHOICES.items():
        for found, known in zip(chosen(function(X)), chosen(function(whole)), strict=True):
            assert_array_equal(found, known, err_msg=call)
    result, expected = ct.st_hosvd(X, 3), ct.st_hosvd(whole, 3)
    assert str(result.core.dtype).endswith("float32")
    assert_allclose(numpys(result.to_array()), expected.to_array(), atol=1e-4 * np.abs(whole).max())


def test_choices_follow_no_gradients_and_products_do(rng):
    torch = pytest.importorskip("torch")
    X = torch.from_numpy(rng.standard_normal((5, 6, 7))).requires_grad_()
    M = torch.from_numpy(rng.standard_normal((3, 6))).requires_grad_()
    for result in (ct.st_hosvd(X, 2), ct.hooi(X, 2), ct.tensor_cur(X, 2, rng=0)):
        assert not result.core.requires_grad and not result.to_array().requires_grad
    assert torch.autograd.gradcheck(lambda X, M: ct.mode_dot(X, M, 1), (X, M))
    assert torch.autograd.gradcheck(lambda X: ct.unfold(X, 1), (X,))
    assert torch.autograd.gradcheck(lambda X: ct.mode_gram(X, 1), (X,))


def test_products_can_be_compiled_by_jax(rng):
    jax = pytest.importorskip("jax")
    X, M = rng.standard_normal((5, 6, 7)), rng.standard_normal((3, 6))
    assert_allclose(jax.jit(lambda X, M: ct.mode_dot(X, M, 1))(X, M), ct.mode_dot(X, M, 1), atol=1e-12)
    with pytest.raises(TypeError, match=r"^X must be an array with entries"):
        jax.jit(lambda X: ct.st_hosvd(X, 2).core)(X)


@pytest.mark.parametrize("view", ["transposed", "gaps", "conjugate"])
def test_torch_takes_any_view(view, rng):
    torch = pytest.importorskip("torch")
    whole = few_ranks((18, 16, 14), "complex128", rng)
    views = {
        "transposed": lambda X: X.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "gaps": lambda X: torch.stack([X, X], dim=1)[:, 1],
        "conjugate": lambda X: X.conj_physical().conj(),
    }
    X = views[view](torch.from_numpy(whole))
    for call, function in CHOICES.items():
        for found, known in zip(chosen(function(X)), chosen(function(whole)), strict=True):
            assert_array_equal(found, known, err_msg=call)
    for call, function in RESULTS.items():
        for ours, expected in zip(function(X), function(whole), strict=True):
            assert_allclose(numpys(ours), expected, rtol=0, atol=1e-7 * np.abs(expected).max(), err_msg=call)


@pytest.mark.parametrize("name", ["tensor_cur", "st_hosvd", "tubal_cur"])
def test_results_of_frameworks_are_saved(name, rng, tmp_path):
    torch = pytest.importorskip("torch")
    X = torch.from_numpy(few_ranks((18, 16, 14), "float64", rng))
    options = {} if name == "st_hosvd" else {"rng": 0}
    result = getattr(ct, name)(X, 3, **options)
    result.save(tmp_path / "result.npz")
    loaded = type(result).load(tmp_path / "result.npz")
    assert_allclose(loaded.to_array(), numpys(result.to_array()), atol=1e-12)


def test_a_function_may_give_arrays_of_a_framework():
    torch = pytest.importorskip("torch")
    shape = (30, 30, 30)
    ours = ct.tensor_cur(lambda *places: 1 / (1.0 + sum(map(torch.from_numpy, places)).double()), 3, shape=shape, rng=0)
    expected = ct.tensor_cur(lambda *places: 1 / (1.0 + sum(places)), 3, shape=shape, rng=0)
    assert all(np.array_equal(*pair) for pair in zip(ours.indices, expected.indices, strict=True))
    assert type(ours.core) is np.ndarray
