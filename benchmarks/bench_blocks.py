"""Matrices on disk: error over the optimum, CPU time, bytes read and memory, beside what else reads in blocks."""

import numpy as np

import curtensor
from benchmarks import common
from benchmarks.common import error, measured, tail
from curtensor.operands.sources import slices_of

SHAPE, RANK, HEIGHT = (10000, 500), 30, 1000
FAMILY = "slow decay, on disk"


class Counted:
    """An array on disk, read by whole rows and not mapped, which counts the bytes that are read of it."""

    def __init__(self, path):
        mapped = np.load(path, mmap_mode="r")
        self.shape, self.dtype, self.ndim, self.nbytes = mapped.shape, mapped.dtype, 2, mapped.nbytes
        self.rows_between, self.bytes_read = slices_of(mapped), 0

    def __getitem__(self, index):
        rows, *columns = index if isinstance(index, tuple) else (index,)
        start, stop, _ = rows.indices(self.shape[0])
        part = self.rows_between(start, stop)
        self.bytes_read += part.nbytes
        return part[:, *columns]


def cur(core):
    def decomposition(A, k, seed):
        result = curtensor.cur_decomposition(curtensor.row_blocks(A), k, core=core, rng=seed)
        return result.left, result.middle, result.right

    return decomposition


def our_svd(method):
    def decomposition(A, k, seed):
        U, s, Vh = curtensor.randomized_svd(curtensor.row_blocks(A), k, method=method, rng=seed)
        return U, s[:, None] * Vh

    return decomposition


def svd_compressed(power_iterations):
    def decomposition(A, k, seed):
        import dask
        import dask.array

        chunked = dask.array.from_array(A, chunks=(HEIGHT, -1), lock=True)
        options = {"n_power_iter": power_iterations, "seed": seed, "compute": True}
        U, s, Vh = dask.compute(*dask.array.linalg.svd_compressed(chunked, k, **options), scheduler="synchronous")
        return U, s[:, None] * Vh

    return decomposition


def incremental_pca(A, k, seed):
    """The components, and by one more pass what is projected on them; its mean counts as one vector more."""
    from sklearn.decomposition import IncrementalPCA

    pca = IncrementalPCA(k)
    pieces = [slice(start, start + HEIGHT) for start in range(0, A.shape[0], HEIGHT)]
    for rows in pieces:
        pca.partial_fit(A[rows])
    scores = np.concatenate([pca.transform(A[rows]) for rows in pieces])
    return np.column_stack([scores, np.ones(A.shape[0])]), np.vstack([pca.components_, pca.mean_])


def in_memory(method):
    def decomposition(A, k, seed):
        return method(A[:], k, seed)

    return decomposition


# name -> (A, k, seed) to arrays whose product is the approximation
METHODS = {
    "CUR, projection": cur("projection"),
    "CUR, intersection": cur("intersection"),
    "randomized_svd, block_krylov": our_svd("block_krylov"),
    "randomized_svd, single_pass": our_svd("single_pass"),
    "dask svd_compressed, q=0": svd_compressed(0),
    "dask svd_compressed, q=2": svd_compressed(2),
    "scikit-learn IncrementalPCA": incremental_pca,
    "CUR in memory": in_memory(common.METHODS["CUR"]),
    "scikit-learn in memory": in_memory(common.METHODS["scikit-learn"]),
}


def slow_decay(shape, height):
    """Rows of a slowly decaying matrix of rank 200 and noise, in blocks, each with the number of its first row."""
    rng = np.random.default_rng(0)
    right = rng.standard_normal((200, shape[1])) / np.arange(1, 201)[:, None]
    for start in range(0, shape[0], height):
        rows = min(height, shape[0] - start)
        yield start, rng.standard_normal((rows, 200)) @ right + 1e-3 * rng.standard_normal((rows, shape[1]))


def written(path, shape=SHAPE):
    """Such a matrix, in a .npy file too."""
    A = np.concatenate([rows for _, rows in slow_decay(shape, HEIGHT)])
    np.save(path, A)
    return A


class Blocks(common.Comparison):
    """Rank 30 of a matrix of 40 MB in a file."""

    params = (list(METHODS), [FAMILY])

    def setup_cache(self):
        A = written("A.npy")  # asv makes a folder for this, and removes it
        optimum = tail(np.linalg.svd(A, compute_uv=False), RANK)

        def figures(method, data):
            counted = []

            def call(seed):
                counted.append(Counted("A.npy"))
                return method(counted[-1], RANK, seed)

            method(A[:300], 5, 0)  # imports and compiles
            return measured(call, lambda factors: [error(A, factors) / optimum, counted[-1].bytes_read / A.nbytes])

        return common.outcomes(METHODS, {FAMILY: lambda: None}, figures)

    def track_error(self, cache, method, family):
        return cache[method, family][1]

    track_error.unit = "error / that of the truncated SVD"

    def track_bytes_read(self, cache, method, family):
        return cache[method, family][2]

    track_bytes_read.unit = "bytes read / those of the file"


class Memory:
    """Peak memory."""

    params = list(METHODS)
    param_names = ("method",)

    def setup_cache(self):
        written("A.npy")

    def setup(self, method):
        self.A = Counted("A.npy")
        with common.skipped_where_missing():
            METHODS[method](self.A[:300], 5, 0)  # imports and compiles

    def peakmem_method(self, method):
        METHODS[method](self.A, RANK, 0)
