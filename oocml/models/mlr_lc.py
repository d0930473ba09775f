"""LC, the log-concavity method for multinomial logistic regression (Gopal and Yang, ICML 2013), out of core.

log x is concave: with a_i = exp(log a_i), log sum_k exp(z_ik) <= a_i sum_k exp(z_ik) - log a_i - 1, an equality at
log a_i = -log sum_k exp(z_ik). Given log a, the bound is a sum over classes of

    f_k = (l2 / 2) |w_k|^2 + (1 / N) sum_i (exp(z_ik + log a_i) - t_ik z_ik),    z_ik = x_i . w_k + c_k

so each class is minimised on its own. An epoch is an outer iteration:

    lc       tiles   some L-BFGS steps on f_k for every class of the resident block, a sweep over the rows each; then
                     the log-sum-exp part per (row block, stripe)
    finish   rows    exact log a from the parts

As no f_k rises, neither does the objective. The paper runs L-BFGS on each f_k and so do we; each class has its own
history, step and end, so results don't depend on how classes are cut into blocks. A sweep evaluates one trial point
of every class; a class whose trial isn't low enough (Armijo) is sent back towards where it was. A task holds
2 ``history`` + 4 arrays of its block's size, none of which is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from oocml.kernels.mlr import CHUNK, EMPTY, ClassBlock, mlr_scores
from oocml.kernels.mlr_batch import (
    class_accept,
    class_add,
    class_dots,
    class_gradients,
    class_trial,
    dot64,
)
from oocml.models.mlr_lbfgs import count_pass, labelled_rows
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
    StateSpec,
    Visit,
)
from oocml.types import Bounds

TOLERANCE = 0.05
"""A class is done in an epoch once its gradient's norm is this share of the epoch's first."""
SUFFICIENT = 1e-4
"""Share of the decrease promised by the slope that a step must bring."""
LARGEST_EXPONENT = np.float32(30)
"""Of z + log a at trial points. With exp(30) f is far above where it was, so the trial is refused anyway."""


def empty_lse(problem: Problem, bounds: Bounds) -> Array:
    del problem, bounds
    return np.array([EMPTY, 0], np.float32)


def first_scale(problem: Problem, bounds: Bounds) -> float:
    """One over the trace of f_k's Hessian for x at W = 0, where all classes are equally likely, plus l2."""
    del bounds
    mean_square = float(np.sum(problem.feature_sumsq)) / problem.n_rows
    n_classes = 1 if problem.labels is None else len(problem.labels)
    return 1 / ((mean_square + 1) / n_classes + float(problem.settings["l2"]))


def state(problem: Problem) -> list[StateSpec]:
    del problem
    return [
        StateSpec("lse", "cell", ("rows", 2), "float32", "(max, sum) of the stripe's scores", init=empty_lse),
        StateSpec("scale", "col", ("cols",), "float32", "inverse curvature per class", init=first_scale),
    ]


def pairs(v: Visit) -> list[tuple[Array, Array, Array]]:
    """(step, change of the gradient, 1 / their product per class) by slot."""
    return [(v.scratch[f"S{i}"], v.scratch[f"Y{i}"], v.scratch["rho"][i]) for i in range(v.params["history"])]


def begin(v: Visit) -> None:
    T = v.scratch["trial"]
    T[:-1], T[-1] = v.col["W"], v.col["intercept"]


def visit(v: Visit) -> Parts | None:
    work = np.empty((2, int(CHUNK)), np.float32)
    if v.last:
        block = ClassBlock(v.col["W"], v.col["intercept"], v.cols.lo)
        return {"fit": mlr_scores(v.data, block, v.cell["lse"], work)}
    T = v.scratch["trial"]
    block = ClassBlock(T[:-1], T[-1], v.cols.lo)
    inverse_n = np.float32(1 / v.params["n_labelled"])
    trial_values = v.scratch["values"][0]
    log_a = v.row["log_a"]
    class_gradients(v.data, block, log_a, LARGEST_EXPONENT, inverse_n, v.scratch["A"], trial_values, work)
    return None


def end_sweep(v: Visit) -> Parts:
    W, intercept = v.col["W"], v.col["intercept"]
    if v.last:
        return {"squares": dot64(W.reshape(-1), W.reshape(-1)), "class_sweeps": 0.0}
    complete_trial(v)
    accepted = judge_trial(v)
    newest = (v.sweep - 1) % v.params["history"]
    at = (W, intercept, v.scratch["G"])
    S, Y, rho = pairs(v)[newest]
    class_accept(accepted, at, (v.scratch["trial"], v.scratch["A"]), (S, Y))
    learn_pair(v, S, Y, rho)
    propose_trial(v, accepted)
    return {"class_sweeps": float(v.cols.size)}


def complete_trial(v: Visit) -> None:
    """Add L2 to the trial's values and gradients."""
    T, A, l2 = v.scratch["trial"], v.scratch["A"], v.params["l2"]
    squares = np.empty(v.cols.size)
    class_dots(T[:-1], T[:-1], squares)
    v.scratch["values"][0] += l2 / 2 * squares
    class_add(A[:-1], np.full(v.cols.size, l2, np.float32), T[:-1])
    if not v.params["fit_intercept"]:
        A[-1] = 0


def judge_trial(v: Visit) -> Array:
    """Which classes go to their trial points; the first is where they are."""
    trial, value = v.scratch["values"]
    if v.sweep == 0:
        accepted = np.ones(v.cols.size, bool)
        norms = v.scratch["norms"]
        class_dots(v.scratch["A"], v.scratch["A"], norms[1])
        v.scratch["active"][:] = norms[1] > 0
    else:
        # false for a trial that is not a number
        accepted = v.scratch["active"] & (trial <= value + SUFFICIENT * v.scratch["slope"])
    np.copyto(value, trial, where=accepted)
    return accepted


