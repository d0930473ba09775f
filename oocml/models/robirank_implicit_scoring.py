"""Evaluating and predicting with implicit RoBiRank: items stream by, users keep counts of ranks or their best items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from oocml.kernels.robirank_implicit_ranks import Tally, add_losses, score_pairs, shut_seen, tally_scores
from oocml.kernels.robirank_implicit_sums import Sample, lose_pair, sample_of
from oocml.kernels.topk import merge_topk
from oocml.metrics import recommendation
from oocml.models.protocol import Array, Problem
from oocml.models.robirank_implicit_settings import is_softmax, measured_weights, rank_loss, ridge
from oocml.types import Bounds, Csr, Float32Array, Int32Array, Int64Array

ROWS_AT_ONCE, COLS_AT_ONCE = 256, 4096
"""Of the scores that are held at a time."""


class Pairs(NamedTuple):
    """A batch's held-out pairs in one column block, all of shape (n,)."""

    row: Int32Array
    """Within the batch."""
    col: Int32Array
    """In the run's order of columns."""
    score: Float32Array
    value: Float32Array


@dataclass
class Batch:
    """What is kept of a batch of rows."""

    U: Float32Array
    """Factors; 0 for users that the training had nothing of, whom it shows what is liked in general."""
    n_columns: int = 0
    """Columns that streamed by, counted again in a second stream."""
    squares: float = 0.0
    """Sum of |u|^2 + |v|^2 over the pairs."""
    pairs: list[Pairs] = field(default_factory=list)
    """One for each column block of the first stream."""
    tally: Tally | None = None
    """Counts of the second stream."""
    values: Float32Array | None = None
    """Of the pairs, in the order of the tally."""
    ids: Int64Array | None = None
    """Shape (n_rows, top): best unseen columns so far, best first, -1 for none."""
    best: Float32Array | None = None
    """Their scores."""


class Counted(NamedTuple):
    ranks: recommendation.Counts
    terms: float
    """Of the objective."""
    n_pairs: int


