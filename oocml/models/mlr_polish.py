"""Newton passes that take DS-MLR from a few per cent above the optimum to a few hundredths of one.

A tour, after epochs that ended with the class means taken out of W:

    newton   tiles   gradient | conjugate gradients per class | log-sum-exps of W + step V for
                     several step lengths at once, into a cell array
    choose   rows    the log-sum-exps of all stripes joined: the exact loss of every step length
    mean     once    class mean of V
    take     rows    log a of the chosen step

The chosen W + step (V - mean) is formed when the next tour loads W, so a tour reads W and V and writes both. Step 0 is
always a candidate: the objective never rises. Class blocks are independent given log a: diag(p) - p p^T is at most
twice the diagonal blocks, so a step of 1/2 always helps near the optimum; damping makes up for the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.kernels.mlr import CHUNK, EMPTY, ClassBlock
from oocml.kernels.mlr_newton import (
    Solver,
    newton_advance,
    newton_begin,
    newton_gradient,
    newton_line,
    newton_losses,
    newton_move,
    newton_norms,
    newton_product,
)
from oocml.models.protocol import Array, Kernel, Pass, Problem, Scratch, StateSpec, Visit

STEPS = (0.0, 0.02, 0.12, 0.25, 0.5, 0.75, 1.0, 1.5)
CG_STEPS = 10
TOLERANCE = 0.2
SHORT = 0.05
"""A step up to this says that the quadratic model is of no use without much more damping."""
ENOUGH = 1e-4
"""A tour that gains less than this share of the objective is the last, unless more damping may help."""
HOPELESS = 1000.0
"""Damping above which no step is expected to help."""
LIKE_W = ("residual", "direction", "product")
"""Arrays of a tour that have the size of W; V is another one."""


def empty_line(problem: Problem, bounds: Any) -> Array:
    del problem, bounds
    line = np.zeros((len(STEPS) + 1, 2), np.float32)
    line[:-1, 0] = EMPTY
    return line


def state() -> list[StateSpec]:
    f32, features_cols = "float32", ("features", "cols")
    return [
        StateSpec("V", "col", features_cols, f32, "Newton step of W"),
        StateSpec("v0", "col", ("cols",), f32, "Newton step of the intercept"),
        StateSpec("v_sum", "col", ("features",), f32, "sum of V over the block's classes"),
        StateSpec("v_bar", "shared", ("features",), f32, "mean of V over all classes"),
        StateSpec(
            "line", "cell", ("rows", len(STEPS) + 1, 2), f32, "(max, sum) per step length", init=empty_line
        ),
    ]


def constants(problem: Problem) -> Mapping[str, Array]:
    return {"mean_squares": (problem.feature_sumsq / problem.n_rows).astype(np.float32)}


def solver(v: Visit) -> Solver:
    names = (*LIKE_W, "variances", "norms")
    return Solver(v.col["V"], v.col["v0"], *(v.scratch[name] for name in names), v.constants["mean_squares"])


def move(v: Visit) -> Mapping[str, Any]:
    """Take the step that the tour before chose, class means left out; V then starts again from 0."""
    step = np.float32(v.params["step"])
    squares = newton_move(v.col["W"], v.col["V"], v.shared["v_bar"], step)
    v.col["intercept"][:] += step * (v.col["v0"] - np.float32(v.params["v0_mean"]))
    v.col["V"][:] = 0
    v.col["v0"][:] = 0
    return {"squares": squares}


def newton(v: Visit) -> Mapping[str, Any] | None:
    block = ClassBlock(v.col["W"], v.col["intercept"], v.cols.lo)
    log_a, inverse_n = v.row["log_a"], np.float32(1 / v.params["n_labelled"])
    work = np.empty((3, int(CHUNK)), np.float32)
    if v.last:
        steps = np.array(STEPS, np.float32)
        fit, fit_step = newton_line(v.data, block, solver(v), steps, v.cell["line"], work)
        return {"fit": fit, "fit_step": fit_step}
    if v.sweep == 0:
        newton_gradient(v.data, block, log_a, inverse_n, solver(v), work)
    else:
        newton_product(v.data, block, log_a, inverse_n, solver(v), work)
    return None


def end_newton(v: Visit) -> Mapping[str, Any] | None:
    l2, mu, fit_intercept = (
        np.float32(v.params["l2"]),
        np.float32(v.params["mu"]),
        bool(v.params["fit_intercept"]),
    )
    if v.last:
        ww, wv, vv = newton_norms(v.col["W"], v.col["V"], v.col["v_sum"])
        return {"ww": ww, "wv": wv, "vv": vv, "v0": float(v.col["v0"].sum(dtype=np.float64))}
    if v.sweep == 0:
        newton_begin(v.col["W"], l2, mu, fit_intercept, solver(v))
    else:
        newton_advance(l2, mu, fit_intercept, TOLERANCE, solver(v))
    return {"sweeps": 1.0}


def settled(v: Visit) -> bool:
    norms = v.scratch["norms"]
    return v.sweep > 0 and bool((norms[:, 0] <= TOLERANCE**2 * norms[:, 1]).all())


def choose(v: Visit) -> Mapping[str, Any]:
    losses = np.zeros(len(STEPS))
    newton_losses(v.cell["line"], losses)
    return {"lse": losses}


def mean(v: Visit) -> None:
    v.shared["v_bar"][:] += v.col["v_sum"] / np.float32(v.params["n_classes"])


def take(v: Visit) -> None:
    """Log a of the chosen step, with class means out."""
    losses = np.zeros(len(STEPS))
    line = v.cell["line"]
    newton_losses(line, losses)
    m, s = line[0, :, v.params["chosen"]].T
    labelled = s > 0
    mean_u = line[0, labelled, len(STEPS), 0] / v.params["n_classes"]
    v.row["log_a"][labelled] = v.params["step"] * mean_u - (m[labelled] + np.log(s[labelled]))


KERNELS: Mapping[str, Kernel] = {
    "newton": Kernel(newton, end_sweep=end_newton, begin=move, settled=settled),
    "choose": Kernel(choose),
    "newton_mean": Kernel(mean),
    "take": Kernel(take),
    "move": Kernel(move),
}


def newton_pass(problem: Problem, n_labelled: int, mu: float, step: float, v0_mean: float) -> Pass:
    arrays = tuple(Scratch(name, (problem.n_features + 1, "cols")) for name in LIKE_W)
    return Pass(
        "newton",
        "tiles",
        "newton",
        reads=("W", "intercept", "V", "v0", "v_bar", "log_a"),
        writes=("W", "intercept", "V", "v0", "v_sum", "line"),
        data=True,
        sweeps=CG_STEPS + 2,
        scratch=(*arrays, Scratch("variances", ("cols",)), Scratch("norms", ("cols", 2), "float64")),
        params={
            "l2": problem.settings["l2"],
            "fit_intercept": bool(problem.settings["fit_intercept"]),
            "n_labelled": n_labelled,
            "mu": mu,
            "step": step,
            "v0_mean": v0_mean,
        },
    )


def row_passes(problem: Problem, chosen: int = 0) -> tuple[Pass, Pass, Pass]:
    params = {"n_classes": len(problem.labels if problem.labels is not None else ())}
    taken = params | {"chosen": chosen, "step": STEPS[chosen]}
    return (
        Pass("choose", "rows", "choose", reads=("line",)),
        Pass("mean", "once", "newton_mean", reads=("v_sum",), writes=("v_bar",), params=params),
        Pass("take", "rows", "take", reads=("line", "log_a"), writes=("log_a",), params=taken),
    )


def move_pass(step: float, v0_mean: float) -> Pass:
    """The last tour's step; without a next tour nothing else would take it."""
    both = ("W", "intercept", "V", "v0")
    params = {"step": step, "v0_mean": v0_mean}
    return Pass("move", "cols", "move", reads=(*both, "v_bar"), writes=both, params=params)


