"""Matrices known by their entries: what is read, what is claimed, and what is right."""

import numpy as np
import pytest
from matrices import DTYPES, eps, low_rank
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct
from curtensor import cross


class Counted:
    """A function of index arrays that keeps count of what it is asked, and spoils what it is given."""

    def __init__(self, function):
        self.function, self.sizes = function, []

    def __call__(self, i, j):
        values = self.function(i.copy(), j.copy())
        self.sizes.append(values.size)
        i[...] = j[...] = 0
        return values


def of_array(A):
    return Counted(lambda i, j: A[i, j])


def inverse_distance(n, gap, rng):
    x, y = (np.ascontiguousarray(X.T) for X in (rng.random((n, 3)), rng.random((n, 3)) + np.array([gap, 0, 0])))
    return lambda i, j: 1 / np.sqrt(sum((a[i] - b[j]) ** 2 for a, b in zip(x, y, strict=True)))


def two_blocks(n, rng):
    inside = inverse_distance(n, 2, rng)
    return lambda i, j: np.where((i < n // 3) == (j < n // 2), inside(i, j), 0.0)


def many_blocks(n, rng):
    inside, of_row, of_column = inverse_distance(n, 3, rng), rng.integers(0, 6, n), rng.integers(0, 6, n)
    return lambda i, j: np.where(of_row[i] == of_column[j], inside(i, j), 0.0)


def clustered(n, rng):
    x, y = (np.sort(rng.choice([0, 1, 3, 7], n) + s + 0.01 * rng.standard_normal(n)) for s in (0, 0.3))
    return lambda i, j: 1 / np.abs(x[i] - y[j])


def scaled_rows(n, rng):
    inside, scales = inverse_distance(n, 2, rng), 10.0 ** rng.uniform(-5, 5, n)
    return lambda i, j: scales[i] * inside(i, j)


def wide_peak(n, rng):
    inside, center = inverse_distance(n, 2, rng), rng.uniform(0.2 * n, 0.8 * n, 2)
    return lambda i, j: inside(i, j) + 9 * np.exp(-(((i - center[0]) / 40) ** 2) - ((j - center[1]) / 40) ** 2)


FUNCTIONS = {
    "separated": lambda n, rng: inverse_distance(n, 1.5, rng),
    "two blocks": two_blocks,
    "many blocks": many_blocks,
    "clustered": clustered,
    "scaled rows": scaled_rows,
    "wide peak": wide_peak,
}


def whole(function, m, n):
    return function(np.arange(m)[:, None], np.arange(n))


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_tolerance_is_held(name, rtol, rng):
    n = 1200
    function = FUNCTIONS[name](n, rng)
    A = whole(function, n, n)
    for seed in range(3):
        counted = Counted(function)
        result = ct.cur_decomposition(counted, rtol=rtol, shape=(n, n), rng=seed)
        assert np.linalg.norm(A - result.to_array()) <= rtol * np.linalg.norm(A)
        assert result.error_estimate <= rtol
        assert sum(counted.sizes) < 0.6 * n * n


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(900, 400), (400, 900)])
def test_exact_when_rank_is_reached(shape, dtype, rng):
    A = low_rank(*shape, 7, dtype, rng)
    for options in ({"rank": 7}, {"rank": 20}, {"rtol": 1e-3}):
        result = ct.cur_decomposition(of_array(A), shape=shape, rng=0, **options)
        C, _, R, columns, rows = result
        assert result.rank == 7 and result.dtype == A.dtype
        assert_array_equal(C, A[:, columns])
        assert_array_equal(R, A[rows])
        assert_allclose(result.to_array(), A, rtol=0, atol=3e4 * eps(A.dtype) * np.abs(A).max())
        assert result.error_estimate < 1e4 * eps(A.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_interpolative_decomposition_has_the_same_choice(dtype, rng):
    A = low_rank(500, 300, 9, dtype, rng)
    for axis in (0, 1):
        result = ct.interpolative_decomposition(of_array(A), 9, axis=axis, shape=A.shape, rng=0)
        assert_allclose(result.to_array(), A, rtol=0, atol=1e5 * eps(A.dtype) * np.abs(A).max())
        select = (ct.select_rows, ct.select_columns)[axis]
        assert_array_equal(select(of_array(A), 9, shape=A.shape, rng=0), result.indices)
        assert_allclose(np.take(result.coefficients, result.indices, axis), np.eye(9), rtol=0, atol=0)


def test_a_large_kernel_is_read_in_few_entries(rng):
    function = Counted(inverse_distance(2000, 1.5, rng))
    result = ct.cur_decomposition(function, rtol=1e-6, shape=(2000, 2000), rng=0)
    assert sum(function.sizes) <= 0.15 * 2000**2
    assert result.error_estimate <= 1e-6


def test_a_batch_bounds_what_one_call_asks_for(rng):
    A = low_rank(300, 200, 5, "f8", rng)
    function = of_array(A)
    result = ct.cur_decomposition(function, 5, shape=A.shape, batch=70, rng=0)
    assert max(function.sizes) <= 70
    assert_array_equal(result.col_indices, ct.cur_decomposition(of_array(A), 5, shape=A.shape, rng=0).col_indices)


def test_a_small_matrix_is_read_once_and_chosen_from_as_an_array(rng):
    A = rng.standard_normal((60, 50))
    function = of_array(A)
    result = ct.cur_decomposition(function, 10, shape=A.shape, rng=0)
    assert sum(function.sizes) <= A.size + 1
    assert_array_equal(result.col_indices, ct.cur_decomposition(A, 10, rng=0).col_indices)
    assert_array_equal(ct.select_rows(function, 5, shape=A.shape, rng=0), ct.select_rows(A, 5, rng=0))


def test_what_has_no_low_rank_is_read_whole_and_held(rng):
    A = rng.standard_normal((300, 250))
    function = of_array(A)
    result = ct.cur_decomposition(function, rtol=0.1, shape=A.shape, rng=0)
    assert np.linalg.norm(A - result.to_array()) <= 0.1 * np.linalg.norm(A)
    assert sum(function.sizes) < 1.8 * A.size


def test_zeros_are_said_to_be_all_that_was_seen():
    zeros, said = Counted(lambda i, j: np.zeros(np.broadcast(i, j).shape)), r"^A is zero at all \d+ entries sampled"
    for decompose in (ct.cur_decomposition, ct.interpolative_decomposition):
        with pytest.warns(UserWarning, match=said) as caught:
            result = decompose(zeros, 3, shape=(1000, 1000), rng=0)
        assert caught[0].filename == __file__
        assert result.rank == 0 and result.error_estimate == 1 and not result.converged
        with pytest.raises(ValueError, match=r"^A must be other than zero at some of the entries sampled"):
            decompose(zeros, rtol=0.1, shape=(1000, 1000), rng=0)
    for select in (ct.select_columns, ct.select_rows):
        with pytest.warns(UserWarning, match=said) as caught:
            assert len(select(zeros, 3, shape=(1000, 1000), rng=0)) == 0
        assert caught[0].filename == __file__
    assert ct.cur_decomposition(zeros, 3, shape=(100, 100), rng=0).error_estimate == 0  # all was seen


@pytest.mark.parametrize("shape", [(100, 90), (700, 300), (2000, 2000)])
def test_an_entry_is_asked_for_once_and_counted(shape, rng):
    """But for pivots, which are asked for again: a function that is not pure gives itself away."""
    A, asked = low_rank(*shape, 8, "f8", rng), np.zeros(shape, dtype=int)

    def entries(i, j):
        np.add.at(asked, np.broadcast_arrays(i, j), 1)
        return A[i, j]

    for decompose in (ct.cur_decomposition, ct.interpolative_decomposition):
        asked[:] = 0
        result = decompose(entries, rtol=1e-6, shape=shape, rng=0)
        assert result.converged and result.n_entries_read == asked.sum()
        again = np.argwhere(asked > 1)
        assert asked.max() <= 2 and len(again) <= 8


def scattered_blocks(n, rng, sizes, scale):
    """Blocks of rows and columns here and there, and zeros beside them."""
    inside = inverse_distance(n, 2, rng)
    of_row, of_column = (rng.permutation(np.repeat(np.arange(len(sizes)), sizes)) for _ in range(2))
    return lambda i, j: np.where(of_row[i] == of_column[j], scale ** of_row[i] * inside(i, j), 0.0)


def test_a_small_block_that_no_chosen_column_has_met_is_found(rng):
    """Ten rows and ten columns of a thousand: random entries meet it one time in ten thousand."""
    n, sizes = 1000, (800, 190, 10)
    for seed in range(5):
        function = scattered_blocks(n, np.random.default_rng(seed), sizes, 3.0)
        A = whole(function, n, n)
        result = ct.cur_decomposition(function, rtol=1e-4, shape=(n, n), rng=seed)
        assert np.linalg.norm(A - result.to_array()) <= 1e-4 * np.linalg.norm(A)


def test_a_block_of_two_percent_over_a_background_is_found(rng):
    n = 1500
    inside = inverse_distance(n, 2, rng)
    for seed in range(5):
        first = np.random.default_rng(seed).integers(0, n - 30, 2)

        def function(i, j, first=first):
            hit = (i >= first[0]) & (i < first[0] + 30) & (j >= first[1]) & (j < first[1] + 30)
            return inside(i, j) + np.where(hit, 50 * np.cos((i - j) / 10), 0)

        A = whole(function, n, n)
        result = ct.cur_decomposition(function, rtol=1e-2, shape=(n, n), rng=seed)
        assert np.linalg.norm(A - result.to_array()) <= 1e-2 * np.linalg.norm(A)


@pytest.mark.parametrize("scale", [1e-290, 1e250])
def test_any_scale_will_do(scale, rng):
    A = low_rank(400, 300, 6, "f8", rng)
    result = ct.cur_decomposition(of_array(A * scale), rtol=1e-8, shape=A.shape, rng=0)
    assert_allclose(result.to_array() / scale, A, rtol=0, atol=1e-8 * np.linalg.norm(A))


def test_a_plain_function_of_integers_is_called_for_each_entry():
    def entry(i, j):
        assert type(i) is type(j) is int
        return 1 / (1 + i + j)

    result = ct.cur_decomposition(entry, 3, shape=(200, 150), vectorized=False, rng=0)
    assert_array_equal(result.C[:, 0], 1 / (1 + np.arange(200) + result.col_indices[0]))


EVERYWHERE = {
    "cur_decomposition": lambda f, **options: ct.cur_decomposition(f, 2, **options),
    "interpolative_decomposition": lambda f, **options: ct.interpolative_decomposition(f, 2, **options),
    "select_columns": lambda f, **options: ct.select_columns(f, 2, **options),
    "select_rows": lambda f, **options: ct.select_rows(f, 2, **options),
}


def with_nan(i, j):
    return np.where((i + j) % 50 == 49, np.nan, 1.0)


def turning(i, j):
    return np.ones(np.broadcast(i, j).shape) * (1 if np.broadcast(i, j).size == 1 else 1j)


BAD = {
    "no shape": (np.add, {}, ValueError, "shape must be given where A is a function, got None"),
    "one length": (np.add, {"shape": (5,)}, ValueError, "shape must be of 2 lengths, got"),
    "a number": (np.add, {"shape": 5}, TypeError, "shape must be a sequence of integers, got 5"),
    "no length": (np.add, {"shape": (5, 0)}, ValueError, "each length of shape must be between 1 and"),
    "an array": (np.eye(3), {"shape": (3, 3)}, ValueError, "shape must be left out where A is no function"),
    "a batch of an array": (np.eye(3), {"batch": 9}, ValueError, "batch must be left out where A is no function"),
    "an endless shape": (np.add, {"shape": (2**40, 50)}, ValueError, "shape or rank must be so small that its columns"),
    "half precision": (
        np.add,
        {"shape": (500, 500), "dtype": "f2"},
        TypeError,
        "dtype must be integers, bool, ",
    ),
    "no dtype": (np.add, {"shape": (500, 500), "dtype": "float65"}, TypeError, "dtype must be integers, bool, "),
    "batch": (np.add, {"shape": (500, 500), "batch": 0}, ValueError, "batch must be between 1 and"),
    "vectorized": (np.add, {"shape": (500, 500), "vectorized": 1}, TypeError, "vectorized must be True or False"),
    "method": (
        np.add,
        {"shape": (500, 500), "method": "cpqr"},
        ValueError,
        "method must be left out where A is a",
    ),
    "values": (lambda i, j: np.ones(7), {"shape": (500, 500)}, ValueError, r"A\(i, j\) must be of the indices' common"),
    "nan": (with_nan, {"shape": (500, 500)}, ValueError, r"A\(i, j\) must be finite, got nan at \("),
    "complex": (turning, {"shape": (500, 500)}, TypeError, r"A\(i, j\) must be of dtype float64 in every call"),
    "texts": (lambda i, j: np.full(np.broadcast(i, j).shape, "a"), {"shape": (500, 500)}, TypeError, r"A\(i, j\) must"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_bad_input_is_refused_in_the_one_form(name, case):
    A, options, error, message = BAD[case]
    with pytest.raises(error, match=f"^{message}"):
        EVERYWHERE[name](A, rng=0, **options)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_a_function_raises_comes_through(name):
    def broken(i, j):
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        EVERYWHERE[name](broken, shape=(500, 500))


def test_a_function_that_gives_two_answers_for_an_entry_is_noticed(rng):
    def changing(i, j):
        return rng.standard_normal(np.broadcast(i, j).shape)

    with pytest.raises(ValueError, match=r"^A must be the same whenever it is read, got"):
        ct.cur_decomposition(changing, 5, shape=(500, 500), rng=0)


def test_a_tolerance_out_of_reach_of_what_cannot_be_read_whole_is_refused(rng, monkeypatch):
    monkeypatch.setattr(cross, "WHOLE", 2**10)
    monkeypatch.setattr(cross, "ROOM", 2**14)
    A = rng.standard_normal((400, 300))
    with pytest.raises(ValueError, match=r"^rtol must be at least .* for this A, got 1e-06"):
        ct.cur_decomposition(of_array(A), rtol=1e-6, shape=A.shape, rng=0)


def test_a_narrow_peak_that_probes_meet_is_found_and_one_that_none_meets_is_not_lost_on_the_way(rng):
    """Over a background a peak of few entries is met by chance; whoever has met it keeps it."""
    n = 3000
    inside = inverse_distance(n, 2, rng)
    found = 0
    for seed in range(10):
        peak = np.random.default_rng(seed).integers(0, n, 2)

        def function(i, j, peak=peak):
            return inside(i, j) + 1e4 * np.exp(-(((i - peak[0]) / 12) ** 2) - ((j - peak[1]) / 12) ** 2)

        result = ct.cur_decomposition(function, rtol=1e-3, shape=(n, n), rng=seed)
        at_peak = (result.left[peak[0]] @ result.middle) @ result.right[:, peak[1]]
        found += abs(at_peak - function(*peak)) < 100
    assert found >= 4


def test_callback_rises_to_one(rng):
    done = []
    ct.cur_decomposition(inverse_distance(900, 2, rng), rtol=1e-5, shape=(900, 900), rng=0, callback=done.append)
    assert done[-1] == 1 and all(0 <= step <= 1 for step in done)


@pytest.mark.parametrize("decompose", [ct.cur_decomposition, ct.interpolative_decomposition])
def test_what_was_read_is_known_of_functions_alone_and_saved(decompose, rng, tmp_path):
    A = low_rank(300, 200, 5, "f8", rng)
    for result in (decompose(of_array(A), 5, shape=A.shape, rng=0), decompose(A, 5, rng=0)):
        result.save(tmp_path / "result.npz")
        again = type(result).load(tmp_path / "result.npz")
        assert (again.n_entries_read, again.converged) == (result.n_entries_read, True)
    assert result.n_entries_read is None
