"""Polynomial regression of second order with a weight for every pair of features: a reference for small data.

    f(x) = w0 + sum_j w_j x_j + sum_{j < j'} W_j'j x_j x_j'

for numbers or two labels, with the losses and the scaled features of ``fm``, of which this is the model of full rank.
The objective, mean loss + (l2 / 2) (sum w^2 + sum W^2), is convex; accelerated gradient steps (Nesterov 1983) go to its
minimum. The step is safe without a search: one over the mean squared norm of a row's gradient bounds every curvature.

Weights are cut into blocks of features j'. An epoch takes each block past all rows twice, once for the gradient at the
slopes that rows keep, once for the new scores; then rows renew their slopes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.errors import UsageError
from oocml.kernels.fm import TargetRows, fm_slopes
from oocml.kernels.poly import poly_gradient, poly_norms, poly_scores
from oocml.models import fm_visits
from oocml.models.fm import standard
from oocml.models.fm_scoring import Counted, FmScoring, Summed
from oocml.models.fm_settings import TASKS, check_data, is_classification, no_targets, step_of, task_of
from oocml.models.protocol import (
    Array,
    Epoch,
    Final,
    Kernel,
    Parts,
    Pass,
    Problem,
    Program,
    Scratch,
    Settings,
    StateSpec,
    Visit,
)
from oocml.models.setting_bounds import LARGEST, require_not_below_zero
from oocml.types import Bounds, Csr, Panel

CURVATURE = {True: 0.25, False: 1.0}
"""Largest second derivative of the log loss, and of the squared loss."""
BLOCK = ("W", "w", "W_ahead", "w_ahead")


def start(v: Visit) -> Parts:
    return {**fm_visits.moments(v), "norms": poly_norms(v.data)}


def begin_descent(v: Visit) -> None:
    if v.params["restart"]:
        for name in ("W", "w"):
            v.col[f"{name}_ahead"][...] = v.col[name]


def descend(v: Visit) -> Parts:
    """First sweep: the gradient. Second: scores at the point that the next gradient is taken at."""
    if not v.last:
        poly_gradient(v.data, v.row["slope"], v.cols.lo, v.scratch["G"], v.scratch["g"])
        return {}
    poly_scores(v.data, v.col["W_ahead"], v.col["w_ahead"], v.cols.lo, v.cell["score"])
    return {}


def end_descend(v: Visit) -> Parts:
    if v.last:
        return {"squares": squares_of(v.col, "_ahead")}
    eta, l2, n = (np.float32(v.params[name]) for name in ("eta", "l2", "n"))
    momentum = np.float32(v.params["momentum"])
    for name in ("W", "w"):
        at, point = v.col[f"{name}_ahead"], v.col[name]
        moved = at - eta * (v.scratch["G" if name == "W" else "g"] / n + l2 * at)
        at[...] = moved + momentum * (moved - point)
        point[...] = moved
    return {}


def squares_of(col: Mapping[str, Array], suffix: str = "") -> float:
    return float(sum(np.square(col[name + suffix], dtype=np.float64).sum() for name in ("W", "w")))


def score(v: Visit) -> Parts:
    poly_scores(v.data, v.col["W"], v.col["w"], v.cols.lo, v.cell["score"])
    return {}


def end_score(v: Visit) -> Parts:
    return {"squares": squares_of(v.col)}


def renew(v: Visit) -> Parts:
    """Slopes and losses from the stripes' scores."""
    sums = np.zeros((v.n_rows, 2), np.float32)
    sums[:, 0] = v.cell["score"].sum(axis=0)
    w0 = np.float32(v.params["w0"])
    slopes, loss = fm_slopes(sums, w0, v.data.t, v.row["slope"], step_of(v.params))
    return {"slopes": slopes, "loss": loss}


def keep(v: Visit) -> None:
    v.shared["w0"][0] = v.params["w0"]


