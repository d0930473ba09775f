import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import PolynomialFeatures

from oocml.errors import InputError, UsageError
from oocml.models.poly import Poly
from tests.models.machines import planted, scaled
from tests.models.tiled import begin, csr, scored

PAIRS = PolynomialFeatures(2, interaction_only=True, include_bias=False)


def training(X, y, **settings):
    return begin(Poly(), csr(X), X.shape[1], y, **settings)


def small(classify):
    return planted(n_rows=120, n_cols=6, classify=classify)


def objective(X, t, weights, intercept, l2, classify):
    f = PAIRS.fit_transform(X) @ weights + intercept
    losses = np.logaddexp(0, -t * f) if classify else (f - t) ** 2 / 2
    return losses.mean() + l2 / 2 * weights @ weights


@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.parametrize("blocks", [(1, 1), (3, 4)])
def test_training_reaches_the_optimum(classify, blocks):
    X, y = small(classify)
    l2, features = 0.01, PAIRS.fit_transform(scaled(X))
    run = training(X, y, blocks=blocks, l2=l2).run(400)
    if classify:
        t = np.where(y == 7, 1, -1)
        best = LogisticRegression(C=1 / (len(y) * l2), tol=1e-10, max_iter=2000).fit(features, t)
        weights, intercept = best.coef_[0], best.intercept_[0]
    else:
        t = (y - y.mean()) / y.std()
        best = Ridge(alpha=len(y) * l2).fit(features, t)
        weights, intercept = best.coef_, best.intercept_
    optimum = objective(scaled(X), t, weights, intercept, l2, classify)
    assert optimum - 1e-6 <= run.finals[0].objective < optimum * 1.0005
    np.testing.assert_allclose(run.joined("w"), weights[:6], atol=0.02)
    mine = [run.joined("W")[j, k] for k in range(6) for j in range(k + 1, 6)]
    np.testing.assert_allclose(mine, weights[6:], atol=0.02)
    assert run.state["w0", 0, 0][0] == pytest.approx(intercept, abs=0.02)


def test_a_second_segment_starts_where_the_first_ended():
    X, y = small(True)
    run = training(X, y).run(40, 1)
    assert run.finals[1].objective < run.finals[0].objective
    assert run.finals[1].objective == pytest.approx(run.finals[0].objective, rel=0.01)


@pytest.mark.parametrize("classify", [True, False])
def test_scores_are_those_of_the_exported_weights(classify):
    X, y = small(classify)
    run = training(X, y).run(30)
    scores, outputs = scored(run, csr(X), y, batches=(50,))
    assert scores["objective"] == pytest.approx(run.finals[0].objective, rel=1e-5)
    if not classify:
        values = np.concatenate([out["values"] for out in outputs])
        assert scores["rmse"] == pytest.approx(np.sqrt(((values - y) ** 2).mean()), rel=1e-6)
        assert np.corrcoef(values, y)[0, 1] > 0.8


def test_settings_and_data_without_a_meaning_are_refused():
    X, y = small(True)
    with pytest.raises(UsageError, match="l2 is -1"):
        training(X, y, l2=-1)
    with pytest.raises(UsageError, match="task is 'x'"):
        training(X, y, task="x")
    with pytest.raises(InputError, match="poly needs a number"):
        training(X, None)
    with pytest.raises(InputError, match="poly has nothing"):
        training(X, np.full(len(X), np.nan), task="regression").run(1)
