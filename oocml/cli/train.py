"""Verbs that train: plan, train, resume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import click

from oocml.cli import verb
from oocml.cli.output import show_training
from oocml.cli.verb import Verb, given
from oocml.config import parse_settings, split_settings
from oocml.engine.malloc import limit_malloc
from oocml.errors import OocmlError, UsageError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def options(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, in the order given."""
    return lambda function: reduce(lambda wrapped, option: option(wrapped), reversed(decorators), function)


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="One of the model's settings; may be repeated.",
)
task_memory = click.option(
    "--task-memory",
    type=verb.SIZE,
    help="Memory of one task; decides the layout (default: an eighth of --memory, or what is left for it).",
)
pins = options(
    click.option("--row-blocks", type=verb.POSITIVE, metavar="N", help="Pin the number of row blocks."),
    click.option("--col-blocks", type=verb.POSITIVE, metavar="N", help="Pin the number of column blocks."),
)
schedule = click.option(
    "--schedule",
    type=verb.SCHEDULES,
    help="sync: workers wait for each other; async: they don't; serial: one process without workers (default: sync).",
)
scheduler = click.option(
    "--scheduler", metavar="ADDR", help="A running Dask cluster (default: one is started here)."
)

how_long = options(
    click.option(
        "--epochs", type=verb.POSITIVE, metavar="N", help="Epochs (default: the model's, 10 to 200)."
    ),
    click.option(
        "--valid", metavar="TEST.zarr", help="Score every epoch on this dataset and keep the best one."
    ),
    click.option(
        "--patience",
        type=verb.POSITIVE,
        metavar="N",
        help="Stop after so many epochs without a better score.",
    ),
    click.option("--metric", metavar="NAME", help="The score that --valid compares."),
    verb.seed,
)
where = options(
    verb.memory,
    verb.workers,
    task_memory,
    pins,
    schedule,
    scheduler,
)


@click.command(cls=Verb)
@click.argument("model")
@click.argument("data", metavar="[DATA.zarr]", required=False)
@click.option("--spec", metavar="NAME", help="Plan for a data set that isn't here, from its spec.")
@verb.memory
@verb.workers
@task_memory
@pins
@click.option(
    "--schedule",
    type=verb.SCHEDULES,
    help="serial: plan one process without workers; sync and async have the same plan (default: sync).",
)
@settings_option
def plan(model: str, data: str | None, **options: Any) -> dict[str, Any]:
    """Predict memory, disk and I/O of a training before any work.

    MODEL is mlr, mf, fm, poly, lda, gmm or robirank, or path/to/file.py:Model.
    """
    if (data is None) == (options["spec"] is None):
        raise UsageError("give DATA.zarr or --spec NAME, and not both")
    from oocml import api

    dataset = None if data is None else api.open_dataset(data)
    model = model_of(model, dataset, options["spec"])
    settings = read_settings(model, options.pop("settings"))
    return api.plan(model, dataset, settings=settings, **given(**options)).to_dict()


@click.command(cls=Verb, show=show_training)
@click.argument("model")
@verb.data_argument
@verb.run_argument
@how_long
@where
@settings_option
@verb.overwrite
@click.option("--durable", is_flag=True, default=None, help="Survive power loss, too (fsync; slower).")
def train(model: str, data: str, run: str, **options: Any) -> dict[str, Any]:
    """Train MODEL on DATA.zarr and keep everything in RUN.zarr.

    MODEL is mlr, mf, fm, poly, lda, gmm or robirank, or path/to/file.py:Model. Ctrl-C leaves a run
    that `oocml resume` finishes.
    """
    limit_malloc()
    from oocml import api

    model = model_of(model, data)
    settings = read_settings(model, options.pop("settings"))
    if (valid := options.pop("valid")) is not None:
        options["valid"] = api.open_dataset(valid)
    with resumable(run, new=True):
        trained = api.train(
            model, api.open_dataset(data), run, settings=settings, monitors=progress(), **given(**options)
        )
    return trained.summary()


@click.command(cls=Verb, show=show_training)
@verb.run_argument
@click.option("--epochs", type=verb.MoreEpochs(), help="Add N epochs; without it, finish the original count.")
@verb.memory
@verb.workers
@click.option("--schedule", type=verb.SCHEDULES, help="As of train (default: the run's).")
@scheduler
def resume(run: str, **options: Any) -> dict[str, Any]:
    """Finish an interrupted run, or add epochs to a finished one."""
    limit_malloc()
    from oocml import api

    with resumable(run, new=False):
        resumed = api.resume(run, monitors=progress(), **given(**options))
    return resumed.summary()


def model_of(model: str, data: Any, spec: str | None = None) -> str:
    """The model that is meant, where a name stands for two."""
    from oocml.models.registry import BY_DATA

    if model not in BY_DATA:
        return model
    from oocml import api

    return api.model_of(model, data, spec)


def read_settings(model: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    """The model's settings of ``--set``, with the types of its defaults."""
    if not split_settings(pairs):
        return {}
    from oocml.models.registry import load_model

    return parse_settings(pairs, load_model(model).defaults(), model)


def progress() -> tuple[Any, ...]:
    """What follows a training on the terminal."""
    from oocml.watch.progress import console

    return (console(),)


@contextmanager
def resumable(run: str, *, new: bool) -> Iterator[None]:
    """Say after Ctrl-C what is left and how to go on; a ``new`` run takes the place of one that may be there."""
    before = _identity(run) if new else None
    try:
        yield
    except KeyboardInterrupt:
        left = _identity(run)
        if left is None:
            raise OocmlError(f"interrupted before {run} was made; nothing is left of it") from None
        if left == before:
            raise OocmlError(f"interrupted before {run} was replaced; it is as it was") from None
        from oocml.store.replacing import set_aside

        old = set_aside(Path(run))
        kept = f"; the run that it replaces is kept as {old} until it has an epoch" if old.exists() else ""
        raise OocmlError(f"interrupted; `oocml resume {run}` finishes the run{kept}") from None


def _identity(run: str) -> int | None:
    return os.stat(run).st_ino if os.path.exists(run) else None
