"""The CUR of given columns and rows: the definition's U, held in factors; its gradients are in test_array_api.py."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matrices import DTYPES, SHAPES, eps, low_rank
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor.cur import CORES, Core
from curtensor.operands.arithmetic import dense


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_given_indices_have_the_u_of_the_definition(dtype, shape, core, rng):
    A = low_rank(*shape, 12, dtype, rng)
    columns, rows = rng.permutation(shape[1])[:5], rng.permutation(shape[0])[:7]
    result = ct.cur_from_indices(A, columns, rows, core=core)
    pinv = np.linalg.pinv
    U = pinv(A[:, columns]) @ A @ pinv(A[rows]) if core == "projection" else pinv(A[np.ix_(rows, columns)])
    assert_array_equal(result.C, A[:, columns])
    assert_array_equal(result.R, A[rows])
    assert_array_equal(result.col_indices, columns)
    assert_array_equal(result.row_indices, rows)
    tolerance = 1e3 * eps(dtype) * np.linalg.norm(U, 2)
    assert_allclose(result.U, U, rtol=0, atol=tolerance * np.linalg.cond(U))
    assert result.error_estimate == pytest.approx(ct.relative_error(A, result), rel=1e2 * eps(dtype))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_chosen_indices_given_give_the_same_cur(kind, scale, core, rng):
    A = scale * low_rank(60, 40, 8, "f8", rng)
    A = A if kind == "dense" else sparse.csr_array(A)
    chosen = ct.cur_decomposition(A, 8, core=core, rng=0)
    again = ct.cur_from_indices(A, chosen.col_indices, chosen.row_indices, core=core)
    assert_allclose(again.to_array() / scale, chosen.to_array() / scale, atol=1e-12)
    assert again.error_estimate < 1e-12
    assert sparse.issparse(again.left) == sparse.issparse(again.C) == (kind == "sparse")


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_given_columns_that_depend_on_each_other_count_once(kind):
    A = kind(np.array([[1.0, 2, 0, 1], [2, 4, 0, 1], [0, 0, 1, 1]]))
    result = ct.cur_from_indices(A, [0, 1, 2], [0, 1, 2])
    C = dense(A)[:, :3]
    expected = C @ np.linalg.pinv(C) @ dense(A)
    assert result.middle.shape == (2, 3)
    assert_allclose(result.to_array(), expected, atol=1e-14)
    assert_allclose(result.C @ result.U @ result.R, expected, atol=1e-14)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_a_cur_of_dependent_columns_is_saved_and_loaded(kind, tmp_path):
    A = kind(np.array([[1.0, 2, 0, 1], [2, 4, 0, 1], [0, 0, 1, 1]]))
    result = ct.cur_from_indices(A, [0, 1, 2], [0, 1])
    result.save(tmp_path / "cur.npz")
    again = ct.CUR.load(tmp_path / "cur.npz")
    assert again.middle.shape == (2, 2) and again.C.shape == (3, 3)
    assert_array_equal(again.to_array(), result.to_array())


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_file_with_a_basis_wider_than_its_slices_is_refused(side, tmp_path):
    result = ct.cur_from_indices(np.random.default_rng(0).standard_normal((6, 5)), [0, 1], [2, 3])
    wide = {"left": (result.left[:, [0, 1, 1]], result.middle[[0, 1, 1]], result.right)}
    wide["right"] = (result.left, result.middle[:, [0, 1, 1]], result.right[[0, 1, 1]])
    parts = dict(zip(("left", "middle", "right"), wide[side], strict=True))
    replace(result, **parts).save(tmp_path / "cur.npz")
    with pytest.raises(ValueError, match=f"path must be a file written by CUR.save, got .*{side} must be"):
        ct.CUR.load(tmp_path / "cur.npz")


@pytest.mark.parametrize("core", [Core(lambda right, image: (right @ image).conj().T, sees="image"), "function"])
def test_ones_own_core_takes_given_indices(core, rng):
    def function(operand, A, left, right, R, rows):
        return (right @ operand.rmatmat(A, left)).conj().T

    A = rng.standard_normal((12, 9))
    own = ct.cur_from_indices(A, [4, 0, 2], [3, 1], core=function if core == "function" else core)
    assert_allclose(own.to_array(), ct.cur_from_indices(A, [4, 0, 2], [3, 1]).to_array(), atol=1e-13)


def test_names_go_with_given_indices(rng):
    A = pd.DataFrame(rng.standard_normal((6, 4)), columns=list("abcd"))
    assert_array_equal(ct.cur_from_indices(A, [2, 0], [1, 5]).col_names, ["c", "a"])


def test_no_indices_leave_all_of_a_matrix():
    result = ct.cur_from_indices(np.ones((5, 4)), [], [])
    assert result.error_estimate == 1
    assert result.U.shape == (0, 0) and not result.to_array().any()


WRONG_INDICES = {
    "twice": (([0, 0], [0]), {}, ValueError, "columns must be distinct"),
    "negative": (([0], [-1]), {}, ValueError, "each index of rows must be between 0 and 4"),
    "beyond": (([4], [0]), {}, ValueError, "each index of columns must be between 0 and 3"),
    "float": (([0.0], [0]), {}, TypeError, "each index of columns must be an integer"),
    "few rows": (([0, 1], [0]), {"core": "intersection"}, ValueError, "rows must be at least 2 for this core, got 1"),
    "core": (([0], [0]), {"core": "both"}, ValueError, "core must be"),
}


@pytest.mark.parametrize("wrong", WRONG_INDICES)
def test_wrong_given_indices_are_refused(wrong):
    arguments, options, error, message = WRONG_INDICES[wrong]
    with pytest.raises(error, match=f"^{message}"):
        ct.cur_from_indices(np.ones((5, 4)), *arguments, **options)


def test_given_indices_of_what_is_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"^A must be finite, got NaN or infinity, first at \(1, 2\)"):
        ct.cur_from_indices(np.where(np.arange(12).reshape(3, 4) == 6, np.nan, 1.0), [0], [0])
