import numpy as np
import pytest

from oocml.kernels.mlr_finish import (
    mlr_center,
    mlr_class_sums,
    mlr_finish_rows,
    mlr_losses_before,
    mlr_row_scales,
)
from tests.kernels.labelled import labelled_rows


def test_stochastic_log_a_moves_towards_the_exact_one_and_rests_there():
    lse = np.array([[[0.0, 8.0], [0.0, 0.1]]], np.float32)
    exact = -np.log(lse[0, :, 1])
    log_a = np.zeros(2, np.float32)
    gaps = []
    for _ in range(60):
        mlr_finish_rows(lse.copy(), log_a, np.float32(0.5))
        gaps.append(np.abs(log_a - exact))
    assert (np.diff(gaps, axis=0) <= 1e-6).all()
    np.testing.assert_allclose(log_a, exact, atol=1e-3)


def test_row_scales_and_their_histogram():
    rng = np.random.default_rng(5)
    rows, X, T = labelled_rows(rng)
    rates = rng.uniform(0.5, 2, (X.shape[1], 2)).astype(np.float32)
    some = np.flatnonzero(T.sum(axis=1) > 0)[::2]
    histogram = np.zeros(4096)
    mlr_row_scales(rows, some, rates, np.float32(1), histogram)
    bins = (16 * np.log2(X[some] ** 2 @ rates[:, 0] + 1)).astype(int) + 2048
    np.testing.assert_allclose(histogram, np.bincount(bins, minlength=4096), atol=1)
    assert histogram.sum() == len(some) < len(X)


def test_centering_takes_the_class_means_out():
    W = np.random.default_rng(6).normal(size=(5, 8)).astype(np.float32)
    w_sum = np.zeros(5, np.float32)
    assert mlr_class_sums(W, w_sum) == pytest.approx((W**2).sum(), rel=1e-6)
    np.testing.assert_allclose(w_sum, W.sum(axis=1), rtol=1e-5)
    centered = W - w_sum[:, None] / 8
    assert mlr_center(W, w_sum / 8) == pytest.approx((centered**2).sum(), rel=1e-5)
    np.testing.assert_allclose(W, centered, atol=1e-6)


def test_losses_before_add_up_over_stripes_and_skip_rows_that_none_visited():
    lse = np.zeros((2, 3, 3), np.float32)
    lse[:, :2, 1] = 1
    lse[:, 0, 2], lse[:, 1, 2] = (2.0, 3.0), (0.5, 0.5)
    log_a = np.array([0.25, -1.0, 9.0], np.float32)
    assert mlr_losses_before(lse, log_a) == pytest.approx(np.log(5) - 0.25 + 1.0)
