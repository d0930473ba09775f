from itertools import pairwise

import numpy as np
import pytest

from oocml.engine.in_memory import InMemory, problem_of
from oocml.errors import InputError
from oocml.models.mlr import MLR
from oocml.models.protocol import Epoch, Final, Pass, Verdict
from oocml.types import Bounds, Csr, LabelSets, Panel


def csr(X):
    rows, cols = X.nonzero()
    indptr = np.searchsorted(rows, np.arange(len(X) + 1)).astype(np.int64)
    return Csr(indptr, cols.astype(np.int32), X[rows, cols].astype(np.float32))


def planted(n_rows=300, n_features=25, n_classes=8, seed=0):
    """Sparse rows with classes that can be learnt."""
    rng = np.random.default_rng(seed)
    X = (rng.random((n_rows, n_features)) < 0.3) * rng.gamma(2, size=(n_rows, n_features))
    y = (X @ rng.normal(size=(n_features, n_classes)) + rng.gumbel(size=(n_rows, n_classes))).argmax(axis=1)
    return X.astype(np.float32), y.astype(np.float64)


def training(X, y, labels=None, row_bounds=(0, 60, 200), col_bounds=(0, 3, 4), **settings):
    n_rows = len(X)
    labels = np.unique(y[~np.isnan(y)]) if labels is None else labels
    panel = Panel(csr(X), y, np.arange(n_rows))
    model = MLR()
    problem = problem_of(model, panel, X.shape[1], labels, **settings)
    model.check(problem)
    return InMemory(model, problem, panel, (*row_bounds, n_rows), (*col_bounds, len(labels)))


def objective(run, X, T):
    """Mean log loss of rows with labels, plus the ridge, in float64."""
    W, c = run.joined("W").astype(np.float64), run.joined("intercept").astype(np.float64)
    kept = T.sum(axis=1) > 0
    Z = (X @ W + c)[kept]
    m = Z.max(axis=1)
    losses = m + np.log(np.exp(Z - m[:, None]).sum(axis=1)) - (T[kept] * Z).sum(axis=1)
    return losses.mean() + run.problem.settings["l2"] / 2 * (W**2).sum()


def one_hot(y, labels):
    return (y[:, None] == labels).astype(float)


@pytest.mark.parametrize("settings", [{}, {"fit_intercept": False}, {"log_a": "stochastic"}, {"polish": 2}])
def test_final_objective_is_exact(settings):
    X, y = planted()
    run = training(X, y, **settings).run(3)
    assert run.finals[0].objective == pytest.approx(objective(run, X, one_hot(y, np.unique(y))), rel=1e-5)
    # the last epoch began without class means; only Newton passes need them gone altogether
    atol = 1e-5 if settings.get("polish") else 0.5 * np.abs(run.joined("W")).max()
    np.testing.assert_allclose(run.joined("W").mean(axis=1), 0, atol=atol)
    if settings.get("fit_intercept") is False:
        assert (run.joined("intercept") == 0).all()


def test_epochs_lower_the_objective_and_learn_the_classes():
    X, y = planted()
    run = training(X, y).run(10)
    values = [epoch.objective for epoch in run.epochs]
    assert values[-1] < 0.8 * np.log(8)
    assert run.finals[0].objective < values[0]
    Z = X @ run.joined("W") + run.joined("intercept")
    assert (Z.argmax(axis=1) == y).mean() > 0.6


def test_result_does_not_depend_on_the_class_blocks():
    X, y = planted()
    whole, cut = training(X, y, col_bounds=(0,)).run(4), training(X, y, col_bounds=(0, 1, 5)).run(4)
    np.testing.assert_allclose(whole.joined("W"), cut.joined("W"), rtol=1e-3, atol=1e-4)
    for a, b in zip(whole.epochs, cut.epochs, strict=True):
        assert a.objective == pytest.approx(b.objective, rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"l2": 1e-5}, {"fit_intercept": False}])
