import re
import warnings

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
from curtensor.operands import blocks, ndarray, scipy_sparse
from curtensor.operands.arithmetic import dense


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
    assert_array_equal(result.row_names, A.index[result.row_indices])
    assert_array_equal(result.C, A.to_numpy()[:, result.col_indices])
    assert ct.cur_decomposition(A.to_numpy(), 3, rng=0).col_names is None


def test_names_of_many_levels_are_kept(rng):
    columns = pd.MultiIndex.from_product([["x", "y"], [1, 2]])
    A = pd.DataFrame(rng.standard_normal((6, 4)), columns=columns)
    result = ct.cur_decomposition(A, 2, rng=0)
    assert_array_equal(result.col_names, columns[result.col_indices])


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
            assert_array_equal(names, pd.Index(labels[dim])[indices])
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


def frames(rng):
    """Tables of pandas which hold numbers in other ways than one array of them, and those numbers."""
    B = mostly_zero(14, 6, "float64", rng)
    mixed = pd.DataFrame({"f": B[:, 0].astype("f4"), "b": B[:, 1] > 0, "n": pd.array(np.arange(14), dtype="Int64")})
    sparse_frame = pd.DataFrame(B, columns=list("aabbcc")).astype(pd.SparseDtype("float64", 0))
    return {
        "Float64": (pd.DataFrame(B).astype("Float64"), B),
        "Float32": (pd.DataFrame(B).astype("Float32"), B.astype("f4")),
        "Int64": (pd.DataFrame(np.round(9 * B)).astype("Int64"), np.round(9 * B)),
        "boolean": (pd.DataFrame(B > 0).astype("boolean"), (B > 0) * 1.0),
        "mixed": (mixed, np.stack([B[:, 0].astype("f4"), B[:, 1] > 0, np.arange(14)], axis=1)),
        "float and bool": (mixed[["f", "b"]], np.stack([B[:, 0].astype("f4"), B[:, 1] > 0], axis=1).astype("f4")),
        "complex": (pd.DataFrame(B * 1j), B * 1j),
        "sparse": (sparse_frame, B),
        "sparse and dense": (pd.concat([sparse_frame, pd.DataFrame({"d": B[:, 0]})], axis=1), np.c_[B, B[:, 0]]),
        "sparse bool": (pd.DataFrame(B != 0).astype(pd.SparseDtype(bool, False)), (B != 0) * 1.0),
        "polars bool": (pl.DataFrame({"a": B[:, 0], "b": B[:, 1] > 0}), np.stack([B[:, 0], B[:, 1] > 0], axis=1)),
    }


@pytest.mark.parametrize("kind", frames(np.random.default_rng(0)))
def test_tables_of_any_kind_of_numbers_are_the_array_of_these(kind, rng):
    table, B = frames(rng)[kind]
    before = table.copy() if hasattr(table, "iloc") else table.clone()
    result, expected = ct.cur_decomposition(table, 2, rng=0), ct.cur_decomposition(B, 2, rng=0)
    assert_array_equal(result.col_indices, expected.col_indices)
    assert_array_equal(dense(result.C), B[:, result.col_indices])
    assert result.dtype == expected.dtype
    assert sparse.issparse(result.C) == ("sparse" in kind)
    assert before.equals(table)


@pytest.mark.parametrize("kind", ["Float64", "Int64", "boolean"])
def test_a_missing_value_in_a_nullable_column_is_refused_with_its_place(kind):
    table = pd.DataFrame(np.eye(4)).astype(kind)
    table.iloc[2, 1] = pd.NA
    for call in (ct.cur_decomposition, ct.select_rows, ct.randomized_svd, ct.leverage_scores):
        with pytest.raises(ValueError, match=r"A must be finite, got NaN or infinity, first at \(2, 1\)"):
            call(table, 2)


NO_NUMBERS = {
    "object": pd.Series(["x", "y"], dtype=object),
    "category": pd.Series(pd.Categorical([1, 2])),
    "datetime64[ns]": pd.Series(pd.date_range("2020", periods=2)),
    "datetime64[ns, UTC]": pd.Series(pd.date_range("2020", periods=2, tz="UTC")),
    "timedelta64[ns]": pd.Series(pd.to_timedelta([1, 2], unit="s")),
    "string": pd.Series(["x", "y"], dtype="string"),
    "interval[int64, right]": pd.Series(pd.interval_range(0, 2)),
}


