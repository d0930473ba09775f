"""L-BFGS for multinomial logistic regression, out of core: full gradients, history in the store.

An epoch is one iteration t, from an exact log a:

    gradient    tiles   gradient of the objective, G_t
    dots        cols    inner products of G_t and V_t-1 with all of the history
    direction   cols    V_t, a combination of the history
    line        tiles   log-sum-exps of W + step V_t for several steps at once, into a cell array
    choose      rows    those of all stripes joined: the exact objective of every step
    take        rows    log a of the best step
    step        cols    W <- W + step V_t

Only the two passes over tiles read data. The best of several steps is taken, and none that doesn't lower the
objective; where L-BFGS's direction has none, minus the gradient is tried. `lbfgs_history` has the recursion.

A task over columns holds 2 ``history`` + 2 arrays of its block, and the store as many of the size of W: where those
don't fit, ``history`` 2 or 3 costs few iterations more.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np

from oocml.errors import InputError
from oocml.kernels.mlr import CHUNK, EMPTY, ClassBlock
from oocml.kernels.mlr_batch import add64, class_gradients, dot64
from oocml.kernels.mlr_finish import mlr_finish_rows
from oocml.kernels.mlr_newton import newton_line, newton_losses, newton_norms
from oocml.models.lbfgs_history import History
from oocml.models.protocol import (
    Array,
    Epoch,
    Final,
    Kernel,
    Parts,
    Pass,
    Problem,
    Program,
    StateSpec,
    Visit,
)
from oocml.types import Float64Array

STEPS = (1 / 32, 1 / 8, 5 / 16, 5 / 8, 1.0, 13 / 8, 3.0)
"""Steps tried along a quasi-Newton direction; all are float32 numbers."""
FIRST_STEPS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
"""Steps tried along minus the gradient, in units that are safe by a bound on the Hessian's largest eigenvalue."""
ELEMENTS = 16384
"""Handled at a time by sums of vectors, to stay in the cache."""


class Move(NamedTuple):
    """A change of a class block's parameters, as `newton_line` takes it."""

    V: Array
    v0: Array


def n_slots(problem: Problem) -> int:
    """Directions and gradients kept: those of ``history`` pairs, and the newest."""
    return int(problem.settings["history"]) + 1


def empty_line(problem: Problem, bounds: Any) -> Array:
    del problem, bounds
    line = np.zeros((len(STEPS) + 1, 2), np.float32)
    line[:-1, 0] = EMPTY
    return line


def state(problem: Problem) -> list[StateSpec]:
    vector = (problem.n_features + 1, "cols")
    specs = [
        StateSpec(
            "line", "cell", ("rows", len(STEPS) + 1, 2), "float32", "(max, sum) per step", init=empty_line
        )
    ]
    for slot in range(n_slots(problem)):
        specs += [
            StateSpec(f"V{slot}", "col", vector, "float32", "direction of an iteration; intercept last"),
            StateSpec(f"G{slot}", "col", vector, "float32", "gradient of an iteration; intercept last"),
        ]
    return specs


def count(v: Visit) -> Parts:
    return {"n_labelled": np.count_nonzero(np.diff(v.data.label_indptr))}


def gradient(v: Visit) -> None:
    G = v.col[v.params["G"]]
    block = ClassBlock(v.col["W"], v.col["intercept"], v.cols.lo)
    work, values = np.empty((2, int(CHUNK)), np.float32), np.zeros(v.cols.size)
    inverse_n = np.float32(1 / v.params["n_labelled"])
    class_gradients(v.data, block, v.row["log_a"], np.float32(0), inverse_n, G, values, work)


def end_gradient(v: Visit) -> None:
    G, W = v.col[v.params["G"]], v.col["W"]
    add_scaled(G[:-1], v.params["l2"], W)
    if not v.params["fit_intercept"]:
        G[-1] = 0


def dots(v: Visit) -> Parts:
    left = [v.col[name].reshape(-1) for name in v.params["left"]]
    right = [v.col[name].reshape(-1) for name in v.params["right"]]
    totals = np.zeros((len(left), len(right)))
    for lo in range(0, left[0].size, ELEMENTS):
        part = slice(lo, lo + ELEMENTS)
        for i, a in enumerate(left):
            for j, b in enumerate(right):
                totals[i, j] += dot64(a[part], b[part])
    return {"dots": totals.reshape(-1)}


