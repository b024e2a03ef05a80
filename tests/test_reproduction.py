"""The page of published figures is what the measurements say, and the published algorithms are what they should be."""

import re

import numpy as np
import pytest

import curtensor as ct
from benchmarks import common
from evidence import pages, reproduction

RESULTS = pages.read_results("reproduction")


def figures(table, figure):
    """The medians of a figure, by case."""
    return {row["case"]: float(row["median"]) for row in RESULTS if (row["table"], row["figure"]) == (table, figure)}


def section(title):
    text = reproduction.PAGE.read_text()
    return re.search(rf"^## {title}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL).group(1)


@pytest.mark.parametrize("table", reproduction.TABLES)
def test_tables_of_the_page_are_those_of_the_results(table):
    rows = [row for row in RESULTS if row["table"] == table]
    assert pages.read_table(reproduction.PAGE, table) == reproduction.layout(rows)


@pytest.mark.parametrize("core", ["`intersection`", "`projection`"])
def test_every_published_case_is_closer_or_said_to_be_lost(core):
    ours, published = figures("matrices", core), figures("matrices", "best published")
    assert len(ours) == len(published) == 8
    for case, ratio in ours.items():
        assert ratio < published[case] or case in section("What is lost")


@pytest.mark.parametrize("method", ["pivoted QR of sketches", "leverage scores", "IterativeCUR here"])
def test_default_core_is_closer_than_what_practitioners_write(method):
    ours, others = figures("matrices", "`projection`"), figures("matrices", method)
    assert all(ours[case] < other for case, other in others.items())


def test_iterative_cur_is_the_faster_one_as_the_page_says():
    ours, theirs = figures("matrix times", "`intersection`"), figures("matrix times", "IterativeCUR here")
    assert all(2.5 <= ours[case] / theirs[case] <= 8 for case in theirs)


def test_run_of_iterative_cur_agrees_with_its_published_errors():
    here, published = figures("matrices", "IterativeCUR here"), figures("matrices", "IterativeCUR published")
    for case, ratio in published.items():
        np.testing.assert_allclose(here[case], ratio, rtol=0.2, err_msg=case)


def test_fiber_cur_as_published_is_cheaper_as_the_page_says():
    seconds, ratios = figures("chidori", "CPU s"), figures("chidori", "error / ST-HOSVD's")
    assert 10 <= seconds["`tensor_cur`"] / seconds["Fiber CUR as published"] <= 30
    assert ratios["Chidori CUR as published"] < ratios["`tensor_cur`"]


def test_missed_aims_in_speed_are_those_that_the_page_names():
    times, aims = figures("tucker times", "times as fast, CPU s"), figures("tucker times", "aimed at")
    for case, aim in aims.items():
        assert (times[case] < aim) == (f"**{case}**" in section("What is lost")), case


@pytest.mark.parametrize("rank", [7, 12])
def test_iterative_cur_is_exact_for_exact_rank(rank):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((60, rank)) @ rng.standard_normal((rank, 50))
    C, core = reproduction.iterative_cur(A, rank, 1, block=5)
    assert all(any((column == A[:, j]).all() for j in range(50)) for column in C.T)
    np.testing.assert_allclose(C @ core, A, atol=1e-10)


@pytest.mark.parametrize("method", [reproduction.published_chidori, reproduction.published_fiber])
def test_published_tensor_curs_are_exact_for_exact_ranks(method):
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((length, 3)) for length in (30, 35, 40)]
    X = ct.tucker_to_tensor(rng.standard_normal((3, 3, 3)), factors)
    np.testing.assert_allclose(ct.tucker_to_tensor(*method(X, 3, 0)), X, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["matrices", "smooth", "hooi", "tubal"])
def test_errors_are_found_again(table, monkeypatch):
    """To 5 percent; where more than ten times the optimum is left only its order of magnitude stands."""
    small = [case for case in reproduction.PUBLISHED if case[2] <= 150]
    monkeypatch.setattr(reproduction, "PUBLISHED", small)
    written = {(row["case"], row["figure"]): float(row["median"]) for row in RESULTS if row["table"] == table}
    found = {(row["case"], row["figure"]): float(row["median"]) for row in reproduction.measured(table)}
    assert found and found.keys() <= written.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, written[key], rtol=0.05 if written[key] < 10 else 9, err_msg=str(key))


def test_matrices_are_those_of_the_paper():
    A = common.FAMILIES["grcar"](6, 6, 0)
    np.testing.assert_array_equal(A[2], [0, -1, 1, 1, 1, 1])
    np.testing.assert_array_equal(common.FAMILIES["Lehmer"](3, 3, 0)[0], [1, 1 / 2, 1 / 3])
    np.testing.assert_array_equal(common.FAMILIES["circulant"](3, 3, 0)[0], [1, 3, 2])
    kahan = common.FAMILIES["Kahan"](3, 3, 0)
    s, c = np.sin(1.2), np.cos(1.2)
    np.testing.assert_allclose(kahan, [[1, -c, -c], [0, s, -s * c], [0, 0, s * s]], atol=1e-15)
