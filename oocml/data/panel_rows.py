"""What panels have beside their entries (row numbers, labels, queries): kept by panel, then joined into root arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr

from oocml.data.label_table import LabelTable
from oocml.data.zarr_arrays import chain, rows_per_chunk, stream, write_array
from oocml.errors import UsageError
from oocml.types import Float64Array, Int64Array, LabelSets, Panel


class PanelRows(NamedTuple):
    """Files of a folder, one for each panel, written by any process."""

    folder: Path
    label_kind: str
    """``"none"``, ``"number"`` or ``"sets"``."""

    def file(self, p: int) -> Path:
        """Of a panel; there if the panel is."""
        return self.folder / f"{p}.npz"

    def write(self, p: int, panel: Panel, qid: Int64Array | None, *, nnz: int, crc: int) -> None:
        """Keep what a panel has, with its number of entries and their checksum."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "row_ids": np.asarray(panel.row_ids, np.int64),
            "sizes": np.array([nnz, crc], np.int64),
        }
        if self.label_kind == "number":
            arrays["y"] = np.asarray(panel.y, np.float64)
        elif self.label_kind == "sets":
            if not isinstance(panel.y, LabelSets):
                raise UsageError(f"panel {p} has no label sets, the dataset has")
            arrays["y_indptr"] = np.asarray(panel.y.indptr, np.int64)
            arrays["y_indices"] = np.asarray(panel.y.indices, np.int32)
        if qid is not None:
            arrays["qid"] = np.asarray(qid, np.int64)
        temporary = self.folder / f"{p}.{os.getpid()}.tmp"
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, self.file(p))

    def load(self, p: int, name: str) -> npt.NDArray[Any]:
        """``row_ids``, ``sizes`` (entries, checksum), ``y`` or ``y_indptr`` and ``y_indices``, ``qid``."""
        with np.load(self.file(p)) as arrays:
            values: npt.NDArray[Any] = arrays[name]
            return values

    def join_rows(self, root: zarr.Group, bounds: Int64Array) -> int:
        """Write row numbers and queries; returns how many queries there are."""
        n_panels, n_rows = len(bounds) - 1, int(bounds[-1])
        chunk, dtype = rows_per_chunk(bounds), np.dtype(np.int64)
        stream(root, "row_ids", n_rows, dtype, chunk, (self.load(p, "row_ids") for p in range(n_panels)))
        with np.load(self.file(0)) as first:
            if "qid" not in first.files:
                return 0
        n_queries = 0

        def pieces() -> Iterator[Int64Array]:
            nonlocal n_queries
            for p in range(n_panels):
                qid = self.load(p, "qid")
                n_queries += min(1, len(qid)) + int(np.count_nonzero(qid[1:] != qid[:-1]))
                yield qid

        stream(root, "qid", n_rows, dtype, chunk, pieces())
        return n_queries

    def join_labels(
        self, root: zarr.Group, bounds: Int64Array, labels: npt.ArrayLike | None
    ) -> npt.NDArray[Any] | None:
        """Write labels; returns the distinct ones in increasing order, for label sets those given."""
        n_panels, n_rows = len(bounds) - 1, int(bounds[-1])
        chunk = rows_per_chunk(bounds)
        if self.label_kind == "none":
            return None
        if self.label_kind == "number":
            table = LabelTable()

            def pieces() -> Iterator[Float64Array]:
                for p in range(n_panels):
                    y = self.load(p, "y")
                    table.add(y)
                    yield y

            stream(root, "y", n_rows, np.dtype(np.float64), chunk, pieces())
            return table.labels if labels is None else np.asarray(labels, np.float64)
        group = root.create_group("y", overwrite=True)
        counts = np.array([self.load(p, "y_indptr")[-1] for p in range(n_panels)], np.int64)
        write_array(group, "panel_nnz", counts, n_panels)
        total = int(counts.sum())
        starts = np.concatenate([[0], np.cumsum(counts)])
        ends = (self.load(p, "y_indptr")[1:] + starts[p] for p in range(n_panels))
        stream(group, "indptr", n_rows + 1, np.dtype(np.int64), chunk, chain(np.zeros(1, np.int64), ends))
        per_chunk = max(chunk * 2, int(counts.max(initial=1)))
        ids = (self.load(p, "y_indices") for p in range(n_panels))
        stream(group, "indices", total, np.dtype(np.int32), per_chunk, ids)
        if labels is None:
            raise UsageError("label sets need the label ids they index")
        return np.asarray(labels, np.int64)
