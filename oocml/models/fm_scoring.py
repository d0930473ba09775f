"""Evaluating and predicting with factorization machines: features stream by, each row keeps its sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from oocml.kernels.fm import TargetRows, fm_accumulate, fm_scores, sum_of_losses
from oocml.metrics import binary, regression
from oocml.models.fm_settings import is_classification, n_factors, shares, step_of, step_params
from oocml.models.fm_visits import feature_block
from oocml.models.protocol import Array, Problem
from oocml.types import Bounds, Csr, Float32Array, Float64Array


class Summed(NamedTuple):
    """What is kept of a batch of rows."""

    sums: Float32Array
    """Shape (n_rows, K + 2)."""
    ridge: Float64Array
    """Shape (1,): of the entries so far."""
    w0: np.float32
    target: Float64Array
    """(center, scale, lowest, highest), or nothing."""


class Counted(NamedTuple):
    counts: regression.Errors | binary.BinaryCounts
    terms: float
    """Sum of losses and ridge."""


class FmScoring:
    """See `oocml.models.scoring.Scoring`.

    Outputs per row: ``values``, or for two labels both ``labels``, the likelier first, and ``scores``, their
    probabilities (the likelier one alone with ``top`` 1).
    """

    seen = False
    per_entry = False

    def __init__(
        self, problem: Problem, top: int, n_factors: int, params: Mapping[str, Any], reads: tuple[str, ...]
    ) -> None:
        self.n_factors, self.labels = n_factors, problem.labels
        self.classifies = is_classification(problem)
        self.metric_names = (*(binary if self.classifies else regression).METRICS, "objective")
        self.top = min(top, 2) or 2
        self.problem, self.params, self.reads = problem, dict(params), reads

    @classmethod
    def of(cls, problem: Problem, top: int) -> FmScoring:
        """That of the model ``fm``."""
        k = n_factors(problem)
        reads = ("w", "w0", *(("V",) if k else ()), *(() if is_classification(problem) else ("target",)))
        return cls(problem, top, k, step_params(problem, 0.0, 1.0), reads)

    def begin(self, data: TargetRows, n_rows: int, state: Mapping[str, Array]) -> Summed:
        sums = np.zeros((n_rows, self.n_factors + 2), np.float32)
        return Summed(sums, np.zeros(1), state["w0"][0], state.get("target", np.zeros(0)))

    def visit(
        self,
        accumulator: Summed,
        data: TargetRows,
        cols: Bounds,
        col: Mapping[str, Array],
        seen: Csr | None,
    ) -> None:
        block = feature_block({**col, "share": shares(self.problem, cols)})
        accumulator.ridge[0] += fm_accumulate(data, block, accumulator.sums, step_of(self.params))

    def metrics(self, accumulator: Summed, data: TargetRows) -> Counted:
        f = self._scores(accumulator)
        params = self.params
        counts: regression.Errors | binary.BinaryCounts
        if self.classifies:
            counts = binary.accumulate(f, data.t)
        else:
            counts = regression.accumulate(self._values(accumulator, f), data.t)
            params = params | {"center": accumulator.target[0], "scale": accumulator.target[1]}
        loss = sum_of_losses(f, data.t, step_of(params))
        return Counted(counts, loss + float(accumulator.ridge[0]))

    def merge(self, a: Counted, b: Counted) -> Counted:
        of = binary if self.classifies else regression
        return Counted(of.merge(a.counts, b.counts), a.terms + b.terms)  # type: ignore[attr-defined]

    def scores(self, total: Counted) -> dict[str, float]:
        """Errors or metrics of a binary classifier; ``objective`` with these rows in place of the training's."""
        if isinstance(total.counts, binary.BinaryCounts):
            found, n = binary.scores(total.counts), total.counts.n_rows
        else:
            found, n = regression.scores(total.counts), total.counts.n
        return found | {"objective": total.terms / n if n else float("nan")}

    def predictions(self, accumulator: Summed, data: TargetRows) -> dict[str, Array]:
        f = self._scores(accumulator)
        if not self.classifies:
            return {"values": self._values(accumulator, f)}
        assert self.labels is not None
        second = (f > 0)[:, None]
        labels = np.where(second, self.labels[::-1], self.labels)
        likelier = 1 / (1 + np.exp(-np.abs(f.astype(np.float64))))
        scores = np.stack([likelier, 1 - likelier], axis=1).astype(np.float32)
        return {"labels": labels[:, : self.top], "scores": scores[:, : self.top]}

    def _scores(self, accumulator: Summed) -> Float32Array:
        f = np.empty(len(accumulator.sums), np.float32)
        fm_scores(accumulator.sums, accumulator.w0, f)
        return f

    def _values(self, accumulator: Summed, f: Float32Array) -> Float64Array:
        """In units of the target, within the training's range."""
        center, scale, lowest, highest = accumulator.target
        return np.clip(center + scale * f.astype(np.float64), lowest, highest)
