import numpy as np
import pytest

from oocml.kernels.fm import (
    FeatureBlock,
    fm_accumulate,
    fm_columns,
    fm_scores,
    fm_slopes,
    fm_visit,
    sum_of_losses,
)
from tests.kernels.factored import (
    losses,
    machine,
    problem,
    ridge_of,
    slope_in_numpy,
    step_of,
    sums_of,
    visit_in_numpy,
)


def doubled(block):
    return FeatureBlock(*(array.astype(np.float64) for array in block))


@pytest.mark.parametrize("n_factors", [0, 1, 5, 16, 21])
@pytest.mark.parametrize("logistic", [True, False])
@pytest.mark.parametrize("adagrad", [True, False])
@pytest.mark.parametrize("owns_bias", [True, False])
def test_visit_steps_every_row_with_a_target_in_the_given_order(n_factors, logistic, adagrad, owns_bias):
    X, tile, block = problem(n_factors=n_factors, logistic=logistic)
    step = step_of(eta=0.1 if adagrad else 0.03, adagrad=adagrad, logistic=logistic)
    rng = np.random.default_rng(1)
    rest = rng.normal(size=(9, n_factors + 2)).astype(np.float32)
    bias = np.float32([0.3, 1.5 if adagrad else 1][: 1 + owns_bias])
    order = rng.permutation(9).astype(np.int32)
    expected = visit_in_numpy(X, tile.t, order, rest, block, bias, step)
    before = rest.copy()
    returned = fm_visit(tile, order, rest, block, bias, step)
    assert returned == pytest.approx(expected[4], rel=1e-5)
    for got, wanted in zip((block.V, block.w, block.h, bias), expected[:4], strict=True):
        if got is not block.h or adagrad:
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rest, before)


@pytest.mark.parametrize("logistic", [True, False])
def test_a_large_ridge_shrinks_to_nothing_at_most(logistic):
    X, tile, block = problem(logistic=logistic)
    block.V[:], block.w[:] = 1, 1
    step = step_of(eta=1e-3, l2_linear=1e8, l2_factors=1e8, adagrad=False, logistic=logistic)
    fm_visit(
        tile, np.arange(9, dtype=np.int32), np.zeros((9, 7), np.float32), block, np.float32([0, 1]), step
    )
    assert np.abs(block.V[1:]).max() < 0.05
    assert np.abs(block.w[1:]).max() < 0.05


@pytest.mark.parametrize("logistic", [True, False])
def test_a_plain_step_goes_down_the_gradient_of_the_rows_own_term(logistic):
    X, tile, block = problem(logistic=logistic, n_factors=3)
    step = step_of(eta=1e-2, adagrad=False, logistic=logistic)
    i, w0, start = 4, 0.2, doubled(block)
    bias = np.float32([w0, 1])
    fm_visit(tile, np.array([i], np.int32), np.zeros((9, 5), np.float32), block, bias, step)

    def value(V, w, w0):
        x = X[i : i + 1]
        return losses(machine(x, V, w, w0), tile.t[i], step)[0] + ridge_of(x, V, w, start.share, step)

    def slope(array, place):
        values = []
        for shift in (1e-5, -1e-5):
            array[place] += shift
            values.append(value(start.V, start.w, w0))
            array[place] -= shift
        return (values[0] - values[1]) / 2e-5

    for got, was in ((block.V, start.V), (block.w, start.w)):
        for place in np.ndindex(was.shape):
            assert got[place] - was[place] == pytest.approx(-1e-2 * slope(was, place), rel=1e-3, abs=1e-6)
    of_bias = (value(start.V, start.w, w0 + 1e-5) - value(start.V, start.w, w0 - 1e-5)) / 2e-5
    assert bias[0] - np.float32(w0) == pytest.approx(-1e-2 * of_bias, rel=1e-3)


def test_accumulate_adds_the_sums_and_returns_the_ridge():
    X, tile, block = problem()
    sums, step = np.ones((9, 7), np.float32), step_of()
    ridge = fm_accumulate(tile, block, sums, step)
    np.testing.assert_allclose(sums, 1 + sums_of(X, block.V, block.w), rtol=1e-4, atol=1e-5)
    kept = ~np.isnan(tile.t)
    assert ridge == pytest.approx(ridge_of(X[kept], block.V, block.w, block.share, step), rel=1e-5)


def test_sums_of_tiles_make_up_the_machine():
    X, tile, block = problem(n_factors=4)
    sums, scores = np.zeros((9, 6), np.float32), np.empty(9, np.float32)
    fm_accumulate(tile, block, sums, step_of())
    fm_scores(sums, np.float32(0.7), scores)
    expected = machine(X, block.V.astype(np.float64), block.w, 0.7)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("logistic", [True, False])
def test_slopes_and_losses_of_rows(logistic):
    _, tile, _ = problem(logistic=logistic)
    step, rng = step_of(logistic=logistic), np.random.default_rng(2)
    sums, slopes = (4 * rng.normal(size=(9, 3))).astype(np.float32), np.full(9, 7, np.float32)
    total, loss = fm_slopes(sums, np.float32(0.1), tile.t, slopes, step)
    f = np.float32(0.1) + sums[:, 1] + (sums[:, 0] ** 2 - sums[:, 2]) / 2
    expected = np.where(np.isnan(tile.t), 0, slope_in_numpy(f, tile.t, step))
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-6)
    assert total == pytest.approx(expected.sum(), rel=1e-4)
    kept = ~np.isnan(tile.t)
    assert loss == pytest.approx(losses(f[kept], tile.t[kept], step).sum(), rel=1e-5)


def test_losses_of_extreme_scores_are_finite_and_exact():
    step, rng = step_of(), np.random.default_rng(0)
    scores = np.concatenate([[-1e4, 1e4, 0], 5 * rng.normal(size=3000)]).astype(np.float32)
    t = np.ones(len(scores))
    expected = np.logaddexp(0, -scores.astype(np.float64)).sum()
    assert sum_of_losses(scores, t, step) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("adagrad", [True, False])
@pytest.mark.parametrize("logistic", [True, False])
def test_columns_step_against_their_gradient_over_all_rows(logistic, adagrad):
    X, tile, block = problem(logistic=logistic, n_factors=4)
    step, start = step_of(eta=0.01, logistic=logistic, adagrad=adagrad), doubled(block)
    sums = sums_of(X, start.V, start.w).astype(np.float32)
    slopes = np.empty(9, np.float32)
    fm_slopes(sums, np.float32(0.5), tile.t, slopes, step)
    gradient = np.zeros((6, 4), np.float32)
    fm_columns(tile, block, sums, slopes, gradient, step)
    kept = ~np.isnan(tile.t)

    def value(V, w):
        return losses(machine(X[kept], V, w, 0.5), tile.t[kept], step).sum() + ridge_of(
            X[kept], V, w, start.share, step
        )

    for name, column, got in (("V", 1, block.V), ("w", 0, block.w)):
        was = getattr(start, name)
        slope = np.zeros(was.shape)
        for place in np.ndindex(was.shape):
            values = []
            for shift in (1e-5, -1e-5):
                was[place] += shift
                values.append(value(start.V, start.w))
                was[place] -= shift
            slope[place] = (values[0] - values[1]) / 2e-5
        squares = (slope**2).reshape(6, -1).mean(axis=1)
        rate = 0.01 / np.sqrt(start.h[:, column] + squares) if adagrad else np.full(6, 0.01 / 9)
        expected = was - (rate if slope.ndim == 1 else rate[:, None]) * slope
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert not gradient.any()
