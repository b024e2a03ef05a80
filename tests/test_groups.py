from itertools import combinations

import numpy as np
import pytest
from matrices import DTYPES, column_error, normal, sparse_low_rank
from numpy.testing import assert_array_equal
from scipy import sparse

import curtensor as ct


def groups_of(indices, labels):
    return list(dict.fromkeys(np.asarray(labels)[indices].tolist()))


def decaying(m, n, dtype, rng):
    return (normal((m, n), dtype, rng) * 0.8 ** np.arange(n)) @ np.linalg.qr(normal((n, n), dtype, rng))[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_chosen_groups_come_close_to_the_best_there_are(dtype, seed):
    rng = np.random.default_rng(seed)
    A = decaying(40, 24, dtype, rng).astype(dtype)
    labels = rng.permutation(np.repeat(np.arange(8), [1, 1, 2, 3, 3, 4, 4, 6]))
    chosen = ct.select_columns(A, 3, groups=labels, rng=seed)
    best = min(column_error(A, np.flatnonzero(np.isin(labels, few))) for few in combinations(range(8), 3))
    assert column_error(A, chosen) <= 1.25 * best


@pytest.mark.parametrize("select, axis", [(ct.select_columns, 1), (ct.select_rows, 0)])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, ct.row_blocks])
def test_groups_are_whole_and_as_many_as_asked_for(select, axis, kind, rng):
    A = rng.standard_normal((60, 45))
    labels = [f"station {i}" for i in rng.integers(0, 12, A.shape[axis])]
    chosen = select(kind(A), 4, groups=labels, rng=0)
    names = groups_of(chosen, labels)
    assert len(names) == 4
    assert_array_equal(np.sort(chosen), np.flatnonzero(np.isin(labels, names)))
    for name in names:  # one after the other, each in A's order
        places = np.flatnonzero(np.isin(np.asarray(labels)[chosen], name))
        assert np.ptp(places) == len(places) - 1 and (np.diff(chosen[places]) > 0).all()


def test_the_same_groups_are_chosen_of_any_kind_of_matrix(rng):
    A = sparse_low_rank(80, 50, 12, np.float64, rng)
    dense, labels = A.toarray(), np.arange(50) // 5
    expected = ct.select_columns(dense, 4, groups=labels, rng=1)
    for same in (A, np.asfortranarray(dense), ct.row_blocks(dense), dense.tolist()):
        assert_array_equal(ct.select_columns(same, 4, groups=labels, rng=1), expected)


def test_included_groups_come_first_and_excluded_never(rng):
    A, labels = rng.standard_normal((50, 30)), np.arange(30) % 10
    chosen = ct.select_columns(A, 5, groups=labels, include=[17, 3], exclude=[0, 21], rng=0)
    names = groups_of(chosen, labels)
    assert names[:2] == [7, 3] and not {0, 1} & set(names) and len(names) == 5


