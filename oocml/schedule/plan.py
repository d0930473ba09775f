"""The plan: layout, memory and I/O predicted before any work, or refused. Pure arithmetic.

The layout is a function of data, model, settings and task memory. Workers change memory and time, never the layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from oocml.config import format_size
from oocml.errors import DoesNotFit
from oocml.models.protocol import Model, Problem
from oocml.schedule.affordable import (
    CACHE_SHARE,
    PREPARED_SHARE,
    affordable_layout,
    mib,
    process_bytes,
    task_shares,
)
from oocml.schedule.cost import PanelSizes, PassCost, Sizes, merging_bytes, pass_cost, preparing_bytes
from oocml.schedule.crew import MIB, SPARE_BLOCKS, TASKS_AT_ONCE, Crew, computing, crews
from oocml.schedule.layout import Layout, n_blocks
from oocml.schedule.panel_layout import UNPINNED, UPDATES_PER_S, Pins, largest_task
from oocml.schedule.residency import Residency, choose_residency
from oocml.schedule.tile_layout import DISK_BYTES_PER_S, epoch_elements

KEPT_BYTES = 16
"""What the run of a model of tiles keeps of each feature of the data."""
KEPT_ENTRY_BYTES, KEPT_ROW_BYTES = 4, 16
"""What the run of a model with rows of its own keeps of each entry and row of the data."""
KINDS = ("row", "col", "cell", "shared")


@dataclass(frozen=True)
class Plan:
    """What a training will take. All sizes in bytes."""

    layout: Layout
    memory: int
    """Bound for the whole process tree on one host."""
    workers: int
    """Dask workers; a single one is inside the driver's process, 0 means one process without Dask."""
    at_once: int
    """Tasks of a worker in memory at a time."""
    task_memory: int
    """Bound for the blocks of one task; decides the layout."""
    task_bytes: int
    panel_cache_bytes: int
    """Per worker."""
    cached_data_bytes: int
    """Data, as stored, that is read once only: what each worker keeps of panels, or all workers of tiles."""
    block_cache_bytes: int
    """Per worker."""
    bytes_per_worker: int
    bytes_total: int
    tasks_per_epoch: int
    read_bytes_per_epoch: int
    write_bytes_per_epoch: int
    model_bytes: int
    """All state arrays, one stamp each."""
    data_bytes: int
    disk_bytes: int
    """What the run may take on disk at its peak, with a checkpoint and blocks that are being replaced."""
    seconds_per_epoch: float
    """A cautious guess: kernels at 1.5 G updates/s per core, the store at 1 GB/s, whichever takes longer."""
    residency: Residency
    """What stays in memory from task to task."""
    tiles_bytes: int = 0
    """What the data takes once more, cut into tiles, beside the dataset; 0 for models of panels."""
    disk_free_bytes: int | None = None
    """Free where the plan was made, if someone looked."""

    @property
    def computing(self) -> int:
        """Tasks of a worker that compute at a time."""
        return computing(self.at_once)

    @property
    def all_in_one_process(self) -> bool:
        """Whether one process holds all state: then what is written soon again need not be written now."""
        return self.workers == 0 and self.block_cache_bytes >= self.model_bytes

    @property
    def advice(self) -> str | None:
        """What to do where the disk has no room."""
        if self.disk_free_bytes is None or self.disk_bytes <= self.disk_free_bytes:
            return None
        share = self.disk_free_bytes / self.disk_bytes
        return (
            f"the run needs {format_size(self.disk_bytes)} of disk, {format_size(self.disk_free_bytes)} are free here: "
            f"use another disk, or keep about {share:.0%} of the features"
        )

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``oocml plan --json``."""
        values = {k: v for k, v in asdict(self).items() if k not in ("layout", "residency")}
        layout = self.layout
        return {
            **values,
            "n_row_blocks": layout.n_row_blocks,
            "n_col_blocks": layout.n_col_blocks,
            "n_stripes": layout.n_stripes,
            "n_segments": layout.n_segments,
            "fits": self.advice is None,
            "advice": self.advice,
            "traversal": self.residency.traversal,
        }


def make_plan(
    model: Model,
    problem: Problem,
    panels: PanelSizes,
    *,
    memory: int,
    workers: int,
    at_once: int = TASKS_AT_ONCE,
    elsewhere: bool = False,
    task_memory: int | None = None,
    pins: Pins = UNPINNED,
    layout: Layout | None = None,
    advise: bool = True,
) -> Plan:
    """Choose a layout and predict what training takes; `DoesNotFit` if nothing fits.

    Parameters
    ----------
    layout
        The layout of an existing run, which nothing may change.
    workers
        Dask workers, 0 for a training without Dask. A single one is inside the driver's process.
    at_once
        Tasks that a worker in the driver's process has in memory at a time, or fewer where not as many fit.
    elsewhere
        Whether the workers are those of a cluster of the caller's own, in processes of theirs.
    task_memory
        Default: see `task_shares`.
    advise
        Whether a refusal says what would help; that is tried, and takes the time of some plans.
    """
    asked: dict[str, Any] = {
        "memory": memory,
        "workers": workers,
        "at_once": at_once,
        "elsewhere": elsewhere,
        "task_memory": task_memory,
        "pins": pins,
        "layout": layout,
    }
    attempt = partial(_attempt, model, problem, panels)
    try:
        return attempt(**asked)
    except _TooMany as refused:
        if not advise:
            raise
        raise DoesNotFit(f"{refused}; {' or '.join(_ways_out(attempt, asked, refused))}") from None


def _attempt(
    model: Model,
    problem: Problem,
    panels: PanelSizes,
    *,
    memory: int,
    workers: int,
    at_once: int,
    elsewhere: bool,
    task_memory: int | None,
    pins: Pins,
    layout: Layout | None,
) -> Plan:
    """The plan; `_TooMany` if the layout is affordable but the workers are not."""
    if layout is None:
        layout, task_memory = affordable_layout(
            model, problem, panels, memory, task_memory, pins, alone=not workers
        )
    task_memory = task_memory or task_shares(memory, model, problem, panels)[0]
    sizes = Sizes(model.state(problem), layout, problem, tiles=model.tiles)
    largest = largest_task(model, problem, layout)
    n = max(workers, 1)
    for crew in crews(workers, at_once, elsewhere=elsewhere):
        base, need = _needed(model, sizes, panels, largest, crew)
        if base + n * need <= memory:
            break
    else:
        raise _TooMany(workers, base, need, crew.at_once * largest, memory, task_memory)
    fixed = _never_written(model, problem)
    data_bytes = sizes.data_bytes() if model.tiles else int(panels.bytes.sum())
    model_bytes = sum(sizes.stored_bytes(name) for name in sizes.specs if name not in fixed)
    epoch = [pass_cost(pass_, sizes, fixed) for pass_ in model.epoch_passes(problem)]
    spare = (memory - base) // n - need
    if model.tiles:
        ahead = any(pass_.ahead for pass_ in model.epoch_passes(problem))
        panel_cache, residency = _tile_caches(epoch, sizes, spare, n, ahead)
        cached = min(data_bytes, n * panel_cache)
    else:
        panel_cache, residency = _panel_caches(data_bytes, model_bytes, spare)
        cached = _pinned_bytes(panels, panel_cache)
    read_bytes = sum(cost.data_scans * (data_bytes - cached) + residency.read_bytes(cost) for cost in epoch)
    write_bytes = sum(cost.write_bytes for cost in epoch)
    computing_s = _updates(model, problem, layout) / UPDATES_PER_S / (n * crew.computing)
    return Plan(
        layout=layout,
        memory=memory,
        workers=workers,
        at_once=crew.at_once,
        task_memory=task_memory,
        task_bytes=largest,
        panel_cache_bytes=panel_cache,
        cached_data_bytes=cached,
        block_cache_bytes=residency.cache_bytes,
        bytes_per_worker=need + panel_cache + residency.cache_bytes,
        bytes_total=base + n * (need + panel_cache + residency.cache_bytes),
        tasks_per_epoch=sum(cost.n_tasks for cost in epoch),
        seconds_per_epoch=max(computing_s, (read_bytes + write_bytes) / DISK_BYTES_PER_S),
        residency=residency,
        read_bytes_per_epoch=int(read_bytes),
        write_bytes_per_epoch=write_bytes,
        model_bytes=model_bytes,
        data_bytes=data_bytes,
        disk_bytes=_disk_bytes(sizes, fixed, n * crew.at_once),
        tiles_bytes=data_bytes if model.tiles else 0,
    )


class _TooMany(DoesNotFit):
    """Workers that don't fit with the layout there is."""

    def __init__(self, workers: int, base: int, need: int, tasks: int, memory: int, task_memory: int) -> None:
        n = max(1, workers)
        who = f"{n} workers need" if n > 1 else "1 worker needs" if workers else "one process needs"
        parts = f" ({mib(base)} driver, {n} x {mib(need)} for blocks, panels and process)" if workers else ""
        super().__init__(f"{who} {mib(base + n * need)}{parts} but --memory is {mib(memory)}")
        self.total, self.task_memory = base + n * need, task_memory
        self.fewer = min(n - 1, (memory - base) // need)
        self.left = (memory - base) // n - (need - tasks)
        """Of each worker, for tasks."""


def _ways_out(attempt: Callable[..., Plan], asked: Mapping[str, Any], refused: _TooMany) -> Iterator[str]:
    """What helps, each way tried."""

    def fits(**changes: int) -> bool:
        try:
            attempt(**{**asked, **changes})
        except DoesNotFit:
            return False
        return True

    memory, tasks = math.ceil(refused.total / MIB) * MIB, refused.task_memory // MIB * MIB
    if fits(memory=memory):
        yield f"set --memory to {mib(memory)}"
    elif asked["layout"] is None and fits(memory=memory, task_memory=tasks):
        yield f"set --memory to {mib(memory)} and --task-memory to {mib(tasks)}"
    else:
        yield "raise --memory"
    if asked["workers"] > 1 and not asked["elsewhere"]:
        few = next((n for n in (refused.fewer, 1) if n > 0 and fits(workers=n)), None)
        if few is not None:
            yield "use --workers 1" if few == 1 else f"use --workers {few} or fewer"
    elif asked["workers"] == 1 and not asked["elsewhere"] and fits(workers=0):
        yield "use --schedule serial"
    smaller = refused.left // (asked["at_once"] * MIB) * MIB
    if asked["layout"] is None and smaller > 0 and fits(task_memory=smaller):
        yield f"lower --task-memory to {mib(smaller)}"


def _needed(model: Model, sizes: Sizes, panels: PanelSizes, largest: int, crew: Crew) -> tuple[int, int]:
    """Memory of the driver's side, and of each worker with its tasks but without caches."""
    problem = sizes.problem
    driver, worker = process_bytes(model, problem, panels, crew)
    driver += merging_bytes((*model.epoch_passes(problem), *model.other_passes(problem)), sizes)
    working = crew.at_once * largest
    if model.tiles:
        n = max(crew.workers, 1)
        working = max(working, preparing_bytes(problem, panels, sizes.layout.n_col_blocks, n, crew.at_once))
    return driver, worker + working


def _tile_caches(
    epoch: Sequence[PassCost], sizes: Sizes, spare: int, workers: int, ahead: bool
) -> tuple[int, Residency]:
    """What each worker keeps of tiles, and of state: state is read once a task, a tile once an epoch."""
    prepared = sizes.prepared_bytes()
    residency = choose_residency(epoch, sizes, int(spare * CACHE_SHARE), workers, ahead)
    panel_cache = min(int((spare - residency.cache_bytes) * CACHE_SHARE), prepared)
    if panel_cache == prepared:
        residency = residency._replace(kinds=(*residency.kinds, "labels"))
    return panel_cache, residency


def _panel_caches(data_bytes: int, model_bytes: int, spare: int) -> tuple[int, Residency]:
    """What each worker keeps of panels, and of state where all of it fits."""
    panel_cache = min(int(spare * CACHE_SHARE), math.ceil(data_bytes * PREPARED_SHARE))
    block_cache = min(int((spare - panel_cache) * CACHE_SHARE), model_bytes)
    return panel_cache, Residency(KINDS if block_cache >= model_bytes else (), "col", block_cache)


def _pinned_bytes(panels: PanelSizes, cache: int) -> int:
    """Panels, as stored, that a cache has room for once they are prepared."""
    stored = np.cumsum(panels.bytes)
    fitting = int(np.searchsorted(np.ceil(stored * PREPARED_SHARE), cache, side="right"))
    return int(stored[fitting - 1]) if fitting else 0


def _disk_bytes(sizes: Sizes, fixed: frozenset[str], n_tasks: int) -> int:
    """What a run takes at its peak: what is exported also as a checkpoint, all else once, and twice where tasks are.

    Files of superseded blocks that wait to be used again are as many as the tasks that will.
    """
    problem, total = sizes.problem, 0
    n_replaced = max(n_tasks, SPARE_BLOCKS)
    for name, spec in sizes.specs.items():
        if name not in fixed:
            stored = sizes.stored_bytes(name)
            block = math.ceil(stored / max(1, n_blocks(spec, sizes.layout)))
            total += stored + (stored if spec.export else min(stored, n_replaced * block))
    if sizes.tiles:
        total += KEPT_BYTES * problem.n_features
        if any(spec.export and spec.kind == "row" for spec in sizes.specs.values()):
            total += KEPT_ENTRY_BYTES * problem.nnz + KEPT_ROW_BYTES * problem.n_rows
    return total


def _never_written(model: Model, problem: Problem) -> frozenset[str]:
    """State arrays that stay at their initial value, and so take no disk."""
    passes = (*model.epoch_passes(problem), *model.other_passes(problem))
    return frozenset(spec.name for spec in model.state(problem)).difference(*(p.writes for p in passes))


def _updates(model: Model, problem: Problem, layout: Layout) -> float:
    """Elementary updates of an epoch."""
    return (
        epoch_elements(model, problem, layout.n_col_blocks)
        if model.tiles
        else float(problem.nnz) * model.n_cols(problem)
    )
