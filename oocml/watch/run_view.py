"""What the dashboard knows of a training. Shipped with `oocml.watch.page`, so that it imports nothing of oocml."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_CELLS = 128
"""The grid is drawn with at most this many cells a side; beyond, a cell stands for several blocks."""
MAX_POINTS = 1200
"""Points kept of the rates (ten minutes at two a second)."""
MAX_HISTORY = 5000
"""Epochs kept of the curve."""


class RunView:
    """What is known of the latest run, from the driver's messages. No Dask in it."""

    def __init__(self) -> None:
        self.start: dict[str, Any] = {}
        self.progress: dict[str, Any] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=MAX_HISTORY)
        self.rates: deque[tuple[float, float, float]] = deque(maxlen=MAX_POINTS)
        """Rows of (driver's time in s, bytes read, bytes written), both since the driver's start."""
        self.extent: dict[tuple[int, int], tuple[int, int]] = {}
        """Ends of the task rectangles seen, by their first blocks: task keys hold the first blocks only."""
        self.scale = (1, 1)
        """Row and column blocks in one cell of the grid."""
        self.grid = np.zeros((1, 1), np.int32)
        """Last epoch that visited a cell, 0 for none."""

    def apply(self, message: Mapping[str, Any]) -> None:
        """Take in a message of the driver: ``start`` begins a new view, anything else adds to it."""
        if "start" in message:
            self.__init__()  # type: ignore[misc]
            self.start = dict(message["start"])
            shape = (max(1, self.start["n_row_blocks"]), max(1, self.start["n_col_blocks"]))
            self.scale = (-(-shape[0] // MAX_CELLS), -(-shape[1] // MAX_CELLS))
            self.grid = np.zeros((-(-shape[0] // self.scale[0]), -(-shape[1] // self.scale[1])), np.int32)
        for epoch, p_lo, p_hi, q_lo, q_hi in message.get("tasks", ()):
            self.extent[p_lo, q_lo] = (p_hi, q_hi)
            self.grid[self.cells(p_lo, p_hi, q_lo, q_hi)] = epoch
        self.history.extend(message.get("epochs", ()))
        if "progress" in message:
            self.progress = dict(message["progress"])
            p = self.progress
            self.rates.append((p["at"], p["read_bytes"], p["write_bytes"]))

    def cells(self, p_lo: int, p_hi: int, q_lo: int, q_hi: int) -> tuple[slice, slice]:
        rows, cols = self.scale
        return slice(p_lo // rows, -(-p_hi // rows)), slice(q_lo // cols, -(-q_hi // cols))

    def rectangle(self, p: int, q: int) -> tuple[int, int, int, int]:
        """Blocks (p_lo, p_hi, q_lo, q_hi) of a task in flight, as far as known; all of an axis it doesn't have."""
        n_rows, n_cols = self.start.get("n_row_blocks", 1), self.start.get("n_col_blocks", 1)
        p_hi, q_hi = self.extent.get((p, q), (p + 1, q + 1))
        return (0, n_rows, q, q_hi) if p < 0 else (p, p_hi, 0, n_cols) if q < 0 else (p, p_hi, q, q_hi)

    def megabytes_per_s(self) -> dict[str, list[float]]:
        """Times and rates, between every two messages."""
        t, read, written = np.array(self.rates, float).reshape(-1, 3).T
        seconds = np.maximum(np.diff(t), 1e-3)
        return {
            "seconds": t[1:].tolist(),
            "read": (np.diff(read) / seconds / 1e6).tolist(),
            "write": (np.diff(written) / seconds / 1e6).tolist(),
        }
