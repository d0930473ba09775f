import numpy as np
import pytest

from oocml.models.fm import FM
from tests.kernels.factored import machine
from tests.models.machines import objective, planted, scaled, training
from tests.models.tiled import begin, csr


def dsfacto(X, y, **settings):
    return training(X, y, **({"solver": "dsfacto"} | settings))


def parameters(run):
    return [run.joined(name).astype(np.float64) for name in ("V", "w")] + [float(run.state["w0", 0, 0][0])]


def by_definition(run, X, t, V, w, w0, eta, two_pass):
    """One epoch of plain steps: the slide's updates tile by tile, from sums and slopes of the epoch's start."""
    A, f = X @ V, machine(X, V, w, w0)
    G = -t / (1 + np.exp(t * f))
    fresh = np.zeros((len(X), V.shape[1] + 2))
    linear, factors = 0.1 * 0.03, 0.03
    V, w = V.copy(), w.copy()

    def gather(rows, cols):
        x = X[rows][:, cols]
        squares = x**2 @ (V[cols] ** 2).sum(axis=1)
        fresh[rows] += np.hstack([x @ V[cols], (x @ w[cols])[:, None], squares[:, None]])

    tiles = [(slice(*r), slice(*c)) for c in run.cols for r in run.rows]
    for rows, cols in tiles:
        x, g = X[rows][:, cols], G[rows]
        n, count = len(x), (x != 0).sum(axis=0)
        dw = x.T @ g + linear * count * w[cols]
        dV = x.T @ (g[:, None] * A[rows]) + (factors * count - (x**2).T @ g)[:, None] * V[cols]
        w[cols] -= eta / n * dw
        V[cols] -= eta / n * dV
        if not two_pass:
            gather(rows, cols)
    if two_pass:
        for rows, cols in tiles:
            gather(rows, cols)
    for rows in run.rows:  # each block's move of the intercept reaches the next one
        sums, sign = fresh[slice(*rows)], t[slice(*rows)]
        f = w0 + sums[:, -2] + ((sums[:, :-2] ** 2).sum(axis=1) - sums[:, -1]) / 2
        w0 += min(1, eta) * (sign / (1 + np.exp(sign * f))).sum() / len(t) / 0.25
    return V, w, w0, fresh


@pytest.mark.parametrize("tour", ["fused", "two_pass"])
def test_an_epoch_is_that_of_the_definition(tour):
    X, y = planted()
    run = dsfacto(X, y, step="constant", learning_rate=0.2, tour=tour)
    start = parameters(run)
    run.run(1)
    # the first synchronisation takes no step of features, and none of the intercept (its rate is 0)
    V, w, w0, fresh = by_definition(run, scaled(X), np.where(y == 7, 1, -1), *start, 0.2, tour == "two_pass")
    np.testing.assert_allclose(run.joined("V"), V, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(run.joined("w"), w, rtol=1e-3, atol=1e-5)
    assert run.state["w0", 0, 0][0] == pytest.approx(w0, rel=1e-3)
    np.testing.assert_allclose(run.joined("total"), fresh, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.parametrize("settings", [{}, {"tour": "two_pass"}, {"step": "constant"}, {"step": "nomad"}])
def test_epochs_lower_the_objective_and_the_final_one_is_exact(settings, classify):
    X, y = planted(classify=classify)
    run = dsfacto(X, y, **settings).run(15)
    assert run.finals[0].objective == pytest.approx(objective(run, X, y), rel=1e-5)
    assert run.finals[0].objective < run.epochs[0].objective
    assert [epoch.number for epoch in run.epochs] == list(range(1, 16))


def test_both_tours_are_one_with_a_single_row_block():
    X, y = planted()
    runs = [
        begin(FM(), csr(X), 25, y, blocks=(1, 3), solver="dsfacto", tour=tour, n_factors=3).run(4)
        for tour in ("fused", "two_pass")
    ]
    np.testing.assert_array_equal(runs[0].joined("V"), runs[1].joined("V"))


def test_a_second_segment_goes_on():
    X, y = planted()
    run = dsfacto(X, y)
    run.stop_at = 2
    run.run(4, 3)
    assert [epoch.number for epoch in run.epochs] == [1, 2, 3, 4, 5]
    assert len(run.finals) == 2
