"""Errors and times side by side: the SVD is the optimum and always there."""

import csv
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_info, threadpool_limits

import curtensor
from curtensor.comparison import METHODS, Comparison, Row, by_svd, compare
from curtensor.files import example_matrix

DTYPES = ("f4", "f8", "c8", "c16")


def matrix(m, n, dtype="f8", seed=0):
    """Singular values 1, 1/2, 1/4, ... between random orthonormal vectors."""
    rng = np.random.default_rng(seed)
    k = min(m, n)
    A = rng.standard_normal((m, k)) * 0.5 ** np.arange(k) @ rng.standard_normal((k, n))
    if np.dtype(dtype).kind == "c":
        A = A * np.exp(1j * rng.uniform(0, 1, (m, n)))
    return A.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(60, 25), (25, 60), (30, 30)])
def test_svd_error_is_the_tail_of_the_singular_values(shape, dtype):
    A = matrix(*shape, dtype)
    s = np.linalg.svd(A.astype(np.result_type(dtype, "f8")), compute_uv=False)
    rows = compare(A, [2, 7], methods=[], rng=0).rows
    for row, k in zip(rows, (2, 7), strict=True):
        optimum = np.linalg.norm(s[k:]) / np.linalg.norm(s)
        assert row.error == pytest.approx(optimum, abs=float(50 * np.finfo(dtype).eps))


