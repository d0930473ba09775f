"""The work of an ingest, as functions that any thread or process may run: read a part, form the panels of a bucket.

Each leaves a record in the work folder when it is done, which is what a resumed ingest goes by.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oocml.data import transforms
from oocml.data.dataset import csr_of_dense
from oocml.data.deal import deal_keys, read_splits
from oocml.data.readers import BadLines, LabelLists, Part, RowBatch, TooManyBad, make_reader
from oocml.data.source_files import iter_files
from oocml.data.spill import (
    Rows,
    SpillInfo,
    UInt64Array,
    iter_spill,
    join_rows,
    read_spill,
    rows_of_batches,
    sort_rows,
    write_spill,
)
from oocml.data.writer import DatasetWriter
from oocml.errors import InputError
from oocml.kernels.sparse_rows import map_columns, sort_and_add, sort_sets
from oocml.types import Csr, Float32Array, Float64Array, Int32Array, Int64Array, LabelSets, Panel

SPILL_BYTES = 40 << 20
"""Rows of a part that are in memory at a time."""
PANEL_STRIDE = 1 << 20
"""Panels of bucket b are numbered from b times this until the dataset is finished."""
HASH_BYTES = 8 << 20
NO_MAP = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Job:
    """What an ingest was asked to do; picklable."""

    format: str
    options: Mapping[str, Any]
    work: Path
    """Folder of everything temporary."""
    max_bad: int
    seed: int
    keep_order: bool
    panel_bytes: int

    @property
    def stop_file(self) -> Path:
        """Exists once the ingest has been given up."""
        return self.work / "stop"

    def record(self, kind: str, number: int) -> Path:
        return self.work / kind / f"{number}.pickle"


@dataclass(frozen=True)
class PartRecord:
    """What a finished part leaves behind, next to its spill files."""

    part: int
    n_rows: int
    nnz: int
    index_range: tuple[int, int]
    n_labels: int
    max_labels: int
    labels: Float64Array | None
    """Distinct labels, or None if one isn't a whole number."""
    n_queries: int
    """Rows with a query."""
    dense: bool
    bad: BadLines
    too_many_bad: bool
    spills: list[SpillInfo]


@dataclass(frozen=True)
class Plan:
    """What stage 2 knows once all parts are read; written as ``plan.pickle``."""

    n_cols: int
    index_base: int
    label_kind: str
    labels: npt.NDArray[Any] | None
    """Label ids that sets index."""
    part_first_row: Int64Array
    """Shape (parts,): number of each part's first row."""
    spills: list[SpillInfo]
    n_buckets: int
    panel_rows: int
    """Dense data: rows per panel; else 0."""
    bucket_first_row: Int64Array
    """Shape (buckets + 1,): stored rows before each bucket."""


@dataclass(frozen=True)
class BucketRecord:
    bucket: int
    panels: list[int]
    dropped: int
    """Entries dropped because their column is unknown."""


class PartFacts(Sequence[Any]):
    """What each part's reader knows of it, read from disk when asked for."""

    def __init__(self, job: Job, n_parts: int) -> None:
        self._job = job
        self._n_parts = n_parts

    def __len__(self) -> int:
        return self._n_parts

    def __getitem__(self, part: Any) -> Any:
        if not 0 <= part < self._n_parts:
            raise IndexError(part)
        return load(self._job.record("facts", part))


