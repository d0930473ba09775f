"""Running the sections of a benchmark one after another."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from oocml.errors import OocmlError, UsageError

from .bench_options import Options, n_cpus
from .table import Section, write_csv


class HasFolder(Protocol):
    @property
    def out(self) -> Path:
        """Where tables go."""


Chosen = TypeVar("Chosen", bound=HasFolder)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Around the work of a command: say what went wrong in a line, and exit with the code of the error."""
    try:
        yield
    except OocmlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def run_sections(
    sections: Mapping[str, Callable[[Chosen], Section]], only: str | None, options: Chosen
) -> None:
    """Print and write every section, or those of a list with commas; one that fails is reported, the others still run.

    Raises
    ------
    UsageError
        A name that is none, before anything is run.
    OocmlError
        At the end, if any failed.
    """
    names = only.split(",") if only else list(sections)
    for name in names:
        if name not in sections:
            raise UsageError(f"no section {name!r}; there are {', '.join(sections)}")
    options.out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    click.echo(f"{n_cpus()} CPUs, load {load:.1f}, Python {platform.python_version()}, {platform.machine()}")
    findings, failed = [], []
    for name in names:
        try:
            section = sections[name](options)
        except OocmlError as error:
            click.echo(f"{name}: left out: {error}", err=True)
            failed.append(name)
            continue
        section.show()
        section.write(options.out)
        findings += [{"section": name, **finding.row()} for finding in section.findings]
    write_csv(findings, options.out / "findings.csv")
    click.echo(f"\nwrote {options.out}/*.csv")
    if failed:
        raise OocmlError(f"left out: {', '.join(failed)}")


def benchmark(
    what: str, sections: Mapping[str, Callable[[Options], Section]], *, folder: str, full: str, files: str
) -> click.Command:
    """The command of a benchmark of ``what``.

    Parameters
    ----------
    folder
        Where it writes, unless told.
    full
        What ``--full`` means.
    files
        What a folder of data got by hand holds.
    """

    @click.command(help=f"Measure {what}.")
    @click.option("--out", type=click.Path(path_type=Path), default=Path(folder), help="Folder to write.")
    @click.option("--only", metavar="NAME[,NAME...]", help=f"Of {', '.join(sections)} (default: all).")
    @click.option("--full", is_flag=True, help=full)
    @click.option("--repeats", type=click.IntRange(min=1), default=5, help="Timings per figure (default: 5).")
    @click.option("--data-dir", type=click.Path(path_type=Path), help=f"Holds {files}, got by hand.")
    @click.option("--memcap", metavar="PROGRAM", help="Runs PROGRAM LIMIT COMMAND under a memory limit.")
    def main(only: str | None, **given: Any) -> None:
        with errors_in_one_line():
            run_sections(sections, only, Options(**given))

    return main
