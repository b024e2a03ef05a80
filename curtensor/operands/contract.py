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

    def images_and_norms(self, A: Any, Y: Any, X: Any, exponent: int = 0) -> tuple[np.ndarray, ...]:
        """``A^H @ Y``, ``A @ X``, and of 2^exponent A the squared norms of rows and of columns; one pass if dear."""


class Tensor(Protocol):
    """A tensor with all that touches its entries; `operands.find_tensor` makes one of what a user has.

    Unlike a matrix it carries its operations, since what a product leaves may be of another kind: dense where it was
    sparse, in memory where it was in a store. What is thin, and what comes back, is NumPy's unless said.
    `tensor_blocks.InBlocks` does most of it for whatever can be had in blocks.
    """

    in_memory: bool  # else each reading is dear, and `in_few_chunks`, `can_be_kept`, `n_chunks` say how dear
    sparse: bool  # whether `columns` and `pieces` are SciPy's sparse matrices, and nothing is to be filled
    fibre_bytes: int  # of fibres to be had at a time
    axes: list[int]  # the modes from the farthest apart in memory to the nearest

    @property
    def X(self) -> Any:
        """The array itself, in the user's kind."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the modes."""

    @property
    def ndim(self) -> int:
        """Number of modes."""

    @property
    def size(self) -> int:
        """Number of places."""

    @property
    def dtype(self) -> np.dtype:
        """NumPy's name of the dtype to compute in: one of four."""

    def __mul__(self, factor: float) -> "Tensor":
        """The tensor times a power of two."""

    def thin(self, M: Any) -> Any:
        """A matrix or vector that the tensor is multiplied by, as an array that goes with it."""

    def mode_product(self, M: Any, mode: int) -> "Tensor":
        """The tensor times a matrix (J, d) of floats in one mode; one pass."""

    def mode_products(self, matrices: dict[int, Any]) -> "Tensor":
        """The tensor times a matrix in each of some modes, of which but the first product passes over it."""

    def forms_gram(self, mode: int) -> bool:
        """Whether a Gram matrix of the mode is not out of proportion."""

    def mode_gram(self, mode: int, exponent: int = 0) -> Any:
        """Gram matrix of a mode of 2^exponent times the tensor, in double precision, beside it; one pass."""

    def pieces(self, mode: int, exponent: int = 0, width: int | None = None) -> Iterator[Any]:
        """Pieces (d, p) of the unfolding of 2^exponent times the tensor, in double precision; one pass."""

    def unfolded(self, mode: int) -> np.ndarray:
        """The unfolding, where it is small."""

    def at(self, indices: Any) -> np.ndarray:
        """Entries at broadcastable index arrays, one for each mode, each along the last axis or along all others."""

    def horizontal(self) -> Iterator[tuple[slice, np.ndarray]]:
        """(numbers of slices of the first mode, these slices) in turn, contiguous; one pass."""

    def residual(self, core: np.ndarray, factors: Any, scale: float = 1) -> tuple[float, float]:
        """Norms of what a Tucker tensor leaves of this one, and of this one, both over a scale; one pass."""

    def projected(self, factors: Any) -> np.ndarray:
        """The tensor times the adjoint of an orthonormal matrix in each mode; one pass."""

    def first_nonfinite(self) -> tuple[int, ...] | None:
        """Index of the first NaN or infinity in reading order, or None."""

    def is_finite(self) -> bool:
        """Whether there is neither."""

    def largest(self) -> float:
        """Largest modulus of a real or imaginary part."""

    def whole(self) -> np.ndarray:
        """All of it, where it is small."""

    def host(self) -> "HostTensor":
        """The tensor in memory, where NumPy and SciPy can compute with it."""

    def floats(self) -> Any:
        """The array in the dtype to compute in, of the framework or NumPy's."""

    def permuted(self, axes: Any, shape: Any) -> Any:
        """The array with its modes in another order, then in another shape, in its own kind and dtype."""

    def as_given(self, product: "Tensor") -> Any:
        """What was made of this tensor by products, as an array of the user's kind."""

    def like(self, array: np.ndarray) -> Any:
        """An array as the user expects what is thin: of the framework, on its device; else NumPy's."""


class HostTensor(Tensor, Protocol):
    """A tensor that NumPy, or SciPy's sparse matrices, compute with."""

    def columns(self, mode: int) -> Iterator[Any]:
        """Pieces of the unfolding without its empty columns, in reading order whatever the order in memory."""

    def norm(self) -> float:
        """Frobenius norm."""


class Readable(Operand, Protocol):
    """What can be read in blocks of rows, so that another operand reads it as it reads stores."""

    def rows(self, A: Any, start: int, stop: int) -> np.ndarray:
        """Rows from one number to another."""


class Block(Operand, Protocol):
    """What can be part of a larger matrix: a block of rows."""

    def add_sketch(self, A: Any, Y: Any, X: Any, left: np.ndarray) -> tuple[np.ndarray, float]:
        """Add ``Y^T @ A`` to left, and return ``(A @ X)^T`` and ``||A||_F^2``, for real Y and X; one pass."""
