"""Tensor trains: exact where the rank allows, checked on entries that no choice has seen, and never silently zero."""

import functools

import numpy as np
import pytest
import tensorly
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import curtensor as ct

DTYPES = ["f4", "f8", "c8", "c16"]


def train_of(rng, shape, rank, dtype="f8"):
    """Cores of a random tensor train, and the tensor."""
    ranks = [1, *[rank] * (len(shape) - 1), 1]
    cores = [rng.standard_normal((a, d, b, 2)) for a, d, b in zip(ranks, shape, ranks[1:], strict=False)]
    cores = [(core[..., 0] + (1j * core[..., 1] if dtype[0] == "c" else 0)).astype(dtype) for core in cores]
    return cores, functools.reduce(lambda x, core: np.tensordot(x, core, 1), cores)[0, ..., 0]


def reciprocal(*i):
    """A smooth function of many variables."""
    return 1 / (1.0 + sum(i))


def fresh(shape, count=5000, seed=77):
    return np.random.default_rng(seed).integers(0, np.array(shape)[:, None], (len(shape), count))


def relative(X, Y):
    return np.linalg.norm(X - Y) / np.linalg.norm(X)


# Oracles


@pytest.mark.parametrize("dtype", DTYPES)
def test_algebra_of_trains_is_that_of_arrays(dtype):
    rng = np.random.default_rng(0)
    X, Y = (train_of(rng, (4, 5, 3, 6), 3, dtype)[1] for _ in range(2))
    x, y = (ct.tt_svd(Z, 3) for Z in (X, Y))
    eps = 2000 * float(np.finfo(dtype).eps)
    assert_allclose(x.norm(), np.linalg.norm(X), rtol=eps)
    assert_allclose(x.inner(y), np.vdot(X, Y), rtol=0, atol=eps * np.linalg.norm(X) * np.linalg.norm(Y))
    scale = np.abs(X).max() * X.size
    assert_allclose(x.sum(), X.sum(), rtol=0, atol=eps * scale)
    assert_allclose(x.mean((0, -1)).to_array(), X.mean((0, 3)), rtol=0, atol=eps * scale)
    w = rng.standard_normal(5), rng.standard_normal(6)
    assert_allclose(x.sum((1, 3), w).to_array(), np.einsum("abcd,b,d->ac", X, *w), rtol=0, atol=eps * scale)
    i = np.ix_([3, 1], [0, 4], [2], [5, 5, 0])
    assert_allclose(x.at(i), X[i], rtol=0, atol=eps * scale)
    assert x.at(i).dtype == x.dtype == x.to_array().dtype == dtype


def test_tensorly_takes_a_train():
    X = train_of(np.random.default_rng(1), (4, 5, 6), 3)[1]
    train = ct.tt_svd(X, 3)
    for theirs in (tensorly.tt_to_tensor(train), train.to_tensorly().to_tensor(), tensorly.tt_to_tensor(list(train))):
        assert_allclose(theirs, X, rtol=0, atol=1e-12 * np.abs(X).max())
    assert len(train) == 3 and train[1].shape == (3, 5, 3)


@pytest.mark.parametrize("rtol", [1e-2, 1e-6, 1e-12])
def test_tt_svd_and_rounding_hold_their_tolerance_and_know_their_error(rtol):
    X = reciprocal(*np.ogrid[:12, :13, :14, :15])
    train = ct.tt_svd(X, rtol=rtol)
    assert relative(X, train.to_array()) <= rtol
    assert_allclose(train.error_estimate, relative(X, train.to_array()), rtol=1e-2, atol=1e-14)
    rounded = ct.tt_svd(X, rtol=1e-13).round(rtol)
    assert relative(X, rounded.to_array()) <= rounded.error_estimate * 1.001 + 1e-14 <= 1.01 * rtol + 1e-12
    assert rounded.ranks <= ct.tt_svd(X, rtol=1e-13).ranks
    assert train.round(ranks=2).ranks == (2, 2, 2)


def test_norms_of_trains_whose_squares_overflow_or_whose_size_does_are_right():
    core = np.full((1, 10, 1), 1e30)
    assert_allclose(ct.TensorTrain((core,) * 8).norm(), 1e240 * 1e4, rtol=1e-12)
    tiny = ct.TensorTrain((np.full((1, 2, 1), 1e-60),) * 5)
    assert_allclose(tiny.norm(), 1e-300 * 2**2.5, rtol=1e-12)
    assert ct.TensorTrain((np.ones((1, 10, 1)),) * 500).mean() == pytest.approx(1)


