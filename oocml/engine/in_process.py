"""Tasks in the driver's own process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from threadpoolctl import ThreadpoolController

from oocml.engine.executors import Completion
from oocml.engine.interrupts import Interrupts
from oocml.engine.messages import TaskMessage
from oocml.engine.task import run_task


class InProcess:
    """Runs each task when it is waited for: the oracle that every other executor must agree with."""

    n_slots = 1
    n_workers = 0

    def __init__(self) -> None:
        self._queue: deque[TaskMessage] = deque()
        self.interrupts = Interrupts()
        self._libraries = ThreadpoolController()
        """One thread for each, as on workers: with more, sums may differ in their last bits."""

    def submit(self, message: TaskMessage, worker: str | None = None) -> None:
        del worker
        self._queue.append(message)

    def free(self) -> list[str]:
        return [] if self._queue else ["driver"]

    def await_worker(self) -> None:
        pass

    def wait(self, at_most: float | None = None) -> list[Completion]:
        del at_most
        self.interrupts.let_through()
        message = self._queue.popleft()
        with self._libraries.limit(limits=1):
            result = run_task(message)
        result.worker = "driver"
        return [Completion(message, result)]

    def forget(self) -> None:
        self._queue.clear()

    def map(
        self, function: Callable[[Any], Any], messages: Sequence[Any], at_once: int | None = None
    ) -> Iterator[Any]:
        del at_once
        for message in messages:
            self.interrupts.let_through()
            with self._libraries.limit(limits=1):
                result = function(message)
            yield result
