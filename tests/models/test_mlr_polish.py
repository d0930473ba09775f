import numpy as np
import pytest

from oocml.models import mlr_polish
from oocml.models.mlr_steps import HISTOGRAM_BINS, median_scale
from tests.models.test_mlr import objective, one_hot, planted, training


def optimum(X, y, l2):
    """The objective's minimum by scikit-learn, intercept included."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (len(y) * l2), tol=1e-10, max_iter=2000).fit(X.astype(float), y)
    Z = model.decision_function(X.astype(float))
    m = Z.max(axis=1)
    losses = m + np.log(np.exp(Z - m[:, None]).sum(axis=1)) - Z[np.arange(len(y)), y.astype(int)]
    return losses.mean() + l2 / 2 * (model.coef_**2).sum()


@pytest.mark.parametrize("l2", [1e-2, 1e-3])
def test_polish_reaches_the_optimum(l2):
    X, y = planted()
    run = training(X, y, l2=l2, polish=12).run(3)
    best = optimum(X, y, l2)
    assert best * (1 - 1e-6) < run.finals[0].objective < best * 1.001


def test_the_objective_never_rises_over_tours():
    X, y = planted()
    values = [training(X, y, polish=tours).run(1).finals[0].objective for tours in (0, 1, 2, 3, 4)]
    assert all(b <= a * (1 + 1e-6) for a, b in zip(values[:-1], values[1:], strict=True))
    assert values[-1] < values[0]


def test_polish_does_not_depend_on_the_class_blocks():
    X, y = planted()
    whole, cut = (training(X, y, polish=3, col_bounds=bounds).run(2) for bounds in [(0,), (0, 1, 5)])
    assert whole.finals[0].objective == pytest.approx(cut.finals[0].objective, rel=1e-4)


def test_log_a_is_exact_after_a_tour():
    X, y = planted()
    run = training(X, y, polish=3).run(2)
    Z = X @ run.joined("W").astype(float) + run.joined("intercept")
    np.testing.assert_allclose(run.joined("log_a"), -np.log(np.exp(Z).sum(axis=1)), atol=2e-5)


def test_a_tour_that_no_step_helps_leaves_everything_as_it_is():
    X, y = planted()
    run = training(X, y, l2=1e-2, polish=20).run(3)
    tours = [pass_ for pass_, _ in run.passes if pass_.name == "newton"]
    assert len(tours) < 20
    assert run.finals[0].extra["polish_passes"] == len(tours)
    assert run.finals[0].objective == pytest.approx(objective(run, X, one_hot(y, np.unique(y))), rel=1e-6)


def test_damping_grows_after_short_steps_and_vanishes_after_long_ones():
    assert mlr_polish.damping(0.0, 0.0) > mlr_polish.damping(0.0, 0.25) > 0
    assert mlr_polish.damping(0.2, 0.5) == 0.2
    assert mlr_polish.damping(0.01, 1.0) == 0


def test_median_of_a_histogram_is_within_its_bins():
    r = np.exp(np.random.default_rng(0).normal(3, 2, 1001))
    histogram = np.bincount(
        np.floor(16 * np.log2(r)).astype(int) + HISTOGRAM_BINS // 2, minlength=HISTOGRAM_BINS
    )
    assert median_scale(histogram) == pytest.approx(np.median(r), rel=0.05)
    assert median_scale(np.zeros(HISTOGRAM_BINS)) == 1
