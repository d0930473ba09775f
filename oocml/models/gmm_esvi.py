"""Mixtures whose components are all visited at once: extreme stochastic variational inference, and Hoffman's.

Every row's responsibilities are drawn anew from the posterior as it stands, and the statistics of the row's batch take
the place of those that the batch had before: T <- T + new - old. The posterior follows T before the next batch. What is
kept of a batch is its statistics; the responsibilities aren't kept, and the result is the same as if they were (Raman
et al., *Extreme stochastic variational inference*, AISTATS 2019, with all components in the subset; Neal and Hinton
1998 for exponential families). With z a batch's new responsibilities and H their entropy, the evidence lower bound is

    sum over batches of H  +  log evidence of T

and doesn't fall by any visit. Both terms come free, so the running objective is exact.

Stochastic variational inference (Hoffman et al., JMLR 2013) moves T towards N / |batch| times the statistics of each
batch instead, by (t + delay)^-forgetting at the t-th batch, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from oocml.kernels.gmm import gmm_responsibilities
from oocml.models.gmm_posterior import Prior, expected, posterior
from oocml.models.gmm_rows import Work, frame, prior_of
from oocml.models.gmm_start import made_up
from oocml.models.protocol import Array, Pass, Problem, StateSpec, Visit
from oocml.types import Csr, Float64Array


class Batch(NamedTuple):
    """What some rows come to, given a posterior."""

    statistics: Float64Array
    """Shape (components, width)."""
    lse: float
    """Sum of the rows' log-sum-exps."""
    entropy: float
    """Of the rows' responsibilities."""


def visit_batch(X: Csr, rows: slice, coefficients: Array, work: Work) -> Batch:
    """Responsibilities of some rows, and their statistics."""
    total, lse, entropy = np.zeros(coefficients.shape), 0.0, 0.0
    for _, phi in work.chunks(X, rows):
        Z = work.product(phi, coefficients)
        more = gmm_responsibilities(Z, len(Z))
        lse, entropy = lse + more[0], entropy + more[1]
        work.add(total, Z, phi)
    return Batch(total, lse, entropy)


def batches(n_rows: int, batch_rows: int) -> list[slice]:
    """Rows of a panel in as few batches of at most ``batch_rows`` as there can be, of equal size."""
    bounds = np.linspace(0, n_rows, -(-n_rows // batch_rows) + 1).astype(int).tolist()
    return [slice(lo, hi) for lo, hi in pairwise(bounds)]


def state(problem: Problem) -> tuple[StateSpec, ...]:
    prior, batch_rows = Prior.of(problem), int(problem.settings["batch_rows"])
    shape = (prior.n_components, prior.width)
    specs = [StateSpec("stats", "shared", shape, "float64", "statistics of components", merge=True)]
    if problem.settings["inference"] == "svi":
        specs.append(StateSpec("n_steps", "shared", (1,), "float64", "batches so far", merge=True))
    else:
        doc = "each batch's share of the statistics"
        specs.append(
            StateSpec("batch_stats", "row", ("batches", *shape), "float64", doc, batch_rows=batch_rows)
        )
    return tuple(specs)


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
        at_once=0 if first else int(problem.settings["sub_epoch_width"]),
    )


def first_visit(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    work, delta = work_of(v, prior.n_components), np.zeros_like(v.shared["stats"])
    scored_with = coefficients(made_up(v.shared["start_means"], prior), prior, work)
    lse = entropy = 0.0
    for b, rows in enumerate(batches(v.n_rows, v.params["batch_rows"])):
        found = visit_batch(v.data.X, rows, scored_with, work)
        v.row["batch_stats"][b] = found.statistics
        delta += found.statistics
        lse, entropy = lse + found.lse, entropy + found.entropy
    return {"stats": delta, "entropy": entropy, "lse": lse}


def visit(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    T, work = v.shared["stats"], work_of(v, prior.n_components)
    before = T.copy()
    lse = entropy = 0.0
    for b, rows in enumerate(batches(v.n_rows, v.params["batch_rows"])):
        found = visit_batch(v.data.X, rows, coefficients(T, prior, work), work)
        kept = v.row["batch_stats"][b]
        T -= kept
        T += found.statistics
        kept[...] = found.statistics
        lse, entropy = lse + found.lse, entropy + found.entropy
    return {"stats": T - before, "entropy": entropy, "lse": lse}


def coefficients(T: Float64Array, prior: Prior, work: Work) -> Array:
    return expected(posterior(T, prior), prior).astype(work.dtype)


def begin_pass() -> Pass:
    return Pass("begin", "once", "begin", reads=("start_means",), writes=("stats",))


def begin(v: Visit) -> Mapping[str, Any]:
    """The statistics of the made-up start."""
    return {"stats": made_up(v.shared["start_means"], prior_of(v))} if v.cols.lo == 0 else {}


def sum_pass() -> Pass:
    return Pass("sum", "rows", "sum", reads=("batch_stats",), writes=("stats",))


def sum_batches(v: Visit) -> Mapping[str, Any]:
    """The statistics as the sum of their shares, so that rounding doesn't add up over the epochs."""
    return {"stats": v.row["batch_stats"].sum(axis=0)}


def svi_pass(problem: Problem) -> Pass:
    """An epoch of stochastic steps: every step needs the one before, so tasks take turns."""
    names = ("batch_rows", "delay", "forgetting")
    params = {name: problem.settings[name] for name in names}
    return Pass(
        "svi",
        "rows",
        "svi",
        reads=("moments", "stats", "n_steps"),
        writes=("stats", "n_steps"),
        data=True,
        params=params,
        at_once=1,
    )


def svi(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    T, work = v.shared["stats"], work_of(v, prior.n_components)
    before = T.copy()
    lse, steps = 0.0, batches(v.n_rows, int(v.params["batch_rows"]))
    for rows in steps:
        found = visit_batch(v.data.X, rows, coefficients(T, prior, work), work)
        rate = (v.shared["n_steps"][0] + v.params["delay"]) ** -v.params["forgetting"]
        v.shared["n_steps"][0] += 1
        T *= 1 - rate
        T += rate * prior.n_rows / (rows.stop - rows.start) * found.statistics
        lse += found.lse
    return {"stats": T - before, "n_steps": np.array([len(steps)]), "lse": lse}


def measure_pass() -> Pass:
    return Pass("measure", "rows", "measure", reads=("moments", "stats"), data=True)


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
