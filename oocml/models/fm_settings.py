"""What a factorization machine's settings come to, given its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.errors import InputError, UsageError
from oocml.kernels.fm import Step
from oocml.models.protocol import Array, Problem, Settings
from oocml.models.setting_bounds import (
    CHOSEN,
    LARGEST,
    MOST_FACTORS,
    require_above_zero,
    require_count,
    require_not_below_zero,
)
from oocml.models.step_sizes import KINDS
from oocml.types import Bounds

TASKS = ("regression", "classification")
SOLVERS = ("tiles", "dsfacto")
TOURS = ("fused", "two_pass")
DEFAULTS: Settings = {
    "n_factors": 16,
    "l2_linear": None,
    "l2_factors": None,
    "weighted_l2": True,
    "task": None,
    "solver": "tiles",
    "tour": "fused",
    "step": "adagrad",
    "learning_rate": None,
}
RATES: Mapping[str, float] = {kind: 0.1 if kind == "adagrad" else 0.01 for kind in KINDS}
DSFACTO_RATE = 0.03
"""Stable with several row blocks on data like housing, where 0.1 isn't; far less than a single block could take."""
L2 = {"regression": 0.06, "classification": 0.03}
"""Default ridge of the factors, by occurrence."""
LINEAR_SHARE = 0.1
"""Default ridge of the linear weights relative to that of the factors."""
SPREAD = 0.1
"""Variance of the factors at the start, times a row's mean number of entries and the root of the factors' number."""


def task_of(problem: Problem) -> str:
    """The task set, or classification for data with exactly two labels."""
    if problem.settings["task"] is not None:
        return str(problem.settings["task"])
    two = problem.labels is not None and len(problem.labels) == 2
    return "classification" if two else "regression"


def is_classification(problem: Problem) -> bool:
    return task_of(problem) == "classification"


def n_factors(problem: Problem) -> int:
    return int(problem.settings["n_factors"])


def ridges(problem: Problem) -> tuple[float, float]:
    """(l2_linear, l2_factors). Defaults of the plain ridge are those by occurrence, for a feature of mean frequency."""
    settings = problem.settings
    l2 = settings["l2_factors"]
    if l2 is None:
        l2 = L2[task_of(problem)]
        if not settings["weighted_l2"]:
            l2 *= problem.nnz / (max(1, problem.n_rows) * max(1, problem.n_used_features))
    linear = settings["l2_linear"]
    return float(LINEAR_SHARE * l2 if linear is None else linear), float(l2)


def chosen(problem: Problem) -> Settings:
    """Settings that may be None, by what they come to."""
    linear, factors = ridges(problem)
    return {
        "task": task_of(problem),
        "l2_linear": linear,
        "l2_factors": factors,
        "learning_rate": first_rate(problem),
    }


def shares(problem: Problem, cols: Bounds) -> Array:
    """The ridge of every occurrence of a feature: all of it, or so much that it adds up to 1 for a row on average."""
    if problem.settings["weighted_l2"]:
        return np.ones(cols.size, np.float32)
    return (problem.n_rows / np.maximum(problem.feature_nnz[cols.lo : cols.hi], 1)).astype(np.float32)


def first_rate(problem: Problem) -> float:
    rate = problem.settings["learning_rate"]
    if rate is not None:
        return float(rate)
    return DSFACTO_RATE if problem.settings["solver"] == "dsfacto" else RATES[problem.settings["step"]]


def step_params(problem: Problem, center: float, scale: float) -> dict[str, Any]:
    """What every kernel is told; ``learning_rate`` is still to be set where steps are taken."""
    linear, factors = ridges(problem)
    return {
        "learning_rate": 0.0,
        "l2_linear": linear,
        "l2_factors": factors,
        "adagrad": problem.settings["step"] == "adagrad",
        "logistic": is_classification(problem),
        "center": center,
        "scale": scale,
    }


def step_of(params: Mapping[str, Any]) -> Step:
    return Step(
        eta=np.float32(params["learning_rate"]),
        l2_linear=np.float32(params["l2_linear"]),
        l2_factors=np.float32(params["l2_factors"]),
        adagrad=bool(params["adagrad"]),
        logistic=bool(params["logistic"]),
        center=float(params["center"]),
        inverse_scale=1 / float(params["scale"]),
    )


def check(problem: Problem) -> None:
    """Raise `InputError` for data without targets, `UsageError` for settings without a meaning."""
    settings = problem.settings
    for name, allowed in (("task", TASKS), ("solver", SOLVERS), ("tour", TOURS), ("step", KINDS)):
        if settings[name] not in allowed and not (name == "task" and settings[name] is None):
            raise UsageError(f"{name} is {settings[name]!r}; fm has {', '.join(allowed)}")
    require_count(settings, "n_factors", 0, MOST_FACTORS)
    for name in ("l2_linear", "l2_factors"):
        if settings[name] is not None:
            require_not_below_zero(settings, name, LARGEST, CHOSEN)
    if settings["learning_rate"] is not None:
        require_above_zero(settings, "learning_rate", LARGEST, CHOSEN)
    if settings["solver"] == "tiles" and settings["tour"] != "fused":
        raise UsageError("tour is a setting of solver=dsfacto; leave it out with tiles")
    if settings["solver"] == "dsfacto" and settings["step"] == "bold_driver":
        raise UsageError("step=bold_driver is for solver=tiles; dsfacto has the others")
    check_data(problem, "fm")


def check_data(problem: Problem, model: str) -> None:
    """Raise `InputError` for data without numbers to predict, or of two labels if classes are wanted."""
    if problem.label_kind != "number":
        has = "sets of labels" if problem.label_kind == "sets" else "no labels"
        raise InputError(
            f"{model} needs a number per row to predict and the dataset has {has}; ingest one with them"
        )
    if problem.nnz == 0:
        raise InputError(f"{model} needs features and the dataset has no entries; ingest one with them")
    if is_classification(problem) and (problem.labels is None or len(problem.labels) != 2):
        n = "many" if problem.labels is None else len(problem.labels)
        raise InputError(f"task=classification needs two labels and the dataset has {n}; try task=regression")


def no_targets(model: str) -> InputError:
    return InputError(f"no row of the dataset has a target; {model} has nothing to learn from")
