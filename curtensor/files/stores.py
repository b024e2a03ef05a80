"""Stores of arrays: HDF5 and zarr, opened and not read; those of AnnData and xarray with their names."""

import os
import warnings

import numpy as np

from curtensor import _validation
from curtensor.files.matrix import NamedMatrix, Refused, as_texts, package


def read_hdf5(path, *, dataset=None):
    """An array, or the group of a CSR matrix, of an HDF5 file."""
    store = package("h5py", "an HDF5 file", "large").File(path, "r")
    if is_10x(store.get("matrix")):
        return of_10x(store["matrix"])
    return of_anndata(store, dataset) if is_anndata(store) else NamedMatrix(dataset_of(store, dataset))


def read_zarr(path, *, dataset=None):
    """An array, or the group of a CSR matrix, of a zarr store, with the coordinates that xarray finds."""
    store = package("zarr", "a zarr store", "large").open(path, mode="r")
    if hasattr(store, "shape"):
        return store
    if is_anndata(store):
        return of_anndata(store, dataset)
    array = dataset_of(store, dataset)
    return of_xarray_store(path, array) if dims_of(array) else NamedMatrix(array)


def read_netcdf(path, *, dataset=None):
    """A variable of a NetCDF file, decoded, with its coordinates."""
    xarray = package("xarray", "a NetCDF file")
    with xarray.open_dataset(path, decode_coords="all") as file:
        found = {name: variable for name, variable in file.data_vars.items() if is_matrix(variable)}
        variable = found[one_dataset(list(found), dataset)].load()
    return of_variable(variable)


def of_variable(variable):
    """What a DataArray holds, its names, and how its modes are called."""
    indexes = [variable.indexes.get(dim) for dim in variable.dims]
    names = tuple(None if index is None else as_texts(index) for index in indexes)
    return NamedMatrix(variable.to_numpy(), names, notes=(f"{variable.name} by {' x '.join(map(str, variable.dims))}",))


def dims_of(array):
    """Names of the modes of a zarr array, as xarray writes them; none where there are none."""
    named = getattr(getattr(array, "metadata", None), "dimension_names", None) or ()
    return named if any(named) else tuple(dict(getattr(array, "attrs", {})).get("_ARRAY_DIMENSIONS", ()))


def of_xarray_store(path, array):
    """An array of a zarr store that xarray wrote: opened, or read where it holds packed numbers."""
    xarray = package("xarray", "a zarr store with coordinates")
    group, _, name = array.path.rpartition("/")
    with warnings.catch_warnings(action="ignore"), xarray.open_zarr(path, group=group or None, chunks=None) as store:
        found = of_variable(store[name])
    try:
        _validation.not_packed(array.attrs)
    except ValueError:
        return found
    return NamedMatrix(array, found.names, notes=found.notes)


def is_anndata(store):
    """Whether a store is one of AnnData: cells in rows, genes in columns."""
    return {"X", "obs", "var"} <= set(names_in(store))


def of_anndata(store, wanted):
    """X, a layer or another matrix of AnnData, opened, with the names of cells and genes.

    https://anndata.readthedocs.io/en/stable/fileformat-prose.html says where they are. By h5py alone: anndata itself
    would read the whole of `obs` and `var`, and does not go with pandas 3 yet.
    """
    wanted = wanted or "X"
    layers = store.get("layers", {})
    place = f"layers/{wanted}" if wanted not in store and wanted in layers else wanted
    member = opened(store, place)
    if not is_matrix(member):
        known = ["X", *(f"layers/{name}" for name in layers)]
        raise Refused(f"one of {', '.join(known)}", _validation.describe(wanted), name="dataset")
    shape = tuple(map(int, member.attrs["shape"])) if is_sparse_group(member) else member.shape
    var = store["raw/var"] if place.startswith("raw/") else store["var"]
    names = tuple(names_if(index_of(part), length) for part, length in zip((store["obs"], var), shape, strict=True))
    return NamedMatrix(member, names, notes=(f"{place} of cells x genes",))


