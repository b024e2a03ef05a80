"""Interpolative decompositions: A is close to its own columns, or rows, times coefficients."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg

from curtensor import _validation, archive, operands, plots
from curtensor.accuracy import residual_norm
from curtensor.cross import checked_cross, coefficients, read_whole
from curtensor.explanation import Explanation, explained, product_of, so_far
from curtensor.operands.arithmetic import dense
from curtensor.operands.entries import indexed_function, is_function, left_out, only_for_functions
from curtensor.results import MatrixResult, named, result_like, result_on_host, widened
from curtensor.selection import chosen_rule, column_basis, orthonormal_columns, project_out, sketch_size
from curtensor.sketching import SKETCHES, error_by_energy, two_sided_sketch, unsketched
from curtensor.tolerance import (
    NOTHING,
    Span,
    by_pivots,
    columns_by_blocks,
    dropped,
    first_within,
    grow,
    has_pivots,
    next_columns,
    pivoted_columns,
    relative_tails,
    thinned,
)

LARGEST = 1e3  # coefficient, above which rounding would spoil what a triangular solve gives
EXPECTED = 1.35  # times the tail that a sketch shows, to begin with: the error


@dataclass(frozen=True, eq=False, repr=False)
class ID(MatrixResult):
    """An interpolative decomposition, which unpacks to ``indices, coefficients``.

    Attributes
    ----------
    indices : ndarray of int, shape (k,)
        The chosen columns (``axis=1``) or rows (``axis=0``), distinct, in the order of choice.
    coefficients : array, shape (k, n) for columns, (m, k) for rows
        A is close to ``A[:, indices] @ coefficients``, or to ``coefficients @ A[indices]``.
    skeleton : ndarray or sparse array, shape (m, k) or (k, n)
        The chosen columns or rows themselves.
    axis : int
        1 for columns, 0 for rows.
    error_estimate : float
        ``||A - approximation||_F / ||A||_F``, as for `CUR`.
    n_entries_read : int or None
        Entries of a function asked for; None where A is data, which are read whole.
    converged : bool
        False where nothing but zeros was seen of a function.
    names : tuple of (pandas Index or ndarray of str or None)
        `row_names` and `col_names`: those of all rows and the chosen columns for ``axis=1``, else of the chosen rows
        and all columns; None where A has none.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    indices: np.ndarray
    coefficients: np.ndarray
    skeleton: Any
    axis: int
    error_estimate: float
    n_entries_read: Any = None
    converged: bool = True

    MAIN = "coefficients"
    OWN = ("skeleton",)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The indices and the coefficients."""
        return iter((self.indices, self.coefficients))

    @property
    def rank(self) -> int:
        """Number of columns or rows chosen."""
        return len(self.indices)

    @property
    def chosen(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The indices of rows and of columns; None for those of which all are kept."""
        return (None, self.indices) if self.axis == 1 else (self.indices, None)

    @property
    def product(self) -> tuple[Any, Any]:
        """The skeleton and the coefficients, or the other way round for rows."""
        pair = widened(self.skeleton, self.coefficients), self.coefficients
        return pair if self.axis == 1 else pair[::-1]

    def explain(self, A: Any, /, *, svd: bool = False, rng: _validation.RandomSource = None) -> Explanation:
        """Say how much of A each chosen column (or row) explains, and how the others follow from them.

        Parameters
        ----------
        A : array of any framework, sparse matrix, DataFrame, DataArray, dask array or `row_blocks`, shape (m, n)
            The matrix that was decomposed, which a result does not hold.
        svd : bool, default False
            Whether to set the SVD's shares beside, an estimate for which `randomized_svd` makes passes of its own.
        rng : None, int, SeedSequence or Generator, optional
            Source of randomness for this estimate.

        Returns
        -------
        explanation : Explanation
            As by `CUR.explain`, for the axis along which it was chosen.

        Raises
        ------
        TypeError, ValueError
            As `interpolative_decomposition`; if A is not the matrix that was decomposed.

        Notes
        -----
        One pass over A, and O(m n k) operations; sparse stays sparse. Shares are exact but for rounding.

        Examples
        --------
        >>> import numpy as np, curtensor as ct
        >>> A = np.array([[1.0, 2, 3, 4], [0, 1, 1, 2], [1, 1, 2, 2]])
        >>> ct.interpolative_decomposition(A, 2, rng=0).explain(A)
        Explanation(2 of 4 columns explain 1)
        """
        fitted = product_of(self.indices, *self._in_basis())
        return explained(A, self.axis, fitted, svd, rng, self.names)

    def plot(self, A: Any = None, /, *, ax: Any = None) -> Any:
        """Draw the chosen columns, or rows, on the matrix, with matplotlib.

        Parameters
        ----------
        A : array of any framework, sparse matrix, DataFrame, DataArray, dask array or `row_blocks`, optional
            The matrix that was decomposed: mean moduli of its entries are the background, for which one pass is made.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        ax : matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If A is of another shape.
        """
        return plots.draw_on_matrix(ax, A, self.shape, self.chosen, self.names)

    def _so_far(self) -> tuple[Any, Any]:
        """What was chosen, and what the approximation has in the span of the first 1, 2, ... of it."""
        names = self.names[self.axis]
        return so_far(self.indices if names is None else names, *self._in_basis(), self.error_estimate)

    def _in_basis(self) -> tuple[Any, Any, np.ndarray]:
        """The skeleton, an orthonormal basis of it, and the approximation in that basis; of rows the adjoints."""
        host = result_on_host(self)
        parts = host.skeleton, host.coefficients
        skeleton, coefficients = parts if self.axis == 1 else (part.conj().T for part in parts)
        basis = orthonormal_columns(skeleton)
        return skeleton, basis, dense(basis.conj().T @ skeleton) @ coefficients

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """The indices, the coefficients, the skeleton, the axis and the error in a file."""
        axis = _validation.integer(archive.scalar(members, "axis", "i"), "axis", 0, 1)
        coefficients = archive.numbers(members, "coefficients", (None, None))
        k, length = coefficients.shape if axis == 1 else coefficients.shape[::-1]
        skeleton = archive.matrix(members, "skeleton", (None, k) if axis == 1 else (k, None), coefficients.dtype)
        _validation.matrix_shape((length, skeleton.shape[1 - axis]))
        return {
            "indices": archive.indices(members, "indices", k, length),
            "coefficients": coefficients,
            "skeleton": skeleton,
            "axis": axis,
            "error_estimate": archive.scalar(members, "error_estimate", "f"),
            "n_entries_read": archive.count(members, "n_entries_read"),
            "converged": archive.scalar(members, "converged", "b"),
        }