class RobirankImplicitScoring:
    """See `oocml.models.protocol.Scoring`.

    Metrics take two streams of the columns: the scores of the held-out pairs come first, then how many other items
    are above each. Without ``top`` the entries of the data are what is predicted, by their scores.
    """

    streams = 2
    entry_bytes = 64
    metric_names = (*recommendation.NAMES, "objective")
    seen = True

    def __init__(self, problem: Problem, top: int) -> None:
        self.problem = problem
        self.top = min(top, problem.n_features)
        self.per_entry = top == 0
        self.reads: tuple[str, ...] = ("U", "V", "col_bias", "row_count")

    def begin(self, data: Csr, n_rows: int, state: Mapping[str, Array]) -> Batch:
        known = state["row_count"][:, None] > 0
        batch = Batch(np.ascontiguousarray(np.where(known, state["U"], np.float32(0))))
        if self.top:
            batch.ids = np.full((n_rows, self.top), -1, np.int64)
            batch.best = np.zeros((n_rows, self.top), np.float32)
        return batch

    def visit(
        self, accumulator: Batch, data: Csr, cols: Bounds, col: Mapping[str, Array], seen: Csr | None
    ) -> None:
        batch, V, b = accumulator, np.ascontiguousarray(col["V"]), col["col_bias"]
        if seen is None:
            seen = Csr(np.zeros(len(batch.U) + 1, np.int64), data.indices[:0], data.data[:0])
        if self.top:
            self._rank(batch, V, b, cols, seen)
        elif batch.n_columns < self.problem.n_features:
            self._collect(batch, V, b, cols, data)
        else:
            self._count(batch, V, b, cols, seen, data)
        batch.n_columns += cols.size

    def _collect(self, batch: Batch, V: Array, b: Array, cols: Bounds, data: Csr) -> None:
        """The first stream: scores of the data's pairs."""
        score = np.empty(len(data.data), np.float32)
        batch.squares += score_pairs(data, batch.U, V, b, score)
        row = np.repeat(np.arange(len(batch.U), dtype=np.int32), np.diff(data.indptr))
        batch.pairs.append(Pairs(row, data.indices + np.int32(cols.lo), score, data.data))

    def _count(self, batch: Batch, V: Array, b: Array, cols: Bounds, seen: Csr, data: Csr) -> None:
        """The second stream: other items above each pair, and the objective's sums."""
        if batch.tally is None:
            batch.tally, batch.values = tally_of(batch)
        sample = sample_of(measured_weights(self.problem, cols))
        wanting = np.flatnonzero(np.diff(batch.tally.indptr))
        for rows, lo, scores in score_blocks(batch.U, wanting, V, b):
            tally_scores(scores, rows, lo, seen, data, batch.tally)
            some = part_of(sample, lo, scores.shape[1])
            add_losses(scores, rows, some, is_softmax(self.problem), batch.tally)

    def _rank(self, batch: Batch, V: Array, b: Array, cols: Bounds, seen: Csr) -> None:
        """Take a column block into the rows' rankings."""
        assert batch.ids is not None and batch.best is not None
        for rows, lo, scores in score_blocks(batch.U, np.arange(len(batch.U)), V, b):
            shut_seen(scores, rows, lo, seen)
            chosen = slice(rows[0], rows[-1] + 1)
            merge_topk(batch.ids[chosen], batch.best[chosen], scores, cols.lo + lo)

    def metrics(self, accumulator: Batch, data: Csr) -> Counted:
        batch = accumulator
        if batch.tally is None:
            batch.tally, batch.values = tally_of(batch)
        tally = batch.tally
        n_others = self.problem.n_features - tally.n_shut
        ranks = recommendation.accumulate(tally.indptr, tally.above, n_others)
        return Counted(ranks, self._terms(batch, tally), len(tally.score))

    def _terms(self, batch: Batch, tally: Tally) -> float:
        """The objective's terms of the pairs."""
        rho, S = rank_loss(self.problem), tally.S
        if is_softmax(self.problem):
            n_pairs = np.diff(tally.indptr)
            S = np.repeat(tally.Z, n_pairs) * np.exp2(-np.clip(tally.score.astype(np.float64), -40, 40))
        loss = lose_pair(S, rho)
        if rho == 0:
            loss = loss / self.problem.n_features
        weight = batch.values if self.problem.settings["weighted"] else 1.0
        return float((loss * weight).sum() + ridge(self.problem) / 2 * batch.squares)

    def merge(self, a: Counted, b: Counted) -> Counted:
        return Counted(recommendation.merge(a.ranks, b.ranks), a.terms + b.terms, a.n_pairs + b.n_pairs)

    def scores(self, total: Counted) -> dict[str, float]:
        """Metrics of `oocml.metrics.recommendation`, and ``objective``: the mean of the given pairs' terms."""
        objective = total.terms / total.n_pairs if total.n_pairs else float("nan")
        return recommendation.scores(total.ranks) | {"objective": objective}

    def predictions(self, accumulator: Batch, data: Csr) -> dict[str, Any]:
        batch = accumulator
        if batch.ids is not None and batch.best is not None:
            return {"columns": batch.ids, "scores": np.where(batch.ids >= 0, batch.best, np.float32(np.nan))}
        row, col, score, _ = (np.concatenate(arrays) for arrays in zip(*batch.pairs, strict=True))
        order = np.lexsort((col, row))
        return {"rows": row[order], "columns": col[order], "values": score[order]}


def tally_of(batch: Batch) -> tuple[Tally, Float32Array]:
    """Empty counts of the pairs that the first stream collected, and their values."""
    row, _, score, value = (np.concatenate(arrays) for arrays in zip(*batch.pairs, strict=True))
    order, n_rows = np.lexsort((score, row)), len(batch.U)
    indptr = np.searchsorted(row[order], np.arange(n_rows + 1)).astype(np.int64)
    n = len(row)
    counts = np.zeros(n, np.int64), np.zeros(n_rows, np.int64), np.zeros(n_rows), np.zeros(n)
    return Tally(indptr, score[order], *counts), value[order]


def part_of(sample: Sample, lo: int, n: int) -> Sample:
    """The items lo, lo + 1, ... of a sample, counted from the first."""
    inside = slice(*np.searchsorted(sample.items, [lo, lo + n]))
    return Sample(sample.items[inside] - np.int32(lo), sample.weight[inside])


def score_blocks(
    U: Float32Array, rows: Int64Array, V: Float32Array, b: Float32Array
) -> Iterator[tuple[Int64Array, int, Float32Array]]:
    """(rows, first column, scores) of some rows and columns at a time; the next ones replace the scores."""
    held = np.empty(min(ROWS_AT_ONCE, len(rows)) * min(COLS_AT_ONCE, len(V)), np.float32)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[first : first + ROWS_AT_ONCE]
        of_users = U[some]
        for lo in range(0, len(V), COLS_AT_ONCE):
            cols = slice(lo, min(lo + COLS_AT_ONCE, len(V)))
            scores = held[: len(some) * (cols.stop - lo)].reshape(len(some), -1)
            np.matmul(of_users, V[cols].T, out=scores)
            scores += b[cols]
            yield some, lo, scores