def save(path: Path, value: Any) -> None:
    """Pickle atomically."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(pickle.dumps(value))
    os.replace(temporary, path)


def load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


class Stopped(Exception):
    """The ingest was given up while this task ran."""


def check_going_on(job: Job) -> None:
    """Raise `Stopped` once the driver has given up; asked between batches."""
    if job.stop_file.exists():
        raise Stopped


# -- stage 1: parts to spill files --------------------------------------------------------------------------


def read_part(job: Job, part: Part, source: int) -> PartRecord:
    """Read a part into spill files.

    Parameters
    ----------
    source
        Which of the sources the part belongs to, from 0.
    """
    reader = make_reader(job.format, job.options)
    bad = BadLines(limit=job.max_bad)
    tally = _PartTally()
    spills: list[SpillInfo] = []
    held: list[RowBatch] = []
    keys: list[UInt64Array] = []
    first_row = held_bytes = 0

    def spill() -> None:
        nonlocal held_bytes, first_row
        rows = rows_of_batches(held, keys, first_row)
        held.clear()
        keys.clear()
        first_row, held_bytes = first_row + rows.n_rows, 0
        spills.append(write_spill(job.work / "spills", part.index, len(spills), sort_rows(rows)))

    too_many = False
    try:
        for batch in reader.read(part, bad):
            check_going_on(job)
            if not len(batch.position):
                continue
            tally.add(batch)
            held.append(batch)
            keys.append(
                deal_keys(source, batch.position, batch.qid, seed=job.seed, keep_order=job.keep_order)
            )
            held_bytes += _batch_bytes(batch)
            if held_bytes >= SPILL_BYTES:
                spill()
        if held:
            spill()
    except TooManyBad:
        too_many = True
    record = tally.record(part.index, bad, too_many, spills)
    if not too_many:
        save(job.record("facts", part.index), reader.facts())
        save(job.record("parts", part.index), record)
    return record


class _PartTally:
    """Counts over the batches of a part."""

    def __init__(self) -> None:
        self.n_rows = self.nnz = self.n_labels = self.max_labels = self.n_queries = 0
        self.lowest = self.highest = -1
        self.labels: Float64Array | None = np.zeros(0)
        self.dense = False

    def add(self, batch: RowBatch) -> None:
        self.n_rows += len(batch.position)
        lowest, highest = _index_range(batch)
        if highest >= 0:
            self.lowest = lowest if self.lowest < 0 else min(self.lowest, lowest)
            self.highest = max(self.highest, highest)
        if isinstance(batch.X, Csr):
            self.nnz += len(batch.X.data)
        else:
            self.nnz += batch.X.size
            self.dense = True
        if batch.labels is not None:
            self._add_labels(batch.labels)
        if batch.qid is not None:
            self.n_queries += int(np.count_nonzero(batch.qid >= 0))

    def _add_labels(self, labels: LabelLists) -> None:
        self.n_labels += len(labels.values)
        self.max_labels = max(self.max_labels, int(np.diff(labels.indptr).max(initial=0)))
        if self.labels is not None:
            new = np.unique(labels.values)
            whole = bool((new == np.rint(new)).all())
            self.labels = np.union1d(self.labels, new) if whole else None

    def record(self, part: int, bad: BadLines, too_many: bool, spills: list[SpillInfo]) -> PartRecord:
        return PartRecord(
            part=part,
            n_rows=self.n_rows,
            nnz=self.nnz,
            index_range=(self.lowest, self.highest),
            n_labels=self.n_labels,
            max_labels=self.max_labels,
            labels=self.labels,
            n_queries=self.n_queries,
            dense=self.dense,
            bad=bad,
            too_many_bad=too_many,
            spills=spills,
        )


def _index_range(batch: RowBatch) -> tuple[int, int]:
    if batch.index_range is not None:
        return batch.index_range
    if not isinstance(batch.X, Csr):
        return 0, batch.X.shape[1] - 1
    if not len(batch.X.indices):
        return -1, -1
    return int(batch.X.indices.min()), int(batch.X.indices.max())


def _batch_bytes(batch: RowBatch) -> int:
    entries = 8 * len(batch.X.data) if isinstance(batch.X, Csr) else batch.X.nbytes
    return entries + 40 * len(batch.position)


def hash_source(job: Job, number: int, path: str) -> None:
    """Write the sha256 of a source, unless it is on record."""
    record = job.work / "hashes" / str(number)
    if record.exists():
        return
    digest = hashlib.sha256()
    for name in iter_files(path):
        with open(name, "rb", buffering=0) as file:
            while piece := file.read(HASH_BYTES):
                check_going_on(job)
                digest.update(piece)
    temporary = record.with_suffix(".tmp")
    temporary.write_text(digest.hexdigest())
    os.replace(temporary, record)


# -- between the stages -------------------------------------------------------------------------------------


def fit_spill(job: Job, info: SpillInfo, kind: str) -> transforms.FitState:
    """What the transform must know of the rows of one spill file."""
    plan = _plan(job)
    state = transforms.fit_start(kind, plan.n_cols)
    for rows in iter_spill(job.work / "spills", info):
        mapped, _ = to_dataset_columns(job, plan, info.part, rows)
        X = mapped.X if isinstance(mapped.X, Csr) else csr_of_dense(mapped.X)
        state = transforms.accumulate(state, X)
    return state


# -- stage 2: buckets to panels -----------------------------------------------------------------------------


def form_panels(job: Job, bucket: int, writer: DatasetWriter) -> BucketRecord:
    """Gather a bucket's rows from all spill files, put them in order and write them as panels."""
    plan = _plan(job)
    transform = load(job.work / "transform.pickle")
    pieces: list[Rows] = []
    dropped = 0
    ranges = read_splits(job.work / "splits", len(plan.spills), plan.n_buckets, bucket)
    for info, (lo, hi) in zip(plan.spills, ranges.tolist(), strict=True):
        if lo < hi:
            rows, lost = to_dataset_columns(
                job, plan, info.part, read_spill(job.work / "spills", info, lo, hi)
            )
            pieces.append(rows)
            dropped += lost
    panels: list[int] = []
    if pieces:
        rows = sort_rows(join_rows(pieces))
        pieces.clear()
        bounds = _panel_bounds(rows, plan.panel_rows, job.panel_bytes)
        for n, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            if plan.panel_rows:
                p = int(plan.bucket_first_row[bucket]) // plan.panel_rows + n
            else:
                p = bucket * PANEL_STRIDE + n
            _write_panel(writer, p, rows, lo, hi, plan, transform)
            panels.append(p)
    record = BucketRecord(bucket, panels, dropped)
    save(job.record("buckets", bucket), record)
    return record