def interpolative_decomposition(
    A: Any,
    /,
    rank: int | None = None,
    *,
    rtol: float | None = None,
    axis: int = 1,
    method: str | Callable = "osinsky",
    sketch: str | Callable = "sparse_sign",
    shape: _validation.Integers | None = None,
    dtype: Any = None,
    batch: int | None = None,
    vectorized: bool = True,
    rng: _validation.RandomSource = None,
) -> ID:
    """Approximate a matrix by some of its columns, or rows, times coefficients.

    ``A`` is close to ``A[:, J] @ X`` with X = A[:, J]^+ A for ``axis=1``, and to ``X @ A[I]`` with X = A A[I]^+ for
    ``axis=0``; the coefficients of a chosen column or row are a column or row of the identity.

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, dask array, `row_blocks` or callable, shape (m, n)
        Real or complex; integers and bool are taken as float64. A callable gives entries at index arrays, as for
        `cur_decomposition`, with what is said there.
    rank : int, optional
        Number of columns or rows, 1 to min(m, n). Exactly one of `rank` and `rtol` is given.
    rtol : float, optional
        Largest ``||A - approximation||_F / ||A||_F`` wanted, 64 times the dtype's epsilon to below 1; held, or an
        error.
    axis : 0 or 1, default 1
        1 for columns, 0 for rows.
    method : str or callable, default "osinsky"
        Rule for the choice, as in `select_columns`; "bsqr" gives the smallest coefficients.
    sketch : str or callable, default "sparse_sign"
        As in `select_columns`.
    shape : sequence of int, optional
        (m, n), where A is a function, and only then.
    dtype : dtype, optional
        Of a function's values; by default that of its first.
    batch : int, optional
        Entries that a function is asked for in one call at most, by default 262144.
    vectorized : bool, default True
        Whether a function takes index arrays; else it is called with two integers for each entry.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.

    Returns
    -------
    result : ID
        Unpacks to ``indices, coefficients``. Fewer than `rank` where the numerical rank of A is lower.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if not exactly one of `rank` and `rtol` is given; if a
        number is out of range; if `rtol` cannot be reached.

    Notes
    -----
    Passes over A: one for the sketch, one for the coefficients, besides taking the columns; with `rtol`, "iterative"
    and where the rank is a large part of min(m, n), as `cur_decomposition`. O(m n k) operations; memory O((m + n) k).
    The bound is that of `select_columns`.

    A is copied in no layout, but a sparse one is converted where it is neither CSR nor CSC or not of floats, and a
    DataFrame with columns of several dtypes is put together.

    References
    ----------
    .. [1] H. Cheng, Z. Gimbutas, P.-G. Martinsson, V. Rokhlin, "On the compression of low rank matrices", SIAM J. Sci.
       Comput. 26(4), 2005.
    .. [2] A. Osinsky, "Close to optimal column approximations with a single SVD", 2023, arXiv:2308.09068.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> A = np.array([[1.0, 2, 3, 4], [0, 1, 1, 2], [1, 1, 2, 2]])
    >>> indices, coefficients = ct.interpolative_decomposition(A, 2, rng=0)
    >>> bool(np.allclose(A[:, indices] @ coefficients, A))
    True
    """
    if is_function(A):
        left_out(method=(method, "osinsky"), sketch=(sketch, "sparse_sign"))
        entries = indexed_function(A, shape, dtype, batch, vectorized, 2)
        rank, rtol = _validation.rank_or_rtol(rank, rtol, entries.shape, entries.dtype)
        return id_of_function(entries, rank, rtol, _validation.integer(axis, "axis", 0, 1), _validation.generator(rng))
    only_for_functions("A", shape, dtype, batch, vectorized)
    given, (operand, A) = A, operands.find(A)
    rank, rtol = _validation.rank_or_rtol(rank, rtol, A.shape, operand.dtype(A))
    axis = _validation.integer(axis, "axis", 0, 1)
    rule = chosen_rule(method)
    sketch = _validation.choose(SKETCHES, sketch, "sketch")
    rng = _validation.generator(rng)

    def view_of(size):
        sketched, _ = two_sided_sketch(operand, A, size, sketch, rng)
        return sketched if axis == 1 else sketched.T

    along = A if axis == 1 else A.T
    if rank is None:
        result = id_to_tolerance(operand, along, rtol, rule, view_of, rng)
    elif by_pivots(rule, rank, A.shape):
        result = pivoted_id(operand, along, unsketched(operand, along), rank=rank)
    elif rule.blocks:
        sketched, span = columns_by_blocks(operand, along, rank, rule, sketch, rng)
        result = true_id(operand, along, sketched, span)
    else:
        sketched = view_of(sketch_size(rank, A.shape[axis], max(A.shape), rule.exchanges))
        result = id_from_sketch(operand, along, sketched, rank, rule, rng)
    if axis == 0:
        result = replace(result, coefficients=result.coefficients.T, skeleton=result.skeleton.T, axis=0)
    return named(result_like(operand, A, result), given)


