import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matrices import (
    DTYPES,
    FAMILIES,
    SHAPES,
    SPARSE_KINDS,
    eps,
    low_rank,
    mostly_zero,
    normal,
    optimum,
    sparse_low_rank,
    with_duplicates,
    with_spectrum,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import curtensor as ct
from curtensor.cur import CORES, Core, lstsq
from curtensor.operands.arithmetic import dense
from curtensor.selection import SELECTION_RULES
from curtensor.sketching import SKETCHES

GREEDY = set(SELECTION_RULES) - {"uniform", "leverage"}


def relative(A, B):
    return np.linalg.norm(A - B) / np.linalg.norm(A)


def errors_of_published_formula(A, result):
    """||A - C C^+ A R^+ R|| from orthonormal bases, in double precision."""
    Q, P = np.linalg.qr(dense(result.C))[0], np.linalg.qr(dense(result.R).conj().T)[0]
    return np.linalg.norm(A - Q @ (Q.conj().T @ A @ P) @ P.conj().T)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_middle_matrices_are_those_of_the_formulas(shape, dtype, rng):
    A = with_spectrum(*shape, np.geomspace(1, 1e-1, 50), dtype, rng)
    C, U, R, _, _ = ct.cur_decomposition(A, 8, rng=0)
    assert_allclose(U, np.linalg.pinv(C) @ A @ np.linalg.pinv(R), atol=1e-10)
    C, U, R, columns, rows = result = ct.cur_decomposition(A, 8, n_rows=12, core="intersection", rng=0)
    if result.error_estimate < 0.75:
        assert_allclose(U, np.linalg.pinv(A[np.ix_(rows, columns)]), atol=1e-9 * np.abs(U).max())


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"cauchy"}))
def test_projection_has_the_error_of_the_formula(family, rng):
    A = FAMILIES[family](70, 60, "complex128", rng)
    result = ct.cur_decomposition(A, 10, rng=0)
    assert_allclose(np.linalg.norm(A - result.to_array()), errors_of_published_formula(A, result), rtol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("rule", sorted(GREEDY))
def test_exact_when_rank_is_reached(rule, core, shape, dtype, rng):
    A = low_rank(*shape, 6, dtype, rng)
    for rank in (6, 14):
        result = ct.cur_decomposition(A, rank, core=core, method=rule, rng=0)
        assert result.rank == 6
        assert result.dtype == dtype
        assert relative(A, result.to_array()) < (1e-5 if eps(dtype) > 1e-10 else 1e-13)
        assert result.error_estimate < (1e-5 if eps(dtype) > 1e-10 else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(20, 20), (30, 20), (20, 30)])
@pytest.mark.parametrize("dependent", [False, True])
def test_least_squares_are_the_least_ones_also_of_dependent_columns(dependent, shape, dtype, rng):
    A, B = with_spectrum(*shape, np.geomspace(1, 1e-2, 20), dtype, rng), normal((shape[0], 7), dtype, rng)
    if dependent:
        A[:, 3] = A[:, 5]
    assert_allclose(lstsq(A, B), np.linalg.lstsq(A, B)[0], atol=1e5 * eps(dtype))


@pytest.mark.parametrize("sketch", SKETCHES)
@pytest.mark.parametrize("core", CORES)
def test_exact_for_every_sketch(core, sketch, rng):
    A = low_rank(200, 150, 6, "complex128", rng)
    assert relative(A, ct.cur_decomposition(A, 6, core=core, sketch=sketch, rng=0).to_array()) < 1e-13


@pytest.mark.parametrize("kind", [*SPARSE_KINDS, "duplicates"])
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_for_sparse(dtype, core, kind, rng):
    A = sparse_low_rank(60, 50, 5, dtype, rng)
    result = ct.cur_decomposition((SPARSE_KINDS | {"duplicates": with_duplicates})[kind](A), 8, core=core, rng=0)
    assert result.rank == 5
    assert result.dtype == dtype
    assert relative(A.toarray(), result.to_array()) < 1e3 * eps(dtype)


