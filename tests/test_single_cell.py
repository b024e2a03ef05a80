import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from curtensor import leverage_scores, select_columns, single_cell

anndata = pytest.importorskip("anndata")


@pytest.fixture
def cells(rng):
    """Three types of 300 cells, the last of 6 of them, in 60 genes, CSR."""
    types = np.repeat([0, 1, 2], [200, 94, 6])
    counts = rng.poisson(np.exp(rng.normal(-1, 1.5, (3, 60)))[types]).astype(np.float32)
    adata = anndata.AnnData(sparse.csr_matrix(np.log1p(counts)))
    adata.obs["type"] = types
    return adata


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize("form", [sparse.csr_matrix, np.asarray])
def test_what_is_written_is_what_the_functions_of_matrices_find(cells, backed, form, tmp_path):
    whole = cells.X.toarray()
    cells.X = form(whole)
    if backed:
        cells.write_h5ad(tmp_path / "cells.h5ad")
        cells = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    X = whole if form is np.asarray else sparse.csr_array(whole)
    assert single_cell.score_cells(cells, 5, rng=0) is cells
    expected = leverage_scores(X, 5, method="sketch", rng=0)
    np.testing.assert_allclose(cells.obs["leverage_score"], expected, rtol=0, atol=2e-3)
    single_cell.select_genes(cells, 6, rng=0)
    chosen = cells.var["selected_order"].sort_values()
    order = chosen[chosen >= 0].index.astype(int).tolist()
    assert order == select_columns(X, 6, rng=0).tolist()
    assert_array_equal(cells.var["selected"], cells.var["selected_order"] >= 0)
    if backed:
        cells.file.close()


def test_sketches_keep_the_rare_type(cells):
    kept = 0
    for seed in range(8):
        single_cell.sketch_cells(cells, 30, rank=3, rng=seed)
        few = cells[cells.obs["sketch"]]
        assert few.n_obs == 30
        kept += (few.obs["type"] == 2).sum()
    assert kept >= 20  # of 48, and 5 if drawn uniformly


def test_a_layer_is_read_in_place_of_the_matrix_and_nothing_else_changes(cells):
    cells.layers["raw"] = cells.X.copy()
    cells.X = cells.X[::-1].copy()
    before = cells.copy()
    single_cell.score_cells(cells, 4, layer="raw", rng=0)
    expected = leverage_scores(cells.layers["raw"], 4, method="sketch", rng=0)
    assert_array_equal(cells.obs["leverage_score"], expected)
    assert cells.uns["curtensor"]["leverage_score"] == {"rank": 4, "layer": "raw"}
    assert (cells.X != before.X).nnz == 0 and list(cells.obs) == ["type", "leverage_score"]


def test_a_column_of_somebody_else_is_not_overwritten_and_ones_own_is(cells):
    for seed in range(2):
        single_cell.sketch_cells(cells, 10, rank=4, rng=seed)
    with pytest.raises(ValueError, match=r"key_added must be a column that is not in adata\.obs yet, got 'type'"):
        single_cell.sketch_cells(cells, 10, rank=4, key_added="type")


def test_what_was_written_is_saved_with_the_file(cells, tmp_path):
    single_cell.sketch_cells(single_cell.select_genes(cells, 5, rng=0), 10, rank=4, rng=0)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert_array_equal(again.obs["sketch"], cells.obs["sketch"])
    assert again.uns["curtensor"]["sketch"]["rank"] == 4


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda cells: single_cell.score_cells(cells.X, 4), "adata must be an AnnData, got"),
        (lambda cells: single_cell.score_cells(cells, 61), "rank must be between 1 and 60, got 61"),
        (lambda cells: single_cell.sketch_cells(cells, 301, rank=4), "k must be between 1 and 300, got 301"),
        (lambda cells: single_cell.score_cells(cells, 4, layer="raw"), "layer must be one of none of those there are"),
        (lambda cells: single_cell.select_genes(cells, 4, key_added=3), "key_added must be a name, got 3"),
    ],
)
def test_what_cannot_be_is_refused(cells, call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(cells)
    assert list(cells.obs) == ["type"] and list(cells.var) == []
