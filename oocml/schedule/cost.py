"""What a pass costs: memory of its largest task, bytes asked of the store. Pure arithmetic over a layout."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oocml.kernels.tiles import cutting_bytes, dealing_bytes, order_bytes
from oocml.models.protocol import Pass, Problem, Scratch, StateSpec
from oocml.schedule.layout import Layout, block_shape, n_batches, n_blocks, stored_array
from oocml.schedule.tasks import Specs, blocks_of, shared_out, sub_epochs
from oocml.store.arrays import CHUNK_BYTES

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

TILE_SLACK = 1.15
"""The largest tile against the mean one."""
TILE_ROW_BYTES = 2
"""Bytes a tile takes on disk for each of its rows."""
TILE_COLUMN_BYTES = 8
"""What a model may take for a moment for each column of a tile: to scale it, or in place of what it does without."""
COPIES_OF_CHANGES, COPIES_OF_MERGED = 3, 4
"""Of a task's changes of merged arrays while they wait: as received, in the ledger, and as that is written. Of the
arrays while changes are added."""
PANELS_IN_FLIGHT = 3
"""The panel being visited, the one read ahead, and the buffers of the read itself."""


class PanelSizes(NamedTuple):
    """Sizes of a dataset's panels, each of shape (n_panels,)."""

    rows: np.ndarray
    bytes: np.ndarray
    """Bytes in memory, which is what reading one asks of the store."""

    @classmethod
    def of(cls, dataset: Dataset) -> PanelSizes:
        """Sizes of the panels of a stored dataset."""
        n_bytes = [dataset.panel_bytes(p) for p in range(dataset.n_panels)]
        return cls(np.diff(dataset.panel_bounds), np.array(n_bytes, np.int64))


class Extents(NamedTuple):
    """The largest blocks of a layout, and how many there are: all that memory depends on."""

    rows: int
    """Of the largest row block."""
    cols: int
    """Of the largest column block."""
    n_col_blocks: int
    n_stripes: int
    stripe_blocks: int
    """Column blocks of the largest stripe."""
    panels: int = 1
    """Of the row block with most of them."""

    @classmethod
    def of(cls, layout: Layout) -> Extents:
        widest = [
            int(np.diff(b).max(initial=0))
            for b in (layout.row_bounds, layout.col_bounds, layout.stripe_bounds, layout.row_panels)
        ]
        rows, cols, stripe_blocks, panels = widest
        return cls(rows, cols, layout.n_col_blocks, layout.n_stripes, stripe_blocks, panels)


class PassCost(NamedTuple):
    n_tasks: int
    task_bytes: int
    """Memory of the largest task: resident blocks, streamed blocks, scratch."""
    reads: Mapping[str, int]
    """State read by kind, in bytes, if nothing were cached; blocks at their initial value cost nothing. "merged": by
    the driver, which keeps nothing."""
    write_bytes: int
    data_scans: float
    """How often all panels, or all tiles, are read."""

    @property
    def state_read_bytes(self) -> int:
        return sum(self.reads.values())


class Sizes:
    """Byte counts of one model's state arrays under one layout."""

    def __init__(
        self, specs: Iterable[StateSpec], layout: Layout, problem: Problem, *, tiles: bool = False
    ) -> None:
        self.tiles = tiles
        """Whether tasks read tiles instead of panels."""
        self.specs = {spec.name: spec for spec in specs}
        self.layout, self.extents = layout, Extents.of(layout)
        self.problem = problem
        self._stored: dict[str, int] = {}

    def task_bytes(self, pass_: Pass) -> int:
        """Memory of the largest task of a pass, without its panels."""
        return task_bytes(pass_, self.specs, self.extents, self.problem, tiles=self.tiles)

    def data_bytes(self) -> int:
        """What reading each tile once, with its labels, asks of the store."""
        problem, n_blocks = self.problem, self.layout.n_col_blocks
        return 8 * problem.nnz + (TILE_ROW_BYTES * problem.n_rows + self.label_bytes()) * n_blocks

    def label_bytes(self) -> int:
        """Labels of all rows."""
        return 8 * self.problem.n_rows if self.problem.label_kind != "none" else 0

    def prepared_bytes(self) -> int:
        """Memory of all tiles and labels, as kernels get them."""
        problem, layout = self.problem, self.layout
        indptrs = 8 * (problem.n_rows + layout.n_row_blocks) * layout.n_col_blocks
        return 8 * problem.nnz + indptrs + 8 * problem.n_rows * (1 + layout.n_col_blocks)

    def stored_bytes(self, name: str) -> int:
        """Disk taken by all blocks at one stamp each."""
        if name not in self._stored:
            spec = self.specs[name]
            array = stored_array(spec, self.layout, self.problem)
            # cell blocks of one row block have one shape: count them once per row block
            step = self.layout.n_stripes if spec.kind == "cell" else 1
            self._stored[name] = sum(
                array.stored_bytes(block_shape(spec, self.layout, self.problem, index)) * step
                for index in range(0, n_blocks(spec, self.layout), step)
            )
        return self._stored[name]


