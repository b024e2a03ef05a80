"""The benchmarks of the tubal module run, on small tensors, and their baseline is the tubal SVD."""

import itertools

import numpy as np
import pytest

import curtensor
from benchmarks import bench_tubal


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small tensors for all suites."""
    X = np.random.default_rng(0).standard_normal((14, 12, 5))
    monkeypatch.setattr(bench_tubal, "TENSORS", {name: lambda: (X, 3) for name in bench_tubal.TENSORS})
    monkeypatch.setattr(bench_tubal.TProduct, "params", ([*bench_tubal.TProduct.params[0]], [(7, 6, 5)]))
    return X


@pytest.mark.parametrize("method", bench_tubal.METHODS)
def test_suite_runs_and_no_method_beats_the_optimum_for_its_slices(method):
    suite = bench_tubal.Tubal()
    cache = suite.setup_cache()
    suite.setup(cache, method, "Coulomb")
    suite.time_method(cache, method, "Coulomb")
    suite.peakmem_method(cache, method, "Coulomb")
    optimum = curtensor.tubal_svd(suite.X, 6 if "CUR" in method else 3).error_estimate
    assert suite.track_error_over_tubal_svd(cache, method, "Coulomb") >= (1 - 1e-10) * optimum / suite.best


def test_products_run():
    suite = bench_tubal.TProduct()
    for parameters in itertools.product(*suite.params):
        suite.setup(*parameters)
        suite.time_product(*parameters)


def test_baseline_is_the_tubal_svd(small):
    ours, slices = (bench_tubal.METHODS[m](small, 3, 0) for m in list(bench_tubal.METHODS)[-2:])
    np.testing.assert_allclose(ours, slices, atol=1e-13)


@pytest.mark.parametrize("name", ["coulomb", "coherent"])
def test_families_are_the_same_each_time(name):
    (first, rank), (second, _) = (getattr(bench_tubal, name)() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all() and 1 <= rank < min(first.shape[:2])
