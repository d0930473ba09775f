"""L-BFGS with one vector of weights for all: its recursion in a task, its line search in the program.

A visit returns the gradient at its first step, so that an iteration whose first step is taken needs no other pass over
the data. Where it isn't, further visits try several steps at once (the gradient again at the first of them).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oocml.models.protocol import Array, Epoch, Final, Parts, Pass, Problem, Program
from oocml.models.robirank_explicit_settings import bad_grades, nothing_relevant
from oocml.types import Float64Array

FIRST_STEPS = (1.0, 1 / 64, 1 / 16, 1 / 4, 4.0, 16.0, 64.0)
"""Steps tried along minus the gradient, over its length."""
AROUND = (1.0, 1 / 16, 1 / 4, 4.0)
"""Steps tried where L-BFGS's own won't do, in units of a guess."""
ENOUGH = 1e-4
"""Share of the decrease that the slope promises which a step has to bring."""
TOO_STEEP = 0.9
"""A first step is too short where this share of the slope is left."""
TRIES = 6
LEAST_COSINE = 1e-8
"""Pairs with a smaller y.s / (|y| |s|) are left out: the objective need not be convex."""
ROUNDING = 1e-14
"""Of the objective: no decrease below that can be seen."""
WARM_L2 = 1 / 0.3
"""l2 of the start with rho 1 over that of the training with rho 2, whose slopes are the smaller ones."""
VECTORS = ("w", "move", "w_gradient", "pairs")


def spread_pass() -> Pass:
    return Pass("spread", "rows", "spread", writes=("squares",), data=True)


def begin_pass(problem: Problem) -> Pass:
    params = {"n_rows": problem.n_rows}
    return Pass("begin", "once", "begin", reads=("squares",), writes=("spread",), params=params)


def visit_pass(problem: Problem, steps: tuple[float, ...], rho: int) -> Pass:
    params = {"steps": steps, "rho": rho, "goal": int(problem.settings["rho"])}
    reads = ("w", "move", "spread")
    return Pass("visit", "rows", "visit", reads=reads, writes=("gradient",), data=True, params=params)


def turn_pass(step: float, slots: tuple[int, ...], slot: int, **more: float) -> Pass:
    """``slots``: those of the pairs to use, oldest first; ``slot``: where the new one goes. ``more``: see `turn`."""
    reads = (*VECTORS, "gradient", "spread")
    params = {"step": step, "slots": slots, "slot": slot, **more}
    return Pass("turn", "once", "turn", reads=reads, writes=(*VECTORS, "weights"), params=params)


def turn(vectors: Mapping[str, Array], params: Mapping[str, Any]) -> Parts:
    """Take a step, remember its pair, and find the next move. Works on the arrays in place.

    Parameters
    ----------
    vectors
        ``w``, ``move``, ``w_gradient`` and the losses' ``gradient`` at the step, of shape (n_features,); ``pairs``.
    params
        Of `turn_pass`, with ``n_ranked`` and ``l2``, and ``back``: whether ``gradient`` is of a step that wasn't taken.
    """
    w, move, pairs = vectors["w"], vectors["move"], vectors["pairs"]
    s = params["step"] * move
    w += s
    new = vectors["gradient"] / params["n_ranked"] + params["l2"] * w
    if params["back"]:
        new = vectors["w_gradient"].copy()
    y = new - vectors["w_gradient"]
    vectors["w_gradient"][...] = new
    slots, kept = params["slots"], bool(s @ y > LEAST_COSINE * np.sqrt((s @ s) * (y @ y)))
    if kept:
        slot, n = params["slot"], len(pairs) // 2
        pairs[slot], pairs[n + slot] = s, y
        slots = (*(other for other in slots if other != slot), slot)
    move[...] = -two_loops(new, pairs, slots)
    return {
        "kept": kept,
        "slope": new @ move,
        "steepness": np.sqrt(new @ new),
        "largest": np.abs(new).max(),
        "products": np.array([w @ w, w @ move, move @ move]),
    }


def two_loops(gradient: Float64Array, pairs: Float64Array, slots: tuple[int, ...]) -> Float64Array:
    """L-BFGS's approximation of inverse Hessian times gradient (Nocedal and Wright, algorithm 7.4)."""
    n, q, shares = len(pairs) // 2, gradient.copy(), []
    for slot in reversed(slots):
        s, y = pairs[slot], pairs[n + slot]
        shares.append((s @ q) / (s @ y))
        q -= shares[-1] * y
    if slots:
        s, y = pairs[slots[-1]], pairs[n + slots[-1]]
        q *= (s @ y) / (y @ y)
    for slot, share in zip(slots, reversed(shares), strict=True):
        s, y = pairs[slot], pairs[n + slot]
        q += (share - (y @ q) / (s @ y)) * s
    return q


