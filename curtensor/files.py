"""Matrices and tensors in files, and files that appear whole or not at all."""

import contextlib
import csv
import functools
import importlib
import itertools
import os
import shutil
import stat
import tempfile
import tokenize
import uuid
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curtensor import _validation

EXAMPLE = Path(__file__).parent / "data" / "breast_cancer.csv"
EXAMPLE_TENSOR = Path(__file__).parent / "data" / "indian_pines.npz"

# What the readers of NumPy, SciPy and Python raise for a file that is not what its ending says.
UNREADABLE = (
    ValueError, TypeError, AttributeError, KeyError, IndexError, EOFError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, csv.Error,
)  # fmt: skip


class NamedMatrix(NamedTuple):
    """A matrix, dense or sparse, with the names of its rows and columns, or None where there are none."""

    A: Any
    row_names: np.ndarray | None
    col_names: np.ndarray | None


def read_matrix(path: str | os.PathLike, *, dataset: str | None = None) -> NamedMatrix:
    """The matrix or tensor in a .npy, .npz, .h5 or .zarr file, or the matrix in .mtx or .csv; nothing is unpickled.

    Parameters
    ----------
    path : str or path-like
        A .npy file, an HDF5 file (.h5, .hdf5, .h5ad) or a .zarr folder (these are opened, not read, so that they may
        be larger than memory), an .npz file with one array or by `scipy.sparse.save_npz`, a MatrixMarket file (.mtx),
        or comma-separated real numbers (.csv). The first line of a .csv file holds column names if its first field is
        empty or all others are text, and its first column holds row names if their header is empty or they are text.
        Names that are numbers need the empty field, as pandas writes it.
    dataset : str, optional
        Which array, or group with a CSR matrix, of an HDF5 or zarr store; by default the only one of two modes or more
        that holds numbers and can be opened, whatever else there is.

    Returns
    -------
    matrix : NamedMatrix
        Unpacks to ``A, row_names, col_names``.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If its ending is another, or it does not hold one matrix in that format, or no such dataset.
    ImportError
        If h5py or zarr is needed and not installed.

    Examples
    --------
    >>> from curtensor import files
    >>> A, row_names, col_names = files.read_matrix(files.EXAMPLE)
    >>> A.shape, str(row_names[0]), str(col_names[0])
    ((569, 30), 'malignant', 'mean radius')
    """
    path = os.fspath(path)
    name, ending = os.path.basename(path), os.path.splitext(path)[1].lower()
    _validation.one_of(READERS, ending, f"the ending of {name}")
    _validation.only_without(dataset is not None, "dataset", READERS[ending] not in STORE_READERS, f"a {ending} file")

    if ending == ".zarr":
        os.listdir(path)  # for the system's own complaint
    else:
        _validation.no_pipe(path, name)
        open(path, "rb").close()
    try:
        content = READERS[ending](path)
    except (*UNREADABLE, OSError) as error:
        raise unreadable(name, ending, error) from None
    if READERS[ending] in STORE_READERS and not hasattr(content, "shape"):
        return NamedMatrix(dataset_of(content, dataset, name, ending), None, None)
    matrix = content if isinstance(content, NamedMatrix) else NamedMatrix(content, None, None)
    return matrix._replace(A=one_array(matrix.A, name))


def example_matrix() -> NamedMatrix:
    """The matrix shipped with the package: 30 measurements of 569 tumours, with names (see ``curtensor/data``)."""
    return read_matrix(EXAMPLE)


def example_tensor() -> np.ndarray:
    """The tensor shipped with the package: 48 x 48 pixels in 50 spectral bands (see ``curtensor/data``)."""
    return read_matrix(EXAMPLE_TENSOR).A


def read_npy(path):
    """A .npy file, mapped into memory, not to be written to."""
    return np.lib.format.open_memmap(path, mode="r")


def read_hdf5(path):
    """An HDF5 file, opened."""
    return store_package("h5py").File(path, "r")


def read_zarr(path):
    """A zarr array or group, opened."""
    return store_package("zarr").open(path, mode="r")


