"""The figures claimed for matrices on disk: ``python -m evidence.blocks [claim ...]``.

As `evidence.matrices`. Needs the extra `large`, 13 GB of disk in the folder for temporary files, and a quarter
of an hour.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import zarr

import curtensor as ct
from benchmarks import bench_blocks, common
from benchmarks.bench_blocks import slow_decay
from curtensor.operands.sources import CACHED_BYTES
from evidence import pages
from evidence.claims import Line, at_most, command, shown

RANK = 50
LARGE = (400000, 4000)  # 12.8 GB
CSR_ROWS, CSR_COLUMNS, CSR_FILLED = 1000000, 30000, 600  # 2 % of each row
ALIKE, PEERS = (6000, 800), (80000, 1000)


@contextlib.contextmanager
def large_file(shape):
    """A .npy file of float64, in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        A = np.lib.format.open_memmap(f"{folder}/A.npy", mode="w+", dtype=float, shape=shape)
        for start, rows in slow_decay(shape, 2000):
            A[start : start + len(rows)] = rows
        A.flush()
        yield f"{folder}/A.npy"


def read_once(path):
    """Seconds to read a file from end to end, in pieces as the blocks are."""
    start, piece = time.perf_counter(), bytearray(CACHED_BYTES)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(piece):
            pass
    return time.perf_counter() - start


PEAK = """
import sys, time
import numpy as np
import curtensor as ct
from benchmarks.common import peak_gigabytes

small = np.random.default_rng(0).standard_normal((300, 200))
for core in ("intersection", "projection"):
    ct.cur_decomposition(small, 5, core=core, rng=0)
A = ct.row_blocks(np.load(sys.argv[1], mmap_mode="r"))
before, start, cpu = peak_gigabytes(), time.perf_counter(), time.process_time()
result = ct.cur_decomposition(A, int(sys.argv[3]), core=sys.argv[2], rng=0)
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print((peak_gigabytes() - before) * 1e9 / 2**30, A.passes, A.bytes_read, seconds, cpu, result.error_estimate)
rest = size = 0.0
for start in range(0, len(result.left), 2000):
    rows = np.array(np.load(sys.argv[1], mmap_mode="r")[start : start + 2000])
    rest += np.linalg.norm(rows - result.left[start : start + 2000] @ (result.middle @ result.right)) ** 2
    size += np.linalg.norm(rows) ** 2
print(np.sqrt(rest / size))
"""


def arithmetic(core):
    """CPU seconds of the same CUR of as many rows as memory holds, times how many times more there are on disk."""
    m, n = LARGE[0] // 10, LARGE[1]
    A = np.concatenate([rows for _, rows in slow_decay((m, n), 2000)])
    start = time.process_time()
    ct.cur_decomposition(A, RANK, core=core, rng=0)
    return (time.process_time() - start) * LARGE[0] / m


def large_matrix():
    """A matrix of 12.8 GB, in processes of their own: memory, passes, and speed beside a plain read of the file."""
    with large_file(LARGE) as path:
        gigabytes = Path(path).stat().st_size / 1e9
        for core, passes in (("intersection", 2), ("projection", 3)):
            plain = read_once(path)
            run = [sys.executable, "-c", PEAK, path, core, str(RANK)]
            printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
            peak, made, read, seconds, cpu, estimate, error = map(float, printed.split())
            what = f"{core}, {gigabytes:.1f} GB, k={RANK}:"
            yield at_most(f"{what} GiB above the interpreter's own", 1, peak)
            yield Line(f"{what} passes", str(passes), f"{made:g} ({read / 1e9:.1f} GB read)", made == passes)
            reads, in_memory = plain * made, arithmetic(core)
            note = f" ({seconds:.0f} s, {cpu:.0f} s CPU; plain read {gigabytes / plain:.1f} GB/s)"
            yield shown(f"{what} speed over that of a plain read", f"{reads / seconds:.2f}{note}")
            note = f" (arithmetic {in_memory:.1f} s, from the same rows in memory; plain reads {reads:.1f} s)"
            beyond = max(seconds - in_memory, 0) / reads
            yield at_most(f"{what} seconds beyond the arithmetic / plain reads", 1 / 0.6, beyond, note)
            # the estimate of a projection is exact but for rounding, that of an intersection comes from a sketch
            slack = 1.01 if core == "projection" else 1.25
            yield at_most(f"{what} error over its estimate", slack, error / estimate, f" ({error:.4g})")


