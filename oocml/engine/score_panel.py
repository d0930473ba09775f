"""One panel to be scored: its data, whole or in tiles, and the state that belongs to its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from oocml.data.column_order import ColumnOrder
from oocml.data.dataset import Dataset
from oocml.data.tiles import CutRows
from oocml.engine.kept_rows import KeptRows
from oocml.engine.predictions import in_data_order
from oocml.engine.state_reader import StateReader
from oocml.models.protocol import Array, Scoring
from oocml.types import Bounds, Csr, Panel


class ScoredPanel:
    """A panel of rows on its way past the column blocks of a run.

    Parameters
    ----------
    number
        Of the panel in its dataset.
    shared
        The shared arrays that scoring reads.
    """

    def __init__(
        self, reader: StateReader, scoring: Scoring, dataset: Dataset, number: int, panel: Panel, shared: Any
    ) -> None:
        self.scoring, self.reader, self.panel = scoring, reader, panel
        self.n_rows = len(panel.row_ids)
        model, problem = reader.model, reader.problem
        self.tiles: Any = None
        self.seen: Any = None
        if model.tiles:
            assert reader.column_order is not None
            self.tiles = CutRows(panel.X, reader.column_order)
            if scoring.seen:
                self.seen = self._seen(number, reader.column_order)
            self.data = model.prepare(panel._replace(X=nothing(self.n_rows)), problem, Bounds(0, 0))
        else:
            self.data = model.prepare(panel, problem, Bounds(0, problem.n_features))
        state = dict(shared) | self._row_state(dataset, number)
        self.accumulator = scoring.begin(self.data, self.n_rows, state)

    def visit(self, q: int, col: dict[str, Array]) -> None:
        """Take in one column block."""
        cols, data, seen = self.reader.layout.cols(q), self.data, None
        if self.tiles is not None:
            panel = self.panel._replace(X=self.tiles[q])
            data = self.reader.model.prepare(panel, self.reader.problem, cols)
            seen = None if self.seen is None else self.seen[q]
        self.scoring.visit(self.accumulator, data, cols, col, seen)

    def metrics(self) -> Any:
        return self.scoring.metrics(self.accumulator, self.data)

    def predictions(self) -> dict[str, Array]:
        outputs = self.scoring.predictions(self.accumulator, self.data)
        if self.reader.column_order is None:
            return outputs
        return in_data_order(outputs, self.panel.row_ids, self.reader.column_order)

    def _seen(self, number: int, order: ColumnOrder) -> CutRows:
        kept = KeptRows(self.reader.run)
        known = number + 1 < len(kept.panel_bounds)
        X = kept.seen(number) if known else nothing(self.n_rows)
        return CutRows(X, order)

    def _row_state(self, dataset: Dataset, number: int) -> dict[str, Array]:
        """The row arrays that scoring reads: of the training's rows, and zeros for rows it did not have."""
        specs = [s for s in self.reader.specs.values() if s.name in self.scoring.reads and s.kind == "row"]
        if not specs:
            return {}
        known = KeptRows(self.reader.run).check(dataset, number)
        lo, hi = dataset.panel_bounds[number : number + 2].tolist()
        found = {}
        for spec in specs:
            tail = tuple(int(d) for d in spec.dims[1:])
            rows = np.zeros((self.n_rows, *tail), spec.dtype)
            layout = self.reader.layout
            for p in range(layout.n_row_blocks) if known else ():
                bounds = layout.rows(p)
                a, b = max(lo, bounds.lo), min(hi, bounds.hi)
                if a < b:
                    rows[a - lo : b - lo] = self.reader.block(spec.name, p)[a - bounds.lo : b - bounds.lo]
            found[spec.name] = rows
        return found


def nothing(n_rows: int) -> Csr:
    """Rows without entries."""
    return Csr(np.zeros(n_rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
