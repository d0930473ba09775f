"""Settings of multinomial logistic regression, and which of them make sense."""

from __future__ import annotations

from oocml.errors import InputError, UsageError
from oocml.models.protocol import Problem, Settings
from oocml.models.setting_bounds import CHOSEN, LARGEST, require_above_zero, require_count

DEFAULTS: Settings = {
    "l2": 1e-4,
    "solver": "ds",
    "polish": 0,
    "log_a": "exact",
    "fit_intercept": True,
    "learning_rate": None,
    "exact_objective": True,
    "history": 5,
    "inner": 5,
}
"""``l2``; ``solver`` ds, lbfgs or lc; ``fit_intercept``. Of ds: ``polish`` number of Newton passes after the epochs;
``log_a`` exact or stochastic; ``learning_rate`` first step (None: 4, raised while the loss is small, halved when it
rises); ``exact_objective`` whether rows are scored once more at the end. Of lbfgs and lc: ``history`` pairs of vectors
kept. Of lc: ``inner`` most steps of a class in an epoch."""
DS_ONLY = {"polish": 0, "log_a": "exact", "learning_rate": None, "exact_objective": True}
"""Settings that mean nothing to the other solvers, with their defaults."""
CHOICES = {
    "solver": ("ds", "lbfgs", "lc"),
    "log_a": ("exact", "stochastic"),
    "fit_intercept": (True, False),
    "exact_objective": (True, False),
}
COUNTS = {"polish": (0, 10_000), "history": (1, 1000), "inner": (1, 1000)}


def check(problem: Problem) -> None:
    """Raise `InputError` for data without classes, `UsageError` for settings without a meaning."""
    settings = problem.settings
    if problem.label_kind == "none" or problem.labels is None or not len(problem.labels):
        raise InputError(
            "mlr needs class labels (whole numbers, or sets of labels) and the dataset has none; "
            "ingest a file with labels"
        )
    for name, known in CHOICES.items():
        if settings[name] not in known:
            raise UsageError(f"{name} is {settings[name]!r}; mlr has {', '.join(map(str, known))}")
    require_above_zero(settings, "l2", LARGEST, "try 1e-4")
    for name, (least, most) in COUNTS.items():
        require_count(settings, name, least, most)
    if settings["learning_rate"] is not None:
        require_above_zero(settings, "learning_rate", LARGEST, CHOSEN)
    if settings["polish"] and not settings["exact_objective"]:
        raise UsageError("polish makes the objective exact; leave exact_objective=false out, or polish")
    for name, default in DS_ONLY.items():
        if settings["solver"] != "ds" and settings[name] != default:
            raise UsageError(f"{name} is a setting of solver=ds; leave it out with {settings['solver']}")
