"""The plan: layout, memory and I/O predicted before any work, or refused. Pure arithmetic.

The layout is a function of data, model, settings and task memory. Workers change memory and time, never the layout.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oocml.errors import DoesNotFit
from oocml.models.protocol import Model, Pass, Problem
from oocml.schedule.cost import PanelSizes, PassCost, Sizes, pass_cost, task_bytes
from oocml.schedule.layout import Layout, even_bounds, group_bounds

MIB = 2**20
DRIVER_BYTES = 300 * MIB
"""Driver, scheduler, dashboard and the process workers are forked from, as PSS (measured; `docs/design.md`)."""
WORKER_BYTES = 25 * MIB
"""What one worker process adds before its first task, as PSS: it shares most pages with its parent."""
ALONE_BYTES = 190 * MIB
"""One process that trains without Dask."""
TASKS_AT_ONCE = 2
"""Tasks a worker process runs at a time: one computes while the other reads or writes its blocks."""
CONSTANT_COPIES = 4
"""Arrays of length n_features a worker holds whatever it does (statistics and what a model derives from them)."""
CACHE_SHARE = 0.75
"""Of a worker's spare memory that caches may take."""
SMALL_DATA_SHARE = 0.1
PREPARED_SHARE = 1.25
"""Bytes of a panel as kernels get it, to its bytes as stored (labels and row numbers may widen)."""

UPDATES_PER_S = 1.5e9
"""A cautious kernel rate, used only to size tasks."""
MIN_TASK_S, MAX_TASK_S = 0.1, 30.0
PARALLEL_STRIPES = 4
MIN_STRIPE_COLS = 32
ROW_BLOCK_BYTES = 4 * MIB


