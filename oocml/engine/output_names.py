"""Names of rows, columns and labels for those who read predictions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from oocml.data.dataset import Dataset
from oocml.data.names import Names
from oocml.engine.kept_rows import kept_names
from oocml.models.protocol import Array
from oocml.store.run import RunStore

Name = str | int
"""A number where there is no name."""


class OutputNames:
    """The names that a run keeps, and the dataset's for rows that the training did not have.

    Those of rows are read as they are needed; those of columns are put into a file at first.

    Parameters
    ----------
    dataset
        What is predicted.
    folder
        For scratch files.
    """

    def __init__(self, run: RunStore, dataset: Dataset, folder: Path) -> None:
        self.run, self.dataset, self.folder = run, dataset, folder
        self._n_rows = 0
        self._last: str | None = None

    def rows(self, ids: Array) -> Sequence[Name]:
        """Names of row numbers, which must come in increasing order, over all calls too; some may repeat."""
        if self._row_names is None:
            return ids.tolist()  # type: ignore[no-any-return]
        found: list[Name] = []
        for row in ids.tolist():
            while self._n_rows <= row:
                self._last = next(self._row_names, None)
                self._n_rows += 1
            found.append(row if self._last is None else self._last)
        return found

    def columns(self, ids: Array) -> Sequence[Name]:
        """Names of columns of the dataset."""
        if self._column_names is None:
            return ids.tolist()  # type: ignore[no-any-return]
        found, place = np.unique(ids, return_inverse=True)
        texts = np.array([self._column_names[column] for column in found.tolist()], object)
        return texts[place].tolist()  # type: ignore[no-any-return]

    @functools.cached_property
    def labels(self) -> dict[float, str] | None:
        """The name of each label, if they have any."""
        names = self.run.label_names()
        if names is None:
            return None
        return dict(zip(self.run.held_arrays()["labels"].tolist(), names, strict=True))

    @functools.cached_property
    def _row_names(self) -> Iterator[str] | None:
        n_kept, kept = kept_names(self.run, "row_names")
        if kept is None:
            return None
        others = self.dataset.iter_names("row_names") or iter(())
        return itertools.chain(kept, itertools.islice(others, n_kept, None))

    @functools.cached_property
    def _column_names(self) -> Names | None:
        n_kept, kept = kept_names(self.run, "feature_names")
        return None if kept is None else mapped_names(kept, n_kept, self.folder)


def mapped_names(texts: Iterator[str], n: int, folder: Path) -> Names:
    """``n`` names in mapped files, which take memory only as long as nobody else wants it."""
    offset = np.memmap(folder / "offset", np.int64, "w+", shape=(n + 1,))
    with open(folder / "letters", "wb") as file:
        file.write(b"\n")  # an empty file can't be mapped
        offset[0] = 1
        for i, text in enumerate(texts):
            offset[i + 1] = offset[i] + file.write(text.encode())
    letters = np.memmap(folder / "letters", np.uint8, "r")
    return Names(np.asarray(letters), np.asarray(offset))
