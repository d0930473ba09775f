"""Verbs that look: report, info."""

from __future__ import annotations

import os
from typing import Any

import click

from oocml.cli import verb
from oocml.cli.verb import Verb
from oocml.errors import InputError


@click.command(cls=Verb)
@verb.run_argument
@click.option("--out", metavar="FILE.html", help="Write the report with its plots there, too.")
def report(run: str, out: str | None) -> dict[str, Any]:
    """What a run did, with predicted beside measured."""
    from oocml import api

    summary = api.open_run(run).summary()
    if out is not None:
        from oocml.watch.report import write_report

        write_report(run, out)
        summary = {**summary, "report": out}
    return summary


@click.command(cls=Verb)
@click.argument("path")
@click.option("--deep", is_flag=True, help="Read everything and compare checksums.")
def info(path: str, deep: bool) -> dict[str, Any]:
    """What a store is, what is in it, and whether it is whole."""
    from oocml import api
    from oocml.data.dataset import read_kind

    if not os.path.exists(path) and os.path.exists(f"{path}.partial"):
        raise InputError(
            f"{path} is not whole: making it was interrupted ({path}.partial); run the same command again"
        )
    kind, attrs = read_kind(path)
    if kind == "dataset":
        return api.open_dataset(path).info(deep=deep)
    if kind == "run":
        return api.open_run(path).info(deep=deep)
    return {"path": path, **attrs}
