"""Runs a model's program on arrays: no store, no tasks, no Dask.

It is the oracle the engine is held against, and what compiles a model's kernels before the clock starts: a few rows
of made-up data go through every pass (`rehearse`). It starts no thread, so workers may be forked afterwards.

Every row block is one panel and each stripe is one column block. Passes visit row blocks in order, unless
``row_order`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oocml.errors import OocmlError
from oocml.models.protocol import (
    Epoch,
    Final,
    Model,
    Pass,
    Problem,
    Settings,
    Verdict,
    Visit,
    derive_seed,
)
from oocml.types import Bounds, Csr, LabelSets, Panel


def rehearse(model: Model, settings: Settings) -> None:
    """Train a model on six rows of made-up data, so that its kernels are compiled and loaded in this process.

    A model that cannot train on such data is left to compile when it is first used.
    """
    X = Csr(
        np.arange(0, 13, 2),
        np.tile(np.array([0, 1, 1, 2], np.int32), 3),
        np.linspace(0.5, 1, 12, dtype=np.float32),
    )
    panel = Panel(X, np.arange(6) % 3.0, np.arange(6))
    problem = problem_of(model, panel, 3, np.arange(3.0), **settings)
    try:
        model.check(problem)
    except OocmlError:
        return
    n_cols = model.n_cols(problem)
    InMemory(model, problem, panel, (0, 3, 6), (0, n_cols)).run(2)


def problem_of(
    model: Any, panel: Panel, n_features: int, labels: np.ndarray | None, seed: int = 0, **settings: Any
) -> Problem:
    """The problem of a training on one panel."""
    X = panel.X
    kind = "none" if panel.y is None else "sets" if isinstance(panel.y, LabelSets) else "number"
    squares = np.bincount(X.indices, X.data.astype(np.float64) ** 2, minlength=n_features)
    return Problem(
        n_rows=len(X.indptr) - 1,
        n_features=n_features,
        nnz=len(X.data),
        feature_nnz=np.bincount(X.indices, minlength=n_features),
        feature_sumsq=squares,
        labels=labels,
        label_kind=kind,
        settings=dict(model.defaults()) | settings,
        seed=seed,
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
    return Panel(Csr(*cut(*panel.X)), y, panel.row_ids[bounds.lo : bounds.hi])


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
        every_column = Bounds(0, self.problem.n_features)
        self.data = [
            self.model.prepare(cut_panel(self.panel, rows), self.problem, every_column) for rows in self.rows
        ]
        self.state: dict[tuple[str, int, int], np.ndarray] = {}
        for name in self.specs:
            self.reset(name)

    def reset(self, name: str) -> None:
        """Set an array to its initial value."""
        spec = self.specs[name]
        for p, rows in enumerate(self.rows if spec.kind in ("row", "cell") else [Bounds(0, 0)]):
            for q, cols in enumerate(self.cols if spec.kind in ("col", "cell") else [Bounds(0, 0)]):
                sizes = {"features": self.problem.n_features, "rows": rows.size, "cols": cols.size}
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
            if isinstance(item, Pass):
                sent = self.run_pass(item)
                self.passes.append((item, sent))
            elif isinstance(item, Epoch):
                self.epochs.append(item)
                sent = Verdict(item.number == self.stop_at)
            else:
                self.finals.append(item)
                sent = None
            self.n_items += 1

    def run_pass(self, pass_: Pass) -> dict[str, Any]:
        names = [*pass_.reads, *(name for name in pass_.writes if name not in pass_.reads)]
        for name in pass_.writes:
            if name not in pass_.reads:
                self.reset(name)
        kernel, parts, number = self.model.kernels[pass_.kernel], {}, self.n_items
        scratch = [self.scratch(pass_, cols) for cols in self.cols]

        def call(function: Any, p: int = -1, q: int = -1, sweep: int = 0) -> Any:
            seed = derive_seed(self.problem.seed, number, p) if p >= 0 else 0
            with_data = pass_.data and p >= 0
            return function(
                Visit(
                    p=p,
                    q=q,
                    sweep=sweep,
                    last=sweep == pass_.sweeps - 1,
                    data=self.data[p] if with_data else None,
                    n_rows=self.rows[p].size if p >= 0 else 0,
                    cols=self.cols[q] if q >= 0 else Bounds(0, 0),
                    row=self.view(names, "row", p, 0),
                    cell=self.view(names, "cell", p, q),
                    col=self.view(names, "col", 0, q),
                    shared=self.view(names, "shared", 0, 0),
                    scratch=scratch[q] if q >= 0 else {},
                    params=pass_.params,
                    constants=self.constants,
                    seed=seed,
                )
            )

        def add(result: Mapping[str, Any] | None) -> None:
            for name, value in (result or {}).items():
                parts[name] = parts.get(name, 0.0) + np.asarray(value, np.float64)

        if pass_.over == "rows":
            for p in range(len(self.rows)):
                add(call(kernel.visit, p=p))
        elif pass_.over in ("cols", "once"):
            for q in range(len(self.cols)):
                add(call(kernel.visit, q=q))
        else:
            order = self.row_order(pass_, number) if self.row_order else range(len(self.rows))
            for q in range(len(self.cols)):
                sweep = 0
                if kernel.begin is not None:
                    add(call(kernel.begin, q=q))
                while sweep < pass_.sweeps:
                    for p in order:
                        add(call(kernel.visit, p=p, q=q, sweep=sweep))
                    if kernel.end_sweep is not None:
                        add(call(kernel.end_sweep, q=q, sweep=sweep))
                    early = (
                        sweep < pass_.sweeps - 2 and kernel.settled and call(kernel.settled, q=q, sweep=sweep)
                    )
                    sweep = pass_.sweeps - 1 if early else sweep + 1
        return parts

    def view(self, names: list[str], kind: str, p: int, q: int) -> dict[str, np.ndarray]:
        found = {}
        for name in names:
            if self.specs[name].kind != kind:
                continue
            if kind == "cell" and q < 0:
                found[name] = np.stack([self.state[name, p, s] for s in range(len(self.cols))])
            elif (kind in ("row", "cell") and p < 0) or (kind in ("col", "cell") and q < 0):
                continue
            else:
                found[name] = self.state[name, p, q]
        return found

    def scratch(self, pass_: Pass, cols: Bounds) -> dict[str, np.ndarray]:
        sizes = {"features": self.problem.n_features, "cols": cols.size}
        return {
            s.name: np.zeros([sizes[d] if isinstance(d, str) else d for d in s.dims], s.dtype)
            for s in pass_.scratch
        }
