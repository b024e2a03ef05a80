"""Matrices and tensors in files, and files that appear whole or not at all."""

import bz2
import contextlib
import dataclasses
import gzip
import inspect
import lzma
import numbers
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from curtensor import _validation
from curtensor.files.arrays import read_image, read_mat, read_mtx, read_npy, read_npz
from curtensor.files.matrix import NamedMatrix, Refused, in_words
from curtensor.files.preparing import MISSING, in_memory, prepared
from curtensor.files.stores import read_hdf5, read_netcdf, read_zarr
from curtensor.files.tables import read_excel, read_feather, read_parquet, read_stata, read_text
from curtensor.files.writing import written_whole

__all__ = [
    "EXAMPLE",
    "EXAMPLE_TENSOR",
    "READERS",
    "NamedMatrix",
    "example_matrix",
    "example_tensor",
    "in_words",
    "read_matrix",
    "written_whole",
]

EXAMPLE = Path(__file__).parent.parent / "data" / "breast_cancer.npz"
EXAMPLE_TENSOR = Path(__file__).parent.parent / "data" / "indian_pines.npz"

# What reads a file of each ending; its keyword arguments are the options that go with it.
READERS: dict[str, Any] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".mtx": read_mtx,
    ".csv": read_text,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".h5ad": read_hdf5,
    ".zarr": read_zarr,
    ".nc": read_netcdf,
    ".mat": read_mat,
    ".tsv": read_text,
    ".tab": read_text,
    ".txt": read_text,
    ".dat": read_text,
    ".xlsx": read_excel,
    ".parquet": read_parquet,
    ".feather": read_feather,
    ".arrow": read_feather,
    ".dta": read_stata,
    ".png": read_image,
    ".jpg": read_image,
    ".jpeg": read_image,
    ".tif": read_image,
    ".tiff": read_image,
    ".bmp": read_image,
    ".gif": read_image,
}
COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# How files begin, for what has no name.
MAGIC = {
    b"\x93NUMPY": ".npy",
    b"PK\3\4": ".npz",
    b"%%MatrixMarket": ".mtx",
    b"MATLAB": ".mat",
    b"\x89HDF": ".h5",
    b"PAR1": ".parquet",
    b"ARROW1": ".feather",
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"\x1f\x8b": ".gz",
}
# What to do with endings that are not read.
REMEDIES = {
    ".xls": "save it as .xlsx",
    ".ods": "save it as .xlsx",
    ".rds": "in R, write.csv(x, 'x.csv')",
    ".rdata": "in R, write.csv(x, 'x.csv')",
    ".pkl": "nothing is unpickled; numpy.save or DataFrame.to_parquet write what is read",
    ".pickle": "nothing is unpickled; numpy.save or DataFrame.to_parquet write what is read",
    ".json": "pandas.read_json(path).to_parquet('x.parquet')",
    ".sav": "pandas.read_spss(path).to_parquet('x.parquet')",
}


