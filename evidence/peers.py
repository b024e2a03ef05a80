"""What other libraries take and how close they come: ``python -m evidence.peers [library ...]``.

Every cell of the README's table is probed by calling the library on a small array, or measured; the table is written
there and into docs/results/peers.csv. A library that is not installed keeps its line, or gets one that says so.
"""

import contextlib
import functools
import importlib.util
import inspect
import sys
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
from scipy import sparse

import curtensor as ct
from benchmarks import common, tensors
from evidence import pages

README = pages.ROOT / "README.md"


# ---- the libraries as their users call them: (A, rank) or (A, rtol=) to a function that gives the approximation


def our_cur(A, rank=None, rtol=None, seed=0):
    return ct.cur_decomposition(A, rank, rtol=rtol, rng=seed).to_array


def our_id(A, rank=None, rtol=None, seed=0):
    return ct.interpolative_decomposition(A, rank, rtol=rtol, rng=seed).to_array


def our_svd(A, rank=None, rtol=None, seed=0):
    return ct.randomized_svd(A, rank, rtol=rtol, rng=seed).to_array


def scipy_id(A, rank=None, rtol=None, seed=0):
    from scipy.linalg import interpolative

    result = interpolative.interp_decomp(A, rank or rtol, rng=np.random.default_rng(seed))
    k, order, coefficients = (rank, *result) if rank else result
    return lambda: A[:, order[:k]] @ interpolative.reconstruct_interp_matrix(order, coefficients)


def librla_id(A, rank=None, rtol=None, seed=0):
    import librla

    k, order, rest = librla.id_sketch(A, rank or rtol, rng=np.random.default_rng(seed))
    return lambda: A[:, order[:k]] @ np.hstack([np.eye(k, dtype=rest.dtype), rest])[:, np.argsort(order)]


def skmatter_columns(A, rank, seed=0):
    from skmatter.feature_selection import CUR

    C = CUR(n_to_select=rank, random_state=seed).fit(A).transform(A)
    Q = np.linalg.qr(C)[0]
    return lambda: Q @ (Q.conj().T @ A)


def sklearn_svd(A, rank, seed=0):
    from sklearn.utils.extmath import randomized_svd

    U, s, Vh = randomized_svd(A, rank, random_state=seed)
    return lambda: (U * s) @ Vh


def fbpca_svd(A, rank, seed=0):
    import fbpca

    np.random.seed(seed)  # noqa: NPY002  (fbpca draws from the global state)
    U, s, Vh = fbpca.pca(A, rank, raw=True)
    return lambda: (U * s) @ Vh


def torch_svd(A, rank, seed=0):
    import torch

    torch.manual_seed(seed)
    tensor = (
        torch.sparse_coo_tensor(np.array(A.nonzero()), A.data, A.shape) if sparse.issparse(A) else torch.as_tensor(A)
    )
    U, s, V = torch.svd_lowrank(tensor, min(rank + 10, *A.shape))
    return lambda: ((U * s)[:, :rank] @ V.mH[:rank]).numpy()


def our_tensor_cur(X, rank=None, rtol=None, seed=0):
    result = ct.tensor_cur(X, rank, rtol=rtol, rng=seed)
    return partial(ct.tucker_to_tensor, *result.to_tucker((rank,) * X.ndim if rank else None))


def our_st_hosvd(X, rank=None, rtol=None, seed=0):
    return ct.st_hosvd(X, (rank,) * X.ndim if rank else None, rtol=rtol).to_array


def tensorly_tucker(X, rank, seed=0):
    from tensorly import tucker_to_tensor
    from tensorly.decomposition import tucker

    return partial(tucker_to_tensor, tucker(X, [rank] * X.ndim, random_state=seed))


def pyttb_hosvd(X, rank=None, rtol=None, seed=0):
    import pyttb

    own = pyttb.tensor(X)
    ranks = np.array([rank] * own.ndims) if rank else None
    result = pyttb.hosvd(own, tol=rtol or 1e-4, ranks=ranks, verbosity=0)
    return lambda: result.full().data


def teneva_svd(X, rank=1e12, rtol=1e-10, seed=0):
    import teneva

    trains = teneva.svd(X, e=rtol, r=rank)
    return lambda: teneva.full(trains)


def our_names(frame):
    return ct.cur_decomposition(frame, 5, rng=0).col_names


def skmatter_names(frame):
    from skmatter.feature_selection import CUR

    return CUR(n_to_select=5).fit(frame).get_feature_names_out()


