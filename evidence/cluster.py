"""The figures claimed for dask arrays and tensors on disk: ``python -m evidence.cluster [claim ...]``.

As `evidence.matrices`. Needs the extra `large`, two cores, 9 GB of disk in the folder for temporary files, and
some minutes. CPU time is that of all processes: the client, which holds the scheduler, and the workers.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster

import curtensor as ct
from benchmarks import common
from curtensor.operands.dask_array import FAN
from curtensor.selection import sketch_size
from evidence import pages
from evidence.claims import Line, at_most, command

SHAPE, CHUNK, RANK = (40000, 4000), 1000, 50
TENSOR, TENSOR_RANK = (1000, 1000, 800), 20


@contextlib.contextmanager
def cluster(n_workers):
    """A client of processes with one thread each."""
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as workers,
        Client(workers) as client,
    ):
        yield client


@contextlib.contextmanager
def stored_matrix(shape, chunk, kind="float64", compressors="auto"):
    """A slowly decaying matrix of rank 200 and noise in a zarr store, as a dask array."""
    rng = np.random.default_rng(0)
    right = rng.standard_normal((200, shape[1])) / np.arange(1, 201)[:, None]
    if np.dtype(kind).kind == "c":
        right = right * np.exp(2j * np.pi * rng.random(right.shape))
    with tempfile.TemporaryDirectory() as folder:
        options = {"shape": shape, "dtype": kind, "chunks": (chunk, shape[1]), "compressors": compressors}
        Z = zarr.create_array(f"{folder}/A.zarr", **options)
        for start in range(0, shape[0], chunk):
            rows = rng.standard_normal((min(chunk, shape[0] - start), 200)) @ right
            Z[start : start + chunk] = rows + 1e-3 * rng.standard_normal(rows.shape)
        yield da.from_zarr(f"{folder}/A.zarr")


def relative_error(A, left, right):
    """``||A - left @ right|| / ||A||``, chunk by chunk, outside of all that is timed."""
    rest = size = 0.0
    for start in range(0, len(A), CHUNK):
        block = A[start : start + CHUNK].compute(scheduler="synchronous")
        rest += np.linalg.norm(block - left[start : start + CHUNK] @ right) ** 2
        size += np.linalg.norm(block) ** 2
    return np.sqrt(rest / size)


def cpu_of(client):
    """CPU seconds so far, of all processes."""
    return time.process_time() + sum(client.run(time.process_time).values())


def measured(client, function):
    """Result, CPU seconds and seconds of a call, the least of two."""
    results = []
    for _ in range(2):
        cpu, start = cpu_of(client), time.perf_counter()
        result = function()
        seconds = time.perf_counter() - start
        results.append((result, cpu_of(client) - cpu, seconds))
    return min(results, key=lambda item: item[1])


def cur(A):
    return ct.cur_decomposition(A, RANK, rng=0)


def cur_of_persisted(A):
    return cur(A.persist())


def compressed(A, again=False):
    """U, s and Vh of dask's randomized SVD with two power iterations, which holds A in memory or reads it again."""
    return dask.compute(*da.linalg.svd_compressed(A, RANK, n_power_iter=2, seed=0, compute=again))


def compressed_again(A):
    return compressed(A, again=True)


WAYS = {"held by the workers": (cur_of_persisted, compressed), "read in each pass": (cur, compressed_again)}
STORES = {"zarr": None, "zarr with zstd": "auto"}


def cpu_time():
    """40000 x 4000 from zarr, on one worker and on two, beside dask's svd_compressed."""
    for store, compressors in STORES.items():
        with stored_matrix(SHAPE, CHUNK, compressors=compressors) as A:
            found = []
            for n_workers in (1, 2):
                with cluster(n_workers) as client:
                    client.run(cur, np.random.default_rng(0).standard_normal((300, 200)))  # compiles
                    for way, (our_way, their_way) in WAYS.items():
                        ours, our_cpu, our_seconds = measured(client, lambda our_way=our_way: our_way(A))
                        svd, their_cpu, their_seconds = measured(client, lambda their_way=their_way: their_way(A))
                        found.append(ours)
                        clock = f"by the clock {our_seconds:.1f} s / {their_seconds:.1f} s"
                        note = f" ({our_cpu:.2f} s / {their_cpu:.2f} s; {clock})"
                        what = f"{store}, {way}, {n_workers} workers: CUR over svd_compressed, CPU"
                        yield at_most(what, 0.5, our_cpu / their_cpu, note)
            same = all(same_indices(result, ours) for result in found)
            yield Line(f"{store}: the same indices each time", "yes", "yes" if same else "no", same)
            if compressors is None:
                U, s, Vh = svd
                theirs = relative_error(A, U, s[:, None] * Vh)
                error = relative_error(A, ours.left, ours.middle @ ours.right)
                note = f" ({error:.4g} / {theirs:.4g})"
                yield at_most("the same: error of CUR over that of svd_compressed", 2.2, error / theirs, note)
                yield at_most("the same: error over its estimate", 1.01, error / ours.error_estimate)


def same_indices(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("col_indices", "row_indices"))


def complex_data():
    """A complex matrix, on which svd_compressed multiplies by the transpose for the adjoint."""
    with stored_matrix((4000, 600), 500, "complex128") as A:
        whole = A.compute(scheduler="synchronous")
        optimum = common.tail(np.linalg.svd(whole, compute_uv=False), RANK)
        with cluster(2):
            result = ct.cur_decomposition(A, RANK, rng=0)
            U, s, Vh = compressed(A)
        ours = common.error(whole, (result.left, result.middle, result.right)) / optimum
        theirs = common.error(whole, (U, s[:, None] * Vh)) / optimum
        yield at_most("complex 4000 x 600: error of CUR / optimum", 2.2, ours, f" (svd_compressed: {theirs:.3g})")


