import numpy as np
import pytest

from oocml.kernels.robirank_explicit import (
    RankedRows,
    explicit_visit,
    scale_queries,
    squares_within,
)
from tests.models.tiled import csr

SIZES = (1, 7, 130, 2, 40)
N_FEATURES = 6


def ranked(seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    start = np.cumsum([0, *SIZES])
    X = np.round(spread * rng.normal(size=(start[-1], N_FEATURES)), 3) * (
        rng.random((start[-1], N_FEATURES)) < 0.7
    )
    grade = rng.integers(0, 3, start[-1]).astype(float)
    weight = rng.random(len(SIZES))
    weight[3] = 0
    data = RankedRows(csr(X), 2**grade - 1, start, weight, grade, np.arange(len(SIZES)))
    return X.astype(np.float32).astype(np.float64), data


RHO = {
    0: lambda S: S,
    1: lambda S: np.log2(1 + S),
    2: lambda S: 1 - 1 / np.log2(2 + S),
}


def loss(X, data, w, rho):
    """The sum of the queries' losses, by the definition."""
    total, f = 0.0, X @ w
    for x, (lo, hi) in enumerate(zip(data.start[:-1], data.start[1:], strict=True)):
        difference = f[lo:hi, None] - f[None, lo:hi]
        S = (np.logaddexp2(0, -difference) * (1 - np.eye(hi - lo))).sum(axis=1)
        total += data.weight[x] * data.gain[lo:hi] @ RHO[rho](S)
    return total


def visited(data, u, v, steps, rho, goal=None):
    losses, gradient = np.zeros(len(steps)), np.zeros(N_FEATURES)
    goal = rho if goal is None else goal
    told = explicit_visit(data, u, v, np.array(steps), rho, goal, losses, gradient)
    return losses, gradient, *told


@pytest.mark.parametrize("rho", RHO)
@pytest.mark.parametrize("spread", [1.0, 30.0, 3e3])
def test_losses_at_several_steps_are_those_of_the_definition(rho, spread):
    X, data = ranked(spread=spread)
    u, v = np.random.default_rng(1).normal(size=(2, N_FEATURES))
    steps = [0.5, 0.0, 2.0]
    losses, _, of_goal, _ = visited(data, u, v, steps, rho, goal=1)
    np.testing.assert_allclose(losses, [loss(X, data, u + a * v, rho) for a in steps], rtol=1e-12)
    assert of_goal == pytest.approx(loss(X, data, u + 0.5 * v, 1), rel=1e-12)


@pytest.mark.parametrize("rho", RHO)
@pytest.mark.parametrize("spread", [1.0, 3e2])
def test_the_gradient_is_the_derivative_of_the_loss(rho, spread):
    X, data = ranked(spread=spread)
    u, v = np.random.default_rng(1).normal(size=(2, N_FEATURES))
    _, gradient, _, slope = visited(data, u, v, [0.5], rho)
    h = 1e-5 / spread
    at, eye = u + 0.5 * v, np.eye(N_FEATURES)
    found = [(loss(X, data, at + h * e, rho) - loss(X, data, at - h * e, rho)) / (2 * h) for e in eye]
    np.testing.assert_allclose(gradient, found, rtol=1e-5, atol=1e-6 * np.abs(found).max())
    assert slope == pytest.approx(gradient @ v, rel=1e-9)


def test_rho_2_is_above_minus_the_dcg():
    X, data = ranked()
    data = data._replace(weight=np.ones(len(SIZES)))
    for seed in range(20):
        w = np.random.default_rng(seed).normal(size=N_FEATURES) * 10.0 ** (seed % 4 - 2)
        f, dcg = X @ w, 0.0
        for lo, hi in zip(data.start[:-1], data.start[1:], strict=True):
            rank = (f[lo:hi, None] < f[None, lo:hi]).sum(axis=1)
            dcg += data.gain[lo:hi] @ (1 / np.log2(rank + 2))
        losses = visited(data, w, np.zeros(N_FEATURES), [0.0], 2)[0]
        assert losses[0] >= data.gain.sum() - dcg - 1e-9


def test_queries_without_weight_and_single_rows_push_nothing():
    _, data = ranked()
    alone = data._replace(weight=np.array([1.0, 0, 0, 0, 0]))
    losses, gradient, _, _ = visited(alone, np.ones(N_FEATURES), np.zeros(N_FEATURES), [0.0], 1)
    assert losses[0] == 0
    assert not gradient.any()


def test_scaled_queries_have_features_of_range_one_and_the_same_order():
    X, data = ranked()
    X[:, 2] = 5.0
    start, scaled = data.start, csr(X)
    scale_queries(scaled, start, N_FEATURES)
    dense = np.zeros_like(X)
    dense[np.repeat(np.arange(len(X)), np.diff(scaled.indptr)), scaled.indices] = scaled.data
    for lo, hi in zip(start[:-1], start[1:], strict=True):
        before, after = X[lo:hi], dense[lo:hi]
        spread = np.ptp(before, axis=0)
        expected = np.divide(before, spread, out=np.zeros_like(before), where=spread > 0)
        np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_squares_are_about_the_means_of_queries():
    X, data = ranked()
    X[:, 1] = 0.1
    X = X.astype(np.float32).astype(np.float64)
    squares = np.zeros(N_FEATURES)
    squares_within(csr(X), data.start, squares)
    blocks = [X[lo:hi] for lo, hi in zip(data.start[:-1], data.start[1:], strict=True)]
    expected = sum(((block - block.mean(axis=0)) ** 2).sum(axis=0) for block in blocks)
    np.testing.assert_allclose(squares, np.where(np.arange(N_FEATURES) == 1, 0, expected), rtol=1e-10)
