import ast
from dataclasses import replace
from pathlib import Path

import naive
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
    column_error,
    eps,
    low_rank,
    normal,
    optimum,
    orthonormal,
    sparse_low_rank,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, sparse

import curtensor as ct
from curtensor.cur import CORES
from curtensor.selection import (
    ENTRY_RULES,
    GAIN,
    MIXED,
    NOISE,
    PANEL,
    POOL,
    RIDGE,
    SELECTION_RULES,
    better_rows,
    by_cholesky,
    choose_more_rows,
    choose_rows,
    exchange,
    exchange_within,
    fit_growth,
    osinsky,
    oversample,
    row_norms_squared,
    split_sketch,
    update_scores,
    weighted_sample,
)
from curtensor.sketching import SKETCHES
from curtensor.tensors import TENSOR_METHODS, tubal
from curtensor.tensors.decomposition import TENSOR_CORES

GREEDY = {name: rule for name, rule in SELECTION_RULES.items() if name not in ("uniform", "leverage")}
SAMPLING = {"arp", "leverage", "uniform"}


def positive_semidefinite(n, k, dtype, rng):
    F = normal((n, k), dtype, rng)
    return F @ F.conj().T


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [40, POOL + 200])
def test_osinsky_makes_the_choices_of_its_definition(n, dtype, rng):
    basis = orthonormal(n, 7, dtype, rng).astype(dtype)
    residual = normal((n, 5), dtype, rng) * np.array(1e-2, dtype)
    ridge = RIDGE * row_norms_squared(residual).mean()
    assert_array_equal(osinsky(basis, residual, 7, rng), naive.osinsky(basis, residual, 7, ridge, np.ones(n)))
    weights = rng.random(n)
    chosen = osinsky(basis, residual, 7, rng, weights)
    assert_array_equal(chosen, naive.osinsky(basis, residual, 7, ridge, weights))


def test_weighted_sampling_follows_the_weights():
    weights = np.array([4.0, 2.0, 1.0, 1.0, 0.0])
    rng = np.random.default_rng(0)
    first = np.array([weighted_sample(weights, 2, rng)[0] for _ in range(4000)])
    shares = np.bincount(first, minlength=5) / 4000
    assert np.abs(shares - weights / 8).max() < 4 * np.sqrt(0.25 / 4000)
    assert shares[4] == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("rule", GREEDY)
