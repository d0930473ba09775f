"""Putting rows in order on disk: they come in any order, and leave window by window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oocml.models.protocol import Array

WINDOW_BYTES = 64 * 2**20
"""Rows put in order at a time."""


class RowSpool:
    """Arrays by row number, in files of an empty folder; memory holds one window of rows.

    Parameters
    ----------
    fill
        Per array, what rows hold that never came (default 0).
    """

    def __init__(self, folder: Path, fill: Mapping[str, float] | None = None) -> None:
        self.folder = folder
        self.fill = fill or {}
        self.n_rows = 0
        """One more than the largest row number so far."""
        self._kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._window = 0

    def add(self, ids: npt.NDArray[np.int64], arrays: Mapping[str, Array]) -> None:
        """Take rows ``ids`` of every array; no row may come twice."""
        if not self._window:
            self._kinds = {name: (values.dtype, values.shape[1:]) for name, values in arrays.items()}
            row_bytes = sum(dtype.itemsize * math.prod(shape) for dtype, shape in self._kinds.values())
            self._window = max(1, WINDOW_BYTES // max(1, row_bytes))
        if not len(ids):
            return
        self.n_rows = max(self.n_rows, int(ids.max()) + 1)
        windows = ids // self._window
        order = np.argsort(windows, kind="stable")
        found, starts = np.unique(windows[order], return_index=True)
        for window, mine in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            for name, values in {"ids": ids, **arrays}.items():
                with open(self._file(window, name), "ab") as file:
                    file.write(
                        np.ascontiguousarray(values[mine]).data
                    )  # tofile does not say that a disk is full

    def windows(self, n_rows: int | None = None) -> Iterator[tuple[int, dict[str, Array]]]:
        """(first row, arrays) of every window in order, up to ``n_rows`` rows (default: all that came)."""
        n_rows = self.n_rows if n_rows is None else n_rows
        for lo in range(0, n_rows, max(1, self._window)):
            window, size = lo // self._window, min(self._window, n_rows - lo)
            ids = self._file(window, "ids")
            at = np.fromfile(ids, np.int64) - lo if ids.exists() else None
            arrays = {}
            for name, (dtype, shape) in self._kinds.items():
                arrays[name] = np.full((size, *shape), self.fill.get(name, 0), dtype)
                if at is not None:
                    came = np.fromfile(self._file(window, name), dtype)
                    arrays[name][at] = came.reshape(len(at), *shape)
            yield lo, arrays

    def _file(self, window: int, name: str) -> Path:
        return self.folder / f"{window}.{name}"