@pytest.mark.parametrize("kind", ["dense", "csr_array"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wide_matrix_has_the_transpose_of_its_transpose_s_decomposition(dtype, kind, rng):
    A = normal((300, 90), dtype, rng) / np.arange(1, 91).astype(dtype)
    A = A if kind == "dense" else sparse.csr_array(A * (np.abs(A) > 0.02))
    for first, second in ((A, A.T), (A[:, :80].T, A[:, :80])):
        result, other = ct.cur_decomposition(first, 20, rng=3), ct.cur_decomposition(second, 20, rng=3)
        assert_array_equal(result.col_indices, other.row_indices)
        assert_array_equal(result.row_indices, other.col_indices)
        assert_allclose(result.to_array(), other.to_array().T, atol=1e3 * eps(dtype))
        more, others = result.refine(first, 30, rng=1), other.refine(second, 30, rng=1)
        assert_array_equal(more.col_indices, others.row_indices)
        assert_array_equal(more.row_indices[:20], result.row_indices)


@pytest.mark.parametrize("core", CORES)
def test_rpcholesky_takes_rows_with_the_columns(core, rng):
    F = normal((50, 5), "complex128", rng)
    A = F @ F.conj().T
    result = ct.cur_decomposition(A, 8, core=core, method="rpcholesky", rng=0)
    assert_array_equal(result.col_indices, result.row_indices)
    assert relative(A, result.to_array()) < 1e-12


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_and_rows_are_those_of_the_matrix_to_the_bit(dtype, family, core, rng):
    A = FAMILIES[family](60, 45, dtype, rng)
    C, U, R, columns, rows = result = ct.cur_decomposition(A, 7, core=core, rng=0)
    assert_array_equal(C, A[:, columns])
    assert_array_equal(R, A[rows])
    assert C.dtype == U.dtype == R.dtype == dtype
    assert U.shape == (len(columns), len(rows))
    assert len(set(columns.tolist())) == len(columns) == 7
    assert len(set(rows.tolist())) == len(rows) == 7
    assert result.shape == A.shape


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-310, 5e-324])
def test_any_scale(core, scale, rng):
    A = np.outer(rng.integers(1, 9, 30), rng.integers(1, 9, 20)) * scale
    A[:4] = 0
    for options in ({"rank": 3}, {"rtol": 1e-8}) if scale > 5e-324 else ({"rank": 3},):
        result = ct.cur_decomposition(A, core=core, **options, rng=0)
        assert result.rank == 1
        assert_array_equal(result.C, A[:, result.col_indices])
        assert_allclose(result.to_array() / np.abs(A).max(), A / np.abs(A).max(), atol=1e-12)
        assert np.isfinite(result.condition)


@pytest.mark.parametrize("A", [np.ones((1, 9)), np.ones((9, 1)), np.ones((1, 1)), np.ones((7, 5)), np.zeros((4, 3))])
@pytest.mark.parametrize("options", [{"rank": 1}, {"rtol": 1e-3}])
@pytest.mark.parametrize("core", CORES)
def test_thin_constant_and_zero(core, options, A):
    result = ct.cur_decomposition(A, core=core, **options, rng=0)
    C, U, R, _, _ = result
    assert result.rank == np.linalg.matrix_rank(A)
    assert_allclose(result.to_array(), A, atol=1e-14)
    assert_allclose(C @ U @ R, A, atol=1e-14)
    assert result.error_estimate < 1e-14
    assert_allclose(result @ np.ones(A.shape[1]), A.sum(axis=1), atol=1e-13)
    assert result.to_svd().rank == result.rank


@pytest.mark.parametrize("condition", [1e12, 1e14, 1e16])
@pytest.mark.parametrize("core", CORES)
def test_products_of_ill_conditioned_matrices_stay_near_the_optimum(core, condition, rng):
    k = 20
    A = with_spectrum(90, 80, np.geomspace(1, 1 / condition, 2 * k), "float64", rng)
    for seed in range(3):
        n_rows = k if core == "projection" else 30
        result = ct.cur_decomposition(A, k, n_rows=n_rows, core=core, rng=seed)
        best = optimum(A, k)
        assert np.linalg.norm(A - result.to_array()) <= 20 * best
        assert np.linalg.norm(A - result @ np.eye(80)) <= 20 * best
        deeper = ct.cur_decomposition(A, 2 * k - 2, core=core, rng=seed)
        assert np.linalg.norm(A - deeper.to_array()) <= 20 * optimum(A, 2 * k - 2) + 20 * eps(float)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("core", "n_rows"), [("projection", 12), ("intersection", 18)])
def test_error_is_within_a_small_factor_of_the_optimum(core, n_rows, family, rng):
    A = FAMILIES[family](100, 80, "float64", rng)
    for seed in range(5):
        error = np.linalg.norm(A - ct.cur_decomposition(A, 12, n_rows=n_rows, core=core, rng=seed).to_array())
        assert error <= 2.8 * optimum(A, 12) + 1e-13 * np.linalg.norm(A)


