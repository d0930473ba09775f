"""The asynchronous schedule (NOMAD, Yun et al. 2014): no barriers, a slow worker slows only its own share.

A state machine without I/O or clock: workers that have room and commits go in, dispatches come out. Since tasks in
flight never conflict, whatever was committed is the result of running the same dispatches one after another in the
order of their commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from oocml.schedule.tasks import Block, Footprint, Task, prerequisites

AWAY = 1.5
"""Epochs that a worker rather goes ahead with blocks of its own than take one whose home is with another."""
LEAD = 3
"""Epochs that a task may be ahead of the first unfinished one. Where there are hardly more blocks than tasks in flight,
what ends frees the very blocks it had: without a limit the same tiles would be visited over and over."""


class Dispatch(NamedTuple):
    """A task to run now."""

    epoch: int
    """Position among the epochs that run without a barrier, from 0."""
    task: Task


class Nomad:
    """Hands out the tasks of one pass, or of several epochs of it.

    Parameters
    ----------
    tasks
        The tasks of one epoch, in order of their index.
    footprints
        What each of them reads and writes.
    n_epochs
        How often the pass is repeated. A task of an epoch needs the same task of the epoch before, and that the first
        unfinished epoch is at most `LEAD` back.
    done
        Dispatches that were committed before, as (epoch, index).
    home
        "col" or "row": the side of a task whose block stays in the memory of the worker that had it last.
    seed
        Breaks ties.

    A worker that asks gets, of all tasks that conflict with none in flight, one of the earliest epoch, but sooner one
    of the next epoch with a block of its own than one with a block of another worker; then one with the block that
    it had last; then one whose column block is least advanced.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        footprints: Sequence[Footprint],
        *,
        n_epochs: int = 1,
        done: Iterable[tuple[int, int]] = (),
        home: str = "col",
        seed: int = 0,
    ) -> None:
        self.n_epochs = n_epochs
        self._tasks, self._footprints = list(tasks), list(footprints)
        self._before = prerequisites(tasks)
        self._per_column = Counter(task.cols for task in tasks)
        self._tie = np.random.default_rng(seed).permutation(len(tasks)).tolist()
        self._next = [0] * len(tasks)
        """Per task: the first epoch in which it was not committed."""
        self._committed = [0] * n_epochs
        self._first_unfinished = 0
        self._started: Counter[tuple[int, tuple[int, ...]]] = Counter()
        """By epoch and columns: tasks handed out."""
        self._returned: dict[tuple[int, int], Task] = {}
        """Lost dispatches, by epoch and index, as they were handed out."""
        self._n_returned: Counter[tuple[int, tuple[int, ...]]] = Counter()
        self._in_flight: dict[int, Dispatch] = {}
        self._reading: Counter[Block] = Counter()
        self._writing: Counter[Block] = Counter()
        self._homes = [task.cols[:1] if home == "col" else (task.rows or task.ahead)[:1] for task in tasks]
        self._owner: dict[tuple[int, ...], str] = {}
        self._last: dict[str, tuple[int, ...]] = {}
        for epoch, index in sorted(done):
            self._started[epoch, self._tasks[index].cols] += 1
            self._advance(epoch, index)

    @property
    def finished(self) -> bool:
        return self._committed[-1] == len(self._tasks)

    def epoch_is_done(self, epoch: int) -> bool:
        return self._committed[epoch] == len(self._tasks)

    def take(self, worker: str) -> Dispatch | None:
        """The next dispatch for a worker with room, or None if none is legal now."""
        best: tuple[tuple[float, ...], int] | None = None
        last = min(self.n_epochs - 1, self._first_unfinished + LEAD)
        for index, task in enumerate(self._tasks):
            epoch, block = self._next[index], self._homes[index]
            if epoch > last or (best is not None and epoch > best[0][0]):
                continue
            key = (
                epoch + AWAY * (self._owner.get(block, worker) != worker),
                block != self._last.get(worker),
                self._started[epoch, task.cols],
                self._tie[index],
            )
            if (best is None or key < best[0]) and self._is_legal(index, epoch):
                best = key, index
        return None if best is None else self._start(worker, best[1])

    def _is_legal(self, index: int, epoch: int) -> bool:
        if index in self._in_flight:
            return False
        columns = epoch, self._tasks[index].cols
        if (epoch, index) not in self._returned and self._n_returned[columns]:
            return False  # what was lost may have opened these columns, and goes before what may close them
        if any(self._next[i] <= epoch for i in self._before.get(index, ())):
            return False
        reads, writes = self._footprints[index]
        return not any(self._writing[block] for block in reads) and not any(
            self._reading[block] or self._writing[block] for block in writes
        )

    def _start(self, worker: str, index: int) -> Dispatch:
        epoch, task = self._next[index], self._tasks[index]
        returned = self._returned.pop((epoch, index), None)
        if returned is None:
            started = self._started[epoch, task.cols]
            self._started[epoch, task.cols] += 1
            last = started + 1 == self._per_column[task.cols]
            returned = task._replace(opening=started == 0, closing=last)
        else:
            self._n_returned[epoch, task.cols] -= 1
        dispatch = Dispatch(epoch, returned)
        self._in_flight[index] = dispatch
        self._reading.update(self._footprints[index].reads)
        self._writing.update(self._footprints[index].writes)
        self._last[worker] = self._homes[index]
        self._owner[self._homes[index]] = worker
        return dispatch

    def commit(self, dispatch: Dispatch) -> None:
        """A dispatch was committed."""
        self._land(dispatch)
        self._advance(dispatch.epoch, dispatch.task.index)

    def give_back(self, dispatch: Dispatch) -> None:
        """A dispatch was lost with its worker: its task is handed out again."""
        self._land(dispatch)
        self._returned[dispatch.epoch, dispatch.task.index] = dispatch.task
        self._n_returned[dispatch.epoch, dispatch.task.cols] += 1

    def _land(self, dispatch: Dispatch) -> None:
        index = dispatch.task.index
        del self._in_flight[index]
        self._reading -= Counter(self._footprints[index].reads)
        self._writing -= Counter(self._footprints[index].writes)

    def _advance(self, epoch: int, index: int) -> None:
        self._next[index] = epoch + 1
        self._committed[epoch] += 1
        while self._first_unfinished < self.n_epochs and self.epoch_is_done(self._first_unfinished):
            self._first_unfinished += 1
