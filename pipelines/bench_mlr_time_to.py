"""Time to a few per cent, or less, of the optimum on NEWS20, one thread, beside scikit-learn's solvers.

The same rule for everybody: the smallest budget (epochs and Newton passes; ``max_iter``) whose *final, exact* objective
is within the bar, each budget trained from zero. Ours counts from the first dispatch to the last commit, the data read
from disk and the model written to it; theirs is ``fit`` alone on the same matrix in double precision in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from oocml.engine.events import Event, RunDone, RunStarted
from oocml.run import Run

from . import datasets, softmax
from .bench_options import Options, median, one_thread, say
from .table import Finding, Section
from .training import discard, measure

L2S = (1e-4, 1e-5)
BARS = (0.05, 0.01, 0.001)
EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)
POLISH = (0, 1, 2, 3)
SOLVERS = ("saga", "newton-cg", "lbfgs")
MOST_ITER = 2048
OPTIMUM = {"saga": 150, "newton-cg": 60, "lbfgs": 1000}
"""Solvers asked for the optimum, and their iterations: one after the other until one is near enough."""
NEAR = 1e-4
"""Distance to the optimum, as a share of it, that the gradient there must vouch for."""
SLOWER = {False: 5.0, True: 50.0}
"""A solver that takes so many times the seconds of the fastest before it is given up at a bar."""
REPEATED_S = 2.0
"""What takes longer is timed once more than it was searched for only if it is the fastest of its kind."""
GOALS = {(0.05, "ds"): 5.0, (0.001, "ds+polish"): 2.0}
WORST_DIFFERENCE = 1e-4


class Timed(NamedTuple):
    seconds: float
    cpu_s: float
    objective: float


class Budget(NamedTuple):
    """What one of the methods is allowed."""

    method: str
    steps: int
    """Epochs, or ``max_iter``."""
    polish: int = 0

    def __str__(self) -> str:
        if self.method in SOLVERS:
            return f"max_iter={self.steps}"
        return f"epochs={self.steps}" + (f", polish={self.polish}" if self.polish else "")


class CpuClock:
    """A monitor: processor time of this process from a run's start to its end."""

    seconds = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.seconds = -time.process_time()
            case RunDone():
                self.seconds += time.process_time()


class Race:
    """All methods on one dataset at one l2; every training and fit is kept."""

    def __init__(self, train: Path, l2: float, options: Options) -> None:
        self.train, self.l2, self.options = train, l2, options
        self.problem = softmax.load(train)
        self.taken: dict[Budget, list[Timed]] = {}
        self.distance = math.inf
        """What the optimum may lack of the true one, as a share of it."""
        self.checked = 0.0
        """Largest relative difference between an objective of ours and the same in double precision."""

    @cached_property
    def optimum(self) -> float:
        """The smallest objective of long fits; ``distance`` bounds what it may lack."""
        least = math.inf
        for solver, n_iter in OPTIMUM.items():
            fit = softmax.fit(solver, self.problem, self.l2, n_iter)
            found = softmax.objective(self.problem, self.l2, fit.model)
            if found < least:
                least, self.distance = found, softmax.distance(self.problem, self.l2, fit.model) / found
            if self.distance <= NEAR:
                break
        return least

    def gap(self, budget: Budget) -> float:
        """How far above the optimum a budget ends."""
        if budget not in self.taken:
            self.take(budget)
        return self.taken[budget][0].objective / self.optimum - 1

    def take(self, budget: Budget) -> Timed:
        timed = self._fit(budget) if budget.method in SOLVERS else self._train(budget)
        self.taken.setdefault(budget, []).append(timed)
        return timed

    def _fit(self, budget: Budget) -> Timed:
        began = time.process_time()
        fit = softmax.fit(budget.method, self.problem, self.l2, budget.steps)
        cpu_s = time.process_time() - began
        return Timed(fit.seconds, cpu_s, softmax.objective(self.problem, self.l2, fit.model))

    def _train(self, budget: Budget) -> Timed:
        # what scikit-learn's fits end with: weights. Objectives of both are computed from those, in double precision
        exact = {} if budget.polish else {"exact_objective": False}
        clock, settings = CpuClock(), {"l2": self.l2, "polish": budget.polish, **exact}
        done = measure(
            self.train, self.options.scratch, settings, epochs=budget.steps, schedule="serial", also=[clock]
        )
        objective = softmax.objective(self.problem, self.l2, weights(done.run))
        if budget.polish:
            self.checked = max(self.checked, abs(done.objective / objective - 1))
        discard(self.options.scratch)
        return Timed(done.seconds, clock.seconds, objective)

    def check_default(self) -> None:
        """Hold the exact objective that comes with the last epoch against double precision."""
        done = measure(self.train, self.options.scratch, {"l2": self.l2}, epochs=2, schedule="serial")
        exact = softmax.objective(self.problem, self.l2, weights(done.run))
        self.checked = max(self.checked, abs(done.objective / exact - 1))
        discard(self.options.scratch)

    def seconds(self, budget: Budget) -> float:
        return median([timed.seconds for timed in self.taken[budget]])

    def smallest_ours(self, bar: float, polish: int) -> Budget | None:
        """The fewest epochs that get there with so many Newton passes."""
        for epochs in EPOCHS:
            budget = Budget("ds+polish" if polish else "ds", epochs, polish)
            if self.gap(budget) <= bar:
                return budget
        return None

    def smallest_theirs(self, bar: float, solver: str, limit_s: float = math.inf) -> Budget | None:
        """The smallest ``max_iter`` that gets there: doubled, then bisected. None if it takes longer than the limit."""
        high = 1
        while self.gap(Budget(solver, high)) > bar:
            if high >= MOST_ITER or self.seconds(Budget(solver, high)) > limit_s:
                return None
            high *= 2
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.gap(Budget(solver, middle)) <= bar else (middle, high)
        return Budget(solver, high)

    def candidates(self, bar: float) -> dict[str, list[Budget]]:
        """By method, the budgets worth timing again: ours the two fastest so far, theirs the smallest."""
        found: dict[str, list[Budget]] = {"ds": [], "ds+polish": []}
        for polish in POLISH:
            budget = self.smallest_ours(bar, polish)
            if budget is not None:
                found[budget.method].append(budget)
        found = {name: sorted(budgets, key=self.seconds)[:2] for name, budgets in found.items()}
        limit_s = math.inf
        for solver in SOLVERS:
            smallest = self.smallest_theirs(bar, solver, limit_s)
            found[solver] = [] if smallest is None else [smallest]
            if smallest is not None:
                limit_s = min(limit_s, SLOWER[self.options.full] * self.seconds(smallest))
        return found


