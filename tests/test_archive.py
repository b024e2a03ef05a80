"""Results in files: what is loaded is what was saved, and nothing else is loaded."""

import dataclasses
import io
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from scipy import sparse

import curtensor as ct

DTYPES = ["f4", "f8", "c8", "c16"]
rng = np.random.default_rng(0)
MATRIX, TENSOR = rng.standard_normal((9, 7)), rng.standard_normal((5, 6, 4))


def results(dtype="f8"):
    """One result of each kind that has a `save`, by name."""
    A, X = MATRIX.astype(dtype), TENSOR.astype(dtype)
    frame = pd.DataFrame(A, list("abcdefghi"), [f"column é {j}" for j in range(7)])
    coords = {"x": list("abcde"), "z": range(4)}
    return {
        "CUR": ct.cur_decomposition(A, 3, n_rows=4, rng=0),
        "CUR with names": ct.cur_decomposition(frame, 3, rng=0),
        "sparse CUR": ct.cur_decomposition(sparse.csr_array(A * (MATRIX > 0)), 3, rng=0),
        "empty CUR": ct.cur_decomposition(np.zeros((4, 3), dtype), 2, rng=0),
        "TensorCUR": ct.tensor_cur(X, (2, 3, 2), rng=0),
        "TensorCUR with names": ct.tensor_cur(xr.DataArray(X, coords, ("x", "y", "z")), 2, rng=0),
        "TensorCUR of two modes": ct.tensor_cur(A, 2, rng=0),
        "SVD": ct.randomized_svd(A, 3, rng=0),
        "SVD with names": ct.randomized_svd(frame, 3, rng=0),
        "ID": ct.interpolative_decomposition(A, 3, rng=0),
        "ID of rows": ct.interpolative_decomposition(frame, 3, axis=0, rng=0),
        "sparse ID": ct.interpolative_decomposition(sparse.csr_array(A * (MATRIX > 0)), 3, rng=0),
        "empty ID": ct.interpolative_decomposition(np.zeros((4, 3), dtype), 2, rng=0),
        "Tucker": ct.st_hosvd(X, (2, 3, 2)),
        "Tucker with names": ct.st_hosvd(xr.DataArray(X, coords, ("x", "y", "z")), 2),
        "TubalSVD": ct.tubal_svd(X, 2),
        "TubalCUR": ct.tubal_cur(X, 2, n_rows=3, rng=0),
        "empty TubalCUR": ct.tubal_cur(np.zeros((4, 3, 5), dtype), 2, rng=0),
    }


RESULTS = results()
ONE_OF_EACH = ["SVD", "ID", "CUR", "TensorCUR", "Tucker", "TubalSVD", "TubalCUR"]


def same(ours, theirs):
    """Raise if two parts of results differ in kind, dtype or any bit."""
    assert sparse.issparse(ours) == sparse.issparse(theirs)
    if sparse.issparse(ours):
        assert ours.format == theirs.format
        ours, theirs = ours.toarray(), theirs.toarray()
    if isinstance(ours, pd.Index):
        pd.testing.assert_index_equal(ours, theirs, exact=True)
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    else:
        assert type(ours) is type(theirs) and getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)
        assert_array_equal(ours, theirs)


def parts_of(result, folder):
    """The arrays that a result writes."""
    result.save(folder / "parts.npz")
    with np.load(folder / "parts.npz", allow_pickle=False) as file:
        return dict(file)


def refused(result, path, reason):
    """Raise if a file is loaded, or not refused for a reason in the one form."""
    form = f"^path must be a file written by {type(result).__name__}.save, got .*{path.name}': .*{reason}"
    with pytest.raises(ValueError, match=form) as caught:
        type(result).load(path)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value) and "pickle" not in str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RESULTS)
def test_every_part_comes_back_to_the_bit(name, dtype, tmp_path):
    result = results(dtype)[name]
    result.save(tmp_path / "result")  # no ending is added
    again = type(result).load(tmp_path / "result")
    for field in dataclasses.fields(result):
        same(getattr(again, field.name), getattr(result, field.name))
    assert os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("writer", ONE_OF_EACH)