@pytest.mark.parametrize("core", CORES)
def test_error_is_half_above_the_optimum_on_average(core, rng):
    ratios = []
    for family in sorted(set(FAMILIES) - {"cauchy"}):
        A = FAMILIES[family](120, 100, "float64", rng)
        for k in (6, 20):
            n_rows = k if core == "projection" else 3 * k // 2
            for seed in range(2):
                result = ct.cur_decomposition(A, k, n_rows=n_rows, core=core, rng=seed)
                ratios.append(np.linalg.norm(A - result.to_array()) / optimum(A, k))
    assert np.exp(np.mean(np.log(ratios))) <= 1.5


@pytest.mark.slow
@pytest.mark.parametrize(("core", "rows"), [("projection", 1), ("intersection", 1.5)])
def test_larger_matrices_are_within_half_above_the_optimum_on_average(core, rows, rng):
    ratios = []
    for family in sorted(set(FAMILIES) - {"cauchy"}):
        A = FAMILIES[family](400, 300, "float64", rng)
        for k in (10, 40):
            for seed in range(3):
                result = ct.cur_decomposition(A, k, n_rows=int(rows * k), core=core, rng=seed)
                ratios.append(np.linalg.norm(A - result.to_array()) / optimum(A, k))
    assert np.exp(np.mean(np.log(ratios))) <= 1.5
    assert max(ratios) <= 2.8


@pytest.mark.parametrize("rule", SELECTION_RULES)
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("family", FAMILIES)
def test_never_worse_than_the_zero_matrix(family, core, rule, rng):
    A = FAMILIES[family](60, 45, "float64", rng)
    for rank in (1, 9):
        result = ct.cur_decomposition(A, rank, core=core, method=rule, rng=1)
        assert relative(A, result.to_array()) <= 1 + 1e-12


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("core", CORES)
def test_error_estimate_is_near_the_error(core, family, rng):
    A = FAMILIES[family](120, 90, "float64", rng)
    for seed in range(5):
        result = ct.cur_decomposition(A, 12, core=core, rng=seed)
        error = relative(A, result.to_array())
        if core == "projection" and error > 1e-6:
            assert_allclose(result.error_estimate, error, rtol=1e-3)
        elif error > 1e-14:
            assert 0.4 < result.error_estimate / error < 2.5


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("rtol", [1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_tolerance_is_held_with_few_columns_and_rows(rtol, core, rng):
    for family in ("exponential", "cauchy", "coherent"):
        A = FAMILIES[family](110, 90, "float64", rng)
        s = np.linalg.svd(A, compute_uv=False)
        tails = np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0))
        least = int(np.argmax(tails <= rtol * tails[0]))
        for seed in range(3):
            result = ct.cur_decomposition(A, rtol=rtol, core=core, rng=seed)
            assert relative(A, result.to_array()) <= rtol
            assert result.error_estimate <= rtol
            assert result.rank <= 1.25 * least + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "csr_array"])
def test_tolerance_is_held_in_every_dtype(kind, dtype, rng):
    A = FAMILIES["exponential"](80, 60, dtype, rng)
    for rtol in (1e-1, 1e-3, 1e-5 if eps(dtype) > 1e-10 else 1e-12):
        result = ct.cur_decomposition(A if kind == "dense" else sparse.csr_array(A), rtol=rtol, rng=0)
        assert relative(A, result.to_array()) <= rtol


@pytest.mark.parametrize("seed", range(20))
def test_tolerance_beyond_the_last_but_one_singular_value_is_held(seed):
    draw = np.random.default_rng(0)
    A = np.zeros((40, 30))
    A[draw.integers(40, size=80), draw.integers(30, size=80)] = draw.standard_t(3, size=80)
    result = ct.cur_decomposition(A, rtol=1e-4, rng=seed)
    assert relative(A, result.to_array()) <= 1e-4


def test_a_reachable_tolerance_needs_few_of_slow_decay(rng):
    A = FAMILIES["slow"](80, 60, "float64", rng)
    result = ct.cur_decomposition(A, rtol=0.5, rng=0)
    assert relative(A, result.to_array()) <= 0.5
    assert result.rank < 60


@pytest.mark.parametrize(("core", "passes"), [("projection", 2), ("intersection", 1)])
def test_passes_over_the_matrix(core, passes, distant, rng):
    A = distant(FAMILIES["exponential"](90, 80, "float64", rng))
    ct.cur_decomposition(A, 5, core=core, rng=0)
    assert A.passes == passes
    assert A.log.count("take") <= 4


