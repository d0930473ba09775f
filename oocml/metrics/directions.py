"""Which way each metric gets better: early stopping, best epochs and reports ask here."""

from __future__ import annotations

import difflib

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


def higher_is_better(metric: str) -> bool:
    """Whether larger values of a metric are better.

    Raises
    ------
    UsageError
        For a metric that isn't known; the message names the known ones.
    """
    kind, at, rank = metric.rpartition("_at_")
    if at and kind in AT_RANK and rank.isdecimal():
        return True
    if metric not in HIGHER_IS_BETTER:
        close = difflib.get_close_matches(metric, HIGHER_IS_BETTER, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        known = [*HIGHER_IS_BETTER, *(f"{kind}_at_K" for kind in AT_RANK)]
        raise UsageError(f"unknown metric {metric!r}{hint} (known: {', '.join(known)})")
    return HIGHER_IS_BETTER[metric]


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether ``value`` beats ``than``; NaN beats nothing and is beaten by any number."""
    if value != value or than != than:
        return than != than and value == value
    return value > than if higher_is_better(metric) else value < than