@pytest.mark.parametrize("reader", ONE_OF_EACH)
def test_a_result_of_another_kind_is_refused(reader, writer, tmp_path):
    RESULTS[writer].save(tmp_path / "result.npz")
    if reader != writer:
        refused(RESULTS[reader], tmp_path / "result.npz", f"format 1, got '{writer} 1'")


@pytest.mark.parametrize("name", RESULTS)
def test_a_part_that_is_missing_or_more_is_refused(name, tmp_path):
    result = RESULTS[name]
    parts = parts_of(result, tmp_path)
    for missing in parts.keys() - {"dims", *(f"names.{n}" for n in range(3))}:
        np.savez(tmp_path / "bad.npz", **{key: part for key, part in parts.items() if key != missing})
        refused(result, tmp_path / "bad.npz", "")
    np.savez(tmp_path / "bad.npz", **parts, more=1)
    refused(result, tmp_path / "bad.npz", "got also more")


OTHERS = {
    "objects": lambda part: np.full(part.shape, None),
    "texts or numbers": lambda part: part.astype(str) if part.dtype.kind != "U" else np.zeros(part.shape),
    "half precision": lambda part: np.ones(part.shape, "f2"),
    "unsigned": lambda part: np.ones(part.shape, "u1"),
    "one mode more": lambda part: part[..., None],
    "another length": lambda part: np.concatenate([part, part], -1) if part.ndim else np.stack([part, part]),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["CUR with names", "sparse CUR", "sparse ID", "TensorCUR with names", *ONE_OF_EACH])
def test_a_part_of_another_dtype_or_shape_is_refused(name, other, tmp_path):
    result = RESULTS[name]
    parts = parts_of(result, tmp_path)
    for key, part in parts.items():
        if other == "another length" and key in ("Vh", "coefficients") and part.ndim == 2:
            continue  # alone says how many columns the approximation has
        np.savez(tmp_path / "bad.npz", **parts | {key: OTHERS[other](part)})
        refused(result, tmp_path / "bad.npz", "")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *(("CUR", key) for key in ("row_indices", "col_indices")),
        *(("ID", "indices"), ("ID of rows", "indices"), ("TensorCUR", "indices.1"), ("TubalCUR", "col_indices")),
    ],
)
@pytest.mark.parametrize("index", [-1, 9, 2**40, "repeated"])
def test_indices_out_of_range_or_repeated_are_refused(name, key, index, tmp_path):
    parts = parts_of(RESULTS[name], tmp_path)
    parts[key][0] = parts[key][1] if index == "repeated" else index
    np.savez(tmp_path / "bad.npz", **parts)
    refused(RESULTS[name], tmp_path / "bad.npz", f"{key} must be distinct and below ")


@pytest.mark.parametrize("key", ["C.csc.indices", "R.csr.indptr", "left.csr.indices", "right.csc.indptr"])
def test_sparse_parts_that_reach_out_of_bounds_are_refused(key, tmp_path):
    parts = parts_of(RESULTS["sparse CUR"], tmp_path)
    parts[key][1] = 1000
    np.savez(tmp_path / "bad.npz", **parts)
    refused(RESULTS["sparse CUR"], tmp_path / "bad.npz", "")


