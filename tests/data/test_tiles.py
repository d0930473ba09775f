"""Tiles are what slicing gives, and damage is noticed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import column_order
from oocml.data.column_order import deal_columns
from oocml.data.dataset import Dataset
from oocml.data.tile_build import build_tiles
from oocml.data.tiles import CutRows, Tiles, open_tiles, tiles_path
from oocml.errors import DamagedStore, InputError
from oocml.kernels import tiles as kernels
from oocml.types import Csr
from tests.data.tiled import assert_is, even_bounds, random_rows, write


@st.composite
def rows_and_blocks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    n_rows, n_cols = draw(st.integers(0, 12)), draw(st.integers(1, 90))
    inner = draw(st.lists(st.integers(0, n_cols), max_size=5))
    return random_rows(rng, n_rows, n_cols, draw(st.sampled_from([0.05, 0.5, 3]))), [
        0,
        *sorted(inner),
        n_cols,
    ]


@given(rows_and_blocks(), st.sampled_from([0, 20, 1000]))
def test_cut_tiles_are_what_slicing_gives(case, most_heavy):
    X, bounds = case
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(column_order, "MOST_HEAVY", most_heavy)
        order = deal_columns(X.getnnz(axis=0), bounds)
    columns = order.columns(0, X.shape[1])
    csr = Csr(X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data)
    tiles = CutRows(csr, order)
    assert len(tiles) == len(bounds) - 1
    for q, tile in enumerate(tiles):
        assert_is(tile, X[:, columns[bounds[q] : bounds[q + 1]]])


def test_rows_of_more_entries_than_16_bits_count_are_cut():
    n_cols = 70_000
    X = sp.csr_matrix(np.arange(1, 2 * n_cols + 1, dtype=np.float32).reshape(2, n_cols))
    order = deal_columns(np.random.default_rng(1).integers(0, 99, n_cols), [0, n_cols])
    csr = Csr(X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data)
    (tile,) = CutRows(csr, order)
    assert_is(tile, X[:, order.columns(0, n_cols)])


def test_block_of_a_place_is_found_for_any_widths():
    for bounds in ([0, 1, 2, 100], [0, 0, 3, 3, 3, 10, 10], [0, 90, 91, 92, 93]):
        for place in range(bounds[-1]):
            q = kernels.block_of(place, np.array(bounds), kernels.blocks_per_place(np.array(bounds)))
            assert bounds[q] <= place < bounds[q + 1]


@pytest.fixture
def tiled(tmp_path):
    """(matrix, tiles) of 40 rows in 6 panels, 4 row blocks (one without rows) and 3 column blocks."""
    X = random_rows(np.random.default_rng(3), 40, 23)
    dataset = write(tmp_path / "d.zarr", X, [0, 7, 15, 15, 24, 31, 40])
    return X, Tiles.open(build_tiles(dataset, [0, 2, 3, 5, 6], even_bounds(23, 3)))


def test_tiles_are_what_slicing_gives(tiled):
    X, tiles = tiled
    columns, bounds = tiles.order.columns(0, 23), tiles.col_bounds
    np.testing.assert_array_equal(tiles.row_bounds, [0, 15, 15, 31, 40])
    for p in range(4):
        rows = X[tiles.row_bounds[p] : tiles.row_bounds[p + 1]]
        for q in range(3):
            tile = tiles.read(p, q)
            assert_is(tile, rows[:, columns[bounds[q] : bounds[q + 1]]])
            assert tiles.nnz[p, q] == len(tile.data)
            assert tiles.memory_bytes(p, q) == sum(values.nbytes for values in tile)


def test_labels_and_row_ids_are_those_of_the_row_block(tiled):
    _, tiles = tiled
    np.testing.assert_array_equal(tiles.read_labels(2), np.arange(15, 31))
    np.testing.assert_array_equal(tiles.read_row_ids(2), 10 * np.arange(15, 31))
    assert len(tiles.read_labels(1)) == 0


@pytest.mark.parametrize("label_kind", ["none", "sets"])
def test_labels_of_every_kind_are_those_of_the_row_block(tmp_path, label_kind):
    X = random_rows(np.random.default_rng(4), 20, 6)
    dataset = write(tmp_path / "d.zarr", X, [0, 6, 13, 20], label_kind)
    tiles = Tiles.open(build_tiles(dataset, [0, 1, 3], [0, 3, 6]))
    labels = tiles.read_labels(1)
    if label_kind == "none":
        assert labels is None
    else:
        np.testing.assert_array_equal(labels.indptr, np.arange(15))
        np.testing.assert_array_equal(labels.indices, np.arange(6, 20) % 5)


def test_any_zarr_reader_gets_a_tile_from_the_arrays(tiled):
    import zarr

    X, tiles = tiled
    group = zarr.open_group(tiles.path, mode="r")
    np.testing.assert_array_equal(group["nnz"][:], tiles.nnz)
    counts = group["blocks/2/row_nnz"][:].reshape(3, 16)
    start = int(tiles.nnz[2, 0])
    own = slice(start, start + int(tiles.nnz[2, 1]))
    tile = tiles.read(2, 1)
    np.testing.assert_array_equal(counts[1], np.diff(tile.indptr))
    np.testing.assert_array_equal(group["blocks/2/indices"][own], tile.indices)
    np.testing.assert_array_equal(group["blocks/2/data"][own], tile.data)


def test_dense_data_have_tiles_of_what_is_not_zero(tmp_path):
    X = random_rows(np.random.default_rng(5), 11, 9, density=0.8)
    dataset = write(tmp_path / "d.zarr", X, [0, 4, 8, 11], sparse=False)
    tiles = Tiles.open(build_tiles(dataset, [0, 1, 3], [0, 4, 9]))
    columns = tiles.order.columns(0, 9)
    assert_is(tiles.read(1, 0), X[4:][:, columns[:4]])
    assert tiles.nnz.sum() == X.nnz


def test_reading_a_tile_asks_the_disk_for_its_bytes_alone(tiled, monkeypatch):
    _, tiles = tiled
    asked = []
    preadv = os.preadv

    def counting(descriptor, buffers, offset):
        asked.append(sum(map(len, buffers)))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    tiles.read(2, 1)
    assert sum(asked) == tiles.tile_bytes(2, 1)


def test_tiles_pickle_as_their_path(tiled):
    _, tiles = tiled
    assert len(pickle.dumps(tiles)) < 500
    copy = pickle.loads(pickle.dumps(tiles))
    assert_is(copy.read(0, 0), sp.csr_matrix((tiles.read(0, 0)[::-1]), shape=(15, 7)))
    assert open_tiles(tiles.path) is copy


@pytest.mark.parametrize("name", ["row_nnz", "indices", "data"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_damage_is_noticed(tiled, name, damage):
    _, tiles = tiled
    chunk = Path(tiles.path, "blocks", "0", name, "c", "0")
    content = bytearray(chunk.read_bytes())
    if damage == "missing":
        chunk.unlink()
    elif damage == "truncated":
        chunk.write_bytes(content[:-1])
    else:
        content[-1] ^= 1
        chunk.write_bytes(content)
    with pytest.raises(DamagedStore, match="it is made again") as caught:
        tiles.read(0, 2)  # its entries are the last ones
    assert "\n" not in str(caught.value)


def test_tiles_in_each_others_place_are_noticed(tmp_path):
    X = random_rows(np.random.default_rng(6), 8, 9)
    X = sp.vstack([X, X * 2]).tocsr()
    dataset = write(tmp_path / "d.zarr", X, [0, 8, 16])
    tiles = Tiles.open(build_tiles(dataset, [0, 1, 2], [0, 9]))
    blocks = Path(tiles.path, "blocks")
    (blocks / "0").rename(blocks / "x")
    (blocks / "1").rename(blocks / "0")
    with pytest.raises(DamagedStore, match="does not match its checksum"):
        tiles.read(0, 0)


def test_open_says_what_is_wrong(tmp_path, tiled):
    _, tiles = tiled
    with pytest.raises(InputError, match="does not exist"):
        Tiles.open(tmp_path / "nothing.zarr")
    with pytest.raises(InputError, match="is a dataset, no tiles"):
        Tiles.open(tiles.dataset.path)
    with pytest.raises(InputError, match="is a tiles, not a dataset"):
        Dataset.open(tiles.path)
    Path(tiles.path, "crc", "c", "0", "0").unlink()
    with pytest.raises(DamagedStore, match="remove it, it is made again"):
        Tiles.open(tiles.path)


def test_path_depends_on_the_data_and_the_blocks(tmp_path, tiled):
    X, tiles = tiled
    dataset = tiles.dataset
    paths = {
        tiles_path(dataset, row_panels, col_bounds)
        for row_panels in ([0, 2, 3, 5, 6], [0, 6])
        for col_bounds in ([0, 7, 15, 23], [0, 23])
    }
    assert len(paths) == 4
    assert tiles.path in paths
    changed = X.copy()
    changed.data[0] += 1
    other = write(tmp_path / "other.zarr", changed, [0, 7, 15, 15, 24, 31, 40])
    name = os.path.basename(tiles.path)
    assert os.path.basename(tiles_path(other, [0, 2, 3, 5, 6], tiles.col_bounds)) != name
