"""What every section of a benchmark gets, and what they all do to measure fairly."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

Key = TypeVar("Key")


@dataclass(frozen=True)
class Options:
    out: Path
    """Tables go here, datasets and runs into folders below."""
    full: bool
    """The sizes of the goals rather than small ones."""
    repeats: int
    data_dir: Path | None
    """Holds NAME/train.svm, got by hand."""
    memcap: str | None
    """A program that runs a command under a memory limit: PROGRAM LIMIT COMMAND ..."""

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def scratch(self) -> Path:
        return self.out / "run.zarr"


def say(text: str) -> None:
    click.echo(text, err=True)


def n_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep this thread, those it starts, and BLAS and OpenMP to one CPU."""
    from threadpoolctl import threadpool_limits

    can_pin = hasattr(os, "sched_setaffinity")
    allowed = os.sched_getaffinity(0) if can_pin else set()
    with threadpool_limits(1):
        try:
            if can_pin:
                os.sched_setaffinity(0, {min(allowed)})
            yield
        finally:
            if can_pin:
                os.sched_setaffinity(0, allowed)


def interleaved(contenders: Mapping[Key, Callable[[], float]], repeats: int) -> dict[Key, list[float]]:
    """Figures of every contender, taken in turn, so that a slow spell of the machine hits all of them."""
    taken: dict[Key, list[float]] = {key: [] for key in contenders}
    for _ in range(repeats):
        for key, measure in contenders.items():
            taken[key].append(measure())
    return taken


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
