"""The asynchronous schedule (NOMAD, Yun et al. 2014): no barriers, a slow worker slows only its own share.

A state machine without I/O or clock: workers that have room and commits go in, dispatches come out. Since tasks in
flight never conflict, whatever was committed is the result of running the same dispatches one after another in the
order of their commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.schedule.tasks import Block, Footprint, Task, prerequisites

AWAY = 1.5
"""Epochs that a worker rather goes ahead with blocks of its own than take one whose home is with another."""
LEAD = 3
"""Epochs that a task may be ahead of the first unfinished one. Where there are hardly more blocks than tasks in flight,
what ends frees the very blocks it had: without a limit the same tiles would be visited over and over."""


NOBODY = -1
NONE = np.zeros(0, np.int64)


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
        self._before = {index: np.array(sorted(some)) for index, some in prerequisites(tasks).items()}
        self._after = _indices(_inverted(self._before))
        self._unmet = np.zeros(len(tasks), np.int64)
        """Per task: how many it waits for in the epoch that it is at."""
        for index, before in self._before.items():
            self._unmet[index] = len(before)
        self._per_column = Counter(task.cols for task in tasks)
        self._tie = np.random.default_rng(seed).permutation(len(tasks))
        self._next = np.zeros(len(tasks), np.int64)
        """Per task: the first epoch in which it was not committed."""
        self._committed = [0] * n_epochs
        self._first_unfinished = 0
        self._columns = _numbered(task.cols for task in tasks)
        self._started = np.zeros((n_epochs, len(self._per_column)), np.int64)
        """By epoch and columns: tasks handed out."""
        self._returned: dict[tuple[int, int], Task] = {}
        """Lost dispatches, by epoch and index, as they were handed out."""
        self._n_returned: Counter[tuple[int, int]] = Counter()
        self._in_flight: dict[int, Dispatch] = {}
        self._readers, self._writers = _users(footprints)
        self._blocked = np.zeros(len(tasks), np.int64)
        """Per task: conflicts with what is in flight, itself among them."""
        self._homes = _numbered(
            task.cols[:1] if home == "col" else (min(task.rows or task.ahead),) for task in tasks
        )
        self._workers: dict[str, int] = {}
        self._owner = np.full(self._homes.max(initial=-1) + 1, NOBODY)
        """Per home: the worker that had it last."""
        self._last: dict[int, int] = {}
        for epoch, index in sorted(done):
            self._started[epoch, self._columns[index]] += 1
            self._advance(epoch, index)

    @property
    def finished(self) -> bool:
        return self._committed[-1] == len(self._tasks)

    def epoch_is_done(self, epoch: int) -> bool:
        return self._committed[epoch] == len(self._tasks)

    def take(self, worker: str) -> Dispatch | None:
        """The next dispatch for a worker with room, or None if none is legal now."""
        number, legal = self._number(worker), self.legal()
        if not len(legal):
            return None
        owner = self._owner[self._homes[legal]]
        away = (owner != number) & (owner != NOBODY)
        legal = _least(legal, self._next[legal] + AWAY * away)
        legal = _least(legal, self._homes[legal] != self._last.get(number, NOBODY))
        legal = _least(legal, self._started[self._next[legal], self._columns[legal]])
        return self._start(number, int(_least(legal, self._tie[legal])[0]))

    def legal(self) -> npt.NDArray[np.int64]:
        """Tasks by index that conflict with none in flight and wait for none."""
        last = min(self.n_epochs - 1, self._first_unfinished + LEAD)
        legal = np.flatnonzero((self._blocked == 0) & (self._next <= last) & (self._unmet == 0))
        if self._n_returned:
            legal = legal[[self._may_go_before_lost_ones(index) for index in legal.tolist()]]
        return legal

    def _number(self, worker: str) -> int:
        return self._workers.setdefault(worker, len(self._workers))

    def _may_go_before_lost_ones(self, index: int) -> bool:
        """What was lost may have opened its columns, and goes before what may close them."""
        epoch = int(self._next[index])
        return (epoch, index) in self._returned or not self._n_returned[epoch, int(self._columns[index])]

    def _start(self, worker: int, index: int) -> Dispatch:
        epoch, task, columns = int(self._next[index]), self._tasks[index], int(self._columns[index])
        returned = self._returned.pop((epoch, index), None)
        if returned is None:
            started = int(self._started[epoch, columns])
            self._started[epoch, columns] += 1
            last = started + 1 == self._per_column[task.cols]
            returned = task._replace(opening=started == 0, closing=last)
        else:
            self._n_returned[epoch, columns] -= 1
            self._n_returned = +self._n_returned
        dispatch = Dispatch(epoch, returned)
        self._in_flight[index] = dispatch
        self._block(index, 1)
        self._last[worker] = int(self._homes[index])
        self._owner[self._homes[index]] = worker
        return dispatch

    def _block(self, index: int, by: int) -> None:
        """Count what a task in flight keeps from running, or no longer does."""
        reads, writes = self._footprints[index]
        self._blocked[index] += by
        for block in writes:
            self._blocked[self._readers[block]] += by
        for block in reads:
            self._blocked[self._writers.get(block, NONE)] += by

    def commit(self, dispatch: Dispatch) -> None:
        """A dispatch was committed."""
        self._land(dispatch)
        self._advance(dispatch.epoch, dispatch.task.index)

    def give_back(self, dispatch: Dispatch) -> None:
        """A dispatch was lost with its worker: its task is handed out again."""
        self._land(dispatch)
        self._returned[dispatch.epoch, dispatch.task.index] = dispatch.task
        self._n_returned[dispatch.epoch, int(self._columns[dispatch.task.index])] += 1

    def _land(self, dispatch: Dispatch) -> None:
        index = dispatch.task.index
        del self._in_flight[index]
        self._block(index, -1)

    def _advance(self, epoch: int, index: int) -> None:
        self._next[index] = epoch + 1
        after = self._after.get(index, NONE)
        self._unmet[after[self._next[after] == epoch]] -= 1
        self._unmet[index] = np.count_nonzero(self._next[self._before.get(index, NONE)] <= epoch + 1)
        self._committed[epoch] += 1
        while self._first_unfinished < self.n_epochs and self.epoch_is_done(self._first_unfinished):
            self._first_unfinished += 1


def _numbered(keys: Iterable[Hashable]) -> npt.NDArray[np.int64]:
    """Numbers in place of keys, from 0 in the order of their first occurrence."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _indices(lists: Mapping[Any, list[int]]) -> dict[Any, npt.NDArray[np.int64]]:
    return {key: np.array(indices, np.int64) for key, indices in lists.items()}


def _users(footprints: Sequence[Footprint]) -> tuple[dict[Block, npt.NDArray[np.int64]], ...]:
    """Tasks that read or write each block, and those that write it."""
    readers: dict[Block, list[int]] = {}
    writers: dict[Block, list[int]] = {}
    for index, (reads, writes) in enumerate(footprints):
        for block in reads | writes:
            readers.setdefault(block, []).append(index)
        for block in writes:
            writers.setdefault(block, []).append(index)
    return _indices(readers), _indices(writers)


def _inverted(lists: Mapping[int, npt.NDArray[np.int64]]) -> dict[int, list[int]]:
    inverse: dict[int, list[int]] = {}
    for key, indices in lists.items():
        for index in indices.tolist():
            inverse.setdefault(index, []).append(key)
    return inverse


def _least(indices: npt.NDArray[np.int64], keys: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Those of the indices whose key is the smallest."""
    least: npt.NDArray[np.int64] = indices[keys == keys.min()]
    return least
