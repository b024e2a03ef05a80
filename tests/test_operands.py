import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from matrices import (
    DTYPES,
    INTEGERS,
    SHAPES,
    SPARSE_KINDS,
    assert_operations_equal_numpys,
    eps,
    mostly_zero,
    normal,
    with_duplicates,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import curtensor as ct
from curtensor import operands
from curtensor.operands import ndarray, scipy_sparse


def memmap(A, folder):
    path = folder / "matrix.npy"
    np.save(path, A)
    return np.load(path, mmap_mode="r")


def read_only(A):
    A = A.copy()
    A.flags.writeable = False
    return A


def strided(A):
    wide = np.zeros((2 * A.shape[0], 3 * A.shape[1]), A.dtype)
    wide[::2, ::3] = A
    return wide[::2, ::3]


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda A: A[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "read-only Fortran": lambda A: read_only(np.asfortranarray(A)),
    "other byte order": lambda A: A.astype(A.dtype.newbyteorder()),
    "np.matrix": np.asmatrix,
}


def csr_with_duplicates(A):
    A = sparse.csr_array(A)
    return sparse.csr_array((np.repeat(A.data / 2, 2), np.repeat(A.indices, 2), 2 * A.indptr), shape=A.shape)


KINDS = LAYOUTS | SPARSE_KINDS | {"duplicates": with_duplicates, "CSR duplicates": csr_with_duplicates}
pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


@pytest.fixture
def small_panels(monkeypatch):
    """Several panels even for small matrices."""
    monkeypatch.setattr(ndarray, "PANEL_BYTES", 2000)
    monkeypatch.setattr(scipy_sparse, "PANEL_BYTES", 2000)


@pytest.mark.usefixtures("small_panels")
@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS])
@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_equals_numpys(kind, dtype, rng):
    assert_operations_equal_numpys(KINDS[kind], dtype, rng)


def test_memmap_is_read_without_a_copy_of_the_whole(tmp_path, rng):
    A = rng.standard_normal((40, 30))
    operand, mapped = operands.find(memmap(A, tmp_path))
    assert np.shares_memory(mapped, mapped.base)
    assert_array_equal(np.concatenate([panel for _, panel in operand.panels(mapped)]), A)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_plain_array_is_never_copied(order, rng):
    A = np.asarray(rng.standard_normal((40, 30)), order=order)
    _, wrapped = operands.find(A)
    assert wrapped.base is A or wrapped is A
    if order == "C":
        assert all(np.shares_memory(panel, A) for _, panel in ndarray.panels(A))


def test_a_sketch_with_uneven_rows_is_multiplied_out(rng):
    A = rng.standard_normal((20, 15))
    Y = sparse.random_array((20, 6), density=0.3, rng=rng, format="csc")
    X = sparse.random_array((15, 5), density=0.3, rng=rng, format="coo")
    left, right, _ = ndarray.sketch_both(A, Y, X)
    assert_allclose(left, A.T @ Y.toarray(), atol=1e-14)
    assert_allclose(right, A @ X.toarray(), atol=1e-14)


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix", "duplicates", "CSR duplicates"])
def test_sparse_input_is_left_as_it_was(kind, rng):
    A = KINDS[kind](mostly_zero(30, 20, "float64", rng))
    before = A.copy()
    ct.cur_decomposition(A, 5, rng=0)
    ct.randomized_svd(A, 5, rng=0)
    ct.leverage_scores(A)
    assert A.nnz == before.nnz
    assert A.format == before.format
    assert_array_equal(A.data, before.data)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_layout_does_not_change_the_choice(layout, shape, rng):
    A = rng.standard_normal(shape)
    expected = ct.cur_decomposition(A, 6, rng=3)
    result = ct.cur_decomposition(LAYOUTS[layout](A), 6, rng=3)
    assert_array_equal(result.col_indices, expected.col_indices)
    assert_array_equal(result.row_indices, expected.row_indices)
    assert_array_equal(result.C, A[:, result.col_indices])
    assert type(result.C) is np.ndarray


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_and_bool_become_float64(dtype, rng):
    A = rng.integers(0, 2, (30, 20)).astype(dtype)
    for result in (ct.cur_decomposition(A, 5, rng=0), ct.randomized_svd(A, 5, rng=0)):
        assert result.dtype == np.float64
    assert ct.leverage_scores(A).dtype == np.float64
    assert_array_equal(ct.cur_decomposition(A, 5, rng=0).C, A[:, ct.cur_decomposition(A, 5, rng=0).col_indices])


