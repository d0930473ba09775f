"""Tiles: the entries of a dataset by (row block, column block), for models whose columns are columns of the data.

Columns are dealt to the run's column blocks so that blocks have nearly equal numbers of entries (`column_order`). The
tiles of a dataset for one choice of row and column blocks are kept beside it, in ``DATA.zarr.tiles/KEY.zarr``, which
may be deleted at any time. Layout (Zarr v3, uncompressed, written by `oocml.data.tile_build`)::

    attrs["oocml"]        kind "tiles", schema, n_rows, n_cols, nnz, sha256 (of what the key is made of)
    order/heavy, order/places   int32: the order of columns, as `column_order.ColumnOrder` keeps it
    row_panels, row_bounds, col_bounds   int64
    nnz, crc              int64, uint32 (P, Q): stored entries and crc32c of each tile
    count_bytes           uint8 (P): bytes of one number of row_nnz
    blocks/<p>/row_nnz    uint16 or uint32 (Q n_rows_p): entries of each row, one tile after another
    blocks/<p>/indices    int32 (nnz_p), from the block's first column, increasing within a row
    blocks/<p>/data       float32 (nnz_p)

A tile is one range of each of the three arrays, so reading it asks the disk for its bytes and no others.
"""

from __future__ import annotations

import functools
import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from oocml.data.column_order import ColumnOrder
from oocml.data.dataset import Dataset, open_cached, read_kind
from oocml.data.flat_arrays import FlatArray
from oocml.data.identity import dataset_sha256
from oocml.data.strict_store import StrictStore
from oocml.errors import DamagedStore, InputError
from oocml.kernels.tiles import cut_rows, fill_indptr
from oocml.store.buffers import aligned_empty
from oocml.types import Csr, Float64Array, Int32Array, Int64Array, LabelSets

SCHEMA = 2
"""Version of the layout above; the key depends on it, so that tiles of another version are made anew."""
COUNT_BYTES = 2
"""Bytes a tile takes on disk for each of its rows (twice that in row blocks that have a row of 65,536 entries)."""


class CutRows(Sequence[Csr]):
    """Rows cut into tiles in memory: item q is the tile of column block q, made when asked for.

    Its columns are numbered from the block's first one. Takes O(entries + rows x blocks); keeps 8 bytes an entry and
    2 a row and block (4 where a row has 65,536 entries).

    Parameters
    ----------
    X
        Rows over the dataset's columns.
    order
        Where these are in the run's order.
    """

    def __init__(self, X: Csr, order: ColumnOrder) -> None:
        bounds = order.col_bounds
        n_rows, n_blocks = len(X.indptr) - 1, len(bounds) - 1
        self.row_nnz = np.zeros((n_blocks, n_rows), count_type(X.indptr))
        self._ends = np.zeros(n_blocks + 1, np.int64)
        self._indices, self._data = np.empty(len(X.indices), np.int32), np.empty(len(X.data), np.float32)
        into = (self._ends[1:], self.row_nnz, self._indices, self._data)
        cut_rows(*X, 0, n_rows, order.lookup, bounds, *into)

    def __len__(self) -> int:
        return len(self.row_nnz)

    def __getitem__(self, q: Any) -> Any:
        if isinstance(q, slice):
            return [self[n] for n in range(*q.indices(len(self)))]
        q = range(len(self))[q]
        indptr = np.empty(self.row_nnz.shape[1] + 1, np.int64)
        fill_indptr(self.row_nnz[q], indptr)
        return Csr(indptr, *self.entries(q))

    def entries(self, q: int) -> tuple[Int32Array, npt.NDArray[np.float32]]:
        """Indices and data of tile q, as views."""
        own = slice(int(self._ends[q]), int(self._ends[q + 1]))
        return self._indices[own], self._data[own]


def count_type(indptr: Int64Array) -> np.dtype[Any]:
    """The type that holds the entries of any row in any tile."""
    return np.dtype(np.uint16 if np.diff(indptr).max(initial=0) < 1 << 16 else np.uint32)