def test_groups_that_add_nothing_are_not_chosen(rng):
    A = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 30))
    chosen = ct.select_columns(A, 10, groups=np.arange(30) // 3, rng=0)
    assert len(chosen) == 6 and column_error(A, chosen) < 1e-12 * np.linalg.norm(A)


def test_indicators_which_sum_to_one_are_a_group_like_others(rng):
    color, size = rng.integers(0, 4, 300), rng.standard_normal((300, 3))
    A = np.hstack([np.eye(4)[color], size, (size[:, :1] > 0) * 0.01])
    chosen = ct.select_columns(A, 2, groups=[*"cccc", "x", "y", "z", "small"], rng=0)
    assert set(range(4)) <= set(chosen.tolist()) and len(chosen) == 5


def test_single_candidates_are_chosen_as_well_as_by_exchange(rng):
    for seed in range(3):
        A = decaying(200, 60, float, np.random.default_rng(seed))
        alone = ct.select_columns(A, 10, groups=range(60), rng=seed)
        assert column_error(A, alone) <= 1.1 * column_error(A, ct.select_columns(A, 10, method="exchange", rng=seed))


def test_a_zero_matrix_has_no_group_to_choose():
    assert len(ct.select_columns(np.zeros((5, 4)), 2, groups=[*"aabb"])) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"groups": [1, 2]}, "groups must be 6 labels, one for each candidate, got 2"),
        ({"groups": "ab"}, "groups must be a sequence of 6 labels, got"),
        ({"groups": 3}, "groups must be a sequence of 6 labels, got 3"),
        ({"groups": [1, 1, 2, 2, None, 3]}, "groups must be a label for each candidate, got None for 4"),
        ({"groups": [1, 1, 2, 2, np.nan, 3]}, "groups must be a label for each candidate, got nan for 4"),
        ({"groups": [1, 1, 2, 2, [3], 3]}, r"groups must be a label for each candidate, got \[3\] for 4"),
        ({"groups": [1, 1, 1, 2, 2, 2]}, "k must be between 1 and 2, got 3"),
        ({"groups": range(6), "rank": 2, "method": "leverage"}, "rank must be left at its default where groups"),
        ({"groups": range(6), "weights": np.ones(6)}, "weights must be left at its default where groups"),
        ({"groups": range(6), "method": "deim"}, "method must be left at its default where groups"),
        ({"groups": range(6), "exclude": [0, 1, 2, 3]}, "k must be at most the 2 candidates left"),
    ],
)
def test_groups_that_cannot_be_are_refused(options, message, rng):
    with pytest.raises((TypeError, ValueError), match=message):
        ct.select_columns(rng.standard_normal((8, 6)), 3, **options)


def test_the_selector_keeps_groups_together(rng):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rng.standard_normal((50, 6)), columns=["a_1", "a_2", "b_1", "b_2", "c_1", "c_2"])
    X[["b_1", "b_2"]] *= 10
    labels = [name[0] for name in X]
    selector = ct.ColumnSelector(1, groups=labels, random_state=0).set_output(transform="pandas")
    assert list(selector.fit_transform(X)) == ["b_1", "b_2"]
    assert len(ct.ColumnSelector(groups=labels).fit(X).col_indices_) == 6
    with pytest.raises(ValueError, match=r"rtol must be None where groups are given, got 0\.1"):
        ct.ColumnSelector(rtol=0.1, groups=labels).fit(X)


def amplification(V, chosen):
    return np.linalg.norm(V @ np.linalg.pinv(V[chosen])) / np.sqrt(len(V))


@pytest.mark.parametrize("method", ["osinsky", "exchange", "qdeim", "maxvol"])
def test_more_columns_than_the_later_rank_lessen_noise(method, rng):
    A = decaying(80, 60, float, rng)
    V = np.linalg.svd(A)[2][:6].T
    noise = [amplification(V, ct.select_columns(A, k, rank=6, method=method, rng=0)) for k in (6, 12, 24, 60)]
    assert noise[1] < 0.9 * noise[0] and noise[2] < 0.9 * noise[1] and noise[3] < noise[2]


@pytest.mark.parametrize("select, axis", [(ct.select_columns, 1), (ct.select_rows, 0)])
def test_a_later_rank_keeps_included_and_excluded_candidates(select, axis, rng):
    A = decaying(80, 60, float, rng)
    A = A if axis == 1 else A.T
    chosen = select(A, 20, rank=5, include=[3, 1], exclude=range(30, 60), rng=0)
    assert chosen[:2].tolist() == [3, 1] and max(chosen) < 30 and len(set(chosen.tolist())) == 20


def test_more_columns_than_rows_can_be_chosen_for_a_later_rank(rng):
    assert len(set(ct.select_columns(rng.standard_normal((10, 40)), 25, rank=8, rng=0).tolist())) == 25


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rank": 5}, "rank must be between 1 and 4, got 5"),
        ({"rank": 2, "method": "lupp"}, "rank must be None where method='lupp', which takes k for it, got 2"),
        ({"rank": 2, "weights": np.ones(6)}, "weights must be None where method='osinsky' is given a rank"),
    ],
)
def test_a_later_rank_that_cannot_be_is_refused(options, message, rng):
    with pytest.raises(ValueError, match=message):
        ct.select_columns(rng.standard_normal((8, 6)), 4, **options)