# Exactness


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_low_rank_comes_back_from_few_entries(dtype):
    shape, eps = (9,) * 7, float(np.finfo(dtype).eps)
    _, X = train_of(np.random.default_rng(2), shape, 3, dtype)
    given = X.copy()
    train = ct.tt_cross(X, rtol=1000 * eps, rng=0)
    assert train.converged and train.dtype == dtype and max(train.ranks) <= 4
    assert train.n_entries_read < X.size / 50
    assert relative(X, train.to_array()) < 1000 * eps
    assert_array_equal(X, given)


EXACT = {
    "constant": lambda *i: np.full(np.broadcast_shapes(*(k.shape for k in i)), 3.5),
    "sum": lambda *i: 1.0 * sum(i),
    "integers": lambda *i: sum(i) - 20,
    "separable": lambda *i: np.exp(-sum(i) / 7.0),
    "imaginary": lambda *i: np.exp(1j * sum(i)),
    "product of all but ends": lambda *i: functools.reduce(np.multiply, (np.sin(np.pi * k / 11) for k in i)),
}


@pytest.mark.parametrize("d", [2, 3, 10, 30])
@pytest.mark.parametrize("name", EXACT)
def test_exact_functions_converge(name, d):
    train = ct.tt_cross(EXACT[name], shape=(12,) * d, rtol=1e-8, rng=1)
    assert train.converged and max(train.ranks) <= 3
    places = fresh(train.shape)
    assert relative(EXACT[name](*places), train.at(places)) < 1e-8


# Invariants


def test_index_sets_are_nested_distinct_and_of_the_ranks():
    train = ct.tt_cross(reciprocal, shape=(8,) * 6, rtol=1e-6, rng=0)
    for n, rank in enumerate(train.ranks):
        left, right = train.left_indices[n], train.right_indices[n]
        assert left.shape == (rank, n + 1) and right.shape == (rank, 5 - n)
        assert len(np.unique(left, axis=0)) == len(np.unique(right, axis=0)) == rank
        if n:
            before = {*map(tuple, train.left_indices[n - 1])}
            assert {tuple(row[:-1]) for row in left} <= before
            assert {tuple(row[1:]) for row in train.right_indices[n - 1]} <= {*map(tuple, right)}


def test_the_function_gets_arrays_of_its_own_in_batches_and_is_counted():
    asked = []

    def spoils(*i):
        values = reciprocal(*i)
        asked.append(values.size)
        for index in i:
            index[...] = -1
        return values

    train = ct.tt_cross(spoils, shape=(8,) * 5, rtol=1e-6, batch=100, rng=0)
    plain = ct.tt_cross(reciprocal, shape=(8,) * 5, rtol=1e-6, rng=0)
    assert train.converged and max(asked) <= 100 and sum(asked) == train.n_entries_read == plain.n_entries_read
    single = ct.tt_cross(
        lambda a, b, c, d, e: 1 / (1 + a + b + c + d + e), shape=(8,) * 5, rtol=1e-6, vectorized=False, rng=0
    )
    assert single.ranks == plain.ranks


def test_same_seed_same_train():
    first, second, other = (ct.tt_cross(reciprocal, shape=(20,) * 8, rtol=1e-5, rng=s) for s in (3, 3, 4))
    for one, two in zip(first, second, strict=True):
        assert_array_equal(one, two)
    assert any(
        a.shape != b.shape or (a != b).any() for a, b in zip(first.left_indices, other.left_indices, strict=True)
    )


def test_names_of_a_data_array_are_kept_and_files_hold_all(tmp_path):
    X = xr.DataArray(reciprocal(*np.ogrid[:5, :6, :7]), {"x": list("abcde")}, ("x", "y", "z"))
    for train in (ct.tt_cross(X, rtol=1e-4, rng=0), ct.tt_svd(X, 2)):
        assert train.dims == ("x", "y", "z") and list(train.names[0]) == list("abcde")
        assert train.mean(1).dims == ("x", "z")
        train.save(tmp_path / "train.npz")
        again = ct.TensorTrain.load(tmp_path / "train.npz")
        for kept, read in zip(train.cores + train.left_indices, again.cores + again.left_indices, strict=True):
            assert_array_equal(kept, read)
        assert (again.dims, again.converged, again.error_estimate) == (
            train.dims,
            train.converged,
            train.error_estimate,
        )


