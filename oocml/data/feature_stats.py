"""Statistics of each column of a dataset that is being written: stored entries and sum of squares.

Up to `COLUMNS_IN_MEMORY` columns are counted in memory. Where there are more, entries go to a file for each range of
so many columns first, and the ranges are counted one after another.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zarr

from oocml.data.zarr_arrays import create
from oocml.kernels.sparse_rows import add_feature_stats
from oocml.types import Float32Array, Float64Array, Int32Array, Int64Array

COLUMNS_IN_MEMORY = 1 << 22
CHUNK = 1 << 20
"""Columns in a chunk of the arrays."""
ENTRY = np.dtype([("column", np.int32), ("value", np.float32)])
ENTRIES_AT_ONCE = 1 << 20

Entries = tuple[Int32Array, Float32Array]
Statistics = tuple[Int64Array, Float64Array]


class FeatureStatsWriter:
    """Writes ``feature_nnz`` and ``feature_sumsq`` into a group, ranges of columns from the first to the last."""

    def __init__(self, root: zarr.Group, n_cols: int) -> None:
        self.n_used = self.max_nnz = 0
        self._at = 0
        self._arrays = []
        for name, dtype in (("feature_nnz", np.int64), ("feature_sumsq", np.float64)):
            if name in root:
                del root[name]
            self._arrays.append(create(root, name, (n_cols,), np.dtype(dtype), (max(1, min(n_cols, CHUNK)),)))

    def add(self, nnz: Int64Array, sumsq: Float64Array) -> None:
        if len(nnz):
            for array, values in zip(self._arrays, (nnz, sumsq), strict=True):
                array[self._at : self._at + len(nnz)] = values
        self._at += len(nnz)
        self.n_used += int(np.count_nonzero(nnz))
        self.max_nnz = max(self.max_nnz, int(nnz.max(initial=0)))


def sparse_stats(panels: Iterator[Entries], n_cols: int, scratch: Path) -> Iterator[Statistics]:
    """Statistics of ranges of columns, from the first to the last.

    Parameters
    ----------
    panels
        (columns, values) of all entries.
    scratch
        A folder that may be made and removed. Takes 8 bytes an entry where there are too many columns.
    """
    if n_cols <= COLUMNS_IN_MEMORY:
        yield _count(panels, 0, n_cols)
        return
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for columns, values in panels:
        _spill(columns, values, scratch)
    for lo in range(0, n_cols, COLUMNS_IN_MEMORY):
        hi = min(lo + COLUMNS_IN_MEMORY, n_cols)
        yield _count(_read_spill(scratch / str(lo // COLUMNS_IN_MEMORY)), lo, hi)
    shutil.rmtree(scratch)


def dense_stats(panels: Iterator[npt.NDArray[np.float32]], n_cols: int) -> Statistics:
    """Statistics of all columns, from panels of rows."""
    nnz, sumsq = np.zeros(n_cols, np.int64), np.zeros(n_cols, np.float64)
    for values in panels:
        nnz += np.count_nonzero(values, axis=0)
        sumsq += np.square(values, dtype=np.float64).sum(axis=0)
    return nnz, sumsq


def _count(panels: Iterator[Entries], lo: int, hi: int) -> Statistics:
    nnz, sumsq = np.zeros(hi - lo, np.int64), np.zeros(hi - lo, np.float64)
    for columns, values in panels:
        add_feature_stats(columns - np.int32(lo) if lo else columns, values, nnz, sumsq)
    return nnz, sumsq


def _spill(columns: Int32Array, values: Float32Array, scratch: Path) -> None:
    place = (columns // COLUMNS_IN_MEMORY).astype(np.uint16)
    order = np.argsort(place, kind="stable")
    entries = np.empty(len(columns), ENTRY)
    entries["column"], entries["value"] = columns[order], values[order]
    counts = np.bincount(place)
    ends = np.cumsum(counts)
    for k in np.flatnonzero(counts).tolist():
        with open(scratch / str(k), "ab") as file:
            file.write(entries[ends[k] - counts[k] : ends[k]].data)


def _read_spill(path: Path) -> Iterator[Entries]:
    if not path.exists():
        return
    with open(path, "rb") as file:
        while len(entries := np.fromfile(file, ENTRY, count=ENTRIES_AT_ONCE)):
            yield np.ascontiguousarray(entries["column"]), np.ascontiguousarray(entries["value"])
    path.unlink()
