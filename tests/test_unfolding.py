import importlib
import tracemalloc

import naive
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tensorly import base, tenalg, tucker_tensor
from tensorly.tenalg import core_tenalg

import curtensor as ct
from curtensor import _kernels
from curtensor.operands import dense_tensor
from curtensor.operands.dense_tensor import DenseTensor

DTYPES = ("f4", "f8", "c8", "c16")
SHAPES = [(7,), (1,), (5, 6), (6, 1), (4, 5, 6), (3, 1, 4), (1, 5, 1), (9, 8, 3), (3, 4, 5, 2), (2, 1, 3, 1, 4)]


def contiguous(X):
    return X


def fortran(X):
    return np.asfortranarray(X)


def swapped(X):
    return np.ascontiguousarray(X.swapaxes(0, -1)).swapaxes(0, -1)


def reversed_in_memory(X):
    return np.ascontiguousarray(X[(slice(None, None, -1),) * X.ndim])[(slice(None, None, -1),) * X.ndim]


def with_gaps(X):
    wide = np.full([2 * length + 1 for length in X.shape], np.nan, X.dtype)
    part = wide[(slice(1, None, 2),) * X.ndim]
    part[...] = X
    return part


def other_byte_order(X):
    return X.astype(X.dtype.newbyteorder())


def unaligned(X):
    raw = np.empty(X.nbytes + 1, np.uint8)[1:]
    view = raw.view(X.dtype).reshape(X.shape)
    view[...] = X
    return view


LAYOUTS = [contiguous, fortran, swapped, reversed_in_memory, with_gaps, other_byte_order, unaligned]


def random_array(rng, shape, dtype):
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype)


def read_only(X):
    X.flags.writeable = False
    return X


@pytest.fixture(autouse=True)
def small_blocks(request, monkeypatch):
    if "real_blocks" not in request.keywords:
        monkeypatch.setattr(dense_tensor, "BLOCK_BYTES", 256)
        monkeypatch.setattr(dense_tensor, "COLUMNS", 2)


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.mark.parametrize("dtype", [*DTYPES, "i4", "u1", "?"])
@pytest.mark.parametrize("shape", SHAPES)
def test_unfold_and_fold_are_those_of_tensorly(shape, dtype, rng):
    X = (10 * random_array(rng, shape, "f8")).astype(dtype)
    for mode in range(-len(shape), len(shape)):
        unfolded = ct.unfold(X, mode)
        assert unfolded.dtype == X.dtype
        assert_array_equal(unfolded, base.unfold(X, mode))
        assert_array_equal(ct.fold(unfolded, mode, shape), X)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mode_dot_is_a_product_with_the_unfolding(shape, dtype, layout, rng):
    X = read_only(layout(random_array(rng, shape, dtype)))
    for mode, length in enumerate(shape):
        M = random_array(rng, (3, length), dtype)
        Y = ct.mode_dot(X, M, mode)
        assert Y.dtype == np.dtype(dtype)
        expected = base.fold(M @ base.unfold(X, mode), mode, (*shape[:mode], 3, *shape[mode + 1 :]))
        assert_allclose(Y, expected, atol=16 * length * np.finfo(dtype).eps)
        assert_allclose(ct.mode_dot(X, M[0], mode), expected.take(0, mode), atol=16 * length * np.finfo(dtype).eps)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mode_gram_holds_inner_products_of_the_slices(shape, dtype, layout, rng):
    X = read_only(layout(random_array(rng, shape, dtype)))
    for mode in range(len(shape)):
        M = base.unfold(X, mode).astype(np.result_type(dtype, "f8"))
        G = ct.mode_gram(X, mode)
        assert G.dtype == M.dtype
        assert_allclose(G, M @ M.conj().T, atol=64 * M.shape[1] * np.finfo(float).eps)
        assert_array_equal(G, G.conj().T)


