"""Evaluating and predicting: batches of rows, with the column blocks of a run streamed past them.

Nothing in the run changes. A task holds one batch of rows, one column block at a time, and what the model's scoring
accumulates per row; neither the data nor the model is ever held whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.config import format_size
from oocml.data.dataset import Dataset, open_cached
from oocml.engine.context import problem_of, trim_pools
from oocml.engine.executors import Executor
from oocml.engine.kept_rows import check_names
from oocml.engine.score_memory import kept_bytes, n_pieces, scored_bytes
from oocml.engine.score_panel import ScoredPanel
from oocml.engine.state_reader import StateReader, pruned
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.kernels.tiles import order_bytes
from oocml.models.protocol import Array, Problem, Scoring
from oocml.models.registry import load_model
from oocml.schedule.layout import Layout, group_bounds, stored_array
from oocml.store.run import RunStore
from oocml.types import Csr, LabelSets, Panel

FEW_ROWS = 100


@dataclass(frozen=True)
class ScoreMessage:
    """Score a range of panels of ``dataset`` with the state that ``checkpoint`` (None: the ledger) names."""

    run_path: str
    checkpoint: str | None
    dataset: str
    panels: range
    top: int
    predict: bool
    prune: float = 0.0
    """Weights smaller than this count as zero."""
    piece: tuple[int, int] = (0, 1)
    """(i, n): only part i of n of the rows, where a single panel is more than memory has room for."""


def score_batch(message: ScoreMessage) -> Any:
    """Metrics counts of one batch of rows, or (row ids, predictions by name)."""
    trim_pools()  # what training keeps for its next tasks is room for scoring between them
    run = RunStore(message.run_path)
    model, problem = load_model(run.model_reference), problem_of(run)
    scoring = model.scoring(problem, message.top)
    dataset = open_cached(message.dataset)
    panels = [
        rows_of_piece(align_labels(dataset.read_panel(p), dataset, problem), message.piece)
        for p in message.panels
    ]
    row_ids = np.concatenate([panel.row_ids for panel in panels])
    reader = StateReader(run, message.checkpoint, problem=problem)
    kinds = {name: reader.specs[name].kind for name in scoring.reads}
    shared = {name: reader.block(name, 0) for name, kind in kinds.items() if kind == "shared"}
    scored = [
        ScoredPanel(reader, scoring, dataset, number, panel, shared)
        for number, panel in zip(message.panels, panels, strict=True)
    ]
    columns = [reader.specs[name] for name, kind in kinds.items() if kind == "col"]
    n_streams = 1 if message.predict else getattr(scoring, "streams", 1)
    for q in [*range(reader.layout.n_col_blocks)] * n_streams:
        col = {spec.name: pruned(spec, reader.block(spec.name, q), message.prune) for spec in columns}
        for panel in scored:
            panel.visit(q, col)
        del col  # before the next is read
    if not message.predict:
        counts = [panel.metrics() for panel in scored]
        total = counts[0]
        for count in counts[1:]:
            total = scoring.merge(total, count)
        return total
    outputs = [panel.predictions() for panel in scored]
    return row_ids, {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def rows_of_piece(panel: Panel, piece: tuple[int, int]) -> Panel:
    """Part i of n of a panel without labels."""
    i, n = piece
    if n == 1:
        return panel
    X, n_rows = panel.X, len(panel.row_ids)
    lo, hi = i * n_rows // n, (i + 1) * n_rows // n
    entries = slice(X.indptr[lo], X.indptr[hi])
    cut = Csr(X.indptr[lo : hi + 1] - X.indptr[lo], X.indices[entries], X.data[entries])
    return Panel(cut, None, panel.row_ids[lo:hi])


def align_labels(panel: Panel, dataset: Dataset, problem: Problem) -> Panel:
    """The panel with its label sets as positions in the training set's labels (-1: unseen in training)."""
    if not isinstance(panel.y, LabelSets) or dataset.labels is None or problem.labels is None:
        return panel
    known = np.searchsorted(problem.labels, dataset.labels)
    known = np.minimum(known, len(problem.labels) - 1)
    positions = np.where(problem.labels[known] == dataset.labels, known, -1).astype(np.int32)
    return panel._replace(y=LabelSets(panel.y.indptr, positions[panel.y.indices]))


class Batch(NamedTuple):
    """What a task scores: panels, or a piece of one (see `ScoreMessage`)."""

    panels: range
    piece: tuple[int, int] = (0, 1)


def batch_bytes(run: RunStore, dataset: Dataset) -> int:
    """What a task takes that scores a batch of about one panel."""
    _, others, sizes = _needed(run, dataset, problem_of(run), 0)
    return others + max(sizes, default=0)


def _needed(run: RunStore, dataset: Dataset, problem: Problem, top: int) -> tuple[Scoring, int, list[int]]:
    """How a run scores, with what a batch takes beside its panels, and what each panel takes, in bytes."""
    model = load_model(run.model_reference)
    layout, scoring = Layout.from_dict(run.config["layout"]), model.scoring(problem, top)
    specs = {spec.name: spec for spec in model.state(problem)}
    arrays = [stored_array(specs[name], layout, problem) for name in scoring.reads]
    block = sum(int(np.prod(a.block_shape)) * np.dtype(a.dtype).itemsize for a in arrays)
    sizes = scored_bytes(run, dataset, scoring, specs, top, layout.n_col_blocks if model.tiles else 0)
    return scoring, 2 * block + (order_bytes(problem.n_features) if model.tiles else 0), sizes


