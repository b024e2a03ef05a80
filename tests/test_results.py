"""Results: all of them have the same attributes and methods wherever these mean something.

A new result goes through all tests by a line in MAKERS.
"""

import datetime
import decimal
import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import tensorly
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor import labels
from curtensor.results import MatrixResult, Named, Result

MATRICES = {
    "SVD": lambda A: ct.randomized_svd(A, 3, rng=0),
    "ID": lambda A: ct.interpolative_decomposition(A, 3, rng=0),
    "ID of rows": lambda A: ct.interpolative_decomposition(A, 3, axis=0, rng=0),
    "CUR": lambda A: ct.cur_decomposition(A, 3, n_rows=4, rng=0),
    "CUR of indices": lambda A: ct.cur_from_indices(A, [4, 0, 2], [1, 7, 3]),
}
THIRD_ORDER = {
    "TubalSVD": lambda X: ct.tubal_svd(X, 2),
    "TubalCUR": lambda X: ct.tubal_cur(X, 2, n_rows=3, rng=0),
}
TENSORS = {
    "Tucker": lambda X: ct.st_hosvd(X, 2),
    "Tucker by HOOI": lambda X: ct.hooi(X, 2),
    "TensorCUR": lambda X: ct.tensor_cur(X, 2, rng=0),
    "TensorCUR by rtol": lambda X: ct.tensor_cur(X, rtol=0.9, rng=0),
    "TensorTrain": lambda X: ct.tt_svd(X, 2),
    "TensorTrain by entries": lambda X: ct.tt_cross(X, 2, rng=0),
    **THIRD_ORDER,
}
MAKERS = MATRICES | TENSORS
DTYPES = ["f4", "f8", "c8", "c16"]
SHAPE = (9, 7, 4)


