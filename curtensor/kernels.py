"""Positive semidefinite matrices by some of their columns: pivoted Cholesky, whose error's trace is known exactly."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg, sparse

from curtensor import _validation, archive, operands
from curtensor.cholesky import KERNEL_METHODS, PANEL, MatrixSource, Pivoting, pivoted_cholesky, row_panels, square
from curtensor.operands import tables
from curtensor.operands.arithmetic import dense
from curtensor.operands.dense_tensor import plain_array, type_name
from curtensor.operands.entries import indexed_function, only_for_functions
from curtensor.results import MatrixResult, beside

DIAGONAL = 32  # points whose kernel values are had at once for the diagonal of a kernel that does not give it


@dataclass(frozen=True, eq=False, repr=False)
class KernelCUR(MatrixResult):
    """A positive semidefinite matrix as ``F F^H`` by columns that are its rows too; unpacks to ``indices, F``.

    ``F F^H = C W^-1 C^H`` with C = A[:, indices] and W = A[indices, indices]: the Nystroem approximation, and the CUR
    decomposition with I = J and the intersection core.

    Attributes
    ----------
    indices : ndarray of int, shape (k,)
        The pivots: which columns and rows, distinct, in the order of choice.
    F : ndarray, shape (n, k)
        The factor; ``F[indices]`` is lower triangular, and the first j columns are the factor of the first j pivots.
    trace_error : float
        ``trace(A - F F^H) / trace(A)``, known exactly, since A - F F^H is positive semidefinite if A is.
    n_entries_read : int
        Entries of A read, or kernel values asked for.
    names : tuple of (pandas Index or ndarray of str or None)
        Of the chosen rows and columns, None where A has none.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    indices: np.ndarray
    F: Any
    trace_error: float
    n_entries_read: int

    MAIN = "F"

    def __iter__(self) -> Iterator:
        """The indices and the factor."""
        return iter((self.indices, self.F))

    @property
    def rank(self) -> int:
        """Number of pivots."""
        return len(self.indices)

    @property
    def chosen(self) -> tuple[np.ndarray, np.ndarray]:
        """The pivots, twice."""
        return self.indices, self.indices

    @property
    def product(self) -> tuple[Any, Any]:
        """F and its adjoint."""
        return self.F, operands.conjugate_transposed(self.F)

    @property
    def error_estimate(self) -> float:
        """A bound of ``||A - F F^H||_F / ||A||_F``, from the traces and ``||F F^H||_F <= ||A||_F``; in O(n k^2)."""
        F = operands.on_host(self.F)
        scale = np.abs(F).max(initial=0)
        if scale == 0:
            return float(min(self.trace_error, 1))
        gram = (F / scale).conj().T @ (F / scale)
        trace = float(np.trace(gram).real) / (1 - self.trace_error)
        return min(float(self.trace_error * trace / np.linalg.norm(gram)), 1.0)

    def nystroem(self, values: Any = None) -> Any:
        """Nystroem features, whose inner products are the approximation's entries.

        Parameters
        ----------
        values : array_like, shape (p, k), optional
            The kernel of other points with the chosen ones: ``kernel(Y, points[indices])``. By default the features
            are those of the points themselves.

        Returns
        -------
        features : ndarray, shape (p, k) or (n, k)
            Those of the points themselves are F. For others ``values @ L^-H`` with the triangle L = F[indices].

        Examples
        --------
        >>> import numpy as np, curtensor as ct
        >>> def kernel(X, Y):
        ...     return np.exp(-((X - Y.T) ** 2))
        >>> points = np.linspace(0, 3, 200)[:, None]
        >>> result = ct.kernel_cur(points, 10, kernel=kernel, rng=0)
        >>> new = np.array([[0.5], [1.7]])
        >>> features = result.nystroem(kernel(new, points[result.indices]))
        >>> bool(np.allclose(features @ features.T, kernel(new, new), atol=1e-4))
        True
        """
        if values is None:
            return self.F
        values = beside(self.F, values)
        if values.ndim != 2 or values.shape[1] != self.rank:
            what = f"of shape (p, {self.rank}), one column for each pivot"
            raise _validation.complain(ValueError, "values", what, f"shape {tuple(values.shape)}")
        F = operands.on_host(self.F)
        features = nystroem_features(F[self.indices], dense(operands.on_host(values)))
        return operands.kind_of(self.F).like(self.F, features)

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """The pivots, the factor and what is known of it in a file."""
        F = archive.numbers(members, "F", (None, None))
        n, k = F.shape
        _validation.matrix_shape((n, n))
        return {
            "indices": archive.indices(members, "indices", k, n),
            "F": F,
            "trace_error": archive.scalar(members, "trace_error", "f"),
            "n_entries_read": archive.scalar(members, "n_entries_read", "i"),
        }