@pytest.mark.parametrize(
    "data, matrix, result",
    [
        ("i8", "f8", "f8"),
        ("f4", "f8", "f8"),
        ("f8", "c16", "c16"),
        ("?", "f4", "f8"),
        ("f4", "c8", "c8"),
        ("u1", "i4", "f8"),
    ],
)
def test_mixed_dtypes_give_their_common_one(data, matrix, result, rng):
    X = (3 * random_array(rng, (4, 5, 6), "f8")).astype(data)
    M = (3 * random_array(rng, (2, 5), "f8")).astype(matrix)
    Y = ct.mode_dot(X, M, 1)
    assert Y.dtype == np.dtype(result)
    assert_allclose(Y, np.einsum("ji,aib->ajb", M, X.astype(result)), atol=1e-14 if result != "c8" else 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_multi_mode_dot_does_all_products_in_any_order(dtype, rng):
    X = random_array(rng, (4, 5, 6), dtype)
    Ms = [random_array(rng, shape, dtype) for shape in [(7, 4), (2, 5), (6,)]]
    expected = np.einsum("abc,ia,jb,c->ij", X, *Ms)
    tolerance = 1e3 * np.finfo(dtype).eps
    assert_allclose(ct.multi_mode_dot(X, Ms), expected, atol=tolerance)
    assert_allclose(ct.multi_mode_dot(X, Ms[::-1], [-1, 1, 0]), expected, atol=tolerance)
    adjoints = [M.conj().T for M in Ms]
    assert_allclose(ct.multi_mode_dot(X, adjoints, transpose=True), expected, atol=tolerance)
    assert_allclose(ct.mode_dot(X, adjoints[0], 0, transpose=True), ct.mode_dot(X, Ms[0], 0), atol=0)
    assert_array_equal(ct.multi_mode_dot(X, Ms, skip=1), ct.multi_mode_dot(X, [Ms[0], Ms[2]], [0, 2]))
    assert_array_equal(ct.multi_mode_dot(X, []), X)


def test_the_cheapest_order_of_products_is_taken(monkeypatch):
    sizes = []
    product = DenseTensor.mode_product
    monkeypatch.setattr(
        DenseTensor, "mode_product", lambda X, M, mode: sizes.append(X.size * len(M)) or product(X, M, mode)
    )
    ct.multi_mode_dot(
        np.ones((30, 20, 10, 3)), [np.ones((15, 30)), np.ones((2, 20)), np.ones((9, 10)), np.ones((8, 3))]
    )
    assert sizes == [18000 * 2, 1800 * 15, 900 * 9, 810 * 8]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 5, 3), (1, 3, 1), (6, 2, 70)])
def test_pack_panel_is_its_naive_twin(shape, dtype, rng):
    slabs = random_array(rng, shape, dtype)
    panel, expected = np.empty((2, shape[1], shape[0] * shape[2]), dtype)
    _kernels.pack_panel(slabs, panel)
    naive.pack_panel(slabs, expected)
    assert_array_equal(panel, expected)


def test_a_gram_of_single_precision_keeps_double_digits():
    t = np.linspace(0, 1, 50)
    X = (1 / (1 + t[:, None, None] + t[:, None] + t)).astype("f4")
    s = np.linalg.svd(base.unfold(X, 1).astype(float), compute_uv=False)
    eigenvalues = np.linalg.eigvalsh(ct.mode_gram(X, 1))[::-1]
    assert_allclose(eigenvalues, s**2, atol=50 * np.finfo(float).eps * s[0] ** 2)


@pytest.mark.parametrize("exponent, scale", [(-1000, 1e300), (900, 1e-280)])
def test_a_scaled_gram_neither_overflows_nor_underflows(exponent, scale, rng):
    X = random_array(rng, (4, 5, 6), "f8")
    G = DenseTensor(scale * X).mode_gram(1, exponent)
    assert_allclose(G, ct.mode_gram(X * scale * 2.0**exponent, 1), rtol=1e-13)


@pytest.mark.real_blocks
@pytest.mark.parametrize("layout", [contiguous, fortran, with_gaps])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_no_copy_of_the_large_array_is_made(dtype, layout):
    X = layout(np.ones((150, 160, 170), dtype))
    M = np.ones((2, 160), dtype)
    for call in (lambda: ct.mode_gram(X, 1), lambda: ct.mode_dot(X, M, 1)):
        call()
        tracemalloc.start()
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - result.nbytes < X.nbytes / 8


def test_a_first_unfolding_is_a_view():
    X = np.zeros((3, 4, 5))
    assert np.shares_memory(ct.unfold(X, 0), X)
    assert np.shares_memory(ct.fold(X.reshape(3, 20), 0, (3, 4, 5)), X)


