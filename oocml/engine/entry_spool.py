"""Predictions of entries in order: by row of the source, then by column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oocml.data.dataset import Dataset
from oocml.data.entry_spill import BUFFER_ENTRIES, EntrySpill
from oocml.models.protocol import Array

ROW_IDS = 2**20
"""Row numbers that are looked at at a time."""


class EntrySpool:
    """As `RowSpool` for arrays ``rows``, ``columns`` and ``values`` with any number of entries in a row.

    Parameters
    ----------
    folder
        For the files of ranges of rows, of which memory holds one.
    dataset
        Whose entries they are.
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.n_rows = _n_source_rows(dataset)
        self.n_entries = 0
        self._spill = EntrySpill(str(folder / "entries"), 0, self.n_rows, dataset.n_cols, dataset.nnz)

    def add(self, ids: npt.NDArray[np.int64], arrays: Mapping[str, Array]) -> None:
        """Take entries, none of them twice; ``values`` become float32."""
        del ids
        rows, columns, values = (arrays[name] for name in ("rows", "columns", "values"))
        for lo in range(0, len(rows), BUFFER_ENTRIES):
            some = slice(lo, lo + BUFFER_ENTRIES)
            self._spill.add(rows[some], columns[some], values[some])
        self.n_entries += len(rows)

    def windows(self) -> Iterator[tuple[int, dict[str, Array]]]:
        """(number of the first entry, arrays) of every range of rows."""
        n = 0
        for lo, X in self._spill.iter_rows():
            X.sort_indices()
            rows = lo + np.repeat(np.arange(X.shape[0], dtype=np.int64), np.diff(X.indptr))
            yield n, {"rows": rows, "columns": X.indices.astype(np.int64), "values": X.data}
            n += len(rows)


def _n_source_rows(dataset: Dataset) -> int:
    """One more than the largest row number."""
    starts = range(0, dataset.n_rows, ROW_IDS)
    return max((int(np.asarray(dataset.row_ids[lo : lo + ROW_IDS]).max()) + 1 for lo in starts), default=0)
