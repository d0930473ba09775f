"""Rows on their way from parts to panels: one file per run of rows, sorted by the order in which rows are dealt.

A file is its arrays end to end, in the order of `FIELDS`; sizes are in its `SpillInfo`, which the part's record
keeps. A range of rows is read with one seek per array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.data.readers import LabelLists, RowBatch
from oocml.errors import InputError
from oocml.kernels.sparse_rows import gather_lists, gather_rows
from oocml.types import Csr, Float32Array, Int64Array

UInt64Array = npt.NDArray[np.uint64]


class SpillInfo(NamedTuple):
    """Sizes of one spill file."""

    part: int
    number: int
    """Which file of its part, from 0."""
    n_rows: int
    nnz: int
    n_labels: int
    has_qid: bool
    dense_cols: int
    """Columns of dense data, 0 for sparse."""

    @property
    def name(self) -> str:
        return f"{self.part}.{self.number}"

    @property
    def n_bytes(self) -> int:
        """Bytes of X and labels in a dataset."""
        return 8 * self.nnz + 4 * self.n_rows * self.dense_cols + 16 * self.n_rows + 8 * self.n_labels


class Rows(NamedTuple):
    """Rows in memory: all a spill file holds of them."""

    key: UInt64Array
    """Rows are dealt in the order of their keys."""
    row: Int64Array
    """Number within the part; after `with_row_ids` within the source."""
    X: Csr | Float32Array
    labels: LabelLists
    qid: Int64Array | None

    @property
    def n_rows(self) -> int:
        return len(self.key)


def rows_of_batches(batches: Sequence[RowBatch], keys: Sequence[UInt64Array], first_row: int) -> Rows:
    """Batches of one part joined, numbered from ``first_row``."""
    n_rows = sum(len(key) for key in keys)
    labels = [b.labels or _no_labels(len(b.position)) for b in batches]
    with_qid = any(b.qid is not None for b in batches)
    qids = [np.full(len(b.position), -1, np.int64) if b.qid is None else b.qid for b in batches]
    return Rows(
        key=np.concatenate(keys),
        row=np.arange(first_row, first_row + n_rows, dtype=np.int64),
        X=_join_X([b.X for b in batches]),
        labels=LabelLists(
            _join_indptr([x.indptr for x in labels]), np.concatenate([x.values for x in labels])
        ),
        qid=np.concatenate(qids) if with_qid else None,
    )


def join_rows(pieces: Sequence[Rows]) -> Rows:
    """Pieces one after another."""
    qids = [np.full(p.n_rows, -1, np.int64) if p.qid is None else p.qid for p in pieces]
    return Rows(
        key=np.concatenate([p.key for p in pieces]),
        row=np.concatenate([p.row for p in pieces]),
        X=_join_X([p.X for p in pieces]),
        labels=LabelLists(
            _join_indptr([p.labels.indptr for p in pieces]), np.concatenate([p.labels.values for p in pieces])
        ),
        qid=np.concatenate(qids) if any(p.qid is not None for p in pieces) else None,
    )


def sort_rows(rows: Rows) -> Rows:
    """The rows in the order of their keys; equal keys (one query) stay in source order."""
    order = np.argsort(rows.key, kind="stable")
    X: Csr | Float32Array
    if isinstance(rows.X, Csr):
        X = Csr(np.empty_like(rows.X.indptr), np.empty_like(rows.X.indices), np.empty_like(rows.X.data))
        gather_rows(order, *rows.X, *X)
    else:
        X = rows.X[order]
    labels = LabelLists(np.empty_like(rows.labels.indptr), np.empty_like(rows.labels.values))
    gather_lists(order, *rows.labels, *labels)
    return Rows(rows.key[order], rows.row[order], X, labels, None if rows.qid is None else rows.qid[order])


def write_spill(folder: Path, part: int, number: int, rows: Rows) -> SpillInfo:
    """Write sorted rows."""
    sparse = isinstance(rows.X, Csr)
    info = SpillInfo(
        part=part,
        number=number,
        n_rows=rows.n_rows,
        nnz=len(rows.X.data) if isinstance(rows.X, Csr) else 0,
        n_labels=len(rows.labels.values),
        has_qid=rows.qid is not None,
        dense_cols=0 if isinstance(rows.X, Csr) else rows.X.shape[1],
    )
    arrays: list[npt.NDArray[Any]] = [rows.key, rows.row, *rows.labels]
    if rows.qid is not None:
        arrays.append(rows.qid)
    arrays += [*rows.X] if sparse else [rows.X]
    with open(folder / info.name, "wb") as file:
        for values in arrays:
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return info


def read_keys(folder: Path, info: SpillInfo) -> UInt64Array:
    """Keys of all rows of a spill file, in increasing order."""
    return np.fromfile(folder / info.name, np.uint64, count=info.n_rows)


def read_row_numbers(folder: Path, info: SpillInfo) -> Int64Array:
    """``Rows.row`` of all rows of a spill file."""
    return np.fromfile(folder / info.name, np.int64, count=info.n_rows, offset=8 * info.n_rows)


def read_spill(folder: Path, info: SpillInfo, lo: int = 0, hi: int | None = None) -> Rows:
    """Rows lo:hi of a spill file."""
    hi = info.n_rows if hi is None else hi
    with open(folder / info.name, "rb", buffering=0) as file:
        read = _Cursor(file)
        key = read.range(np.uint64, info.n_rows, lo, hi)
        row = read.range(np.int64, info.n_rows, lo, hi)
        label_indptr = read.range(np.int64, info.n_rows + 1, lo, hi + 1)
        labels = read.range(np.float64, info.n_labels, int(label_indptr[0]), int(label_indptr[-1]))
        qid = read.range(np.int64, info.n_rows, lo, hi) if info.has_qid else None
        X: Csr | Float32Array
        if info.dense_cols:
            cols = info.dense_cols
            X = read.range(np.float32, info.n_rows * cols, lo * cols, hi * cols).reshape(hi - lo, cols)
        else:
            indptr = read.range(np.int64, info.n_rows + 1, lo, hi + 1)
            first, last = int(indptr[0]), int(indptr[-1])
            indices = read.range(np.int32, info.nnz, first, last)
            X = Csr(indptr - first, indices, read.range(np.float32, info.nnz, first, last))
    return Rows(key, row, X, LabelLists(label_indptr - label_indptr[0], labels), qid)


def iter_spill(folder: Path, info: SpillInfo, step: int = 1 << 16) -> Iterator[Rows]:
    """A spill file, ``step`` rows at a time."""
    for lo in range(0, info.n_rows, step):
        yield read_spill(folder, info, lo, min(lo + step, info.n_rows))


class _Cursor:
    """Reads ranges of the arrays of a file, which follow one another."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._at = 0

    def range(self, dtype: Any, length: int, lo: int, hi: int) -> Any:
        size = np.dtype(dtype).itemsize
        values = np.empty(hi - lo, dtype)
        got = os.preadv(self._file.fileno(), [values.view(np.uint8)], self._at + lo * size) if hi > lo else 0
        if got != values.nbytes:
            raise InputError(f"{self._file.name} was cut short while in use; ingest again")
        self._at += length * size
        return values


def _join_X(pieces: Sequence[Csr | Float32Array]) -> Csr | Float32Array:
    dense = [X for X in pieces if not isinstance(X, Csr)]
    if len(dense) == len(pieces):
        return np.concatenate(dense)
    sparse = [X for X in pieces if isinstance(X, Csr)]
    if dense:
        raise InputError("some parts of the source are sparse and some dense")
    return Csr(
        _join_indptr([X.indptr for X in sparse]),
        np.concatenate([X.indices for X in sparse]),
        np.concatenate([X.data for X in sparse]),
    )


def _join_indptr(indptrs: Sequence[Int64Array]) -> Int64Array:
    ends = np.cumsum([0, *(indptr[-1] for indptr in indptrs[:-1])])
    pieces = [np.zeros(1, np.int64)]
    pieces += [indptr[1:] + end for indptr, end in zip(indptrs, ends, strict=True)]
    return np.concatenate(pieces)


def _no_labels(n_rows: int) -> LabelLists:
    return LabelLists(np.zeros(n_rows + 1, np.int64), np.zeros(0))