def slowly(block):
    time.sleep(0.1)
    return block


def killed_worker():
    """One of two workers killed in the middle of the first pass."""
    with stored_matrix((8000, 1000), 100) as A:
        with cluster(2):
            expected = ct.cur_decomposition(A, RANK, rng=0)
        with cluster(2) as client:
            before = client.run(os.getpid)
            victim = min(before.values())
            threading.Timer(3, os.kill, (victim, signal.SIGKILL)).start()
            result = ct.cur_decomposition(A.map_blocks(slowly, meta=np.empty((0, 0))), RANK, rng=0)
            died = victim not in client.run(os.getpid).values()
        same = same_indices(result, expected)
        yield Line("a worker killed in the first pass: the same indices", "yes", "yes" if same else "no", same and died)


def bytes_sent(shape, chunks, size, rank, n_workers, itemsize=8):
    """Bytes that a worker sends in each pass of a CUR of a matrix in (p, q) chunks: the model of docs/cluster.md.

    What comes of the chunks is summed in a tree, and at worst every summand is sent to another worker; the sums go to
    the client.
    """
    (m, n), (p, q) = shape, chunks
    share, away = itemsize / n_workers, FAN / (FAN - 1) if n_workers > 1 else 0

    def summed(length, parts):  # vectors of such a length, one from each of the parts
        return share * length * (1 + (away * parts if parts > 1 else 0))

    return {
        "sketches": size * (summed(m, q) + summed(n, p)),
        "C": share * rank * m,
        "R": share * rank * n,
        "product": rank * summed(n, p),
    }


def sent(dask_worker):
    return dask_worker.transfer_outgoing_bytes_total


def bytes_moved():
    """Bytes that workers send, counted, against the model."""
    for shape, chunks in (((20000, 2000), (500, 2000)), ((8000, 6000), (1000, 1500))):
        A = da.random.default_rng(0).standard_normal(shape, chunks=chunks) / da.arange(
            1, shape[1] + 1, chunks=chunks[1]
        )
        for n_workers in (1, 2):
            with cluster(n_workers) as client:
                ct.cur_decomposition(A, RANK, rng=0)
                counted = np.mean(list(client.run(sent).values()))
            model = sum(
                bytes_sent(shape, A.numblocks, sketch_size(RANK, max(shape), max(shape)), RANK, n_workers).values()
            )
            whole = 8 * shape[0] * shape[1]
            note = f" ({counted / 1e6:.1f} MB of {model / 1e6:.1f} MB; A is {whole / 1e6:.0f} MB)"
            what = f"{shape[0]} x {shape[1]} in {A.numblocks} chunks, {n_workers} workers: sent by one / at most"
            yield at_most(what, 1.05, counted / model, note)


PEAK = """
import sys, time
import numpy as np
import curtensor as ct
from benchmarks.common import peak_gigabytes

small = np.random.default_rng(0).standard_normal((30, 30, 30))
ct.st_hosvd(small, (2, 2, 2)), ct.tensor_cur(small, 2, rng=0)
X = np.load(sys.argv[1], mmap_mode="r")
before, start = peak_gigabytes(), time.process_time()
result = getattr(ct, sys.argv[2])(X, 3 * (int(sys.argv[3]),), rng=0)
print((peak_gigabytes() - before) * 1e9 / 2**30, time.process_time() - start, result.error_estimate)
rest = size = 0.0
for i in range(0, len(X), 10):
    slab = np.array(X[i : i + 10])
    factors = [result.factors[0][i : i + 10], *result.factors[1:]]
    rest += np.linalg.norm(slab - ct.tucker_to_tensor(result.core, factors)) ** 2
    size += np.linalg.norm(slab) ** 2
print(np.sqrt(rest / size))
"""


def write_tensor(path, shape):
    """A smooth tensor and noise of a thousandth, slab by slab."""
    X = np.lib.format.open_memmap(path, "w+", shape=shape)
    rng = np.random.default_rng(0)
    y, z = (np.linspace(0, 3, d) for d in shape[1:])
    for i, x in enumerate(np.linspace(0, 3, shape[0])):
        slab = 1 / (0.3 + x + y[:, None] + z)
        X[i] = slab + 1e-3 * rng.standard_normal(slab.shape)
    X.flush()


def tensor_on_disk():
    """A tensor of 6 GB in a mapped file: most memory above the interpreter's own, in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        write_tensor(path, TENSOR)
        gigabytes = path.stat().st_size / 1e9
        for name in ("st_hosvd", "tensor_cur"):
            run = [sys.executable, "-c", PEAK, path, name, str(TENSOR_RANK)]
            shown = subprocess.run(run, check=True, capture_output=True, text=True).stdout
            peak, seconds, estimate, error = map(float, shown.split())
            what = f"{name} of {gigabytes:.1f} GB, r={TENSOR_RANK}: GiB above the interpreter's own"
            yield Line(what, "< 1", f"{peak:.2f} ({seconds:.0f} s CPU; error {error:.4g})", peak < 1)
            yield at_most(f"{name}: error over its estimate", 1.1, error / estimate)


# name -> () to the lines of a claim
CLAIMS = {
    "cpu_time": cpu_time,
    "complex": complex_data,
    "killed_worker": killed_worker,
    "bytes": bytes_moved,
    "tensor": tensor_on_disk,
}


if __name__ == "__main__":
    command(CLAIMS, pages.DOCS / "cluster.md")
