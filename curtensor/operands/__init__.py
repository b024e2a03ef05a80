"""What can be decomposed: the few operations which touch the large array, one module for each kind of array.

An operand is a module with plain functions, those of `contract.Operand`.
"""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from curtensor import _validation
from curtensor.operands.contract import Operand

# The type's own name, or that of one of its bases, decides; the first that matches. Else the array API does.
OPERANDS = {
    "curtensor.operands.blocks": "blocks",
    "h5py": "blocks",
    "zarr": "blocks",
    "numpy.memmap": "blocks",
    "scipy.sparse.linalg": "linear_operator",
    "scipy.sparse": "scipy_sparse",
    "numpy.ndarray": "ndarray",
    "numpy.generic": "ndarray",
    "dask": "dask_array",
}
# Classes that do not say themselves that they follow the array API; array-api-compat speaks for them.
FRAMEWORKS = {"torch": ("Tensor",), "cupy": ("ndarray",)}
BLOCK_BYTES = 2**28  # of memory for what is read of a store
PANELS = 128  # of a large array: a few copies of a panel are a few percent of it
SMALLEST_PANEL = 2**19  # bytes, below which kernels and products slow down


def find(A: Any, *, only_products: bool = False, gradients: bool = False) -> tuple[Operand, Any]:
    """The operand module for A, and A wrapped, but not cut off from gradients that go on: ``(operand, A)``."""
    operand: Any
    A = plain(A)
    for base in type(A).__mro__:
        for prefix, name in OPERANDS.items():
            if f"{base.__module__}.{base.__qualname__}.".startswith(prefix + "."):
                if name == "linear_operator" and not only_products:
                    raise _validation.complain(TypeError, "A", "an array whose rows and columns can be taken", type(A))
                if isinstance(A, np.memmap) and A.nbytes <= BLOCK_BYTES:
                    name = "ndarray"
                operand = importlib.import_module(f"curtensor.operands.{name}")
                return operand, operand.wrap(A)
    if of_framework(A):
        operand = kind_of(A)
        return operand, operand.checked_array(A) if gradients else operand.wrap(A)
    raise _validation.complain(TypeError, "A", "an array, a sparse matrix or a DataFrame", type(A))


def plain(A, name="A"):
    """What stands for a matrix of another kind, as that kind; all else as it is."""
    if isinstance(A, (list, tuple)):
        return _validation.nested_numbers(A, name)
    if labelled(A):
        A = rows_of_a_store(A) if in_a_store(A) else unlabelled(A, name)
    if of_package(A, "sparse") and hasattr(A, "fill_value"):
        _validation.matrix_shape(A.shape)
        _validation.zero_fill(A.fill_value, None, name)
        return A.asformat("coo").to_scipy_sparse()
    if of_package(A, "anndata") and is_group(getattr(A, "group", None)):
        return A.group
    return A


def labelled(X):
    """Whether X is of pandas, polars or xarray, none of which is imported here."""
    return hasattr(X, "to_numpy")


def unlabelled(X, name="A"):
    """The array in something labelled; of a DataArray as it is, be it in memory or dask's."""
    from curtensor.operands import tables

    return tables.contents(X, name)


def in_a_store(X):
    """Whether X is a matrix of xarray that is too large to be read whole, and has not been."""
    waiting = not getattr(getattr(X, "variable", None), "_in_memory", True) and getattr(X, "chunks", ()) is None
    return waiting and X.ndim == 2 and X.nbytes > BLOCK_BYTES


def rows_of_a_store(X):
    """Such a matrix in blocks of rows."""
    from curtensor.operands import blocks

    return blocks.wrap(X)


def is_group(X):
    """Whether an object holds arrays by name, as HDF5 and zarr groups do."""
    return hasattr(X, "keys") and not hasattr(X, "dtype") and hasattr(X, "__getitem__")


def of_framework(X):
    """Whether X is an array of PyTorch, or of another framework that follows the array API; none is imported here."""
    if isinstance(X, (np.ndarray, np.generic)) or of_package(X, "sparse"):
        return False
    return any(
        hasattr(base, "__array_namespace__") or base.__qualname__ in FRAMEWORKS.get(base.__module__, ())
        for base in type(X).__mro__
    )


def kind_of(X):
    """The operand of a dense array that is part of a result."""
    return importlib.import_module(f"curtensor.operands.{'array_api' if of_framework(X) else 'ndarray'}")


def on_host(X):
    """A framework's array as one of NumPy; all else as it is."""
    return kind_of(X).to_numpy(X) if of_framework(X) else X


def result_on_host(result):
    """A result with NumPy arrays in place of a framework's."""
    return replace(result, **{name: on_host(part) for name, part in vars(result).items()})


def result_like(operand, A, result, own=()):
    """A result with its arrays, but for indices and names, in the kind of A; its own slices of A in A's own dtype."""
    arrays = {name: part for name, part in vars(result).items() if getattr(part, "dtype", np.dtype(int)).kind in "fc"}
    return replace(result, **{name: operand.like(A, part, name in own) for name, part in arrays.items()})


