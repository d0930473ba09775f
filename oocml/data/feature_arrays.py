"""One number for each feature: read and written by ranges, never whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr

from oocml.data.column_order import ColumnOrder, column_ranges
from oocml.data.dataset import Dataset
from oocml.data.flat_arrays import FlatArray
from oocml.kernels.tiles import sort_by_block

NAMES = {"feature_nnz": np.dtype("<i8"), "feature_sumsq": np.dtype("<f8")}


class FeatureArray:
    """As much of a one-dimensional array as its length, and ranges of its entries."""

    def __init__(self, length: int, read: Callable[[int, int], npt.NDArray[Any]]) -> None:
        self._length, self._read = length, read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, features: slice) -> npt.NDArray[Any]:
        if not isinstance(features, slice) or features.step not in (None, 1):
            raise TypeError("what belongs to features is read by ranges of them")
        lo, hi, _ = features.indices(self._length)
        return self._read(lo, max(lo, hi))


class FeatureFacts(NamedTuple):
    """What is known of all features together."""

    n_used: int
    """Features with entries."""
    max_nnz: int
    """Entries of the most frequent one."""


def of_dataset(dataset: Dataset, name: str) -> FeatureArray:
    """``feature_nnz`` or ``feature_sumsq`` of a dataset."""
    return FeatureArray(dataset.n_cols, lambda lo, hi: dataset._read(name, slice(lo, hi)))


def feature_facts(dataset: Dataset) -> FeatureFacts:
    """From the dataset's attributes, or where an older version wrote it, from its features."""
    if "features" in dataset.attrs:
        return FeatureFacts(**dataset.attrs["features"])
    feature_nnz, n_used, most = of_dataset(dataset, "feature_nnz"), 0, 0
    for lo, hi in column_ranges(dataset.n_cols):
        nnz = feature_nnz[lo:hi]
        n_used, most = n_used + int(np.count_nonzero(nnz)), max(most, int(nnz.max()))
    return FeatureFacts(n_used, most)


def write_in_order(group: zarr.Group, folder: Path, dataset: Dataset, order: ColumnOrder) -> None:
    """Write `NAMES` of a dataset into a group, which has the folder, in another order of columns."""
    sources = [of_dataset(dataset, name) for name in NAMES]
    targets = [_flat(folder, name, dataset.n_cols) for name in NAMES]
    heavy = [np.empty(len(order.heavy), target.dtype) for target in targets]
    ends = np.empty(len(order.col_bounds) - 1, np.int64)
    for target in targets:
        target.create(group)
    for lo, hi in column_ranges(dataset.n_cols):
        places, by_block = order.places(lo, hi), np.empty(hi - lo, np.int32)
        first, last = np.searchsorted(order.heavy, [lo, hi])
        own = order.heavy[first:last] - lo
        places[own] = -1  # they are written at the end
        sort_by_block(places, order.col_bounds, ends, by_block)
        runs = [by_block[a:b] for a, b in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True) if a < b]
        for source, target, of_heavy in zip(sources, targets, heavy, strict=True):
            values = source[lo:hi]
            of_heavy[first:last] = values[own]
            for run in runs:  # light columns of a block follow one another
                target.write(int(places[run[0]]), values[run])
    for target, of_heavy in zip(targets, heavy, strict=True):
        for place, values in order.by_block(of_heavy):
            target.write(place, values)


def stored(folder: Path, name: str, length: int) -> FeatureArray:
    """What `write_in_order` wrote."""
    source = _flat(folder, name, length)

    def read(lo: int, hi: int) -> npt.NDArray[Any]:
        values = np.empty(hi - lo, source.dtype)
        source.read_into(lo, values)
        return values

    return FeatureArray(length, read)


def _flat(folder: Path, name: str, length: int) -> FlatArray:
    return FlatArray(str(folder / name), length, NAMES[name])
