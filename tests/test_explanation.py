"""What chosen columns and rows explain: shares by projection, choice by choice, in one pass over the matrix."""

import builtins

import numpy as np
import pandas as pd
import pytest
from matrices import DTYPES, eps, low_rank, normal
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor.files import example_matrix

SHAPES = [(60, 40), (40, 60)]


def naive(A, chosen):
    """Shares so far, share of each column, what is left of rows, and coefficients: each by its own least squares."""
    fits = [A[:, chosen[: j + 1]] @ np.linalg.lstsq(A[:, chosen[: j + 1]], A)[0] for j in range(len(chosen))]
    total = np.linalg.norm(A) ** 2
    coefficients = np.linalg.lstsq(A[:, chosen], A)[0]
    left = np.linalg.norm(A - fits[-1], axis=0) ** 2
    return (
        [1 - np.linalg.norm(A - fit) ** 2 / total for fit in fits],
        1 - left / np.linalg.norm(A, axis=0) ** 2,
        np.linalg.norm(A - fits[-1], axis=1) ** 2 / total,
        coefficients,
    )


def explanations(A, axis):
    """The same columns, or rows, explained by all who can."""
    interpolation = ct.interpolative_decomposition(A, 5, axis=axis, rng=0)
    others = np.arange(5)
    pair = (others, interpolation.indices) if axis == 1 else (interpolation.indices, others)
    yield interpolation.explain(A)
    yield ct.explain(A, interpolation.indices, axis=axis)
    yield ct.cur_from_indices(A, *pair[::-1]).explain(A, axis=axis)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=["tall", "wide"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shares_are_those_of_projections_on_the_chosen_ones_so_far(dtype, shape, axis, rng):
    A = low_rank(*shape, 30, dtype, rng) + normal(shape, dtype, rng) / 10
    A.flags.writeable = False
    along = (A if axis == 1 else A.T).astype(np.result_type(A, float))
    for n, explanation in enumerate(explanations(A, axis)):
        so_far, each, left, coefficients = naive(along, explanation.chosen)
        tolerance = 300 * eps(dtype)
        assert_allclose(explanation.explained, so_far, rtol=0, atol=tolerance)
        assert_allclose(explanation.each, each, rtol=0, atol=tolerance)
        assert_allclose(explanation.coefficients, coefficients, rtol=0, atol=100 * tolerance)
        assert explanation.axis == axis
        if n < 2:  # of a CUR the rows have two bases
            assert_allclose(explanation.left, left, rtol=0, atol=tolerance)


@pytest.mark.parametrize("core", ["projection", "intersection"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_of_a_cur_rows_are_explained_by_the_approximation_itself(kind, core, rng):
    A = normal((50, 30), "f8", rng) * (rng.random((50, 30)) < 0.3)
    cur = ct.cur_decomposition(kind(A), 6, core=core, rng=0)
    for axis in (0, 1):
        explanation = cur.explain(kind(A), axis=axis)
        left = np.linalg.norm(A - cur.to_array(), axis=axis) ** 2
        norms = np.linalg.norm(A, axis=axis) ** 2
        across = 1 - np.divide(left, norms, out=np.zeros(len(norms)), where=norms > 0)
        assert_allclose(explanation.left, left / norms.sum(), atol=1e-13)
        assert_allclose(explanation.across, across, atol=1e-11)
        assert_allclose(explanation.left.sum(), cur.error_estimate**2, rtol=0.3 if core == "intersection" else 1e-9)


def test_one_pass_is_made_and_no_slice_is_taken(distant, rng):
    A = distant(low_rank(60, 40, 10, "f8", rng))
    cur, interpolation = ct.cur_decomposition(A, 5, rng=0), ct.interpolative_decomposition(A, 5, rng=0)
    for explain in (cur.explain, lambda A: cur.explain(A, axis=0), interpolation.explain):
        A.log.clear()
        explain(A)
        assert A.log == ["images_and_norms"]
    A.log.clear()
    ct.explain(A, interpolation.indices)
    assert A.log == ["take", "rmatmat", "images_and_norms"]


def test_blocks_are_read_once_also_as_columns(rng, tmp_path):
    np.save(tmp_path / "A.npy", low_rank(60, 40, 10, "f8", rng))
    A = ct.row_blocks(np.load(tmp_path / "A.npy", mmap_mode="r"), block_bytes=2**13)
    for X in (A, A.T):
        cur = ct.cur_decomposition(X, 5, rng=0)
        before = A.passes
        cur.explain(X)
        assert A.passes - before == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_svd_beside_is_no_worse_than_the_choice_and_close_to_the_optimum(dtype, rng):
    A = low_rank(70, 50, 50, dtype, rng)
    explanation = ct.cur_decomposition(A, 6, rng=0).explain(A, svd=True, rng=0)
    s = np.linalg.svd(A.astype(np.result_type(A, float)), compute_uv=False)
    optimum = np.cumsum(s**2)[:6] / (s**2).sum()
    assert_allclose(explanation.svd, optimum, rtol=1e-3)
    assert (explanation.svd >= explanation.explained).all()
    assert ct.cur_decomposition(A, 6, rng=0).explain(A).svd is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_tensors_of_torch_are_explained_with_the_svd_beside(dtype, rng):
    torch = pytest.importorskip("torch")
    A = torch.asarray(low_rank(40, 30, 10, "f8", rng), dtype=getattr(torch, dtype), requires_grad=True)
    explanation = ct.cur_decomposition(A, 4, rng=0).explain(A, svd=True, rng=0)
    wanted = ct.explain(A.detach().double().numpy(), explanation.chosen, svd=True, rng=0)
    assert_allclose(explanation.explained, wanted.explained, atol=1e-6)
    assert_allclose(explanation.svd, wanted.svd, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_shares_do_not_depend_on_the_scale(kind, scale, rng):
    A = low_rank(60, 40, 8, "f8", rng)
    chosen = ct.select_columns(A, 4, rng=0)
    wanted = ct.explain(A, chosen, svd=True, rng=0)
    found = ct.explain(kind(A * scale), chosen, svd=True, rng=0)
    for part in ("explained", "svd", "each", "across", "left", "weights", "coefficients"):
        assert_allclose(getattr(found, part), getattr(wanted, part), atol=1e-10)


def test_a_choice_that_depends_on_those_before_it_adds_nothing(rng):
    A = normal((20, 8), "f8", rng)
    A[:, 3] = A[:, 1] - A[:, 2]
    explanation = ct.explain(A, [1, 2, 3, 5])
    alone = ct.explain(A, [1, 2, 5])
    assert_allclose(explanation.explained[[0, 1, 3]], alone.explained, rtol=1e-12)
    assert explanation.explained[2] == explanation.explained[1]


def test_tables_have_names_and_an_order():
    A, _, names = example_matrix()
    frame = pd.DataFrame(A, columns=names, index=[f"tumour {i}" for i in range(len(A))])
    explanation = ct.cur_decomposition(frame, 6, rng=0).explain(frame, svd=True, rng=0)
    choices, others, outliers = explanation.choices, explanation.others, explanation.outliers
    assert choices.columns.tolist() == ["column", "name", "adds", "explained", "svd"]
    assert_array_equal(choices["name"], names[choices["column"]])
    assert_allclose(choices["adds"].cumsum(), choices["explained"])
    assert sorted([*choices["column"], *others["column"]]) == list(range(30))
    assert others["explained"].is_monotonic_increasing and outliers["left"].is_monotonic_decreasing
    assert_array_equal(outliers["name"], [f"tumour {i}" for i in outliers["row"]])
    assert outliers["left"].sum() == pytest.approx(1)
    first = others.set_index("name").loc["worst radius", "follows_from"]
    assert first.startswith("+1.01 worst perimeter")
    assert "6 of 30 columns explain 0.8" in repr(explanation)


def test_names_of_the_chosen_are_known_from_the_result_where_the_matrix_has_none():
    A, _, names = example_matrix()
    explanation = ct.cur_decomposition(pd.DataFrame(A, columns=names), 4, rng=0).explain(A)
    assert_array_equal(explanation.choices["name"], names[explanation.chosen])
    assert "name" not in explanation.outliers


def test_without_pandas_tables_are_arrays_by_name(monkeypatch):
    A = example_matrix().A
    explanation = ct.explain(A, [3, 1])
    real = builtins.__import__

    def no_pandas(name, *arguments):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", no_pandas)
    assert list(explanation.choices) == ["column", "adds", "explained"]
    assert_array_equal(explanation.choices["column"], [3, 1])
    assert isinstance(explanation.others["explained"], np.ndarray)


def test_of_zero_nothing_is_explained_by_nothing_and_nothing_is_left():
    A = np.zeros((5, 4))
    for result in (ct.cur_decomposition(A, 2, rng=0), ct.interpolative_decomposition(A, 2, rng=0)):
        explanation = result.explain(A, svd=True)
        assert len(explanation.choices) == 0 and repr(explanation).endswith("explain nothing)")
        assert_array_equal(explanation.each, np.ones(4))
        assert_array_equal(explanation.across, np.ones(5))


def test_another_matrix_is_refused(rng):
    A = normal((30, 20), "f8", rng)
    cur = ct.cur_decomposition(A, 4, rng=0)
    with pytest.raises(ValueError, match=r"A must be the matrix that was decomposed, got other entries in the chosen"):
        cur.explain(A + 1e-3)
    with pytest.raises(ValueError, match=r"A must be of shape \(30, 20\), got shape \(20, 30\)"):
        cur.explain(A.T)
    with pytest.raises(ValueError, match=r"A must be of shape \(30, 20\), got shape \(20, 30\)"):
        cur.explain(A.T, axis=0)
    bad = A.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"A must be finite, got NaN or infinity, first at \(2, 1\)"):
        cur.explain(bad)
    with pytest.raises(ValueError, match="indices must be at least one, got none"):
        ct.explain(A, [])
    with pytest.raises(ValueError, match="axis must be between 0 and 1, got 2"):
        cur.explain(A, axis=2)


@pytest.mark.slow
def test_shares_of_a_large_sparse_matrix_are_exact():
    rng = np.random.default_rng(0)
    m, n, stored = 200_000, 50_000, 2_000_000
    places = rng.integers(0, m, stored), (n * rng.random(stored) ** 3).astype(int)
    A = sparse.csr_array((1 + rng.random(stored), places), shape=(m, n))
    explanation = ct.cur_decomposition(A, 10, rng=0).explain(A)
    norm = np.linalg.norm(A.data)
    for k in (1, 5, 10):
        Q = np.linalg.qr(A[:, explanation.chosen[:k]].toarray())[0]
        assert explanation.explained[k - 1] == pytest.approx((np.linalg.norm(A.T @ Q) / norm) ** 2, rel=1e-10)
