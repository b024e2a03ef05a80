"""The form of results: what all of them have, how they are named, multiplied, written to files and read again."""

import abc
import functools
import math
import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from curtensor import _validation, archive, labels, plots
from curtensor.operands import find_tensor, kind_of, of_framework, on_host, plain, tables
from curtensor.operands.arithmetic import dense


@dataclass(frozen=True, eq=False, repr=False)
class Result(abc.ABC):
    """An approximation: arrays from which it is made, its error, and what its slices are called.

    Attributes
    ----------
    names : tuple
        For each mode the names of the chosen slices, or of all where none were chosen, as they were given: an index of
        pandas for a DataFrame or a DataArray, an array of str for the columns of polars; None where there are none.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    names: tuple[Any, ...] = field(default=(), kw_only=True)
    dims: tuple[str, ...] = field(default=(), kw_only=True)

    MAIN: ClassVar[str]  # the part whose dtype and kind are those of the approximation
    OWN: ClassVar[tuple[str, ...]] = ()  # the parts that are slices of the data themselves

    __array_ufunc__ = None  # NumPy's arrays leave operators to results

    def __post_init__(self) -> None:
        """One entry of `names` for each mode."""
        object.__setattr__(self, "names", tuple(self.names) or (None,) * len(self.shape))

    @abc.abstractmethod
    def __iter__(self) -> Iterator:
        """What it unpacks to."""

    def __repr__(self) -> str:
        """The parts in one line, arrays by their shapes."""
        parts = (f"{name}={brief(part)}" for name, part in vars(self).items() if not empty(part))
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """The names of what was chosen, and the shares explained, for a notebook; never the arrays."""
        error = vars(self).get("error_estimate", np.nan)
        known = np.isfinite(error)
        about = f": {100 * (1 - error**2):.1f} % of the squared norm explained" if known else ""
        caption = f"{type(self).__name__} of {' x '.join(map(str, self.shape))}{about}"
        names, shares = self._so_far() if known else ((), ())
        rows = [(i + 1, *pair) for i, pair in enumerate(zip(names, map(float, shares), strict=True))]
        whole = len(rows) <= plots.LISTED
        rows = rows[: plots.LISTED]
        text = plots.html_table(caption, ("", "", "explained so far"), rows) if rows else f"<p>{escape(caption)}</p>"
        for mode, (indices, names) in enumerate(zip(self.chosen, self.names, strict=True)):
            if indices is not None and not (rows and whole and mode == getattr(self, "axis", 1)):
                sides = ("rows", "columns")[mode] if self.ndim == 2 else f"slices of mode {mode}"
                text += f"<p>{len(indices)} {sides}: {escape(plots.listed(indices, names))}</p>"
        return text

    def _so_far(self) -> tuple[Any, Any]:
        """Names of terms, and the shares that the first 1, 2, ... explain; none where terms have no order."""
        return (), ()

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the approximation."""

    @property
    def ndim(self) -> int:
        """Number of modes: 2 for a matrix."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries of the approximation."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the approximation."""
        return getattr(self, self.MAIN).dtype

    @property
    def n_stored(self) -> int:
        """Numbers of which the approximation is made, of sparse arrays the stored ones; indices are not counted."""
        return sum(entries_in(array) for part in held(self).values() for array in arrays_in(part))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held, names apart."""
        return sum(bytes_of(array) for part in held(self).values() for array in arrays_in(part))

    @property
    def chosen(self) -> tuple[np.ndarray | None, ...]:
        """The indices of the chosen slices of each mode, None where none were chosen."""
        return (None,) * self.ndim

    @abc.abstractmethod
    def to_array(self) -> Any:
        """The approximation as a dense array."""

    def save(self, path: str | os.PathLike) -> None:
        """Write to an npz file, whole or not at all; `load` of the same class reads it, without pickle.

        Names stay what they are; a kind of them that cannot be written without pickle is refused.
        """
        names = [None if own is None else labels.as_text(own, f"names[{n}]") for n, own in enumerate(self.names)]
        dims = np.array(self.dims, dtype=str) if self.dims else None
        archive.write(path, type(self).__name__, held(result_on_host(self)) | {"names": names, "dims": dims})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote, as NumPy and SciPy arrays; all is checked."""
        with archive.written_by(cls.__name__, path) as members:
            result = cls(**cls._checked(members))
            sizes = [d if own is None else len(own) for d, own in zip(result.shape, result.chosen, strict=True)]
            names = tuple(archive.saved_names(members, f"names.{n}", size) for n, size in enumerate(sizes))
            return replace(result, names=names, dims=archive.saved_dims(members, "dims", result.ndim))

    @staticmethod
    @abc.abstractmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """The parts of a result, but for names, taken out of what a file holds."""


class Named(Result):
    """A result whose first two modes are rows and columns."""

    @property
    def row_names(self) -> Any:
        """Names of the chosen rows, or of all where none were chosen; None where they have none."""
        return self.names[0]

    @property
    def col_names(self) -> Any:
        """Names of the chosen columns, or of all where none were chosen; None where they have none."""
        return self.names[1]


