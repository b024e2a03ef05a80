"""The page of evidence says what its table of results says, and asv's results are read as they are."""

import math
import re

import numpy as np
import pytest

from benchmarks import common, publish, run
from evidence import error_and_time as evidence
from evidence import pages, pictures

PAGE = evidence.PAGE.read_text()


@pytest.mark.parametrize("name", evidence.TABLES)
def test_table_of_the_page_is_that_of_the_results(name):
    assert pages.read_table(evidence.PAGE, f"evidence of {name}") == evidence.TABLES[name]()


def test_every_family_and_every_method_has_a_figure():
    found = evidence.read("matrices")
    assert list(found) == list(common.BENCHMARKED)
    assert all(set(methods) == set(common.METHODS) for methods in found.values())
    assert set(evidence.read("tensors")) == set(evidence.bench_tensors.TENSORS)


def test_no_method_of_rank_k_is_better_than_the_truncated_svd():
    for methods in evidence.read("matrices").values():
        assert min(found["error"] for found in methods.values()) >= 1 - 1e-3


def test_every_picture_of_the_page_is_drawn_out_of_its_table(monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "small_multiples", lambda path, panels, *_, **__: drawn.append((path.name, panels)))
    evidence.draw()
    assert all(panels for _, panels in drawn)
    assert sorted(name for name, _ in drawn) == sorted(re.findall(r"\]\(pictures/([\w-]+\.png)\)", PAGE))


def test_a_peer_is_ahead_only_if_it_is_faster_and_more_accurate():
    own = {"error": 1.5, "seconds": 0.01}
    for error, seconds, ahead in ((1.4, 0.009, True), (1.4, 0.02, False), (1.6, 0.009, False), (1.5, 0.009, False)):
        found = {"ours": own, "peer": {"error": error, "seconds": seconds}}
        assert evidence.better(found, "ours", ["peer", "absent"]).startswith("peer (") == ahead
    assert evidence.better({"ours": own}, "ours", ["absent"]) == "none"


def test_front_holds_what_no_other_point_beats():
    places = np.random.default_rng(0).uniform(1, 2, (30, 2))
    beaten = [any((other <= place).all() and (other < place).any() for other in places) for place in places]
    kept = pictures.front(places)
    assert sorted(map(tuple, kept)) == sorted(
        tuple(place) for place, lost in zip(places, beaten, strict=True) if not lost
    )


def test_labels_lie_on_no_other_and_inside_the_axes():
    rng = np.random.default_rng(0)
    places = rng.uniform(1, 3, (40, 2))
    points = {f"method {i}": tuple(place) for i, place in enumerate(places)}
    named = [f"method {i}" for i in range(0, 40, 5)]
    figure, ax = pictures.plt.subplots(figsize=(5, 3.2))
    pictures.label(ax, pictures.draw(ax, points, lambda _: "ours", "optimum", named), lambda _: "black")
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert len(boxes) >= 9
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    inside = ax.get_window_extent().padded(1)
    assert all(inside.contains(*corner) for box in boxes for corner in (box.min, box.max))
    pictures.plt.close(figure)


def test_what_is_on_a_front_or_too_low_is_named_and_the_line_of_the_best_is_drawn():
    figure, ax = pictures.plt.subplots()
    points = {"ours": (1, 2), "SVD": (2, 1), "of more ranks": (3, 0.1), "beaten": (4, 4), "default": (4, 3)}
    named = pictures.draw(ax, points, lambda method: "svd" if method == "SVD" else "ours", "optimum", ["default"])
    assert named.keys() == {"ours", "SVD", "of more ranks: 0.1", "default"}
    assert [text.get_text() for text in ax.texts] == ["optimum"]
    assert [1, 1] in [list(line.get_ydata()) for line in ax.lines]
    pictures.plt.close(figure)


class Recorded:
    """As asv's own class: two benchmarks, of which the older one is not of this run."""

    started_at = {"new": 2000, "old": 500}
    values = {"new": [1.0, None, math.nan], "old": [None, None, None]}

    def get_result_params(self, name):
        return [["'a'", "'b'", "'c'"]]

    def get_result_value(self, name, params):
        return self.values[name]


def test_report_tells_what_failed_and_what_was_skipped_in_this_run(capsys):
    assert run.report(Recorded(), since=1) == 1
    assert capsys.readouterr().out.splitlines() == [
        "skipped new 'c'",
        "FAILED  new 'b'",
        "1 benchmarks, 1 figures recorded, 1 skipped, 1 failed",
    ]


def test_table_holds_what_was_recorded_and_leaves_out_the_rest(monkeypatch):
    tracks = [f"bench_matrices.Matrices.track_{name}" for name in ("seconds", "error")]
    values = dict(zip(tracks, ([0.5, 1.0, None], [2.0, math.nan, None]), strict=True))
    monkeypatch.setattr(evidence, "SUITES", {"matrices": "bench_matrices.Matrices"})
    monkeypatch.setattr(Recorded, "values", values)
    monkeypatch.setattr(Recorded, "get_result_params", lambda *_: [["'CUR'", "'librla'", "'CUR, x'"], ["'digits'"]])
    row = {"suite": "matrices", "family": "digits", "method": "CUR", "entries_read": "", "seconds": "0.5", "error": "2"}
    assert list(evidence.recorded(Recorded())) == [row]


@pytest.mark.parametrize(("values", "status"), [([1.0, 2.0, math.nan], 0), ([math.nan] * 3, 1), (None, 1)])
def test_report_fails_where_nothing_was_recorded_or_anything_failed(values, status, monkeypatch):
    monkeypatch.setitem(Recorded.values, "new", values)
    assert run.report(Recorded(), since=1) == status
    assert run.report(None, since=1) == 1


def test_published_page_asks_for_nothing_from_elsewhere(tmp_path):
    index = tmp_path / "html" / "index.html"
    index.parent.mkdir()
    asv = pytest.importorskip("asv")
    page = (pages.Path(asv.__file__).parent / "www" / "index.html").read_text()
    index.write_text(page)
    for package, path in publish.LIBRARIES.values():
        library = tmp_path / "modules" / package.split("@")[0] / path
        library.parent.mkdir(parents=True, exist_ok=True)
        library.write_text("library")
    publish.bring_home(index.parent, tmp_path / "modules")
    assert {path.name for path in index.parent.iterdir()} == {"index.html", *publish.LIBRARIES}
    assert page.count('src="https://') > 5 and 'src="https://' not in index.read_text()
    assert "stylesheet" in index.read_text() and "integrity" not in index.read_text()