@dataclass
class Descent:
    """What the program knows of the minimisation of one objective: small numbers, all from results of passes."""

    problem: Problem
    n_ranked: int
    rho: int
    l2: float
    objective: float = np.inf
    """What is minimised, at w."""
    reported: float = np.inf
    """The training's objective, at w."""
    slots: tuple[int, ...] = ()
    next_slot: int = 0
    visits: int = 0
    turned: Parts = field(default_factory=dict)
    """Parts of the last turn."""

    def start(self) -> Generator[Any, Any, None]:
        """The gradient where w is."""
        self.slots = ()
        found = yield from self.visit((0.0,))
        self.objective = float(found["objectives"][0])
        self.reported = float(found["reported"])
        yield from self.turn(0.0)

    def iterate(self) -> Generator[Any, Any, float]:
        """One iteration; returns the length of its step, 0 if none lowers the objective."""
        step = yield from self.search()
        if not step and self.slots:  # the history may be what misleads
            self.slots = ()
            yield from self.turn(0.0, back=True)
            step = yield from self.search()
        if step:
            yield from self.turn(step)
        return step

    def search(self) -> Generator[Any, Any, float]:
        """A step that lowers the objective enough; its visit was the last one. 0 if there is none."""
        slope = float(self.turned["slope"])
        if -slope <= ROUNDING * max(1.0, abs(self.objective)):
            return 0.0
        scale = 1.0 if self.slots else 1 / float(self.turned["steepness"])
        steps = (1.0,) if self.slots else tuple(scale * step for step in FIRST_STEPS)
        for attempt in range(TRIES):
            found = yield from self.visit(steps)
            tried, values = np.array(steps), found["objectives"]
            enough = values <= self.objective + ENOUGH * slope * tried
            best = int(np.argmin(np.where(enough, values, np.inf)))
            short = len(steps) == 1 and float(found["slope"]) < TOO_STEEP * slope
            if enough[0] and (attempt > 0 or (best == 0 and not short)):
                self.objective, self.reported = float(values[0]), float(found["reported"])
                return float(steps[0])
            if enough.any():
                guess = 2 * steps[0] if best == 0 else float(tried[best])
                steps = tuple(guess * step for step in AROUND) if best == 0 else (guess,)
            else:
                guess = shorter(float(tried.min()), float(values[tried.argmin()]), self.objective, slope)
                steps = tuple(guess * step for step in AROUND[:-1])
        return 0.0

    def visit(self, steps: tuple[float, ...]) -> Generator[Any, Any, dict[str, Any]]:
        """Objectives at the steps, the slope at the first of them, and the training's objective there."""
        found = yield visit_pass(self.problem, steps, self.rho)
        self.visits += 1
        ww, wm, mm = np.asarray(self.turned.get("products", np.zeros(3)), np.float64)
        tried = np.array(steps)
        squares = ww + 2 * tried * wm + tried**2 * mm
        values = np.asarray(found["losses"]) / self.n_ranked + self.l2 / 2 * squares
        goal = float(found["goal"]) / self.n_ranked + float(self.problem.settings["l2"]) / 2 * squares[0]
        slope = float(found["slope"]) / self.n_ranked + self.l2 * (wm + tried[0] * mm)
        values = np.where(np.isfinite(values), values, np.inf)
        return {"objectives": values, "slope": slope, "reported": goal}

    def turn(self, step: float, back: bool = False) -> Generator[Any, Any, None]:
        """Take a step (0: none) and find the next move."""
        slot = self.next_slot
        more = {"n_ranked": self.n_ranked, "l2": self.l2, "back": back}
        self.turned = yield turn_pass(step, self.slots, slot, **more)
        if float(self.turned["kept"]):
            n = int(self.problem.settings["history"])
            self.slots = (*(other for other in self.slots if other != slot), slot)
            self.next_slot = (slot + 1) % n

    @property
    def settled(self) -> bool:
        return float(self.turned["largest"]) <= float(self.problem.settings["tolerance"])


def shorter(step: float, value: float, objective: float, slope: float) -> float:
    """Where a parabola through what is known has its least value, within reason."""
    rise = value - objective - slope * step
    guess = -slope * step**2 / (2 * rise) if np.isfinite(rise) and rise > 0 else 0.0
    return float(np.clip(guess, 0.1 * step, 0.5 * step))


def program(problem: Problem, segments: tuple[int, ...]) -> Program:
    """Iterations, each an epoch with the exact objective; a segment ends where the gradient vanishes.

    A training with rho 2 begins with rho 1, for as long as that pays but at most half of the first segment: at 0 its
    own gradient is tiny.
    """
    n_ranked = yield from count_queries(problem)
    yield begin_pass(problem)
    goal, l2 = int(problem.settings["rho"]), float(problem.settings["l2"])
    run = Descent(problem, n_ranked, goal, l2)
    warm = segments[0] // 2 if goal == 2 and problem.settings["warm_start"] else 0
    if warm:
        run.rho, run.l2 = 1, WARM_L2 * l2
    yield from run.start()
    number = 0
    for n_epochs in segments:
        for _ in range(n_epochs):
            number += 1
            step = yield from run.iterate()
            ends = not step or run.settled
            if warm and (ends or number == warm):
                warm, ends, run.rho, run.l2 = 0, False, goal, l2
                yield from run.start()
            extra = {
                "step": step,
                "largest_gradient": float(run.turned["largest"]),
                "data_passes": float(run.visits),
            }
            verdict = yield Epoch(number, run.reported, exact=True, extra=extra)
            if verdict.stop or ends:
                break
        yield Final(run.reported, extra={"data_passes": float(run.visits)})


def count_queries(problem: Problem) -> Generator[Any, Any, int]:
    """Queries with a relevant row, the only ones that have a loss."""
    found = yield spread_pass()
    if found["n_bad"]:
        raise bad_grades(
            f"below 0 or above what is possible in {int(found['n_bad'])} of {problem.n_rows} rows"
        )
    if not found["n_ranked"]:
        raise nothing_relevant()
    return int(found["n_ranked"])
