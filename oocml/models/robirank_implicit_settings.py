"""Settings of implicit RoBiRank: defaults that depend on the data, and what must not be combined."""

from __future__ import annotations

import math

import numpy as np

from oocml.errors import InputError, UsageError
from oocml.models.protocol import Array, Problem, Settings, derive_seed
from oocml.models.setting_bounds import (
    CHOSEN,
    LARGEST,
    MOST_FACTORS,
    require_above_zero,
    require_count,
    require_not_below_zero,
)
from oocml.types import Bounds

DEFAULTS: Settings = {
    "n_factors": 64,
    "loss": "robirank",
    "surrogate": "exp",
    "rho": 1,
    "xi": "sampled",
    "refresh": 3,
    "weight_cap": 20.0,
    "n_negatives": None,
    "l2": None,
    "learning_rate": None,
    "weighted": False,
    "measured_items": 1000,
}
CHOICES = {
    "loss": ("robirank", "bpr", "warp"),
    "surrogate": ("exp", "logistic"),
    "xi": ("sampled", "exact"),
}
RATE = 0.2
L2_SCALE, BPR_L2_SCALE = 1.15, 0.06
LOGISTIC_L2_SCALES = {1: 0.6, 2: 0.4}
"""The ridge at one positive item per user; it falls with the root of their number."""
MANY_ITEMS = 10_000
"""From here on more negatives are needed."""
NEGATIVES, MANY_NEGATIVES, BPR_NEGATIVES, WARP_TRIES = 256, 512, 64, 64
LEAST_NEGATIVES = 16
"""A visit of a user draws at least so many, however narrow the column block is."""
MOST_NEGATIVES = 2**16
SAMPLE_SEED = 3


def check_settings(problem: Problem) -> None:
    """Raise `UsageError` for settings without a meaning, `InputError` for data without interactions."""
    settings = problem.settings
    if problem.nnz == 0:
        raise InputError(
            "robirank-implicit needs interactions and the dataset has none; ingest lines of `user item item ...`"
        )
    for name, known in CHOICES.items():
        if settings[name] not in known:
            raise UsageError(f"{name} is {settings[name]!r}; robirank-implicit has {', '.join(known)}")
    require_count(settings, "n_factors", 1, MOST_FACTORS)
    require_count(settings, "refresh", 1, 10**6)
    require_count(settings, "measured_items", 1, 2**31 - 1)
    require_count(settings, "rho", 1, 2)
    require_above_zero(settings, "weight_cap", LARGEST, "20 is the default")
    if settings["n_negatives"] is not None:
        require_count(settings, "n_negatives", 1, MOST_NEGATIVES)
    if settings["l2"] is not None:
        require_not_below_zero(settings, "l2", LARGEST, CHOSEN)
    if settings["learning_rate"] is not None:
        require_above_zero(settings, "learning_rate", LARGEST, CHOSEN)
    if not isinstance(settings["weighted"], bool):
        raise UsageError(f"weighted is {settings['weighted']!r} but must be true or false")
    pairs = [name for name in ("rho", "xi") if settings[name] != DEFAULTS[name]]
    if pairs and not uses_xi(problem):
        raise UsageError(
            f"{pairs[0]}={settings[pairs[0]]} belongs to surrogate=logistic of loss=robirank; add that or leave it out"
        )
    if settings["loss"] != "robirank" and settings["surrogate"] != DEFAULTS["surrogate"]:
        raise UsageError(f"loss={settings['loss']} has a surrogate of its own; leave surrogate out")


def is_softmax(problem: Problem) -> bool:
    """Whether pairs are coupled by one number per user: RoBiRank with the exponential surrogate."""
    return bool(problem.settings["loss"] == "robirank" and problem.settings["surrogate"] == "exp")


def uses_xi(problem: Problem) -> bool:
    """Whether pairs have weights xi: RoBiRank with the logistic surrogate."""
    return bool(problem.settings["loss"] == "robirank" and problem.settings["surrogate"] == "logistic")


def keeps_xi(problem: Problem) -> bool:
    return uses_xi(problem) and problem.settings["xi"] == "exact"


def rank_loss(problem: Problem) -> int:
    """rho of the objective; 0: the mean of the pairs' surrogates. WARP's is told by that of rho1."""
    return 0 if problem.settings["loss"] == "bpr" else int(problem.settings["rho"])


def l2_scale(problem: Problem) -> float:
    if uses_xi(problem):
        return LOGISTIC_L2_SCALES[problem.settings["rho"]]
    return BPR_L2_SCALE if problem.settings["loss"] == "bpr" else L2_SCALE


def ridge(problem: Problem) -> float:
    """The ``l2`` to train with.

    Where it isn't set: 1.15 / sqrt(positive items per user), fitted on sets with 133, 39 and 27 of them, right on
    one with 14, and within 3 % of the best NDCG@10 on two with 86 and 34.
    """
    l2 = problem.settings["l2"]
    if l2 is not None:
        return float(l2)
    return l2_scale(problem) / math.sqrt(max(1.0, problem.nnz / max(1, problem.n_rows)))


def first_rate(problem: Problem) -> float:
    rate = problem.settings["learning_rate"]
    return RATE if rate is None else float(rate)


def n_negatives(problem: Problem) -> int:
    """Negatives of a user over all items (tries of WARP)."""
    n = problem.settings["n_negatives"]
    if n is not None:
        return int(n)
    if problem.settings["loss"] != "robirank":
        return BPR_NEGATIVES if problem.settings["loss"] == "bpr" else WARP_TRIES
    return NEGATIVES if problem.n_features <= MANY_ITEMS else MANY_NEGATIVES


def measured_weights(problem: Problem, cols: Bounds) -> Array:
    """What each column counts for in sums that the objective is told by; 0: it is left out.

    Shape (cols,), float32. A fixed sample, drawn once for a run: each column is in it with a chance of its own,
    half of it even and half by its frequency, and counts for the inverse of that, so that sums are right on
    average. Of up to half of ``measured_items`` columns all are in it.
    """
    n = float(problem.settings["measured_items"])
    counts = np.asarray(problem.feature_nnz[cols.lo : cols.hi], np.float64)
    chance = np.minimum(1.0, n * (0.5 / problem.n_features + 0.5 * counts / problem.nnz))
    drawn = _uniform(derive_seed(problem.seed, SAMPLE_SEED), cols)
    return np.where(drawn < chance, 1 / chance, 0).astype(np.float32)


def _uniform(seed: int, cols: Bounds) -> Array:
    """A number in [0, 1) for each column, from the seed and its place (splitmix64)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(cols.lo, cols.hi, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z / 2.0**64
