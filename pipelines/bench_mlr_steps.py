"""Default steps against steps found by a grid: the objective after ten epochs, each training ended as any other.

The grid is over one number c, for a step that stays at c and for the default schedule's shape begun at c; ``--full``
adds c (1 - e/T) and c / sqrt(1 + e). Where the best c is at the end of the grid, the grid grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from oocml.errors import NonFinite, OocmlError
from oocml.models import mlr as mlr_model

from . import datasets
from .bench_options import Options, one_thread, say
from .table import Finding, Section
from .training import discard, measure

L2, EPOCHS = 1e-4, 10
DATA = {"news20": "tfidf", "clef": "none", "digits": "none", "news20 counts": "none"}
GOALS = {"news20": 1.05, "clef": 1.05, "digits": 1.05, "news20 counts": 1.2}
FIRST_GRID = tuple(range(-2, 7))
"""Powers of two."""
LEAST, MOST = -8, 14

Schedule = Callable[[int, int], float]
"""Share of c in an epoch, from 0, of so many."""


def constant(epoch: int, n_epochs: int) -> float:
    del epoch, n_epochs
    return 1.0


def linear(epoch: int, n_epochs: int) -> float:
    return 1 - epoch / n_epochs


def inverse_root(epoch: int, n_epochs: int) -> float:
    del n_epochs
    return 1 / math.sqrt(1 + epoch)


SCHEDULES: dict[str, Schedule] = {"constant": constant, "linear": linear, "inverse root": inverse_root}
DEFAULT_SHAPE = "default shape"


@contextmanager
def steps(c: float, schedule: Schedule) -> Iterator[None]:
    """Train with other steps than the model has: for this benchmark only, and in this process."""

    class Steps(mlr_model.StepSizes):
        def step(self, epoch: int, n_epochs: int, *, resumed: bool) -> float:
            return c * schedule(epoch, n_epochs)

    with mock.patch.object(mlr_model, "StepSizes", Steps):
        yield


class Grid:
    """Trainings of one dataset with different steps."""

    def __init__(self, train: Path, options: Options) -> None:
        self.path, self.options = train, options

    def objective(self, **settings: Any) -> float:
        """Exact, after ten epochs; infinite where it isn't finite."""
        try:
            done = measure(
                self.path, self.options.scratch, {"l2": L2, **settings}, epochs=EPOCHS, schedule="serial"
            )
            return done.objective
        except NonFinite:
            return math.inf
        finally:
            discard(self.options.scratch)

    def with_steps(self, name: str, c: float) -> float:
        if name == DEFAULT_SHAPE:
            return self.objective(learning_rate=c)
        with steps(c, SCHEDULES[name]):
            return self.objective()

    def best(self, name: str) -> tuple[float, float]:
        """(c, objective) of the best c; the grid grows while the best is at its end."""
        found: dict[int, float] = {}
        waiting = list(FIRST_GRID)
        while waiting:
            for power in waiting:
                found[power] = self.with_steps(name, 2.0**power)
            best = min(found, key=lambda power: found[power])
            waiting = [p for p in (best - 1, best + 1) if p not in found and LEAST <= p <= MOST]
        return 2.0**best, found[best]


def run(options: Options) -> Section:
    """The default's objective relative to the best of each grid."""
    section = Section("steps", f"objective after {EPOCHS} epochs at l2 {L2:g}, default steps against grids")
    schedules = ["constant", DEFAULT_SHAPE, *(["linear", "inverse root"] if options.full else [])]
    for name, transform in DATA.items():
        try:
            splits = datasets.real(name.split()[0], options.data, options.data_dir, transform)
        except OocmlError as error:
            section.notes.append(f"{name} left out: {error}")
            continue
        with one_thread():
            grid = Grid(splits.train, options)
            say(f"steps: {name}, default")
            default = grid.objective()
            section.rows.append({"data": name, "schedule": "default", "objective": default})
            for schedule in schedules:
                say(f"steps: {name}, {schedule}")
                c, objective = grid.best(schedule)
                ratio = default / objective
                section.rows.append(
                    {
                        "data": name,
                        "schedule": schedule,
                        "c": c,
                        "objective": objective,
                        "default_over_it": ratio,
                    }
                )
                what = f"{name}: default / best of {schedule}"
                goal = GOALS[name] if schedule == "constant" else None
                section.findings.append(Finding(what, ratio, goal, at_least=False))
    return section
