"""Runs a model's program on arrays: no store, no tasks, no Dask. The oracle the engine is held against.

Every row block is one panel and each stripe is one column block. Passes visit row blocks in order, unless
``row_order`` says otherwise. Columns are in the run's order already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from oocml.models.protocol import (
    Ahead,
    Epoch,
    Epochs,
    Final,
    Item,
    Pass,
    Problem,
    Verdict,
    Visit,
    derive_seed,
)
from oocml.types import Bounds, Csr, LabelSets, Panel

Parts = dict[str, Any]


def problem_of(
    model: Any, panel: Panel, n_features: int, labels: np.ndarray | None, seed: int = 0, **settings: Any
) -> Problem:
    """The problem of a training on one panel."""
    X = panel.X
    kind = "none" if panel.y is None else "sets" if isinstance(panel.y, LabelSets) else "number"
    counts = np.bincount(X.indices, minlength=n_features)
    squares = np.bincount(X.indices, X.data.astype(np.float64) ** 2, minlength=n_features)
    return Problem(
        n_rows=len(X.indptr) - 1,
        n_features=n_features,
        nnz=len(X.data),
        feature_nnz=counts,
        feature_sumsq=squares,
        labels=labels,
        label_kind=kind,
        settings=dict(model.defaults()) | settings,
        seed=seed,
        n_used_features=int(np.count_nonzero(counts)),
        max_feature_nnz=int(counts.max(initial=0)),
        n_queries=0 if panel.qid is None else len(np.unique(panel.qid)),
    )


def cut_panel(panel: Panel, bounds: Bounds) -> Panel:
    """Rows ``bounds`` of a panel."""

    def cut(indptr: np.ndarray, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        lo, hi = indptr[bounds.lo], indptr[bounds.hi]
        return (indptr[bounds.lo : bounds.hi + 1] - lo, *(array[lo:hi] for array in arrays))

    y: Any = panel.y
    if isinstance(y, LabelSets):
        y = LabelSets(*cut(y.indptr, y.indices))
    elif y is not None:
        y = y[bounds.lo : bounds.hi]
    rows = slice(bounds.lo, bounds.hi)
    return Panel(Csr(*cut(*panel.X)), y, panel.row_ids[rows], None if panel.qid is None else panel.qid[rows])


def cut_columns(panel: Panel, cols: Bounds) -> Panel:
    """The panel with its entries in columns ``cols`` alone, numbered from the first of them."""
    X = panel.X
    inside = (X.indices >= cols.lo) & (X.indices < cols.hi)
    kept = np.concatenate([[0], np.cumsum(inside)])
    return panel._replace(X=Csr(kept[X.indptr], X.indices[inside] - np.int32(cols.lo), X.data[inside]))


@dataclass
class InMemory:
    """A training on arrays, with given bounds of row and column blocks."""

    model: Any
    problem: Problem
    panel: Panel
    row_bounds: tuple[int, ...]
    col_bounds: tuple[int, ...]
    epochs: list[Epoch] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    passes: list[tuple[Pass, Mapping[str, Any]]] = field(default_factory=list)
    stop_at: int = -1
    row_order: Callable[[Pass, int], Sequence[int]] | None = None
    """Row blocks in the order in which a pass over tiles sees them, given the pass and its number."""
    n_items: int = 0
    """Passes, epochs and finals so far."""

    def __post_init__(self) -> None:
        self.rows = [Bounds(a, b) for a, b in zip(self.row_bounds[:-1], self.row_bounds[1:], strict=True)]
        self.cols = [Bounds(a, b) for a, b in zip(self.col_bounds[:-1], self.col_bounds[1:], strict=True)]
        self.specs = {spec.name: spec for spec in self.model.state(self.problem)}
        self.constants = self.model.constants(self.problem)
        self.tile_nnz = self._count_entries()
        self.data = {p: self._prepared(cut_panel(self.panel, rows)) for p, rows in enumerate(self.rows)}
        self.state: dict[tuple[str, int, int], np.ndarray] = {}
        for name in self.specs:
            self.reset(name)

    def _prepared(self, panel: Panel) -> list[Any]:
        """What visits of a row block get: by column block, and last for passes over rows."""
        every = Bounds(0, self.problem.n_features)
        if not self.model.tiles:
            return [self.model.prepare(panel, self.problem, every)] * (len(self.cols) + 1)
        blocks = [*self.cols, Bounds(0, 0)]
        return [self.model.prepare(cut_columns(panel, cols), self.problem, cols) for cols in blocks]

    def _count_entries(self) -> np.ndarray:
        """Shape (row blocks, column blocks): stored entries of each tile, if columns are the data's."""
        bounds = self.col_bounds if self.model.tiles else (0, self.problem.n_features)
        X = self.panel.X
        rows = np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr))
        edges = (np.asarray(self.row_bounds), np.asarray(bounds))
        return np.histogram2d(rows, X.indices, edges)[0].astype(np.int64)

    def visited(self, pass_: Pass) -> list[int]:
        """Row blocks that a pass visits."""
        i, n = pass_.share[0], min(pass_.share[1], len(self.rows))
        return [p for p in range(len(self.rows)) if p % n == i % n]

    def reset(self, name: str, row_blocks: Sequence[int] | None = None) -> None:
        """Set an array (of some row blocks) to its initial value."""
        spec = self.specs[name]
        for p, rows in enumerate(self.rows if spec.kind in ("row", "cell") else [Bounds(0, 0)]):
            if row_blocks is not None and spec.kind in ("row", "cell") and p not in row_blocks:
                continue
            for q, cols in enumerate(self.cols if spec.kind in ("col", "cell") else [Bounds(0, 0)]):
                sizes = {"features": self.problem.n_features, "rows": rows.size, "cols": cols.size}
                sizes["batches"] = math.ceil(rows.size / spec.batch_rows)
                sizes["entries"] = self.tile_nnz[p, q] if spec.kind == "cell" and self.model.tiles else 0
                shape = tuple(sizes[d] if isinstance(d, str) else d for d in spec.dims)
                bounds = cols if spec.kind == "col" else rows
                value = spec.init(self.problem, bounds) if callable(spec.init) else spec.init
                self.state[name, p, q] = np.array(np.broadcast_to(value, shape), spec.dtype, order="C")

    def joined(self, name: str) -> np.ndarray:
        """A row or column array as a whole."""
        spec = self.specs[name]
        blocks = [block for (key, _, _), block in self.state.items() if key == name]
        return np.concatenate(blocks, axis=spec.dims.index("rows" if spec.kind == "row" else "cols"))

    def run(self, *segments: int) -> InMemory:
        """Train; epochs, finals and passes with their parts are kept."""
        program, sent = self.model.program(self.problem, segments), None
        while True:
            try:
                item = program.send(sent)
            except StopIteration:
                return self
            sent = self._execute(item)
            self.n_items += 1

    def _execute(self, item: Item) -> Any:
        if isinstance(item, Pass):
            parts = self.run_pass(item)
            self.passes.append((item, parts))
            return parts
        if isinstance(item, Epochs):
            return self._run_epochs(item)
        if isinstance(item, Epoch):
            self.epochs.append(item)
            return Verdict(item.number == self.stop_at)
        self.finals.append(item)
        return None

    def _run_epochs(self, item: Epochs) -> list[Parts]:
        results = []
        for number, params in enumerate(item.params):
            pass_ = replace(item.pass_, params={**item.pass_.params, **params})
            results.append(self.run_pass(pass_, number))
            self.epochs.append(item.ends(number, results[-1]))
            stop = self.epochs[-1].number == self.stop_at
            results[-1] = {**results[-1], "stopped": float(stop)}
            if stop:
                break
        return results

    def run_pass(self, pass_: Pass, *seed: int) -> Parts:
        for name in pass_.writes:
            if name not in pass_.reads:
                self.reset(name, self.visited(pass_))
        return _PassOnArrays(self, pass_, seed).run()


