"""Writing the tiles of one row block, panel by panel; `oocml.data.tile_build` calls it in any process."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import crc32c
import numpy as np
import zarr

from oocml.data.column_order import ColumnOrder
from oocml.data.dataset import Dataset, open_cached
from oocml.data.flat_arrays import FlatArray
from oocml.data.tiles import CutRows, block_arrays, count_type, tile_crc
from oocml.kernels.tiles import SLICE_COUNTS, count_blocks
from oocml.types import Csr, Int64Array


class TilePlan(NamedTuple):
    """What builders know of the tiles they make."""

    row_panels: Int64Array
    order: ColumnOrder

    @property
    def n_row_blocks(self) -> int:
        return len(self.row_panels) - 1


@functools.lru_cache(maxsize=2)
def _open_version(partial: str, version: tuple[int, int]) -> TilePlan:
    del version
    root = zarr.open_group(os.path.join(partial, "store"), mode="r")
    row_panels, col_bounds = (np.asarray(root[name][...]) for name in ("row_panels", "col_bounds"))  # type: ignore[index]
    return TilePlan(row_panels, ColumnOrder.load(root["order"], col_bounds))  # type: ignore[arg-type]


def open_plan(partial: str) -> TilePlan:
    """What is to be made below ``partial``, kept open in this process."""
    stat = os.stat(os.path.join(partial, "store", "blocks", "zarr.json"))
    return _open_version(partial, (stat.st_ino, stat.st_mtime_ns))


def _panels(dataset: Dataset, plan: TilePlan, p: int) -> Iterator[Csr]:
    for panel in range(int(plan.row_panels[p]), int(plan.row_panels[p + 1])):
        if dataset.sparse:
            yield dataset._read_csr(panel)
        else:
            yield dataset.read_panel(panel).X


def _slices(X: Csr, n_blocks: int) -> Iterator[Csr]:
    """A panel, as many rows at a time as keep the counts by row and block small."""
    n_rows, step = len(X.indptr) - 1, max(1, SLICE_COUNTS // n_blocks)
    for lo in range(0, n_rows, step):
        indptr = X.indptr[lo : min(lo + step, n_rows) + 1]
        own = slice(int(indptr[0]), int(indptr[-1]))
        yield Csr(indptr - indptr[0], X.indices[own], X.data[own])


def write_row_block(partial: str, dataset_path: str, p: int, folder: Path) -> tuple[Int64Array, Any, int]:
    """Write the arrays of row block ``p`` below ``folder``.

    Returns entries and checksums of its tiles, and the bytes of a count.
    """
    dataset, plan = open_cached(dataset_path), open_plan(partial)
    order = plan.order
    n_blocks = len(order.col_bounds) - 1
    nnz, widest, n_rows = np.zeros(n_blocks, np.int64), 2, 0
    for X in _panels(dataset, plan, p):
        count_blocks(X.indices, order.lookup, order.col_bounds, nnz)
        widest = max(widest, count_type(X.indptr).itemsize)
        n_rows += len(X.indptr) - 1
        del X  # before the next one is read
    arrays = block_arrays(str(folder), n_rows * n_blocks, int(nnz.sum()), widest)
    group = zarr.open_group(str(folder), mode="w")
    for array in arrays:
        array.create(group)
    crcs = _write_entries(_panels(dataset, plan, p), order, arrays, nnz, n_rows)
    crc = np.array([tile_crc(of_tile) for of_tile in crcs], np.uint32)
    return nnz, crc, widest


def _write_entries(
    panels: Iterator[Csr], order: ColumnOrder, arrays: tuple[FlatArray, ...], nnz: Int64Array, n_rows: int
) -> list[list[int]]:
    """Write the entries of every panel into place; returns the checksums of the three arrays of each tile."""
    n_blocks = len(nnz)
    crcs = [[0, 0, 0] for _ in range(n_blocks)]
    starts, row = np.cumsum(nnz) - nnz, 0
    for panel in panels:
        for X in _slices(panel, n_blocks):
            cut = CutRows(X, order)
            counts = cut.row_nnz.astype(arrays[0].dtype, copy=False)
            for q in range(n_blocks):
                indices, data = cut.entries(q)
                at = int(starts[q])
                places = (q * n_rows + row, at, at)
                for n, (array, lo, values) in enumerate(
                    zip(arrays, places, (counts[q], indices, data), strict=True)
                ):
                    array.write(lo, values)
                    crcs[q][n] = crc32c.crc32c(values.view(np.uint8).data, crcs[q][n])
                starts[q] += len(indices)
            row += len(X.indptr) - 1
            del X, cut, counts, indices, data, values  # before the next panel is read
        del panel
    return crcs
