"""Evaluating and predicting with DS-MLR: classes stream by, rows keep their best few and a log-sum-exp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from oocml.kernels.mlr import CHUNK, EMPTY, ClassBlock, LabelledRows, mlr_rank
from oocml.kernels.mlr_finish import mlr_class_sums
from oocml.metrics import classification
from oocml.models.protocol import Array, Problem
from oocml.types import Bounds, Csr, Float32Array, Float64Array, Int64Array


class Scored(NamedTuple):
    """What is kept of a batch of rows."""

    ids: Int64Array
    """Shape (n_rows, top): best classes so far, best first, -1 for none."""
    best: Float32Array
    """Shape (n_rows, top): their scores."""
    lse: Float32Array
    """Shape (n_rows, 2): log-sum-exp of all scores so far, as (maximum, sum)."""
    fit: Float64Array
    """Shape (n_rows,): mean score of the row's own labels."""


class Counted(NamedTuple):
    classified: classification.Classified
    squares: float
    """Sum of squares of all weights."""


class MlrScoring:
    """See `oocml.models.scoring.Scoring`."""

    reads = ("W", "intercept")
    seen = False
    per_entry = False
    metric_names = (*classification.METRICS, "objective")

    def __init__(self, problem: Problem, top: int) -> None:
        self.labels = np.asarray(() if problem.labels is None else problem.labels)
        n_classes = len(self.labels)
        self.top = min(top or classification.DEPTH, n_classes)
        self.l2 = float(problem.settings["l2"])
        self.squares: dict[int, float] = {}
        """Sum of squared weights by first class of the block."""

    def begin(self, data: LabelledRows, n_rows: int, state: Mapping[str, Array]) -> Scored:
        del data, state
        lse = np.zeros((n_rows, 2), np.float32)
        lse[:, 0] = EMPTY
        ids = np.full((n_rows, self.top), -1, np.int64)
        return Scored(ids, np.zeros((n_rows, self.top), np.float32), lse, np.zeros(n_rows))

    def visit(
        self,
        accumulator: Scored,
        data: LabelledRows,
        cols: Bounds,
        col: Mapping[str, Array],
        seen: Csr | None = None,
    ) -> None:
        del seen
        if cols.lo not in self.squares:
            self.squares[cols.lo] = mlr_class_sums(col["W"], np.empty(len(col["W"]), np.float32))
        block = ClassBlock(col["W"], col["intercept"], cols.lo)
        work = np.empty((2, int(CHUNK)), np.float32)
        mlr_rank(data, block, accumulator.ids, accumulator.best, accumulator.lse, accumulator.fit, work)

    def metrics(self, accumulator: Scored, data: LabelledRows) -> Counted:
        truth = classification.Truth(data.label_indptr, data.labels)
        losses = self._log_sum_exp(accumulator) - accumulator.fit
        row = np.repeat(np.arange(len(losses)), np.diff(truth.indptr))
        losses[row[truth.ids < 0]] = np.nan
        return Counted(classification.accumulate(accumulator.ids, truth, losses), sum(self.squares.values()))

    def merge(self, a: Counted, b: Counted) -> Counted:
        return Counted(classification.merge([a.classified, b.classified]), a.squares)

    def scores(self, total: Counted) -> dict[str, float]:
        """Metrics of a classifier, and ``objective`` with the data's mean log loss in place of the training's."""
        result = classification.scores(total.classified)
        return result | {"objective": result["log_loss"] + self.l2 / 2 * total.squares}

    def predictions(self, accumulator: Scored, data: LabelledRows) -> dict[str, Array]:
        """``labels`` best first (-1: none), and ``scores``, their probabilities."""
        del data
        known = accumulator.ids >= 0
        labels = np.where(known, self.labels[np.maximum(accumulator.ids, 0)], -1)
        log_p = np.where(known, accumulator.best - self._log_sum_exp(accumulator)[:, None], -np.inf)
        return {"labels": labels, "scores": np.exp(log_p).astype(np.float32)}

    @staticmethod
    def _log_sum_exp(accumulator: Scored) -> Float64Array:
        lse = accumulator.lse.astype(np.float64)
        return np.asarray(lse[:, 0] + np.log(lse[:, 1]))