@pytest.mark.parametrize(("name", "key"), [("CUR", "C"), ("sparse CUR", "C.csc.data"), ("Tucker", "factors.1")])
def test_nan_and_infinity_are_neither_saved_nor_loaded(name, key, tmp_path):
    parts = parts_of(RESULTS[name], tmp_path)
    for bad in (np.nan, np.inf):
        parts[key].flat[0] = bad
        np.savez(tmp_path / "bad.npz", **parts)
        refused(RESULTS[name], tmp_path / "bad.npz", "must be finite, got NaN or infinity")
    result = dataclasses.replace(RESULTS["CUR"], middle=RESULTS["CUR"].middle * np.inf)
    with pytest.raises(ValueError, match=r"^middle must be finite, got NaN or infinity"):
        result.save(tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()


def test_objects_are_not_saved(tmp_path):
    result = dataclasses.replace(RESULTS["CUR"], middle=RESULTS["CUR"].middle.astype(object))
    with pytest.raises(TypeError, match=r"^middle must be an array of numbers or texts, got dtype object"):
        result.save(tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()


def test_texts_that_are_no_unicode_are_refused(tmp_path):
    parts = parts_of(RESULTS["CUR with names"], tmp_path)
    parts["names.1"].reshape(1).view(np.uint32)[0] = 0x110000
    np.savez(tmp_path / "bad.npz", **parts)
    refused(RESULTS["CUR with names"], tmp_path / "bad.npz", "must be Unicode text")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_numbers_in_the_other_byte_order_are_read(name, tmp_path):
    result, parts = RESULTS[name], parts_of(RESULTS[name], tmp_path)
    swapped = {key: part.astype(part.dtype.newbyteorder("S")) for key, part in parts.items()}
    np.savez(tmp_path / "swapped.npz", **swapped)
    again = type(result).load(tmp_path / "swapped.npz")
    assert again.dtype.isnative
    assert_array_equal(again.to_array(), result.to_array())


@pytest.mark.parametrize(
    "shape", ["(1000000000000,)", "(1000000000000, 0)", "(-3, -7)", "(9223372036854775807, 9223372036854775807)"]
)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_header_that_claims_another_size_is_refused_before_anything_is_allocated(name, shape, tmp_path, monkeypatch):
    result = RESULTS[name]
    part = next(f"{name}.npy" for name in ("core", "C", "U", "coefficients") if name in vars(result))
    result.save(tmp_path / "good.npz")
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(tmp_path / "bad.npz", "w") as bad:
        for entry in good.namelist():
            content = good.read(entry)
            if entry == part:
                header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
                content = content[:8] + len(header).to_bytes(2, "little") + header + content[128:]
            bad.writestr(entry, content)

    read = np.lib.format.read_array

    def counted(content, **options):
        assert content.name != part
        return read(content, **options)

    monkeypatch.setattr(np.lib.format, "read_array", counted)
    refused(result, tmp_path / "bad.npz", f"{part} must be ")


def test_what_unpacks_to_more_than_the_file_is_refused(tmp_path):
    parts = parts_of(RESULTS["CUR"], tmp_path)
    np.savez_compressed(tmp_path / "bad.npz", **parts | {"C": np.zeros((10**4, 3))})
    refused(RESULTS["CUR"], tmp_path / "bad.npz", "its parts must be within the .* bytes of the file")
    np.savez_compressed(tmp_path / "bad.npz", **parts)
    refused(RESULTS["CUR"], tmp_path / "bad.npz", "must be ")


def content_of(kind, good):
    """What may be under a path instead of a result."""
    buffer = io.BytesIO()
    if kind == "pickled array":
        np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    elif kind == "zip of text":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("C.npy", "text")
    elif kind == "two of one name":
        buffer.write(good)
        with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(archive.namelist()[1], archive.read(archive.namelist()[1]))
    elif kind == "flipped bit":
        buffer.write(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    else:
        buffer.write({"empty": b"", "text": b"a,b\n1,2\n", "half": good[: len(good) // 2]}[kind])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["empty", "text", "half", "pickled array", "zip of text", "two of one name", "flipped bit"]
)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_other_files_are_refused(name, kind, tmp_path):
    result, path = RESULTS[name], tmp_path / "bad.npz"
    result.save(path)
    path.write_bytes(content_of(kind, path.read_bytes()))
    refused(result, path, "")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_systems_errors_stay_what_they_are(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        type(RESULTS[name]).load(tmp_path / "missing.npz")
    with pytest.raises(IsADirectoryError):
        type(RESULTS[name]).load(tmp_path)
    with pytest.raises(NotADirectoryError):
        type(RESULTS[name]).load(tmp_path / "file" / "inner")
    with pytest.raises(TypeError, match=r"^path must be a string or path-like, got 3"):
        type(RESULTS[name]).load(3)


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_pipe_is_refused_without_waiting_for_it(name, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(RESULTS[name], tmp_path / "pipe", "it must be a file, got a device or pipe")
