"""What chosen columns or rows say of a matrix: each choice's share, what the others follow from, and the outliers."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curtensor import _validation, operands, plots
from curtensor.operands import tables
from curtensor.operands.arithmetic import dense, times_power
from curtensor.selection import orthonormal_columns
from curtensor.sketching import scaled_lazily
from curtensor.svd import randomized_svd

SIDES = ("row", "column")
TERMS = 3  # chosen ones at most that a table names for each of the others
DISPLAY_WORK = 1e9  # operations for shares that a notebook shows
INSIDE = 64  # roundings of its own length, below which a chosen column has nothing outside of those before it


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """How much of a matrix chosen columns, or rows, explain; of rows read "row" for "column" and the other way round.

    A share is that of a squared Frobenius norm: ``1 - ||left over||^2 / ||whole||^2``.

    Attributes
    ----------
    axis : int
        1 where columns were chosen, 0 where rows were.
    chosen : ndarray of int, shape (k,)
        Which, in the order of choice.
    explained : ndarray, shape (k,)
        Share of ``||A||_F^2`` that the best fit by the first 1, 2, ..., k of these explains.
    svd : ndarray, shape (k,), or None
        Share that as many terms of the SVD explain, an estimate; None where it was not asked for.
    each : ndarray, shape (n,)
        Share of each column's squared norm that all the chosen ones explain: 1 of a chosen one.
    coefficients : ndarray, shape (k, n)
        Each column's best fit by the chosen ones: A is close to ``A[:, chosen] @ coefficients``, or for rows to
        ``coefficients.T @ A[chosen]``.
    left : ndarray, shape (m,)
        What the approximation (of a CUR: C U R) leaves of each row, as a share of ``||A||_F^2``.
    across : ndarray, shape (m,)
        Share of each row's squared norm that the approximation explains; negative where it is worse than nothing.
    weights : ndarray, shape (n,)
        Share of ``||A||_F^2`` that each column is.
    names : tuple of (sequence or None)
        Names of all rows and of all columns, None where A has none.
    """

    axis: int
    chosen: np.ndarray
    explained: np.ndarray
    svd: np.ndarray | None
    each: np.ndarray
    coefficients: np.ndarray
    left: np.ndarray
    across: np.ndarray
    weights: np.ndarray
    names: tuple[Any, Any] = (None, None)

    def __repr__(self) -> str:
        """How many explain how much."""
        share = f"{self.explained[-1]:.4g}" if len(self.chosen) else "nothing"
        return f"Explanation({len(self.chosen)} of {len(self.each)} {SIDES[self.axis]}s explain {share})"

    def _repr_html_(self) -> str:
        """The chosen ones and the shares explained so far, for a notebook."""
        names = self.names[self.axis]
        texts = [i if names is None else names[i] for i in self.chosen[: plots.LISTED]]
        columns = [
            range(1, len(texts) + 1),
            texts,
            self.explained.tolist(),
            *([] if self.svd is None else [self.svd.tolist()]),
        ]
        head = ["", SIDES[self.axis], "explained so far", *([] if self.svd is None else ["by the SVD (estimate)"])]
        return plots.html_table(repr(self), head, zip(*columns, strict=False))

    def plot(self, kind: str = "shares", *, ax: Any = None, rtol: float | None = None) -> Any:
        """Draw the shares explained so far, or the coefficients of the others, with matplotlib.

        Parameters
        ----------
        kind : "shares" or "others", default "shares"
            The share explained against the number chosen, beside the SVD's where it was asked for; or a map of the
            coefficients by which the others follow from the chosen ones, the 40 best explained.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.
        rtol : float, optional
            A relative error, 0 to 1, at which a line is drawn among the shares.

        Returns
        -------
        ax : matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such kind.
        """
        side, names = SIDES[self.axis], self.names[self.axis]
        _validation.one_of(("shares", "others"), kind, "kind")
        if kind == "shares":
            curves = {f"chosen {side}s": self.explained}
            curves |= {} if self.svd is None else {"SVD (estimate)": self.svd}
            called = None if names is None else [names[i] for i in self.chosen]
            return plots.draw_shares(ax, curves, f"number of {side}s", called, rtol)
        rest = np.setdiff1d(np.arange(len(self.each)), self.chosen)
        kept = rest[np.argsort(-self.each[rest], kind="stable")][: plots.NAMED_LINES]
        rows, columns = ([f"{side} {i}" if names is None else names[i] for i in part] for part in (kept, self.chosen))
        shares = [
            f"{name}, {100 * self.each[i]:.0f} %" for name, i in zip(map(plots.short_name, rows), kept, strict=True)
        ]
        title = f"The other {side}s: % explained,\nand coefficients on the chosen"
        return plots.draw_map(ax, self.coefficients[:, kept].T, shares, columns, title)

    @property
    def choices(self) -> Any:
        """The chosen ones in order: number, name if any, what each adds, the share explained so far, the SVD's."""
        columns = self._labelled(self.axis, self.chosen)
        columns |= {"adds": np.diff(self.explained, prepend=0), "explained": self.explained}
        return table(columns if self.svd is None else columns | {"svd": self.svd})

    @property
    def others(self) -> Any:
        """All others, worst explained first: number, name if any, share explained, the chosen that they follow from.

        The last column names at most three chosen ones, those that contribute most, each after its coefficient.
        """
        rest = np.setdiff1d(np.arange(len(self.each)), self.chosen)
        rest = rest[np.argsort(self.each[rest], kind="stable")]
        columns = self._labelled(self.axis, rest)
        return table(columns | {"explained": self.each[rest], "follows_from": self._sources(rest)})

    @property
    def outliers(self) -> Any:
        """All slices across, worst explained first: number, name if any, share explained, share of all that is left."""
        order = np.argsort(-self.left, kind="stable")
        columns = self._labelled(1 - self.axis, order)
        return table(columns | {"explained": self.across[order], "left": self.left[order] / (self.left.sum() or 1)})

    def _labelled(self, axis, indices):
        """First columns of a table of rows or columns."""
        names = self.names[axis]
        return {SIDES[axis]: indices} | ({} if names is None else {"name": names[indices]})

    def _sources(self, indices):
        """What each of some columns follows from, in a text."""
        names = self.chosen if self.names[self.axis] is None else self.names[self.axis][self.chosen]
        coefficients = self.coefficients[:, indices]
        size = np.abs(coefficients) * np.sqrt(self.weights[self.chosen])[:, None]
        terms = np.argsort(-size, axis=0, kind="stable")[:TERMS].T
        texts = [
            "  ".join(f"{coefficients[l, j]:+.2f} {names[l]}" for l in own if size[l, j]) for j, own in enumerate(terms)
        ]
        return np.array(texts, dtype=object)