OURS = {
    "unfold": ct.unfold,
    "fold": ct.fold,
    "mode_dot": ct.mode_dot,
    "multi_mode_dot": ct.multi_mode_dot,
}
THEIR_TESTS = [
    "tensorly.tests.test_core",
    "tensorly.tenalg.tests.test_n_mode_product",
    "tensorly.tests.test_tucker_tensor",
]


@pytest.mark.filterwarnings("ignore:Given only one int for 'rank'")
@pytest.mark.parametrize("module", THEIR_TESTS)
def test_the_tests_of_tensorly_pass_with_our_functions(module, monkeypatch):
    tests = importlib.import_module(module)
    calls = []

    def counted(name):
        def ours(*args, **options):
            calls.append(name)
            return OURS[name](*args, **options)

        return ours

    theirs = tucker_tensor.tucker_to_tensor

    def tucker_to_tensor(pair, **options):
        calls.append("tucker_to_tensor")
        return theirs(pair, **options) if options else ct.tucker_to_tensor(*pair)

    for holder in (tests, tucker_tensor):
        if hasattr(holder, "tucker_to_tensor"):
            monkeypatch.setattr(holder, "tucker_to_tensor", tucker_to_tensor)
    for holder in (tests, base, tenalg, core_tenalg, tucker_tensor):
        for name in OURS.keys() & vars(holder).keys():
            monkeypatch.setattr(holder, name, counted(name))
    np.random.seed(0)  # noqa: NPY002  their tests draw from it
    functions = [function for name, function in vars(tests).items() if name.startswith("test_")]
    for function in functions:
        function()
    assert len(functions) >= 2
    assert calls


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda X: ct.unfold(X, 3), ValueError, r"mode must be between -3 and 2, got 3"),
        (lambda X: ct.unfold(X, 1.0), TypeError, r"mode must be an integer, got 1.0"),
        (lambda X: ct.unfold(np.float64(3), 0), ValueError, r"X must be of at least 1 modes, got shape \(\)"),
        (lambda X: ct.unfold(np.zeros((3, 0)), 0), ValueError, r"X must be not empty, got shape \(3, 0\)"),
        (lambda X: ct.unfold(X.astype(object), 0), TypeError, r"X must be an array of integers.*got dtype object"),
        (lambda X: ct.mode_gram(X.astype("f2"), 0), TypeError, r"X must be an array of integers.*got dtype float16"),
        (lambda X: ct.mode_gram(np.ma.masked_array(X), 0), TypeError, r"X must be an array without a mask"),
        (
            lambda X: ct.fold(np.zeros((2, 5)), 0, (2, 3)),
            ValueError,
            r"M must be of shape \(2, 3\), got shape \(2, 5\)",
        ),
        (lambda X: ct.fold(np.zeros((2, 5)), 0, 7), TypeError, r"shape must be a sequence of integers, got 7"),
        (lambda X: ct.fold(np.zeros((2, 5)), 0, (2, 0)), ValueError, r"each length of shape must be between 1"),
        (lambda X: ct.mode_dot(X, np.zeros((2, 4)), 0), ValueError, r"M must be of shape \(3,\) or \(J, 3\), got"),
        (lambda X: ct.mode_dot(X, X, 2), ValueError, r"M must be of shape \(5,\) or \(J, 5\), got shape \(3, 4, 5\)"),
        (
            lambda X: ct.mode_dot(X, np.zeros((2, 3)), 0, transpose=1),
            TypeError,
            r"transpose must be True or False, got 1",
        ),
        (
            lambda X: ct.multi_mode_dot(X, [np.zeros(3)], [0, 1]),
            ValueError,
            r"modes must be as many as Ms \(1\), got 2",
        ),
        (
            lambda X: ct.multi_mode_dot(X, [np.zeros(3)] * 2, [0, -3]),
            ValueError,
            r"modes must be distinct, got \[0, 0\]",
        ),
        (lambda X: ct.multi_mode_dot(X, [np.zeros(3)], skip=1), ValueError, r"skip must be between 0 and 0, got 1"),
        (lambda X: ct.multi_mode_dot(X, [np.zeros(4)]), ValueError, r"Ms\[0\] must be of shape \(3,\) or \(J, 3\)"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((3, 4, 5)))