def direction(v: Visit) -> None:
    out = v.col[v.params["out"]].reshape(-1)
    terms = [(scale, v.col[name].reshape(-1)) for name, scale in v.params["terms"]]
    for lo in range(0, out.size, ELEMENTS):
        part = slice(lo, lo + ELEMENTS)
        total = np.zeros(len(out[part]))
        for scale, array in terms:
            add64(total, scale, array[part])
        out[part] = total


def line(v: Visit) -> Parts:
    block = ClassBlock(v.col["W"], v.col["intercept"], v.cols.lo)
    V = v.col[v.params["V"]]
    steps = np.array(v.params["steps"], np.float32)
    work = np.empty((3, int(CHUNK)), np.float32)
    fit, fit_step = newton_line(v.data, block, Move(V[:-1], V[-1]), steps, v.cell["line"], work)
    return {"fit": fit, "fit_step": fit_step}


def end_line(v: Visit) -> Parts:
    W, V = v.col["W"], v.col[v.params["V"]]
    ww, wv, vv = newton_norms(W, V[:-1], np.empty(len(W), np.float32))
    return {"ww": ww, "wv": wv, "vv": vv}


def choose(v: Visit) -> Parts:
    losses = np.zeros(len(STEPS))
    newton_losses(v.cell["line"], losses)
    return {"lse": losses}


def take(v: Visit) -> None:
    lse = np.ascontiguousarray(v.cell["line"][:, :, v.params["chosen"]])
    mlr_finish_rows(lse, v.row["log_a"], np.float32(0))


def step(v: Visit) -> None:
    V = v.col[v.params["V"]]
    add_scaled(v.col["W"], v.params["step"], V[:-1])
    add_scaled(v.col["intercept"], v.params["step"], V[-1])


def add_scaled(out: Array, scale: float, array: Array) -> None:
    """out += scale array for C-contiguous arrays, without another array of that size."""
    out, array = out.reshape(-1), array.reshape(-1)
    for lo in range(0, out.size, ELEMENTS):
        part = slice(lo, lo + ELEMENTS)
        out[part] += np.float32(scale) * array[part]


KERNELS: Mapping[str, Kernel] = {
    "count": Kernel(count),
    "gradient": Kernel(gradient, end_gradient),
    "dots": Kernel(dots),
    "direction": Kernel(direction),
    "batch_line": Kernel(line, end_line),
    "batch_choose": Kernel(choose),
    "batch_take": Kernel(take),
    "step": Kernel(step),
}


def count_pass() -> Pass:
    return Pass("count", "rows", "count", data=True)


def gradient_pass(problem: Problem, history: History, n_labelled: int) -> Pass:
    G = history.name(history.gradient_of(history.iteration))
    settings = problem.settings
    params = {
        "G": G,
        "n_labelled": n_labelled,
        "l2": float(settings["l2"]),
        "fit_intercept": bool(settings["fit_intercept"]),
    }
    reads = ("W", "intercept", "log_a")
    return Pass("gradient", "tiles", "gradient", reads=reads, writes=(G,), data=True, params=params)


def dots_pass(history: History) -> Pass:
    left, right = map(history.name, history.newest), tuple(map(history.name, history.kept))
    return Pass("dots", "cols", "dots", reads=right, params={"left": tuple(left), "right": right})


def direction_pass(history: History, coefficients: Float64Array) -> Pass:
    used = [vector for vector in history.kept if coefficients[vector]]
    terms = tuple((history.name(vector), float(coefficients[vector])) for vector in used)
    out = history.name(history.direction_of(history.iteration))
    reads = tuple(name for name, _ in terms)
    return Pass(
        "direction", "cols", "direction", reads=reads, writes=(out,), params={"terms": terms, "out": out}
    )


def line_pass(history: History, steps: tuple[float, ...]) -> Pass:
    V = history.name(history.direction_of(history.iteration))
    params = {"V": V, "steps": steps}
    reads = ("W", "intercept", V)
    return Pass("line", "tiles", "batch_line", reads=reads, writes=("line",), data=True, params=params)


def choose_pass() -> Pass:
    return Pass("choose", "rows", "batch_choose", reads=("line",))


