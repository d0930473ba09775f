import numpy as np
import pytest

from oocml import api
from oocml.models.mlr_lc import LARGEST_EXPONENT, lc_pass
from tests.models.mlr_oracles import numeric_gradient, optimum, randomise, write_panels
from tests.models.test_mlr import objective, one_hot, planted, training

N_CLASSES = 8


@pytest.fixture(scope="module")
def data():
    return planted(n_rows=240, n_features=12, n_classes=N_CLASSES)


def bound_of(run, X, T, log_a, W=None, c=None):
    """f_k of every class at (W, c), in float64."""
    W = run.joined("W").astype(np.float64) if W is None else W
    c = run.joined("intercept").astype(np.float64) if c is None else c
    Z = X @ W + c
    means = (np.exp(Z + log_a[:, None]) - T * Z).mean(axis=0)
    return means + run.problem.settings["l2"] / 2 * (W**2).sum(axis=0)


def lc_scratch(run, sweeps):
    """Scratch of the first column block as it is after so many sweeps of an lc pass."""
    pass_, seen = lc_pass(run.problem, run.problem.n_rows), {}
    kernel = run.model.kernels["lc"]

    def record(v):
        if v.q == 0 and v.sweep == sweeps - 1:
            seen.update({name: array.copy() for name, array in v.scratch.items()})
        return kernel.end_sweep(v)

    run.model.kernels = {**run.model.kernels, "lc": kernel._replace(end_sweep=record)}
    run.run_pass(pass_)
    return seen


def test_values_and_gradients_agree_with_finite_differences():
    X, y = planted(n_rows=80, n_features=5, n_classes=4)
    run = training(X, y, row_bounds=(0, 30), col_bounds=(0,), solver="lc", l2=0.1)
    log_a, T = randomise(run, exact=False), one_hot(y, np.arange(4.0))
    W, c = run.joined("W").astype(np.float64), run.joined("intercept").astype(np.float64)
    # before L2 is added, at the end of the first sweep
    seen = lc_scratch(run, sweeps=1)
    ridge = 0.05 * (W**2).sum(axis=0)
    np.testing.assert_allclose(seen["values"][0], bound_of(run, X, T, log_a, W, c) - ridge, rtol=1e-5)
    expected = numeric_gradient(lambda W, c: bound_of(run, X, T, log_a, W, c).sum(), W, c)
    expected[:-1] -= 0.1 * W
    np.testing.assert_allclose(seen["A"], expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("exact", [True, False])
def test_no_class_rises_on_its_bound_and_the_objective_stays_below(data, exact):
    X, y = data
    run = training(X, y, solver="lc", l2=1e-3)
    log_a, T = randomise(run, seed=1, exact=exact), one_hot(y, np.unique(y))
    before = bound_of(run, X, T, log_a)
    run.run_pass(lc_pass(run.problem, len(X)))
    after = bound_of(run, X, T, log_a)
    assert (after < before).all()
    assert objective(run, X, T) <= after.sum() - log_a.mean() - 1 + 1e-9


@pytest.mark.parametrize(
    ("settings", "scale"),
    [({}, 1), ({"history": 1, "inner": 1}, 1), ({"fit_intercept": False}, 1), ({}, 1e3), ({}, 1e-3)],
)
def test_objective_is_exact_and_never_rises(data, settings, scale):
    X, y = data
    X = X * np.float32(scale)
    run = training(X, y, solver="lc", l2=1e-3 * scale**2, **settings).run(25)
    values = np.array([np.log(N_CLASSES), *(epoch.objective for epoch in run.epochs)])
    assert (np.diff(values) <= 1e-7 * values[1:]).all()
    exact = objective(run, X, one_hot(y, np.unique(y)))
    assert run.finals[0].objective == run.epochs[-1].objective == pytest.approx(exact, rel=1e-6)
    if settings.get("fit_intercept") is False:
        assert (run.joined("intercept") == 0).all()


def test_wild_scales_of_features_never_give_nan_nor_rise(data):
    X, y = data
    X = X * np.float32(10.0) ** np.linspace(-4, 4, X.shape[1]).astype(np.float32)
    run = training(X, y, solver="lc").run(10)
    values = np.array([np.log(N_CLASSES), *(epoch.objective for epoch in run.epochs)])
    assert (np.diff(values) <= 1e-7 * values[1:]).all()
    assert values[-1] < values[0]


def test_a_trial_whose_exponents_are_cut_off_is_refused_anyway():
    # the smallest change of f that exp(LARGEST_EXPONENT) in one row can make dwarfs f of any accepted point
    largest_n = 1e9
    assert np.exp(float(LARGEST_EXPONENT)) / largest_n > 1e3
    assert np.isfinite(np.float32(np.exp(float(LARGEST_EXPONENT)) * largest_n))


@pytest.mark.parametrize("settings", [{}, {"fit_intercept": False}, {"inner": 2, "history": 2}])
def test_reaches_the_optimum(data, settings):
    X, y = data
    run = training(X, y, solver="lc", l2=0.1, **settings).run(60)
    best = optimum(X, y, 0.1, settings.get("fit_intercept", True))
    assert run.finals[0].objective == pytest.approx(best, rel=1e-4)


def test_result_does_not_depend_on_the_class_blocks(data):
    X, y = data
    settings = {"solver": "lc", "l2": 1e-2}
    whole, cut = training(X, y, col_bounds=(0,), **settings).run(8), training(X, y, **settings).run(8)
    for a, b in zip(whole.epochs, cut.epochs, strict=True):
        assert a.objective == pytest.approx(b.objective, rel=1e-5)
    np.testing.assert_allclose(
        whole.joined("W"), cut.joined("W"), atol=1e-3 * np.abs(whole.joined("W")).max()
    )


def test_a_class_that_is_done_stays_and_spares_the_others_no_step(data):
    X, y = data
    run = training(X, y, solver="lc", l2=0.1, inner=40).run(4)
    assert 1 <= run.epochs[-1].extra["inner_steps"] < 40


def test_a_class_without_rows_and_featureless_rows_are_harmless(data):
    X, y = data
    X = X.copy()
    X[:10] = 0
    X[:, 4] = 0
    labels = np.arange(N_CLASSES + 1.0)
    run = training(X, y, labels=labels, solver="lc", l2=1e-2).run(10)
    assert (run.joined("W")[4] == 0).all()
    assert run.joined("intercept").argmin() == N_CLASSES
    assert run.finals[0].objective == pytest.approx(objective(run, X, one_hot(y, labels)), rel=1e-6)


def test_stored_in_blocks_it_reaches_the_optimum_of_scikit_learn(data, tmp_path):
    X, y = data
    run = api.train(
        "mlr",
        write_panels(tmp_path / "data.zarr", X, y),
        tmp_path / "run.zarr",
        epochs=40,
        schedule="serial",
        settings={"solver": "lc", "l2": 0.1},
        row_blocks=3,
        col_blocks=4,
    )
    assert run.summary()["objective"] == pytest.approx(optimum(X, y, 0.1), rel=1e-4)
    assert all(np.diff([record["objective"] for record in run.history]) <= 1e-7)
