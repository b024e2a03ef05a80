"""Tables of the pages: written between their markers, and read back."""

import pytest

from evidence import pages

PAGE = """before

<!-- table: a -->
<!-- end of table: a -->

<!-- table: ab -->
| head |
|---|
| 1 |
<!-- end of table: ab -->
after
"""
TABLE = [["method", "error"], ["cur", "1.2"], ["`svd`", "1"]]


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_table_comes_back_and_the_rest_of_the_page_stays(page):
    for _ in range(2):
        pages.rewrite(page, "a", TABLE)
    assert pages.read_table(page, "a") == TABLE
    assert pages.read_table(page, "ab") == [["head"], ["1"]]
    written = "| method | error |\n|---|---|\n| cur | 1.2 |\n| `svd` | 1 |\n"
    assert page.read_text() == PAGE.replace("<!-- table: a -->\n", "<!-- table: a -->\n" + written)


def test_unknown_table_leaves_the_page_as_it_is(page):
    with pytest.raises(ValueError, match="not found"):
        pages.rewrite(page, "b", TABLE)
    assert page.read_text() == PAGE


def test_results_come_back_as_text(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    assert pages.read_results("figures") == []
    pages.write_results("figures", [{"case": "Lehmer, k=5", "error": 1.5}, {"case": "Kahan", "error": 2}])
    assert pages.read_results("figures") == [{"case": "Lehmer, k=5", "error": "1.5"}, {"case": "Kahan", "error": "2"}]
