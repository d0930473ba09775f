"""Evaluating and predicting with matrix factorization: items stream by, each row keeps its predictions or its best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from oocml.kernels.mf import Side, Step, mf_measure
from oocml.kernels.topk import merge_topk
from oocml.metrics import regression
from oocml.models.protocol import Array, Problem
from oocml.types import Bounds, Csr, Float32Array, Int32Array, Int64Array

SCORES_AT_ONCE = 2**20
"""Scores of rows x columns that are held at a time while rankings are made."""


class Entry(NamedTuple):
    """Predictions of some of a batch's entries, all of shape (n,)."""

    row: Int32Array
    """Within the batch."""
    col: Int32Array
    """In the run's order of columns."""
    predicted: Float32Array
    truth: Float32Array


class Rated(NamedTuple):
    """What is kept of a batch of rows."""

    rows: Side
    target: Float32Array
    """(center, scale, lowest, highest) of the training's ratings."""
    entries: list[Entry]
    """One for each column block so far."""
    terms: list[float]
    """Sums of the objective's terms."""
    ids: Int64Array
    """Shape (n_rows, top): best unseen columns so far, best first, -1 for none."""
    best: Float32Array
    """Their scores on the standardised scale."""


class Counted(NamedTuple):
    errors: regression.Errors
    terms: float


class MfScoring:
    """See `oocml.models.scoring.Scoring`.

    Without ``top`` the entries of the data are what is predicted, and the outputs are one per entry: ``rows``,
    ``columns`` and ``values``. With it they are one per row: ``columns`` of the best unseen columns,
    and their ``scores`` in units of the ratings.
    """

    metric_names = (*regression.METRICS, "objective")

    def __init__(self, problem: Problem, top: int, l2: float) -> None:
        self.settings, self.l2 = problem.settings, l2
        self.col_count = problem.feature_nnz
        self.top = min(top, problem.n_features)
        self.seen = top > 0
        self.per_entry = top == 0
        self.reads: tuple[str, ...] = ("U", "V", "row_count", "target")
        if self.settings["biases"]:
            self.reads += ("row_bias", "col_bias")

    def begin(self, data: Csr, n_rows: int, state: Mapping[str, Array]) -> Rated:
        """Rows that the training did not have, or had no ratings of, keep nothing but the mean."""
        count = state["row_count"]
        U = np.where(count[:, None] > 0, state["U"], np.float32(0))
        ids = np.full((n_rows, self.top), -1, np.int64)
        best = np.zeros((n_rows, self.top), np.float32)
        return Rated(self._side(U, state.get("row_bias"), count), state["target"], [], [0.0], ids, best)

    def visit(
        self, accumulator: Rated, data: Csr, cols: Bounds, col: Mapping[str, Array], seen: Csr | None
    ) -> None:
        count = self.col_count[cols.lo : cols.hi].astype(np.float32)
        side = self._side(col["V"], col.get("col_bias"), count)
        if self.top:
            self._rank(accumulator, side, cols, seen)
            return
        center, scale, lowest, highest = accumulator.target
        step = Step(
            eta=np.float32(0),
            l2=np.float32(self.l2),
            floor=np.float32(0),
            adagrad=False,
            biases=True,
            weighted=bool(self.settings["weighted_l2"]),
            center=center,
            inverse_scale=np.float32(1) / scale,
        )
        predicted = np.empty(len(data.data), np.float32)
        accumulator.terms[0] += sum(mf_measure(data, accumulator.rows, side, step, predicted))
        value = np.clip(center + scale * predicted, lowest, highest)
        row = np.repeat(np.arange(len(data.indptr) - 1, dtype=np.int32), np.diff(data.indptr))
        place = data.indices + np.int32(cols.lo)
        accumulator.entries.append(Entry(row, place, value.astype(np.float32), data.data))

    def _side(self, F: Array, b: Array | None, count: Array) -> Side:
        n = len(F)
        b = np.zeros(n, np.float32) if b is None else b
        return Side(np.ascontiguousarray(F), b, np.zeros((0, 2), np.float32), count)

    def _rank(self, accumulator: Rated, side: Side, cols: Bounds, seen: Csr | None) -> None:
        """Take a column block into the rows' rankings, a few rows at a time."""
        n_rows, some = len(accumulator.ids), max(1, SCORES_AT_ONCE // max(1, cols.size))
        for lo in range(0, n_rows, some):
            rows = slice(lo, min(lo + some, n_rows))
            scores = accumulator.rows.F[rows] @ side.F.T + side.b
            if seen is not None:
                first, last = seen.indptr[rows.start], seen.indptr[rows.stop]
                row = np.repeat(np.arange(len(scores)), np.diff(seen.indptr[rows.start : rows.stop + 1]))
                scores[row, seen.indices[first:last]] = np.nan  # never ranks
            scores += accumulator.rows.b[rows, None]
            merge_topk(accumulator.ids[rows], accumulator.best[rows], scores, cols.lo)

    def metrics(self, accumulator: Rated, data: Csr) -> Counted:
        errors = regression.Errors(0, 0.0, 0.0)
        for entry in accumulator.entries:
            errors = regression.merge(errors, regression.accumulate(entry.predicted, entry.truth))
        return Counted(errors, accumulator.terms[0])

    def merge(self, a: Counted, b: Counted) -> Counted:
        return Counted(regression.merge(a.errors, b.errors), a.terms + b.terms)

    def scores(self, total: Counted) -> dict[str, float]:
        """``rmse`` and ``mae`` in units of the ratings; ``objective``, the mean of the given ratings' terms."""
        objective = total.terms / total.errors.n if total.errors.n else float("nan")
        return regression.scores(total.errors) | {"objective": objective}

    def predictions(self, accumulator: Rated, data: Csr) -> dict[str, Any]:
        if not self.top:
            row, col, value, _ = (np.concatenate(arrays) for arrays in zip(*accumulator.entries, strict=True))
            order = np.lexsort((col, row))
            return {"rows": row[order], "columns": col[order], "values": value[order]}
        center, scale, lowest, highest = accumulator.target
        known = accumulator.ids >= 0
        value = np.clip(center + scale * accumulator.best, lowest, highest)
        return {"columns": accumulator.ids, "scores": np.where(known, value, np.float32(np.nan))}