def id_of_function(entries, rank, rtol, axis, rng):
    """The ID of a matrix known by its entries."""
    found = checked_cross(entries, rank, rtol, rng, lambda done: None)
    if found is None:
        result = interpolative_decomposition(read_whole(entries), rank, rtol=rtol, axis=axis, rng=rng)
        return replace(result, n_entries_read=entries.n_read)
    known = found.error, entries.n_read, found.seen
    if axis == 1:
        return ID(found.columns, coefficients(found.V, found.columns), found.C.T, 1, *known)
    return ID(found.rows, coefficients(found.U, found.rows).T, found.R, 0, *known)


def id_from_sketch(operand, A, sketched, k, rule, rng):
    """The column ID of rank k whose indices come from a sketch, the right part of which is overwritten."""
    indices, skeleton, basis, _ = column_basis(operand, sketched, k, rule, rng)
    span = Span(indices, skeleton, basis, sketched.operand.rmatmat(sketched.A, basis))
    error = error_by_energy(sketched.norm, span.image) or np.linalg.norm(sketched.right) / (sketched.norm or 1)
    return id_of_span(operand, A, sketched, span, error)


def id_of_span(operand, A, sketched, span, error):
    """The column ID of chosen columns."""
    indices, skeleton, projected = span.indices, span.slices, span.image.conj().T
    coefficients, defect = solved(span.triangle, projected) if len(indices) else (projected.copy(), 0.0)
    coefficients[:, indices] = np.eye(len(indices))
    error = np.hypot(error, defect / (sketched.norm or 1))
    if sketched.exponent != 0:  # to the bit: the power of two may have cost digits
        skeleton = operand.take(A, indices, 1)
    return ID(indices, coefficients, skeleton, 1, float(error))


