"""How steps follow the loss, and what comes of it: more epochs seldom make a model worse (see docs/limits.md)."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from oocml.kernels.mlr import LabelledRows
from oocml.models.mlr import start
from oocml.models.mlr_steps import (
    FIRST_RATE,
    LARGEST_BOOST,
    LOSS_AT_REST,
    RISE,
    SHORT,
    StepSizes,
    median_scale,
)
from tests.models.test_mlr import planted, training


def fitting(steps, losses, n_epochs):
    """The steps of a first segment whose epochs have these losses."""
    found = []
    for epoch, loss in enumerate(losses):
        found.append(steps.step(epoch, n_epochs, resumed=False))
        steps.learn(loss)
    return found


def digits():
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32), y.astype(np.float64)


def overlapping(noise, n_rows=1500, n_features=20, n_classes=10):
    """Dense rows about a centre per class: with little noise nearly all classes can be told apart, but not quite."""
    rng = np.random.default_rng(0)
    centres = rng.gamma(1, size=(n_classes, n_features))
    y = rng.integers(n_classes, size=n_rows)
    X = np.abs(centres[y] + noise * rng.normal(size=(n_rows, n_features)))
    return X.astype(np.float32), y.astype(np.float64)


SETS = {
    "digits": digits,
    "nearly separable": lambda: overlapping(0.6, n_rows=4000),
    "mixed": lambda: overlapping(1.0),
}


def ends(X, y, *segments, seed=0, **settings):
    """The exact objective at the end of each segment."""
    run = training(X, y, row_bounds=(0, len(X) // 2), col_bounds=(0, 5), **settings)
    run.problem = run.problem._replace(seed=seed)
    return [final.objective for final in run.run(*segments).finals]


def test_steps_begin_at_the_first_rate_and_fall_towards_zero():
    for n_epochs in (1, 3, SHORT, 40, 400):
        found = fitting(StepSizes(None), [1.0] * n_epochs, n_epochs)
        assert found[0] == FIRST_RATE
        assert all(a > b > 0 for a, b in zip(found, found[1:], strict=False))


def test_long_trainings_take_short_steps_sooner():
    shares = [fitting(StepSizes(None), [1.0] * n, n)[n // 2] for n in (10, 40, 400)]
    assert shares[0] > 2 * shares[1] > 8 * shares[2]


def test_a_small_loss_lengthens_steps_up_to_a_bound():
    plain = fitting(StepSizes(None), [1.0] * 4, 4)
    for loss in (0.1, 1e-9):
        longer = fitting(StepSizes(None), [loss] * 4, 4)
        boost = min((LOSS_AT_REST / loss) ** 1.5, LARGEST_BOOST)
        assert longer == pytest.approx([plain[0], *(boost * step for step in plain[1:])])


def test_a_rising_loss_halves_all_later_steps():
    plain = fitting(StepSizes(None), [1.0, 1.0, 1.0, 1.0], 4)
    risen = fitting(StepSizes(None), [1.0, 1.1 * RISE, 0.99 * RISE, 1.0], 4)
    assert risen == pytest.approx([*plain[:2], plain[2] / 2, plain[3] / 2])


def test_later_segments_go_on_where_one_training_of_all_epochs_would_be():
    steps, whole = StepSizes(None), StepSizes(None)
    fitting(steps, [1.0] * 10, 10)
    later = [steps.step(epoch, 16, resumed=True) for epoch in range(10, 16)]
    assert later == pytest.approx(fitting(whole, [1.0] * 16, 16)[10:])


def test_small_losses_do_not_lengthen_the_steps_of_later_segments():
    steps, plain = StepSizes(None), StepSizes(None)
    fitting(steps, [0.01] * 10, 10)
    fitting(plain, [1.0] * 10, 10)
    assert steps.step(10, 12, resumed=True) == plain.step(10, 12, resumed=True)


def test_given_steps_do_not_follow_the_loss():
    for losses in ([1.0] * 3, [0.01, 5.0, 9.0]):
        assert fitting(StepSizes(0.5), losses, 3) == pytest.approx([0.5, 0.5 * (2 / 3) ** 1.5, 0.5 / 3**1.5])
    assert fitting(StepSizes(0.5), [1.0] * 80, 80)[40] == pytest.approx(0.5**2.5)


@pytest.mark.parametrize("name", SETS)
def test_more_epochs_end_no_higher_on_these_sets(name):
    X, y = SETS[name]()
    ten, forty, many = (ends(X, y, n)[0] for n in (10, 40, 160))
    assert max(forty, many) < 1.01 * ten


@pytest.mark.parametrize("settings", [{}, {"polish": 2}])
@pytest.mark.parametrize("name", SETS)
def test_a_resumed_training_of_these_sets_ends_no_higher_than_it_began(name, settings):
    X, y = SETS[name]()
    for segments in ((10, 1), (10, 2), (10, 5), (1, 1)):
        began, ended = ends(X, y, *segments, **settings)
        assert ended < 1.01 * began, segments


def test_epochs_report_the_loss_of_rows_before_their_own_updates():
    # steps too short to change anything leave nothing between before (third epoch), after and exact (the last)
    X, y = planted()
    run = training(X, y, learning_rate=1e-9)
    run.state["W", 0, 0][:] = np.random.default_rng(0).normal(size=run.state["W", 0, 0].shape)
    run.run(4)
    assert not run.epochs[2].exact
    assert run.epochs[2].extra["loss"] == pytest.approx(run.finals[0].extra["loss"], rel=1e-5)
    # long steps fit each row to itself, which must not show: the first epoch tells no less than is true at its end
    told = training(X, y).run(2).epochs[0].extra["loss"]
    assert told > training(X, y).run(1).finals[0].extra["loss"]


def test_exact_losses_are_held_against_exact_ones_only():
    steps = StepSizes(None)
    steps.learn(1.0)
    steps.learn(0.5, exact=True)  # below what rows told before their updates, so no measure for the next
    steps.learn(1.0)
    assert (steps.caution, steps.boost) == (1.0, 1.0)
    steps.learn(0.1, exact=True)
    assert (steps.caution, steps.boost) == (1.0, 1.0)
    steps.learn(0.1 * RISE * 1.01, exact=True)
    assert steps.caution == 0.5


def test_the_scale_of_steps_is_that_of_labelled_rows_however_few():
    rows = np.ones((2000, 1), np.float32)
    indptr, labelled = np.arange(2001), np.zeros(2000, bool)
    labelled[::100] = True
    rows[labelled] = 8
    data = LabelledRows(
        indptr,
        np.zeros(2000, np.int32),
        rows[:, 0],
        np.concatenate([[0], np.cumsum(labelled)]),
        np.zeros(20, np.int64),
        labelled.astype(np.float32),
    )
    constants = {"rates": np.ones((1, 2), np.float32)}
    visit = SimpleNamespace(data=data, seed=0, params={"fit_intercept": False}, constants=constants)
    found = start(visit)
    assert found["n_labelled"] == found["histogram"].sum() == 20
    assert median_scale(found["histogram"]) == pytest.approx(64, rel=0.05)
    everybody = data._replace(
        label_indptr=indptr, labels=np.zeros(2000, np.int64), weight=np.ones(2000, np.float32)
    )
    visit.data = everybody
    assert start(visit)["histogram"].sum() == pytest.approx(2000)