def nystroem_features(triangle, values):
    """``values @ L^-H`` for a lower triangular L."""
    kind = np.result_type(triangle, values)
    features = linalg.solve_triangular(triangle.conj().astype(kind, copy=False), values.T, lower=True)
    return features.T.astype(triangle.dtype, copy=False)


def kernel_cur(
    A: Any,
    /,
    rank: int | None = None,
    *,
    trace_rtol: float | None = None,
    kernel: Callable | None = None,
    method: str | Callable = "rpcholesky",
    shape: _validation.Integers | None = None,
    dtype: Any = None,
    batch: int | None = None,
    vectorized: bool = True,
    rng: _validation.RandomSource = None,
    callback: Callable[[float], object] | None = None,
) -> KernelCUR:
    """Approximate a positive semidefinite matrix, such as a kernel matrix, by some of its columns.

    A is close to ``F F^H = C W^-1 C^H`` with C = A[:, I] and W = A[I, I], where I are pivots of a Cholesky
    decomposition: the columns I and the diagonal are read, and a few entries to choose by, nothing else.

    Parameters
    ----------
    A : array_like, sparse matrix, DataFrame, dask array, `row_blocks`, callable or object, shape (n, n)
        A positive semidefinite matrix, real or complex. Or, with `kernel`, the n points: an array (n, d), a DataFrame
        or a sequence of anything. Or a function of two integer arrays, which broadcast to a common shape, that returns
        the entries there in that shape; with `shape`. Or an object with `shape`, ``diagonal()`` (n,) and
        ``columns(indices)`` (n, p).
    rank : int, optional
        Number of pivots, 1 to n. Exactly one of `rank` and `trace_rtol` is given.
    trace_rtol : float, optional
        Largest ``trace(A - F F^H) / trace(A)`` wanted, 64 times the dtype's epsilon to below 1: held exactly, or an
        error, with the fewest of the pivots chosen. It bounds the error in every norm: ``||A - F F^H||`` is at most
        trace_rtol times the trace.
    kernel : callable, optional
        ``kernel(X, Y)`` to the matrix of all values between two sets of the points. With a method ``diag(X)``, as
        kernels of scikit-learn's Gaussian processes have, the diagonal is asked for by that.
    method : str or callable, default "rpcholesky"
        "rpcholesky" draws pivots by the diagonal of what is left, in blocks of which some are rejected, so that they
        are distributed as those of "plain", one by one; "greedy" takes the largest, "uniform" draws without a look.
        Or a function ``(remainder, size, rng)`` to at most `size` distinct indices.
    shape : sequence of int, optional
        ``(n, n)`` where A is a function, and only then.
    dtype : dtype, optional
        Of a function's values; by default that of its first.
    batch : int, optional
        Entries that a function, or values that a kernel, is asked for in one call at most, by default 262144.
    vectorized : bool, default True
        Whether a function takes index arrays; else it is called with two integers for each entry.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.
    callback : callable, optional
        Called with the fraction done, a float from 0 to 1.

    Returns
    -------
    result : KernelCUR
        Unpacks to ``indices, F``. Fewer pivots than `rank` where the numerical rank of A is lower.

    Raises
    ------
    TypeError
        If A, or another argument, is of the wrong kind.
    ValueError
        If A is not square, or its diagonal, pivots or columns show that it is not positive semidefinite; if something
        read is not finite, or of another shape; if an entry read twice is not the same; if not exactly one of `rank`
        and `trace_rtol` is given; if `trace_rtol` cannot be reached. What a function raises comes through.

    Notes
    -----
    Reads n k entries, n of the diagonal (32 n of a kernel without `diag`) and 1e4 or so for each block of proposals; of
    an array all columns proposed. Passes over A: none. O(n k^2) operations, by matrix products in blocks; memory: F and
    2 MiB; with `trace_rtol` up to 1.5 times as much while F grows.

    In the mean, r / eps + r log(1 / (eps eta)) pivots bring the trace left to 1 + eps times that of the best
    approximation of rank r, whose share of the trace is eta ([1]_, Theorem 5.1); greedy and uniform pivots have no such
    bound. Blocks with rejection leave this distribution as it is ([2]_).

    References
    ----------
    .. [1] Y. Chen, E. N. Epperly, J. A. Tropp, R. J. Webber, "Randomly pivoted Cholesky: practical approximation of a
       kernel matrix with few entry evaluations", 2022, arXiv:2207.06503.
    .. [2] E. N. Epperly, J. A. Tropp, R. J. Webber, "Embrace rejection: kernel matrix approximation by accelerated
       randomly pivoted Cholesky", 2024, arXiv:2410.03969.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> t = np.linspace(0, 1, 5000)
    >>> result = ct.kernel_cur(lambda i, j: np.exp(-abs(t[i] - t[j])), trace_rtol=0.1, shape=(5000, 5000), rng=0)
    >>> indices, F = result
    >>> result.trace_error <= 0.1, result.rank < 20
    (True, True)
    >>> points = np.random.default_rng(0).standard_normal((2000, 3))
    >>> from scipy.spatial.distance import cdist
    >>> result = ct.kernel_cur(points, 100, kernel=lambda X, Y: np.exp(-cdist(X, Y, "sqeuclidean") / 8), rng=0)
    >>> result.F.shape, result.trace_error < 1e-2
    ((2000, 100), True)
    """
    given, source = A, kernel_source(A, kernel, shape, dtype, batch, vectorized)
    rank, trace_rtol = rank_or_trace(rank, trace_rtol, source)
    pivoting = _validation.choose(KERNEL_METHODS, method, "method", Pivoting)
    rng = _validation.generator(rng)
    callback = _validation.callback_function(callback)

    pivots, F, error = pivoted_cholesky(source, rank, trace_rtol, pivoting, rng, callback)
    result = KernelCUR(pivots, F.T, error, source.n_read)
    callback(1.0)
    names, _ = (None, None) if callable(given) else tables.names(given, 2)
    own = None if names is None else names[result.indices]
    return replace(result, F=source.like(result.F), names=(own, own))


