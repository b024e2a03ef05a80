"""Tables of pandas, polars and xarray as one array of numbers, none of these packages imported here.

A table of one kind of column is taken as it lies in memory. Columns of several kinds, nullable ones of pandas and those
of Arrow are put together in one array, gaps as NaN; sparse columns of pandas in a CSC matrix.
"""

import numpy as np
from scipy import sparse

from curtensor import _validation
from curtensor.operands import labelled

NUMBER_KINDS = "iufcb"


def contents(X, name):
    """The array in something labelled."""
    if hasattr(X, "dims"):
        return of_xarray(X, name)
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        array = of_pandas(X, name) if hasattr(X, "iloc") else of_polars(X, name)
        no_gaps(array, X, name)
        return array
    return X.to_numpy()


def of_xarray(X, name):
    """What a DataArray holds, be it in memory or dask's; read from its store where it was not yet."""
    _validation.not_packed(X.attrs, name)
    return X.data


def of_pandas(X, name):
    """A view where pandas has one array, a copy by columns else."""
    dtypes = list(X.dtypes)
    kinds = {dtype: pandas_kind(dtype) for dtype in set(dtypes)}
    all_numbers(kinds, X.columns, dtypes, name, f"{name}.select_dtypes(['number', 'bool']) has the others")
    of_numpy = all(isinstance(dtype, np.dtype) for dtype in kinds)
    if of_numpy and len(kinds) <= 1:
        return X.to_numpy()
    kind = np.result_type(*kinds.values())
    if any(map(is_sparse, kinds)):
        return of_sparse_columns(X, kind, name)
    if of_numpy:
        return X.to_numpy(dtype=kind)
    return X.to_numpy(dtype=np.result_type(kind, np.float32) if kind.kind in "fc" else float, na_value=np.nan)


def pandas_kind(dtype):
    """The dtype of the numbers in a column of pandas, or None where it holds none."""
    kind = dtype.subtype if is_sparse(dtype) else getattr(dtype, "numpy_dtype", dtype)
    return kind if isinstance(kind, np.dtype) and kind.kind in NUMBER_KINDS else None


def is_sparse(dtype):
    """Whether pandas keeps a column's nonzero entries alone."""
    return type(dtype).__name__ == "SparseDtype"


def of_sparse_columns(X, kind, name):
    """A CSC matrix of columns of which some, or all, are sparse."""
    rows, values = [], []
    for place, dtype in enumerate(X.dtypes):
        column = X.iloc[:, place].array
        if is_sparse(dtype):
            _validation.zero_fill(dtype.fill_value, X.columns[place], name)
            rows.append(column.sp_index.to_int_index().indices)
            values.append(column.sp_values)
        else:
            numbers = np.asarray(X.iloc[:, place].to_numpy(dtype=kind if kind.kind in "fc" else float, na_value=np.nan))
            rows.append(np.flatnonzero(numbers))
            values.append(numbers[rows[-1]])
    starts = np.cumsum([0, *map(len, rows)])
    return sparse.csc_array((np.concatenate(values).astype(kind, copy=False), np.concatenate(rows), starts), X.shape)


def of_polars(X, name):
    """Polars' own array, or a copy by columns where some are of another kind or have gaps."""
    kinds = {dtype: polars_kind(dtype) for dtype in set(X.dtypes)}
    all_numbers(kinds, X.columns, X.dtypes, name, f"{name}.select(polars.selectors.numeric()) has numbers alone")
    if "b" not in kinds.values():
        return X.to_numpy()
    return np.stack([column.to_numpy().astype(float) for column in X.iter_columns()], axis=1)


def polars_kind(dtype):
    """Kind of the numbers in a column of polars, or None where it holds none."""
    if str(dtype) == "Boolean":
        return "b"
    return "f" if (dtype.is_integer() or dtype.is_float()) and "128" not in str(dtype) else None


def names(X, ndim):
    """Names along each mode as they are: indexes of pandas and xarray, texts of polars; None where there are none."""
    if labelled(X) and hasattr(X, "dims"):
        indexes = getattr(X, "indexes", {})
        return tuple(indexes.get(dim) for dim in X.dims)
    if labelled(X) and hasattr(X, "columns"):
        if hasattr(X, "index"):
            return X.index, X.columns
        return None, np.asarray(X.columns, dtype=str)
    return (None,) * ndim


def dims(X):
    """Names of a DataArray's dimensions; none for all else."""
    return tuple(map(str, X.dims)) if labelled(X) and hasattr(X, "dims") else ()


def texts(names):
    """An index of pandas, or an array, as an array of str."""
    return np.asarray(names.to_flat_index().astype(str) if hasattr(names, "to_flat_index") else names, dtype=str)


def all_numbers(kinds, columns, dtypes, name, without_these):
    """Raise if columns of a table are of a dtype that is no kind of numbers."""
    if any(kind is None for kind in kinds.values()):  # NumPy's dtypes call None equal to float64
        others = [pair for pair in zip(columns, dtypes, strict=True) if kinds[pair[1]] is None]
        column, dtype = others[0]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        got = f"column {_validation.describe(column)} of dtype {describe_dtype(dtype)}{more}; {without_these}"
        raise _validation.complain(TypeError, name, "an array, or a table of numbers in all columns", got)


def no_gaps(array, X, name):
    """Raise if there are missing or infinite values in a table, by its own names."""
    values = array.data if sparse.issparse(array) else array
    with np.errstate(over="ignore", invalid="ignore"):
        if values.dtype.kind not in "fc" or np.isfinite(values.sum()) or np.isfinite(values).all():
            return  # no sum loses NaN or infinity, and it costs a tenth
    bad = ~np.isfinite(array.toarray() if sparse.issparse(array) else array)
    row, column = map(int, np.argwhere(bad)[0])
    place = f"column {_validation.describe(X.columns[column])}"
    place = f"row {_validation.describe(X.index[row])}, {place}" if hasattr(X, "index") else place
    raise _validation.complain(ValueError, name, "finite", f"NaN or infinity, first at {(row, column)}: {place}")


def describe_dtype(dtype):
    """A dtype of a table in one short line."""
    text = " ".join(str(dtype).split())
    return text if len(text) <= 60 else text[:57] + "..."