def to_dataset_columns(job: Job, plan: Plan, part: int, rows: Rows) -> tuple[Rows, int]:
    """Raw indices and labels of a part made those of the dataset, rows numbered over the whole source.

    Returns the rows and how many entries were dropped.
    """
    columns, labels = _map_of(job, part, "cols"), _map_of(job, part, "labels")
    X, dropped = rows.X, 0
    if isinstance(X, Csr):
        before = len(X.data)
        base = plan.index_base
        kept, in_order = map_columns(*X, NO_MAP if columns is None else columns, base, plan.n_cols)
        dropped = before - kept
        X = Csr(X.indptr, X.indices[:kept], X.data[:kept])
        if not in_order:
            kept = sort_and_add(*X)
            X = Csr(X.indptr, X.indices[:kept], X.data[:kept])
    values = rows.labels.values
    if labels is not None:
        values = labels[values.astype(np.int64)]
    row = rows.row + plan.part_first_row[part]
    return rows._replace(X=X, row=row, labels=rows.labels._replace(values=values)), dropped


def _panel_bounds(rows: Rows, panel_rows: int, panel_bytes: int) -> list[int]:
    """Where panels begin and end in the rows of a bucket: equal rows (dense) or bytes (sparse), queries whole."""
    n_rows = rows.n_rows
    if panel_rows:
        return [*range(0, n_rows, panel_rows), n_rows]
    if not isinstance(rows.X, Csr):
        raise InputError("dense rows in a sparse dataset")
    size = 8 * rows.X.indptr + 16 * np.arange(n_rows + 1) + 8 * rows.labels.indptr
    n_panels = max(1, round(int(size[-1]) / panel_bytes))
    wanted = np.arange(1, n_panels) * (size[-1] / n_panels)
    starts = np.arange(n_rows)
    if rows.qid is not None:
        starts = np.flatnonzero(np.concatenate([[True], rows.qid[1:] != rows.qid[:-1]]))
    near = np.searchsorted(size[starts], wanted).clip(0, len(starts) - 1)
    return np.unique(np.concatenate([[0], starts[near], [n_rows]])).tolist()


def _write_panel(
    writer: DatasetWriter, p: int, rows: Rows, lo: int, hi: int, plan: Plan, transform: transforms.Transform
) -> None:
    y = _labels_of(rows.labels, lo, hi, plan)
    row_ids = rows.row[lo:hi]
    if isinstance(rows.X, Csr):
        first, last = int(rows.X.indptr[lo]), int(rows.X.indptr[hi])
        X = Csr(
            rows.X.indptr[lo : hi + 1] - first, rows.X.indices[first:last], rows.X.data[first:last].copy()
        )
        X = transforms.apply(transform, X, row_ids)
        qid = None if rows.qid is None else rows.qid[lo:hi]
        writer.write_panel(p, Panel(X, y, row_ids), qid=qid)
        return
    values = np.ascontiguousarray(rows.X[lo:hi])
    values = _transform_dense(transform, values, row_ids)
    writer.write_dense_panel(p, values, Panel(_EMPTY, y, row_ids), p * plan.panel_rows)


_EMPTY = Csr(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


def _transform_dense(
    transform: transforms.Transform, values: Float32Array, row_ids: Int64Array
) -> Float32Array:
    if transform.kind == "none":
        return values
    X = transforms.apply(transform, csr_of_dense(values), row_ids)
    out = np.zeros_like(values)
    out[np.repeat(np.arange(len(values)), np.diff(X.indptr)), X.indices] = X.data
    return out


def _labels_of(labels: LabelLists, lo: int, hi: int, plan: Plan) -> Float64Array | LabelSets | None:
    """Labels of rows lo:hi as the dataset stores them."""
    if plan.label_kind == "none":
        return None
    indptr = labels.indptr[lo : hi + 1] - labels.indptr[lo]
    values = labels.values[labels.indptr[lo] : labels.indptr[hi]]
    if plan.label_kind == "number":
        y = np.full(hi - lo, np.nan)
        y[np.diff(indptr) > 0] = values
        return y
    if plan.labels is None:
        raise InputError("label sets without label ids")
    ids: Int32Array = np.searchsorted(plan.labels, values).astype(np.int32)
    kept = sort_sets(indptr, ids)
    return LabelSets(indptr, ids[:kept])


def _plan(job: Job) -> Plan:
    return _load_plan(job.work / "plan.pickle", (job.work / "plan.pickle").stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load_plan(path: Path, version: int) -> Plan:
    del version
    plan: Plan = load(path)
    return plan


def map_path(work: Path, part: int, what: str) -> Path:
    """Where the column or label map of a part is kept, if it has one."""
    return work / "maps" / f"{part}.{what}.npy"


def _map_of(job: Job, part: int, what: str) -> Any:
    path = map_path(job.work, part, what)
    return np.load(path) if path.exists() else None
