"""Where tasks run: in this process, or on a Dask cluster. Executors know messages, not models or schedules."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple, Protocol

from distributed import Client, Future, KilledWorker, get_worker

from oocml.engine.context import stop_tasks
from oocml.engine.malloc import give_back_memory
from oocml.engine.messages import TaskMessage, TaskResult
from oocml.engine.task import run_task
from oocml.errors import WorkersLost
from oocml.schedule.crew import TASKS_AT_ONCE

QUEUED = 1
"""Tasks in flight beside those that run: they hide the 10 ms that a round trip takes."""
MAX_RESTARTS = 3
"""How often work that changes nothing is begun anew when its worker dies."""
REFRESH_S = 1.0
HAND_OVER_S = 10.0
"""How long a worker may take to hand over the result of a task that has ended."""
PATIENCE_S = 120.0
"""How long a cluster may have no worker before we give up."""
POLL_S = 5.0


class Lost(NamedTuple):
    """A dispatch whose worker died."""

    worker: str
    was_running: bool
    """False for a task that was only queued behind the one that was lost with the worker."""


class Completion(NamedTuple):
    message: TaskMessage
    outcome: TaskResult | Lost


class Executor(Protocol):
    n_slots: int
    """How many tasks may be in flight."""
    n_workers: int
    """Dask workers; 0 where this process does the work without."""

    def submit(self, message: TaskMessage, worker: str | None = None) -> None:
        """Send a dispatch to a worker, or to the one that last had its blocks."""

    def free(self) -> list[str]:
        """Workers that can take a dispatch now, those with the fewest in flight first."""

    def await_worker(self) -> None:
        """Block until there is a worker; raise `WorkersLost` if none comes."""

    def wait(self, at_most: float | None = None) -> list[Completion]:
        """Block until at least one task has ended, or for so many seconds; raise what a task raised."""

    def forget(self) -> None:
        """Drop everything in flight."""

    def map(
        self, function: Callable[[Any], Any], messages: Sequence[Any], at_once: int | None = None
    ) -> Iterator[Any]:
        """Results of a function that changes nothing, in order; ``at_once``: how many of a worker at a time at most."""


@functools.cache
def _resident(at_once: int) -> threading.BoundedSemaphore:
    """Held by the tasks of this process that may have blocks in memory: a cluster of somebody's own may have more
    threads than a plan has room for."""
    return threading.BoundedSemaphore(at_once)


def run_on_worker(message: TaskMessage, at_once: int) -> TaskResult:
    """Run a task on a Dask worker, which has room for the blocks of so many."""
    with _resident(at_once):
        result = run_task(message)
        result.worker = get_worker().address
        give_back_memory()
    return result


def call_on_worker(function: Callable[[Any], Any], message: Any, at_once: int) -> Any:
    """Call a function that reads blocks on a Dask worker, which has room for those of so many."""
    with _resident(at_once):
        return function(message)


class OnDask:
    """Runs tasks on the workers of a Dask client.

    Dask never retries: a lost dispatch comes back as `Lost` and the driver dispatches its task anew, under a new
    stamp. Tasks go to the worker that last had their stripe or rows, so that its caches hit.
    """

    def __init__(self, client: Client, name: str, at_once: int = TASKS_AT_ONCE) -> None:
        self.client = client
        self.name = name
        self.at_once = at_once
        """Tasks of a worker that are in memory at a time."""
        self._known: list[str] = []
        self._asked = 0.0
        self.n_workers = max(1, len(self._workers()))
        self.n_slots = self._room * self.n_workers
        self._ended: queue.Queue[Future] = queue.Queue()
        self._flying: dict[Any, tuple[TaskMessage, str, Future]] = {}
        self._home: dict[tuple[str, int], str] = {}
        self._died: dict[str, list[int]] = {}
        """Per dead worker, the stamps of what it was given, in order."""

    @property
    def _room(self) -> int:
        return self.at_once + QUEUED

    def _workers(self) -> list[str]:
        """Addresses of the workers, as of at most `REFRESH_S` ago (asking is a round trip)."""
        now = time.monotonic()
        if now - self._asked > REFRESH_S or not self._known:
            try:
                self._known = list(self.client.scheduler_info(n_workers=-1)["workers"])
            except OSError:
                raise WorkersLost("the Dask scheduler is gone; start it again, then resume") from None
            self._asked = now
        return self._known

    def submit(self, message: TaskMessage, worker: str | None = None) -> None:
        task = message.task
        by_column = bool(task.cols) and (message.setup.home == "col" or not task.rows)
        where = ("q", task.cols[0]) if by_column else ("p", min(task.rows))
        self._send(message, self._place(where) if worker is None else worker)

    def free(self) -> list[str]:
        flying = Counter(worker for _, worker, _ in self._flying.values())
        rooms = {worker: self.at_once - flying[worker] for worker in self._workers()}
        turns = [(flying[worker] + n, worker) for worker, room in rooms.items() for n in range(room)]
        return [worker for _, worker in sorted(turns)]

    def _send(self, message: TaskMessage, worker: str) -> None:
        task = message.task
        p, q = (blocks[0] if blocks else -1 for blocks in (sorted(task.rows), task.cols))
        # what is sent anew is bound to no worker, and has another key than what was sent first
        stamp = message.out_stamp if worker else -message.out_stamp
        key = (f"{self.name}-{message.pass_.name}-epoch{message.epoch}", p, q, stamp)
        future = self.client.submit(
            run_on_worker,
            message,
            self.at_once,
            key=key,
            pure=False,
            retries=0,
            workers=[worker] if worker else None,
            allow_other_workers=bool(worker),
        )
        self._flying[key] = (message, worker, future)
        future.add_done_callback(self._ended.put)

    def _place(self, where: tuple[str, int]) -> str:
        workers = self._workers()
        if not workers:
            return ""
        self.n_workers = len(workers)  # workers may have joined or left
        self.n_slots = self._room * self.n_workers
        load = dict.fromkeys(workers, 0)
        for _, worker, _ in self._flying.values():
            if worker in load:
                load[worker] += 1
        home = self._home.get(where)
        if home not in load or load[home] >= self._room:
            # homes are dealt evenly: each worker's cache has room for its share
            homes = Counter(at for (axis, _), at in self._home.items() if axis == where[0])
            home = min(workers, key=lambda worker: (load[worker] >= self._room, homes[worker], load[worker]))
            self._home[where] = home
        return home

    def wait(self, at_most: float | None = None) -> list[Completion]:
        try:
            ended = [self._next() if at_most is None else self._ended.get(timeout=at_most)]
        except queue.Empty:
            return []
        while not self._ended.empty():
            ended.append(self._ended.get())
        ended = [future for future in ended if future.key in self._flying]  # not those that were sent anew
        completions = [Completion(self._flying[future.key][0], self._outcome(future)) for future in ended]
        for future in ended:
            del self._flying[future.key]
            future.release()
        return completions

    def _next(self) -> Future:
        waited = 0.0
        while True:
            try:
                return self._ended.get(timeout=POLL_S)
            except queue.Empty:
                waited = self._still_waiting(waited)
                self._send_stranded(self._workers())

    def await_worker(self) -> None:
        waited = 0.0
        while not self._workers():
            time.sleep(POLL_S)
            waited = self._still_waiting(waited)

    def _still_waiting(self, waited: float) -> float:
        """Seconds for which there has been no worker, after another wait in vain; `WorkersLost` if too many."""
        waited = 0.0 if self._workers() else waited + POLL_S
        if waited >= PATIENCE_S:
            raise WorkersLost(
                f"no worker has been alive for {PATIENCE_S:.0f} s; look at the workers' logs, then resume"
            )
        return waited

    def _send_stranded(self, workers: list[str]) -> None:
        """Send anew what Dask has forgotten.

        A task bound to a worker, even loosely, that died when there was no other stays without one for ever.
        """
        bound = {
            key
            for key, (_, worker, future) in self._flying.items()
            if worker and worker not in workers and future.status == "pending"
        }
        if workers and bound:
            for key in bound.difference(*self.client.processing().values()):
                message, _, future = self._flying.pop(key)
                future.cancel()
                self._send(message, "")

    def _outcome(self, future: Future) -> TaskResult | Lost:
        # its worker may die before it hands over the result of a task that had ended: Dask would run that again,
        # perhaps never
        message, worker, _ = self._flying[future.key]
        failed = future.status == "error"
        try:
            result: TaskResult = future.result(timeout=0 if future.status == "pending" else HAND_OVER_S)
        except KilledWorker as error:
            return self._lost(message.out_stamp, str(error.last_worker.address))
        except TimeoutError:
            if failed:  # the task's own
                raise
            future.cancel()
            return Lost(worker, was_running=False)
        except CancelledError:
            raise WorkersLost("the Dask scheduler is gone; start it again, then resume") from None
        return result

    def _lost(self, stamp: int, worker: str) -> Lost:
        if worker not in self._died:
            # its losses are told one by one; which tasks it ran is known when the first one is
            self._died[worker] = sorted(m.out_stamp for m, at, _ in self._flying.values() if at == worker)
        stamps = self._died[worker]
        return Lost(worker, stamp in stamps[: self.at_once] or stamp not in stamps)

    def forget(self) -> None:
        for message, _, future in self._flying.values():
            # those in this process would go on; others end with theirs
            stop_tasks(message.setup.driver)
            # where the scheduler is gone, so are its tasks
            with contextlib.suppress(OSError, CancelledError):
                future.cancel()
        self._flying.clear()

    def map(
        self, function: Callable[[Any], Any], messages: Sequence[Any], at_once: int | None = None
    ) -> Iterator[Any]:
        call = functools.partial(self._call, function, min(self.at_once, at_once or self.at_once))
        window: deque[tuple[Any, Future]] = deque()
        waiting = deque(messages)
        try:
            while waiting or window:
                while waiting and len(window) < self.n_slots:
                    message = waiting.popleft()
                    window.append((message, call(message)))
                yield self._first(call, window)
                window.popleft()[1].release()
        finally:
            for _, future in window:  # of a caller that wants no more
                with contextlib.suppress(OSError, CancelledError):
                    future.cancel()

    def _first(self, call: functools.partial[Future], window: deque[tuple[Any, Future]]) -> Any:
        """The result of the first call of a window, begun anew on another worker if its worker dies."""
        for left in reversed(range(MAX_RESTARTS)):
            message, future = window[0]
            try:
                return self._wait_for(future)
            except KilledWorker:
                if left:
                    window[0] = (message, call(message))
            except CancelledError:
                raise WorkersLost("the Dask scheduler is gone; start it again") from None
        raise WorkersLost(f"{MAX_RESTARTS} workers died running {call.args[0].__name__}; look at their logs")

    def _wait_for(self, future: Future) -> Any:
        waited = 0.0
        while True:
            failed = future.status == "error"
            try:
                return future.result(timeout=POLL_S)
            except TimeoutError:
                if failed:  # the call's own
                    raise
                waited = self._still_waiting(waited)

    def _call(self, function: Callable[[Any], Any], at_once: int, message: Any) -> Future:
        name = f"{self.name}-{function.__name__}"
        key = (name, uuid.uuid4().hex)
        return self.client.submit(call_on_worker, function, message, at_once, key=key, pure=False, retries=0)