def store_package(name):
    """The package that reads a store, or the name of the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this store needs {name}: pip install 'curtensor[large]'") from error


def dataset_of(store, wanted, name, ending):
    """The wanted, or the only, array or sparse matrix of a store, named by its file in what is raised."""
    member = None if wanted is None else opened(store, wanted)
    if wanted is not None and is_matrix(member):
        return member
    try:
        found = list(datasets_in(store))
    except UNREADABLE as error:
        raise unreadable(name, ending, error) from None
    return opened(store, one_dataset(found, wanted, name))


def datasets_in(store):
    """Names of what an HDF5 or zarr group holds of two modes or more: arrays, and groups with a CSR or CSC matrix.

    Each once, by whichever of its names comes first; links that lead nowhere, and what cannot be opened, are left out.
    """
    seen, waiting = {identity(store)}, [("", store)]
    while waiting:
        path, group = waiting.pop()
        members = [(f"{path}{name}", opened(group, name)) for name in names_in(group)]
        for name, member in members:
            key = identity(member)
            if key is not None and key in seen:
                continue
            seen.add(key)
            if is_matrix(member):
                yield name
            elif hasattr(member, "keys"):
                waiting.append((f"{name}/", member))


def names_in(group):
    """Names in a group; those of the files beneath it where zarr cannot tell them, as one array is damaged."""
    try:
        with warnings.catch_warnings(action="ignore"):  # zarr's, of what is no member
            return sorted(group.keys())
    except (*UNREADABLE, OSError):
        root = getattr(getattr(group, "store", None), "root", None)
        return [] if root is None else sorted(os.listdir(os.path.join(root, group.path)))


def opened(group, name):
    """A member of a group, or None where it cannot be opened: a link that leads nowhere, a damaged part."""
    try:
        return group[name]
    except (*UNREADABLE, OSError):
        return None


def identity(member):
    """What tells a member of an HDF5 file from all others, by whichever link it was reached; None where nothing is."""
    return getattr(member, "id", None) if hasattr(member, "file") else None


def is_matrix(member):
    """Whether a member is an array of numbers of two modes or more, or a group with a CSR or CSC matrix."""
    try:
        if is_sparse_group(member):
            return True
        shape = getattr(member, "shape", None) or ()
        return len(shape) >= 2 and 0 not in shape and np.dtype(member.dtype).kind in "biufc"
    except (*UNREADABLE, OSError):
        return False


def is_sparse_group(member):
    """Whether a group holds the three arrays of a CSR or CSC matrix."""
    return hasattr(member, "keys") and {"data", "indices", "indptr"} <= set(member.keys())


def read_npz(path):
    """The only array of an .npz file, or the sparse matrix that its arrays make; a dict where there are several."""
    from scipy import sparse

    with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
        if "format" not in content.files:
            arrays = dict(content)
        else:
            for name in SPARSE_INTEGERS.intersection(content.files):
                of_integers(content[name], name)
            file.seek(0)
            matrix = sparse.load_npz(file)
            if matrix.format in ("csr", "csc", "bsr"):
                matrix.check_format(full_check=True)  # an index out of range would be read out of bounds
            return matrix
    return arrays.popitem()[1] if len(arrays) == 1 else arrays


SPARSE_INTEGERS = {"indices", "indptr", "row", "col", "offsets", "shape"}  # of others SciPy would cut off the fractions

# Numbers a value takes in a MatrixMarket file, and what an entry above the diagonal is to the one below.
MTX_FIELDS = {"real": 1, "integer": 1, "complex": 2, "pattern": 0}
MTX_MIRRORS = {"general": None, "symmetric": np.positive, "skew-symmetric": np.negative, "hermitian": np.conj}


def read_mtx(path):
    """A MatrixMarket file; by hand, since scipy.io.mmread crashes the process on damaged ones."""
    from scipy import sparse

    with open(path, encoding="latin-1") as file:
        layout, field, symmetry = matrix_market(file.readline().lower().split(), MTX_FIELDS, MTX_MIRRORS)
        lines = (line for line in file if line.strip() and not line.startswith("%"))
        m, n, *count = map(int, next(lines, "").split())
        strict = int(symmetry == "skew-symmetric")
        if layout == "array":  # column by column, all of it or from the diagonal down
            count = [m * n if symmetry == "general" else n * (n + 1 - 2 * strict) // 2]
        width = MTX_FIELDS[field]
        table = number_table(lines, count[0], width + 2 * (layout == "coordinate"))
    if layout == "coordinate":
        i, j = positions(table[:, :2], (m, n)) - 1
    else:
        j, i = np.divmod(np.arange(m * n), m) if symmetry == "general" else np.triu_indices(n, strict)
    values = np.ones(len(table)) if width == 0 else table[:, -width:] @ [1, 1j][:width]
    if symmetry != "general":
        off = i != j
        i, j = np.concatenate([i, j[off]]), np.concatenate([j, i[off]])
        values = np.concatenate([values, MTX_MIRRORS[symmetry](values[off])])
    matrix = sparse.coo_array((values, (i, j)), shape=(m, n))
    return matrix if layout == "coordinate" else matrix.toarray()


def read_csv(path):
    """Comma-separated real numbers, and their names."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        lines = ((f"line {reader.line_num}", line) for line in reader if line)
        head = list(itertools.islice(lines, 3))
        header = head.pop(0)[1] if head and is_header(head[0][1]) else None
        some_lines(head)
        start = int(not any(reads_as_float(line[0]) for _, line in head) or (header or [None])[0] == "")
        width = len(header or head[0][1]) - start
        names, rows = [], []
        for name, line in itertools.chain(head, lines):
            names.append("".join(line[:start]))
            rows.append(real_numbers(line[start:], width, name))
    A = np.array(rows).reshape(len(rows), width)
    return NamedMatrix(A, np.array(names) if start else None, np.array(header[start:]) if header else None)


