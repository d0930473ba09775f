"""The driver's side of the Dask dashboard page ``/oocml`` (`oocml.watch.page` is the scheduler's).

The scheduler sees tasks by itself. What it cannot see (layout, objective, bytes, budgets) the driver sends as small
messages on the topic "oocml", at most twice a second, from a thread of its own: a message costs a round trip of
about 10 ms, and the driver's loop must not wait for it.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import cloudpickle
from distributed import Client

from oocml.engine.events import (
    EpochDone,
    Event,
    PassStarted,
    RunDone,
    RunStarted,
    RunStopped,
    TaskDone,
    TaskLost,
)
from oocml.watch import page, run_view

PERIOD_S = 0.5
MAX_TASKS = 4096
"""Finished tasks told in one message; older ones are left out of the picture."""


def install(client: Client) -> str | None:
    """Put the page on the client's scheduler and return its link.

    The scheduler need not have oocml installed. Where it serves no Dask dashboard, or has no Bokeh, the link is
    that of the facts as JSON; None where it serves nothing at all.
    """
    for module in (page, run_view):
        cloudpickle.register_pickle_by_value(module)
    try:
        client.register_plugin(page.TrainingPage())
        name = client.run_on_scheduler(page.served_name)
    finally:
        for module in (page, run_view):
            cloudpickle.unregister_pickle_by_value(module)
    status = client.dashboard_link
    return f"{status.removesuffix('/status')}/{name}" if status else None


class Dashboard:
    """A monitor that tells the page what the scheduler can't see."""

    def __init__(self, client: Client, period_s: float = PERIOD_S) -> None:
        self._client = client
        self._period_s = period_s
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._start: dict[str, Any] | None = None
        self._tasks: list[tuple[int, int, int, int, int]] = []
        self._epochs: list[dict[str, Any]] = []
        self._progress: dict[str, Any] = {
            "state": "running",
            "pass": "",
            "epoch": 0,
            "lost": 0,
            "visits": 0,
            "updates": 0,
            "read_bytes": 0,
            "write_bytes": 0,
        }
        self._shape = (1, 1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oocml-dashboard", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        progress = self._progress
        with self._lock:
            match event:
                case RunStarted():
                    self._begin(event)
                case PassStarted():
                    progress["pass"], progress["epoch"] = event.name, event.epoch
                case TaskDone():
                    self._add_task(event)
                case TaskLost():
                    progress["lost"] += 1
                case EpochDone():
                    self._epochs.append(_epoch_facts(event))
                case RunDone():
                    progress["state"] = "done"
                case RunStopped():
                    progress["state"] = f"stopped: {event.reason}"

    def close(self) -> None:
        """Send what is left and end the thread."""
        self._closed.set()
        # A scheduler that hangs must not hold up the end of the training; the thread is a daemon.
        self._thread.join(timeout=5.0)

    def _begin(self, run: RunStarted) -> None:
        names = "run model n_rows n_features n_cols nnz n_row_blocks n_col_blocks tasks_per_epoch epochs n_workers "
        names += "memory_bytes worker_memory_bytes resumed_from"
        self._start = {name: getattr(run, name) for name in names.split()}
        self._shape = (run.n_row_blocks, run.n_col_blocks)
        self._progress["epoch"] = run.resumed_from or 0

    def _add_task(self, task: TaskDone) -> None:
        p, q = task.p or (0, self._shape[0]), task.q or (0, self._shape[1])
        self._tasks.append((task.epoch, p[0], p[1], q[0], q[1]))
        del self._tasks[:-MAX_TASKS]
        for name in ("visits", "updates", "read_bytes", "write_bytes"):
            self._progress[name] += getattr(task, name)

    def _run(self) -> None:
        last = False
        while not last:
            last = self._closed.wait(self._period_s)
            message = self._take()
            try:
                self._client.log_event(page.TOPIC, message)
            except Exception:
                # The scheduler is gone or going. A page that nobody can load needs no news; whether training
                # can go on is for the engine to find out.
                return

    def _take(self) -> dict[str, Any]:
        with self._lock:
            progress = {**self._progress, "at": round(time.monotonic() - self._began, 3)}
            message: dict[str, Any] = {"tasks": self._tasks, "epochs": self._epochs, "progress": progress}
            if self._start is not None:
                message["start"], self._start = self._start, None
            self._tasks, self._epochs = [], []
            return message


def _epoch_facts(event: EpochDone) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "epoch": event.number,
        "seconds": event.seconds,
        "objective": float(event.objective),
        "best": event.best,
    }
    if event.valid is not None:
        facts["valid"] = {name: float(value) for name, value in event.valid.items()}
    return facts
