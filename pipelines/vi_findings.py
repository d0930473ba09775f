"""What the lines of the experiments with variational inference say about the goals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .table import Finding, Section
from .vi_peers import MIXTURES

Rows = Sequence[Mapping[str, Any]]
CLAIMED = ("ap", "kos", "nips")
"""Where ESVI is held against VI's final bound."""
SOONER, MIXTURE_SOONER = 2.0, 3.0
"""How much sooner ESVI is to be where VI, or scikit-learn's mixture, ends."""
GOALS = {"elbo": -8.17, "heldout": -7.78}
"""Of AP with 128 topics and 40 epochs; CVB0 alone has to reach the held-out likelihood below."""
CVB0_GOAL = -7.71
SECONDS_GOAL = 2.0
MIXTURE_BAR = {"fashion_mnist": -68.4}
"""Test log likelihoods per row that are to be reached; of other sets, what scikit-learn ends with."""
SLACK = 1e-4
"""Nats that don't count."""
NEAR = 1e-3
"""Share of a bound that is near it."""
CLOCKS = {"seconds": "", "cpu_seconds": ", by processor time"}
DEFAULT = "ESVI, CVB0 start"


def add_topic_findings(section: Section, name: str, dataset: str, rows: Rows) -> None:
    """How much sooner ESVI is where VI ends; what AP has to reach."""
    own = [row for row in rows if row["dataset"] == dataset]
    for peer in ("VI, cold", "VI, cold, inner 100", "VI, CVB0 start", "sklearn-batch"):
        for clock, told in CLOCKS.items():
            sooner = times_sooner(own, DEFAULT, peer, "elbo", clock)
            goal = SOONER if name in CLAIMED and peer == "VI, cold" and clock == "seconds" else None
            if sooner is not None:
                section.add(f"{dataset}: times sooner ESVI has the final bound of {peer}{told}", sooner, goal)
                near = times_sooner(own, DEFAULT, peer, "elbo", clock, NEAR)
                section.add(
                    f"{dataset}: times sooner ESVI is within 0.1 % of the end of {peer}{told}", near or 0.0
                )
    ends = {row["method"]: row for row in own}
    if name != "ap" or not {DEFAULT, "CVB0"} <= set(ends):
        return
    for key, goal in GOALS.items():
        section.add(f"{dataset}: {key} of the default", ends[DEFAULT][key], goal)
    section.add(f"{dataset}: heldout of CVB0", ends["CVB0"]["heldout"], CVB0_GOAL)
    for method in (DEFAULT, "CVB0"):
        what = f"{dataset}: seconds of {method}, {ends[method]['epochs']} epochs"
        section.findings.append(Finding(what, ends[method]["seconds"], SECONDS_GOAL, at_least=False))


def add_mixture_findings(section: Section, name: str, dataset: str, rows: Rows) -> None:
    """How much sooner ESVI is where VI ends, and at a test log likelihood: the one set, or scikit-learn's last."""
    own = [row for row in rows if row["dataset"] == dataset]
    for clock, told in CLOCKS.items():
        sooner = times_sooner(own, "ESVI", "VI", "elbo", clock)
        if sooner is not None:
            section.add(f"{dataset}: times sooner ESVI has the final bound of VI{told}", sooner)
    for peer in MIXTURES:
        ends = [row["log_likelihood"] for row in own if row["method"] == peer]
        bar = MIXTURE_BAR.get(name, max(ends, default=math.nan))
        for clock, told in CLOCKS.items():
            ours, theirs = (first(own, method, "log_likelihood", bar, clock) for method in ("ESVI", peer))
            goal = MIXTURE_SOONER if name in MIXTURE_BAR and clock == "seconds" else None
            if theirs < math.inf:
                what = (
                    f"{dataset}: times sooner than {peer} ESVI has a test log likelihood of {bar:.2f}{told}"
                )
                section.add(what, theirs / ours, goal)


def times_sooner(
    rows: Rows, method: str, peer: str, key: str, clock: str = "seconds", near: float = 0.0
) -> float | None:
    """How many times sooner ``method`` is where a peer's longest training ends; 0 if it never is.

    That is the time of this training over that of the shortest of ``method`` that is as good; with ``near``, a relative
    distance from the end, the times of the shortest trainings of both that are as near.
    """
    theirs = [row for row in rows if row["method"] == peer]
    if not theirs:
        return None
    end = max(theirs, key=lambda row: row["epochs"])
    bar = end[key] - near * abs(end[key])
    taken = first(rows, peer, key, bar, clock) if near else end[clock]
    return float(taken / first(rows, method, key, bar, clock))


def first(rows: Rows, method: str, key: str, bar: float, clock: str = "seconds") -> float:
    """Seconds of the shortest training of a method that reaches ``bar``; infinity if none does."""
    reached = [row[clock] for row in rows if row["method"] == method and row[key] >= bar - SLACK]
    return min(reached, default=math.inf)