# What is claimed


@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
@pytest.mark.parametrize("d", [3, 6, 12])
def test_a_claim_holds_on_entries_of_anywhere(d, rtol):
    def waves(*i):
        return np.sin(sum(i) / 9.0) + 1 / np.sqrt(1 + sum((k / 19) ** 2 for k in i))

    for seed in range(3):
        train = ct.tt_cross(waves, shape=(20,) * d, rtol=rtol, rng=seed)
        places = fresh(train.shape)
        assert train.converged and train.error_estimate <= rtol
        assert relative(waves(*places), train.at(places)) <= rtol


def several_peaks(d, seed):
    rng = np.random.default_rng(seed)
    centres = rng.integers(2, 18, (3, d))

    def peaks(*i):
        return sum(
            np.exp(-sum(((k - c) / 19) ** 2 for k, c in zip(i, centre, strict=True)) / 0.005) for centre in centres
        )

    return peaks, centres


@pytest.mark.parametrize("d", [6, 10])
def test_no_narrow_peak_is_lost_where_there_is_nothing_else(d):
    for seed in range(5):
        f, centres = several_peaks(d, seed)
        train = ct.tt_cross(f, shape=(20,) * d, rtol=1e-3, rng=seed)
        assert train.converged
        assert_allclose(train.at(centres.T), f(*centres.T), rtol=1e-2)


def test_what_is_zero_for_want_of_digits_is_not_said_to_have_converged():
    f = ct.tt_cross(lambda *i: np.exp(-400.0 * sum((k - 5.0) ** 2 for k in i)), shape=(64,) * 12, rtol=1e-3, rng=0)
    assert not f.converged


@pytest.mark.parametrize("how", [{"rtol": 1e-3}, {"ranks": 2}])
def test_zeros_alone_are_not_said_to_have_converged(how):
    train = ct.tt_cross(lambda *i: 0.0 * sum(i), shape=(9,) * 5, rng=0, **how)
    assert not train.converged and train.error_estimate == 1 and not train.to_array().any()


def test_noise_is_given_up_within_the_entries_allowed_and_is_no_worse_than_zero():
    def noise(*i):
        return np.sin(functools.reduce(lambda x, k: x * 31 + k, i) * 12.9898) * 43758.5453 % 1 - 0.5

    train = ct.tt_cross(noise, shape=(10,) * 8, rtol=1e-3, max_entries=10**5, rng=0)
    assert not train.converged and train.n_entries_read <= 1.02 * 10**5 and 0.5 < train.error_estimate <= 1


def test_fixed_ranks_are_kept_and_the_error_is_known():
    for seed in range(3):
        train = ct.tt_cross(reciprocal, 4, shape=(9,) * 6, rng=seed)
        places = fresh(train.shape)
        assert train.ranks == (4,) * 5 and train.converged
        error = relative(reciprocal(*places), train.at(places))
        assert 0.5 * train.error_estimate < error < 1.2 * train.error_estimate


def test_an_integral_of_a_hundred_variables():
    x, w = np.polynomial.legendre.leggauss(8)
    x, w = (x + 1) / 2, w / 2
    train = ct.tt_cross(lambda *i: np.cos(sum(x[k] for k in i) / 10), shape=(8,) * 100, rtol=1e-8, rng=0)
    exact = ((np.exp(0.1j) - 1) / 0.1j) ** 100
    assert_allclose(train.sum(weights=[w] * 100), exact.real, rtol=1e-8)
    assert train.n_entries_read < 10**5


# Quantics


def test_cells_of_a_quantics_grid_hold_their_points():
    grid = ct.QuanticsGrid((-1, 0), (1, 5), 30)
    x, y = np.random.default_rng(0).random((2, 50)) * [[2], [5]] - [[1], [0]]
    bits = grid.indices(x, y)
    assert len(bits) == len(grid.shape) == 60 and {*np.unique(bits)} == {0, 1}
    for found, given, width in zip(grid.points(bits), (x, y), (2, 5), strict=True):
        assert_allclose(found, given, rtol=0, atol=width / 2**30)
    assert grid.volume == 10
    assert [b.item() for b in grid.indices(1, 5)] == [1] * 60


