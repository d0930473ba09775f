"""Mixtures by stochastic variational inference (Hoffman, Blei, Wang and Paisley, JMLR 2013).

The t-th batch of rows moves the statistics towards N / |batch| times its own, by (t + delay)^-forgetting. Nothing is
kept of rows or batches.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.models import gmm_start
from oocml.models.gmm_esvi import (
    batches,
    coefficients,
    measure_pass,
    measured,
    stats_spec,
    visit_batch,
    work_of,
)
from oocml.models.gmm_rows import prior_of, working_bytes
from oocml.models.gmm_start import made_up
from oocml.models.protocol import Parts, Pass, Problem, StateSpec, Visit

__all__ = ["measured"]


def state(problem: Problem) -> tuple[StateSpec, ...]:
    n_steps = StateSpec("n_steps", "shared", (1,), "float64", "batches so far", merge=True)
    return stats_spec(problem), n_steps


def epoch_passes(problem: Problem) -> tuple[Pass, ...]:
    return (visit_pass(problem),)


def other_passes(problem: Problem) -> tuple[Pass, ...]:
    return *gmm_start.passes(problem), begin_pass(problem), measure_pass(problem)


def start(problem: Problem) -> Generator[Any, Any, float]:
    units = yield from gmm_start.start(problem)
    yield begin_pass(problem)
    return units


def epoch(problem: Problem, number: int) -> Generator[Any, Any, Parts]:
    """Returns the rows' log-sum-exps, each with the parameters that it was visited with."""
    del number
    found = yield visit_pass(problem)
    return found  # type: ignore[no-any-return]


def begin_pass(problem: Problem) -> Pass:
    reads, working = ("start_means",), working_bytes(problem, 2, 0)
    return Pass("begin", "once", "begin", reads=reads, writes=("stats",), working_bytes=working)


def begin(v: Visit) -> Mapping[str, Any]:
    """The statistics of the made-up start."""
    return {"stats": made_up(v.shared["start_means"], prior_of(v))} if v.cols.lo == 0 else {}


def visit_pass(problem: Problem) -> Pass:
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
        working_bytes=working_bytes(problem, 3, 2),
        per_entry=int(problem.settings["n_components"]),
    )


def visit(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    T, work = v.shared["stats"], work_of(v, prior.n_components)
    before, found = T.copy(), np.empty_like(T)
    lse, steps = 0.0, batches(v.n_rows, int(v.params["batch_rows"]))
    for rows in steps:
        found[...] = 0
        lse += visit_batch(v.data.X, rows, coefficients(T, prior, work), work, found).lse
        rate = (v.shared["n_steps"][0] + v.params["delay"]) ** -v.params["forgetting"]
        v.shared["n_steps"][0] += 1
        T *= 1 - rate
        found *= rate * prior.n_rows / (rows.stop - rows.start)
        T += found
    return {"stats": np.subtract(T, before, out=before), "n_steps": np.array([len(steps)]), "lse": lse}
