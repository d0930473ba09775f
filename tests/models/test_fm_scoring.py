import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from tests.models.machines import output, planted, training
from tests.models.tiled import csr, scored


def fitted(classify, **settings):
    X, y = planted(n_rows=500, classify=classify)
    return X, y, training(X[:400], y[:400], **settings).run(6)


@pytest.mark.parametrize("settings", [{}, {"weighted_l2": False}, {"n_factors": 0}, {"solver": "dsfacto"}])
@pytest.mark.parametrize("classify", [True, False])
def test_objective_of_the_training_data_is_the_final_one(classify, settings):
    X, y, run = fitted(classify, **settings)
    scores, _ = scored(run, csr(X[:400]), y[:400], batches=(30, 31))
    assert scores["objective"] == pytest.approx(run.finals[0].objective, rel=1e-5)


def test_classifier_metrics_are_those_of_its_log_odds():
    X, y, run = fitted(True)
    scores, outputs = scored(run, csr(X[:400]), y[:400], batches=(100,))
    f = output(run, X[:400])
    assert scores["accuracy"] == pytest.approx(accuracy_score(y[:400] == 7, f > 0))
    assert scores["log_loss"] == pytest.approx(log_loss(y[:400] == 7, 1 / (1 + np.exp(-f))), rel=1e-5)
    assert scores["auc"] == pytest.approx(roc_auc_score(y[:400] == 7, f), abs=1e-4)
    labels = np.concatenate([out["labels"] for out in outputs])
    probability = np.concatenate([out["scores"] for out in outputs])
    np.testing.assert_array_equal(labels[:, 0], np.where(f > 0, 7, 2))
    np.testing.assert_array_equal(labels.sum(axis=1), 9)
    np.testing.assert_allclose(probability[:, 0], 1 / (1 + np.exp(-np.abs(f))), rtol=1e-4)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-6)


def test_the_likelier_label_alone():
    X, y, run = fitted(True)
    _, outputs = scored(run, csr(X[:9]), y[:9], top=1)
    assert outputs[0]["labels"].shape == outputs[0]["scores"].shape == (9, 1)
    assert (outputs[0]["scores"] >= 0.5).all()


def test_numbers_are_predicted_in_their_units_and_range():
    X, y, run = fitted(False)
    scores, outputs = scored(run, csr(X[:400]), y[:400])
    center, scale, lowest, highest = run.state["target", 0, 0]
    expected = np.clip(center + scale * output(run, X[:400]), lowest, highest)
    np.testing.assert_allclose(outputs[0]["values"], expected, rtol=1e-4)
    assert scores["rmse"] == pytest.approx(np.sqrt(((expected - y[:400]) ** 2).mean()), rel=1e-4)
    assert scores["mae"] == pytest.approx(np.abs(expected - y[:400]).mean(), rel=1e-4)
    wild = np.full((2, 25), 1e6, np.float32)
    values = scored(run, csr(wild), np.zeros(2))[1][0]["values"]
    assert ((values >= lowest) & (values <= highest)).all()


def test_labels_the_training_never_saw_are_left_out_and_counted():
    X, y, run = fitted(True)
    asked = y[400:].copy()
    asked[:10], asked[10:15] = 5, np.nan
    scores, _ = scored(run, csr(X[400:]), asked)
    kept, _ = scored(run, csr(X[415:]), y[415:])
    assert scores["n_unlabelled"] == 15
    assert scores["accuracy"] == kept["accuracy"]
    assert scores["objective"] == pytest.approx(kept["objective"], rel=1e-5)


def test_rows_that_cannot_be_judged_are_still_predicted():
    X, y, run = fitted(False)
    scores, outputs = scored(run, csr(X[:5]), np.full(5, np.nan))
    assert np.isnan(scores["rmse"])
    assert np.isfinite(outputs[0]["values"]).all()
