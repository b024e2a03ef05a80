"""Every operand does what `curtensor.operands.contract` says; a line in MAKERS puts a new one through all of it."""

import contextlib
import importlib
import inspect
import re

import numpy as np
import pytest
from frameworks import FRAMEWORKS, jax_doubles
from matrices import DTYPES, INTEGERS, SPARSE_KINDS, assert_operations_equal_numpys, eps, low_rank, normal
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

import curtensor as ct
from curtensor import operands
from curtensor.operands import array_api, contract, linear_operator, ndarray, scaled, scipy_sparse
from curtensor.operands.arithmetic import dense
from curtensor.sketching import SKETCHES


def memmap(A, folder):
    np.save(folder / "A.npy", A)
    return ct.row_blocks(np.load(folder / "A.npy", mmap_mode="r"), block_bytes=2**13)


def hdf5(A, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "A.h5", "w") as file:
        file["A"] = A
    return h5py.File(folder / "A.h5")["A"]


def zarr(A, folder):
    Z = pytest.importorskip("zarr").create_array(folder / "A.zarr", shape=A.shape, dtype=A.dtype, chunks=(12, 25))
    Z[...] = A
    return Z


def function(A, folder):
    return ct.row_blocks(lambda: (A[start : start + 9] for start in range(0, len(A), 9)), A.shape)


def dask(A, folder):
    return pytest.importorskip("dask.array").from_array(A, chunks=(17, 8))


# From an array, and a folder that it may use, to what stands for the array.
MAKERS = {
    "ndarray": lambda A, folder: A,
    "Fortran order": lambda A, folder: np.asfortranarray(A),
    "list": lambda A, folder: A.tolist(),
    "np.memmap": memmap,
    "h5py": hdf5,
    "zarr": zarr,
    "function": function,
    "dask": dask,
}
MAKERS |= {name: lambda A, folder, make=make: make(A) for name, make in (SPARSE_KINDS | FRAMEWORKS).items()}
KNOWS_DTYPES = [name for name in MAKERS if name != "list"]
OPERANDS = [*sorted(set(operands.OPERANDS.values())), "array_api", "scaled"]


@pytest.fixture(autouse=True)
def surroundings():
    """Float64 in JAX, and dask in this thread."""
    here = contextlib.nullcontext()
    if importlib.util.find_spec("dask") is not None:
        here = importlib.import_module("dask").config.set(scheduler="synchronous")
    with jax_doubles(), here:
        yield


@pytest.fixture
def small_panels(monkeypatch):
    """Several panels even for small matrices."""
    for operand in (ndarray, scipy_sparse, array_api):
        monkeypatch.setattr(operand, "PANEL_BYTES", 2000)


def protocol_of(name):
    """What an operand has to have."""
    special = {"linear_operator": contract.Products, "ndarray": contract.Block, "scipy_sparse": contract.Block}
    return special.get(name, contract.Operand)


@pytest.mark.parametrize("name", OPERANDS)
def test_an_operand_has_all_operations_with_the_arguments_of_the_contract(name):
    module = importlib.import_module(f"curtensor.operands.{name}")
    protocol = protocol_of(name)
    for operation, promised in inspect.getmembers(protocol, inspect.isfunction):
        if not operation.startswith("_"):
            own = inspect.signature(getattr(module, operation)).parameters
            wanted = list(inspect.signature(promised).parameters)[1:]
            assert list(own)[: len(wanted)] == wanted
            assert all(own[other].default is not own[other].empty for other in list(own)[len(wanted) :])