def index_of(frame):
    """The index of a table of AnnData."""
    if hasattr(frame, "dtype"):  # a structured array, as it was before version 0.7
        return as_texts(frame[frame.dtype.names[0]])
    index = frame[frame.attrs.get("_index", "_index")]
    return as_texts((index["values"] if hasattr(index, "keys") else index)[:])


def names_if(names, length):
    """Names where they are as many as the slices."""
    return names if len(names) == length else None


def is_10x(group):
    """Whether a group is the matrix of a file by Cell Ranger."""
    return group is not None and is_sparse_group(group) and {"barcodes", "shape"} <= set(group.keys())


def of_10x(group):
    """The counts of a file by Cell Ranger, read: cells in rows, genes in columns."""
    from scipy import sparse

    genes, cells = map(int, group["shape"][:])
    matrix = sparse.csr_array((group["data"][:], group["indices"][:], group["indptr"][:]), shape=(cells, genes))
    matrix.check_format(full_check=True)
    names = as_texts(group["barcodes"][:]), as_texts(group["features/name" if "features" in group else "gene_names"][:])
    return NamedMatrix(matrix, names, notes=("cells x genes",))


def dataset_of(store, wanted):
    """The wanted, or the only, array or sparse matrix of a store."""
    member = None if wanted is None else opened(store, wanted)
    if wanted is not None and is_matrix(member):
        return member
    return opened(store, one_dataset(list(datasets_in(store)), wanted))


def datasets_in(store):
    """Names of what an HDF5 or zarr group holds of two modes or more: arrays, and groups with a CSR or CSC matrix.

    Each once, by whichever of its names comes first; links that lead nowhere, and what cannot be opened, are left out.
    """
    seen, waiting = {identity(store)}, [("", store)]
    while waiting:
        path, group = waiting.pop()
        members = [(f"{path}{name}", opened(group, name)) for name in names_in(group)]
        for name, member in members:
            key = identity(member)
            if key is not None and key in seen:
                continue
            seen.add(key)
            if is_matrix(member):
                yield name
            elif hasattr(member, "keys"):
                waiting.append((f"{name}/", member))


def names_in(group):
    """Names in a group; those of the files beneath it where zarr cannot tell them, as one array is damaged."""
    try:
        with warnings.catch_warnings(action="ignore"):  # zarr's, of what is no member
            return sorted(group.keys())
    except Exception:
        root = getattr(getattr(group, "store", None), "root", None)
        return [] if root is None else sorted(os.listdir(os.path.join(root, group.path)))


def opened(group, name):
    """A member of a group, or None where it cannot be opened: a link that leads nowhere, a damaged part."""
    try:
        return group[name]
    except Exception:
        return None


def identity(member):
    """What tells a member of an HDF5 file from all others, by whichever link it was reached; None where nothing is."""
    return getattr(member, "id", None) if hasattr(member, "file") else None


def is_matrix(member):
    """Whether a member is an array of numbers of two modes or more, or a group with a CSR or CSC matrix."""
    try:
        if is_sparse_group(member):
            return True
        shape = getattr(member, "shape", None) or ()
        return len(shape) >= 2 and 0 not in shape and np.dtype(member.dtype).kind in "biufc"
    except Exception:
        return False


def is_sparse_group(member):
    """Whether a group holds the three arrays of a CSR or CSC matrix."""
    return hasattr(member, "keys") and {"data", "indices", "indptr"} <= set(member.keys())


def one_dataset(found, wanted):
    """The name of the wanted, or the only, dataset of a store."""
    if wanted in found:
        return wanted
    if wanted is not None and found:
        raise Refused(f"one of {', '.join(found)}", _validation.describe(wanted), name="dataset")
    if len(found) != 1:
        names = ", ".join(name if len(name) <= 80 else f"{name[:77]}..." for name in found)
        got = f"{len(found)}: {names}; a dataset must be named" if found else "none"
        raise Refused("a store of one matrix or tensor", got, f'dataset="{found[0]}"' if found else "")
    return found[0]
