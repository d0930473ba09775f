"""Stage 2 of an ingest: spilled rows become panels. Any thread or process may run these functions."""

from __future__ import annotations

import numpy as np

from oocml.data import transforms
from oocml.data.dataset import csr_of_dense
from oocml.data.deal import read_splits
from oocml.data.ingest_job import BucketRecord, Job, Plan, load, read_map, read_plan, save
from oocml.data.readers import LabelLists
from oocml.data.spill import Rows, SpillInfo, iter_spill, join_rows, read_spill, sort_rows
from oocml.data.writer import DatasetWriter
from oocml.errors import InputError
from oocml.kernels.sparse_rows import map_columns, sort_and_add, sort_sets
from oocml.types import Csr, Float32Array, Float64Array, Int32Array, Int64Array, LabelSets, Panel

PANEL_STRIDE = 1 << 20
"""Panels of bucket b are numbered from b times this until the dataset is finished."""
NO_MAP = np.zeros(0, np.int32)


def fit_spill(job: Job, info: SpillInfo, kind: str) -> transforms.FitState:
    """What the transform must know of the rows of one spill file."""
    plan = read_plan(job)
    state = transforms.fit_start(kind, plan.n_cols)
    for rows in iter_spill(job.work / "spills", info):
        mapped, _ = to_dataset_columns(job, plan, info.part, rows)
        X = mapped.X if isinstance(mapped.X, Csr) else csr_of_dense(mapped.X)
        state = transforms.accumulate(state, X)
    return state


def form_panels(job: Job, bucket: int, writer: DatasetWriter) -> BucketRecord:
    """Gather a bucket's rows from all spill files, put them in order and write them as panels."""
    plan = read_plan(job)
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
        bounds = panel_bounds(rows, plan.panel_rows, job.panel_bytes)
        for n, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            if plan.panel_rows:
                p = int(plan.bucket_first_row[bucket]) // plan.panel_rows + n
            else:
                p = bucket * PANEL_STRIDE + n
            write_panel(writer, p, rows, lo, hi, plan, transform)
            panels.append(p)
    record = BucketRecord(bucket, panels, dropped)
    save(job.record("buckets", bucket), record)
    return record


def to_dataset_columns(job: Job, plan: Plan, part: int, rows: Rows) -> tuple[Rows, int]:
    """Raw indices and labels of a part made those of the dataset, rows numbered over the whole source.

    Returns the rows and how many entries were dropped.
    """
    columns, labels = read_map(job, part, "cols"), read_map(job, part, "labels")
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


def panel_bounds(rows: Rows, panel_rows: int, panel_bytes: int) -> list[int]:
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


def write_panel(
    writer: DatasetWriter, p: int, rows: Rows, lo: int, hi: int, plan: Plan, transform: transforms.Transform
) -> None:
    """Write rows lo:hi of a bucket, transformed, as panel ``p``."""
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
