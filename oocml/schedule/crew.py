"""Who trains on a host: its processes, what they take beside tasks, and how many tasks are in memory at a time."""

from __future__ import annotations

from typing import NamedTuple

MIB = 2**20
TASKS_AT_ONCE = 2
"""Tasks a worker process has in memory at a time: one computes while the other reads or writes its blocks."""
MOST_AT_ONCE = 3
"""Of a worker inside the driver's process: two compute."""
SPARE_BLOCKS = 6
"""Of a state array, at most, that are superseded and whose files wait to be used again."""


class Crew(NamedTuple):
    """Processes of a training on one host, sizes in bytes as PSS where nothing else shares their libraries."""

    workers: int
    """Dask workers; 0 means one process without Dask."""
    driver_bytes: int
    """Driver, scheduler, dashboard and what workers are forked from."""
    worker_bytes: int
    """Of each worker beside blocks, panels and caches, once it has worked for a while."""
    at_once: int
    """Tasks of a worker in memory at a time."""

    @property
    def computing(self) -> int:
        """How many of them compute at a time."""
        return computing(self.at_once)


def computing(at_once: int) -> int:
    """Tasks that compute at a time, of so many in memory: all but one, which reads or writes its blocks meanwhile."""
    return max(1, at_once - 1)


ALONE = Crew(0, 190 * MIB, 0, 1)
"""One process without Dask."""
TOGETHER = Crew(1, 0, 260 * MIB, TASKS_AT_ONCE)
"""One worker in the driver's own process: nothing is taken twice."""
APART = Crew(2, 290 * MIB, 80 * MIB, TASKS_AT_ONCE)
"""Worker processes, forked from one that has loaded what they need."""


def crews(workers: int, at_once: int, *, elsewhere: bool = False) -> list[Crew]:
    """Those that so many workers may be, the best first.

    Parameters
    ----------
    at_once
        What a worker in the driver's process may have at most; it may do with less.
    elsewhere
        Whether the workers belong to a cluster of the caller's own.
    """
    if elsewhere or workers > 1:
        return [APART._replace(workers=workers)]
    return [TOGETHER._replace(at_once=n) for n in range(at_once, 0, -1)] if workers else [ALONE]
