"""Benchmarks of DS-MLR against the machine, its own plan and scikit-learn, side by side in one run.

    python -m pipelines.bench_mlr                             everything, small: a few minutes
    python -m pipelines.bench_mlr --only kernel,time_to
    python -m pipelines.bench_mlr --full --memcap PROGRAM     the sizes of the goals; needs 30 GB of disk

Every section prints a table and writes a CSV file; figures with a goal go to a second one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import (
    bench_mlr_epoch,
    bench_mlr_ingest,
    bench_mlr_kernel,
    bench_mlr_memory,
    bench_mlr_steps,
    bench_mlr_time_to,
)
from .bench_options import Options
from .sections import errors_in_one_line, run_sections
from .table import Section

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
def main(only: str | None, **given: Any) -> None:
    """Measure DS-MLR."""
    with errors_in_one_line():
        run_sections(SECTIONS, only, Options(**given))


if __name__ == "__main__":
    main()
