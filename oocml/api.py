"""The public functions: everything the command line does, for programs and notebooks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oocml.data.dataset import Dataset
from oocml.engine import events
from oocml.engine.cluster import local_client, remote_client, running_client
from oocml.engine.driver import Driver, Validation
from oocml.engine.events import Monitor, emit
from oocml.engine.executors import Executor, InProcess, OnDask
from oocml.engine.rehearsal import rehearse
from oocml.engine.score import evaluate as score_run
from oocml.engine.start import begin_run, make_problem, problem_of_spec
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.metrics.directions import higher_is_better
from oocml.models.registry import load_model
from oocml.run import Run
from oocml.schedule.cost import PanelSizes
from oocml.schedule.layout import Layout
from oocml.schedule.plan import Pins, Plan, make_plan
from oocml.store.run import RunStore
from oocml.watch.jsonl import JsonLines
from oocml.watch.memory import MemorySampler

if TYPE_CHECKING:
    from distributed import Client

DEFAULT_MEMORY = 2 * 2**30
"""Not taken from the machine: the layout, and so the bits of a result, depend on it."""
DEFAULT_METRIC = "objective"
SCHEDULES = ("sync", "serial")

DatasetLike = Dataset | str | os.PathLike[str]


def open_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Open a dataset that `ingest` or `synth` wrote."""
    return Dataset.open(path)


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run that `train` wrote."""
    return Run(path)


def ingest(
    format: str, sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], out: str, **options: Any
) -> dict[str, Any]:
    """Read files into a dataset store; see `oocml.data.ingest.ingest` for formats and options."""
    from oocml.data.ingest import ingest as run_ingest

    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    return run_ingest(format, several, out, **options)


def plan(
    model: str,
    data: DatasetLike | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
    workers: int | None = None,
    task_memory: int | None = None,
    spec: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Plan:
    """Predict memory, disk and I/O of a training, before any work.

    Raises
    ------
    DoesNotFit
        With the numbers, and what would do.
    """
    found = load_model(model)
    if spec is not None:
        from oocml.data.specs import load_spec

        problem, panels = problem_of_spec(load_spec(spec), found, settings or {}, seed)
    else:
        if data is None:
            raise UsageError("plan needs a dataset or a spec")
        dataset = _dataset(data)
        problem, panels = make_problem(dataset, found, settings or {}, seed), PanelSizes.of(dataset)
    the_plan = _plan_workers(found, problem, panels, memory=memory, workers=workers, task_memory=task_memory)
    return replace(the_plan, disk_free_bytes=shutil.disk_usage(os.getcwd()).free)


def train(
    model: str,
    data: DatasetLike,
    out: str | os.PathLike[str],
    *,
    epochs: int = 10,
    memory: int | None = None,
    workers: int | None = None,
    schedule: str = "sync",
    scheduler: str | None = None,
    seed: int = 0,
    valid: DatasetLike | None = None,
    patience: int | None = None,
    metric: str | None = None,
    settings: Mapping[str, Any] | None = None,
    task_memory: int | None = None,
    row_blocks: int | None = None,
    col_blocks: int | None = None,
    overwrite: bool = False,
    durable: bool = False,
    monitors: Sequence[Monitor] = (),
) -> Run:
    """Train a model on a dataset; everything it needs and makes is in the run at ``out``.

    Parameters
    ----------
    memory
        Bytes for the whole process tree on one host (default 2 GiB). With ``task_memory`` (default: an eighth) it
        decides the layout, and so the bits of the result; workers never do.
    workers
        Worker processes (default: as many as there are cores and memory for).
    schedule
        "sync" on Dask (the running client if there is one), or "serial" in this process.
    valid, patience, metric
        Score every epoch on this dataset, keep the best as a checkpoint, stop after ``patience`` epochs without
        a better one.
    monitors
        Called with every event (`oocml.engine.events`).
    """
    began = time.perf_counter()
    if schedule not in SCHEDULES:
        raise UsageError(f"no schedule {schedule!r}; there are {', '.join(SCHEDULES)}")
    if epochs < 1:
        raise UsageError(f"epochs is {epochs}; it must be at least 1")
    found, dataset = load_model(model), _dataset(data)
    problem, panels = make_problem(dataset, found, settings or {}, seed), PanelSizes.of(dataset)
    validation = None
    if valid is not None:
        validation = {
            "dataset": str(Path(_dataset(valid).path).absolute()),
            "metric": metric or DEFAULT_METRIC,
            "patience": patience,
        }
        higher_is_better(validation["metric"])
        if _dataset(valid).n_cols != dataset.n_cols:
            raise InputError(
                f"{_dataset(valid).path} has {_dataset(valid).n_cols} features, {dataset.path} has {dataset.n_cols}; "
                f"ingest it with --like {dataset.path}"
            )
    the_plan = _plan_workers(
        found,
        problem,
        panels,
        memory=memory or DEFAULT_MEMORY,
        workers=0 if schedule == "serial" else workers,
        task_memory=task_memory,
        pins=Pins(row_blocks, col_blocks),
    )
    run = begin_run(
        out,
        reference=model,
        model=found,
        problem=problem,
        dataset=dataset,
        plan=the_plan,
        epochs=epochs,
        schedule=schedule,
        validation=validation,
        overwrite=overwrite,
    )
    return _drive(run, the_plan, schedule, scheduler, monitors, durable=durable, began=began)


def resume(
    path: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    workers: int | None = None,
    memory: int | None = None,
    schedule: str | None = None,
    scheduler: str | None = None,
    monitors: Sequence[Monitor] = (),
    durable: bool = False,
) -> Run:
    """Finish an interrupted run's original epochs; with ``epochs`` add that many."""
    began = time.perf_counter()
    if epochs is not None and epochs < 1:
        raise UsageError(f"epochs is {epochs}; it must be at least 1")
    run = RunStore(path)
    if epochs is None and run.read_ledger().finished:
        return Run(path)
    found, config = load_model(run.model_reference), run.config
    schedule = schedule or config["schedule"]
    dataset = Dataset.open(config["dataset"])
    if (
        dataset.attrs.get("sha256") != config["dataset_sha256"]
        or dataset.n_rows != config["problem"]["n_rows"]
    ):
        raise InputError(
            f"{dataset.path} is not the dataset that {path} was begun on; restore it or train again"
        )
    from oocml.engine.context import problem_of

    the_plan = _plan_workers(
        found,
        problem_of(run),
        PanelSizes.of(dataset),
        memory=memory or config["memory"],
        workers=0 if schedule == "serial" else workers,
        task_memory=config["task_memory"],
        layout=Layout.from_dict(config["layout"]),
    )
    return _drive(
        run, the_plan, schedule, scheduler, monitors, durable=durable, began=began, more_epochs=epochs
    )