def test_stochastic_log_a_trains_too(settings):
    X, y = planted()
    exact = training(X, y, **settings).run(10).finals[0].objective
    stochastic = training(X, y, log_a="stochastic", **settings).run(10).finals[0].objective
    assert stochastic < 1.3 * exact


def test_l2_shrinks_rare_and_common_features_to_the_same_optimum():
    # long training at a small step ends near the optimum only if the ridge is weighed right for every feature
    X, y = planted(n_rows=200, n_features=6, n_classes=3)
    X[:, 0] *= np.arange(200) % 20 == 0
    X = np.delete(X, 0, axis=1) if not X[:, 0].any() else X
    rough = training(X, y, row_bounds=(0, 70), col_bounds=(0, 1), l2=0.05).run(150)
    fine = training(X, y, row_bounds=(0, 70), col_bounds=(0, 1), l2=0.05, polish=10).run(5)
    assert rough.finals[0].objective == pytest.approx(fine.finals[0].objective, rel=2e-3)
    scale = np.abs(fine.joined("W")).max()
    np.testing.assert_allclose(rough.joined("W"), fine.joined("W"), atol=0.06 * scale)


def test_label_sets_train_on_their_uniform_distribution():
    X, _ = planted()
    rng = np.random.default_rng(1)
    T = rng.random((len(X), 8)) < 0.25
    T[5] = False
    sets = LabelSets(np.concatenate([[0], np.cumsum(T.sum(axis=1))]), T.nonzero()[1].astype(np.int32))
    panel, model = Panel(csr(X), sets, np.arange(len(X))), MLR()
    problem = problem_of(model, panel, X.shape[1], np.arange(8))
    run = InMemory(model, problem, panel, (0, 100, len(X)), (0, 3, 8)).run(5)
    share = T / np.maximum(T.sum(axis=1, keepdims=True), 1)
    assert run.finals[0].objective == pytest.approx(objective(run, X, share), rel=1e-5)
    assert run.finals[0].objective < np.log(8)


def test_rows_without_labels_contribute_nothing():
    X, y = planted()
    blind = y.copy()
    blind[::3] = np.nan
    run = training(X, blind, labels=np.arange(8.0)).run(2)
    assert run.finals[0].objective == pytest.approx(objective(run, X, one_hot(blind, np.arange(8))), rel=1e-5)
    X[::3] = np.random.default_rng(0).permutation(X[::3])
    again = training(X, blind, labels=np.arange(8.0)).run(2)
    np.testing.assert_allclose(run.joined("W"), again.joined("W"), rtol=1e-4, atol=1e-6)


def test_featureless_rows_and_unseen_features_are_harmless():
    X, y = planted()
    X[:10] = 0
    X[:, 4] = 0
    run = training(X, y, polish=1).run(3)
    assert np.isfinite(run.finals[0].objective)
    assert (run.joined("W")[4] == 0).all()


def test_a_single_class_has_objective_zero():
    X, _ = planted()
    run = training(X, np.full(len(X), 3.0), col_bounds=(0,), polish=2).run(3)
    assert run.finals[0].objective == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_of_the_features_do_not_matter_to_the_steps(scale):
    X, y = planted()
    plain = training(X, y).run(5).finals[0].extra["loss"]
    scaled = training(X * np.float32(scale), y, l2=1e-4 * scale**2).run(5).finals[0].extra["loss"]
    assert scaled == pytest.approx(plain, rel=0.05)


def test_wild_scales_of_features_never_give_nan():
    X, y = planted()
    X *= np.float32(10.0) ** np.linspace(-4, 4, X.shape[1]).astype(np.float32)
    run = training(X, y, learning_rate=100.0, polish=2).run(4)
    assert np.isfinite([e.objective for e in run.epochs]).all()
    assert run.finals[0].objective < np.log(8)


