import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from oocml.metrics.directions import higher_is_better
from oocml.metrics.recommendation import NAMES, accumulate, merge, scores


def users(seed, n_users, n_items=40):
    """Scores, and which items are wanted; the first user wants none."""
    rng = np.random.default_rng(seed)
    S, wanted = rng.normal(size=(n_users, n_items)), rng.random((n_users, n_items)) < rng.uniform(0.05, 0.7)
    wanted[:, -1] = False
    wanted[0] = False
    return S, wanted


def counted(S, wanted):
    above, n_wanted = [], wanted.sum(axis=1)
    for s, w in zip(S, wanted, strict=True):
        above += [int((s[~w] >= score).sum()) for score in np.sort(s[w])]
    n_others = wanted.shape[1] - n_wanted
    return accumulate(np.concatenate([[0], np.cumsum(n_wanted)]), np.array(above, np.int64), n_others)


def by_hand(s, w):
    order = np.argsort(-s)
    hits, m = w[order], w.sum()
    gains = 1 / np.log2(np.arange(len(s)) + 2)
    found = {f"precision_at_{k}": hits[:k].sum() / k for k in (1, 10)}
    found |= {f"recall_at_{k}": hits[:k].sum() / m for k in (10, 20)}
    found |= {f"ndcg_at_{k}": (hits * gains)[:k].sum() / gains[: min(m, k)].sum() for k in (10, 20)}
    return found | {"map": average_precision_score(w, s), "auc": roc_auc_score(w, s)}


@given(st.integers(0, 2**32), st.integers(2, 8), st.integers(0, 8))
def test_batches_add_up_to_the_mean_over_users(seed, n_users, cut):
    S, wanted = users(seed, n_users)
    wanted[1, 0] = True
    got = scores(merge(counted(S[:cut], wanted[:cut]), counted(S[cut:], wanted[cut:])))
    each = [by_hand(s, w) for s, w in zip(S, wanted, strict=True) if w.any()]
    for name in NAMES:
        assert got[name] == pytest.approx(np.mean([one[name] for one in each])), name


def test_ndcg_is_that_of_scikit_learn():
    S, wanted = users(3, 30)
    some = wanted.any(axis=1)
    expected = ndcg_score(wanted[some], S[some], k=10)
    assert scores(counted(S, wanted))["ndcg_at_10"] == pytest.approx(expected)


def test_ties_are_ranked_worst_first():
    got = scores(counted(np.zeros((1, 5)), np.array([[True, False, False, False, False]])))
    assert got["auc"] == 0
    assert got["precision_at_1"] == 0
    assert got["map"] == pytest.approx(1 / 5)


def test_nobody_who_wants_anything_scores_nan():
    got = scores(counted(np.zeros((2, 3)), np.zeros((2, 3), bool)))
    assert all(np.isnan(value) for value in got.values())


def test_all_of_them_are_better_when_higher():
    assert all(higher_is_better(name) for name in NAMES)