def batches(run: RunStore, dataset: Dataset, memory: int | None, n_workers: int, top: int = 0) -> list[Batch]:
    """Panels, each time as many as the memory of one worker holds beside one column block.

    Without ``memory`` a batch is about one panel. Panels that memory has no room for are cut, where the model keeps
    more of entries and columns than of rows.
    """
    problem = problem_of(run)
    scoring, others, sizes = _needed(run, dataset, problem, top)
    if memory is None:
        room = max(sizes, default=0)
    else:
        room = memory - others
        kept = [kept_bytes(scoring, nnz, dataset.n_cols) for nnz in dataset.panel_nnz.tolist()]
        least = max((size - own for size, own in zip(sizes, kept, strict=True)), default=0)
        if room < least or (not any(kept) and room < max(sizes, default=0)):
            raise DoesNotFit(
                f"scoring needs {format_size(others + least)} a worker but has {format_size(memory)}; raise --memory"
            )
    bounds = group_bounds(sizes, max(1, min(room, sum(sizes) // max(1, n_workers) + 1)))
    found, rows = [], np.diff(dataset.panel_bounds).tolist()
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        n, nnz = 1, int(dataset.panel_nnz[a])
        if b - a == 1 and sizes[a] > room:
            n = n_pieces(scoring, sizes[a], nnz, dataset.n_cols, room, rows[a])
        found += [Batch(range(a, b), (i, n)) for i in range(n)]
    return found


def batches_between_epochs(run: RunStore, dataset: Dataset, room: int, n_workers: int) -> list[Batch]:
    """Panels one by one, cut where one takes more than ``room``; whole where cutting does not help."""
    if batch_bytes(run, dataset) > room:
        with contextlib.suppress(DoesNotFit):
            return batches(run, dataset, room, n_workers)
    return batches(run, dataset, None, n_workers)


def few_rows(run: RunStore, dataset: Dataset) -> Batch:
    """What is scored to see whether scoring works: the first panel, or a little of it where it may be cut."""
    scoring = load_model(run.model_reference).scoring(problem_of(run), 0)
    n_rows, nnz = int(dataset.panel_bounds[1]), int(dataset.panel_nnz[0])
    n = 1 if not kept_bytes(scoring, nnz, dataset.n_cols) else max(1, n_rows // FEW_ROWS)
    return Batch(range(1), (0, n))


def check_columns(run: RunStore, dataset: Dataset) -> None:
    """Raise `InputError` unless the dataset has the columns the run was trained on, by the names that it keeps."""
    expected = run.config["problem"]["n_features"]
    if dataset.n_cols != expected:
        raise InputError(
            f"{dataset.path} has {dataset.n_cols} features but {run.path} was trained on {expected}; ingest it with "
            f"--like {run.config['dataset']}"
        )
    check_names(run, dataset)


def evaluate(
    run: RunStore,
    dataset: Dataset,
    executor: Executor,
    *,
    checkpoint: str | None,
    memory: int | None,
    n_workers: int = 1,
    room: int | None = None,
    prune: float = 0.0,
    intervals: bool = False,
    per_query: bool = False,
) -> dict[str, Any]:
    """Metrics of a run on a dataset, by name.

    ``room``, in place of ``memory``: what the batches that a worker scores at a time may take together, in bytes.
    ``intervals`` adds those that the model's scoring has, ``per_query`` a list of records of what each query scores,
    or each of a random sample where ``per_query_sampled`` says so.
    """
    check_columns(run, dataset)
    model = load_model(run.model_reference)
    scoring: Any = model.scoring(problem_of(run), 0)
    if per_query and not hasattr(scoring, "per_query"):
        raise UsageError(f"{model.name} does not score queries; leave out per_query (--per-query)")
    messages = [
        ScoreMessage(str(run.path), checkpoint, dataset.path, batch.panels, 0, False, prune, batch.piece)
        for batch in (
            batches(run, dataset, memory, n_workers)
            if room is None
            else batches_between_epochs(run, dataset, room, n_workers)
        )
    ]
    at_once = None if room is None else max(1, room // batch_bytes(run, dataset))
    total = None
    for count in executor.map(score_batch, messages, at_once):
        total = count if total is None else scoring.merge(total, count)
    found: dict[str, Any] = scoring.scores(total)
    if intervals and hasattr(scoring, "intervals"):
        found |= scoring.intervals(total)
    if not per_query:
        return found
    records = scoring.per_query(total)
    return found | {"per_query_sampled": len(records) < found["n_queries"], "per_query": records}


def predict(
    run: RunStore,
    dataset: Dataset,
    executor: Executor,
    *,
    checkpoint: str | None,
    memory: int | None,
    n_workers: int = 1,
    top: int,
) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, Array]]]:
    """(row ids, predictions by name) of every batch, in the dataset's stored order."""
    check_columns(run, dataset)
    messages = [
        ScoreMessage(str(run.path), checkpoint, dataset.path, batch.panels, top, True, piece=batch.piece)
        for batch in batches(run, dataset, memory, n_workers, top)
    ]
    yield from executor.map(score_batch, messages)
