"""Progress where there is no terminal: plain ``key=value`` lines, one for every epoch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from oocml.config import UNSET, format_size
from oocml.engine.events import (
    EpochDone,
    Event,
    Notice,
    PassStarted,
    RunDone,
    RunStarted,
    RunStopped,
    TaskDone,
    TaskLost,
)

QUIET_S = 60.0
"""A line is written within an epoch when none was written for this long, so that logs show life."""


class PlainLines:
    """Writes one line when a run starts, one for every epoch, lost worker and notice, and one at the end."""

    def __init__(
        self,
        stream: TextIO | None = None,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet_s = quiet_s
        self._clock = clock
        self._last_line = clock()
        self._run: RunStarted | None = None
        self._first_epoch = 0
        self._epoch: EpochDone | None = None
        self._tasks = 0
        self._tasks_of_pass = 0

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._run, self._first_epoch = event, event.resumed_from or 0
                self._write(start_fields(event))
            case PassStarted():
                self._tasks, self._tasks_of_pass = 0, event.n_tasks
            case TaskDone():
                self._task_done(event)
            case TaskLost():
                self._write({"lost_worker": event.worker, "task": event.task, "reason": event.reason})
            case EpochDone():
                self._write(self._epoch_fields(event))
                self._epoch = event
            case RunDone():
                self._write(done_fields(event))
            case RunStopped():
                self._write({"stopped": event.reason})
            case Notice():
                self._write({"notice": event.text})

    def _write(self, fields: Mapping[str, Any]) -> None:
        print(format_fields(fields), file=self._stream, flush=True)
        self._last_line = self._clock()

    def _task_done(self, event: TaskDone) -> None:
        self._tasks += 1
        if self._run is not None and self._clock() - self._last_line >= self._quiet_s:
            tasks = f"{self._tasks}/{self._tasks_of_pass}"
            self._write({"pass": event.pass_name, "of_epoch": event.epoch, "tasks": tasks})

    def _epoch_fields(self, event: EpochDone) -> dict[str, Any]:
        run = self._run
        began = self._epoch.seconds if self._epoch else run.seconds_before if run else 0.0
        seconds = max(event.seconds - began, 1e-9)
        fields: dict[str, Any] = {
            "epoch": f"{event.number}/{run.epochs}" if run else event.number,
            "seconds": round(event.seconds, 3),
            "objective": event.objective,
        }
        if event.exact:
            fields["exact"] = True
        for name, value in compared(event, run).items():
            fields[f"valid_{name}"] = value
        if event.best:
            fields["best"] = True
        if self._epoch is None and self._first_epoch and not event.updates:
            return {**fields, **event.extra}  # an earlier driver did all of it but its record
        fields["updates_per_s"] = event.updates / seconds
        # An earlier driver may have done a part of the first epoch after a resume.
        whole = run if self._epoch is not None or self._first_epoch == 0 else None
        if whole:
            fields["nnz_per_s"] = whole.nnz / seconds
        fields["read_MB_per_s"] = event.read_bytes / seconds / 1e6
        fields["write_MB_per_s"] = event.write_bytes / seconds / 1e6
        if whole and event.number < whole.epochs:
            fields["eta_s"] = round(seconds * (whole.epochs - event.number), 1)
        fields.update(event.extra)
        return fields


def compared(epoch: EpochDone, run: RunStarted | None) -> Mapping[str, float]:
    """The one validation score that epochs are compared by, for a line that stays readable; all, if that is unknown."""
    scores = epoch.valid or {}
    return {run.metric: scores[run.metric]} if run and run.metric in scores else scores


def start_fields(run: RunStarted) -> dict[str, Any]:
    """What the first line says of a run: its shape, its layout, its memory plan and where to watch it."""
    fields: dict[str, Any] = {
        "run": run.run,
        "model": run.model,
        "rows": run.n_rows,
        "features": run.n_features,
        "cols": run.n_cols,
        "nnz": run.nnz,
        "blocks": f"{run.n_row_blocks}x{run.n_col_blocks}",
        "tasks_per_epoch": run.tasks_per_epoch,
        "epochs": run.epochs,
        "workers": run.n_workers,
        "memory": format_size(run.memory_bytes),
        "memory_per_worker": format_size(run.worker_memory_bytes),
    }
    for key, name in (
        ("bytes_total", "planned_memory"),
        ("read_bytes_per_epoch", "planned_read_per_epoch"),
        ("write_bytes_per_epoch", "planned_write_per_epoch"),
    ):
        if key in run.plan:
            fields[name] = format_size(run.plan[key])
    fields |= setting_fields(run)
    if run.resumed_from is not None:
        fields["resumed_after_epoch"] = run.resumed_from
    if run.dashboard:
        fields["dashboard"] = run.dashboard
    return fields


def setting_fields(run: RunStarted) -> dict[str, str]:
    """The settings as they are used: those that the user gave, those that the model chose, all others."""
    texts: dict[str, list[str]] = {"given": [], "chosen": [], "defaults": []}
    for name, value in run.config.items():
        by = "given" if name in run.given else "chosen" if name in run.chosen else "defaults"
        texts[by].append(format_fields({name: UNSET if value is None else value}))
    return {by: " ".join(found) for by, found in texts.items() if found}


def done_fields(done: RunDone) -> dict[str, Any]:
    return {
        "done": done.epochs,
        "seconds": round(done.seconds, 3),
        "startup_seconds": round(done.startup_seconds, 3),
        **({} if done.objective is None else {"objective": done.objective}),
        "peak_memory": format_size(done.peak_memory_bytes),
    }


def format_fields(fields: Mapping[str, Any]) -> str:
    """``key=value`` pairs in one line; text with blanks or quotes in it is written as a JSON string."""
    return " ".join(f"{name}={_format_value(value)}" for name, value in fields.items())


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    plain = text and text.isprintable() and not set(text) & set(' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)
