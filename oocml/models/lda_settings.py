"""Settings of ``lda``, and which kind of epoch is whose turn."""

from __future__ import annotations

from oocml.errors import InputError, UsageError
from oocml.models.protocol import Problem, Settings
from oocml.models.setting_bounds import require_above_zero, require_count

INFERENCE = ("esvi", "cvb0", "vi", "svi")
LEAST_PRIOR, LARGEST_PRIOR = 1e-4, 1e3
MOST_TOPICS = 65_536
CVB0_SHARE = 0.75
"""Of the epochs; topics take about ten to come apart."""


def defaults() -> Settings:
    return {
        "n_topics": 128,
        "alpha": 0.1,
        "eta": 0.01,
        "inference": "esvi",
        "start": None,
        "cvb0_epochs": None,
        "z_dtype": "float16",
        "sub_epoch_width": 0,
        "exact_every": 0,
    }


def check(problem: Problem) -> None:
    """Raise `InputError` for data without entries, `UsageError` for settings without a meaning."""
    settings = problem.settings
    if problem.nnz == 0:
        raise InputError("lda needs documents with words and the dataset has no entries")
    require_count(settings, "n_topics", 2, MOST_TOPICS)
    for name in ("alpha", "eta"):
        require_above_zero(settings, name, LARGEST_PRIOR, "0.1 and 0.01 are usual")
        if settings[name] < LEAST_PRIOR:
            raise UsageError(f"{name} is {settings[name]:g} but must be at least {LEAST_PRIOR:g}")
    require_choice(settings, "inference", INFERENCE)
    require_choice(settings, "start", (None, "cvb0", "cold"))
    require_choice(settings, "z_dtype", ("float16", "float32"))
    for name in ("sub_epoch_width", "exact_every"):
        require_count(settings, name, 0, 2**31)
    if settings["cvb0_epochs"] is not None:
        require_count(settings, "cvb0_epochs", 0, 2**31)


def require_choice(settings: Settings, name: str, choices: tuple[str | None, ...]) -> None:
    if settings[name] not in choices:
        known = ", ".join(str(choice) for choice in choices if choice is not None)
        raise UsageError(f"{name} is {settings[name]!r}; lda has {known}")


def starts_cold(settings: Settings) -> bool:
    """Whether the first epochs are those of the inference itself."""
    if settings["start"] is not None:
        return bool(settings["start"] == "cold")
    return settings["inference"] in ("vi", "svi")


def kind_of(settings: Settings, number: int, total: int) -> str:
    """Whether epoch ``number`` (from 1) of a training of ``total`` is one of esvi, cvb0, vi or svi."""
    inference = settings["inference"]
    if inference == "cvb0":
        return "cvb0"
    if starts_cold(settings):
        return str(inference)
    n_first = settings["cvb0_epochs"]
    if n_first is None:
        n_first = int(CVB0_SHARE * total)
    return "cvb0" if number <= n_first else str(inference)
