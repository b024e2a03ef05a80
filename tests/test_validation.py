import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

import curtensor as ct
from curtensor import _validation

FORM = re.compile(r"^[\w ]+ must be .+, got .+", re.DOTALL)
GOOD = np.random.default_rng(0).standard_normal((9, 7))
GOOD.flags.writeable = False

# Each function of a matrix, called with nothing else but what it needs.
FUNCTIONS = {
    "randomized_svd": lambda A, **options: ct.randomized_svd(A, **({"rank": 2} | options)),
    "leverage_scores": ct.leverage_scores,
    "leverage_scores by sketch": lambda A, **options: ct.leverage_scores(A, 2, method="sketch", **options),
    "select_columns": lambda A, **options: ct.select_columns(A, **({"k": 2} | options)),
    "select_rows": lambda A, **options: ct.select_rows(A, **({"k": 2} | options)),
    "interpolative_decomposition": lambda A, **options: ct.interpolative_decomposition(A, **({"rank": 2} | options)),
    "cur_decomposition": lambda A, **options: ct.cur_decomposition(A, **({"rank": 2} | options)),
    "relative_error": lambda A, **options: ct.relative_error(A, np.ones((9, 7)), **options),
    "relative_error on probes": lambda A, **options: ct.relative_error(A, np.ones((9, 7)), n_probes=3, **options),
    "relative_error, spectral": lambda A, **options: ct.relative_error(A, np.ones((9, 7)), norm="spectral", **options),
}


def with_entry(value, dtype=float):
    A = np.array(GOOD, dtype)
    A[3, 4] = value
    return A


NOT_FINITE = {
    "NaN": with_entry(np.nan),
    "infinity": with_entry(np.inf),
    "minus infinity": with_entry(-np.inf),
    "complex NaN": with_entry(complex(0, np.nan), complex),
    "float32 infinity": with_entry(np.inf, np.float32),
    "both infinities": np.where(np.eye(9, 7) > 0, np.inf, with_entry(-np.inf)),
    "NaN at a great scale": with_entry(np.nan) * 1e300,
}
ARRAYS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "csr": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_array,
    "DataFrame": pd.DataFrame,
}
WRONG_KIND = {
    "text": np.array([["a", "b"], ["c", "d"]]),
    "object": np.array([[1, None], [2, 3]], dtype=object),
    "dates": np.zeros((2, 2), "datetime64[s]"),
    "durations": np.zeros((2, 2), "timedelta64[s]"),
    "records": np.zeros((2, 2), [("a", float)]),
    "float16": np.ones((3, 3), np.float16),
    "long double": np.ones((3, 3), np.longdouble),
    "masked": np.ma.masked_array(np.ones((3, 3)), mask=np.eye(3)),
    "None": None,
    "a string": "matrix",
    "a set": {1, 2},
    "a mapping": {"a": [1.0]},
    "a generator": (row for row in [[1.0]]),
    "nested text": [["a", "b"]],
    "a DataFrame of text": pd.DataFrame({"a": ["x", "y"]}),
    "a module": np,
}
WRONG_SHAPE = {
    "0-d": np.array(1.0),
    "a numpy number": np.float64(1.0),
    "1-d": np.ones(4),
    "3-d": np.ones((2, 2, 2)),
    "no rows": np.ones((0, 3)),
    "no columns": np.ones((3, 0)),
    "an empty list": [],
    "a flat list": [1.0, 2.0],
    "a ragged list": [[1.0, 2.0], [3.0]],
    "a sparse vector": sparse.coo_array(np.ones(4)),
    "an empty sparse matrix": sparse.csr_array((0, 3)),
    "a Series": pd.Series([1.0, 2.0]),
    "an empty DataFrame": pd.DataFrame({"a": np.zeros(0)}),
}


def complaint(error, call):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert FORM.match(str(caught.value)), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_nan_and_infinity_are_refused_with_their_place(function, value, kind):
    A = ARRAYS[kind](NOT_FINITE[value])
    before = A.copy()
    place = (0, 0) if value == "both infinities" else (3, 4)
    message = complaint(ValueError, lambda: FUNCTIONS[function](A))
    named = f": row {place[0]}, column {place[1]}" if kind == "DataFrame" else ""
    assert message == f"A must be finite, got NaN or infinity, first at {place}{named}"
    for was, now in zip(before, A, strict=True) if kind not in ("csr", "csc", "coo") else [(before.data, A.data)]:
        assert_array_equal(was, now)


