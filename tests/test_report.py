"""The page of HTML: self-contained, small, escaped, with the library's own figures; clicked through in a browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from numpy.testing import assert_allclose

import curtensor as ct
from curtensor.files import example_matrix
from curtensor.report import report

# Sorts and filters as a reader would, and leaves what is then to be seen in the page.
CLICKS = """<script>
const rows = id => [...document.getElementById(id).tBodies[0].rows]
const seen = id => rows(id).filter(row => row.offsetParent).map(row => [...row.cells].map(
  cell => cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v)))
const click = (id, place) => document.querySelectorAll(`#${id} th button`)[place].click()
const found = {choices: seen("choices"), others: seen("others"), outliers: seen("outliers")}
click("others", 1); found.byName = seen("others").map(row => row[1])
click("others", 2); found.byShare = seen("others").map(row => row[2])
click("others", 2); found.byShareDown = seen("others").map(row => row[2])
found.arrow = document.querySelectorAll("#others th")[2].getAttribute("aria-sort")
const input = document.querySelector("input"); input.value = "RADIUS"; input.oninput()
found.filtered = seen("others").map(row => row[1])
found.loaded = performance.getEntriesByType("resource").length
found.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth
const out = document.createElement("script"); out.type = "application/json"; out.id = "found"
out.textContent = JSON.stringify(found); document.body.append(out)
</script>"""


@pytest.fixture(scope="module")
def tumours():
    """A matrix, the names of its columns, what was chosen, and the page."""
    A, _, names = example_matrix()
    cur = ct.cur_decomposition(A, 6, rng=0)
    return A, names, cur, report(cur, A, names=(None, names), title="Tumours & <cells>", rng=0)


def in_a_browser(page, folder, width):
    """What headless Chromium finds after the clicks."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to click through the page with")
    path = folder / "page.html"
    path.write_text(page.replace("</body>", CLICKS + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--dump-dom"]
    command = [browser, *options, f"--window-size={width},900", path.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(re.search('id="found">(.*?)</script>', run.stdout, re.DOTALL)[1])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_a_reader_finds_the_librarys_figures_sorts_and_searches(tumours, tmp_path, width):
    A, names, cur, page = tumours
    explanation = cur.explain(A, svd=True, rng=0)
    found = in_a_browser(page, tmp_path, width)
    order, columns, called, adds, explained, svd = zip(*found["choices"], strict=True)
    assert list(order) == [1, 2, 3, 4, 5, 6]
    assert list(columns) == cur.col_indices.tolist() and list(called) == names[cur.col_indices].tolist()
    assert_allclose(explained, explanation.explained, rtol=1e-9)
    assert_allclose(adds, np.diff(explanation.explained, prepend=0), rtol=1e-8)
    assert_allclose(svd, explanation.svd, rtol=1e-9)
    columns, called, shares, sources = zip(*found["others"], strict=True)
    assert list(called) == names[list(columns)].tolist()
    assert_allclose(shares, explanation.each[list(columns)], rtol=1e-9)
    assert sources[called.index("worst radius")].startswith("+1.01 worst perimeter")
    rows, shares, left = zip(*found["outliers"], strict=True)
    assert_allclose(shares, explanation.across[list(rows)], rtol=1e-9)
    assert_allclose(left, explanation.left[list(rows)] / explanation.left.sum(), rtol=1e-9)
    assert found["byName"] == sorted(called)
    assert found["byShare"] == sorted(found["byShare"]) == found["byShareDown"][::-1]
    assert found["arrow"] == "descending"
    assert sorted(found["filtered"]) == ["mean radius", "radius error", "worst radius"]
    assert found["loaded"] == 0 and not found["wide"]


def test_the_page_is_whole_and_loads_nothing(tumours):
    page = tumours[-1]
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert not re.search(r"https?:|src=|<link|@import|url\(", page)
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page and "@media print" in page


def test_names_and_title_are_escaped(rng):
    A = rng.standard_normal((20, 6))
    names = [f"<script>alert({j})</script>&" for j in range(6)]
    page = report(ct.cur_decomposition(A, 2, rng=0), A, names=(None, names), title="<i>&")
    assert "<script>alert" not in page and "&lt;script&gt;alert(3)&lt;/script&gt;&amp;" in page
    assert "<h1>&lt;i&gt;&amp;</h1>" in page


def test_a_page_of_5000_columns_is_below_3_megabytes(rng):
    A = rng.standard_normal((60, 5000))
    names = [f"a name of thirty characters {j:4}" for j in range(5000)]
    page = report(ct.interpolative_decomposition(A, 30, rng=0), A, names=(None, names), rng=0)
    assert len(page.encode()) < 3e6 and "5,000" in page


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["f4", "c16"])
def test_rows_can_be_explained_and_the_svd_left_out(dtype, axis, rng):
    A = (rng.standard_normal((12, 9)) * (1 + 1j if dtype == "c16" else 1)).astype(dtype)
    page = report(ct.interpolative_decomposition(A, 3, axis=axis, rng=0), A, svd=False)
    side = ("row", "column")[axis]
    assert f"3 {side}s were chosen of a matrix with 12 rows and 9 columns" in page
    assert "estimate" not in page and ">name</button>" not in page


def test_a_zero_matrix_has_a_page_too():
    A = np.zeros((5, 4))
    assert "None: the matrix is zero." in report(ct.cur_decomposition(A, 2, rng=0), A)


def test_names_that_are_too_few_are_refused(tumours):
    A, names, cur, _ = tumours
    with pytest.raises(ValueError, match=r"names\[1\] must be 30 names, got shape \(29,\)"):
        report(cur, A, names=(None, names[:-1]))
