"""The life of one driver: workers are found, a run is put in place or taken up, trained, and let go."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from oocml.config import used_settings
from oocml.data.dataset import Dataset
from oocml.data.identity import dataset_sha256
from oocml.engine import events
from oocml.engine.cluster import local_client, remote_client, running_client, workers_per_host
from oocml.engine.compilation import compile_kernels
from oocml.engine.context import forget_context, problem_of
from oocml.engine.driver import Driver
from oocml.engine.events import Monitor, emit
from oocml.engine.executors import Executor, OnDask
from oocml.engine.in_process import InProcess
from oocml.engine.judging import Validation
from oocml.engine.malloc import limit_malloc
from oocml.engine.rehearsal import rehearse
from oocml.engine.score import ScoreMessage, few_rows, score_batch
from oocml.engine.score import evaluate as score_run
from oocml.engine.tile_start import make_tiles
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.metrics.directions import check_metric_of, higher_is_better
from oocml.models.protocol import Model, Problem
from oocml.models.registry import load_model
from oocml.run import Run
from oocml.schedule.cost import PanelSizes
from oocml.schedule.crew import MOST_AT_ONCE, TASKS_AT_ONCE
from oocml.schedule.plan import Plan, make_plan
from oocml.store.run import RunStore
from oocml.watch.jsonl import JsonLines
from oocml.watch.memory import MemorySampler

if TYPE_CHECKING:
    from distributed import Client

SCHEDULES = ("sync", "async", "serial")


@dataclass(frozen=True)
class Session:
    """How one driver works; nothing of it decides bits."""

    schedule: str
    scheduler: str | None
    """Address of the caller's own cluster."""
    workers: int | None
    """Processes of a cluster that is started for the training; None: as many as there are cores and memory for."""
    monitors: Sequence[Monitor]
    durable: bool
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        check_schedule(self.schedule, workers=self.workers, scheduler=self.scheduler)
        if self.scheduler is not None:
            _refuse_workers(self.workers)


def check_schedule(schedule: str, *, workers: int | None = None, scheduler: str | None = None) -> None:
    """Raise `UsageError` for a schedule that there isn't, or that has no use for what is given with it."""
    if schedule not in SCHEDULES:
        raise UsageError(f"no schedule {schedule!r}; there are {', '.join(SCHEDULES)}")
    if schedule == "serial" and scheduler is not None:
        raise UsageError("--schedule serial uses no cluster; leave out --scheduler or choose sync")
    if schedule == "serial" and workers is not None and workers > 1:
        raise UsageError(
            f"--schedule serial is one process, {workers} --workers are none of it; leave them out or choose sync"
        )


class Workplace(NamedTuple):
    """Where a training is about to run, and the plan for it."""

    executor: Executor
    client: Client | None
    plan: Plan
    sampler: MemorySampler


def plan_workers(
    model: Model, problem: Problem, panels: PanelSizes, workers: int | None, **asked: Any
) -> Plan:
    """The plan for the given workers, or for as many as there are cores and memory for.

    More workers change neither the width of blocks nor the layout.
    """
    if workers is not None:
        return make_plan(model, problem, panels, workers=workers, **asked)
    cores = os.cpu_count() or 1
    at_once = TASKS_AT_ONCE if cores == 1 else MOST_AT_ONCE
    one = make_plan(model, problem, panels, workers=1, at_once=at_once, **asked)
    chosen = {**asked, "task_memory": one.task_memory, "layout": one.layout}
    for n in range(cores, 1, -1):
        try:
            return make_plan(model, problem, panels, workers=n, advise=False, **chosen)
        except DoesNotFit:
            continue
    return one