PEER = """
import sys, time
import numpy as np
from benchmarks.bench_blocks import METHODS, Counted
from benchmarks.common import peak_gigabytes

method, k = METHODS[sys.argv[2]], int(sys.argv[3])
A = Counted(sys.argv[1])
method(A[:2000], 5, 0)
A.bytes_read, before, start = 0, peak_gigabytes(), time.process_time()
factors = method(A, k, 0)
print(time.process_time() - start, (peak_gigabytes() - before) * 1e9 / 2**30, A.bytes_read / A.nbytes)
whole = A[:]
print(np.linalg.norm(whole - np.linalg.multi_dot(factors)))
"""


def peers():
    """A matrix of 640 MB, by what reads in blocks and what does not: error, CPU time, memory, how often it is read."""
    with tempfile.TemporaryDirectory() as folder:
        A = bench_blocks.written(f"{folder}/A.npy", PEERS)
        optimum = common.tail(np.linalg.svd(np.linalg.qr(A, mode="r"), compute_uv=False), RANK)
        del A
        for name in bench_blocks.METHODS:
            run = [sys.executable, "-c", PEER, f"{folder}/A.npy", name, str(RANK)]
            printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
            seconds, peak, read, error = map(float, printed.split())
            note = f"{error / optimum:.3g} of the optimum; {seconds:.1f} s CPU; {peak:.2f} GiB; read {read:.3g} times"
            yield shown(name, note)


def stores(A, folder):
    """A matrix in each kind of store, in chunks of the same rows."""
    np.save(f"{folder}/A.npy", A)
    with h5py.File(f"{folder}/A.h5", "w") as file:
        file.create_dataset("A", data=A, chunks=(500, 200))
    zarr.create_array(f"{folder}/A.zarr", data=A, chunks=(500, 200))
    import dask.array

    return {
        "memmap": ct.row_blocks(np.load(f"{folder}/A.npy", mmap_mode="r"), block_bytes=2**24),
        "HDF5": h5py.File(f"{folder}/A.h5", "r")["A"],
        "zarr": zarr.open_array(f"{folder}/A.zarr", mode="r"),
        "dask": dask.array.from_zarr(f"{folder}/A.zarr"),
    }


def stores_alike():
    """The same indices from every store, and an error within 5 % of that in memory."""
    A = np.concatenate([rows for _, rows in slow_decay(ALIKE, 1000)])
    optimum = common.tail(np.linalg.svd(A, compute_uv=False), RANK)
    for core in ("projection", "intersection"):
        expected = ct.cur_decomposition(A, RANK, core=core, rng=0)
        in_memory = common.error(A, (expected.left, expected.middle, expected.right)) / optimum
        with tempfile.TemporaryDirectory() as folder:
            for store, stored in stores(A, folder).items():
                result = ct.cur_decomposition(stored, RANK, core=core, rng=0)
                same = all(
                    np.array_equal(getattr(result, name), getattr(expected, name))
                    for name in ("col_indices", "row_indices")
                )
                apart = np.abs(result.middle - expected.middle).max() / np.abs(expected.middle).max()
                ratio = common.error(A, (result.left, result.middle, result.right)) / optimum / in_memory
                note = f"{'yes' if same else 'no'} (middles apart by {apart:.1g})"
                yield Line(f"{store}, {core}: the indices of the array in memory", "yes", note, same)
                yield at_most(f"{store}, {core}: error over that in memory", 1.05, ratio)