def explain(
    A: Any, /, indices: _validation.Integers, *, axis: int = 1, svd: bool = False, rng: _validation.RandomSource = None
) -> Explanation:
    """Say how much of a matrix some of its columns, or rows, explain, and how the others follow from them.

    For columns C = A[:, indices] the share of ``||A||_F^2`` in their span, ``||C C^+ A||_F^2 / ||A||_F^2``, choice by
    choice and column by column, with the coefficients C^+ A. `CUR.explain` and `ID.explain` say it of a result.

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, DataArray, dask array or `row_blocks`, shape (m, n)
        Real or complex; names of rows and columns go into the tables.
    indices : sequence of int
        The chosen columns or rows, as `select_columns` and `select_rows` give them: distinct, and in this order.
    axis : 0 or 1, default 1
        1 for columns, 0 for rows.
    svd : bool, default False
        Whether to set the shares of the truncated SVD, which no choice can beat, beside them: an estimate, for which
        `randomized_svd` makes passes over A of its own.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness for this estimate; nothing else is random.

    Returns
    -------
    explanation : Explanation
        With the tables `choices`, `others` and `outliers` (DataFrames where pandas is installed, else dicts of arrays),
        `plot`, and the numbers themselves.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if there are no indices, or any is repeated or out of range.

    Notes
    -----
    Passes over A: one to take the columns, one for their products with A, and one for the rows; `CUR.explain` and
    `ID.explain` hold what the first two are for, and make one pass. O(m n k) operations and O((m + n) k) memory; sparse
    stays sparse. Shares are exact but for rounding, that of sums of squares in double precision; a choice that
    depends on those before it adds nothing.

    References
    ----------
    .. [1] M. W. Mahoney, P. Drineas, "CUR matrix decompositions for improved data analysis", Proc. Natl. Acad. Sci.
       106(3), 2009.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> A = np.array([[3.0, 0, 3, 0], [0, 2, 1, 0], [0, 0, 0, 1]])
    >>> explanation = ct.explain(A, [0, 1])
    >>> explanation.explained.round(3)
    array([0.75 , 0.958])
    >>> explanation.coefficients[:, 2].round(3)
    array([1. , 0.5])
    """
    given, (operand, A) = A, operands.find(A)
    axis = _validation.integer(axis, "axis", 0, 1)
    indices = _validation.index_list(operands.on_host(indices, "indices"), "indices", A.shape[axis])
    some_indices(indices)
    slices = operand.take(A, indices, axis)
    slices = slices if axis == 1 else slices.conj().T
    basis = orthonormal_columns(slices)
    image = operand.rmatmat(A, basis) if axis == 1 else operand.matmat(A, basis)
    return explained(given, axis, product_of(indices, slices, basis, image.conj().T), svd, rng)


