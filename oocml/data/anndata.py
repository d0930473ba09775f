"""AnnData stores (Zarr): csr, csc or dense X, a column of ``obs`` as labels, ``var`` names as column names.

Read through Zarr alone; the layout is that of AnnData's on-disk specification 0.1.0, in Zarr format 2 or 3.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import zarr

from oocml.data.array_labels import one_each
from oocml.data.array_rows import (
    BATCH_ENTRIES,
    ArrayFacts,
    ArrayReader,
    check_dtype,
    check_matrix,
    dense_batch,
)
from oocml.data.arrays import row_parts
from oocml.data.classes import ClassNumbers
from oocml.data.entry_spill import EntrySpill
from oocml.data.readers import BadLines, LabelLists, Part, RowBatch
from oocml.data.sparse_source import Compressed, csc_entries, csr_rows, spilled_entries
from oocml.errors import InputError, UsageError


class AnndataReader(ArrayReader):
    """Reads ``AnnData.write_zarr`` stores.

    Memory holds a batch of rows and one chunk of each array; a store written as a single huge chunk is read whole.

    Parameters
    ----------
    y
        Column of ``obs`` that holds the labels: numbers, texts or a categorical. Default: no labels.
    layer
        Layer to read instead of ``X``.
    temp
        Folder for temporary files, which csc needs (default: the system's; an ingest gives its own).
    """

    def __init__(self, *, y: str | None = None, layer: str | None = None, temp: str | None = None) -> None:
        self._y = y
        self._layer = layer
        self._temp = temp

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        parts: list[Part] = []
        for path in paths:
            root = _open(path)
            X = self._matrix(root, path)
            layout, (n_rows, n_cols) = _layout(X, path)
            if self._y is not None:
                ObsColumn(root, self._y, path)
            n_bytes = 4 * n_rows * n_cols if layout == "dense" else 8 * X["data"].shape[0]
            parts += row_parts(len(parts), path, n_rows, 0 if layout == "csc" else n_bytes, part_bytes)
        return parts

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        root = _open(part.path)
        X = self._matrix(root, part.path)
        layout, (n_rows, n_cols) = _layout(X, part.path)
        labels = None if self._y is None else ObsColumn(root, self._y, part.path)
        if layout == "dense":
            yield from self._dense(X, labels, part, bad)
        else:
            names = ("indptr", "indices", "data")
            arrays = Compressed(*(ChunkedArray(X[name], f"{part.path}/{X.path}/{name}") for name in names))
            if layout == "csr":
                yield from csr_rows(arrays, n_cols, labels, part, bad)
            else:
                with tempfile.TemporaryDirectory(prefix="oocml-", dir=self._temp) as folder:
                    spill = EntrySpill(folder, 0, n_rows, n_cols, len(arrays.data))
                    entries = csc_entries(arrays)
                    yield from spilled_entries(entries, spill, (n_rows, n_cols), labels, part, bad)
        names_of_columns = _index_names(root, "var", n_cols, part.path)
        classes = None if labels is None else labels.class_names
        self._facts = ArrayFacts(n_cols, labels is not None, 0, classes, None, names_of_columns)

    def _dense(self, X: Any, labels: ObsColumn | None, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        rows = ChunkedArray(X, f"{part.path}/{X.path}")
        step = max(1, BATCH_ENTRIES // max(1, X.shape[1]))
        for lo in range(part.lo, part.hi, step):
            hi = min(lo + step, part.hi)
            y = None if labels is None else labels.read(lo, hi)
            yield dense_batch(rows.read(lo, hi), lo, y, bad, part.lo)

    def _matrix(self, root: Any, path: str) -> Any:
        if root.attrs.get("encoding-type") in ("csr_matrix", "csc_matrix"):
            return root
        name = "X" if self._layer is None else f"layers/{self._layer}"
        if name not in root:
            layers = sorted(root["layers"]) if "layers" in root else []
            raise InputError(f"{path} has no {name}; its layers are {', '.join(layers) or 'none'}")
        return root[name]


class ChunkedArray:
    """A Zarr array read in ranges of its first axis; decodes each chunk once if the ranges only move forward."""

    def __init__(self, array: Any, path: str) -> None:
        self.path = path
        self._array = array
        self._lo = self._hi = 0
        self._held: Any = None

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def read(self, lo: int, hi: int) -> Any:
        """Entries ``lo:hi``."""
        if self._held is None or lo < self._lo or hi > self._hi:
            chunk = int(self._array.chunks[0])
            self._lo, self._hi = lo // chunk * chunk, min(-(-hi // chunk) * chunk, len(self))
            self._held = self._values()
        return self._held[lo - self._lo : hi - self._lo].copy()

    def _values(self) -> Any:
        try:
            return np.asarray(self._array[self._lo : self._hi])
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{self.path} is damaged: {reason}; write the store again") from None


class ObsColumn:
    """Labels from a column of ``obs``: numbers (NaN or masked: none), texts (empty: none) or a categorical."""

    def __init__(self, root: Any, name: str, path: str) -> None:
        obs = root.get("obs", {})
        if name not in obs:
            raise UsageError(f"{path} has no obs column {name!r}; it has {', '.join(sorted(obs)) or 'none'}")
        column, where = obs[name], f"{path}/obs/{name}"
        encoding = column.attrs.get("encoding-type", "array")
        self._mask: ChunkedArray | None = None
        self._categories: Any = None
        if encoding == "categorical":
            self._values = ChunkedArray(column["codes"], where)
            categories = column["categories"]
            values: Any = categories["values"] if isinstance(categories, zarr.Group) else categories
            self._categories = np.asarray(values[:])
        elif encoding.startswith("nullable"):
            self._values = ChunkedArray(column["values"], where)
            self._mask = ChunkedArray(column["mask"], where)
        elif encoding in ("array", "string-array"):
            self._values = ChunkedArray(column, where)
        else:
            raise InputError(f"{where} is a {encoding}, not a column of labels")
        self._classes = ClassNumbers()
        self._text = False

    @property
    def n_columns(self) -> int:
        return 0

    @property
    def class_names(self) -> list[str] | None:
        """Classes in order of first sight, where labels are text."""
        return self._classes.names if self._text else None

    def read(self, lo: int, hi: int) -> LabelLists:
        values = self._values.read(lo, hi)
        given = np.ones(hi - lo, bool)
        if self._mask is not None:
            given = ~self._mask.read(lo, hi).astype(bool)
        if self._categories is not None:
            given = values >= 0
            values = self._categories[np.maximum(values, 0)]
        if values.dtype.kind in "biuf":
            numbers = values.astype(np.float64)
        else:
            self._text = True
            numbers = self._classes.of(np.where(given, _as_text(values), ""))
        return one_each(np.where(given, numbers, np.nan))


def _as_text(values: Any) -> Any:
    """As fixed-width text, whatever kind of strings Zarr made of them."""
    return np.array(["" if value is None else str(value) for value in values.tolist()])


def _open(path: str) -> Any:
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist")
    try:
        return zarr.open_group(path, mode="r")
    except (FileNotFoundError, ValueError, OSError, KeyError):
        hint = "; AnnData reads it: write_zarr makes one" if path.endswith(".h5ad") else ""
        raise InputError(f"{path} is not an AnnData store in Zarr{hint}") from None


def _layout(X: Any, path: str) -> tuple[str, tuple[int, int]]:
    """``csr``, ``csc`` or ``dense``, and the shape."""
    encoding = X.attrs.get("encoding-type", "array")
    if encoding in ("csr_matrix", "csc_matrix"):
        check_dtype(X["data"].dtype, f"{path}/{X.path}")
        return encoding[:3], check_matrix(list(X.attrs["shape"]), path)
    if encoding != "array" or not hasattr(X, "dtype"):
        raise InputError(f"{path}/{X.path} is a {encoding}, not a csr, csc or dense matrix")
    check_dtype(X.dtype, f"{path}/{X.path}")
    return "dense", check_matrix(X.shape, path)


def _index_names(root: Any, frame: str, wanted: int, path: str) -> list[str] | None:
    """The names of the rows of ``obs`` or ``var``."""
    if frame not in root or "_index" not in root[frame].attrs:
        return None
    index = root[frame][root[frame].attrs["_index"]]
    values = index["values"] if index.attrs.get("encoding-type", "").startswith("nullable") else index
    names = [str(name) for name in np.asarray(values[:]).tolist()]
    if len(names) != wanted:
        raise InputError(
            f"{path} has {len(names)} names in {frame} for {wanted} columns; write the store again"
        )
    return names