class ObjectSource(MatrixSource):
    """An object that gives its diagonal and columns."""

    def __init__(self, K):
        self.K = K
        self.n, self.n_read = square(K.shape), 0
        first = plain_array(operands.on_host(K.columns(np.zeros(1, dtype=np.intp))), "A.columns(indices)")
        self.dtype = _validation.array_dtype(first.dtype, "A.columns(indices)")

    def diagonal(self):
        """The diagonal."""
        self.n_read += self.n
        return as_given(self.K.diagonal(), (self.n,), self.dtype, "A.diagonal()")

    def among(self, indices):
        """Entries between some indices; their columns are kept until they are asked for."""
        columns = self.K.columns(indices.copy())
        self._indices = indices
        self._columns = as_given(columns, (self.n, len(indices)), self.dtype, "A.columns(indices)")
        self.n_read += self._columns.size
        return self._columns[indices]

    def like(self, F):
        """The factor itself."""
        return F


class EntriesSource:
    """A function of two index arrays."""

    def __init__(self, found):
        self.entries, self.n, self.dtype, self.name = found, square(found.shape), found.dtype, "A"

    @property
    def n_read(self):
        """Entries read so far."""
        return self.entries.n_read

    def diagonal(self):
        """The diagonal."""
        return self.entries.at(np.arange(self.n), np.arange(self.n))

    def among(self, indices):
        """Entries between some indices, one of which is asked for again."""
        inner = self.entries.at(indices[:, None], indices)
        slack = np.finfo(self.dtype).eps ** 0.5 * abs(inner[0, 0])
        self.entries.check_again(inner[0, 0], slack, int(indices[0]), int(indices[0]))
        return inner

    def columns(self, indices):
        """(slice of rows, these rows of some columns, a row for each column) in turn."""
        for rows in row_panels(self.n, len(indices), min(PANEL, self.entries.batch)):
            yield rows, self.entries.at(np.arange(rows.start, rows.stop), indices[:, None])

    def like(self, F):
        """The factor itself."""
        return F


