"""Matrices come back from files with their names, and what is no matrix is refused in one line."""

import gzip
import itertools
import os
import pickle
import stat
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import io, sparse

from curtensor.files import EXAMPLE, example_matrix, read_matrix, written_whole

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
xarray = pytest.importorskip("xarray")
image = pytest.importorskip("PIL.Image")
for module in ("pyarrow", "openpyxl", "h5netcdf"):
    pytest.importorskip(module)

# Kinds that hold numbers without names; test_reading.py has the others.
KINDS = [".npy", ".npz", ".mtx", ".mat", ".csv", ".tsv", ".txt", ".h5", ".hdf5", ".h5ad", ".zarr", ".nc", ".xlsx"]
FILES = [ending for ending in KINDS if ending != ".zarr"]  # which is a folder
APART = [".mtx", ".mat"]  # read in a process of their own
FUZZED = [ending for ending in FILES if ending not in APART] + [".parquet", ".feather", ".dta", ".png", ".tif"]
A = np.arange(1.0, 13).reshape(3, 4) / 7


TO = {".parquet": "to_parquet", ".feather": "to_feather", ".dta": "to_stata", ".xlsx": "to_excel"}


def written(path, ending, matrix=A):
    """A file of each kind with the matrix in it."""
    path = path / f"matrix{ending}"
    if ending == ".npy":
        np.save(path, matrix)
    elif ending == ".npz":
        np.savez_compressed(path, matrix)
    elif ending == ".mtx":
        io.mmwrite(path, matrix, precision=17)
    elif ending == ".zarr":
        zarr.create_array(path, data=matrix)
    elif ending in (".h5", ".hdf5", ".h5ad"):
        with h5py.File(path, "w") as file:
            file["matrix"] = matrix
    elif ending == ".mat":
        io.savemat(path, {"matrix": matrix})
    elif ending == ".nc":
        xarray.DataArray(matrix, name="matrix").to_netcdf(path, engine="h5netcdf")
    elif ending in (".parquet", ".feather", ".dta", ".xlsx"):
        frame = pd.DataFrame(matrix, columns=list("abcd"))
        options = {".xlsx": {"index": False, "header": False}, ".dta": {"write_index": False}}.get(ending, {})
        getattr(frame, TO[ending])(path, **options)
    elif ending in (".png", ".tif"):
        image.fromarray((matrix * 99).astype(np.uint8)).save(path)
    else:
        separator = {".tsv": "\t", ".txt": " "}.get(ending, ",")
        np.savetxt(path, matrix, delimiter=separator, fmt="%.17g")
    return path


@pytest.mark.parametrize("ending", KINDS)
def test_matrix_comes_back_without_names(ending, tmp_path):
    matrix, row_names, col_names = read_matrix(written(tmp_path, ending))
    np.testing.assert_allclose(matrix, A, rtol=1e-15 if ending == ".xlsx" else 0)  # which holds 16 digits
    assert row_names is None and col_names is None