@pytest.mark.parametrize("A", WRONG_KIND.values(), ids=WRONG_KIND)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_array_of_numbers_is_a_type_error(function, A):
    assert complaint(TypeError, lambda: FUNCTIONS[function](A)).startswith("A must be ")


@pytest.mark.parametrize("A", WRONG_SHAPE.values(), ids=WRONG_SHAPE)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_matrix_is_a_value_error(function, A):
    assert complaint(ValueError, lambda: FUNCTIONS[function](A)).startswith("A must be ")


def test_an_operator_is_for_randomized_svd_alone():
    for name, function in FUNCTIONS.items():
        if name != "randomized_svd":
            complaint(TypeError, lambda function=function: function(aslinearoperator(GOOD)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_operators_with_nan_are_refused(value):
    for A in (np.full((9, 7), value), with_entry(value)):
        message = complaint(ValueError, lambda A=A: ct.randomized_svd(aslinearoperator(A), 2))
        assert message.startswith("A must be finite")


RANKED = ["randomized_svd", "interpolative_decomposition", "cur_decomposition"]
NO_RANK = {"zero": 0, "negative": -1, "too large": 8, "huge": 10**30}
NO_INTEGER = {
    "float": 2.0,
    "bool": True,
    "numpy bool": np.True_,
    "text": "2",
    "list": [2],
    "array": np.array([2]),
    "complex": 2j,
}


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("rank", NO_RANK.values(), ids=NO_RANK)
def test_a_rank_out_of_range_is_a_value_error(rank, name):
    assert complaint(ValueError, lambda: FUNCTIONS[name](GOOD, rank=rank)).startswith("rank must be between 1 and 7")


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("rank", NO_INTEGER.values(), ids=NO_INTEGER)
def test_a_rank_that_is_no_integer_is_a_type_error(rank, name):
    assert complaint(TypeError, lambda: FUNCTIONS[name](GOOD, rank=rank)).startswith("rank must be an integer")


@pytest.mark.parametrize("name", ["select_columns", "select_rows"])
def test_k_is_checked_as_rank_is(name):
    for k in NO_RANK.values():
        assert complaint(ValueError, lambda k=k: FUNCTIONS[name](GOOD, k=k)).startswith("k must be between 1 and 7")
    for k in NO_INTEGER.values():
        assert complaint(TypeError, lambda k=k: FUNCTIONS[name](GOOD, k=k)).startswith("k must be an integer")


def test_the_rank_of_leverage_scores_is_checked():
    for rank in NO_RANK.values():
        message = complaint(ValueError, lambda rank=rank: ct.leverage_scores(GOOD, rank=rank))
        assert message.startswith("rank must be between 1 and 7")
    for rank in NO_INTEGER.values():
        message = complaint(TypeError, lambda rank=rank: ct.leverage_scores(GOOD, rank=rank))
        assert message.startswith("rank must be an integer")


@pytest.mark.parametrize("name", RANKED)
def test_one_of_rank_and_rtol_is_given(name):
    assert complaint(ValueError, lambda: FUNCTIONS[name](GOOD, rtol=0.1)).endswith("got both")
    assert complaint(ValueError, lambda: FUNCTIONS[name](GOOD, rank=None)).endswith("got neither")


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("rtol", [0, -0.1, 1, 1.5, np.nan, np.inf, 1e-15, 1e-300])
def test_a_tolerance_out_of_reach_is_a_value_error(rtol, name):
    assert complaint(ValueError, lambda: FUNCTIONS[name](GOOD, rank=None, rtol=rtol)).startswith("rtol must be ")


@pytest.mark.parametrize("name", RANKED)
def test_the_reach_of_a_tolerance_is_that_of_the_dtype(name):
    for dtype in (np.float32, np.complex64):
        message = complaint(ValueError, lambda dtype=dtype: FUNCTIONS[name](GOOD.astype(dtype), rank=None, rtol=1e-7))
        assert str(np.dtype(dtype)) in message


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("rtol", [True, "0.1", [0.1], 0.1j, np.array([0.1])], ids=str)
def test_a_tolerance_that_is_no_float_is_a_type_error(rtol, name):
    assert complaint(TypeError, lambda: FUNCTIONS[name](GOOD, rank=None, rtol=rtol)).startswith("rtol must be a float")


@pytest.mark.parametrize("name", ["select_columns", "select_rows"])
@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_lists_of_indices_are_checked(argument, name):
    function, size = FUNCTIONS[name], 7 if name == "select_columns" else 9
    for indices in ([0, 0], [size], [-1], [10**20]):
        complaint(ValueError, lambda indices=indices: function(GOOD, **{argument: indices}))
    for indices in ([0.0], [True], ["a"], [None], "01", 1.5, [[0, 1]], {"a": 1}):
        message = complaint(TypeError, lambda indices=indices: function(GOOD, **{argument: indices}))
        assert argument in message


@pytest.mark.parametrize("name", ["select_columns", "select_rows"])
def test_choices_that_cannot_be_met_are_value_errors(name):
    function, size = FUNCTIONS[name], 7 if name == "select_columns" else 9
    complaint(ValueError, lambda: function(GOOD, include=[1], exclude=[1]))
    complaint(ValueError, lambda: function(GOOD, include=[1, 2, 3]))
    complaint(ValueError, lambda: function(GOOD, exclude=range(size - 1)))
    complaint(ValueError, lambda: function(GOOD, weights=np.eye(size)[0]))


@pytest.mark.parametrize("name", ["select_columns", "select_rows"])
def test_weights_are_checked(name):
    function, size = FUNCTIONS[name], 7 if name == "select_columns" else 9
    for weights in (np.ones(size + 1), np.ones((size, 1)), -np.ones(size), np.zeros(size), np.full(size, np.nan)):
        message = complaint(ValueError, lambda weights=weights: function(GOOD, weights=weights))
        assert message.startswith("weights must be ")
    for weights in (["a"] * size, [None] * size, np.ones(size, complex)):
        message = complaint(TypeError, lambda weights=weights: function(GOOD, weights=weights))
        assert message.startswith("weights must be ")


CHOICES = {
    "randomized_svd": ("method", "sketch"),
    "leverage_scores": ("method",),
    "select_columns": ("method", "sketch"),
    "select_rows": ("method", "sketch"),
    "interpolative_decomposition": ("method", "sketch"),
    "cur_decomposition": ("method", "core", "sketch"),
    "relative_error": ("norm",),
}


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in CHOICES for option in CHOICES[name]])
def test_unknown_choices_are_told_the_known_ones(name, option):
    message = complaint(ValueError, lambda: FUNCTIONS[name](GOOD, **{option: "nonsense"}))
    assert message.startswith(f"{option} must be ")
    assert message.endswith("got 'nonsense'")
    for choice in (1, None, ["osinsky"], 1.5):
        complaint(TypeError, lambda choice=choice: FUNCTIONS[name](GOOD, **{option: choice}))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sources_of_randomness_are_checked(name):
    for rng in ("seed", 1.5, True, [1, 2], np.random.RandomState(0)):
        message = complaint(TypeError, lambda rng=rng: FUNCTIONS[name](GOOD, rng=rng))
        assert message.startswith("rng must be ")
    assert complaint(ValueError, lambda: FUNCTIONS[name](GOOD, rng=-1)).startswith("rng must be ")
    for rng in (None, 3, np.int64(3), 2**80, np.random.SeedSequence(3), np.random.default_rng(3)):
        FUNCTIONS[name](GOOD, rng=rng)


