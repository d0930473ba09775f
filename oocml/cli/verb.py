"""What all verbs share: their options, how they print, and the types of their arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oocml.cli.output import reserved_stdout, show_values, to_json
from oocml.config import parse_size
from oocml.errors import InputError, UsageError

if TYPE_CHECKING:
    from oocml.run import Run


class Verb(click.Command):
    """A command whose function returns its JSON object.

    Parameters
    ----------
    show
        Prints the object for people, where ``--json`` isn't given.
    """

    def __init__(self, *args: Any, show: Callable[[Any], None] = show_values, **options: Any) -> None:
        super().__init__(*args, **options)
        self.show = show
        self.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object and nothing else."),
            click.Option(["--debug"], is_flag=True, help="Show a traceback when something fails."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        as_json = ctx.params.pop("as_json")
        ctx.params.pop("debug")  # read by main: it must hold for errors before this point, too
        with reserved_stdout():
            result = super().invoke(ctx)
        if as_json:
            click.echo(to_json(result))
        else:
            self.show(result)
        return result


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: the defaults of the others belong to the Python API."""
    return {name: value for name, value in options.items() if value is not None}


def open_run(path: str) -> Run:
    """A run to look at or to use; on standard error, what is beside one that has no epoch yet."""
    from oocml import api
    from oocml.store.replacing import kept_aside

    here = Path(os.path.abspath(path))
    gone = not here.exists()
    try:
        opened = api.open_run(path)
    except InputError as error:
        if (line := kept_aside(here)) is None:
            raise
        raise InputError(line if gone else f"{error}; {line}") from None
    if gone and here.exists():
        click.echo(
            f"note: {path} was to be replaced by a training that was killed; it has its name again", err=True
        )
    elif (line := kept_aside(here)) is not None:
        click.echo(f"note: {line}", err=True)
    return opened


class Size(click.ParamType):
    """A size in memory or on disk, with its unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_size(value)
        except UsageError as error:
            raise click.BadParameter(str(error), ctx, param) from None


class At(click.ParamType):
    """An epoch of a run: ``best``, ``last`` or its number."""

    name = "best|last|epoch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        if value in ("best", "last"):
            return str(value)
        if re.fullmatch(r"\d+", str(value)):
            return int(value)
        raise click.BadParameter(
            f"{value!r} is not an epoch; give best, last or an epoch's number", ctx, param
        )


class MoreEpochs(click.ParamType):
    """``+N``: epochs to add to those a run was started with."""

    name = "+N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if re.fullmatch(r"\+0*[1-9]\d*", value):
            return int(value)
        raise click.BadParameter(
            f"{value!r} is not +N; write +5 to add five epochs, or leave it out to finish the original count",
            ctx,
            param,
        )


class Whole(click.IntRange):
    """A whole number."""

    name = "whole number"


class AnyNumber(click.types.FloatParamType):
    """A number without bounds."""

    name = "number"


class Number(click.FloatRange):
    """A number within bounds."""

    name = "number"


SIZE = Size()
POSITIVE = Whole(min=1)
NATURAL = Whole(min=0)
SCHEDULES = click.Choice(["sync", "async", "serial"])

memory = click.option(
    "--memory", type=SIZE, help="Bound for the whole process tree on this host, for instance 700MiB or 2GiB."
)
workers = click.option(
    "--workers", type=POSITIVE, metavar="N", help="Workers (default: one per core that fits)."
)
seed = click.option("--seed", type=NATURAL, metavar="N", help="Of everything random (default: 0).")
at = click.option(
    "--at", type=At(), help="Which epoch's model: best, last or a number (default: best if there is one)."
)
overwrite = click.option("--overwrite", is_flag=True, default=None, help="Replace what is there.")
run_argument = click.argument("run", metavar="RUN.zarr")
data_argument = click.argument("data", metavar="DATA.zarr")
