"""Cells and genes of an AnnData chosen out of its own, written into ``.obs`` and ``.var`` as scanpy's functions do.

Nothing here imports anndata. The matrix is read as it is: normalise and take logarithms first, as for a PCA.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from curtensor import _validation, operands
from curtensor.leverage import leverage_scores
from curtensor.selection import SCORE_RANK, select_columns, weighted_sample

HOME = "curtensor"  # in `.uns`: what was written, and how


def score_cells(
    adata: Any,
    /,
    rank: int = SCORE_RANK,
    *,
    layer: str | None = None,
    key_added: str = "leverage_score",
    rng: _validation.RandomSource = None,
) -> Any:
    """Write the leverage scores of cells into ``adata.obs``: how much each matters to the leading directions.

    Parameters
    ----------
    adata : AnnData, n_obs cells by n_vars genes
        Its matrix dense or sparse, in memory or backed; normalised, and real.
    rank : int, default 50
        Number of leading singular vectors, 1 to min(n_obs, n_vars). Rare types of cells stand out where it is about the
        number of types and states, and disappear among all others where it is much larger.
    layer : str, optional
        Which of ``adata.layers`` to read in place of ``adata.X``.
    key_added : str, default "leverage_score"
        Name of the column. One that is there and was not written by this module is refused.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness for the sketch.

    Returns
    -------
    adata : AnnData
        The same object, with the scores, 0 to 1 with the sum `rank`, in ``adata.obs[key_added]`` and how they were
        found in ``adata.uns["curtensor"][key_added]``. A backed file is written to by ``adata.write`` alone.

    Raises
    ------
    TypeError
        If `adata` is no AnnData, or an argument of the wrong kind.
    ValueError
        If the rank is out of range, there is no such layer, the column is another's, or the matrix is not finite.

    Notes
    -----
    Those of `curtensor.leverage_scores` by its sketch: up to eight passes, and O((n_obs + n_vars) rank) memory.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from curtensor import single_cell
    >>> counts = np.random.default_rng(0).poisson(1.0, (200, 40))
    >>> adata = anndata.AnnData(np.log1p(counts, dtype=np.float32))
    >>> scored = single_cell.score_cells(adata, 5, rng=0)
    >>> scored is adata, adata.obs["leverage_score"].shape
    (True, (200,))
    """
    X = matrix_of(adata, layer)
    free_key(adata, "obs", key_added)
    scores = leverage_scores(X, rank, axis=0, method="sketch", rng=rng)
    return written(adata, "obs", {key_added: scores}, rank=rank, layer=layer)


def sketch_cells(
    adata: Any,
    /,
    k: int,
    *,
    rank: int = SCORE_RANK,
    layer: str | None = None,
    key_added: str = "sketch",
    rng: _validation.RandomSource = None,
) -> Any:
    """Draw k cells by their leverage scores, so that rare types are kept, and mark them in ``adata.obs``.

    Parameters
    ----------
    adata : AnnData, n_obs cells by n_vars genes
        As for `score_cells`.
    k : int
        Number of cells, 1 to n_obs.
    rank : int, default 50
        That of the scores, 1 to min(n_obs, n_vars): as for `score_cells`, and apart from the number of cells.
    layer : str, optional
        Which of ``adata.layers`` to read in place of ``adata.X``.
    key_added : str, default "sketch"
        Name of the column, and with ``_leverage`` appended that of the scores'.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness for the sketch and the draw.

    Returns
    -------
    adata : AnnData
        The same object; ``adata.obs[key_added]`` is True for the drawn cells: ``adata[adata.obs["sketch"]]``.

    Raises
    ------
    TypeError, ValueError
        As `score_cells`; if k is out of range; if fewer than k cells have a score.

    Notes
    -----
    Passes and memory of `score_cells`. Without replacement, each time in proportion to the scores, as
    ``select_rows(adata.X, k, method="leverage", rank=rank)`` does from another sketch.

    References
    ----------
    .. [1] Y. Hao and others, "Dictionary learning for integrative, multimodal and scalable single-cell analysis",
       Nature Biotechnology 42, 2024.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from curtensor import single_cell
    >>> counts = np.random.default_rng(0).poisson(1.0, (200, 40))
    >>> adata = anndata.AnnData(np.log1p(counts, dtype=np.float32))
    >>> adata = single_cell.sketch_cells(adata, 20, rank=5, rng=0)
    >>> adata[adata.obs["sketch"]].shape
    (20, 40)
    """
    X = matrix_of(adata, layer)
    k = _validation.integer(k, "k", 1, X.shape[0])
    scored = f"{key_added}_leverage"
    for key in (key_added, scored):
        free_key(adata, "obs", key)
    rng = _validation.generator(rng)
    scores = leverage_scores(X, rank, axis=0, method="sketch", rng=rng)
    if np.count_nonzero(scores) < k:
        raise _validation.complain(ValueError, "k", f"at most the {np.count_nonzero(scores)} cells with a score", k)
    drawn = np.zeros(len(scores), dtype=bool)
    drawn[weighted_sample(scores, k, rng)] = True
    return written(adata, "obs", {key_added: drawn, scored: scores}, k=k, rank=rank, layer=layer)


def select_genes(
    adata: Any,
    /,
    k: int,
    *,
    method: str | Callable = "osinsky",
    layer: str | None = None,
    key_added: str = "selected",
    rng: _validation.RandomSource = None,
) -> Any:
    """Choose k genes whose span comes close to all, and mark them in ``adata.var``.

    Parameters
    ----------
    adata : AnnData, n_obs cells by n_vars genes
        As for `score_cells`.
    k : int
        Number of genes, 1 to min(n_obs, n_vars).
    method : str or callable, default "osinsky"
        Rule for the choice, as in `curtensor.select_columns`.
    layer : str, optional
        Which of ``adata.layers`` to read in place of ``adata.X``.
    key_added : str, default "selected"
        Name of the column, and with ``_order`` appended that of the order of choice, from 0, and -1 for the others.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness for the sketch.

    Returns
    -------
    adata : AnnData
        The same object; ``adata.var[key_added]`` is True for the chosen genes.

    Raises
    ------
    TypeError, ValueError
        As `score_cells`; if k is out of range.

    Notes
    -----
    One pass over the matrix, as `curtensor.select_columns`. Genes of large variance count most.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from curtensor import single_cell
    >>> counts = np.random.default_rng(0).poisson(1.0, (200, 40))
    >>> adata = anndata.AnnData(np.log1p(counts, dtype=np.float32))
    >>> adata = single_cell.select_genes(adata, 6, rng=0)
    >>> int(adata.var["selected"].sum())
    6
    """
    X = matrix_of(adata, layer)
    ordered = f"{key_added}_order"
    for key in (key_added, ordered):
        free_key(adata, "var", key)
    order = np.full(X.shape[1], -1)
    chosen = select_columns(X, k, method=method, rng=rng)
    order[chosen] = np.arange(len(chosen))
    name = method if isinstance(method, str) else getattr(method, "__name__", repr(method))
    return written(adata, "var", {key_added: order >= 0, ordered: order}, k=k, method=name, layer=layer)


def matrix_of(adata, layer):
    """The matrix of an AnnData, or one of its layers."""
    if not operands.of_package(adata, "anndata") or not hasattr(adata, "obs"):
        raise _validation.complain(TypeError, "adata", "an AnnData", _validation.describe(adata))
    if layer is None:
        if adata.X is None:
            raise _validation.complain(ValueError, "layer", f"one of {', '.join(adata.layers)} where X is None", None)
        return adata.X
    if layer not in adata.layers:
        there = ", ".join(map(repr, adata.layers)) or "none of those there are: none"
        raise _validation.complain(ValueError, "layer", f"one of {there}", _validation.describe(layer))
    return adata.layers[layer]


def free_key(adata, axis, key):
    """Raise if a column of another's would be overwritten."""
    if not isinstance(key, str) or not key:
        raise _validation.complain(TypeError, "key_added", "a name", _validation.describe(key))
    if key in getattr(adata, axis) and key not in adata.uns.get(HOME, {}):
        raise _validation.complain(ValueError, "key_added", f"a column that is not in adata.{axis} yet", repr(key))


def written(adata, axis, columns, **how):
    """The AnnData with columns written into ``.obs`` or ``.var``, and how they were found into ``.uns``."""
    for key, values in columns.items():
        getattr(adata, axis)[key] = values
        adata.uns.setdefault(HOME, {})[key] = {name: value for name, value in how.items() if value is not None}
    return adata