@pytest.mark.parametrize("ending", KINDS)
def test_path_may_be_a_string_with_an_ending_in_capitals(ending, tmp_path):
    path = written(tmp_path, ending)
    capitals = path.rename(tmp_path / f"MATRIX{ending.upper()}")
    np.testing.assert_allclose(read_matrix(str(capitals)).A, A, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4", "?"])
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_dtype_comes_back(ending, dtype, tmp_path):
    path = written(tmp_path, ending, A.astype(dtype))
    assert read_matrix(path).A.dtype == dtype


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("array", [True, False])
def test_sparse_npz_comes_back_sparse(format, array, tmp_path):
    matrix = sparse.random_array((7, 5), density=0.3, rng=np.random.default_rng(0)).asformat(format)
    matrix = matrix if array else getattr(sparse, f"{format}_matrix")(matrix)
    sparse.save_npz(tmp_path / "matrix.npz", matrix)
    back = read_matrix(tmp_path / "matrix.npz").A
    assert sparse.issparse(back) and back.format == format
    np.testing.assert_array_equal(back.toarray(), matrix.toarray())


def test_sparse_mtx_comes_back_sparse(tmp_path):
    matrix = sparse.random_array((7, 5), density=0.3, rng=np.random.default_rng(0), dtype=np.float64) * 1j
    io.mmwrite(tmp_path / "matrix.mtx", matrix, precision=17)
    np.testing.assert_array_equal(read_matrix(tmp_path / "matrix.mtx").A.toarray(), matrix.toarray())


MTX_FORMATS = [
    *itertools.product(["real", "integer", "complex"], ["general", "symmetric", "skew-symmetric"]),
    ("complex", "hermitian"),
]
MTX_CASES = [
    *itertools.product([np.asarray, sparse.coo_array], MTX_FORMATS),
    *itertools.product([sparse.coo_array], [("pattern", "general"), ("pattern", "symmetric")]),
]


@pytest.mark.parametrize(("kind", "format"), MTX_CASES)
def test_mtx_is_read_as_scipy_reads_it(kind, format, tmp_path):
    field, symmetry = format
    rng = np.random.default_rng(0)
    matrix = rng.integers(-2, 3, (5, 5)) * (1 if field == "integer" else 1.1)
    matrix = matrix + 1j * rng.integers(-2, 3, (5, 5)) if field == "complex" else matrix
    mirrored = {"symmetric": matrix.T, "skew-symmetric": -matrix.T, "hermitian": matrix.conj().T}
    matrix = np.tril(matrix) + np.tril(mirrored[symmetry].T, -1).T if symmetry != "general" else matrix[:4]
    matrix = np.tril(matrix, -1) - np.tril(matrix, -1).T if symmetry == "skew-symmetric" else matrix
    path = tmp_path / "matrix.mtx"
    io.mmwrite(path, kind(matrix), field=field, symmetry=symmetry, precision=17, comment="two\nlines")
    ours, theirs = read_matrix(path).A, io.mmread(path)
    assert sparse.issparse(ours) == sparse.issparse(theirs)
    np.testing.assert_array_equal(*(X.toarray() if sparse.issparse(X) else X for X in (ours, theirs)))


def test_empty_sparse_mtx_comes_back(tmp_path):
    io.mmwrite(tmp_path / "matrix.mtx", sparse.coo_array((3, 2)))
    assert read_matrix(tmp_path / "matrix.mtx").A.shape == (3, 2)


def test_writing_to_a_mapped_array_leaves_the_file_alone(tmp_path):
    path = written(tmp_path, ".npy")
    before = path.read_bytes()
    matrix = read_matrix(path).A
    with pytest.raises(ValueError, match="read-only"):
        matrix[:] = 0
    assert path.read_bytes() == before


def hdf5(folder, **members):
    """An .h5 file of arrays, and of groups where a dict is given."""
    with h5py.File(folder / "store.h5", "w") as file:
        for name, member in members.items():
            if isinstance(member, dict):
                member = {f"{name}/{inner}": array for inner, array in member.items()}
            for path, array in (member if isinstance(member, dict) else {name: member}).items():
                file[path] = array
    return folder / "store.h5"


def test_the_only_matrix_of_a_store_is_found_wherever_it_is(tmp_path):
    zarr.open_group(tmp_path / "A.zarr", mode="w").create_array("deep/er", data=A)
    for path in (hdf5(tmp_path, about=np.arange(3), data={"counts": A}), tmp_path / "A.zarr"):
        np.testing.assert_array_equal(read_matrix(path).A[:], A)


def test_a_zarr_array_needs_no_group(tmp_path):
    zarr.create_array(tmp_path / "A.zarr", data=A)
    np.testing.assert_array_equal(read_matrix(tmp_path / "A.zarr").A[:], A)


def test_one_of_several_matrices_is_named(tmp_path):
    csr = sparse.csr_array(A)
    parts = {name: getattr(csr, name) for name in ("data", "indices", "indptr")}
    path = hdf5(tmp_path, first=A, X=parts)
    np.testing.assert_array_equal(read_matrix(path, dataset="first").A[:], A)
    np.testing.assert_array_equal(read_matrix(path, dataset="X").A["data"][:], csr.data)
    with pytest.raises(ValueError, match=r"store.h5 must be a store of one matrix .*, got 2: X, first; a dataset must"):
        read_matrix(path)
    with pytest.raises(ValueError, match=r"dataset must be one of X, first, got 'second'"):
        read_matrix(path, dataset="second")


def test_stores_without_a_matrix_or_of_another_format_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"store.h5 must be a store of one matrix or tensor, got none"):
        read_matrix(hdf5(tmp_path, line=np.arange(4.0)))
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(ValueError, match=r"text.h5 must be a whole .h5 file without pickled objects, got "):
        read_matrix(tmp_path / "text.h5")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match=r"empty.zarr must be a whole .zarr file"):
        read_matrix(tmp_path / "empty.zarr")
    with pytest.raises(FileNotFoundError):
        read_matrix(tmp_path / "missing.zarr")
    with pytest.raises(ValueError, match=r"dataset must be left out with a .npy file, got both"):
        read_matrix(written(tmp_path, ".npy"), dataset="first")


