import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from matrices import eps, low_rank, normal, sparse_low_rank, with_spectrum
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

import curtensor as ct
from curtensor.cur import CORES
from curtensor.selection import SELECTION_RULES

CLASSES = [ct.ColumnSelector, ct.RowSelector, ct.CURTransformer]
TRANSFORMERS = [ct.ColumnSelector, ct.CURTransformer, ct.NystroemCUR]
# of scikit-learn's own tests, for transformers with names of columns, which `check_estimator` leaves out
NAME_CHECKS = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_n_features_in_after_fitting,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]


ALL_CHECKS = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
import curtensor as ct

warnings.simplefilter("error")
for kind in (ct.ColumnSelector, ct.RowSelector, ct.CURTransformer, ct.NystroemCUR):
    for options in ({}, {"rank": 1}, {"trace_rtol" if kind is ct.NystroemCUR else "rtol": 0.1}):
        results = check_estimator(kind(**options), on_skip=None, on_fail=None)
        print(kind.__name__, options, len(results), [r["check_name"] for r in results if r["status"] != "passed"])
"""


def test_every_check_of_scikit_learn_passes_and_none_is_skipped():
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}  # without which one is skipped; SciPy reads it but once
    run = [sys.executable, "-c", ALL_CHECKS]
    lines = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 12
    for line in lines:
        assert line.endswith(" []"), line
        assert int(line.split()[-2]) > 40


@pytest.mark.parametrize("check", NAME_CHECKS)
@pytest.mark.parametrize("kind", TRANSFORMERS)
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")  # the checks mix them
def test_names_go_in_and_out_as_scikit_learn_wants(kind, check):
    check(kind.__name__, kind())


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_choices_are_those_of_the_functions(rule, rng):
    X = normal((60, 40), "float64", rng)
    options = {"method": rule, "sketch": "gaussian"}
    columns = ct.ColumnSelector(7, **options, random_state=3).fit(X).col_indices_
    assert_array_equal(columns, ct.select_columns(X, 7, **options, rng=3))
    rows = ct.RowSelector(7, **options, random_state=3).fit(X).row_indices_
    assert_array_equal(rows, ct.select_rows(X, 7, **options, rng=3))
    transformer = ct.CURTransformer(7, **options, random_state=3).fit(X)
    _, _, R, columns, rows = ct.cur_decomposition(X, 7, **options, rng=3)
    assert_array_equal(transformer.col_indices_, columns)
    assert_array_equal(transformer.row_indices_, rows)
    assert_array_equal(transformer.components_, R)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("core", CORES)
def test_training_data_comes_back_as_its_decomposition(core, dtype, rng):
    X = normal((60, 40), dtype, rng)
    sizes = {"n_columns": 9, "n_rows": 12}
    transformer = ct.CURTransformer(8, **sizes, core=core, random_state=0)
    Z = transformer.fit_transform(X)
    result = ct.cur_decomposition(X, 8, **sizes, core=core, rng=0)
    assert Z.dtype == dtype
    assert_allclose(Z, X[:, result.col_indices] @ result.U, atol=1e3 * eps(dtype))
    assert_allclose(transformer.inverse_transform(Z), result.to_array(), atol=1e3 * eps(dtype))
    assert transformer.error_estimate_ == pytest.approx(result.error_estimate, abs=1e-14)


def test_numbers_of_columns_and_rows_need_no_rank_and_come_together(rng):
    X = normal((60, 40), "float64", rng)
    transformer = ct.CURTransformer(n_columns=5, n_rows=10, random_state=0).fit(X)
    assert (len(transformer.col_indices_), len(transformer.row_indices_)) == (5, 10)
    with pytest.raises(ValueError, match=r"^n_rows must be given with n_columns"):
        ct.CURTransformer(n_columns=5).fit(X)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_array, sparse.csr_matrix])
def test_exact_when_rank_is_reached_with_new_samples_too(kind, rng):
    X = sparse_low_rank(90, 50, 5, "float64", rng)
    seen, new = kind(X[:60].toarray()), kind(X[60:].toarray())
    for options in ({}, {"rank": 20}, {"rtol": 1e-10}):
        transformer = ct.CURTransformer(**options, random_state=0).fit(seen)
        assert transformer.components_.shape == (5, 50)
        assert sparse.issparse(transformer.components_) == sparse.issparse(seen)
        again = transformer.inverse_transform(transformer.transform(new))
        assert_allclose(again, X[60:].toarray(), atol=1e-12 * abs(X).max())


def test_features_that_were_not_chosen_do_not_matter(rng):
    X = normal((60, 20), "float64", rng)
    transformer = ct.CURTransformer(6, random_state=0).fit(X)
    hidden = np.zeros_like(X)
    hidden[:, transformer.col_indices_] = X[:, transformer.col_indices_]
    assert_allclose(transformer.transform(hidden), transformer.transform(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("condition", [1e8, 1e13])
def test_ill_conditioned_training_data_keep_their_digits(condition, rng):
    X = with_spectrum(120, 80, np.geomspace(1, 1 / condition, 40), "float64", rng)
    transformer = ct.CURTransformer(36, random_state=0)
    again = transformer.inverse_transform(transformer.fit_transform(X))
    assert np.linalg.norm(X - again) < 1.1 * transformer.error_estimate_ * np.linalg.norm(X) + 100 * eps(float)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_numerical_rank_is_chosen_where_nothing_is_asked(kind, rng):
    X = kind(low_rank(50, 30, 4, "float64", rng))
    assert len(ct.ColumnSelector().fit(X).col_indices_) == 4
    assert len(ct.RowSelector().fit(X).row_indices_) == 4


@pytest.mark.parametrize("rtol", [0.3, 1e-3])
def test_tolerances_are_held(rtol, rng):
    X = with_spectrum(80, 60, np.geomspace(1, 1e-6, 60), "float64", rng)
    C = ct.ColumnSelector(rtol=rtol, random_state=0).fit_transform(X)
    R, _ = ct.RowSelector(rtol=rtol, random_state=0).fit_resample(X)
    transformer = ct.CURTransformer(rtol=rtol, random_state=0)
    again = transformer.inverse_transform(transformer.fit_transform(X))
    for approximation in (C @ np.linalg.pinv(C) @ X, X @ np.linalg.pinv(R) @ R, again):
        assert np.linalg.norm(X - approximation) <= rtol * np.linalg.norm(X)
    assert C.shape[1] < 60 > R.shape[0]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_chosen_columns_of_a_dataframe_keep_names_and_contents(make, rng):
    names = [f"gene {j}" for j in range(12)]
    X = make(dict(zip(names, normal((12, 30), "float64", rng), strict=True)))
    out = "pandas" if make is pd.DataFrame else "polars"
    selector = ct.ColumnSelector(4, random_state=0).set_output(transform=out)
    C = selector.fit_transform(X)
    assert isinstance(C, make)
    assert_array_equal(C.columns, selector.get_feature_names_out())
    assert list(C.columns) == [names[j] for j in sorted(selector.col_indices_)]
    assert_array_equal(C.to_numpy(), X[list(C.columns)].to_numpy())
    with pytest.raises(ValueError, match="The feature names should match"):
        selector.transform(X[names[::-1]])
    with config_context(transform_output=out):
        assert isinstance(ct.ColumnSelector(4, random_state=0).fit_transform(X), make)


def test_names_of_a_dataarray_are_read(rng):
    labels = {"cell": [f"cell {i}" for i in range(12)], "gene": [f"gene {j}" for j in range(8)]}
    X = xr.DataArray(normal((12, 8), "float64", rng), coords=labels)
    selector = ct.ColumnSelector(4, random_state=0)
    C = selector.fit_transform(X)
    assert_array_equal(C, X.sel(gene=list(selector.get_feature_names_out())))
    transformer = ct.CURTransformer(3, random_state=0).fit(X)
    assert list(transformer.get_feature_names_out()) == [f"row_cell {i}" for i in transformer.row_indices_]
    few, _ = ct.RowSelector(5, random_state=0).fit_resample(X)
    assert_array_equal(few, X.sel(cell=few.cell))
    assert few.shape == (5, 8)
    selector.fit(xr.DataArray(X.to_numpy()))
    assert not hasattr(selector, "feature_names_in_")


@pytest.mark.parametrize(
    "bad", [pd.Series([1.0]), pl.Series([1.0]), xr.DataArray([1.0]), xr.DataArray(np.ones((2, 2, 2)))]
)
@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_no_matrix_is_refused_as_by_scikit_learn(kind, bad):
    with pytest.raises(ValueError, match=r"Expected 2D|Expected a 2-dimensional|Found array with dim 3"):
        kind().fit(bad)


def test_coefficients_are_named_by_the_chosen_rows(rng):
    X = pd.DataFrame(normal((20, 8), "float64", rng), index=[f"cell {i}" for i in range(20)])
    X.columns = X.columns.astype(str)
    transformer = ct.CURTransformer(3, random_state=0).set_output(transform="pandas")
    Z = transformer.fit_transform(X)
    assert list(Z.columns) == [f"row_cell {i}" for i in transformer.row_indices_]
    assert list(Z.index) == list(X.index)
    transformer.fit(X.to_numpy())
    assert list(transformer.get_feature_names_out()) == [f"row_{i}" for i in transformer.row_indices_]


@pytest.mark.parametrize("kind", ["array", "csr", "csc", "pandas", "polars"])
def test_resampled_rows_of_X_and_y_belong_together_and_keep_their_kind(kind, rng):
    A = normal((30, 8), "float64", rng)
    make = {
        "array": np.asarray,
        "csr": sparse.csr_array,
        "csc": sparse.csc_array,
        "pandas": pd.DataFrame,
        "polars": lambda A: pl.DataFrame(dict(zip("abcdefgh", A.T, strict=True))),
    }[kind]
    X, y = make(A), np.arange(30)
    if kind == "pandas":
        X.columns = list("abcdefgh")
    selector = ct.RowSelector(5, random_state=0)
    few, labels = selector.fit_resample(X, y)
    assert type(few) is type(X)
    dense = few.toarray() if sparse.issparse(few) else np.asarray(few)
    assert_array_equal(dense, A[labels])
    assert_array_equal(labels, selector.get_support(indices=True))
    assert_array_equal(labels, np.flatnonzero(selector.get_support()))
    assert_array_equal(labels, np.sort(selector.row_indices_))
    again, none = selector.fit_resample(X)
    assert again.shape == few.shape
    assert none is None


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_pipelines_search_a_grid_of_ranks(kind):
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), kind(random_state=0), LogisticRegression())
    name = kind.__name__.lower()
    search = GridSearchCV(pipeline, {f"{name}__rank": [1, 8]}, cv=3).fit(X, y)
    assert search.best_params_ == {f"{name}__rank": 8}
    assert search.best_score_ > 0.9
    assert len(search.best_estimator_[:-1].get_feature_names_out()) == 8


@pytest.mark.parametrize("kind", CLASSES)
def test_clones_and_pickles_choose_the_same(kind, rng):
    X = normal((40, 20), "float64", rng)
    fitted = kind(5, method="leverage", random_state=4).fit(X)
    for other in (clone(fitted).fit(X), pickle.loads(pickle.dumps(fitted))):
        assert other.get_params() == fitted.get_params()
        for name, value in vars(fitted).items():
            if name.endswith("_indices_"):
                assert_array_equal(getattr(other, name), value)


@pytest.mark.parametrize("kind", CLASSES)
def test_random_states_of_the_same_seed_choose_the_same(kind, rng):
    X = normal((40, 20), "float64", rng)
    first, second, other = (
        kind(5, method="uniform", random_state=np.random.RandomState(seed)).fit(X) for seed in (1, 1, 2)
    )
    name = "row_indices_" if kind is ct.RowSelector else "col_indices_"
    assert_array_equal(getattr(first, name), getattr(second, name))
    assert set(getattr(first, name)) != set(getattr(other, name))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rank": 9}, r"^rank must be between 1 and 8, got 9|^k must be between 1 and 8, got 9"),
        ({"rank": 0}, "must be between 1 and 8, got 0"),
        ({"rank": 2, "rtol": 0.1}, "^rank or rtol must be given, one of the two, got both"),
        ({"rtol": 2.0}, "^rtol must be at least"),
        ({"method": "nonsense"}, "^method must be a function or one of"),
        ({"sketch": "nonsense"}, "^sketch must be a function or one of"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", CLASSES)
def test_bad_parameters_are_refused_by_fit(kind, options, message, rng):
    X = normal((20, 8), "float64", rng)
    with pytest.raises(ValueError, match=message):
        kind(**options).fit(X)


def test_star_import_needs_no_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; from curtensor import *; print(select_columns.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "select_columns"


def test_more_samples_than_features_are_drawn_by_scores_of_low_rank(rng):
    X = rng.standard_normal((200, 10))
    selector = ct.RowSelector(60, method="leverage", score_rank=4, random_state=0).fit(X)
    assert_array_equal(selector.row_indices_, ct.select_rows(X, 60, method="leverage", rank=4, rng=0))
    with pytest.raises(ValueError, match="score_rank must be None where rtol is given, got 4"):
        ct.RowSelector(rtol=0.1, score_rank=4).fit(X)
    with pytest.raises(ValueError, match="rank must be between 1 and 3, got 4"):
        ct.ColumnSelector(3, score_rank=4).fit(X)
