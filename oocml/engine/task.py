"""Running one task: load each block once, visit, store each block once.

The engine's only knowledge of a model is its pass: which arrays it reads and writes, over what, with which kernel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from oocml.engine.blocks import TaskBlocks
from oocml.engine.context import RunContext, is_stopped, run_context
from oocml.engine.messages import TaskMessage, TaskResult
from oocml.errors import WorkersLost
from oocml.models.protocol import Array, Parts, Visit, derive_seed
from oocml.schedule.layout import block_shape, panel_slice
from oocml.types import Bounds

Arrays = dict[str, Array]


def run_task(message: TaskMessage) -> TaskResult:
    """Run one dispatch in this process."""
    context = run_context(message.setup)
    start = time.perf_counter()
    kind = TaskWork
    if context.model.tiles:
        from oocml.engine.tile_work import TileWork as kind
    work = kind(context, message)
    {"tiles": work.tiles, "rows": work.rows, "cols": work.cols, "once": work.once}[message.pass_.over]()
    usage = work.blocks.result.usage
    end = time.perf_counter()
    usage.total_s = end - start
    usage.idle_s = max(0.0, start - context.last_end_s)
    context.last_end_s = end
    return work.blocks.result


class TaskWork:
    """One dispatch at work: the traversals, and the calls of kernels."""

    def __init__(self, context: RunContext, message: TaskMessage) -> None:
        self.context = context
        self.message = message
        self.pass_ = message.pass_
        self.task = message.task
        self.blocks = TaskBlocks(context, message)
        self.kernel = context.kernels[self.pass_.kernel]
        self.names: dict[str, list[str]] = {"row": [], "col": [], "cell": [], "shared": []}
        for name in dict.fromkeys((*self.pass_.reads, *self.pass_.writes)):
            self.names[context.specs[name].kind].append(name)
        self.shared = {name: self.blocks.load(name, 0) for name in self.names["shared"]}

    def tiles(self) -> None:
        """Columns resident, rows streamed, as often as the pass sweeps."""
        cols = {q: self._load("col", q) for q in self.task.cols}
        scratch = {q: self._scratch(q) for q in self.task.cols}
        with self._computing():
            if self.kernel.begin is not None and self.task.opening:
                for q in self.task.cols:
                    self._call(
                        self.kernel.begin, self._visit(q=q, col=cols[q], scratch=scratch[q], last=False)
                    )
            sweep, last_sweep = 0, self.pass_.sweeps - 1
            while not self._sweep(cols, scratch, sweep, sweep == last_sweep):
                sweep += 1
            if sweep < last_sweep:
                self._sweep(cols, scratch, last_sweep, True)
        for arrays in scratch.values():
            for array in arrays.values():
                self.context.pool.give(array)
        for q in self.task.cols:
            self._store("col", q, cols[q])
        self._store_shared()

    def _sweep(
        self, cols: Mapping[int, Arrays], scratch: Mapping[int, Arrays], sweep: int, last: bool
    ) -> bool:
        """Stream all rows by once; whether nothing but the last sweep is left to do."""
        for p in self.task.rows:
            self._visit_row_block(p, cols, scratch, sweep, last)
        ends = [
            self._visit(q=q, col=cols[q], scratch=scratch[q], sweep=sweep, last=last) for q in self.task.cols
        ]
        if self.kernel.end_sweep is not None and self.task.closing:
            for visit in ends:
                self._call(self.kernel.end_sweep, visit)
        settled = self.kernel.settled
        return last or (
            sweep < self.pass_.sweeps - 2 and settled is not None and all(settled(v) for v in ends)
        )

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Let no other task of this process compute meanwhile; it may read and write."""
        start = time.perf_counter()
        with self.context.compute:
            self.blocks.result.usage.wait_s += time.perf_counter() - start
            yield

    def _visit_row_block(
        self, p: int, cols: Mapping[int, Arrays], scratch: Any, sweep: int, last: bool
    ) -> None:
        row = self._load("row", p, stored=last)
        cell_index = p * self.context.layout.n_stripes + self.task.stripe
        cell = self._load("cell", cell_index, stored=last)
        for panel, data, nnz in self.blocks.panels(p):
            rows = self._rows_of(panel, p)
            seed = derive_seed(self.context.problem.seed, *self.message.seeds, panel)
            row_view = self._of_panel(row, rows, panel, p)
            cell_view = {name: block[rows] for name, block in cell.items()}
            for q in self.task.cols:
                visit = self._visit(
                    p=p,
                    q=q,
                    sweep=sweep,
                    last=last,
                    data=data,
                    n_rows=rows.stop - rows.start,
                    row=row_view,
                    cell=cell_view,
                    col=cols[q],
                    scratch=scratch[q],
                    seed=seed,
                )
                self._call(self.kernel.visit, visit)
                self.blocks.result.usage.updates += nnz * visit.cols.size * self.pass_.per_entry
        self._store("row", p, row, stored=last)
        self._store("cell", cell_index, cell, stored=last)

    def rows(self) -> None:
        """Row blocks one after another, with the cells of all stripes stacked."""
        for p in self.task.rows:
            row, cell = self._load("row", p), self._stacked_cells(p)
            with self._computing():
                self._visit_rows(p, row, cell)
            self._store("row", p, row)
            for stacked in cell.values():
                self.context.pool.give(stacked)
        self._store_shared()

    def _stacked_cells(self, p: int) -> Arrays:
        """The cells of a row block in all stripes, stripes on the leading axis; each is held twice only in turn."""
        layout, found = self.context.layout, {}
        for name in self.names["cell"]:
            first = p * layout.n_stripes
            shape = block_shape(self.context.specs[name], layout, self.context.problem, first)
            found[name] = self.context.pool.take((layout.n_stripes, *shape), self.context.specs[name].dtype)
            for s in range(layout.n_stripes):
                block = self.blocks.load(name, first + s)
                found[name][s] = block
                self.blocks.done_with(name, first + s, block)
        return found

    def _visit_rows(self, p: int, row: Arrays, cell: Arrays) -> None:
        if not self.pass_.data:
            n_rows = self.context.layout.rows(p).size
            self._call(self.kernel.visit, self._visit(p=p, n_rows=n_rows, row=row, cell=cell))
            return
        for panel, data, nnz in self.blocks.panels(p):
            self.blocks.result.usage.updates += nnz * self.pass_.per_entry
            rows = self._rows_of(panel, p)
            visit = self._visit(
                p=p,
                data=data,
                n_rows=rows.stop - rows.start,
                row=self._of_panel(row, rows, panel, p),
                cell={name: block[:, rows] for name, block in cell.items()},
                seed=derive_seed(self.context.problem.seed, *self.message.seeds, panel),
            )
            self._call(self.kernel.visit, visit)

    def cols(self) -> None:
        """Column blocks one after another."""
        for q in self.task.cols:
            col = self._load("col", q)
            with self._computing():
                self._call(self.kernel.visit, self._visit(q=q, col=col))
            self._store("col", q, col)
        self._store_shared()

    def once(self) -> None:
        """All column blocks in order, with the shared arrays resident; only those are stored."""
        for q in self.task.cols:
            col = self._load("col", q)
            with self._computing():
                self._call(self.kernel.visit, self._visit(q=q, col=col))
            self._store("col", q, col, stored=False)
        self._store_shared()

    def _visit(self, *, p: int = -1, q: int = -1, row: Any = None, col: Any = None, **given: Any) -> Visit:
        defaults = {"sweep": 0, "last": True, "data": None, "n_rows": 0, "cell": {}, "scratch": {}, "seed": 0}
        cols = self.context.layout.cols(q) if q >= 0 else Bounds(0, 0)
        return Visit(
            p=p,
            q=q,
            cols=cols,
            row=row or {},
            col=col or {},
            shared=self.shared,
            params=self.pass_.params,
            constants=self.context.constants,
            **(defaults | given),
        )

    def _call(self, function: Any, visit: Visit) -> None:
        if is_stopped(self.message.setup.driver):
            raise WorkersLost("the training was stopped")
        start = time.perf_counter()
        parts: Parts | None = function(visit)
        usage = self.blocks.result.usage
        usage.kernel_s += time.perf_counter() - start
        usage.visits += 1
        for name, value in (parts or {}).items():
            total = self.blocks.result.parts.get(name, 0.0)
            self.blocks.result.parts[name] = total + np.asarray(value, np.float64)

    def _load(self, kind: str, index: int, *, stored: bool = True) -> Arrays:
        """Blocks of one kind; those that are only written are left out where they would not be stored."""
        return {
            name: self.blocks.load(name, index)
            for name in self.names[kind]
            if stored or name in self.pass_.reads
        }

    def _store(self, kind: str, index: int, blocks: Arrays, *, stored: bool = True) -> None:
        """Store what the pass writes, and let go of the rest."""
        for name, block in blocks.items():
            if stored and name in self.pass_.writes:
                self.blocks.store(name, index, block)
            else:
                self.blocks.done_with(name, index, block)

    def _store_shared(self) -> None:
        for name in self.names["shared"]:
            if name in self.pass_.writes and not self.context.specs[name].merge:
                self.blocks.store(name, 0, self.shared[name])

    def _scratch(self, q: int) -> Arrays:
        sizes = {"features": self.context.problem.n_features, "cols": self.context.layout.cols(q).size}
        arrays = {}
        for scratch in self.pass_.scratch:
            shape = tuple(sizes[d] if isinstance(d, str) else d for d in scratch.dims)
            arrays[scratch.name] = self.context.pool.take(shape, scratch.dtype)
            arrays[scratch.name][...] = 0
        return arrays

    def _of_panel(self, row: Arrays, rows: slice, panel: int, p: int) -> Arrays:
        """Row arrays restricted to a panel, which is ``rows`` of row block ``p``."""
        specs, number = self.context.specs, panel - self.context.layout.row_panels[p]
        return {name: block[panel_slice(specs[name], rows, number)] for name, block in row.items()}

    def _rows_of(self, panel: int, p: int) -> slice:
        bounds, first = self.context.dataset.panel_bounds, self.context.layout.row_bounds[p]
        return slice(int(bounds[panel]) - first, int(bounds[panel + 1]) - first)
