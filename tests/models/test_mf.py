import numpy as np
import pytest
from scipy.optimize import minimize

from oocml.errors import InputError, UsageError
from oocml.models.mf import MF
from oocml.models.mf_steps import RATES, ridge
from oocml.models.protocol import Epochs
from tests.models.tiled import begin, csr


def planted(n_rows=60, n_cols=40, rank=3, density=0.4, noise=0.1, seed=0):
    """Ratings of low rank with biases, and which of them are known."""
    rng = np.random.default_rng(seed)
    R = rng.normal(size=(n_rows, rank)) @ rng.normal(size=(rank, n_cols)) * 0.7
    R += rng.normal(size=(n_rows, 1)) + rng.normal(size=n_cols) + 3.5 + noise * rng.normal(size=R.shape)
    return R.astype(np.float32), rng.random(R.shape) < density


def training(R, known, **settings):
    settings = {"n_factors": 4, "l2": 0.02} | settings
    return begin(MF(), csr(R, known), R.shape[1], **settings)


def standardised(run):
    """Predictions on the standardised scale, and both sides' squares with their biases' share."""
    U, V = run.joined("U").astype(np.float64), run.joined("V").astype(np.float64)
    b = run.joined("row_bias").astype(np.float64) if "row_bias" in run.specs else np.zeros(len(U))
    c = run.joined("col_bias").astype(np.float64) if "col_bias" in run.specs else np.zeros(len(V))
    squares = (U**2).sum(axis=1) + 0.1 * b**2, (V**2).sum(axis=1) + 0.1 * c**2
    return b[:, None] + c + U @ V.T, *squares


def objective(run, R, known):
    predicted, row_squares, col_squares = standardised(run)
    center, scale = run.state["target", 0, 0][:2].astype(np.float64)
    loss = (((R - center) / scale - predicted)[known] ** 2).sum()
    l2 = ridge(run.problem)
    if run.problem.settings["weighted_l2"]:
        loss += l2 * (known.sum(axis=1) @ row_squares + known.sum(axis=0) @ col_squares)
    else:
        loss += l2 * (row_squares[known.any(axis=1)].sum() + col_squares[known.any(axis=0)].sum())
    return loss / 2 / known.sum()


