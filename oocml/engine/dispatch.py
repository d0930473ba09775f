"""Dispatching the tasks of a pass: in sub-epochs with barriers, or as soon as nothing in flight conflicts."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from oocml.engine import events
from oocml.engine.executors import Executor, Lost
from oocml.engine.journal import Journal
from oocml.engine.messages import TaskMessage, TaskResult, WorkerSetup
from oocml.errors import WorkersLost
from oocml.models.protocol import Pass, derive_seed
from oocml.schedule.nomad import Dispatch, Nomad
from oocml.schedule.tasks import Task, footprint
from oocml.types import Bounds

MAX_LOSSES = 3


class Work(NamedTuple):
    """A pass, or one epoch of a repeated pass."""

    pass_: Pass
    number: int
    """Position of its item in the program."""
    repeat: int
    """Position among the epochs of its item; -1 for a pass that is not repeated."""
    epoch: int
    """1-based, over the life of the run."""
    strata: list[list[Task]]

    @property
    def n_tasks(self) -> int:
        return sum(map(len, self.strata))

    @property
    def first_key(self) -> int:
        return max(0, self.repeat) * self.n_tasks

    @property
    def keys(self) -> range:
        """What its tasks are called in the ledger, by index."""
        return range(self.first_key, self.first_key + self.n_tasks)


class Dispatcher:
    """Sends tasks to an executor and commits what comes back."""

    def __init__(
        self,
        journal: Journal,
        executor: Executor,
        setup: WorkerSetup,
        *,
        emit: Callable[[events.Event], None],
        tick: Callable[[], None],
        bytes_per_worker: int,
    ) -> None:
        self.journal, self.executor, self.setup = journal, executor, setup
        self.emit, self.tick, self.bytes_per_worker = emit, tick, bytes_per_worker
        self.first_dispatch: float | None = None
        """When the first task was sent, by `time.perf_counter`."""
        self._losses: Counter[tuple[int, int, int]] = Counter()

    def in_sub_epochs(self, work: Work) -> None:
        """Run what is not done yet, with a barrier after every sub-epoch."""
        for tasks in self._opened_and_closed(work):
            waiting = deque(t for t in tasks if work.first_key + t.index not in self.journal.ledger.done)
            flying = 0
            while waiting or flying:
                while waiting and flying < self.executor.n_slots:
                    self._send(work, waiting.popleft())
                    flying += 1
                for message, outcome in self._wait():
                    flying -= 1
                    if isinstance(outcome, Lost):
                        waiting.appendleft(message.task)
                    else:
                        self._commit(work, message, outcome, recorded=False)
            self.journal.merge_shared(work.pass_, [work.first_key + task.index for task in tasks])

    def _opened_and_closed(self, work: Work) -> list[list[Task]]:
        """The sub-epochs, with columns opened and closed by the first and last of their tasks that are left.

        Another schedule may have begun the pass in another order. Where columns aren't written the order of a pass
        decides, which all schedules that get here keep.
        """
        specs, done = self.journal.specs, self.journal.ledger.done
        if not any(specs[name].kind == "col" for name in work.pass_.writes) or work.pass_.ahead:
            return work.strata
        tasks = [task for stratum in work.strata for task in stratum]
        n_done = Counter(task.cols for task in tasks if work.first_key + task.index in done)
        n_left = Counter(task.cols for task in tasks) - n_done
        strata = []
        for stratum in work.strata:
            strata.append([])
            for task in stratum:
                if work.first_key + task.index not in done:
                    opening, closing = n_done[task.cols] == 0, n_left[task.cols] == 1
                    n_done[task.cols] += 1
                    n_left[task.cols] -= 1
                    task = task._replace(opening=opening, closing=closing)
                strata[-1].append(task)
        return strata

    def freely(self, works: Sequence[Work], ended: Callable[[Work], None] | None = None) -> None:
        """Run several epochs of a pass without barriers; ``ended`` is told of each when it is whole, in order."""
        ledger, specs, layout = self.journal.ledger, self.journal.specs, self.journal.layout
        tasks = {task.index: task for stratum in works[0].strata for task in stratum}
        in_order = [tasks[index] for index in sorted(tasks)]
        keys = [
            (n, key - work.first_key)
            for n, work in enumerate(works)
            for key in work.keys
            if key in ledger.done
        ]
        machine = Nomad(
            in_order,
            [footprint(works[0].pass_, task, layout, specs) for task in in_order],
            n_epochs=len(works),
            done=keys,
            home=self.setup.home,
            seed=derive_seed(self.journal.problem.seed, works[0].number),
        )
        # what another schedule left to be added
        self.journal.merge_shared(works[0].pass_, sorted(ledger.done))
        self._follow(machine, works, ended)

    def _follow(self, machine: Nomad, works: Sequence[Work], ended: Callable[[Work], None] | None) -> None:
        flying: dict[int, Dispatch] = {}
        n_ended = 0
        while True:
            while ended is not None and n_ended < len(works) and machine.epoch_is_done(n_ended):
                ended(works[n_ended])
                n_ended += 1
            if machine.finished:
                return
            for worker in self.executor.free():
                dispatch = machine.take(worker)
                if dispatch is not None:
                    message = self._send(works[dispatch.epoch], dispatch.task, worker)
                    flying[message.out_stamp] = dispatch
            if not flying:
                self.executor.await_worker()
                continue
            for message, outcome in self._wait():
                dispatch = flying.pop(message.out_stamp)
                if isinstance(outcome, Lost):
                    machine.give_back(dispatch)
                    continue
                work = works[dispatch.epoch]
                key = work.first_key + dispatch.task.index
                self._commit(work, message, outcome, recorded=True)
                self.journal.merge_shared(work.pass_, [key])
                machine.commit(dispatch)

    def _send(self, work: Work, task: Task, worker: str | None = None) -> TaskMessage:
        if self.first_dispatch is None:
            self.first_dispatch = time.perf_counter()
        message = TaskMessage(
            setup=self.setup,
            pass_=work.pass_,
            pass_number=work.number,
            repeat=work.repeat,
            epoch=work.epoch,
            task=task,
            inputs=self.journal.inputs(work.pass_, task),
            out_stamp=self.journal.fresh_stamp(),
            epochs_done=len(self.journal.ledger.history),
            spares=self.journal.spares(work.pass_, task),
        )
        self.journal.dispatched(message)
        self.executor.submit(message, worker)
        return message

    def _wait(self) -> list[tuple[TaskMessage, TaskResult | Lost]]:
        """What has ended; tells of losses and raises where there were too many."""
        completions = self.executor.wait(self.journal.write_due_s)
        if not completions:
            self.journal.flush(force=True)
        for message, outcome in completions:
            self.journal.landed(message)
            if isinstance(outcome, Lost):
                self._tell_of_loss(message, outcome)
        return [(message, outcome) for message, outcome in completions]

    def _commit(self, work: Work, message: TaskMessage, result: TaskResult, *, recorded: bool) -> None:
        self.tick()
        key = work.first_key + message.task.index
        self.journal.commit_task(message, result, key, recorded=recorded)
        self.emit(_task_done(message, result))

    def _tell_of_loss(self, message: TaskMessage, lost: Lost) -> None:
        key = (message.pass_number, message.repeat, message.task.index)
        self._losses[key] += lost.was_running
        what = f"{message.pass_.name}, rows {message.task.rows[:1]}, columns {message.task.cols[:1]}"
        self.emit(
            events.TaskLost(
                lost.worker, what, "its worker died" if lost.was_running else "its worker was lost"
            )
        )
        if self._losses[key] >= MAX_LOSSES:
            raise WorkersLost(
                f"{MAX_LOSSES} workers died running task {message.task.index} of pass {message.pass_.name} "
                f"(planned {self.bytes_per_worker >> 20}MiB a worker); if they ran out of memory lower "
                "--task-memory in a new run, else look at the workers' logs, then resume"
            )


def _task_done(message: TaskMessage, result: TaskResult) -> events.TaskDone:
    usage, task = result.usage, message.task
    return events.TaskDone(
        pass_name=message.pass_.name,
        epoch=message.epoch,
        p=Bounds(min(task.rows), max(task.rows) + 1) if task.rows else None,
        q=Bounds(task.cols[0], task.cols[-1] + 1) if task.cols else None,
        worker=result.worker,
        kernel_s=usage.kernel_s,
        read_s=usage.read_s,
        write_s=usage.write_s,
        idle_s=usage.idle_s,
        read_bytes=usage.read_bytes,
        write_bytes=usage.write_bytes,
        updates=usage.updates,
        visits=usage.visits,
    )