@pytest.mark.parametrize("dtype", NO_NUMBERS)
def test_a_column_that_holds_no_numbers_is_named(dtype):
    table = pd.DataFrame({"good": [1.0, 2.0], "bad": NO_NUMBERS[dtype]})
    own = table["bad"].dtype  # of another unit in another pandas
    message = f"A must be an array, or a table of numbers in all columns, got column 'bad' of dtype {own}"
    with pytest.raises(TypeError, match=re.escape(message)):
        ct.cur_decomposition(table, 1)


def test_a_sparse_column_whose_gaps_are_not_zero_is_refused():
    table = pd.DataFrame({"a": [0.0, 1.0], "b": [0.0, 2.0]}).astype(pd.SparseDtype(float, np.nan))
    with pytest.raises(ValueError, match="A must be sparse with the fill value 0, got nan in column 'a'"):
        ct.cur_decomposition(table, 1)


@pytest.mark.parametrize("kind", ["COO", "GCXS", "DOK"])
def test_a_sparse_array_of_pydata_is_as_good_as_scipys(kind, rng):
    pydata = pytest.importorskip("sparse")
    B = mostly_zero(30, 20, "float64", rng)
    result = ct.cur_decomposition(getattr(pydata, kind).from_numpy(B), 5, rng=0)
    expected = ct.cur_decomposition(sparse.csr_array(B), 5, rng=0)
    assert_array_equal(result.col_indices, expected.col_indices)
    assert sparse.issparse(result.C)
    assert_array_equal(result.C.toarray(), B[:, result.col_indices])
    with pytest.raises(ValueError, match="A must be 2-dimensional, got 3 dimensions"):
        ct.cur_decomposition(pydata.COO.from_numpy(np.ones((2, 2, 2))), 1)
    with pytest.raises(ValueError, match=r"A must be sparse with the fill value 0, got 1\.0"):
        ct.cur_decomposition(pydata.COO.from_numpy(B, fill_value=1.0), 1)


