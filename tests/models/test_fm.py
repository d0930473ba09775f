import numpy as np
import pytest
from scipy.optimize import minimize

from oocml.errors import InputError, UsageError
from oocml.models.fm import FM
from oocml.models.fm_settings import ridges, shares, task_of
from oocml.models.protocol import Epochs
from oocml.types import Bounds
from tests.kernels.factored import machine
from tests.models.machines import losses_of, objective, output, planted, scaled, training
from tests.models.tiled import begin, csr

SETTINGS = [
    {},
    {"weighted_l2": False, "l2_factors": 0.01},
    {"n_factors": 0},
    {"n_factors": 9, "l2_linear": 0.5},
    *({"step": step} for step in ("nomad", "bold_driver", "inverse_sqrt", "constant")),
]


@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
def test_final_objective_is_exact(settings, classify):
    X, y = planted(classify=classify)
    run = training(X, y, **settings).run(3)
    assert run.finals[0].objective == pytest.approx(objective(run, X, y), rel=1e-5)
    assert [epoch.number for epoch in run.epochs] == [1, 2, 3]


@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
def test_epochs_lower_the_objective(settings, classify):
    X, y = planted(classify=classify)
    run = training(X, y, **settings).run(12)
    assert run.finals[0].objective < run.epochs[0].objective
    # the running objective is that of the rows just before their steps, so it lags
    assert run.epochs[-1].objective == pytest.approx(run.finals[0].objective, rel=0.25)


@pytest.mark.parametrize("classify", [True, False])
def test_training_finds_pairs_that_no_linear_model_can(classify):
    X, y = planted(n_rows=3000, classify=classify)
    known = np.where(np.arange(3000) < 2000, y, np.nan)
    task = "classification" if classify else "regression"
    runs = [training(X, known, n_factors=k, task=task).run(20) for k in (4, 0)]
    fresh = [losses_of(run, X, y)[2000:].mean() for run in runs]
    assert fresh[0] < 0.85 * fresh[1]


def test_long_training_comes_near_a_stationary_point():
    """Small steps end where L-BFGS, started there, has little left to gain."""
    X, y = planted(n_rows=60, n_cols=6, density=0.6)
    run = training(X, y, n_factors=2, l2_factors=0.1).run(300)
    Z, t = scaled(X), np.where(y == 7, 1, -1)
    times = (X != 0).sum(axis=0) / len(y)

    def value(theta):
        V, w, w0 = theta[:12].reshape(6, 2), theta[12:18], theta[18]
        ridge = times @ (0.1 * (V**2).sum(axis=1) + 0.01 * w**2)
        return np.logaddexp(0, -t * machine(Z, V, w, w0)).mean() + ridge / 2

    start = np.concatenate([run.joined("V").ravel(), run.joined("w"), run.state["w0", 0, 0][:1]])
    assert run.finals[0].objective == pytest.approx(value(start), rel=1e-5)
    assert run.finals[0].objective < 1.01 * minimize(value, start, method="L-BFGS-B").fun


@pytest.mark.parametrize("blocks", [(1, 1), (4, 4), (16, 16)])
@pytest.mark.parametrize("classify", [True, False])
def test_quality_does_not_depend_on_the_blocks(blocks, classify):
    X, y = planted(n_rows=3000, classify=classify)
    if not classify:
        y += 5 * np.random.default_rng(1).normal(size=3000)
    known = np.where(np.arange(3000) < 2000, y, np.nan)
    task, qualities = "classification" if classify else "regression", []
    for shape in (blocks, (3, 2)):
        run = begin(FM(), csr(X), 25, known, blocks=shape, n_factors=4, task=task).run(20)
        fresh = losses_of(run, X, y)[2000:].mean()
        qualities.append(fresh if classify else np.sqrt(fresh))
    assert qualities[0] == pytest.approx(qualities[1], rel=0.01)


@pytest.mark.parametrize("classify", [True, False])
def test_sums_over_all_features_stay_exact_within_an_epoch(classify):
    """With one lane of row blocks a visit's rest is what the other features' current parameters give."""
    X, y = planted(classify=classify)
    run = training(X, y)
    seen = []

    def checked(v, visit=FM.kernels["visit"].visit):
        if v.data is not None:
            rows, every = run.rows[v.p], scaled(X)[run.rows[v.p].lo : run.rows[v.p].hi]
            V = np.concatenate([run.state["V", 0, q] for q in range(len(run.cols))]).astype(np.float64)
            seen.append(np.abs(v.row["total"][:, :3] - every @ V).max() / np.abs(every @ V).max())
            assert rows.size == v.n_rows
        return visit(v)

    run.model.kernels = {**FM.kernels, "visit": FM.kernels["visit"]._replace(visit=checked)}
    run.run(2)
    assert len(seen) == 2 * 3 * 2
    assert max(seen) < 1e-5


