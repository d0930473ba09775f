"""Evaluating and predicting with a mixture: components stream by, rows keep log-sum-exps and their best few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from oocml.kernels.gmm import EMPTY, gmm_lse
from oocml.kernels.topk import merge_topk
from oocml.models.gmm_exports import PARAMETERS, divergence_of, fill_scored_with
from oocml.models.gmm_posterior import (
    Prior,
    evidence_constant,
    expected,
    offset,
    plugged_in,
)
from oocml.models.gmm_rows import Frame, Rows, Work, frame, work_dtype
from oocml.models.protocol import Array, Problem
from oocml.types import Bounds, Csr, Float32Array, Float64Array, Int64Array


class Scored(NamedTuple):
    """What is kept of a batch of rows."""

    frame: Frame
    lse: Float64Array
    """Shape (2, n_rows, 2): log-sum-exps so far as (maximum, sum), of expected log densities and of log densities at
    the posterior means."""
    ids: Int64Array
    """Shape (n_rows, top): most probable components so far, best first, -1 for none."""
    best: Float32Array | Float64Array
    """Their expected log densities, in the precision that they are computed in."""


class Counted(NamedTuple):
    n_rows: int
    bound: float
    """Sum of log-sum-exps of expected log densities."""
    likelihood: float
    divergence: float
    """Of the posterior from the prior, less constants."""


class GmmScoring:
    """See `oocml.models.protocol.Scoring`.

    Metrics: ``log_likelihood_per_row``, the mean log density of rows (in units of the data) under the mixture whose
    weights, means and precisions are their posterior means; ``elbo_per_row``, the evidence lower bound with the best
    responsibilities for these rows, the divergence of the posterior counted as in training; ``objective``, its
    negative.
    """

    metric_names = ("log_likelihood_per_row", "elbo_per_row", "objective")
    reads = ("moments", *PARAMETERS)
    seen = False
    per_entry = False

    def __init__(self, problem: Problem, top: int) -> None:
        self.prior = Prior.of(problem)
        self.top = min(max(top, 1), self.prior.n_components)
        self.divergences: dict[int, float] = {}
        """By the first component of the block."""

    def begin(self, data: Rows, n_rows: int, state: Mapping[str, Array]) -> Scored:
        del data
        lse = np.zeros((2, n_rows, 2))
        lse[:, :, 0] = EMPTY
        ids = np.full((n_rows, self.top), -1, np.int64)
        here = frame(state["moments"], self.prior.n_rows)
        return Scored(here, lse, ids, np.zeros((n_rows, self.top), work_dtype(self.prior)))

    def visit(
        self,
        accumulator: Scored,
        data: Rows,
        cols: Bounds,
        col: Mapping[str, Array],
        seen: Csr | None = None,
    ) -> None:
        del seen
        work = Work(self.prior, accumulator.frame, cols.size)
        both = np.empty((2, cols.size, self.prior.width), work.dtype)
        for scored_with, score in zip(both, (expected, plugged_in), strict=True):
            fill_scored_with(col, accumulator.frame, self.prior, scored_with, score)
        if cols.lo not in self.divergences:
            self.divergences[cols.lo] = divergence_of(col, accumulator.frame, self.prior)
        for rows, phi in work.chunks(data.X, slice(0, len(accumulator.ids))):
            L = work.product(phi, both[0])
            merge_topk(accumulator.ids[rows], accumulator.best[rows], L, cols.lo)
            for scored_with, lse in zip(both, accumulator.lse, strict=True):
                L = work.product(phi, scored_with)
                gmm_lse(L, len(L), lse[rows])

    def metrics(self, accumulator: Scored, data: Rows) -> Counted:
        del data
        n_rows, constant = len(accumulator.ids), offset(self.prior) + accumulator.frame.log_density
        bound, likelihood = joined(accumulator.lse).sum(axis=1) + n_rows * constant
        return Counted(n_rows, float(bound), float(likelihood), sum(self.divergences.values()))

    def merge(self, a: Counted, b: Counted) -> Counted:
        return Counted(a.n_rows + b.n_rows, a.bound + b.bound, a.likelihood + b.likelihood, a.divergence)

    def scores(self, total: Counted) -> dict[str, float]:
        """See the class."""
        n = max(1, total.n_rows)
        elbo = total.bound / n - bound_gap(total.divergence, self.prior)
        return {"log_likelihood_per_row": total.likelihood / n, "elbo_per_row": elbo, "objective": -elbo}

    def predictions(self, accumulator: Scored, data: Rows) -> dict[str, Array]:
        """``components``, the most probable first, and their ``responsibilities``, as training would share out rows."""
        del data
        log_z = accumulator.best - joined(accumulator.lse[:1])[0][:, None]
        return {
            "components": accumulator.ids,
            "responsibilities": np.minimum(np.exp(log_z), 1).astype(np.float32),
        }


def joined(lse: Float64Array) -> Float64Array:
    """Log-sum-exps from (maximum, sum) on the last axis."""
    return np.asarray(lse[..., 0] + np.log(lse[..., 1]))


def bound_gap(divergences: float, prior: Prior) -> float:
    """The divergence of the posterior from the prior by row of the training, from the components' `divergence`."""
    return (divergences - evidence_constant(prior)) / prior.n_rows + offset(prior)