SETTINGS = [
    {},
    {"weighted_l2": False, "l2": 0.5},
    {"biases": False},
    {"step": "nomad"},
    {"step": "bold_driver"},
    {"step": "inverse_sqrt", "biases": False, "weighted_l2": False},
    {"step": "constant"},
    {"non_negative": True},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_final_objective_is_exact(settings):
    R, known = planted()
    R = np.abs(R)
    known[4], known[:, 7] = False, False
    run = training(R, known, **settings).run(3)
    assert run.finals[0].objective == pytest.approx(objective(run, R, known), rel=1e-5)
    assert len(run.epochs) == 3


@pytest.mark.parametrize("settings", SETTINGS)
def test_epochs_lower_the_objective(settings):
    R, known = planted()
    run = training(np.abs(R), known, **settings).run(15)
    assert run.finals[0].objective < run.epochs[0].objective
    assert [epoch.number for epoch in run.epochs] == list(range(1, 16))


def test_training_finds_what_was_planted():
    R, known = planted(n_rows=200, n_cols=100, density=0.3)
    run = training(R, known, n_factors=3).run(40)
    center, scale = run.state["target", 0, 0][:2]
    error = (center + scale * standardised(run)[0] - R)[~known]
    assert np.sqrt((error**2).mean()) < 0.35 * R.std()


def test_long_training_comes_near_a_stationary_point():
    """Small steps end where L-BFGS, started there, has little left to gain."""
    R, known = planted(n_rows=20, n_cols=15)
    run = training(R, known, n_factors=2, l2=0.1).run(400)
    center, scale = run.state["target", 0, 0][:2].astype(np.float64)
    Z, n, m = (R - center) / scale, 20, 15

    def split(theta):
        return theta[:40].reshape(n, 2), theta[40:70].reshape(m, 2), theta[70:90], theta[90:]

    def value(theta):
        U, V, b, c = split(theta)
        E = np.where(known, Z - b[:, None] - c - U @ V.T, 0)
        rows, cols = known.sum(axis=1), known.sum(axis=0)
        ridge = rows @ ((U**2).sum(axis=1) + 0.1 * b**2) + cols @ ((V**2).sum(axis=1) + 0.1 * c**2)
        return ((E**2).sum() + 0.1 * ridge) / 2 / known.sum()

    start = np.concatenate([run.joined(name).ravel() for name in ("U", "V", "row_bias", "col_bias")])
    assert run.finals[0].objective == pytest.approx(value(start), rel=1e-5)
    assert run.finals[0].objective < 1.01 * minimize(value, start, method="L-BFGS-B").fun


def test_a_run_with_the_same_seed_has_the_same_bits():
    R, known = planted()
    runs = [training(R, known, seed=seed).run(2) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(runs[0].joined("U"), runs[1].joined("U"))
    assert (runs[0].joined("U") != runs[2].joined("U")).any()


def test_the_start_does_not_depend_on_the_blocks():
    R, known = planted()
    for blocks in ((1, 1), (7, 5)):
        run = begin(MF(), csr(R, known), R.shape[1], blocks=blocks, n_factors=4)
        np.testing.assert_array_equal(run.joined("U")[:, 1], training(R, known).joined("U")[:, 1])
        np.testing.assert_array_equal(run.joined("V"), training(R, known).joined("V"))


@pytest.mark.parametrize("blocks", [(1, 1), (4, 4), (16, 16)])
def test_quality_does_not_depend_on_the_blocks(blocks):
    R, known = planted(n_rows=200, n_cols=100)
    settings = {"n_factors": 4, "l2": 0.1, "seed": 1}
    run = begin(MF(), csr(R, known), 100, blocks=blocks, **settings).run(30)
    other = begin(MF(), csr(R, known), 100, blocks=(2, 3), **settings).run(30)
    assert run.finals[0].objective == pytest.approx(other.finals[0].objective, rel=0.01)


def test_non_negative_parameters_stay_so():
    R, known = planted()
    run = training(np.abs(R), known, non_negative=True).run(4)
    for name in ("U", "V", "row_bias", "col_bias"):
        assert (run.joined(name) >= 0).all()
    assert run.state["target", 0, 0][0] == 0
    with pytest.raises(InputError, match=r"ratings are below 0 and non_negative cannot"):
        training(R - 3, known, non_negative=True).run(1)


def test_target_holds_the_moments_and_the_range():
    R, known = planted()
    target = training(R, known).run(1).state["target", 0, 0]
    values = R[known]
    np.testing.assert_allclose(target, [values.mean(), values.std(), values.min(), values.max()], rtol=1e-5)


@pytest.mark.parametrize("value", [4.0, -1e6])
def test_ratings_that_are_all_the_same_are_predicted(value):
    R, known = planted()
    run = training(np.full_like(R, value), known).run(20)
    center, scale = run.state["target", 0, 0][:2]
    np.testing.assert_allclose(center + scale * standardised(run)[0][known], value, atol=0.1)


def test_huge_ratings_never_give_nan():
    R, known = planted()
    R[3, 5], known[3, 5] = 1e20, True
    for step in RATES:
        assert np.isfinite(training(R, known, step=step).run(5).finals[0].objective)


def test_columns_without_ratings_keep_no_factors():
    R, known = planted()
    known[:, 3] = False
    run = training(R, known).run(2)
    assert not run.joined("V")[3].any()
    assert run.joined("V")[4].any()


def test_bold_driver_halves_its_step_after_a_rise():
    R, known = planted()
    run = training(R, known, step="bold_driver", learning_rate=0.3).run(12)
    rates = [epoch.extra["learning_rate"] for epoch in run.epochs]
    values = [np.inf, *(epoch.objective for epoch in run.epochs)]
    factors = np.divide(rates[1:], rates[:-1])
    np.testing.assert_allclose(factors, np.where(np.diff(values)[:-1] > 0, 0.5, 1.05))
    assert 0.5 in np.round(factors, 3)


@pytest.mark.parametrize("step", ["adagrad", "bold_driver"])
def test_early_stopping_ends_the_segment_and_a_second_one_goes_on(step):
    R, known = planted()
    run = training(R, known, step=step)
    run.stop_at = 2
    run.run(4, 3)
    assert [epoch.number for epoch in run.epochs] == [1, 2, 3, 4, 5]
    assert len(run.finals) == 2


def test_epochs_whose_steps_are_known_need_no_barrier():
    R, known = planted()
    problem = training(R, known).problem
    program = MF().program(problem, (3,))
    next(program)
    program.send({"total": 10.0, "squares": 400.0, "negative": 0.0})
    item = program.send({})
    assert isinstance(item, Epochs)
    assert [params["learning_rate"] for params in item.params] == pytest.approx([0.1, 0.1 * 2 / 3, 0.1 / 3])
    assert not item.pass_.ahead


def test_default_ridge_falls_with_the_ratings_per_row_or_column():
    R, known = planted()
    problem = training(R, known, l2=None).problem
    common = {"n_rows": 25_000, "n_used_features": 100}
    assert ridge(problem) == 0.09
    assert ridge(problem._replace(nnz=1_800_000, **common)) == 0.03
    assert 0.03 < ridge(problem._replace(nnz=100_000, **common)) < 0.09
    plain = training(R, known, l2=None, weighted_l2=False).problem
    assert ridge(plain) == pytest.approx(0.09 * 2 * known.sum() / 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_factors": 0}, "n_factors is 0"),
        ({"n_factors": 2.5}, "n_factors is 2.5"),
        ({"l2": -1}, "l2 is -1"),
        ({"step": "adam"}, "step is 'adam'"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"l2": "abc"}, "l2 is 'abc'"),
        ({"n_factors": None}, "n_factors is None"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    R, known = planted()
    with pytest.raises(UsageError, match=message):
        training(R, known, **settings)


def test_data_without_ratings_are_refused():
    with pytest.raises(InputError, match="has none"):
        training(np.zeros((5, 4)), np.zeros((5, 4), bool))