@pytest.mark.parametrize("source", [list, tuple])
def test_nested_sequences_are_matrices(source):
    A = source([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert_allclose(ct.cur_decomposition(A, 2, rng=0).to_array(), np.array(A), atol=1e-14)
    assert len(ct.select_rows(A, 2, rng=0)) == 2


def test_names_of_a_dataframe_follow_the_choice(rng):
    A = pd.DataFrame(rng.standard_normal((12, 4)), index=pd.date_range("2026-01-01", periods=12), columns=list("abcd"))
    result = ct.cur_decomposition(A, 3, rng=0)
    assert_array_equal(result.col_names, A.columns[result.col_indices])
    assert_array_equal(result.row_names, A.index[result.row_indices].astype(str))
    assert_array_equal(result.C, A.to_numpy()[:, result.col_indices])
    assert ct.cur_decomposition(A.to_numpy(), 3, rng=0).col_names is None


def test_names_of_many_levels_are_kept(rng):
    columns = pd.MultiIndex.from_product([["x", "y"], [1, 2]])
    A = pd.DataFrame(rng.standard_normal((6, 4)), columns=columns)
    result = ct.cur_decomposition(A, 2, rng=0)
    assert_array_equal(result.col_names, [str(tuple(columns.to_list()[j])) for j in result.col_indices])


def test_names_of_a_polars_dataframe_are_those_of_its_columns(rng):
    A = pl.DataFrame(rng.standard_normal((12, 4)), schema=list("abcd"))
    result = ct.cur_decomposition(A, 3, rng=0)
    assert_array_equal(result.col_names, np.array(A.columns)[result.col_indices])
    assert_array_equal(result.C, A.to_numpy()[:, result.col_indices])
    assert result.row_names is None


@pytest.mark.parametrize("kind", ["numpy", "dask"])
@pytest.mark.parametrize("named", [("gene",), ("gene", "cell"), ()])
def test_names_of_a_dataarray_are_its_coordinates(named, kind, rng):
    labels = {"cell": pd.date_range("2026-01-01", periods=12), "gene": list("abcd")}
    A = xr.DataArray(rng.standard_normal((12, 4)), dims=("cell", "gene"), coords={dim: labels[dim] for dim in named})
    result = ct.cur_decomposition(A if kind == "numpy" else A.chunk(cell=5), 3, rng=0)
    assert_array_equal(result.C, A.data[:, result.col_indices])
    pairs = {"cell": (result.row_names, result.row_indices), "gene": (result.col_names, result.col_indices)}
    for dim, (names, indices) in pairs.items():
        if dim in named:
            assert_array_equal(names, np.array([str(label)[:10] for label in labels[dim]])[indices])
        else:
            assert names is None


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, xr.DataArray])
def test_what_has_names_works_in_every_function(make, rng):
    B = rng.standard_normal((12, 8))
    A = make(B)
    assert_array_equal(ct.select_columns(A, 3, rng=0), ct.select_columns(B, 3, rng=0))
    assert_array_equal(ct.select_rows(A, 3, rng=0), ct.select_rows(B, 3, rng=0))
    assert_allclose(ct.leverage_scores(A), ct.leverage_scores(B), rtol=1e-12)
    assert_allclose(ct.randomized_svd(A, 3, rng=0).s, ct.randomized_svd(B, 3, rng=0).s, rtol=1e-12)
    assert ct.relative_error(A, A) == ct.relative_error(B, A) == 0


@pytest.mark.parametrize("bad", [pl.DataFrame({"a": ["x", "y"]}), pl.LazyFrame({"a": [1.0]}), xr.Dataset()])
def test_frames_which_hold_no_matrix_are_refused(bad):
    with pytest.raises(TypeError, match=r"^A must be an array"):
        ct.cur_decomposition(bad, 1)


@pytest.mark.parametrize(
    "bad",
    [pl.Series([1.0]), xr.Variable("x", [1.0]), pl.DataFrame({"a": [1.0, None]}), xr.DataArray(np.ones((2, 2, 2)))],
)
def test_frames_with_gaps_or_of_other_dimensions_are_refused(bad):
    with pytest.raises(ValueError, match=r"^A must be (2-dimensional|finite)"):
        ct.cur_decomposition(bad, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_operator_has_the_svd_of_its_matrix(dtype, rng):
    A = normal((30, 20), dtype, rng)
    expected = np.linalg.svd(A, compute_uv=False)
    result = ct.randomized_svd(aslinearoperator(A), 20, rng=0)
    assert result.dtype == dtype
    assert_allclose(result.s, expected, rtol=200 * eps(dtype))


@pytest.mark.parametrize("scale", [1e300, 1e-300, 0.0])
def test_linear_operator_of_any_scale(scale, rng):
    A = scale * rng.standard_normal((30, 20))
    result = ct.randomized_svd(aslinearoperator(A), 20, rng=0)
    assert_allclose(result.to_array(), A, atol=1e-14 * np.abs(A).max())


def test_linear_operator_by_products_alone(rng):
    A = rng.standard_normal((30, 20))
    products = LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda y: A.T @ y, dtype=A.dtype)
    assert_allclose(ct.randomized_svd(products, 20, rng=0).to_array(), A, atol=1e-13)


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix", "coo_array"])
def test_sparse_in_sparse_factors_out(kind, rng):
    A = SPARSE_KINDS[kind](mostly_zero(60, 50, "float64", rng))
    result = ct.cur_decomposition(A, 5, rng=0)
    assert sparse.issparse(result.C)
    assert sparse.issparse(result.R)
    assert_array_equal(result.C.toarray(), A.toarray()[:, result.col_indices])
    assert_array_equal(result.R.toarray(), A.toarray()[result.row_indices])
    assert sparse.issparse(ct.interpolative_decomposition(A, 5, rng=0).skeleton)


RESULTS = {
    "CUR": lambda A, X: ct.cur_decomposition(A, 3, rng=0),
    "SVD": lambda A, X: ct.randomized_svd(A, 3, rng=0),
    "ID": lambda A, X: ct.interpolative_decomposition(A, 3, rng=0),
    "TensorCUR": lambda A, X: ct.tensor_cur(X, 2, rng=0),
    "Tucker": lambda A, X: ct.st_hosvd(X, (2, 2, 2)),
    "TubalCUR": lambda A, X: ct.tubal_cur(X, 2, rng=0),
    "TubalSVD": lambda A, X: ct.tubal_svd(X, 2),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_results_print_the_shapes_of_their_parts_in_one_line(kind, rng):
    text = repr(RESULTS[kind](normal((30, 20), "f8", rng), normal((60, 7, 8), "f8", rng)))
    assert text.startswith(f"{kind}(") and "\n" not in text and len(text) < 300
    assert ("<30 x 3>" if kind in ("CUR", "SVD", "ID") else "<60 x ") in text
