"""Results on disk: npz files that say whose they are, without pickle, every part checked before and after it is read.

`Result.save` hands its parts to `write`; `Result.load` takes them one by one from `written_by`, each with the shape
that the ones before it leave it.
"""

import contextlib
import errno
import math
import os
import re
import struct
import sys
import zipfile

import numpy as np
from scipy import sparse

from curtensor import _validation, labels
from curtensor.files import written_whole

FORMAT = 1  # to be raised when files change so that those before cannot read them, or must not
OWNER = "curtensor"  # the member that says of which result the others are parts, and in which format

# What NumPy writes above the arrays that results are made of. Nothing else is read, and nothing evaluated.
MAGIC = b"\x93NUMPY\x01\x00"
HEADER = re.compile(
    rb"\{'descr': '(\|b1|[<>](?:i[48]|f[48]|c8|c16|U(?:\d{1,8}|[1-4]\d{8})))', "
    rb"'fortran_order': (?:True|False), 'shape': \(([\d, ]*)\), \} *\n"
)

# What zipfile and NumPy raise for content that is not as they write it.
DAMAGED = (ValueError, EOFError, OverflowError, RuntimeError, struct.error, zipfile.BadZipFile)


def write(path, result, parts):
    """Write the parts of a result: numbers, texts, arrays dense or sparse, and sequences of these; None is left out."""
    members = {OWNER: f"{result} {FORMAT}"}
    for name, part in parts.items():
        members |= flat(name, part)
    for name, array in members.items():
        storable(np.asarray(array), name)
    with written_whole(path) as file:
        np.savez(file, **members)


def flat(name, part):
    """The named arrays of which a part consists."""
    if part is None:
        return {}
    if sparse.issparse(part):
        arrays = {"data": part.data, "indices": part.indices, "indptr": part.indptr, "shape": part.shape}
        return {f"{name}.{part.format}.{key}": array for key, array in arrays.items()}
    if isinstance(part, (list, tuple)):
        each = (flat(f"{name}.{n}", inner) for n, inner in enumerate(part))
        return {key: array for arrays in each for key, array in arrays.items()}
    return {name: part}


@contextlib.contextmanager
def written_by(result, path):
    """The parts in a file, to be taken out by the functions below; where one is amiss, the result did not write it."""
    path = _validation.file_path(path)
    try:
        _validation.no_pipe(path, "it")
        with open(path, "rb") as file:
            parts = members(file)
        owner = scalar(parts, OWNER, "U")
        if owner != f"{result} {FORMAT}":
            raise _validation.complain(ValueError, "it", f"of {result}, format {FORMAT}", _validation.describe(owner))
        yield parts
        if parts:
            raise _validation.complain(ValueError, "its parts", f"those of {result}", f"also {', '.join(parts)}")
    except DAMAGED as error:
        got = f"{_validation.describe(path)}: {_validation.describe_error(error)}"
        raise _validation.complain(ValueError, "path", f"a file written by {result}.save", got) from None


def members(file):
    """The named arrays of an npz file; no more is allocated than the file is long."""
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > size:
                raise _validation.complain(ValueError, "its parts", f"within the {size} bytes of the file", "more")
            arrays = {entry.filename.removesuffix(".npy"): member(archive, entry) for entry in entries}
    except OSError as error:
        if error.errno == errno.EINVAL:  # of a place in the file where none can be
            raise _validation.complain(ValueError, "its parts", f"within the {size} bytes of the file", error) from None
        raise
    if len(arrays) != len(entries):
        raise _validation.complain(ValueError, "its parts", "of distinct names", f"{len(arrays)} for {len(entries)}")
    return arrays


