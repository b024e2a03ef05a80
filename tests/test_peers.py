"""The README's table of other libraries is what was measured, and what is measured is what libraries do."""

import importlib.util

import numpy as np
import pytest

from evidence import pages, peers

RESULTS = {row["library"]: row for row in pages.read_results("peers")}
CHEAP = [column for column in peers.PROBES if column not in ("memmap", "dask")]


def test_table_of_the_readme_is_that_of_the_results():
    assert pages.read_table(peers.README, "peers") == peers.layout(list(RESULTS.values()))
    assert list(RESULTS) == list(peers.PEERS)


def test_no_library_is_both_faster_and_closer_in_choosing_columns():
    ours = RESULTS["curtensor `interpolative_decomposition`"]
    others = [row for row in RESULTS.values() if row["gives"] == "columns" and row is not ours]
    assert len(others) == 3
    for row in others:
        faster = float(row["CPU s"]) < float(ours["CPU s"])
        assert not (faster and any(float(row[kind]) < float(ours[kind]) for kind in ("incoherent", "coherent")))


def test_librla_is_the_faster_one_and_as_near_as_ours_with_rows_as_the_readme_says():
    columns, both, librla = (
        RESULTS[name]
        for name in ("curtensor `interpolative_decomposition`", "curtensor `cur_decomposition`", "librla `id_sketch`")
    )
    assert 3 <= float(columns["CPU s"]) / float(librla["CPU s"]) <= 7
    for kind in ("incoherent", "coherent"):
        assert float(columns[kind]) < float(librla[kind])
        np.testing.assert_allclose(float(librla[kind]), float(both[kind]), rtol=0.05)


def test_ours_take_what_the_readme_says():
    for name, row in RESULTS.items():
        if name.startswith("curtensor"):
            assert row["tolerance"] == "held" and row["NaN"] == "refused"
            assert {row[column] for column in ("complex", "float32", "memmap", "dask")} == {"yes"}


def test_what_is_wrong_or_refused_is_not_called_good():
    def off(A, rank):
        return lambda: 1.1 * A

    def broken(A, rank):
        raise ValueError("no")

    for approximate, expected in ((off, "wrong"), (broken, "no")):
        peer = peers.Peer("curtensor", "columns", approximate)
        for probe in (peers.complex_numbers, peers.single_precision, peers.sparse_arrays):
            assert probe(peer) == expected
        assert peers.tolerance(peer) == peers.names(peer) == peers.include(peer) == "no"


def test_tolerance_is_missed_by_one_that_ignores_it():
    peer = peers.Peer("curtensor", "columns", lambda A, rank=None, rtol=None: lambda: 0 * A)
    assert peers.tolerance(peer) == "missed 24 of 24"


def test_library_that_is_not_installed_keeps_its_line_or_says_so(monkeypatch):
    monkeypatch.setitem(peers.PEERS, "fbpca `pca`", peers.Peer("no_such_module", "SVD", None))
    before = {"fbpca `pca`": {"library": "fbpca `pca`", "gives": "SVD"}}
    assert peers.line("fbpca `pca`", before, []) is before["fbpca `pca`"]
    missing = peers.line("fbpca `pca`", {}, [])
    assert missing["gives"] == "not installed" and missing.keys() == RESULTS["fbpca `pca`"].keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", peers.PEERS)
def test_cells_are_found_again(name):
    peer = peers.PEERS[name]
    if importlib.util.find_spec(peer.module) is None:
        pytest.skip(f"{peer.module} is not installed")
    assert {column: peers.PROBES[column](peer) for column in CHEAP} == {c: RESULTS[name][c] for c in CHEAP}
    for kind in ("incoherent", "coherent"):
        np.testing.assert_allclose(peers.ratio(peer, kind), float(RESULTS[name][kind]), rtol=0.05)
