"""Settings of ``lda``, and which kind of epoch is whose turn."""

from __future__ import annotations

from oocml.errors import InputError, UsageError
from oocml.models.protocol import Problem, Settings
from oocml.models.setting_bounds import require_above_zero, require_count

INFERENCE = ("esvi", "cvb0", "vi", "svi")
LEAST_PRIOR, LARGEST_PRIOR = 1e-4, 1e3
MOST_TOPICS = 65_536
MOST_EPOCHS = 2**31
CVB0_SHARE = 0.75
"""Of the epochs; topics take about ten to come apart."""
DENSE_EPOCHS = 20
"""Before so many, and before half of them all, no entry has its support chosen."""
LOOK_EVERY = 5
"""Epochs after which it is seen again whether supports have nearly all mass."""
MOST_OUTSIDE = 0.03
"""Share of the responsibilities that supports may leave out; of more, the bound never recovers (`docs/lda.md`)."""
EIGHT = 8
"""Supports are multiples of this, which is what their kernels take at a time."""


def defaults() -> Settings:
    return {
        "n_topics": 128,
        "alpha": 0.1,
        "eta": 0.01,
        "learn_priors": False,
        "inference": "esvi",
        "start": None,
        "cvb0_epochs": None,
        "store_z": True,
        "z_dtype": "float16",
        "top_k": None,
        "dense_epochs": None,
        "inner": None,
        "batches": 8,
        "kappa": 0.7,
        "tau": 10.0,
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
        require_count(settings, name, 0, MOST_EPOCHS)
    for name in ("cvb0_epochs", "dense_epochs", "top_k", "inner"):
        if settings[name] is not None:
            require_count(settings, name, 0, MOST_EPOCHS)
    require_count(settings, "batches", 1, MOST_EPOCHS)
    require_above_zero(settings, "tau", 1e9, "10 is usual")
    require_above_zero(settings, "kappa", 1, "0.7 is usual")
    if settings["kappa"] <= 0.5:
        raise UsageError(f"kappa is {settings['kappa']:g} but must be above 0.5, or steps never settle")
    if settings["learn_priors"] and (
        settings["inference"] not in ("esvi", "cvb0") or not settings["store_z"]
    ):
        raise UsageError("learn_priors goes with inference esvi or cvb0 and store_z; leave it out")


def require_choice(settings: Settings, name: str, choices: tuple[str | None, ...]) -> None:
    if settings[name] not in choices:
        known = ", ".join(str(choice) for choice in choices if choice is not None)
        raise UsageError(f"{name} is {settings[name]!r}; lda has {known}")


def starts_cold(settings: Settings) -> bool:
    """Whether the first epochs are those of the inference itself."""
    if settings["start"] is not None:
        return bool(settings["start"] == "cold")
    return settings["inference"] in ("vi", "svi")


def stores_z(settings: Settings) -> bool:
    """Whether responsibilities are kept at any time."""
    cold_baseline = settings["inference"] in ("vi", "svi") and starts_cold(settings)
    return bool(settings["store_z"]) and not cold_baseline


def in_batches(settings: Settings) -> bool:
    """Whether any epoch adds responsibilities up instead of keeping them."""
    return settings["inference"] in ("vi", "svi") or not stores_z(settings)


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


def inner_iterations(settings: Settings) -> int:
    """At most so many for each document; batches that see little of it need more."""
    if settings["inner"] is not None:
        return max(1, int(settings["inner"]))
    return 100 if settings["inference"] == "svi" else 10


def support_size(settings: Settings) -> int:
    """Topics that an entry keeps after the dense epochs; 0 if it keeps all."""
    n_topics, wanted = int(settings["n_topics"]), settings["top_k"]
    if not stores_z(settings):
        return 0
    if wanted is None:
        wanted = max(EIGHT, n_topics // 8)
        wanted = wanted if 4 * wanted <= n_topics else 0
    size = -(-int(wanted) // EIGHT) * EIGHT
    return size if size < n_topics else 0


def dense_epochs(settings: Settings, total: int) -> tuple[int, int]:
    """How many epochs of a training of ``total`` keep all topics, at least and at most.

    In between, supports are chosen as soon as little of the responsibilities is outside of them.
    """
    if settings["dense_epochs"] is not None:
        return int(settings["dense_epochs"]), int(settings["dense_epochs"])
    most = max(1, int(CVB0_SHARE * total))
    return min(max(DENSE_EPOCHS, total // 2), most), most
