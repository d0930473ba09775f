"""The read side of a dataset: one Zarr group, opened by path, read panel by panel.

Layout (Zarr v3, uncompressed, written by `oocml.data.writer`)::

    attrs["oocml"]        kind, schema, n_rows, n_cols, nnz, sparse, label_kind, index_base, transform, source, ...
    panels/<p>/X          AnnData csr_matrix group: data float32, indices int32, indptr int64   (sparse data)
    X                     (n_rows, n_cols) float32, one chunk row per panel                     (dense data)
    panel_bounds          int64 (P + 1), first stored row of each panel
    panel_nnz, panel_crc  int64, uint32 (P): stored entries and crc32c of each panel
    row_ids               int64 (N), row number in the source, in stored order
    y                     float64 (N), NaN = no label; or group y/{indptr, indices} for label sets
    labels                distinct labels in increasing order; label sets index it
    feature_nnz, feature_sumsq   int64, float64 (D), of the stored values
    qid, label_names, feature_names, row_names, vocab, transform/*   optional
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from oocml.data.flat_arrays import find_flat
from oocml.data.strict_store import StrictStore, unreadable
from oocml.data.zarr_arrays import crc_of
from oocml.errors import DamagedStore, InputError
from oocml.types import Csr, Float32Array, Float64Array, Int64Array, LabelSets, Panel

if TYPE_CHECKING:
    import dask.array

SCHEMA = 1
"""Version of the layout above. A reader refuses what is newer than itself."""


def read_kind(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """What the store at ``path`` says it is, and its ``oocml`` attributes.

    Raises
    ------
    InputError
        Nothing is there, it may not be read, or it isn't a store of ours.
    """
    here = Path(path)
    try:
        if not here.exists():
            raise InputError(f"{here} does not exist")
        attrs = json.loads((here / "zarr.json").read_bytes())["attributes"]["oocml"]
        return str(attrs["kind"]), attrs
    except PermissionError as error:
        raise unreadable(error) from None
    except (OSError, ValueError, KeyError, TypeError):
        hint = "; `oocml ingest` makes one of a file" if here.is_file() else ""
        raise InputError(f"{here} is not an oocml store (no zarr.json of one){hint}") from None


class Dataset:
    """Rows x columns with optional labels, stored as panels of consecutive rows.

    Open with `Dataset.open` (or `open_cached` in workers). It holds names, bounds and O(P) numbers only;
    everything else is read when asked for. Pickles as its path.
    """

    def __init__(self, path: str, attrs: dict[str, Any]) -> None:
        self.path = path
        self.attrs = attrs
        self.n_rows = int(attrs["n_rows"])
        self.n_cols = int(attrs["n_cols"])
        self.nnz = int(attrs["nnz"])
        self.sparse = bool(attrs["sparse"])
        self.label_kind: str = attrs["label_kind"]
        self.index_base = int(attrs["index_base"])
        self.n_queries = int(attrs.get("n_queries", 0))
        self._group = zarr.open_group(StrictStore(LocalStore(path, read_only=True)), mode="r")
        self.panel_bounds: Int64Array = self._read("panel_bounds")
        self.panel_nnz: Int64Array = self._read("panel_nnz")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Dataset:
        """Open a dataset.

        Raises
        ------
        InputError
            Missing, unreadable, not a dataset, of a newer schema, or damaged (`DamagedStore`).
        """
        kind, attrs = read_kind(path)
        if kind != "dataset":
            raise InputError(f"{path} is a {kind}, not a dataset")
        if int(attrs.get("schema", 0)) > SCHEMA:
            raise InputError(
                f"{path} has schema {attrs['schema']}, this version reads up to {SCHEMA}; upgrade oocml"
            )
        try:
            return cls(os.path.abspath(path), attrs)
        except (KeyError, ValueError, OSError) as error:
            raise DamagedStore(f"{path} is damaged: {_one_line(error)}; ingest the dataset again") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return open_cached, (self.path,)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.path!r}, {self.n_rows} x {self.n_cols}, nnz={self.nnz}, {self.n_panels} panels)"
        )

    @property
    def n_panels(self) -> int:
        return len(self.panel_bounds) - 1

    # -- small arrays, read once when asked for ---------------------------------------------------------

    @functools.cached_property
    def labels(self) -> npt.NDArray[Any] | None:
        """Distinct labels in increasing order: float64 (numbers), int64 ids (sets), None where unknown."""
        return self._read("labels") if "labels" in self._group else None

    @functools.cached_property
    def label_names(self) -> list[str] | None:
        """Name of each of ``labels``."""
        return self._read_names("label_names")

    @functools.cached_property
    def feature_names(self) -> list[str] | None:
        """Name of each column; a text dataset's words."""
        return self._read_names("feature_names") or self._read_names("vocab")

    @functools.cached_property
    def row_names(self) -> list[str] | None:
        """Name of each row of the source (index it by ``row_ids``): the users of ratings."""
        return self._read_names("row_names")

    def iter_names(self, name: str) -> Iterator[str] | None:
        """``row_names`` or ``feature_names``, a chunk in memory at a time; None where there are none."""
        return self._iter_names(name) if name in self._group else None

    @functools.cached_property
    def feature_nnz(self) -> Int64Array:
        """Shape (n_cols,): stored entries per column."""
        return self._read("feature_nnz")

    @functools.cached_property
    def feature_sumsq(self) -> Float64Array:
        """Shape (n_cols,): sum of squares per column, of the stored values."""
        return self._read("feature_sumsq")

    @functools.cached_property
    def transform(self) -> dict[str, Any]:
        """``kind`` and the fitted values, scalars and arrays alike."""
        fitted = dict(self.attrs["transform"])
        if "transform" in self._group:
            for name in self._child("transform"):
                fitted[name] = self._read(f"transform/{name}")
        return fitted

    @property
    def row_ids(self) -> zarr.Array[Any]:
        """Row number in the source of every stored row: a lazy Zarr array, int64 (N,)."""
        return self._child("row_ids")  # type: ignore[no-any-return]

    # -- panels -----------------------------------------------------------------------------------------

    def read_panel(self, p: int) -> Panel:
        """All data of panel ``p``; dense data comes as a `Csr` of its non-zero values."""
        X = self._read_csr(p) if self.sparse else csr_of_dense(self.read_dense_panel(p))
        return Panel(X, self.read_labels(p), self.read_row_ids(p), self.read_qid(p))

    def read_dense_panel(self, p: int) -> Float32Array:
        """Panel ``p`` of dense data, shape (rows, n_cols)."""
        lo, hi = self._rows_of(p)
        values: Float32Array = self._read("X", slice(lo, hi))
        self._compare_checksum(p, values)
        return values

    def read_labels(self, p: int) -> Float64Array | LabelSets | None:
        """Labels of panel ``p`` alone."""
        lo, hi = self._rows_of(p)
        if self.label_kind == "none":
            return None
        if self.label_kind == "number":
            return self._read("y", slice(lo, hi))
        indptr = self._read("y/indptr", slice(lo, hi + 1))
        return LabelSets(indptr - indptr[0], self._read("y/indices", slice(int(indptr[0]), int(indptr[-1]))))

    def read_row_ids(self, p: int) -> Int64Array:
        """Row number in the source of each row of panel ``p``."""
        return self._read("row_ids", slice(*self._rows_of(p)))  # type: ignore[no-any-return]

    def read_qid(self, p: int) -> Int64Array | None:
        """Query of each row of panel ``p``; rows of one query are consecutive and never split by a panel."""
        lo, hi = self._rows_of(p)
        return self._read("qid", slice(lo, hi)) if self._has_queries else None

    @functools.cached_property
    def _has_queries(self) -> bool:
        return "qid" in self._group  # asking Zarr takes a millisecond

    def panel_bytes(self, p: int) -> int:
        """Bytes of ``read_panel(p)`` in memory."""
        lo, hi = self._rows_of(p)
        rows, labels = hi - lo, 0
        if self.label_kind == "number":
            labels = 8 * rows
        elif self.label_kind == "sets":
            labels = 8 * (rows + 1) + 4 * int(self._panel_label_nnz[p])
        if self.n_queries:
            labels += 8 * rows
        return 8 * int(self.panel_nnz[p]) + 8 * (rows + 1) + 8 * rows + labels

    @functools.cached_property
    def _panel_label_nnz(self) -> Int64Array:
        return self._read("y/panel_nnz")

    @property
    def X(self) -> dask.array.Array:
        """All of X, lazily: one block per panel, `sparse.GCXS` (numpy where X is dense)."""
        import dask.array as da
        import sparse
        from dask.base import tokenize

        rows = tuple(int(n) for n in np.diff(self.panel_bounds))
        read = _read_gcxs if self.sparse else _read_dense
        name = "X-" + tokenize(self.path, os.stat(os.path.join(self.path, "zarr.json")).st_mtime_ns)
        meta: Any = np.zeros((0, 0), np.float32)
        if self.sparse:
            parts = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64)
            meta = sparse.GCXS(parts, shape=(0, 0), compressed_axes=(0,))
        return da.map_blocks(
            read, self.path, chunks=(rows, (self.n_cols,)), dtype=np.float32, meta=meta, name=name
        )

    # -- is it whole? -----------------------------------------------------------------------------------

    def info(self, *, deep: bool = False) -> dict[str, Any]:
        """What the store is and whether it is whole; the keys of ``oocml info --json``.

        ``whole`` compares shapes and chunk sizes of every array; with ``deep`` everything is read, too. Checksums
        cover the entries; all else is looked at for what can't be (`oocml.data.check`).
        """
        from oocml.data.dataset_info import describe

        return describe(self, deep=deep)

    def problem(self, *, deep: bool = False) -> str | None:
        """The first thing found wrong, or None."""
        from oocml.data.check import find_problem

        return find_problem(self, deep=deep)

    # -- reading ----------------------------------------------------------------------------------------

    def _rows_of(self, p: int) -> tuple[int, int]:
        if not 0 <= p < self.n_panels:
            raise IndexError(f"panel {p} of {self.n_panels}")
        return int(self.panel_bounds[p]), int(self.panel_bounds[p + 1])

    def _child(self, name: str) -> Any:
        return self._group[name]

    def _read(self, name: str, rows: slice = slice(None)) -> Any:
        """An array or a range of it, contiguous and writeable; damage is named, and what may not be read."""
        flat = find_flat(os.path.join(self.path, name))
        try:
            if flat is None:
                return np.ascontiguousarray(self._child(name)[rows])
            lo, hi, _ = rows.indices(flat.length)
            values = np.empty(max(0, hi - lo), flat.dtype)
            flat.read_into(lo, values)
            return values
        except DamagedStore as error:
            again = "; ingest the dataset again"
            raise DamagedStore(str(error).removesuffix(again) + again) from None
        except (KeyError, ValueError, OSError) as error:
            raise DamagedStore(
                f"{self.path}: array {name} is damaged ({_one_line(error)}); ingest the dataset again"
            ) from None

    def _read_names(self, name: str) -> list[str] | None:
        return [str(s) for s in self._read(name)] if name in self._group else None

    def _iter_names(self, name: str) -> Iterator[str]:
        array = self._child(name)
        for lo in range(0, array.shape[0], array.chunks[0]):
            yield from (str(text) for text in self._read(name, slice(lo, lo + array.chunks[0])))

    def _read_csr(self, p: int) -> Csr:
        at = f"panels/{p}/X/"
        X = Csr(self._read(at + "indptr"), self._read(at + "indices"), self._read(at + "data"))
        self._compare_checksum(p, *X)
        return X

    @functools.cached_property
    def _panel_crc(self) -> npt.NDArray[np.uint32]:
        return self._read("panel_crc")

    def _compare_checksum(self, p: int, *arrays: npt.NDArray[Any]) -> None:
        """Kernels trust columns and row pointers: altered ones would be read and written out of bounds."""
        found, wanted = crc_of(*arrays), int(self._panel_crc[p])
        if found != wanted:
            raise DamagedStore(
                f"{self.path}: panel {p} was altered (checksum {found:#x}, not {wanted:#x}); ingest the dataset again"
            )


@functools.lru_cache(maxsize=32)
def _open_version(path: str, version: tuple[int, int]) -> Dataset:
    del version
    return Dataset.open(path)


def open_cached(path: str) -> Dataset:
    """`Dataset.open`, kept open in this process until the store is replaced."""
    try:
        stat = os.stat(os.path.join(path, "zarr.json"))
    except OSError:
        return Dataset.open(path)
    return _open_version(path, (stat.st_ino, stat.st_mtime_ns))


def csr_of_dense(values: Float32Array) -> Csr:
    """Non-zero values of a dense array by rows."""
    rows, cols = np.nonzero(values)
    indptr = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(values)), out=indptr[1:])
    return Csr(indptr, cols.astype(np.int32), values[rows, cols])


def _read_gcxs(path: str, block_id: tuple[int, int]) -> Any:
    import sparse

    dataset = open_cached(path)
    X = dataset._read_csr(block_id[0])
    shape = (len(X.indptr) - 1, dataset.n_cols)
    return sparse.GCXS((X.data, X.indices, X.indptr), shape=shape, compressed_axes=(0,))


def _read_dense(path: str, block_id: tuple[int, int]) -> Float32Array:
    return open_cached(path).read_dense_panel(block_id[0])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