class Fitted(NamedTuple):
    """Chosen columns of a matrix, or of its adjoint, and an approximation of it: ``left @ middle @ right``.

    `left` is an orthonormal basis of the chosen columns, and the rows of `right` are orthonormal, too.
    """

    indices: np.ndarray
    slices: Any
    left: Any
    middle: np.ndarray
    right: Any


def product_of(indices, slices, basis, coordinates):
    """`Fitted` where the approximation is ``basis @ coordinates``."""
    right, middle = np.linalg.qr(coordinates.conj().T)
    return Fitted(indices, slices, basis, middle.conj().T, right.conj().T)


def explained(given, axis, fitted, svd, rng, names=(None, None)):
    """The `Explanation` of columns chosen of A (axis 1) or of its adjoint (axis 0); one pass.

    What names the chosen slices have goes into it where A has none.
    """
    operand, A = operands.find(given)
    rng = _validation.generator(rng)
    of_decomposed_shape(A, fitted, axis)
    exponent = spare_exponent(fitted.slices)
    scaled_operand, scaled_A = scaled_lazily(operand, A, exponent) if exponent else (operand, A)
    thin = fitted.left, fitted.right.conj().T
    with np.errstate(over="ignore", invalid="ignore"):
        found = scaled_operand.images_and_norms(scaled_A, *(thin if axis == 1 else thin[::-1]))
    image, other, of_rows, of_columns = found if axis == 1 else (found[1], found[0], found[3], found[2])
    total = of_columns.sum()
    if not np.isfinite(total):
        _validation.finite(operand, A)
    slices, middle = (times_power(part, exponent) for part in (fitted.slices, fitted.middle))
    same_slices(slices, of_columns[fitted.indices])

    triangle = dense(fitted.left.conj().T @ slices)
    gains = gains_in_order(triangle, image.conj().T)
    coefficients = fitted_coefficients(triangle, image.conj().T)
    coefficients[:, fitted.indices] = np.eye(len(fitted.indices))
    each = ratios(squared_lengths(image, 1), of_columns)
    each[fitted.indices] = 1
    fit = dense(fitted.left @ middle)
    left = np.maximum(of_rows - 2 * inner(other, fit) + squared_lengths(fit, 1), 0)
    total = total or 1
    shares = np.minimum(np.cumsum(gains) / total, 1)
    best = np.maximum(svd_shares(A, len(shares), total, exponent, rng), shares) if svd else None
    chosen = (None, fitted.indices) if axis == 1 else (fitted.indices, None)
    return Explanation(
        axis,
        fitted.indices,
        shares,
        best,
        each,
        coefficients if axis == 1 else coefficients.conj(),
        left / total,
        1 - np.divide(left, of_rows, out=np.zeros(len(left)), where=of_rows > 0),
        of_columns / total,
        tuple(map(all_names, tables.names(given, 2), names, chosen, A.shape)),
    )


def svd_shares(A, k, total, exponent, rng):
    """Share of ``||A||_F^2`` in the first 1, ..., k terms of the SVD, as randomized SVD sees it."""
    s = np.asarray(operands.on_host(randomized_svd(A, max(min(k, *A.shape), 1), rng=rng).s), dtype=float)
    s = np.pad(s, (0, max(k - len(s), 0)))[:k]
    return np.minimum(np.cumsum(times_power(s, exponent) ** 2) / total, 1)


def fitted_coefficients(triangle, B):
    """The least X for which ``triangle @ X`` is nearest to B, by the SVD of what is small: B has many columns."""
    W, s, Zh = np.linalg.svd(triangle)
    kept = s > len(s) * np.finfo(s.dtype).eps * s.max(initial=0)
    half = W[:, : len(s)][:, kept].conj().T @ B
    half /= s[kept, None]
    return Zh[: len(s)][kept].conj().T @ half


