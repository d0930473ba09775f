"""Running a task of a model whose columns are columns of the data: row blocks meet column blocks in tiles.

Blocks and tiles are read before the task waits for its turn to compute, and stored after it, so that one task of a
process reads and writes while another one computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from oocml.engine.task import Arrays, TaskWork
from oocml.models.protocol import Ahead, derive_seed


class RowBlock(NamedTuple):
    """A row block at work."""

    p: int
    n_rows: int
    row: Arrays
    cell: Arrays
    cell_index: int
    data: Mapping[int, Any]
    """Prepared tile by column block."""
    nnz: Mapping[int, int]


class TileWork(TaskWork):
    """One dispatch of a model of tiles at work."""

    def tiles(self) -> None:
        """Columns resident, row blocks one after another; or one row block with the next one of its lane."""
        cols = {q: self._load("col", q) for q in self.task.cols}
        scratch = {q: self._scratch(q) for q in self.task.cols}
        begin, end_sweep = self.kernel.begin, self.kernel.end_sweep
        opened = False
        for own, after in self._row_blocks():
            with self._computing():
                if begin is not None and self.task.opening and not opened:
                    for q in self.task.cols:
                        self._call(begin, self._visit(q=q, col=cols[q], scratch=scratch[q]))
                opened = True
                for q in self.task.cols:
                    self._meet(own, after, q, col=cols[q], scratch=scratch[q])
            self._put_back(own, consumed=self.pass_.consumes)
            self._put_back(after)
            del own, after  # their memory is wanted for the next ones
        if end_sweep is not None and self.task.closing:
            with self._computing():
                for q in self.task.cols:
                    self._call(end_sweep, self._visit(q=q, col=cols[q], scratch=scratch[q]))
        for arrays in scratch.values():
            for array in arrays.values():
                self.context.pool.give(array)
        for q in self.task.cols:
            self._store("col", q, cols[q])
        self._store_shared()

    def rows(self) -> None:
        """Row blocks one after another, with the cells of all stripes stacked and labels for data."""
        for p in self.task.rows:
            row, cell = self._load("row", p), self._stacked_cells(p)
            data = self.blocks.labels(p) if self.pass_.data else None
            seed = self._seed(p)
            with self._computing():
                n_rows = self.context.layout.rows(p).size
                self._call(
                    self.kernel.visit,
                    self._visit(p=p, data=data, n_rows=n_rows, row=row, cell=cell, seed=seed),
                )
            self._store("row", p, row)
            for stacked in cell.values():
                self.context.pool.give(stacked)
        self._store_shared()

    def _row_blocks(self) -> Iterator[tuple[RowBlock | None, RowBlock | None]]:
        """(visited, seen ahead), as they are wanted."""
        if not self.pass_.ahead:
            for p in self.task.rows:
                yield self._take(p), None
            return
        own, after = (
            self._take(blocks[0]) if blocks else None for blocks in (self.task.rows, self.task.ahead)
        )
        yield own, after

    def _take(self, p: int) -> RowBlock:
        cell_index = p * self.context.layout.n_stripes + self.task.stripe
        tiles = {q: self.blocks.tile(p, q) for q in self.task.cols} if self.pass_.data else {}
        return RowBlock(
            p=p,
            n_rows=self.context.layout.rows(p).size,
            row=self._load("row", p),
            cell=self._load("cell", cell_index),
            cell_index=cell_index,
            data={q: data for q, (data, _) in tiles.items()},
            nnz={q: nnz for q, (_, nnz) in tiles.items()},
        )

    def _meet(self, own: RowBlock | None, after: RowBlock | None, q: int, **given: Any) -> None:
        ahead = None
        if after is not None:
            ahead = Ahead(after.p, after.data.get(q), after.n_rows, after.row, after.cell)
        if own is not None:
            given |= {
                "p": own.p,
                "data": own.data.get(q),
                "n_rows": own.n_rows,
                "row": own.row,
                "cell": own.cell,
            }
            given["seed"] = self._seed(own.p)
            self.blocks.result.usage.updates += own.nnz.get(q, 0) * self.pass_.per_entry
        self._call(self.kernel.visit, self._visit(q=q, ahead=ahead, **given))

    def _put_back(self, block: RowBlock | None, consumed: tuple[str, ...] = ()) -> None:
        if block is None:
            return
        self._store("row", block.p, block.row)
        kept = {name: array for name, array in block.cell.items() if name not in consumed}
        self._store("cell", block.cell_index, kept)
        for name in consumed:
            self.blocks.done_with(name, block.cell_index, block.cell[name])

    def _seed(self, p: int) -> int:
        return derive_seed(self.context.problem.seed, *self.message.seeds, p)
