"""Where predictions go: a Zarr group, or lines of text with names."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import zarr

from oocml.engine.output_names import OutputNames
from oocml.models.protocol import Array
from oocml.store.arrays import CHUNK_BYTES

CHUNK_ROWS = 2**20
"""Most rows of a chunk."""
NUMBERS_AT_ONCE = 2**16
"""Numbers that are made text at a time."""
SHARES = {"topics": "proportions", "components": "responsibilities"}
"""Outputs that number parts of a model, and those that say how much of a row is theirs."""


class Sink(Protocol):
    """Takes predictions of rows or entries in order."""

    def write(self, lo: int, outputs: Mapping[str, Array]) -> None:
        """Take the predictions of the rows (or entries) from number ``lo`` on, along the leading axes."""

    def close(self) -> None: ...


class ZarrSink:
    """One Zarr array per prediction, rows or entries on the leading axis."""

    def __init__(self, path: Path) -> None:
        self.group = zarr.create_group(str(path), attributes={"oocml": {"kind": "predictions", "schema": 1}})

    def write(self, lo: int, outputs: Mapping[str, Array]) -> None:
        for name, values in outputs.items():
            if name not in self.group:
                chunk = max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, values[:1].nbytes)))
                self.group.create_array(
                    name, shape=(0, *values.shape[1:]), chunks=(chunk, *values.shape[1:]), dtype=values.dtype
                )
            array = self.group[name]
            assert isinstance(array, zarr.Array)
            array.resize((lo + len(values), *values.shape[1:]))
            array[lo:] = values

    def close(self) -> None:
        pass


class TextSink:
    """Lines, by what is predicted.

    Labels: a row a line, ``label:score`` pairs, best first. Topics and components likewise, by number; shares of all of
    them in the order of these numbers. Entries and rankings: tab-separated row, column and value a line, as the csv
    module quotes. Anything else: the numbers of a row a line, tabs between.
    """

    def __init__(self, path: Path, names: OutputNames) -> None:
        self.names = names
        self.file = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
        self.table = csv.writer(self.file, delimiter="\t", lineterminator="\n")

    def write(self, lo: int, outputs: Mapping[str, Array]) -> None:
        first = next(iter(outputs.values()))
        step = max(1, NUMBERS_AT_ONCE // max(1, first[:1].size))
        for a in range(0, len(first), step):
            self._write_lines(lo + a, {name: values[a : a + step] for name, values in outputs.items()})

    def _write_lines(self, lo: int, outputs: Mapping[str, Array]) -> None:
        if "rows" in outputs:
            self._write_entries(outputs["rows"], outputs["columns"], outputs["values"])
        elif "columns" in outputs:
            row, place = np.nonzero(outputs["columns"] >= 0)
            self._write_entries(lo + row, outputs["columns"][row, place], outputs["scores"][row, place])
        elif "labels" in outputs:
            self._write_labels(outputs["labels"], outputs["scores"])
        elif part := next((part for part, share in SHARES.items() if share in outputs), None):
            self._write_shares(outputs.get(part), outputs[SHARES[part]])
        else:
            numbers = np.column_stack([values.reshape(len(values), -1) for values in outputs.values()])
            self.table.writerows([f"{number:.7g}" for number in row] for row in numbers.tolist())

    def _write_entries(self, rows: Array, columns: Array, values: Array) -> None:
        texts = (f"{value:.7g}" for value in values.tolist())
        self.table.writerows(zip(self.names.rows(rows), self.names.columns(columns), texts, strict=True))

    def _write_labels(self, labels: Array, scores: Array) -> None:
        names, sep = self.names.labels or {}, "\t" if self.names.labels else " "
        for row, values in zip(labels.tolist(), scores.tolist(), strict=True):
            pairs = (
                (names.get(label, f"{label:.10g}"), score) for label, score in zip(row, values, strict=True)
            )
            self.file.write(sep.join(f"{name}:{score:.6g}" for name, score in pairs) + "\n")

    def _write_shares(self, parts: Array | None, shares: Array) -> None:
        if parts is None:  # shares of all of them
            parts = np.broadcast_to(np.arange(shares.shape[1]), shares.shape)
        for row, values in zip(parts.tolist(), shares.tolist(), strict=True):
            pairs = (f"{part}:{share:.6g}" for part, share in zip(row, values, strict=True))
            self.file.write(" ".join(pairs) + "\n")

    def close(self) -> None:
        self.file.close()
