"""The figures claimed for single cells: ``python -m evidence.cells [claim ...]``.

As `evidence.matrices`. Needs anndata and h5py, geosketch for its lines, 2 GB of disk in the folder for temporary files
and some minutes. The cells are simulated, so that it is known which are rare.
"""

import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse

from curtensor import leverage_scores, select_rows
from evidence.claims import at_least, at_most, command, fresh_process, shown

SHARES = [0.5, 0.25, 0.15, 0.06, 0.03, 0.008, 0.002]
N_GENES, DRAWS, SEEDS = 2000, 1000, range(5)


def programs(rng):
    """Mean counts of each gene in each of the seven types: alike, but for one gene in twenty."""
    base = np.exp(rng.normal(-2.2, 1.0, N_GENES))
    special = rng.random((len(SHARES), N_GENES)) < 0.05
    return base * np.exp(special * rng.normal(3.0, 1.0, special.shape))


def cells(means, n_cells, rng):
    """Counts of cells under log1p, CSR in single precision, and the type of each."""
    types = rng.choice(len(SHARES), n_cells, p=SHARES)
    depth = np.exp(rng.normal(0, 0.3, (n_cells, 1)))
    counts = sparse.csr_array(rng.poisson(means[types] * depth).astype(np.float32))
    counts.data = np.log1p(counts.data)
    return counts, types


def simulated(n_cells, seed):
    """So many cells, made by parts, and their types."""
    rng = np.random.default_rng(seed)
    means = programs(rng)
    parts = [cells(means, size, rng) for size in np.diff([*range(0, n_cells, 20000), n_cells])]
    return sparse.vstack([part for part, _ in parts], format="csr"), np.concatenate([types for _, types in parts])


def drawn_by_geosketch(X, seed):
    """The cells which geosketch takes, on 100 principal components, as its page says."""
    from fbpca import pca
    from geosketch import gs

    U, s, _ = pca(X, k=100, raw=True)
    return np.asarray(gs(U * s, DRAWS, replace=False, seed=seed))


def drawn_uniformly(X, seed):
    return np.random.default_rng(seed).choice(X.shape[0], DRAWS, replace=False)


def by_scores(rank):
    """As `single_cell.sketch_cells` draws."""

    def drawn(X, seed):
        scores = leverage_scores(X, rank, method="sketch", rng=seed)
        return select_rows(X, DRAWS, method="uniform", weights=scores, rng=seed)

    return drawn


def in_one_pass(X, seed):
    return select_rows(X, DRAWS, method="leverage", rank=50, rng=seed)


DRAWN = {
    "rank-10 scores": by_scores(10),
    "rank-50 scores": by_scores(50),
    "rank-1000 scores": by_scores(1000),
    "select_rows, rank-50 scores of one pass": in_one_pass,
    "uniform": drawn_uniformly,
    "geosketch": drawn_by_geosketch,
}


def rare():
    """Of the rarest of seven types, 0.2 % of 50,000 cells, kept in 1,000 draws; medians over five seeds."""
    kept, seconds = {name: [] for name in DRAWN}, {name: [] for name in DRAWN}
    for seed in SEEDS:
        X, types = simulated(50000, seed)
        for name, draw in DRAWN.items():
            if name == "geosketch" and importlib.util.find_spec("geosketch") is None:
                continue
            start = time.process_time()
            drawn = draw(X, seed)
            seconds[name].append(time.process_time() - start)
            kept[name].append(np.count_nonzero(types[drawn] == len(SHARES) - 1))
    middle = {name: statistics.median(values) for name, values in kept.items() if values}
    for name in middle:
        note = f", {min(kept[name])} to {max(kept[name])}; CPU {statistics.median(seconds[name]):.2f} s"
        yield shown(f"about 100 cells of the rarest type, kept by {name}", f"{middle[name]:g}{note}")
    yield at_least("rank-50 scores over uniform draws", 5, middle["rank-50 scores"] / max(middle["uniform"], 1))


def million():
    """1,000,000 cells by 2,000 genes in an .h5ad file: 1,000 drawn by rank-50 scores, in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        types = write_cells(path, 1_000_000)
        on_disk = path.stat().st_size
        rows, seconds, peak, read = map(eval, fresh_process(SKETCH.format(path=str(path))).splitlines())
    rarest = np.count_nonzero(types == len(SHARES) - 1)
    kept = np.count_nonzero(types[rows] == len(SHARES) - 1)
    yield shown("on disk, in GB", f"{on_disk / 1e9:.2f}")
    yield at_most("memory that the whole process takes, with its imports and names, in GB", 1.5, peak / 1e9)
    yield shown("CPU seconds; times that the matrix was read", f"{seconds:.0f}; {read / on_disk:.1f}")
    yield at_least(f"of {rarest} cells of the rarest type, kept; by uniform draws {rarest / 1000:.1f}", 10, kept)


SKETCH = """
import resource, time
import anndata, numpy as np
from curtensor import single_cell
adata = anndata.read_h5ad({path!r}, backed="r")
start = time.process_time()
single_cell.sketch_cells(adata, 1000, rank=50, rng=0)
print(np.flatnonzero(adata.obs["sketch"]).tolist())
print(time.process_time() - start)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print([int(line.split()[1]) for line in open("/proc/self/io") if line.startswith("rchar")][0])
"""


def write_cells(path, n_cells):
    """A file as AnnData writes it, by parts; returns the types."""
    rng = np.random.default_rng(0)
    means, types, starts = programs(rng), [], [0]
    with h5py.File(path, "w") as file:
        X = file.create_group("X")
        X.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n_cells, N_GENES)})
        for name, kind in (("data", np.float32), ("indices", np.int32)):
            X.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(2**18,))
        for _ in range(0, n_cells, 20000):
            part, of_part = cells(means, 20000, rng)
            for name in ("data", "indices"):
                X[name].resize(starts[-1] + part.nnz, axis=0)
                X[name][starts[-1] :] = getattr(part, name)
            starts.extend((starts[-1] + part.indptr[1:].astype(np.int64)).tolist())
            types.append(of_part)
        X["indptr"] = np.array(starts)
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name, size in (("obs", n_cells), ("var", N_GENES)):
            frame = file.create_group(name)
            frame.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
            frame.attrs["column-order"] = np.array([], dtype=h5py.string_dtype())
            frame.create_dataset("_index", data=np.arange(size).astype("S8"), dtype=h5py.string_dtype())
            frame["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            file.create_group(name).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    return np.concatenate(types)


if __name__ == "__main__":
    command({"rare": rare, "million": million})