def our_include(A, column):
    return ct.select_columns(A, 5, include=[column], rng=0)


class Peer(NamedTuple):
    """A function of a library: its module, what it gives, how it is called, and of matrices or of tensors.

    Where it has such options: the names that it gives for a DataFrame, the columns chosen with one that must be.
    """

    module: str
    gives: str
    approximate: Callable
    order: int = 2
    names: Callable | None = None
    include: Callable | None = None


PEERS = {
    "curtensor `cur_decomposition`": Peer("curtensor", "rows and columns", our_cur, 2, our_names, our_include),
    "curtensor `interpolative_decomposition`": Peer("curtensor", "columns", our_id, 2, None, our_include),
    "SciPy `interp_decomp`": Peer("scipy", "columns", scipy_id),
    "librla `id_sketch`": Peer("librla", "columns", librla_id),
    "skmatter `CUR`": Peer("skmatter", "columns", skmatter_columns, 2, skmatter_names),
    "curtensor `randomized_svd`": Peer("curtensor", "SVD", our_svd),
    "scikit-learn `randomized_svd`": Peer("sklearn", "SVD", sklearn_svd),
    "fbpca `pca`": Peer("fbpca", "SVD", fbpca_svd),
    "torch `svd_lowrank`": Peer("torch", "SVD", torch_svd),
    "curtensor `tensor_cur`": Peer("curtensor", "slices", our_tensor_cur, 3),
    "curtensor `st_hosvd`": Peer("curtensor", "Tucker", our_st_hosvd, 3),
    "TensorLy `tucker`": Peer("tensorly", "Tucker", tensorly_tucker, 3),
    "pyttb `hosvd`": Peer("pyttb", "Tucker", pyttb_hosvd, 3),
    "teneva `svd`": Peer("teneva", "tensor train", teneva_svd, 3),
}


# ---- probes: a peer to what a cell says


def of_rank_five(order, dtype=float):
    """An array of (multilinear) rank 5, complex where the dtype is."""
    rng = np.random.default_rng(0)
    shape = (60, 50, 40)[:order]
    parts = [rng.standard_normal((d, 5, 2)) for d in shape]
    parts = [Z[..., 0] + 1j * Z[..., 1] if np.dtype(dtype).kind == "c" else Z[..., 0] for Z in parts]
    return np.ascontiguousarray(ct.tucker_to_tensor(tensors.diagonal(5, order), parts).astype(dtype))


def found(peer, A, truth, digits=1e-6):
    """What a peer makes of an array of rank 5: the approximation, `wrong` in place of a bad one, None if it refuses."""
    try:
        approximation = np.asarray(peer.approximate(A, 5)())
    except Exception:
        return None
    close = approximation.shape == truth.shape and np.linalg.norm(approximation - truth) < digits * np.linalg.norm(
        truth
    )
    return approximation if close else "wrong"


def verdict(result, good="yes"):
    """A cell from what was found."""
    return "no" if result is None else result if isinstance(result, str) else good


def tolerance(peer):
    """Whether a tolerance is held on eight families, three times each."""
    if "rtol" not in inspect.signature(peer.approximate).parameters:
        return "no"
    families = list((common.FAMILIES if peer.order == 2 else tensors.RANDOM | tensors.SMOOTH).items())[:8]
    missed, runs = 0, 0
    for _, family in families:
        A = family(120, 100, 0) if peer.order == 2 else family((30, 32, 34), 0)
        for rtol in (1e-1, 1e-2, 1e-4):
            runs += 1
            missed += np.linalg.norm(A - peer.approximate(A, rtol=rtol)()) > rtol * np.linalg.norm(A)
    return f"missed {missed} of {runs}" if missed else "held"


def sparse_arrays(peer):
    """Whether SciPy's sparse matrices are taken."""
    if peer.order > 2:
        return "-"
    A = np.zeros((60, 50))
    A[:, 3:48:10] = of_rank_five(2)[:, :5]
    return verdict(found(peer, sparse.csr_array(A), A))


def complex_numbers(peer):
    A = of_rank_five(peer.order, "c16")
    return verdict(found(peer, A, A))


def single_precision(peer):
    A = of_rank_five(peer.order, "f4")
    result = found(peer, A, A, 1e-3)
    return verdict(result, "yes" if getattr(result, "dtype", None) == np.float32 else "as float64")


def not_a_number(peer):
    A = of_rank_five(peer.order)
    A[(7,) * peer.order] = np.nan
    try:
        peer.approximate(A, 5)()
    except Exception:
        return "refused"
    return "taken"


