"""Evaluating and predicting with linear scores of rows within queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from oocml.kernels.robirank_explicit import RankedRows, explicit_scores, explicit_visit
from oocml.metrics import ranking
from oocml.models.protocol import Array, Problem
from oocml.types import Bounds, Csr, Float64Array


class Scored(NamedTuple):
    """What is kept of a batch of rows."""

    scores: Float64Array
    """Shape (n_rows,)."""
    weights: Float64Array
    """Shape (n_features,)."""
    squares: float
    """Sum of squared weights of features in standard deviations."""


class Counted(NamedTuple):
    rankings: ranking.Rankings
    loss: float
    """Sum over the queries."""
    squares: float


class ExplicitScoring:
    """See `oocml.models.protocol.Scoring`.

    Metrics: those of `oocml.metrics.ranking`, and ``objective`` with these queries in place of the training's.
    Outputs per row: ``values``, the scores; only those of one query can be compared.
    """

    metric_names = (*ranking.NAMES, "objective")
    reads = ("weights", "spread")
    seen = False
    per_entry = False

    def __init__(self, problem: Problem) -> None:
        self.rho, self.l2 = int(problem.settings["rho"]), float(problem.settings["l2"])

    def begin(self, data: RankedRows, n_rows: int, state: Mapping[str, Array]) -> Scored:
        scores, weights = np.zeros(n_rows), state["weights"]
        explicit_scores(data.X, 0, n_rows, weights, scores)
        return Scored(scores, weights, float(np.sum((weights * state["spread"]) ** 2)))

    def visit(
        self,
        accumulator: Scored,
        data: RankedRows,
        cols: Bounds,
        col: Mapping[str, Array],
        seen: Csr | None = None,
    ) -> None:
        """There is nothing in columns."""

    def metrics(self, accumulator: Scored, data: RankedRows) -> Counted:
        found = ranking.accumulate(accumulator.scores, data.grade, data.start, data.qid)
        losses, nothing = np.zeros(1), np.zeros_like(accumulator.weights)
        still = np.zeros(1)
        explicit_visit(data, accumulator.weights, nothing, still, self.rho, self.rho, losses, nothing.copy())
        return Counted(found, float(losses[0]), accumulator.squares)

    def merge(self, a: Counted, b: Counted) -> Counted:
        return Counted(ranking.merge(a.rankings, b.rankings), a.loss + b.loss, a.squares)

    def scores(self, total: Counted) -> dict[str, float]:
        """See the class."""
        n = total.rankings.n_ranked
        objective = total.loss / n + self.l2 / 2 * total.squares if n else float("nan")
        return ranking.scores(total.rankings) | {"objective": objective}

    def intervals(self, total: Counted) -> dict[str, float]:
        """Ends of 95 % bootstrap intervals."""
        return ranking.intervals(total.rankings)

    def per_query(self, total: Counted) -> list[dict[str, Any]]:
        """What each query scores, a record each."""
        return ranking.per_query(total.rankings)

    def predictions(self, accumulator: Scored, data: RankedRows) -> dict[str, Array]:
        return {"values": accumulator.scores}
