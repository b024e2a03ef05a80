"""What is read of a file: a matrix or tensor with its names, and what was done to it."""

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class NamedMatrix:
    """A matrix or tensor, with the names of its slices: unpacks to ``A, row_names, col_names``.

    Attributes
    ----------
    A : array, sparse matrix, or array in a store
        The numbers.
    names : tuple of (ndarray of str or None)
        For each mode the names of its slices, None where there are none.
    source : str
        What the file is called.
    notes : tuple of str
        What was done besides reading the numbers: where names came from, what was left out, filled or scaled.
    table : bool
        Whether the columns are those of a table, of which each may have a unit of its own.
    """

    A: Any
    names: tuple[np.ndarray | None, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()
    table: bool = False

    def __post_init__(self):
        """Name each mode, if by None."""
        if not self.names:
            object.__setattr__(self, "names", (None,) * max(len(getattr(self.A, "shape", ())), 2))

    def __iter__(self) -> Iterator[Any]:
        """A, and the names along each mode."""
        return iter((self.A, *self.names))

    @property
    def row_names(self) -> np.ndarray | None:
        """Names of the rows."""
        return self.names[0]

    @property
    def col_names(self) -> np.ndarray | None:
        """Names of the columns."""
        return self.names[1]

    def __str__(self) -> str:
        """One line: the file, how large it is, and the notes."""
        return f"{self.source}: {'; '.join([in_words(self.A), *self.notes])}"


class Refused(Exception):
    """A file was read, and holds no matrix as it was asked for: what it, or `name`, must be, what it is, a remedy."""

    def __init__(self, what, got, remedy="", name=None):
        super().__init__(what, got if not remedy else f"{got}; try {remedy}")
        self.name = name


def in_words(A):
    """Shape, dtype and number of stored entries if sparse, in words."""
    shape, dtype = getattr(A, "shape", None), getattr(A, "dtype", None)
    count = getattr(A, "nnz", None)
    if shape is None:  # three arrays of a sparse matrix in a store
        shape, dtype, count = A.attrs.get("shape", "??"), A["data"].dtype, A["data"].shape[0]
    sparse = "" if count is None else f", sparse with {count} entries"
    return f"{lengths_in_words(shape)}, {dtype}{sparse}"


def lengths_in_words(shape):
    """Rows and columns, or the lengths of a tensor's modes."""
    return f"{shape[0]} rows x {shape[1]} columns" if len(shape) == 2 else " x ".join(map(str, shape))


def quoted(names, most=6):
    """Some names, in quotation marks, the last of many left to a number."""
    shown = [repr(str(name)) for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def package(name, what, extra="files"):
    """A package that reads a kind of file, or the line to type which brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{what} needs {name}: pip install 'curtensor[{extra}]'") from error


def as_texts(values):
    """Names of any kind as an array of texts."""
    values = values.to_flat_index().astype(str) if hasattr(values, "to_flat_index") else values
    return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in values], dtype=str)