def test_a_function_of_reals_on_a_quantics_grid_is_integrated():
    grid = ct.QuanticsGrid(0, 1, 30)
    train = ct.tt_cross(grid.function(lambda x: np.exp(x) * np.sin(40 * x)), shape=grid.shape, rtol=1e-10, rng=0)
    exact = (np.exp(1 + 40j) - 1) / (1 + 40j)
    assert train.converged
    assert_allclose(train.mean() * grid.volume, exact.imag, rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_scale_does_not_matter(scale):
    train = ct.tt_cross(lambda *i: scale * reciprocal(*i), shape=(10,) * 6, rtol=1e-5, rng=0)
    places = fresh(train.shape)
    assert train.converged and relative(reciprocal(*places), train.at(places) / scale) < 1e-5


def test_torch_comes_back_as_torch():
    torch = pytest.importorskip("torch")
    X = torch.tensor(reciprocal(*np.ogrid[:9, :9, :9, :9]), dtype=torch.float32)
    train = ct.tt_cross(X, rtol=1e-3, rng=0)
    assert train.converged and all(isinstance(core, torch.Tensor) for core in train)
    rest = train.round(1e-2).mean(0)
    assert isinstance(rest.to_array(), torch.Tensor) and rest.dtype == torch.float32
    assert float(torch.linalg.norm(rest.to_array() - X.mean(0)) / torch.linalg.norm(X.mean(0))) < 2e-2


# Complaints


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rtol": 1e-3}, ValueError, "^shape must be given where X is a function"),
        ({"rtol": 1e-3, "shape": 5}, TypeError, "^shape must be a sequence"),
        ({"rtol": 1e-3, "shape": (5,)}, ValueError, "^shape must be of at least 2 modes"),
        ({"rtol": 1e-3, "shape": (5, 0)}, ValueError, "^each length of shape must be"),
        ({"shape": (5, 5)}, ValueError, "^ranks or rtol must be given"),
        ({"ranks": 6, "shape": (5, 5)}, ValueError, "^ranks must be between 1 and 5, got 6"),
        ({"ranks": (2, 2), "shape": (5, 5)}, ValueError, "^ranks must be one for each of 1 pairs"),
        ({"rtol": 0.1, "shape": (5, 5), "max_entries": 10}, ValueError, "^max_entries must be at least"),
        ({"rtol": 0.1, "shape": (5, 5), "batch": 0}, ValueError, "^batch must be between"),
        ({"rtol": 0.1, "shape": (5, 5), "vectorized": 1}, TypeError, "^vectorized must be True or False"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ct.tt_cross(lambda i, j: 1.0 + i + j, **arguments)


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda i, j: np.where(i > 2, np.nan, 1.0) + 0 * j, ValueError, r"^X\(i, j\) must be finite, got nan at"),
        (lambda i, j: i[:1], ValueError, r"^X\(i, j\) must be of the indices' common shape"),
        (lambda i, j: 1 / 0, ZeroDivisionError, "division"),
        (lambda i, j: i + j + (1j if (i + j).size > 1 else 0), TypeError, "must be of dtype float64 in every call"),
    ],
)
def test_what_a_function_does_wrong_is_said(f, error, message):
    with pytest.raises(error, match=message):
        ct.tt_cross(f, shape=(5, 6), rtol=1e-3, rng=0)


def test_a_function_with_two_answers_for_an_entry_is_noticed():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"^X must be the same whenever it is read, got .* and .* at"):
        ct.tt_cross(lambda *i: reciprocal(*i) + rng.random(), shape=(20,) * 5, rtol=1e-3, rng=0)


def test_what_is_too_large_is_refused_before_it_is_asked_for():
    train = ct.TensorTrain((np.ones((1, 20, 1)),) * 20)
    with pytest.raises(ValueError, match=r"^the array must be of at most"):
        train.to_array()
    with pytest.raises(ValueError, match=r"^indices\[3\] must be from -20 to 19, got 20"):
        train.at([0, 0, 0, 20, *[0] * 16])
    with pytest.raises(ValueError, match=r"^weights\[0\] must be of shape \(20,\)"):
        train.sum(0, [np.ones(3)])