def is_header(fields):
    """Whether a first line holds names: its first field is empty, or all the others are text."""
    return fields[0] == "" or not any(field == "" or reads_as_float(field) for field in fields[1:] or fields)


READERS = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".mtx": read_mtx,
    ".csv": read_csv,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".h5ad": read_hdf5,
    ".zarr": read_zarr,
}
STORE_READERS = (read_hdf5, read_zarr)


def reads_as_float(text):
    """Whether Python reads the text as a float."""
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def written_whole(path):
    """A binary file whose content is under the path once the block has ended, and never if it does not end well.

    Like `open`, it goes through symbolic links, refuses what may not be written, keeps the mode and, where it may, the
    owner of a file, and writes to devices and pipes. A file is replaced, so that other hard links keep what was there;
    only where its folder does not let it be replaced is it overwritten.
    """
    path = _validation.file_path(path)
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    is_stream = old is not None and not (stat.S_ISREG(old.st_mode) or stat.S_ISDIR(old.st_mode))
    may_be_made = bool(os.path.basename(path)) and os.access(folder, os.W_OK)
    if not is_stream and not (old is None and may_be_made):
        open(path, "ab").close()  # for the system's own complaint
    if is_stream or not may_be_made or open_file_number(path) is not None:
        with tempfile.TemporaryFile() as file:
            yield file
            copy_into(file, path)
        return

    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.part")  # as no other process or thread calls its own
    mode = 0o666 if old is None else old.st_mode & 0o666
    try:
        with open(temporary, "xb", opener=functools.partial(os.open, mode=mode)) as file:
            if old is not None:
                take_after(temporary, target, old)
            yield file
        try:
            os.replace(temporary, target)
        except OSError:  # a file of another's in a folder such as /tmp, or one that is mounted by itself
            with open(temporary, "rb") as file:
                copy_into(file, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def take_after(path, target, old):
    """Give a new file the owner and group of another as far as that may be, and its mode."""
    for owner in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
        with contextlib.suppress(OSError, AttributeError):  # AttributeError: not on Windows
            os.chown(path, *owner)
            break
    shutil.copystat(target, path)


def copy_into(file, path):
    """Write what a file holds to what is under a path, without replacing it."""
    file.seek(0)
    print(end="", flush=True)  # what was printed before comes before, where the path leads to the same
    number = open_file_number(path)
    is_file = number is None and os.path.isfile(path)
    with open(path if number is None else os.dup(number), "r+b" if is_file else "wb") as there:
        shutil.copyfileobj(file, there)
        if is_file:
            there.truncate()


def open_file_number(path):
    """N where a path, such as /dev/stdout, is another name of this process's open file N; else None."""
    own = os.path.realpath("/proc/self/fd")
    while os.path.islink(path):
        folder, name = os.path.split(path)
        if os.path.realpath(folder) == own:
            return int(name)
        path = os.path.join(folder, os.readlink(path))
    return None


def matrix_market(banner, fields, symmetries):
    """Layout, field and symmetry that the first words of a MatrixMarket file say."""
    if len(banner) != 5 or banner[:2] != ["%%matrixmarket", "matrix"]:
        raise _validation.complain(
            ValueError, "its first line", "that of a MatrixMarket matrix", _validation.describe(" ".join(banner))
        )
    layout, field, symmetry = banner[2:]
    return (
        _validation.one_of(("array", "coordinate"), layout, "its layout"),
        _validation.one_of(fields, field, "its field"),
        _validation.one_of(symmetries, symmetry, "its symmetry"),
    )


def number_table(lines, count, width):
    """The numbers of so many lines, equally many in each."""
    first = list(itertools.islice(lines, 1))
    table = np.loadtxt(itertools.chain(first, lines), ndmin=2) if first else np.zeros((0, width))
    if table.shape != (count, width):
        raise _validation.complain(
            ValueError, "its table", f"{count} lines of {width} numbers", f"{len(table)} of {table.shape[1]}"
        )
    return table


def positions(table, shape):
    """Rows and columns, counted from 1, as integers."""
    if not ((table >= 1) & (table <= shape) & (table == np.floor(table))).all():
        raise _validation.complain(ValueError, "its rows and columns", f"from 1 to {shape[0]} and {shape[1]}", "others")
    return table.T.astype(np.int64)


def some_lines(lines):
    """Raise if a file has no lines of numbers."""
    if not lines:
        raise _validation.complain(ValueError, "its lines", "at least one beside column names", "none")


def real_numbers(fields, size, name):
    """A float array from so many texts."""
    if len(fields) != size:
        raise _validation.complain(ValueError, name, f"{size} numbers", len(fields))
    try:
        return np.array(fields, dtype=float)
    except ValueError as error:
        raise _validation.complain(ValueError, name, "real numbers with commas between", error) from None


def of_integers(array, name):
    """Raise if an array is not of integers."""
    if getattr(array, "dtype", np.dtype(object)).kind not in "iu":
        raise _validation.complain(ValueError, name, "integers", _validation.describe(array))


def one_array(content, name):
    """The array or sparse matrix, if the file held one."""
    if not hasattr(content, "shape"):
        got = (
            f"{len(content)} arrays: {', '.join(content)}"
            if isinstance(content, dict)
            else _validation.describe(content)
        )
        raise _validation.complain(ValueError, name, "one array, or as scipy.sparse.save_npz writes it", got)
    return content


def one_dataset(found, wanted, name):
    """The name of the wanted, or the only, dataset of a store."""
    if wanted is not None and found:
        return _validation.one_of(found, wanted, "dataset")
    if len(found) != 1:
        names = ", ".join(name if len(name) <= 80 else f"{name[:77]}..." for name in found)
        got = f"{len(found)}: {names}; a dataset must be named" if found else "none"
        raise _validation.complain(ValueError, name, "a store of one matrix or tensor", got)
    return found[0]


def unreadable(name, ending, error):
    """The exception for a file that its ending's reader does not take."""
    return _validation.complain(
        ValueError, name, f"a whole {ending} file without pickled objects", _validation.describe_error(error)
    )
