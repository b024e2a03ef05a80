"""An array in memory times a power of two, which is never multiplied out: what is thin is scaled instead.

One half of the power goes before each product and the other after it, so that neither leaves the dtype's range.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from curtensor import operands
from curtensor.operands import times_power


@dataclass(frozen=True, eq=False)
class Scaled:
    """``2^exponent`` times a matrix of an operand that has `squared_norm`."""

    operand: ModuleType
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

    def diagonal(self) -> Any:
        """The diagonal."""
        read = getattr(self.operand, "diagonal", lambda matrix: matrix.diagonal())
        return times_power(read(self.matrix).astype(dtype(self), copy=False), self.exponent)


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
    return operands.by_columns(A.operand, A.matrix)


def panels(A):
    """Panels of rows with their slices."""
    for rows, panel in A.operand.panels(A.matrix):
        yield rows, times_power(panel, A.exponent)


def first_nonfinite(A):
    """Index of the first NaN or infinity in reading order, or None."""
    return A.operand.first_nonfinite(A.matrix)