def test_stopping_early_still_finishes_as_after_the_last_epoch():
    X, y = planted()
    run = training(X, y)
    run.stop_at = 2
    run.run(5)
    assert [epoch.number for epoch in run.epochs] == [1, 2]
    assert run.finals[0].objective == pytest.approx(objective(run, X, one_hot(y, np.unique(y))), rel=1e-5)


def test_every_segment_ends_as_a_whole_training_does():
    X, y = planted()
    run = training(X, y, polish=1).run(3, 2)
    assert [epoch.number for epoch in run.epochs] == [1, 2, 3, 4, 5]
    assert len(run.finals) == 2
    alone = training(X, y, polish=1).run(3)
    assert run.finals[0].objective == alone.finals[0].objective
    assert run.finals[1].objective <= run.finals[0].objective * 1.05


def test_program_is_a_pure_function_of_the_results():
    X, y = planted()
    run = training(X, y, polish=1).run(2, 1)
    results = iter([result for _, result in run.passes])
    program, sent, replayed = run.model.program(run.problem, (2, 1)), None, []
    while True:
        try:
            item = program.send(sent)
        except StopIteration:
            break
        if isinstance(item, Pass):
            replayed.append(item)
            sent = next(results)
        else:
            assert isinstance(item, Epoch | Final)
            sent = Verdict(False)
    assert replayed == [pass_ for pass_, _ in run.passes]


def test_every_pass_of_the_program_is_declared_for_the_plan():
    X, y = planted()
    run = training(X, y, polish=1).run(1)
    declared = (*run.model.epoch_passes(run.problem), *run.model.other_passes(run.problem))
    shapes = {(p.name, p.over, p.reads, p.writes, p.data, p.sweeps, p.scratch) for p in declared}
    for p, _ in run.passes:
        assert (p.name, p.over, p.reads, p.writes, p.data, p.sweeps, p.scratch) in shapes


def test_scoring_by_blocks_agrees_with_all_scores_at_once():
    X, y = planted()
    run = training(X, y).run(3)
    y_test = y.copy()
    y_test[:2] = np.nan, 99.0  # no label, and one that training never saw
    scoring = run.model.scoring(run.problem, 0)
    data = run.model.prepare(Panel(csr(X), y_test, np.arange(len(X))), run.problem, Bounds(0, X.shape[1]))
    accumulator = scoring.begin(data, len(X), {})
    for q, (lo, hi) in enumerate(pairwise(run.col_bounds)):
        col = {name: run.state[name, 0, q] for name in scoring.reads}
        scoring.visit(accumulator, data, Bounds(lo, hi), col)
    Z = X @ run.joined("W") + run.joined("intercept")
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    predicted = scoring.predictions(accumulator, data)
    np.testing.assert_array_equal(predicted["labels"], np.argsort(-Z, axis=1)[:, :5])
    np.testing.assert_allclose(predicted["scores"], -np.sort(-P, axis=1)[:, :5], rtol=1e-4)
    scores = scoring.scores(scoring.metrics(accumulator, data))
    assert scores["accuracy"] == pytest.approx((Z.argmax(axis=1) == y_test)[1:].mean())
    losses = -np.log(P[np.arange(2, len(y)), y[2:].astype(int)])
    assert scores["log_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    squares = (run.joined("W") ** 2).sum()
    assert scores["objective"] == pytest.approx(scores["log_loss"] + 1e-4 / 2 * squares, rel=1e-5)


def test_data_without_labels_are_refused():
    X, y = planted()
    model = MLR()
    problem = problem_of(model, Panel(csr(X), None, np.arange(len(X))), X.shape[1], None)
    with pytest.raises(InputError, match="needs class labels"):
        model.check(problem)
    run = training(X, np.full(len(X), np.nan), labels=np.arange(3.0), col_bounds=(0,))
    with pytest.raises(InputError, match="no row of the dataset has a label"):
        run.run(1)
