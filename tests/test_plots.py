"""What results draw, and what notebooks show of them: the library's own figures, names in full view, nothing loaded."""

import re
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor import plots
from curtensor.files import example_matrix, example_tensor

matplotlib.use("agg")
A, _, MEASUREMENTS = example_matrix()
FRAME = pd.DataFrame(A, columns=MEASUREMENTS)
X = example_tensor()[:12, :10, :9]
COMPARISON = ct.compare(A[:40], [2, 3], methods=["cur"], rng=0)
DRAWN = {
    "CUR": lambda ax: ct.cur_decomposition(FRAME, 4, rng=0).plot(FRAME, ax=ax),
    "CUR alone": lambda ax: ct.cur_decomposition(FRAME, 4, rng=0).plot(ax=ax),
    "ID of rows": lambda ax: ct.interpolative_decomposition(A, 3, axis=0, rng=0).plot(A, ax=ax),
    "ID of named rows": lambda ax: ct.interpolative_decomposition(FRAME.T, 6, axis=0, rng=0).plot(FRAME.T, ax=ax),
    "sparse": lambda ax: ct.cur_decomposition(sparse.csr_array(A * (A > 1)), 4, rng=0).plot(sparse.csr_array(A), ax=ax),
    "SVD": lambda ax: ct.randomized_svd(A, 5, rng=0).plot(ax=ax, rtol=0.3),
    "Tucker": lambda ax: ct.st_hosvd(X, (3, 4, 2)).plot(ax=ax, rtol=0.1),
    "TensorCUR": lambda ax: ct.tensor_cur(X, 3, rng=0).plot(ax=ax),
    "shares": lambda ax: ct.cur_decomposition(FRAME, 4, rng=0).explain(FRAME, svd=True, rng=0).plot(ax=ax, rtol=0.4),
    "others": lambda ax: ct.cur_decomposition(FRAME, 4, rng=0).explain(FRAME).plot("others", ax=ax),
    "comparison": lambda ax: COMPARISON.plot(ax=ax),
    "zero": lambda ax: ct.cur_decomposition(np.zeros((4, 3)), 2, rng=0).explain(np.zeros((4, 3)), svd=True).plot(ax=ax),
}


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    pyplot.close("all")


