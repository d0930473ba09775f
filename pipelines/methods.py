"""Methods that experiments compare: settings, schedule and blocks; and the lines that trainings leave in a table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from oocml.engine.cluster import local_client
from oocml.errors import OocmlError

from .datasets import Splits
from .table import write_csv
from .training import Measured, discard, measure

Row = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """How to train; all other things are the same for every method of an experiment."""

    name: str
    schedule: str = "serial"
    workers: int = 0
    """Worker processes, 0 for none."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    row_blocks: int | None = None
    col_blocks: int | None = None

    def options(self) -> dict[str, Any]:
        """Of `oocml.train`."""
        return {"schedule": self.schedule, "row_blocks": self.row_blocks, "col_blocks": self.col_blocks}


@dataclass(frozen=True)
class Experiment:
    """What is the same for every method."""

    model: str
    out: Path
    epochs: Sequence[int]
    """Lengths to train for, each from the start."""
    scores: tuple[str, ...]
    """Metrics of the test set that get a column."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `oocml.train`."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> Path:
        return self.out / f"{self.model}.csv"

    @property
    def plot(self) -> Path:
        return self.out / f"{self.model}.png"

    @property
    def scratch(self) -> Path:
        return self.out / "run.zarr"


def lengths(longest: int, firsts: Sequence[int] = (1, 2, 5)) -> list[int]:
    """1, 2, 5, 10, 20, 50 ... and the longest."""
    steps = (round(first * 10**power) for power in range(6) for first in firsts)
    return [*(n for n in steps if n < longest), longest]


@contextlib.contextmanager
def cluster(n_workers: int, model: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Worker processes that trainings in the block use; none for 0."""
    if not n_workers:
        yield
        return
    with local_client(n_workers, model, dict(settings)) as client, client.as_current():
        yield


def compare(
    sets: Iterable[Splits],
    methods: Sequence[Method],
    experiment: Experiment,
    wanted: Callable[[Splits, Method], bool] | None = None,
) -> list[Row]:
    """Train by every method on every dataset, for every length; the table is written after each method.

    Methods with as many workers use the same ones, which have been warmed up. Pairs that are not ``wanted`` are left
    out.
    """
    rows: list[Row] = []
    sets = list(sets)
    for n_workers in dict.fromkeys(method.workers for method in methods):
        with cluster(n_workers, experiment.model, experiment.settings):
            for splits in sets:
                chosen = [m for m in methods if m.workers == n_workers and (not wanted or wanted(splits, m))]
                for method in chosen[:1]:
                    train(splits, method, experiment, 1)
                for method in chosen:
                    rows += lines(splits, method, experiment)
                    write_csv(rows, experiment.table)
    return rows


def lines(splits: Splits, method: Method, experiment: Experiment) -> list[Row]:
    """One line for each length; where a training fails, one that says why, and no longer ones."""
    click.echo(f"{splits.name}: {method.name}", err=True)
    known = {
        "dataset": splits.name,
        "method": method.name,
        "schedule": method.schedule,
        "workers": method.workers,
    }
    rows: list[Row] = []
    for n_epochs in experiment.epochs:
        try:
            row = train(splits, method, experiment, n_epochs)
        except OocmlError as error:
            click.echo(f"{splits.name}: {method.name} left out: {error}", err=True)
            discard(experiment.scratch)
            return [*rows, {**known, "epochs": n_epochs, "note": str(error)}]
        rows.append({**known, **row})
    return rows


def train(splits: Splits, method: Method, experiment: Experiment, n_epochs: int) -> Row:
    """Train from the start, and score."""
    done = measure(
        splits.train,
        experiment.scratch,
        {**experiment.settings, **method.settings},
        model=experiment.model,
        epochs=n_epochs,
        **experiment.options,
        **method.options(),
    )
    row = line_of(done, n_epochs)
    if splits.test is not None:
        scores = done.run.evaluate(str(splits.test))
        row |= {name: scores[name] for name in experiment.scores if name in scores}
    discard(experiment.scratch)
    return row


def line_of(done: Measured, n_epochs: int) -> Row:
    layout = done.summary["config"]["layout"]
    return {
        "row_blocks": len(layout["row_bounds"]) - 1,
        "col_blocks": len(layout["col_bounds"]) - 1,
        "epochs": n_epochs,
        "seconds": done.seconds,
        "objective": done.objective,
        "M_updates_per_s": done.summary["updates_per_s"] / 1e6,
        "read_bytes": done.summary["read_bytes"],
        "write_bytes": done.summary["write_bytes"],
    }


def last_lines(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Row]:
    """Some columns of the last line of every (dataset, method)."""
    last = {(row["dataset"], row["method"]): row for row in rows}
    return [{name: row.get(name) for name in names} for row in last.values()]
