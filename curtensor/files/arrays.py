"""Files of arrays, by NumPy, SciPy and Pillow."""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from curtensor import _validation
from curtensor.files.matrix import NamedMatrix, Refused, package, quoted

SPARSE_INTEGERS = {"indices", "indptr", "row", "col", "offsets", "shape"}  # of others SciPy would cut off the fractions


def read_npy(path):
    """A .npy file, mapped into memory, not to be written to."""
    return np.lib.format.open_memmap(path, mode="r")


def read_npz(path, *, dataset=None):
    """An array of an .npz file, with names where there are `row_names` and `col_names`; or a sparse matrix."""
    from scipy import sparse

    with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
        if "format" not in content.files:
            return one_of_arrays(dict(content), dataset)
        for name in SPARSE_INTEGERS.intersection(content.files):
            of_integers(content[name], name)
        file.seek(0)
        matrix = sparse.load_npz(file)
    if matrix.format in ("csr", "csc", "bsr"):
        matrix.check_format(full_check=True)  # an index out of range would be read out of bounds
    return matrix


def one_of_arrays(arrays, wanted):
    """The wanted, or the only, array of several, and its names."""
    names = [arrays.pop(key, None) for key in ("row_names", "col_names")]
    if wanted is None and len(arrays) != 1:
        got = f"{len(arrays)} arrays: {', '.join(arrays)}" if arrays else "none"
        remedy = f'dataset="{next(iter(arrays))}"' if arrays else ""
        raise Refused("one array, or as scipy.sparse.save_npz writes it", got, remedy)
    if wanted is not None and wanted not in arrays:
        raise Refused(f"a file with an array {wanted!r}", f"{quoted(list(arrays))}")
    A = arrays.popitem()[1] if wanted is None else arrays[wanted]
    if not hasattr(A, "shape"):
        raise Refused("one array, or as scipy.sparse.save_npz writes it", _validation.describe(A))
    fits = [
        own is not None and own.dtype.kind == "U" and own.shape == A.shape[n : n + 1] for n, own in enumerate(names)
    ]
    found = tuple(own if fit else None for own, fit in zip(names, fits, strict=True))
    return NamedMatrix(A, found + (None,) * (A.ndim - 2))


def read_mtx(path):
    """A MatrixMarket file."""
    return read_apart("market", path)


def read_apart(kind, path, *names):
    """A MatrixMarket or MATLAB file, read by SciPy in a process of its own.

    On damaged files SciPy 1.17 ends the process: mmread on what follows the last entry, loadmat on an unknown type.
    """
    script = Path(__file__).with_name("read_by_scipy.py")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.npz")
        command = [sys.executable, "-P", script, kind, path, out, *names]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        said = (done.stderr.strip().splitlines() or [""])[-1]
        if done.returncode == 3:
            raise Refused("a file of one matrix", said)
        if done.returncode:
            raise ValueError(said if done.returncode > 0 else "what ends SciPy's reader")
        return read_npz(out)


def read_mat(path, *, dataset=None):
    """A matrix of a MATLAB file: by SciPy, or by h5py from version 7.3 on."""
    with open(path, "rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            return read_mat_in_hdf5(path, dataset)
    return read_apart("matlab", path, *([] if dataset is None else [dataset]))


def read_mat_in_hdf5(path, wanted):
    """A matrix of a MATLAB file of version 7.3, whose arrays stand by columns."""
    from scipy import sparse

    with package("h5py", "a .mat file of version 7.3").File(path, "r") as file:
        found = {name: file[name] for name in file if is_numeric_variable(file[name])}
        if wanted is None and len(found) == 1:
            wanted = next(iter(found))
        if wanted not in found:
            remedy = f'dataset="{next(iter(found))}"' if found else ""
            raise Refused("a file of one matrix", quoted(list(found)) or "none", remedy)
        member = found[wanted]
        if "MATLAB_sparse" not in member.attrs:
            return member[()].T
        parts = member["data"][()], member["ir"][()], member["jc"][()]
        matrix = sparse.csc_array(parts, shape=(int(member.attrs["MATLAB_sparse"]), len(parts[2]) - 1))
        matrix.check_format(full_check=True)
        return matrix


def is_numeric_variable(member):
    """Whether a variable of MATLAB is a matrix of numbers, dense or sparse."""
    if "MATLAB_sparse" in member.attrs:
        return True
    kind = member.attrs.get("MATLAB_class", b"double")
    numbers = getattr(member, "dtype", np.dtype(object)).kind in "biuf"
    return numbers and kind != b"char" and len(member.shape) >= 2 and 1 not in member.shape


def read_image(path):
    """An image: rows x columns, and x bands if it has colours; several pages come before these."""
    package("PIL", "an image")
    from PIL import Image, ImageSequence

    notes: tuple[str, ...] = ()
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        pages = [
            page.convert("RGB") if page.mode in ("P", "PA") else page.copy() for page in ImageSequence.all_frames(image)
        ]
        if any(page.mode in ("LA", "RGBA") for page in pages):
            pages = [page.convert(page.mode.removesuffix("A")) for page in pages]
            notes = ("transparency left out",)
        if len({(page.size, page.mode) for page in pages}) > 1:
            raise Refused("an image whose pages are of one size", f"{len(pages)} of several")
        A = np.stack([np.asarray(page) for page in pages])
    return NamedMatrix(A[0] if len(A) == 1 else A, notes=notes)


def of_integers(array, name):
    """Raise if an array is not of integers."""
    if getattr(array, "dtype", np.dtype(object)).kind not in "iu":
        raise _validation.complain(ValueError, name, "integers", _validation.describe(array))
