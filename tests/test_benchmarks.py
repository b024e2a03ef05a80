"""The benchmarks run, on small matrices, and their matrices and measures are what they say."""

import inspect
import itertools

import numpy as np
import pytest

from benchmarks import bench_cur, bench_kernels, bench_selection, bench_svd, claims, common
from curtensor import _kernels

pytest.importorskip("sklearn")

BENCHMARKS = [
    pytest.param(suite, name, id=f"{suite.__module__.split('.')[-1]}.{suite.__name__}.{name}")
    for module in (bench_cur, bench_selection, bench_svd, bench_kernels)
    for _, suite in inspect.getmembers(module, inspect.isclass)
    for name in dir(suite)
    if name.startswith(("time_", "peakmem_", "track_"))
]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small matrices for all suites."""
    monkeypatch.setattr(common.OnFamilies, "shape", (90, 70))
    monkeypatch.setattr(common.OnFamilies, "k", 6)
    monkeypatch.setattr(bench_cur.Tolerance, "shape", (40, 30))
    monkeypatch.setattr(bench_cur.Sparse, "shape", (2000, 1000))
    monkeypatch.setattr(bench_selection.WideSelection, "shape", (50, 1200))
    monkeypatch.setattr(bench_selection.PositiveSemidefinite, "n", 120)
    monkeypatch.setattr(bench_svd.LeverageScores, "shape", (120, 60))


@pytest.mark.parametrize(("suite", "name"), BENCHMARKS)
def test_benchmark_runs_on_its_first_and_last_parameters(suite, name):
    benchmark = suite()
    cache = [benchmark.setup_cache()] if hasattr(benchmark, "setup_cache") else []
    params = getattr(benchmark, "params", [[]])
    params = params if isinstance(params[0], list) else [params]
    combinations = list(itertools.product(*params)) if params[0] else [()]
    for combination in {combinations[0], combinations[-1]}:
        if hasattr(benchmark, "setup"):
            try:
                benchmark.setup(*cache, *combination)
            except NotImplementedError as reason:  # asv's own word for a benchmark to be skipped
                assert "is not installed" in str(reason)
                continue
        result = getattr(benchmark, name)(*cache, *combination)
        assert (np.isfinite(result) and result >= 0) if name.startswith("track_") else result is None


@pytest.mark.parametrize("name", common.FAMILIES)
def test_family_is_the_same_for_the_same_seed(name):
    first, second = (common.FAMILIES[name](80, 60, 3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (80, 60) and np.isfinite(first).all() and first.any()


def test_confirming_families_are_none_of_the_tuning_families():
    assert len(common.CONFIRMING) >= 12
    assert not set(common.CONFIRMING) & set(common.TUNING)
    assert not set(common.CONFIRMING.values()) & set(common.TUNING.values())


def test_kahan_matrix_has_the_published_optimum():
    spectrum = np.linalg.svd(common.FAMILIES["Kahan"](500, 500, 0), compute_uv=False)
    np.testing.assert_allclose(common.tail(spectrum, 80) / common.tail(spectrum, 0), 6.0e-4, rtol=0.01)


@pytest.mark.parametrize("name", common.METHODS)
def test_no_method_is_better_than_the_truncated_svd(name):
    if not common.installed(name):
        pytest.skip(f"{name} is not installed")
    A = common.fast_decay(90, 70, 0)
    spectrum = np.linalg.svd(A, compute_uv=False)
    ratio = common.error(A, common.METHODS[name](A, 20, 0)) / common.tail(spectrum, 20)
    assert 1 - 1e-10 <= ratio < 100


def test_every_kernel_has_a_benchmark():
    kernels = {name for name, value in vars(_kernels).items() if callable(value) and hasattr(value, "py_func")}
    assert kernels <= set(bench_kernels.CASES)


def test_missed_claim_is_said_and_fails(capsys):
    lines = [claims.at_most("ratio", 2, value) for value in (2, 2.5)]
    assert claims.report({"ratio": lambda: lines}, ["ratio"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:]] == ["held", "MISSED", "1"]


def test_unknown_claim_is_refused(capsys):
    assert claims.report({"ratio": list}, ["nonsense"]) == 2
    assert capsys.readouterr().out == "claim must be one of ratio, got nonsense\n"