def test_a_cross_which_explains_little_costs_one_more_pass(distant, rng):
    A = distant(rng.standard_normal((90, 80)))
    ct.cur_decomposition(A, 2, core="intersection", rng=0)
    assert A.passes == 2


@pytest.mark.parametrize("rtol", [1e-1, 1e-3, 1e-10])
@pytest.mark.parametrize("core", CORES)
def test_passes_with_a_tolerance_are_one_a_sketch_and_one_a_rank_tried(core, rtol, distant, rng):
    A = distant(FAMILIES["exponential"](90, 80, "float64", rng))
    heard = []
    ct.cur_decomposition(A, rtol=rtol, core=core, rng=0, callback=heard.append)
    sketches, tried = A.log.count("sketch_both"), len(heard) - 1
    assert sketches <= 3
    assert A.log.count("rmatmat") <= tried
    assert A.log.count("panels") <= tried + 1  # of a large rank A itself is looked at
    assert A.passes == sketches + A.log.count("rmatmat") + A.log.count("panels")


@pytest.mark.parametrize("rule", SELECTION_RULES)
@pytest.mark.parametrize("n_columns", [8, 13])
@pytest.mark.parametrize("n_rows", [8, 11, 60])
def test_numbers_of_columns_and_rows_are_as_asked(n_rows, n_columns, rule, rng):
    A = normal((60, 45), "complex128", rng)
    result = ct.cur_decomposition(A, 8, n_columns=n_columns, n_rows=n_rows, method=rule, rng=0)
    assert result.C.shape == (60, n_columns)
    assert result.R.shape == (n_rows, 45)
    assert result.rank == min(n_columns, n_rows)
    assert len(set(result.row_indices.tolist())) == n_rows


@pytest.mark.parametrize(("n_columns", "n_rows"), [(5, 10), (10, 5), (6, 6)])
@pytest.mark.parametrize("method", ["osinsky", "leverage"])
def test_numbers_of_columns_and_rows_alone_have_the_smaller_for_a_rank(n_columns, n_rows, method, rng):
    A = normal((60, 50), "float64", rng)
    sizes = {"n_columns": n_columns, "n_rows": n_rows, "method": method, "rng": 0}
    alone, same = ct.cur_decomposition(A, **sizes), ct.cur_decomposition(A, min(n_columns, n_rows), **sizes)
    assert (len(alone.col_indices), len(alone.row_indices)) == (n_columns, n_rows)
    np.testing.assert_array_equal(alone.col_indices, same.col_indices)
    np.testing.assert_array_equal(alone.row_indices, same.row_indices)


def test_all_rows_and_columns_give_the_matrix_back(rng):
    A = normal((12, 9), "complex128", rng)
    for core in CORES:
        result = ct.cur_decomposition(A, 9, core=core, rng=0)
        assert_allclose(result.to_array(), A, atol=1e-13)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_products_of_the_result_are_those_of_its_array(dtype, kind, core, rng):
    A = mostly_zero(50, 40, dtype, rng)
    result = ct.cur_decomposition(A if kind == "dense" else sparse.csr_array(A), 8, core=core, rng=0)
    array, operator = result.to_array(), result.as_linear_operator()
    X, Y = normal((40, 3), dtype, rng), normal((50, 2), dtype, rng)
    tolerance = 1000 * eps(dtype) * np.abs(A).max()
    assert isinstance(array, np.ndarray)
    assert operator.dtype == result.dtype == dtype
    assert_allclose(result @ X, array @ X, atol=tolerance)
    assert_allclose(result @ X[:, 0], array @ X[:, 0], atol=tolerance)
    assert_allclose(operator @ X, array @ X, atol=tolerance)
    assert_allclose(operator.H @ Y, array.conj().T @ Y, atol=tolerance)
    assert_allclose(operator.H @ Y[:, 0], array.conj().T @ Y[:, 0], atol=tolerance)
    C, U, R, _, _ = result
    assert_allclose(dense(C @ U) @ dense(R), array, atol=tolerance * result.condition)
    U, s, Vh = svd = result.to_svd()
    assert_allclose(U * s @ Vh, array, atol=tolerance)
    assert_allclose(U.conj().T @ U, np.eye(svd.rank), atol=100 * eps(dtype))
    assert_allclose(Vh @ Vh.conj().T, np.eye(svd.rank), atol=100 * eps(dtype))


