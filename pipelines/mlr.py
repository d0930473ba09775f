"""The MLR experiments: DS-MLR, its finishing phase and its out-of-core baselines, beside scikit-learn's solvers.

    python -m pipelines.mlr --data TRAIN.zarr --test TEST.zarr --out DIR
    python -m pipelines.mlr --spec news20 --spec lshtc1_small@0.1 --out DIR
    python -m pipelines.mlr --out DIR                                   the rows of the table in the DS-MLR paper

Writes ``mlr.csv``, a line per (method, dataset, number of steps), and ``mlr.png``, objective against time. Every line
is a training of its own, from zero, with that many epochs or iterations; its objective is exact, of the state it ended
with. Seconds are ours from the first dispatch to the last commit, scikit-learn's of ``fit`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from oocml import api
from oocml.config import format_size, parse_size
from oocml.errors import OocmlError, UsageError

from . import datasets, softmax
from .datasets import Splits
from .methods import lengths
from .plots import objective_against_time
from .sections import errors_in_one_line
from .table import show_rows, write_csv
from .training import discard, measure

REAL = ("news20", "clef")
STAND_INS = {
    "lshtc1_small": 0.25,
    "lshtc1_large": 0.002,
    "odp": 2e-5,
    "youtube8m_video": 2e-5,
    "reddit_full": 2e-6,
}
"""The other rows of the thesis's table, each shrunk until an epoch takes about half a second on one core."""
OURS = ("ds", "ds+polish", "lbfgs", "lc")
THEIRS = ("newton-cg", "lbfgs", "saga", "sgd")
METHODS = (*OURS, *(f"sklearn-{name}" for name in THEIRS))
LIMIT_STEPS = 1024

Row = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """What is the same for every method and dataset."""

    out: Path
    l2: float
    epochs: int
    polish: int
    iterations: int
    budget_s: float
    memory: int
    options: Mapping[str, Any]
    """Of `oocml.train`."""

    def settings(self, method: str) -> dict[str, Any]:
        settings: dict[str, Any] = {"l2": self.l2}
        if method in ("lbfgs", "lc"):
            settings["solver"] = method
        return settings


def say(text: str) -> None:
    click.echo(text, err=True)


def run_ours(method: str, splits: Splits, experiment: Experiment) -> list[Row]:
    """Train anew with every number of epochs (iterations, Newton passes) in turn; a row for the end of each."""
    settings, rows = experiment.settings(method), []
    if method == "ds+polish":
        for n in range(1, experiment.polish + 1):
            rows += _train(splits, experiment, experiment.epochs, {**settings, "polish": n})
        return rows
    longest = experiment.iterations if method in ("lbfgs", "lc") else experiment.epochs
    for n_epochs in lengths(longest):
        rows += _train(splits, experiment, n_epochs, settings)
    return rows


def _train(splits: Splits, experiment: Experiment, epochs: int, settings: Mapping[str, Any]) -> list[Row]:
    run = experiment.out / "run.zarr"
    done = measure(splits.train, run, settings, epochs=epochs, memory=experiment.memory, **experiment.options)
    end = done.recorder.end
    if end is None:
        raise OocmlError(f"the training of {splits.name} in {run} did not end")
    row: Row = {"step": end.step, "polish": settings.get("polish"), "seconds": end.seconds}
    row |= {"objective": end.objective, "running": done.run.history[-1]["objective"], "passes": end.passes}
    row |= {"read_bytes": end.read_bytes, "write_bytes": end.write_bytes}
    if splits.test is not None:
        scores = done.run.evaluate(str(splits.test))
        row |= {name: scores[name] for name in ("accuracy", "f1_macro")}
    discard(run)
    return [row]


def run_theirs(solver: str, splits: Splits, experiment: Experiment) -> list[Row]:
    """Fit with 1, 2, 4 ... iterations until the solver converges or the next fit would exceed the budget."""
    dataset = api.open_dataset(splits.train)
    n_classes = 0 if dataset.labels is None else len(dataset.labels)
    need = softmax.bytes_needed(solver, dataset.n_rows, dataset.n_cols, n_classes, dataset.nnz)
    if need > experiment.memory:
        sizes = f"{format_size(need)} of {format_size(experiment.memory)}"
        raise UsageError(f"needs about {sizes}; give more --memory")
    problem = softmax.load(splits.train)
    test = softmax.load(splits.test, like=splits.train) if splits.test is not None else None
    rows: list[Row] = []
    max_iter, spent = 1, 0.0
    while max_iter <= LIMIT_STEPS:
        fit = softmax.fit(solver, problem, experiment.l2, max_iter)
        row: Row = {"step": fit.n_iter, "seconds": fit.seconds}
        if solver != "sgd":  # one-vs-rest logistic losses: another objective
            row["objective"] = softmax.objective(problem, experiment.l2, fit.model)
        if softmax.SOLVERS[solver].passes_per_step:
            row["passes"] = fit.n_iter * softmax.SOLVERS[solver].passes_per_step
        rows.append(row | (softmax.scores(test, fit.model) if test is not None else {}))
        spent += fit.seconds
        if fit.converged or spent + 2 * fit.seconds > experiment.budget_s:
            break
        max_iter *= 2
    return rows


