"""What can be set of a mixture, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oocml.errors import InputError, UsageError
from oocml.models.gmm_rows import MOST_SHARED_BYTES, fits_shared, statistics_bytes
from oocml.models.protocol import Problem
from oocml.models.setting_bounds import LARGEST, require_above_zero, require_count, require_not_below_zero

MIB = 2**20
MOST_COMPONENTS = 1_000_000
MOST_ROWS = 1_000_000
CHOICES: Mapping[str, tuple[str, ...]] = {
    "inference": ("esvi", "subset", "vi", "svi"),
    "covariance": ("diag", "full"),
    "init": ("random", "k-means++"),
    "z_dtype": ("float32", "float16"),
    "arithmetic": ("auto", "float32", "float64"),
}

DEFAULTS: Mapping[str, Any] = {
    "n_components": 64,
    "covariance": "diag",
    "inference": "esvi",
    "init": "random",
    "batch_rows": 2048,
    "sub_epoch_width": 4,
    "store_z": False,
    "z_dtype": "float32",
    "top_k": 0,
    "n_groups": 2,
    "alpha": 1.0,
    "kappa0": 0.01,
    "a0": 1.0,
    "b0": 0.1,
    "delay": 10.0,
    "forgetting": 0.7,
    "arithmetic": "auto",
    "exact_every": 0,
}


def check(problem: Problem) -> None:
    """Raise `InputError` for data without rows or features, `UsageError` for settings without a meaning."""
    settings = problem.settings
    if problem.n_rows == 0 or problem.n_features == 0:
        raise InputError(
            f"gmm needs numbers and the dataset has {problem.n_rows} rows of {problem.n_features} features; "
            "ingest a file with both"
        )
    for name, known in CHOICES.items():
        if settings[name] not in known:
            raise UsageError(f"{name} is {settings[name]!r}; gmm has {', '.join(known)}")
    require_count(settings, "n_components", 1, MOST_COMPONENTS)
    require_count(settings, "batch_rows", 1, MOST_ROWS)
    require_count(settings, "sub_epoch_width", 1, MOST_ROWS)
    require_count(settings, "exact_every", 0, MOST_ROWS)
    require_count(settings, "top_k", 0, int(settings["n_components"]))
    require_count(settings, "n_groups", 1, int(settings["n_components"]))
    for name in ("alpha", "kappa0", "a0", "b0"):
        require_above_zero(settings, name, LARGEST, "leave it out for the default")
    require_not_below_zero(settings, "delay", LARGEST, "10 is usual")
    require_above_zero(settings, "forgetting", 1, "0.5 to 1 is usual")
    if settings["delay"] < 1:
        raise UsageError(f"delay is {settings['delay']!r} but the first step would overshoot; use 1 or more")
    if (settings["store_z"] or settings["top_k"]) and settings["inference"] in ("vi", "svi"):
        raise UsageError(f"inference={settings['inference']} keeps no z; leave out store_z and top_k")
    if settings["top_k"] and (settings["inference"] == "subset" or not settings["store_z"]):
        raise UsageError(
            "top_k is for the z that inference=esvi stores with store_z=true; set that, or leave out top_k"
        )
    if settings["inference"] != "vi" and not fits_shared(problem):
        raise UsageError(
            f"the statistics of {settings['n_components']} components take {statistics_bytes(problem) / MIB:.0f} MiB, "
            f"more than the {MOST_SHARED_BYTES // MIB} MiB that every task may hold under inference="
            f"{settings['inference']}; use inference=vi, which cuts components into blocks, or fewer components"
        )
    if settings["init"] == "k-means++" and not fits_shared(problem):
        raise UsageError(
            f"init k-means++ holds the means of all {settings['n_components']} components, too many for one array; "
            "use init=random"
        )
