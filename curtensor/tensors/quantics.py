"""Functions of reals as tensors of bits, for grids of 2^30 points an axis (quantised tensor trains)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curtensor import _validation

MOST_BITS = 52  # of an axis, which float64 tells apart


@dataclass(frozen=True, eq=False)
class QuanticsGrid:
    """A grid of 2^bits cells along each axis of a box, its cells numbered by their bits.

    ``tt_cross(grid.function(f), shape=grid.shape, ...)`` is a train of a function of reals, at the middles of cells;
    ``train.at(grid.indices(x, y))`` are its values, and ``train.mean() * grid.volume`` is its integral by the midpoint
    rule (Khoromskij 2011).

    Attributes
    ----------
    lower, upper : tuple of float
        The ends of each axis.
    bits : int
        Of a cell's number along an axis, 1 to 52.
    shape : tuple of int
        Two for each bit of each axis: the shape of the tensor.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> grid = ct.QuanticsGrid((0, 0), (1, 2), 20)
    >>> train = ct.tt_cross(grid.function(lambda x, y: np.exp(-x * y)), shape=grid.shape, rtol=1e-8, rng=0)
    >>> bool(abs(train.at(grid.indices(0.3, 1.7)) - np.exp(-0.3 * 1.7)) < 1e-5)
    True
    """

    lower: Any
    upper: Any
    bits: int
    shape: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the ends and the bits."""
        lower, upper = end_points(self.lower, "lower"), end_points(self.upper, "upper")
        if len(lower) != len(upper) or not lower:
            raise _validation.complain(ValueError, "upper", f"of length {len(lower)}, one for each axis", len(upper))
        for low, high in zip(lower, upper, strict=True):
            if not low < high:
                raise _validation.complain(ValueError, "upper", f"above lower, {low}", high)
        bits = _validation.integer(self.bits, "bits", 1, MOST_BITS)
        parts = {"lower": lower, "upper": upper, "bits": bits, "shape": (2,) * (bits * len(lower))}
        for name, part in parts.items():
            object.__setattr__(self, name, part)

    @property
    def volume(self) -> float:
        """Volume of the box."""
        return float(np.prod(np.subtract(self.upper, self.lower)))

    def points(self, indices: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Coordinates of the middles of cells, an array for each axis, by arrays of bits, one for each mode.

        The first mode holds the highest bit of the first axis, the next that of the second axis, and so on.
        """
        axes = len(self.lower)
        found = []
        for axis in range(axes):
            cell = 0.0
            for index in indices[axis::axes]:
                cell = 2 * cell + index
            width = (self.upper[axis] - self.lower[axis]) / 2**self.bits
            found.append(self.lower[axis] + (cell + 0.5) * width)
        return tuple(found)

    def indices(self, *coordinates: Any) -> list[np.ndarray]:
        """Arrays of bits, one for each mode, of the cells which hold some points, given by an array for each axis."""
        if len(coordinates) != len(self.lower):
            raise _validation.complain(
                ValueError, "coordinates", f"one for each of {len(self.lower)} axes", len(coordinates)
            )
        cells = []
        for x, low, high in zip(coordinates, self.lower, self.upper, strict=True):
            x = np.asarray(x, dtype=float)
            if not ((low <= x) & (x <= high)).all():
                raise _validation.complain(ValueError, "coordinates", f"from {low} to {high}", _validation.describe(x))
            cell = np.floor((x - low) / (high - low) * 2**self.bits).astype(np.int64)
            cells.append(np.minimum(cell, 2**self.bits - 1))
        return [cell >> bit & 1 for bit in range(self.bits - 1, -1, -1) for cell in cells]

    def function(self, f: Callable) -> Callable:
        """The function of bits which a function of reals, of an array for each axis, is on the grid."""
        return lambda *indices: f(*self.points(indices))


def end_points(values, name):
    """Finite floats, one for each axis; a number is one."""
    values = values if np.iterable(values) else (values,)
    found = tuple(float(value) for value in values)
    if not np.isfinite(found).all():
        raise _validation.complain(ValueError, name, "finite", _validation.describe(values))
    return found