def test_nbytes_counts_every_array(rng):
    result = ct.cur_decomposition(rng.standard_normal((50, 40)), 5, rng=0)
    assert result.nbytes == 8 * (2 * 50 * 5 + 25 + 2 * 40 * 5 + 5 + 5)


@pytest.mark.parametrize("kind", ["dense", "csr_array", "csc_matrix", "named"])
def test_saved_results_come_back_to_the_bit_without_pickle(kind, tmp_path, rng):
    import pandas as pd

    A = mostly_zero(30, 20, "complex64", rng)
    if kind == "named":
        A = pd.DataFrame(A.real, columns=[f"gene {j}" for j in range(20)])
    elif kind != "dense":
        A = SPARSE_KINDS[kind](A)
    result = ct.cur_decomposition(A, 5, rng=0)
    result.save(tmp_path / "result.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["result.npz"]
    with np.load(tmp_path / "result.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind != "O" for name in file.files)
    again = ct.CUR.load(tmp_path / "result.npz")
    for name, part in vars(result).items():
        other = getattr(again, name)
        assert sparse.issparse(part) == sparse.issparse(other)
        if part is None:
            assert other is None
        else:
            assert_array_equal(dense(part), dense(other))
    assert again.dtype == result.dtype
    assert_allclose(again.to_array(), result.to_array(), rtol=0, atol=1e-12 * np.abs(result.middle).max())


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, rng):
    path = tmp_path / "result.npz"
    result = ct.cur_decomposition(rng.standard_normal((30, 20)), 5, rng=0)
    result.save(path)
    before = path.read_bytes()

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def contents(kind, good):
    buffer = io.BytesIO()
    if kind == "truncated":
        return good[: len(good) // 2]
    if kind == "empty":
        return b""
    if kind == "text":
        return b"not an archive"
    if kind == "pickled":
        np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    elif kind == "one array":
        np.save(buffer, np.ones(3))
    else:
        np.savez(buffer, a=np.ones(3), b=np.ones(2))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "pickled", "one array", "other arrays"])
def test_other_files_are_refused(kind, tmp_path, rng):
    path = tmp_path / "result.npz"
    ct.cur_decomposition(rng.standard_normal((30, 20)), 5, rng=0).save(path)
    path.write_bytes(contents(kind, path.read_bytes()))
    with pytest.raises(ValueError, match=r"^path must be a file written by CUR\.save, got "):
        ct.CUR.load(path)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_refining_keeps_what_is_chosen_and_adds_slices_to_the_bit(dtype, family, core, rng):
    A = FAMILIES[family](60, 45, dtype, rng)
    first = ct.cur_decomposition(A, 5, core=core, n_rows=7, rng=0)
    more = first.refine(A, rank=9, rng=1)
    assert_array_equal(more.col_indices[:5], first.col_indices)
    assert_array_equal(more.row_indices[:7], first.row_indices)
    n_columns, n_rows = (len(set(indices.tolist())) for indices in (more.col_indices, more.row_indices))
    assert n_columns == (8 if family == "cauchy" and eps(dtype) > 1e-10 else 9)
    assert n_columns <= n_rows <= n_columns + 2  # two of the seven were spare
    assert_array_equal(more.C, A[:, more.col_indices])
    assert_array_equal(more.R, A[more.row_indices])
    assert more.dtype == dtype
    assert_allclose(
        np.linalg.norm(A - more.to_array()), errors_of_published_formula(A, more), rtol=1e-3, atol=1e3 * eps(dtype)
    )


@pytest.mark.parametrize("rule", SELECTION_RULES)
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("family", FAMILIES)
def test_refining_never_makes_the_error_larger(family, core, rule, rng):
    A = FAMILIES[family](60, 45, "float64", rng)
    result = ct.cur_decomposition(A, 4, core=core, method=rule, n_rows=6, rng=0)
    for rank in (4, 5, 12, 45):
        more = result.refine(A, rank=rank, method=rule, rng=1)
        assert relative(A, more.to_array()) <= relative(A, result.to_array()) + 100 * eps(float)
        result = more
    if rule in GREEDY:
        assert relative(A, result.to_array()) < 1e-13


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"cauchy"}))
def test_refined_is_nearly_as_good_as_chosen_at_once(family, rng):
    A = FAMILIES[family](100, 80, "float64", rng)
    for seed in range(3):
        more = ct.cur_decomposition(A, 4, rng=seed).refine(A, rank=8, rng=seed).refine(A, rank=16, rng=seed)
        at_once = ct.cur_decomposition(A, 16, rng=seed)
        assert relative(A, more.to_array()) <= 1.6 * relative(A, at_once.to_array())


