import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matrices import DTYPES, FAMILIES, SPARSE_KINDS, eps, mostly_zero, normal
from numpy.testing import assert_allclose
from scipy.sparse.linalg import aslinearoperator

import curtensor as ct
from curtensor.accuracy import NORMS

NUMPY = {
    "fro": np.linalg.norm,
    "spectral": lambda X: np.linalg.norm(X, 2),
    "max": lambda X: np.abs(X).max(),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_error_is_numpys(norm, dtype, rng):
    A = normal((60, 45), dtype, rng)
    B = A + np.array(0.01, dtype) * normal((60, 45), dtype, rng)
    exact = NUMPY[norm](A - B) / NUMPY[norm](A)
    for approximation in (B, aslinearoperator(B), B.tolist()):
        tolerance = 1e-2 if norm == "spectral" else 100 * eps(dtype)
        assert_allclose(ct.relative_error(A, approximation, norm=norm, rng=0), exact, rtol=tolerance, atol=eps(dtype))


@pytest.mark.parametrize("kind", SPARSE_KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_sparse_error_is_dense_error(norm, kind, rng):
    A, B = mostly_zero(60, 45, "float64", rng), mostly_zero(60, 45, "float64", rng)
    dense = ct.relative_error(A, B, norm=norm, rng=0)
    assert_allclose(ct.relative_error(SPARSE_KINDS[kind](A), SPARSE_KINDS[kind](B), norm=norm, rng=0), dense, rtol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_decompositions_are_approximations(norm, rng):
    A = FAMILIES["harmonic"](60, 50, "complex128", rng)
    for result in (
        ct.cur_decomposition(A, 5, rng=0),
        ct.interpolative_decomposition(A, 5, rng=0),
        ct.randomized_svd(A, 5, rng=0),
    ):
        exact = NUMPY[norm](A - result.to_array()) / NUMPY[norm](A)
        assert_allclose(ct.relative_error(A, result, norm=norm, rng=0), exact, rtol=1e-3)


@pytest.mark.parametrize("kind", ["csr_array", "csc_array"])
@pytest.mark.parametrize("norm", ["fro", "max"])
def test_sparse_decompositions_are_approximations(norm, kind, rng):
    A = mostly_zero(60, 45, "complex128", rng)
    result = ct.cur_decomposition(SPARSE_KINDS[kind](A), 5, rng=0)
    exact = NUMPY[norm](A - result.to_array()) / NUMPY[norm](A)
    assert_allclose(ct.relative_error(SPARSE_KINDS[kind](A), result, norm=norm), exact, rtol=1e-12)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_operator_with_products_alone_is_read_slice_by_slice(order, rng):
    A, B = np.asarray(normal((400, 500), "complex128", rng), order=order), normal((400, 500), "complex128", rng)
    exact = np.linalg.norm(A - B) / np.linalg.norm(A)
    assert_allclose(ct.relative_error(A, aslinearoperator(B)), exact, rtol=1e-12)


def test_probes_are_within_their_deviation(rng):
    A = normal((80, 60), "float64", rng)
    B = A + 0.1 * normal((80, 60), "float64", rng)
    exact = np.linalg.norm(A - B) / np.linalg.norm(A)
    estimates = [ct.relative_error(A, B, n_probes=50, rng=seed) for seed in range(20)]
    assert max(abs(estimate / exact - 1) for estimate in estimates) < 4 * np.sqrt(2 / 50)
    assert abs(np.mean(estimates) / exact - 1) < 4 * np.sqrt(2 / 50 / 20)


@pytest.mark.parametrize("options", [{"norm": norm} for norm in NORMS] + [{"n_probes": 10}])
@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-310, 1.0])
def test_any_scale(scale, options, rng):
    A = rng.uniform(0.5, 1, (40, 30)) * scale
    assert_allclose(ct.relative_error(A, A / 2, **options, rng=0), 0.5, rtol=1e-6)
    assert ct.relative_error(A, A, **options, rng=0) == 0
    assert_allclose(ct.relative_error(A, np.zeros_like(A), **options, rng=0), 1)


@pytest.mark.parametrize("options", [{"norm": norm} for norm in NORMS] + [{"n_probes": 10}])
def test_zero_matrix(options):
    zero, one = np.zeros((5, 4)), np.ones((5, 4))
    assert ct.relative_error(zero, zero, **options, rng=0) == 0
    assert ct.relative_error(zero, one, **options, rng=0) == np.inf
    assert isinstance(ct.relative_error(one, zero, **options, rng=0), float)


@pytest.mark.parametrize("norm", ["fro", "max"])
@given(
    hnp.arrays(float, (4, 3), elements=st.floats(-1e6, 1e6, width=32)),
    hnp.arrays(float, (4, 3), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_error_of_any_small_matrix(norm, A, B):
    if A.any():
        assert_allclose(ct.relative_error(A, B, norm=norm), NUMPY[norm](A - B) / NUMPY[norm](A), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "passes"), [({}, 2), ({"norm": "max"}, 2), ({"n_probes": 5}, 1), ({"norm": "spectral"}, 39)]
)
def test_passes_over_the_matrix(options, passes, distant, rng):
    B = rng.standard_normal((130, 120))
    A = distant(B)
    ct.relative_error(A, B / 2, **options, rng=0)
    assert A.passes == passes


def test_same_seed_same_result(rng):
    A = rng.standard_normal((50, 40))
    for options in ({"n_probes": 3}, {"norm": "spectral"}):
        assert len({ct.relative_error(A, A * 0.9, **options, rng=5) for _ in range(3)}) == 1