def test_numbers_of_randomized_svd_are_checked():
    for name in ("oversampling", "power_iterations"):
        assert complaint(ValueError, lambda name=name: ct.randomized_svd(GOOD, 2, **{name: -1})).startswith(name)
        for value in (1.5, True, "1"):
            message = complaint(TypeError, lambda name=name, value=value: ct.randomized_svd(GOOD, 2, **{name: value}))
            assert message.startswith(f"{name} must be an integer")
    complaint(ValueError, lambda: ct.randomized_svd(GOOD, rtol=0.1, method="single_pass"))


def test_numbers_of_columns_and_rows_without_a_rank_come_together():
    for decompose, X in ((ct.cur_decomposition, GOOD), (ct.tubal_cur, GOOD[:, :, None])):
        message = complaint(ValueError, lambda f=decompose, X=X: f(X, n_columns=3))
        assert message == "n_rows must be given with n_columns where neither rank nor rtol is, got None"
        message = complaint(ValueError, lambda f=decompose, X=X: f(X, n_rows=3))
        assert message == "n_columns must be given with n_rows where neither rank nor rtol is, got None"
        assert complaint(ValueError, lambda f=decompose, X=X: f(X)).startswith("rank or rtol must be given")
        for sizes in ((0, 3), (8, 3), (3, 10)):
            message = complaint(ValueError, lambda f=decompose, X=X, s=sizes: f(X, n_columns=s[0], n_rows=s[1]))
            assert re.match("n_(columns|rows) must be between 1 and", message)
        complaint(TypeError, lambda f=decompose, X=X: f(X, n_columns="3", n_rows=3))


