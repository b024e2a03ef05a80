"""Matrices on disk and behind functions: what comes out is what comes out of the same matrix in memory."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from matrices import DTYPES, INTEGERS, assert_operations_equal_numpys, eps, noisy_low_rank, normal, sparse_low_rank
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor import operands
from curtensor.operands import blocks, sources
from curtensor.operands.arithmetic import dense

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
da = pytest.importorskip("dask.array")

SMALL = 2**13  # bytes of blocks, so that small matrices have many


def memmap(A, folder):
    np.save(folder / "A.npy", np.ascontiguousarray(A))
    return np.load(folder / "A.npy", mmap_mode="r")


def fortran_memmap(A, folder):
    np.save(folder / "A.npy", np.asfortranarray(A))
    return np.load(folder / "A.npy", mmap_mode="r")


def part_of_a_memmap(A, folder):
    wide = np.zeros((2 * A.shape[0] + 1, A.shape[1] + 3), A.dtype)
    wide[1::2, 3:] = A
    return memmap(wide, folder)[1::2, 3:]


def some_rows_of_a_memmap(A, folder):
    return memmap(np.concatenate([A[:2], A, A[:1]]), folder)[2:-1]


def chunked_hdf5(A, folder):
    return h5py.File(folder / "A.h5", "w").create_dataset("A", data=A, chunks=(7, 5))


def plain_hdf5(A, folder):
    return h5py.File(folder / "A.h5", "w").create_dataset("A", data=A)


def zarr_array(A, folder):
    Z = zarr.create_array(folder / "A.zarr", shape=A.shape, dtype=A.dtype, chunks=(12, 25))
    Z[...] = A
    return Z


def sharded_zarr(A, folder):
    Z = zarr.create_array(folder / "A.zarr", shape=A.shape, dtype=A.dtype, chunks=(6, 25), shards=(12, 50))
    Z[...] = A
    return Z


def function(A, folder):
    return lambda: (A[start : start + 9] for start in range(0, len(A), 9))


def function_that_uses_its_memory_again(A, folder):
    buffer = np.empty((8, A.shape[1]), A.dtype)

    def start():
        for first in range(0, len(A), 8):
            block = buffer[: len(A) - first]
            block[...] = A[first : first + 8]
            yield block

    return start


def function_of_sparse_blocks(A, folder):
    return lambda: (sparse.csc_matrix(A[start : start + 9]) for start in range(0, len(A), 9))


def three_arrays(A, folder):
    A = sparse.csr_array(A)
    for name in ("data", "indices", "indptr"):
        np.save(folder / f"{name}.npy", getattr(A, name))
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("data", "indices", "indptr"))


def group_in_hdf5(A, folder, encoding="csr_matrix"):
    stored = sparse.csr_array(A) if encoding == "csr_matrix" else sparse.csc_array(A)
    group = h5py.File(folder / "A.h5", "w").create_group("X")
    for name in ("data", "indices", "indptr"):
        group[name] = getattr(stored, name)
    group.attrs.update({"shape": A.shape, "encoding-type": encoding})
    return group


def group_by_columns(A, folder):
    return group_in_hdf5(A, folder, "csc_matrix")


def group_in_zarr(A, folder):
    stored = sparse.csr_array(A)
    group = zarr.open_group(folder / "A.zarr", mode="w")
    for name in ("data", "indices", "indptr"):
        part = getattr(stored, name)
        group.create_array(name, shape=part.shape, dtype=part.dtype, chunks=(400,))[...] = part
    group.attrs.update({"shape": list(A.shape), "encoding-type": "csr_matrix"})
    return group


DENSE = {
    store.__name__: store
    for store in (
        memmap,
        fortran_memmap,
        part_of_a_memmap,
        some_rows_of_a_memmap,
        chunked_hdf5,
        plain_hdf5,
        zarr_array,
        sharded_zarr,
        function,
        function_that_uses_its_memory_again,
    )
}
SPARSE = {
    store.__name__: store
    for store in (function_of_sparse_blocks, three_arrays, group_in_hdf5, group_by_columns, group_in_zarr)
}
STORES = DENSE | SPARSE


@pytest.fixture
def stored(tmp_path):
    """Puts a matrix into a store of some kind, to be read in small blocks."""
    kept = []

    def store(name, A, **options):
        folder = tmp_path / str(len(kept))
        folder.mkdir()
        kept.append(STORES[name](A, folder))
        return ct.row_blocks(kept[-1], A.shape, **{"block_bytes": SMALL} | options)

    yield store
    for source in kept:
        if hasattr(source, "file"):
            source.file.close()


@pytest.fixture
def small_pieces(monkeypatch):
    """Several blocks even of small matrices that come as they are."""
    monkeypatch.setattr(sources, "CACHED_BYTES", SMALL)


# ---- the same as in memory


@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("transposed", [False, True])
def test_every_operation_equals_numpys(store, dtype, transposed, stored, rng):
    def kind(A):
        return stored(store, A.T).T if transposed else stored(store, A)

    assert_operations_equal_numpys(kind, dtype, rng, sparse_slices=store in SPARSE)


@pytest.mark.parametrize("core", ["projection", "intersection"])
@pytest.mark.parametrize("store", DENSE)
def test_cur_is_that_of_the_array_in_memory(store, core, stored, rng):
    for dtype in ("f8", "c8"):
        A = noisy_low_rank(150, 60, dtype, rng)
        ours = ct.cur_decomposition(stored(store, A), 7, core=core, rng=3)
        other = ct.cur_decomposition(A, 7, core=core, rng=3)
        assert_array_equal(ours.col_indices, other.col_indices)
        assert_array_equal(ours.row_indices, other.row_indices)
        assert_array_equal(ours.C, A[:, ours.col_indices])
        assert_array_equal(ours.R, A[ours.row_indices])
        assert_allclose(ours.to_array(), other.to_array(), atol=1e3 * eps(dtype) * np.abs(A).max())


@pytest.mark.parametrize("store", SPARSE)
def test_sparse_cur_stays_sparse(store, stored, rng):
    A = sparse_low_rank(120, 50, 6, "f8", rng).toarray()
    ours = ct.cur_decomposition(stored(store, A), 6, rng=3)
    assert sparse.issparse(ours.C) and sparse.issparse(ours.R)
    assert_array_equal(ours.C.toarray(), A[:, ours.col_indices])
    assert_array_equal(ours.R.toarray(), A[ours.row_indices])
    assert ct.relative_error(A, ours) < 1e3 * eps("f8")


CALLS = {
    "select_columns": lambda A: ct.select_columns(A, 5, rng=1),
    "select_rows": lambda A: ct.select_rows(A, 5, method="cpqr", rng=1),
    "leverage_scores": lambda A: ct.leverage_scores(A, 5, method="sketch", rng=1),
    "leverage_scores of columns": lambda A: ct.leverage_scores(A, 5, axis=1, method="sketch", rng=1),
    "randomized_svd": lambda A: ct.randomized_svd(A, 5, rng=1).to_array(),
    "randomized_svd, rtol": lambda A: ct.randomized_svd(A, rtol=0.3, rng=1).to_array(),
    "interpolative_decomposition": lambda A: ct.interpolative_decomposition(A, 5, rng=1).coefficients,
    "interpolative_decomposition of rows": lambda A: ct.interpolative_decomposition(A, 5, axis=0, rng=1).coefficients,
    "cur_decomposition, rtol": lambda A: ct.cur_decomposition(A, rtol=0.2, rng=1).to_array(),
    "relative_error": lambda A: ct.relative_error(A, np.ones(A.shape)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("store", STORES)
def test_every_function_gives_what_it_gives_in_memory(store, call, stored, rng):
    A = noisy_low_rank(90, 40, "f8", rng)
    expected = CALLS[call](sparse.csr_array(A) if store in SPARSE else A)
    assert_allclose(CALLS[call](stored(store, A)), expected, atol=1e5 * eps("f8") * max(1, np.abs(expected).max()))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("store", ["chunked_hdf5", "zarr_array", "group_in_hdf5"])
def test_stores_go_in_as_they_are(store, tmp_path, rng):
    A = noisy_low_rank(90, 40, "f8", rng)
    ours = ct.cur_decomposition(STORES[store](A, tmp_path), 5, rng=1)
    assert_array_equal(ours.col_indices, ct.cur_decomposition(A, 5, rng=1).col_indices)


def test_large_memmaps_are_read_in_blocks_and_small_ones_as_arrays(tmp_path, monkeypatch, rng):
    A = memmap(normal((50, 40), "f8", rng), tmp_path)
    assert operands.find(A)[0].__name__.endswith("ndarray")
    monkeypatch.setattr(operands, "BLOCK_BYTES", A.nbytes - 1)
    assert operands.find(A)[0] is blocks


def test_indices_are_those_of_dask(stored, rng):
    A = noisy_low_rank(150, 60, "f8", rng)
    ours = ct.cur_decomposition(stored("zarr_array", A), 7, rng=3)
    other = ct.cur_decomposition(da.from_array(A, chunks=(40, 25)), 7, rng=3)
    assert_array_equal(ours.col_indices, other.col_indices)
    assert_array_equal(ours.row_indices, other.row_indices)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_badly_scaled_matrices_keep_their_digits(scale, stored, rng):
    A = scale * normal((80, 5), "f8", rng) @ normal((5, 40), "f8", rng)
    result = ct.cur_decomposition(stored("memmap", A), 5, rng=0)
    assert_array_equal(result.C, A[:, result.col_indices])
    assert np.abs(result.to_array() - A).max() < 1e3 * eps("f8") * np.abs(A).max()


def test_another_dtype_to_compute_in(stored, rng):
    A = noisy_low_rank(90, 40, "f8", rng)
    result = ct.cur_decomposition(stored("zarr_array", A, dtype="f4"), 5, rng=1)
    assert result.dtype == np.float32
    assert_array_equal(result.C, A.astype("f4")[:, result.col_indices])


# ---- passes, memory, what is read


PASSES = {
    "select_columns": (lambda A: ct.select_columns(A, 5, rng=1), 1),
    "leverage of columns": (lambda A: ct.leverage_scores(A, 2, axis=1, method="sketch", rng=1), 4),
    "leverage of rows": (lambda A: ct.leverage_scores(A, 2, method="sketch", rng=1), 5),
    "cur, intersection": (lambda A: ct.cur_decomposition(A, 5, core="intersection", rng=1), 2),
    "cur, projection": (lambda A: ct.cur_decomposition(A, 5, rng=1), 3),
    "interpolative": (lambda A: ct.interpolative_decomposition(A, 5, rng=1), 3),
    "single-pass SVD": (lambda A: ct.randomized_svd(A, 5, method="single_pass", rng=1), 1),
    "SVD, 2 iterations": (lambda A: ct.randomized_svd(A, 5, power_iterations=2, rng=1), 6),
}


@pytest.mark.parametrize("call", PASSES)
@pytest.mark.parametrize("store", ["memmap", "zarr_array", "group_in_hdf5", "function"])
def test_passes_over_the_matrix(store, call, stored, rng):
    A = noisy_low_rank(90, 40, "f8", rng)
    B = stored(store, A)
    function, passes = PASSES[call]
    function(B)
    again = store == "function" and call == "cur, intersection"  # of which R's rows cannot be read alone
    assert B.passes == passes + again


def test_bytes_read_are_those_of_the_passes(stored, rng):
    A = noisy_low_rank(300, 40, "f8", rng)
    B = stored("memmap", A)
    ct.cur_decomposition(B, 5, rng=1)
    assert B.bytes_read == 3 * A.nbytes
    B = stored("memmap", A)
    ct.cur_decomposition(B, 5, core="intersection", rng=1)
    assert 2 * A.nbytes + 5 * A[0].nbytes <= B.bytes_read < 2.5 * A.nbytes


def test_blocks_are_whole_chunks_within_their_memory(rng, tmp_path):
    Z = zarr.create_array(tmp_path / "A.zarr", shape=(100, 10), dtype="f8", chunks=(6, 10))
    row = 80
    A = ct.row_blocks(Z, block_bytes=2 * 20 * row)
    assert np.diff(A.cuts).tolist() == [18, 18, 18, 18, 18, 10]
    assert ct.row_blocks(Z, block_bytes=2 * 4 * row).cuts[:3] == [0, 4, 8]  # a chunk is more than there is room for
    assert ct.row_blocks(Z).cuts == [0, 100]


def test_the_next_block_is_read_while_this_one_is_worked_on(rng):
    A = normal((40, 10), "f8", rng)
    read = threading.Event()

    def start():
        for first in range(0, 40, 10):
            if first == 20:
                read.set()
            yield A[first : first + 10]

    turns = blocks.in_turn(blocks.wrap(ct.row_blocks(start, A.shape, dtype=float)))
    next(turns), next(turns)
    assert read.wait(30)
    turns.close()


def test_callback_tells_how_far_the_pass_is(stored, rng):
    fractions = []
    A = stored("memmap", normal((200, 40), "f8", rng), callback=fractions.append)
    ct.select_columns(A, 5, rng=0)
    assert fractions == sorted(fractions) and fractions[-1] == 1 and len(fractions) > 3


MEMORY = """
import numpy as np
import curtensor as ct
from benchmarks.common import peak_gigabytes
A = np.load({path!r}, mmap_mode="r")
ct.cur_decomposition(np.random.default_rng(0).standard_normal((300, 200)), 5)
before = peak_gigabytes()
ct.cur_decomposition(ct.row_blocks(A, block_bytes=2**25), 10, core={core!r}, rng=0)
print(peak_gigabytes() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("core", ["projection", "intersection"])
def test_memory_is_that_of_blocks_and_thin_factors(core, tmp_path):
    A = np.lib.format.open_memmap(tmp_path / "A.npy", mode="w+", dtype="f8", shape=(40000, 2000))
    rng = np.random.default_rng(0)
    for start in range(0, 40000, 4000):
        A[start : start + 4000] = rng.standard_normal((4000, 2000))
    A.flush()
    script = MEMORY.format(path=str(tmp_path / "A.npy"), core=core)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 0.15 < A.nbytes / 4e9


# ---- bad input


def cur(A):
    return ct.cur_decomposition(A, 5, rng=0)


def test_nan_in_the_last_block_is_found(stored, rng):
    for store in STORES:
        A = normal((90, 40), "f8", rng)
        A[88, 7] = np.nan
        with pytest.raises(ValueError, match=r"A must be finite, got NaN or infinity, first at \(88, 7\)"):
            cur(stored(store, A))


def test_truncated_file(tmp_path, rng):
    A = memmap(normal((200, 40), "f8", rng), tmp_path)
    B = ct.row_blocks(A, block_bytes=SMALL)
    with open(tmp_path / "A.npy", "r+b") as file:
        file.truncate(150 * 320)
    with pytest.raises(OSError, match=r"A must be readable, got EOFError: .* in rows 1\d\d to 1\d\d"):
        cur(B)


def test_missing_file(tmp_path, rng):
    B = ct.row_blocks(memmap(normal((200, 40), "f8", rng), tmp_path), block_bytes=SMALL)
    (tmp_path / "A.npy").unlink()
    with pytest.raises(OSError, match=r"A must be readable, got FileNotFoundError: .* in rows 0 to"):
        cur(B)


def test_closed_store(tmp_path, rng):
    dataset = plain_hdf5(normal((90, 40), "f8", rng), tmp_path)
    B = ct.row_blocks(dataset)
    dataset.file.close()
    with pytest.raises(OSError, match=r"A must be readable, got .* in rows 0 to the next"):
        cur(B)


def test_store_that_changes_its_shape(tmp_path, rng):
    Z = zarr_array(normal((90, 40), "f8", rng), tmp_path)
    B = ct.row_blocks(Z)
    zarr.open_array(tmp_path / "A.zarr").resize((80, 40))
    with pytest.raises(ValueError, match=r"A must be of the same shape in every pass, \(90, 40\), got \(80, 40\)"):
        cur(B)


def test_changed_entries_between_passes(rng):
    A = normal((90, 40), "f8", rng)
    starts = iter(range(10))

    def start():
        B = A.copy()
        B[71, 3] += next(starts)
        return (B[first : first + 30] for first in range(0, 90, 30))

    with pytest.raises(ValueError, match="A must be the same in every pass, got other entries in rows 60 to 89"):
        cur(ct.row_blocks(start, A.shape, dtype=float))


def test_changes_between_calls_are_no_error(tmp_path, rng):
    A = np.lib.format.open_memmap(tmp_path / "A.npy", mode="w+", dtype="f8", shape=(90, 40))
    A[...] = normal((90, 40), "f8", rng)
    B = ct.row_blocks(A)
    cur(B)
    A[5] = 0
    A.flush()
    assert_array_equal(cur(B).C, A[:, cur(A).col_indices])


BLOCKS = {
    "too few rows": ([50, 30], "blocks of A must be of 90 rows in all, got 80"),
    "too many rows": ([50, 50], "blocks of A must be of 90 rows in all, got 100 or more"),
    "one block too many": ([50, 40, 10], "blocks of A must be of 90 rows in all, got 100"),
    "no block": ([], "blocks of A must be of 90 rows in all, got 0"),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_blocks_that_do_not_add_up(case, rng):
    heights, message = BLOCKS[case]
    A = ct.row_blocks(lambda: (rng.standard_normal((height, 40)) for height in heights), (90, 40), dtype=float)
    with pytest.raises(ValueError, match=message):
        cur(A)


def test_blocks_of_another_width_or_dtype(rng):
    widths = ct.row_blocks(lambda: (rng.standard_normal((10, n)) for n in (40, 40, 39)), (90, 40), dtype=float)
    with pytest.raises(ValueError, match="each block of A must be of 40 columns, got 39 in the block from row 20"):
        cur(widths)
    dtypes = ct.row_blocks(lambda: (np.ones((10, 40), kind) for kind in ("f8", "c16")), (20, 40))
    with pytest.raises(TypeError, match="each block of A must be of dtype float64, got dtype complex128"):
        cur(dtypes)


def test_a_failing_function_is_named_with_its_rows(rng):
    def start():
        yield rng.standard_normal((20, 40))
        raise RuntimeError("the sensor is off")

    with pytest.raises(OSError, match="got RuntimeError: the sensor is off, in rows 20 to the next") as caught:
        cur(ct.row_blocks(start, (90, 40), dtype=float))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_interrupt_comes_through_and_leaves_no_thread(rng):
    def start():
        yield rng.standard_normal((20, 40))
        raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        cur(ct.row_blocks(start, (90, 40), dtype=float))
    assert threading.active_count() == threads


SOURCES = {
    "iterator": (lambda: iter([np.ones((3, 4))]), {}, TypeError, "source must be .* function that starts"),
    "generator": (lambda: (block for block in [np.ones((3, 4))]), {}, TypeError, "source must be"),
    "number": (lambda: 3, {}, TypeError, "source must be"),
    "three modes": (lambda: np.ones((3, 4, 5)), {}, ValueError, "A must be .*matrix|A must be .*2"),
    "empty": (lambda: np.ones((0, 4)), {}, ValueError, "A must be"),
    "other shape": (lambda: np.ones((3, 4)), {"shape": (4, 4)}, ValueError, "shape must be that of the store"),
    "text": (lambda: np.array([["a", "b"]]), {}, TypeError, "A must be"),
    "half precision": (lambda: np.ones((3, 4), "f2"), {}, TypeError, "A must be"),
    "block below a row": (lambda: np.ones((3, 4)), {"block_bytes": 40}, ValueError, "block_bytes must be at least 64"),
    "no block bytes": (lambda: np.ones((3, 4)), {"block_bytes": 0}, ValueError, "block_bytes must be"),
    "no blocks": (lambda: lambda: iter([]), {}, ValueError, "source must be"),
    "two arrays": (lambda: (np.ones(3), np.zeros(3, int)), {"shape": (3, 3)}, TypeError, "source must be three"),
    "no shape": (lambda: (np.ones(1), np.zeros(1, int), np.array([0, 1])), {}, ValueError, "shape must be given"),
    "row starts": (
        lambda: (np.ones(2), np.zeros(2, int), np.array([0, 2, 1])),
        {"shape": (2, 2)},
        ValueError,
        "indptr must be rising from 0",
    ),
    "callback": (lambda: np.ones((3, 4)), {"callback": 3}, TypeError, "callback must be"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_bad_sources(case):
    make, options, error, message = SOURCES[case]
    with pytest.raises(error, match=message):
        ct.row_blocks(make(), **options)


def test_column_numbers_out_of_range(tmp_path):
    A = sparse.csr_array(np.eye(30))
    A.indices[20] = 99
    with pytest.raises(OSError, match=r"indices must be integers from 0 to 29, got .* in rows 0 to 29"):
        ct.select_columns(ct.row_blocks((A.data, A.indices, A.indptr), (30, 30)), 3)


def test_group_without_a_matrix(tmp_path):
    with h5py.File(tmp_path / "A.h5", "w") as file:
        group = file.create_group("X")
        group["data"] = np.ones(3)
        with pytest.raises(ValueError, match="A must be an array of a store, or a group with data, indices and indptr"):
            ct.select_columns(group, 3)


WRAPPED = {
    "CSR": sparse.csr_array,
    "CSC": sparse.csc_matrix,
    "COO": sparse.coo_array,
    "dask": lambda A: da.from_array(A, chunks=(17, 9)),
    "list": lambda A: A.tolist(),
    "Fortran": np.asfortranarray,
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_row_blocks_of_what_lies_in_memory_are_its_rows(kind, rng):
    A = np.where(rng.random((90, 40)) < 0.3, rng.standard_normal((90, 40)), 0)
    blocks_of = ct.row_blocks(WRAPPED[kind](A), block_bytes=SMALL * 2)
    expected = ct.cur_decomposition(A, 5, rng=0)
    result = ct.cur_decomposition(blocks_of, 5, rng=0)
    assert_array_equal(result.col_indices, expected.col_indices)
    assert_array_equal(dense(result.C), expected.C)
    assert_array_equal(dense(result.R), expected.R)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "complex128", "int32"])
def test_row_blocks_of_a_tensor_of_torch_are_its_rows(dtype, rng):
    torch = pytest.importorskip("torch")
    A = torch.tensor(9 * rng.standard_normal((90, 40))).to(getattr(torch, dtype))
    if dtype.startswith("float"):
        A.requires_grad_()
    result, expected = (ct.cur_decomposition(X, 5, rng=0) for X in (ct.row_blocks(A, block_bytes=2**16), A))
    assert_array_equal(result.col_indices, expected.col_indices)
    assert type(result.C) is np.ndarray
    assert_array_equal(result.C, operands.on_host(expected.C))
    assert result.dtype == operands.on_host(expected.middle).dtype


class Sliced:
    """A user's array, which gives what a function makes of each slice."""

    def __init__(self, A, change):
        self.A, self.change, self.shape, self.dtype = A, change, A.shape, A.dtype

    def __getitem__(self, rows):
        return self.change(self.A[rows])


WRONG_BLOCKS = {
    "more rows": (lambda block: np.concatenate([block, block[:1]]), OSError, "of shape"),
    "fewer rows": (lambda block: block[1:], OSError, "of shape"),
    "fewer columns": (lambda block: block[:, 1:], OSError, "of shape"),
    "a vector": (lambda block: block.reshape(-1), OSError, "of shape"),
    "a mask": (lambda block: np.ma.masked_array(block, block > 0), OSError, "an array without a mask"),
    "complex": (lambda block: block * 1j, OSError, "of dtype float64"),
    "objects": (lambda block: block.astype(object), OSError, "an array of integers"),
    "nothing": (lambda block: None, OSError, "an array of integers"),
}


@pytest.mark.parametrize("wrong", WRONG_BLOCKS)
def test_a_block_that_is_not_what_was_declared_is_refused(wrong, rng):
    change, error, message = WRONG_BLOCKS[wrong]
    for call in (ct.cur_decomposition, ct.select_columns, ct.leverage_scores, ct.randomized_svd):
        with pytest.raises(error, match=f"A must be readable, got .*each block of A must be {message}"):
            call(ct.row_blocks(Sliced(rng.random((30, 20)), change)), 3)


def test_a_function_may_yield_blocks_that_are_stores_themselves(tmp_path, rng):
    A = rng.standard_normal((30, 20))
    with h5py.File(tmp_path / "A.h5", "w") as file:
        file["X"], file["Y"] = A[:12], A[12:]
        blocks_of = ct.row_blocks(lambda: (file[name] for name in ("X", "Y")), A.shape, dtype=float)
        assert_array_equal(ct.cur_decomposition(blocks_of, 3, rng=0).C, ct.cur_decomposition(A, 3, rng=0).C)


PACKINGS = {
    "scale": {"scale_factor": 0.1},
    "offset": {"add_offset": 5},
    "fill": {"_FillValue": np.int16(-9999)},
    "missing": {"missing_value": 1e20},
    "unsigned": {"_Unsigned": "true"},
}
NEUTRAL = {
    "NaN": {"_FillValue": np.array([np.nan])},
    "NaN of zarr": {"_FillValue": "AAAAAAAA+H8="},
    "one": {"scale_factor": 1.0, "add_offset": 0},
    "others": {"units": "m", "long_name": "scale_factor"},
}


def with_attributes(store, folder, attributes):
    A = np.random.default_rng(0).integers(1, 99, (30, 20)).astype(float)
    if store == "hdf5":
        array = h5py.File(folder / "A.h5", "w").create_dataset("A", data=A)
    elif store == "zarr":
        array = zarr.create_array(folder / "A.zarr", data=A, fill_value=-1.0)
        attributes = {key: getattr(value, "tolist", lambda v=value: v)() for key, value in attributes.items()}
    else:
        return pytest.importorskip("xarray").DataArray(A, attrs=attributes)
    array.attrs.update(attributes)
    return array


@pytest.mark.parametrize("store", ["hdf5", "zarr", "xarray"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_numbers_are_refused_with_the_way_to_decode_them(packing, store, tmp_path):
    array = with_attributes(store, tmp_path, PACKINGS[packing])
    (key,) = PACKINGS[packing]
    message = rf"must be decoded values, as of xarray.open_dataset\(path\)\[name\], got packed ones .* {key}="
    for name, call in (("A", lambda: ct.select_columns(array, 3)), ("source", lambda: ct.row_blocks(array))):
        with pytest.raises(ValueError, match=f"^{name} {message}"):
            call()


@pytest.mark.parametrize("store", ["hdf5", "zarr", "xarray"])
@pytest.mark.parametrize("neutral", NEUTRAL)
def test_attributes_that_change_no_number_are_no_packing(neutral, store, tmp_path):
    ct.select_columns(with_attributes(store, tmp_path, NEUTRAL[neutral]), 3)


def test_what_else_a_store_holds_is_refused_by_one_sentence(tmp_path):
    with h5py.File(tmp_path / "A.h5", "w") as file:
        file["X"], file["empty"], file["type"] = np.ones((3, 4)), h5py.Empty("f8"), np.dtype("f8")
        file["packed"], file["compound"] = np.ones((3, 4), int), np.zeros((3, 4), [("a", float)])
        file["packed"].attrs["scale_factor"] = 0.5
        group = zarr.open_group(tmp_path / "A.zarr", mode="w")
        group.create_array("X", data=np.ones((3, 4)))
        for A, error, message in (
            (file, ValueError, "A must be an array of a store, or a group with .*, got a group of .*'X'"),
            (group, ValueError, r"A must be an array of a store, or a group with .*, got a group of \['X'\]"),
            (file["empty"], ValueError, "A must be an array with entries, got an empty dataset"),
            (file["type"], TypeError, "A must be an array"),
            (file["compound"], TypeError, "A must be an array of integers, bool"),
            (file["packed"].astype("f4"), ValueError, "A must be decoded values"),
            (h5py.Empty("f8"), TypeError, "A must be an array"),
        ):
            for call in (ct.cur_decomposition, ct.select_columns, ct.randomized_svd, ct.leverage_scores):
                with pytest.raises(error, match=message):
                    call(A, 1)
        assert ct.cur_decomposition(file["X"].astype("f4"), 1).dtype == np.float32
