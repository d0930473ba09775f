"""What a run of a model of tiles keeps of its training columns: their order, and what belongs to each of them.

Layout, in the run's Zarr group::

    order/heavy, order/places          int32: the order of columns, as `oocml.data.column_order` keeps it
    features/feature_nnz, .../feature_sumsq   int64, float64 (D), in the run's order
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import zarr

from oocml.data import feature_arrays
from oocml.data.column_order import ColumnOrder, deal_columns
from oocml.data.dataset import open_cached
from oocml.data.feature_arrays import FeatureArray
from oocml.store.run import RunStore
from oocml.types import Int32Array


class ColumnsMessage(NamedTuple):
    """Asks for the order of columns of a run that is being made."""

    run_path: str
    dataset: str
    col_bounds: Sequence[int]


def keep_columns(message: ColumnsMessage) -> None:
    """Deal the columns, and write their order and what belongs to them into the run.

    A worker does it, whose process has the memory that this takes. May be repeated.
    """
    dataset, group = open_cached(message.dataset), zarr.open_group(message.run_path, mode="r+")
    order = deal_columns(feature_arrays.of_dataset(dataset, "feature_nnz"), message.col_bounds)
    order.save(group.create_group("order", overwrite=True))
    features = group.create_group("features", overwrite=True)
    feature_arrays.write_in_order(features, Path(message.run_path) / "features", dataset, order)


def kept_order(run: RunStore) -> ColumnOrder | None:
    """The order of the run's columns; None if it is the dataset's."""
    if not (run.path / "order").exists():
        return None
    group = zarr.open_group(str(run.path / "order"), mode="r")
    return ColumnOrder.load(group, run.config["layout"]["col_bounds"])


class ColumnNumbers:
    """Columns of the dataset in the run's order, by ranges; the order is read when it is first asked for."""

    def __init__(self, run: RunStore) -> None:
        self._run = run

    def __len__(self) -> int:
        return int(self._run.config["problem"]["n_features"])

    def __getitem__(self, places: slice) -> Int32Array:
        return self._order.columns(*places.indices(len(self))[:2])

    @functools.cached_property
    def _order(self) -> ColumnOrder:
        order = kept_order(self._run)
        assert order is not None
        return order


def kept_numbers(run: RunStore) -> ColumnNumbers | None:
    """Columns of the dataset in the run's order; None if that is the dataset's."""
    return ColumnNumbers(run) if (run.path / "order").exists() else None


def kept_features(run: RunStore, name: str) -> FeatureArray:
    """``feature_nnz`` or ``feature_sumsq`` in the run's order."""
    return feature_arrays.stored(run.path / "features", name, run.config["problem"]["n_features"])
