"""Speed-up by workers, and what one slow worker costs: MF and FM, schedules sync (DSGD) and async (NOMAD).

    python -m pipelines.scaling --out DIR                        two minutes
    python -m pipelines.scaling --out DIR --full                 the sizes of the goals
    python -m pipelines.scaling --out DIR --only stragglers

Rates are updates (ratings; entries) committed per second once data and state are where they stay. In ``stragglers``
one of two workers is really stopped, by SIGSTOP and SIGCONT, for three quarters of every 150 ms.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from oocml.config import parse_size
from oocml.engine.cluster import local_client

from . import datasets
from .bench_options import n_cpus, say
from .datasets import Splits
from .sections import errors_in_one_line, run_sections
from .steady import Clock, Phase, Rate, Throttle, rate, train_for
from .table import Section

SPEED = 0.25
"""Of the slow worker."""
GOAL_SPEED_UP, GOAL_SHARE = 1.6, 0.85
TILE = (6666, 3334, 166)
"""Rows, columns and ratings per row of each tile of the planted ratings: about 60 ms of work."""
BLOCKS = 6
PANEL_BYTES = 2**21
"""Small ones, so that there are row blocks."""
STRAGGLERS = (("async", BLOCKS, 1), ("sync", BLOCKS, 1), ("sync", 2, 2))
"""Schedules, row and column blocks, and how much larger tiles are in each direction. DSGD as published has as many
blocks as workers, and so larger ones.
"""
N_FACTORS = 128
FM_SHAPE = {"rows": 40_000, "cols": 5000, "nnz_per_row": 1000.0}
FM_BLOCKS = (32, 6)
"""Four row blocks are at work at a time, and column blocks enough that they need not wait for each other's."""
FM_FACTORS = 128


class Job(NamedTuple):
    """Something to train, cut so that two workers with two tasks each always find some."""

    model: str
    data: Path
    row_blocks: int
    col_blocks: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Options:
    out: Path
    full: bool
    seconds: float
    """Of every measurement."""
    memory: int

    @property
    def data(self) -> Path:
        return self.out / "data"


def ratings_job(options: Options, blocks: int, scale: int = 1) -> Job:
    """Ratings whose tiles have the same size whatever their number, but for the scale."""
    rows, cols, per_row = (number * blocks * scale for number in TILE)
    shape = {"rows": rows, "cols": cols, "nnz_per_row": float(per_row)}
    splits = planted("ml_100k", options, task="factors", **shape)
    settings = {"n_factors": N_FACTORS, "learning_rate": 0.05}
    return Job("mf", splits.train, blocks, blocks, settings)


def machine_job(options: Options) -> Job:
    """Rows for a factorization machine, so dense that a task computes longer than it moves sums."""
    shape = {**FM_SHAPE, "rows": FM_SHAPE["rows"] * (3 if options.full else 1)}
    splits = planted("realsim", options, task="binary", **shape)
    return Job("fm", splits.train, *FM_BLOCKS, {"n_factors": FM_FACTORS})


def planted(spec: str, options: Options, **shape: Any) -> Splits:
    say(f"data: {shape['rows']} x {shape['cols']}")
    return datasets.planted(spec, options.data, panel_bytes=PANEL_BYTES, **shape)


def measure(job: Job, clock: Clock, schedule: str, options: Options) -> None:
    train_for(
        clock,
        job.model,
        job.data,
        options.out / "run.zarr",
        settings=job.settings,
        schedule=schedule,
        row_blocks=job.row_blocks,
        col_blocks=job.col_blocks,
        memory=options.memory,
    )


def speed_up(options: Options) -> Section:
    """Rates of one worker and of two, and where the rest of the time goes. With one, schedules are alike."""
    section = Section("speed_up", f"updates/s of one and two workers on {n_cpus()} cores")
    jobs = [ratings_job(options, BLOCKS), machine_job(options)]
    rates: dict[tuple[str, str, int], Rate] = {}
    for job in jobs:
        for n_workers in (1, 2):
            with local_client(n_workers, job.model, job.settings) as client, client.as_current():
                for schedule in ("sync", "async")[:n_workers]:
                    say(f"speed_up: {job.model}, {schedule}, {n_workers} workers")
                    clock = Clock("visit", [Phase("free", options.seconds)])
                    measure(job, clock, schedule, options)
                    found = rate(clock.commits, clock.of("free"), 1)
                    rates[job.model, schedule, n_workers] = found
                    section.rows.append(speed_row(job, schedule, n_workers, found))
    for (model, schedule, n_workers), found in rates.items():
        if n_workers == 2:
            by = found.per_s / rates[model, "sync", 1].per_s
            section.add(f"speed-up of two workers, {model} {schedule}", by, GOAL_SPEED_UP)
    section.notes.append(
        "busy: share of the workers' time in kernels; kernel_M_per_s: updates per second in them. What a speed-up "
        "lacks is lost in one (waiting) or the other (memory bandwidth, processors shared with the driver)"
    )
    return section


