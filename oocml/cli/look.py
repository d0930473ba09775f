"""Verbs that look: report, info."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from oocml.cli import verb
from oocml.cli.output import show_training
from oocml.cli.verb import Verb
from oocml.errors import InputError

if TYPE_CHECKING:
    from oocml.run import Run


@click.command(cls=Verb, show=show_training)
@verb.run_argument
@click.option("--out", metavar="FILE.html", help="Write the report with its plots there, too.")
def report(run: str, out: str | None) -> dict[str, Any]:
    """What a run did, with predicted beside measured."""
    from oocml import api

    opened = api.open_run(run)
    summary = opened.summary()
    if out is not None:
        write_html(opened, out)
        summary = {**summary, "report": out}
    return summary


def write_html(run: Run, out: str | os.PathLike[str]) -> None:
    """Write a run's report with its plots; a run without its log of events is told from its ledger alone."""
    from oocml.watch.report import write_report

    log = run.path / "events.jsonl"
    known = {name: value for name, value in run.summary().items() if value is not None}
    write_report(known, run.history, log if log.exists() else (), out)


@click.command(cls=Verb)
@click.argument("path")
@click.option("--deep", is_flag=True, help="Read everything and compare checksums.")
def info(path: str, deep: bool) -> dict[str, Any]:
    """What a store is, what is in it, and whether it is whole."""
    from oocml import api
    from oocml.data.dataset import read_kind

    if not os.path.exists(path) and os.path.exists(f"{path}.partial"):
        raise InputError(
            f"{path} is not whole: {path}.partial is being made, or was left by an interrupted command; repeat that"
        )
    kind, attrs = read_kind(path)
    if kind == "dataset":
        return api.open_dataset(path).info(deep=deep)
    if kind == "run":
        return api.open_run(path).info(deep=deep)
    return {"kind": kind, "path": path, **attrs, **list_arrays(path)}


def list_arrays(path: str) -> dict[str, Any]:
    """Names, shapes and types of the arrays in an export or in predictions."""
    import zarr

    members = sorted(zarr.open_group(path, mode="r").members(max_depth=None))
    arrays = [
        {
            "name": name,
            "shape": list(member.shape),
            "dtype": str(member.dtype),
            "bytes": member.nbytes_stored(),
        }
        for name, member in members
        if isinstance(member, zarr.Array)
    ]
    return {"bytes": sum(array["bytes"] for array in arrays), "arrays": arrays}
