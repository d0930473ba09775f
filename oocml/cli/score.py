"""Verbs that use a trained run: evaluate, predict, export. They change nothing in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from oocml.cli import verb
from oocml.cli.output import show_values
from oocml.cli.verb import Verb, given


@click.command(cls=Verb)
@verb.run_argument
@verb.data_argument
@click.option(
    "--per-query",
    is_flag=True,
    default=None,
    help="Ranking: what each query scores, too (of more than 131,072 queries, each of a random sample).",
)
@verb.at
@verb.memory
@verb.workers
def evaluate(run: str, data: str, **options: Any) -> dict[str, Any]:
    """Score a run's model on a dataset."""
    from oocml import api

    opened = verb.open_run(run)
    state = opened.state_at(options["at"])
    return {**state, **opened.evaluate(api.open_dataset(data), **given(**options))}


@click.command(cls=Verb)
@verb.run_argument
@verb.data_argument
@click.argument("out")
@click.option(
    "--top",
    type=verb.POSITIVE,
    metavar="N",
    help="Best classes, topics, components or items per row; default: 5 classes, all topics, 1 component, "
    "or for mf and robirank the pairs in DATA.",
)
@verb.at
@verb.memory
@verb.workers
@verb.overwrite
def predict(run: str, data: str, out: str, **options: Any) -> dict[str, Any]:
    """Write predictions: of each row, or with mf of each pair.

    They come in the order of the dataset's source. OUT ends in .zarr, or is text and ends in .txt or .tsv:

    \b
    model                  arrays in .zarr              a line of text
    mlr                    labels, scores               label:probability ...
    fm, poly, of labels    labels, scores               label:probability ...
    fm, poly, of numbers   values                       number
    lda                    proportions, with --top      topic:proportion ...
                           topics
    gmm                    components,                  component:share ...
                           responsibilities
    robirank, queries      values                       score
    mf, robirank           rows, columns, values        user TAB item TAB value
      with --top           columns, scores              user TAB item TAB value

    One line (or first index) is a row, of the last two a pair; with --top they are the best items that the user did
    not have in training, a line each. Names are written where the data has them.
    """
    from oocml import api

    opened = verb.open_run(run)
    state = opened.state_at(options["at"])
    return {**opened.predict(api.open_dataset(data), out, **given(**options)), **state}


def show_export(result: Mapping[str, Any]) -> None:
    """Print what `export` answers, scores before and after pruning side by side."""
    shown = dict(result)
    before, after = shown.pop("before", {}), shown.pop("after", {})
    scores = [{"score": name, "before": value, "after": after.get(name)} for name, value in before.items()]
    show_values({**shown, **({"scores": scores} if scores else {})})


@click.command(cls=Verb, show=show_export)
@verb.run_argument
@click.argument("out")
@click.option("--prune", type=verb.Number(min=0), help="Drop weights smaller than this.")
@click.option("--data", metavar="TEST.zarr", help="With --prune: print the scores on it before and after.")
@verb.at
@verb.overwrite
def export(run: str, out: str, data: str | None, **options: Any) -> dict[str, Any]:
    """Write a run's model as plain arrays.

    OUT ends in .zarr, or in .npz for numpy and scipy.
    """
    from oocml import api

    dataset = None if data is None else api.open_dataset(data)
    opened = verb.open_run(run)
    state = opened.state_at(options["at"])
    return {**opened.export(out, **given(data=dataset, **options)), **state}
