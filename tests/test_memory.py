"""No function of matrices takes more than five percent of a large A beyond its thin factors, in any layout."""

import functools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import curtensor as ct

SHAPE = (6000, 1500)
SHARE = 0.05
WIDTH = 85  # columns of the widest factor: the sketch of rank 5, or a Krylov basis of five blocks of 15
FACTORS = 4.5  # so many such pairs of factors (m + n) x WIDTH at a time: bases, images, and a copy in their making


def every_second(A):
    wide = np.zeros((2 * A.shape[0], 2 * A.shape[1]), A.dtype)
    wide[::2, ::2] = A
    return wide[::2, ::2]


def every_second_row(A):
    tall = np.zeros((2 * A.shape[0], A.shape[1]), A.dtype)
    tall[::2] = A
    return tall[::2]


def read_only(A):
    A = A.copy("K")
    A.flags.writeable = False
    return A


def unaligned(A):
    shifted = np.zeros(A.nbytes + 1, np.uint8)[1:].view(A.dtype).reshape(A.shape)
    shifted[:] = A
    return shifted


def complexes(A):
    half = A.shape[1] // 2
    return A[:, :half] + 1j * A[:, half:]


LAYOUTS = {
    "C": lambda A: A,
    "Fortran": np.asfortranarray,
    "reversed": lambda A: A[::-1, ::-1],
    "reversed Fortran": lambda A: np.asfortranarray(A)[::-1, ::-1],
    "every second row": every_second_row,
    "every second row and column": every_second,
    "transposed view": lambda A: A.T,
    "transposed, every second": lambda A: every_second(A).T,
    "read-only": read_only,
    "read-only Fortran": lambda A: read_only(np.asfortranarray(A)),
    "other byte order": lambda A: A.astype(A.dtype.newbyteorder()),
    "unaligned": unaligned,
    "float32": lambda A: A.astype("float32", order="F"),
    "int16": lambda A: (100 * A).astype("int16"),
    "bool, Fortran": lambda A: np.asfortranarray(A > 0),
    "complex": complexes,
    "complex Fortran": lambda A: np.asfortranarray(complexes(A)),
    "DataFrame": lambda A: pd.DataFrame(np.asfortranarray(A)),
    "huge": lambda A: A[::-1] * 1e300,
    "tiny Fortran": lambda A: np.asfortranarray(A * 1e-310),
}
FUNCTIONS = {
    "cur": lambda A, first: ct.cur_decomposition(A, 5, rng=0),
    "cur, intersection": lambda A, first: ct.cur_decomposition(A, 5, n_rows=8, core="intersection", rng=0),
    "cur, rtol": lambda A, first: ct.cur_decomposition(A, rtol=0.9, rng=0),
    "cur, cpqr": lambda A, first: ct.cur_decomposition(A, 5, method="cpqr", rng=0),
    "cur, leverage, gaussian": lambda A, first: ct.cur_decomposition(A, 5, method="leverage", sketch="gaussian", rng=0),
    "refine": lambda A, first: first.refine(A, 5, rng=0),
    "refine, rtol": lambda A, first: first.refine(A, rtol=0.9, rng=0),
    "id": lambda A, first: ct.interpolative_decomposition(A, 5, rng=0),
    "id of rows": lambda A, first: ct.interpolative_decomposition(A, 5, axis=0, rng=0),
    "id, rtol": lambda A, first: ct.interpolative_decomposition(A, rtol=0.9, rng=0),
    "columns": lambda A, first: ct.select_columns(A, 5, rng=0),
    "rows, lupp": lambda A, first: ct.select_rows(A, 5, method="lupp", rng=0),
    "svd": lambda A, first: ct.randomized_svd(A, 5, rng=0),
    "svd, subspace": lambda A, first: ct.randomized_svd(A, 5, method="subspace", rng=0),
    "svd, single pass": lambda A, first: ct.randomized_svd(A, 5, method="single_pass", rng=0),
    "svd, rtol": lambda A, first: ct.randomized_svd(A, rtol=0.5, rng=0),
    "leverage of rows": lambda A, first: ct.leverage_scores(A, 5, method="sketch", rng=0),
    "leverage of columns": lambda A, first: ct.leverage_scores(A, 5, axis=1, method="sketch", rng=0),
    "error": lambda A, first: ct.relative_error(A, first),
    "error, spectral": lambda A, first: ct.relative_error(A, first, norm="spectral", rng=0),
    "error, max": lambda A, first: ct.relative_error(A, first, norm="max"),
    "error, probes": lambda A, first: ct.relative_error(A, first, n_probes=5, rng=0),
    "error of an array": lambda A, first: ct.relative_error(A, A),
    "spectral error of an array": lambda A, first: ct.relative_error(A, A, norm="spectral", rng=0),
    "compare": lambda A, first: ct.compare(A, 3, methods=["cur", "cur_intersection"], rng=0),
}
ESTIMATORS = {
    "ColumnSelector": lambda A: ct.ColumnSelector(5, random_state=0).fit_transform(A),
    "RowSelector": lambda A: ct.RowSelector(5, random_state=0).fit_resample(A),
    "CURTransformer": lambda A: ct.CURTransformer(5, random_state=0).fit_transform(A),
}
REFUSED_OR_CONVERTED = ("complex", "complex Fortran", "other byte order", "int16", "bool, Fortran")  # by scikit-learn
IN_FULL = {("compare", "complex"), ("compare", "complex Fortran")}
WITHOUT_A_BASIS = ("error", "error, max", "error, probes", "error of an array")
SPARSE_FUNCTIONS = ("cur", "refine", "id", "id of rows", "columns", "svd", "leverage of rows", "error, probes")
SPARSE_FACTORS = 6


