import numpy as np
import pytest
from matrices import DTYPES, FAMILIES, eps, normal
from numpy.testing import assert_allclose, assert_array_equal
from scipy import fft

from curtensor.operands import ndarray
from curtensor.operands.arithmetic import dense
from curtensor.sketching import SKETCHES, random_matrix, sketch_matrix, sparse_sign, srtt

REAL = {"float32": "float32", "float64": "float64", "complex64": "float32", "complex128": "float64"}


def test_srtt_is_a_signed_choice_of_cosine_vectors():
    class Signs:
        """Chooses the given frequencies, and no sign but plus."""

        def choice(self, *arguments, size=None, replace=True):
            return np.ones(size) if replace else np.array([0, 3, 19])

    X = srtt(20, 3, np.float64, Signs())
    spectrum = fft.dct(X, axis=0, norm="ortho")
    expected = np.zeros((20, 3))
    expected[[0, 3, 19], [0, 1, 2]] = np.sqrt(20 / 3)
    assert_allclose(spectrum, expected, atol=50 * eps(float))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SKETCHES)
def test_shape_and_precision(name, dtype, rng):
    X = SKETCHES[name](30, 8, dtype, rng)
    assert X.shape == (30, 8)
    assert X.dtype == REAL[dtype]


@pytest.mark.parametrize("name", SKETCHES)
def test_norms_are_kept_on_average(name):
    x = np.linspace(-1, 2, 40)
    squares = [
        np.linalg.norm(SKETCHES[name](40, 12, np.float64, np.random.default_rng(i)).T @ x) ** 2 for i in range(400)
    ]
    deviation = np.std(squares) / np.sqrt(len(squares))
    assert abs(np.mean(squares) - x @ x) < 4 * deviation


@pytest.mark.parametrize("name", SKETCHES)
def test_same_seed_same_sketch(name):
    first, second = (dense(SKETCHES[name](30, 8, np.float64, np.random.default_rng(5))) for _ in range(2))
    assert_array_equal(first, second)
    assert not np.array_equal(first, dense(SKETCHES[name](30, 8, np.float64, np.random.default_rng(6))))


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_sparse_sign_rows_have_distinct_places_and_unit_norm(size, rng):
    X = sparse_sign(50, size, np.float64, rng)
    X.sum_duplicates()
    assert_array_equal(np.diff(X.indptr), min(4, size))
    assert_allclose((X.toarray() ** 2).sum(axis=1), 1)


def test_srtt_columns_are_orthogonal(rng):
    X = srtt(32, 32, np.float64, rng)
    assert_allclose(X.T @ X, np.eye(32), atol=100 * eps(float))


@pytest.mark.parametrize("name", SKETCHES)
def test_no_smaller_sketch_than_the_whole_is_the_identity(name, rng):
    assert_array_equal(dense(random_matrix(SKETCHES[name], 7, 9, np.float64, rng)), np.eye(7))


@pytest.mark.parametrize("name", SKETCHES)
def test_sketches_of_harmonic_spectra_embed_the_leading_space(name, rng):
    A = FAMILIES["harmonic"](120, 80, "float64", rng)
    U, s, _ = np.linalg.svd(A)
    X = random_matrix(SKETCHES[name], 80, 40, np.float64, rng)
    Q = np.linalg.qr(A @ X)[0]
    error = np.linalg.norm(A - Q @ (Q.T @ A))
    assert error < 2 * np.linalg.norm(s[20:])
    assert np.linalg.norm(U[:, :5] - Q @ (Q.T @ U[:, :5]), 2) < 0.5


@pytest.mark.parametrize("scale", [1e300, 1e200, 1.0, 1e-200, 1e-310])
def test_scale_is_taken_out_where_squares_would_overflow(scale, rng):
    A = normal((9, 7), "float64", rng) * scale
    before = A.copy()
    sketched = sketch_matrix(ndarray, A, np.eye(9), np.eye(7))
    factor = 2.0 ** (sketched.exponent // 2), 2.0 ** (sketched.exponent - sketched.exponent // 2)
    assert_array_equal(sketched.right, A * factor[0] * factor[1])
    assert_allclose(sketched.norm, np.linalg.norm(A * factor[0] * factor[1]))
    assert sketched.exponent == 0 or 0.1 < np.abs(sketched.operand.matmat(sketched.A, np.eye(7))).max() <= 1
    assert_array_equal(A, before)
