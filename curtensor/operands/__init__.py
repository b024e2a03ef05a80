"""What can be decomposed: the few operations which touch the large array, one module for each kind of array.

An operand is a module with plain functions, those of `contract.Operand`.
"""

import importlib
from typing import Any

import numpy as np

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
# The same of tensors. Else the array API decides, and then NumPy.
TENSORS = {
    "h5py": "stored_tensor",
    "zarr": "stored_tensor",
    "numpy.memmap": "stored_tensor",
    "dask": "stored_tensor",
    "scipy.sparse.linalg": "dense_tensor",
    "scipy.sparse": "sparse_tensor",
    "sparse": "sparse_tensor",
}
BLOCK_BYTES = 2**28  # of memory for what is read of a store


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


def find_tensor(X, name="X", least=1, *, gradients=False):
    """A `contract.Tensor` of X, with at least so many modes; not cut off from gradients that go on."""
    X = unlabelled(X, name) if labelled(X) else X
    if of_framework(X):
        module = importlib.import_module("curtensor.operands.framework_tensor")
        return (module.followable if gradients else module.wrap)(X, name, least)
    one_of_several(X, name)
    for base in type(X).__mro__:
        for prefix, module in TENSORS.items():
            if f"{base.__module__}.{base.__qualname__}.".startswith(prefix + ".") and hasattr(X, "shape"):
                return importlib.import_module(f"curtensor.operands.{module}").wrap(X, name, least)
    return importlib.import_module("curtensor.operands.dense_tensor").wrap(X, name, least)


def one_of_several(X, name):
    """Raise if X is a dict, a group or a file of arrays, or a dataset that is closed or without any entries."""
    try:
        shape = getattr(X, "shape", ())
    except Exception as error:
        raise _validation.complain(ValueError, name, "open", _validation.describe(X)) from error
    if hasattr(X, "keys") and shape == ():
        raise _validation.complain(TypeError, name, f"one array, such as {name}[key] of it", _validation.describe(X))
    if shape is None:
        raise _validation.complain(ValueError, name, "not empty", _validation.describe(X))


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


def on_host(X, name="X"):
    """A framework's array, also in a list or tuple of such, as one of NumPy; all else as it is."""
    if isinstance(X, (list, tuple)):
        return type(X)(on_host(part, name) for part in X)
    return kind_of(X).to_numpy(kind_of(X).array_of_numbers(X, name)) if of_framework(X) else X


def conjugated(X):
    """The conjugate of an array in its own kind."""
    return kind_of(X).conjugate(X) if of_framework(X) else X.conj()


def conjugate_transposed(X):
    """Conjugate transpose of a matrix, or conjugate of a vector."""
    return kind_of(X).conjugate_transpose(X) if of_framework(X) else X.conj().T


def columns(A, indices):
    """Columns of a matrix in its own kind and dtype."""
    return kind_of(A).own_slices(A, indices, 1) if of_framework(A) else A[:, indices]


def followed(X):
    """Whether gradients are followed through an array."""
    return of_framework(X) and kind_of(X).differentiated(X)


def of_package(X, *names):
    """Whether a class of X is defined in one of some packages, none of which is imported here."""
    return any(base.__module__.split(".")[0] in names for base in type(X).__mro__)