@pytest.mark.parametrize("beyond", [0, 8])
def test_exact_when_rank_is_reached(beyond, rule, shape, dtype, rng):
    A = low_rank(*shape, 6, dtype, rng)
    columns = ct.select_columns(A, 6 + beyond, method=rule, rng=0)
    rows = ct.select_rows(A, 6 + beyond, method=rule, rng=0)
    assert len(columns) == len(rows) == 6
    assert column_error(A, columns) < 1000 * eps(dtype)
    assert column_error(A.T, rows) < 1000 * eps(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beyond", [0, 8])
def test_rpcholesky_is_exact_when_rank_is_reached(beyond, dtype, rng):
    A = positive_semidefinite(50, 6, dtype, rng)
    columns = ct.select_columns(A, 6 + beyond, method="rpcholesky", rng=0)
    assert len(columns) == 6
    assert column_error(A, columns) < 1000 * eps(dtype) * np.linalg.norm(A)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_exact_for_every_sketch(sketch, rng):
    A = low_rank(200, 150, 6, "complex128", rng)
    assert column_error(A, ct.select_columns(A, 6, sketch=sketch, rng=0)) < 1e-13


@pytest.mark.parametrize("kind", SPARSE_KINDS)
@pytest.mark.parametrize("rule", GREEDY)
def test_exact_for_sparse(rule, kind, rng):
    A = sparse_low_rank(60, 50, 5, "float64", rng)
    columns = ct.select_columns(SPARSE_KINDS[kind](A), 8, method=rule, rng=0)
    assert len(columns) == 5
    assert column_error(A.toarray(), columns) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_indices_are_distinct_and_in_range(rule, family, rng):
    A = FAMILIES[family](60, 45, "float64", rng)
    for select, size in ((ct.select_columns, 45), (ct.select_rows, 60)):
        indices = select(A, 12, method=rule, rng=0)
        assert indices.dtype.kind == "i"
        assert len(set(indices.tolist())) == 12
        assert indices.min() >= 0
        assert indices.max() < size


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_all_columns_can_be_chosen(rule, rng):
    A = rng.standard_normal((9, 7))
    assert_array_equal(np.sort(ct.select_columns(A, 7, method=rule, rng=0)), np.arange(7))


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_rows_are_columns_of_the_adjoint(rule, rng):
    A = normal((50, 40), "complex128", rng)
    assert_array_equal(ct.select_rows(A, 6, method=rule, rng=0), ct.select_columns(A.T.copy(), 6, method=rule, rng=0))


@pytest.mark.parametrize("rule", [*SELECTION_RULES, "rpcholesky"])
def test_included_come_first_and_excluded_never(rule, rng):
    A = positive_semidefinite(40, 40, "float64", rng)
    for seed in range(5):
        indices = ct.select_columns(A, 8, method=rule, include=[30, 2], exclude=[0, 1, 3, 39], rng=seed)
        assert_array_equal(indices[:2], [30, 2])
        assert len(set(indices.tolist())) == 8
        assert not {0, 1, 3, 39} & set(indices.tolist())


@pytest.mark.parametrize("rule", [*SELECTION_RULES, "rpcholesky"])
def test_included_columns_need_not_be_repeated_by_others(rule, rng):
    A = positive_semidefinite(40, 6, "float64", rng)
    A[:, 0] = A[0] = 0
    indices = ct.select_columns(A, 6, method=rule, include=[5], rng=0)
    assert indices[0] == 5
    if rule not in ("uniform", "leverage"):
        assert column_error(A, indices) < 1e-10 * np.linalg.norm(A)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", sorted(GREEDY))
def test_nothing_is_added_to_included_columns_that_span_the_matrix(rule, dtype, rng):
    A = low_rank(60, 50, 3, dtype, rng)
    assert_array_equal(ct.select_columns(A, 6, method=rule, include=[1, 2, 3], rng=0), [1, 2, 3])
    assert len(ct.select_columns(A, 6, method=rule, include=[1, 2], rng=0)) == 3


@pytest.mark.parametrize("rule", sorted(GREEDY))
def test_rows_that_differ_by_a_phase_are_not_both_chosen(rule):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        phases = np.exp(2j * np.pi * rng.random((12, 1)))
        basis = phases * np.repeat(orthonormal(4, 4, "complex128", rng), 3, axis=0) / np.sqrt(3)
        chosen = SELECTION_RULES[rule](basis, basis[:, :0], 4, rng)
        assert_array_equal(np.sort(chosen // 3), np.arange(4))


@pytest.mark.parametrize("rule", [*SELECTION_RULES, "rpcholesky"])
def test_weightless_columns_are_never_chosen(rule, rng):
    A = positive_semidefinite(40, 40, "float64", rng)
    weights = np.ones(40)
    weights[::2] = 0
    indices = ct.select_columns(A, 10, method=rule, weights=weights, rng=0)
    assert len(indices) == 10
    assert (indices % 2 == 1).all()


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_heavier_columns_are_preferred(rule, rng):
    A = rng.standard_normal((40, 40))
    weights = np.where(np.arange(40) < 20, 1e6, 1.0)
    indices = ct.select_columns(A, 6, method=rule, weights=weights, rng=0)
    assert (indices < 20).all()


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_only_as_many_as_may_be_chosen(rule, rng):
    A = rng.standard_normal((20, 12))
    indices = ct.select_columns(A, 5, method=rule, exclude=range(7), rng=0)
    assert_array_equal(np.sort(indices), np.arange(7, 12))


@pytest.mark.parametrize("rule", [*SELECTION_RULES, "rpcholesky"])
def test_same_seed_same_result(rule, rng):
    A = positive_semidefinite(40, 40, "float64", rng)
    first, second = (ct.select_columns(A, 6, method=rule, rng=7) for _ in range(2))
    assert_array_equal(first, second)
    if rule in SAMPLING:
        assert any(not np.array_equal(first, ct.select_columns(A, 6, method=rule, rng=seed)) for seed in range(8, 12))


@pytest.mark.parametrize("rule", SELECTION_RULES)
@pytest.mark.parametrize("select", [ct.select_columns, ct.select_rows])
def test_one_pass_over_the_matrix(select, rule, distant, rng):
    A = distant(rng.standard_normal((90, 80)))
    select(A, 5, method=rule, rng=0)
    assert A.log == ([] if rule == "uniform" else ["sketch_both"])


@pytest.mark.parametrize("method", [*SELECTION_RULES, "rpcholesky"])
@pytest.mark.parametrize("A", [np.zeros((5, 5)), np.ones((5, 5)), np.ones((1, 1))])
def test_zero_and_constant(method, A):
    indices = ct.select_columns(A, 1, method=method, rng=0)
    assert len(indices) == (1 if A.any() or method == "uniform" else 0)  # which does not look


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-310])
@pytest.mark.parametrize("rule", GREEDY)
def test_any_scale(rule, scale, rng):
    A = low_rank(30, 20, 4, "float64", rng) * scale
    columns = ct.select_columns(A, 4, method=rule, rng=0)
    assert len(columns) == 4
    assert column_error(A / np.abs(A).max(), columns) < 1e-10


def test_a_rule_of_ones_own_is_a_function(rng):
    def last(basis, residual, k, rng):
        assert basis.shape == (40, k)
        assert len(residual) == 40
        return np.arange(len(basis))[-k:]

    A = rng.standard_normal((50, 40))
    assert_array_equal(ct.select_columns(A, 3, method=last, rng=0), [37, 38, 39])


@given(
    hnp.arrays(
        float, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0.0, 1, -1, 1e-9])
    ),
    st.sampled_from(sorted(SELECTION_RULES)),
    st.data(),
)
def test_any_small_matrix_of_few_values(A, rule, data):
    k = data.draw(st.integers(1, min(A.shape)))
    indices = ct.select_columns(A, k, method=rule, rng=0)
    assert len(set(indices.tolist())) == len(indices) <= k
    if rule in GREEDY and len(indices) < k:
        assert column_error(A, indices) <= 1e-12 * np.linalg.norm(A) + 1e-13


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e30])
def test_split_sketch_is_the_svd(condition, dtype, rng):
    s = np.geomspace(1, 1 / condition, 12)
    sketch = (orthonormal(60, 12, dtype, rng) * s @ orthonormal(12, 12, dtype, rng)).astype(dtype)
    basis, residual = split_sketch(sketch, 5)
    assert basis.shape[1] == 5 if s[4] > 100 * eps(dtype) else basis.shape[1] < 5
    by_gram = s[4] > 1e-6
    tolerance = 100 * (eps(dtype) / s[4] + eps(float) / s[4] ** 2 if by_gram else eps(dtype))
    assert np.abs(basis.conj().T @ basis - np.eye(basis.shape[1])).max() < tolerance
    rest = sketch - basis @ (basis.conj().T @ sketch)
    assert abs(np.linalg.norm(rest) - np.linalg.norm(residual)) < max(tolerance, NOISE * eps(dtype))
    assert residual.any() or np.linalg.norm(rest) <= NOISE * eps(dtype)