class _PassOnArrays:
    """One pass at work."""

    def __init__(self, training: InMemory, pass_: Pass, seed: tuple[int, ...]) -> None:
        self.training, self.pass_ = training, pass_
        self.seeds = (training.problem.seed, training.n_items, *seed)
        self.kernel = training.model.kernels[pass_.kernel]
        self.names = [*pass_.reads, *(name for name in pass_.writes if name not in pass_.reads)]
        self.merged = [name for name in pass_.writes if training.specs[name].merge]
        self.scratch = [self._scratch(cols) for cols in training.cols]
        self.parts: Parts = {}

    def run(self) -> Parts:
        n_cols = len(self.training.cols)
        if self.pass_.over == "rows":
            for p in self.training.visited(self.pass_):
                self._visit(p=p)
        elif self.pass_.over in ("cols", "once"):
            for q in range(n_cols):
                self._visit(q=q)
        elif self.pass_.ahead:
            order = list(self._order())
            for p, after in zip([-1, *order], [*order, -1], strict=True):
                for q in range(n_cols):
                    self._visit(p=p, q=q, after=after)
        else:
            for q in range(n_cols):
                self._tour(q)
        return self.parts

    def _order(self) -> Sequence[int]:
        training = self.training
        if training.row_order is None:
            return training.visited(self.pass_)
        return training.row_order(self.pass_, training.n_items)

    def _tour(self, q: int) -> None:
        """One column block through all row blocks, as often as the pass sweeps."""
        sweep, sweeps, kernel = 0, self.pass_.sweeps, self.kernel
        if kernel.begin is not None:
            self._call(kernel.begin, q=q)
        while sweep < sweeps:
            for p in self._order():
                self._visit(p=p, q=q, sweep=sweep)
            if kernel.end_sweep is not None:
                self._call(kernel.end_sweep, q=q, sweep=sweep)
            early = sweep < sweeps - 2 and kernel.settled and kernel.settled(self._seen(q=q, sweep=sweep))
            sweep = sweeps - 1 if early else sweep + 1

    def _visit(self, **where: int) -> None:
        self._call(self.kernel.visit, **where)

    def _call(self, function: Any, **where: int) -> None:
        for name, value in (function(self._seen(**where)) or {}).items():
            value = np.asarray(value, np.float64)
            if name in self.merged:
                self.training.state[name, 0, 0] += value.astype(self.training.state[name, 0, 0].dtype)
            else:
                self.parts[name] = self.parts.get(name, 0.0) + value

    def _seen(self, p: int = -1, q: int = -1, sweep: int = 0, after: int = -1) -> Visit:
        training, pass_ = self.training, self.pass_
        ahead = None
        if after >= 0:
            ahead = Ahead(
                p=after,
                data=training.data[after][q],
                n_rows=training.rows[after].size,
                row=self._view("row", after, 0),
                cell=self._view("cell", after, q),
            )
        return Visit(
            p=p,
            q=q,
            sweep=sweep,
            last=sweep == pass_.sweeps - 1,
            data=training.data[p][q] if pass_.data and p >= 0 else None,
            n_rows=training.rows[p].size if p >= 0 else 0,
            cols=training.cols[q] if q >= 0 else Bounds(0, 0),
            row=self._view("row", p, 0),
            cell=self._view("cell", p, q),
            col=self._view("col", 0, q),
            shared=self._view("shared", 0, 0),
            scratch=self.scratch[q] if q >= 0 else {},
            params=pass_.params,
            constants=training.constants,
            seed=derive_seed(*self.seeds, p) if p >= 0 else 0,
            ahead=ahead,
        )

    def _view(self, kind: str, p: int, q: int) -> dict[str, np.ndarray]:
        found, state = {}, self.training.state
        for name in self.names:
            if self.training.specs[name].kind != kind:
                continue
            if kind == "cell" and q < 0:
                found[name] = np.stack([state[name, p, s] for s in range(len(self.training.cols))])
            elif (kind in ("row", "cell") and p < 0) or (kind in ("col", "cell") and q < 0):
                continue
            else:
                found[name] = state[name, p, q].copy() if name in self.merged else state[name, p, q]
        return found

    def _scratch(self, cols: Bounds) -> dict[str, np.ndarray]:
        sizes = {"features": self.training.problem.n_features, "cols": cols.size}
        return {
            s.name: np.zeros([sizes[d] if isinstance(d, str) else d for d in s.dims], s.dtype)
            for s in self.pass_.scratch
        }
