"""The order of a run's columns: dealt to column blocks so that these have nearly equal numbers of entries.

The heaviest columns, `MOST_HEAVY` at most, are dealt one by one: in order of falling entries, ties by number, each to
the block with the fewest entries among those with room, ties by number (a column without entries weighs as much as one
with one). Going to and fro over the blocks would do where no column is much more frequent than the others; here a
block that got such a one waits until the others have caught up. It is the rule LPT of Graham (1969) with a bound on the
number of jobs.

Where there are more columns, those with the fewest entries are light: no block minds one of them more or less. They
are dealt in order of their numbers, turn by turn to the blocks that still have room, each turn beginning with another
block. Where such a column is follows from its number and the heavy ones before it, so that an order takes 8 bytes for
each heavy column, and in memory a fifth of a byte for each of the others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from oocml.data.zarr_arrays import write_array
from oocml.errors import UsageError
from oocml.kernels.tiles import (
    COLUMNS_AT_ONCE,
    MOST_HEAVY,
    Places,
    deal,
    find_places,
    order_light,
    shift_of,
)
from oocml.types import Int32Array, Int64Array

LIGHT = 1 << 16
"""Columns with fewer entries are put in order by counting, without a copy of the counts."""
KEY_BITS = 16
PLACES_AT_ONCE = 1 << 16


class ColumnOrder:
    """Which column of the dataset is at each place of a run's order, and the other way round.

    Parameters
    ----------
    col_bounds
        Column block q is places ``col_bounds[q]:col_bounds[q + 1]``.
    heavy
        int32, increasing: columns that were dealt one by one, to the first places of their blocks.
    places
        int32: place of each of them.
    """

    def __init__(self, col_bounds: Sequence[int], heavy: Int32Array, places: Int32Array) -> None:
        self.col_bounds: Int64Array = np.asarray(col_bounds, np.int64)
        self.heavy = heavy
        blocks = np.searchsorted(self.col_bounds, places, side="right") - 1
        self._n_heavy = np.bincount(blocks, minlength=len(self.col_bounds) - 1)
        """Heavy columns of each block."""
        rooms = np.diff(self.col_bounds) - self._n_heavy
        by_room = np.argsort(-rooms, kind="stable")
        self._rank_of_block = np.argsort(by_room)
        levels = np.unique(rooms[rooms > 0])  # a phase ends when a block is full
        turns = np.concatenate([np.zeros(1, np.int64), levels])
        n_blocks = np.array([np.count_nonzero(rooms > turn) for turn in turns[:-1]], np.int64)
        light = np.cumsum(np.concatenate([np.zeros(1, np.int64), n_blocks * np.diff(turns)]))
        marks, ranks = self._mark(heavy, self.n_cols)
        self.lookup = Places(
            heavy=places,
            marks=marks,
            ranks=ranks,
            first=(self.col_bounds[:-1] + self._n_heavy)[by_room],
            light=light[:-1],
            turn=turns[:-1],
            blocks=n_blocks,
        )
        """For kernels."""

    @property
    def n_cols(self) -> int:
        return int(self.col_bounds[-1])

    @staticmethod
    def _mark(heavy: Int32Array, n_cols: int) -> tuple[npt.NDArray[np.uint64], Int32Array]:
        if len(heavy) == n_cols:
            return np.zeros(0, np.uint64), np.zeros(0, np.int32)
        marks = np.zeros(-(-n_cols // 64), np.uint64)
        np.bitwise_or.at(marks, heavy >> 6, np.uint64(1) << (heavy & 63).astype(np.uint64))
        words = np.arange(len(marks), dtype=np.int64) << 6
        return marks, np.searchsorted(heavy, words).astype(np.int32)

    def places(self, lo: int, hi: int) -> Int32Array:
        """Places of the dataset's columns ``lo:hi``."""
        found = np.empty(hi - lo, np.int32)
        find_places(self.lookup, np.arange(lo, hi, dtype=np.int32), found)
        return found

    def columns(self, lo: int, hi: int) -> Int32Array:
        """The dataset's columns at places ``lo:hi``."""
        found = np.empty(hi - lo, np.int32)
        for a in range(lo, hi, PLACES_AT_ONCE):
            b = min(a + PLACES_AT_ONCE, hi)
            found[a - lo : b - lo] = self.columns_at(np.arange(a, b))
        return found

    def columns_at(self, places: npt.NDArray[np.integer[Any]]) -> Int32Array:
        """The dataset's column at each of ``places``."""
        q = np.searchsorted(self.col_bounds, places, side="right") - 1
        turn = places - self.col_bounds[q] - self._n_heavy[q]
        is_heavy = turn < 0
        found = np.empty(np.shape(places), np.int32)
        columns, ends = self._by_place
        found[is_heavy] = columns[ends[q[is_heavy]] + turn[is_heavy]]
        found[~is_heavy] = self._light_columns(self._rank_of_block[q[~is_heavy]], turn[~is_heavy])
        return found

    @functools.cached_property
    def _by_place(self) -> tuple[Int32Array, Int64Array]:
        """Heavy columns by place, and where those of each block end."""
        return self.heavy[np.argsort(self.lookup.heavy)], np.cumsum(self._n_heavy)

    @functools.cached_property
    def _light_before(self) -> Int32Array:
        """Light columns before each heavy one."""
        return self.heavy - np.arange(len(self.heavy), dtype=np.int32)

    def _light_columns(self, rank: Int64Array, turn: Int64Array) -> Int64Array:
        """Columns of blocks by falling room."""
        lookup = self.lookup
        phase = np.searchsorted(lookup.turn, turn, side="right") - 1
        n_blocks = lookup.blocks[phase]
        in_turn = (rank - shift_of(turn, n_blocks)) % n_blocks
        light = lookup.light[phase] + (turn - lookup.turn[phase]) * n_blocks + in_turn
        return light + np.searchsorted(self._light_before, light, side="right")

    def by_block(self, values: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(place, run of values) of heavy columns, given their values by number."""
        sorted_values, at = values[np.argsort(self.lookup.heavy)], 0
        for first, n in zip(self.col_bounds[:-1].tolist(), self._n_heavy.tolist(), strict=True):
            if n:
                yield first, sorted_values[at : at + n]
            at += n

    def save(self, group: zarr.Group) -> None:
        """Write the order as arrays ``heavy`` and ``places`` of a group."""
        write_array(group, "heavy", self.heavy, len(self.heavy))
        write_array(group, "places", self.lookup.heavy, len(self.heavy))

    @classmethod
    def load(cls, group: zarr.Group, col_bounds: Sequence[int]) -> ColumnOrder:
        """The order that a group holds."""
        heavy, places = (np.ascontiguousarray(group[name][...]) for name in ("heavy", "places"))  # type: ignore[index]
        return cls(col_bounds, heavy, places)


def deal_columns(feature_nnz: Any, col_bounds: Sequence[int]) -> ColumnOrder:
    """Deal columns to column blocks of given widths.

    Parameters
    ----------
    feature_nnz
        Shape (n_cols,): stored entries of each column, an array or anything that gives ranges of it.
    col_bounds
        Column block q is places ``col_bounds[q]:col_bounds[q + 1]`` of the run's order.
    """
    n_cols = len(feature_nnz)
    bounds = np.asarray(col_bounds, np.int64)
    if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != n_cols or (np.diff(bounds) < 0).any():
        raise UsageError(f"column bounds must rise from 0 to {n_cols}, the number of columns")
    heavy, nnz = _heavy_columns(feature_nnz, n_cols)
    order, light = np.empty(len(heavy), np.int32), int(min(LIGHT, nnz.max(initial=0) + 1))
    order_light(nnz, light, order)
    heaviest = np.flatnonzero(nnz >= light)
    order[: len(heaviest)] = heaviest[np.argsort(-nnz[heaviest], kind="stable")]
    places, ends = np.empty(len(heavy), np.int32), np.empty(len(bounds) - 1, np.int64)
    deal(order, nnz, bounds, places, ends)
    return ColumnOrder(bounds, heavy, places)


def column_ranges(n_cols: int) -> Iterator[tuple[int, int]]:
    """Ranges of columns whose numbers fit in memory."""
    for lo in range(0, n_cols, COLUMNS_AT_ONCE):
        yield lo, min(lo + COLUMNS_AT_ONCE, n_cols)


def _heavy_columns(feature_nnz: Any, n_cols: int) -> tuple[Int32Array, Int64Array]:
    """Numbers and entries of the heaviest columns; of columns with about as many entries all or none."""
    if n_cols <= MOST_HEAVY:
        return np.arange(n_cols, dtype=np.int32), np.asarray(feature_nnz[0:n_cols], np.int64)
    counts = np.zeros(1 << (31 - KEY_BITS), np.int64)
    for lo, hi in column_ranges(n_cols):
        counts += np.bincount(_key(feature_nnz[lo:hi]), minlength=len(counts))
    as_heavy = np.cumsum(counts[::-1])[::-1]
    least = int(np.count_nonzero(as_heavy > MOST_HEAVY))
    columns, entries = [], []
    for lo, hi in column_ranges(n_cols):
        nnz = np.asarray(feature_nnz[lo:hi], np.int64)
        found = np.flatnonzero(_key(nnz) >= least)
        columns.append((found + lo).astype(np.int32))
        entries.append(nnz[found])
    return np.concatenate(columns), np.concatenate(entries)


def _key(nnz: npt.NDArray[Any]) -> Int32Array:
    """A small number that grows with ``nnz``, in steps of less than 1 %: the upper bits of its float32."""
    key: Int32Array = nnz.astype(np.float32).view(np.int32) >> KEY_BITS
    return key