def test_the_extra_is_named_where_its_package_is_missing(tmp_path, monkeypatch):
    path = hdf5(tmp_path, first=A)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"an HDF5 file needs h5py: pip install 'curtensor.large.'"):
        read_matrix(path)


ROW_NAMES, COL_NAMES = ["a", "b b", 'c,"c"'], ["w", "x", "y é", "z"]


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_of_pandas_keeps_the_names_it_has(index, header, encoding, tmp_path):
    frame = pd.DataFrame(A, ROW_NAMES, COL_NAMES)
    frame.to_csv(tmp_path / "matrix.csv", index=index, header=header, encoding=encoding)
    matrix, row_names, col_names = read_matrix(tmp_path / "matrix.csv")
    np.testing.assert_array_equal(matrix, A)
    assert (row_names is not None, col_names is not None) == (index, header)
    if index:
        np.testing.assert_array_equal(row_names, ROW_NAMES)
    if header:
        np.testing.assert_array_equal(col_names, COL_NAMES)


def test_names_that_are_numbers_are_names_where_the_corner_is_empty(tmp_path):
    pd.DataFrame(A).to_csv(tmp_path / "matrix.csv")
    matrix, row_names, col_names = read_matrix(tmp_path / "matrix.csv")
    np.testing.assert_array_equal(matrix, A)
    assert row_names.tolist() == ["0", "1", "2"] and col_names.tolist() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "shape", "row_names", "col_names"),
    [
        ("1\n2\n", (2, 1), None, None),
        ("x\n1\n2\n", (2, 1), None, ["x"]),
        ("a,1\nb,2\n", (2, 1), ["a", "b"], None),
        ("name,x\na,1\n", (1, 1), ["a"], ["x"]),
        ("1,2,3\r\n", (1, 3), None, None),
        ('"x",y\n\n1,2\n\n', (1, 2), None, ["x", "y"]),
    ],
)
def test_small_csv(text, shape, row_names, col_names, tmp_path):
    (tmp_path / "matrix.csv").write_bytes(text.encode())
    matrix = read_matrix(tmp_path / "matrix.csv")
    assert matrix.A.shape == shape
    for names, expected in ((matrix.row_names, row_names), (matrix.col_names, col_names)):
        assert (None if names is None else names.tolist()) == expected


def test_shipped_matrix_has_names_and_standardised_columns():
    matrix, row_names, col_names = example_matrix()
    assert matrix.shape == (569, 30) == (len(row_names), len(col_names))
    assert len(set(col_names)) == 30 and set(row_names) == {"benign", "malignant"}
    np.testing.assert_allclose(matrix.mean(axis=0), 0, atol=5e-5)
    np.testing.assert_allclose(matrix.std(axis=0), 1, atol=5e-5)
    assert EXAMPLE.stat().st_size < 300_000