def pass_cost(pass_: Pass, sizes: Sizes, initial: frozenset[str] = frozenset()) -> PassCost:
    """Cost of one pass.

    Parameters
    ----------
    initial
        State arrays whose blocks are all still at their initial value: reading those costs nothing.
    """
    layout = sizes.layout
    n_tasks, _ = _repeats(pass_, layout)
    seen = share_of_rows(pass_, layout)
    reads: Counter[str] = Counter()
    write = 0
    if pass_.ahead:
        n_tasks, reads, write = _traffic_ahead(pass_, sizes, initial)
    else:
        for name in {*pass_.reads, *pass_.writes}:
            loads, merges, stores = _traffic(pass_, sizes, name, name in initial)
            n_bytes = sizes.stored_bytes(name)
            if sizes.specs[name].kind in ("row", "cell"):
                n_bytes = int(n_bytes * seen)
            reads[sizes.specs[name].kind] += n_bytes * loads
            reads["merged"] += n_bytes * merges
            write += n_bytes * stores
    scans: float = {"tiles": layout.n_stripes * pass_.sweeps, "rows": int(pass_.data)}.get(pass_.over, 0)
    if sizes.tiles:  # a tile is read when its row block is seen, and when it is seen ahead
        scans = (1 + pass_.ahead) * pass_.data if pass_.over == "tiles" else 0
        reads["labels"] += sizes.label_bytes() * (pass_.over == "rows" and pass_.data)
    return PassCost(n_tasks, sizes.task_bytes(pass_), reads, write, scans * seen)


def share_of_rows(pass_: Pass, layout: Layout) -> float:
    """Share of the rows that a pass visits."""
    if pass_.share == (0, 1):
        return 1.0
    (blocks,) = shared_out([range(layout.n_row_blocks)], pass_, layout)
    return sum(layout.rows(p).size for p in blocks) / max(1, layout.row_bounds[-1])