def member(archive, entry):
    """One array: not compressed, and of the size that its header says."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _validation.complain(ValueError, entry.filename, "not compressed", f"method {entry.compress_type}")
    with archive.open(entry) as content:
        magic, length = content.read(len(MAGIC)), int.from_bytes(content.read(2), "little")
        header = HEADER.fullmatch(content.read(length))
    if magic != MAGIC or header is None:
        raise _validation.complain(ValueError, entry.filename, "an array of numbers or texts", "something else")
    shape = [int(number) for number in header[2].split(b",") if number.strip()]
    wanted = len(MAGIC) + 2 + length + math.prod(shape) * np.dtype(header[1].decode()).itemsize
    if wanted != entry.file_size:
        raise _validation.complain(ValueError, entry.filename, f"of {wanted} bytes", entry.file_size)
    with archive.open(entry) as content:  # again, and in one go to its end: the checksum is of all of it
        array = np.lib.format.read_array(content, allow_pickle=False)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "U" and (array.ravel().view(np.uint32) > sys.maxunicode).any():
        raise _validation.complain(ValueError, entry.filename, "Unicode text", "something else")
    storable(array, entry.filename)
    return array


def taken(parts, name, kinds, shape):
    """A part of one of some kinds of dtype and of a shape, or of any shape.

    In a shape None stands for any length, and a range for those in it.
    """
    if name not in parts:
        raise _validation.complain(ValueError, "its parts", f"those of its result, {name} too", ", ".join(parts))
    array = parts.pop(name)
    if shape is None:
        shape = array.shape
    same = len(shape) == array.ndim and all(
        own is None or length in (own if isinstance(own, range) else (own,))
        for own, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind not in kinds or not same:
        what = f"of kind {' or '.join(kinds)} and shape {shape}"
        raise _validation.complain(ValueError, name, what, f"{array.dtype} of shape {array.shape}")
    return array


def numbers(parts, name, shape, dtype=None):
    """An array of real or complex numbers, of one dtype where it is given."""
    array = taken(parts, name, "fc", shape)
    if dtype not in (None, array.dtype):
        raise _validation.complain(ValueError, name, f"of dtype {dtype}", array.dtype)
    return array


def matrix(parts, name, shape, dtype=None):
    """The same, dense or a CSR or CSC array."""
    for kind, sparse_array in (("csr", sparse.csr_array), ("csc", sparse.csc_array)):
        if f"{name}.{kind}.data" in parts:
            data = numbers(parts, f"{name}.{kind}.data", (None,), dtype)
            indices, indptr, lengths = (
                taken(parts, f"{name}.{kind}.{key}", "i", (size,))
                for key, size in (("indices", None), ("indptr", None), ("shape", 2))
            )
            array = sparse_array((data, indices, indptr), shape=tuple(lengths.tolist()))
            array.check_format(full_check=True)  # an index out of range would be read out of bounds
            parts[name] = array
    return numbers(parts, name, shape, dtype)


def indices(parts, name, size, length):
    """So many distinct indices below a length."""
    array = taken(parts, name, "i", (size,))
    if len(np.unique(array)) != size or (size and not 0 <= array.min() <= array.max() < length):
        raise _validation.complain(ValueError, name, f"distinct and below {length}", _validation.describe(array))
    return array


def multi_indices(parts, name, size, lengths):
    """So many distinct tuples of indices below lengths, as rows."""
    array = taken(parts, name, "i", (size, len(lengths)))
    if len(np.unique(array, axis=0)) != size or (array < 0).any() or (array >= lengths).any():
        raise _validation.complain(ValueError, name, f"distinct and below {lengths}", _validation.describe(array))
    return array


def saved_names(parts, name, size):
    """So many names of the kind that was written; None where there are none."""
    if name not in parts:
        return None
    found = labels.from_text(scalar(parts, name, "U"))
    if len(found) != size:
        raise _validation.complain(ValueError, name, f"{size} names", len(found))
    return found


def saved_dims(parts, name, size):
    """So many texts; none where there are none."""
    return tuple(taken(parts, name, "U", (size,)).tolist()) if name in parts else ()


def scalar(parts, name, kind):
    """A single number or text."""
    return taken(parts, name, kind, ()).item()


def count(parts, name):
    """A number of something, not negative; None where none was written."""
    return _validation.integer(scalar(parts, name, "i"), name, 0, np.inf) if name in parts else None


def storable(array, name):
    """Raise if an array of a result holds Python's objects, NaN or infinity."""
    if array.dtype.kind == "O":
        raise _validation.complain(TypeError, name, "an array of numbers or texts", f"dtype {array.dtype}")
    if array.ndim > 0 and array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise _validation.complain(ValueError, name, "finite", "NaN or infinity")
