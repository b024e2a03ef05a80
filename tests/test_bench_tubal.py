"""What the benchmarks of the tubal module measure is what they say."""

import numpy as np
import pytest

import curtensor
from benchmarks import bench_tubal


@pytest.fixture
def small(monkeypatch):
    """A small tensor in the place of all."""
    X = np.random.default_rng(0).standard_normal((14, 12, 5))
    monkeypatch.setattr(bench_tubal, "TENSORS", {name: lambda: (X, 3) for name in bench_tubal.TENSORS})
    return X


@pytest.mark.parametrize("method", bench_tubal.METHODS)
def test_no_method_beats_the_optimum_for_its_slices(method, small):
    suite = bench_tubal.Tubal()
    X, rank, best = suite.tensor("Coulomb")
    _, ratio = suite.figures(bench_tubal.METHODS[method], (X, rank, best))
    optimum = np.linalg.norm(X - curtensor.tubal_svd(X, 2 * rank if "CUR" in method else rank).to_array())
    assert ratio >= (1 - 1e-10) * optimum / best


def test_baseline_is_the_tubal_svd(small):
    ours, slices = (bench_tubal.METHODS[m](small, 3, 0) for m in list(bench_tubal.METHODS)[-2:])
    np.testing.assert_allclose(ours, slices, atol=1e-13)


@pytest.mark.parametrize("name", ["coulomb", "coherent"])
def test_families_are_the_same_each_time(name):
    (first, rank), (second, _) = (getattr(bench_tubal, name)() for _ in range(2))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12 * np.abs(first).max())
    assert np.isfinite(first).all() and 1 <= rank < min(first.shape[:2])