def test_a_run_with_the_same_seed_has_the_same_bits():
    X, y = planted()
    runs = [training(X, y, seed=seed).run(2) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(runs[0].joined("V"), runs[1].joined("V"))
    assert (runs[0].joined("V") != runs[2].joined("V")).any()


def test_rows_without_a_target_contribute_nothing():
    X, y = planted()
    blind = y.copy()
    blind[::3] = np.nan
    run = training(X, blind).run(2)
    assert run.finals[0].objective == pytest.approx(objective(run, X, blind), rel=1e-5)
    other = X.copy()
    other[::3] *= -1  # of the same root mean square
    np.testing.assert_array_equal(run.joined("V"), training(other, blind).run(2).joined("V"))


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_units_do_not_matter(scale):
    X, y = planted(classify=False)
    plain = training(X, y).run(4)
    other = training(X * np.float32(scale), y * scale + 3).run(4)
    assert other.finals[0].objective == pytest.approx(plain.finals[0].objective, rel=1e-3)
    center, spread, lowest, highest = other.state["target", 0, 0]
    np.testing.assert_allclose([center, spread], [(y * scale + 3).mean(), y.std() * scale], rtol=1e-6)
    np.testing.assert_allclose([lowest, highest], [y.min() * scale + 3, y.max() * scale + 3])


def test_empty_rows_and_unseen_features_are_harmless():
    X, y = planted()
    run = training(X, y).run(3)
    assert run.joined("w")[3] == 0
    assert not run.joined("V")[3].any()
    assert np.isfinite(run.finals[0].objective)
    assert output(run, X)[5] == pytest.approx(run.state["w0", 0, 0][0])


def test_a_constant_target_is_predicted():
    X, _ = planted()
    run = training(X, np.full(len(X), 4.0)).run(3)
    center, scale = run.state["target", 0, 0][:2]
    np.testing.assert_allclose(center + scale * output(run, X), 4, atol=0.05)


def test_wild_values_never_give_nan():
    X, y = planted(classify=False)
    X[7, :], y[8] = 1e15, -1e15
    for step in ("adagrad", "constant"):
        assert np.isfinite(training(X, y, step=step).run(4).finals[0].objective)


def test_two_labels_make_a_classifier_unless_told_otherwise():
    X, y = planted()
    assert task_of(training(X, y).problem) == "classification"
    assert task_of(training(X, y, task="regression").problem) == "regression"
    assert task_of(training(X, np.arange(300) % 3.0).problem) == "regression"
    with pytest.raises(InputError, match="has 3"):
        training(X, np.arange(300) % 3.0, task="classification")
    with pytest.raises(InputError, match="has many"):
        training(X, y + np.random.default_rng(0).random(300), task="classification")


def test_default_ridges():
    X, y = planted()
    assert ridges(training(X, y).problem) == pytest.approx((0.003, 0.03))
    assert ridges(training(X, y, task="regression").problem) == pytest.approx((0.006, 0.06))
    assert ridges(training(X, y, l2_factors=0.5).problem) == pytest.approx((0.05, 0.5))
    plain = training(X, y, weighted_l2=False).problem
    mean_share = plain.nnz / 300 / 24
    assert ridges(plain)[1] == pytest.approx(0.03 * mean_share)
    every = Bounds(0, plain.n_features)
    np.testing.assert_allclose(
        (shares(plain, every) * plain.feature_nnz)[plain.feature_nnz > 0], 300, rtol=1e-6
    )


def test_an_epoch_is_one_pass_that_sees_rows_ahead_and_waits_for_nobody():
    X, y = planted()
    problem = training(X, y).problem
    program = FM().program(problem, (3,))
    next(program)
    item = program.send({"n": 300.0, "total": 0.0, "squares": 0.0})
    assert isinstance(item, Epochs)
    assert item.pass_.ahead
    assert item.pass_.consumes == ("partial",)
    assert [params["learning_rate"] for params in item.params] == pytest.approx([0.1, 0.2 / 3, 0.1 / 3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_factors": -1}, "n_factors is -1"),
        ({"n_factors": 2.5}, "n_factors is 2.5"),
        ({"l2_linear": -1}, "l2_linear is -1"),
        ({"l2_factors": np.inf}, "l2_factors is inf"),
        ({"step": "adam"}, "step is 'adam'"),
        ({"task": "ranking"}, "task is 'ranking'"),
        ({"solver": "als"}, "solver is 'als'"),
        ({"tour": "two_pass"}, "tour is a setting of solver=dsfacto"),
        ({"solver": "dsfacto", "step": "bold_driver"}, "bold_driver"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"l2_linear": "abc"}, "l2_linear is 'abc'"),
        ({"n_factors": np.nan}, "n_factors is nan"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    X, y = planted()
    with pytest.raises(UsageError, match=message):
        training(X, y, **settings)


def test_data_without_targets_or_features_are_refused():
    X, y = planted()
    with pytest.raises(InputError, match="no labels"):
        training(X, None)
    with pytest.raises(InputError, match="no entries"):
        training(np.zeros_like(X), y)
    with pytest.raises(InputError, match="no row of the dataset has a target"):
        training(X, np.full(300, np.nan), task="regression").run(1)
    problem = training(X, y).problem._replace(label_kind="sets")
    with pytest.raises(InputError, match="sets of labels"):
        FM().check(problem)
