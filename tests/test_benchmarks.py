"""The benchmarks run, on small matrices, and their matrices and measures are what they say."""

import functools
import inspect
import itertools

import numpy as np
import pytest

from benchmarks import (
    bench_cur,
    bench_entries,
    bench_kernels,
    bench_matrices,
    bench_selection,
    bench_svd,
    bench_tensors,
    bench_trains,
    bench_tubal,
    bench_tucker,
    common,
)
from curtensor import _kernels
from evidence import claims

pytest.importorskip("sklearn")


def few(methods, families):
    """The parameters of a suite on some families."""
    return {"families": families, "params": (list(methods), list(families))}


MATRICES = ("coherent", "digits", "MiniLM weight")
TENSORS = {name: bench_tensors.TENSORS[name] for name in ("low rank + noise", "kinetic")}
SMALL = {
    bench_matrices.Matrices: {"shape": (90, 70), "k": 6, **few(bench_matrices.METHODS, MATRICES)},
    bench_cur.Tolerance: {"shape": (40, 30), **few(bench_cur.TOLERANCES, MATRICES)},
    bench_cur.Sparse: {"shape": (2000, 1000)},
    bench_selection.WideSelection: {"shape": (50, 1200)},
    bench_selection.PositiveSemidefinite: {"n": 120, "k": 10},
    bench_entries.Functions: {"n": 200},
    bench_entries.Kernels: {"n": 120, "k": 10},
    bench_svd.ErrorEstimate: {"shape": (90, 70), "k": 6},
    bench_svd.LeverageScores: {"shape": (120, 60)},
    bench_tensors.Tensors: {"shape": (24, 22, 20), "rank": 3, **few(bench_tensors.METHODS, TENSORS)},
    bench_trains.Functions: {"params": (["tt_cross", "tensor_cur", "teneva"], ["1/(1+i+j+...), 12^5"], [1e-3])},
    bench_tensors.Entries: {"shape": (30, 30, 30), "rank": 3, **few(bench_tensors.ENTRYWISE, TENSORS)},
}
MODULES = (
    bench_cur, bench_entries, bench_kernels, bench_matrices, bench_selection, bench_svd, bench_tensors, bench_trains,
    bench_tubal, bench_tucker,
)  # fmt: skip
BENCHMARKS = [
    pytest.param(suite, name, id=f"{suite.__module__.split('.')[-1]}.{suite.__name__}.{name}")
    for module in MODULES
    for _, suite in inspect.getmembers(module, inspect.isclass)
    for name in dir(suite)
    if name.startswith(("time_", "peakmem_", "track_"))
]
COMPARISONS = sorted(
    {value for param in BENCHMARKS if issubclass(value := param.values[0], common.Comparison)}, key=str
)


@pytest.fixture(autouse=True, scope="module")
def small():
    """Small matrices and tensors for all suites."""
    with pytest.MonkeyPatch.context() as patch:
        for suite, sizes in SMALL.items():
            for name, value in sizes.items():
                patch.setattr(suite, name, value)
        X = np.random.default_rng(0).standard_normal((14, 12, 5))
        patch.setattr(bench_tubal, "TENSORS", {name: lambda: (X, 3) for name in bench_tubal.TENSORS})
        patch.setattr(bench_tubal.TProduct, "params", (bench_tubal.TProduct.params[0], [(7, 6, 5)]))
        cases = dict.fromkeys(bench_tucker.CASES, ((14, 12, 10), 2))
        patch.setattr(bench_tucker, "CASES", cases)
        yield


@functools.cache
def cache_of(suite):
    """What asv would hand to the benchmarks of a suite, as a tuple of none or one."""
    return (suite().setup_cache(),) if hasattr(suite, "setup_cache") else ()


@pytest.mark.parametrize(("suite", "name"), BENCHMARKS)
def test_benchmark_runs_on_its_first_and_last_parameters(suite, name):
    benchmark = suite()
    params = getattr(benchmark, "params", [[]])
    params = params if isinstance(params[0], list) else [params]
    combinations = list(itertools.product(*params)) if params[0] else [()]
    for combination in {combinations[0], combinations[-1]}:
        if hasattr(benchmark, "setup"):
            try:
                benchmark.setup(*cache_of(suite), *combination)
            except NotImplementedError as reason:  # asv's own word for a benchmark to be skipped
                assert "is not installed" in str(reason)
                continue
        result = getattr(benchmark, name)(*cache_of(suite), *combination)
        assert (np.isfinite(result) and result >= 0) if name.startswith("track_") else result is None


@pytest.mark.parametrize("suite", COMPARISONS)
def test_every_method_is_compared_on_every_family(suite):
    (found,) = cache_of(suite)
    assert list(found) == sorted(itertools.product(*suite.params), key=list(found).index)
    broken = {key: value for key, value in found.items() if isinstance(value, Exception)}
    assert [key for key, value in broken.items() if not isinstance(value, NotImplementedError)] == []
    assert all(min(value) >= 0 and np.isfinite(value).all() for key, value in found.items() if key not in broken)


def missing(*arguments):
    import nonsense  # noqa: F401


def broken(*arguments):
    raise ValueError("broken")


def test_what_is_missing_or_raises_spoils_its_own_figures_only():
    methods = {"good": lambda x: x, "missing": missing, "broken": broken}
    families = {"data": lambda: 3, "no data": missing}
    found = common.outcomes(methods, families, lambda method, x: [method(x), x])
    assert found["good", "data"] == [3, 3]
    for key, kind, text in (
        (("missing", "data"), NotImplementedError, "nonsense is not installed"),
        (("good", "no data"), NotImplementedError, "nonsense is not installed"),
        (("broken", "data"), RuntimeError, "ValueError: broken"),
    ):
        with pytest.raises(kind, match=text):
            common.Comparison.setup(None, found, *key)


def test_each_call_has_its_own_seed_and_the_figures_are_medians():
    seconds, *found = common.measured(lambda seed: seed, lambda seed: [seed, 10 * seed])
    assert found == [2, 20] and 0 <= seconds < 1


@pytest.mark.parametrize("name", common.FAMILIES)
def test_family_is_the_same_for_the_same_seed(name):
    first, second = (common.FAMILIES[name](80, 60, 3) for _ in range(2))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12 * np.abs(first).max())
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
    A = common.fast_decay(90, 70, 0)
    spectrum = np.linalg.svd(A, compute_uv=False)
    try:
        ratio = common.error(A, common.METHODS[name](A, 20, 0)) / common.tail(spectrum, 20)
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
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
