"""The tables of docs/names.md, of all public functions, arguments and parts of results: `python -m evidence.names`.

What inspection cannot know is said here: what each name means, and why a default is not the same everywhere.
"""

import dataclasses
import inspect
from collections import Counter

import curtensor
from evidence import pages

PAGE = pages.DOCS / "names.md"
PUBLIC = {name: getattr(curtensor, name) for name in sorted(curtensor._HOMES, key=str.lower)}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
ESTIMATORS = {name: value for name, value in PUBLIC.items() if curtensor._HOMES[name] == "estimators"}
RESULTS = {name: value for name, value in PUBLIC.items() if name not in FUNCTIONS | ESTIMATORS}
METHODS = {"CUR.refine": curtensor.CUR.refine, "CUR.explain": curtensor.CUR.explain, "ID.explain": curtensor.ID.explain}
CALLED = FUNCTIONS | METHODS | ESTIMATORS

# In the order in which they stand wherever they do; of an estimator too.
ARGUMENTS = {
    "k": "how many columns or rows to choose, where nothing is approximated by a rank",
    "rank": "rank of a matrix's approximation, or tubal rank",
    "ranks": "rank of each mode of a tensor; of `compare` one after the other",
    "rtol": "largest relative error, in the Frobenius norm, which is held or refused; then there is no rank",
    "trace_rtol": "largest share of a positive semidefinite matrix' trace that is left, which is held or refused",
    "mode": "which mode of a tensor, from 0, negative from the last",
    "modes": "the mode of each matrix",
    "columns": "which columns",
    "rows": "which rows",
    "indices": "which columns or rows, in the order of choice",
    "axis": "0 for rows, 1 for columns",
    "n_columns": "how many columns, or lateral slices, where not the rank",
    "n_rows": "how many rows, or horizontal slices, where not the rank",
    "n_samples": "how many slices of each mode, where not so many times the rank",
    "kernel": "the function of two sets of points, where the data are points",
    "gamma": "a parameter of scikit-learn's kernels",
    "coef0": "the same",
    "degree": "the same",
    "kernel_params": "parameters of a kernel that is a function",
    "method": "the algorithm of the function itself: where it chooses, the rule",
    "methods": "what to compare: names and functions ``(A, rank, rng)``",
    "selection": "the `method` of `select_columns`, for slices and fibres, where `method` is taken",
    "score_rank": "the `rank` of `select_columns`, where `rank` is taken",
    "core": "which middle matrix, or tensor",
    "weights": "how readily each candidate is chosen, 0 for never",
    "include": "candidates taken in any case",
    "exclude": "candidates never taken",
    "groups": "labels: candidates with the same one are taken together or not at all",
    "norm": "in which an error is measured",
    "n_probes": "random vectors on which an error is estimated",
    "normalize": "whether scores are to sum to 1",
    "oversampling": "random vectors beyond the rank",
    "power_iterations": "products with the matrix and its adjoint",
    "sketch": "which random matrix A is multiplied by",
    "shape": "lengths of the modes, of data which do not say them",
    "dtype": "in which to compute, where not that of the data",
    "batch": "entries that one call of a function asks for at most",
    "vectorized": "whether a function takes arrays of indices, or integers",
    "max_entries": "entries read at most",
    "block_bytes": "memory for blocks, in bytes",
    "tol": "relative change of the error below which an iteration has converged: no bound on the error",
    "max_sweeps": "sweeps over all modes at most",
    "svd": "whether to estimate the SVD's shares, too",
    "skip": "a matrix to leave out",
    "transpose": "whether matrices are multiplied by their adjoints",
    "rng": "None, int, SeedSequence or Generator",
    "random_state": "the `rng` of scikit-learn",
    "callback": "called with the fraction done",
}
# Why the default, or that one is needed, differs with the function.
REASONS = {
    "axis": "as in the literature: leverage is a row's, an interpolative decomposition keeps columns",
    "core": "the projection is the best, but reads all of X, which a tensor cross is there to avoid",
    "kernel": "scikit-learn's estimators have a usual kernel",
    "max_sweeps": "those of `hooi` end by `tol`, those of `tensor_cur` settle soon, those of `tt_cross` go one way",
    "method": "each function has its own algorithms",
    "ranks": "`compare` has no tolerance in their place",
    "shape": "an unfolding does not say it",
}
# What results hold, do and say; what is called is followed by parentheses.
PARTS = {
    "shape": "lengths of the modes of the approximation",
    "ndim": "how many modes these are",
    "size": "how many entries, as in NumPy: the product of `shape`",
    "dtype": "of the approximation",
    "rank": "the rank of a matrix, or the tubal rank, that the approximation can have",
    "ranks": "the rank of each mode; of a tensor train those between its cores",
    "n_stored": "numbers of which the approximation is made",
    "nbytes": "bytes of all arrays held",
    "error_estimate": "relative error in the Frobenius norm, exact or as the docstring says",
    "converged": "whether what was seen says that the error is as small as it should be",
    "trace_error": "share of the trace of A that is left: exact",
    "condition": "how much a product through U magnifies rounding",
    "n_entries_read": "entries of X read",
    "C": "chosen columns, or lateral slices, to the bit",
    "U": "the middle of C U R; of an SVD left singular vectors",
    "R": "chosen rows, or horizontal slices, to the bit",
    "s": "singular values, or tubes",
    "S": "the same as a tensor",
    "Vh": "right singular vectors, as rows",
    "core": "the small tensor",
    "factors": "the matrix of each mode",
    "cores": "the third-order tensor of each mode",
    "middle": "what stands between both bases",
    "right": "orthonormal basis of R's rows",
    "skeleton": "the chosen columns or rows of an ID",
    "coefficients": "what they are multiplied by",
    "axis": "1 if columns are chosen, 0 if rows",
    "F": "the factor of a positive semidefinite matrix",
    "col_indices": "which columns were chosen, in this order",
    "row_indices": "which rows",
    "indices": "which columns or rows of an ID; of a tensor CUR which slices of each mode",
    "left_indices": "of a tensor train: nested index sets in the modes before each rank",
    "right_indices": "the same in the modes behind",
    "lower": "the low ends of a box",
    "upper": "its high ends",
    "bits": "of a cell's number along an axis",
    "volume": "of the box",
    "chosen": "for each mode the indices chosen, or None",
    "names": "what the chosen slices of each mode are called, or all slices where none are chosen",
    "dims": "what the modes of a DataArray are called",
    "explained": "share of the squared norm explained by the first 1, 2, ... choices",
    "svd": "the same of the SVD, an estimate",
    "each": "share of each column, or row, that the chosen ones explain",
    "left": "orthonormal basis of C's columns; of an explanation what is left of each row, or column",
    "across": "share of each row, or column, that the approximation explains",
    "weights": "share of the squared norm that each column, or row, is",
    "choices": "a table of the chosen ones, in order",
    "others": "a table of all others, worst explained first",
    "outliers": "a table of the slices across, worst explained first",
    "col_names": "names of the columns",
    "row_names": "names of the rows",
    "rows": "one row for each method and rank",
    "product": "the factors of the approximation, one after the other",
    "T": "the transpose, in blocks too",
    "passes": "how often the data have been read",
    "bytes_read": "how much of them",
    "at()": "entries of the approximation at `indices`",
    "sum()": "over `modes`, with `weights`",
    "mean()": "over `modes`",
    "inner()": "product with an `other` of its kind",
    "norm()": "of the approximation, in Frobenius' sense",
    "round()": "to lower `ranks`, or to `rtol`",
    "points()": "coordinates of cells, by `indices` of bits",
    "indices()": "bits of the cells at `coordinates`",
    "function()": "a function `f` of coordinates as one of bits",
    "to_array()": "the approximation as a dense array",
    "as_linear_operator()": "the approximation as SciPy's LinearOperator",
    "nystroem()": "features of the points, or of others by their kernel values with the chosen ones",
    "to_svd()": "the approximation as `SVD`",
    "to_tucker()": "the approximation with orthonormal factors, cut to `ranks` if asked",
    "to_tensorly()": "the approximation as TensorLy holds it",
    "explain()": "what each chosen column or row says of A, and how the others follow",
    "refine()": "more columns and rows, to a higher `rank` or to `rtol`",
    "save()": "write it to a `path`, whole or not at all",
    "load()": "read what `save` wrote",
    "checked()": "what a file holds, checked, for `load`",
    "plot()": "draw it with matplotlib on `ax`, or in a new figure; a comparison also to a `path`",
    "to_csv()": "write the rows to a `path`",
}


