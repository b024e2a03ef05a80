"""Tensor CUR beside ST-HOSVD: errors, ratios and numbers held."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import curtensor
from curtensor.comparison import Comparison, TensorRow, compare
from curtensor.files import example_tensor
from curtensor.tensors import comparison as tensor_comparison
from curtensor.tensors.comparison import TENSOR_FORMATS, THIRD_ORDER_FORMATS

DTYPES = ("f4", "f8", "c8", "c16")
SHAPES = [(14, 12, 10), (9, 14, 3), (7, 6, 5, 8)]
ALL = TENSOR_FORMATS | THIRD_ORDER_FORMATS


def tensor(shape, dtype="f8", seed=0):
    """Multilinear spectra 1, 1/2, 1/4, ... between random factors."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X * np.exp(1j * rng.uniform(0, 1, shape))
    for mode, d in enumerate(shape):
        factor = rng.standard_normal((d, d)) * 0.5 ** np.arange(d)
        X = curtensor.mode_dot(X, factor, mode)
    return X.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_error_is_that_of_the_approximation(shape, dtype):
    X, seed = tensor(shape, dtype), int(np.random.default_rng(3).integers(2**63))
    rows = compare(X, 3, rng=3).rows
    assert [row.method for row in rows] == list(tensor_comparison.formats_for(X))
    for row in rows:
        Y = ALL[row.method](X, 3, np.random.default_rng([seed, 3])).to_array()
        wide = np.result_type(dtype, "f8")
        error = np.linalg.norm(X.astype(wide) - Y) / np.linalg.norm(X.astype(wide))
        np.testing.assert_allclose(row.error, error, rtol=1e-6)
        np.testing.assert_allclose(row.error_over_best, error / rows[0].error, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ALL)
def test_exact_rank_leaves_only_rounding(method, dtype):
    core, factors = tensor((2, 2, 2), dtype), [tensor((d, 2), dtype, d) for d in (12, 10, 8)]
    X = curtensor.tucker_to_tensor(core, factors)
    row = compare(X, 4, methods=[method], rng=0).rows[-1]
    assert row.method == method
    assert row.error <= 1e4 * np.finfo(dtype).eps


@pytest.mark.parametrize("method", ALL)
def test_zero_tensor_has_no_error(method):
    row = compare(np.zeros((5, 4, 3)), 2, methods=[method]).rows[-1]
    assert (row.error, row.error_over_best) == (0, 1)


def test_tubal_methods_are_for_three_modes():
    assert {row.method for row in compare(tensor((4, 4, 4)), 2, rng=0).rows} == set(ALL)
    assert {row.method for row in compare(tensor((4, 4, 4, 2)), 2, rng=0).rows} == set(TENSOR_FORMATS)
    with pytest.raises(ValueError, match=r"each of methods must be a function or one of st_hosvd, .*, got 'tubal_cur'"):
        compare(tensor((4, 4, 4, 2)), 2, methods=["tubal_cur"])


def test_ranks_above_a_modes_length_are_cut_to_it():
    X = tensor((9, 14, 3))
    rows = compare(X, [5, 14], methods=["hooi"], rng=0).rows
    assert [row.rank for row in rows] == [5, 5, 14, 14]
    assert rows[0].numbers == 5 * 5 * 3 + 9 * 5 + 14 * 5 + 3 * 3
    assert rows[2].error < 1e-13
    with pytest.raises(ValueError, match="each of ranks must be between 1 and 14, got 15"):
        compare(X, 15)


def test_numbers_are_those_of_the_parts():
    X, k = tensor((9, 8, 7)), 3
    rows = {row.method: row.numbers for row in compare(X, k, rng=0).rows}
    tucker = k**3 + (9 + 8 + 7) * k
    assert rows["st_hosvd"] == rows["hooi"] == rows["cur_recompressed"] == tucker
    assert rows["tubal_svd"] == (9 + 8 + 1) * k * 7
    assert rows["tubal_cur"] == (9 + 8 + k) * k * 7
    parts = curtensor.tensor_cur(X, (k, k, k), rng=0)
    assert rows["cur"] == parts.core.size + sum(factor.size for factor in parts.factors)


def test_st_hosvd_comes_first_and_own_functions_are_methods():
    def nothing(X, k, rng):
        return np.zeros(X.shape)

    rows = compare(tensor((6, 5, 4)), [2, 3], methods=["hooi", nothing, "st_hosvd"], rng=0).rows
    assert [(row.method, row.rank) for row in rows] == [
        (name, rank) for rank in (2, 3) for name in ("st_hosvd", "hooi", "nothing")
    ]
    assert rows[2].error == pytest.approx(1) and rows[2].numbers == 120