def tiles_path(dataset: Dataset, row_panels: Sequence[int], col_bounds: Sequence[int]) -> str:
    """Where the tiles of a dataset are kept, whether they are there or not."""
    return os.path.join(f"{dataset.path}.tiles", f"{tiles_sha256(dataset, row_panels, col_bounds)[:16]}.zarr")


def tiles_sha256(dataset: Dataset, row_panels: Sequence[int], col_bounds: Sequence[int]) -> str:
    """sha256 over all that tiles depend on: the dataset and the bounds."""
    digest = hashlib.sha256(f"{SCHEMA} {dataset_sha256(dataset)}".encode())
    for bounds in (row_panels, col_bounds):
        digest.update(struct.pack("<q", len(bounds)) + np.asarray(bounds, "<i8").tobytes())
    return digest.hexdigest()


class Tiles:
    """The tiles of a dataset, opened with `Tiles.open` or, in workers, `open_tiles`. Pickles as its path."""

    def __init__(self, path: str, attrs: dict[str, Any]) -> None:
        self.path = path
        self.n_rows = int(attrs["n_rows"])
        self.n_cols = int(attrs["n_cols"])
        self._group = zarr.open_group(StrictStore(LocalStore(path, read_only=True)), mode="r")
        self.row_panels = self._read("row_panels")
        self.row_bounds = self._read("row_bounds")
        self.col_bounds = self._read("col_bounds")
        self.nnz: Int64Array = self._read("nnz")
        """Shape (row blocks, column blocks): stored entries of each tile."""
        self._crc = self._read("crc")
        self._count_bytes = self._read("count_bytes")
        zero = np.zeros((len(self.nnz), 1), np.int64)
        self._starts = np.concatenate([zero, np.cumsum(self.nnz, axis=1)], axis=1)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Tiles:
        """Open the tiles at ``path``.

        Raises
        ------
        InputError
            Missing, not tiles, of a newer schema, or damaged (`DamagedStore`).
        """
        kind, attrs = read_kind(path)
        if kind != "tiles":
            raise InputError(f"{path} is a {kind}, no tiles")
        if int(attrs["schema"]) != SCHEMA:
            raise InputError(f"{path} has schema {attrs['schema']}; remove it, it is made again")
        try:
            return cls(os.path.abspath(path), attrs)
        except (KeyError, ValueError, OSError, DamagedStore) as error:
            raise DamagedStore(
                f"{path} is damaged ({' '.join(str(error).split())[:200]}); remove it, it is made again"
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return open_tiles, (self.path,)

    def __repr__(self) -> str:
        return f"Tiles({self.path!r}, {self.n_row_blocks} x {self.n_col_blocks}, nnz={self.nnz.sum()})"

    @property
    def n_row_blocks(self) -> int:
        return len(self.row_bounds) - 1

    @property
    def n_col_blocks(self) -> int:
        return len(self.col_bounds) - 1

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The dataset these are tiles of."""
        return open_cached(os.path.dirname(self.path).removesuffix(".tiles"))

    @functools.cached_property
    def order(self) -> ColumnOrder:
        """The order of columns."""
        return ColumnOrder.load(self._group["order"], self.col_bounds)  # type: ignore[arg-type]

    def read(self, p: int, q: int, take: Callable[[tuple[int, ...], str], Any] = aligned_empty) -> Csr:
        """The tile of row block ``p`` and column block ``q``.

        ``take(shape, dtype)`` makes the arrays of the entries.

        Raises
        ------
        DamagedStore
            A chunk is missing or truncated, or the bytes are not those that were written.
        """
        p, q = range(self.n_row_blocks)[p], range(self.n_col_blocks)[q]
        n_rows, nnz, start = self._rows(p), int(self.nnz[p, q]), int(self._starts[p, q])
        arrays = block_arrays(
            os.path.join(self.path, "blocks", str(p)),
            n_rows * self.n_col_blocks,
            int(self._starts[p, -1]),
            int(self._count_bytes[p]),
        )
        row_nnz = np.empty(n_rows, arrays[0].dtype)
        indices, data = take((nnz,), "<i4"), take((nnz,), "<f4")
        try:
            for array, lo, values in zip(
                arrays, (q * n_rows, start, start), (row_nnz, indices, data), strict=True
            ):
                array.read_into(lo, values)
        except DamagedStore as error:
            raise DamagedStore(f"{error}; remove {self.path}, it is made again") from None
        crcs = [crc32c.crc32c(values.view(np.uint8).data) for values in (row_nnz, indices, data)]
        indptr = np.empty(n_rows + 1, np.int64)
        if fill_indptr(row_nnz, indptr) != nnz or tile_crc(crcs) != int(self._crc[p, q]):
            raise DamagedStore(
                f"tile {p}, {q} of {self.path} does not match its checksum; remove that folder, it is made again"
            )
        return Csr(indptr, indices, data)

    def tile_bytes(self, p: int, q: int) -> int:
        """Bytes that ``read(p, q)`` asks of the disk."""
        return 8 * int(self.nnz[p, q]) + int(self._count_bytes[p]) * self._rows(p)

    def memory_bytes(self, p: int, q: int) -> int:
        """Bytes of ``read(p, q)`` in memory."""
        return 8 * int(self.nnz[p, q]) + 8 * (self._rows(p) + 1)

    def read_labels(self, p: int) -> Float64Array | LabelSets | None:
        """Labels of the rows of row block ``p``, as in `Panel.y`."""
        pieces = [self.dataset.read_labels(n) for n in self._panels(p)]
        if self.dataset.label_kind == "none":
            return None
        if self.dataset.label_kind == "number":
            return np.concatenate([np.zeros(0), *pieces])
        sets = [piece for piece in pieces if isinstance(piece, LabelSets)]
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(piece.indptr) for piece in sets)])
        ids = np.concatenate([np.zeros(0, np.int32), *(piece.indices for piece in sets)])
        return LabelSets(np.cumsum(sizes), ids)

    def read_row_ids(self, p: int) -> Int64Array:
        """Row number in the source of each row of row block ``p``."""
        ids: Int64Array = self.dataset._read(
            "row_ids", slice(int(self.row_bounds[p]), int(self.row_bounds[p + 1]))
        )
        return ids

    def _rows(self, p: int) -> int:
        return int(self.row_bounds[p + 1] - self.row_bounds[p])

    def _panels(self, p: int) -> range:
        return range(int(self.row_panels[p]), int(self.row_panels[p + 1]))

    def _read(self, name: str) -> Any:
        return np.ascontiguousarray(self._group[name][...])  # type: ignore[index]


@functools.lru_cache(maxsize=32)
def _open_version(path: str, version: tuple[int, int]) -> Tiles:
    del version
    return Tiles.open(path)


def open_tiles(path: str) -> Tiles:
    """`Tiles.open`, kept open in this process until the tiles are made again."""
    try:
        stat = os.stat(Path(path) / "zarr.json")
    except OSError:
        return Tiles.open(path)
    return _open_version(path, (stat.st_ino, stat.st_mtime_ns))


def block_arrays(
    folder: str, n_counts: int, nnz: int, count_bytes: int
) -> tuple[FlatArray, FlatArray, FlatArray]:
    """``row_nnz``, ``indices`` and ``data`` of one row block."""
    return (
        FlatArray(os.path.join(folder, "row_nnz"), n_counts, np.dtype(f"<u{count_bytes}")),
        FlatArray(os.path.join(folder, "indices"), nnz, np.dtype("<i4")),
        FlatArray(os.path.join(folder, "data"), nnz, np.dtype("<f4")),
    )


def tile_crc(crcs: Sequence[int]) -> int:
    """Checksum of a tile, from the checksums of its three arrays."""
    return crc32c.crc32c(struct.pack("<3q", *crcs))
