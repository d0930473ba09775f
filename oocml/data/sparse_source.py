"""Sparse matrices whose arrays are read a range at a time, as batches of rows: csr by rows, csc and coo by entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp

from oocml.data.array_labels import LabelSource
from oocml.data.array_rows import BATCH_ENTRIES, sparse_batch
from oocml.data.entry_spill import EntrySpill
from oocml.data.readers import BadLines, Part, RowBatch
from oocml.errors import InputError


class RangeArray(Protocol):
    """An array that is read in ranges of its first axis."""

    path: str

    def __len__(self) -> int: ...

    def read(self, lo: int, hi: int) -> Any: ...


class Compressed(NamedTuple):
    """The arrays of a csr or csc matrix."""

    indptr: RangeArray
    indices: RangeArray
    data: RangeArray


class Triples(NamedTuple):
    """The arrays of a coo matrix."""

    rows: RangeArray
    columns: RangeArray
    data: RangeArray


Entries = Iterator[tuple[Any, Any, Any]]
"""Rows, columns and values (float32), some at a time, in any order."""


def csr_rows(
    arrays: Compressed, n_cols: int, labels: LabelSource | None, part: Part, bad: BadLines
) -> Iterator[RowBatch]:
    """The rows of a part of a csr matrix."""
    pointers = _row_pointers(arrays.indptr, len(arrays.data), part.lo)
    for lo in range(part.lo, part.hi, BATCH_ENTRIES):
        indptr = pointers(min(lo + BATCH_ENTRIES, part.hi))
        for a, b in batch_bounds(indptr):
            first, last = int(indptr[a]), int(indptr[b])
            columns = arrays.indices.read(first, last)
            check_places(columns, n_cols, "column", part.path)
            y = None if labels is None else labels.read(lo + a, lo + b)
            entries = (arrays.data.read(first, last), columns, indptr[a : b + 1] - first)
            M = sp.csr_matrix(entries, shape=(b - a, n_cols))
            yield sparse_batch(M, lo + a, y, bad, part.lo)


def csc_entries(arrays: Compressed) -> Entries:
    """The entries of a csc matrix, by column."""
    n_cols = len(arrays.indptr) - 1
    pointers = _row_pointers(arrays.indptr, len(arrays.data), 0)
    for column in range(0, n_cols, BATCH_ENTRIES):
        indptr = pointers(min(column + BATCH_ENTRIES, n_cols))
        for lo in range(int(indptr[0]), int(indptr[-1]), BATCH_ENTRIES):
            hi = min(lo + BATCH_ENTRIES, int(indptr[-1]))
            columns = column + np.searchsorted(indptr, np.arange(lo, hi), side="right") - 1
            yield arrays.indices.read(lo, hi), columns, _as_float32(arrays.data.read(lo, hi))


def coo_entries(arrays: Triples) -> Entries:
    """The entries of a coo matrix, in stored order."""
    for lo in range(0, len(arrays.data), BATCH_ENTRIES):
        hi = min(lo + BATCH_ENTRIES, len(arrays.data))
        yield arrays.rows.read(lo, hi), arrays.columns.read(lo, hi), _as_float32(arrays.data.read(lo, hi))


def spilled_entries(
    entries: Entries,
    spill: EntrySpill,
    shape: tuple[int, int],
    labels: LabelSource | None,
    part: Part,
    bad: BadLines,
) -> Iterator[RowBatch]:
    """The rows of a whole matrix, from its entries in any order."""
    for rows, columns, values in entries:
        check_places(rows, shape[0], "row", part.path)
        check_places(columns, shape[1], "column", part.path)
        spill.add(rows, columns, values)
    yield from spilled_rows(spill, labels, bad)


def spilled_rows(spill: EntrySpill, labels: LabelSource | None, bad: BadLines) -> Iterator[RowBatch]:
    """All rows of collected entries."""
    for lo, M in spill.iter_rows():
        for a, b in batch_bounds(M.indptr):
            y = None if labels is None else labels.read(lo + a, lo + b)
            yield sparse_batch(M[a:b], lo + a, y, bad, 0)


def batch_bounds(indptr: Any) -> list[tuple[int, int]]:
    """Ranges of rows of at most ``BATCH_ENTRIES`` entries and rows (or a single row)."""
    bounds, lo, n_rows = [], 0, len(indptr) - 1
    while lo < n_rows:
        hi = int(np.searchsorted(indptr, indptr[lo] + BATCH_ENTRIES, side="right")) - 1
        hi = min(max(hi, lo + 1), lo + BATCH_ENTRIES, n_rows)
        bounds.append((lo, hi))
        lo = hi
    return bounds


def _row_pointers(indptr_of: RangeArray, n_entries: int, start: int) -> Any:
    """A function that gives the pointers up to a row (or column), from where the last call (or ``start``) ended."""
    last = indptr_of.read(start, start + 1).astype(np.int64)
    at = start + 1

    def read(hi: int) -> Any:
        nonlocal last, at
        indptr = np.concatenate([last, indptr_of.read(at, hi + 1).astype(np.int64)])
        if indptr[0] < 0 or indptr[-1] > n_entries or (np.diff(indptr) < 0).any():
            raise InputError(f"{indptr_of.path} is damaged: row pointers fall or pass {n_entries} entries")
        last, at = indptr[-1:], hi + 1
        return indptr

    return read


def check_places(places: Any, size: int, what: str, path: str) -> None:
    """Refuse rows or columns outside the matrix."""
    if len(places) and not (places.min() >= 0 and places.max() < size):
        beyond = int(places.max()) if places.max() >= size else int(places.min())
        raise InputError(f"{path} is damaged: an entry has {what} {beyond}, the matrix has {size}")


def _as_float32(values: Any) -> Any:
    """What is not finite as float32 goes on as such and makes its row a bad one."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)