class MatrixResult(Named):
    """An approximation of a matrix: a product of thin matrices, never multiplied out."""

    @property
    @abc.abstractmethod
    def product(self) -> tuple[Any, ...]:
        """Matrices whose product the approximation is, each product taken from the right."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the approximation."""
        first, *_, last = self.product
        return first.shape[0], last.shape[1]

    def to_array(self) -> Any:
        """The approximation as a dense array (m, n)."""
        *others, last = self.product
        return dense(functools.reduce(lambda x, part: part @ x, others[::-1], last))

    def as_linear_operator(self) -> Any:
        """The approximation as a `scipy.sparse.linalg.LinearOperator`."""
        return product_operator(*self.product)

    def __matmul__(self, x: Any) -> Any:
        """The approximation times x (n,) or (n, p)."""
        if isinstance(x, Result):
            return NotImplemented
        x = factor_of(self, x, 0)
        return dense(functools.reduce(lambda x, part: part @ x, self.product[::-1], x))

    def __rmatmul__(self, x: Any) -> Any:
        """The product of x (m,) or (p, m) and the approximation."""
        x = factor_of(self, x, -1)
        return dense(functools.reduce(operator.matmul, self.product, x))


def factor_of(result, x, axis):
    """What a matrix result is multiplied by along an axis of x, as an array of the result's kind."""
    length = result.shape[1 + axis]
    x = beside(getattr(result, result.MAIN), x)
    if x.ndim not in (1, 2) or x.shape[axis] != length:
        shapes = f"({length},) or ({length}, p)" if axis == 0 else f"({length},) or (p, {length})"
        raise _validation.complain(ValueError, "x", f"of shape {shapes}", f"shape {tuple(x.shape)}")
    return x


def beside(X, x):
    """What a result is multiplied by, as an array of the kind of the result's part X."""
    if of_framework(x):
        x = kind_of(x).array_of_numbers(x, "x")
        if of_framework(X):
            return x
    elif not isinstance(x, np.ndarray):
        x = plain(x, "x")
    if sparse.issparse(x):
        x = dense(x) if of_framework(X) else x
    elif type(x) is not np.ndarray:
        x = find_tensor(x, "x").host().X
    if x.dtype.kind not in "biufc":
        raise _validation.complain(TypeError, "x", "an array of numbers", f"dtype {x.dtype}")
    return kind_of(X).like(X, x.astype(kind_of(X).dtype(X), casting="same_kind")) if of_framework(X) else x


def product_operator(*factors):
    """A product of matrices as a `scipy.sparse.linalg.LinearOperator`, never multiplied out."""
    from scipy.sparse.linalg import LinearOperator

    factors = tuple(map(on_host, factors))

    def times(x):
        return functools.reduce(lambda x, part: part @ x, factors[::-1], x)

    def adjoint_times(y):
        return functools.reduce(lambda y, part: part.conj().T @ y, factors, y)

    shape = factors[0].shape[0], factors[-1].shape[1]
    operator = LinearOperator(
        dtype=factors[-1].dtype, shape=shape, matvec=times, matmat=times, rmatvec=adjoint_times, rmatmat=adjoint_times
    )
    operator.factors = factors
    return operator


def held(result):
    """All that a result holds, but for names, by name."""
    return {name: part for name, part in vars(result).items() if name not in ("names", "dims")}


def on_each(function, part):
    """A part of a result with a function of each of its arrays in their places."""
    if isinstance(part, tuple):
        return tuple(on_each(function, inner) for inner in part)
    return function(part) if getattr(part, "shape", ()) else part


def result_on_host(result):
    """A result with NumPy arrays in place of a framework's."""
    return replace(result, **{name: on_each(on_host, part) for name, part in held(result).items()})


def result_like(operand, A, result):
    """A result with its arrays, but for indices, in the kind of A; its own slices of A in A's own dtype."""

    def like(name, part):
        own = name in result.OWN
        return on_each(lambda array: operand.like(A, array, own) if array.dtype.kind in "fc" else array, part)

    return replace(result, **{name: like(name, part) for name, part in held(result).items()})


def in_kind(result, X):
    """A result with its arrays of floats in the kind of a tensor X."""

    def like(array):
        return X.like(array) if array.dtype.kind in "fc" else array

    return replace(result, **{name: on_each(like, part) for name, part in held(result).items()})


def named(result, X):
    """A result with the names that X, in which it was chosen or which it approximates, has for its slices."""
    names = map(names_at, tables.names(X, result.ndim), result.chosen)
    return replace(result, names=tuple(names), dims=tables.dims(X))


def names_at(names, indices):
    """The names of some slices, or of all; None where there are none."""
    return names if names is None or indices is None else names[indices]


def widened(X, other):
    """Slices in half precision in the dtype that was computed in."""
    return kind_of(X).computable(X, other) if of_framework(X) else X


def arrays_in(part):
    """The arrays, dense or sparse, of which a part of a result consists."""
    if isinstance(part, tuple):
        return [array for inner in part for array in arrays_in(inner)]
    return [part] if getattr(part, "shape", ()) else []


def bytes_of(array):
    """Bytes of an array, dense or sparse, of NumPy or of a framework."""
    if sparse.issparse(array):
        return array.data.nbytes + array.indices.nbytes + array.indptr.nbytes
    return array.nbytes if hasattr(array, "nbytes") else on_host(array).nbytes


def entries_in(array):
    """Entries of an array, of a sparse one the stored ones; none of indices."""
    if getattr(array.dtype, "kind", "f") not in "fc":
        return 0
    return array.nnz if sparse.issparse(array) else math.prod(array.shape)


def empty(part):
    """Whether a part is nothing, or several times nothing."""
    return part is None or (isinstance(part, tuple) and all(inner is None for inner in part))


def brief(part):
    """An array's shape, in lists and tuples too; all else as it is."""
    if isinstance(part, tuple):
        return f"({', '.join(map(brief, part))})"
    return f"<{' x '.join(map(str, part.shape))}>" if hasattr(part, "shape") and part.shape else repr(part)
