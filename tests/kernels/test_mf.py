import numpy as np
import pytest

from oocml.kernels.mf import Side, mf_column_ridge, mf_measure, mf_moments, mf_visit
from tests.kernels.rated import csr, doubled, objective, problem, step_of, visit_in_numpy

STEPS = [
    {},
    {"adagrad": False},
    {"weighted": False},
    {"floor": 0.0},
    {"adagrad": False, "weighted": False, "floor": 0.0},
    {"biases": False},
    {"biases": False, "adagrad": False},
    {"adagrad": False, "weighted": False, "l2": 80.0},
]


@pytest.mark.parametrize("n_factors", [1, 5, 16, 35])
@pytest.mark.parametrize("settings", STEPS)
def test_visit_is_one_step_per_rating_in_the_given_order(settings, n_factors):
    tile, _, rows, cols = problem(n_factors=n_factors)
    step = step_of(**settings)
    if not step.biases:
        rows.b[:], cols.b[:] = 0, 0
    order = np.random.default_rng(1).permutation(np.arange(1, 9)).astype(np.int32)
    expected_rows, expected_cols, expected_loss = visit_in_numpy(tile, order, rows, cols, step)
    loss, ridge = mf_visit(tile, order, rows, cols, step)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for got, expected in ((rows, expected_rows), (cols, expected_cols)):
        # sums of squared gradients mean nothing to plain steps
        n_compared = 4 if step.adagrad else 2
        for a, b in list(zip(got, expected, strict=True))[:n_compared]:
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    assert ridge == pytest.approx(objective(tile, doubled(rows), doubled(cols), step)[1], rel=1e-5)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_plain_step_goes_down_the_gradient_of_the_ratings_own_term(weighted):
    R, present = np.full((1, 1), 4.0), np.full((1, 1), True)
    tile = csr(R, present)
    rng = np.random.default_rng(0)
    sides = [
        Side(rng.normal(size=(1, 3)), rng.normal(size=1), np.ones((1, 2)), np.full(1, 5.0)) for _ in range(2)
    ]
    step = step_of(eta=1e-2, adagrad=False, weighted=weighted)
    moved = [Side(*(array.astype(np.float32) for array in side)) for side in sides]
    mf_visit(tile, np.zeros(1, np.int32), *moved, step)
    for s in range(2):
        for field in range(2):
            flat = sides[s][field].reshape(-1)
            for k in range(len(flat)):
                original, values = flat[k], []
                for shift in (1e-5, -1e-5):
                    flat[k] = original + shift
                    values.append(sum(objective(tile, *sides, step)))
                flat[k] = original
                slope = (values[0] - values[1]) / 2e-5
                change = moved[s][field].reshape(-1)[k] - original
                assert change == pytest.approx(-1e-2 * slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("weighted", [True, False])
def test_measure_scores_ratings_and_sums_their_terms(weighted):
    tile, present, rows, cols = problem(seed=2)
    step, predicted = step_of(weighted=weighted), np.empty(len(tile.data), np.float32)
    loss, *ridges = objective(tile, doubled(rows), doubled(cols), step)
    assert mf_measure(tile, rows, cols, step, predicted) == pytest.approx((loss, sum(ridges)), rel=1e-5)
    np.testing.assert_allclose(
        predicted, (rows.b[:, None] + cols.b + rows.F @ cols.F.T)[present], rtol=1e-4, atol=1e-5
    )
    assert mf_column_ridge(cols, step) == pytest.approx(ridges[1], rel=1e-5)


def test_unrated_rows_and_columns_are_left_alone():
    tile, _, rows, cols = problem()
    before = rows.F[0].copy(), cols.F[0].copy()
    mf_visit(tile, np.arange(9, dtype=np.int32), rows, cols, step_of(weighted=False))
    np.testing.assert_array_equal(rows.F[0], before[0])
    np.testing.assert_array_equal(cols.F[0], before[1])


def test_moments_add_up_over_tiles():
    tile, present, _, _ = problem()
    count, extremes = np.full(9, 2, np.float32), np.tile(np.float32([2.5, 3.5]), (7, 1))
    tile.data[0] = -1
    total, squares, n_negative = mf_moments(tile, count, extremes)
    np.testing.assert_array_equal(count, 2 + present.sum(axis=1))
    assert total == tile.data.sum()
    assert squares == (tile.data**2).sum()
    assert n_negative == 1
    for j in range(7):
        values = tile.data[tile.indices == j]
        assert extremes[j, 0] == min(2.5, *values, 9)
        assert extremes[j, 1] == max(3.5, *values, 0)