def read_matrix(
    path: str | os.PathLike,
    *,
    format: str | None = None,
    dataset: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: int | bool | None = None,
    row_names: str | int | bool | None = None,
    leave_out: Any = None,
    missing_values: Any = None,
    missing: str = "refuse",
    log1p: bool = False,
    center: bool | None = False,
    scale: bool | None = False,
    transpose: bool = False,
) -> NamedMatrix:
    """Read a matrix or tensor from a file of any usual kind, with its names; nothing is unpickled.

    Parameters
    ----------
    path : str or path-like
        Arrays: .npy (mapped into memory), .npz (one array, perhaps with texts `row_names` and `col_names` beside it, or
        by `scipy.sparse.save_npz`), MatrixMarket .mtx, MATLAB .mat. Tables: .csv, .tsv, .txt and the like, .xlsx,
        .parquet, .feather, .dta. Stores: .h5, .hdf5, .h5ad, .zarr (opened, not read, so that they may be larger than
        memory) and NetCDF .nc. Images: .png, .jpg, .tif and the like. Any but .zarr may be compressed: .gz, .bz2, .xz,
        or .zip of one file. "-" is standard input.
    format : str, optional
        The ending by which to read, such as ".csv", where that of the path is another.
    dataset : str, optional
        Which array, sheet, variable or, of .h5ad, layer, where a file holds several; by default the only one of numbers
        and of two modes or more, and X of .h5ad.
    separator, decimal : str, optional
        Of a text: what stands between fields, and in a number before its fraction; by default those by which most
        fields are numbers.
    encoding : str, optional
        Of a text; by default UTF-8, UTF-16 and UTF-32 by their marks, and else Windows-1252, which the notes say.
    header : int or False, optional
        Of a table: the line that holds column names, counted from 1, or False for none; by default the first, if it is
        told from the others: texts over numbers, an empty first field, years.
    row_names : str, int or False, optional
        Of a table: the column that holds row names, by its own name or counted from 0, or False for none; by default
        one without a name, the first of texts that all differ, or else the first column if it holds texts.
    leave_out : list of str or int, optional
        Columns of a table to leave out. Those of text, dates and categories are left out in any case, which the notes
        say; truth values are numbers.
    missing_values : list of str, optional
        What means a missing value in a table, besides empty fields, NA, NaN, null and the like.
    missing : {"refuse", "drop-rows", "drop-columns", "mean", "median"}, default="refuse"
        What to do with missing values: leave their rows or columns out, or put the mean or median of the column there.
    log1p : bool, default=False
        Whether to take log(1 + x) of each value.
    center, scale : bool or None, default=False
        Whether to subtract each column's mean, and to divide by its standard deviation. None for both: where columns
        are those of a table with names that are no numbers, since each may have its own unit.
    transpose : bool, default=False
        Whether to exchange rows and columns, before all else.

    Returns
    -------
    matrix : NamedMatrix
        Unpacks to ``A, row_names, col_names``; ``print(matrix)`` says in one line what was read and what was done.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If its ending is another, or it does not hold one matrix in that format, or is not clear without an option,
        which the message names; if an option does not go with that kind of file; if the file changes while it is read.
    ImportError
        If a package is needed which the extra "files" brings.

    Notes
    -----
    Tables, images, .npz, .mtx and .mat are read into memory; so are others where they are to be transposed, scaled or
    without gaps.

    Examples
    --------
    >>> from curtensor import files
    >>> A, row_names, col_names = files.read_matrix(files.EXAMPLE)
    >>> A.shape, str(row_names[0]), str(col_names[0])
    ((569, 30), 'malignant', 'mean radius')
    """
    options = {
        "dataset": dataset,
        "separator": separator,
        "decimal": decimal,
        "encoding": encoding,
        "header": header,
        "row_names": row_names,
        "leave_out": leave_out,
        "missing_values": missing_values,
    }
    options = checked({name: value for name, value in options.items() if value is not None})
    _validation.one_of(MISSING, missing, "missing")
    path = os.fspath(path)
    name = "standard input" if path == "-" else os.path.basename(os.path.normpath(path))
    with file_to_read(path, name, format) as (file, ending, is_temporary):
        not_for_others(options, ending)
        try:
            matrix = dataclasses.replace(unchanged_while_read(file, name, ending, options), source=name)
            if is_temporary:
                matrix = dataclasses.replace(matrix, A=in_memory(matrix.A))
            return prepared(matrix, missing=missing, log1p=log1p, center=center, scale=scale, transpose=transpose)
        except Refused as error:
            raise _validation.complain(ValueError, error.name or name, *error.args) from None


def example_matrix() -> NamedMatrix:
    """The matrix shipped with the package: 30 measurements of 569 tumours, with names (see ``curtensor/data``).

    Returns
    -------
    matrix : NamedMatrix, shape (569, 30)
        Float64, each measurement centred and scaled to deviation 1; unpacks to the array, names of rows and of columns.

    Examples
    --------
    >>> from curtensor.files import example_matrix
    >>> A, tumours, measurements = example_matrix()
    >>> A.shape, str(measurements[0])
    ((569, 30), 'mean radius')
    """
    return read_matrix(EXAMPLE)


def example_tensor() -> np.ndarray:
    """The tensor shipped with the package: 48 x 48 pixels in 50 spectral bands (see ``curtensor/data``).

    Returns
    -------
    X : ndarray, shape (48, 48, 50)

    Examples
    --------
    >>> from curtensor.files import example_tensor
    >>> example_tensor().shape
    (48, 48, 50)
    """
    return read_matrix(EXAMPLE_TENSOR).A


def unchanged_while_read(file, name, ending, options):
    """What a file's reader makes of it; raises if that fails, or if the file was written to meanwhile."""
    before = state_of(file)
    try:
        content = READERS[ending](file, **options)
    except (ImportError, Refused):
        raise
    except Exception as error:  # each package has its own for a file that is not what its ending says
        if state_of(file) != before:
            raise changed(name) from None
        raise unreadable(name, ending, error) from None
    if state_of(file) != before:
        raise changed(name)
    return content if isinstance(content, NamedMatrix) else NamedMatrix(content)


def state_of(file):
    """Which file it is, how large, and when it was last written to; of a folder nothing."""
    with contextlib.suppress(FileNotFoundError):
        state = os.stat(file)
        return None if os.path.isdir(file) else (state.st_ino, state.st_size, state.st_mtime_ns)
    return "gone"


