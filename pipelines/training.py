"""Our own trainings, measured: what one costs in time, passes and bytes, epoch by epoch."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from oocml import api
from oocml.engine.events import EpochDone, Event, Monitor, RunDone, RunStarted, TaskDone
from oocml.models.registry import load_model
from oocml.run import Run

SPENT = ("kernel_s", "read_s", "write_s")


@dataclass(frozen=True)
class Point:
    """Where a training stood."""

    step: int
    """Epochs or iterations done."""
    seconds: float
    """Since the first dispatch."""
    objective: float | None
    exact: bool
    passes: float
    """Passes over the data so far: every entry once is one, for mlr with every class."""
    read_bytes: int
    write_bytes: int


@dataclass
class Recorder:
    """A monitor that keeps one `Point` per epoch and one for the end, and the seconds by pass."""

    tiles: bool = False
    """Whether the model's columns are those of the data."""
    points: list[Point] = field(default_factory=list)
    end: Point | None = None
    seconds_by_pass: dict[str, dict[str, float]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(SPENT, 0.0))
    )
    passes: float = 0.0
    read_bytes: int = 0
    write_bytes: int = 0
    _updates_per_pass: int = 1

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._updates_per_pass = max(1, event.nnz * (1 if self.tiles else event.n_cols))
            case TaskDone():
                spent = self.seconds_by_pass[event.pass_name]
                for name in SPENT:
                    spent[name] += getattr(event, name)
                self.read_bytes += event.read_bytes
                self.write_bytes += event.write_bytes
                if event.p is not None and event.q is not None:
                    self.passes += event.updates / self._updates_per_pass
            case EpochDone():
                self.points.append(self._point(event.number, event.seconds, event.objective, event.exact))
            case RunDone():
                self.end = self._point(
                    event.epochs, event.seconds, event.objective, event.objective is not None
                )

    def _point(self, step: int, seconds: float, objective: float | None, exact: bool) -> Point:
        return Point(step, seconds, objective, exact, self.passes, self.read_bytes, self.write_bytes)


@dataclass(frozen=True)
class Measured:
    """A training that has ended."""

    run: Run
    recorder: Recorder
    summary: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """From the first dispatch to the last commit, with the exact objective unless it was left out."""
        return float(self.summary["seconds"])

    @property
    def objective(self) -> float:
        """Exact, of the final state; a training without it has none."""
        return float(self.summary["objective"])


def measure(
    data: str | Path,
    run: str | Path,
    settings: Mapping[str, Any],
    *,
    model: str = "mlr",
    also: Sequence[Monitor] = (),
    **options: Any,
) -> Measured:
    """Train once; a run already there is replaced.

    Parameters
    ----------
    also
        More monitors.
    options
        Of `oocml.train`: epochs, schedule, workers, memory, valid ...
    """
    recorder = Recorder(tiles=load_model(model).tiles)
    monitors = [recorder, *also]
    done = api.train(
        model, str(data), str(run), settings=settings, overwrite=True, monitors=monitors, **options
    )
    summary = done.summary()
    if recorder.end is not None:  # what one process writes late is no task's
        recorder.end = replace(recorder.end, write_bytes=int(summary["write_bytes"]))
    return Measured(done, recorder, summary)


def discard(run: str | Path) -> None:
    """Remove a run that nobody needs any more."""
    shutil.rmtree(run, ignore_errors=True)