def run_method(method: str, splits: Splits, experiment: Experiment) -> list[Row]:
    say(f"{splits.name}: {method}")
    try:
        if method.startswith("sklearn-"):
            rows = run_theirs(method.removeprefix("sklearn-"), splits, experiment)
        else:
            rows = run_ours(method, splits, experiment)
    except OocmlError as error:
        say(f"{splits.name}: {method} left out: {error}")
        rows = [{"note": str(error)}]
    return [{"dataset": splits.name, "method": method, "l2": experiment.l2, **row} for row in rows]


def find_splits(
    specs: Sequence[str], scale: float, folder: Path, data_dir: Path | None
) -> Iterable[Callable[[], Splits]]:
    """How to get each data set; a stand-in is asked for as NAME@SCALE."""
    for text in specs:
        name, at, own = text.partition("@")
        try:
            share = float(own) if at else None
        except ValueError:
            raise UsageError(f"{text!r}: the scale after @ is a number, for instance {name}@0.1") from None
        if share is None:
            yield lambda name=name: datasets.real(name, folder, data_dir)  # type: ignore[misc]
        else:
            yield lambda name=name, s=share * scale: datasets.stand_in(name, s, folder)  # type: ignore[misc]


def summarise(rows: Sequence[Row]) -> list[Row]:
    """The last line of every (dataset, method)."""
    last = {(row["dataset"], row["method"]): row for row in rows}
    names = ("dataset", "method", "step", "seconds", "objective", "accuracy", "f1_macro", "passes", "note")
    return [{name: row.get(name) for name in names} for row in last.values()]


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="A training set of your own.")
@click.option("--test", type=click.Path(exists=True, path_type=Path), help="Its test set, made with --like.")
@click.option("--spec", "specs", multiple=True, metavar="NAME[@SCALE]", help="A data set, or its stand-in.")
@click.option("--scale", default=1.0, help="Multiplies the size of every stand-in (default: 1).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Holds NAME/train.svm, got by hand.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("oocml-mlr"), help="Folder to write.")
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), help="Default: all.")
@click.option("--l2", default=1e-4, help="Default: 1e-4.")
@click.option("--epochs", default=10, help="Of DS-MLR (default: 10).")
@click.option("--polish", default=2, help="Newton passes tried after the epochs, from 1 (default: up to 2).")
@click.option("--iterations", default=30, help="Of L-BFGS and LC (default: 30).")
@click.option("--budget", default=30.0, help="Seconds of each scikit-learn solver (default: 30).")
@click.option("--schedule", type=click.Choice(["serial", "sync"]), default="serial")
@click.option("--workers", type=int, help="For sync.")
@click.option("--memory", default="2GiB", help="Of a training, and of a scikit-learn solver (default: 2GiB).")
@click.option("--seed", default=0)
def main(**given: Any) -> None:
    """Compare MLR methods on one or several datasets."""
    with errors_in_one_line():
        compare(**given)


def compare(
    *,
    data: Path | None,
    test: Path | None,
    specs: tuple[str, ...],
    scale: float,
    data_dir: Path | None,
    out: Path,
    methods: tuple[str, ...],
    **given: Any,
) -> None:
    """Run every method on every dataset, write the table and the plot."""
    if data is not None and specs:
        raise UsageError("give --data or --spec, not both")
    if test is not None and data is None:
        raise UsageError("--test goes with --data")
    out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(
        out=out,
        budget_s=given["budget"],
        memory=parse_size(given["memory"]),
        options={name: given[name] for name in ("schedule", "workers", "seed")},
        **{name: given[name] for name in ("l2", "epochs", "polish", "iterations")},
    )
    wanted = specs or (*REAL, *(f"{name}@{share:g}" for name, share in STAND_INS.items()))
    makers = (
        [lambda: Splits(data.stem, data, test)]
        if data is not None
        else list(find_splits(wanted, scale, out / "data", data_dir))
    )
    rows: list[Row] = []
    for make in makers:
        try:
            splits = make()
        except OocmlError as error:
            if specs:
                raise
            say(f"left out: {error}")
            continue
        warm_up(splits, experiment)
        for method in methods or METHODS:
            rows += run_method(method, splits, experiment)
            write_csv(rows, out / "mlr.csv")
    if not rows:
        raise UsageError("no dataset could be had; give --data, or --data-dir with files got by hand")
    objective_against_time(rows, out / "mlr.png")
    show_rows(summarise(rows))
    click.echo(f"wrote {out / 'mlr.csv'} and {out / 'mlr.png'}")


def warm_up(splits: Splits, experiment: Experiment) -> None:
    """Compile, or load, the kernels before anything is timed."""
    settings = {**experiment.settings("ds"), "polish": 1}
    options = {"memory": experiment.memory, **experiment.options, "schedule": "serial", "workers": None}
    measure(splits.train, experiment.out / "run.zarr", settings, epochs=1, **options)
    discard(experiment.out / "run.zarr")


if __name__ == "__main__":
    main()
