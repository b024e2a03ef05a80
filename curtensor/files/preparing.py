"""What is done to a matrix between its file and its decomposition: gaps filled, logarithms, columns scaled."""

import dataclasses

import numpy as np

from curtensor import _validation
from curtensor.files.matrix import Refused, quoted

MISSING = ("refuse", "drop-rows", "drop-columns", "mean", "median")


def prepared(matrix, *, missing, log1p, center, scale, transpose):
    """A matrix transposed, without gaps, as logarithms, centred and scaled, in this order and as far as asked for."""
    A = matrix.A
    is_sparse_matrix = hasattr(A, "nnz") or (hasattr(A, "keys") and not hasattr(A, "dtype"))
    if transpose:
        matrix = exchanged(matrix)
    if matrix.table or missing != "refuse":
        matrix = without_gaps(matrix, missing)
    open_to_choice = center is None and scale is None
    if open_to_choice:
        center = scale = matrix.table and not numbers_as_names(matrix.col_names)
    for asked, name in ((log1p, "log1p"), (center, "center"), (scale, "scale")):
        _validation.only_without(asked, name, len(getattr(A, "shape", (0, 0))) > 2, "a tensor")
    _validation.only_without(center, "center", is_sparse_matrix, "a sparse matrix, which it would fill")
    if log1p:
        matrix = of_logarithms(matrix)
    if not (center or scale):
        return matrix
    why = ", as each may have its own unit (scale=False leaves them)" if open_to_choice else ""
    return standardised(matrix, center, scale, why)


def in_memory(A):
    """A matrix or tensor of a store, read; all else as it is."""
    from scipy import sparse

    if hasattr(A, "nnz") or type(A) is np.ndarray:
        return A
    if hasattr(A, "keys"):
        kind = sparse.csc_array if A.attrs.get("encoding-type") == "csc_matrix" else sparse.csr_array
        matrix = kind((A["data"][:], A["indices"][:], A["indptr"][:]), shape=tuple(map(int, A.attrs["shape"])))
        matrix.check_format(full_check=True)
        return matrix
    return np.array(A[...])


def exchanged(matrix):
    """The transpose, and names in the other order."""
    A = in_memory(matrix.A).T
    return dataclasses.replace(matrix, A=A, names=matrix.names[::-1], notes=(*matrix.notes, "transposed"))


def without_gaps(matrix, missing):
    """A matrix whose missing values are refused, left out with their rows or columns, or filled."""
    A = in_memory(matrix.A)
    values = A.data if hasattr(A, "nnz") else A
    if values.dtype.kind not in "fc" or not np.isnan(values).any():
        return matrix
    if hasattr(A, "nnz") or A.ndim != 2:
        raise Refused("complete", f"{int(np.isnan(values).sum())} missing values in a sparse matrix or tensor")
    matrix, gaps = dataclasses.replace(matrix, A=A), np.isnan(A)
    count = int(gaps.sum())
    if missing == "refuse":
        row, column = np.argwhere(gaps)[0]
        where = f"first in row {name_at(matrix.row_names, row)!r}, column {name_at(matrix.col_names, column)!r}"
        got = f"{count} missing in {int(gaps.any(axis=0).sum())} columns, {where}"
        raise Refused("complete", got, f'missing="drop-rows", or {", ".join(MISSING[2:])}')
    if missing in ("drop-rows", "drop-columns"):
        axis = MISSING.index(missing) - 1
        kept = ~gaps.any(axis=1 - axis)
        lost, noun = int((~kept).sum()), ("rows", "columns")[axis]
        if not kept.any():
            raise Refused(
                f"a matrix with {noun} without missing values", f"some in each of {len(kept)}", 'missing="mean"'
            )
        return with_slices(matrix, kept, axis, f"{noun} left out for missing values: {lost}")
    empty = gaps.all(axis=0)
    if empty.any():
        names = quoted([name_at(matrix.col_names, column) for column in np.flatnonzero(empty)])
        raise Refused("a matrix with values in each column", f"none in {names}", 'missing="drop-columns"')
    fill = (np.nanmean if missing == "mean" else np.nanmedian)(A, axis=0)
    note = f"missing values replaced by the {missing} of their column: {count}"
    return dataclasses.replace(matrix, A=np.where(gaps, fill.astype(A.dtype), A), notes=(*matrix.notes, note))


def with_slices(matrix, kept, axis, note):
    """Some rows or columns of a matrix, with their names."""
    names = tuple(own if own is None or n != axis else own[kept] for n, own in enumerate(matrix.names))
    A = np.compress(kept, matrix.A, axis=axis)
    return dataclasses.replace(matrix, A=A, names=names, notes=(*matrix.notes, note))


def of_logarithms(matrix):
    """log(1 + A) of each entry."""
    A = in_memory(matrix.A)
    values = A.data if hasattr(A, "nnz") else A
    if values.dtype.kind != "c" and values.size and values.min() <= -1:
        raise Refused("above -1 everywhere, for log1p", f"{values.min():.4g}")
    return dataclasses.replace(matrix, A=np.log1p(A), notes=(*matrix.notes, "log(1 + x) of each value"))


def standardised(matrix, center, scale, why):
    """Columns less their means, over their standard deviations, or one of both; constant ones are not divided."""
    from scipy import sparse

    A = in_memory(matrix.A)
    A = A.astype(_validation.array_dtype(A.dtype))
    size = abs(A).max(axis=0)
    size = np.ravel(size.toarray() if hasattr(A, "nnz") else size)
    if not np.isfinite(size).all():
        return matrix  # which the decomposition refuses, saying where
    unit = (1 / np.where(size > 0, size, 1)).astype(size.dtype)  # so that no square overflows
    A = A @ sparse.diags_array(unit) if hasattr(A, "nnz") else A * unit
    deviation = deviations(A) if hasattr(A, "nnz") else A.std(axis=0)
    constant = deviation <= 8 * np.finfo(size.dtype).eps
    if constant.all():
        raise Refused("a matrix with a column that varies", "constant columns only", "scale=False")
    notes = [f"columns {' and '.join(['centred'] * bool(center) + ['scaled to deviation 1'] * bool(scale))}{why}"]
    if scale and constant.any():
        names = [name_at(matrix.col_names, column) for column in np.flatnonzero(constant)]
        notes.append(f"constant, not scaled: {quoted(names)}")
    if center:
        A = A - A.mean(axis=0)
        A[:, constant] = 0
    factor = (np.where(constant, size, 1 / np.where(constant, 1, deviation)) if scale else size).astype(size.dtype)
    A = A @ sparse.diags_array(factor) if hasattr(A, "nnz") else A * factor
    return dataclasses.replace(matrix, A=A, notes=(*matrix.notes, *notes))


def deviations(A):
    """Standard deviations of the columns of a sparse matrix."""
    mean = A.mean(axis=0)
    stored = np.bincount(A.tocoo().coords[1], minlength=A.shape[1])
    centred = A.tocsc(copy=True)
    centred.data = np.abs(centred.data - np.repeat(mean, np.diff(centred.indptr))) ** 2
    return np.sqrt((np.ravel(centred.sum(axis=0)) + (A.shape[0] - stored) * np.abs(mean) ** 2) / A.shape[0])


def numbers_as_names(names):
    """Whether columns have no names, or numbers for names: years or wavelengths, which are of one quantity."""
    if names is None:
        return True
    try:
        names.astype(float)
    except ValueError:
        return False
    return True


def name_at(names, index):
    """What a row or column is called, or its number from 0."""
    return str(index) if names is None else str(names[index])