def test_sizes_of_cur_are_checked():
    for name, most in (("n_columns", 7), ("n_rows", 9)):
        for value in (1, 0, -3, most + 1):
            message = complaint(ValueError, lambda n=name, v=value: ct.cur_decomposition(GOOD, 2, **{n: v}))
            assert message.startswith(f"{name} must be ")
        for value in (2.5, True, "3"):
            complaint(TypeError, lambda n=name, v=value: ct.cur_decomposition(GOOD, 2, **{n: v}))
        complaint(ValueError, lambda n=name: ct.cur_decomposition(GOOD, rtol=0.1, **{n: 4}))
    complaint(ValueError, lambda: ct.cur_decomposition(GOOD, 2, n_columns=4, n_rows=3, core="intersection"))
    for callback in (1, "print", [print]):
        assert complaint(TypeError, lambda c=callback: ct.cur_decomposition(GOOD, 2, callback=c)).startswith("callback")


@pytest.mark.parametrize("name", ["leverage_scores", "interpolative_decomposition"])
def test_the_axis_is_checked(name):
    for axis in (2, -1):
        assert complaint(ValueError, lambda axis=axis: FUNCTIONS[name](GOOD, axis=axis)).startswith("axis must be ")
    for axis in (0.0, True, "0", None):
        assert complaint(TypeError, lambda axis=axis: FUNCTIONS[name](GOOD, axis=axis)).startswith("axis must be ")


def test_normalize_is_checked():
    for value in (1, "yes", None):
        assert complaint(TypeError, lambda value=value: ct.leverage_scores(GOOD, normalize=value)).startswith(
            "normalize"
        )
    complaint(ValueError, lambda: ct.leverage_scores(np.zeros((3, 3)), normalize=True))


def test_approximations_are_checked():
    for B in (np.ones((7, 9)), np.ones((9, 8)), np.ones(9), sparse.csr_array((3, 3)), [1.0, 2.0], 1.0):
        assert complaint(ValueError, lambda B=B: ct.relative_error(GOOD, B)).startswith("approximation must be ")
    for B in (None, "matrix", {}, np.full((9, 7), "a"), np.full((9, 7), None), object()):
        assert complaint(TypeError, lambda B=B: ct.relative_error(GOOD, B)).startswith("approximation must be ")
    for n_probes in (0, -1):
        complaint(ValueError, lambda n=n_probes: ct.relative_error(GOOD, GOOD, n_probes=n))
    for n_probes in (1.5, True, "3"):
        complaint(TypeError, lambda n=n_probes: ct.relative_error(GOOD, GOOD, n_probes=n))
    complaint(ValueError, lambda: ct.relative_error(GOOD, GOOD, norm="max", n_probes=3))


