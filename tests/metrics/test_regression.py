import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error

from oocml.metrics.regression import accumulate, merge, scores


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(0, 30))
def test_batches_add_up_to_the_errors_of_all(seed, n, cut):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.normal(size=(2, n)).astype(np.float32)
    cut = min(cut, n)
    got = scores(merge(accumulate(predicted[:cut], truth[:cut]), accumulate(predicted[cut:], truth[cut:])))
    assert got["rmse"] == pytest.approx(mean_squared_error(truth, predicted) ** 0.5, rel=1e-5)
    assert got["mae"] == pytest.approx(mean_absolute_error(truth, predicted), rel=1e-5)


def test_unknown_truths_are_left_out_and_nothing_scores_nan():
    errors = accumulate(np.array([1.0, 5.0]), np.array([3.0, np.nan]))
    assert errors == (1, 4.0, 2.0)
    assert all(np.isnan(value) for value in scores(accumulate(np.zeros(0), np.zeros(0))).values())
