"""One verb that goes the whole way on a real data set."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click

from oocml.cli import verb
from oocml.cli.bars import compiling
from oocml.cli.look import write_html
from oocml.cli.output import show_training
from oocml.cli.train import progress, resumable
from oocml.cli.verb import Verb, given

SPEC = "news20"
SETTINGS = {"l2": 1e-5}
TRANSFORM = "tfidf"


def say(text: str) -> None:
    click.echo(text, err=True)


@click.command(cls=Verb, show=show_training)
@click.option(
    "--to",
    default="oocml-quickstart",
    metavar="DIR",
    help="Where everything goes (default: oocml-quickstart).",
)
@click.option("--epochs", type=verb.POSITIVE, metavar="N", help="Epochs (default: 10).")
@verb.memory
@verb.workers
def quickstart(to: str, **options: Any) -> dict[str, Any]:
    """NEWS20 end to end: fetch, ingest, train, evaluate, report."""
    from oocml import api

    folder = Path(to)
    train_path, test_path = ingest_splits(folder)
    run_path = folder / "run.zarr"
    say(f"train: mlr on {train_path}")
    with resumable(str(run_path), new=True):
        run = api.train(
            "mlr",
            api.open_dataset(train_path),
            str(run_path),
            settings=SETTINGS,
            overwrite=True,
            monitors=progress(),
            **given(**options),
        )
    say(f"evaluate: on {test_path}")
    scores = run.evaluate(api.open_dataset(test_path))
    report_path = folder / "report.html"
    write_html(run, report_path)
    # Both have an objective: the run's own, on its training data, is the one that a quickstart compares.
    return {**scores, **run.summary(), "run": run_path, "report": report_path}


def ingest_splits(folder: Path) -> tuple[str, str]:
    """Fetch and ingest both parts of the data; return their paths."""
    from oocml import api
    from oocml.data.fetch import fetch
    from oocml.data.specs import load_spec

    spec = load_spec(SPEC)
    say(f"fetch: {spec.title}, to {folder / 'raw'}")
    fetch(spec, folder / "raw")
    paths = {split: str(folder / f"{split}.zarr") for split in ("train", "test")}
    # in a process of its own, or what compiling the reader took would count as the training's memory
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as aside:
        for split, path in paths.items():
            how = spec.ingest[split]
            say(f"ingest: {', '.join(how.files)} into {path}")
            fitted = {"transform": TRANSFORM} if split == "train" else {"like": paths["train"]}
            sources = [str(folder / "raw" / file) for file in how.files]
            options = {"overwrite": True, **fitted, **how.options}
            with compiling(["ingest", how.format]):
                aside.submit(api.ingest, how.format, sources, path, **options).result()
    return paths["train"], paths["test"]