def learn_pair(v: Visit, S: Array, Y: Array, rho: Array) -> None:
    """Weigh the newest pair of each class (zeros where it has none), and take its curvature as the scale."""
    sy, yy = np.empty(v.cols.size), np.empty(v.cols.size)
    class_dots(S, Y, sy)
    class_dots(Y, Y, yy)
    known = (sy > 0) & (yy > 0)
    rho[:] = np.divide(1, sy, out=np.zeros_like(sy), where=known)
    np.copyto(
        v.col["scale"], np.divide(sy, yy, out=np.ones_like(sy), where=known), where=known, casting="same_kind"
    )


def propose_trial(v: Visit, accepted: Array) -> None:
    """Trial points: a quasi-Newton step from where a class has moved, else a shorter step than the one refused."""
    slope, active, norms = v.scratch["slope"], v.scratch["active"], v.scratch["norms"]
    trial, value = v.scratch["values"]
    G, A = v.scratch["G"], v.scratch["A"]
    class_dots(G, G, norms[0])
    active[:] = active & (norms[0] > TOLERANCE**2 * norms[1])
    # how far to go back, from the parabola through the value, the slope and the trial's value
    bend = 2 * (trial - value - slope)
    back = np.divide(-slope, bend, out=np.full_like(slope, 0.1), where=np.isfinite(bend) & (bend > 0))
    back = np.clip(back, 0.1, 0.5)
    A[...] = G
    two_loops(v, A)
    new_slope = np.empty(v.cols.size)
    class_dots(G, A, new_slope)
    active[:] = active & ~(accepted & ~(new_slope > 0))
    slope[:] = np.where(accepted, -new_slope, back * slope)
    keep = np.where(active & ~accepted, back, 0).astype(np.float32)
    scale = np.where(active & accepted, 1, 0).astype(np.float32)
    class_trial(v.col["W"], v.col["intercept"], v.scratch["trial"], keep, scale, A)
    v.scratch["values"][0] = 0


def two_loops(v: Visit, A: Array) -> None:
    """Multiply A by L-BFGS's inverse Hessian, for each class on its own."""
    product, shares = np.empty(v.cols.size), []
    oldest_first = list(recent(pairs(v), v.sweep))
    for S, Y, rho in reversed(oldest_first):
        class_dots(S, A, product)
        shares.append(rho * product)
        class_add(A, (-shares[-1]).astype(np.float32), Y)
    A *= v.col["scale"]
    for (S, Y, rho), share in zip(oldest_first, reversed(shares), strict=True):
        class_dots(Y, A, product)
        class_add(A, (share - rho * product).astype(np.float32), S)


def recent(slots: list[Any], sweep: int) -> Iterator[Any]:
    """Slots in use after a sweep, oldest first: sweep s writes slot (s - 1) mod n, and the first one no pair."""
    for s in range(max(1, sweep - len(slots) + 1), sweep + 1):
        yield slots[(s - 1) % len(slots)]


def settled(v: Visit) -> bool:
    return not v.scratch["active"].any()


KERNELS: Mapping[str, Kernel] = {"lc": Kernel(visit, end_sweep, begin, settled)}


def lc_pass(problem: Problem, n_labelled: int) -> Pass:
    settings, vector, f64 = problem.settings, (problem.n_features + 1, "cols"), "float64"
    n_pairs = int(settings["history"])
    names = ["trial", "A", "G", *(f"{kind}{i}" for kind in "SY" for i in range(n_pairs))]
    scratch = (
        *(Scratch(name, vector) for name in names),
        Scratch("rho", (n_pairs, "cols"), f64),
        Scratch("values", (2, "cols"), f64),
        Scratch("norms", (2, "cols"), f64),
        Scratch("slope", ("cols",), f64),
        Scratch("active", ("cols",), "bool"),
    )
    params = {
        "l2": float(settings["l2"]),
        "fit_intercept": bool(settings["fit_intercept"]),
        "history": n_pairs,
        "n_labelled": n_labelled,
    }
    own = ("W", "intercept", "scale")
    return Pass(
        "lc",
        "tiles",
        "lc",
        reads=(*own, "log_a"),
        writes=(*own, "lse"),
        data=True,
        sweeps=int(settings["inner"]) + 2,
        scratch=scratch,
        params=params,
    )


def finish_pass() -> Pass:
    return Pass(
        "finish",
        "rows",
        "finish",
        reads=("lse", "log_a"),
        writes=("log_a",),
        params={"rate": 0.0, "visited": False},
    )


def epoch_passes(problem: Problem) -> tuple[Pass, ...]:
    """The passes of an outer iteration, for the plan."""
    return lc_pass(problem, 1), finish_pass()


def other_passes(problem: Problem) -> tuple[Pass, ...]:
    del problem
    return (count_pass(),)


def program(problem: Problem, segments: tuple[int, ...]) -> Program:
    """Outer iterations, each an epoch with the exact objective."""
    n_labelled = yield from labelled_rows()
    n_classes = 0 if problem.labels is None else len(problem.labels)
    number, objective, extra = 0, 0.0, {}
    for n_epochs in segments:
        for _ in range(n_epochs):
            number += 1
            moved = yield lc_pass(problem, n_labelled)
            finished = yield finish_pass()
            loss = (float(finished["lse"]) - float(moved["fit"])) / n_labelled
            objective = loss + problem.settings["l2"] / 2 * float(moved["squares"])
            extra = {"loss": loss, "inner_steps": float(moved["class_sweeps"]) / n_classes - 1}
            verdict = yield Epoch(number, objective, exact=True, extra=extra)
            if verdict.stop:
                break
        yield Final(objective, extra=extra)