def signature(value):
    """The arguments of a function, a method or an estimator, by name."""
    return {name: part for name, part in inspect.signature(value).parameters.items() if name != "self"}


def default(parameter):
    """The default of an argument as it is written, or that it is needed."""
    return "needed" if parameter.default is parameter.empty else f"`{parameter.default!r}`".replace("'", '"')


def of_kind(value, kind):
    """The arguments of one kind, as code."""
    found = [part for part in signature(value).values() if part.kind == kind]
    return (
        f"`{', '.join(str(part.replace(annotation=part.empty)) for part in found)}`".replace("'", '"') if found else ""
    )


def given_back(value):
    """The kind of what a function gives."""
    kind = inspect.signature(value).return_annotation
    return f"`{getattr(kind, '__name__', kind)}`" if inspect.isfunction(value) else ""


def functions():
    """The table of functions."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    head = ["name", "arrays, by position", "by position or keyword", "by keyword", "gives"]
    return [head, *([f"`{name}`", *(of_kind(f, kind) for kind in kinds), given_back(f)] for name, f in CALLED.items())]


def defaults(argument):
    """The default of an argument in each function that has it by keyword."""
    named = {name: signature(value).get(argument) for name, value in CALLED.items()}
    return {name: default(part) for name, part in named.items() if part and part.kind != part.POSITIONAL_ONLY}


def where(argument):
    """The usual default, and the others with the functions that have them."""
    found = defaults(argument)
    (usual, _), *others = Counter(found.values()).most_common()
    names = {value: ", ".join(f"`{name}`" for name, own in found.items() if own == value) for value, _ in others}
    return "; ".join([usual, *(f"{value} in {names[value]}" for value in names)])


def arguments():
    """The table of arguments that have a name to be called by."""
    head = ["argument", "what it is", "default", "why it differs"]
    return [head, *([f"`{name}`", what, where(name), REASONS.get(name, "")] for name, what in ARGUMENTS.items())]


def own_parts(kind):
    """What a result has: all fields of a data class, all it does; of `RowBlocks` no fields but the dtype."""
    fields = ["dtype"] if kind is curtensor.RowBlocks else [field.name for field in dataclasses.fields(kind)]
    inner = {field.name for field in dataclasses.fields(kind)} - {*fields}
    known = [name for name in dict.fromkeys([*fields, *dir(kind)]) if not name.startswith("_") and name not in inner]
    called = {name: "()" if inspect.isroutine(getattr(kind, name, None)) else "" for name in known}
    return [name + called[name] for name in known if len(name) == 1 or not name.isupper()]


def parts():
    """The table of what results have."""
    having = {name: own_parts(kind) for name, kind in RESULTS.items()}
    used = sorted({part for found in having.values() for part in found}, key=list(PARTS).index)
    rows = ([f"`{part}`", PARTS[part], ", ".join(f"`{n}`" for n in having if part in having[n])] for part in used)
    return [["attribute", "what it is", "of"], *rows]


TABLES = {"functions": functions, "arguments": arguments, "parts of results": parts}

if __name__ == "__main__":
    for name, table in TABLES.items():
        pages.rewrite(PAGE, name, table())