@contextmanager
def open_workplace(
    session: Session, reference: str, problem: Problem, dataset: Dataset, **asked: Any
) -> Iterator[Workplace]:
    """Plan a training and open its workers; nothing is written yet, so that a failure here costs nothing.

    Parameters
    ----------
    reference
        The model, for `oocml.models.registry.load_model`.
    asked
        What `oocml.schedule.plan.make_plan` takes: memory, layout and the like.

    On a cluster of the caller's own the memory of each host is planned for the workers that it has there.
    """
    model, panels = load_model(reference), PanelSizes.of(dataset)

    def say(text: str) -> None:
        emit(session.monitors, events.Notice(text))

    with ExitStack() as stack:
        stack.callback(forget_context)  # with what its caches hold
        if session.schedule == "serial":
            limit_malloc()
            plan = plan_workers(model, problem, panels, 0, **asked)
            compile_kernels(reference, problem.settings, say)  # takes what it takes, once, before any work
            sampler = stack.enter_context(MemorySampler())
            rehearse(model, problem.settings)
            yield Workplace(InProcess(), None, plan, sampler)
            return
        if session.scheduler is not None:
            client: Client | None = stack.enter_context(remote_client(session.scheduler))
        else:
            client = running_client()
        if client is None:
            plan = plan_workers(model, problem, panels, session.workers, **asked)
            compile_kernels(reference, problem.settings, say)  # takes what it takes, once, before any work
            sampler = stack.enter_context(MemorySampler())
            client = stack.enter_context(
                local_client(plan.workers, reference, problem.settings, plan.at_once)
            )
        else:
            _refuse_workers(session.workers)
            n_workers = workers_per_host(client)
            plan = plan_workers(model, problem, panels, n_workers, elsewhere=True, **asked)
            sampler = stack.enter_context(MemorySampler())
        executor = OnDask(client, model.name, plan.at_once)
        yield Workplace(executor, client, replace(plan, workers=executor.n_workers), sampler)


def drive(run: RunStore, place: Workplace, session: Session, more_epochs: int | None = None) -> Run:
    """Train a run to the end of its epochs; the caller holds its lock."""
    from oocml.watch.dashboard import Dashboard, install

    plan, sampler = place.plan, place.sampler
    watching: list[Monitor] = [*session.monitors, sampler, JsonLines(run.path / "events.jsonl")]
    link = None
    with ExitStack() as stack:
        if place.client is not None:
            link = install(place.client)
            watching.append(Dashboard(place.client))
        stack.callback(events.close, watching)
        driver = Driver(
            run,
            plan,
            place.executor,
            monitors=watching,
            durable=session.durable,
            schedule=session.schedule,
        )
        ledger = driver.journal.ledger
        if more_epochs:
            ledger.segments.append(more_epochs)
        driver.validation = _validation(run, place)
        emit(watching, _started(driver, plan, link))
        startup = time.perf_counter() - session.began
        try:
            with _told_if_taken_away(run):
                driver.train()
        except BaseException as error:
            place.executor.forget()
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            emit(watching, events.RunStopped(reason))
            raise
        finally:
            totals = ledger.totals
            totals["startup_seconds"] = startup
            totals["peak_memory_bytes"] = max(sampler.peak_bytes, totals.get("peak_memory_bytes", 0))
            totals["planned_memory_bytes"] = plan.bytes_total
        driver.journal.flush(force=True)
        emit(
            watching,
            events.RunDone(
                epochs=len(ledger.history),
                seconds=totals["seconds"],
                startup_seconds=startup,
                objective=ledger.objective,
                peak_memory_bytes=int(totals["peak_memory_bytes"]),
            ),
        )
    return Run(run.path)


@contextmanager
def _told_if_taken_away(run: RunStore) -> Iterator[None]:
    """Tell of a run whose folder is gone, whichever file of it was missed first."""
    try:
        yield
    except Exception:
        run.require_in_place()
        raise