def gains_in_order(triangle, coordinates):
    """Squared norm that each of some columns adds to what lies in their span, all given in a basis of it."""
    turn, own = directions_in_order(triangle)
    gains = np.zeros(triangle.shape[1])
    gains[own] = squared_lengths(turn.conj().T @ coordinates, 1)
    return gains


def so_far(names, slices, basis, coordinates, error):
    """Names of chosen columns, and the shares that an approximation, ``basis @ coordinates``, has in their span so far.

    Nothing where that would be too much work for a first look.
    """
    if slices.shape[0] * slices.shape[1] ** 2 > DISPLAY_WORK:
        return (), ()
    coordinates = coordinates / (np.abs(coordinates).max(initial=0) or 1)
    gains = gains_in_order(dense(basis.conj().T @ slices), coordinates)
    shares = np.cumsum(gains) / (gains.sum() or 1) * (1 - error**2)
    return names, shares


def directions_in_order(triangle):
    """Orthonormal directions, one after the other, of columns given in a basis, and the columns that add one each.

    By Gram-Schmidt, twice, since a QR factorisation makes up a direction where a column depends on those before it.
    """
    turn, own = np.zeros((len(triangle), 0), triangle.dtype), []
    for j, column in enumerate(triangle.T):
        rest = column
        for _ in range(2):
            rest = rest - turn @ (turn.conj().T @ rest)
        size = np.linalg.norm(rest)
        if size > INSIDE * np.finfo(rest.dtype).eps * np.linalg.norm(column) and len(own) < len(triangle):
            turn, own = np.column_stack([turn, rest / size]), [*own, j]
    return turn, own


def spare_exponent(slices):
    """The power of two that brings numbers near 1 whose squares, or sums, could leave the range of their dtype."""
    largest = np.abs(slices).max() if min(slices.shape) else 0
    exponent = -int(np.frexp(float(largest))[1])
    return exponent if abs(exponent) > np.finfo(slices.dtype).maxexp // 4 else 0


def squared_lengths(X, axis):
    """Squared norms of columns (axis 0) or rows (axis 1), added up in double precision."""
    return inner(X, X, axis)


def inner(X, Y, axis=1):
    """Real parts of the inner products of columns (axis 0) or rows (axis 1), added up in double precision."""
    to = "i" if axis == 1 else "j"
    parts = [(X.real, Y.real), (X.imag, Y.imag)] if np.iscomplexobj(X) else [(X, Y)]
    return sum(np.einsum(f"ij,ij->{to}", x, y, dtype=float) for x, y in parts)


def ratios(parts, wholes):
    """Parts over wholes, from 0 to 1 as they are but for rounding; 1 of nothing, of which nothing is left."""
    return np.clip(np.divide(parts, wholes, out=np.ones(len(wholes)), where=wholes > 0), 0, 1)


def all_names(names, of_chosen, chosen, size):
    """Names of all rows or columns, None where they are but numbers from 0.

    Where but the names of the chosen are known, the others are called by their numbers.
    """
    if getattr(names, "start", None) == 0 and names.step == 1:
        return None
    if names is not None or of_chosen is None or chosen is None:
        return names
    names = np.arange(size).astype(object)
    names[chosen] = of_chosen
    return names


def table(columns):
    """Columns by name as a DataFrame, or where pandas is not installed as they are."""
    try:
        import pandas as pd
    except ImportError:
        return columns
    return pd.DataFrame(columns)


def some_indices(indices):
    """Raise if there are no indices."""
    if len(indices) == 0:
        raise _validation.complain(ValueError, "indices", "at least one", "none")


def of_decomposed_shape(A, fitted, axis):
    """Raise if A is not of the shape of what was decomposed."""
    shape = fitted.left.shape[0], fitted.right.shape[1]
    shape = shape if axis == 1 else shape[::-1]
    if tuple(A.shape) != shape:
        raise _validation.complain(ValueError, "A", f"of shape {shape}", f"shape {tuple(A.shape)}")


def same_slices(slices, norms):
    """Raise if A's squared norms at the chosen slices are not those of the slices that a result holds."""
    held = np.asarray(
        abs(slices).power(2).sum(axis=0) if hasattr(slices, "nnz") else squared_lengths(slices, 0), dtype=float
    )
    slack = np.finfo(slices.dtype).eps ** 0.5
    if (np.abs(held - norms) > slack * (held + norms)).any():
        what, got = "the matrix that was decomposed", "other entries in the chosen slices"
        raise _validation.complain(ValueError, "A", what, got)