def weights(run: Run) -> softmax.Linear:
    """The model of a run, in memory."""
    arrays = run.arrays()
    return softmax.Linear(np.asarray(arrays["W"]), np.asarray(arrays["intercept"]))


def run(options: Options) -> Section:
    """Seconds to every bar, and by how much ours is sooner than the best of scikit-learn's."""
    splits = datasets.real("news20", options.data, options.data_dir, "tfidf")
    section = Section("time_to", "time to within a bar of the optimum, NEWS20 tf-idf, one thread (median)")
    for l2 in L2S:
        with one_thread():
            say(f"time_to: l2 {l2:g}, optimum")
            race = Race(splits.train, l2, options)
            section.notes.append(f"l2 {l2:g}: optimum {race.optimum:.6f}, to {race.distance:.0e} of it")
            race.take(Budget("ds+polish", 1, 1))  # loads the compiled kernels
            race.check_default()
            race.taken.clear()
            contest(race, section)
        section.notes.append(
            f"l2 {l2:g}: objectives of ours differ from double precision by at most {race.checked:.1e} of them"
        )
        section.findings.append(
            Finding(
                f"l2 {l2:g}: objective of ours, relative error",
                race.checked,
                WORST_DIFFERENCE,
                at_least=False,
            )
        )
    return section


def contest(race: Race, section: Section) -> None:
    """Find every method's smallest budgets, time them in turn, add rows and findings."""
    by_bar: dict[float, dict[str, list[Budget]]] = {}
    for bar in BARS:
        say(f"time_to: l2 {race.l2:g}, within {bar:.1%}")
        by_bar[bar] = race.candidates(bar)
    again = worth_repeating(race, by_bar)
    for budget in again:
        race.taken[budget].clear()  # the first of each was timed alone, while others were searched for
    for number in range(race.options.repeats):
        say(f"time_to: l2 {race.l2:g}, {len(again)} budgets in turn, {number + 1} of {race.options.repeats}")
        for budget in again:
            race.take(budget)
    for bar, found in by_bar.items():
        best = {name: min(budgets, key=race.seconds) for name, budgets in found.items() if budgets}
        section.rows += [row(race, bar, name, best.get(name)) for name in found]
        section.findings += findings(race, bar, best)


def worth_repeating(race: Race, by_bar: dict[float, dict[str, list[Budget]]]) -> list[Budget]:
    """All of ours, the fastest solver of every bar, and whatever else is quick."""
    again: set[Budget] = set()
    for found in by_bar.values():
        theirs = sorted((b for name in SOLVERS for b in found[name]), key=race.seconds)
        again.update(*(found[name] for name in found if name not in SOLVERS), theirs[:1])
        again.update(budget for budget in theirs if race.seconds(budget) <= REPEATED_S)
    return sorted(again)


def findings(race: Race, bar: float, best: dict[str, Budget]) -> list[Finding]:
    """How much sooner ours is than the best of scikit-learn's solvers, and than each that got there."""
    found = []
    theirs = {name: race.seconds(best[name]) for name in SOLVERS if name in best}
    for name in ("ds", "ds+polish"):
        if not theirs or name not in best:
            continue
        ours = race.seconds(best[name])
        fastest = min(theirs, key=theirs.__getitem__)
        what = f"l2 {race.l2:g}, within {bar:.1%}: {name} sooner than"
        ratio = theirs[fastest] / ours
        found.append(Finding(f"{what} scikit-learn's best ({fastest})", ratio, GOALS.get((bar, name))))
        found += [Finding(f"{what} {other}", theirs[other] / ours) for other in theirs if other != fastest]
    return found


def row(race: Race, bar: float, method: str, budget: Budget | None) -> dict[str, Any]:
    found: dict[str, Any] = {"l2": race.l2, "bar": f"{bar:.1%}", "method": method}
    if budget is None:
        return found | {"budget": f"not within {SLOWER[race.options.full]:g} x the fastest"}
    taken = race.taken[budget]
    pick: Callable[[str], list[float]] = lambda name: [getattr(timed, name) for timed in taken]  # noqa: E731
    return found | {
        "budget": str(budget),
        "seconds": median(pick("seconds")),
        "least_s": min(pick("seconds")),
        "most_s": max(pick("seconds")),
        "cpu_s": median(pick("cpu_s")),
        "times": len(taken),
        "gap": race.gap(budget),
    }
