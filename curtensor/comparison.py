"""CUR against the truncated SVD, and of tensors against ST-HOSVD: errors and times side by side."""

import csv
import io
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from curtensor import _validation, operands, plots
from curtensor.accuracy import approximation_of, exact_error
from curtensor.cur import cur_decomposition
from curtensor.files import written_whole
from curtensor.leverage import exact_svd
from curtensor.results import product_operator
from curtensor.svd import randomized_svd
from curtensor.tensors import comparison as of_tensors

SIZE = (10, 4.5)  # inches of a figure of two axes
LEAST = {"error": 1e-17, "cpu_seconds": 1e-6}  # that a logarithmic axis shows
EXACT_WORK = 4e9  # m n min(m, n) up to which the SVD is computed in full: a few seconds


def by_svd(A, rank, rng):
    """Truncated SVD, the optimum: in full, or where that is too much work by up to 7 steps of block Krylov."""
    if A.shape[0] * A.shape[1] * min(A.shape) > EXACT_WORK:
        return randomized_svd(A, rank, power_iterations=7, rng=rng)
    U, s, Vh = exact_svd(*operands.find(A))
    return product_operator(U[:, :rank], s[:rank, None] * Vh[:rank])


def by_randomized_svd(A, rank, rng):
    """`randomized_svd` as it comes."""
    return randomized_svd(A, rank, rng=rng)


def by_cur(A, rank, rng):
    """CUR as it comes: the default rule and the projection core."""
    return cur_decomposition(A, rank, rng=rng)