@pytest.mark.parametrize("core", ["projection", "intersection"])
def test_rpcholesky_wants_a_positive_semidefinite_matrix(core):
    hermitian = GOOD[:7] + GOOD[:7].T
    for A in (GOOD, hermitian, -np.eye(4), np.array([[1.0, 2], [2, 1]]), np.zeros((3, 3)) + [[0, 1, 0]] * 3):
        message = complaint(ValueError, lambda A=A: ct.cur_decomposition(A, 2, method="rpcholesky", core=core, rng=0))
        assert message.startswith(("A must be positive semidefinite", "A must be square", "A must be Hermitian"))


def test_an_unknown_option_is_pythons_own_type_error():
    for function in FUNCTIONS.values():
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            function(GOOD, svd="exact")


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(), st.binary(), st.lists(st.floats())))
def test_any_other_object_for_a_number_gets_the_form(value):
    for name in RANKED:
        for argument in ("rank", "rtol"):
            try:
                FUNCTIONS[name](GOOD, **{"rank": None, argument: value})
            except (TypeError, ValueError) as error:
                assert FORM.match(str(error)) and "\n" not in str(error)
            else:
                assert (argument == "rank") == (isinstance(value, int) and 1 <= value <= 7)


@given(st.one_of(st.text(), st.binary(), st.lists(st.integers()), st.floats()))
def test_descriptions_are_one_short_line(value):
    assert len(_validation.describe(value)) <= 80
    assert "\n" not in _validation.describe(value)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", ["C", "Fortran", "csr", "csc"])
def test_input_is_not_written_to(kind, function):
    A = ARRAYS[kind](GOOD.copy())
    before = A.copy()
    FUNCTIONS[function](A)
    assert_array_equal(sparse.csr_array(A).toarray(), sparse.csr_array(before).toarray())
    if kind in ("C", "Fortran"):
        A.flags.writeable = False
        FUNCTIONS[function](A)


def test_weights_and_indices_are_not_written_to():
    A = GOOD[:7].T @ GOOD[:7]
    weights, include, exclude = np.full(7, 2.0), np.array([3]), np.array([1])
    for method in ("osinsky", "rpcholesky"):
        ct.select_columns(A, 3, method=method, weights=weights, include=include, exclude=exclude, rng=0)
    assert_array_equal(weights, 2)
    assert_array_equal(include, 3)
    assert_array_equal(exclude, 1)


TENSOR_FUNCTIONS = {
    "st_hosvd": lambda X: ct.st_hosvd(X, 1),
    "hooi": lambda X: ct.hooi(X, 1),
    "tensor_cur": lambda X: ct.tensor_cur(X, 1, rng=0),
    "unfold": lambda X: ct.unfold(X, 0),
    "mode_gram": lambda X: ct.mode_gram(X, 0),
}


class Unreadable:
    """An array that does not become one of NumPy's."""

    shape = (3, 4)

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it lies on another planet")


NO_TENSOR = {
    "none": (None, TypeError, "X must be an array of numbers, got None"),
    "set": ({1, 2}, TypeError, "X must be an array of numbers, got {1, 2}"),
    "dict": ({"a": GOOD}, TypeError, "X must be one array, such as X[key] of it, got"),
    "generator": ((i for i in range(3)), TypeError, "X must be an array of numbers, got <generator"),
    "string": ("abc", TypeError, "X must be an array of integers, bool"),
    "ragged": ([[1, 2], [3]], ValueError, "X must be nested lists of equal lengths, got [[1, 2], [3]]"),
    "objects": (GOOD.astype(object), TypeError, "X must be an array of integers, bool"),
    "structured": (np.zeros((3, 3), dtype=[("a", "f8")]), TypeError, "X must be an array of integers, bool"),
    "times": (np.zeros((3, 3), dtype="M8[s]"), TypeError, "X must be an array of integers, bool"),
    "masked": (np.ma.array(GOOD), TypeError, "X must be an array without a mask, got a masked array"),
    "unreadable": (Unreadable(), TypeError, "X must be an array of numbers, got Unreadable of"),
}


@pytest.mark.parametrize("name", TENSOR_FUNCTIONS)
@pytest.mark.parametrize("kind", NO_TENSOR)
def test_what_is_no_tensor_is_named_in_one_sentence(kind, name):
    X, error, beginning = NO_TENSOR[kind]
    message = complaint(error, lambda: TENSOR_FUNCTIONS[name](X))
    assert message.startswith(beginning)


