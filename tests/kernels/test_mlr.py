from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq

from oocml.kernels.mlr import ClassBlock, Step, implicit_residual, mlr_rank, mlr_scores, mlr_visit
from oocml.kernels.mlr_finish import (
    mlr_finish_rows,
    mlr_losses_before,
    mlr_shift_rows,
)
from tests.kernels.labelled import empty_lse, labelled_rows, log_sum_exp, work


def capped_root(rhs, q):
    """The root of u + q exp(u) = rhs, or 0 where that is positive."""
    if rhs >= q:
        return 0.0
    return brentq(lambda u: u + q * np.exp(u) - rhs, rhs - q, 0.0, xtol=1e-12)


def visit_in_numpy(X, T, order, log_a, W, c, d, decay, eta, d_intercept):
    """The visit as its docstring has it, row by row in float64."""
    W, c = W.copy(), c.copy()
    lse, before, fit = np.full(len(X), -np.inf), np.full(len(X), -np.inf), 0.0
    for i in order:
        if T[i].sum() == 0:
            continue
        z = X[i] @ W + c
        before[i], fit = log_sum_exp(z[None])[0], fit + T[i] @ z
        p = np.exp(np.minimum(z + log_a[i], 0))
        keep = np.where(X[i] != 0, 1 / (1 + eta * decay), 1)
        q = eta * (X[i] ** 2 @ (d * keep) + d_intercept)
        g = -p / (1 + q * p)
        for k in np.flatnonzero(T[i]):
            g[k] = T[i, k] - np.exp(capped_root(z[k] + log_a[i] + q * T[i, k], q))
        z = z + q * g
        W = keep[:, None] * (W + eta * np.outer(d * X[i], g))
        c += d_intercept * eta * g
        lse[i] = log_sum_exp(z[None])[0]
    return W, c, lse, before, fit


def state_of(rng, X, n_classes):
    n_rows, n_features = X.shape
    d = rng.uniform(0.5, 2, n_features)
    W = rng.normal(size=(n_features, n_classes))
    c = rng.normal(size=n_classes)
    log_a = -log_sum_exp(X @ W + c) + rng.normal(size=n_rows) * 0.3
    return W, c, log_a, d, rng.uniform(0, 0.2, n_features)


def run_visit(rows, order, W, c, log_a, d, decay, eta, d_intercept, bounds):
    """The kernel on class blocks with the given bounds; returns W, c, lse, fit."""
    f32 = np.float32
    step = Step(np.stack([d, decay], axis=1).astype(f32), f32(eta), f32(d_intercept))
    lse, fit, blocks = empty_lse(len(log_a)), 0.0, []
    for lo, hi in pairwise(bounds):
        block = ClassBlock(W[:, lo:hi].astype(f32, order="C"), c[lo:hi].astype(f32), lo)
        fit += mlr_visit(rows, order, log_a.astype(f32), block, lse, step, work())
        blocks.append(block)
    return np.hstack([b.W for b in blocks]), np.concatenate([b.intercept for b in blocks]), lse, fit


@pytest.mark.parametrize(
    ("n_classes", "bounds"), [(7, (0, 7)), (7, (0, 1, 3, 7)), (1, (0, 1)), (1100, (0, 1100))]
)
def test_visit_agrees_with_numpy(n_classes, bounds):
    rng = np.random.default_rng(n_classes)
    rows, X, T = labelled_rows(rng, n_classes=n_classes)
    W, c, log_a, d, decay = state_of(rng, X, n_classes)
    order = rng.permutation(len(X))
    expected = visit_in_numpy(X, T, order, log_a, W, c, d, decay, 0.3, 1.0)
    W, c, lse, fit = run_visit(rows, order, W, c, log_a, d, decay, 0.3, 1.0, bounds)
    labelled = T.sum(axis=1) > 0
    np.testing.assert_allclose(W, expected[0], atol=2e-5)
    np.testing.assert_allclose(c, expected[1], atol=2e-5)
    np.testing.assert_allclose(lse[labelled, 0] + np.log(lse[labelled, 1]), expected[2][labelled], atol=1e-5)
    before = expected[3][labelled]
    np.testing.assert_allclose(np.log(lse[labelled, 2]) - log_a[labelled], before, atol=1e-5)
    losses = mlr_losses_before(lse[None], log_a.astype(np.float32))
    assert losses == pytest.approx(before.sum(), abs=1e-3)
    assert fit == pytest.approx(expected[4], abs=1e-3)