@pytest.mark.usefixtures("small_panels")
@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS])
@pytest.mark.parametrize("name", KNOWS_DTYPES)
def test_every_operation_equals_numpys(name, dtype, rng, tmp_path):
    operand, A, B = assert_operations_equal_numpys(lambda whole: MAKERS[name](whole, tmp_path), dtype, rng)
    tolerance = {"rtol": 0, "atol": 1e3 * eps(B.dtype) * np.abs(B).max() ** 2}
    Y, X = normal((37, 5), B.dtype, rng), normal((29, 6), B.dtype, rng)
    taken, image = operand.take_and_rmatmat(A, np.array([5, 0, 36]), Y)
    assert_array_equal(dense(taken), B[[5, 0, 36]])
    assert_allclose(image, B.conj().T @ Y, **tolerance)
    assert_allclose(operand.normal_product(A, X), B.conj().T @ (B @ X), **tolerance)
    image, other, of_rows, of_columns = operand.images_and_norms(A, Y, X, 3)
    assert_allclose(image, B.conj().T @ Y, **tolerance)
    assert_allclose(other, B @ X, **tolerance)
    squares = 64 * np.abs(B) ** 2.0
    assert_allclose(of_rows, squares.sum(axis=1), rtol=100 * eps(B.dtype))
    assert_allclose(of_columns, squares.sum(axis=0), rtol=100 * eps(B.dtype))
    assert of_rows.dtype == of_columns.dtype == float
    assert_array_equal(operand.diagonal(A), B.diagonal())
    square = np.linalg.norm(B) ** 2
    assert_allclose(
        [operand.squared_norm(A), operand.squared_norm(A, 3)], [square, 64 * square], rtol=100 * eps(B.dtype)
    )
    assert operand.knows_norm(A)
    assert operand.by_columns(A) in (True, False) and operand.copies_multiples(A) in (True, False)
    assert operand.take(A, np.array([], dtype=int), 1).shape == (37, 0)
    assert all(panel.flags.c_contiguous and panel.flags.writeable for _, panel in operand.panels(A))
    assert A.shape == (37, 29)


@pytest.mark.usefixtures("small_panels")
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("name", KNOWS_DTYPES)
def test_a_transpose_and_a_multiple_are_of_the_same_operand(name, dtype, rng, tmp_path):
    B = normal((37, 29), dtype, rng)
    operand, A = operands.find(MAKERS[name](B, tmp_path))
    Y, X = SKETCHES["sparse_sign"](29, 7, dtype, rng), normal((37, 3), dtype, rng)
    tolerance = {"rtol": 0, "atol": 1e3 * eps(dtype)}
    quarter = scaled.Scaled(operand, A, -2)
    for by, own, array in (
        (operand, A.T, B.T),
        (operand, A * 0.25, B * 0.25),
        (operand, (A * 0.25).T, B.T * 0.25),
        (scaled, quarter.T, B.T * 0.25),
        (scaled, quarter * 8.0, B * 2),
    ):
        thin = (X, normal((29, 3), dtype, rng)) if array.shape == (29, 37) else (normal((29, 3), dtype, rng), X)
        assert own.shape == array.shape
        assert by.dtype(own) == array.dtype
        assert_allclose(by.matmat(own, thin[0]), array @ thin[0], **tolerance)
        assert_allclose(by.rmatmat(own, thin[1]), array.conj().T @ thin[1], **tolerance)
        assert_allclose(
            by.normal_product(own, thin[0]), array.conj().T @ (array @ thin[0]), rtol=0, atol=4e4 * eps(dtype)
        )
        taken, image = by.take_and_rmatmat(own, np.array([3, 1]), thin[1])
        for slices in (taken, by.take(own, np.array([3, 1]), 0)):
            assert_array_equal(dense(slices), array[[3, 1]])
        assert_allclose(image, array.conj().T @ thin[1], **tolerance)
        image, other, *norms = by.images_and_norms(own, thin[1], thin[0])
        assert_allclose(image, array.conj().T @ thin[1], **tolerance)
        assert_allclose(other, array @ thin[0], **tolerance)
        for axis, squares in enumerate(norms):
            assert_allclose(squares, np.linalg.norm(array, axis=1 - axis) ** 2, rtol=100 * eps(dtype))
        assert_array_equal(by.diagonal(own), array.diagonal())
        assert_array_equal(np.concatenate([panel for _, panel in by.panels(own)]), array)
        assert_allclose(by.squared_norm(own), np.linalg.norm(array) ** 2, rtol=100 * eps(dtype))
        assert by.largest(own) == ndarray.largest(np.ascontiguousarray(array))
        assert by.first_nonfinite(own) is None
    left, right, square = operand.sketch_both(A.T, Y, sparse.csr_array((37, 0), dtype=Y.dtype))
    assert_allclose(left, B.conj() @ Y, **tolerance)
    assert right.shape == (29, 0)
    assert_allclose(square, np.linalg.norm(B) ** 2, rtol=100 * eps(dtype))