def move_passes(history: History, chosen: int, step: float) -> tuple[Pass, Pass]:
    V = history.name(history.direction_of(history.iteration))
    both, params = ("W", "intercept"), {"V": V, "step": step}
    return (
        Pass(
            "take",
            "rows",
            "batch_take",
            reads=("line", "log_a"),
            writes=("log_a",),
            params={"chosen": chosen},
        ),
        Pass("step", "cols", "step", reads=(*both, V), writes=both, params=params),
    )


def epoch_passes(problem: Problem) -> tuple[Pass, ...]:
    """The passes of an iteration with a full history, for the plan."""
    history = History(n_slots(problem))
    for _ in range(history.n - 1):
        history.advance(1.0)
    return (
        gradient_pass(problem, history, 1),
        dots_pass(history),
        direction_pass(history, np.ones(2 * history.n)),
        line_pass(history, STEPS),
        choose_pass(),
        *move_passes(history, 0, 1.0),
    )


def other_passes(problem: Problem) -> tuple[Pass, ...]:
    del problem
    return (count_pass(),)


def program(problem: Problem, segments: tuple[int, ...]) -> Program:
    """Iterations, each an epoch with the exact objective; a segment ends early where no step lowers it."""
    n_labelled = yield from labelled_rows()
    history = History(n_slots(problem))
    objective = loss = float(np.log(0 if problem.labels is None else len(problem.labels)))
    number = scans = 0
    for n_epochs in segments:
        for _ in range(n_epochs):
            number += 1
            yield gradient_pass(problem, history, n_labelled)
            history.learn((yield dots_pass(history))["dots"])
            length, scans = 0.0, scans + 1
            for coefficients, steps in directions(problem, history, n_labelled):
                yield direction_pass(history, coefficients)
                losses, objectives = yield from search(problem, history, steps, n_labelled)
                scans += 1
                chosen = int(np.argmin(objectives))
                if objectives[chosen] < objective:
                    loss, objective, length = float(losses[chosen]), float(objectives[chosen]), steps[chosen]
                    take_pass, step_pass = move_passes(history, chosen, length)
                    yield take_pass
                    yield step_pass
                    history.advance(length)
                    break
                history.forget()
            extra = {"loss": loss, "step": length, "data_passes": float(scans)}
            verdict = yield Epoch(number, objective, exact=True, extra=extra)
            if verdict.stop or not length:
                break
        yield Final(objective, extra={"loss": loss, "data_passes": float(scans)})


def labelled_rows() -> Generator[Any, Any, int]:
    """Count the rows that have labels."""
    n_labelled = int((yield count_pass())["n_labelled"])
    if n_labelled == 0:
        raise InputError("no row of the dataset has a label; mlr has nothing to learn from")
    return n_labelled


def directions(
    problem: Problem, history: History, n_labelled: int
) -> Generator[tuple[Float64Array, tuple[float, ...]], None, None]:
    """Coefficients to try in turn, and steps along them: L-BFGS, then the gradient alone."""
    coefficients = history.quasi_newton()
    if coefficients is not None:
        yield coefficients, STEPS
    downhill = np.zeros(2 * history.n)
    downhill[history.gradient_of(history.iteration)] = -1 / curvature_bound(problem, n_labelled)
    yield downhill, FIRST_STEPS


def curvature_bound(problem: Problem, n_labelled: int) -> float:
    """The Hessian's eigenvalues are at most half the mean squared row (with its 1 for the intercept), plus l2."""
    mean_square = float(np.sum(problem.feature_sumsq)) / n_labelled
    return 0.5 * (mean_square + 1) + float(problem.settings["l2"])


def search(
    problem: Problem, history: History, steps: tuple[float, ...], n_labelled: int
) -> Generator[Any, Any, tuple[Float64Array, Float64Array]]:
    """Exact losses and objectives of the steps along the newest direction."""
    moved = yield line_pass(history, steps)
    lse = np.asarray((yield choose_pass())["lse"])
    alpha = np.array(steps)
    losses = (lse - float(moved["fit"]) - alpha * float(moved["fit_step"])) / n_labelled
    squares = float(moved["ww"]) + 2 * alpha * float(moved["wv"]) + alpha**2 * float(moved["vv"])
    objectives = losses + problem.settings["l2"] / 2 * squares
    return losses, np.where(np.isfinite(objectives), objectives, np.inf)