def test_visit_does_not_depend_on_the_cut_of_the_classes():
    rng = np.random.default_rng(0)
    rows, X, _ = labelled_rows(rng, n_classes=600, max_labels=20)
    given = state_of(rng, X, 600)
    order = rng.permutation(len(X))
    whole = run_visit(rows, order, *given, 0.5, 1.0, (0, 600))
    cut = run_visit(rows, order, *given, 0.5, 1.0, (0, 17, 512, 590, 600))
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_rows_without_labels_change_nothing():
    rng = np.random.default_rng(1)
    rows, X, _ = labelled_rows(rng)
    W, c, log_a, d, decay = state_of(rng, X, 7)
    after, _, lse, fit = run_visit(rows, np.array([1]), W, c, log_a, d, decay, 1.0, 1.0, (0, 7))
    np.testing.assert_array_equal(after, W.astype(np.float32))
    assert fit == 0
    assert (lse[:, 1] == 0).all()


@pytest.mark.parametrize("size", [400.0, 1e4])
def test_visit_of_huge_scores_stays_finite(size):
    rng = np.random.default_rng(2)
    rows, X, _ = labelled_rows(rng)
    W, c, log_a, d, decay = state_of(rng, X, 7)
    W *= size
    for eta in (1e-3, 1.0, 1e3):
        W, c, lse, fit = run_visit(rows, np.arange(len(X)), W, c, log_a, d, decay, eta, 1.0, (0, 3, 7))
        assert np.isfinite(W).all()
        assert np.isfinite(lse).all()
        assert np.isfinite(fit)


def test_a_non_finite_weight_is_seen_in_the_loss():
    rng = np.random.default_rng(3)
    rows, X, _ = labelled_rows(rng)
    W = rng.normal(size=(12, 7)).astype(np.float32)
    W[3, 2] = np.nan
    lse = empty_lse(len(X))
    mlr_scores(rows, ClassBlock(W, np.zeros(7, np.float32), 0), lse, work())
    assert np.isnan(mlr_finish_rows(lse[None], np.zeros(len(X), np.float32), np.float32(0)))


@pytest.mark.parametrize("t", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("q", [1e-4, 1.0, 100.0, 1e5])
def test_implicit_residual_solves_its_equation(q, t):
    for z in (-60.0, -20.0, -5.0, -0.5, 0.0, 0.7, 3.0, 50.0):
        g = implicit_residual(np.float32(z), np.float32(q), np.float32(t))
        assert g == pytest.approx(t - np.exp(capped_root(z + q * t, q)), abs=2e-6)


def test_scores_rank_and_finish_agree_with_numpy():
    rng = np.random.default_rng(4)
    rows, X, T = labelled_rows(rng, n_classes=9)
    W, c = rng.normal(size=(12, 9)), rng.normal(size=9)
    Z = X @ W + c
    parts, fit = np.stack([empty_lse(len(X)) for _ in range(2)]), 0.0
    ids, best = np.full((len(X), 3), -1, np.int64), np.zeros((len(X), 3), np.float32)
    lse_all, fit_all = empty_lse(len(X)), np.zeros(len(X))
    for s, (lo, hi) in enumerate([(0, 4), (4, 9)]):
        block = ClassBlock(W[:, lo:hi].astype(np.float32, order="C"), c[lo:hi].astype(np.float32), lo)
        fit += mlr_scores(rows, block, parts[s], work())
        mlr_rank(rows, block, ids, best, lse_all, fit_all, work())
    labelled = T.sum(axis=1) > 0
    log_a = np.zeros(len(X), np.float32)
    total = mlr_finish_rows(parts, log_a, np.float32(0))
    assert fit == pytest.approx((T * Z).sum(), rel=1e-5)
    assert total == pytest.approx(log_sum_exp(Z)[labelled].sum(), rel=1e-6)
    np.testing.assert_allclose(log_a[labelled], -log_sum_exp(Z)[labelled], rtol=1e-5)
    assert log_a[1] == 0
    np.testing.assert_array_equal(ids, np.argsort(-Z, axis=1)[:, :3])
    np.testing.assert_allclose(fit_all, (T * Z).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(lse_all[:, 0] + np.log(lse_all[:, 1]), log_sum_exp(Z), rtol=1e-5)


def test_a_mean_just_taken_out_leaves_updates_and_losses_as_they_were():
    rng = np.random.default_rng(7)
    rows, X, _ = labelled_rows(rng)
    W, c, log_a, d, decay = (a.astype(np.float32) for a in state_of(rng, X, 7))
    decay[:] = 0  # what is shrunk depends on where the mean is
    rates = np.stack([d, decay], axis=1)
    mean = rng.normal(size=len(W)).astype(np.float32)
    step, order = Step(rates, np.float32(0.3), np.float32(1)), rng.permutation(len(X))
    found = []
    for taken in (0 * mean, mean):
        block, lse, a = ClassBlock(W - taken[:, None], c.copy(), 0), empty_lse(len(X)), log_a.copy()
        mlr_shift_rows(rows, taken, a)
        fit = mlr_visit(rows, order, a, block, lse, step, work())
        loss = mlr_losses_before(lse[None], a) - fit
        found.append((block.W + taken[:, None], block.intercept, loss))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
