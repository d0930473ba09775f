"""DS-FACTO: factorization machines by column updates from stale sums (Raman and others 2020; the thesis's solver).

A row keeps its sums (a, linear, q) and the slope G of its loss, as of the last synchronisation. A visit steps each
feature of a tile against its gradient over the tile's rows,

    w_j:  sum_i G_i x_ij          v_j:  sum_i G_i (x_ij a_i - x_ij^2 v_j)        (and the ridge of the occurrences)

with these stale values. The fused tour gathers new sums while it goes, just after each visit; the two-pass tour goes
round a second time without steps, for sums of one moment. Then every row renews its slope, and the intercept moves.

Features are coupled within a row, so steps from one stale slope add up: the more features and row blocks, the smaller
they must be. See the documentation for where that is stable; the solver ``tiles`` has no such limit.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.kernels.fm import fm_accumulate, fm_columns, fm_slopes
from oocml.models import fm_visits
from oocml.models.fm_settings import first_rate, n_factors, step_of
from oocml.models.protocol import Epoch, Final, Kernel, Parts, Pass, Problem, Scratch, StateSpec, Visit
from oocml.models.step_sizes import learning_rates

CURVATURE = {True: 0.25, False: 1.0}
"""Largest second derivative of the loss: of the log loss, and of the squared loss."""


def tour(v: Visit) -> Parts:
    block, step = fm_visits.feature_block(v.col), step_of(v.params)
    fm_columns(v.data, block, v.row["total"], v.row["slope"], v.scratch["gradient"], step)
    if "fresh" not in v.row:
        return {}
    return {"ridge": fm_accumulate(v.data, block, v.row["fresh"], step)}


def synchronise(v: Visit) -> Parts:
    """New sums and slopes of a row block; the intercept takes a damped Newton step."""
    total, params = v.row["total"], v.params
    total[...] = v.row["fresh"]
    slopes, loss = fm_slopes(total, v.shared["w0"][0], v.data.t, v.row["slope"], step_of(params))
    move = -min(1.0, params["learning_rate"]) * slopes / (params["n"] * CURVATURE[bool(params["logistic"])])
    return {"loss": loss, "w0": np.array([move, 0.0])}


KERNELS: Mapping[str, Kernel] = {"tour": Kernel(tour), "synchronise": Kernel(synchronise)}


def state(problem: Problem) -> tuple[StateSpec, ...]:
    dims = ("rows", n_factors(problem) + 2)
    return (
        StateSpec("fresh", "row", dims, "float32", "sums over all features, being gathered"),
        StateSpec("slope", "row", ("rows",), "float32", "derivative of the loss"),
    )


def tour_pass(problem: Problem, params: Mapping[str, Any]) -> Pass:
    changed = fm_visits.parameters(problem)
    fused = problem.settings["tour"] == "fused"
    return Pass(
        "tour",
        "tiles",
        "tour",
        reads=(*changed, *fm_visits.fixed(problem), "total", "slope"),
        writes=(*changed, *(("fresh",) if fused else ())),
        data=True,
        params=params,
        scratch=(Scratch("gradient", ("cols", n_factors(problem))),),
    )


def synchronise_pass(params: Mapping[str, Any], n: int) -> Pass:
    return Pass(
        "synchronise",
        "rows",
        "synchronise",
        reads=("fresh", "w0"),
        writes=("total", "slope", "w0"),
        data=True,
        params={**params, "n": n},
    )


def epoch_passes(problem: Problem, params: Mapping[str, Any]) -> tuple[Pass, ...]:
    collect, _ = fm_visits.exact_passes(problem, params, "fresh")
    again = (collect,) if problem.settings["tour"] == "two_pass" else ()
    return (tour_pass(problem, params), *again, synchronise_pass(params, 1))


def other_passes(problem: Problem, params: Mapping[str, Any]) -> tuple[Pass, ...]:
    return fm_visits.exact_passes(problem, params, "fresh")


def program(
    problem: Problem, segments: tuple[int, ...], params: Mapping[str, Any], n: int
) -> Generator[Any, Any, None]:
    """A first synchronisation; then per segment tours, each with one, and the exact objective."""
    collect, judge = fm_visits.exact_passes(problem, params, "fresh")
    yield collect
    yield synchronise_pass(params, n)
    number = 0
    for n_epochs in segments:
        for rate in learning_rates(problem.settings["step"], first_rate(problem), n_epochs):
            number += 1
            now = {**params, "learning_rate": rate}
            toured = yield tour_pass(problem, now)
            if problem.settings["tour"] == "two_pass":
                toured = yield collect
            synchronised = yield synchronise_pass(now, n)
            loss = float(synchronised["loss"]) / n
            objective = loss + float(toured["ridge"]) / n
            if (yield Epoch(number, objective, extra={"loss": loss, "learning_rate": rate})).stop:
                break
        collected = yield collect
        judged = yield judge
        loss = float(judged["loss"]) / n
        yield Final(loss + float(collected["ridge"]) / n, extra={"loss": loss})