def data(name, dtype="f8"):
    """A matrix or a tensor of shape (9, 7) or (9, 7, 4) for a maker."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(SHAPE) + (1j * rng.standard_normal(SHAPE) if dtype[0] == "c" else 0)
    return (X[..., 0] if name in MATRICES else X).astype(dtype)


def eps_of(result):
    return np.finfo(result.dtype).eps


@pytest.mark.parametrize("name", MAKERS)
def test_every_result_of_the_package_is_put_through_these_tests(name):
    tested = {type(make(data(each))) for each, make in MAKERS.items()}
    public = [getattr(ct, each) for each in ct.__all__]
    elsewhere = {ct.KernelCUR}  # square: tests/test_kernel_cur.py
    assert tested | elsewhere == {each for each in public if inspect.isclass(each) and issubclass(each, Result)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAKERS)
def test_shape_and_dtype_are_those_of_the_array(name, dtype):
    result = MAKERS[name](data(name, dtype))
    X = result.to_array()
    assert isinstance(X, np.ndarray)
    assert (result.shape, result.ndim, result.size, result.dtype) == (X.shape, X.ndim, X.size, X.dtype)
    assert X.shape == data(name).shape and X.dtype == dtype
    assert isinstance(result.error_estimate, float) and 0 <= result.error_estimate <= 1


@pytest.mark.parametrize("name", MAKERS)
def test_ranks_are_those_of_the_parts(name):
    result = MAKERS[name](data(name))
    if isinstance(result, Named):
        assert result.rank == (2 if name in THIRD_ORDER else 3)
    elif name.startswith("TensorTrain"):
        assert result.ranks == tuple(len(core) for core in result.cores[1:])
    else:
        assert result.ranks == result.core.shape


# Of the arrays that make it up, counted by hand.
NUMBERS = {
    "SVD": 9 * 3 + 3 + 3 * 7,
    "ID": 9 * 3 + 3 * 7,
    "ID of rows": 9 * 3 + 3 * 7,
    "CUR": 9 * 3 + 3 * 4 + 4 * 7,
    "CUR of indices": 9 * 3 + 3 * 3 + 3 * 7,
    "Tucker": 8 + 9 * 2 + 7 * 2 + 4 * 2,
    "Tucker by HOOI": 8 + 9 * 2 + 7 * 2 + 4 * 2,
    "TensorTrain": 9 * 2 + 2 * 7 * 2 + 2 * 4,
    "TensorTrain by entries": 9 * 2 + 2 * 7 * 2 + 2 * 4,
    "TubalSVD": (9 * 2 + 2 + 2 * 7) * 4,
    "TubalCUR": (9 * 2 + 2 * 3 + 3 * 7) * 4,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_held_are_counted_and_are_no_bytes(name, dtype):
    assert MAKERS[name](data(name, dtype)).n_stored == NUMBERS[name]


def test_numbers_held_by_a_tensor_cur_are_those_of_core_and_factors():
    result = MAKERS["TensorCUR"](data("TensorCUR"))
    assert result.n_stored == result.core.size + sum(factor.size for factor in result.factors)


def test_of_sparse_parts_the_stored_numbers_count():
    A = sparse.csr_array(data("CUR") * (data("CUR") > 1))
    result = MAKERS["CUR"](A)
    assert result.n_stored == result.C.nnz + result.R.nnz + result.C.shape[1] * result.R.shape[0]
    result = MAKERS["ID"](A)
    assert result.n_stored == result.skeleton.nnz + result.coefficients.size


@pytest.mark.parametrize("given", ["array", "frame"])
@pytest.mark.parametrize("name", MAKERS)
def test_bytes_are_those_of_every_array_held_names_apart(name, given):
    X = data(name)
    result = MAKERS[name](labelled(X, days()[:9], list("abcdefg")) if given == "frame" else X)
    parts = [part for key, part in vars(result).items() if key not in ("names", "dims")]
    parts += [array for part in parts if isinstance(part, tuple) for array in part]
    assert result.nbytes == sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


@pytest.mark.parametrize("name", MAKERS)
def test_the_text_of_a_result_is_short_and_says_the_shapes(name):
    result = MAKERS[name](labelled(data(name), days()[:9], list("abcdefg")))
    text = repr(result)
    assert text.startswith(f"{type(result).__name__}(") and "error_estimate=" in text and " x " in text
    assert len(text) < 300 and "\n" not in text and "array" not in text and "Index" not in text
    assert "names" not in repr(MAKERS[name](data(name))) and "dims" not in repr(MAKERS[name](data(name)))


@pytest.mark.parametrize("name", MAKERS)
def test_parts_that_are_many_are_tuples(name):
    result = MAKERS[name](data(name))
    assert not any(isinstance(part, list) for part in vars(result).values())
    with pytest.raises(AttributeError):
        result.names = ()


# Products


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MATRICES)
def test_products_from_either_side_are_those_of_the_array(name, dtype):
    result, rng = MAKERS[name](data(name, dtype)), np.random.default_rng(1)
    B = result.to_array()
    operator = result.as_linear_operator()
    tolerance = {"rtol": 0, "atol": 200 * eps_of(result) * np.abs(B).max()}
    for shape in ((7,), (7, 2), (7, 0)):
        x = rng.standard_normal(shape).astype(dtype)
        assert_allclose(result @ x, B @ x, **tolerance)
        assert_allclose(operator @ x, B @ x, **tolerance)
        assert (result @ x).dtype == dtype
    for shape in ((9,), (2, 9), (0, 9)):
        y = rng.standard_normal(shape).astype(dtype)
        assert_allclose(y @ result, y @ B, **tolerance)
        assert (y @ result).dtype == dtype
    y = rng.standard_normal((9, 2)).astype(dtype)
    assert_allclose(operator.H @ y, B.conj().T @ y, **tolerance)
    assert (operator.shape, operator.dtype) == (result.shape, result.dtype)


@pytest.mark.parametrize("kind", [np.ndarray.tolist, sparse.csr_array, sparse.csc_matrix, pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize("name", MATRICES)
def test_what_a_result_is_multiplied_by_may_be_of_any_kind(name, stored, kind):
    result = MAKERS[name](stored(data(name)))
    B = result.to_array()
    x, y = np.random.default_rng(1).standard_normal((7, 2)), np.random.default_rng(2).standard_normal((2, 9))
    assert_allclose(result @ kind(x), B @ x, rtol=0, atol=1e-13)
    assert isinstance(result @ kind(x), np.ndarray)
    if kind not in (pd.DataFrame, pl.DataFrame):  # whose own operator comes first
        assert_allclose(kind(y) @ result, y @ B, rtol=0, atol=1e-13)
        assert isinstance(kind(y) @ result, np.ndarray)


@pytest.mark.parametrize("name", MATRICES)
def test_what_does_not_fit_is_not_multiplied(name):
    result = MAKERS[name](data(name))
    for shape in ((6,), (9, 2), (), (7, 2, 2)):
        with pytest.raises(ValueError, match=r"^x must be of shape \(7,\) or \(7, p\), got shape \("):
            result @ np.ones(shape)
    for shape in ((7,), (9, 2), (2, 2, 9)):
        with pytest.raises(ValueError, match=r"^x must be of shape \(9,\) or \(p, 9\), got shape \("):
            np.ones(shape) @ result
    for text in ("abcdefg", np.array(list("abcdefg")), [None] * 7):
        with pytest.raises(TypeError, match=r"^x must be an array of .*, got dtype"):
            result @ text
    with pytest.raises(TypeError, match="unsupported operand"):
        result @ result


@pytest.mark.parametrize("name", ["SVD", "ID", "CUR"])
@pytest.mark.parametrize("framework", ["torch", "jax.numpy", "array_api_strict"])
def test_products_with_a_frameworks_arrays_are_the_frameworks(framework, name):
    xp = pytest.importorskip(framework)
    A = xp.asarray(data(name, "f4"))
    result, x, y = MAKERS[name](A), xp.asarray(np.ones(7, "f4")), xp.asarray(np.ones(9, "f4"))
    if framework == "array_api_strict":  # whose own operator complains before ours is asked
        y = np.ones(9)
    B = np.asarray(result.to_array())
    for ours, numpys in ((result @ x, B @ np.ones(7)), (y @ result, np.ones(9) @ B), (result @ np.ones(7), B.sum(1))):
        assert type(ours) is type(A)
        assert_allclose(np.asarray(ours), numpys, rtol=0, atol=1e-5)
    result.save(os.devnull)
    assert result.n_stored == NUMBERS[name] and result.nbytes >= 4 * NUMBERS[name] - 4 * 12


def test_tensors_are_no_factors_of_products():
    for name in TENSORS:
        with pytest.raises(TypeError):
            MAKERS[name](data(name)) @ np.ones(4)
        with pytest.raises(TypeError):
            np.ones(9) @ MAKERS[name](data(name))
    assert {name for name in MAKERS if isinstance(MAKERS[name](data(name)), MatrixResult)} == set(MATRICES)


# Tucker


def test_tensorly_takes_core_and_factors():
    for name in ("Tucker", "TensorCUR"):
        result = MAKERS[name](data(name))
        assert isinstance(result.factors, tuple) and len(result) == 2
        assert_allclose(tensorly.tucker_to_tensor(result), result.to_array(), rtol=0, atol=1e-13)
        assert_allclose(result.to_tensorly().to_tensor(), result.to_array(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ranks", [None, 2, (1, 2, 3)])
def test_a_tensor_cur_becomes_a_tucker_tensor_whose_error_is_at_most_what_it_says(ranks, dtype):
    rng, eps = np.random.default_rng(2), float(np.finfo(dtype).eps)
    for noise in (0, 1e-2, 1):
        X = np.einsum("ia,ja,ka->ijk", *(rng.standard_normal((d, 4)) for d in (12, 10, 8))).astype(dtype)
        X = X + (noise * rng.standard_normal(X.shape)).astype(dtype)
        cur = ct.tensor_cur(xr.DataArray(X, dims=("x", "y", "z")), 4, core="projection", rng=0)
        tucker = cur.to_tucker(ranks)
        assert isinstance(tucker, ct.Tucker) and tucker.dims == cur.dims and tucker.names == (None,) * 3
        for factor in tucker.factors:
            assert_allclose(factor.conj().T @ factor, np.eye(factor.shape[1]), rtol=0, atol=100 * eps)
        error = np.linalg.norm(X - tucker.to_array()) / np.linalg.norm(X)
        assert error <= 1.001 * tucker.error_estimate + 100 * eps
        assert tucker.error_estimate <= 3 * error + 100 * eps


# Names


def days(zone=None, unit="ns"):
    return pd.date_range("2026-01-30", periods=12, tz=zone).as_unit(unit)


def labelled(X, rows, columns):
    """A DataFrame, or a DataArray with coordinates along two of three dimensions."""
    if X.ndim == 2:
        return pd.DataFrame(X, rows, columns)
    return xr.DataArray(X, {"x": ("x", rows), "y": ("y", columns)}, ("x", "y", "z"))


MIXED = [
    1,
    "a",
    2.5,
    ("x", (1, None)),
    True,
    datetime.date(2026, 1, 2),
    pd.Timestamp("2026", tz="UTC"),
    pd.Period("2026"),
]
MIXED += [None, pd.Timedelta("1s"), pd.Interval(0, 1), "", "é\0\ud800"]
INDEXES = {
    "texts": pd.Index([f"row é {i}" for i in range(12)], name="place"),
    "array of str": pd.Index(np.array(list("abcdefghijkl"))),
    "ints": pd.Index([5, -3, *range(10, 20)]),
    "small ints": pd.Index(np.arange(12, dtype="u1")),
    "range": pd.RangeIndex(3, 39, 3, name="n"),
    "floats": pd.Index([0.1, -0.0, np.inf, np.nan, *range(8)]),
    "single floats": pd.Index(np.arange(12, dtype="f4") / 3),
    "complex": pd.Index([1j, 2, *range(10)]),
    "bools": pd.Index([True, False]),
    "days": days(),
    "seconds": days(unit="s"),
    "zone": days("Europe/Berlin"),
    "milliseconds in a zone": days("America/New_York", "ms"),
    "fixed offset": days(datetime.timezone(datetime.timedelta(hours=2))),
    "UTC": days("UTC", "us"),
    "gaps in days": pd.DatetimeIndex([None, *days()[:11]]),
    "durations": days() - days()[0],
    "months": pd.period_range("2026-01", periods=12, freq="M"),
    "quarters": pd.period_range("2026", periods=12, freq="Q-JAN", name="quarter"),
    "intervals": pd.interval_range(0.5, 12.5),
    "intervals of days": pd.IntervalIndex.from_breaks(days("UTC", "s"), closed="left"),
    "categories": pd.CategoricalIndex([*"abcabcabcabc"], categories=[*"dcba"], ordered=True, name="kind"),
    "categories of a range": pd.CategoricalIndex(pd.Categorical.from_codes(range(12), pd.RangeIndex(30))),
    "categories of days": pd.CategoricalIndex([*days()[::-1]]),
    "gaps": pd.Index([None, *range(11)], dtype="Int64"),
    "string": pd.Index([None, *"bcdefghijkl"], dtype="string"),
    "mixed": pd.Index(MIXED, tupleize_cols=False),
    "levels": pd.MultiIndex.from_product([["x", "y"], range(6)], names=["a", ("b", 1)]),
    "levels of kinds": pd.MultiIndex.from_arrays(
        [pd.Categorical([*"abcabcabcabc"]), days("UTC"), pd.interval_range(0, 12), [*range(11), None]]
    ),
}


# pandas 3 warns where it is not said whether frequencies count, which pandas 2 does not know
known = inspect.signature(pd.testing.assert_index_equal).parameters
NO_FREQUENCIES = {"check_freq": False} if "check_freq" in known else {}


def same_names(ours, theirs):
    """Raise if two sequences of names differ, or are of different kinds; a frequency is no part of a label."""
    assert type(ours) is type(theirs)
    if isinstance(ours, pd.Index):
        pd.testing.assert_index_equal(ours, theirs, exact="equiv", **NO_FREQUENCIES)
        assert str(ours.dtype) == str(theirs.dtype) and ours.names == theirs.names
    else:
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.parametrize("name", ["SVD", "ID", "ID of rows", "CUR", "Tucker", "TensorCUR", "TubalSVD", "TubalCUR"])
def test_names_stay_what_they_were_also_in_a_file(name, kind, tmp_path):
    rows, columns = (INDEXES[kind][np.arange(d) % len(INDEXES[kind])] for d in SHAPE[:2])
    if name in TENSORS and isinstance(rows, pd.MultiIndex):
        rows, columns = (index.set_names(list("pqrs")[: index.nlevels]) for index in (rows, columns))
    if name in TENSORS and "levels" in kind:  # coordinates of xarray that are an index of levels
        X = xr.DataArray(data(name), dims=("x", "y", "z"))
        X = X.assign_coords(xr.Coordinates.from_pandas_multiindex(rows, "x"))
        columns = None
    elif name in TENSORS:
        X = labelled(data(name), rows, columns)
        rows, columns = X.indexes["x"], X.indexes["y"]
    else:
        X = labelled(data(name), rows, columns)
    result = MAKERS[name](X)
    result.save(tmp_path / "result.npz")
    again = type(result).load(tmp_path / "result.npz")
    for given, names, read, chosen in zip((rows, columns), result.names, again.names, result.chosen, strict=False):
        same_names(names, given if chosen is None or given is None else given[chosen])
        same_names(read, names)
    assert again.dims == result.dims == (("x", "y", "z") if name in TENSORS else ())
    if isinstance(result, Named):
        assert result.row_names is result.names[0] and result.col_names is result.names[1]


UNIQUE = [name for name, index in INDEXES.items() if index.is_unique and len(index) > 9 and name != "gaps"]


@pytest.mark.parametrize("kind", UNIQUE)
def test_frames_are_looked_up_by_the_names_of_what_was_chosen(kind):
    frame = pd.DataFrame(data("CUR"), INDEXES[kind][:9], list("abcdefg"))
    result = ct.cur_decomposition(frame, 3, rng=0)
    positions = frame.index.get_indexer(result.row_names)
    assert_array_equal(positions, result.row_indices)
    if not kind.startswith(("mixed", "levels of")):  # tuples and intervals within are places of more than one row
        assert_array_equal(frame.loc[result.row_names], result.R)
    assert_array_equal(frame[result.col_names], result.C)


def test_frames_of_polars_and_arrays_of_xarray_are_looked_up_by_names(tmp_path):
    frame = pl.DataFrame(data("CUR"), schema=list("abcdefg"))
    result = ct.cur_decomposition(frame, 3, rng=0)
    result.save(tmp_path / "result.npz")
    for each in (result, ct.CUR.load(tmp_path / "result.npz")):
        assert_array_equal(frame.select(each.col_names), result.C)
        assert each.row_names is None
        assert each.col_names.dtype.kind == "U"
    assert_array_equal(ct.randomized_svd(frame, 2).col_names, frame.columns)

    X = labelled(data("TensorCUR"), days()[:9], list("abcdefg"))
    result = ct.tensor_cur(X, 2, rng=0)
    result.save(tmp_path / "result.npz")
    for each in (result, ct.TensorCUR.load(tmp_path / "result.npz")):
        found = X.sel(x=each.names[0], y=each.names[1]).isel(z=each.indices[2])
        assert_array_equal(found, result.core)


@pytest.mark.parametrize("name", MAKERS)
def test_what_has_no_names_has_none(name, tmp_path):
    result = MAKERS[name](data(name))
    result.save(tmp_path / "result.npz")
    for each in (result, type(result).load(tmp_path / "result.npz")):
        assert (each.names, each.dims) == ((None,) * each.ndim, ())


UNSAVABLE = {
    "decimals": pd.Index([decimal.Decimal(i) for i in range(9)]),
    "bytes": pd.Index([bytes([i]) for i in range(9)]),
    "objects": pd.Index([*map(object, range(0))] + [object() for _ in range(9)]),
    "one of them": pd.Index([*"abcdefgh", datetime.time(1)]),
    "sparse": pd.Index(pd.arrays.SparseArray(np.arange(9))),
    "its own name": pd.Index(range(9), name=decimal.Decimal(1)),
    "a level": pd.MultiIndex.from_arrays([range(9), [decimal.Decimal(i) for i in range(9)]]),
    "categories": pd.CategoricalIndex([decimal.Decimal(i) for i in range(9)]),
}


@pytest.mark.parametrize("kind", UNSAVABLE)
def test_names_of_which_no_file_can_be_made_are_kept_and_refused_when_saved(kind, tmp_path):
    frame = pd.DataFrame(data("SVD"), UNSAVABLE[kind], list("abcdefg"))
    result = ct.randomized_svd(frame, 3)
    same_names(result.row_names, UNSAVABLE[kind])
    with pytest.raises(TypeError, match=r"^names\[0\] must be labels which files hold \(texts, .*\), got "):
        result.save(tmp_path / "result.npz")
    assert os.listdir(tmp_path) == []


DAMAGED = {
    "no JSON": lambda text: text[:-1],
    "no description": lambda text: "3",
    "a list": lambda text: "[]",
    "another kind": lambda text: text.replace('"kind": "', '"kind": "x'),
    "one label less": lambda text: shorter(json.loads(text)),
    "more": lambda text: text[:-1] + ', "more": 1}',
    "texts for numbers": lambda text: text.replace("[1", '["1"'),
    "deep": lambda text: '{"kind": "levels", "levels": [' * 5000,
    "a file for a zone": lambda text: text.replace("Europe/Berlin", "dateutil//dev/stdin"),
    "a path for a zone": lambda text: text.replace("Europe/Berlin", "../../etc/passwd"),
    "ranges within": lambda text: text.replace('"kind": "n', '"ends": [0, 1000000000, 1], "kind": "range", "x": "'),
    "dtype": lambda text: text.replace("int64", "U99999999").replace("object", "U99999999").replace("str", "O"),
}


def shorter(description):
    """A description of one label less, as a text."""
    for key in ("values", "ticks", "codes"):
        if key in description:
            return json.dumps(description | {key: description[key][1:]})
    return json.dumps({key: json.loads(shorter(part)) if key == "left" else part for key, part in description.items()})


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("kind", ["texts", "ints", "zone", "categories", "intervals", "months", "mixed"])
def test_a_damaged_description_of_names_is_refused_in_the_one_form(kind, damage, tmp_path):
    result = ct.randomized_svd(pd.DataFrame(data("SVD"), INDEXES[kind][:9]), 3)
    text = labels.as_text(result.row_names, "names[0]")
    bad = DAMAGED[damage](text)
    if bad == text:
        pytest.skip("nothing of it in this text")
    result.save(tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz") as file:
        parts = dict(file)
    np.savez(tmp_path / "bad.npz", **parts | {"names.0": bad})
    with pytest.raises(ValueError, match=r"^path must be a file written by SVD.save, got .*bad.npz': ") as caught:
        ct.SVD.load(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_pandas_is_not_imported_for_what_has_no_names(tmp_path):
    code = f"""
import sys, curtensor, numpy
path = {str(tmp_path / "result.npz")!r}
A, X = numpy.eye(6), numpy.ones((5, 4, 3))
for make in (curtensor.cur_decomposition, curtensor.randomized_svd, curtensor.interpolative_decomposition):
    make(A, 2).save(path)
    print(type(make(A, 2)).load(path))
for make in (curtensor.st_hosvd, curtensor.tensor_cur, curtensor.tubal_svd, curtensor.tubal_cur):
    make(X, 1).save(path)
    print(type(make(X, 1)).load(path))
assert not {{"pandas", "polars", "xarray"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
