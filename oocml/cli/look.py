"""Verbs that look: report, info."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oocml.cli import verb
from oocml.cli.output import show_run, show_training
from oocml.cli.verb import Verb
from oocml.errors import InputError, UsageError

if TYPE_CHECKING:
    from oocml.run import Run


def show_with_parts(summary: Mapping[str, Any], show: Callable[[Mapping[str, Any]], None]) -> None:
    """Print a summary, each part of a model that names its columns on a line."""
    from oocml.engine.summary import top_text

    parts = summary.get("top_columns") or {}
    lines = {
        what: [{**part, "top": top_text(part["top"])} for part in found] for what, found in parts.items()
    }
    show({name: value for name, value in summary.items() if name != "top_columns"} | lines)


@click.command(cls=Verb, show=partial(show_with_parts, show=show_training))
@verb.run_argument
@click.option("--out", metavar="FILE.html", help="Write the report with its plots there, too.")
def report(run: str, out: str | None) -> dict[str, Any]:
    """What a run did, with predicted beside measured."""
    if out is not None:
        check_report(out)
    opened = verb.open_run(run)
    summary = opened.summary() | parts_of(opened)
    if out is not None:
        write_html(opened, out)
        summary = {**summary, "report": out}
    return summary


def check_report(out: str) -> None:
    """Raise before any work if a report can't be written there, or would replace something else."""
    path = Path(os.path.abspath(out))
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"a report is a page of HTML: --out ends in .html, not {out!r}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give another name")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first")


def parts_of(run: Run) -> dict[str, Any]:
    """``top_columns``, where the run's model has them."""
    found = run.top_columns()
    return {"top_columns": found} if found else {}


def write_html(run: Run, out: str | os.PathLike[str]) -> None:
    """Write a run's report with its plots; a run without its log of events is told from its ledger alone."""
    from oocml.watch.report import write_report

    log = run.path / "events.jsonl"
    summary = run.summary() | parts_of(run)
    known = {name: value for name, value in summary.items() if value is not None}
    write_report(known, run.history, log if log.exists() else (), out)


@click.command(cls=Verb, show=partial(show_with_parts, show=show_run))
@click.argument("path")
@click.option("--deep", is_flag=True, help="Read everything and compare the checksums there are.")
def info(path: str, deep: bool) -> dict[str, Any]:
    """What a store is, what is in it, and whether it is whole."""
    from oocml import api
    from oocml.data.dataset import read_kind

    path = os.path.abspath(path)
    if not os.path.exists(path) and os.path.exists(f"{path}.partial"):
        raise InputError(
            f"{path} is not whole: {path}.partial is being made, or was left by an interrupted command; repeat that"
        )
    if not os.path.exists(path) and os.path.exists(f"{path}.partial-old"):
        verb.open_run(path)
    kind, attrs = read_kind(path)
    if kind == "dataset":
        return api.open_dataset(path).info(deep=deep)
    if kind == "run":
        opened = verb.open_run(path)
        told = opened.info(deep=deep)
        return told | parts_of(opened) if told["whole"] else told
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