@contextlib.contextmanager
def file_to_read(path, name, format):
    """The file behind a path, unpacked where it is compressed or standard input, its ending, and whether it will go."""
    if path != "-":
        os.listdir(path) if path.lower().rstrip(os.sep).endswith(".zarr") else open_for_complaint(path, name)
    base, ending = os.path.splitext(os.path.normpath(path).lower())
    if format is not None:
        format = f".{format.lower().lstrip('.')}"
        _validation.one_of(READERS, format, "format")
    if path != "-" and ending not in COMPRESSED and ending != ".zip":
        yield path, format or known_ending(ending, name), False
        return
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "file")
        try:
            member = unpack(path, ending, file)
        except Exception as error:
            raise unreadable(name, ending, error) from None
        inner = os.path.splitext(member or base)[1].lower() if path != "-" else ending_of_content(file)
        yield file, format or known_ending(inner, name), True


def open_for_complaint(path, name):
    """Open and close a file, for the system's own complaint."""
    _validation.no_pipe(path, name)
    open(path, "rb").close()


def unpack(path, ending, target):
    """Write what is in a compressed file, or comes from standard input, to a file; the name of a .zip's only member."""
    member = None
    with contextlib.ExitStack() as stack:
        if path == "-":
            source = sys.stdin.buffer
        elif ending == ".zip":
            archive = stack.enter_context(zipfile.ZipFile(path))
            (member,) = (info.filename for info in archive.infolist() if not info.is_dir())
            source = stack.enter_context(archive.open(member))
        else:
            source = stack.enter_context(COMPRESSED[ending](path))
        shutil.copyfileobj(source, stack.enter_context(open(target, "wb")))
    if path == "-" and ending_of_content(target) in (".gz",):
        packed = f"{target}.gz"
        os.rename(target, packed)
        unpack(packed, ".gz", target)
    return member


def ending_of_content(file):
    """The ending that goes with how a file begins; a table of text where nothing else does."""
    with open(file, "rb") as opened_file:
        start = opened_file.read(16)
    ending = next((ending for magic, ending in MAGIC.items() if start.startswith(magic)), ".csv")
    if ending == ".npz":
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            return ".xlsx" if any(name.startswith("xl/") for name in archive.namelist()) else ".npz"
    return ending


def known_ending(ending, name):
    """The ending, if files with it are read."""
    if ending not in READERS:
        remedy = REMEDIES.get(ending, 'try format="csv", or which of these it is')
        got = f"{_validation.describe(ending)}; {remedy}"
        raise _validation.complain(ValueError, f"the ending of {name}", f"one of {', '.join(READERS)}", got)
    return ending


def checked(options):
    """The options of readers, each of its type."""
    for name in ("leave_out", "missing_values"):
        if name in options:
            options[name] = _validation.several(options[name], name, "a list")
    if "decimal" in options:
        _validation.one_of((".", ","), options["decimal"], "decimal")
    if "header" in options:
        header = options["header"]
        if header is not False and (header is True or not isinstance(header, numbers.Integral) or header < 1):
            what = "the number of a line, from 1, or False"
            raise _validation.complain(ValueError, "header", what, _validation.describe(header))
    if "row_names" in options and (options["row_names"] is True or not isinstance(options["row_names"], (str, int))):
        raise _validation.complain(
            TypeError, "row_names", "a name, a number or False", _validation.describe(options["row_names"])
        )
    if "separator" in options:
        options["separator"] = one_separator(options["separator"])
    for name in ("dataset", "encoding"):
        if name in options and not isinstance(options[name], str):
            raise _validation.complain(TypeError, name, "a text", _validation.describe(options[name]))
    return options


def one_separator(text):
    """The separator that a text, or a word for it, means."""
    words = {"tab": "\t", "\\t": "\t", "space": r"\s+", "spaces": r"\s+", " ": r"\s+"}
    if not isinstance(text, str):
        raise _validation.complain(TypeError, "separator", "a text", _validation.describe(text))
    if text not in words and len(text) != 1:
        raise _validation.complain(ValueError, "separator", "one character, tab or space", _validation.describe(text))
    return words.get(text, text)


def not_for_others(options, ending):
    """Raise if an option is given that does not go with files of that ending."""
    for name in options:
        known = name in inspect.signature(READERS[ending]).parameters
        _validation.only_without(not known, name, True, f"a {ending} file")


def changed(name):
    """The exception for a file that is written to by another while it is read."""
    return _validation.complain(ValueError, name, "left alone while it is read", "a file that changed meanwhile")


def unreadable(name, ending, error):
    """The exception for a file that its ending's reader does not take."""
    return _validation.complain(
        ValueError, name, f"a whole {ending} file without pickled objects", _validation.describe_error(error)
    )