def test_rows_beyond_the_basis_are_added_without_repetition(rng):
    basis, residual = orthonormal(50, 6, "complex128", rng), normal((50, 4), "complex128", rng)
    for rule in SELECTION_RULES.values():
        chosen = choose_rows(basis, residual, 9, rule, rng)
        assert len(set(chosen.tolist())) == 9
    assert len(choose_rows(basis, residual, 50, osinsky, rng)) == 50


@pytest.mark.parametrize("dtype", DTYPES)
def test_rules_see_what_chosen_rows_leave_undetermined(dtype, rng):
    basis = np.linalg.qr(normal((50, 9), dtype, rng))[0]
    residual = normal((50, 4), dtype, rng)
    chosen = np.array([7, 30, 2, 11])
    others = np.setdiff1d(np.arange(50), chosen)

    def rule(rows, rest, k, rng):
        assert_allclose(rows.conj().T @ rows, np.eye(5), atol=100 * eps(dtype))
        expected = residual - basis @ np.linalg.pinv(basis[chosen]) @ residual[chosen]
        assert_allclose(rest, expected[others], atol=1000 * eps(dtype))
        assert k == 5
        return osinsky(rows, rest, k, rng)

    together = choose_more_rows(basis, residual, chosen, 9, rule, rng)
    assert_array_equal(together[:4], chosen)
    assert len(set(together.tolist())) == 9
    assert np.linalg.cond(basis[together]) < 100
    assert_array_equal(
        choose_more_rows(basis, residual, chosen, 12, osinsky, rng)[:9],
        choose_more_rows(basis, residual, chosen, 9, osinsky, rng),
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", ["osinsky", "arp", "bsqr", "maxvol", "qdeim", "deim", "cpqr"])
def test_columns_are_within_a_small_factor_of_the_optimum(rule, family, rng):
    A = FAMILIES[family](100, 80, "float64", rng)
    k = 12
    bound = 2 if rule == "osinsky" else 3 * np.sqrt(k + 1)
    for seed in range(5):
        error = column_error(A, ct.select_columns(A, k, method=rule, rng=seed))
        assert error <= bound * optimum(A, k) + 1e-13 * np.linalg.norm(A)


@pytest.mark.parametrize(
    ("shape", "ranks"), [((120, 100), (5, 20)), pytest.param((400, 300), (10, 40), marks=pytest.mark.slow)]
)
def test_the_default_rule_is_near_the_optimum_and_better_than_pivoted_qr(shape, ranks, rng):
    ratios = {"osinsky": [], "cpqr": []}
    for family in sorted(set(FAMILIES) - {"cauchy"}):
        A = FAMILIES[family](*shape, "float64", rng)
        for k in ranks:
            best = optimum(A, k)
            for rule, found in ratios.items():
                found += [column_error(A, ct.select_columns(A, k, method=rule, rng=seed)) / best for seed in range(3)]
    average = {rule: np.exp(np.mean(np.log(found))) for rule, found in ratios.items()}
    assert average["osinsky"] <= 1.25
    assert max(ratios["osinsky"]) <= 2
    assert average["osinsky"] <= 0.95 * average["cpqr"]


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize(("n", "k"), [(400, 317), (317, 317)])
def test_rpcholesky_takes_as_many_pivots_as_the_rank_in_single_precision(n, k, dtype, rng):
    A = positive_semidefinite(n, k, dtype, rng)
    assert len(ct.select_columns(A, n, method="rpcholesky", rng=0)) == k


@pytest.mark.parametrize("dtype", DTYPES)
def test_rpcholesky_refuses_what_is_slightly_indefinite(dtype, rng):
    Q = orthonormal(100, 100, dtype, rng)
    A = (Q * np.linspace(-1e-2, 1, 100) @ Q.conj().T).astype(dtype)
    with pytest.raises(ValueError, match="A must be positive semidefinite"):
        ct.select_columns(A, 100, method="rpcholesky", rng=0)


def layouts(A):
    """The same matrix in other orders and kinds."""
    dask = pytest.importorskip("dask.array")
    wide = np.zeros((2 * A.shape[0], 3 * A.shape[1]), A.dtype)
    wide[::2, ::3] = A
    yield np.asfortranarray(A)
    yield wide[::2, ::3]
    yield np.ascontiguousarray(A[::-1, ::-1])[::-1, ::-1]
    yield dask.from_array(A, chunks=(A.shape[0] // 3, A.shape[1] // 2))
    yield sparse.csr_array(A)
    for seed in range(3):  # small sketches round alike everywhere: other processors and libraries do not
        noise = np.random.default_rng(seed).standard_normal(A.shape)
        yield (A * (1 + 2 * eps(A.dtype) * noise)).astype(A.dtype)


TIED = {
    "exact rank": lambda rng: rng.standard_normal((90, 5)) @ rng.standard_normal((5, 70)),
    "repeated columns": lambda rng: np.tile(rng.standard_normal((60, 20)), (1, 4)),
    "repeated rows": lambda rng: np.repeat(rng.standard_normal((20, 60)), 4, axis=0),
    "one-hot": lambda rng: np.eye(12)[rng.integers(0, 12, 100)],
    "orthonormal columns": lambda rng: orthonormal(80, 40, "float64", rng),
    "Hadamard": lambda rng: linalg.hadamard(64).astype(float),
    "two singular values": lambda rng: (
        orthonormal(90, 40, "float64", rng) * np.where(np.arange(40) < 20, 1, 0.1) @ orthonormal(40, 40, "float64", rng)
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("rule", sorted(set(GREEDY) - SAMPLING))
def test_every_layout_has_the_same_columns_where_scores_tie(rule, name, dtype, rng):
    A = TIED[name](rng).astype(dtype)
    for k in (5, 12):
        first = ct.select_columns(A, k, method=rule, rng=0)
        for X in layouts(A):
            assert_array_equal(ct.select_columns(X, k, method=rule, rng=0), first)
            assert_array_equal(ct.select_rows(X.T, k, method=rule, rng=0), first)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_choice_of_exact_rank_ignores_rounding_and_is_well_conditioned(dtype, rng):
    for shape in ((200, 150), (60, 300)):
        A = low_rank(*shape, 5, dtype, rng)
        for k in (5, 9):
            columns = ct.select_columns(A, k, rng=0)
            nearly = A * (1 + 1e-15 * rng.standard_normal(A.shape))
            assert_array_equal(ct.select_columns(nearly, k, rng=0), columns)
            assert np.abs(np.linalg.lstsq(A[:, columns], A)[0]).max() < 2.5


@pytest.mark.parametrize("rule", sorted(set(GREEDY) - SAMPLING - {"iterative"}))  # which draws whom it looks at
def test_of_repeated_columns_the_first_is_chosen(rule, rng):
    A = rng.standard_normal((30, 8))
    assert (ct.select_columns(np.tile(A, (1, 300)), 6, method=rule, rng=0) < 8).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_by_blocks_come_nearly_as_close_as_the_default_where_values_fall_slowly(dtype, rng):
    for family in ("slow", "harmonic"):
        A = FAMILIES[family](300, 700, dtype, rng)
        blocks, default = (
            column_error(A, ct.select_columns(A, 110, method=method, rng=0)) for method in ("iterative", "osinsky")
        )
        assert blocks <= 1.1 * default


def test_columns_by_blocks_are_distinct_and_end_at_the_numerical_rank(rng):
    A = low_rank(300, 700, 120, "float64", rng)
    columns = ct.select_columns(A, 200, method="iterative", rng=0)
    assert len(set(columns.tolist())) == len(columns) == 120
    assert column_error(A, columns) < 1e-10 * np.linalg.norm(A)
    weights = np.arange(700) % 2
    columns = ct.select_columns(A, 110, method="iterative", include=[4], exclude=[5, 7], weights=weights, rng=0)
    assert columns[0] == 4
    assert (columns[1:] % 2 == 1).all()
    assert not np.isin([5, 7], columns).any()


def test_growth_of_the_fit_is_that_of_its_definition(rng):
    basis, residual = orthonormal(30, 4, "complex128", rng), normal((30, 5), "complex128", rng)
    chosen, others = np.array([1, 5, 9, 20, 3]), np.arange(10, 15)

    def size(rows):
        return np.linalg.norm(np.linalg.pinv(basis[rows]) @ residual[rows]) ** 2

    growth = [size(np.append(chosen, j)) - size(chosen) for j in others]
    turn = np.linalg.inv(np.linalg.qr(basis[chosen], mode="r"))
    found = fit_growth(basis, residual, turn, basis @ turn, chosen, others)
    assert_allclose(found, growth, rtol=1e-9, atol=1e-9 * size(chosen))


def test_rows_of_large_residual_do_not_make_the_fit_worse(rng):
    for _ in range(10):
        basis = orthonormal(80, 6, "float64", rng)
        residual = normal((80, 20), "float64", rng) * (rng.pareto(1.0, (80, 1)) + 1e-3)
        few = osinsky(basis, residual, 6, rng)
        sizes = []
        for k in (6, 7, 9, 12):
            rows = oversample(basis, residual, few, k)
            sizes.append(np.linalg.norm(np.linalg.pinv(basis[rows]) @ residual[rows]))
        assert max(sizes) <= 1.03 * sizes[0]


@pytest.mark.parametrize("rule", ["leverage", "uniform"])
def test_sampling_takes_more_rows_than_the_matrix_has_columns(rule, rng):
    A = rng.standard_normal((300, 20))
    rows = ct.select_rows(A, 120, method=rule, rank=5, include=[7], exclude=[0, 1], rng=0)
    assert rows[0] == 7 and len(set(rows.tolist())) == 120 and rows.min() > 1
    assert len(ct.select_rows(A, 300, method=rule, rng=0)) == 300
    with pytest.raises(ValueError, match="rank must be between 1 and 20, got 21"):
        ct.select_rows(A, 30, method=rule, rank=21)


@pytest.mark.parametrize("rule", ["cpqr", "lupp", "rpcholesky"])
def test_a_rank_is_refused_where_a_rule_sees_no_basis(rule):
    with pytest.raises(ValueError, match=f"rank must be None where method='{rule}'"):
        ct.select_columns(np.eye(9), 3, method=rule, rank=2)


def test_a_function_gets_a_basis_of_the_rank():
    def first(basis, residual, k, rng):
        assert basis.shape == (40, 4)
        return np.arange(k)

    A = np.random.default_rng(0).standard_normal((40, 10))
    assert_array_equal(ct.select_rows(A, 30, rank=4, method=first, rng=0), np.arange(30))


@pytest.mark.slow
def test_scores_of_low_rank_keep_rare_samples(rng):
    types = rng.choice(4, 8000, p=[0.6, 0.3, 0.096, 0.004])
    profiles = rng.gamma(0.3, 0.5, 400) * np.where(rng.random((4, 400)) < 0.1, 60, 1)
    A = sparse.csr_array(np.log1p(rng.poisson(profiles[types])))
    kept = {rank: np.mean([(types[r] == 3).sum() for r in draws(A, 300, rank)]) for rank in (10, 300)}
    assert kept[10] >= 4 * max(kept[300], 1)


def draws(A, k, rank):
    return [ct.select_rows(A, k, method="leverage", rank=rank, rng=seed) for seed in range(5)]


@pytest.mark.parametrize("name", [*SELECTION_RULES, "rpcholesky"])
def test_a_wrapped_rule_that_says_what_it_needs_chooses_the_same(name, rng):
    rule = (SELECTION_RULES | ENTRY_RULES)[name]

    def wrapped(*arguments, **options):
        return rule.function(*arguments, **options)

    own = replace(rule, function=wrapped)
    A = rng.standard_normal((60, 50)) / np.arange(1, 51)
    A = A.T @ A if rule.sees == "entries" else A
    expected, found = (ct.select_columns(A, 8, method=method, rng=3) for method in (name, own))
    assert_array_equal(found, expected)
    expected, found = (ct.cur_decomposition(A, 8, method=method, rng=3) for method in (name, own))
    assert_array_equal(found.row_indices, expected.row_indices)
    X = A[:, :, None] * np.ones(3)
    if rule.sees == "entries":
        for call in (ct.tubal_cur, lambda X, r, method: ct.tensor_cur(X, r, selection=method)):
            with pytest.raises(ValueError, match="must be a rule that sees a sketch of X, not its entries"):
                call(X, 2, method=own)
    else:
        expected, found = (ct.tensor_cur(X, 2, selection=method, rng=3) for method in (name, own))
        assert_array_equal(found.indices[0], expected.indices[0])


def test_nothing_asks_which_function_a_choice_is():
    names = set().union(SELECTION_RULES, ENTRY_RULES, CORES, tubal.TUBAL_CORES, TENSOR_METHODS, TENSOR_CORES)
    for path in sorted(Path(ct.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
                sides = {ast.unparse(side).split(".")[-1] for side in (node.left, *node.comparators)}
                assert not sides & names, f"{path.name}: {ast.unparse(node)}"


def swept(sketch, target, chosen, weights):
    """One sweep of exchanges, each gain by projections made anew."""
    chosen = list(chosen)

    def left(rows):
        span = np.linalg.qr(sketch[rows].conj().T)[0]
        return np.linalg.norm(target - (target @ span) @ span.conj().T) ** 2

    for j in range(len(chosen)):
        others = chosen[:j] + chosen[j + 1 :]
        before = left(others)
        gains = np.array([weights[p] * (before - left([*others, p])) for p in range(len(sketch))])
        gains[others] = 0
        if gains.max() > (1 + GAIN) * gains[chosen[j]]:
            chosen[j] = int(gains.argmax())
    return chosen


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sweep_of_exchanges_is_that_of_its_definition(weighted, dtype, rng):
    sketch, target = normal((40, 12), dtype, rng), normal((15, 12), dtype, rng)
    weights = rng.random(40) + 0.5 if weighted else np.ones(40)
    chosen = exchange_within(sketch, target, np.arange(6), weights, eps(dtype) ** 0.5)
    assert_array_equal(chosen, swept(sketch, target, range(6), weights))
    assert not np.array_equal(chosen, np.arange(6))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_looked_at_are_the_best_for_each_chosen_one(dtype, rng):
    sketch, target = normal((PANEL + 40, 12), dtype, rng), normal((15, 12), dtype, rng)
    weights, chosen = rng.random(len(sketch)) + 0.5, np.array([3, PANEL + 1, 77, 9])
    expected = set()
    for j in range(4):
        one = np.append(np.delete(chosen, j), chosen[j])
        Q = np.linalg.qr(sketch[one[:3]].conj().T)[0]
        E, T = sketch - (sketch @ Q) @ Q.conj().T, target - (target @ Q) @ Q.conj().T
        gains = weights * (np.abs(E @ T.conj().T) ** 2).sum(axis=1) / (np.abs(E) ** 2).sum(axis=1)
        gains[chosen[:]] *= np.arange(len(chosen)) == j
        expected |= {int(gains.argmax())} - {int(chosen[j])}
    assert set(better_rows(sketch, target, chosen, weights).tolist()) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_exchanges_leave_less_of_the_sketch(dtype, rng):
    for family in ("harmonic", "slow", "coherent", "mixture"):
        sketch = np.ascontiguousarray(FAMILIES[family](60, 300, dtype, rng).T)
        chosen = osinsky(*split_sketch(sketch, 10), 10, rng)
        exchanged = exchange(sketch, sketch, chosen)
        assert column_error(sketch.conj().T, exchanged) < column_error(sketch.conj().T, chosen)


@pytest.mark.parametrize("select", [ct.select_columns, ct.select_rows])
def test_exchanges_keep_what_is_included_and_obey_weights(select, rng):
    A = FAMILIES["slow"](70, 60, "float64", rng)
    A = A if select is ct.select_columns else A.T
    plain = select(A, 12, method="exchange", rng=0)
    others = np.setdiff1d(np.arange(60), plain)[:4]
    weights = np.where(np.isin(np.arange(60), plain[:3]), 0.0, 1 + 1e3 * (np.arange(60) == others[3]))
    chosen = select(A, 12, method="exchange", include=others[:2], exclude=others[2:3], weights=weights, rng=0)
    assert_array_equal(chosen[:2], others[:2])
    assert others[3] in chosen and not set(chosen.tolist()) & {*plain[:3].tolist(), int(others[2])}


def test_exchanges_come_closer_than_the_default_rule(rng):
    found = {"osinsky": [], "exchange": []}
    for family in ("harmonic", "slow", "coherent", "mostly_zero", "lehmer", "circulant"):
        A = FAMILIES[family](150, 120, "float64", rng)
        for k in (5, 20):
            for method, ratios in found.items():
                ratios.append(column_error(A, ct.select_columns(A, k, method=method, rng=0)) / optimum(A, k))
    assert np.mean(np.log(found["exchange"])) <= np.mean(np.log(found["osinsky"])) - 0.005


def test_exchanged_rows_bring_the_projection_nearer(rng):
    errors = {"osinsky": [], "exchange": []}
    for family in ("harmonic", "slow", "coherent", "mostly_zero", "lehmer"):
        A = FAMILIES[family](150, 120, "float64", rng)
        for method, found in errors.items():
            result = ct.cur_decomposition(A, 15, method=method, rng=0)
            C_part = column_error(A, result.col_indices)
            found.append((np.linalg.norm(A - result.to_array()) ** 2 - C_part**2) / optimum(A, 15) ** 2)
    assert np.mean(errors["exchange"]) < np.mean(errors["osinsky"])


@pytest.mark.parametrize("include", [0, 4])
def test_refining_with_exchanges_keeps_what_was_chosen(include, rng):
    A = FAMILIES["harmonic"](80, 60, "complex128", rng)
    first = ct.cur_decomposition(A, 4, method="exchange", rng=0)
    more = first.refine(A, 10, method="exchange", rng=0)
    assert_array_equal(more.col_indices[:4], first.col_indices)
    assert_array_equal(more.row_indices[:4], first.row_indices)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_choice_in_stretches_is_that_of_its_definition(dtype, rng):
    n, k = 4 * POOL, 60
    basis = orthonormal(n, k, dtype, rng).astype(dtype)
    residual = (normal((n, 30), dtype, rng) * rng.pareto(2, (n, 1)) * 1e-2).astype(dtype)
    ridge = RIDGE * row_norms_squared(residual).mean()
    weights = rng.random(n) + 0.1
    chosen, expected = osinsky(basis, residual, k, rng, weights), naive.osinsky(basis, residual, k, ridge, weights)
    assert np.mean(chosen == expected) == 1 if eps(dtype) < 1e-10 else len(set(chosen) & set(expected)) >= k - 5


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_after_two_stretches_are_those_of_their_definition(dtype, rng):
    n, k, ridge = PANEL + 30, 8, 0.1
    wide = np.result_type(dtype, float)
    basis, residual = orthonormal(n, k, wide, rng), normal((n, 5), wide, rng)
    chosen = np.array([7, PANEL + 3, 100, 4, 30])
    leverage, loss = row_norms_squared(basis), row_norms_squared(residual) + ridge
    Q, T = np.linalg.qr(basis[chosen].conj().T)
    pivots = linalg.solve_triangular(T, np.hstack([residual[chosen], np.sqrt(ridge) * np.eye(5)]), trans="C")
    for start, stop in ((0, 3), (3, 5)):
        parts = Q[:, :start], Q[:, start:stop], pivots[:start], pivots[start:stop]
        update_scores(leverage, loss, basis.astype(dtype), residual.astype(dtype), *parts)
        coefficients = basis @ np.linalg.pinv(basis[chosen[:stop]])
        rest = residual - coefficients @ residual[chosen[:stop]]
        expected = row_norms_squared(rest) + ridge * (1 + row_norms_squared(coefficients))
        others = np.delete(np.arange(n), chosen)
        tolerance = 1e3 * eps(dtype) * expected.max()
        assert_allclose(loss[others], expected[others], rtol=1e3 * eps(dtype), atol=tolerance)
        outside = basis - coefficients @ basis[chosen[:stop]]
        assert_allclose(leverage[others], row_norms_squared(outside)[others], atol=100 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cholesky_factors_make_the_basis_that_qr_makes(dtype, rng):
    C = normal((400, 30), dtype, rng) * np.geomspace(1, 1e-3, 30).astype(dtype)
    C.setflags(write=False)
    expected = np.linalg.qr(C)[0]
    for Q in (by_cholesky(C), by_cholesky(np.asfortranarray(C))):
        assert np.abs(Q.conj().T @ Q - np.eye(30)).max() < 20 * eps(dtype)
        assert np.abs(Q @ (Q.conj().T @ expected) - expected).max() < 1e3 * eps(dtype)
    dependent = C.copy()
    dependent[:, 7] = dependent[:, 3] + dependent[:, 4]
    assert by_cholesky(dependent) is None
    assert by_cholesky(C * (np.arange(30) != 5)) is None


def test_combinations_stand_for_a_residual_of_many_columns(rng):
    sketch = normal((900, 2 * MIXED), "float64", rng) / np.arange(1, 2 * MIXED + 1)
    basis, residual = split_sketch(sketch, 20)
    same, mixed = split_sketch(sketch, 20, rng=rng)
    assert_allclose(np.abs(same), np.abs(basis), atol=1e-12)
    assert mixed.shape == (900, MIXED)
    assert_allclose(row_norms_squared(mixed), row_norms_squared(residual), rtol=0.7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exchanges_of_nearly_repeated_columns_make_nothing_worse(dtype, rng):
    centres = normal((60, 50), dtype, rng)
    A = np.repeat(centres, 40, axis=1) + np.array(1e-3, dtype) * normal((60, 2000), dtype, rng)
    before, after = (ct.select_columns(A, 49, method=method, rng=0) for method in ("osinsky", "exchange"))
    assert column_error(A, after) <= (1 + 1e-3) * column_error(A, before)


@pytest.mark.parametrize("k", [POOL, POOL + 1, POOL + 2, 2 * POOL + 10])
def test_a_stretch_that_takes_its_whole_pool_is_not_the_last(k):
    i = np.arange(1.0, 601)
    lehmer = np.minimum.outer(i, i) / np.maximum.outer(i, i)
    chosen = ct.select_columns(lehmer, k, rng=0)
    assert len(set(chosen.tolist())) == k
    assert column_error(lehmer, chosen) < 1.1 * column_error(
        lehmer, ct.select_columns(lehmer, k, method="qdeim", rng=0)
    )
