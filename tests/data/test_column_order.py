"""Columns are dealt evenly whatever their number, and where each of them is can be told both ways."""

import tracemalloc

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from oocml.data import column_order
from oocml.data.column_order import ColumnOrder, deal_columns
from oocml.errors import UsageError
from oocml.kernels.tiles import dealing_bytes
from tests.data.tiled import even_bounds


@st.composite
def widths_and_counts(draw):
    widths = draw(st.lists(st.integers(0, 9), min_size=1, max_size=7))
    n_cols = sum(widths)
    largest = draw(st.sampled_from([1, 4, 100, 1 << 20]))
    counts = draw(st.lists(st.integers(0, largest), min_size=n_cols, max_size=n_cols))
    return np.cumsum([0, *widths]), np.array(counts, np.int64)


def deal(counts, bounds, most_heavy=1 << 20, at_once=1 << 20):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(column_order, "MOST_HEAVY", most_heavy)
        patched.setattr(column_order, "COLUMNS_AT_ONCE", at_once)
        patched.setattr(column_order, "PLACES_AT_ONCE", at_once)
        return deal_columns(counts, bounds)


@given(widths_and_counts())
def test_columns_are_dealt_to_the_least_loaded_block_with_room(case):
    bounds, counts = case
    widths = np.diff(bounds)
    load, blocks = np.zeros(len(widths), int), [[] for _ in widths]
    for column in sorted(range(len(counts)), key=lambda c: (-counts[c], c)):
        room = [q for q in range(len(widths)) if len(blocks[q]) < widths[q]]
        best = min(room, key=lambda q: (load[q], q))
        blocks[best].append(column)
        load[best] += max(counts[column], 1)
    order = deal_columns(counts, bounds)
    assert order.columns(0, len(counts)).tolist() == [column for block in blocks for column in block]


@given(widths_and_counts(), st.integers(0, 40), st.integers(1, 20), st.data())
def test_places_and_columns_are_each_others_inverse(case, most_heavy, at_once, data):
    bounds, counts = case
    n_cols = len(counts)
    order = deal(counts, bounds, most_heavy, at_once)
    places, columns = order.places(0, n_cols), order.columns(0, n_cols)
    assert sorted(places.tolist()) == list(range(n_cols))
    assert columns[places].tolist() == list(range(n_cols))
    assert order.columns_at(places[::-1].reshape(1, -1)).tolist() == [list(range(n_cols))[::-1]]
    lo, hi = sorted(data.draw(st.tuples(st.integers(0, n_cols), st.integers(0, n_cols))))
    assert order.places(lo, hi).tolist() == places[lo:hi].tolist()
    assert order.columns(lo, hi).tolist() == columns[lo:hi].tolist()


@given(widths_and_counts(), st.integers(0, 40), st.integers(1, 20))
def test_within_a_block_heavy_columns_come_first_and_light_ones_by_number(case, most_heavy, at_once):
    bounds, counts = case
    order = deal(counts, bounds, most_heavy, at_once)
    heavy = set(order.heavy.tolist())
    assert len(heavy) <= max(most_heavy, 0)
    assert len(heavy) == len(counts) or len(counts) > most_heavy
    lightest = min((counts[c] for c in heavy), default=np.inf)
    assert all(counts[c] <= lightest for c in range(len(counts)) if c not in heavy)
    for lo, hi in zip(bounds[:-1], bounds[1:], strict=True):
        columns = order.columns(lo, hi).tolist()
        wanted = sorted((c for c in columns if c in heavy), key=lambda c: (-counts[c], c))
        wanted += sorted(c for c in columns if c not in heavy)
        assert columns == wanted


@pytest.mark.parametrize("exponent", [0.5, 0.8, 1.05])
@pytest.mark.parametrize("blocks", [2, 7, 8])
@pytest.mark.parametrize("arranged", ["at random", "rising", "falling"])
@pytest.mark.parametrize("most_heavy", [200, 1 << 20])
def test_blocks_have_nearly_equal_entries_where_columns_follow_a_power_law(
    exponent, blocks, arranged, most_heavy
):
    n_cols = 20_011
    counts = (1e6 / (np.arange(n_cols) + 2.7) ** exponent).astype(np.int64)
    assert counts[0] < counts.sum() / blocks  # no column is too much for its block
    if arranged == "at random":
        counts = np.random.default_rng(0).permutation(counts)
    elif arranged == "rising":
        counts = counts[::-1].copy()
    bounds = even_bounds(n_cols, blocks)
    columns = deal(counts, bounds, most_heavy).columns(0, n_cols)
    loads = np.add.reduceat(counts[columns], bounds[:-1])
    assert loads.max() <= (1.01 if most_heavy > n_cols else 1.1) * loads.mean()


@pytest.mark.parametrize("period", [2, 4, 8, 56, 64])
def test_patterns_of_light_columns_meet_no_pattern_of_turns(period):
    """Every other column has a hundred times the entries, say: one field of two."""
    counts = np.where(np.arange(50_000) % period == 0, 100, 1)
    bounds = even_bounds(50_000, 8)
    columns = deal(counts, bounds, 1000).columns(0, 50_000)
    loads = np.add.reduceat(counts[columns], bounds[:-1])
    assert loads.max() <= 1.1 * loads.mean()


def test_equal_columns_are_dealt_in_turn():
    assert deal_columns(np.full(7, 3), [0, 3, 5, 7]).columns(0, 7).tolist() == [0, 3, 6, 1, 4, 2, 5]
    assert deal_columns(np.zeros(4, np.int64), [0, 2, 4]).columns(0, 4).tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("bounds", [[], [0], [0, 3], [1, 4], [0, 5, 4], [0, 2, 5]])
def test_bounds_that_do_not_cover_the_columns_are_refused(bounds):
    with pytest.raises(UsageError, match="rise from 0 to 4"):
        deal_columns(np.ones(4, np.int64), bounds)


def test_an_order_comes_back_from_its_store(tmp_path):
    counts, bounds = np.random.default_rng(0).integers(0, 50, 300), [0, 100, 130, 300]
    order = deal(counts, bounds, 40)
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    order.save(group)
    again = ColumnOrder.load(group, bounds)
    assert again.columns(0, 300).tolist() == order.columns(0, 300).tolist()
    assert again.places(0, 300).tolist() == order.places(0, 300).tolist()


def test_dealing_takes_the_memory_that_was_predicted():
    class Counts:
        """Entries of many columns, made when asked for."""

        def __len__(self):
            return 6_000_000

        def __getitem__(self, columns):
            c = np.arange(columns.start, columns.stop, dtype=np.int64)
            return 3_000_000 // (1 + c * 48271 % len(self))

    deal(np.arange(5), [0, 5], 2)  # everything is compiled
    tracemalloc.start()
    deal_columns(Counts(), even_bounds(6_000_000, 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < dealing_bytes(6_000_000) < 48 * 6_000_000
