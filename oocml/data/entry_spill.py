"""Entries (row, column, value) in any order, turned into rows in order, in bounded memory.

Entries are dealt to files by range of rows; one range at a time is read back, sorted and handed out. A range that is
still too large is dealt again. Memory: the entries not yet written (``BUFFER_ENTRIES``) or about five times the
entries of one range (``RANGE_ENTRIES``), at most some 100 MiB, unless a single row is larger than that.
Disk: 16 bytes an entry.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

ENTRY = np.dtype([("row", np.int64), ("column", np.int32), ("value", np.float32)])
BUFFER_ENTRIES = 1 << 20
RANGE_ENTRIES = 1 << 20
RANGE_ROWS = 1 << 20
MAX_FILES = 512
"""Files that expected entries are dealt to; more would make writes small."""


class EntrySpill:
    """Collects entries of rows ``lo:hi`` below ``folder`` and gives them back by rows.

    Parameters
    ----------
    n_cols
        Columns of the whole matrix.
    n_entries
        How many entries to expect; a wrong guess costs time only.
    """

    def __init__(self, folder: str, lo: int, hi: int, n_cols: int, n_entries: int) -> None:
        self._folder, self._lo, self._hi, self._n_cols = folder, lo, hi, n_cols
        n_files = min(MAX_FILES, max(1, -(-n_entries // RANGE_ENTRIES)))
        self._rows = min(RANGE_ROWS, max(1, -(-(hi - lo) // n_files)))
        self._held: list[npt.NDArray[Any]] = []
        self._n_held = 0
        self._n_in = np.zeros(-(-(hi - lo) // self._rows), np.int64)
        os.makedirs(folder, exist_ok=True)

    def add(self, rows: npt.ArrayLike, columns: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Take in entries; values must be finite as float32."""
        rows = np.asarray(rows)
        entries = np.empty(len(rows), ENTRY)
        entries["row"], entries["column"], entries["value"] = rows, columns, values
        self._hold(entries)

    def _hold(self, entries: npt.NDArray[Any]) -> None:
        self._held.append(entries)
        self._n_held += len(entries)
        if self._n_held >= BUFFER_ENTRIES:
            self._flush()

    def _flush(self) -> None:
        if not self._n_held:
            return
        entries = np.concatenate(self._held)
        self._held, self._n_held = [], 0
        place = (entries["row"] - self._lo) // self._rows
        order = np.argsort(place, kind="stable")
        counts = np.bincount(place, minlength=len(self._n_in))
        ends = np.cumsum(counts)
        for k in np.flatnonzero(counts).tolist():
            with open(self._file(k), "ab") as file:
                file.write(entries[order[ends[k] - counts[k] : ends[k]]].tobytes())
        self._n_in += counts

    def _file(self, k: int) -> str:
        return os.path.join(self._folder, f"{self._lo + k * self._rows}.entries")

    def iter_rows(self) -> Iterator[tuple[int, Any]]:
        """First row and scipy CSR matrix (float32) of consecutive ranges of rows; equal places are not yet added up.

        Files are removed as they are read.
        """
        self._flush()
        for k, n_entries in enumerate(self._n_in.tolist()):
            lo = self._lo + k * self._rows
            hi = min(lo + self._rows, self._hi)
            if n_entries > 2 * RANGE_ENTRIES and hi - lo > 1:
                yield from self._iter_large(k, lo, hi, n_entries)
                continue
            entries = np.zeros(0, ENTRY)
            if n_entries:
                entries = np.fromfile(self._file(k), ENTRY)
                os.unlink(self._file(k))
            place = (entries["row"] - lo, entries["column"])
            yield lo, sp.coo_matrix((entries["value"], place), shape=(hi - lo, self._n_cols)).tocsr()

    def _iter_large(self, k: int, lo: int, hi: int, n_entries: int) -> Iterator[tuple[int, Any]]:
        parts = EntrySpill(os.path.join(self._folder, f"{lo}-{hi}"), lo, hi, self._n_cols, n_entries)
        with open(self._file(k), "rb") as file:
            while len(entries := np.fromfile(file, ENTRY, count=BUFFER_ENTRIES)):
                parts._hold(entries)
        os.unlink(self._file(k))
        yield from parts.iter_rows()