def by_intersection(A, rank, rng):
    """CUR by the intersection of as many columns as the rank and 1.5 times as many rows."""
    return cur_decomposition(A, rank, n_rows=min(rank + (rank + 1) // 2, A.shape[0]), core="intersection", rng=rng)


def by_cpqr(A, rank, rng):
    """CUR with columns and rows by column-pivoted QR factorisation of a sketch."""
    return cur_decomposition(A, rank, method="cpqr", rng=rng)


def by_leverage(A, rank, rng):
    """CUR with columns and rows drawn by leverage scores."""
    return cur_decomposition(A, rank, method="leverage", rng=rng)


def by_uniform(A, rank, rng):
    """CUR with columns and rows drawn with equal probabilities: the control."""
    return cur_decomposition(A, rank, method="uniform", rng=rng)


# (A, rank, rng) to what `relative_error` takes, for matrices. The first, the optimum, is part of every comparison.
METHODS = {
    "svd": by_svd,
    "randomized_svd": by_randomized_svd,
    "cur": by_cur,
    "cur_intersection": by_intersection,
    "cpqr": by_cpqr,
    "leverage": by_leverage,
    "uniform": by_uniform,
}


class Row(NamedTuple):
    """One method at one rank."""

    method: str
    rank: int
    error: float
    error_over_best: float
    cpu_seconds: float


class TensorRow(NamedTuple):
    """One method at one rank, of a tensor."""

    method: str
    rank: int
    error: float
    error_over_best: float
    cpu_seconds: float
    numbers: int | None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Errors and times of methods at some ranks, one row each; prints as a table.

    Attributes
    ----------
    rows : tuple of Row
        Rank by rank, with ``method, rank, error, error_over_best, cpu_seconds``: the name; the rank asked for; the
        exact ``||A - approximation||_F / ||A||_F``; that over the error of the truncated SVD (of a tensor: of
        ST-HOSVD), both taken as at least the dtype's epsilon; the CPU time in seconds with one BLAS thread, compiling
        apart. Of a tensor also ``numbers``: how many numbers the approximation holds, None where that is unknown.
    """

    rows: tuple[Any, ...]

    def __str__(self) -> str:
        """An aligned table, ranks apart by an empty line."""
        width = max(len(row.method) for row in self.rows)
        lines = [f"{'method':{width}} {'rank':>6} {'error':>10} {'error / best':>13} {'CPU seconds':>12}"]
        lines[0] += "".join(f" {name + ' held':>13}" for name in self.rows[0]._fields[5:])
        for before, row in zip((self.rows[0], *self.rows), self.rows, strict=False):
            lines += [""] * (row.rank != before.rank)
            figures = f"{row.error:>10.4g} {row.error_over_best:>13.3f} {row.cpu_seconds:>12.3g}"
            figures += "".join(f" {'unknown' if number is None else number:>13}" for number in row[5:])
            lines.append(f"{row.method:{width}} {row.rank:>6} {figures}")
        return "\n".join(lines)

    __repr__ = __str__

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the rows to a comma-separated file with a header, whole or not at all."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.rows[0]._fields, *self.rows])
        with written_whole(path) as file:
            file.write(text.getvalue().encode())

    def plot(self, path: str | os.PathLike | None = None, *, ax: Any = None) -> Any:
        """Draw errors and CPU times over the rank, logarithmic, with matplotlib.

        Parameters
        ----------
        path : str or path-like, optional
            Where to write the figure, whole or not at all, in the format that the ending says.
        ax : matplotlib.axes.Axes or pair of these, optional
            Where to draw: errors on a single one, errors and CPU times on a pair; by default a pair in a new figure.

        Returns
        -------
        ax : matplotlib.axes.Axes or pair of these
            What was drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If matplotlib knows no such format.
        """
        image = None if path is None else image_format(path)
        own = ax is None
        if own and path is not None:  # a figure of its own, which nobody has to close
            ax = plots.matplotlib_loaded().figure.Figure(figsize=SIZE, layout="constrained").subplots(1, 2)
        ax = plots.axes(ax, SIZE, columns=2)
        drawn(self.rows, np.atleast_1d(ax), own)
        if path is not None:
            with written_whole(path) as file:
                np.atleast_1d(ax)[0].figure.savefig(file, format=image, dpi=150)
        return ax

    def _repr_html_(self) -> str:
        """The rows, for a notebook."""
        head = [name.replace("_", " ") for name in self.rows[0]._fields]
        rows = [[f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row] for row in self.rows]
        return plots.html_table("Errors and times", head, rows)


class Case(NamedTuple):
    """A matrix or a tensor to compare methods on."""

    A: Any
    dtype: np.dtype
    largest_rank: int
    methods: dict[str, Callable]  # the first is the reference
    check: Callable[[], None]  # raises if A is not finite
    error: Callable[[Any], float]  # of an approximation
    row: Callable[..., Row | TensorRow]  # from an approximation and the figures of any row
    small: tuple[int, ...]  # the shape of an array to compile kernels on


def matrix_case(A):
    """The case of a matrix."""
    operand, A = operands.find(A)

    def error(approximation):
        return exact_error(operand, A, approximation_of(approximation, A.shape), np.linalg.norm)

    def check():
        _validation.finite(operand, A)

    def row(approximation, *figures):
        return Row(*figures)

    return Case(A, operand.dtype(A), min(A.shape), METHODS, check, error, row, (200, 150))


def tensor_case(A):
    """The case of a tensor."""
    tensor = operands.find_tensor(A, "A")
    if tensor.sparse:
        raise _validation.complain(TypeError, "A", "a dense tensor", f"a sparse {type(A).__name__}")
    A = tensor.whole()

    def error(approximation):
        return of_tensors.error(A, tensor_approximation(approximation, A.shape))

    def check():
        finite_tensor(A, "A")

    def row(approximation, *figures):
        return TensorRow(*figures, of_tensors.stored_numbers(approximation))

    methods, dtype = of_tensors.formats_for(A), _validation.array_dtype(A.dtype)
    return Case(A, dtype, max(A.shape), methods, check, error, row, (12, 11, 10) + (3,) * (A.ndim - 3))


def compare(
    A: Any,
    /,
    ranks: int | _validation.Integers,
    *,
    methods: Sequence[str | Callable] | None = None,
    rng: _validation.RandomSource = None,
    callback: Callable[[float], object] | None = None,
) -> Comparison:
    """Errors and times of CUR decompositions beside those of the truncated SVD, which no method can beat.

    Of tensors with three modes or more, beside those of ST-HOSVD.

    Parameters
    ----------
    A : array of any framework, sparse matrix or DataFrame, shape (m, n) or (d_0, d_1, d_2, ...)
        Real or complex; integers and bool are taken as float64.
    ranks : int or sequence of int
        Distinct ranks, each 1 to min(m, n). Of a tensor, each from 1 to the length of its longest mode: the rank of
        every mode that is as long, and the length of the shorter ones.
    methods : sequence of str and callables, optional
        Names of `curtensor.comparison.METHODS`, for tensors of `curtensor.tensors.comparison.TENSOR_FORMATS` (with
        three modes also of its THIRD_ORDER_FORMATS), and functions ``(A, rank, rng)`` to an approximation of A: an
        array or anything that `relative_error` takes; of a tensor an array or anything with ``to_array()``, and with
        ``n_stored`` if its numbers are to be known. By default all names.
        The reference, "svd" or "st_hosvd", comes first, asked for or not.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness. At each rank all methods start from the same seed, so that a method's row does not
        depend on the others.
    callback : callable, optional
        Called with the fraction done, a float from 0 to 1.

    Returns
    -------
    comparison : Comparison
        A table when printed; `rows`, `plot`, `to_csv`.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A has less than two modes, is empty, or not finite; if a rank or a method is unknown or given twice.

    Notes
    -----
    For each rank and method the cost of the method, and for the exact error one pass over A with O(m n k) operations.
    The truncated SVD is computed in full up to m n min(m, n) = 4e9, with O(m n min(m, n)) operations and O(m n)
    memory, and by block Krylov iteration beyond: then the best error is too large by a fraction of a percent. That
    the truncated SVD is the optimum is the theorem of Eckart and Young [1]_.

    For tensors no optimum is known. ST-HOSVD comes within the square root of the number of modes of the best of this
    multilinear rank [2]_. Tensor CUR keeps more slices than the rank, and the tubal methods far more numbers than a
    Tucker decomposition: read their errors beside the numbers that they hold, which the table says. The approximations
    are formed whole for their errors: one tensor's memory, and what the methods take.

    The seconds are CPU time of the process, with BLAS held to one thread: more of them wait for each other busily, at
    a multiple of the CPU time. Every method is run once before on a small array, so that no compiling is among them.

    References
    ----------
    .. [1] C. Eckart, G. Young, "The approximation of one matrix by another of lower rank", Psychometrika 1, 1936.
    .. [2] N. Vannieuwenhoven, R. Vandebril, K. Meerbergen, "A new truncation strategy for the higher-order singular
       value decomposition", SIAM J. Sci. Comput. 34(2), 2012.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> t = np.linspace(0, 1, 60)
    >>> A = np.abs(t[:, None] - t)
    >>> comparison = ct.compare(A, [3, 6], methods=["cur"], rng=0)
    >>> [(row.method, row.rank) for row in comparison.rows]
    [('svd', 3), ('cur', 3), ('svd', 6), ('cur', 6)]
    >>> all(1 <= row.error_over_best < 2.5 for row in comparison.rows)
    True
    >>> X = np.abs(t[:30, None, None] + t[:20, None] - t[:10])
    >>> [row.method for row in ct.compare(X, 3, methods=["hooi", "cur"], rng=0).rows]
    ['st_hosvd', 'hooi', 'cur']
    """
    A = _validation.nested_numbers(A) if isinstance(A, (list, tuple)) else A
    case = tensor_case(A) if getattr(A, "ndim", 2) > 2 else matrix_case(A)
    each_rank = rank_list(ranks, (case.largest_rank,))
    chosen = chosen_methods(case.methods, tuple(case.methods) if methods is None else methods)
    reference = next(iter(case.methods))
    rng = _validation.generator(rng)
    callback = _validation.callback_function(callback)
    case.check()

    with threadpool_limits(1, "blas"):
        return compared(case, each_rank, {reference: case.methods[reference]} | chosen, rng, callback)


def compared(case, ranks, methods, rng, callback):
    """The comparison of a dict of methods, the reference first."""
    compile_kernels(case, methods)
    seed = int(rng.integers(2**63))
    rows, best = [], {}
    for rank in ranks:
        for name, method in methods.items():
            approximation, seconds = timed(method, case.A, rank, np.random.default_rng([seed, rank]))
            error = case.error(approximation)
            best.setdefault(rank, error)
            rows.append(case.row(approximation, name, rank, error, over_best(error, best[rank], case.dtype), seconds))
            callback(len(rows) / (len(ranks) * len(methods)))
    return Comparison(tuple(rows))


def over_best(error, best, kind):
    """Ratio of two relative errors, below the dtype's epsilon nothing but rounding."""
    eps = float(np.finfo(kind).eps)
    return max(error, eps) / max(best, eps)


def timed(method, A, rank, rng):
    """What a method gives, and the CPU seconds it takes."""
    start = time.process_time()
    approximation = method(A, rank, rng)
    return approximation, time.process_time() - start


def compile_kernels(case, methods):
    """Run our own of the methods once on a small array."""
    small = np.random.default_rng(0).standard_normal(case.small).astype(case.dtype)
    for name in case.methods.keys() & methods.keys():
        case.methods[name](small, 2, np.random.default_rng(0))


def image_format(path):
    """What matplotlib calls the format of a path's ending."""
    known = plots.matplotlib_loaded().backend_bases.FigureCanvasBase.get_supported_filetypes()
    ending = os.path.splitext(_validation.file_path(path))[1].removeprefix(".").lower()
    return _validation.one_of(known, ending, "the ending of the plot's file")


def drawn(rows, axes, own):
    """Errors on the first axes and CPU seconds on the second, if any, the reference's line black and on top.

    In a figure of its own the key to the lines is beside the axes.
    """
    methods = list(dict.fromkeys(row.method for row in rows))
    titles = {"error": "relative error (Frobenius norm)", "cpu_seconds": "CPU seconds"}
    for ax, (part, title) in zip(axes, titles.items(), strict=False):
        for i, method in enumerate(methods):
            mine = sorted((row for row in rows if row.method == method), key=lambda row: row.rank)
            colors, markers = plots.COLORS, plots.MARKERS
            style = {"label": method, "color": colors[i % len(colors)], "marker": markers[i % len(markers)]}
            style |= {"zorder": 3, "markersize": 4, "linewidth": 2} if i == 0 else {"markersize": 7, "linewidth": 1.2}
            ax.plot([row.rank for row in mine], [max(getattr(row, part), LEAST[part]) for row in mine], **style)
        ax.set(title=title, xlabel="rank", yscale="log")
        ax.xaxis.set_major_locator(plots.matplotlib_loaded().ticker.MaxNLocator(integer=True))
        ax.grid(True, which="both", color="0.9", linewidth=0.6)
    key = axes[0].get_legend_handles_labels()
    if own:
        axes[0].figure.legend(*key, loc="outside right center", frameon=False)
    else:
        axes[-1].legend(*key, frameon=False, fontsize="small")


def tensor_approximation(approximation, shape):
    """An approximation of a tensor as an array of the right shape."""
    Y = (
        approximation.to_array()
        if hasattr(approximation, "to_array")
        else operands.find_tensor(approximation, "approximation").whole()
    )
    if Y.shape != shape:
        raise _validation.complain(ValueError, "approximation", f"of shape {shape}", f"shape {Y.shape}")
    return Y


def finite_tensor(X, name="X"):
    """Raise with the first index if X holds NaN or infinity."""
    for i, slab in enumerate(X):
        bad = ~np.isfinite(slab)
        if bad.any():
            index = (i, *(int(j) for j in np.unravel_index(bad.argmax(), bad.shape)))
            raise _validation.complain(ValueError, name, "finite", f"NaN or infinity, first at {index}")


def rank_list(ranks, shape):
    """Distinct ranks as a list of ints; a single one is a list of one."""
    ranks = _validation.several(ranks if np.iterable(ranks) else [ranks], "ranks", "an integer or several")
    ranks = [_validation.integer(rank, "each of ranks", 1, min(shape)) for rank in ranks]
    if not ranks or len(set(ranks)) != len(ranks):
        raise _validation.complain(ValueError, "ranks", "distinct and at least one", _validation.describe(ranks))
    return ranks


def chosen_methods(table, methods):
    """A dict of the methods asked for by names or as functions, which go by their own names."""
    methods = _validation.several(methods, "methods", "a sequence of names and functions")
    chosen = {}
    for method in methods:
        name = method if isinstance(method, str) else getattr(method, "__name__", _validation.describe(method))
        repeated = name in chosen
        chosen[name] = _validation.choose(table, method, "each of methods")
        if repeated or chosen[name] is not table.get(name, chosen[name]):
            raise _validation.complain(ValueError, "methods", "of distinct names", _validation.describe(methods))
    return chosen