@pytest.mark.parametrize("name", TENSOR_FUNCTIONS)
def test_what_holds_a_tensor_of_numbers_is_taken(name):
    torch = pytest.importorskip("torch")
    X = torch.tensor(GOOD)
    for kind in (X.clone().requires_grad_(), X.bfloat16(), X.half(), X.to(torch.complex64).conj()):
        TENSOR_FUNCTIONS[name](kind)
    for kind in (GOOD.view(np.matrix), memoryview(GOOD), GOOD.tolist(), GOOD.astype(">f4")):
        TENSOR_FUNCTIONS[name](kind)
    assert complaint(TypeError, lambda: TENSOR_FUNCTIONS[name](X.to_sparse())).startswith("X must be a dense tensor")


def csr_out_of_range(n, size, dtype, rng):
    S = sparse.csr_array(np.ones((n, size)))
    S.indices[-1] = 10**8
    return S


WRONG_SKETCHES = {
    "columns": (lambda n, size, dtype, rng: np.ones((n, size + 1)), ValueError, "of shape"),
    "rows": (lambda n, size, dtype, rng: np.ones((n + 1, size)), ValueError, "of shape"),
    "sparse rows": (lambda n, size, dtype, rng: sparse.csr_array((n + 1, size)), ValueError, "of shape"),
    "NaN": (lambda n, size, dtype, rng: np.full((n, size), np.nan), ValueError, "finite"),
    "complex": (lambda n, size, dtype, rng: np.ones((n, size)) * 1j, TypeError, "real numbers"),
    "objects": (lambda n, size, dtype, rng: np.ones((n, size), object), TypeError, "real numbers"),
    "nothing": (lambda n, size, dtype, rng: None, TypeError, "real numbers"),
    "indices": (csr_out_of_range, ValueError, "indices are from 0 to"),
}
SKETCHING = ["select_columns", "select_rows", "interpolative_decomposition", "cur_decomposition", "randomized_svd"]
TALL = np.random.default_rng(0).standard_normal((120, 90))


@pytest.mark.parametrize("wrong", WRONG_SKETCHES)
@pytest.mark.parametrize("name", SKETCHING)
def test_what_a_sketch_function_gives_is_checked(name, wrong):
    sketch, error, message = WRONG_SKETCHES[wrong]
    found = complaint(error, lambda: FUNCTIONS[name](TALL, sketch=sketch, rng=0))
    assert found.startswith("the test matrix of sketch must be ") and message in found


@pytest.mark.parametrize("kind", [sparse.coo_array, sparse.csc_array, np.ndarray.tolist, np.asfortranarray])
@pytest.mark.parametrize("name", SKETCHING)
def test_a_sketch_function_may_give_any_kind_of_matrix(name, kind):
    FUNCTIONS[name](TALL, sketch=lambda n, size, dtype, rng: kind(rng.integers(-1, 2, (n, size))), rng=0)


WRONG_RULES = {
    "beyond": (lambda k: [10**9], ValueError, "row numbers from 0 to"),
    "negative": (lambda k: [-1], ValueError, "row numbers from 0 to"),
    "repeated": (lambda k: [0, 0], ValueError, "distinct row numbers"),
    "too many": (lambda k: list(range(k + 1)), ValueError, "at most"),
    "nested": (lambda k: [[0]], ValueError, "at most"),
    "fractions": (lambda k: [0.5], TypeError, "row numbers"),
    "nothing": (lambda k: None, TypeError, "row numbers"),
}


@pytest.mark.parametrize("wrong", WRONG_RULES)
def test_what_a_rule_chooses_is_checked(wrong):
    give, error, message = WRONG_RULES[wrong]
    for name in ("select_columns", "select_rows", "interpolative_decomposition", "cur_decomposition"):
        found = complaint(error, lambda name=name: FUNCTIONS[name](TALL, method=lambda b, r, k, rng: give(k), rng=0))
        assert found.startswith("the choice of method must be ") and message in found


