"""Which way each metric gets better: early stopping, best epochs and reports ask here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from oocml.errors import UsageError

HIGHER_IS_BETTER: dict[str, bool] = {
    "accuracy": True,
    "auc": True,
    "coherence_npmi": True,
    "elbo_per_row": True,
    "elbo_per_word": True,
    "f1_macro": True,
    "f1_micro": True,
    "heldout_log_likelihood_per_word": True,
    "log_likelihood_per_row": True,
    "log_loss": False,
    "mae": False,
    "map": True,
    "mrr": True,
    "objective": False,
    "perplexity": False,
    "rmse": False,
}
"""Metrics at one rank are in `AT_RANK`."""

AT_RANK = ("ndcg", "precision", "recall")
"""Metrics called ``NAME_at_K``; all of them are better when higher."""


def check_metric_of(model: str, metric: str, scores: Iterable[str]) -> None:
    """Refuse what a model cannot be judged by.

    Parameters
    ----------
    scores
        All that the model tells of data. Counts and ends of intervals among them get neither better nor worse.

    Raises
    ------
    UsageError
        With the metrics that the model has.
    """
    names = sorted(scores)
    metrics = [name for name in names if is_metric(name)]
    if metric in metrics:
        return
    begun = [name for name in metrics if metric and name.startswith(metric.lower())]
    close = begun or difflib.get_close_matches(metric.lower(), metrics, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    lacks = f"has no metric {metric!r}" if metric not in names else f"can't be judged by {metric!r}"
    raise UsageError(f"{model} {lacks}{hint}; it has {', '.join(metrics)}")


def is_metric(name: str) -> bool:
    """Whether a score is one that gets better or worse; counts and ends of intervals are not."""
    kind, at, rank = name.rpartition("_at_")
    return name in HIGHER_IS_BETTER or bool(at and kind in AT_RANK and rank.isdecimal())


def higher_is_better(metric: str) -> bool:
    """Whether larger values of a metric are better.

    Raises
    ------
    UsageError
        For a metric that isn't known; the message names the known ones.
    """
    if not is_metric(metric):
        known = [*HIGHER_IS_BETTER, *(f"{kind}_at_K" for kind in AT_RANK)]
        raise UsageError(f"unknown metric {metric!r} (known: {', '.join(known)})")
    return HIGHER_IS_BETTER.get(metric, True)


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether ``value`` beats ``than``; NaN beats nothing and is beaten by any number."""
    if value != value or than != than:
        return than != than and value == value
    return value > than if higher_is_better(metric) else value < than