class Poly:
    """Polynomial regression with dense weights."""

    name = "poly"
    epochs = 200
    col_axis = "features"
    block_cols = (1, 2**31 - 1)
    tiles = False
    kernels: Mapping[str, Kernel] = {
        "start": Kernel(start),
        "settle": Kernel(fm_visits.settle),
        "descend": Kernel(descend, end_descend, begin_descent),
        "score": Kernel(score, end_score),
        "renew": Kernel(renew),
        "keep": Kernel(keep),
    }

    def defaults(self) -> Settings:
        """``l2`` 1e-3, on all weights but the intercept; ``task`` as of ``fm``."""
        return {"l2": 1e-3, "task": None}

    def chosen_settings(self, problem: Problem) -> Settings:
        """The task, by the labels."""
        return {"task": task_of(problem)}

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without targets, `UsageError` for settings without a meaning."""
        settings = problem.settings
        if settings["task"] not in (None, *TASKS):
            raise UsageError(f"task is {settings['task']!r}; poly has {', '.join(TASKS)}")
        require_not_below_zero(settings, "l2", LARGEST, "try 1e-3")
        check_data(problem, "poly")

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        matrix, vector, f32 = ("cols", "features"), ("cols",), "float32"
        specs = [
            StateSpec("W", "col", matrix, f32, "weights of pairs: feature, smaller feature", export=True),
            StateSpec("w", "col", vector, f32, "linear weights", export=True),
            fm_visits.scale_state(),
            StateSpec("W_ahead", "col", matrix, f32, "where the next gradient of W is taken"),
            StateSpec("w_ahead", "col", vector, f32, "where the next gradient of w is taken"),
            StateSpec("w0", "shared", (1,), f32, "intercept", export=True),
            StateSpec("slope", "row", ("rows",), f32, "derivative of the loss"),
            StateSpec("score", "cell", ("rows",), f32, "share of f of the stripe's features"),
        ]
        if not is_classification(problem):
            specs.append(fm_visits.target_state())
        return tuple(specs)

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> TargetRows:
        return fm_visits.prepare(panel, problem, cols)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return self.descend_pass({}), self.renew_pass({})

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        settle = () if is_classification(problem) else (self.settle_pass(0.0, 1.0),)
        return self.start_pass(problem), *settle, self.score_pass(), self.keep_pass(0.0)

    def start_pass(self, problem: Problem) -> Pass:
        writes = () if is_classification(problem) else ("target",)
        return Pass("start", "rows", "start", writes=writes, data=True)

    def settle_pass(self, center: float, scale: float) -> Pass:
        params = {"center": center, "scale": scale}
        return Pass("settle", "once", "settle", reads=("target",), writes=("target",), params=params)

    def descend_pass(self, params: Mapping[str, Any]) -> Pass:
        scratch = (Scratch("G", ("cols", "features")), Scratch("g", ("cols",)))
        return Pass(
            "descend",
            "tiles",
            "descend",
            reads=(*BLOCK, "slope"),
            writes=(*BLOCK, "score"),
            data=True,
            sweeps=2,
            scratch=scratch,
            params=params,
        )

    def score_pass(self) -> Pass:
        return Pass("score", "tiles", "score", reads=("W", "w"), writes=("score",), data=True)

    def renew_pass(self, params: Mapping[str, Any]) -> Pass:
        return Pass("renew", "rows", "renew", reads=("score",), writes=("slope",), data=True, params=params)

    def keep_pass(self, w0: float) -> Pass:
        return Pass("keep", "once", "keep", writes=("w0",), params={"w0": w0})

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """Norms and moments; then per segment accelerated steps from where the weights are, and the exact objective.

        The intercept is a number that this program carries along; ``keep`` stores it.
        """
        found = yield self.start_pass(problem)
        n, l2 = int(found["n"]), float(problem.settings["l2"])
        if n == 0:
            raise no_targets(self.name)
        logistic, center, scale = is_classification(problem), 0.0, 1.0
        if not logistic:
            center, scale = standard(n, found)
            yield self.settle_pass(center, scale)
        eta = 1 / (CURVATURE[logistic] * float(found["norms"]) / n + l2)
        told = {
            "learning_rate": eta,
            "l2_linear": 0.0,
            "l2_factors": 0.0,
            "adagrad": False,
            "logistic": logistic,
        }
        told |= {"center": center, "scale": scale}
        number, w0 = 0, 0.0
        yield self.score_pass()
        renewed = yield self.renew_pass({**told, "w0": w0})
        for n_epochs in segments:
            ahead, t = w0, 1.0
            for epoch in range(n_epochs):
                number += 1
                following = (1 + np.sqrt(1 + 4 * t * t)) / 2
                momentum, t = float((t - 1) / following), float(following)
                params = {"eta": eta, "l2": l2, "n": n, "momentum": momentum, "restart": epoch == 0}
                before, w0 = w0, ahead - eta * float(renewed["slopes"]) / n
                ahead = w0 + momentum * (w0 - before)
                descended = yield self.descend_pass(params)
                renewed = yield self.renew_pass({**told, "w0": ahead})
                yield self.keep_pass(w0)
                loss = float(renewed["loss"]) / n
                objective = loss + l2 / 2 * float(descended["squares"])
                if (yield Epoch(number, objective, extra={"loss": loss})).stop:
                    break
            scored = yield self.score_pass()
            renewed = yield self.renew_pass({**told, "w0": w0})
            loss = float(renewed["loss"]) / n
            yield Final(loss + l2 / 2 * float(scored["squares"]), extra={"loss": loss})

    def scoring(self, problem: Problem, top: int) -> PolyScoring:
        return PolyScoring(problem, top)


class PolyScoring(FmScoring):
    """As of a machine without factors, whose linear part holds all."""

    def __init__(self, problem: Problem, top: int) -> None:
        classifies = is_classification(problem)
        params = {
            "learning_rate": 0.0,
            "l2_linear": 0.0,
            "l2_factors": 0.0,
            "adagrad": False,
            "logistic": classifies,
        }
        reads = ("W", "w", "w0", *(() if classifies else ("target",)))
        super().__init__(problem, top, 0, params | {"center": 0.0, "scale": 1.0}, reads)
        self.l2 = float(problem.settings["l2"])
        self.squares: dict[int, float] = {}
        """Sum of squared weights by first feature of the block."""

    def visit(
        self, accumulator: Summed, data: TargetRows, cols: Bounds, col: Mapping[str, Array], seen: Csr | None
    ) -> None:
        self.squares[cols.lo] = squares_of(col)
        poly_scores(data, col["W"], col["w"], cols.lo, accumulator.sums[:, 0])

    def metrics(self, accumulator: Summed, data: TargetRows) -> Counted:
        n = int((~np.isnan(data.t)).sum())
        accumulator.ridge[0] = n * self.l2 / 2 * sum(self.squares.values())
        return super().metrics(accumulator, data)
