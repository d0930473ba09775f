"""Small trainings of models of tiles on arrays, and their scoring by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oocml.engine.in_memory import InMemory, cut_columns, problem_of
from oocml.types import Csr, Panel


def csr(X: np.ndarray, present: np.ndarray | None = None) -> Csr:
    """The entries where ``present`` (default: the non-zeros)."""
    rows, cols = (X != 0 if present is None else present).nonzero()
    indptr = np.searchsorted(rows, np.arange(len(X) + 1)).astype(np.int64)
    return Csr(indptr, cols.astype(np.int32), X[rows, cols].astype(np.float32))


def cuts(n: int, n_blocks: int) -> tuple[int, ...]:
    """Bounds of unequal blocks, at most as many as there are columns."""
    n_blocks = min(n_blocks, n)
    inner = np.sort(np.random.default_rng(n).choice(np.arange(1, n), n_blocks - 1, replace=False))
    return (0, *inner.tolist(), n)


def begin(
    model: Any,
    X: Csr,
    n_cols: int,
    y: np.ndarray | None = None,
    *,
    blocks: tuple[int, int] = (3, 2),
    seed: int = 0,
    qid: np.ndarray | None = None,
    **settings: Any,
) -> InMemory:
    """A training that has its data and did nothing yet."""
    n_rows = len(X.indptr) - 1
    labels = None
    if y is not None and (y[~np.isnan(y)] == np.trunc(y[~np.isnan(y)])).all():
        labels = np.unique(y[~np.isnan(y)])
    panel = Panel(X, y, np.arange(n_rows), qid)
    problem = problem_of(model, panel, n_cols, labels, seed, **settings)
    model.check(problem)
    return InMemory(model, problem, panel, cuts(n_rows, blocks[0]), cuts(model.n_cols(problem), blocks[1]))


def scored(
    run: InMemory,
    X: Csr,
    y: np.ndarray | None = None,
    top: int = 0,
    rows: np.ndarray | None = None,
    batches: Sequence[int] = (),
    qid: np.ndarray | None = None,
) -> tuple[dict[str, float], list[Mapping[str, np.ndarray]]]:
    """Metrics and each batch's predictions of rows that the training had (``rows``: which of them, -1 for none)."""
    n_rows = len(X.indptr) - 1
    rows = np.arange(n_rows) if rows is None else rows
    scoring, total, outputs = run.model.scoring(run.problem, top), None, []
    bounds = [0, *batches, n_rows]
    for lo, hi in zip(bounds[:-1], bounds[1:], strict=True):
        X_batch = Csr(X.indptr[lo : hi + 1] - X.indptr[lo], *(a[X.indptr[lo] : X.indptr[hi]] for a in X[1:]))
        of_rows = [None if values is None else values[lo:hi] for values in (y, qid)]
        panel = Panel(X_batch, of_rows[0], np.arange(lo, hi), of_rows[1])
        prepared = _prepared(run, panel)
        accumulator = scoring.begin(prepared[-1], hi - lo, _state(run, scoring, rows[lo:hi]))
        streams = 1 if top else getattr(scoring, "streams", 1)
        for q, cols in [*enumerate(run.cols)] * streams:
            seen = None
            if scoring.seen:
                seen = _rows_of(cut_columns(run.panel, cols).X, rows[lo:hi])
            scoring.visit(accumulator, prepared[q], cols, _columns(run, scoring, q), seen)
        counts = None if top else scoring.metrics(accumulator, prepared[-1])
        total = counts if total is None else scoring.merge(total, counts)
        outputs.append(scoring.predictions(accumulator, prepared[-1]))
    return {} if top else scoring.scores(total), outputs


def _prepared(run: InMemory, panel: Panel) -> list[Any]:
    return run._prepared(panel)


def _state(run: InMemory, scoring: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    state = {}
    for name in scoring.reads:
        if run.specs[name].kind == "shared":
            state[name] = run.state[name, 0, 0]
        elif run.specs[name].kind == "row":
            whole = run.joined(name)
            state[name] = np.where(
                (rows >= 0).reshape(-1, *[1] * (whole.ndim - 1)), whole[rows], whole.dtype.type(0)
            )
    return state


def _columns(run: InMemory, scoring: Any, q: int) -> dict[str, np.ndarray]:
    return {name: run.state[name, 0, q] for name in scoring.reads if run.specs[name].kind == "col"}


def _rows_of(X: Csr, rows: np.ndarray) -> Csr:
    lists = [np.arange(X.indptr[i], X.indptr[i + 1]) if i >= 0 else np.zeros(0, int) for i in rows]
    kept = np.concatenate([*lists, np.zeros(0, int)])
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    return Csr(indptr, X.indices[kept], X.data[kept])