def damaged(kind, rng):
    """A sparse matrix one of whose indices lies outside."""
    A = getattr(sparse, f"{kind}_array")(mostly_zero(30, 20, "float64", rng))
    parts = A.coords[1] if kind == "coo" else A.indices
    parts[len(parts) // 2] = 10**8
    return A


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr"])
def test_sparse_matrices_with_indices_out_of_range_are_refused(kind, rng):
    A = damaged(kind, rng)
    for call in (ct.cur_decomposition, ct.select_columns, ct.randomized_svd, ct.leverage_scores, ct.select_rows):
        with pytest.raises(ValueError, match="A must be a sparse matrix whose indices are from 0 to"):
            call(A, 3)


@pytest.mark.parametrize("starts", [[1, 2, 2], [0, 9, 2], [0, 1, 9], [0, -1, 2]])
def test_sparse_matrices_whose_rows_begin_nowhere_are_refused(starts):
    A = sparse.csr_array(np.eye(2))
    A.indptr[:] = starts
    with pytest.raises(ValueError, match="A must be a sparse matrix whose indptr rises from 0 to at most 2 in 2 steps"):
        ct.cur_decomposition(A, 1)


@pytest.mark.parametrize("wrong", ["no adjoint", "rows", "columns", "complex", "none"])
def test_operators_whose_products_are_not_what_they_say_are_refused(wrong, rng):
    A = rng.standard_normal((30, 20))
    products = {"matmat": lambda X: A @ X, "rmatmat": lambda Y: A.T @ Y}
    changed, error, message = {
        "no adjoint": ({"rmatmat": None}, TypeError, r"A must be an operator with an adjoint \(rmatvec or rmatmat\)"),
        "rows": ({"matmat": lambda X: (A @ X)[1:]}, ValueError, r"each product of A must be of shape \(30"),
        "columns": ({"rmatmat": lambda Y: (A.T @ Y)[:, 1:]}, ValueError, r"each product of A must be of shape \(20"),
        "complex": ({"matmat": lambda X: (A @ X) * 1j}, TypeError, "each product of A must be of dtype float64"),
        "none": ({"matmat": lambda X: None}, TypeError, "each product of A must be an array of"),
    }[wrong]
    operator = LinearOperator(A.shape, matvec=lambda x: A @ x, dtype=float, **(products | changed))
    for method in ("block_krylov", "subspace", "single_pass"):
        with pytest.raises(error, match=message):
            ct.randomized_svd(operator, 3, method=method, rng=0)


def test_linear_operators_by_a_single_pass(rng):
    A = rng.standard_normal((40, 4)) @ rng.standard_normal((4, 30))
    result = ct.randomized_svd(aslinearoperator(A), 4, method="single_pass", rng=0)
    assert_allclose(result.to_array(), A, atol=1e-12)


def test_what_is_not_read_yet_of_xarray_is_read_in_blocks_where_it_is_large(tmp_path, monkeypatch, rng):
    pytest.importorskip("zarr")
    B = rng.standard_normal((60, 12))
    encoding = {"v": {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -9999}}
    xr.Dataset({"v": (("a", "b"), B)}).to_zarr(tmp_path / "v.zarr", encoding=encoding, consolidated=False)
    ct.row_blocks(B)  # loads the module, which takes the constant as it is then
    for large in (False, True):
        monkeypatch.setattr(operands, "BLOCK_BYTES", 10 if large else 2**28)
        for chunks in (None, {}):
            array = xr.open_zarr(tmp_path / "v.zarr", chunks=chunks, consolidated=False)["v"]
            expected = ct.cur_decomposition(array.values, 3, rng=0)
            array = xr.open_zarr(tmp_path / "v.zarr", chunks=chunks, consolidated=False)["v"]
            if chunks is None:
                assert operands.find(array)[0] is (blocks if large else ndarray)
            result = ct.cur_decomposition(array, 3, rng=0)
            assert_array_equal(result.col_indices, expected.col_indices)
            assert_array_equal(result.C, expected.C)


@pytest.mark.parametrize("view", ["dense", "csr"])
def test_the_matrix_of_an_anndata_is_taken_backed_or_as_a_view(view, tmp_path, rng):
    anndata = pytest.importorskip("anndata")
    B = mostly_zero(30, 20, "float64", rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = anndata.AnnData(B if view == "dense" else sparse.csr_matrix(B))
        table.write_h5ad(tmp_path / "table.h5ad")
        backed = anndata.read_h5ad(tmp_path / "table.h5ad", backed="r")
        matrices = {"backed": (backed.X, B), "view": (table[::2].X, B[::2]), "backed view": (backed[::2].X, B[::2])}
    for X, rows in matrices.values():
        result = ct.cur_decomposition(X, 5, rng=0)
        assert_array_equal(result.col_indices, ct.cur_decomposition(sparse.csr_array(rows), 5, rng=0).col_indices)
        assert_array_equal(dense(result.C), rows[:, result.col_indices])
        assert sparse.issparse(result.C) == (view == "csr")
    backed.file.close()


@pytest.mark.parametrize(
    "other", [np.random.default_rng(0), np.poly1d([1, 2]), np.dtype(float)], ids=lambda other: type(other).__name__
)
def test_what_numpy_has_beside_arrays_is_refused(other):
    with pytest.raises(TypeError, match="A must be an array, a sparse matrix or a DataFrame, got <class"):
        ct.cur_decomposition(other, 1)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_missing_and_infinite_values_of_a_table_are_named_by_row_and_column(kind, bad):
    frame = {"pandas": pd, "polars": pl}[kind].DataFrame({"a": [1.0, 2, 3], "b b": [1.0, bad, 2]})
    row = "row 1, " if kind == "pandas" else ""
    message = f"A must be finite, got NaN or infinity, first at (1, 1): {row}column 'b b'"
    for function in (ct.select_columns, ct.cur_decomposition, ct.randomized_svd):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            function(frame, 1)


def test_a_missing_value_of_a_nullable_or_sparse_table_is_named_too():
    nullable = pd.DataFrame({"a": [1.0, 2], "b": pd.array([1, None], dtype="Int64")}, index=["x", "y"])
    columns = {"a": [0.0, 2.0], "b": [0.0, np.nan]}
    scarce = pd.DataFrame({name: pd.arrays.SparseArray(values, fill_value=0.0) for name, values in columns.items()})
    for frame, row in ((nullable, "'y'"), (scarce, "1")):
        with pytest.raises(ValueError, match=rf"first at \(1, 1\): row {row}, column 'b'$"):
            ct.select_columns(frame, 1)


def test_huge_finite_values_of_a_table_are_no_gaps():
    frame = pd.DataFrame({"a": [1e308, 1e308], "b": [1e308, 9e307]})
    assert ct.select_columns(frame, 1, rng=0).shape == (1,)
