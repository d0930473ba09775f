"""Rows gathered from entries that come in any order and from any part.

Stage 1 of an ingest leaves *fragments* of rows in its spill files: the entries of one row that one spill file holds, in
source order. Fragments are sorted by a key that is a function of the row's name, so a bucket of keys has all fragments
of its rows, and stage 2 joins them.

Since the key depends on the name and the seed alone, a dataset made ``like`` a training set finds the training set's
rows in its own buckets in the same order. Panels get the same rows as the training set's panels, empty ones too; rows
of other names come in panels of their own, after all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from oocml.data import deal
from oocml.data.dataset import Dataset, open_cached
from oocml.data.deal import name_keys, read_splits
from oocml.data.identity import dataset_sha256
from oocml.data.ingest_job import (
    BucketRecord,
    GatherPlan,
    Job,
    Plan,
    load,
    map_path,
    read_map,
    read_plan,
    save,
)
from oocml.data.ingest_panels import NO_MAP, PANEL_STRIDE, panel_bounds, write_panel
from oocml.data.readers import EntryBatch, GatheredRows, LabelLists
from oocml.data.spill import Rows, SpillInfo, UInt64Array, join_rows, read_row_numbers, read_spill
from oocml.data.writer import DatasetWriter
from oocml.errors import InputError
from oocml.kernels.sparse_rows import gather_last, gather_rows, map_columns
from oocml.types import Csr, Int64Array

FRAGMENT_BYTES = 40
"""What a fragment takes in memory besides its entries."""


# -- stage 1: entries to fragments -------------------------------------------------------------------------


def rows_of_entries(batches: Sequence[EntryBatch], seed: int) -> Rows:
    """The entries of some batches as sorted fragments; ``Rows.row`` is the part's own number."""
    row = np.concatenate([b.row for b in batches])
    key = name_keys(np.concatenate([b.hash for b in batches]), seed=seed)
    order = np.argsort(key, kind="stable")
    row, key = row[order], key[order]
    begins = np.concatenate([[True], key[1:] != key[:-1]])
    if (row[1:] != row[:-1])[~begins[1:]].any():  # two names of one hash, whose entries may be interleaved
        again = np.lexsort((row, key))
        order, row, key = order[again], row[again], key[again]
        begins = np.concatenate([[True], (key[1:] != key[:-1]) | (row[1:] != row[:-1])])
    first = np.flatnonzero(begins)
    column = np.concatenate([b.column for b in batches])
    value = np.concatenate([b.value for b in batches])
    indptr = np.append(first, len(row)).astype(np.int64)
    X = Csr(indptr, column[order].astype(np.int32), value[order])
    return Rows(key[first], row[first].astype(np.int64), X, _no_labels(len(first)), None)


# -- between -----------------------------------------------------------------------------------------------