@pytest.mark.parametrize("kind", ["dense", *SPARSE_KINDS])
@pytest.mark.parametrize("dtype", DTYPES)
def test_refining_is_exact_when_rank_is_reached_and_then_adds_nothing(dtype, kind, rng):
    A = sparse_low_rank(60, 50, 5, dtype, rng)
    given = A.toarray() if kind == "dense" else SPARSE_KINDS[kind](A)
    first = ct.cur_decomposition(given, 2, rng=0)
    for options in ({"rank": 5}, {"rank": 20}, {"rtol": 1e3 * eps(dtype)}):
        more = first.refine(given, **options, rng=0)
        assert more.rank == 5
        assert sparse.issparse(more.C) == (kind != "dense")
        assert relative(A.toarray(), more.to_array()) < 1e3 * eps(dtype)
        again = more.refine(given, rank=30, rng=0)
        assert_array_equal(again.col_indices, more.col_indices)
        assert_array_equal(again.row_indices, more.row_indices)


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-5, 1e-9])
def test_refining_holds_a_tolerance_with_few_more(rtol, rng):
    for family in ("exponential", "cauchy", "coherent"):
        A = FAMILIES[family](110, 90, "float64", rng)
        for core in CORES:
            first = ct.cur_decomposition(A, 6, core=core, rng=0)
            more = first.refine(A, rtol=rtol, rng=0)
            assert relative(A, more.to_array()) <= rtol
            assert more.error_estimate <= rtol
            assert more.rank <= max(6, 1.25 * ct.cur_decomposition(A, rtol=rtol, rng=0).rank + 1)
            assert_array_equal(more.col_indices[:6], first.col_indices)


def test_refining_to_what_is_held_already_adds_nothing(rng):
    A = FAMILIES["exponential"](80, 60, "float64", rng)
    first = ct.cur_decomposition(A, rtol=1e-6, rng=0)
    heard = []
    more = first.refine(A, rtol=1e-3, rng=0, callback=heard.append)
    assert_array_equal(more.col_indices, first.col_indices)
    assert more.error_estimate <= 1e-6
    assert len(heard) == 2  # no lower rank was tried


def test_passes_when_refining(distant, rng):
    A = FAMILIES["exponential"](90, 80, "float64", rng)
    first = ct.cur_decomposition(A, 5, rng=0)
    by_rank, by_rtol = distant(A), distant(A)
    first.refine(by_rank, rank=9, rng=0)
    assert by_rank.log == ["sketch_both", "take", "take", "rmatmat"]
    heard = []
    first.refine(by_rtol, rtol=1e-3, rng=0, callback=heard.append)
    tried = len(heard) - 1
    assert by_rtol.log.count("sketch_both") <= 2
    assert by_rtol.passes == by_rtol.log.count("sketch_both") + tried <= 6


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-310])
def test_refining_at_any_scale(scale, rng):
    A = low_rank(30, 20, 4, "float64", rng) * scale
    more = ct.cur_decomposition(A, 2, rng=0).refine(A, rtol=1e-4 if scale < 1e-308 else 1e-10, rng=0)
    assert more.rank == 4
    assert_array_equal(more.C, A[:, more.col_indices])


def test_refining_a_zero_matrix_adds_nothing():
    A = np.zeros((6, 5))
    first = ct.cur_decomposition(A, 2, rng=0)
    for options in ({"rank": 4}, {"rtol": 0.1}):
        assert first.refine(A, **options, rng=0).rank == 0


def test_refining_by_rpcholesky_takes_rows_with_the_columns(rng):
    F = normal((50, 8), "complex128", rng)
    A = F @ F.conj().T
    first = ct.cur_decomposition(A, 3, method="rpcholesky", rng=0)
    more = first.refine(A, rank=8, method="rpcholesky", rng=0)
    assert_array_equal(more.col_indices, more.row_indices)
    assert_array_equal(more.col_indices[:3], first.col_indices)
    assert relative(A, more.to_array()) < 1e-12
    with pytest.raises(ValueError, match=r"^method must be one for any A where I is not J, got 'rpcholesky'"):
        ct.cur_decomposition(A, 3, rng=0).refine(A, rank=5, method="rpcholesky")