@pytest.fixture(scope="module")
def matrix():
    """Of rank 8, and noise of a fiftieth of its norm."""
    rng = np.random.default_rng(20241107)
    m, n = SHAPE
    return rng.standard_normal((m, 8)) @ rng.standard_normal((8, n)) + 0.05 * rng.standard_normal((m, n))


def peak(call):
    """Bytes allocated at most during a call, after one that loads and compiles."""
    call()
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def number_bytes(A):
    """Bytes of one number that is computed with."""
    kind = A.to_numpy().dtype if isinstance(A, pd.DataFrame) else A.dtype
    return kind.itemsize if kind.kind in "fc" else 8


def allowed(A, nbytes, factors=FACTORS):
    return SHARE * nbytes + factors * sum(A.shape) * WIDTH * number_bytes(A)


def held(name, layout, matrix):
    """Raise if a function takes more than its share of a matrix, its own thin factors apart."""
    A = LAYOUTS[layout](matrix)
    nbytes = A.to_numpy().nbytes if isinstance(A, pd.DataFrame) else A.nbytes
    first = ct.cur_decomposition(A, 3, rng=0)
    call = (lambda: FUNCTIONS[name](A, first)) if name in FUNCTIONS else (lambda: ESTIMATORS[name](A))
    assert peak(call) < allowed(A, nbytes, 0.5 if name in WITHOUT_A_BASIS else FACTORS)


@pytest.mark.parametrize("name", ["cur", "svd", "error"])
@pytest.mark.parametrize("layout", ["C", "Fortran", "reversed", "every second row and column", "DataFrame"])
def test_no_layout_is_copied(layout, name, matrix):
    held(name, layout, matrix)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_function_copies_any_layout(layout, name, matrix):
    if (name, layout) in IN_FULL:
        pytest.skip("a complete SVD, as the docstring says of what is small")
    held(name, layout, matrix)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout not in REFUSED_OR_CONVERTED])
def test_no_estimator_copies_any_layout(layout, name, matrix):
    held(name, layout, matrix)


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_sparse_matrices_are_not_converted(kind):
    sparse_held(kind, "float64", 1.0, ("cur",))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("scale", [1.0, 1e300])
def test_no_function_converts_a_sparse_matrix(kind, dtype, scale):
    sparse_held(kind, dtype, scale, SPARSE_FUNCTIONS)


def sparse_held(kind, dtype, scale, names):
    """Raise if a function takes more than its share of a sparse matrix, thin factors apart."""
    A = sparse.random_array((4000, 3000), density=0.1, rng=np.random.default_rng(5), format=kind)
    A = (A * scale).astype(dtype)
    nbytes = A.data.nbytes + A.indices.nbytes
    first = ct.cur_decomposition(A, 3, rng=0)
    for name in names:
        # test matrices and their images are sparse at first: four bytes more a number, and each in two formats
        call = functools.partial(FUNCTIONS[name], A, first)
        assert peak(call) < allowed(A, nbytes, SPARSE_FACTORS), name
