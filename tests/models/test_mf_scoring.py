import numpy as np
import pytest

from oocml.models.mf import MF
from tests.models.test_mf import planted, standardised, training
from tests.models.tiled import csr, scored


@pytest.fixture(scope="module")
def run():
    R, known = planted()
    known[11], known[:, 6] = False, False
    return training(R, known).run(5)


def predicted(run):
    center, scale, lowest, highest = run.state["target", 0, 0]
    return np.clip(center + scale * standardised(run)[0], lowest, highest)


def held_out():
    R, known = planted()
    fresh = np.random.default_rng(1).random(R.shape) < 0.1
    fresh[3] = False
    return R, fresh & ~known


def test_errors_are_those_of_the_predictions_for_the_given_ratings(run):
    R, asked = held_out()
    asked[11] = asked[:, 6] = False
    scores, outputs = scored(run, csr(R, asked), batches=(20, 21))
    error = (predicted(run) - R)[asked]
    assert scores["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert scores["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    rows, cols = asked.nonzero()
    offset = np.repeat([0, 20, 21], [len(output["rows"]) for output in outputs])
    np.testing.assert_array_equal(np.concatenate([output["rows"] for output in outputs]) + offset, rows)
    np.testing.assert_array_equal(np.concatenate([output["columns"] for output in outputs]), cols)
    values = np.concatenate([output["values"] for output in outputs])
    np.testing.assert_allclose(values, predicted(run)[asked], rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"weighted_l2": False}, {"biases": False}, {"step": "nomad"}])
def test_objective_of_the_training_data_is_the_final_one(settings):
    R, known = planted()
    run = training(R, known, **settings).run(2)
    scores, _ = scored(run, csr(R, known))
    assert scores["objective"] == pytest.approx(run.finals[0].objective, rel=1e-5)


def test_unknown_rows_and_columns_are_predicted_from_the_known_part(run):
    R, asked = held_out()
    asked[:] = False
    asked[[0, 11, 20], 6] = asked[[0, 11, 20], 2] = True
    rows = np.arange(60)
    rows[20] = -1
    _, outputs = scored(run, csr(R, asked), rows=rows)
    center, scale, lowest, highest = run.state["target", 0, 0]
    b, c = run.joined("row_bias"), run.joined("col_bias")
    expected = [predicted(run)[0, 2], center + scale * b[0], *[center + scale * c[2], center] * 2]
    np.testing.assert_allclose(outputs[0]["values"], np.clip(expected, lowest, highest), rtol=1e-5)
    assert b[11] == 0


def test_rankings_hold_each_rows_best_unseen_columns(run):
    R, _ = planted()
    _, outputs = scored(run, csr(R, np.zeros(R.shape, bool)), top=5)
    center, scale = run.state["target", 0, 0][:2]
    seen = np.zeros(R.shape, bool)
    X = run.panel.X
    seen[np.repeat(np.arange(60), np.diff(X.indptr)), X.indices] = True
    value = center + scale * standardised(run)[0]
    value[11] = center + scale * run.joined("col_bias")
    value[seen] = -np.inf
    expected = np.argsort(-value, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(outputs[0]["columns"], expected)
    lowest, highest = run.state["target", 0, 0][2:]
    np.testing.assert_allclose(
        outputs[0]["scores"], np.clip(np.take_along_axis(value, expected, 1), lowest, highest), rtol=1e-4
    )


def test_rows_that_have_seen_almost_everything_get_short_rankings():
    R, known = planted(n_cols=12)
    known[2] = np.arange(12) != 4
    run = training(R, known, n_factors=2).run(1)
    _, outputs = scored(run, csr(R, np.zeros(R.shape, bool)), top=3)
    np.testing.assert_array_equal(outputs[0]["columns"][2], [4, -1, -1])
    assert np.isnan(outputs[0]["scores"][2, 1:]).all()


def test_nothing_asked_gives_no_scores():
    R, known = planted()
    run = training(R, known).run(1)
    scores, outputs = scored(run, csr(R, np.zeros(R.shape, bool)))
    assert all(np.isnan(value) for value in scores.values())
    assert [len(values) for values in outputs[0].values()] == [0, 0, 0]


def test_seen_entries_are_asked_for_only_where_rankings_are_made():
    R, known = planted()
    problem = training(R, known).problem
    assert not MF().scoring(problem, 0).seen
    assert MF().scoring(problem, 10).seen
