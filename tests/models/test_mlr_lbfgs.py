import numpy as np
import pytest

from oocml import api
from oocml.engine.events import PassDone
from oocml.engine.in_memory import InMemory, problem_of
from oocml.engine.outputs import RunArrays
from oocml.errors import UsageError
from oocml.models.lbfgs_history import History
from oocml.models.mlr import MLR
from oocml.models.mlr_lbfgs import STEPS, gradient_pass
from oocml.types import LabelSets, Panel
from tests.models.mlr_oracles import numeric_gradient, optimum, randomise, write_panels
from tests.models.test_mlr import csr, objective, one_hot, planted, training

N_CLASSES = 8


@pytest.fixture(scope="module")
def data():
    return planted(n_rows=240, n_features=12, n_classes=N_CLASSES)


@pytest.fixture(scope="module")
def stored(data, tmp_path_factory):
    return write_panels(tmp_path_factory.mktemp("batch") / "data.zarr", *data)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_gradient_agrees_with_finite_differences(fit_intercept):
    X, y = planted(n_rows=80, n_features=5, n_classes=4)
    y[::7] = np.nan
    run = training(
        X, y, row_bounds=(0, 30), col_bounds=(0, 3), solver="lbfgs", l2=0.1, fit_intercept=fit_intercept
    )
    randomise(run)
    n_labelled, T = np.count_nonzero(~np.isnan(y)), one_hot(y, np.arange(4.0))

    def mean_loss(W, c):
        Z = (X @ W + c)[~np.isnan(y)]
        losses = np.log(np.exp(Z).sum(axis=1)) - (T[~np.isnan(y)] * Z).sum(axis=1)
        return losses.mean() + 0.05 * (W**2).sum()

    run.run_pass(gradient_pass(run.problem, History(6), n_labelled))
    expected = numeric_gradient(mean_loss, run.joined("W"), run.joined("intercept"))
    expected[-1] *= fit_intercept
    np.testing.assert_allclose(run.joined("G0"), expected, atol=2e-6)


@pytest.mark.parametrize("settings", [{}, {"history": 1}, {"fit_intercept": False}, {"l2": 0.1}])
def test_reaches_the_optimum_and_never_rises(data, settings):
    X, y = data
    settings = {"l2": 1e-3, **settings}
    run = training(X, y, solver="lbfgs", **settings).run(400)
    best = optimum(X, y, settings["l2"], settings.get("fit_intercept", True))
    assert run.finals[0].objective == pytest.approx(best, rel=1e-4)
    assert (np.diff([epoch.objective for epoch in run.epochs]) <= 0).all()


def test_epochs_report_the_exact_objective(data):
    X, y = data
    for n_epochs in (1, 4, 15):
        run = training(X, y, solver="lbfgs", l2=1e-3).run(n_epochs)
        exact = objective(run, X, one_hot(y, np.unique(y)))
        assert run.epochs[-1].exact
        assert run.epochs[-1].objective == pytest.approx(exact, rel=1e-6)
        assert run.finals[0].objective == run.epochs[-1].objective


def test_ends_early_where_no_step_lowers_the_objective(data):
    X, y = data
    run = training(X, y, solver="lbfgs", l2=0.5).run(500, 3)
    assert len(run.epochs) < 200
    assert run.epochs[-1].extra["step"] == 0
    assert len(run.finals) == 2


def test_a_single_class_has_objective_zero(data):
    X, _ = data
    run = training(X, np.full(len(X), 3.0), col_bounds=(0,), solver="lbfgs").run(3)
    assert run.finals[0].objective == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("solver", ["lbfgs", "lc"])
def test_label_sets_train_on_their_uniform_distribution(data, solver):
    X, _ = data
    T = np.random.default_rng(1).random((len(X), N_CLASSES)) < 0.25
    T[5] = False
    sets = LabelSets(np.concatenate([[0], np.cumsum(T.sum(axis=1))]), T.nonzero()[1].astype(np.int32))
    panel, model = Panel(csr(X), sets, np.arange(len(X))), MLR()
    problem = problem_of(model, panel, X.shape[1], np.arange(N_CLASSES), solver=solver)
    run = InMemory(model, problem, panel, (0, 100, len(X)), (0, 3, N_CLASSES)).run(8)
    share = T / np.maximum(T.sum(axis=1, keepdims=True), 1)
    assert run.finals[0].objective == pytest.approx(objective(run, X, share), rel=1e-6)
    assert run.finals[0].objective < 0.99 * np.log(N_CLASSES)


def test_result_does_not_depend_on_the_class_blocks(data):
    X, y = data
    settings = {"solver": "lbfgs", "l2": 1e-2}
    whole, cut = training(X, y, col_bounds=(0,), **settings).run(12), training(X, y, **settings).run(12)
    for a, b in zip(whole.epochs, cut.epochs, strict=True):
        assert a.objective == pytest.approx(b.objective, rel=1e-5)
    np.testing.assert_allclose(
        whole.joined("W"), cut.joined("W"), atol=1e-3 * np.abs(whole.joined("W")).max()
    )