def beside(X, x):
    """What a result is multiplied by, as an array of the kind of the result's part X."""
    if of_framework(X) and of_framework(x):
        return x
    x = np.asarray(on_host(x))
    return kind_of(X).like(X, x.astype(kind_of(X).dtype(X), casting="same_kind")) if of_framework(X) else x


def followed(X):
    """Whether gradients are followed through an array."""
    return of_framework(X) and kind_of(X).differentiated(X)


def widened(X, other):
    """Slices in half precision in the dtype that was computed in."""
    return kind_of(X).computable(X, other) if of_framework(X) else X


def names(X, ndim=2):
    """Names along each mode of a DataFrame or DataArray, such as those of rows and columns; None where it has none."""
    if labelled(X) and hasattr(X, "dims"):
        indexes = getattr(X, "indexes", {})
        return tuple(texts(indexes[dim]) if dim in indexes else None for dim in X.dims)
    if labelled(X) and hasattr(X, "columns"):
        return (texts(X.index) if hasattr(X, "index") else None), texts(X.columns)
    return (None,) * ndim


def texts(labels):
    """An index of pandas, or a list, as an array of str."""
    flat = labels.to_flat_index().astype(str) if hasattr(labels, "to_flat_index") else labels
    return np.asarray(flat, dtype=str)


def dims(X):
    """Names of a DataArray's dimensions; none for all else."""
    return tuple(map(str, X.dims)) if labelled(X) and hasattr(X, "dims") else ()


def names_at(indices, names):
    """The names of some slices; None where they have none."""
    return None if names is None else names[indices]


def row_slices(shape, nbytes, itemsize, most):
    """Slices of rows which make panels of an array that has so many bytes, none of more than `most` bytes."""
    height = max(1, min(most, max(SMALLEST_PANEL, nbytes // PANELS)) // (shape[1] * itemsize))
    for start in range(0, shape[0], height):
        yield slice(start, min(start + height, shape[0]))


def residual_norm(operand, A, left, right):
    """``||A - left @ right||_F`` from the residual itself, panel by panel, so that no digits cancel."""
    if operand.by_columns(A):
        A, left, right = A.T, right.T, left.T
    total = 0.0
    for rows, panel in operand.panels(A):
        residual = left[rows] @ right
        residual -= panel
        total += float(np.vdot(residual, residual).real)
    return np.sqrt(total)


def times_power(X, exponent):
    """X times 2^exponent, in two steps, since 2^1074 is no float; X itself where the exponent is 0."""
    if exponent == 0:
        return X
    half = exponent // 2
    return X * 2.0**half * 2.0 ** (exponent - half)


def dense(X):
    """A sparse array as an ndarray; an ndarray itself."""
    return X.toarray() if sparse.issparse(X) else X


def declared(part, shape, dtype, name, where=""):
    """What a store, a chunk or a user's object gives for a part of A, as an ndarray of the shape and dtype it said."""
    if sparse.issparse(part):
        part = _validation.sound_sparse(part, name).toarray()
    elif of_package(part, "sparse"):
        part = part.todense()
    return _validation.as_declared(part, shape, dtype, name, where)


def of_package(X, *names):
    """Whether a class of X is defined in one of some packages, none of which is imported here."""
    return any(base.__module__.split(".")[0] in names for base in type(X).__mro__)


def product_operator(left, right):
    """``left @ right`` as a `scipy.sparse.linalg.LinearOperator`, never multiplied out."""
    from scipy.sparse.linalg import LinearOperator

    left, right = on_host(left), on_host(right)

    def times(x):
        return left @ (right @ x)

    def adjoint_times(y):
        return right.conj().T @ (left.conj().T @ y)

    shape = left.shape[0], right.shape[1]
    operator = LinearOperator(
        dtype=right.dtype, shape=shape, matvec=times, matmat=times, rmatvec=adjoint_times, rmatmat=adjoint_times
    )
    operator.factors = left, right
    return operator


def array_operator(array):
    """A dense or sparse array in memory as a `scipy.sparse.linalg.LinearOperator`, none of it copied."""
    from scipy.sparse.linalg import LinearOperator

    operand = importlib.import_module(f"curtensor.operands.{'scipy_sparse' if sparse.issparse(array) else 'ndarray'}")
    array = operand.wrap(array)

    def times(x):
        return operand.matmat(array, x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])

    def adjoint_times(y):
        return operand.rmatmat(array, y.reshape(len(y), -1)).reshape(-1, *y.shape[1:])

    operator = LinearOperator(
        array.shape, times, adjoint_times, matmat=times, rmatmat=adjoint_times, dtype=operand.dtype(array)
    )
    operator.factors = (array,)
    return operator


def short_repr(result):
    """The parts of a result in one line, arrays by their shapes."""
    parts = (f"{name}={brief(part)}" for name, part in vars(result).items() if part is not None)
    return f"{type(result).__name__}({', '.join(parts)})"


def brief(part):
    """An array's shape, in lists and tuples too; all else as it is."""
    if isinstance(part, (list, tuple)):
        return f"[{', '.join(map(brief, part))}]"
    return f"<{' x '.join(map(str, part.shape))}>" if hasattr(part, "shape") and part.shape else repr(part)
