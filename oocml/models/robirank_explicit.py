"""RoBiRank for graded rows of queries: a linear score <x, u>, trained by L-BFGS on the whole data.

The objective is, over the n queries with a relevant row, 1/n times the sum of the losses of `kernels.robirank_explicit`
plus l2/2 |w|^2, with w = u times the features' standard deviations within queries. Features are not centred: what is
the same for all rows of a query changes no rank. With rho 2 a query's loss, less a constant, is at least minus its
DCG, or its NDCG where its weight is 1 over the greatest DCG that it can have.

A training is

    spread     rows   the features' squares within queries, and how many queries there are
    begin      once   their standard deviations

and an iteration, which is an epoch,

    visit      rows   losses at w + step move for one or several steps, and the gradient at the first
    turn       once   w takes the step; the next move by L-BFGS

The state is a few vectors that every task has. A pass over the data per iteration is enough as long as L-BFGS's own
step will do, and it nearly always does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.errors import InputError
from oocml.kernels.robirank_explicit import RankedRows, explicit_visit, scale_queries, squares_within
from oocml.metrics.ranking import HIGHEST_GRADE, gains, max_dcg
from oocml.models import robirank_explicit_descent as descent
from oocml.models.protocol import (
    Array,
    Kernel,
    Pass,
    Problem,
    Program,
    Settings,
    StateSpec,
    Visit,
)
from oocml.models.robirank_explicit_scoring import ExplicitScoring
from oocml.models.robirank_explicit_settings import DEFAULTS, check
from oocml.types import Bounds, Csr, Panel


def spread(v: Visit) -> Mapping[str, Any]:
    data: RankedRows = v.data
    squares = np.zeros_like(v.shared["squares"])
    squares_within(data.X, data.start, squares)
    return {
        "squares": squares,
        "n_ranked": np.count_nonzero(data.weight),
        "n_bad": np.count_nonzero((data.grade < 0) | (data.grade > HIGHEST_GRADE)),
    }


def begin(v: Visit) -> None:
    v.shared["spread"][...] = np.sqrt(v.shared["squares"] / v.params["n_rows"])


def visit(v: Visit) -> Mapping[str, Any]:
    scale = inverse(v.shared["spread"])
    params, gradient = v.params, np.zeros_like(v.shared["gradient"])
    steps = np.array(params["steps"], np.float64)
    losses = np.zeros(len(steps))
    u, along = v.shared["w"] * scale, v.shared["move"] * scale
    goal, slope = explicit_visit(v.data, u, along, steps, params["rho"], params["goal"], losses, gradient)
    return {"losses": losses, "goal": goal, "slope": slope, "gradient": gradient * scale}


def inverse(spread: Array) -> Array:
    """One over the spread; 0 for features that are the same in all rows of a query: they rank nothing."""
    return np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)


def turn(v: Visit) -> Mapping[str, Any]:
    """Take the step, and find the next move."""
    found = descent.turn(v.shared, v.params)
    v.shared["weights"][...] = v.shared["w"] * inverse(v.shared["spread"])
    return found


class RobirankExplicit:
    """RoBiRank for graded rows of queries."""

    name = "robirank-explicit"
    epochs = 200
    col_axis = "scores"
    block_cols = (1, 1)
    tiles = False
    kernels: Mapping[str, Kernel] = {
        "spread": Kernel(spread),
        "begin": Kernel(begin),
        "visit": Kernel(visit),
        "turn": Kernel(turn),
    }

    def defaults(self) -> Settings:
        """Settings and their defaults; ``docs/robirank.md`` tells what they mean."""
        return DEFAULTS

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without queries or grades, `UsageError` for settings without a meaning."""
        check(problem)

    def n_cols(self, problem: Problem) -> int:
        return 1

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        def vector(name: str, doc: str, **more: Any) -> StateSpec:
            return StateSpec(name, "shared", ("features",), "float64", doc, **more)

        pairs = (2 * int(problem.settings["history"]), "features")
        return (
            vector("weights", "of the score, per unit of the data", export=True),
            vector("spread", "standard deviations within queries", export=True),
            vector("squares", "sums of squares within queries", merge=True),
            vector("w", "weights of features in standard deviations"),
            vector("move", "where w goes next"),
            vector("gradient", "of the losses, at a trial step", merge=True),
            vector("w_gradient", "of the objective, at w"),
            StateSpec("pairs", "shared", pairs, "float64", "changes of w, then those of its gradient"),
        )

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> RankedRows:
        if panel.qid is None or not isinstance(panel.y, np.ndarray):
            raise InputError("rows to be ranked need queries and grades; ingest them as letor")
        settings = problem.settings
        begins = np.concatenate([[True], panel.qid[1:] != panel.qid[:-1]])[: len(panel.qid)]
        start = np.append(np.flatnonzero(begins), len(panel.qid))
        grade = np.where(np.isnan(panel.y), 0.0, panel.y)
        gain, X = gains(grade), panel.X
        best = max_dcg(gain, start)
        weight = np.divide(1, best, out=np.zeros_like(best), where=best > 0)
        if not settings["max_dcg"]:
            weight = np.where(weight > 0, 1.0, 0.0)
        if settings["normalize"] == "query":
            X = Csr(X.indptr, X.indices, X.data.copy())
            scale_queries(X, start, problem.n_features)
        return RankedRows(X, gain, start, weight, grade, panel.qid[start[:-1]])

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return descent.visit_pass(problem, (1.0,), 1), descent.turn_pass(0.0, (), 0)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return descent.spread_pass(), descent.begin_pass(problem)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """Standard deviations, the gradient at 0, then iterations until the gradient vanishes."""
        return descent.program(problem, segments)

    def scoring(self, problem: Problem, top: int) -> ExplicitScoring:
        return ExplicitScoring(problem)
