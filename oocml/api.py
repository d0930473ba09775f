"""The public functions: everything the command line does, for programs and notebooks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from oocml.config import parse_size
from oocml.data.dataset import Dataset
from oocml.engine.context import problem_of
from oocml.engine.events import EpochDone, Event, Monitor, Notice, RunDone, emit
from oocml.engine.judging import check_metric_name
from oocml.engine.start import begin_run, make_problem, problem_of_spec
from oocml.errors import InputError, NonFinite, OocmlError, UsageError
from oocml.models.protocol import Model, Problem
from oocml.models.registry import BY_DATA, load_model, of_data
from oocml.run import Run
from oocml.schedule.cost import PanelSizes
from oocml.schedule.layout import Layout
from oocml.schedule.panel_layout import Pins, unmet_pins
from oocml.schedule.plan import Plan
from oocml.store.replacing import bring_back, remove_leftovers
from oocml.store.run import RunStore, check_place
from oocml.training import (
    Session,
    Workplace,
    check_schedule,
    drive,
    make_ready,
    open_recorded,
    open_workplace,
    plan_workers,
    validation_config,
)

DEFAULT_MEMORY = 2 * 2**30
"""Not taken from the machine: the layout, and so the bits of a result, depend on it."""
DEFAULT_METRIC = "objective"

DatasetLike = Dataset | str | os.PathLike[str]


def open_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Open a dataset that `ingest` or `synth` wrote."""
    return Dataset.open(path)


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run that `train` wrote; one that a killed training left without its name gets it back."""
    with suppress(OSError, OocmlError):  # not where nothing can be written
        bring_back(Path(os.path.abspath(path)))
    return Run(path)


def ingest(
    format: str, sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], out: str, **options: Any
) -> dict[str, Any]:
    """Read files into a dataset store; see `oocml.data.ingest.ingest` for formats and options.

    With ``split``, ratings go into two of them: `oocml.data.split.ingest_split`.
    """
    if "split" in options:
        from oocml.data.split import ingest_split as run_ingest
    else:
        from oocml.data.ingest import ingest as run_ingest

    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    return run_ingest(format, several, out, **options)


def model_of(model: str, data: DatasetLike | None = None, spec: str | None = None) -> str:
    """The model that a name means for a dataset, or for one that only has a spec: some names stand for two."""
    if model not in BY_DATA or (data is None and spec is None):
        return model
    if data is not None:
        return of_data(model, queries=_dataset(data).n_queries > 0)
    from oocml.data.specs import load_spec

    assert spec is not None
    return of_data(model, queries=load_spec(spec).has_queries)


def plan(
    model: str,
    data: DatasetLike | None = None,
    *,
    memory: int | str = DEFAULT_MEMORY,
    workers: int | None = None,
    schedule: str = "sync",
    task_memory: int | str | None = None,
    row_blocks: int | None = None,
    col_blocks: int | None = None,
    spec: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Plan:
    """Predict memory, disk and I/O of a training, before any work.

    Parameters are those of `train`; "sync" and "async" have the same plan. ``spec`` names a data set that isn't here.

    Raises
    ------
    DoesNotFit
        With the numbers, and what would do.
    """
    check_schedule(schedule, workers=workers)
    found = load_model(model_of(model, data, spec))
    if spec is not None:
        from oocml.data.specs import load_spec

        problem, panels = problem_of_spec(load_spec(spec), found, settings or {}, seed)
    else:
        if data is None:
            raise UsageError("plan needs a dataset or a spec")
        dataset = _dataset(data)
        problem, panels = make_problem(dataset, found, settings or {}, seed), PanelSizes.of(dataset)
    asked = {
        "memory": parse_size(memory),
        "task_memory": task_memory and parse_size(task_memory),
        "pins": Pins(row_blocks, col_blocks),
    }
    the_plan = plan_workers(found, problem, panels, 0 if schedule == "serial" else workers, **asked)
    return replace(the_plan, disk_free_bytes=shutil.disk_usage(os.getcwd()).free)


def train(
    model: str,
    data: DatasetLike,
    out: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    memory: int | str | None = None,
    workers: int | None = None,
    schedule: str = "sync",
    scheduler: str | None = None,
    seed: int = 0,
    valid: DatasetLike | None = None,
    patience: int | None = None,
    metric: str | None = None,
    settings: Mapping[str, Any] | None = None,
    task_memory: int | str | None = None,
    row_blocks: int | None = None,
    col_blocks: int | None = None,
    overwrite: bool = False,
    durable: bool = False,
    monitors: Sequence[Monitor] = (),
) -> Run:
    """Train a model on a dataset; everything it needs and makes is in the run at ``out``.

    Parameters
    ----------
    epochs
        Default: the model's (`oocml.models.protocol.Model.epochs`).
    memory
        For the whole process tree on one host, in bytes or as "700MiB" (default 2 GiB). With ``task_memory``
        (default: a share of it) it decides the layout, and so the bits of the result; workers never do.
    workers
        Worker processes (default: as many as there are cores and memory for); not for a cluster of your own.
    schedule
        "sync" (DSGD: barriers, the same bits for any number of workers) or "async" (NOMAD: no barriers) on Dask,
        on the running client if there is one; or "serial" in this process.
    scheduler
        Address of a running Dask cluster; ``memory`` then bounds our share of each of its hosts.
    valid, patience, metric
        Score every epoch on this dataset, keep the best as a checkpoint, stop after ``patience`` epochs without
        a better one.
    overwrite
        Replace a run that is there. It is as it was if anything fails before all is ready to begin, or the data turn
        out not to be trainable in the first epoch; whatever else stops that epoch leaves it beside ``out``, under a
        name that ends in ``.partial-old``, until the epoch is done.
    durable
        Survive a power loss, too (slower).
    monitors
        Called with every event (`oocml.engine.events`).
    """
    session = Session(schedule, scheduler, workers, monitors, durable)
    _check_epochs(epochs)
    _check_validation(valid, patience, metric)
    dataset, validation = _dataset(data), None
    model = model_of(model, dataset)
    epochs = epochs or load_model(model).epochs
    problem = make_problem(dataset, load_model(model), settings or {}, seed)
    if valid is not None:
        check_metric_name(load_model(model), problem, metric or DEFAULT_METRIC)
        validation = validation_config(_dataset(valid), dataset, metric or DEFAULT_METRIC, patience)
    pins = Pins(row_blocks, col_blocks)
    sizes = {
        "memory": parse_size(memory or DEFAULT_MEMORY),
        "task_memory": task_memory and parse_size(task_memory),
    }
    asked = {**sizes, "pins": pins}
    kept = {"epochs": epochs, "schedule": schedule, "durable": durable, "validation": validation}
    kept["given"] = sorted(settings or {})
    bring_back(Path(os.path.abspath(out)))
    check_place(out, overwrite)
    _tell(monitors, load_model(model), problem)
    with open_workplace(session, model, problem, dataset, **asked) as place:
        for line in unmet_pins(pins, place.plan.layout):
            emit(monitors, Notice(line))
        run = _begin(out, place, model, problem, dataset, overwrite=overwrite, **kept)
        with run.lock(), _replacing(run, session, new=True) as watched:
            return drive(run, place, watched)


@contextmanager
def _replacing(run: RunStore, session: Session, *, new: bool) -> Iterator[Session]:
    """Keep the run that this one replaces until this one has an epoch; bring it back if the data can't be trained on.

    Yields the session to train it with. A run that is not ``new`` is withdrawn only if another one comes back.
    """

    def let_go(event: Event) -> None:
        if isinstance(event, EpochDone | RunDone):
            run.let_go()

    try:
        yield replace(session, monitors=[*session.monitors, let_go])
    except (InputError, NonFinite):
        if (new or run.replaced is not None) and not run.has_epoch:
            run.withdraw()
        raise
    finally:
        run.let_go()


def _begin(
    out: str | os.PathLike[str],
    place: Workplace,
    reference: str,
    problem: Problem,
    dataset: Dataset,
    **kept: Any,
) -> RunStore:
    return begin_run(
        out,
        reference=reference,
        model=load_model(reference),
        problem=problem,
        dataset=dataset,
        plan=place.plan,
        check=partial(make_ready, executor=place.executor),
        executor=place.executor,
        **kept,
    )


def resume(
    path: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    schedule: str | None = None,
    scheduler: str | None = None,
    monitors: Sequence[Monitor] = (),
    durable: bool | None = None,
) -> Run:
    """Finish an interrupted run's original epochs; with ``epochs`` add that many.

    Memory, schedule and durability are those the run was begun with, unless given.
    """
    _check_epochs(epochs)
    bring_back(Path(os.path.abspath(path)))
    run = RunStore(path)
    ledger = run.read_ledger()
    if epochs is None and ledger.finished:
        n = len(ledger.history)
        emit(monitors, Notice(f"nothing to do: all {n} epochs are done; --epochs +N adds some"))
        return Run(path)
    config = run.config
    if durable is None:
        durable = config.get("durable", False)
    session = Session(schedule or config["schedule"], scheduler, workers, monitors, durable)
    dataset = open_recorded(config["dataset"], config["dataset_sha256"], "dataset", run)
    if config["validation"] is not None:
        valid = config["validation"]
        open_recorded(valid["dataset"], valid["sha256"], "validation set", run)
    asked = {
        "memory": parse_size(memory or config["memory"]),
        "task_memory": config["task_memory"],
        "layout": Layout.from_dict(config["layout"]),
    }
    with run.lock(), open_workplace(session, run.model_reference, problem_of(run), dataset, **asked) as place:
        remove_leftovers(run.path)
        with _replacing(run, session, new=False) as watched:
            return drive(run, place, watched, more_epochs=epochs)


def _tell(monitors: Sequence[Monitor], model: Model, problem: Problem) -> None:
    """What a model says of data that it was probably not meant for."""
    notice = getattr(model, "notice", None)
    if notice is not None and (line := notice(problem)) is not None:
        emit(monitors, Notice(line))


def _check_epochs(epochs: int | None) -> None:
    if epochs is not None and not isinstance(epochs, int | np.integer):
        raise UsageError(f"epochs is {epochs!r}; give a whole number, as in epochs=2")
    if epochs is not None and epochs < 1:
        raise UsageError(f"epochs is {epochs}; it must be at least 1")


def _check_validation(valid: DatasetLike | None, patience: int | None, metric: str | None) -> None:
    for name, value in (("patience", patience), ("metric", metric)):
        if valid is None and value is not None:
            raise UsageError(f"{name} needs a dataset to score the epochs on; add valid (--valid TEST.zarr)")
    if patience is not None and patience < 1:
        raise UsageError(f"patience is {patience}; it must be at least 1 epoch")


def _dataset(data: DatasetLike) -> Dataset:
    return data if isinstance(data, Dataset) else Dataset.open(data)