@dataclass(frozen=True)
class Plan:
    """What a training will take. All sizes in bytes."""

    layout: Layout
    memory: int
    """Bound for the whole process tree on one host."""
    workers: int
    """Worker processes; 0 means one process without Dask."""
    task_memory: int
    """Bound for the blocks of one task; decides the layout."""
    task_bytes: int
    panel_cache_bytes: int
    """Per worker."""
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
    """What the run may take on disk at its peak: all state at two stamps."""

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``oocml plan --json``."""
        values = {name: value for name, value in asdict(self).items() if name != "layout"}
        layout = self.layout
        return {
            **values,
            "n_row_blocks": layout.n_row_blocks,
            "n_col_blocks": layout.n_col_blocks,
            "n_stripes": layout.n_stripes,
            "n_segments": layout.n_segments,
            "fits": True,
            "traversal": "columns resident, rows streamed",
        }


@dataclass(frozen=True)
class Pins:
    """Block counts fixed by hand, for tests and experiments."""

    row_blocks: int | None = None
    col_blocks: int | None = None


def make_plan(
    model: Model,
    problem: Problem,
    panels: PanelSizes,
    *,
    memory: int,
    workers: int,
    task_memory: int | None = None,
    pins: Pins = Pins(),
    layout: Layout | None = None,
) -> Plan:
    """Choose a layout and predict what training takes; `DoesNotFit` if nothing fits.

    Parameters
    ----------
    layout
        The layout of an existing run, which nothing may change.
    workers
        Worker processes, 0 for a training in one process.
    task_memory
        Default: an eighth of ``memory``, the share of four workers with two tasks each; less where the processes
        themselves take so much that two workers would not fit.
    """
    task_memory = task_memory or default_task_memory(memory, problem.n_features, int(panels.bytes.sum()))
    layout = layout or choose_layout(model, problem, panels, task_memory, pins)
    sizes = Sizes(model.state(problem), layout, problem)
    passes = (*model.epoch_passes(problem), *model.other_passes(problem))
    largest = max(task_bytes(pass_, sizes, panels) for pass_ in passes)
    constants = CONSTANT_COPIES * 8 * problem.n_features
    base, per_worker = (DRIVER_BYTES, WORKER_BYTES) if workers else (ALONE_BYTES, 0)
    base += constants
    n = max(workers, 1)
    at_once = TASKS_AT_ONCE if workers else 1
    need = at_once * largest + constants + per_worker
    if base + n * need > memory:
        raise DoesNotFit(
            f"{n} worker{'s' * (n > 1)} need {_mib(base + n * need)} ({_mib(base)} driver, {n} x {_mib(need)}: "
            f"{at_once} x {_mib(largest)} blocks, {_mib(need - at_once * largest)} process) but --memory is {_mib(memory)}; raise --memory, "
            f"use fewer --workers, or lower --task-memory (now {_mib(task_memory)})"
        )
    spare = (memory - base) // n - need
    data_bytes, model_bytes = int(panels.bytes.sum()), sum(map(sizes.stored_bytes, sizes.specs))
    panel_cache = min(int(spare * CACHE_SHARE), int(data_bytes * PREPARED_SHARE))
    block_cache = min(int((spare - panel_cache) * CACHE_SHARE), model_bytes)
    epoch = [pass_cost(pass_, sizes, panels) for pass_ in model.epoch_passes(problem)]
    return Plan(
        layout=layout,
        memory=memory,
        workers=workers,
        task_memory=task_memory,
        task_bytes=largest,
        panel_cache_bytes=panel_cache,
        block_cache_bytes=block_cache,
        bytes_per_worker=need + panel_cache + block_cache,
        bytes_total=base + n * (need + panel_cache + block_cache),
        tasks_per_epoch=sum(cost.n_tasks for cost in epoch),
        read_bytes_per_epoch=sum(read_bytes(cost, panel_cache, block_cache, data_bytes, model_bytes) for cost in epoch),
        write_bytes_per_epoch=sum(cost.write_bytes for cost in epoch),
        model_bytes=model_bytes,
        data_bytes=data_bytes,
        disk_bytes=2 * model_bytes,
    )


def default_task_memory(memory: int, n_features: int, data_bytes: int) -> int:
    """The share of a task in ``memory`` with four workers, or with two in what their processes leave over.

    A small dataset is left room in every worker's cache: it is read once per stripe.
    """
    constants = CONSTANT_COPIES * 8 * n_features
    cache = int(data_bytes * PREPARED_SHARE / CACHE_SHARE) + MIB
    left = memory - DRIVER_BYTES - constants - 2 * (WORKER_BYTES + constants)
    if cache <= left * SMALL_DATA_SHARE:
        left -= 2 * cache
    return max(MIB, min(memory // (4 * TASKS_AT_ONCE), left // (2 * TASKS_AT_ONCE)))


def read_bytes(cost: PassCost, panel_cache: int, block_cache: int, data_bytes: int, model_bytes: int) -> int:
    """Bytes one pass asks of the store once the caches are warm."""
    data = cost.data_scans * max(0, data_bytes - panel_cache)
    return data + (0 if block_cache >= model_bytes else cost.state_read_bytes)


def choose_layout(
    model: Model, problem: Problem, panels: PanelSizes, task_memory: int, pins: Pins = Pins()
) -> Layout:
    """Cut rows, columns and tasks; `DoesNotFit` names the task memory that would do."""
    n_cols = model.n_cols(problem)
    multiple, widest = model.block_cols
    if pins.col_blocks:
        stripes = even_bounds(n_cols, pins.col_blocks)
        return _layout(model, problem, panels, task_memory, pins, stripes, stripes)

    def cut(width: int) -> Layout:
        n_stripes = math.ceil(n_cols / width)
        blocks_per_stripe = math.ceil(width / widest)
        stripes = even_bounds(n_cols, n_stripes, multiple)
        cols = even_bounds(n_cols, (len(stripes) - 1) * blocks_per_stripe, multiple) if blocks_per_stripe > 1 else stripes
        return _layout(model, problem, panels, task_memory, pins, cols, stripes)

    def need(layout: Layout) -> int:
        sizes = Sizes(model.state(problem), layout, problem)
        passes: tuple[Pass, ...] = (*model.epoch_passes(problem), *model.other_passes(problem))
        return max(task_bytes(pass_, sizes, panels) for pass_ in passes)

    best = parallel_width(problem.nnz, n_cols, multiple)
    if need(cut(best)) <= task_memory:
        return cut(best)
    low, high = 0, math.ceil(best / multiple)  # in units of `multiple`: low fits (0 is a sentinel), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need(cut(middle * multiple)) <= task_memory else (low, middle)
    if low == 0:
        least = need(cut(min(multiple, n_cols)))
        raise DoesNotFit(
            f"the smallest task needs {_mib(least)} but --task-memory is {_mib(task_memory)}; set --memory to "
            f"{_mib(4 * TASKS_AT_ONCE * least)} or more, or --task-memory to {_mib(least)}, or use fewer features (min-count, hashing)"
        )
    return cut(low * multiple)


def parallel_width(nnz: int, n_cols: int, multiple: int) -> int:
    """Columns per stripe when memory is no matter: several stripes, unless tasks would be too short or narrow."""
    by_time = int(nnz * n_cols / UPDATES_PER_S / MIN_TASK_S)
    n = max(1, min(PARALLEL_STRIPES, by_time, n_cols // MIN_STRIPE_COLS))
    return math.ceil(math.ceil(n_cols / n) / multiple) * multiple


def _layout(
    model: Model,
    problem: Problem,
    panels: PanelSizes,
    task_memory: int,
    pins: Pins,
    cols: tuple[int, ...],
    stripes: tuple[int, ...],
) -> Layout:
    n_stripes = len(stripes) - 1
    stripe_of_col = {bound: i for i, bound in enumerate(cols)}
    specs = model.state(problem)
    row_bytes = sum(_bytes_per_row(s.dims, s.dtype) for s in specs if s.kind == "row")
    cell_bytes = sum(_bytes_per_row(s.dims, s.dtype) for s in specs if s.kind == "cell")
    n_panels = len(panels.rows)
    if pins.row_blocks:
        row_panels = even_bounds(n_panels, pins.row_blocks)
    else:
        limit = min(ROW_BLOCK_BYTES / (row_bytes + cell_bytes + 1), task_memory / 4 / (row_bytes + cell_bytes * n_stripes + 1))
        row_panels = group_bounds(panels.rows.tolist(), int(limit))
    first_rows = np.concatenate([[0], np.cumsum(panels.rows)])
    n_row_blocks = len(row_panels) - 1
    seconds = problem.nnz * max(np.diff(stripes)) / UPDATES_PER_S
    n_segments = max(1, min(n_row_blocks, int(seconds / MAX_TASK_S)))
    kinds = [{s.kind for s in specs if s.name in p.writes} for p in model.epoch_passes(problem) if p.over == "tiles"]
    if any({"row", "col"} <= k for k in kinds):  # rows must be cut too, or no two visits could run together
        n_segments = min(n_row_blocks, max(n_segments, PARALLEL_STRIPES))
    row_pass_bytes = problem.n_rows * (row_bytes + cell_bytes * n_stripes)
    return Layout(
        row_panels=row_panels,
        row_bounds=tuple(int(first_rows[i]) for i in row_panels),
        col_bounds=cols,
        stripe_bounds=tuple(stripe_of_col[bound] for bound in stripes),
        segment_bounds=even_bounds(n_row_blocks, n_segments),
        row_task_bounds=even_bounds(n_row_blocks, max(1, math.ceil(row_pass_bytes / (16 * MIB)))),
    )


def _bytes_per_row(dims: tuple[Any, ...], dtype: str) -> int:
    return math.prod(d for d in dims[1:] if isinstance(d, int)) * np.dtype(dtype).itemsize


def _mib(n_bytes: float) -> str:
    return f"{math.ceil(n_bytes / MIB)}MiB"