def test_refining_names_what_it_adds(rng):
    import pandas as pd

    A = pd.DataFrame(rng.standard_normal((30, 20)), columns=[f"gene {j}" for j in range(20)])
    more = ct.cur_decomposition(A, 3, rng=0).refine(A, rank=6, rng=0)
    assert_array_equal(more.col_names, A.columns[more.col_indices])
    assert_array_equal(more.row_names, more.row_indices)


def test_what_was_saved_can_be_refined(tmp_path, rng):
    A = FAMILIES["coherent"](60, 45, "float64", rng)
    first = ct.cur_decomposition(A, 4, rng=0)
    first.save(tmp_path / "result.npz")
    again = ct.CUR.load(tmp_path / "result.npz").refine(A, rank=9, rng=3)
    more = first.refine(A, rank=9, rng=3)
    assert_array_equal(more.col_indices, again.col_indices)
    assert_array_equal(more.row_indices, again.row_indices)
    assert_allclose(more.to_array(), again.to_array(), rtol=0, atol=1e-12 * np.abs(A).max())


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {}, r"^rank or rtol must be given, one of the two, got neither"),
        ({}, {"rank": 9, "rtol": 0.1}, r"^rank or rtol must be given, one of the two, got both"),
        ({}, {"rank": 4}, r"^rank must be between 5 and 20, got 4"),
        ({}, {"rank": 21}, r"^rank must be between 5 and 20, got 21"),
        ({}, {"rtol": 0.0}, r"^rtol must be at least"),
        ({}, {"rank": 6, "method": "nonsense"}, r"^method must be a function or one of"),
        ({"shape": True}, {"rank": 6}, r"^A must be of shape \(30, 20\), got shape \(20, 30\)"),
        ({"entry": True}, {"rank": 6}, r"^A must be the matrix that was decomposed, got other entries"),
        ({"entry": True}, {"rtol": 0.1}, r"^A must be the matrix that was decomposed, got other entries"),
        ({"nan": True}, {"rank": 6}, r"^A must be finite, got NaN or infinity, first at \(3, 2\)"),
    ],
    ids=str,
)
def test_refining_refuses_bad_input(change, options, message, rng):
    A = rng.standard_normal((30, 20))
    first = ct.cur_decomposition(A, 5, rng=0)
    if "shape" in change:
        A = A.T
    if "entry" in change:
        A[first.row_indices[0], 0] += 1
    if "nan" in change:
        A[3, 2] = np.nan
    with pytest.raises(ValueError, match=message):
        first.refine(A, **options, rng=0)


def test_callback_hears_of_rising_progress(rng):
    A = FAMILIES["exponential"](80, 60, "float64", rng)
    for options in ({"rank": 5}, {"rtol": 1e-4}):
        heard = []
        ct.cur_decomposition(A, **options, rng=0, callback=heard.append)
        assert heard[-1] == 1
        assert all(0 <= progress <= 1 for progress in heard)


def test_an_interrupt_from_the_callback_passes_through(rng):
    A = rng.standard_normal((30, 20))
    before = A.copy()

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ct.cur_decomposition(A, 5, rng=0, callback=stop)
    assert_array_equal(A, before)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_same_seed_same_result(rule, core, rng):
    A = normal((50, 40), "complex128", rng)
    first, second = (ct.cur_decomposition(A, 6, core=core, method=rule, rng=7) for _ in range(2))
    assert_array_equal(first.col_indices, second.col_indices)
    assert_array_equal(first.row_indices, second.row_indices)
    assert_allclose(first.to_array(), second.to_array(), rtol=0, atol=1e-11)


def test_ones_own_core_is_a_function(rng):
    def doubled(operand, A, left, right, R, rows):
        return 2 * (right @ operand.rmatmat(A, left)).conj().T

    A = rng.standard_normal((30, 20))
    plain = ct.cur_decomposition(A, 5, rng=0).to_array()
    own = ct.cur_decomposition(A, 5, core=doubled, rng=0)
    assert np.vdot(own.to_array(), plain) > 0


def test_leverage_scores_are_those_of_the_rank_however_many_columns_are_drawn(rng):
    directions = rng.standard_normal((120, 5))
    A = directions[:, :4] @ rng.standard_normal((4, 900)) + rng.standard_normal((120, 900))
    A[:, :15] += 8 * directions[:, [4]]
    kept = {}
    for rank in (5, 80):
        result = ct.cur_decomposition(A, rank, n_columns=80, n_rows=80, method="leverage", rng=0)
        assert result.C.shape == (120, 80)
        kept[rank] = np.count_nonzero(result.col_indices < 15)
    assert kept[5] >= 12 > 2 * kept[80]