class Trap:
    """Unpickling it would be seen."""

    sprung = False

    def __reduce__(self):
        return spring, ()


def spring():
    Trap.sprung = True


HOSTILE = {
    "object.npy": lambda path: np.save(path, np.array([[Trap()]], dtype=object), allow_pickle=True),
    "pickle.npy": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "pickle.npz": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "object.npz": lambda path: np.savez(path, np.array([[Trap()]], dtype=object), allow_pickle=True),
    "zip_as.npy": lambda path: written(path.parent, ".npz").rename(path),
    "npy_as.npz": lambda path: written(path.parent, ".npy").rename(path),
    "two.npz": lambda path: np.savez(path, first=A, second=A),
    "raw.npz": lambda path: zipfile.ZipFile(path, "w").writestr("text", "hello"),
    "none.npz": lambda path: np.savez(path),
    "empty.npy": lambda path: path.write_bytes(b""),
    "empty.npz": lambda path: path.write_bytes(b""),
    "empty.mtx": lambda path: path.write_bytes(b""),
    "empty.csv": lambda path: path.write_bytes(b""),
    "header_only.csv": lambda path: path.write_text("x,y\n"),
    "text.csv": lambda path: path.write_text("1,2\n3,four\n"),
    "gap.csv": lambda path: path.write_text("1,,3\n4,5,6\n"),
    "ragged.csv": lambda path: path.write_text("1,2\n3,4,5\n"),
    "short_header.csv": lambda path: path.write_text("x,y\n1,2,3\n"),
    "binary.csv": lambda path: path.write_bytes(bytes(range(128, 256)) * 9),
    "nul.csv": lambda path: path.write_bytes(b"1,2\n\0,3\n"),
    "text.mtx": lambda path: path.write_text("hello\n"),
    "short.mtx": lambda path: path.write_text("%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 5\n"),
    "outside.mtx": lambda path: path.write_text("%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 5\n"),
    "halved.mtx": lambda path: path.write_text("%%MatrixMarket matrix coordinate real general\n2 2 1\n1.5 1 5\n"),
    "huge.mtx": lambda path: path.write_text(f"%%MatrixMarket matrix array real general\n{9**40} 9\n1\n"),
    "out_of_range.npz": lambda path: np.savez(
        path, format=b"csr", shape=[2, 2], data=[1.0], indices=[9], indptr=[0, 1, 1]
    ),
    "no_format.npz": lambda path: np.savez(path, format=b"nix", shape=[2, 2], data=[1.0]),
    "missing_part.npz": lambda path: np.savez(path, format=b"csr", shape=[2, 2]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_matrix_is_refused_by_name_and_never_unpickled(name, tmp_path):
    HOSTILE[name](tmp_path / name)
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got .") as caught:
        read_matrix(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not Trap.sprung


@pytest.mark.parametrize("ending", FILES)
def test_truncated_file_is_refused(ending, tmp_path):
    path = written(tmp_path, ending)
    content = path.read_bytes()
    separator = {".csv": b",", ".tsv": b"\t", ".txt": b" "}.get(ending)
    cut = {".mtx": content.rfind(b"\n", 0, -1)}.get(ending, len(content) * 2 // 3)
    path.write_bytes(content[: cut if separator is None else content.rfind(separator)])
    what = f"a whole {ending} file" if separator is None else "a table with equally many fields"
    with pytest.raises(ValueError, match=f"^matrix{ending} must be {what}"):
        read_matrix(path)


@pytest.mark.parametrize("ending", FUZZED)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_a_matrix_or_a_value_error(ending, tmp_path, data):
    path = written(tmp_path, ending)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read_matrix(path)
    except ValueError as error:
        assert " must be " in str(error)


@pytest.mark.parametrize("ending", APART)
def test_damage_that_ends_scipys_reader_is_a_value_error(ending, tmp_path):
    path = written(tmp_path, ending)
    content = path.read_bytes()
    worst = content + b"\xcb" if ending == ".mtx" else content.replace(b"\t\0\0\0\x60", b"\x4d\0\0\0\x60")
    for damaged in (worst, content[: len(content) // 2], content[:9]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^matrix{ending} must be "):
            read_matrix(path)


@pytest.mark.parametrize("name", ["matrix.docx", "matrix", "matrix.doc.gz", "matrix.pkl"])
def test_unknown_ending_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    with pytest.raises(ValueError, match=f"the ending of {name} must be one of .npy, .npz, .mtx, .csv, .h5, .*, got "):
        read_matrix(tmp_path / name)


@pytest.mark.parametrize("ending", FILES)
def test_missing_file_and_folder_are_the_systems_errors(ending, tmp_path):
    with pytest.raises(FileNotFoundError):
        read_matrix(tmp_path / f"missing{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(IsADirectoryError):
        read_matrix(tmp_path / f"folder{ending}")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("ending", FILES)
def test_a_pipe_is_refused_without_waiting_for_it(ending, tmp_path):
    os.mkfifo(tmp_path / f"matrix{ending}")
    with pytest.raises(ValueError, match=f"^matrix{ending} must be a file, got a device or pipe"):
        read_matrix(tmp_path / f"matrix{ending}")


@pytest.mark.parametrize("name", ["indices", "indptr", "shape"])
def test_fractions_among_the_indices_of_a_sparse_npz_are_refused(name, tmp_path):
    sparse.save_npz(tmp_path / "matrix.npz", sparse.csr_array(A))
    with np.load(tmp_path / "matrix.npz") as file:
        parts = dict(file)
    np.savez(tmp_path / "matrix.npz", **parts | {name: parts[name] + 0.25})
    with pytest.raises(ValueError, match=f"got {name} must be integers, got array"):
        read_matrix(tmp_path / "matrix.npz")


def test_written_whole_replaces_a_file_at_the_end_only(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with written_whole(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_writing_leaves_what_was_there(error, tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(error), written_whole(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes as POSIX has them")
not_as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")


def write(path, content):
    with written_whole(path) as file:
        file.write(content)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@posix
@pytest.mark.parametrize("there", [True, False])
def test_links_stay_links_and_what_they_lead_to_is_written(there, tmp_path):
    folder, target = tmp_path / "folder", tmp_path / "elsewhere" / "target"
    folder.mkdir()
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old and longer")
    (folder / "inner").symlink_to("../elsewhere/target")
    (tmp_path / "link").symlink_to("folder/inner")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (folder / "inner").is_symlink()
    assert target.read_bytes() == b"new" and list(target.parent.iterdir()) == [target]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_an_existing_file_keeps_its_mode_while_and_after_it_is_written(mode, tmp_path, umask):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(mode)
    with written_whole(path) as file:
        file.write(b"new")
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"


@posix
def test_a_new_file_has_the_mode_that_open_gives_it(tmp_path, umask):
    write(tmp_path / "out", b"new")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="root alone may give files away")
def test_an_existing_file_keeps_its_owner(tmp_path):
    (tmp_path / "out").touch()
    os.chown(tmp_path / "out", 12345, 54321)
    write(tmp_path / "out", b"new")
    assert ((tmp_path / "out").stat().st_uid, (tmp_path / "out").stat().st_gid) == (12345, 54321)


@posix
def test_other_hard_links_keep_what_was_there(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    os.link(tmp_path / "out", tmp_path / "other")
    write(tmp_path / "out", b"new")
    assert ((tmp_path / "out").read_bytes(), (tmp_path / "other").read_bytes()) == (b"new", b"old")


@posix
@pytest.mark.parametrize("linked", [True, False])
def test_a_pipe_is_written_to_and_stays(linked, tmp_path):
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    with ThreadPoolExecutor(1) as pool:
        content = pool.submit(pipe.read_bytes)
        write(path, b"new")
        assert content.result(timeout=60) == b"new"
    assert pipe.is_fifo() and len(list(tmp_path.iterdir())) == 1 + linked


@posix
@pytest.mark.parametrize(("minor", "error"), [(3, None), (7, OSError)])  # of /dev/null and /dev/full
@pytest.mark.parametrize("linked", [True, False])
def test_a_device_is_written_to_and_stays(minor, error, linked, tmp_path):
    device = path = tmp_path / "device"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        open(device, "wb").close()
    except OSError:
        pytest.skip("no devices can be made here")
    if linked:
        path = tmp_path / "link"
        path.symlink_to(device)
    if error is None:
        write(path, b"new")
    else:
        with pytest.raises(error, match="No space left on device"):
            write(path, b"new")
    assert device.is_char_device() and len(list(tmp_path.iterdir())) == 1 + linked


@not_as_root  # who would lose the device if this failed
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_link_to_a_full_device_raises_and_leaves_it(tmp_path):
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path / "link", b"new")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


STDOUT = """
from curtensor.files import written_whole
print("before")
with written_whole({path!r}) as file:
    file.write(b"new\\n")
print("after")
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_standard_output_is_written_to_where_it_stands(path, kind, tmp_path):
    if path == "link":
        (tmp_path / "link").symlink_to("/dev/stdout")
    command = [sys.executable, "-c", STDOUT.format(path=path)]
    if kind == "pipe":
        out = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout
    else:
        with open(tmp_path / "out", "wb") as file:
            file.write(b"first\n")
            file.flush()
            subprocess.run(command, stdout=file, check=True, cwd=tmp_path)
        first, out = (tmp_path / "out").read_bytes().split(b"\n", 1)
        assert first == b"first"
    assert out == b"before\nnew\nafter\n"


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    start = threading.Barrier(8)

    def many(number):
        start.wait()
        for _ in range(25):
            write(tmp_path / "out", bytes([number]) * 10_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(many, range(8)))
    content = (tmp_path / "out").read_bytes()
    assert len(content) == 10_000 and len(set(content)) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_process_forked_while_writing_does_not_collide(tmp_path):
    context = pytest.importorskip("multiprocessing").get_context("spawn")
    workers = [context.Process(target=write, args=(tmp_path / "out", bytes([n]) * 10_000)) for n in range(3)]
    with written_whole(tmp_path / "out") as file:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        file.write(b"last")
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "out").read_bytes() == b"last" and list(tmp_path.iterdir()) == [tmp_path / "out"]


@posix
def test_a_file_that_cannot_be_replaced_is_overwritten(tmp_path, monkeypatch):
    def refused(*args):
        raise OSError(16, "Device or resource busy")  # as of a file that is mounted by itself

    (tmp_path / "out").write_bytes(b"old and longer")
    before = (tmp_path / "out").stat().st_ino
    monkeypatch.setattr(os, "replace", refused)
    write(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"new" and (tmp_path / "out").stat().st_ino == before
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@not_as_root
def test_a_file_in_a_folder_that_cannot_be_written_to_is_overwritten(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").write_bytes(b"old and longer")
    folder.chmod(0o500)
    try:
        with written_whole(folder / "out") as file:
            file.write(b"new")
            assert (folder / "out").read_bytes() == b"old and longer"
        assert (folder / "out").read_bytes() == b"new"
        with pytest.raises(PermissionError, match=r"'.*/folder/other'"):
            write(folder / "other", b"new")
    finally:
        folder.chmod(0o700)


@not_as_root
def test_a_file_that_may_not_be_written_is_refused(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o400)
    with pytest.raises(PermissionError):
        write(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "missing/out", "folder", "folder/", "new/", "file/out", "dangling", "loop"])
def test_where_open_writes_nothing_nothing_is_written_and_the_error_is_the_same(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    if name in ("dangling", "loop"):
        (tmp_path / name).symlink_to({"dangling": "missing/out", "loop": "loop"}[name])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError) as theirs:
        open(name, "wb").close()
    with pytest.raises(OSError) as ours:
        write(name, b"new")
    assert str(ours.value) == str(theirs.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path])
@pytest.mark.parametrize("name", ["out", "~", "out.npy.txt", "é ü", " ", "a" * 255])
def test_a_name_is_kept_as_it_is(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(kind(tmp_path / name), b"new")
    write(kind(type(tmp_path)(name)), b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("path", "error"), [(3, TypeError), (None, TypeError), ("a\0b", ValueError)])
def test_what_is_no_path_is_refused(path, error):
    with pytest.raises(error, match=r"^path must be .*, got "):
        write(path, b"new")


def dangling_link(file):
    file["old"] = h5py.SoftLink("/nowhere")


def link_to_itself(file):
    file["self"] = h5py.SoftLink("/self")


def external_link(file):
    file["other"] = h5py.ExternalLink("missing.h5", "/X")


def cycle(file):
    file.create_group("group")["up"] = file["/"]


def groups_that_share_their_members(file):
    group = file
    for _ in range(40):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def other_names_of_the_same(file):
    file["alias"], file["link"] = file["X"], h5py.SoftLink("/X")


def empty_datasets(file):
    file["empty"], file["none"] = h5py.Empty("f8"), np.zeros((0, 3))


def what_is_no_number(file):
    file["compound"], file["type"], file["scalar"] = np.zeros((3, 3), [("a", float)]), np.dtype("f8"), 3.0
    file.create_dataset("references", (2, 2), dtype=h5py.ref_dtype)
    file.create_dataset("text", (2, 2), dtype=h5py.string_dtype())
    file["x"] = np.arange(6.0)
    file["x"].make_scale("x")
    file["X"].dims[0].attach_scale(file["x"])


def groups_beyond_recursion(file):
    group = file
    for _ in range(1200):
        group = group.create_group("g")


SPOILT = {
    spoil.__name__: spoil
    for spoil in (
        dangling_link,
        link_to_itself,
        external_link,
        cycle,
        groups_that_share_their_members,
        other_names_of_the_same,
        empty_datasets,
        what_is_no_number,
        groups_beyond_recursion,
    )
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_the_good_matrix_of_a_file_is_found_beside_what_is_none(spoil, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.arange(42.0).reshape(6, 7)
        SPOILT[spoil](file)
    for dataset in (None, "X"):
        assert read_matrix(tmp_path / "a.h5", dataset=dataset).A[1, 2] == 9


def test_a_link_is_a_name_too(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.ones((6, 7))
        file["again"] = h5py.SoftLink("/X")
    assert read_matrix(tmp_path / "a.h5", dataset="again").A.shape == (6, 7)
    with pytest.raises(ValueError, match="dataset must be one of X, got 'other'"):
        read_matrix(tmp_path / "a.h5", dataset="other")


@pytest.mark.parametrize("damage", ["zarr.json", "nothing"])
def test_a_damaged_array_of_a_zarr_group_does_not_hide_the_others(damage, tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("X", data=np.ones((6, 7)))
    group.create_array("damaged", data=np.ones((6, 7)))
    if damage == "nothing":
        (tmp_path / "a.zarr" / "damaged" / "zarr.json").unlink()
    else:
        (tmp_path / "a.zarr" / "damaged" / "zarr.json").write_bytes(b"\0junk")
    for dataset in (None, "X"):
        assert read_matrix(tmp_path / "a.zarr", dataset=dataset).A.shape == (6, 7)
    with pytest.raises(ValueError, match="dataset must be one of X, got 'damaged'"):
        read_matrix(tmp_path / "a.zarr", dataset="damaged")
