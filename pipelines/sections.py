"""Running the sections of a benchmark one after another."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import click

from oocml.errors import OocmlError, UsageError

from .bench_options import n_cpus
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
