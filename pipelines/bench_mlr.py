"""Benchmarks of DS-MLR against the machine, its own plan and scikit-learn, side by side in one run.

    python -m pipelines.bench_mlr                             everything, small: a few minutes
    python -m pipelines.bench_mlr --only kernel,time_to
    python -m pipelines.bench_mlr --full --memcap PROGRAM     the sizes of the goals; needs 30 GB of disk

Every section prints a table and writes a CSV file; figures with a goal go to a second one.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from oocml.errors import OocmlError, UsageError

from . import (
    bench_mlr_epoch,
    bench_mlr_ingest,
    bench_mlr_kernel,
    bench_mlr_memory,
    bench_mlr_steps,
    bench_mlr_time_to,
)
from .bench_options import Options, n_cpus
from .table import Section, write_csv

SECTIONS: dict[str, Callable[[Options], Section]] = {
    "kernel": bench_mlr_kernel.run,
    "epoch": bench_mlr_epoch.run,
    "out_of_core": bench_mlr_memory.run,
    "time_to": bench_mlr_time_to.run,
    "steps": bench_mlr_steps.run,
    "ingest": bench_mlr_ingest.run,
}


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("oocml-bench-mlr"), help="Folder to write."
)
@click.option("--only", metavar="NAME[,NAME...]", help=f"Of {', '.join(SECTIONS)} (default: all).")
@click.option("--full", is_flag=True, help="The sizes of the goals.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, help="Timings per figure (default: 5).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Holds NAME/train.svm, got by hand.")
@click.option("--memcap", metavar="PROGRAM", help="Runs PROGRAM LIMIT COMMAND under a memory limit.")
def main(**given: Any) -> None:
    """Measure DS-MLR."""
    try:
        bench(**given)
    except OocmlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def bench(*, only: str | None, **given: Any) -> None:
    """Run sections; one that fails is reported, and the others still run."""
    names = only.split(",") if only else list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            raise UsageError(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    options = Options(**given)
    options.out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    click.echo(f"{n_cpus()} CPUs, load {load:.1f}, Python {platform.python_version()}, {platform.machine()}")
    findings, failed = [], []
    for name in names:
        try:
            section = SECTIONS[name](options)
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


if __name__ == "__main__":
    main()