def overlaps(texts):
    """Pairs of horizontal texts that lie on each other."""
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_rotation() == 0]
    return [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_given_to_draw_on_is_drawn_on_and_given_back(name):
    ax = Figure(layout="constrained").subplots()
    assert DRAWN[name](ax) is ax and (ax.lines or ax.images or ax.collections or name == "zero")
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("name", DRAWN)
def test_a_new_figure_is_pyplots_and_its_texts_do_not_overlap(name):
    first = np.atleast_1d(DRAWN[name](None))[0]
    assert pyplot.get_fignums() == [first.figure.number]
    first.figure.draw_without_rendering()
    for ax in first.figure.axes:
        assert not overlaps([*ax.get_xticklabels(), *ax.texts])
        assert not overlaps([*ax.get_yticklabels(), *ax.texts])
        width, height = first.figure.canvas.get_width_height()
        for text in filter(Text.get_text, (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts)):
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text


def test_the_curves_are_the_shares():
    explanation = ct.cur_decomposition(FRAME, 4, rng=0).explain(FRAME, svd=True, rng=0)
    ax = explanation.plot(ax=Figure().subplots(), rtol=0.5)
    svd, chosen, line = ax.lines
    assert_array_equal(chosen.get_xydata(), np.stack([[1, 2, 3, 4], explanation.explained], axis=1))
    assert_array_equal(svd.get_ydata(), explanation.svd)
    assert_array_equal(line.get_ydata(), [0.75, 0.75])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["chosen columns", "SVD (estimate)", "rtol = 0.5"]
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == [f"{i + 1}  {name}" for i, name in enumerate(MEASUREMENTS[explanation.chosen])]
    result = ct.randomized_svd(A, 4, rng=0)
    s = np.linalg.svd(A, compute_uv=False)
    shares = result.plot(ax=Figure().subplots()).lines[0].get_ydata()
    assert_allclose(shares, np.cumsum(s**2)[:4] / (s**2).sum(), rtol=1e-3)


def test_shares_of_modes_are_those_of_projections():
    tucker = ct.st_hosvd(X, (3, 4, 2))
    lines = tucker.plot(ax=Figure().subplots()).lines[::-1]
    for mode, line in enumerate(lines):
        cut = [slice(None)] * 3
        for k, share in enumerate(line.get_ydata(), start=1):
            cut[mode] = slice(k)
            assert share == pytest.approx((np.linalg.norm(tucker.core[tuple(cut)]) / np.linalg.norm(X)) ** 2, rel=1e-6)


def test_the_map_is_the_coefficients_of_the_best_explained():
    explanation = ct.cur_decomposition(FRAME, 4, rng=0).explain(FRAME)
    ax = explanation.plot("others", ax=Figure().subplots())
    order = explanation.others["column"].to_numpy()[::-1]
    assert_array_equal(ax.images[0].get_array(), explanation.coefficients[:, order].T)
    first = ax.get_yticklabels()[0].get_text()
    assert first == f"{MEASUREMENTS[order[0]]}, {100 * explanation.each[order[0]]:.0f} %"


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_a_picture_of_a_matrix_is_of_mean_moduli(kind, rng, monkeypatch):
    monkeypatch.setattr(plots, "CELLS", 4)
    B = rng.standard_normal((8, 13))
    B[B < 0.5] = 0
    columns = [slice(0, 4), slice(4, 7), slice(7, 10), slice(10, 13)]
    wanted = [[np.abs(B[2 * i : 2 * i + 2, part]).mean() for part in columns] for i in range(4)]
    assert_allclose(plots.shrunk(kind(B), B.shape), wanted)


def test_lines_are_drawn_at_the_chosen():
    cur = ct.cur_decomposition(A, 3, rng=0)
    ax = cur.plot(ax=Figure().subplots())
    assert sorted(line.get_xdata()[0] for line in ax.lines[4:7]) == sorted(cur.col_indices)
    assert sorted(line.get_ydata()[0] for line in ax.lines[:3]) == sorted(cur.row_indices)
    assert ax.get_title() == "3 columns and 3 rows chosen of a 569 x 30 matrix"
    with pytest.raises(ValueError, match=r"A must be of shape \(569, 30\), got shape \(30, 569\)"):
        cur.plot(A.T, ax=ax)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in DRAWN.values():
        with pytest.raises(ImportError, match=r"a plot needs matplotlib: pip install 'curtensor\[plot\]'"):
            draw(None)


SHOWN = {
    "CUR": lambda B: ct.cur_decomposition(B, 3, rng=0),
    "intersection": lambda B: ct.cur_decomposition(B, 3, core="intersection", rng=0),
    "ID": lambda B: ct.interpolative_decomposition(B, 3, rng=0),
    "ID of rows": lambda B: ct.interpolative_decomposition(B, 3, axis=0, rng=0),
    "SVD": lambda B: ct.randomized_svd(B, 3, rng=0),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_shows_names_and_shares_escaped_and_no_array(name, rng):
    names = [f"<b>{i}</b>&" for i in range(30)]
    frame = pd.DataFrame(rng.standard_normal((30, 30)), index=names, columns=names)
    result = SHOWN[name](frame)
    text = result._repr_html_()
    assert "<b>" not in text and len(text) < 5000
    for indices in result.chosen:
        for i in [] if indices is None else indices:
            assert f"&lt;b&gt;{i}&lt;/b&gt;&amp;" in text
    shares = [float(share) / 100 for share in re.findall(r">([\d.]+) %<", text)]
    assert len(shares) == 3 and shares == sorted(shares)
    assert shares[-1] == pytest.approx(1 - result.error_estimate**2, abs=1e-3)


def test_shares_a_notebook_shows_of_an_id_are_those_of_its_explanation():
    result = ct.interpolative_decomposition(A, 6, rng=0)
    assert_allclose(result._so_far()[1], result.explain(A).explained, rtol=1e-10)


def test_a_notebook_shows_the_first_few_of_many(rng):
    B = rng.standard_normal((200, 150))
    text = ct.cur_decomposition(B, 60, rng=0)._repr_html_()
    assert text.count("<tr>") == 1 + plots.LISTED and "60 columns: " in text and "and 40 more" in text


def test_every_result_is_shown_in_a_notebook():
    for result in (
        ct.st_hosvd(X, 3),
        ct.tensor_cur(X, 3, rng=0),
        ct.tubal_cur(X, 2, rng=0),
        ct.tubal_svd(X, 2),
        ct.tt_svd(X, 2),
    ):
        text = result._repr_html_()
        assert type(result).__name__ in text and "12 x 10 x 9" in text and "%" in text
    assert "cur" in COMPARISON._repr_html_()
    assert "3 columns: " in ct.kernel_cur(A.T @ A, 3, rng=0)._repr_html_()
    explanation = ct.explain(A, [3, 1], svd=True, rng=0)
    assert f"{100 * explanation.svd[1]:.1f} %" in explanation._repr_html_()
    assert "100.0 %" in ct.cur_decomposition(np.zeros((4, 3)), 2, rng=0)._repr_html_()
