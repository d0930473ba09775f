"""Mixtures by extreme stochastic variational inference, all components at once and no z kept.

Every row's responsibilities are worked out anew from the posterior as it stands, and the statistics of the row's batch
take the place of those that the batch had before: T <- T + new - old. The posterior follows T before the next batch.
What is kept of a batch is its statistics; the responsibilities aren't kept, and the result is the same as if they were
(Zhang, Raman et al., *Extreme stochastic variational inference*, AISTATS 2019, with all components in the subset; Neal
and Hinton 1998 for exponential families). With z a batch's new responsibilities and H their entropy, the evidence
lower bound is

    sum over batches of H  +  log evidence of T

and doesn't fall by any visit. Both terms come free, so the running objective is exact.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from oocml.kernels.gmm import gmm_responsibilities
from oocml.models import gmm_start
from oocml.models.gmm_posterior import Prior, expected, posterior
from oocml.models.gmm_rows import Work, frame, pieces, prior_of, working_bytes
from oocml.models.gmm_start import made_up
from oocml.models.protocol import Array, Parts, Pass, Problem, StateSpec, Visit
from oocml.types import Csr, Float64Array

SUM_EVERY = 10
"""Epochs after which statistics are summed anew."""
LEAST_AT_ONCE = 4


class Summed(NamedTuple):
    """Over some rows."""

    lse: float
    """Of log-sum-exps."""
    entropy: float
    """Of responsibilities."""


def visit_batch(X: Csr, rows: slice, scored_with: Array, work: Work, total: Float64Array) -> Summed:
    """Responsibilities of some rows; adds their statistics to ``total`` (components, width)."""
    lse = entropy = 0.0
    for _, phi in work.chunks(X, rows):
        Z = work.product(phi, scored_with)
        more = gmm_responsibilities(Z, len(Z))
        lse, entropy = lse + more[0], entropy + more[1]
        work.add(total, Z, phi)
    return Summed(lse, entropy)


def batches(n_rows: int, batch_rows: int) -> list[slice]:
    """Rows of a panel in as few batches of at most ``batch_rows`` as there can be, of equal size."""
    bounds = np.linspace(0, n_rows, -(-n_rows // batch_rows) + 1).astype(int).tolist()
    return [slice(lo, hi) for lo, hi in pairwise(bounds)]


def stats_spec(problem: Problem) -> StateSpec:
    prior = Prior.of(problem)
    shape = (prior.n_components, prior.width)
    return StateSpec("stats", "shared", shape, "float64", "statistics of components", merge=True)


def state(problem: Problem) -> tuple[StateSpec, ...]:
    stats, doc = stats_spec(problem), "each batch's share of the statistics"
    batch_rows = int(problem.settings["batch_rows"])
    shape = ("batches", *stats.dims)
    return stats, StateSpec("batch_stats", "row", shape, "float64", doc, batch_rows=batch_rows)


def epoch_passes(problem: Problem) -> tuple[Pass, ...]:
    return (visit_pass(problem, first=False),)


def other_passes(problem: Problem) -> tuple[Pass, ...]:
    return (
        *gmm_start.passes(problem),
        visit_pass(problem, first=True),
        sum_pass(problem),
        measure_pass(problem),
    )


start = gmm_start.start


def epoch(problem: Problem, number: int) -> Generator[Any, Any, Parts]:
    """Returns the entropy of z."""
    found = yield visit_pass(problem, first=number == 1)
    if number % SUM_EVERY == 0:
        yield sum_pass(problem)
    return found  # type: ignore[no-any-return]


def measured(problem: Problem) -> Generator[Any, Any, Parts]:
    """Returns the rows' log-sum-exps with the parameters as they stand."""
    found = yield measure_pass(problem)
    return found  # type: ignore[no-any-return]


def visit_pass(problem: Problem, first: bool) -> Pass:
    """An epoch. The first scores every row with the start: it has to be left as a whole, not batch by batch."""
    names = ("stats", "batch_stats")
    return Pass(
        "first_visit" if first else "visit",
        "rows",
        "first_visit" if first else "visit",
        reads=("moments", "start_means") if first else ("moments", *names),
        writes=names,
        data=True,
        params={"batch_rows": int(problem.settings["batch_rows"])},
        at_once=summed_at_once(problem) if first else int(problem.settings["sub_epoch_width"]),
        working_bytes=working_bytes(problem, 4 if first else 2, 2),
        per_entry=int(problem.settings["n_components"]),
    )


def summed_at_once(problem: Problem) -> int:
    """Tasks between two merges where that changes nothing but memory: all of what they return is held till then."""
    return max(LEAST_AT_ONCE, int(problem.settings["sub_epoch_width"]))


def first_visit(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    work, delta, entropy = work_of(v, prior.n_components), np.zeros_like(v.shared["stats"]), 0.0
    scored_with = coefficients(made_up(v.shared["start_means"], prior), prior, work)
    for b, rows in enumerate(batches(v.n_rows, v.params["batch_rows"])):
        kept = v.row["batch_stats"][b]
        entropy += visit_batch(v.data.X, rows, scored_with, work, kept).entropy
        delta += kept
    return {"stats": delta, "entropy": entropy}


def visit(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    T, work, entropy = v.shared["stats"], work_of(v, prior.n_components), 0.0
    before = T.copy()
    for b, rows in enumerate(batches(v.n_rows, v.params["batch_rows"])):
        scored_with, kept = coefficients(T, prior, work), v.row["batch_stats"][b]
        T -= kept
        kept[...] = 0
        entropy += visit_batch(v.data.X, rows, scored_with, work, kept).entropy
        T += kept
    return {"stats": np.subtract(T, before, out=before), "entropy": entropy}


def coefficients(T: Float64Array, prior: Prior, work: Work) -> Array:
    """What rows are scored with, given statistics."""
    found = np.empty(T.shape, work.dtype)
    for some in pieces(len(T), prior):
        found[some] = expected(posterior(T[some], prior), prior)
    return found


def sum_pass(problem: Problem) -> Pass:
    return Pass(
        "sum",
        "rows",
        "sum",
        reads=("batch_stats",),
        writes=("stats",),
        at_once=summed_at_once(problem),
        working_bytes=working_bytes(problem, 2, 0),
    )


def sum_batches(v: Visit) -> Mapping[str, Any]:
    """The statistics as the sum of their shares, so that rounding doesn't add up over the epochs."""
    return {"stats": v.row["batch_stats"].sum(axis=0)}


def measure_pass(problem: Problem) -> Pass:
    return Pass(
        "measure",
        "rows",
        "measure",
        reads=("moments", "stats"),
        data=True,
        working_bytes=working_bytes(problem, 0, 2),
        per_entry=int(problem.settings["n_components"]),
    )


def measure(v: Visit) -> Mapping[str, Any]:
    """The rows' log-sum-exps."""
    prior = prior_of(v)
    work, lse = work_of(v, prior.n_components), 0.0
    scored_with = coefficients(v.shared["stats"], prior, work)
    for _, phi in work.chunks(v.data.X, slice(0, v.n_rows)):
        L = work.product(phi, scored_with)
        lse += gmm_responsibilities(L, len(L))[0]
    return {"lse": lse}


def work_of(v: Visit, n_components: int) -> Work:
    """Work arrays for the features as they are standardised."""
    prior = prior_of(v)
    return Work(prior, frame(v.shared["moments"], prior.n_rows), n_components)