def _dataset(data: DatasetLike) -> Dataset:
    return data if isinstance(data, Dataset) else Dataset.open(data)


def _plan_workers(
    found: Any, problem: Any, panels: PanelSizes, *, workers: int | None, **options: Any
) -> Plan:
    """The plan for the given workers, or for as many as there are cores and memory for."""
    if workers is not None:
        return make_plan(found, problem, panels, workers=workers, **options)
    for n in range(os.cpu_count() or 1, 1, -1):
        try:
            return make_plan(found, problem, panels, workers=n, **options)
        except DoesNotFit:
            continue
    return make_plan(found, problem, panels, workers=1, **options)


@contextmanager
def _executor(
    run: RunStore, schedule: str, scheduler: str | None, n_workers: int
) -> Iterator[tuple[Executor, Client | None]]:
    reference, settings = run.model_reference, run.config["settings"]
    model = load_model(reference)
    if schedule == "serial":
        rehearse(model, settings)
        yield InProcess(), None
        return
    with ExitStack() as stack:
        client = running_client() if scheduler is None else stack.enter_context(remote_client(scheduler))
        if client is None:
            client = stack.enter_context(local_client(n_workers, reference, settings))
        yield OnDask(client, model.name), client


def _drive(
    run: RunStore,
    plan: Plan,
    schedule: str,
    scheduler: str | None,
    monitors: Sequence[Monitor],
    *,
    durable: bool,
    began: float,
    more_epochs: int | None = None,
) -> Run:
    from oocml.watch.dashboard import Dashboard, install

    with ExitStack() as stack:
        stack.enter_context(run.lock())
        sampler = stack.enter_context(MemorySampler())
        executor, client = stack.enter_context(_executor(run, schedule, scheduler, plan.workers))
        watching: list[Monitor] = [*monitors, sampler, JsonLines(run.path / "events.jsonl")]
        link = None
        if client is not None:
            link = install(client)
            watching.append(Dashboard(client))
            plan = replace(plan, workers=executor.n_workers)
        stack.callback(events.close, watching)
        driver = Driver(run, plan, executor, monitors=watching, durable=durable)
        ledger = driver.journal.ledger
        if more_epochs:
            ledger.segments.append(more_epochs)
        driver.validation = _validation(run, executor, plan)
        started = _started(driver, plan, link)
        emit(watching, started)
        startup = time.perf_counter() - began
        try:
            driver.train()
        except BaseException as error:
            executor.forget()
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
                objective=ledger.objective if ledger.objective is not None else float("nan"),
                peak_memory_bytes=int(totals["peak_memory_bytes"]),
            ),
        )
    return Run(run.path)


def _validation(run: RunStore, executor: Executor, plan: Plan) -> Validation | None:
    config = run.config.get("validation")
    if config is None:
        return None
    dataset = Dataset.open(config["dataset"])

    def score() -> dict[str, float]:
        return score_run(run, dataset, executor, checkpoint=None, memory=None, n_workers=max(1, plan.workers))

    return Validation(score, config["metric"], higher_is_better(config["metric"]), config["patience"])


def _started(driver: Driver, plan: Plan, link: str | None) -> events.RunStarted:
    problem, layout, ledger = driver.problem, driver.layout, driver.journal.ledger
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
        config=driver.run.config["settings"],
        dashboard=link,
        resumed_from=len(ledger.history) if ledger.incarnation else None,
    )