def solved(triangle, projected):
    """Coefficients of columns that are ``basis @ triangle``, and by how much they miss what is projected.

    The least ones, and so much, where the columns are so nearly dependent that the others would be large.
    """
    sizes = np.abs(triangle.diagonal())
    if sizes.min() > np.finfo(sizes.dtype).eps * sizes.max():
        coefficients = linalg.solve_triangular(triangle, projected)
        if np.abs(coefficients).max() < LARGEST:
            return coefficients, 0.0
    coefficients = linalg.lstsq(triangle, projected)[0]
    return coefficients, np.linalg.norm(triangle @ coefficients - projected)


def id_to_tolerance(operand, A, rtol, rule, view_of, rng):
    """The column ID of the smallest rank found whose error is at most rtol."""
    span = NOTHING

    def resketch(size):
        sketched = view_of(size)
        if span is not NOTHING:
            project_out(sketched.right, span.basis)
        return sketched, relative_tails(sketched.left, sketched.norm)

    def attempt(sketched, k):
        nonlocal span
        old = len(span.indices)
        span = span.extended(*next_columns(sketched, span, k, rule, rng))
        fresh = span.basis[:, old:]
        project_out(sketched.right, fresh)
        span = span.with_image(sketched.operand.rmatmat(sketched.A, fresh))
        result = smallest_id(operand, A, sketched, span, rtol)
        return result, len(span.indices), result.error_estimate

    def direct(sketched):
        return pivoted_id(operand, A, sketched, rtol=rtol)

    return grow(resketch, attempt, min(A.shape), rtol, EXPECTED, direct=direct if has_pivots(rule, A.shape) else None)


def pivoted_id(operand, A, sketched, rank=None, rtol=None):
    """The ID by pivots of A itself, of a rank or of the fewest columns that hold a tolerance."""
    span, tails = pivoted_columns(sketched, rank or min(A.shape))
    tails = tails / (sketched.norm or 1)
    k = min(first_within(tails, rtol) if rank is None else rank, len(span.indices))
    return id_of_span(operand, A, sketched, span.first(k), tails[k])


def true_id(operand, A, sketched, span):
    """The ID of chosen columns, with its error: from the residual itself where the norms do not tell it."""
    error = error_by_energy(sketched.norm, span.image)
    result = id_of_span(operand, A, sketched, span, error or 0)
    if error is None:
        residual = residual_norm(sketched.operand, sketched.A, dense(span.slices), result.coefficients)
        result = replace(result, error_estimate=float(residual / (sketched.norm or 1)))
    return result


def smallest_id(operand, A, sketched, span, rtol):
    """The ID of the fewest columns of a span that hold a tolerance, or of all of them; its error is true."""
    norm = sketched.norm or 1
    beyond = error_by_energy(sketched.norm, span.image) or np.linalg.norm(sketched.right) / norm
    order = thinned(span.triangle, span.image.conj().T, (rtol**2 - beyond**2) * norm**2)
    span, _ = span.reordered(order)
    ranks = np.arange(len(order) + 1)
    errors = np.hypot(beyond, np.sqrt(dropped(span.image.conj().T, ranks, span.image.shape[0] + 0 * ranks)) / norm)
    k = first_within(errors, rtol)
    while True:
        result = true_id(operand, A, sketched, span.first(k))
        error = result.error_estimate
        if error <= rtol or k == ranks[-1]:
            return result
        k = min(max(k + max(1, k // 25), first_within(errors * (error / errors[k]), rtol)), ranks[-1])
