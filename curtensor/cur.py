"""CUR decompositions: A is close to C U R with its own columns C and rows R."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import linalg, sparse

from curtensor import _validation, archive, operands, plots
from curtensor.accuracy import residual_norm
from curtensor.cross import checked_cross, read_whole
from curtensor.explanation import Explanation, Fitted, explained, so_far
from curtensor.operands.arithmetic import dense, times_power
from curtensor.operands.entries import indexed_function, is_function, left_out, only_for_functions
from curtensor.results import MatrixResult, entries_in, named, result_like, result_on_host, widened
from curtensor.selection import (
    beyond_rounding,
    choose_more_rows,
    chosen_rule,
    column_basis,
    orthonormal_columns,
    project_out,
    sketch_sizes,
)
from curtensor.sketching import SKETCHES, error_by_energy, gaussian, two_sided_sketch, unsketched
from curtensor.svd import SVD
from curtensor.tolerance import (
    NOTHING,
    SPARE,
    Span,
    by_pivots,
    columns_by_blocks,
    dropped,
    first_within,
    grow,
    has_pivots,
    next_columns,
    pivoted_columns,
    pivoted_rows,
    relative_tails,
    thinned,
)


@dataclass(frozen=True, eq=False, repr=False)
class CUR(MatrixResult):
    """A CUR decomposition, which unpacks to ``C, U, R, col_indices, row_indices``.

    Held as ``left @ middle @ right`` with orthonormal columns in ``left`` (a basis of C's columns) and orthonormal
    rows in ``right`` (a basis of R's rows): all products go through these, never through U, whose entries can be so
    large that their rounding errors spoil the product.

    Attributes
    ----------
    C : array or sparse array, shape (m, c)
        ``A[:, col_indices]`` to the bit.
    R : array or sparse array, shape (r, n)
        ``A[row_indices]`` to the bit.
    col_indices, row_indices : ndarray of int
        Distinct, in the order of choice.
    left, middle, right : arrays of shapes (m, c), (c, r), (r, n)
        The factored form; `left` and `right` are sparse where C and R are. Fewer than c and r where given columns and
        rows depend on each other.
    error_estimate : float
        ``||A - C U R||_F / ||A||_F``: exact up to rounding for the projection core above 1e-6 (float32: 4e-2) and
        wherever `rtol` was given, else as the columns of the right sketch show it. Of a function as entries that no
        choice has seen show it, from above.
    n_entries_read : int or None
        Entries of a function asked for; None where A is data, which are read whole.
    converged : bool
        False where nothing but zeros was seen of a function.
    names : tuple of (pandas Index or ndarray of str or None)
        `row_names` and `col_names`: those of the chosen rows and columns, None where A has none. They stay what they
        were, so that ``frame.loc[result.row_names]`` is R.
    dims : tuple of str
        Names of a DataArray's dimensions; empty for all else.
    """

    C: Any
    R: Any
    col_indices: np.ndarray
    row_indices: np.ndarray
    left: Any
    middle: np.ndarray
    right: Any
    error_estimate: float
    n_entries_read: Any = None
    converged: bool = True

    MAIN = "middle"
    OWN = ("C", "R")

    def __iter__(self) -> Iterator:
        """C, U, R, col_indices, row_indices."""
        return iter((self.C, self.U, self.R, self.col_indices, self.row_indices))

    @property
    def U(self) -> np.ndarray:
        """Middle matrix (c, r) with A close to C U R, formed when asked for; see `condition`."""
        if operands.followed(self.middle):
            return followed_middle(self)
        host = result_on_host(self)
        scale = np.abs(host.middle).max(initial=0) or host.middle.real.dtype.type(1)
        to_columns = dense(host.left.conj().T @ host.C) / scale
        to_rows = dense(host.right @ host.R.conj().T) / scale
        half = np.linalg.lstsq(to_columns, host.middle / scale)[0]
        U = np.linalg.lstsq(to_rows, half.conj().T)[0].conj().T
        with np.errstate(over="ignore"):
            U = U / scale
        if not np.isfinite(U).all():
            raise OverflowError(f"U must be representable in {self.dtype}, got entries beyond; use to_array() or @")
        return operands.kind_of(self.middle).like(self.middle, U)

    @property
    def condition(self) -> float:
        """``||C|| ||U|| ||R|| / ||C U R||`` (spectral): how much a product through U magnifies rounding errors."""
        if min(self.middle.shape) == 0:
            return 1.0
        host = result_on_host(self)
        scale = np.abs(host.middle).max()
        C = dense(host.left.conj().T @ host.C) / scale
        R = dense(host.right @ host.R.conj().T) / scale
        middle = host.middle / scale
        U = np.linalg.lstsq(R, np.linalg.lstsq(C, middle)[0].conj().T)[0]
        return float(np.prod([np.linalg.norm(X, 2) for X in (C, U, R)]) / np.linalg.norm(middle, 2))

    @property
    def rank(self) -> int:
        """Rank of the approximation: the smaller number of columns and rows."""
        return min(self.middle.shape)

    @property
    def n_stored(self) -> int:
        """Numbers in C, U and R, of sparse ones the stored ones."""
        return entries_in(self.C) + self.C.shape[1] * self.R.shape[0] + entries_in(self.R)

    @property
    def chosen(self) -> tuple[np.ndarray, np.ndarray]:
        """The indices of the chosen rows and columns."""
        return self.row_indices, self.col_indices

    @property
    def product(self) -> tuple[Any, Any, Any]:
        """`left`, `middle` and `right`."""
        return self.left, self.middle, self.right

    def to_svd(self) -> SVD:
        """The approximation's own SVD of the same rank, as `SVD`."""
        host = result_on_host(self)
        W, s, Zh = np.linalg.svd(host.middle, full_matrices=False)
        result = SVD(dense(host.left @ W), s, dense(Zh @ host.right), self.error_estimate, dims=self.dims)
        return result_like(operands.kind_of(self.middle), self.middle, result)

    def refine(
        self,
        A: Any,
        /,
        rank: int | None = None,
        *,
        rtol: float | None = None,
        method: str | Callable = "osinsky",
        sketch: str | Callable = "sparse_sign",
        rng: _validation.RandomSource = None,
        callback: Callable[[float], object] | None = None,
    ) -> "CUR":
        """A CUR decomposition of higher rank, or to a tolerance, which keeps all columns and rows chosen so far.

        Others are added for what the chosen ones leave of A, which must be given again: a result does not hold it.

        Parameters
        ----------
        A : array of any framework, sparse matrix, DataFrame, DataArray, dask array or `row_blocks`, shape (m, n)
            The matrix that was decomposed.
        rank : int, optional
            Number of columns and of rows, from the present rank to min(m, n). Exactly one of `rank` and `rtol` is
            given.
        rtol : float, optional
            Largest ``||A - C U R||_F / ||A||_F`` wanted; held, or an error, as by `cur_decomposition`.
        method, sketch, rng, callback
            As for `cur_decomposition`; with "rpcholesky", I = J must hold already.

        Returns
        -------
        result : CUR
            Its `col_indices` and `row_indices` begin with the present ones. Nothing is added where A's numerical rank
            is reached; more rows than `rank` where present ones depend on each other.

        Raises
        ------
        TypeError, ValueError
            As `cur_decomposition`; if `rank` is below the present one; if A's columns and rows are not those held.

        Notes
        -----
        The core is the projection, whatever it was before: spans that contain the old ones and the best core for them
        make no error larger, while an intersection can lose by growing. Passes over A are those of
        `cur_decomposition`: two for a rank, of which one sketches all of A; the chosen columns are projected out of the
        sketch, not of A.

        Examples
        --------
        >>> import numpy as np, curtensor as ct
        >>> t = np.linspace(0, 1, 200)
        >>> A = 1 / (1 + t[:, None] + t)
        >>> first = ct.cur_decomposition(A, 2, rng=0)
        >>> more = first.refine(A, rtol=1e-6, rng=0)
        >>> more.rank, bool((more.col_indices[:2] == first.col_indices).all())
        (4, True)
        """
        given, (operand, A) = A, operands.find(A)
        of_shape(A, self.shape)
        least = max(self.rank, 1)
        rank, rtol = _validation.rank_or_rtol(rank, rtol, A.shape, operand.dtype(A), least)
        rule = chosen_rule(method)
        if rule.sees == "entries" and not np.array_equal(self.col_indices, self.row_indices):
            raise _validation.complain(
                ValueError, "method", "one for any A where I is not J", _validation.describe(method)
            )
        sketch = _validation.choose(SKETCHES, sketch, "sketch")
        rng = _validation.generator(rng)
        callback = _validation.callback_function(callback)

        include, best = (self.col_indices, self.row_indices), CORES["projection"]
        if rank is None:
            result = cur_to_tolerance(operand, A, rtol, rule, best, sketch, rng, callback, include=include)
        else:
            result = cur_by_sketch(operand, A, rank, rank, rank, rule, best, sketch, rng, callback, include)
        continued(result, result_on_host(self))
        callback(1.0)
        return named(result_like(operand, A, result), given)

    def explain(
        self, A: Any, /, *, axis: int = 1, svd: bool = False, rng: _validation.RandomSource = None
    ) -> Explanation:
        """Say how much of A each chosen column (or row) explains, and how the others follow from them.

        Parameters
        ----------
        A : array of any framework, sparse matrix, DataFrame, DataArray, dask array or `row_blocks`, shape (m, n)
            The matrix that was decomposed, which a result does not hold.
        axis : 0 or 1, default 1
            1 for the chosen columns, 0 for the chosen rows.
        svd : bool, default False
            Whether to set the SVD's shares beside, an estimate for which `randomized_svd` makes passes of its own.
        rng : None, int, SeedSequence or Generator, optional
            Source of randomness for this estimate.

        Returns
        -------
        explanation : Explanation
            For columns: what each adds, by the best fit of A from the columns so far, C C^+ A; how much of each other
            column this explains, and from which it follows; and how much of each row C U R explains.

        Raises
        ------
        TypeError, ValueError
            As `cur_decomposition`; if A is not the matrix that was decomposed.

        Notes
        -----
        One pass over A, in which A is multiplied by the bases of C and of R: O(m n k) operations, sparse stays sparse.
        Shares are exact but for rounding.

        Examples
        --------
        >>> import numpy as np, curtensor as ct
        >>> t = np.linspace(0, 1, 200)
        >>> A = 1 / (1 + t[:, None] + t)
        >>> explanation = ct.cur_decomposition(A, 2, rng=0).explain(A)
        >>> bool(explanation.explained[0] > 0.9), bool(explanation.explained[1] > 0.999)
        (True, True)
        """
        host = result_on_host(self)
        axis = _validation.integer(axis, "axis", 0, 1)
        if axis == 1:
            fitted = Fitted(host.col_indices, host.C, host.left, host.middle, host.right)
        else:
            parts = (part.conj().T for part in (host.R, host.right, host.middle, host.left))
            fitted = Fitted(host.row_indices, *parts)
        return explained(A, axis, fitted, svd, rng, self.names)

    def plot(self, A: Any = None, /, *, ax: Any = None) -> Any:
        """Draw the chosen columns and rows on the matrix, with matplotlib.

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
        """The chosen columns, and what the approximation has in the span of the first 1, 2, ... of them."""
        host, names = result_on_host(self), self.col_indices if self.col_names is None else self.col_names
        return so_far(names, host.C, host.left, host.middle, self.error_estimate)

    @staticmethod
    def _checked(members: dict[str, np.ndarray]) -> dict[str, Any]:
        """C, R, the indices, the factored form and the error in a file."""
        C = archive.matrix(members, "C", (None, None))
        R = archive.matrix(members, "R", (None, None), C.dtype)
        (m, c), (r, n) = C.shape, R.shape
        _validation.matrix_shape((m, n))
        left = archive.matrix(members, "left", (m, range(c + 1)), C.dtype)
        right = archive.matrix(members, "right", (range(r + 1), n), C.dtype)
        return {
            "C": C,
            "R": R,
            "col_indices": archive.indices(members, "col_indices", c, n),
            "row_indices": archive.indices(members, "row_indices", r, m),
            "left": left,
            "middle": archive.numbers(members, "middle", (left.shape[1], right.shape[0])),
            "right": right,
            "error_estimate": archive.scalar(members, "error_estimate", "f"),
            "n_entries_read": archive.count(members, "n_entries_read"),
            "converged": archive.scalar(members, "converged", "b"),
        }


@dataclass(frozen=True)
class Core:
    """A core: the function that makes the middle matrix, and what it needs. A bare function is ``Core(function)``.

    Attributes
    ----------
    function : callable
        To the middle matrix between the orthonormal bases `left` of the columns and `right` of the rows; its arguments
        are those that `sees` says.
    sees : "matrix", "image" or "rows", default "matrix"
        ``(operand, A, left, right, R, rows)``; or ``(right, image)`` with ``image = A^H @ left``, made in the pass that
        takes R; or ``(left, right, R, rows)``, which reads nothing more of A and needs no fewer rows than columns.
    best : bool, default False
        Whether no other middle matrix leaves less of A, so that the error follows from the norms.
    """

    function: Callable
    sees: Literal["matrix", "image", "rows"] = "matrix"
    best: bool = False

    def __call__(self, operand: Any, A: Any, left: Any, right: Any, R: Any, rows: Any, image: Any) -> np.ndarray:
        """The middle matrix, checked, since it may come from a user's function."""
        if self.sees == "image":
            middle = self.function(right, image)
        elif self.sees == "rows":
            middle = self.function(left, right, R, rows)
        else:
            middle = self.function(operand, A, left, right, R, rows)
        shape = left.shape[1], right.shape[0]
        if getattr(middle, "shape", None) == shape and middle.dtype == left.dtype:
            return middle
        kind = operands.kind_of(left)
        middle = _validation.as_declared(operands.on_host(middle), shape, kind.dtype(left), "what core gives")
        return kind.like(left, middle)


def projection(right, image):
    """``left^H A right^H`` from ``image = A^H left``: the best middle for the given columns and rows."""
    return dense(right @ image).conj().T


def intersection(left, right, R, rows):
    """Least-squares fit of the chosen rows by C's basis, which makes U = A[I, J]^+; no pass over A."""
    return lstsq(dense(left[rows]), dense(R @ right.conj().T))


def lstsq(A, B):
    """Least-squares solution X of ``A @ X = B``; by its own framework of an array that gradients go through."""
    if operands.of_framework(A):
        return operands.kind_of(A).solved_by_qr(A, B)
    if 0 < A.shape[1] <= A.shape[0]:
        Q, R = linalg.qr(A, mode="economic", check_finite=False)
        share, _ = linalg.get_lapack_funcs("trcon", (R,))(R)
        if share > np.sqrt(np.finfo(R.dtype).eps):
            return linalg.solve_triangular(R, Q.conj().T @ B)
    return np.linalg.lstsq(A, B)[0]  # by its SVD, at 5 to 20 times the price


CORES = {
    "projection": Core(projection, sees="image", best=True),
    "intersection": Core(intersection, sees="rows"),
}
EXPECTED, EXPECTED_CROSS = 1.6, 1.7  # times the tail that a sketch shows, to begin with: the error, by kind of core
PROBES = 16  # random vectors that show an error which is too small for the norms
DOUBTFUL = 0.8  # of ||A||_F left, as a sketch shows it: an intersection core could be worse than nothing


def cur_decomposition(
    A: Any,
    /,
    rank: int | None = None,
    *,
    rtol: float | None = None,
    n_columns: int | None = None,
    n_rows: int | None = None,
    method: str | Callable = "osinsky",
    core: str | Callable = "projection",
    sketch: str | Callable = "sparse_sign",
    shape: _validation.Integers | None = None,
    dtype: Any = None,
    batch: int | None = None,
    vectorized: bool = True,
    rng: _validation.RandomSource = None,
    callback: Callable[[float], object] | None = None,
) -> CUR:
    """Approximate a matrix by its own columns and rows: A is close to C U R with C = A[:, J] and R = A[I].

    U = C^+ A R^+ (``core="projection"``, the best for the chosen C and R) or U = A[I, J]^+ (``core="intersection"``).

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, DataArray, dask array, `row_blocks` or callable, shape (m, n)
        Real or complex; integers and bool are taken as float64. Names of rows and columns (pandas, polars, xarray) are
        kept. np.memmap, h5py and zarr arrays are read in blocks of rows. A callable is given two integer arrays, its
        own to change, which broadcast to a common shape, and returns the entries there in that shape.
    rank : int, optional
        Number of columns and of rows, 1 to min(m, n). Exactly one of `rank` and `rtol` is given, or neither where both
        `n_columns` and `n_rows` are: then it is the smaller of these.
    rtol : float, optional
        Largest ``||A - C U R||_F / ||A||_F`` wanted, 64 times the dtype's epsilon to below 1; held, or an error. As few
        columns and rows are taken as the search finds.
    n_columns, n_rows : int, optional
        Numbers of columns and rows, at least `rank`, which is their default; it is the rank of the scores that
        "leverage" draws more columns by. Not with `rtol`. With the intersection core, 1.5 times as many rows
        as columns bring the error down by a sixth.
    method : str or callable, default "osinsky"
        Rule for columns and rows, as in `select_columns`. Rows are chosen from C, or, for the projection core and
        as many columns as rows, columns from R where A has more columns than rows; with "rpcholesky" I = J. "iterative"
        chooses columns by blocks from what is left of one small sketch: less work, a little more error.
    core : "projection" or "intersection" or callable, default "projection"
        Which middle matrix. The intersection reads nothing more of A, and needs n_rows >= n_columns.
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
    callback : callable, optional
        Called with the fraction done, a float from 0 to 1.

    Returns
    -------
    result : CUR
        Unpacks to ``C, U, R, col_indices, row_indices``. Fewer columns and rows than asked for where the numerical
        rank of A is lower, none for a zero matrix. All but the indices are of A's framework (PyTorch, JAX, ...) and on
        its device; half precision is computed in float32, and C and R keep it.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if not exactly one of `rank` and `rtol`, or both numbers of
        slices, are given; if a number is out of range; if `rtol` cannot be reached.

    Notes
    -----
    Passes over A: one for both sketches and the norm, one more for the projection core, besides taking C and R. With
    `rtol`, one for each doubling of the sketch, one for each time that columns are added to those chosen, mostly once,
    and one more where the error is so small that only the residual itself shows it: columns and rows are chosen for a
    rank that the sketch shows, and those needed least are then taken away for as long as the tolerance holds. O(m n (k
    + s)) operations for s entries a row of the test matrices, plus O((m + n) k^2); memory O((m + n) k). The factors are
    held in orthonormal form, which keeps the digits that a product through U loses.

    Of up to 2^26 entries a default `rank` of more than nine tenths of min(m, n), or with `rtol` more than a fifth of
    it and 16, is by pivoted QR of A itself in place of a sketch, and rows are pivots of the columns' basis: that is one
    pass after the others, which copies A, and O(m n min(m, n)) operations. The same is done of more than 0.4 by
    "iterative", which else needs a pass for the sketch of 60 rows, and one for each 50 columns.

    Where the sketch says that more than 0.8 of ||A||_F is left, one more pass finds the factor by which the
    intersection core fits A best, so that it is never worse than the zero matrix: U is then so much of A[I, J]^+.

    For columns chosen with exact singular vectors the error of C C^+ A is at most sqrt(k + 1) times that of the
    truncated SVD, and a cross approximation at most k + 1 times [1]_; measured here 1.2 and 1.4.

    Of a function (m + n) k entries are read, and 12500 for each look at the error, 78000 before the last: columns and
    rows are pivots of an adaptive cross approximation [3]_, which starts anew where probes leave most. It ends when
    up to 62500 random entries that no choice has seen, with three standard errors, and others in the gaps between
    pivots, next to them, and where what was chosen is small or large, leave at most `rtol`. What none of these meets,
    such as one entry unlike all others, no probe can show. Where all are zero a warning says so. `method` and `sketch`
    have no part in it; the core is A[I, J]^+. Up to 4 million entries each is asked for once, but pivots twice, to
    notice a function that is not pure. Up to 16384 entries, or where a cross would read half of up to 2^27, all are
    read, as an array.

    A is copied in no layout, but a sparse one is converted where it is neither CSR nor CSC or not of floats, and a
    DataFrame with columns of several dtypes is put together.

    References
    ----------
    .. [1] A. Osinsky, "Close to optimal column approximations with a single SVD", 2023, arXiv:2308.09068.
    .. [2] M. W. Mahoney, P. Drineas, "CUR matrix decompositions for improved data analysis", Proc. Natl. Acad. Sci.
       106(3), 2009.
    .. [3] M. Bebendorf, "Approximation of boundary element matrices", Numer. Math. 86, 2000.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> t = np.linspace(0, 1, 200)
    >>> A = 1 / (1 + t[:, None] + t)
    >>> result = ct.cur_decomposition(A, 5, rng=0)
    >>> C, U, R, columns, rows = result
    >>> bool(np.array_equal(C, A[:, columns]) and np.array_equal(R, A[rows]))
    True
    >>> bool(np.linalg.norm(A - result.to_array()) < 1e-5 * np.linalg.norm(A))
    True
    >>> ct.cur_decomposition(A, rtol=1e-3, rng=0).rank
    2
    >>> def entries(i, j):
    ...     return 1.0 / (1 + i + j)
    >>> ct.cur_decomposition(entries, rtol=1e-6, shape=(100_000, 100_000), rng=0).rank < 40
    True
    """
    if is_function(A):
        core_given = (core, "projection", "intersection")
        left_out(method=(method, "osinsky"), core=core_given, sketch=(sketch, "sparse_sign"))
        left_out(n_columns=(n_columns, None), n_rows=(n_rows, None))
        entries = indexed_function(A, shape, dtype, batch, vectorized, 2)
        rank, rtol = _validation.rank_or_rtol(rank, rtol, entries.shape, entries.dtype)
        return cur_of_function(entries, rank, rtol, _validation.generator(rng), _validation.callback_function(callback))
    only_for_functions("A", shape, dtype, batch, vectorized)
    given, (operand, A) = A, operands.find(A)
    rank = _validation.rank_of_sizes(rank, rtol, n_columns, n_rows, A.shape)
    rank, rtol = _validation.rank_or_rtol(rank, rtol, A.shape, operand.dtype(A))
    n_columns, n_rows = _validation.factor_sizes(rank, n_columns, n_rows, A.shape)
    rule = chosen_rule(method)
    middle_of = _validation.choose(CORES, core, "core", Core)
    if middle_of.sees == "rows" and rank is not None and n_rows < n_columns:
        raise _validation.complain(ValueError, "n_rows", f"at least n_columns = {n_columns} for this core", n_rows)
    sketch = _validation.choose(SKETCHES, sketch, "sketch")
    rng = _validation.generator(rng)
    callback = _validation.callback_function(callback)

    if rank is None:
        result = cur_to_tolerance(operand, A, rtol, rule, middle_of, sketch, rng, callback)
    elif by_pivots(rule, n_columns, A.shape) and (middle_of.best or rule.blocks):
        result = pivoted_cur(operand, A, n_columns, n_rows, middle_of, rng)
    elif rule.blocks:
        result = cur_by_blocks(operand, A, n_columns, n_rows, rule, middle_of, sketch, rng)
    else:
        result = cur_by_sketch(operand, A, rank, n_columns, n_rows, rule, middle_of, sketch, rng, callback)
    callback(1.0)
    return named(result_like(operand, A, result), given)


def cur_of_function(entries, rank, rtol, rng, callback):
    """The CUR of a matrix known by its entries."""
    found = checked_cross(entries, rank, rtol, rng, callback)
    if found is None:
        result = cur_decomposition(read_whole(entries), rank, rtol=rtol, rng=rng, callback=callback)
        return replace(result, n_entries_read=entries.n_read)
    left, right = orthonormal_columns(found.U.T), orthonormal_columns(found.V.conj().T).conj().T
    middle = (left.conj().T @ found.U.T) @ (found.V @ right.conj().T)
    callback(1.0)
    factors = found.C.T, found.R, found.columns, found.rows, left, middle, right
    return CUR(*factors, found.error, entries.n_read, found.seen)


def cur_from_indices(A: Any, /, columns: Any, rows: Any, *, core: str | Callable = "projection") -> CUR:
    """The CUR decomposition of given columns and rows, through which gradients of PyTorch and JAX go.

    A is close to C U R with C = A[:, columns], R = A[rows] and U = C^+ A R^+ (``core="projection"``) or
    U = A[rows, columns]^+ (``core="intersection"``).

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, DataArray, dask array or `row_blocks`, shape (m, n)
        Real or complex, as for `cur_decomposition`.
    columns, rows : sequence of int
        Which columns and rows, each at most once; in this order they become those of C and R.
    core : "projection" or "intersection" or callable, default "projection"
        Which middle matrix; the intersection needs at least as many rows as columns.

    Returns
    -------
    result : CUR
        With the `columns` and `rows` as `col_indices` and `row_indices`. Its `error_estimate` is the error itself, or
        nan where JAX compiles; its `rank` is lower than their number where they depend on each other.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if indices are repeated or out of range; if gradients are
        to go through columns or rows that depend on each other.

    Notes
    -----
    Passes over A: one for its norm, one to gather C, one for R, which the projection core shares, and one for the
    error. O(m n (c + r)) operations for c columns and r rows.

    Where A requires a gradient in PyTorch, or is differentiated, compiled or mapped over in JAX, all is computed in its
    own framework, and C, U, R, ``to_array()`` and products with ``@`` are differentiable functions of A. The choice of
    the indices is not: make it by `cur_decomposition` or `select_columns`, which never follow gradients.

    References
    ----------
    .. [1] M. W. Mahoney, P. Drineas, "CUR matrix decompositions for improved data analysis", Proc. Natl. Acad. Sci.
       106(3), 2009.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> A = np.outer([1.0, 2, 3], [1, 1, 0, 2]) + np.outer([0.0, 1, 1], [0, 1, 1, 1])
    >>> result = ct.cur_from_indices(A, [0, 2], [0, 1])
    >>> bool(np.allclose(result.to_array(), A)), result.error_estimate < 1e-14
    (True, True)
    """
    given, gradients = A, operands.followed(A)
    operand, A = operands.find(A, gradients=gradients)
    middle_of = _validation.choose(CORES, core, "core", Core)
    columns = _validation.index_list(operands.on_host(columns, "columns"), "columns", A.shape[1])
    rows = _validation.index_list(operands.on_host(rows, "rows"), "rows", A.shape[0])
    if middle_of.sees == "rows" and len(rows) < len(columns):
        raise _validation.complain(ValueError, "rows", f"at least {len(columns)} for this core", len(rows))

    if gradients:
        return followed_cur(operand, A, columns, rows, middle_of)
    result = cur_of_indices(operand, A, columns, rows, middle_of)
    return named(result_like(operand, A, result), given)


def cur_of_indices(operand, A, columns, rows, core):
    """The CUR of given indices, with its error from the residual itself."""
    sketched = unsketched(operand, A)
    C = sketched.operand.take(sketched.A, columns, 1)
    left = independent_columns(C)
    R, image = rows_and_image(sketched, rows, left, core)
    right = independent_columns(R.conj().T).conj().T
    middle = core(sketched.operand, sketched.A, left, right, R, rows, image)
    error = residual_norm(sketched.operand, sketched.A, left @ middle, dense(right)) / (sketched.norm or 1)
    result = CUR(C, R, columns, rows, left, times_power(middle, -sketched.exponent), right, float(error))
    return in_own_scale(operand, A, sketched, result)


def independent_columns(C):
    """Orthonormal basis of C's columns: fewer than these where, but for rounding, they depend on each other."""
    Q = orthonormal_columns(C)
    W, s, _ = np.linalg.svd(dense(Q.conj().T @ C))
    known = s > 64 * np.finfo(s.dtype).eps * s.max(initial=0)  # rounding does not grow with the sides
    if known.all():
        return Q
    return Q @ (sparse.csr_array(W[:, known]) if sparse.issparse(Q) else W[:, known])


def followed_cur(framework, A, columns, rows, core):
    """The same within A's framework, through which gradients go to A."""
    C, R = framework.own_slices(A, columns, 1), framework.own_slices(A, rows, 0)
    left = framework.q_factor(framework.computable(C, A))
    right = framework.q_factor(framework.computable(R, A).T).T
    image = framework.rmatmat(A, left) if core.sees == "image" else None
    middle = core(framework, A, left, right, framework.computable(R, A), rows, image)
    seen, error = framework.cut_off(A), float("nan")
    if not framework.traced(seen):
        error = seen_error(framework, seen, columns, rows, left @ middle, right)
    return CUR(C, R, columns, rows, left, middle, right, error)


def seen_error(framework, A, columns, rows, left, right):
    """Relative error of a product whose gradient is followed, after a look whether it has one."""
    _validation.finite(framework, A)
    for name, slices in (("columns", framework.take(A, columns, 1)), ("rows", framework.take(A, rows, 0).T)):
        found = independent_columns(slices).shape[1]
        if found < slices.shape[1]:
            what = "linearly independent where gradients are followed"
            raise _validation.complain(ValueError, name, what, f"{found} independent ones of {slices.shape[1]}")
    residual = residual_norm(framework, A, framework.to_numpy(left), framework.to_numpy(right))
    return float(residual / (np.sqrt(framework.squared_norm(A)) or 1))


def followed_middle(result):
    """U of a result whose gradient is followed."""
    half = lstsq(result.left.conj().T @ widened(result.C, result.middle), result.middle)
    return lstsq(result.right.conj() @ widened(result.R, result.middle).T, half.T).T


def cur_by_sketch(operand, A, rank, n_columns, n_rows, rule, core, sketch, rng, callback, include=((), ())):
    """The CUR of given sizes, or more where as many are included, whose indices come from sketches.

    The first choice needs the singular vectors of a sketch, the second but the basis of what is chosen: rows come first
    where these are fewer than columns, and as many are chosen of both.
    """
    if core.best and A.shape[0] < A.shape[1] and n_rows == n_columns == rank:
        include = include[::-1]
        return transposed(cur_by_sketch(operand, A.T, rank, rank, rank, rule, core, sketch, rng, callback, include))
    view = two_sided_sketch(operand, A, sketch=sketch, rng=rng, **sketch_sizes(n_columns, A.shape, rule))
    callback(1 / 3)
    return cur_from_sketch(operand, A, view, n_columns, n_rows, rule, core, rng, include, rank)


def transposed(result):
    """The CUR of the transpose."""
    C, R, left, middle, right = (X.T for X in (result.R, result.C, result.right, result.middle, result.left))
    return CUR(C, R, result.row_indices, result.col_indices, left, middle, right, result.error_estimate)


def cur_from_sketch(operand, A, view, n_columns, n_rows, rule, core, rng, include=((), ()), rank=None):
    """The same of a sketch at hand, columns first.

    The right part of the sketch is overwritten.
    """
    sketched, X = view
    n_columns = max(n_columns, len(include[0]))
    columns, C, left, inside = column_basis(operand, sketched, n_columns, rule, rng, include[0], rank)
    if len(columns) < n_columns:  # the numerical rank is lower
        n_rows = min(n_rows, len(columns))
    n_rows = max(n_rows, len(include[1]))
    options = {"include": include[1], "inside": inside if core.best else None}
    rows = columns if rule.sees == "entries" else row_choice(left, sketched, n_rows, rule, rng, **options)
    R, image = rows_and_image(sketched, rows, left, core)
    right = orthonormal_columns(R.conj().T).conj().T
    middle = core(sketched.operand, sketched.A, left, right, R, rows, image)
    error = error_by_energy(sketched.norm, middle) if core.best else None
    if error is None:
        probes = dense(right @ X)
        error = error_on_sketch(sketched, inside - middle @ probes)
        if not core.best and error > DOUBTFUL:
            middle = fitted(middle, projection(right, sketched.operand.rmatmat(sketched.A, left)))
            error = error_on_sketch(sketched, inside - middle @ probes)
    middle = times_power(middle, -sketched.exponent)
    return in_own_scale(operand, A, sketched, CUR(C, R, columns, rows, left, middle, right, error))


def rows_and_image(sketched, rows, left, core):
    """R, and, in the same pass, ``A^H @ left`` where the core sees it."""
    if core.sees == "image":
        return sketched.operand.take_and_rmatmat(sketched.A, rows, left)
    return sketched.operand.take(sketched.A, rows, 0), None


def cur_to_tolerance(operand, A, rtol, rule, core, sketch, rng, callback, include=((), ())):
    """The CUR of the smallest rank found whose error is at most rtol."""
    cross = Cross(NOTHING, NOTHING, None, None)

    def resketch(size):
        nonlocal cross
        view = two_sided_sketch(operand, A, size, sketch, rng)
        if cross.inside is not None:
            cross = cross._replace(inside=project_out(view[0].right, cross.columns.basis))
        return view, relative_tails(view[0].left, view[0].norm)

    def attempt(view, k):
        nonlocal cross
        cross = grown_cross(view[0], cross, k, rule, core, rng, include)
        result = smallest_cur(*view, cross, rtol, rule, core, tuple(map(len, include)))
        error = result.error_estimate
        callback(min(rtol / error, 0.99) if error else 0.99)
        return in_own_scale(operand, A, view[0], result), len(cross.columns.indices), error

    def direct(view):
        return in_own_scale(operand, A, view[0], smallest_pivoted_cur(view[0], rtol, core, callback))

    ratio, least = EXPECTED if core.best else EXPECTED_CROSS, max(min(map(len, include)), 1)
    pivoted = has_pivots(rule, A.shape) and not any(map(len, include))
    return grow(resketch, attempt, min(A.shape), rtol, ratio, least, direct if pivoted else None)


def in_own_scale(operand, A, sketched, result):
    """With C and R as they are in A, to the bit, where the power of two by which A is multiplied may cost digits."""
    if sketched.exponent == 0:
        return result
    C, R = operand.take(A, result.col_indices, 1), operand.take(A, result.row_indices, 0)
    return replace(result, C=C, R=R)


def smallest_pivoted_cur(sketched, rtol, core, callback):
    """The CUR of the fewest columns and rows, in the order of pivots of A itself, that hold a tolerance."""
    columns, tails = pivoted_columns(sketched, min(sketched.A.shape))
    tails = tails / (sketched.norm or 1)
    k = min(first_within(tails, rtol / EXPECTED), len(columns.indices))  # once too many is cheaper than twice
    while True:
        cross = pivoted_cross(sketched, columns.first(k), rows_beside(k, core, sketched.A.shape[0]))
        result = fewest(sketched, *cross, tails[k], rtol, core)
        error = result.error_estimate
        callback(min(rtol / error, 0.99) if error else 0.99)
        if error <= rtol or k == len(columns.indices):
            return result
        k = min(max(k + max(1, k // 8), first_within(tails, rtol * tails[k] / error / SPARE)), len(columns.indices))


def pivoted_cur(operand, A, n_columns, n_rows, core, rng):
    """The CUR of given sizes in the order of pivots of A itself."""
    sketched = unsketched(operand, A)
    columns, tails = pivoted_columns(sketched, n_columns)
    found = len(columns.indices)
    columns, rows, middle = pivoted_cross(sketched, columns, n_rows if found == n_columns else min(n_rows, found))
    probes = gaussian(A.shape[1], PROBES, middle.dtype, rng)
    missed = columns.image.conj().T @ probes - middle @ dense(rows.basis.conj().T @ probes)
    shown = np.hypot(tails[found], np.linalg.norm(missed)) / (sketched.norm or 1) if core.best else None
    return in_own_scale(operand, A, sketched, cur_of_spans(sketched, columns, rows, middle, core, shown))


def cur_by_blocks(operand, A, n_columns, n_rows, rule, core, sketch, rng):
    """The CUR of given sizes whose columns are chosen by blocks."""
    sketched, columns = columns_by_blocks(operand, A, n_columns, rule, sketch, rng)
    n_rows = n_rows if len(columns.indices) == n_columns else min(n_rows, len(columns.indices))
    columns, rows, middle = pivoted_cross(sketched, columns, n_rows)
    return in_own_scale(operand, A, sketched, cur_of_spans(sketched, columns, rows, middle, core))


def pivoted_cross(sketched, columns, n_rows):
    """Columns, rows that are pivots of their basis, or more, and ``left^H A right^H``."""
    indices = pivoted_rows(columns.basis)[:n_rows]
    if n_rows > len(indices):
        basis = dense(columns.basis)
        indices = choose_more_rows(basis, basis[:, :0], indices, n_rows, None, None)
    rows = NOTHING.extended(indices, sketched.operand.take(sketched.A, indices, 0).conj().T)
    return columns, rows, dense(rows.basis.conj().T @ columns.image).conj().T


class Cross(NamedTuple):
    """Columns and rows as they grow, rows as columns of A^H, and ``left^H A right^H``.

    With them what the right sketch, the rest of which is left, has inside of the columns' span.
    """

    columns: Span
    rows: Span
    middle: Any
    inside: Any


def grown_cross(sketched, cross, k, rule, core, rng, include):
    """A cross of k columns, and as many rows as the core needs, which begins with a smaller one; one pass over A."""
    columns, rows, _, inside = cross
    rows = rows if core.best else NOTHING  # rows that are not needed for a span may yet determine columns
    old, old_rows = len(columns.indices), len(rows.indices)
    columns = columns.extended(*next_columns(sketched, columns, k, rule, rng, include[0]))
    fresh = columns.basis[:, old:]
    more = project_out(sketched.right, fresh)
    inside = more if inside is None else np.vstack([inside, more])
    found = len(columns.indices)
    indices = columns.indices
    if rule.sees != "entries":
        known = rows.indices if old_rows else include[1]
        n_rows = rows_beside(k, core, sketched.A.shape[0]) if found >= k else found  # the numerical rank is lower
        wanted = max(n_rows, len(known))
        indices = row_choice(columns.basis, sketched, wanted, rule, rng, include=known, inside=inside)
    R, image = sketched.operand.take_and_rmatmat(sketched.A, indices[old_rows:], fresh)
    columns, rows = columns.with_image(image), rows.extended(indices, R.conj().T)
    middle = dense(rows.basis.conj().T @ columns.image).conj().T
    return Cross(columns, rows, middle, inside)


def rows_beside(k, core, most):
    """How many rows go with k columns: half as many again where the core is no projection."""
    return k if core.best else min(k + (k + 1) // 2, most)


def smallest_cur(sketched, X, cross, rtol, rule, core, kept):
    """The CUR of the fewest columns and rows of a cross that hold a tolerance, or of all of them; its error is true."""
    columns, rows, middle, inside = cross
    if rule.sees == "entries":  # rows are those of the columns
        fewer = min(len(columns.indices), len(rows.indices))
        columns, rows, middle, inside = columns.first(fewer), rows.first(fewer), middle[:fewer, :fewer], inside[:fewer]
    probes = dense(rows.basis.conj().T @ X)
    beyond = error_by_energy(sketched.norm, middle) or error_on_sketch(sketched, inside - middle @ probes)
    budget = (rtol**2 - beyond**2) * sketched.norm**2
    order = thinned(columns.triangle, middle, budget, kept[0])
    columns, turn = columns.reordered(order)
    if rule.sees != "entries":
        order = thinned(rows.triangle, middle.conj().T, budget, kept[1])
    rows, row_turn = rows.reordered(order)
    return fewest(sketched, columns, rows, turn.conj().T @ middle @ row_turn, beyond, rtol, core, kept)


def fewest(sketched, columns, rows, middle, beyond, rtol, core, kept=(0, 0)):
    """The CUR of the first few columns and rows that hold a tolerance, or of all, which leave `beyond` at best."""
    beyond = error_by_energy(sketched.norm, middle) or beyond
    ranks = np.arange(len(columns.indices) + 1)
    n_columns = np.maximum(ranks, kept[0])
    n_rows = np.array([max(rows_beside(k, core, len(rows.indices)), kept[1]) for k in ranks])
    n_rows = np.minimum(n_rows, len(rows.indices))
    n_rows[-1] = len(rows.indices)
    lost = dropped(middle, n_columns, np.minimum(n_rows, middle.shape[1]))
    errors = np.hypot(beyond, np.sqrt(lost) / (sketched.norm or 1))
    k = first_within(errors, rtol)
    while True:
        c, r = n_columns[k], n_rows[k]
        result = cur_of_spans(sketched, columns.first(c), rows.first(r), middle[:c, :r], core)
        error = result.error_estimate
        if error <= rtol or k == ranks[-1]:
            return result
        k = min(max(k + max(1, k // 25), first_within(errors * (error / errors[k]), rtol)), ranks[-1])


def cur_of_spans(sketched, columns, rows, best, core, shown=None):
    """The CUR of chosen columns and rows whose best middle matrix is known, with its error.

    Where the norms do not tell the error, as it is shown, or from the residual itself.
    """
    operand, A, left, right = sketched.operand, sketched.A, columns.basis, rows.basis.conj().T
    R, middle, error = rows.slices.conj().T, best, error_by_energy(sketched.norm, best)
    if not core.best:
        middle = core(operand, A, left, right, R, rows.indices, columns.image)
        error = error and np.hypot(error, np.linalg.norm(middle - best) / sketched.norm)
        if error and error > DOUBTFUL:
            middle = fitted(middle, best)
            error = np.hypot(error_by_energy(sketched.norm, best), np.linalg.norm(middle - best) / sketched.norm)
    if error is None:
        error = shown
    if error is None:
        error = residual_norm(operand, A, left @ middle, dense(right)) / (sketched.norm or 1)
    C, R = (X if sparse.issparse(X) else np.ascontiguousarray(X) for X in (columns.slices, R))
    middle = times_power(middle, -sketched.exponent)
    return CUR(C, R, columns.indices, rows.indices, left, middle, right, float(error))


def row_choice(basis, sketched, k, rule, rng, include=(), inside=None):
    """At most k rows, included ones first, by a rule on the basis of C and on what the sketch has outside of it."""
    rest = sketched.right
    filled = np.unique(basis.tocsc().indices) if sparse.issparse(basis) else np.flatnonzero(basis.any(axis=1))
    if len(filled) < len(rest):  # rows where C is zero determine nothing
        filled = np.union1d(filled, include).astype(np.intp)
        include, basis, rest = np.searchsorted(filled, include), basis[filled], rest[filled]
        rest = beyond_rounding(rest, sketched.norm)
        return filled[choose_more_rows(dense(basis), rest, include, k, rule, rng, inside)]
    return choose_more_rows(dense(basis), beyond_rounding(rest, sketched.norm), include, k, rule, rng, inside)


def fitted(middle, best):
    """A middle times the factor that brings it nearest to the best one: never farther from A than zero is."""
    size = np.linalg.norm(middle) or 1
    return middle * (max(np.vdot(middle / size, best).real, 0) / size)


def error_on_sketch(sketched, difference):
    """Relative error as the right sketch shows it: what it has outside of C's span, and a difference inside of it."""
    return float(np.hypot(np.linalg.norm(sketched.right), np.linalg.norm(difference)) / (sketched.norm or 1))


def of_shape(A, shape):
    """Raise if A is of another shape."""
    if tuple(A.shape) != tuple(shape):
        raise _validation.complain(ValueError, "A", f"of shape {tuple(shape)}", f"shape {tuple(A.shape)}")


def continued(result, earlier):
    """Raise if a result does not hold the columns and rows of an earlier one: it is of another matrix."""
    for slices, before in (
        (result.C[:, : earlier.C.shape[1]], earlier.C),
        (result.R[: earlier.R.shape[0]], earlier.R),
    ):
        if (slices != before).sum():
            raise _validation.complain(
                ValueError, "A", "the matrix that was decomposed", "other entries in the chosen slices"
            )
