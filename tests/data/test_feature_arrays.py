"""What belongs to features is the same however many are in memory at a time."""

import os

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from oocml.data import column_order, feature_arrays, feature_stats, flat_arrays
from oocml.data.column_order import deal_columns
from oocml.data.dataset import Dataset
from oocml.data.feature_arrays import FeatureArray, FeatureFacts, feature_facts, of_dataset
from tests.data.tiled import random_rows, write


def made(path, n_cols=50, in_memory=1 << 22):
    X = random_rows(np.random.default_rng(2), 60, n_cols)
    X = (X @ sp.diags(np.arange(n_cols) != 7, dtype=np.float32)).tocsr()  # a column without entries
    X.eliminate_zeros()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(feature_stats, "COLUMNS_IN_MEMORY", in_memory)
        patched.setattr(feature_stats, "ENTRIES_AT_ONCE", 11)
        return X, write(path, X, [0, 9, 9, 41, 60])


@pytest.mark.parametrize("in_memory", [7, 49, 50])
def test_statistics_are_the_same_however_many_columns_are_counted_at_a_time(tmp_path, in_memory):
    X, whole = made(tmp_path / "a.zarr")
    _, parts = made(tmp_path / "b.zarr", in_memory=in_memory)
    for name in ("feature_nnz", "feature_sumsq"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(parts.feature_nnz, X.getnnz(axis=0))
    np.testing.assert_allclose(parts.feature_sumsq, X.power(2).sum(axis=0).A1, rtol=1e-6)
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "b.zarr"]


def test_facts_of_all_features_are_known_whatever_version_wrote_the_dataset(tmp_path, monkeypatch):
    X, dataset = made(tmp_path / "d.zarr")
    counts = X.getnnz(axis=0)
    wanted = FeatureFacts(np.count_nonzero(counts), counts.max())
    assert feature_facts(dataset) == wanted
    assert wanted.n_used < X.shape[1]
    group = zarr.open_group(dataset.path)
    group.attrs["oocml"] = {name: value for name, value in dataset.attrs.items() if name != "features"}
    monkeypatch.setattr(column_order, "COLUMNS_AT_ONCE", 13)
    assert feature_facts(Dataset.open(dataset.path)) == wanted


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made") / "d.zarr")[1]


@settings(max_examples=20)
@given(st.integers(0, 60), st.integers(5, 60), st.integers(40, 400))
def test_what_is_written_in_order_is_read_in_order(
    tmp_path_factory, dataset, most_heavy, at_once, chunk_bytes
):
    folder = tmp_path_factory.mktemp("d")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(column_order, "MOST_HEAVY", most_heavy)
        patched.setattr(column_order, "COLUMNS_AT_ONCE", at_once)
        patched.setattr(flat_arrays, "CHUNK_BYTES", chunk_bytes)
        order = deal_columns(dataset.feature_nnz, [0, 9, 9, 30, 50])
        group = zarr.open_group(str(folder / "g"), mode="w")
        feature_arrays.write_in_order(group, folder / "g", dataset, order)
        columns = order.columns(0, 50)
        for name in ("feature_nnz", "feature_sumsq"):
            found = feature_arrays.stored(folder / "g", name, 50)
            np.testing.assert_array_equal(found[:], getattr(dataset, name)[columns])
            np.testing.assert_array_equal(found[9:33], getattr(dataset, name)[columns[9:33]])
            np.testing.assert_array_equal(group[name][...], found[:])


def test_features_are_read_by_ranges_alone(dataset):
    lazily = of_dataset(dataset, "feature_nnz")
    assert len(lazily) == 50
    np.testing.assert_array_equal(lazily[40:99], dataset.feature_nnz[40:])
    assert len(lazily[30:20]) == 0
    for wrong in (3, np.arange(3), slice(0, 9, 2), Ellipsis):
        with pytest.raises(TypeError, match="by ranges"):
            lazily[wrong]
    asked = []
    FeatureArray(10, lambda lo, hi: asked.append((lo, hi)))[2:4]
    assert asked == [(2, 4)]
