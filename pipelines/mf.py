"""Matrix factorization: NOMAD (schedule async) beside DSGD (sync) and one process, with several kinds of steps.

    python -m pipelines.mf --data TRAIN.zarr --test TEST.zarr --out DIR
    python -m pipelines.mf --out DIR --data-dir FILES             MovieLens 100K, and a planted set of 3 M ratings

Writes ``mf.csv``, a line per (dataset, method, number of epochs), and ``mf.png``, objective and test error against
time. Every line is a training of its own, from the start; its objective is exact, of the state it ended with. Seconds
go from the first dispatch to the last commit, with workers that are there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from oocml.config import parse_size
from oocml.errors import OocmlError, UsageError

from . import datasets, movielens
from .datasets import Splits
from .methods import Experiment, Method, Row, compare, last_lines, lengths
from .plots import Panel, curves
from .sections import errors_in_one_line
from .table import Finding, Section

SCHEDULES = ("serial", "sync", "async")
STEPS = ("adagrad", "nomad", "bold_driver", "inverse_sqrt")
SETS = ("ml_100k", "planted")
PLANTED = {"rows": 10_000, "cols": 5000, "nnz_per_row": 300.0}
PANEL_BYTES = {"ml_100k": 2**15, "planted": 2**20}
"""Small ones, so that there are row blocks to schedule."""
QUICK, FULL = (1,), (1, 2, 5)
"""Lengths of trainings up to 9 epochs; ten and a hundred times these come after them."""
SAME = 0.005
"""How much the schedules' test errors may differ, relatively."""
COLUMNS = (
    "dataset",
    "method",
    "row_blocks",
    "col_blocks",
    "epochs",
    "seconds",
    "objective",
    "rmse",
    "mae",
    "note",
)


def methods_of(
    schedules: Sequence[str], steps: Sequence[str], workers: int, blocks: int | None
) -> list[Method]:
    return [
        Method(
            name=f"{schedule} {step}",
            schedule=schedule,
            workers=0 if schedule == "serial" else workers,
            settings={"step": step},
            row_blocks=None if schedule == "serial" else blocks,
            col_blocks=None if schedule == "serial" else blocks,
        )
        for schedule in schedules
        for step in steps
    ]


def find_sets(names: Iterable[str], folder: Path, data_dir: Path | None, seed: int) -> list[Splits]:
    """What can be had of the data sets."""
    found = []
    for name in names:
        try:
            if name == "ml_100k":
                found.append(movielens.ratings(folder, data_dir, seed, PANEL_BYTES[name]))
            else:
                shape = {"panel_bytes": PANEL_BYTES[name], **PLANTED}
                found.append(datasets.planted("ml_100k", folder, task="factors", seed=seed, **shape))
        except OocmlError as error:
            click.echo(f"{name} left out: {error}", err=True)
    return found


def summary(rows: Sequence[Row]) -> Section:
    """The ends of all trainings, and how far apart schedules end."""
    section = Section("mf", "the longest training of every method", rows=last_lines(rows, COLUMNS))
    ends = {(row["dataset"], row["method"]): row for row in rows}
    for (name, method), row in ends.items():
        schedule, _, step = method.partition(" ")
        alone = ends.get((name, f"serial {step}"))
        if schedule != "serial" and alone is not None and row.get("rmse") and alone.get("rmse"):
            apart = abs(row["rmse"] / alone["rmse"] - 1)
            what = f"{name}: test RMSE of {method} apart from that of one process"
            section.findings.append(Finding(what, apart, SAME, at_least=False))
    return section


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Ratings of your own to train on.")
@click.option("--test", type=click.Path(exists=True, path_type=Path), help="Ratings to test on.")
@click.option("--set", "sets", multiple=True, type=click.Choice(SETS), help="Default: both.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Holds ml-100k/ml-100k.inter, got by hand.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("oocml-mf"), help="Folder to write.")
@click.option("--schedule", "schedules", multiple=True, type=click.Choice(SCHEDULES), help="Default: all.")
@click.option("--step", "steps", multiple=True, type=click.Choice(STEPS), help="Default: all.")
@click.option("--epochs", default=20, help="Of the longest training (default: 20).")
@click.option("--full", is_flag=True, help="More lengths of trainings.")
@click.option("--n-factors", default=64, help="Default: 64.")
@click.option("--l2", type=float, help="Default: the model's.")
@click.option(
    "--blocks", default=5, help="Of rows, and of columns, for sync and async (default: 5; 0: as planned)."
)
@click.option("--workers", default=2, help="For sync and async (default: 2).")
@click.option("--memory", default="2GiB", help="Of a training (default: 2GiB).")
@click.option("--seed", default=0)
def main(**given: Any) -> None:
    """Compare schedules and steps of matrix factorization."""
    with errors_in_one_line():
        run(**given)


def run(
    *,
    data: Path | None,
    test: Path | None,
    sets: tuple[str, ...],
    data_dir: Path | None,
    out: Path,
    schedules: tuple[str, ...],
    steps: tuple[str, ...],
    **given: Any,
) -> None:
    """Train by every method on every dataset, write the table and the plot."""
    if data is not None and sets:
        raise UsageError("give --data or --set, not both")
    if test is not None and data is None:
        raise UsageError("--test goes with --data")
    out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(
        model="mf",
        out=out,
        epochs=lengths(given["epochs"], FULL if given["full"] else QUICK),
        scores=("rmse", "mae"),
        options={"memory": parse_size(given["memory"]), "seed": given["seed"]},
        settings={"n_factors": given["n_factors"], "l2": given["l2"]},
    )
    found = (
        [Splits(data.stem, data, test)]
        if data is not None
        else find_sets(sets or SETS, out / "data", data_dir, given["seed"])
    )
    if not found:
        raise UsageError("no dataset could be had; give --data, or --data-dir with files got by hand")
    methods = methods_of(schedules or SCHEDULES, steps or STEPS, given["workers"], given["blocks"] or None)
    rows = compare(found, methods, experiment)
    panels = [Panel(splits.name, "seconds", y) for y in ("objective", "rmse") for splits in found]
    curves(rows, panels, experiment.plot, n_columns=len(found))
    summary(rows).show()
    click.echo(f"wrote {experiment.table} and {experiment.plot}")


if __name__ == "__main__":
    main()
