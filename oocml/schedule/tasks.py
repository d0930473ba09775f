"""Tasks and the one rule that says which of them may run together.

Pure: sizes and a seed in, tasks out. Nothing here touches Zarr, Dask or a clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from oocml.errors import UsageError
from oocml.models.protocol import Kernel, Pass, StateSpec
from oocml.schedule.layout import Layout

Specs = Mapping[str, StateSpec]
Block = tuple[str, int]
"""(state array, block index)."""


class Task(NamedTuple):
    """A rectangle of visits that one worker runs: it loads each block once and stores each once."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """Number within its pass; parts are added up in this order."""
    rows: tuple[int, ...]
    """Row blocks in the order they are visited."""
    cols: tuple[int, ...]
    """Column blocks, all of one stripe unless the pass is over "cols" or "once"."""
    stripe: int
    """The stripe, or -1."""
    opening: bool = True
    """Whether its columns have seen no row of the pass when it begins."""
    closing: bool = True
    """Whether its columns will have seen all rows of the pass when it ends."""
    ahead: tuple[int, ...] = ()
    """Row blocks that are only seen ahead: those its lane visits next (at most one)."""


class Footprint(NamedTuple):
    """What a task reads and writes."""

    reads: frozenset[Block]
    writes: frozenset[Block]


def blocks_of(spec: StateSpec, task: Task, layout: Layout, *, all_stripes: bool) -> Iterator[int]:
    """Indices of the blocks of one state array that a task touches."""
    rows = task.rows + task.ahead
    if spec.kind == "row":
        yield from rows
    elif spec.kind == "col":
        yield from task.cols
    elif spec.kind == "shared":
        yield 0
    else:
        stripes = range(layout.n_stripes) if all_stripes else (task.stripe,)
        for p in rows:
            for s in stripes:
                yield p * layout.n_stripes + s


def needs_no_barriers(pass_: Pass, kernel: Kernel, specs: Specs) -> bool:
    """Whether a pass can do without sub-epochs: whoever opens and closes columns must be known after a kill."""
    if pass_.at_once:
        return False
    writes_columns = any(specs[name].kind == "col" for name in pass_.writes)
    return writes_columns or not (kernel.begin or kernel.end_sweep)


def may_overlap(pass_: Pass, kernel: Kernel, specs: Specs) -> bool:
    """Whether an epoch of a repeated pass may begin before the one before it has ended."""
    anew = set(pass_.writes) - set(pass_.reads)
    alone = pass_.ahead or pass_.scratch or anew or kernel.begin or pass_.sweeps > 1
    return needs_no_barriers(pass_, kernel, specs) and not alone


def check_pass(pass_: Pass, specs: Specs, *, tiles: bool) -> None:
    """Raise `UsageError` if a pass asks for what its traversal does not do."""
    stored = {specs[name].kind for name in pass_.writes if not specs[name].merge}
    used = {specs[name].kind for name in (*pass_.reads, *pass_.writes)}
    allowed = {
        "tiles": {"row", "col", "cell", "shared"},
        "rows": {"row", "shared"},
        "cols": {"col", "shared"},
        "once": {"shared"},
    }[pass_.over]
    seen = {"rows": {"row", "cell", "shared"}, "once": {"col", "shared"}}.get(pass_.over, allowed)
    where = f"pass {pass_.name!r} over {pass_.over}"
    if not stored <= allowed:
        raise UsageError(f"{where} cannot store {min(stored - allowed)} arrays; use another kind of pass")
    if not used <= seen:
        raise UsageError(f"{where} cannot see {min(used - seen)} arrays; use another kind of pass")
    if pass_.over != "tiles" and (pass_.sweeps > 1 or pass_.scratch or pass_.ahead):
        raise UsageError(f"{where} has no sweeps, scratch or rows seen ahead; only passes over tiles have")
    if pass_.sweeps > 1 and (tiles or pass_.ahead):
        raise UsageError(
            f"{where} sweeps {pass_.sweeps} times; models of tiles, and rows seen ahead, allow one"
        )
    changed = {name for name in pass_.writes if name in pass_.reads and specs[name].kind in ("row", "cell")}
    if pass_.sweeps > 1 and changed:
        raise UsageError(
            f"{where} sweeps {pass_.sweeps} times and changes {min(changed)!r}, of which only the last sweep would be "
            "kept; read it or write it, or sweep once"
        )
    if pass_.ahead and pass_.share != (0, 1):
        raise UsageError(f"{where} sees rows ahead, so it has to visit all of them and can have no share")
    if any("entries" in specs[name].dims for name in (*pass_.reads, *pass_.writes)) and not pass_.data:
        raise UsageError(f"{where} needs data to know the entries of its arrays; set data")
    if pass_.ahead and "shared" in stored:
        raise UsageError(f"{where} sees rows ahead, so the shared arrays it writes must be merged ones")
    if any(specs[name].kind != "cell" for name in pass_.consumes):
        raise UsageError(f"{where} consumes what is no cell array; only cell arrays can be consumed")


def footprint(pass_: Pass, task: Task, layout: Layout, specs: Specs) -> Footprint:
    """Blocks a task reads and writes. Merged shared arrays are written by the driver, so they are only read."""
    stacked = pass_.over == "rows"

    def blocks(names: tuple[str, ...]) -> frozenset[Block]:
        return frozenset(
            (name, index)
            for name in names
            for index in blocks_of(specs[name], task, layout, all_stripes=stacked)
        )

    written = tuple(name for name in pass_.writes if not specs[name].merge)
    return Footprint(blocks(pass_.reads) | blocks(pass_.writes), blocks(written))


def conflict(a: Footprint, b: Footprint) -> bool:
    """Whether two tasks must not run together: one writes a block that the other reads or writes."""
    return not (a.writes.isdisjoint(b.reads | b.writes) and b.writes.isdisjoint(a.reads))


def prerequisites(tasks: Sequence[Task]) -> dict[int, frozenset[int]]:
    """Tasks by index that must be committed before a task may start; those without any are left out.

    Where rows are seen ahead, a row block may be visited once all its columns have seen it.
    """
    seers: dict[int, list[int]] = {}
    for task in tasks:
        for p in task.ahead:
            seers.setdefault(p, []).append(task.index)
    wanted = {task.index: frozenset(i for p in task.rows for i in seers.get(p, ())) for task in tasks}
    return {index: before for index, before in wanted.items() if before}


def sub_epochs(pass_: Pass, layout: Layout, specs: Specs, seed: int) -> list[list[Task]]:
    """The tasks of one pass as a list of sub-epochs; tasks of one sub-epoch never conflict.

    Serial training runs them one after another; synchronous training (DSGD) runs each sub-epoch's tasks at the
    same time, with a barrier after it. Row blocks are visited in an order drawn from the seed, the same for every
    column block, so that a result does not depend on how columns were cut.
    """
    rng = np.random.default_rng(seed)
    if pass_.ahead:
        return _in_lanes(layout, rng)
    if pass_.over == "tiles":
        rectangles = _rectangles(pass_, layout, specs, rng)
    elif pass_.over == "rows":
        cuts = shared_out([range(a, b) for a, b in pairwise(layout.row_task_bounds)], pass_, layout)
        rectangles = [[(n, rows, (), -1) for n, rows in enumerate(cuts)]]
    elif pass_.over == "cols":
        rectangles = [[(s, (), tuple(layout.stripe(s)), s) for s in range(layout.n_stripes)]]
    else:
        rectangles = [[(0, (), tuple(range(layout.n_col_blocks)), -1)]]
    if any(specs[name].kind == "shared" and not specs[name].merge for name in pass_.writes):
        # every task writes the one block of that array: they take turns
        rectangles = _at_most(1, rectangles)
    elif pass_.at_once:
        rectangles = _at_most(pass_.at_once, rectangles)
    in_order = [rectangle for sub_epoch in rectangles for rectangle in sub_epoch]
    first = {rectangle[2:]: rectangle for rectangle in reversed(in_order)}
    last = {rectangle[2:]: rectangle for rectangle in in_order}
    return [
        [Task(*r, opening=first[r[2:]] is r, closing=last[r[2:]] is r) for r in sub_epoch]
        for sub_epoch in rectangles
    ]


def _in_lanes(layout: Layout, rng: np.random.Generator) -> list[list[Task]]:
    """Row blocks one after another in every lane, each seen ahead at the step before.

    step 0    -  -        lanes 0 and 1: (visited, seen ahead); a step is a Latin square of lanes x stripes
              p0 p1
    step 1    p0 p1
              p2 p3
    step 2    p2 p3
              -  -
    """
    order, n_lanes = rng.permutation(layout.n_row_blocks).tolist(), layout.n_lanes
    found: list[list[Task]] = []
    number = itertools.count()
    before: list[int | None] = [None] * n_lanes
    for step in range(-(-len(order) // n_lanes) + 1):
        after = [*order[step * n_lanes : (step + 1) * n_lanes], *[None] * n_lanes][:n_lanes]
        for stratum in latin_strata(n_lanes, layout.n_stripes, rng):
            tasks = []
            for lane, s in stratum:
                rows, ahead = (
                    tuple(p for p in (row,) if p is not None) for row in (before[lane], after[lane])
                )
                if rows or ahead:
                    cols = tuple(layout.stripe(s))
                    tasks.append(Task(next(number), rows, cols, s, False, False, ahead))
            found.append(tasks)
        before = after
    return [tasks for tasks in found if tasks]


_Rectangle = tuple[int, tuple[int, ...], tuple[int, ...], int]
"""The first fields of a task. Its number says where it is, whatever the order of a pass."""


def _rectangles(
    pass_: Pass, layout: Layout, specs: Specs, rng: np.random.Generator
) -> list[list[_Rectangle]]:
    bounds = (0, layout.n_row_blocks) if pass_.sweeps > 1 else layout.segment_bounds
    shuffled = [rng.permutation(np.arange(a, b)).tolist() for a, b in pairwise(bounds)]
    segments = shared_out(shuffled, pass_, layout)
    kinds = {specs[name].kind for name in pass_.writes if not specs[name].merge}
    n_segments, n_stripes = len(segments), layout.n_stripes

    def rectangle(r: int, s: int) -> _Rectangle:
        return r * n_stripes + s, segments[r], tuple(layout.stripe(s)), s

    segment_order = rng.permutation(n_segments).tolist()
    if {"row", "col"} <= kinds:
        return [[rectangle(r, s) for r, s in stratum] for stratum in latin_strata(n_segments, n_stripes, rng)]
    if "row" in kinds:
        return [[rectangle(r, s) for r in range(n_segments)] for s in rng.permutation(n_stripes).tolist()]
    if "col" in kinds:
        return [[rectangle(r, s) for s in range(n_stripes)] for r in segment_order]
    # nothing is written, so only homes matter: few tasks at a time, all with different ones, and each finds its own
    in_order = [rectangle(r, s) for stratum in latin_strata(n_segments, n_stripes, rng) for r, s in stratum]
    at_once = max(n_segments, n_stripes)
    return [in_order[i : i + at_once] for i in range(0, len(in_order), at_once)]


def shared_out(groups: Iterable[Sequence[int]], pass_: Pass, layout: Layout) -> list[tuple[int, ...]]:
    """Row blocks of the groups that belong to a pass's share; groups without any are left out."""
    i, n = pass_.share[0], min(pass_.share[1], layout.n_row_blocks)
    kept = (tuple(p for p in group if p % n == i % n) for group in groups)
    return [rows for rows in kept if rows]


def _at_most(width: int, sub_epochs: list[list[_Rectangle]]) -> list[list[_Rectangle]]:
    return [tasks[first : first + width] for tasks in sub_epochs for first in range(0, len(tasks), width)]


def latin_strata(n_rows: int, n_cols: int, rng: np.random.Generator) -> list[list[tuple[int, int]]]:
    """Every (row, column) once, as strata in which no row and no column occurs twice (a shuffled Latin square).

    n_rows = n_cols = 3      0 1 2        stratum k holds the cells marked k
                             2 0 1
                             1 2 0
    """
    n = max(n_rows, n_cols)
    rows, cols, order = rng.permutation(n), rng.permutation(n), rng.permutation(n)
    strata = []
    for shift in order:
        cells = [(int(rows[i]), int(cols[(i + shift) % n])) for i in range(n)]
        strata.append([(r, c) for r, c in cells if r < n_rows and c < n_cols])
    return [stratum for stratum in strata if stratum]
