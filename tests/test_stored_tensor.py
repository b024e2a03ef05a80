"""Tensors on disk and dask tensors: what comes out is what comes out of the same array in memory."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matrices import DTYPES, eps, normal
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct
from curtensor.operands import find_tensor, stored_tensor
from curtensor.operands.stored_tensor import StoredTensor

da = pytest.importorskip("dask.array")
h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")

SHAPES = {"cube": (21, 20, 19), "short first": (6, 40, 23), "long first": (50, 7, 9), "four modes": (9, 8, 7, 10)}


def memmap(X, folder, order="C"):
    np.save(folder / "X.npy", np.asarray(X, order=order))
    return np.load(folder / "X.npy", mmap_mode="r")


def fortran_memmap(X, folder):
    return memmap(X, folder, "F")


def part_of_a_memmap(X, folder):
    wide = np.zeros([2 * X.shape[0], *X.shape[1:-1], X.shape[-1] + 3], X.dtype)
    wide[::2, ..., 3:] = X
    return memmap(wide, folder)[::2, ..., 3:]


def chunked_hdf5(X, folder):
    return h5py.File(folder / "X.h5", "w").create_dataset("X", data=X, chunks=tuple(min(5, d) for d in X.shape))


def plain_hdf5(X, folder):
    return h5py.File(folder / "X.h5", "w").create_dataset("X", data=X)


def zarr_array(X, folder):
    Z = zarr.create_array(folder / "X.zarr", shape=X.shape, dtype=X.dtype, chunks=tuple(min(6, d) for d in X.shape))
    Z[...] = X
    return Z


def dask_slabs(X, folder):
    return da.from_array(X, chunks=(4, *X.shape[1:]))


def dask_cubes(X, folder):
    return da.from_array(X, chunks=6)


STORES = {
    store.__name__: store
    for store in (
        memmap,
        fortran_memmap,
        part_of_a_memmap,
        chunked_hdf5,
        plain_hdf5,
        zarr_array,
        dask_slabs,
        dask_cubes,
    )
}


@pytest.fixture(params=STORES)
def stored(request, tmp_path):
    """Puts an array into a store of one kind."""
    kept = []

    def put(X):
        folder = tmp_path / str(len(kept))
        folder.mkdir()
        kept.append(STORES[request.param](X, folder))
        return kept[-1]

    yield put
    for X in kept:
        if isinstance(X, h5py.Dataset):
            X.file.close()


@pytest.fixture(autouse=True)
def small_boxes(monkeypatch):
    """Several boxes, and pieces of stores without chunks, even for small tensors."""
    monkeypatch.setattr(stored_tensor, "BOX_BYTES", 2000)
    monkeypatch.setattr(stored_tensor, "PIECE_BYTES", 200)
    monkeypatch.setattr(stored_tensor, "PICKED", 50)


def smooth(shape, dtype="float64", noise=1e-4):
    """1 / (1 + i + j + ...) on a grid, and noise."""
    grids = np.meshgrid(*(np.linspace(0, 3, d) for d in shape), indexing="ij")
    X = 1 / (1 + sum(grids)) + noise * normal(shape, dtype, np.random.default_rng(1))
    return X.astype(dtype) if np.dtype(dtype).kind != "c" else (X * np.exp(1j * grids[0])).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_boxes_are_the_tensor_and_whole_in_their_mode(shape, stored):
    X = normal(shape, "complex128", np.random.default_rng(0))
    read = find_tensor(stored(X))
    assert isinstance(read, StoredTensor)
    for mode in range(X.ndim):
        rebuilt, count = np.zeros_like(X), np.zeros(shape, dtype=int)
        for place, box in read.boxes(mode):
            assert place[mode] == slice(0, shape[mode])
            assert type(box) is np.ndarray
            rebuilt[place] = box
            count[place] += 1
        assert_array_equal(rebuilt, X)
        assert (count == 1).all()
    assert_array_equal((read * 2.0).whole(), 2 * X)
    assert read.first_nonfinite() is None


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_entries_at_index_arrays_are_numpys(shape, stored, rng):
    X = normal(shape, "float32", rng)
    read = find_tensor(stored(X))
    lists = [rng.permutation(d)[: max(d // 2, 1)] for d in shape]
    assert_array_equal(read.at(np.ix_(*lists)), X[np.ix_(*lists)])
    places = [rng.integers(0, d, 30) for d in shape]
    assert_array_equal(read.at(places), X[tuple(places)])
    for mode in range(X.ndim):
        lines = list(places)
        lines[mode] = np.arange(shape[mode])[:, None]
        assert_array_equal(read.at(lines), X[tuple(lines)])
        assert_array_equal((read * 2.0).at(lines), 2 * X[tuple(lines)])


@pytest.mark.parametrize("method", ["auto", "gram", "qr"])
@pytest.mark.parametrize("dtype", [*DTYPES, "int16"])
def test_st_hosvd_is_that_of_the_array_in_memory(method, dtype, stored):
    X = (100 * smooth((21, 20, 19), np.result_type(dtype, "f4"))).astype(dtype)
    X = np.asarray(X)
    expected = ct.st_hosvd(X, (3, 4, 5), method=method)
    result = ct.st_hosvd(stored(X), (3, 4, 5), method=method)
    assert result.dtype == expected.dtype
    tolerance = 1e3 * eps(result.dtype) * np.abs(X).max()
    assert_allclose(result.to_array(), expected.to_array(), atol=tolerance)
    assert_allclose(result.error_estimate, expected.error_estimate, rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_st_hosvd_holds_a_tolerance_for_any_shape(shape, stored):
    X = smooth(shape, "complex128", noise=0)
    result = ct.st_hosvd(stored(X), rtol=1e-3)
    expected = ct.st_hosvd(X, rtol=1e-3)
    assert result.ranks == expected.ranks
    assert_allclose(result.to_array(), expected.to_array(), atol=1e-12)
    assert np.linalg.norm(X - result.to_array()) <= 1e-3 * np.linalg.norm(X)


def test_randomized_st_hosvd_comes_near(stored):
    X = smooth((60, 50, 45))
    result = ct.st_hosvd(stored(X), (3, 3, 3), method="randomized", rng=0)
    best = ct.st_hosvd(X, (3, 3, 3)).error_estimate
    assert np.linalg.norm(X - result.to_array()) <= 1.1 * best * np.linalg.norm(X)


@pytest.mark.parametrize("core", ["intersection", "projection"])
@pytest.mark.parametrize("method", ["chidori", "fiber"])
@pytest.mark.parametrize("dtype", [*DTYPES, "int16"])
def test_tensor_cur_is_that_of_the_array_in_memory(method, core, dtype, stored):
    X = (100 * smooth((21, 20, 19), np.result_type(dtype, "f4"))).astype(dtype)
    D = stored(X)
    X = np.array(D) if isinstance(D, np.memmap) else X  # in its order in memory, which decides what is sketched
    expected = ct.tensor_cur(X, 3, method=method, core=core, rng=4)
    result = ct.tensor_cur(D, 3, method=method, core=core, rng=4)
    for found, known in zip(result.indices, expected.indices, strict=True):
        # rounding of single precision may swap two that are equally good
        assert_array_equal(*((found, known) if eps(result.dtype) < 1e-10 else (np.sort(found), np.sort(known))))
    if core == "intersection":
        assert_array_equal(result.core, X[np.ix_(*result.indices)].astype(result.dtype))
    assert result.dtype == expected.dtype
    assert result.n_entries_read == expected.n_entries_read
    tolerance = 2e4 * eps(result.dtype) * np.abs(X).max()
    assert_allclose(result.to_array(), expected.to_array(), atol=tolerance)
    assert_allclose(result.error_estimate, expected.error_estimate, rtol=1e-2)


def test_tensor_cur_holds_a_tolerance(stored):
    X = smooth((21, 20, 19), noise=0)
    result = ct.tensor_cur(stored(X), rtol=1e-4, rng=0)
    assert np.linalg.norm(X - result.to_array()) <= 1e-4 * np.linalg.norm(X)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 0.0])
def test_any_scale(scale, stored):
    X = scale * smooth((21, 20, 19), noise=0)
    assert_allclose(ct.st_hosvd(stored(X), (6, 6, 6)).to_array(), X, atol=1e-4 * scale)
    result = ct.tensor_cur(stored(X), 6, rng=0)
    assert_allclose(result.to_array(), X, atol=1e-3 * scale)
    assert_array_equal(result.core, X[np.ix_(*result.indices)])


def test_cross_of_a_store_leaves_what_hosvd_leaves_as_that_of_a_function_does(stored):
    X = smooth((21, 20, 19))
    most = 1.5 * np.linalg.norm(X - ct.st_hosvd(X, (3, 3, 3)).to_array())
    for result in (
        ct.tensor_cur(lambda *indices: X[indices], 3, shape=X.shape, rng=2),
        ct.tensor_cur(stored(X), 3, method="cross", rng=2),
    ):
        assert result.converged and np.linalg.norm(X - result.to_array()) <= most
        assert_array_equal(result.core, X[np.ix_(*result.indices)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_nonfinite_entry_is_named(bad, stored):
    X = smooth((21, 20, 19))
    X[20, 1, 2] = X[19, 18, 18] = X[19, 18, 17] = bad
    for call in (ct.st_hosvd, ct.tensor_cur):
        with pytest.raises(ValueError, match=r"X must be finite, got NaN or infinity, first at \(19, 18, 17\)"):
            call(stored(X), (3, 3, 3))


class CountingStore(zarr.storage.MemoryStore):
    """Notes the keys of chunks that are read."""

    def __init__(self):
        super().__init__()
        self.read = []

    async def get(self, key, *arguments, **options):
        if "/" in key:
            self.read.append(tuple(map(int, key.split("/")[1:])))
        return await super().get(key, *arguments, **options)


@pytest.fixture
def counted():
    """A tensor in 8000 chunks, and the store that counts."""
    X = smooth((80, 80, 80))
    store = CountingStore()
    Z = zarr.create_array(store, shape=X.shape, dtype=X.dtype, chunks=(4, 4, 4))
    Z[...] = X
    store.read.clear()
    return X, Z, store.read


def test_cross_reads_only_chunks_that_hold_its_entries_and_each_once(counted, monkeypatch):
    _, Z, read = counted
    holding = set()
    at = StoredTensor.at

    def noted(self, indices):
        values = at(self, indices)
        cells = (np.broadcast_to(index // 4, values.shape).ravel().tolist() for index in indices)
        holding.update(zip(*cells, strict=True))
        return values

    monkeypatch.setattr(StoredTensor, "at", noted)
    monkeypatch.setattr("curtensor.tensors.methods.POOL", 20)
    monkeypatch.setattr("curtensor.tensors.entries.PROBES", 20)
    result = ct.tensor_cur(Z, 2, method="cross", n_samples=3, max_sweeps=2, rng=0)
    assert result.error_estimate < 0.1
    assert sorted(read) == sorted(holding)
    assert len(read) < 8000 / 3


@pytest.fixture(params=["zarr", "hdf5", "dask"])
def reads(request, monkeypatch, tmp_path):
    """Puts an array into chunks of a store, and a list that each chunk read is noted in."""
    read = []

    def note(block):
        read.append(block.shape)
        return block

    def put(X, chunks):
        if request.param == "dask":
            return da.from_array(X, chunks=chunks).map_blocks(note, meta=np.empty((0,) * X.ndim)), read
        if request.param == "hdf5":
            X = h5py.File(tmp_path / "X.h5", "w").create_dataset("X", data=X, chunks=chunks)
            # HDF5 does not say what it reads: each box that is asked for is one chunk of it
            checked = StoredTensor._checked
            monkeypatch.setattr(StoredTensor, "_checked", lambda self, place, box: note(checked(self, place, box)))
            return X, read
        store = CountingStore()
        Z = zarr.create_array(store, shape=X.shape, dtype=X.dtype, chunks=chunks)
        Z[...] = X
        store.read.clear()
        return Z, store.read

    return put


def test_cross_reads_each_chunk_once_where_all_can_be_kept(reads):
    X = smooth((40, 40, 40), noise=0)
    D, read = reads(X, (8, 8, 8))
    result = ct.tensor_cur(D, 3, method="cross", rng=0)
    assert len(read) <= 125
    assert_array_equal(result.core, X[np.ix_(*result.indices)])
    assert result.converged


@pytest.mark.parametrize("kept", [0.5, 0.05, 0])
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((40, 40, 40), (8, 8, 8)),
        ((40, 40, 40), (20, 20, 20)),
        ((40, 30, 20), (40, 30, 1)),
        ((16, 15, 14, 13), (4,) * 4),
    ],
)
def test_cross_reads_a_store_that_cannot_be_kept_four_times_at_most(shape, chunks, kept, reads, monkeypatch):
    X = smooth(shape, noise=0)
    monkeypatch.setattr(stored_tensor, "KEPT_BYTES", int(kept * X.nbytes))
    D, read = reads(X, chunks)
    result = ct.tensor_cur(D, 3, method="cross", rng=0)
    assert len(read) <= 4 * np.prod([-(-d // c) for d, c in zip(shape, chunks, strict=True)])
    error = np.linalg.norm(X - result.to_array()) / np.linalg.norm(X)
    assert error < 0.2
    assert result.error_estimate >= 0.5 * error or not result.converged


def test_passes_over_the_tensor(counted, monkeypatch):
    _, Z, read = counted
    chunks = set(itertools.product(range(20), repeat=3))
    monkeypatch.setattr(stored_tensor, "BOX_BYTES", 200000)
    ct.st_hosvd(Z, (3, 3, 3), method="gram")
    assert sorted(read) == sorted([*chunks, *chunks])
    read.clear()
    entries = ct.tensor_cur(Z, 3, rng=0)
    assert set(read) == chunks
    assert len(read) <= 8000 + entries.core.size + 3 * 20 * 144  # one pass, and fibres through chosen slices


def test_what_cannot_be_decomposed_is_refused(tmp_path):
    for call in (ct.st_hosvd, ct.tensor_cur):
        with pytest.raises(ValueError, match="X must be of at least 2 modes, got shape"):
            call(da.ones(5), 1)
        with pytest.raises(ValueError, match="X must be not empty, got shape"):
            call(da.ones((5, 0, 3)), (1, 1, 1))
        with pytest.raises(TypeError, match=r"X must be an array of .* got dtype object"):
            call(da.ones((5, 4, 3)).astype(object), (1, 1, 1))
        A = da.ones((5, 4, 3))
        with pytest.raises(ValueError, match="X must be in chunks of known sizes"):
            call(A[A[:, 0, 0] > 0], (1, 1, 1))


@pytest.mark.parametrize("call", [ct.st_hosvd, ct.tensor_cur, lambda X, r: ct.tensor_cur(X, r, method="cross")])
def test_chunks_of_another_kind_than_declared_are_refused(call):
    sparse = pytest.importorskip("sparse")
    X = da.ones((5, 4, 3), chunks=(3, 4, 3))
    whole = np.empty((0, 0, 0))
    call(X.map_blocks(sparse.COO, meta=whole), 1)
    with pytest.raises(TypeError, match="each chunk of X must be an array without a mask"):
        call(X.map_blocks(np.ma.masked_less, 0.5, meta=whole), 1)
    with pytest.raises(TypeError, match="each chunk of X must be of dtype float64, as declared, got dtype complex128"):
        call(X.map_blocks(lambda block: block * 1j, meta=whole), 1)
    with pytest.raises(ValueError, match=r"each chunk of X must be of shape .* as declared, got shape"):
        call(X.map_blocks(lambda block: np.ones((4, 4, 3)), meta=whole), 1)


def test_hdf5_in_another_dtype_is_taken(tmp_path):
    X = smooth((21, 20, 19), "float32")
    with h5py.File(tmp_path / "X.h5", "w") as file:
        view = file.create_dataset("X", data=X, chunks=(5, 5, 5)).astype("float64")
        expected = ct.tensor_cur(X.astype(float), 3, rng=0)
        result = ct.tensor_cur(view, 3, rng=0)
        assert result.dtype == float
        assert_allclose(result.to_array(), expected.to_array(), atol=1e-9)
        assert_allclose(ct.st_hosvd(view, 3).to_array(), ct.st_hosvd(X.astype(float), 3).to_array(), atol=1e-9)


def test_files_groups_and_what_is_empty_or_closed_are_named(tmp_path):
    with h5py.File(tmp_path / "X.h5", "w") as file:
        kept = file.create_dataset("X", data=np.ones((4, 5, 6)))
        file["e"] = h5py.Empty("f8")
        group = zarr.create_group(zarr.storage.MemoryStore())
        for call in (ct.st_hosvd, ct.tensor_cur, ct.hooi, ct.tubal_svd):
            for several in (file, file["/"], group, {"X": np.ones((4, 5, 6))}):
                with pytest.raises(TypeError, match=r"X must be one array, such as X\[key\] of it, got"):
                    call(several, 1)
            with pytest.raises(ValueError, match="X must be not empty, got <HDF5 dataset"):
                call(file["e"], 1)
    for call in (ct.st_hosvd, ct.tensor_cur, ct.hooi):
        with pytest.raises(ValueError, match="X must be open, got <Closed HDF5 dataset>"):
            call(kept, 1)


def test_a_tensor_that_changes_its_shape_is_noticed(tmp_path):
    with h5py.File(tmp_path / "X.h5", "w") as file:
        X = file.create_dataset("X", data=smooth((21, 20, 19)), chunks=(5, 5, 5), maxshape=(None, 20, 19))
        read = find_tensor(X)
        X.resize(11, axis=0)
        with pytest.raises(ValueError, match="X must be of the same shape in every pass, got shape"):
            list(read.boxes(1))


def test_an_error_of_the_store_comes_through_with_the_box_named():
    def broken(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 2:
            raise OSError("disk is gone")
        return block

    X = da.ones((20, 10, 10), chunks=(5, 10, 10)).map_blocks(broken, meta=np.empty((0, 0, 0)))
    with pytest.raises(OSError, match="disk is gone") as caught:
        ct.st_hosvd(X, (1, 1, 1))
    assert "while reading X[" in caught.value.__notes__[0]


def test_changes_of_a_private_map_are_kept(tmp_path):
    X = smooth((21, 20, 19))
    np.save(tmp_path / "X.npy", X)
    private = np.load(tmp_path / "X.npy", mmap_mode="c")
    private *= 2
    assert_allclose(ct.st_hosvd(private, (8, 8, 8)).to_array(), 2 * ct.st_hosvd(X, (8, 8, 8)).to_array(), atol=1e-9)
    assert_array_equal(private, 2 * X)


MEASURED = """
import sys
import numpy as np
import curtensor as ct

def held():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

small = np.random.default_rng(0).standard_normal((20, 20, 20))
ct.st_hosvd(small, (2, 2, 2)), ct.tensor_cur(small, 2, rng=0)
X = np.load(sys.argv[1], mmap_mode="r")
before = held()
ct.st_hosvd(X, (4, 4, 4))
ct.tensor_cur(X, 4, rng=0)
print(held() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_bounded_by_boxes_and_the_sketch_not_by_the_tensor(tmp_path):
    shape = (500, 200, 150)
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", shape=shape)
    X[:] = np.random.default_rng(0).standard_normal(shape[1:])
    X.flush()
    program = MEASURED.replace(
        "small =", f"from curtensor.operands import stored_tensor\nstored_tensor.BOX_BYTES = {2**21}\nsmall ="
    )
    run = [sys.executable, "-c", program, tmp_path / "X.npy"]
    held = float(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert held < 0.5 * X.nbytes / 2**20