X = np.random.default_rng(1).standard_normal((6, 5, 4))
# Functions by what they are given besides the data, and what their messages call it.
BESIDE = {
    "approximation": lambda B: ct.relative_error(GOOD, B),
    "x": lambda B: ct.cur_decomposition(GOOD, 2, rng=0) @ B,
    "weights": lambda B: ct.select_columns(GOOD, 2, weights=B),
    "include": lambda B: ct.select_columns(GOOD, 2, include=B),
    "columns": lambda B: ct.cur_from_indices(GOOD, B, [0]),
    "Ms": lambda B: ct.multi_mode_dot(X, B),
    "modes": lambda B: ct.multi_mode_dot(X, [np.ones((2, 6))], modes=B),
    "factors": lambda B: ct.tucker_to_tensor(X, B),
    "n_samples": lambda B: ct.tensor_cur(X, 1, n_samples=B),
    "ranks": lambda B: ct.st_hosvd(X, B),
    "shape": lambda B: ct.fold(np.ones((6, 20)), 0, B),
}


def odd_tensors():
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        yield torch.eye(7).to_sparse()
        yield torch.ones((7, 7), device="meta")
        yield torch.ones((7, 7)).to(torch.float8_e4m3fn)
        yield torch.ones((7, 7)).to(torch.complex32)


@pytest.mark.filterwarnings("ignore")  # what PyTorch says of such tensors
@pytest.mark.parametrize("name", BESIDE)
def test_what_is_given_beside_the_data_is_refused_by_its_name(name):
    wrong = [np.full((2, 2), "a"), object(), lambda: None, [[1.0, 2.0], [3.0]], "text", 1j, *odd_tensors()]
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=rf"^(each (\w+ )?of )?{name}(\[\d\])? must be .+, got "):
            BESIDE[name](value)


@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_are_refused_by_matrix_and_tensor_functions():
    torch = pytest.importorskip("torch")
    nested = torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(3, 2)])
    for function in (lambda A: ct.cur_decomposition(A, 1), lambda A: ct.st_hosvd(A, 1), lambda A: ct.unfold(A, 0)):
        assert "must be a dense tensor, got nested" in complaint(TypeError, lambda f=function: f(nested))


WRONG_FUNCTIONS = {
    "core": lambda f: ct.cur_decomposition(GOOD, 2, core=f),
    "core of given indices": lambda f: ct.cur_from_indices(GOOD, [0, 1], [0, 1], core=f),
    "core of a tensor": lambda f: ct.tensor_cur(X, 2, core=f),
    "tubal core": lambda f: ct.tubal_cur(X, 2, core=f),
    "method of tensor_cur": lambda f: ct.tensor_cur(X, 2, method=f),
    "method of st_hosvd": lambda f: ct.st_hosvd(X, 2, method=f),
    "method of hooi": lambda f: ct.hooi(X, 2, method=f),
}


@pytest.mark.parametrize("gives", [None, "text", 1.0, np.ones(3), (np.ones((2, 3)), [np.ones((6, 2))])])
@pytest.mark.parametrize("name", WRONG_FUNCTIONS)
def test_what_a_core_or_a_method_gives_is_checked(name, gives):
    with pytest.raises((TypeError, ValueError), match=r"^(what \w+ gives|core|factors)[^,]* must be .+, got "):
        WRONG_FUNCTIONS[name](lambda *arguments: gives)


def test_a_core_in_another_precision_is_taken_in_that_of_the_data():
    A = GOOD.astype("f4")
    result = ct.cur_decomposition(A, 2, core=lambda operand, A, left, right, R, rows: np.eye(2), rng=0)
    assert result.middle.dtype == "f4" and result.to_array().dtype == "f4"


def test_rpcholesky_of_nan_is_refused():
    A = np.eye(5)
    A[2, 2] = np.nan
    for kind in (np.asarray, sparse.csr_array):
        assert "first at (2, 2)" in complaint(
            ValueError, lambda k=kind: ct.select_columns(k(A), 2, method="rpcholesky")
        )


def test_the_shape_and_dtype_of_row_blocks_are_checked():
    for options in ({"dtype": "abc"}, {"dtype": dict}, {"shape": "ab"}, {"shape": 3}, {"shape": (2.0, 3)}):
        complaint(TypeError, lambda options=options: ct.row_blocks(lambda: iter([GOOD]), **options))