def test_a_wrapped_core_that_says_what_it_sees_shares_the_pass(distant, rng):
    calls = []

    def wrapped(right, image):
        calls.append(image.shape)
        return CORES["projection"].function(right, image)

    A = distant(low_rank(60, 50, 4, "float64", rng))
    plain = ct.cur_decomposition(A, 6, rng=0)
    passes = A.passes
    own = ct.cur_decomposition(A, 6, core=Core(wrapped, sees="image", best=True), rng=0)
    assert A.passes == 2 * passes and len(calls) == 1
    assert_allclose(own.to_array(), plain.to_array(), rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="n_rows must be at least n_columns = 6 for this core, got 5"):
        ct.cur_decomposition(A, 5, n_columns=6, n_rows=5, core=Core(CORES["intersection"].function, sees="rows"))


few_values = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.complex128, np.int8, np.bool_]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=10),
    elements=st.sampled_from([0, 1]),
)


@given(few_values, st.sampled_from(sorted(GREEDY)), st.sampled_from(sorted(CORES)), st.booleans())
def test_any_small_matrix_of_zeros_and_ones_comes_back_at_full_rank(A, rule, core, as_sparse):
    given_form = sparse.csr_array(A) if as_sparse else A
    result = ct.cur_decomposition(given_form, min(A.shape), method=rule, core=core, rng=0)
    tolerance = 1e4 * eps(result.dtype) * max(1, np.abs(A).max())
    assert result.rank == np.linalg.matrix_rank(A.astype(np.result_type(A, np.float64)))
    assert_allclose(result.to_array(), A, atol=tolerance)
    assert_array_equal(dense(result.C), A[:, result.col_indices])
    assert np.isfinite(result.U).all()


@given(
    hnp.arrays(float, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e307, 1e307)),
    st.sampled_from(sorted(CORES)),
    st.integers(1, 8),
)
def test_any_small_matrix_of_any_scale_has_finite_factors(A, core, rank):
    result = ct.cur_decomposition(A, min(rank, *A.shape), core=core, rng=0)
    scale = np.abs(A).max() or 1
    assert np.isfinite(result.to_array()).all()
    assert np.linalg.norm(A / scale - result.to_array() / scale) <= (1 + 1e-9) * np.linalg.norm(A / scale)
    assert result.rank <= min(rank, *A.shape)
    assert 0 <= result.error_estimate < np.inf


@given(few_values, st.sampled_from([0.5, 1e-2, 1e-4]), st.sampled_from(sorted(CORES)))
def test_tolerance_is_held_for_any_small_matrix(A, rtol, core):
    result = ct.cur_decomposition(A, rtol=rtol, core=core, rng=0)
    assert np.linalg.norm(A - result.to_array()) <= rtol * np.linalg.norm(A)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("core", CORES)
def test_every_layout_of_exact_rank_has_the_same_indices(core, dtype, rng):
    A = low_rank(90, 70, 5, dtype, rng)
    A[40:60] = 0
    for rank in (3, 5, 9):
        first = ct.cur_decomposition(A, rank, core=core, rng=0)
        for X in (np.asfortranarray(A), A[::-1].copy()[::-1], sparse.csr_array(A)):
            result = ct.cur_decomposition(X, rank, core=core, rng=0)
            assert_array_equal(result.col_indices, first.col_indices)
            assert_array_equal(result.row_indices, first.row_indices)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("wide", [False, True])
def test_a_long_side_takes_no_rank_in_single_precision(dtype, wide, rng):
    A = with_spectrum(200_000, 12, 0.4 ** np.arange(12), dtype, rng)
    A = A.T.copy() if wide else A
    for method in ("osinsky", "iterative", "qdeim"):
        cur = ct.cur_decomposition(A, 12, method=method, rng=0)
        assert cur.rank == ct.cur_from_indices(A, cur.col_indices, cur.row_indices).rank == 12
    assert ct.cur_decomposition(A, 11, rng=0).error_estimate < 1e-3
    assert ct.interpolative_decomposition(A, 12, axis=int(not wide), rng=0).rank == 12
    assert ct.cur_decomposition(A, rtol=1e-4, rng=0).error_estimate <= 1e-4
    for method in ("exact", "sketch"):
        assert ct.leverage_scores(A, axis=int(wide), method=method, rng=0).sum() == pytest.approx(12, rel=1e-3)
