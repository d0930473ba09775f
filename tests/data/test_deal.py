import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import deal
from oocml.data.readers import LabelLists
from oocml.data.spill import Rows, sort_rows, write_spill
from oocml.types import Csr


def spill_of(folder, part, keys, cols=0):
    """A spill file of rows with one entry each, or of dense rows."""
    n = len(keys)
    X = Csr(np.arange(n + 1), np.zeros(n, np.int32), np.ones(n, np.float32))
    if cols:
        X = np.ones((n, cols), np.float32)
    labels = LabelLists(np.zeros(n + 1, np.int64), np.zeros(0))
    return write_spill(
        folder, part, 0, sort_rows(Rows(np.asarray(keys, np.uint64), np.arange(n), X, labels, None))
    )


def keys(source, position, qid=None, seed=0, keep_order=False):
    position = np.asarray(position, np.int64)
    qid = None if qid is None else np.asarray(qid, np.int64)
    return deal.deal_keys(source, position, qid, seed=seed, keep_order=keep_order)


def test_keys_differ_wherever_source_or_place_do():
    found = np.concatenate([keys(source, np.arange(20_000)) for source in range(3)])
    assert len(np.unique(found)) == 60_000


def test_keys_spread_evenly():
    cells = (keys(0, np.arange(0, 640_000, 37)) >> np.uint64(60)).astype(int)
    counts = np.bincount(cells, minlength=16)
    assert abs(counts / counts.mean() - 1).max() < 0.1


def test_keys_depend_on_the_seed_alone():
    position = np.arange(100)
    assert (keys(0, position, seed=3) == keys(0, position, seed=3)).all()
    assert (keys(0, position, seed=3) != keys(0, position, seed=4)).all()
    alone = np.concatenate([keys(0, position[:7], seed=3), keys(0, position[7:], seed=3)])
    assert (keys(0, position, seed=3) == alone).all()


def test_rows_of_one_query_share_a_key_in_every_source():
    found = keys(0, np.arange(6), qid=[4, 4, 5, 5, 4, 6])
    assert len(np.unique(found)) == 3
    assert keys(1, [99], qid=[5])[0] == found[2]


@given(st.integers(0, 5), st.lists(st.integers(0, 1 << 40), min_size=2, unique=True))
def test_kept_order_is_the_order_of_sources_and_places(source, position):
    found = keys(source, sorted(position), keep_order=True)
    assert (np.diff(found.astype(object)) > 0).all()
    assert keys(source + 1, [0], keep_order=True)[0] > found[-1]


@pytest.mark.parametrize("keep_order", [False, True])
def test_dense_buckets_hold_whole_panels_of_equal_rows(tmp_path, monkeypatch, keep_order):
    monkeypatch.setattr(deal, "BUCKET_BYTES", 1000)
    sizes = [40, 3, 77, 1, 30]
    infos = [
        spill_of(tmp_path, part, keys(0, 1000 * part + np.arange(n), keep_order=keep_order), cols=2)
        for part, n in enumerate(sizes)
    ]
    cuts = deal.bucket_cuts(tmp_path, infos, keep_order=keep_order, panel_rows=10)
    rows = deal.write_splits(tmp_path, infos, cuts, tmp_path / "splits")
    assert rows.sum() == sum(sizes)
    assert len(rows) > 2
    assert (rows[:-1] % 10 == 0).all()
    assert len(set(rows[:-1].tolist())) == 1


@pytest.mark.parametrize("keep_order", [False, True])
def test_splits_give_every_row_to_one_bucket_in_order(tmp_path, monkeypatch, keep_order):
    monkeypatch.setattr(deal, "BUCKET_BYTES", 1500)
    parts = [keys(0, 1000 * part + np.arange(60), keep_order=keep_order) for part in range(6)]
    infos = [spill_of(tmp_path, part, found) for part, found in enumerate(parts)]
    cuts = deal.bucket_cuts(tmp_path, infos, keep_order=keep_order, panel_rows=0)
    rows = deal.write_splits(tmp_path, infos, cuts, tmp_path / "splits")
    assert len(rows) == len(cuts) + 1 > 3
    assert rows.min() > 0
    dealt = []
    for bucket in range(len(rows)):
        ranges = deal.read_splits(tmp_path / "splits", len(infos), len(rows), bucket)
        mine = [np.sort(part)[lo:hi] for part, (lo, hi) in zip(parts, ranges, strict=True)]
        assert sum(map(len, mine)) == rows[bucket]
        dealt += sorted(np.concatenate(mine).tolist())
    assert dealt == sorted(np.concatenate(parts).tolist())
