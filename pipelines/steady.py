"""Rates of trainings at full steam, and workers that are made slow on purpose."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from oocml import api
from oocml.engine.events import Event, TaskDone

from .training import discard

PERIOD_S = 0.15


class Enough(Exception):
    """A training has told what it was begun for."""


class Commit(NamedTuple):
    """A task that was committed."""

    at: float
    """Seconds since the clock was started."""
    worker: str
    updates: int
    kernel_s: float
    wait_s: float
    """For reads and writes."""


class Phase(NamedTuple):
    """A part of a training, by the clock."""

    name: str
    seconds: float
    enter: Callable[[], None] | None = None


@dataclass
class Clock:
    """A monitor that keeps the commits of one pass, enters phases in time, and stops the training after the last.

    The clock starts when a whole epoch was committed: then data and state are where they stay.
    """

    pass_name: str
    phases: Sequence[Phase]
    commits: list[Commit] = field(default_factory=list)
    _started: float | None = None
    _entered: int = 0

    def __call__(self, event: Event) -> None:
        if not isinstance(event, TaskDone) or event.pass_name != self.pass_name:
            return
        now = time.perf_counter()
        if self._started is None:
            if event.epoch < 2:
                return
            self._started = now
        at = now - self._started
        wait = event.read_s + event.write_s
        self.commits.append(Commit(at, event.worker, event.updates, event.kernel_s, wait))
        while self._entered < len(self.phases) and at >= self._begins(self._entered):
            if (enter := self.phases[self._entered].enter) is not None:
                enter()
            self._entered += 1
        if at >= self._begins(len(self.phases)):
            raise Enough

    def _begins(self, number: int) -> float:
        return sum(phase.seconds for phase in self.phases[:number])

    def of(self, name: str) -> list[tuple[float, float]]:
        """When the phases of that name were: (begin, end)."""
        starts = [(self._begins(n), phase) for n, phase in enumerate(self.phases) if phase.name == name]
        return [(begin, begin + phase.seconds) for begin, phase in starts]


class Rate(NamedTuple):
    """What went on in a span of time."""

    seconds: float
    n_tasks: int
    updates: int
    by_worker: Mapping[str, int]
    """Updates."""
    kernel_s: float
    """Of all workers together."""
    wait_s: float

    @property
    def per_s(self) -> float:
        return self.updates / self.seconds if self.seconds else math.nan


def rate(commits: Sequence[Commit], spans: Sequence[tuple[float, float]], unit: int) -> Rate:
    """Add up what was committed in some spans of time.

    Every span is narrowed to end with every ``unit``-th commit: where schedules wait for as many tasks, that is between
    two waits.
    """
    seconds, counted = 0.0, []
    for begin, end in spans:
        edges = [n for n in range(unit, len(commits) + 1, unit) if begin <= commits[n - 1].at <= end]
        if len(edges) > 1:
            first, last = edges[0], edges[-1]
            seconds += commits[last - 1].at - commits[first - 1].at
            counted += commits[first:last]
    by_worker: dict[str, int] = {}
    for commit in counted:
        by_worker[commit.worker] = by_worker.get(commit.worker, 0) + commit.updates
    return Rate(
        seconds=seconds,
        n_tasks=len(counted),
        updates=sum(commit.updates for commit in counted),
        by_worker=by_worker,
        kernel_s=sum(commit.kernel_s for commit in counted),
        wait_s=sum(commit.wait_s for commit in counted),
    )


def train_for(clock: Clock, model: str, data: Path, run: Path, **options: Any) -> None:
    """Train until the clock has had enough; the run is removed.

    Parameters
    ----------
    options
        Of `oocml.train`.
    """
    try:
        with contextlib.suppress(Enough):
            api.train(model, data, run, epochs=100_000, overwrite=True, monitors=[clock], **options)
    finally:
        discard(run)


class Throttle:
    """Keeps a process stopped for the greater part of every period, as if it had that much less of a processor.

    Parameters
    ----------
    pid
        The process: a worker on this host.
    speed
        Share of the time that it may run.
    """

    def __init__(self, pid: int, speed: float, period_s: float = PERIOD_S) -> None:
        self.pid, self.runs_s, self.stops_s = pid, speed * period_s, (1 - speed) * period_s
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._end.clear()
        self._thread = threading.Thread(target=self._work, name="throttle", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the process run freely again; does nothing where it does so already."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            while not self._end.is_set():
                os.kill(self.pid, signal.SIGSTOP)
                time.sleep(self.stops_s)
                os.kill(self.pid, signal.SIGCONT)
                self._end.wait(self.runs_s)
