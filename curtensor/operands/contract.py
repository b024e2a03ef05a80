"""What an operand must have: the module, or class, that does all which touches a large matrix of one kind.

A is as `wrap` gave it. Thin matrices are NumPy arrays, test matrices dense or sparse, and what comes back is NumPy
unless said. There are no optional operations: what an operand has no better way for it writes in one line, or imports
from `usual`.

tests/test_conformance.py puts every operand through all of this; a new one is a line in its table of makers.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np


class Matrix(Protocol):
    """What A itself must offer once it is wrapped."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def T(self) -> "Matrix":
        """The transpose, of the same operand; never a copy of large data."""

    def __mul__(self, factor: float) -> "Matrix":
        """A times a power of two; not asked for where `copies_multiples` says that it is a copy of large data."""


class Products(Protocol):
    """What has products alone, which is enough for a singular value decomposition."""

    def wrap(self, A: Any) -> Any:
        """A in its own kind, checked for dtype and shape; never a copy of large data."""

    def dtype(self, A: Any) -> np.dtype:
        """The dtype to compute in: one of four."""

    def matmat(self, A: Any, X: Any) -> np.ndarray:
        """``A @ X``; one pass over A."""

    def rmatmat(self, A: Any, Y: Any) -> np.ndarray:
        """``A^H @ Y``; one pass over A."""

    def sketch_both(self, A: Any, Y: Any, X: Any) -> tuple[np.ndarray, np.ndarray, float]:
        """``A^H @ Y``, ``A @ X`` and ``||A||_F^2``, for real Y and X, either of which may have no columns; one pass."""

    def first_nonfinite(self, A: Any) -> tuple[int, int] | str | None:
        """Index of the first NaN or infinity in reading order, or None."""

    def knows_norm(self, A: Any) -> bool:
        """Whether the norm of `sketch_both` is that of A, not one that random vectors show."""

    def copies_multiples(self, A: Any) -> bool:
        """Whether ``A * 2.0`` is a copy of large data, so that `scaled.Scaled` must stand for it."""

    def largest(self, A: Any) -> float:
        """Largest modulus of a real or imaginary part."""

    def like(self, A: Any, X: np.ndarray, own: bool = False) -> Any:
        """X in the kind of A, where a user expects that: of its framework and on its device; else X itself.

        Own slices of A, rows or columns, are given in A's own dtype, also where that is half precision.
        """


class Operand(Products, Protocol):
    """What also has rows, columns and entries: enough for all functions of matrices."""

    def take(self, A: Any, indices: Any, axis: int) -> Any:
        """Rows (axis 0) or columns (axis 1), dense or, from a sparse A, sparse."""

    def panels(self, A: Any) -> Iterator[tuple[slice, np.ndarray]]:
        """(slice of rows, these rows, dense) in turn; one pass over A."""

    def by_columns(self, A: Any) -> bool:
        """Whether panels of A.T are cheaper than those of A."""

    def squared_norm(self, A: Any, exponent: int = 0) -> float:
        """``||2^exponent A||_F^2``, which may be a float where that of A is none; one pass over A."""

    def diagonal(self, A: Any) -> np.ndarray:
        """The diagonal."""

    def take_and_rmatmat(self, A: Any, indices: Any, Y: Any) -> tuple[Any, np.ndarray]:
        """Rows of A, and ``A^H @ Y``; one pass where one can do both."""

    def normal_product(self, A: Any, X: Any) -> np.ndarray:
        """``A^H @ (A @ X)``; one pass where one can do both."""


class Readable(Operand, Protocol):
    """What can be read in blocks of rows, so that another operand reads it as it reads stores."""

    def rows(self, A: Any, start: int, stop: int) -> np.ndarray:
        """Rows from one number to another."""


class Block(Operand, Protocol):
    """What can be part of a larger matrix: a block of rows."""

    def add_sketch(self, A: Any, Y: Any, X: Any, left: np.ndarray) -> tuple[np.ndarray, float]:
        """Add ``Y^T @ A`` to left, and return ``(A @ X)^T`` and ``||A||_F^2``, for real Y and X; one pass."""