@contextlib.contextmanager
def mapped(A):
    """The array in a file, mapped into memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "A.npy"
        np.save(path, A)
        yield np.load(path, mmap_mode="r")


@contextlib.contextmanager
def chunked(A):
    """The array as one of dask, in at least 60 chunks."""
    import dask.array

    yield dask.array.from_array(A, chunks=tuple(-(-length // 8) for length in A.shape))


def without_copy(peer, wrapped):
    """Whether the peer takes a large array, wrapped, in less memory than a copy of it would need."""
    A = np.tile(of_rank_five(peer.order), (100, 60) if peer.order == 2 else (8, 6, 4))  # 144 and 184 MB
    with wrapped(A) as X:
        tracemalloc.start()
        try:
            approximation = peer.approximate(X, 5)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            close = np.linalg.norm(np.asarray(approximation()) - A) < 1e-6 * np.linalg.norm(A)
        except Exception:
            return "no"
        finally:
            tracemalloc.stop()
    return "copied" if peak >= A.nbytes else "yes" if close else "wrong"


def names(peer):
    """Whether the names of the chosen columns come with the result."""
    if peer.names is None:
        return "no" if peer.order == 2 else "-"
    A = of_rank_five(2)
    frame = pandas.DataFrame(A, columns=[f"column {j}" for j in range(A.shape[1])])
    return "yes" if set(peer.names(frame)) <= set(frame.columns) else "no"


def include(peer):
    """Whether a column can be asked for."""
    if peer.include is None:
        return "no" if peer.order == 2 else "-"
    return "yes" if 3 in peer.include(of_rank_five(2), 3) else "no"


PROBES = {
    "tolerance": tolerance,
    "sparse": sparse_arrays,
    "complex": complex_numbers,
    "float32": single_precision,
    "NaN": not_a_number,
    "memmap": partial(without_copy, wrapped=mapped),
    "dask": partial(without_copy, wrapped=chunked),
    "names": names,
    "include": include,
}


# ---- measures


FAMILIES = {
    (2, "incoherent"): common.FAMILIES[common.INCOHERENT],
    (2, "coherent"): common.FAMILIES[common.COHERENT],
    (3, "incoherent"): tensors.TENSORS["low rank + noise"],
    (3, "coherent"): tensors.TENSORS["coherent"],
}


@functools.cache
def measured_case(order, kind):
    """An array, the rank asked for, and the error of the best approximation of that rank (of tensors, HOOI's)."""
    family = FAMILIES[order, kind]
    if order == 2:
        A = family(1500, 1000, 0)
        return A, 40, common.tail(np.linalg.svd(A, compute_uv=False), 40)
    X = family((160, 150, 140), 0)
    return X, 8, float(np.linalg.norm(X - ct.hooi(X, (8, 8, 8)).to_array()))


def ratio(peer, kind):
    """Error over that of the best approximation, median of three seeds."""
    A, rank, best = measured_case(peer.order, kind)
    return float(np.median([np.linalg.norm(A - peer.approximate(A, rank, seed=s)()) for s in range(3)]) / best)


def seconds(peer):
    """CPU seconds on the incoherent array, the least of three runs."""
    A, rank, _ = measured_case(peer.order, "incoherent")
    return float(common.cpu_seconds([partial(peer.approximate, A, rank)], 3)[0])


def measured(name):
    """The line of a peer in the file of results."""
    peer = PEERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells = {column: probe(peer) for column, probe in PROBES.items()}
        figures = {kind: f"{ratio(peer, kind):.3g}" for kind in ("incoherent", "coherent")}
        return {"library": name, "gives": peer.gives} | cells | figures | {"CPU s": f"{seconds(peer):.2g}"}


def line(name, before, libraries):
    """What is measured now, if the library is wanted and installed; else what was before, or that it is missing."""
    module = PEERS[name].module
    if (not libraries or module in libraries) and importlib.util.find_spec(module):
        return measured(name)
    columns = [*PROBES, "incoherent", "coherent", "CPU s"]
    return before.get(name, {"library": name, "gives": "not installed"} | dict.fromkeys(columns, ""))


def layout(rows):
    """The table of the README from the rows of the file."""
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def main(libraries):
    before = {row["library"]: row for row in pages.read_results("peers")}
    rows = []
    for name in PEERS:
        rows.append(line(name, before, libraries))
        print(" | ".join(rows[-1].values()), flush=True)
    pages.write_results("peers", rows)
    pages.rewrite(README, "peers", layout(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