def validation_config(
    dataset: Dataset, training: Dataset, metric: str, patience: int | None
) -> dict[str, Any]:
    """What a run records of how its epochs are judged; raises if they cannot be."""
    if dataset.n_cols != training.n_cols:
        raise InputError(
            f"{dataset.path} has {dataset.n_cols} features, {training.path} has {training.n_cols}; "
            f"ingest it with --like {training.path}"
        )
    return {
        "dataset": os.path.abspath(dataset.path),
        "sha256": dataset_sha256(dataset),
        "metric": metric,
        "patience": patience,
    }


def make_ready(run: RunStore, executor: Executor) -> None:
    """All that may fail before a run takes its place: tiles of its data, and the metric it is judged by."""
    if load_model(run.model_reference).tiles:
        make_tiles(run, executor)
    check_metric(run, executor)


def check_metric(run: RunStore, executor: Executor) -> None:
    """Score a few rows with the initial state, which says what metrics there are: `UsageError` if not this one."""
    config = run.config.get("validation")
    if config is None:
        return
    batch = few_rows(run, Dataset.open(config["dataset"]))
    message = ScoreMessage(
        run_path=str(run.path),
        checkpoint=None,
        dataset=config["dataset"],
        panels=batch.panels,
        top=0,
        predict=False,
        piece=batch.piece,
    )
    model = load_model(run.model_reference)
    [total] = executor.map(score_batch, [message])
    check_metric_of(model.name, config["metric"], model.scoring(problem_of(run), 0).scores(total))


def open_recorded(path: str, sha256: str, what: str, run: RunStore) -> Dataset:
    """A dataset that a run was begun with; `InputError` if it is gone or is another one now."""
    if not os.path.exists(path):
        raise InputError(f"the {what} {path} of {run.path} is gone; put it back, or train again")
    dataset = Dataset.open(path)
    if dataset_sha256(dataset) != sha256:
        raise InputError(
            f"the {what} {path} was changed since {run.path} was begun; restore it, or train again"
        )
    return dataset


def _validation(run: RunStore, place: Workplace) -> Validation | None:
    config = run.config.get("validation")
    if config is None:
        return None
    dataset = Dataset.open(config["dataset"])

    def score() -> dict[str, float]:
        n_workers = max(1, place.plan.workers)
        room = place.plan.at_once * place.plan.task_bytes  # tasks that train have nothing in memory meanwhile
        return score_run(
            run, dataset, place.executor, checkpoint=None, memory=None, n_workers=n_workers, room=room
        )

    return Validation(score, config["metric"], higher_is_better(config["metric"]), config["patience"])


def _started(driver: Driver, plan: Plan, link: str | None) -> events.RunStarted:
    problem, layout, ledger = driver.problem, driver.layout, driver.journal.ledger
    used = used_settings(driver.run.config)
    return events.RunStarted(
        run=str(driver.run.path),
        model=driver.model.name,
        n_rows=problem.n_rows,
        n_features=problem.n_features,
        n_cols=layout.col_bounds[-1],
        nnz=problem.nnz,
        n_row_blocks=layout.n_row_blocks,
        n_col_blocks=layout.n_col_blocks,
        n_panels=layout.row_panels[-1],
        tasks_per_epoch=plan.tasks_per_epoch,
        epochs=sum(ledger.segments),
        n_workers=max(1, plan.workers),
        memory_bytes=plan.memory,
        worker_memory_bytes=plan.bytes_per_worker,
        plan=plan.to_dict(),
        config={name: setting.value for name, setting in used.items()},
        given=[name for name, setting in used.items() if setting.by == "given"],
        chosen=[name for name, setting in used.items() if setting.by == "chosen"],
        dashboard=link,
        resumed_from=len(ledger.history) if ledger.incarnation else None,
        seconds_before=float(ledger.totals.get("seconds", 0.0)),
        metric=(driver.run.config["validation"] or {}).get("metric"),
    )


def _refuse_workers(workers: int | None) -> None:
    if workers is not None:
        raise UsageError(
            "--workers is for a cluster that is started here, and a running one is to be used; leave it out"
        )