def test_of_what_has_products_alone_the_norm_is_not_known():
    assert not linear_operator.knows_norm(linear_operator.wrap(aslinearoperator(np.eye(3))))


@pytest.mark.parametrize("name", KNOWS_DTYPES)
def test_the_squared_norm_of_a_multiple_is_there_where_that_of_the_matrix_is_no_float(name, rng, tmp_path):
    B = rng.standard_normal((37, 29))
    operand, A = operands.find(MAKERS[name](B * 2.0**700, tmp_path))
    assert_allclose(operand.squared_norm(A, -700), np.linalg.norm(B) ** 2, rtol=1e-13)


@pytest.mark.usefixtures("small_panels")
@pytest.mark.parametrize("place", [(0, 0), (30, 3), (36, 28)])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("name", MAKERS)
def test_the_first_entry_that_is_not_finite_is_named(name, value, place, rng, tmp_path):
    B = rng.standard_normal((37, 29))
    B[place] = B[-1, -1] = value
    A, where = MAKERS[name](B, tmp_path), re.escape(str(place))
    for function in (ct.select_columns, ct.leverage_scores):
        with pytest.raises(ValueError, match=f"^A must be finite, got NaN or infinity, first at {where}"):
            function(A, 3)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", MAKERS)
def test_functions_give_what_they_give_for_numpys_array(name, dtype, rng, tmp_path):
    B = low_rank(60, 40, 30, dtype, rng)
    A = MAKERS[name](B, tmp_path)
    tolerance = {"rtol": 0, "atol": 3000 * eps(dtype)}
    for axis, function in enumerate((ct.select_rows, ct.select_columns)):
        assert_array_equal(function(A, 6, rng=0), function(B, 6, rng=0))
        ours, numpys = (ct.interpolative_decomposition(X, 8, axis=axis, rng=0) for X in (A, B))
        assert_array_equal(ours.indices, numpys.indices)
    for options in ({"rank": 8}, {"rtol": 0.3}, {"rank": 8, "core": "intersection"}):
        ours, numpys = (ct.cur_decomposition(X, rng=0, **options) for X in (A, B))
        assert_array_equal(ours.col_indices, numpys.col_indices)
        assert_array_equal(ours.row_indices, numpys.row_indices)
        assert_allclose(dense(operands.on_host(ours.to_array())), numpys.to_array(), **tolerance)
        assert_array_equal(dense(operands.on_host(ours.C)), B[:, ours.col_indices])
    for axis in (0, 1):
        shares, numpys_shares = (vars(result.explain(X, axis=axis)) for result, X in ((ours, A), (numpys, B)))
        for part in ("explained", "each", "across", "left", "weights", "coefficients"):
            assert_allclose(shares[part], numpys_shares[part], **tolerance)
    given = ct.cur_from_indices(A, numpys.col_indices, numpys.row_indices)
    assert_array_equal(dense(operands.on_host(given.R)), B[numpys.row_indices])
    assert_allclose(given.error_estimate, ct.relative_error(B, given), rtol=1e-8)
    for method in ("block_krylov", "single_pass"):
        ours, numpys = (ct.randomized_svd(X, 8, method=method, rng=0) for X in (A, B))
        assert_allclose(operands.on_host(ours.s), numpys.s, **tolerance)
    for method in ("exact", "sketch"):
        ours, numpys = (ct.leverage_scores(X, 5, method=method, rng=0) for X in (A, B))
        assert_allclose(operands.on_host(ours), numpys, **tolerance)