class PointsSource:
    """A function of two sets of points, and the points."""

    name = "kernel(X, Y)"

    def __init__(self, points, kernel, batch):
        self.kernel, self.batch, self.n_read = kernel, batch, 0
        self.points, self.n = points, points.shape[0]
        self.dtype = _validation.array_dtype(self._values(slice(0, 1), slice(0, 1)).dtype, self.name)

    def _values(self, rows, columns):
        """Values of the kernel between some points and others, checked."""
        X, Y = self.points[rows], self.points[columns]
        values = plain_array(operands.on_host(self.kernel(X, Y)), self.name)
        kind = _validation.array_dtype(values.dtype, self.name)
        if values.shape != (X.shape[0], Y.shape[0]):
            what = f"of shape {(X.shape[0], Y.shape[0])} for so many points"
            raise _validation.complain(ValueError, self.name, what, f"shape {values.shape}")
        kind = getattr(self, "dtype", kind)
        if not np.can_cast(values.dtype, kind, "same_kind" if values.dtype.kind in "fc" else "safe"):
            raise _validation.complain(TypeError, self.name, f"of dtype {kind} in every call", f"dtype {values.dtype}")
        if not np.isfinite(values).all():
            i, j = np.argwhere(~np.isfinite(values))[0]
            pair = int(np.arange(self.n)[rows][i]), int(np.arange(self.n)[columns][j])
            raise _validation.complain(ValueError, self.name, "finite", f"{values[i, j]} for points {pair}")
        self.n_read += values.size
        return values.astype(kind, copy=False)

    def diagonal(self):
        """The kernel of each point with itself."""
        if hasattr(self.kernel, "diag"):
            self.n_read += self.n
            return as_given(self.kernel.diag(self.points), (self.n,), self.dtype, "kernel.diag(X)")
        width = max(1, min(DIAGONAL, math.isqrt(self.batch)))
        parts = (slice(start, min(start + width, self.n)) for start in range(0, self.n, width))
        return np.concatenate([self._values(part, part).diagonal() for part in parts])

    def among(self, indices):
        """Values between some points."""
        return np.concatenate([self._values(part, indices) for part in parted(indices, self.batch)])

    def columns(self, indices):
        """(slice of points, their values with some others, a row for each of the others) in turn."""
        for rows in row_panels(self.n, len(indices), min(PANEL, self.batch)):
            yield rows, self._values(indices, rows).conj()

    def like(self, F):
        """The factor itself."""
        return F


def kernel_source(A, kernel, shape, dtype, batch, vectorized):
    """What reads a positive semidefinite matrix of any kind."""
    if kernel is not None:
        if not callable(kernel):
            raise _validation.complain(TypeError, "kernel", "a function of two sets of points", repr(kernel))
        only_for_functions("A", shape, dtype, None, vectorized)
        batch = PANEL if batch is None else _validation.integer(batch, "batch", 1, np.inf)
        return PointsSource(indexable_points(A), kernel, batch)
    if hasattr(A, "columns") and callable(A.columns) and hasattr(A, "diagonal"):
        only_for_functions("A", shape, dtype, batch, vectorized)
        return ObjectSource(A)
    if callable(A):
        return EntriesSource(indexed_function(A, shape, dtype, batch, vectorized, 2))
    only_for_functions("A", shape, dtype, batch, vectorized)
    operand, A = operands.find(A)
    square(A.shape)
    return MatrixSource(operand, A)


def indexable_points(A):
    """Points that slices and arrays of indices choose from, along the first axis."""
    if operands.labelled(A):
        A = operands.unlabelled(A, "A")
    if isinstance(A, (list, tuple)):
        A = _validation.nested_numbers(A, "A")
    if not hasattr(A, "shape") or not hasattr(A, "__getitem__"):
        raise _validation.complain(TypeError, "A", "points: an array, a DataFrame or a list", type_name(A))
    _validation.tensor_shape(A.shape, "A", least=1)
    return A.tocsr() if sparse.issparse(A) else A


def parted(indices, batch):
    """Indices in parts which together with all of them make no more values than allowed, but for one."""
    height = max(1, batch // len(indices))
    return (indices[start : start + height] for start in range(0, len(indices), height))


def as_given(values, shape, dtype, name):
    """What a user's object gives, of the shape and dtype that it should have; it is not finite later."""
    return _validation.as_declared(plain_array(operands.on_host(values), name), shape, dtype, name)


def rank_or_trace(rank, trace_rtol, source):
    """The pair with exactly one of the two given, checked."""
    if (rank is None) == (trace_rtol is None):
        got = "neither" if rank is None else "both"
        raise _validation.complain(ValueError, "rank or trace_rtol", "given, one of the two", got)
    if rank is not None:
        return _validation.integer(rank, "rank", 1, source.n), None
    return None, _validation.tolerance(trace_rtol, source.dtype, "trace_rtol")