def plan_gathering(
    job: Job, rows: GatheredRows, like: Dataset | None, spills: Sequence[SpillInfo]
) -> tuple[GatherPlan, UInt64Array]:
    """How rows are gathered, and the keys at which buckets are cut. Numbers the rows of all fragments.

    Raises
    ------
    InputError
        The rows of ``like`` were not dealt by their names.
    """
    number_fragments(job, rows, spills)
    n_bytes = sum(8 * info.nnz + FRAGMENT_BYTES * info.n_rows for info in spills)
    if like is None:
        n = max(1, -(-n_bytes // deal.BUCKET_BYTES))
        cuts = np.array([(b << 64) // n for b in range(1, n)], np.uint64)
        return GatherPlan(n, n, 0, None, np.zeros(0, np.int64)), cuts
    keys = name_keys(rows.hashes[: rows.n_known], seed=job.seed)[like.row_ids[:]]
    if len(keys) != like.n_rows or (keys[1:] < keys[:-1]).any():
        raise InputError(
            f"the rows of {like.path} are not in the order in which ratings are dealt; ingest the training set again"
        )
    n = max(1, -(-(n_bytes + FRAGMENT_BYTES * like.n_rows) // deal.BUCKET_BYTES))
    starts = like.panel_bounds[1:-1]
    # not between two rows of one key: both must be in one bucket
    allowed = 1 + np.flatnonzero(keys[starts] > keys[starts - 1])
    wanted = np.linspace(0, like.n_panels, n + 1)[1:-1]
    near = np.searchsorted(allowed, wanted).clip(0, max(len(allowed) - 1, 0))
    inner = np.unique(allowed[near]) if len(allowed) else np.zeros(0, np.int64)
    panels = np.concatenate([[0], inner, [like.n_panels]]).astype(np.int64)
    cuts = keys[like.panel_bounds[inner]]
    n_cuts = len(panels) - 1
    n_buckets = n_cuts if rows.n_rows == rows.n_known else 2 * n_cuts
    return GatherPlan(n_cuts, n_buckets, rows.n_known, like.path, panels), cuts


def number_fragments(job: Job, rows: GatheredRows, spills: Sequence[SpillInfo]) -> None:
    """Write the dataset's row of every fragment, a file per spill file, so that a range of them is read as such."""
    part, row_of = -1, np.zeros(0, np.int32)
    for info in spills:
        if info.part != part:
            part, row_of = info.part, rows.row_map(info.part)
        numbers = row_of[read_row_numbers(job.work / "spills", info)]
        np.save(map_path(job.work, info.name, "rows"), numbers)


def gathered_attrs(
    rows: GatheredRows | None, like: Dataset | None, buckets: Sequence[BucketRecord]
) -> dict[str, Any]:
    """Attributes of a dataset whose rows were gathered."""
    if rows is None:
        return {}
    attrs: dict[str, Any] = {"duplicates": sum(record.duplicates for record in buckets)}
    if like is None:
        return attrs
    return {**attrs, "rows_like": dataset_sha256(like), "n_unseen_rows": rows.n_rows - rows.n_known}


# -- stage 2: fragments to panels --------------------------------------------------------------------------


def gather_panels(job: Job, bucket: int, writer: DatasetWriter) -> BucketRecord:
    """Join the fragments of a bucket and write its rows as panels."""
    plan = read_plan(job)
    if plan.gather is None:
        raise InputError("rows that are whole are not to be gathered")
    known = plan.gather.like is not None and bucket < plan.gather.n_cuts
    fragments, dropped = _read_fragments(job, plan, plan.gather, bucket % plan.gather.n_cuts, known)
    if known:
        rows, bounds = _like_train(plan.gather, bucket, fragments)
    else:
        rows = _in_key_order(fragments)
        bounds = np.asarray(panel_bounds(rows, 0, job.panel_bytes) if rows.n_rows else [0])
    transform = load(job.work / "transform.pickle")
    panels = [bucket * PANEL_STRIDE + n for n in range(len(bounds) - 1)]
    for p, lo, hi in zip(panels, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        write_panel(writer, p, rows, lo, hi, plan, transform)
    duplicates = len(_csr(fragments).data) - len(_csr(rows).data)
    record = BucketRecord(bucket, panels, dropped, duplicates)
    save(job.record("buckets", bucket), record)
    return record


def _read_fragments(job: Job, plan: Plan, how: GatherPlan, cut: int, known: bool) -> tuple[Rows, int]:
    """The fragments of known or of other rows in a bucket of keys, and how many of their entries have no column.

    ``Rows.row`` is the row of the dataset; columns are the dataset's.
    """
    pieces = [_EMPTY]
    dropped = 0
    ranges = read_splits(job.work / "splits", len(plan.spills), how.n_cuts, cut)
    for info, (lo, hi) in zip(plan.spills, ranges.tolist(), strict=True):
        if lo == hi:
            continue
        rows = read_spill(job.work / "spills", info, lo, hi)
        ids = np.array(np.load(map_path(job.work, info.name, "rows"), mmap_mode="r")[lo:hi], np.int64)
        rows = rows._replace(row=ids)
        if how.like is not None:
            rows = _chosen(rows, np.flatnonzero((ids < how.n_known) == known))
        X = _csr(rows)
        columns = read_map(job, info.part, "cols")
        kept, _ = map_columns(*X, NO_MAP if columns is None else columns, plan.index_base, plan.n_cols)
        dropped += len(X.data) - kept
        pieces.append(rows._replace(X=Csr(X.indptr, X.indices[:kept], X.data[:kept])))
    return join_rows(pieces), dropped


def _like_train(how: GatherPlan, bucket: int, fragments: Rows) -> tuple[Rows, Int64Array]:
    """The training set's rows of a bucket as it has them, and the bounds of its panels."""
    train = open_cached(str(how.like))
    first, last = how.known_panels[bucket : bucket + 2].tolist()
    bounds = train.panel_bounds[first : last + 1]
    row_ids = np.asarray(train.row_ids[int(bounds[0]) : int(bounds[-1])])
    sorter = np.argsort(row_ids)
    place = sorter[np.searchsorted(row_ids, fragments.row, sorter=sorter)]
    return _joined(_csr(fragments), place, row_ids), bounds - bounds[0]


def _in_key_order(fragments: Rows) -> Rows:
    """Whole rows by key; rows of one key in the order of their numbers."""
    ids, first, which = np.unique(fragments.row, return_index=True, return_inverse=True)
    order = np.lexsort((ids, fragments.key[first]))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return _joined(_csr(fragments), rank[which], ids[order])


def _joined(X: Csr, place: Int64Array, row_ids: Int64Array) -> Rows:
    """Row i of the numbers ``row_ids`` is made of the fragments whose ``place`` is i."""
    n_rows = len(row_ids)
    order = np.argsort(place, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=n_rows))])
    out = Csr(np.zeros(n_rows + 1, np.int64), np.empty_like(X.indices), np.empty_like(X.data))
    kept = gather_last(order, starts, *X, *out)
    X = Csr(out.indptr, out.indices[:kept], out.data[:kept])
    return Rows(np.zeros(n_rows, np.uint64), row_ids, X, _no_labels(n_rows), None)


def _chosen(rows: Rows, order: Int64Array) -> Rows:
    """Some of the rows."""
    X = _csr(rows)
    n = int((X.indptr[order + 1] - X.indptr[order]).sum())
    out = Csr(np.zeros(len(order) + 1, np.int64), np.empty(n, np.int32), np.empty(n, np.float32))
    gather_rows(order, *X, *out)
    return Rows(rows.key[order], rows.row[order], out, _no_labels(len(order)), None)


def _csr(rows: Rows) -> Csr:
    if not isinstance(rows.X, Csr):
        raise InputError("entries make sparse rows, these are dense")
    return rows.X


def _no_labels(n_rows: int) -> LabelLists:
    return LabelLists(np.zeros(n_rows + 1, np.int64), np.zeros(0))


_EMPTY = Rows(
    np.zeros(0, np.uint64),
    np.zeros(0, np.int64),
    Csr(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)),
    _no_labels(0),
    None,
)
