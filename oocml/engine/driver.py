"""The driver: runs a model's program pass by pass, dispatches tasks, commits what comes back.

It is the only writer of the ledger. It knows passes and blocks, no model.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from oocml.engine import events
from oocml.engine.advice import smaller_steps, what_is_kept
from oocml.engine.context import RunContext, pinned_context, run_context
from oocml.engine.dispatch import Dispatcher, Work
from oocml.engine.events import Monitor, emit
from oocml.engine.executors import Executor
from oocml.engine.in_process import InProcess
from oocml.engine.interrupts import Stopped
from oocml.engine.journal import Journal
from oocml.engine.judging import Validation, judge
from oocml.engine.messages import WorkerSetup
from oocml.engine.replay import as_sent, mark, matches, send
from oocml.engine.tile_start import make_tiles
from oocml.errors import InputError, NonFinite
from oocml.models.protocol import Epoch, Epochs, Final, Item, Pass, Program, Verdict, derive_seed
from oocml.schedule.cost import Sizes
from oocml.schedule.forecast import Forecast
from oocml.schedule.plan import Plan
from oocml.schedule.tasks import check_pass, may_overlap, needs_no_barriers, sub_epochs
from oocml.store.run import RunStore


class Driver:
    """One driver of one run; the caller holds the run's lock.

    Parameters
    ----------
    plan
        Caches and predictions; its layout is the run's.
    validation
        How to judge epochs; None keeps no best epoch and never stops early.
    schedule
        "async" for no barriers; all others take turns sub-epoch by sub-epoch, one task at a time or more.
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
        schedule: str = "sync",
    ) -> None:
        self.schedule = schedule
        self.run, self.plan = run, plan
        self.monitors, self.validation = monitors, validation
        self.setup = WorkerSetup(
            run_path=str(run.path),
            run_id=run.config["run_id"],
            driver=uuid.uuid4().hex,
            panel_cache_bytes=plan.panel_cache_bytes,
            block_cache_bytes=plan.block_cache_bytes,
            cached_kinds=plan.residency.kinds,
            home=plan.residency.home,
            pool_bytes=plan.task_bytes * plan.at_once + plan.block_cache_bytes,
            computing=plan.computing,
            put_off=plan.all_in_one_process and isinstance(executor, InProcess) and not durable,
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
        self.dispatcher = Dispatcher(
            self.journal,
            executor,
            self.setup,
            emit=self._emit,
            tick=self._tick,
            bytes_per_worker=plan.bytes_per_worker,
        )
        sizes = Sizes(self.specs.values(), self.layout, self.problem, tiles=self.model.tiles)
        self.forecast = Forecast(plan, sizes)
        self._epoch = 0
        self._segment_start = 0
        self._epoch_start: dict[str, float] = {}
        self._seconds_before = 0.0

    def train(self) -> None:
        """Run the program from where the ledger says it is to its end."""
        executor = self.dispatcher.executor
        if not isinstance(executor, InProcess):
            self._train()
            return
        with pinned_context(self.setup) as context, executor.interrupts.kept_back():
            if self.setup.put_off:
                self.journal.held = context.block_cache
            try:
                self._train()
            except Stopped:
                self.journal.flush(force=True)
                raise

    def _train(self) -> None:
        ledger = self.journal.ledger
        program = self.model.program(self.problem, tuple(ledger.segments))
        item = self._replayed(program)  # before the first commit: what is refused changes nothing on disk
        ledger.finished = False  # an extension that was begun is not finished
        self.journal.open()
        self._seconds_before = float(ledger.totals.get("seconds", 0.0))
        if self.model.tiles:
            make_tiles(self.run, self.dispatcher.executor)
        self._epoch_start = dict(ledger.totals)
        while item is not None:
            item = send(program, self._execute(item))
        ledger.finished = True
        self._tick()
        self.journal.close()

    def _replayed(self, program: Program) -> Item | None:
        """The item the program is at once it has been sent the results that the ledger has."""
        ledger, item = self.journal.ledger, next(program, None)
        for number, result in enumerate(list(ledger.results)):
            self._check_replay(item, number, result)
            item = send(program, as_sent(item, result))
        under_way = item if isinstance(item, Pass) else item.pass_ if isinstance(item, Epochs) else None
        if ledger.done and ledger.pass_name not in ("", under_way.name if under_way else ""):
            raise self._changed(len(ledger.results))
        self._epoch += len(ledger.epoch_parts)
        return item

    @property
    def seconds(self) -> float:
        """Training time over the run's life: from first dispatch to now, without start-ups."""
        start = self.dispatcher.first_dispatch
        return self._seconds_before + (0.0 if start is None else time.perf_counter() - start)

    def _tick(self) -> None:
        self.journal.ledger.totals["seconds"] = self.seconds

    def _check_replay(self, item: Item | None, number: int, result: dict[str, Any]) -> None:
        if item is None or not matches(item, result):
            raise self._changed(number)
        if isinstance(item, Epoch):
            self._epoch = item.number
        elif isinstance(item, Epochs):
            self._epoch = item.ends(len(result["parts"]) - 1, result["parts"][-1]).number
        elif isinstance(item, Final):
            self._segment_start = self._epoch

    def _changed(self, number: int) -> InputError:
        return InputError(
            f"{self.run.path}: the model's program no longer yields what it did at step {number}; it was changed since "
            "the run began; finish it with the version that began it, or train again"
        )

    def _execute(self, item: Item) -> Any:
        if isinstance(item, Pass):
            return self._run_pass(item)
        if isinstance(item, Epochs):
            return self._run_epochs(item)
        self._check_finite(item)
        self._tick()
        if isinstance(item, Epoch):
            keep = self.journal.ledger.results.append
            return Verdict(self._end_epoch(item, lambda stop: keep({**mark(item), "stop": stop})))
        ledger = self.journal.ledger
        self._segment_start = self._epoch
        ledger.objective = None if item.objective is None else float(item.objective)
        ledger.results.append(mark(item))
        self.journal.flush(force=True)
        if item.notice:
            self._emit(events.Notice(item.notice))
        return None

    def _check_finite(self, item: Epoch | Final) -> None:
        if item.objective is not None and not math.isfinite(item.objective):
            self.journal.flush(force=True)
            epoch = item.number if isinstance(item, Epoch) else self._epoch
            kept = what_is_kept(len(self.journal.ledger.history))
            raise NonFinite(
                f"{self.model.name}: the objective became {item.objective} in epoch {epoch}; {kept}; "
                f"try {smaller_steps(self.problem.settings)}"
            )

    def _work(self, pass_: Pass, repeat: int = -1) -> Work:
        number, epoch = len(self.journal.ledger.results), self._epoch + 1
        seed = derive_seed(self.problem.seed, number, *([] if repeat < 0 else [repeat]))
        return Work(pass_, number, repeat, epoch, sub_epochs(pass_, self.layout, self.specs, seed))

    def _run_pass(self, pass_: Pass) -> dict[str, Any]:
        check_pass(pass_, self.specs, tiles=self.model.tiles)
        work = self._work(pass_)
        start = self._run(work)
        self._tick()
        result = self.journal.end_pass(pass_)
        self._emit_done(work, start)
        return result

    def _run(self, work: Work) -> float:
        """Run the tasks of a pass that are not done yet; returns when it began."""
        self.journal.begin_pass(work.pass_)
        self._predict(work)
        start = self._begin(work)
        if self.schedule == "async" and self._flows(work.pass_):
            self.dispatcher.freely([work])
        else:
            self.dispatcher.in_sub_epochs(work)
        return start

    def _run_epochs(self, item: Epochs) -> list[dict[str, Any]]:
        """Run the epochs of a repeated pass that are not done yet."""
        check_pass(item.pass_, self.specs, tiles=self.model.tiles)
        done = self.journal.ledger.epoch_parts
        first_epoch, begun = self._epoch + 1 - len(done), len(done)

        def passed(n: int) -> Pass:
            return replace(item.pass_, params={**item.pass_.params, **item.params[n]})

        if done and (done[-1]["stop"] or begun == len(item.params)):
            pass  # killed between the end of the last epoch and that of the pass
        elif self.schedule == "async" and self.validation is None and self._overlaps(item.pass_):
            # all epochs have the tasks of the first, also those that a resume begins with
            first = self._work(passed(begun), 0)
            numbers = range(begun, len(item.params))
            self._overlap(
                item, [first._replace(pass_=passed(n), repeat=n, epoch=first_epoch + n) for n in numbers]
            )
        else:
            for n in range(begun, len(item.params)):
                work = self._work(passed(n), n)
                self._end_repeat(item, work, self._run(work))
                if done[-1]["stop"]:
                    break
        return self.journal.end_repeated_pass(mark(item))

    def _overlap(self, item: Epochs, works: Sequence[Work]) -> None:
        """Run epochs of a repeated pass without barriers between them."""
        self.journal.begin_pass(works[0].pass_)
        for work in works:
            self._predict(work)
        start = self._begin(works[0])

        def ended(work: Work) -> None:
            nonlocal start
            self._end_repeat(item, work, start)
            if work is not works[-1]:
                start = self._begin(works[work.repeat + 1 - works[0].repeat])

        self.dispatcher.freely(works, ended)

    def _flows(self, pass_: Pass) -> bool:
        return needs_no_barriers(pass_, self.model.kernels[pass_.kernel], self.specs)

    def _overlaps(self, pass_: Pass) -> bool:
        return may_overlap(pass_, self.model.kernels[pass_.kernel], self.specs)

    def _end_repeat(self, item: Epochs, work: Work, start: float) -> None:
        epoch = item.ends(work.repeat, self.journal.reduce(work.keys))
        self._emit_done(work, start)
        self._check_finite(epoch)
        self._tick()
        self._end_epoch(epoch, lambda stop: self.journal.end_epoch_of_pass(work.keys, stop=stop))

    def _begin(self, work: Work) -> float:
        """Tell of a pass that begins; returns when it did."""
        left = sum(key not in self.journal.ledger.done for key in work.keys)
        self._emit(events.PassStarted(work.number + 1, work.pass_.name, work.epoch, left))
        return time.perf_counter()

    def _emit_done(self, work: Work, start: float) -> None:
        seconds = time.perf_counter() - start
        self._emit(events.PassDone(work.number + 1, work.pass_.name, work.epoch, work.n_tasks, seconds))

    def _predict(self, work: Work) -> None:
        """Add what the plan expects of a pass to the totals, for `report` to hold against what is measured."""
        ledger = self.journal.ledger
        if any(key in ledger.done for key in work.keys) or 0 <= work.repeat < ledger.predicted_epochs:
            # that was done when it began; but what was in memory then is read again
            rest = self.forecast.rest_bytes(self.journal.stored_shares(work.pass_))
            self.journal.add(planned_read_bytes=rest)
            return
        ledger.predicted_epochs = work.repeat + 1
        initial = frozenset(name for name, stamps in ledger.stamps.items() if not stamps.any())
        read, written = self.forecast.pass_bytes(work.pass_, initial)
        self.journal.add(planned_read_bytes=read, planned_write_bytes=written)

    def _end_epoch(self, epoch: Epoch, keep: Callable[[bool], None]) -> bool:
        """Record an epoch and whether training stops with it, which is returned; ``keep`` puts that in the ledger."""
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
            stop, best = judge(self.validation, ledger.history, record, self._segment_start)
        ledger.history.append(record)
        if best:
            journal.keep("best", epoch.number)
        keep(stop)
        # from the first epoch on the run is worth keeping, and whoever hears of the epoch finds it
        journal.flush(force=not self.setup.put_off or len(ledger.history) == 1)
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
        return stop

    def _emit(self, event: events.Event) -> None:
        try:
            emit(self.monitors, event)
        except BaseException:  # a monitor ends the training, at a moment when what is committed is whole
            self.journal.flush(force=True)
            raise
