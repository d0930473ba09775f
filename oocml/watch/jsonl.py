"""The event log: JSON lines appended to a file in the run store.

One object a line: ``at`` (seconds since 1970), ``event`` (the type's name) and the event's fields. Finished tasks
are summed per worker and pass into ``WorkerShare`` lines, so that the log of a million tasks stays small;
``every_task=True`` writes each of them as well. The log is only a log: a killed driver may leave its last line torn
and repeat what it had not committed, and readers skip what they can't read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from oocml.engine.events import Event, PassDone, TaskDone, WorkerShare, from_json, to_json
from oocml.errors import InputError

FILE_NAME = "events.jsonl"

_SUMMED = ("kernel_s", "read_s", "write_s", "idle_s", "read_bytes", "write_bytes", "updates", "visits")


class Logged(NamedTuple):
    at: float
    """Seconds since 1970."""
    event: Event


class JsonLines:
    """Appends events to a file, a whole line at a time."""

    def __init__(self, path: str | PathLike[str], every_task: bool = False) -> None:
        self.path = Path(path)
        self._every_task = every_task
        self._shares: dict[tuple[str, int, str], WorkerShare] = {}
        # A line torn by a kill is ended, so that it spoils only itself.
        torn = _ends_torn(self.path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        if torn:
            self._file.write("\n")

    def __call__(self, event: Event) -> None:
        if isinstance(event, TaskDone):
            self._add(event)
            if not self._every_task:
                return
        if isinstance(event, PassDone):
            self._write_shares()
        self._write(event)

    def close(self) -> None:
        if not self._file.closed:
            self._write_shares()
            with contextlib.suppress(OSError):  # what could not be written before is tried again here
                self._file.close()

    def _add(self, task: TaskDone) -> None:
        key = (task.pass_name, task.epoch, task.worker)
        share = self._shares.get(key) or WorkerShare(*key, 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0)
        sums = {name: getattr(share, name) + getattr(task, name) for name in _SUMMED}
        self._shares[key] = dataclasses.replace(share, n_tasks=share.n_tasks + 1, **sums)

    def _write_shares(self) -> None:
        for share in self._shares.values():
            self._write(share)
        self._shares.clear()

    def _write(self, event: Event) -> None:
        record = {"at": round(time.time(), 3), **to_json(event)}
        try:
            self._file.write(json.dumps(record, ensure_ascii=False, default=_plain) + "\n")
            self._file.flush()
        except OSError:
            pass  # it decides nothing: where the disk is full, the state says so


def read_events(path: str | PathLike[str]) -> Iterator[Logged]:
    """The events of a log in order; torn lines and unknown events are skipped, a missing log is empty."""
    path = Path(path)
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
                yield Logged(float(record["at"]), from_json(record))
            except (ValueError, KeyError, TypeError, InputError):
                continue


def _ends_torn(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def _plain(value: object) -> object:
    """NumPy scalars and arrays, paths and the like, for the JSON encoder."""
    tolist = getattr(value, "tolist", None)
    return tolist() if tolist is not None else str(value)
