"""Distinct labels of numbers, as long as they are whole and few."""

from __future__ import annotations

import numpy as np

from oocml.types import Float64Array

MAX_LABELS = 1 << 22
"""Number labels get a table of distinct values up to this many."""

EXACT = 2.0**53
"""From here on float64 does not tell whole numbers apart, so that different labels would become one."""


class LabelTable:
    """Distinct number labels, as long as all are integers below 2^53 and few."""

    def __init__(self) -> None:
        self._known: Float64Array | None = np.zeros(0)

    def add(self, y: Float64Array) -> None:
        """Take in labels; NaN means none."""
        if self._known is None:
            return
        new = np.unique(y[~np.isnan(y)])
        if (new != np.rint(new)).any() or (np.abs(new) >= EXACT).any():
            self._known = None
            return
        self._known = np.union1d(self._known, new)
        if len(self._known) > MAX_LABELS:
            self._known = None

    @property
    def labels(self) -> Float64Array | None:
        return self._known
