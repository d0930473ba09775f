import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from oocml.metrics.binary import accumulate, merge, scores


@given(st.integers(0, 2**32), st.integers(2, 60), st.floats(0.01, 5), st.integers(0, 60))
def test_batches_add_up_to_the_scores_of_all(seed, n, spread, cut):
    rng = np.random.default_rng(seed)
    f, t = spread * rng.normal(size=n), rng.choice([-1.0, 1.0], n)
    t[:2] = -1, 1
    f[rng.random(n) < 0.3] = f[0]
    got = scores(merge(accumulate(f[:cut], t[:cut]), accumulate(f[cut:], t[cut:])))
    assert got["log_loss"] == pytest.approx(log_loss(t, 1 / (1 + np.exp(-f))), rel=1e-6, abs=1e-9)
    assert got["accuracy"] == pytest.approx(accuracy_score(t, np.where(f > 0, 1, -1)))
    assert abs(got["auc"] - roc_auc_score(t, np.clip(f, -32, 32))) <= got["auc_error"] + 1e-12


def test_the_area_is_nearly_exact_where_scores_differ():
    rng = np.random.default_rng(0)
    t = rng.choice([-1.0, 1.0], 20_000)
    f = t + 2 * rng.normal(size=t.size)
    got = scores(accumulate(f, t))
    assert got["auc"] == pytest.approx(roc_auc_score(t, f), abs=1e-5)
    assert got["auc_error"] < 1e-5


def test_rows_without_one_of_the_labels_are_left_out_and_counted():
    got = scores(accumulate(np.array([1.0, -2, 3]), np.array([1, np.nan, 0.5])))
    assert got["n_unlabelled"] == 2
    assert got["accuracy"] == 1
    assert np.isnan(got["auc"])  # one label alone makes no pair


def test_nothing_scores_nan():
    got = scores(accumulate(np.zeros(0), np.zeros(0)))
    assert all(np.isnan(got[name]) for name in ("log_loss", "accuracy", "auc"))