@pytest.mark.parametrize("method", METHODS)
def test_error_is_that_of_the_method_run_alone(method):
    A = matrix(50, 40)
    row = next(row for row in compare(A, 4, rng=3).rows if row.method == method)
    seed = int(np.random.default_rng(3).integers(2**63))
    approximation = METHODS[method](A, 4, np.random.default_rng([seed, 4]))
    assert row.error == pytest.approx(curtensor.relative_error(A, approximation), abs=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_exact_rank_leaves_only_rounding_and_a_ratio_of_order_one(method, dtype):
    A = matrix(40, 4, dtype) @ matrix(4, 30, dtype, seed=1)
    comparison = compare(A, 6, methods=[method], rng=0)
    row = comparison.rows[-1]
    assert row.method == method
    assert row.error <= 100 * np.finfo(dtype).eps
    assert 0.01 <= row.error_over_best <= 100


@pytest.mark.parametrize("method", METHODS)
def test_zero_matrix_has_no_error(method):
    row = compare(np.zeros((5, 4)), 2, methods=[method]).rows[-1]
    assert (row.error, row.error_over_best) == (0, 1)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_no_method_beats_the_svd(kind):
    A = kind(np.where(np.random.default_rng(0).random((80, 60)) < 0.1, matrix(80, 60), 0))
    comparison = compare(A, [3, 10], rng=1)
    for row in comparison.rows:
        assert row.error_over_best >= 1 - 1e-12
        assert row.cpu_seconds >= 0


def test_svd_comes_first_whatever_is_asked_for():
    comparison = compare(matrix(20, 20), [5, 2], methods=["uniform", "svd", "cur"], rng=0)
    names = [(row.method, row.rank) for row in comparison.rows]
    assert names == [(name, rank) for rank in (5, 2) for name in ("svd", "uniform", "cur")]


def test_own_function_is_a_method():
    def nothing(A, k, rng):
        return np.zeros(A.shape)

    row = compare(matrix(20, 10), 3, methods=[nothing]).rows[-1]
    assert row.method == "nothing" and row.error == pytest.approx(1)


def test_beyond_the_full_svd_the_optimum_is_within_a_percent(monkeypatch):
    A = matrix(90, 70)
    exact = compare(A, 5, methods=[]).rows[0].error
    monkeypatch.setattr("curtensor.comparison.EXACT_WORK", 0)
    assert 0.999 * exact <= compare(A, 5, methods=[], rng=0).rows[0].error <= 1.01 * exact


def test_same_seed_same_errors_and_other_methods_change_nothing():
    A = matrix(50, 40)
    first = {(row.method, row.rank): row.error for row in compare(A, [3, 6], rng=5).rows}
    second = {(row.method, row.rank): row.error for row in compare(A, [6, 3], methods=["leverage", "cur"], rng=5).rows}
    assert second == {key: first[key] for key in second}


def test_blas_has_one_thread_while_methods_run_and_its_own_number_after():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    def counting(A, k, rng):
        seen.extend(threads())
        return np.zeros(A.shape)

    seen = []
    with threadpool_limits(2, "blas"):
        before = threads()
        compare(matrix(20, 10), 2, methods=[counting])
        assert threads() == before
    assert seen and set(seen) == {1}


def test_input_is_untouched():
    A = matrix(30, 20)
    A.flags.writeable = False
    assert compare(A, 3, rng=0).rows
    np.testing.assert_array_equal(A, matrix(30, 20))


def test_callback_rises_to_one():
    seen = []
    compare(matrix(20, 10), [2, 3], methods=["cur"], callback=seen.append)
    assert seen == [0.25, 0.5, 0.75, 1]


def test_cur_on_the_shipped_matrix_is_within_twice_the_optimum():
    comparison = compare(example_matrix().A, [5, 10, 20], methods=["cur"], rng=0)
    assert [row.error_over_best < 2 for row in comparison.rows] == [True] * 6


ROWS = (Row("svd", 2, 0.25, 1.0, 0.5), Row("a_longer_name", 2, 0.5, 2.0, 0.001), Row("svd", 10, 0.125, 1.0, 0.5))


def test_table_is_aligned():
    lines = str(Comparison(ROWS)).splitlines()
    assert repr(Comparison(ROWS)) == str(Comparison(ROWS))
    assert lines[0].split("  ")[0] == "method" and lines[0].endswith("CPU seconds")
    assert {len(line) for line in lines if line} == {len(lines[0])}
    assert lines[2].split() == ["a_longer_name", "2", "0.5", "2.000", "0.001"]
    assert lines[3] == ""  # between the ranks


def test_csv_holds_the_rows(tmp_path):
    Comparison(ROWS).to_csv(tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["method", "rank", "error", "error_over_best", "cpu_seconds"]
    assert tuple(Row(m, int(k), *map(float, rest)) for m, k, *rest in lines) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.skipif(os.name != "posix", reason="pipes and links as POSIX has them")
@pytest.mark.parametrize("ending", [".csv", ".png", ".pdf", ".svg"])
def test_table_and_plot_are_written_to_a_pipe_through_a_link(ending, tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / f"link{ending}"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    comparison = Comparison(ROWS)
    with ThreadPoolExecutor(1) as pool:
        content = pool.submit(pipe.read_bytes)
        (comparison.to_csv if ending == ".csv" else comparison.plot)(os.fsencode(link))
        start = {".csv": b"method,", ".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[ending]
        assert content.result(timeout=60).startswith(start)
    assert pipe.is_fifo() and link.is_symlink()


def test_plot_has_a_logarithmic_axis_and_a_labelled_line_for_each_method(tmp_path):
    errors, seconds = Comparison(ROWS).plot(tmp_path / "out.png")
    figure = errors.figure
    for ax in (errors, seconds):
        assert ax.get_yscale() == "log"
        assert [line.get_label() for line in ax.lines] == ["svd", "a_longer_name"]
    np.testing.assert_array_equal(errors.lines[0].get_xydata(), [[2, 0.25], [10, 0.125]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["svd", "a_longer_name"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_plot_without_matplotlib_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for path in (None, tmp_path / "out.png"):
        with pytest.raises(ImportError, match=r"a plot needs matplotlib: pip install 'curtensor\[plot\]'"):
            Comparison(ROWS).plot(path)
    assert not list(tmp_path.iterdir())


def test_plot_of_an_unknown_format_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"the ending of the plot's file must be one of .*png.*, got 'xyz'"):
        Comparison(ROWS).plot(tmp_path / "out.xyz")
    assert not list(tmp_path.iterdir())


def own_svd(A, k, rng):
    return np.zeros(A.shape)


own_svd.__name__ = "svd"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ranks": 0}, ValueError, "each of ranks must be between 1 and 10, got 0"),
        ({"ranks": [2, 11]}, ValueError, "each of ranks must be between 1 and 10, got 11"),
        ({"ranks": []}, ValueError, r"ranks must be distinct and at least one, got \[\]"),
        ({"ranks": [2, 2]}, ValueError, r"ranks must be distinct and at least one, got \[2, 2\]"),
        ({"ranks": 2.0}, TypeError, "each of ranks must be an integer, got 2.0"),
        ({"ranks": True}, TypeError, "each of ranks must be an integer, got True"),
        ({"ranks": "5"}, TypeError, "ranks must be an integer or several, got '5'"),
        ({"methods": "cur"}, TypeError, "methods must be a sequence of names and functions, got 'cur'"),
        ({"methods": 1}, TypeError, "methods must be a sequence of names and functions, got 1"),
        ({"methods": ["nix"]}, ValueError, "each of methods must be a function or one of svd, .*, got 'nix'"),
        ({"methods": [1]}, TypeError, "each of methods must be a function or one of svd, .*, got 1"),
        ({"methods": ["cur", "cur"]}, ValueError, "methods must be of distinct names"),
        ({"methods": [own_svd]}, ValueError, "methods must be of distinct names"),
        ({"methods": [lambda A, k, rng: np.zeros((1, 1))]}, ValueError, "approximation must be of shape"),
        ({"rng": "x"}, TypeError, "rng must be"),
        ({"callback": 1}, TypeError, "callback must be callable or None, got 1"),
        ({"A": np.full((20, 10), np.nan)}, ValueError, r"A must be finite, got NaN or infinity, first at \(0, 0\)"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    options = {"A": matrix(20, 10), "ranks": 2} | options
    with pytest.raises(error, match=message):
        compare(options.pop("A"), options.pop("ranks"), **options)


def test_truncated_svd_has_the_rank_asked_for():
    approximation = by_svd(matrix(30, 20), 4, np.random.default_rng(0))
    assert np.linalg.matrix_rank(approximation @ np.eye(20)) == 4
