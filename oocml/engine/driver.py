"""The driver: runs a model's program pass by pass, dispatches tasks, commits what comes back.

It is the only writer of the ledger. It knows passes and blocks, no model.
"""

from __future__ import annotations

import copy
import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from oocml.engine import events
from oocml.engine.context import RunContext, run_context
from oocml.engine.events import Monitor, emit
from oocml.engine.executors import Completion, Executor, Lost
from oocml.engine.journal import Journal
from oocml.engine.messages import TaskMessage, TaskResult, WorkerSetup
from oocml.errors import InputError, NonFinite, UsageError, WorkersLost
from oocml.models.protocol import Epoch, Final, Pass, Verdict, derive_seed
from oocml.schedule.cost import Sizes, pass_cost
from oocml.schedule.plan import TASKS_AT_ONCE, Plan
from oocml.schedule.tasks import Task, sub_epochs
from oocml.store.run import RunStore
from oocml.types import Bounds

MAX_LOSSES = 3


class Validation(NamedTuple):
    """How epochs are judged on held-out data."""

    score: Callable[[], dict[str, float]]
    """Metrics of the current state."""
    metric: str
    higher_is_better: bool
    patience: int | None


class Driver:
    """One driver of one run; the caller holds the run's lock.

    Parameters
    ----------
    plan
        Caches and predictions; its layout is the run's.
    validation
        How to judge epochs; None keeps no best epoch and never stops early.
    """

    def __init__(
        self,
        run: RunStore,
        plan: Plan,
        executor: Executor,
        *,
        monitors: Sequence[Monitor] = (),
        validation: Validation | None = None,
        durable: bool = False,
    ) -> None:
        self.run, self.plan, self.executor = run, plan, executor
        self.monitors, self.validation = monitors, validation
        self.setup = WorkerSetup(
            run_path=str(run.path),
            run_id=run.config["run_id"],
            driver=uuid.uuid4().hex,
            panel_cache_bytes=plan.panel_cache_bytes,
            block_cache_bytes=plan.block_cache_bytes,
            pool_bytes=plan.task_bytes * TASKS_AT_ONCE + plan.block_cache_bytes,
            durable=durable,
        )
        context: RunContext = run_context(self.setup)
        self.model, self.problem, self.layout, self.specs = (
            context.model,
            context.problem,
            context.layout,
            context.specs,
        )
        self.journal = Journal(run, self.specs, self.layout, self.problem, durable=durable)
        self.sizes = Sizes(self.specs.values(), self.layout, self.problem)
        self._epoch = 0
        self._segment_start = 0
        self._epoch_start: dict[str, float] = {}
        self._warm_workers = 0
        self._losses: Counter[tuple[int, int]] = Counter()
        self._clock_start: float | None = None
        self._seconds_before = 0.0

    def train(self) -> None:
        """Run the program from where the ledger says it is to its end."""
        ledger = self.journal.ledger
        ledger.finished = False  # before the first commit: an extension that was begun is not finished
        self.journal.open()
        self._seconds_before = float(ledger.totals.get("seconds", 0.0))
        program = self.model.program(self.problem, tuple(ledger.segments))
        item = next(program, None)
        for number, result in enumerate(list(ledger.results)):
            self._check_replay(item, number, result)
            item = _send(program, self._as_sent(item, result))
        self._epoch_start = dict(ledger.totals)
        while item is not None:
            item = _send(program, self._execute(item))
        ledger.finished = True
        self._tick()
        self.journal.close()

    @property
    def seconds(self) -> float:
        """Training time over the run's life: from first dispatch to now, without start-ups."""
        if self._clock_start is None:
            return self._seconds_before
        return self._seconds_before + time.perf_counter() - self._clock_start

    def _tick(self) -> None:
        self.journal.ledger.totals["seconds"] = self.seconds

    def _check_replay(self, item: Pass | Epoch | Final | None, number: int, result: dict[str, Any]) -> None:
        if item is None or any(result.get(key) != value for key, value in _mark(item).items()):
            raise InputError(
                f"{self.run.path}: the model's program no longer yields what it did at step {number}; "
                "it was changed since the run began; train again"
            )
        if isinstance(item, Epoch):
            self._epoch = item.number
        elif isinstance(item, Final):
            self._segment_start = self._epoch

    def _as_sent(self, item: Pass | Epoch | Final | None, result: dict[str, Any]) -> Any:
        if isinstance(item, Epoch):
            return Verdict(bool(result["stop"]))
        return None if isinstance(item, Final) else copy.deepcopy(result["parts"])

    def _execute(self, item: Pass | Epoch | Final) -> Any:
        if isinstance(item, Pass):
            return self._run_pass(item)
        ledger = self.journal.ledger
        if not math.isfinite(item.objective):
            raise NonFinite(
                f"{self.model.name}: the objective became {item.objective} in epoch {self._epoch}; the last good "
                "state is kept; try a smaller step (--set learning_rate) or stronger regularisation"
            )
        self._tick()
        if isinstance(item, Epoch):
            return self._end_epoch(item)
        self._segment_start = self._epoch
        ledger.objective = float(item.objective)
        ledger.results.append(_mark(item))
        self.journal.flush(force=True)
        return None

    def _run_pass(self, pass_: Pass) -> dict[str, Any]:
        ledger, number = self.journal.ledger, len(self.journal.ledger.results)
        strata = sub_epochs(pass_, self.layout, self.specs, derive_seed(self.problem.seed, number))
        if not ledger.done:
            self._predict(pass_)
        self.journal.begin_pass()
        start, n_tasks = time.perf_counter(), sum(map(len, strata))
        self._emit(events.PassStarted(number + 1, pass_.name, self._epoch + 1, n_tasks - len(ledger.done)))
        for sub_epoch, tasks in enumerate(strata):
            self._run_tasks(pass_, number, [task for task in tasks if task.index not in ledger.done])
            self.journal.merge_shared(pass_, sub_epoch, tasks)
        self._tick()
        result = self.journal.end_pass(pass_)
        seconds = time.perf_counter() - start
        self._emit(events.PassDone(number + 1, pass_.name, self._epoch + 1, n_tasks, seconds))
        return result

    def _run_tasks(self, pass_: Pass, number: int, tasks: list[Task]) -> None:
        waiting, flying = deque(tasks), 0
        if self._clock_start is None:
            self._clock_start = time.perf_counter()
        while waiting or flying:
            while waiting and flying < self.executor.n_slots:
                self.executor.submit(self._message(pass_, number, waiting.popleft()))
                flying += 1
            for message, outcome in self.executor.wait():
                flying -= 1
                if isinstance(outcome, Lost):
                    self._lose(Completion(message, outcome), outcome)
                    waiting.appendleft(message.task)
                    continue
                self._tick()
                self.journal.commit_task(message, outcome)
                self._emit(_task_done(message, outcome))

    def _message(self, pass_: Pass, number: int, task: Task) -> TaskMessage:
        return TaskMessage(
            setup=self.setup,
            pass_=pass_,
            pass_number=number,
            epoch=self._epoch + 1,
            task=task,
            inputs=self.journal.inputs(pass_, task),
            out_stamp=self.journal.fresh_stamp(),
        )

    def _lose(self, completion: Completion, lost: Lost) -> None:
        message = completion.message
        key = (message.pass_number, message.task.index)
        self._losses[key] += lost.was_running
        what = f"{message.pass_.name}, rows {message.task.rows[:1]}, columns {message.task.cols[:1]}"
        self._emit(
            events.TaskLost(
                lost.worker, what, "its worker died" if lost.was_running else "its worker was lost"
            )
        )
        if self._losses[key] >= MAX_LOSSES:
            raise WorkersLost(
                f"{MAX_LOSSES} workers died running task {message.task.index} of pass {message.pass_.name} "
                f"(planned {self.plan.bytes_per_worker >> 20}MiB a worker); if they ran out of memory lower "
                "--task-memory in a new run, else look at the workers' logs, then resume"
            )

    def _predict(self, pass_: Pass) -> None:
        """Add what the plan expects of a pass to the totals, for `report` to hold against what is measured."""
        plan = self.plan
        initial = frozenset(name for name, stamps in self.journal.ledger.stamps.items() if not stamps.any())
        cost = pass_cost(pass_, self.sizes, initial)
        cached = min(plan.panel_cache_bytes, plan.data_bytes)
        read = cost.data_scans * (plan.data_bytes - cached)
        if cost.data_scans:
            # each worker fills its cache in the first pass with a task for it
            reached = max(1, min(plan.workers, cost.n_tasks))
            read += cached * max(0, reached - self._warm_workers)
            self._warm_workers = max(self._warm_workers, reached)
        if plan.block_cache_bytes < plan.model_bytes:
            read += cost.state_read_bytes
        self.journal.add(planned_read_bytes=read, planned_write_bytes=cost.write_bytes)

    def _end_epoch(self, epoch: Epoch) -> Verdict:
        journal, ledger = self.journal, self.journal.ledger
        self._epoch = epoch.number
        record: dict[str, Any] = {
            "epoch": epoch.number,
            "seconds": self.seconds,
            "objective": float(epoch.objective),
            **{name: float(value) for name, value in epoch.extra.items()},
        }
        amounts = {
            name: int(ledger.totals.get(name, 0) - self._epoch_start.get(name, 0))
            for name in ("read_bytes", "write_bytes", "updates")
        }
        self._epoch_start = dict(ledger.totals)
        record |= amounts
        stop = best = False
        if self.validation is not None:
            journal.flush(force=True)  # scoring reads the state that the ledger on disk names
            record["valid"] = self.validation.score()
            stop, best = self._judge(self.validation, record)
        ledger.history.append(record)
        if best:
            journal.keep("best", epoch.number)
        ledger.results.append({**_mark(epoch), "stop": stop})
        journal.flush(force=True)
        self._emit(
            events.EpochDone(
                number=epoch.number,
                seconds=record["seconds"],
                objective=record["objective"],
                exact=epoch.exact,
                valid=record.get("valid"),
                best=best,
                extra=dict(epoch.extra),
                **amounts,
            )
        )
        return Verdict(stop)

    def _judge(self, validation: Validation, record: dict[str, Any]) -> tuple[bool, bool]:
        """Whether to stop, and whether this epoch is the best so far."""
        if validation.metric not in record["valid"]:
            raise UsageError(
                f"{self.model.name} has no metric {validation.metric!r}; it has {', '.join(sorted(record['valid']))}"
            )
        sign = 1 if validation.higher_is_better else -1
        history = [past for past in self.journal.ledger.history if past.get("valid")]
        scores = [sign * past["valid"][validation.metric] for past in history]
        score = sign * record["valid"][validation.metric]
        best = math.isfinite(score) and score > max(filter(math.isfinite, scores), default=-math.inf)
        if validation.patience is None or best:
            return False, best
        # every segment is a training of its own: patience counts from its start
        since = [s for past, s in zip(history, scores, strict=True) if past["epoch"] > self._segment_start]
        since.append(score)
        return len(since) - 1 - since.index(max(since)) >= validation.patience, False

    def _emit(self, event: events.Event) -> None:
        emit(self.monitors, event)


def _mark(item: Pass | Epoch | Final) -> dict[str, Any]:
    """What the ledger keeps of an item beside its result: enough to notice that a program was changed."""
    if isinstance(item, Pass):
        return {"pass": item.name}
    return {"epoch": item.number} if isinstance(item, Epoch) else {"final": True}


def _send(program: Any, value: Any) -> Pass | Epoch | Final | None:
    try:
        return program.send(value)  # type: ignore[no-any-return]
    except StopIteration:
        return None


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
