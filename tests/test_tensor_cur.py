"""CUR of tensors: arrays and functions, by ranks and to a tolerance."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matrices import DTYPES, eps
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct
from curtensor.operands.dense_tensor import DenseTensor
from curtensor.selection import SELECTION_RULES
from curtensor.sketching import random_matrix, sparse_sign
from curtensor.tensors import TENSOR_METHODS, decomposition
from curtensor.tensors.decomposition import TENSOR_CORES
from curtensor.tensors.entries import ArrayEntries, tucker_entries
from curtensor.tensors.indices import MIXED, mixed_fibres, through

SHAPES = [(20, 30, 25), (6, 40, 30), (12, 9, 10, 11), (30, 20), (1, 25, 30), (25, 1, 30)]


def low_rank(shape, rank, dtype, rng):
    """A tensor of multilinear rank `rank` in each mode that is as long."""
    factors = [normal((length, min(rank, length)), dtype, rng) for length in shape]
    core = normal([factor.shape[1] for factor in factors], dtype, rng)
    return np.ascontiguousarray(ct.tucker_to_tensor(core, factors))


def normal(shape, dtype, rng):
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype)


def relative(X, approximation):
    return np.linalg.norm(X - approximation) / np.linalg.norm(X)


def hilbert(i, j, k):
    return 1 / (1.0 + i + j + k)


def localised(shape, wave_number=30):
    """The field of a source beside the first corner, near which it has nearly all of its norm."""
    x, y, z = np.ix_(*(np.linspace(0, 1, length) for length in shape))
    distance = np.sqrt((3 * x - 0.1) ** 2 + (2 * y + 0.2) ** 2)
    return np.exp(1j * wave_number * (0.1 + z) * distance) / distance


def smooth(length):
    return hilbert(*np.ogrid[:length, :length, :length])


# oracle


def test_tucker_entries_are_those_of_the_whole_tensor(rng):
    core, factors = (
        rng.standard_normal((3, 4, 2)),
        [rng.standard_normal((length, r)) for length, r in ((7, 3), (8, 4), (9, 2))],
    )
    places = [rng.integers(0, length, 50) for length in (7, 8, 9)]
    assert_allclose(
        tucker_entries(core, factors, places), ct.tucker_to_tensor(core, factors)[tuple(places)], atol=1e-13
    )


def test_tensorly_takes_the_result(rng):
    from tensorly import tucker_to_tensor

    result = ct.tensor_cur(low_rank((12, 14, 13), 3, "float64", rng), 3, rng=0)
    assert_allclose(tucker_to_tensor(result), result.to_array(), atol=1e-12)
    assert_allclose(result.to_tensorly().to_tensor(), result.to_array(), atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_mixed_fibres_are_combinations_of_all_fibres_or_the_fibres(size, rng):
    X = rng.standard_normal((30, 12, 11))
    places = through([np.arange(30), np.arange(12), np.arange(11)], 0)
    entries = ArrayEntries(DenseTensor(X))
    entries.fibres_at_once = lambda mode: 7
    mixed = mixed_fibres(entries, 0, places, size, np.random.default_rng(1))
    mixing = random_matrix(sparse_sign, 132, MIXED * size, X.dtype, np.random.default_rng(1))
    assert_allclose(mixed, X.reshape(30, -1) @ mixing.toarray(), atol=1e-12)


# exactness


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", TENSOR_METHODS)
def test_exact_when_the_multilinear_rank_is_reached(method, shape, dtype, rng):
    X = low_rank(shape, 3, dtype, rng)
    for ranks in (3, tuple(min(5, length) for length in shape)):
        result = ct.tensor_cur(X, ranks, method=method, rng=0)
        assert result.dtype == X.dtype
        assert relative(X, result.to_array()) < 2e4 * eps(dtype)
        assert result.error_estimate < 2e4 * eps(dtype)


@pytest.mark.parametrize("rule", SELECTION_RULES)
@pytest.mark.parametrize("core", TENSOR_CORES)
def test_exact_by_every_rule_and_core(rule, core, rng):
    X = low_rank((20, 25, 22), 3, "complex128", rng)
    result = ct.tensor_cur(X, 3, selection=rule, core=core, rng=0)
    assert relative(X, result.to_array()) < 1e-9


@pytest.mark.parametrize("method", TENSOR_METHODS)
def test_zero_and_constant(method):
    zero = ct.tensor_cur(np.zeros((6, 7, 8)), 2, method=method, rng=0)
    assert not zero.to_array().any() and zero.error_estimate == 0 and zero.converged
    X = np.full((6, 7, 8), 3)
    result = ct.tensor_cur(X, 2, method=method, rng=0)
    assert result.dtype == float
    assert_allclose(result.to_array(), X, rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("method", TENSOR_METHODS)
def test_any_scale(method, scale, rng):
    X = low_rank((12, 14, 13), 3, "float64", rng)
    result = ct.tensor_cur(X * scale, 3, method=method, rng=0)
    assert_allclose(result.to_array() / scale, X, atol=1e-10)
    assert result.error_estimate < 1e-10


# invariants


@pytest.mark.parametrize("method", TENSOR_METHODS)
@pytest.mark.parametrize("order", ["C", "F", "negative", "strided", "integer"])
def test_core_is_a_sub_tensor_to_the_bit_and_the_array_stays_as_it_was(method, order, rng):
    X = low_rank((20, 15, 25), 4, "float64", rng) + 1e-3 * rng.standard_normal((20, 15, 25))
    X = {
        "C": X,
        "F": np.asfortranarray(X),
        "negative": X[::-1, :, ::-1],
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
        "integer": (X * 100).astype(int),
    }[order]
    before = X.copy()
    X.setflags(write=False)
    result = ct.tensor_cur(X, 4, method=method, rng=0)
    core, factors = result
    assert_array_equal(core, X[np.ix_(*result.indices)])
    assert_array_equal(X, before)
    assert [factor.shape for factor in factors] == list(zip(X.shape, core.shape, strict=True))
    assert all(len(set(I.tolist())) == len(I) for I in result.indices)
    assert result.shape == X.shape and len(result) == 2


@pytest.mark.parametrize("method", TENSOR_METHODS)
def test_same_seed_same_result(method, rng):
    X = low_rank((20, 15, 25), 4, "float64", rng) + 1e-3 * rng.standard_normal((20, 15, 25))
    first, second = (ct.tensor_cur(X, 4, method=method, rng=7) for _ in range(2))
    assert_array_equal(first.core, second.core)
    for some, others in zip(first.indices, second.indices, strict=True):
        assert_array_equal(some, others)
    assert_allclose(first.to_array(), second.to_array(), rtol=0, atol=1e-11 * np.abs(X).max())


def in_store(kind, X, folder):
    """The tensor as a memory map, in a zarr or HDF5 file, or as a dask array."""
    if kind == "memmap":
        mapped = np.memmap(folder / "X.bin", X.dtype, "w+", shape=X.shape)
        mapped[:] = X
        mapped.flush()
        return mapped
    if kind == "zarr":
        zarr = pytest.importorskip("zarr")
        stored = zarr.create_array(str(folder / "X.zarr"), shape=X.shape, chunks=(7, 16, 9), dtype=X.dtype)
        stored[:] = X
        return stored
    if kind == "h5py":
        h5py = pytest.importorskip("h5py")
        return h5py.File(folder / "X.h5", "w").create_dataset("X", data=X, chunks=(11, 6, 13))
    return pytest.importorskip("dask.array").from_array(X, chunks=(9, 20, 11))


LAYOUTS = {
    "Fortran": lambda X: np.asfortranarray(X),
    "permuted": lambda X: np.ascontiguousarray(X.transpose(1, 2, 0)).transpose(2, 0, 1),
    "reversed": lambda X: X[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "strided": lambda X: np.repeat(X, 2, axis=2)[:, :, ::2],
}


@pytest.mark.parametrize("method", ["chidori", "fiber"])
@pytest.mark.parametrize("kind", [*LAYOUTS, "memmap", "zarr", "h5py", "dask"])
@pytest.mark.parametrize("shape", [(40, 40, 30), (20, 45, 35)])
def test_same_choice_in_every_memory_order_and_store(shape, kind, method, tmp_path, rng):
    exact = low_rank(shape, 5, "complex128", rng)
    for i, X in enumerate((exact, exact.real + 1e-3 * rng.standard_normal(shape), localised(shape))):
        folder = tmp_path / str(i)
        folder.mkdir()
        Y = LAYOUTS[kind](X) if kind in LAYOUTS else in_store(kind, X, folder)
        expected, result = (ct.tensor_cur(Z, 6, method=method, rng=3) for Z in (X, Y))
        for some, others in zip(expected.indices, result.indices, strict=True):
            assert_array_equal(some, others)


def test_slices_are_four_times_the_rank_or_as_many_as_asked(rng):
    X = rng.standard_normal((20, 5, 25))
    assert ct.tensor_cur(X, 3, rng=0).core.shape == (12, 5, 12)
    assert ct.tensor_cur(X, (3, 2, 4), n_samples=(4, 3, 6), rng=0).core.shape == (4, 3, 6)
    assert ct.tensor_cur(X, 3, n_samples=6, rng=0).core.shape == (6, 5, 6)


def test_recompressed_holds_orthonormal_factors_of_the_ranks_asked(rng):
    X = low_rank((20, 15, 25), 4, "complex128", rng)
    result = ct.tensor_cur(X, 4, rng=0)
    for ranks in (None, 4, (2, 3, 4)):
        core, factors = result.to_tucker(ranks)
        for factor in factors:
            assert_allclose(factor.conj().T @ factor, np.eye(factor.shape[1]), atol=1e-12)
    core, factors = result.to_tucker(4)
    assert core.shape == (4, 4, 4)
    assert relative(X, ct.tucker_to_tensor(core, factors)) < 1e-11


def test_saved_and_loaded_is_the_same(rng, tmp_path):
    result = ct.tensor_cur(low_rank((20, 15, 25), 4, "complex64", rng), 4, rng=0)
    result.save(tmp_path / "result.npz")
    loaded = ct.TensorCUR.load(tmp_path / "result.npz")
    assert_allclose(loaded.to_array(), result.to_array(), rtol=0, atol=1e-12 * np.abs(result.core).max())
    assert (loaded.error_estimate, loaded.converged, loaded.n_entries_read) == (
        result.error_estimate,
        result.converged,
        result.n_entries_read,
    )
    assert_array_equal(loaded.indices[1], result.indices[1])


@pytest.mark.parametrize("method", TENSOR_METHODS)
@pytest.mark.parametrize("chunks", [None, {"time": 5}])
def test_coordinates_of_a_dataarray_are_kept_and_saved(chunks, method, tmp_path, rng):
    days = np.arange("2026-01-01", "2026-01-21", dtype="datetime64[D]")
    coords = {"time": days, "gene": [f"g{j}" for j in range(15)]}
    X = xr.DataArray(low_rank((20, 25, 15), 3, "float64", rng), dims=("time", "cell", "gene"), coords=coords)
    for options in ({"ranks": 3}, {"rtol": 1e-6}):
        result = ct.tensor_cur(X if chunks is None else X.chunk(chunks), **options, method=method, rng=0)
        result.save(tmp_path / "result.npz")
        for each in (result, ct.TensorCUR.load(tmp_path / "result.npz")):
            time, cell, gene = each.names
            assert_array_equal(time, days[each.indices[0]].astype(time.dtype))
            assert cell is None
            assert_array_equal(gene, np.array(coords["gene"])[each.indices[2]])
            assert each.dims == ("time", "cell", "gene")
            assert_array_equal(each.core, X.data[np.ix_(*each.indices)])


def test_dimensions_are_kept_without_coordinates_and_names_without_dimensions(rng):
    X = low_rank((20, 15), 3, "float64", rng)
    result = ct.tensor_cur(xr.DataArray(X, dims=("a", "b")), 3, rng=0)
    assert (result.names, result.dims) == ((None, None), ("a", "b"))
    result = ct.tensor_cur(pd.DataFrame(X, columns=[f"g{j}" for j in range(15)]), 3, rng=0)
    assert_array_equal(result.names[1], [f"g{j}" for j in result.indices[1]])
    assert result.dims == ()
    result = ct.tensor_cur(X, 3, rng=0)
    assert (result.names, result.dims) == ((None, None), ())


def test_function_and_array_give_the_same_kind_of_result_from_few_entries():
    result = ct.tensor_cur(hilbert, 5, shape=(2000, 2000, 2000), rng=0)
    assert_array_equal(result.core, hilbert(*np.ix_(*result.indices)))
    assert result.n_entries_read < 2000**3 / 100
    places = [np.random.default_rng(1).integers(0, 2000, 5000) for _ in range(3)]
    values = hilbert(*places)
    assert np.linalg.norm(tucker_entries(*result, places) - values) < 1e-3 * np.linalg.norm(values)


def test_a_functions_entries_are_counted():
    count = 0

    def counted(i, j, k):
        nonlocal count
        values = hilbert(i, j, k)
        count += values.size
        return values

    result = ct.tensor_cur(counted, 3, shape=(50, 60, 70), rng=0)
    assert result.n_entries_read == count


def remainder(i, j, k):
    i %= 10
    j *= 1
    return 1 / (1.0 + i + j + k)


def zeroing(i, j, k):
    values = hilbert(i, j, k)
    for index in (i, j, k):
        index[...] = 0
    return values


ONE_ARRAY = np.empty(10**6)


def one_array_again(i, j, k):
    values = hilbert(i, j, k)
    again = ONE_ARRAY[: values.size].reshape(values.shape)
    again[...] = values
    return again


def read_only(i, j, k):
    values = hilbert(i, j, k)
    values.setflags(write=False)
    return values


@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (remainder, lambda i, j, k: hilbert(i % 10, j, k)),
        (zeroing, hilbert),
        (one_array_again, hilbert),
        (read_only, hilbert),
        (lambda i, j, k: hilbert(i, j, k).tolist(), hilbert),
        (lambda i, j, k: i + 0 * (j + k), lambda i, j, k: 1.0 * (i + 0 * (j + k))),
        (lambda i, j, k: i + j > k, lambda i, j, k: 1.0 * (i + j > k)),
    ],
    ids=["remainder", "zeroing", "one array again", "read only", "lists", "its own argument", "bool"],
)
def test_a_function_may_do_as_it_likes_with_its_arrays(function, plain):
    expected = ct.tensor_cur(plain, 3, shape=(30, 31, 32), rng=0)
    result = ct.tensor_cur(function, 3, shape=(30, 31, 32), rng=0)
    for found, known in zip(result.indices, expected.indices, strict=True):
        assert_array_equal(found, known)
        assert len(set(found.tolist())) == len(found)
    assert_array_equal(result.core, expected.core)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "rank"),
    [
        (lambda i, j, k: 1.0 + 0 * (i + j + k), 1),
        (lambda i, j, k: 1.0 * (i + j + k), 3),
        (lambda i, j, k: np.exp(-((i - 31) ** 2 + (j - 7) ** 2 + (k - 22) ** 2) / 2.0), 3),
        (lambda i, j, k: i - j * k, 4),
        (lambda i, j, k: np.cos(i / 9 + j / 7) * np.sin(k / 5), 5),
    ],
    ids=["constant", "sum", "narrow Gaussian", "difference", "waves"],
)
def test_what_is_exact_to_rounding_has_converged_after_two_sweeps(function, rank, dtype):
    with np.errstate(under="ignore"):
        X = (function(*np.ogrid[:40, :40, :40]) * (1 + 1j if dtype.startswith("c") else 1)).astype(dtype)
    for seed in range(3):
        seen = []
        result = ct.tensor_cur(lambda *i: X[tuple(i)], rank, shape=X.shape, callback=seen.append, rng=seed)
        assert result.converged
        assert len(seen) <= 3  # each is reported when it begins
        assert result.error_estimate < 2e3 * eps(dtype)
        assert relative(X, result.to_array()) < 2e3 * eps(dtype)


def sum_of_all(*i):
    return 1.0 * sum(i)


def reciprocal(*i):
    return 1 / (1.0 + sum(i))


def bell(*i):
    return np.exp(-sum(((k - 4.2) / 9) ** 2 for k in i))


def waves(*i):
    return np.cos(sum((n + 1) * k for n, k in enumerate(i)) / 17) + 0.1 * sum(i)


@pytest.mark.parametrize(("shape", "share"), [((40,) * 3, 0.5), ((12,) * 5, 0.05), ((18,) * 5, 0.015)])
@pytest.mark.parametrize(
    ("function", "rank"), [(sum_of_all, 2), (reciprocal, 3), (reciprocal, 4), (bell, 1), (bell, 2), (waves, 4)]
)
def test_a_function_of_low_rank_is_known_by_few_of_its_entries_each_asked_for_once(function, rank, shape, share):
    asked = []

    def counted(*i):
        asked.append(np.ravel_multi_index(np.broadcast_arrays(*i), shape).ravel())
        return function(*i)

    for seed in range(2):
        asked.clear()
        result = ct.tensor_cur(counted, rank, shape=shape, rng=seed)
        places = np.concatenate(asked)
        assert len(places) == len(set(places.tolist())) + 1  # one of them to see whether it is the same again
        assert len(places) == result.n_entries_read <= share * np.prod(shape)
        assert result.converged
        fresh = np.random.default_rng(7).integers(0, np.array(shape)[:, None], (len(shape), 4000))
        values = function(*fresh)
        error = np.linalg.norm(tucker_entries(*result, fresh) - values) / np.linalg.norm(values)
        assert error <= 2.5 * result.error_estimate
        assert_array_equal(result.core, function(*np.ix_(*result.indices)))


def test_a_small_function_is_read_whole_and_once_and_so_is_one_of_which_no_less_would_do():
    def digits(i, j, k):  # of no low rank
        return np.sin(12.9898 * (i + 31 * j + 961 * k)) * 43758.5453 % 1

    for function, length in ((reciprocal, 12), (digits, 20)):
        truth = function(*np.ogrid[:length, :length, :length])
        for given in ({"ranks": 3}, {"rtol": 1e-6}):
            if function is digits and "ranks" in given:
                continue
            result = ct.tensor_cur(function, **given, shape=truth.shape, rng=0)
            assert result.n_entries_read == truth.size
            assert_allclose(result.error_estimate, relative(truth, result.to_array()), rtol=0.3, atol=1e-13)
    zero = ct.tensor_cur(lambda i, j, k: 0.0 * (i + j + k), 2, shape=(9, 9, 9), rng=0)
    assert zero.converged and zero.error_estimate == 0  # every entry of it has been read


@pytest.mark.parametrize(
    ("given", "name"),
    [({"ranks": 2}, "ranks"), ({"ranks": 3, "n_samples": 10}, "n_samples"), ({"rtol": 1e-9}, "rtol")],
)
def test_what_tucker_form_is_too_large_for_is_left_to_trains_before_it_is_asked_for(given, name):
    asked = [0]

    def counted(*i):
        values = 1 / (1.0 + sum(k**2 for k in i))
        asked[0] += values.size
        return values

    with pytest.raises(ValueError, match=rf"^{name} must be such that .*; of many variables tt_cross is the form, got"):
        ct.tensor_cur(counted, **given, shape=(20,) * 20, rng=0)
    assert asked[0] < 10**6


@pytest.mark.parametrize("name", ["constant", "sum", "separable", "imaginary", "integers"])
@pytest.mark.parametrize("d", [2, 3, 5])
def test_exact_functions_of_some_variables_always_converge(name, d):
    function, rank = {
        "constant": (lambda *i: 2.5 + 0.0 * sum(i), 1),
        "sum": (sum_of_all, 2),
        "separable": (lambda *i: np.exp(-sum(i) / 7), 1),
        "imaginary": (lambda *i: np.exp(0.3j * sum(i)), 1),
        "integers": (lambda *i: sum(i) - 20, 2),
    }[name]
    for seed in range(3):
        for given in ({"ranks": rank}, {"ranks": min(rank + 2, 4)}, {"rtol": 1e-9}):
            result = ct.tensor_cur(function, **given, shape=(14,) * d, rng=seed)
            assert result.converged and result.error_estimate < 1e-9


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_functions_of_any_scale(scale):
    result = ct.tensor_cur(lambda i, j, k: scale * hilbert(i, j, k), 4, shape=(30, 30, 30), rng=0)
    error = relative(smooth(30), result.to_array() / scale)
    assert error < 1e-3 and result.error_estimate >= 0.8 * error
    assert_array_equal(result.core, scale * hilbert(*np.ix_(*result.indices)))


@pytest.mark.parametrize("seed", range(3))
def test_what_was_seen_to_be_zero_only_is_not_called_converged(seed):
    def ball(i, j, k):
        return 1.0 * ((i - 500) ** 2 + (j - 300) ** 2 + (k - 700) ** 2 < 16)

    for function in (ball, lambda i, j, k: 0.0 * (i + j + k)):
        result = ct.tensor_cur(function, 3, shape=(1000, 1000, 1000), rng=seed)
        assert not result.core.any()
        assert not result.converged and result.error_estimate == 1
        with pytest.raises(ValueError, match=r"X must be other than zero at some of .* got .* zeros"):
            ct.tensor_cur(function, rtol=1e-3, shape=(1000, 1000, 1000), rng=seed)


def test_ranks_above_the_product_of_the_others_need_no_more_slices(rng):
    X = rng.standard_normal((5000, 2, 2))
    for method in TENSOR_METHODS:
        result = ct.tensor_cur(X, 5000, method=method, rng=0)
        assert result.core.shape == (16, 2, 2)
        assert relative(X, result.to_array()) < 1e-12
    assert relative(X, ct.tensor_cur(X, rtol=1e-9, rng=0).to_array()) <= 1e-9


def test_progress_is_reported(rng):
    seen = []
    ct.tensor_cur(hilbert, 3, shape=(50, 60, 70), callback=seen.append, rng=0)
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1


# bound


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rank", [3, 6])
def test_chosen_slices_are_close_to_st_hosvd_on_smooth_tensors(rank, seed):
    X = smooth(60)
    best = relative(X, ct.st_hosvd(X, (rank,) * 3).to_array())
    for method in ("chidori", "fiber"):
        assert relative(X, ct.tensor_cur(X, rank, method=method, rng=seed).to_array()) <= 1.5 * best


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("ranks", [(8, 8, 6), (14, 14, 10), (18, 18, 14), (28, 28, 20)])
def test_fibres_span_the_modes_where_the_norm_sits_in_one_corner(ranks, order, dtype):
    field = localised((60, 52, 40), 24)
    X = (field if np.dtype(dtype).kind == "c" else field.real).astype(dtype).transpose(order)
    ranks = tuple(ranks[mode] for mode in order)
    best = max(relative(X, ct.st_hosvd(X, ranks).to_array()), 60 * eps(dtype))
    result = ct.tensor_cur(X, ranks, rng=0)
    assert relative(X, result.to_array()) <= 1.25 * best
    assert relative(X, ct.tucker_to_tensor(*result.to_tucker(ranks))) <= 1.15 * best


@pytest.mark.parametrize("core", TENSOR_CORES)
@pytest.mark.parametrize("method", ["chidori", "fiber"])
def test_good_to_rounding_where_the_ranks_exceed_the_numerical_rank(method, core):
    for X in (smooth(60), localised((60, 50, 40), 3)):
        for dtype in (X.dtype, np.complex64 if X.dtype.kind == "c" else np.float32):
            Y = X.astype(dtype)
            result = ct.tensor_cur(Y, 20, method=method, core=core, rng=0)
            assert relative(Y, result.to_array()) < 200 * eps(dtype)


@pytest.mark.parametrize("seed", range(5))
def test_close_to_st_hosvd_with_noise_spikes_and_scales(seed, rng):
    X = low_rank((40, 50, 45), 6, "float64", rng)
    X /= np.linalg.norm(X)
    noise = rng.standard_normal(X.shape)
    noisy = X + 1e-2 * noise / np.linalg.norm(noise)
    scaled = noisy * (rng.pareto(1.5, (40, 1, 1)) + 0.1)
    spiky = noisy.copy()
    spiky[7] *= 1e3
    for Y in (noisy, scaled, spiky):
        best = relative(Y, ct.st_hosvd(Y, (6, 6, 6)).to_array())
        result = ct.tensor_cur(Y, 6, rng=seed)
        error = relative(Y, result.to_array())
        assert error <= 1.25 * best
        assert 0.7 < result.error_estimate / error < 1.4


@pytest.mark.parametrize("core", TENSOR_CORES)
@pytest.mark.parametrize("method", TENSOR_METHODS)
def test_never_worse_than_zero(method, core, rng):
    for X in (rng.standard_normal((15, 20, 18)), rng.choice([-1.0, 1.0], (20, 20, 20)), np.eye(12).reshape(12, 12, 1)):
        for rank in (1, 2, 4):
            assert relative(X, ct.tensor_cur(X, rank, method=method, core=core, rng=0).to_array()) <= 1 + 1e-12


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-5, 1e-9])
def test_tolerance_is_held(rtol, rng):
    noise = rng.standard_normal((30, 30, 30))
    for X in (smooth(30), low_rank((30, 30, 30), 4, "float64", rng) + noise / 100, np.zeros((5, 6, 7))):
        result = ct.tensor_cur(X, rtol=rtol, rng=0)
        assert np.linalg.norm(X - result.to_array()) <= rtol * np.linalg.norm(X)
        assert result.error_estimate <= rtol


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-4])
@pytest.mark.parametrize("name, most", [("smooth", 1), ("noisy", 1), ("narrow others", 2), ("turned", 2)])
def test_a_tolerance_is_met_by_the_first_try_or_the_second(name, most, rtol, monkeypatch, rng):
    falling = 0.7 ** np.arange(36)
    narrow = (rng.standard_normal((90, 36)) * falling @ rng.standard_normal((36, 36))).reshape(90, 6, 6)
    X = {
        "smooth": smooth(40),
        "noisy": low_rank((40, 50, 60), 7, "float64", rng) + 1e-3 * rng.standard_normal((40, 50, 60)),
        "narrow others": narrow,
        "turned": np.asfortranarray(narrow.transpose(1, 0, 2)),
    }[name]
    tries, approximate = [], decomposition.approximate
    monkeypatch.setattr(decomposition, "approximate", lambda *given: tries.append(given[1]) or approximate(*given))
    assert relative(X, ct.tensor_cur(X, rtol=rtol, rng=0).to_array()) <= rtol
    assert len(tries) <= most


def test_a_tolerance_gives_each_mode_its_own_rank(rng):
    X = ct.tucker_to_tensor(rng.standard_normal((12, 4, 3)), [rng.standard_normal((50, r)) for r in (12, 4, 3)])
    sizes = ct.tensor_cur(X, rtol=1e-6, rng=0).core.shape
    assert sizes[1] <= sizes[0] // 2 and sizes[2] <= sizes[0] // 2


def test_a_sketch_keeps_its_rows_when_it_grows(rng):
    entries = ArrayEntries(DenseTensor(rng.standard_normal((130, 100, 90))))
    before = entries.sketch(2, rng).whole()
    after, matrix = entries.sketch(40, rng).whole(), entries._test_matrix
    assert len(after) > len(before)
    assert_allclose(after[: len(before)], before * np.sqrt(len(before) / len(after)), atol=1e-12)
    assert_allclose(after, np.tensordot(matrix, entries.X.whole(), 1), atol=1e-10)
    assert_allclose(np.linalg.norm(after), entries.X.norm(), rtol=0.1)


def test_tolerance_of_a_function_is_held_on_probes():
    result = ct.tensor_cur(hilbert, rtol=1e-3, shape=(300, 300, 300), rng=0)
    assert relative(smooth(300), result.to_array()) <= 1e-3


def test_a_spiky_function_is_found_or_reported():
    def spiky(i, j, k):
        return hilbert(i, j, k) + 1000.0 * ((i == 121) & (j >= 0) & (k >= 0))

    result = ct.tensor_cur(spiky, 5, shape=(200, 200, 200), rng=0)
    truth = spiky(*np.ogrid[:200, :200, :200])
    assert relative(truth, result.to_array()) <= 2 * result.error_estimate or not result.converged


# bad input

BAD = [
    ((np.float64(3), 2), {}, ValueError, "X must be of at least 2 modes"),
    ((np.ones(5), 2), {}, ValueError, "X must be of at least 2 modes"),
    ((np.ones((3, 0, 4)), 2), {}, ValueError, "X must be not empty"),
    ((np.array([[["a"]]]), 1), {}, TypeError, "X must be an array of"),
    ((np.ones((3, 4, 5), dtype=object), 1), {}, TypeError, "X must be an array of"),
    ((np.ones((3, 4, 5)), (1, 2)), {}, ValueError, "ranks must be one for each of 3 modes"),
    ((np.ones((3, 4, 5)), 0), {}, ValueError, "ranks must be between 1 and 5"),
    ((np.ones((3, 4, 5)), (1, 2, 6)), {}, ValueError, r"ranks\[2\] must be between 1 and 5"),
    ((np.ones((3, 4, 5)), 2.0), {}, TypeError, "ranks"),
    ((np.ones((3, 4, 5)), (1, 2.0, 1)), {}, TypeError, r"ranks\[1\] must be an integer"),
    ((np.ones((3, 4, 5)),), {}, ValueError, "ranks or rtol must be given, one of the two, got neither"),
    ((np.ones((3, 4, 5)), 2), {"rtol": 0.1}, ValueError, "ranks or rtol must be given, one of the two, got both"),
    ((np.ones((3, 4, 5)),), {"rtol": 1e-17}, ValueError, "rtol must be at least"),
    ((np.ones((3, 4, 5)), 2), {"method": "guess"}, ValueError, "method must be a function or one of"),
    ((np.ones((3, 4, 5)), 2), {"n_samples": 1}, ValueError, "n_samples must be between 2 and 5"),
    ((np.ones((3, 4, 5)), 2), {"shape": (3, 4, 5)}, ValueError, "shape must be left out where X is no function"),
    ((hilbert, 2), {}, ValueError, "shape must be given where X is a function"),
    ((hilbert, 2), {"shape": (3,)}, ValueError, "shape must be of at least 2 modes"),
    ((hilbert, 2), {"shape": (3, 4, 5), "core": "projection"}, ValueError, "core='projection' must be left out"),
    ((lambda i, j, k: np.ones(3), 2), {"shape": (3, 4, 5)}, ValueError, r"X\(i, j, k\) must be of the indices'"),
    ((lambda i, j, k: 1.0, 2), {"shape": (3, 4, 5)}, ValueError, r"X\(i, j, k\) must be of the indices'"),
    (
        (lambda i, j, k: None, 2),
        {"shape": (3, 4, 5)},
        TypeError,
        r"X\(i, j, k\) must be an array of numbers, got None",
    ),
    ((np.frompyfunc(hilbert, 3, 1), 2), {"shape": (3, 4, 5)}, TypeError, r"X\(i, j, k\) must be .* got dtype object"),
    (
        (lambda i, j, k: np.ma.array(hilbert(i, j, k)), 2),
        {"shape": (3, 4, 5)},
        TypeError,
        r"X\(i, j, k\) must be an array without a mask",
    ),
    ((lambda i, j, k: i + j + np.nan * k, 2), {"shape": (3, 4, 5)}, ValueError, r"X\(i, j, k\) must be finite"),
    ((np.ones((3, 4, 5)), 2), {"max_sweeps": 0}, ValueError, "max_sweeps must be between"),
    ((np.ones((3, 4, 5)), 2), {"rng": "seed"}, TypeError, "rng must be None, an int"),
]


@pytest.mark.parametrize(("args", "options", "error", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_is_refused_in_the_one_form(args, options, error, message):
    with pytest.raises(error, match=message):
        ct.tensor_cur(*args, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_entries_are_named(bad, rng):
    X = rng.standard_normal((6, 7, 8))
    X[2, 3, 4] = X[5, 0, 0] = bad
    with pytest.raises(ValueError, match=r"X must be finite, got NaN or infinity, first at \(2, 3, 4\)"):
        ct.tensor_cur(X, 2)


def test_a_functions_own_exception_comes_through():
    def broken(i, j, k):
        raise KeyError("the store is gone")

    with pytest.raises(KeyError, match="the store is gone"):
        ct.tensor_cur(broken, 2, shape=(3, 4, 5))