CSR = """
import sys, time
import numpy as np
import curtensor as ct
from benchmarks.common import peak_gigabytes
from evidence.blocks import csr_arrays, CSR_COLUMNS

small = np.random.default_rng(0).standard_normal((300, 200))
ct.select_columns(small, 5, rng=0), ct.leverage_scores(small, 5, method="sketch", rng=0)
m = int(sys.argv[2])
data, indices, indptr = csr_arrays(sys.argv[1], "r")
A = ct.row_blocks((data[: indptr[m]], indices[: indptr[m]], indptr[: m + 1]), (m, CSR_COLUMNS))
for call in (
    lambda: ct.select_columns(A, 100, rng=0),
    lambda: ct.leverage_scores(A, int(sys.argv[3]), axis=1, method="sketch", rng=0),
):
    before, start, passes = peak_gigabytes(), time.process_time(), A.passes
    call()
    print(time.process_time() - start, A.passes - passes, peak_gigabytes())
"""


def csr_arrays(folder, mode):
    """The three arrays of a CSR matrix of float32, as mapped files."""
    kinds = {"data": ("f4", CSR_ROWS * CSR_FILLED), "indices": ("i4", CSR_ROWS * CSR_FILLED)}
    kinds["indptr"] = ("i8", CSR_ROWS + 1)
    if mode == "r":
        return [np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in kinds]
    return [
        np.lib.format.open_memmap(f"{folder}/{name}.npy", mode=mode, dtype=kind, shape=(length,))
        for name, (kind, length) in kinds.items()
    ]


def write_counts(folder):
    """Entries of twenty kinds of rows, as of cells: one of each equal stretch of columns, at a random place in it."""
    data, indices, indptr = csr_arrays(folder, "w+")
    rng = np.random.default_rng(0)
    indptr[:] = np.arange(CSR_ROWS + 1) * CSR_FILLED
    profiles = rng.gamma(0.3, 1, (20, CSR_COLUMNS)).astype("f4")
    stretch = CSR_COLUMNS // CSR_FILLED
    height = 10000
    for start in range(0, CSR_ROWS, height):
        columns = np.arange(CSR_FILLED) * stretch + rng.integers(stretch, size=(height, CSR_FILLED), dtype=np.int32)
        values = profiles[rng.integers(20, size=height)[:, None], columns]
        values += rng.standard_exponential(values.shape, dtype="f4")
        entries = slice(start * CSR_FILLED, (start + height) * CSR_FILLED)
        indices[entries], data[entries] = columns.ravel(), values.ravel()
    for array in (data, indices, indptr):
        array.flush()


def csr_on_disk():
    """A million rows, thirty thousand columns, two percent filled, and a half and a quarter of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        write_counts(folder)
        found = {}
        for m in (CSR_ROWS // 4, CSR_ROWS // 2, CSR_ROWS):
            run = [sys.executable, "-c", CSR, folder, str(m), "20"]
            printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
            found[m] = [tuple(map(float, line.split())) for line in printed.splitlines()]
        for call, name in enumerate(("100 columns", "leverage of columns, k=20")):
            for m, lines in found.items():
                seconds, passes, peak = lines[call]
                note = f"{seconds:.0f} s CPU, {passes:.0f} passes"
                yield shown(f"{name}, {m * CSR_FILLED:.2g} entries", note)
                yield at_most(f"{name}, {m * CSR_FILLED:.2g} entries: GiB of the process", 2, peak * 1e9 / 2**30)
            growth = found[CSR_ROWS][call][0] / found[CSR_ROWS // 4][call][0] / 4
            yield at_most(f"{name}: seconds an entry, all over a quarter", 1.25, growth)


# name -> () to the lines of a claim
CLAIMS = {"alike": stores_alike, "large": large_matrix, "csr": csr_on_disk, "peers": peers}


if __name__ == "__main__":
    command(CLAIMS, pages.DOCS / "large.md")
