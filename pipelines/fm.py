"""The experiments with factorization machines: row-wise steps on tiles, DS-FACTO's two tours, and libFM's plain SGD.

    python -m pipelines.fm --data TRAIN.zarr --test TEST.zarr --out DIR
    python -m pipelines.fm --out DIR --data-dir FILES       housing, diabetes, a9a, ijcnn1, realsim or their stand-ins

Writes ``fm.csv``, a line per (dataset, method, number of epochs), and ``fm.png``, objective against epochs and against
time, and the test error. Every line is a training of its own, from the start; its objective is exact, of the state it
ended with. Seconds go from the first dispatch to the last commit, with workers that are there already.

DS-FACTO steps columns from sums that are as old as the last synchronisation, once for every row block. It is stable for
one row block or a small step; methods with 4 and 16 row blocks show what else comes of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from oocml.config import parse_size
from oocml.errors import OocmlError, UsageError

from . import fm_sets
from .datasets import Splits
from .fm_sets import SOURCES
from .methods import Experiment, Method, Row, compare, last_lines, lengths
from .plots import Panel, curves
from .sections import errors_in_one_line
from .table import Finding, Section

ONE, FEW, MANY, LANES = (1, 1), (4, 4), (16, 4), (32, 4)
"""Row and column blocks; with the last, four row blocks are at work at a time."""


def method(
    name: str, blocks: tuple[int, int], schedule: str = "serial", workers: int = 0, **settings: Any
) -> Method:
    where = f", {schedule}, {workers} worker{'s' * (workers > 1)}" if workers else ""
    return Method(f"{name}, {blocks[0]} x {blocks[1]}{where}", schedule, workers, settings, *blocks)


DEFAULT = method("tiles", ONE)
METHODS = (
    DEFAULT,
    *(method("tiles", blocks) for blocks in (FEW, MANY)),
    method("libFM: plain SGD", ONE, step="constant"),
    *(method("ds-facto fused", blocks, solver="dsfacto") for blocks in (ONE, FEW, MANY)),
    *(method("ds-facto two-pass", blocks, solver="dsfacto", tour="two_pass") for blocks in (ONE, FEW, MANY)),
    method("tiles", LANES, "sync", 1),
    method("tiles", LANES, "sync", 2),
    method("tiles", LANES, "async", 2),
)
SMALL = ("housing", "diabetes")
"""Too small for workers: their tasks take microseconds."""
PANEL_BYTES = {"housing": 2**11, "diabetes": 2**11, "a9a": 2**16, "ijcnn1": 2**17, "realsim": 2**17}
"""Small ones, so that there are row blocks."""
SCORES = ("rmse", "log_loss", "accuracy", "auc")
SAME = 0.01
"""How much the solver's test error may depend on blocks, relatively."""
COLUMNS = ("dataset", "method", "row_blocks", "col_blocks", "epochs", "seconds", "objective", *SCORES, "note")
QUICK, FULL = (1,), (1, 2, 5)
"""Lengths of trainings up to 9 epochs; ten and a hundred times these come after them."""


def find_sets(names: Iterable[str], folder: Path, data_dir: Path | None, seed: int) -> list[Splits]:
    """What can be had of the data sets."""
    found = []
    for name in names:
        try:
            found.append(fm_sets.find(name, folder, data_dir, seed, PANEL_BYTES[name]))
        except OocmlError as error:
            click.echo(f"{name} left out: {error}", err=True)
    return found


def error_name(rows: Sequence[Row], dataset: str) -> str:
    """What is drawn of the test: root mean square error for numbers, log loss for labels."""
    return "log_loss" if any("log_loss" in row for row in rows if row["dataset"] == dataset) else "rmse"


def error_of(row: Row) -> float:
    """The test error of a line."""
    value = row.get("log_loss", row.get("rmse"))
    return math.nan if value is None else float(value)


def summary(rows: Sequence[Row]) -> Section:
    """The ends of all trainings; how far blocks and workers move the default solver's, and where others fail."""
    section = Section("fm", "the longest training of every method", rows=last_lines(rows, COLUMNS))
    ends = {(row["dataset"], row["method"]): row for row in rows}
    for (name, method), row in ends.items():
        alone = ends.get((name, DEFAULT.name))
        if alone is None or method == DEFAULT.name:
            continue
        apart = error_of(row) / error_of(alone) - 1
        if method.startswith("tiles"):
            what = f"{name}: test error of {method} above that of {DEFAULT.name}"
            section.findings.append(Finding(what, apart, SAME, at_least=False))
        elif not apart < 0.1:
            section.notes.append(
                f"{name}: {method} ends {apart:+.0%} from the default solver's test error"
                if math.isfinite(apart)
                else f"{name}: {method} does not get there: {row.get('note', 'it diverges')}"
            )
    return section


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="A training set of your own.")
@click.option("--test", type=click.Path(exists=True, path_type=Path), help="Its test set, made with --like.")
@click.option("--set", "sets", multiple=True, type=click.Choice(list(SOURCES)), help="Default: all.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Holds NAME/FILE, got by hand.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("oocml-fm"), help="Folder to write.")
@click.option("--method", "methods", multiple=True, help="Part of the names of methods (default: all).")
@click.option("--epochs", default=20, help="Of the longest training (default: 20).")
@click.option("--full", is_flag=True, help="More lengths of trainings.")
@click.option("--n-factors", default=8, help="Default: 8.")
@click.option("--learning-rate", type=float, help="Default: the model's.")
@click.option("--memory", default="2GiB", help="Of a training (default: 2GiB).")
@click.option("--seed", default=0)
def main(**given: Any) -> None:
    """Compare solvers of factorization machines."""
    with errors_in_one_line():
        run(**given)


def run(
    *,
    data: Path | None,
    test: Path | None,
    sets: tuple[str, ...],
    data_dir: Path | None,
    out: Path,
    methods: tuple[str, ...],
    **given: Any,
) -> None:
    """Train by every method on every dataset, write the table and the plot."""
    if data is not None and sets:
        raise UsageError("give --data or --set, not both")
    if test is not None and data is None:
        raise UsageError("--test goes with --data")
    chosen = [m for m in METHODS if not methods or any(part in m.name for part in methods)]
    if not chosen:
        raise UsageError(
            f"no method is called {methods[0]!r}; there are {'; '.join(m.name for m in METHODS)}"
        )
    out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(
        model="fm",
        out=out,
        epochs=lengths(given["epochs"], FULL if given["full"] else QUICK),
        scores=SCORES,
        options={"memory": parse_size(given["memory"]), "seed": given["seed"]},
        settings={"n_factors": given["n_factors"], "learning_rate": given["learning_rate"]},
    )
    found = (
        [Splits(data.stem, data, test)]
        if data is not None
        else find_sets(sets or SOURCES, out / "data", data_dir, given["seed"])
    )
    if not found:
        raise UsageError("no dataset could be had; give --data, or --data-dir with files got by hand")
    rows = compare(found, chosen, experiment, wanted)
    panels = [Panel(splits.name, x, "objective") for x in ("epochs", "seconds") for splits in found]
    panels += [Panel(splits.name, "seconds", error_name(rows, splits.name)) for splits in found]
    curves(rows, panels, experiment.plot, n_columns=len(found))
    summary(rows).show()
    click.echo(f"wrote {experiment.table} and {experiment.plot}")


def wanted(splits: Splits, method: Method) -> bool:
    return not (method.workers and splits.name in SMALL)


if __name__ == "__main__":
    main()
