"""An array in memory times a power of two, which is never multiplied out: what is thin is scaled instead.

One half of the power goes before each product and the other after it, so that neither leaves the dtype's range.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curtensor.operands.arithmetic import times_power
from curtensor.operands.contract import Operand
from curtensor.operands.usual import knows_norm as knows_norm


@dataclass(frozen=True, eq=False)
class Scaled:
    """``2^exponent`` times a matrix of some operand."""

    operand: Operand
    matrix: Any
    exponent: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.shape

    @property
    def T(self) -> "Scaled":
        """The transpose."""
        return replace(self, matrix=self.matrix.T)

    def __mul__(self, factor: float) -> "Scaled":
        """The matrix times a power of two."""
        return replace(self, exponent=self.exponent + int(np.frexp(factor)[1]) - 1)


def wrap(A):
    """A itself."""
    return A


def dtype(A):
    """The dtype to compute in."""
    return A.operand.dtype(A.matrix)


def matmat(A, X):
    """``A @ X``."""
    return by_halves(A, A.operand.matmat, X)


def rmatmat(A, Y):
    """``A^H @ Y``."""
    return by_halves(A, A.operand.rmatmat, Y)


def by_halves(A, multiply, X):
    """A product with X, scaled before and after."""
    half = A.exponent // 2
    return times_power(multiply(A.matrix, times_power(X, half)), A.exponent - half)


def sketch_both(A, Y, X):
    """``A^H @ Y``, ``A @ X`` and the squared Frobenius norm."""
    half = A.exponent // 2
    left, right, _ = A.operand.sketch_both(A.matrix, times_power(Y, half), times_power(X, half))
    rest = A.exponent - half
    return times_power(left, rest), times_power(right, rest), A.operand.squared_norm(A.matrix, A.exponent)


def take(A, indices, axis):
    """Rows (axis 0) or columns (axis 1)."""
    return times_power(A.operand.take(A.matrix, indices, axis), A.exponent)


def by_columns(A):
    """Whether panels of A.T are cheaper than those of A."""
    return A.operand.by_columns(A.matrix)


def panels(A):
    """Panels of rows with their slices."""
    for rows, panel in A.operand.panels(A.matrix):
        yield rows, times_power(panel, A.exponent)


def squared_norm(A, exponent=0):
    """``||2^exponent A||_F^2``."""
    return A.operand.squared_norm(A.matrix, A.exponent + exponent)


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    return A.operand.first_nonfinite(A.matrix)


def largest(A):
    """Largest modulus of a real or imaginary part."""
    return float(times_power(A.operand.largest(A.matrix), A.exponent))


def diagonal(A):
    """The diagonal."""
    return times_power(A.operand.diagonal(A.matrix).astype(dtype(A), copy=False), A.exponent)


def take_and_rmatmat(A, indices, Y):
    """Rows of A, and ``A^H @ Y``; in one pass where its operand can do both."""
    half = A.exponent // 2
    taken, product = A.operand.take_and_rmatmat(A.matrix, indices, times_power(Y, half))
    return times_power(taken, A.exponent), times_power(product, A.exponent - half)


def normal_product(A, X):
    """``A^H @ (A @ X)``."""
    return rmatmat(A, matmat(A, X))


def copies_multiples(A):
    """Not so: an exponent changes."""
    return False


def like(A, X, own=False):
    """X in the kind of the matrix."""
    return A.operand.like(A.matrix, X, own)


def images_and_norms(A, Y, X, exponent=0):
    """``A^H @ Y``, ``A @ X``, and of 2^exponent A the squared norms of rows and of columns."""
    half = A.exponent // 2
    thin = times_power(Y, half), times_power(X, half)
    left, right, *norms = A.operand.images_and_norms(A.matrix, *thin, A.exponent + exponent)
    return times_power(left, A.exponent - half), times_power(right, A.exponent - half), *norms
