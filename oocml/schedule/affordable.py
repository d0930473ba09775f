"""What a task may take of memory by default, and the layout for that. Pure arithmetic.

It is a function of data, model and memory: workers and cores have no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

from oocml.errors import DoesNotFit
from oocml.models.protocol import Model, Problem
from oocml.schedule.cost import PanelSizes, panels_bytes
from oocml.schedule.crew import ALONE, APART, MIB, MOST_AT_ONCE, TASKS_AT_ONCE, TOGETHER, Crew
from oocml.schedule.layout import Layout
from oocml.schedule.panel_layout import UNPINNED, Pins, choose_panel_layout
from oocml.schedule.tile_layout import choose_tile_layout, epoch_seconds

USUAL_SHARE = 8
"""Of tasks in the memory of a training: four workers with two tasks each."""
CONSTANT_COPIES = 4
"""Arrays of length n_features a worker holds whatever it does (statistics and what a model derives from them); none of
models of tiles."""
CACHE_SHARE = 0.9
"""Of a worker's spare memory that caches may take."""
SMALL_DATA_SHARE = 0.15
"""Of what is left to two workers: data that takes no more than that is cached first."""
PREPARED_SHARE = 1.15
"""Bytes of a panel as kernels get it, to its bytes as stored (labels and row numbers may widen)."""
WORTH_IT = 0.6
"""An epoch's time with fewer and larger tasks, to that with smaller ones, at which there is something in it."""


def mib(n_bytes: float) -> str:
    """Rounded up, as messages have it."""
    return f"{math.ceil(n_bytes / MIB)}MiB"


def process_bytes(model: Model, problem: Problem, panels: PanelSizes, crew: Crew) -> tuple[int, int]:
    """Memory of the driver's side, and of each worker beside its tasks and caches."""
    constants = 0 if model.tiles else CONSTANT_COPIES * 8 * problem.n_features
    in_flight = crew.computing * panels_bytes(panels)
    return crew.driver_bytes + constants, crew.worker_bytes + constants + in_flight


def task_shares(
    memory: int, model: Model, problem: Problem, panels: PanelSizes, *, alone: bool = False
) -> tuple[int, ...]:
    """What a task may take of ``memory``, the best share first.

    The usual share is an eighth. Where so little memory leaves no room for two worker processes with two such tasks
    each, one worker in the driver's process has three tasks, two or one that share what there is. Last, if ``alone``,
    what one process without Dask has.
    """

    def left(crew: Crew, n: int) -> int:
        driver, worker = process_bytes(model, problem, panels, crew)
        return memory - driver - n * worker

    # a small dataset is left room in every worker's cache: it is read once per stripe
    cache = int(panels.bytes.sum() * PREPARED_SHARE / CACHE_SHARE) + MIB
    usual, beside = memory // USUAL_SHARE, left(APART, 2)
    if cache <= beside * SMALL_DATA_SHARE:
        beside -= 2 * cache
    shares = [usual] if usual <= beside // (2 * TASKS_AT_ONCE) else []
    shares += [left(TOGETHER._replace(at_once=n), 1) // n for n in range(MOST_AT_ONCE, 0, -1)]
    return (*shares, left(ALONE, 1)) if alone else tuple(shares)


def affordable_layout(
    model: Model,
    problem: Problem,
    panels: PanelSizes,
    memory: int,
    task_memory: int | None,
    pins: Pins,
    *,
    alone: bool,
) -> tuple[Layout, int]:
    """The layout for the task memory given, or else for the best share of ``memory`` in which something fits."""

    def attempt(*shares: int) -> tuple[Layout, int, int]:
        fitting: list[tuple[Layout, int, int]] = []
        for n, share in enumerate(shares, 1):
            if fitting and alone and n == len(shares):  # that of one process: only where no worker fits
                break
            layout, need = choose_layout(model, problem, panels, share, pins)
            if need <= share:
                fitting.append((layout, need, share))
                if not model.tiles:  # larger tasks pay only where tiles move the state of both their sides
                    break
        return _cheapest(model, problem, memory, fitting) if fitting else (layout, need, share)

    def shares(memory: int) -> tuple[int, ...]:
        return task_shares(memory, model, problem, panels, alone=alone)

    layout, need, share = attempt(*((task_memory,) if task_memory else shares(memory)))
    if need <= share:
        return layout, share
    processes = sum(process_bytes(model, problem, panels, ALONE if alone else TOGETHER))
    unpinned = pins != UNPINNED and choose_layout(model, problem, panels, share)[1] <= share

    def tried(size: int) -> tuple[bool, int]:
        _, need, share = attempt(*((size,) if task_memory else shares(size)))
        return need <= share, need

    least, need = _least(tried, task_memory or memory, (0 if task_memory else processes) + need)
    if task_memory:
        what = f"--task-memory is {mib(task_memory)} but the smallest task needs {mib(least)}; raise it"
    else:
        what = (
            f"the smallest task needs {mib(need)}, the process {mib(processes)}, but "
            f"--memory is {mib(memory)}; set --memory to {mib(least)} or more"
        )
    if not (alone or task_memory):
        serial = task_shares(memory, model, problem, panels, alone=True)[-1]
        if choose_layout(model, problem, panels, serial, pins)[1] <= serial:
            what += ", or use --schedule serial"
    if unpinned:
        given = (f"--{name.replace('_', '-')}" for name, count in asdict(pins).items() if count)
        what += f", or leave out {' and '.join(given)}"
    elif need > processes and not model.tiles:  # of tiles, columns are cut as narrow as they need be
        what += f", or use fewer than {problem.n_features:,} features"
    raise DoesNotFit(what)


def _least(tried: Callable[[int], tuple[bool, int]], too_small: int, guess: int) -> tuple[int, int]:
    """A size in whole MiB that does where one MiB less does not, and the need of a task then.

    ``tried`` tells both of a size. With more memory a layout also takes a little more, and much less where tasks may
    hold more: needs neither rise nor fall with sizes, so this may not be the very least.
    """
    high = max(math.ceil(guess / MIB), too_small // MIB + 1)
    fits, need = tried(high * MIB)
    while not fits:
        high += max(1, high // 50)
        fits, need = tried(high * MIB)
    low = too_small // MIB
    while high - low > 1:
        middle = (low + high) // 2
        fits, needed = tried(middle * MIB)
        low, high, need = (low, middle, needed) if fits else (middle, high, need)
    return high * MIB, need


def _cheapest(
    model: Model, problem: Problem, memory: int, fitting: Sequence[tuple[Layout, int, int]]
) -> tuple[Layout, int, int]:
    """The first of some layouts for ever larger tasks and fewer workers, unless a later one saves much of an epoch's
    time."""
    best, *others = fitting
    if not others:
        return best

    def seconds(layout: Layout) -> float:
        return epoch_seconds(model, problem, layout, memory=memory, at_once=1)

    least = seconds(best[0])
    for other in others:
        if seconds(other[0]) < WORTH_IT * least:
            best, least = other, seconds(other[0])
    return best


def choose_layout(
    model: Model, problem: Problem, panels: PanelSizes, task_memory: int, pins: Pins = UNPINNED
) -> tuple[Layout, int]:
    """The layout for the memory of a task, and the bytes of its largest task (more where nothing fits)."""
    if not model.tiles:
        return choose_panel_layout(model, problem, panels, task_memory, pins)
    return choose_tile_layout(
        model,
        problem,
        panels,
        task_memory,
        row_blocks=pins.row_blocks,
        col_blocks=pins.col_blocks,
        memory=task_memory * 2 * TASKS_AT_ONCE,
    )
