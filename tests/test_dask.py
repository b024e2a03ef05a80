"""Dask arrays: what comes out is what comes out of the same array in memory."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from matrices import (
    DTYPES,
    INTEGERS,
    SHAPES,
    assert_operations_equal_numpys,
    eps,
    low_rank,
    normal,
    optimum,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor.sketching import SKETCHES

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")
dask_array = pytest.importorskip("curtensor.operands.dask_array")

CHUNKS = {"rows": (11, -1), "columns": (-1, 13), "both": (17, 8), "uneven": ((1, 0, 20), (3, 1)), "one": (-1, -1)}


def chunked(A, chunks):
    """A as a dask array; ragged chunks are repeated until A is full."""
    if isinstance(chunks[0], tuple):
        chunks = tuple(ragged(sizes, length) for sizes, length in zip(chunks, A.shape, strict=True))
    return da.from_array(A, chunks=chunks)


def ragged(sizes, length):
    cuts = []
    while sum(cuts) < length:
        cuts.append(min(sizes[len(cuts) % len(sizes)], length - sum(cuts)))
    return tuple(cuts)


@pytest.fixture(autouse=True, params=["synchronous"])
def scheduler(request):
    with dask.config.set(scheduler=request.param):
        yield


def assert_same(result, expected):
    """Indices and slices equal, factors equal to rounding."""
    assert_array_equal(result.col_indices, expected.col_indices)
    assert_array_equal(result.row_indices, expected.row_indices)
    assert_array_equal(result.C, expected.C)
    assert_array_equal(result.R, expected.R)
    assert result.dtype == expected.dtype
    tolerance = 1e3 * eps(result.dtype) * np.abs(expected.middle).max(initial=0)
    assert_allclose(result.to_array(), expected.to_array(), atol=tolerance)


@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_every_operation_equals_numpys(chunks, dtype, rng):
    operand, A, B = assert_operations_equal_numpys(lambda whole: chunked(whole, chunks), dtype, rng)
    Y = normal((37, 5), B.dtype, rng)
    taken, image = operand.take_and_rmatmat(A, np.array([5, 0, 36]), Y)
    assert_array_equal(taken, B[[5, 0, 36]])
    assert_allclose(image, operand.rmatmat(A, Y), rtol=0, atol=1e3 * eps(B.dtype) * np.abs(image).max())
    assert_array_equal(operand.diagonal(A), B.diagonal())


@pytest.mark.parametrize(
    ("core", "chunks"), [("projection", "both"), ("projection", "rows"), ("intersection", "columns")]
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cur_is_that_of_the_array_in_memory(dtype, shape, chunks, core, rng):
    A = normal(shape, dtype, rng) / np.arange(1, shape[1] + 1, dtype=np.finfo(dtype).dtype)
    expected = ct.cur_decomposition(A, 8, core=core, rng=3)
    assert_same(ct.cur_decomposition(chunked(A, CHUNKS[chunks]), 8, core=core, rng=3), expected)


@pytest.mark.parametrize("options", [{"rank": 9}, {"rtol": 0.3}], ids=str)
def test_refined_is_as_in_memory(options, rng):
    A = normal((60, 40), "complex128", rng)
    first = ct.cur_decomposition(A, 4, rng=0)
    assert_same(first.refine(da.from_array(A, chunks=(17, 8)), **options, rng=1), first.refine(A, **options, rng=1))


@pytest.mark.parametrize("sketch", SKETCHES)
def test_any_sketch_makes_the_choice_that_it_makes_in_memory(sketch, rng):
    A = normal((60, 50), "complex128", rng) / np.arange(1, 51)
    expected = ct.cur_decomposition(A, 6, sketch=sketch, rng=5)
    assert_same(ct.cur_decomposition(chunked(A, (17, 8)), 6, sketch=sketch, rng=5), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_when_rank_is_reached(dtype, rng):
    A = low_rank(70, 40, 6, dtype, rng)
    result = ct.cur_decomposition(chunked(A, (17, 8)), 6, rng=0)
    assert_allclose(result.to_array(), A, atol=100 * eps(dtype))


def test_tolerance_is_held(rng):
    A = normal((60, 50), "float64", rng) @ np.diag(0.7 ** np.arange(50))
    result = ct.cur_decomposition(chunked(A, (17, 8)), rtol=1e-4, rng=0)
    assert np.linalg.norm(A - result.to_array()) <= 1e-4 * np.linalg.norm(A)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 0.0])
def test_any_scale(scale, rng):
    A = scale * low_rank(30, 20, 4, "float64", rng)
    expected = ct.cur_decomposition(A, 4, rng=0)
    result = ct.cur_decomposition(chunked(A, (7, 8)), 4, rng=0)
    assert_array_equal(result.col_indices, expected.col_indices)
    assert_array_equal(result.C, A[:, result.col_indices])
    assert_allclose(result.to_array(), A, atol=1e-13 * np.abs(A).max())


def test_every_function_takes_dask_arrays(rng):
    A = normal((40, 30), "complex128", rng) / np.arange(1, 31)
    D = chunked(A, (17, 8))
    assert_array_equal(ct.select_columns(D, 5, rng=0), ct.select_columns(A, 5, rng=0))
    assert_array_equal(ct.select_rows(D, 5, rng=0), ct.select_rows(A, 5, rng=0))
    for method in ("exact", "sketch"):
        scores = ct.leverage_scores(D, 5, method=method, rng=0)
        assert_allclose(scores, ct.leverage_scores(A, 5, method=method, rng=0), atol=1e-12)
    for axis in (0, 1):
        found, expected = (ct.interpolative_decomposition(X, 5, axis=axis, rng=0) for X in (D, A))
        assert_array_equal(found.indices, expected.indices)
        assert_allclose(found.coefficients, expected.coefficients, atol=1e-12)
    for method in ("block_krylov", "subspace", "single_pass"):
        svd = ct.randomized_svd(D, 5, method=method, rng=0)
        assert_allclose(svd.s, ct.randomized_svd(A, 5, method=method, rng=0).s, rtol=1e-12)
    assert optimum(A, 5) <= (1 + 1e-12) * np.linalg.norm(A - ct.randomized_svd(D, 5, rng=0).to_array())
    for norm in ("fro", "spectral", "max"):
        error = ct.relative_error(D, svd, norm=norm, rng=0)
        assert_allclose(error, ct.relative_error(A, svd, norm=norm, rng=0), rtol=1e-10)


def test_rpcholesky_reads_the_diagonal_and_some_columns(rng):
    B = normal((40, 6), "float64", rng)
    A = B @ B.T
    chosen = ct.select_columns(chunked(A, (17, 8)), 6, method="rpcholesky", rng=0)
    assert_array_equal(chosen, ct.select_columns(A, 6, method="rpcholesky", rng=0))


def test_chunks_are_computed_three_times_by_either_core_and_once_by_a_selection(rng):
    counts = {}

    def noted(block, block_info=None):
        place = tuple(block_info[0]["chunk-location"])
        counts[place] = counts.get(place, 0) + 1
        return block

    A = chunked(low_rank(40, 30, 10, "float64", rng), (10, 15)).map_blocks(noted, meta=np.empty((0, 0)))
    for core in ("intersection", "projection"):
        counts.clear()
        ct.cur_decomposition(A, 10, core=core, rng=0)
        assert set(counts) == {(i, j) for i in range(4) for j in range(2)}
        assert max(counts.values()) == 3
        counts.clear()
        ct.select_columns(A, 10, rng=0)
        assert set(counts.values()) == {1}


class Tasks(dask.callbacks.Callback):
    """Keys of the tasks that a local scheduler runs, other than mere second names."""

    def __init__(self):
        self.keys = []

    def _pretask(self, key, dsk, state):
        if type(dsk[key]).__name__ != "Alias":
            self.keys.append(key)


def test_a_chunk_and_its_only_use_are_one_task(rng):
    A = da.ones((40, 30), chunks=(10, -1))
    with Tasks() as tasks:
        dask_array.take(A, [3, 7, 12, 20, 39], 0)
    assert len(tasks.keys) == 4
    with Tasks() as tasks:  # the third and the fourth chunk give no rows, so that their products are all they give
        dask_array.take_and_rmatmat(A, [3, 12], normal((40, 2), "float64", rng))
    # less than chunks, what each gives, both parts of what the first two give, and the sum; dask does not find all of
    # the pairs in every order of its keys
    assert len(tasks.keys) < 4 + 4 + 2 * 2 + 1


@pytest.mark.parametrize("core", ["projection", "intersection"])
def test_nothing_to_compute_needs_no_scheduler(core):
    with dask.config.set(scheduler=None):
        result = ct.cur_decomposition(da.zeros((20, 10), chunks=5), 3, core=core, rng=0)
    assert result.C.shape == (20, 0)
    assert result.R.shape == (0, 10)


@pytest.mark.parametrize("axis", [0, 1])
def test_only_chunks_which_hold_chosen_slices_are_read(axis):
    read = []

    def noted(block, block_info=None):
        read.append(tuple(block_info[0]["chunk-location"]))
        return block

    A = da.ones((40, 40), chunks=10).map_blocks(noted, meta=np.empty((0, 0)))
    dask_array.take(A, [3, 35, 4], axis)
    expected = {(i, j) for i in (0, 3) for j in range(4)}
    assert len(read) == 8
    assert set(read) == (expected if axis == 0 else {(j, i) for i, j in expected})


def test_only_small_results_come_back(rng, monkeypatch):
    A = chunked(normal((600, 500), "float64", rng), (60, 100))
    results = []
    compute = dask_array.compute
    monkeypatch.setattr(dask_array, "compute", lambda tasks: results.append(compute(tasks)) or results[-1])
    ct.cur_decomposition(A, 5, rng=0)

    def size(part):
        return sum(map(size, part)) if isinstance(part, list | tuple) else np.size(part)

    assert all(size(result) <= 2 * 120 * 1100 for result in results)
    assert len(results) == 3  # sketches with the norm; C; R with the product for the core


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_nonfinite_entry_is_named(bad, rng):
    A = normal((37, 29), "float64", rng)
    A[36, 2] = A[35, 28] = bad
    for call in (ct.cur_decomposition, ct.select_columns, ct.randomized_svd, ct.interpolative_decomposition):
        with pytest.raises(ValueError, match=r"A must be finite, got NaN or infinity, first at \(35, 28\)"):
            call(chunked(A, (17, 8)), 3, rng=0)


def test_what_cannot_be_decomposed_is_refused():
    A = da.ones((20, 10), chunks=5)
    unknown = A[A[:, 0] > 0]
    with pytest.raises(ValueError, match=r"A must be in chunks of known sizes, .* got shape"):
        ct.cur_decomposition(unknown, 3)
    assert_same(
        ct.cur_decomposition(unknown.compute_chunk_sizes(), 1, rng=0), ct.cur_decomposition(np.ones((20, 10)), 1, rng=0)
    )
    with pytest.raises(ValueError, match="A must be not empty, got shape"):
        ct.cur_decomposition(da.ones((0, 10)), 3)
    with pytest.raises(ValueError, match="A must be 2-dimensional, got 3 dimensions"):
        ct.cur_decomposition(da.ones((5, 5, 5)), 3)
    with pytest.raises(TypeError, match=r"A must be an array of .* got dtype object"):
        ct.cur_decomposition(A.astype(object), 3)
    with pytest.raises(TypeError, match="A must be an array without a mask"):
        ct.cur_decomposition(da.ma.masked_greater(A, 2), 3)


def test_what_a_chunk_raises_comes_through():
    def broken(block):
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        ct.cur_decomposition(da.ones((20, 10), chunks=5).map_blocks(broken, meta=np.empty((0, 0))), 3)


WRONG_CHUNKS = {
    "more rows": (lambda block: np.concatenate([block, block[:1]]), ValueError, "shape"),
    "twice the rows": (lambda block: np.concatenate([block, block]), ValueError, "shape"),
    "fewer rows": (lambda block: block[1:], ValueError, "shape"),
    "no rows": (lambda block: block[:0], ValueError, "shape"),
    "more columns": (lambda block: np.concatenate([block, block[:, :1]], axis=1), ValueError, "shape"),
    "fewer columns": (lambda block: block[:, 1:], ValueError, "shape"),
    "a vector": (lambda block: block.reshape(-1), ValueError, "shape"),
    "one mode more": (lambda block: block[..., None], ValueError, "shape"),
    "complex": (lambda block: block * 1j, TypeError, "dtype complex128"),
    "objects": (lambda block: block.astype(object), TypeError, "dtype object"),
    "text": (lambda block: block.astype(str), TypeError, "dtype <U"),
    "dates": (lambda block: block.astype("datetime64[s]"), TypeError, "dtype datetime64"),
    "a mask": (lambda block: np.ma.masked_array(block, block > 0), TypeError, "a masked array"),
    "nothing": (lambda block: None, TypeError, "dtype object"),
    "ragged lists": (lambda block: [[1.0], [1.0, 2.0]], ValueError, r"\[\[1"),
}
MATRIX_CALLS = {
    "projection": lambda A: ct.cur_decomposition(A, 3, rng=0),
    "intersection": lambda A: ct.cur_decomposition(A, 3, core="intersection", rng=0),
    "rtol": lambda A: ct.cur_decomposition(A, rtol=0.5, rng=0),
    "columns": lambda A: ct.select_columns(A, 3, rng=0),
    "rows": lambda A: ct.select_rows(A, 3, rng=0),
    "gaussian": lambda A: ct.select_rows(A, 3, sketch="gaussian", rng=0),
    "rpcholesky": lambda A: ct.select_columns(A, 3, method="rpcholesky", rng=0),
    "interpolative": lambda A: ct.interpolative_decomposition(A, 3, rng=0),
    "svd": lambda A: ct.randomized_svd(A, 3, rng=0),
    "subspace": lambda A: ct.randomized_svd(A, 3, method="subspace", rng=0),
    "scores": lambda A: ct.leverage_scores(A, 3),
    "sketched scores": lambda A: ct.leverage_scores(A, 3, method="sketch", rng=0),
    "error": lambda A: ct.relative_error(A, np.ones((24, 24))),
    "error on probes": lambda A: ct.relative_error(A, np.ones((24, 24)), n_probes=2, rng=0),
    "compare": lambda A: ct.compare(A, [2], methods=["cur"], rng=0),
    "row_blocks": lambda A: ct.select_columns(ct.row_blocks(A), 3, rng=0),
}
TENSOR_CALLS = {
    "st_hosvd": lambda X: ct.st_hosvd(X, 2),
    "rtol": lambda X: ct.st_hosvd(X, rtol=0.5),
    **{
        method: lambda X, method=method: ct.tensor_cur(X, 2, method=method, rng=0)
        for method in ("chidori", "fiber", "cross")
    },
}
WHOLE_CALLS = {
    "hooi": lambda X: ct.hooi(X, 2),
    "compare": lambda X: ct.compare(X, [2], rng=0),
    "unfold": lambda X: ct.unfold(X, 1),
    "tubal_svd": lambda X: ct.tubal_svd(X, 2),
}


def spoilt(shape, chunks, spoil):
    """A dask array of floats of which one chunk is not what it was declared."""
    last = tuple(length // chunk - 1 for length, chunk in zip(shape, chunks, strict=True))

    def one(block, block_info=None):
        return spoil(block) if tuple(block_info[0]["chunk-location"]) == last else block

    whole = da.from_array(1.0 + np.random.default_rng(0).random(shape), chunks=chunks)
    return whole.map_blocks(one, dtype=float, meta=np.empty((0,) * len(shape)))


@pytest.mark.parametrize("wrong", WRONG_CHUNKS)
@pytest.mark.parametrize("call", MATRIX_CALLS)
def test_a_chunk_that_is_not_what_it_was_declared_is_refused(call, wrong):
    spoil, error, got = WRONG_CHUNKS[wrong]
    with pytest.raises((error, OSError), match=rf"each chunk of A must be .*, got .*{got}"):
        MATRIX_CALLS[call](spoilt((24, 24), (12, 8), spoil))


@pytest.mark.parametrize("wrong", WRONG_CHUNKS)
@pytest.mark.parametrize("call", TENSOR_CALLS)
def test_a_chunk_of_a_tensor_that_is_not_what_it_was_declared_is_refused(call, wrong):
    spoil, error, got = WRONG_CHUNKS[wrong]
    with pytest.raises(error, match=rf"each chunk of X must be .*, got .*{got}"):
        TENSOR_CALLS[call](spoilt((8, 9, 10), (4, 3, 5), spoil))


@pytest.mark.parametrize("wrong", WRONG_CHUNKS)
@pytest.mark.parametrize("chunks", [(4, 3, 5), (8, 9, 10)], ids=str)
@pytest.mark.parametrize("call", WHOLE_CALLS)
def test_a_tensor_that_is_computed_whole_is_what_it_was_declared_or_refused(call, chunks, wrong):
    spoil, error, got = WRONG_CHUNKS[wrong]
    with pytest.raises(error, match=rf"each chunk of [AX] must be .*, got .*{got}"):
        WHOLE_CALLS[call](spoilt((8, 9, 10), chunks, spoil))


def test_a_refused_chunk_is_named_by_its_place():
    A = spoilt((24, 24), (8, 12), WRONG_CHUNKS["more rows"][0])
    message = r"shape \(8, 12\), as declared, got shape \(9, 12\) for A\[16:24, 12:24\]"
    for kind in ("threads", "synchronous"):
        with dask.config.set(scheduler=kind), pytest.raises(ValueError, match=message):
            ct.cur_decomposition(A, 3, rng=0)


def test_chunks_of_another_float_or_kept_sparse_are_taken_as_declared(rng):
    A = low_rank(24, 24, 4, "float64", rng) * (rng.random((24, 24)) < 0.5)
    pydata = pytest.importorskip("sparse")
    expected = ct.cur_decomposition(A, 4, rng=0)
    for kind in (sparse.csr_array, sparse.coo_matrix, pydata.COO.from_numpy):
        B = da.from_array(A, chunks=(8, 12)).map_blocks(kind, dtype=float, meta=np.empty((0, 0)))
        assert_same(ct.cur_decomposition(B, 4, rng=0), expected)
    half = da.from_array(A, chunks=(8, 12)).map_blocks(
        lambda block: block.astype("f4"), dtype=float, meta=np.empty((0, 0))
    )
    result = ct.cur_decomposition(half, 4, rng=0)
    assert_array_equal(result.C, A.astype("f4")[:, result.col_indices].astype(float))


def test_fractions_declared_integers_are_refused():
    A = da.ones((20, 10), chunks=5, dtype=int).map_blocks(
        lambda block: block / 2, dtype=int, meta=np.empty((0, 0), int)
    )
    with pytest.raises(TypeError, match="each chunk of A must be of dtype int64, as declared, got dtype float64"):
        ct.cur_decomposition(A, 3, rng=0)


def test_sparse_chunks_with_indices_out_of_range_are_refused(rng):
    def damaged(block):
        block = sparse.csr_array(block)
        block.indices[0] = 10**8
        return block

    A = da.from_array(rng.random((20, 10)), chunks=5).map_blocks(damaged, dtype=float, meta=np.empty((0, 0)))
    with pytest.raises(ValueError, match="each chunk of A must be a sparse matrix whose indices are from 0 to 4"):
        ct.cur_decomposition(A, 3, rng=0)


@pytest.mark.parametrize("kind", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_threads_and_processes_change_nothing(kind, rng):
    A = normal((200, 100), "float64", rng) / np.arange(1, 101)
    expected = ct.cur_decomposition(chunked(A, (17, 30)), 8, rng=3)
    with dask.config.set(scheduler=kind, num_workers=2):
        result = ct.cur_decomposition(chunked(A, (17, 30)), 8, rng=3)
    assert_allclose(result.to_array(), expected.to_array(), rtol=0, atol=1e-12)


def cluster_of(n_workers, **options):
    """Client of a cluster with one thread a worker."""
    options = {"dashboard_address": None, "threads_per_worker": 1} | options
    return distributed.Client(distributed.LocalCluster(n_workers=n_workers, **options), set_as_default=True)


@pytest.fixture
def cluster():
    """A client of two processes, as the scheduler in force."""
    with dask.config.set(scheduler=None), cluster_of(2) as client:
        yield client
        client.cluster.close()


@pytest.mark.slow
def test_a_cluster_changes_nothing(cluster, rng):
    A = normal((200, 100), "complex128", rng) / np.arange(1, 101)
    expected = ct.cur_decomposition(A, 8, rng=3)
    assert_same(ct.cur_decomposition(chunked(A, (40, 50)), 8, rng=3), expected)
    assert_same(ct.cur_decomposition(chunked(A, (40, 50)).persist(), 8, rng=3), expected)


@pytest.mark.slow
def test_a_cluster_refuses_a_chunk_that_is_not_what_it_was_declared(cluster):
    for wrong in ("more rows", "complex", "a mask"):
        spoil, error, got = WRONG_CHUNKS[wrong]
        with pytest.raises(error, match=rf"each chunk of A must be .*, got .*{got}"):
            ct.cur_decomposition(spoilt((24, 24), (8, 12), spoil), 3, rng=0)
        with pytest.raises(error, match=rf"each chunk of X must be .*, got .*{got}"):
            ct.st_hosvd(spoilt((8, 9, 10), (4, 3, 5), spoil), 2)


def late(block):
    """The block, after a while."""
    time.sleep(0.1)
    return block


@pytest.mark.slow
def test_a_worker_that_dies_costs_a_retry_not_the_answer(cluster, rng):
    A = normal((400, 100), "float64", rng) / np.arange(1, 101)
    expected = ct.cur_decomposition(A, 8, rng=3)
    before = cluster.run(os.getpid)
    victim = min(before.values())
    alarm = threading.Timer(2, os.kill, (victim, signal.SIGKILL))
    alarm.start()
    result = ct.cur_decomposition(chunked(A, (10, 50)).map_blocks(late, meta=np.empty((0, 0))), 8, rng=3)
    assert not alarm.is_alive(), "the worker was to die during the pass"
    assert victim not in cluster.run(os.getpid).values()
    assert_same(result, expected)


@pytest.mark.slow
def test_a_cluster_without_workers_is_refused_not_waited_for(monkeypatch):
    monkeypatch.setattr(dask_array, "FIRST_WORKER_SECONDS", 0.5)
    with dask.config.set(scheduler=None), cluster_of(0, processes=False) as client:
        with pytest.raises(ValueError, match="the scheduler of A must be one with workers, got a cluster without any"):
            ct.cur_decomposition(da.ones((20, 10), chunks=5), 3)
        client.cluster.close()
