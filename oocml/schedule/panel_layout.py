"""Layouts of models that see whole panels: a stripe of columns stays in memory, rows stream by. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oocml.models.protocol import Model, Problem, StateSpec
from oocml.schedule.cost import PanelSizes, Sizes
from oocml.schedule.layout import Layout, even_bounds, group_bounds

MIB = 2**20
UPDATES_PER_S = 1.5e9
"""A cautious kernel rate, used only to size tasks."""
MIN_TASK_S, MAX_TASK_S = 0.1, 1800.0
ROW_TASK_S = 1.0
"""Of tasks that do an epoch's work row by row: tasks that run together don't see what the others merge."""
PARALLEL_STRIPES = 4
MIN_STRIPE_COLS = 32
ROW_BLOCK_BYTES = 4 * MIB
ROW_TASK_BYTES, MOST_ROW_TASKS = 32 * MIB, 256
"""Data of a task over rows where nothing but data is read for a row, and how many such tasks there may be."""
SEGMENT_SHARE = 0.1
"""Of the data that an epoch reads: what cutting rows into segments may add."""


@dataclass(frozen=True)
class Pins:
    """Block counts fixed by hand, for tests and experiments."""

    row_blocks: int | None = None
    col_blocks: int | None = None


UNPINNED = Pins()


def unmet_pins(pins: Pins, layout: Layout) -> list[str]:
    """Why a layout has fewer blocks than it was pinned to: rows are cut between panels, columns between columns."""
    unmet = []
    if pins.row_blocks and layout.n_row_blocks < pins.row_blocks:
        n_panels = layout.row_panels[-1]
        unmet.append(
            f"--row-blocks {pins.row_blocks} is too many: {layout.n_row_blocks} are used, as the dataset has "
            f"{n_panels} panel{'s' * (n_panels != 1)} and a row block has at least one"
        )
    if pins.col_blocks and layout.n_col_blocks < pins.col_blocks:
        n_cols = layout.col_bounds[-1]
        unmet.append(
            f"--col-blocks {pins.col_blocks} is too many: {layout.n_col_blocks} are used, as the model has "
            f"{n_cols} column{'s' * (n_cols != 1)}"
        )
    return unmet


def largest_task(model: Model, problem: Problem, layout: Layout) -> int:
    """Memory of the largest task of any pass."""
    sizes = Sizes(model.state(problem), layout, problem, tiles=model.tiles)
    return max(sizes.task_bytes(p) for p in (*model.epoch_passes(problem), *model.other_passes(problem)))


def choose_panel_layout(
    model: Model, problem: Problem, panels: PanelSizes, task_memory: int, pins: Pins
) -> tuple[Layout, int]:
    """Cut rows, columns and tasks so that the largest task takes at most ``task_memory``, if that can be.

    Returns the layout and the bytes of its largest task, which exceed ``task_memory`` where even the narrowest
    stripes do.
    """
    n_cols = model.n_cols(problem)
    multiple, widest = model.block_cols
    if pins.col_blocks:
        stripes = even_bounds(n_cols, pins.col_blocks)
        pinned = _layout(model, problem, panels, task_memory, pins, stripes, stripes)
        return pinned, largest_task(model, problem, pinned)

    def cut(width: int) -> Layout:
        # equal widths but for the end: blocks are stored at the width of the widest
        blocks_per_stripe = math.ceil(width / widest)
        block = math.ceil(width / blocks_per_stripe / multiple) * multiple
        cols = (*range(0, n_cols, block), n_cols)
        stripes = (*cols[:-1:blocks_per_stripe], n_cols)
        return _layout(model, problem, panels, task_memory, pins, cols, stripes)

    def need(width: int) -> int:
        return largest_task(model, problem, cut(width))

    best = parallel_width(problem.nnz, n_cols, multiple)
    if need(best) <= task_memory:
        return cut(best), need(best)
    low, high = 1, math.ceil(best / multiple)  # in units of `multiple`; `high` does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need(middle * multiple) <= task_memory else (low, middle)
    return cut(low * multiple), need(low * multiple)


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
    row_bytes = sum(_bytes_per_row(s) for s in specs if s.kind == "row")
    cell_bytes = sum(_bytes_per_row(s) for s in specs if s.kind == "cell")
    n_panels = len(panels.rows)
    if pins.row_blocks:
        row_panels = even_bounds(n_panels, pins.row_blocks)
    else:
        stacked = row_bytes + cell_bytes * n_stripes
        limit = min(ROW_BLOCK_BYTES / (row_bytes + cell_bytes + 1), task_memory / 4 / (stacked + 1))
        row_panels = group_bounds(panels.rows.tolist(), int(limit))
    stateless = not row_bytes + cell_bytes and _streams_rows(model, problem)
    if stateless and not pins.row_blocks:  # row blocks cost nothing but their data: one for each task
        n_bytes = max(ROW_TASK_BYTES, int(panels.bytes.sum()) // MOST_ROW_TASKS)
        row_panels = group_bounds(panels.bytes.tolist(), n_bytes)
    first_rows = np.concatenate([[0], np.cumsum(panels.rows)])
    n_row_blocks = len(row_panels) - 1
    n_segments = max(1, min(n_row_blocks, _useful_segments(problem, panels, specs, cols, stripes)))
    kinds = [
        {s.kind for s in specs if s.name in p.writes}
        for p in model.epoch_passes(problem)
        if p.over == "tiles"
    ]
    if any({"row", "col"} <= k for k in kinds):  # rows must be cut too, or no two visits could run together
        n_segments = min(n_row_blocks, max(n_segments, PARALLEL_STRIPES))
    n_row_tasks = math.ceil(problem.n_rows * (row_bytes + cell_bytes * n_stripes) / (16 * MIB))
    if any(p.over == "rows" and p.data for p in model.epoch_passes(problem)):  # that is where the work is
        n_row_tasks = max(n_row_tasks, int(problem.nnz * cols[-1] / UPDATES_PER_S / ROW_TASK_S))
    if stateless:
        n_row_tasks = n_row_blocks
    return Layout(
        row_panels=row_panels,
        row_bounds=tuple(int(first_rows[i]) for i in row_panels),
        col_bounds=cols,
        stripe_bounds=tuple(stripe_of_col[bound] for bound in stripes),
        segment_bounds=even_bounds(n_row_blocks, n_segments),
        row_task_bounds=even_bounds(n_row_blocks, max(1, n_row_tasks)),
    )


def _streams_rows(model: Model, problem: Problem) -> bool:
    """Whether an epoch has passes over rows with their data whose tasks may run together."""
    passes = model.epoch_passes(problem)
    return any(p.over == "rows" and p.data and p.at_once != 1 for p in passes)


def _useful_segments(
    problem: Problem,
    panels: PanelSizes,
    specs: Sequence[StateSpec],
    cols: Sequence[int],
    stripes: Sequence[int],
) -> int:
    """Segments that keep tasks short enough, as far as they add little to what is read and written.

    Every segment moves all column state once more, there and back.
    """
    seconds = problem.nnz * max(np.diff(stripes)) / UPDATES_PER_S
    sizes = {"features": problem.n_features, "cols": cols[-1]}
    state = sum(
        math.prod(sizes[d] if isinstance(d, str) else d for d in s.dims) * np.dtype(s.dtype).itemsize
        for s in specs
        if s.kind == "col"
    )
    data = int(panels.bytes.sum()) * (len(stripes) - 1)
    return min(int(seconds / MAX_TASK_S), 1 + int(SEGMENT_SHARE * data / max(1, 2 * state)))


def _bytes_per_row(spec: StateSpec) -> int:
    item = math.prod(d for d in spec.dims[1:] if isinstance(d, int)) * np.dtype(spec.dtype).itemsize
    return math.ceil(item / spec.batch_rows)
