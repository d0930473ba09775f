"""Layouts of models whose columns are columns of the data: tasks are tiles, and both sides of them cost traffic.

A task holds one column block and streams a segment of row blocks past it. With G segments and S column blocks an
epoch moves ``2 (G |cols| + S |rows|)`` bytes of state, whatever the number of row blocks: few segments of many small
row blocks leave a task's memory to its column block. Where a model needs more of tasks (rows seen ahead, merged
arrays) each row block is a segment of its own. Pure arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from oocml.models.protocol import Model, Pass, Problem, StateSpec
from oocml.schedule.cost import TILE_ROW_BYTES, Extents, PanelSizes, Sizes, pass_cost, task_bytes
from oocml.schedule.layout import Layout, even_bounds

ELEMENTS_PER_S = 1.5e9
"""A cautious kernel rate in numbers of column state touched, to size tasks."""
DISK_BYTES_PER_S = 1e9
MIN_TASK_S = 0.03
"""Two tasks in flight hide a round trip of 10 ms."""
PARALLEL = 8
"""Row and column blocks that let four workers with two tasks each work at a time, if tasks are long enough."""
ROWS_PER_LANE = 8
"""Row blocks for each that is visited at a time: with fewer, rows seen ahead are too stale (`docs/design.md`)."""
MAX_LANES = 4
ROW_TASK_BYTES = 16 * 2**20
MAX_TASKS = 2**20
MAX_COLS = 2**14
"""Column blocks; more would be too small to be worth a task."""
LABEL_BYTES = 8
STEP = 1.25
"""Ratio of the numbers of blocks that are tried."""


class Shape(NamedTuple):
    """How often rows and columns are cut."""

    row_blocks: int
    col_blocks: int
    segments: int
    lanes: int


def choose_tile_layout(
    model: Model,
    problem: Problem,
    panels: PanelSizes,
    task_memory: int,
    *,
    row_blocks: int | None,
    col_blocks: int | None,
    memory: int,
) -> tuple[Layout, int]:
    """The layout that should take least time of those whose largest task takes at most ``task_memory``.

    Returns the layout and the bytes of its largest task; where none fits, the layout with the smallest tasks.
    """
    passes = (*model.epoch_passes(problem), *model.other_passes(problem))
    specs = {spec.name: spec for spec in model.state(problem)}
    largest_rows: dict[int, int] = {}

    def need(shape: Shape) -> int:
        if shape.row_blocks not in largest_rows:
            largest_rows[shape.row_blocks] = int(
                np.diff(_row_bounds(panels, shape.row_blocks)).max(initial=0)
            )
        cols = math.ceil(model.n_cols(problem) / shape.col_blocks)
        extents = Extents(largest_rows[shape.row_blocks], cols, shape.col_blocks, shape.col_blocks, 1)
        return max(task_bytes(pass_, specs, extents, problem, tiles=True) for pass_ in passes)

    shapes = list(_shapes(model, problem, panels, row_blocks, col_blocks))
    needs = [need(shape) for shape in shapes]
    fitting = [shape for shape, n_bytes in zip(shapes, needs, strict=True) if n_bytes <= task_memory]
    if fitting:
        best = min(fitting, key=lambda shape: _seconds(model, problem, shape, memory))
    else:
        best = shapes[int(np.argmin(needs))]
    return tile_layout(model, problem, panels, best), needs[shapes.index(best)]


def tile_layout(model: Model, problem: Problem, panels: PanelSizes, shape: Shape) -> Layout:
    """Rows in blocks of whole panels, columns in blocks whose widths differ by at most one."""
    n_panels = len(panels.rows)
    row_panels = even_bounds(n_panels, shape.row_blocks)
    cols = even_bounds(model.n_cols(problem), shape.col_blocks)
    n_row_blocks, one_each = len(row_panels) - 1, tuple(range(len(cols)))
    specs = model.state(problem)
    per_row = sum(_item_bytes(s, "row") + _item_bytes(s, "cell") * (len(cols) - 1) for s in specs)
    n_row_tasks = max(1, math.ceil(problem.n_rows * per_row / ROW_TASK_BYTES))
    return Layout(
        row_panels=row_panels,
        row_bounds=_row_bounds(panels, shape.row_blocks),
        col_bounds=cols,
        stripe_bounds=one_each,
        segment_bounds=even_bounds(n_row_blocks, shape.segments),
        row_task_bounds=even_bounds(n_row_blocks, n_row_tasks),
        n_lanes=min(shape.lanes, n_row_blocks),
    )


def _row_bounds(panels: PanelSizes, row_blocks: int) -> tuple[int, ...]:
    first_rows = np.concatenate([[0], np.cumsum(panels.rows)])
    return tuple(int(first_rows[i]) for i in even_bounds(len(panels.rows), row_blocks))


def _shapes(
    model: Model, problem: Problem, panels: PanelSizes, row_blocks: int | None, col_blocks: int | None
) -> Iterator[Shape]:
    n_panels, n_cols = len(panels.rows), model.n_cols(problem)
    ahead = any(pass_.ahead for pass_ in model.epoch_passes(problem))
    streams = not row_blocks and _may_stream_rows(model, problem)
    seconds = epoch_elements(model, problem) / ELEMENTS_PER_S
    side = max(1, min(PARALLEL, int(math.sqrt(seconds / MIN_TASK_S))))
    liked = getattr(model, "fewest_col_blocks", None)
    fewest = min(n_cols, max(side, liked(problem) if liked is not None else 1))
    for rows in [row_blocks] if row_blocks else _rising(1 if ahead else min(side, n_panels), n_panels):
        for cols in [col_blocks] if col_blocks else _rising(fewest, max(fewest, min(n_cols, MAX_COLS))):
            n_rows, n_blocks = min(rows, n_panels), min(cols, n_cols)
            if rows > 1 and cols > 1 and n_rows * n_blocks > MAX_TASKS and not (row_blocks and col_blocks):
                continue
            lanes = max(1, min(MAX_LANES, n_rows // ROWS_PER_LANE, n_blocks)) if ahead else 1
            yield Shape(n_rows, n_blocks, min(n_rows, side) if streams else n_rows, lanes)


def _may_stream_rows(model: Model, problem: Problem) -> bool:
    """Whether a task may take several row blocks: it changes both sides, and nothing that is merged between tasks."""
    specs = {spec.name: spec for spec in model.state(problem)}
    passes = model.epoch_passes(problem)
    written = {specs[name].kind for pass_ in passes for name in pass_.writes}
    return {"row", "col"} <= written and "shared" not in written and not any(p.ahead for p in passes)


def _rising(first: int, last: int) -> Iterator[int]:
    number = first
    while number < last:
        yield number
        number = max(number + 1, int(number * STEP))
    yield last


def epoch_seconds(model: Model, problem: Problem, layout: Layout, *, memory: int, at_once: float) -> float:
    """About how long an epoch takes under a layout: to compare layouts by, not to promise.

    Parameters
    ----------
    memory
        What caches may hold, in bytes: where state takes at most half of it, what is written is not read again.
    at_once
        Tasks that compute at the same time.
    """
    sizes = Sizes(model.state(problem), layout, problem, tiles=True)
    costs = [pass_cost(pass_, sizes) for pass_ in model.epoch_passes(problem)]
    moved = sum(c.state_read_bytes + c.write_bytes + c.data_scans * sizes.data_bytes() for c in costs)
    held = sum(sizes.stored_bytes(name) for name, spec in sizes.specs.items() if spec.kind in ("row", "col"))
    elements = epoch_elements(model, problem, layout.n_col_blocks)
    visits = (layout.n_row_blocks + _sees_ahead(model, problem)) * layout.n_col_blocks
    return _duration(elements, moved / 2 if held <= memory / 2 else moved, visits, at_once)


def _seconds(model: Model, problem: Problem, shape: Shape, memory: int) -> float:
    """`epoch_seconds` of a shape on a few workers, from sizes alone."""
    ahead = _sees_ahead(model, problem)
    specs = {spec.name: spec for spec in model.state(problem)}
    moved = sum(
        _moved(pass_, specs, problem, shape, model.n_cols(problem)) for pass_ in model.epoch_passes(problem)
    )
    moving_kinds = [spec for spec in specs.values() if spec.kind in ("row", "col")]
    held = sum(_total_bytes(spec, problem, model.n_cols(problem), shape.col_blocks) for spec in moving_kinds)
    at_once = shape.lanes if ahead else min(shape.segments, shape.col_blocks, PARALLEL) / 2
    elements = epoch_elements(model, problem, shape.col_blocks)
    visits = (shape.row_blocks + ahead) * shape.col_blocks
    return _duration(
        elements, moved / 2 if held <= memory / 2 else moved, visits, max(1.0, min(at_once, 4.0))
    )


def _duration(elements: float, moved: float, visits: int, at_once: float) -> float:
    """Seconds: the larger of computing and moving, some of the other, and something for each visit."""
    moving = moved / DISK_BYTES_PER_S
    return max(elements / ELEMENTS_PER_S / at_once, moving) + moving / 10 + visits * MIN_TASK_S / 50


def _sees_ahead(model: Model, problem: Problem) -> bool:
    return any(pass_.ahead for pass_ in model.epoch_passes(problem))


def _moved(pass_: Pass, specs: Mapping[str, StateSpec], problem: Problem, shape: Shape, n_cols: int) -> float:
    """Bytes that a pass reads and writes, as `cost.pass_cost` has them but for padding and rounding."""
    tiles, ahead, cuts = pass_.over == "tiles", pass_.ahead, shape.col_blocks
    n_tasks = shape.segments * cuts
    segments = shape.row_blocks + shape.lanes if ahead else shape.segments
    times = {"row": cuts * (1 + ahead), "col": segments, "cell": 1 + ahead, "shared": n_tasks}
    per_row = TILE_ROW_BYTES + LABEL_BYTES * (problem.label_kind != "none")
    total = float(pass_.data * tiles) * (1 + ahead) * (8 * problem.nnz + per_row * problem.n_rows * cuts)
    for name in {*pass_.reads, *pass_.writes}:
        spec, often = specs[name], times[specs[name].kind] if tiles else 1
        stored = _total_bytes(spec, problem, n_cols, cuts)
        total += stored * (often - (name not in pass_.reads)) + stored * often * (name in pass_.writes)
        if name in pass_.consumes:
            total -= stored
    return total


def _total_bytes(spec: StateSpec, problem: Problem, n_cols: int, col_blocks: int) -> float:
    """Bytes of all blocks of an array."""
    items = {"row": problem.n_rows, "col": n_cols, "cell": problem.n_rows * col_blocks}.get(spec.kind, 1)
    sizes = {"features": problem.n_features, "rows": 1, "cols": 1, "entries": 1, "batches": 1}
    if "entries" in spec.dims:
        items = problem.nnz
    each = math.prod(sizes[d] if isinstance(d, str) else d for d in spec.dims)
    return float(items * each * np.dtype(spec.dtype).itemsize)


def epoch_elements(model: Model, problem: Problem, col_blocks: int = 1) -> float:
    """Numbers of column state that an epoch touches, as the model says or once for every stored entry."""
    of_model = getattr(model, "epoch_elements", None)
    if of_model is not None:
        return float(of_model(problem, col_blocks))
    per_col = sum(_item_bytes(s, "col") for s in model.state(problem)) / 4
    return float(problem.nnz * per_col)


def _item_bytes(spec: StateSpec, kind: str) -> int:
    """Bytes of one row or column of an array of that kind; what belongs to entries is moved whatever the shape."""
    if spec.kind != kind or "entries" in spec.dims:
        return 0
    return math.prod(d for d in spec.dims if isinstance(d, int)) * np.dtype(spec.dtype).itemsize