def test_numbers_of_an_unknown_result_are_what_it_says_or_unknown():
    class Silent:
        def to_array(self):
            return np.zeros((6, 5, 4))

    class Telling(Silent):
        n_stored = 7

    class Special(curtensor.Tucker):
        pass

    def silent(X, k, rng):
        return Silent()

    def telling(X, k, rng):
        return Telling()

    def special(X, k, rng):
        return Special(*curtensor.st_hosvd(X, k), 0.0)

    def listed(X, k, rng):
        return np.zeros(X.shape).tolist()

    comparison = compare(tensor((6, 5, 4)), 2, methods=[silent, telling, special, listed], rng=0)
    assert [row.numbers for row in comparison.rows] == [38, None, 7, 38, 120]
    assert str(comparison).splitlines()[2].split()[-1] == "unknown"


def test_ranks_above_the_product_of_the_others_hold_no_more_numbers():
    X = np.random.default_rng(0).standard_normal((3000, 2, 2))
    rows = compare(X, 3000, methods=["hooi", "cur", "cur_recompressed", "tubal_cur"], rng=0).rows
    assert rows[0].numbers == rows[1].numbers == rows[3].numbers == 4 * 2 * 2 + 3000 * 4 + 2 * 2 * 2
    assert max(row.error for row in rows) < 1e-12


def test_same_seed_same_errors_and_other_methods_change_nothing():
    X = tensor((14, 12, 10))
    first = {(row.method, row.rank): row.error for row in compare(X, [3, 6], rng=5).rows}
    again = {(row.method, row.rank): row.error for row in compare(X, [6, 3], methods=["uniform", "cur"], rng=5).rows}
    assert again == {key: first[key] for key in again}


def test_integers_are_floats_and_read_only_input_is_taken():
    X = np.random.default_rng(0).integers(-128, 127, (9, 8, 7)).astype("i1")
    X[0, 0, 0] = -128
    same = X.astype(float)
    same.flags.writeable = False
    for one, other in zip(compare(X, 3, rng=0).rows, compare(same, 3, rng=0).rows, strict=True):
        np.testing.assert_allclose(one.error, other.error, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_scale_does_not_matter(scale):
    X, methods = tensor((9, 8, 7)), ["hooi", "tubal_svd", "tubal_cur"]
    rows = [compare(Y, 3, methods=methods, rng=0).rows for Y in (X * scale, X)]
    for one, other in zip(*rows, strict=True):
        np.testing.assert_allclose(one.error, other.error, rtol=1e-6)


@pytest.mark.parametrize(
    ("A", "error", "message"),
    [
        (np.full((4, 3, 2), np.inf), ValueError, r"A must be finite, got NaN or infinity, first at \(0, 0, 0\)"),
        (np.zeros((4, 0, 2)), ValueError, r"A must be not empty, got shape \(4, 0, 2\)"),
        (np.zeros((4, 3, 2), dtype=object), TypeError, "A must be an array of integers, .*, got dtype object"),
    ],
)
def test_bad_tensors_are_named(A, error, message):
    with pytest.raises(error, match=message):
        compare(A, 2)


def test_an_approximation_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"approximation must be of shape \(4, 3, 2\), got shape \(4, 3\)"):
        compare(tensor((4, 3, 2)), 2, methods=[lambda X, k, rng: X[..., 0]])


ROWS = (TensorRow("st_hosvd", 2, 0.25, 1.0, 0.5, 1234), TensorRow("cur", 2, 0.5, 2.0, 0.001, 56789))


def test_table_and_plot_of_tensors():
    lines = str(Comparison(ROWS)).splitlines()
    assert lines[0].endswith("numbers held")
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[2].split() == ["cur", "2", "0.5", "2.000", "0.001", "56789"]
    errors, _ = Comparison(ROWS).plot(ax=Figure().subplots(1, 2))
    assert [line.get_label() for line in errors.lines] == ["st_hosvd", "cur"]
    assert errors.lines[0].get_color() == "black"


def test_recompressed_cur_of_the_shipped_tensor_is_near_st_hosvd():
    rows = compare(example_tensor(), [5, 10, 20], methods=["cur_recompressed"], rng=0).rows
    assert [row.error_over_best < 1.3 for row in rows] == [True] * 6
