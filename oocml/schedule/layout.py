"""The layout: how rows, columns and tasks of a run are cut. It decides the bits of the result; workers never do."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oocml.models.protocol import Problem, StateSpec
from oocml.store.arrays import StoredArray
from oocml.types import Bounds


@dataclass(frozen=True)
class Layout:
    """Bounds of everything that is cut, each a rising tuple that starts at 0.

    stripes      |  s0       |  s1   |        a stripe: the column blocks one task visits
    columns      | q0  | q1  | q2    |
    -------------+-----+-----+-------+
    segment 0 p0 |     |     |       |        a task of a "tiles" pass is a rectangle:
              p1 |     |     |       |        one segment of row blocks x one stripe
    segment 1 p2 |     |     |       |
    """

    row_panels: tuple[int, ...]
    """Row block p is panels ``row_panels[p]:row_panels[p + 1]``."""
    row_bounds: tuple[int, ...]
    """Row block p is rows ``row_bounds[p]:row_bounds[p + 1]``."""
    col_bounds: tuple[int, ...]
    """Column block q is columns ``col_bounds[q]:col_bounds[q + 1]``."""
    stripe_bounds: tuple[int, ...]
    """Stripe s is column blocks ``stripe_bounds[s]:stripe_bounds[s + 1]``."""
    segment_bounds: tuple[int, ...]
    """Segment r is row blocks ``segment_bounds[r]:segment_bounds[r + 1]``."""
    row_task_bounds: tuple[int, ...]
    """Row blocks that one task of a "rows" pass handles."""
    n_lanes: int = 1
    """Row blocks that are visited side by side where rows are seen ahead."""

    @property
    def n_row_blocks(self) -> int:
        return len(self.row_bounds) - 1

    @property
    def n_col_blocks(self) -> int:
        return len(self.col_bounds) - 1

    @property
    def n_stripes(self) -> int:
        return len(self.stripe_bounds) - 1

    @property
    def n_segments(self) -> int:
        return len(self.segment_bounds) - 1

    def rows(self, p: int) -> Bounds:
        return Bounds(self.row_bounds[p], self.row_bounds[p + 1])

    def panels(self, p: int) -> range:
        return range(self.row_panels[p], self.row_panels[p + 1])

    def cols(self, q: int) -> Bounds:
        return Bounds(self.col_bounds[q], self.col_bounds[q + 1])

    def stripe(self, s: int) -> range:
        return range(self.stripe_bounds[s], self.stripe_bounds[s + 1])

    def stripe_of(self, q: int) -> int:
        return bisect.bisect_right(self.stripe_bounds, q) - 1

    def to_dict(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**given)


def even_bounds(total: int, n_parts: int, multiple: int = 1) -> tuple[int, ...]:
    """Bounds of ``n_parts`` nearly equal parts of ``range(total)``, at multiples of ``multiple`` but for the end."""
    units = -(-total // multiple)
    n_parts = max(1, min(n_parts, units))
    cuts = [i * units // n_parts * multiple for i in range(n_parts)]
    return (*cuts, total)


def group_bounds(sizes: Sequence[int], limit: int) -> tuple[int, ...]:
    """Bounds of runs of consecutive items whose sizes add up to at most ``limit`` (single items may exceed it)."""
    bounds, total = [0], 0
    for i, size in enumerate(sizes):
        if i > bounds[-1] and total + size > limit:
            bounds.append(i)
            total = 0
        total += size
    return (*bounds, len(sizes))


def n_blocks(spec: StateSpec, layout: Layout) -> int:
    counts = {
        "row": layout.n_row_blocks,
        "col": layout.n_col_blocks,
        "cell": layout.n_row_blocks * layout.n_stripes,
        "shared": 1,
    }
    return counts[spec.kind]


def block_bounds(spec: StateSpec, layout: Layout, index: int) -> Bounds:
    """Global rows or columns of a block (a cell's rows); all of nothing for shared arrays."""
    if spec.kind == "col":
        return layout.cols(index)
    if spec.kind == "shared":
        return Bounds(0, 0)
    return layout.rows(index if spec.kind == "row" else index // layout.n_stripes)


def block_shape(spec: StateSpec, layout: Layout, problem: Problem, index: int) -> tuple[int, ...]:
    """Shape of block ``index`` of a state array; with "entries", before there are tiles, about that."""
    size = block_bounds(spec, layout, index).size
    sizes = {"features": problem.n_features, "rows": size, "cols": size}
    if "batches" in spec.dims:
        sizes["batches"] = n_batches(size, len(layout.panels(index)), spec.batch_rows)
    if "entries" in spec.dims:
        p, q = divmod(index, layout.n_stripes)
        if problem.tile_nnz is None:
            sizes["entries"] = expected_entries(problem, size, layout.cols(q).size)
        else:
            sizes["entries"] = int(problem.tile_nnz[p, q])
    return tuple(sizes[d] if isinstance(d, str) else d for d in spec.dims)


def stored_array(spec: StateSpec, layout: Layout, problem: Problem) -> StoredArray:
    """How a state array lies on disk: its block shape is that of the largest block."""
    rows = max(np.diff(layout.row_bounds), default=0)
    cols = max(np.diff(layout.col_bounds), default=0)
    panels = max(np.diff(layout.row_panels), default=0)
    typical = expected_entries(problem, int(rows), int(cols))
    sizes = {
        "features": problem.n_features,
        "rows": int(rows),
        "cols": int(cols),
        "batches": n_batches(int(rows), int(panels), spec.batch_rows),
        "entries": problem.nnz,
    }
    shape = tuple(sizes[d] if isinstance(d, str) else d for d in spec.dims)
    return StoredArray(
        spec.name, n_blocks(spec, layout), shape, spec.dtype, typical if "entries" in spec.dims else None
    )


def n_batches(n_rows: int, n_panels: int, batch_rows: int) -> int:
    """Items of a row block's array with "batches" first: room for those of all its panels, however rows are cut."""
    return n_rows // batch_rows + n_panels


def panel_slice(spec: StateSpec, rows: slice, number: int) -> slice:
    """Items of a row array that belong to the ``number``-th panel of a row block, which has its ``rows``."""
    if "batches" not in spec.dims:
        return rows
    first = rows.start // spec.batch_rows + number
    return slice(first, first + math.ceil((rows.stop - rows.start) / spec.batch_rows))


def expected_entries(problem: Problem, n_rows: int, n_cols: int) -> int:
    """Stored entries of a tile if they were spread evenly."""
    return math.ceil(problem.nnz * n_rows / max(1, problem.n_rows) * n_cols / max(1, problem.n_features))
