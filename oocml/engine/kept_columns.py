"""What a run of a model of tiles keeps of its training columns: their order, and what belongs to each of them.

Layout, in the run's Zarr group::

    order/heavy, order/places          int32: the order of columns, as `oocml.data.column_order` keeps it
    features/feature_nnz, .../feature_sumsq   int64, float64 (D), in the run's order
"""

from __future__ import annotations

from pathlib import Path

import zarr
from zarr.storage import LocalStore

from oocml.data import feature_arrays
from oocml.data.column_order import ColumnOrder
from oocml.data.dataset import Dataset
from oocml.data.feature_arrays import FeatureArray
from oocml.store.run import RunStore


def keep_columns(group: zarr.Group, dataset: Dataset, order: ColumnOrder) -> None:
    """Write the order of columns, and what belongs to them, into a run that is being made."""
    assert isinstance(group.store, LocalStore)
    order.save(group.create_group("order"))
    folder = Path(group.store.root) / "features"
    feature_arrays.write_in_order(group.create_group("features"), folder, dataset, order)


def kept_order(run: RunStore) -> ColumnOrder | None:
    """The order of the run's columns; None if it is the dataset's."""
    if not (run.path / "order").exists():
        return None
    group = zarr.open_group(str(run.path / "order"), mode="r")
    return ColumnOrder.load(group, run.config["layout"]["col_bounds"])


def kept_features(run: RunStore, name: str) -> FeatureArray:
    """``feature_nnz`` or ``feature_sumsq`` in the run's order."""
    return feature_arrays.stored(run.path / "features", name, run.config["problem"]["n_features"])