def passes(problem: Problem) -> tuple[Pass, ...]:
    """Every pass of a tour, for the plan."""
    return newton_pass(problem, 1, 0.0, 0.0, 0.0), *row_passes(problem), move_pass(0.0, 0.0)


def damping(mu: float, step: float) -> float:
    """The next tour's damping: more if only a short step helped, less after a long one."""
    if step <= SHORT:
        return max(16 * mu, 1.0)
    if step <= 0.15:
        return max(4 * mu, 0.3)
    if step <= 0.35:
        return max(2 * mu, 0.1)
    if step >= 0.75:
        return mu / (4 if step <= 1 else 8) if mu > 0.02 else 0.0
    return mu


def tours(problem: Problem, n_labelled: int) -> Generator[Any, Any, tuple[float, float, int]]:
    """Newton tours from an exact log a; returns the exact mean loss, the objective and the number of tours."""
    l2, n_classes = problem.settings["l2"], len(problem.labels if problem.labels is not None else ())
    steps = np.array(STEPS)
    mu, step, v0_mean, count, loss = 0.0, 0.0, 0.0, 0, np.nan
    for _ in range(int(problem.settings["polish"])):
        result = yield newton_pass(problem, n_labelled, mu, step, v0_mean)
        choose_pass, mean_pass, _ = row_passes(problem)
        lse = np.asarray((yield choose_pass)["lse"])
        losses = (lse - float(result["fit"]) - steps * float(result["fit_step"])) / n_labelled
        squares = float(result["ww"]) + 2 * steps * float(result["wv"]) + steps**2 * float(result["vv"])
        objectives = losses + l2 / 2 * squares
        chosen = int(np.argmin(objectives))
        yield mean_pass
        step, v0_mean = STEPS[chosen], float(result["v0"]) / n_classes
        yield row_passes(problem, chosen)[2]
        loss, gain = float(losses[chosen]), float(objectives[0] - objectives[chosen])
        mu = damping(mu, step)
        count += 1
        if gain < ENOUGH * abs(float(objectives[chosen])) and (step > SHORT or mu > HOPELESS):
            break
    moved = yield move_pass(step, v0_mean)
    return loss, loss + l2 / 2 * float(moved["squares"]), count