def _traffic(pass_: Pass, sizes: Sizes, name: str, initial: bool) -> tuple[int, int, int]:
    """How often a pass reads each block of one array in tasks and to merge changes, and how often it stores it."""
    spec, layout = sizes.specs[name], sizes.layout
    n_tasks, repeats = _repeats(pass_, layout)
    times = repeats[spec.kind]
    sweeps = (
        pass_.sweeps if spec.kind in ("row", "cell") and pass_.over == "tiles" and name in pass_.reads else 1
    )
    anew = initial or name not in pass_.reads  # an initial value is nowhere to be read
    if name not in pass_.writes:
        return (0 if anew else times * sweeps), 0, 0
    if not spec.merge:
        return (times - anew) * sweeps, 0, times
    # tasks only read it; the driver reads and stores it once a sub-epoch (all have the same number of tasks)
    n_sub_epochs = len(sub_epochs(pass_, layout, sizes.specs, seed=0))
    return n_tasks - anew * (n_tasks // n_sub_epochs), n_sub_epochs - anew, n_sub_epochs


def _traffic_ahead(pass_: Pass, sizes: Sizes, initial: frozenset[str]) -> tuple[int, Counter[str], int]:
    """(tasks, bytes read by kind, bytes written) of a pass that sees rows ahead, by going through its tasks."""
    layout, specs = sizes.layout, sizes.specs
    strata = sub_epochs(pass_, layout, specs, seed=0)
    there = {name for name in pass_.reads if name not in initial}
    written: set[tuple[str, int]] = set()
    reads: dict[str, float] = dict.fromkeys(("row", "col", "cell", "shared", "merged"), 0.0)
    n_tasks, write = 0, 0.0
    for stratum in strata:
        n_tasks += len(stratum)
        for name in dict.fromkeys((*pass_.reads, *pass_.writes)):
            block = sizes.stored_bytes(name) / n_blocks(specs[name], layout)
            for task in stratum:
                for index in blocks_of(specs[name], task, layout, all_stripes=False):
                    reads[specs[name].kind] += block * (name in there or (name, index) in written)
                    own = name in pass_.consumes and index // layout.n_stripes in task.rows
                    if name in pass_.writes and not own and not specs[name].merge:
                        write += block
                        written.add((name, index))
            if specs[name].merge and name in pass_.writes:
                reads["merged"] += block
                write += block
                written.add((name, 0))
    return n_tasks, Counter({kind: int(n_bytes) for kind, n_bytes in reads.items()}), int(write)


def _repeats(pass_: Pass, layout: Layout) -> tuple[int, Mapping[str, int]]:
    """Number of tasks, and how many tasks touch each block, by kind of state."""
    if pass_.over == "tiles":
        bounds = (0, layout.n_row_blocks) if pass_.sweeps > 1 else layout.segment_bounds
        n_segments = len(shared_out([range(a, b) for a, b in pairwise(bounds)], pass_, layout))
        n_tasks = n_segments * layout.n_stripes
        return n_tasks, {"row": layout.n_stripes, "col": n_segments, "cell": 1, "shared": n_tasks}
    row_tasks = shared_out([range(a, b) for a, b in pairwise(layout.row_task_bounds)], pass_, layout)
    n_tasks = {"rows": len(row_tasks), "cols": layout.n_stripes, "once": 1}[pass_.over]
    return n_tasks, {"row": 1, "col": 1, "cell": 1, "shared": n_tasks}


def task_bytes(pass_: Pass, specs: Specs, extents: Extents, problem: Problem, *, tiles: bool) -> int:
    """Memory of the largest task of a pass, without its panels."""
    blocks_at_once = extents.stripe_blocks if pass_.over == "tiles" else 1
    resident = 0
    for name in {*pass_.reads, *pass_.writes}:
        kind, copies = specs[name].kind, 1
        if kind == "col":
            copies = blocks_at_once
        elif kind == "cell" and pass_.over == "rows":
            copies = extents.n_stripes + 1
        elif kind in ("row", "cell") and pass_.ahead:
            copies = 2
        resident += _array_bytes(specs[name], extents, problem) * copies
    for scratch in pass_.scratch:
        resident += _array_bytes(scratch, extents, problem) * blocks_at_once
    if tiles and pass_.data and pass_.over == "tiles":
        resident += (2 + pass_.ahead) * tile_bytes(problem, extents)  # one is read while another is prepared
        resident += TILE_COLUMN_BYTES * extents.cols
    return resident + pass_.working_bytes + CHUNK_BYTES


def tile_bytes(problem: Problem, extents: Extents) -> int:
    """About the memory of the largest tile with its labels."""
    return 8 * tile_entries(problem, extents) + 16 * (extents.rows + 1)


def tile_entries(problem: Problem, extents: Extents) -> int:
    """About the entries of the largest tile; blocks have nearly equal numbers of them."""
    heaviest = max(TILE_SLACK * problem.nnz / extents.n_col_blocks, problem.max_feature_nnz)
    return int(min(problem.nnz, TILE_SLACK * heaviest * extents.rows / max(1, problem.n_rows)))


def _array_bytes(array: StateSpec | Scratch, extents: Extents, problem: Problem) -> int:
    """Memory of an array over the largest blocks."""
    sizes = {
        "features": problem.n_features,
        "rows": extents.rows,
        "cols": extents.cols,
        "entries": tile_entries(problem, extents),
    }
    if isinstance(array, StateSpec):
        sizes["batches"] = n_batches(extents.rows, extents.panels, array.batch_rows)
    n_items = math.prod(sizes[d] if isinstance(d, str) else d for d in array.dims)
    return n_items * np.dtype(array.dtype).itemsize


def preparing_bytes(
    problem: Problem, panels: PanelSizes, n_col_blocks: int, workers: int, at_once: int
) -> int:
    """Memory of each worker for what is done for a model of tiles before its first task.

    One deals the columns while the others have nothing to do; then all cut panels.
    """
    panel_bytes, panel_rows = (int(max(sizes, default=0)) for sizes in (panels.bytes, panels.rows))
    cutting = at_once * cutting_bytes(panel_bytes, panel_rows, n_col_blocks) + order_bytes(problem.n_features)
    return max(math.ceil(dealing_bytes(problem.n_features) / workers), cutting)


def merging_bytes(passes: Iterable[Pass], sizes: Sizes) -> int:
    """Memory of the driver for the changes of merged arrays that tasks of a sub-epoch return."""
    most = 0
    for pass_ in passes:
        merged = [spec for name in pass_.writes if (spec := sizes.specs[name]).merge]
        n_bytes = sum(_array_bytes(spec, sizes.extents, sizes.problem) for spec in merged)
        if n_bytes:
            most_tasks = max(map(len, sub_epochs(pass_, sizes.layout, sizes.specs, seed=0)), default=0)
            most = max(most, n_bytes * (COPIES_OF_CHANGES * most_tasks + COPIES_OF_MERGED))
    return most


def panels_bytes(panels: PanelSizes) -> int:
    """Memory of the panels in flight for each task that computes; the others of a process have none."""
    return PANELS_IN_FLIGHT * int(max(panels.bytes, default=0))