def test_wild_scales_of_features_never_give_nan(data):
    X, y = data
    X = X * np.float32(10.0) ** np.linspace(-4, 4, X.shape[1]).astype(np.float32)
    run = training(X, y, solver="lbfgs").run(15)
    values = [epoch.objective for epoch in run.epochs]
    assert values[-1] < values[0] < np.log(N_CLASSES)


@pytest.mark.parametrize("solver", ["lbfgs", "lc"])
def test_plan_counts_every_pass_and_only_the_solvers_own(data, solver):
    X, y = data
    run = training(X, y, solver=solver, history=3).run(6)
    declared = {}
    for pass_ in (*run.model.epoch_passes(run.problem), *run.model.other_passes(run.problem)):
        declared[pass_.name] = pass_

    def n_arrays(pass_):
        return len({*pass_.reads, *pass_.writes})

    for pass_, _ in run.passes:
        assert n_arrays(pass_) <= n_arrays(declared[pass_.name])
        assert (pass_.over, pass_.data, pass_.sweeps, pass_.scratch) == (
            declared[pass_.name].over,
            declared[pass_.name].data,
            declared[pass_.name].sweeps,
            declared[pass_.name].scratch,
        )
    names = {pass_.name for pass_, _ in run.passes}
    plain = training(X, y)
    assert names == set(declared)
    assert not {"V0", "scale", "line"} & set(plain.specs)
    assert not (names - {"finish"}) & {p.name for p in plain.model.other_passes(plain.problem)}


def test_stored_in_blocks_it_reaches_the_optimum_of_scikit_learn(data, stored, tmp_path):
    X, y = data
    run = api.train(
        "mlr",
        stored,
        tmp_path / "run.zarr",
        epochs=60,
        schedule="serial",
        settings={"solver": "lbfgs", "l2": 1e-2},
        row_blocks=3,
        col_blocks=4,
    )
    best = optimum(X, y, 1e-2)
    assert run.summary()["objective"] == pytest.approx(best, rel=1e-4)
    values = [record["objective"] for record in run.history]
    assert (np.diff(values) <= 0).all()
    scores = run.evaluate(api.open_dataset(stored))
    assert scores["objective"] == pytest.approx(run.summary()["objective"], rel=1e-6)


class Stop:
    """Interrupts a training after so many passes."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, event):
        if isinstance(event, PassDone):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize(
    "settings",
    [{"solver": "lbfgs"}, {"solver": "lc"}, {}, {"polish": 2}, {"exact_objective": False}],
    ids=["lbfgs", "lc", "ds", "polish", "without the exact objective"],
)
def test_interrupted_runs_end_with_the_same_bits(stored, tmp_path, settings):
    options = {
        "epochs": 5,
        "schedule": "serial",
        "settings": {"l2": 1e-2, **settings},
        "row_blocks": 3,
        "col_blocks": 4,
    }
    straight = api.train("mlr", stored, tmp_path / "straight.zarr", **options)
    path = tmp_path / "stopped.zarr"
    with pytest.raises(KeyboardInterrupt):
        api.train("mlr", stored, path, monitors=[Stop(1)], **options)
    while True:  # after every pass once
        try:
            resumed = api.resume(path, schedule="serial", monitors=[Stop(1)])
            break
        except KeyboardInterrupt:
            pass
    assert [r["objective"] for r in resumed.history] == [r["objective"] for r in straight.history]
    for name in ("W", "intercept"):
        for q in range(4):
            a, b = (RunArrays(run.store, None).block(name, q) for run in (straight, resumed))
            assert a.tobytes() == b.tobytes()


def test_segments_go_on_with_the_history(stored, tmp_path):
    options = {
        "schedule": "serial",
        "settings": {"solver": "lbfgs", "l2": 1e-2},
        "row_blocks": 3,
        "col_blocks": 4,
    }
    whole = api.train("mlr", stored, tmp_path / "whole.zarr", epochs=9, **options)
    api.train("mlr", stored, tmp_path / "parts.zarr", epochs=4, **options)
    parts = api.resume(tmp_path / "parts.zarr", epochs=5, schedule="serial")
    assert [r["objective"] for r in parts.history] == pytest.approx(
        [r["objective"] for r in whole.history], rel=1e-6
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"history": 0},
        {"history": 2.5},
        {"inner": 0},
        {"solver": "newton"},
        {"solver": "lbfgs", "polish": 2},
        {"solver": "lc", "learning_rate": 1.0},
        {"solver": "lc", "log_a": "stochastic"},
    ],
)
def test_settings_that_mean_nothing_are_refused(data, settings):
    with pytest.raises(UsageError, match=next(reversed(settings))):
        training(*data, **settings)


def test_steps_are_exact_in_float32():
    assert all(float(np.float32(step)) == step for step in STEPS)
    assert 1.0 in STEPS
    assert MLR().defaults()["solver"] == "ds"