def speed_row(job: Job, schedule: str, n_workers: int, found: Rate) -> dict[str, Any]:
    time_of_all = found.seconds * n_workers
    return {
        "model": job.model,
        "schedule": schedule,
        "workers": n_workers,
        "blocks": f"{job.row_blocks} x {job.col_blocks}",
        "M_updates_per_s": found.per_s / 1e6,
        "kernel_M_per_s": found.updates / found.kernel_s / 1e6 if found.kernel_s else math.nan,
        "busy": found.kernel_s / time_of_all if time_of_all else math.nan,
        "waiting": found.wait_s / time_of_all if time_of_all else math.nan,
        "task_ms": 1000 * found.kernel_s / found.n_tasks if found.n_tasks else math.nan,
        "seconds": found.seconds,
    }


def stragglers(options: Options) -> Section:
    """Rates with one of two workers slowed down, against those with both at full speed."""
    title = f"one of two workers slowed to {SPEED:.0%}: rates of mf against those without"
    section = Section("stragglers", title)
    jobs = [ratings_job(options, blocks, scale) for _, blocks, scale in STRAGGLERS]
    with local_client(2, "mf", jobs[0].settings) as client, client.as_current():
        pids = client.run(os.getpid)
        slow = sorted(pids)[-1]
        for (schedule, blocks, _), job in zip(STRAGGLERS, jobs, strict=True):
            say(f"stragglers: {schedule}, {blocks} x {blocks} blocks")
            throttle = Throttle(pids[slow], SPEED)
            clock = Clock("visit", phases(options.seconds, throttle))
            try:
                measure(job, clock, schedule, options)
            finally:
                throttle.stop()
            row = straggler_row(schedule, blocks, clock, slow)
            section.rows.append(row)
            goal = GOAL_SHARE if schedule == "async" else None
            what = f"{schedule}, {blocks} x {blocks} blocks: share of the ideal rate"
            section.add(what, row["of_ideal"], goal)
    section.notes.append(
        f"ideal: what the fast worker and {SPEED:.0%} of the other one do, {(1 + SPEED) / 2:.3f} of the free rate; "
        f"where all wait for the slow worker, {SPEED / (1 + SPEED) * 2:.2f} of the ideal is left"
    )
    return section


def phases(seconds: float, throttle: Throttle) -> list[Phase]:
    """Free, slowed and free again, so that a drift of the machine hits both; in between nothing is measured."""
    pause = seconds / 3
    return [
        Phase("free", seconds / 2),
        Phase("pause", pause, throttle.start),
        Phase("slowed", seconds),
        Phase("pause", pause, throttle.stop),
        Phase("free", seconds / 2),
    ]


def straggler_row(schedule: str, blocks: int, clock: Clock, slow: str) -> dict[str, Any]:
    free, slowed = (rate(clock.commits, clock.of(name), blocks) for name in ("free", "slowed"))
    of_free = slowed.per_s / free.per_s
    return {
        "schedule": schedule,
        "blocks": f"{blocks} x {blocks}",
        "free_M_per_s": free.per_s / 1e6,
        "slowed_M_per_s": slowed.per_s / 1e6,
        "of_free": of_free,
        "of_ideal": of_free / ((1 + SPEED) / 2),
        "share_of_slow_worker": slowed.by_worker.get(slow, 0) / max(1, slowed.updates),
        "seconds_free": free.seconds,
        "seconds_slowed": slowed.seconds,
    }


SECTIONS: dict[str, Callable[[Options], Section]] = {"speed_up": speed_up, "stragglers": stragglers}


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("oocml-scaling"), help="Folder to write."
)
@click.option("--only", metavar="NAME[,NAME...]", help=f"Of {', '.join(SECTIONS)} (default: all).")
@click.option("--full", is_flag=True, help="The sizes of the goals: measurements of 60 s.")
@click.option("--seconds", type=float, help="Of every measurement (default: 4, with --full 60).")
@click.option("--memory", default="4GiB", help="Of a training (default: 4GiB).")
def main(out: Path, only: str | None, full: bool, seconds: float | None, memory: str) -> None:
    """Measure speed-up, and the cost of slow workers."""
    with errors_in_one_line():
        options = Options(out, full, seconds or (60.0 if full else 4.0), parse_size(memory))
        run_sections(SECTIONS, only, options)


if __name__ == "__main__":
    main()
