import numpy as np
import pytest

from oocml.engine.in_memory import problem_of
from oocml.errors import UsageError
from oocml.models.mlr import MLR
from oocml.types import Csr, Panel


def check(**settings):
    X = Csr(np.array([0, 1, 2]), np.array([0, 0], np.int32), np.ones(2, np.float32))
    model = MLR()
    model.check(problem_of(model, Panel(X, np.arange(2.0), np.arange(2)), 1, np.arange(2.0), **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"l2": 1e-9, "polish": 3.0, "learning_rate": 50, "log_a": "stochastic", "fit_intercept": False},
        {"solver": "lbfgs", "history": 2},
        {"solver": "lc", "inner": 1},
    ],
)
def test_settings_with_a_meaning_pass(settings):
    check(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l2": 0.0}, "l2 is 0.0 but must be > 0"),
        ({"l2": 1e30}, "l2 is 1e.30 but must be > 0 and at most"),
        ({"solver": "magic"}, "solver is 'magic'"),
        ({"log_a": "guess"}, "log_a is 'guess'"),
        ({"fit_intercept": "perhaps"}, "fit_intercept is 'perhaps'; mlr has True, False"),
        ({"polish": -1}, "polish is -1"),
        ({"polish": float("nan")}, "polish is nan"),
        ({"history": 0}, "history is 0"),
        ({"inner": 10**9}, "inner is 1000000000"),
        ({"learning_rate": -0.5}, "learning_rate is -0.5"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 1e30}, "learning_rate is 1e.30"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"solver": "lbfgs", "polish": 1}, "polish is a setting of solver=ds"),
        ({"exact_objective": "yes"}, "exact_objective is 'yes'; mlr has True, False"),
        ({"polish": 1, "exact_objective": False}, "leave exact_objective=false out, or polish"),
        ({"solver": "lbfgs", "exact_objective": False}, "exact_objective is a setting of solver=ds"),
        ({"solver": "lc", "learning_rate": 1.0}, "learning_rate is a setting of solver=ds"),
    ],
)
def test_settings_without_a_meaning_are_refused_in_one_line(settings, message):
    with pytest.raises(UsageError, match=message) as caught:
        check(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("learning_rate", [1e-30, 1e6])
def test_the_outermost_steps_train(learning_rate):
    from tests.models.test_mlr import planted, training

    X, y = planted()
    run = training(X, y, learning_rate=learning_rate, l2=1e6).run(2)
    assert np.isfinite([epoch.objective for epoch in run.epochs]).all()
