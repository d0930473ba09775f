"""The list of verbs, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Sequence

import click

from oocml import __version__
from oocml.cli import data, look, quickstart, score, train
from oocml.cli.output import to_json
from oocml.errors import DoesNotFit, InputError, OocmlError, UsageError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
BAD_PATH = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


class Verbs(click.Group):
    """Verbs in the order one uses them, rather than by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    if wanted:
        click.echo(__version__)
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
def app() -> None:
    """Train models that fit neither in memory nor on one machine: data and model are Zarr stores on disk.

    Exit codes: 0 done, 1 failed, 2 usage, 3 does not fit the memory or disk given, 4 bad or mismatched input.
    """


for command in (
    data.specs,
    data.fetch,
    data.synth,
    data.ingest,
    train.plan,
    train.train,
    train.resume,
    score.evaluate,
    score.predict,
    look.report,
    score.export,
    look.info,
    quickstart.quickstart,
):
    app.add_command(command)


def main() -> int:
    """The console script."""
    # SIGTERM ends a run as Ctrl-C does: resumable, with its workers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(sys.argv[1:])


def run(args: Sequence[str]) -> int:
    """Run one verb and return its exit code."""
    try:
        result = app.main(list(args), prog_name="oocml", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in args:
            traceback.print_exc()
        line, code = describe(error)
        click.echo(f"error: {line}", err=True)
        if "--json" in args:
            refused = {"fits": False} if isinstance(error, DoesNotFit) else {}
            click.echo(to_json({"error": line, "exit_code": code, **refused}))
        return code


def describe(error: BaseException) -> tuple[str, int]:
    """One line for people and an exit code."""
    if isinstance(error, OocmlError):
        return _one_line(error), error.exit_code
    if isinstance(error, click.ClickException):
        return _usage_line(error), UsageError.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted", OocmlError.exit_code
    if isinstance(error, MemoryError):
        return f"out of memory ({_one_line(error)}); lower --memory or --workers", DoesNotFit.exit_code
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        where = "" if error.filename is None else f": {error.filename}"
        return f"no space left on disk{where}; make room and run it again, or resume", DoesNotFit.exit_code
    if isinstance(error, BAD_PATH) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        hint = "; look at its permissions" if isinstance(error, PermissionError) else ""
        return f"{error.strerror or _one_line(error)}: {_place(error)}{hint}", InputError.exit_code
    fault = f"{type(error).__name__}: {_one_line(error)}"
    return f"{fault} (unexpected; --debug shows where)", OocmlError.exit_code


def _usage_line(error: click.ClickException) -> str:
    line = " ".join(error.format_message().split())
    ctx = getattr(error, "ctx", None)
    return f"{line.rstrip('.')}; see {ctx.command_path} --help" if ctx is not None else line


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _place(error: OSError) -> str:
    return str(error.filename) if error.filename is not None else "(no file named)"
