"""Verbs that bring data in: specs, fetch, synth, ingest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from oocml.cli import verb
from oocml.cli.bars import compiling, stages
from oocml.cli.output import show_table
from oocml.cli.verb import Verb, given
from oocml.errors import UsageError

FORMATS = (
    *("libsvm", "xmc", "letor", "text", "docword", "ldac", "csv", "npy", "npz", "mtx", "anndata"),
    *("ratings", "ratings-matrix", "interactions"),
)
TRANSFORMS = ("none", "binary", "log1p", "tfidf")
SPEC_COLUMNS = ("name", "task", "rows", "test_rows", "cols", "classes", "nnz", "format", "needs")


def show_specs(result: Mapping[str, Any]) -> None:
    show_table(result["specs"], SPEC_COLUMNS)


@click.command(cls=Verb, show=show_specs)
def specs() -> dict[str, Any]:
    """List the data sets with a spec, their sizes and needs."""
    from oocml.data.specs import list_specs, load_spec

    return {"specs": [load_spec(name).summary() for name in list_specs()]}


@click.command(cls=Verb)
@click.argument("name")
@click.option("--to", metavar="DIR", help="Folder for the files (default: NAME, here).")
def fetch(name: str, to: str | None) -> dict[str, Any]:
    """Get a data set from where its spec says, checksums verified."""
    from oocml.data.fetch import fetch as fetch_files

    started = time.perf_counter()
    folder = to or Path(name).stem
    files = fetch_files(name, folder)
    return {
        "name": name,
        "to": folder,
        "files": [str(file) for file in files],
        "bytes": sum(file.stat().st_size for file in files),
        "seconds": time.perf_counter() - started,
    }


@click.command(cls=Verb)
@click.argument("name")
@click.argument("out", metavar="OUT.zarr")
@click.option("--rows", type=verb.POSITIVE, metavar="N", help="Rows (default: the spec's).")
@click.option("--cols", type=verb.POSITIVE, metavar="N", help="Features (default: the spec's).")
@click.option(
    "--task",
    type=click.Choice(["classification", "regression", "binary", "factors", "topics", "clusters"]),
    help="What to plant: classes, targets of a factorization machine, ratings, topics of documents, clusters of "
    "dense rows (default: the spec's task).",
)
@click.option(
    "--classes",
    type=verb.POSITIVE,
    help="Classes (default: the spec's), topics (64), clusters (16) or factors (8) to plant.",
)
@click.option(
    "--nnz-per-row",
    type=verb.Number(min=0, min_open=True),
    help="Mean entries a row (default: the spec's).",
)
@click.option(
    "--split", type=click.Choice(["train", "test"]), help="Same structure, other rows (default: train)."
)
@verb.seed
@verb.workers
@verb.overwrite
def synth(name: str, out: str, **options: Any) -> dict[str, Any]:
    """Make a stand-in of any size for a data set.

    It has the shape and the statistics of the spec, with something planted that its task can find.
    """
    check_out(out)
    from oocml.data.synth import synth as make

    with stages() as progress, compiling(["synth", options["task"] or name]):
        return make(name, out, progress=progress, **given(**options))


@click.command(cls=Verb)
@click.argument("format", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("paths", nargs=-1, metavar="SRC... OUT.zarr")
@click.option(
    "--like",
    metavar="TRAIN.zarr",
    help="Take columns, classes, index base and transform from this dataset; ratings: rows too.",
)
@click.option(
    "--transform",
    type=click.Choice(TRANSFORMS),
    help="Of the values; fitted values are kept (default: none).",
)
@click.option(
    "--max-bad", type=verb.NATURAL, metavar="N", help="Skip and count up to N bad lines (default: 0)."
)
@click.option(
    "--header",
    type=verb.NATURAL,
    metavar="N",
    help="text, csv, ratings*: lines to skip at the start of every file (csv, ratings: found out by default).",
)
@click.option(
    "--classes", type=click.Choice(["auto", "yes", "no"]), help="text: whether lines are `class TAB text`."
)
@click.option(
    "--encoding", metavar="NAME", help="text, ratings, interactions: of the files (default: utf-8)."
)
@click.option("--min-token", type=verb.POSITIVE, metavar="N", help="text: shortest word (default: 2).")
@click.option("--min-count", type=verb.POSITIVE, metavar="N", help="text: keep words seen at least so often.")
@click.option("--max-features", type=verb.POSITIVE, metavar="N", help="text: keep the most frequent words.")
@click.option(
    "--hashing", type=verb.POSITIVE, metavar="N", help="text: hash words to N columns, a power of 2."
)
@click.option("--n-cols", type=verb.POSITIVE, metavar="N", help="Columns to make, if more than occur.")
@click.option("--vocab", metavar="FILE", help="docword, ldac: a word a line; they name the columns.")
@click.option(
    "--y",
    metavar="NAME",
    help="npy, npz: file of the labels; anndata: column of obs; csv: column, by name or number from 1.",
)
@click.option(
    "--sep",
    metavar="TEXT",
    help="csv, ratings*, interactions: between fields; tab, space, or any other (default: found out).",
)
@click.option(
    "--columns",
    metavar="NAMES",
    help="ratings: names of the fields, as user,item,value,time; others than user, item, value are passed over.",
)
@click.option(
    "--threshold",
    type=verb.AnyNumber(),
    metavar="X",
    help="ratings: keep those of at least X, as interactions of value 1.",
)
@click.option(
    "--skip", type=verb.NATURAL, metavar="N", help="ratings-matrix: columns to pass over at the beginning."
)
@click.option(
    "--missing", type=verb.AnyNumber(), metavar="X", help="ratings-matrix: the number that means no rating."
)
@click.option(
    "--split",
    type=verb.Number(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="csv, docword, ldac, letor, libsvm, npy: draw this share of the rows for OUT.zarr, ratings*, "
    "interactions: of the entries; the others go to OUT-test.zarr.",
)
@click.option("--layer", metavar="NAME", help="anndata: layer to read (default: X).")
@click.option("--keep-order", is_flag=True, default=None, help="Do not deal rows to panels at random.")
@verb.seed
@verb.memory
@verb.workers
@verb.overwrite
def ingest(format: str, paths: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """Read text or array files into a dataset.

    SRC may be several files; OUT.zarr is the last argument. FORMAT is libsvm, xmc (of the Extreme Classification
    repository), letor, text, docword, ldac, csv, npy, npz, mtx, anndata, ratings, ratings-matrix or interactions.
    """
    if len(paths) < 2:
        raise UsageError("ingest needs at least one source and OUT.zarr; see oocml ingest --help")
    *sources, out = paths
    check_out(out)
    from oocml import api

    if format == "interactions":
        note_ratings(sources, options["sep"])
    with stages() as progress, compiling(["ingest", format]):
        return api.ingest(format, sources, out, progress=progress, **given(**options))


def check_out(out: str) -> None:
    """Raise `UsageError` for a dataset that would not be seen as one by its name."""
    if not out.rstrip("/").endswith(".zarr"):
        raise UsageError(f"the last argument is the dataset to write and ends in .zarr, not {out!r}")


def note_ratings(sources: Sequence[str], sep: str | None) -> None:
    """Say so where a file of interactions seems to be one of ratings."""
    from oocml.data.interactions_look import warning_of

    for source in sources:
        warning = warning_of(source, sep)
        if warning is not None:
            click.echo(f"note: {warning}", err=True)
            return
