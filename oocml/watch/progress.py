"""The progress bar on a terminal, and the choice between it and plain lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

from tqdm import tqdm

from oocml.engine.events import (
    EpochDone,
    Event,
    Monitor,
    Notice,
    RunDone,
    RunStarted,
    RunStopped,
    TaskDone,
    TaskLost,
)
from oocml.watch.plain import PlainLines, compared, done_fields, format_fields, start_fields

WINDOW_S = 10.0
"""Rates are means over this long."""
BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


def console(stream: TextIO | None = None) -> Monitor:
    """A progress bar if the stream (standard error by default) is a terminal, plain lines if not."""
    stream = stream or sys.stderr
    return ProgressBar(stream) if stream.isatty() else PlainLines(stream)


class ProgressBar:
    """One bar over all epochs, with rates, the objective and the time left; a line kept for every epoch."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._bar: tqdm[Any] | None = None
        self._run: RunStarted | None = None
        self._rates = Rates()
        self._visits = 0
        self._objective = ""

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._start(event)
            case TaskDone():
                self._task_done(event)
            case EpochDone():
                self._epoch_done(event)
            case TaskLost():
                self._say(f"worker {event.worker} lost ({event.reason}); {event.task} runs again")
            case Notice():
                self._say(event.text)
            case RunDone():
                self.close()
                self._say(format_fields(done_fields(event)))
            case RunStopped():
                self.close()
                self._say(event.reason)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _start(self, run: RunStarted) -> None:
        self._run = run
        self._say(format_fields(start_fields(run)))
        per_epoch = max(1, run.tasks_per_epoch)
        self._bar = tqdm(
            total=run.epochs * per_epoch,
            initial=(run.resumed_from or 0) * per_epoch,
            desc=_describe(run.resumed_from or 0, run.epochs),
            bar_format=BAR,
            file=self._stream,
            dynamic_ncols=True,
            smoothing=0.1,
        )

    def _task_done(self, task: TaskDone) -> None:
        if self._bar is None or self._run is None:
            return
        self._visits += task.visits
        self._rates.add(self._clock(), task)
        # Passes outside the plan (line searches) mustn't run the bar beyond its epoch.
        ceiling = task.epoch * max(1, self._run.tasks_per_epoch)
        if self._bar.n + 1 < ceiling:
            self._bar.update(1)
        self._bar.set_postfix_str(self._postfix(self._run), refresh=False)

    def _epoch_done(self, epoch: EpochDone) -> None:
        if self._bar is None or self._run is None:
            return
        self._objective = f"objective {epoch.objective:.6g}"
        line = [_describe(epoch.number, self._run.epochs), f"{epoch.seconds:.1f} s", self._objective]
        line += [f"valid {name} {value:.5g}" for name, value in compared(epoch, self._run).items()]
        line += ["(best)"] if epoch.best else []
        self._say("  ".join(line))
        self._bar.set_description_str(_describe(epoch.number, self._run.epochs), refresh=False)
        self._bar.update(epoch.number * max(1, self._run.tasks_per_epoch) - self._bar.n)

    def _postfix(self, run: RunStarted) -> str:
        rate = self._rates.per_second()
        parts = [f"{tqdm.format_sizeof(self._visits)} visits"]
        if rate is not None:
            nnz_per_s = run.nnz * rate.tasks / max(1, run.tasks_per_epoch)
            parts += [
                f"{tqdm.format_sizeof(rate.updates)} updates/s",
                f"{tqdm.format_sizeof(nnz_per_s)} nnz/s",
                f"read {rate.read_bytes / 1e6:.0f} MB/s",
                f"write {rate.write_bytes / 1e6:.0f} MB/s",
            ]
        return ", ".join([*parts, self._objective] if self._objective else parts)

    def _say(self, line: str) -> None:
        tqdm.write(line, file=self._stream)


class Rate(NamedTuple):
    tasks: float
    updates: float
    read_bytes: float
    write_bytes: float


class Rates:
    """Means over the last `WINDOW_S` seconds of what tasks did."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._tasks: deque[tuple[float, Rate]] = deque()

    def add(self, now: float, task: TaskDone) -> None:
        self._tasks.append((now, Rate(1, task.updates, task.read_bytes, task.write_bytes)))
        while len(self._tasks) > 2 and self._tasks[1][0] < now - self._window_s:
            self._tasks.popleft()

    def per_second(self) -> Rate | None:
        """None until two tasks have ended at different times."""
        seconds = self._tasks[-1][0] - self._tasks[0][0] if self._tasks else 0.0
        if seconds <= 0:
            return None
        # The first task only marks where the window begins: its work was done before.
        done = [rate for _, rate in self._tasks][1:]
        return Rate(*(sum(column) / seconds for column in zip(*done, strict=True)))


def _describe(epoch: int, epochs: int) -> str:
    return f"epoch {epoch}/{epochs}"
