"""Passes are permutations of their tiles, and what may run together never conflicts."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.models.protocol import Pass
from oocml.schedule.layout import Layout
from oocml.schedule.tasks import Task, conflict, footprint, latin_strata, sub_epochs
from tests.schedule.strategies import SPECS, STORED, layouts, passes, rising, seeds

WRITES = [
    (over, writes)
    for over, names in STORED.items()
    for n in range(len(names) + 1)
    for writes in itertools.combinations(names, n)
]


def touched(names, pass_, task, layout):
    """Blocks by visiting every tile of the task, the slow and obvious way."""
    blocks = set()
    for p in task.rows or (None,):
        for q in task.cols or (None,):
            for name in names:
                kind = SPECS[name].kind
                if kind == "shared":
                    blocks.add((name, 0))
                elif kind == "row" and p is not None:
                    blocks.add((name, p))
                elif kind == "col" and q is not None:
                    blocks.add((name, q))
                elif kind == "cell" and p is not None:
                    stripes = range(layout.n_stripes) if pass_.over == "rows" else [layout.stripe_of(q)]
                    blocks |= {(name, p * layout.n_stripes + s) for s in stripes}
    return blocks


def uses(pass_, task, layout):
    """Blocks that a task reads, and those that it stores itself."""
    stored = [name for name in pass_.writes if not SPECS[name].merge]
    read = touched((*pass_.reads, *pass_.writes), pass_, task, layout)
    return read, touched(stored, pass_, task, layout)


@pytest.mark.parametrize(("over", "writes"), WRITES, ids=lambda value: str(value))
@given(layout=layouts(), seed=seeds, sweeps=st.sampled_from([1, 4]))
def test_every_tile_is_visited_once_and_no_two_tasks_of_a_sub_epoch_conflict(
    over, writes, layout, seed, sweeps
):
    pass_ = Pass("pass", over, "kernel", reads=("row", "col"), writes=writes, sweeps=sweeps)
    strata = sub_epochs(pass_, layout, SPECS, seed)
    tasks = [task for stratum in strata for task in stratum]
    assert sorted(task.index for task in tasks) == list(range(len(tasks)))
    again = [task for stratum in sub_epochs(pass_, layout, SPECS, seed ^ 1) for task in stratum]
    places = {task.index: (set(task.rows), task.cols) for task in tasks}
    assert places == {task.index: (set(task.rows), task.cols) for task in again}
    rows, cols = range(layout.n_row_blocks), range(layout.n_col_blocks)
    tiles = [tile for task in tasks for tile in itertools.product(task.rows or (-1,), task.cols or (-1,))]
    expected = {
        "tiles": itertools.product(rows, cols),
        "rows": ((p, -1) for p in rows),
        "cols": ((-1, q) for q in cols),
        "once": ((-1, q) for q in cols),
    }
    assert sorted(tiles) == list(expected[over])
    for stratum in strata:
        for a, b in itertools.combinations(stratum, 2):
            (_, a_stored), (b_read, b_stored) = uses(pass_, a, layout), uses(pass_, b, layout)
            a_read = uses(pass_, a, layout)[0]
            assert not a_stored & (b_read | b_stored), (a, b)
            assert not b_stored & a_read, (a, b)
            assert not conflict(footprint(pass_, a, layout, SPECS), footprint(pass_, b, layout, SPECS))


@st.composite
def some_tasks(draw, layout, over):
    rows = st.lists(st.integers(0, layout.n_row_blocks - 1), min_size=1, unique=True)
    stripe = draw(st.integers(0, layout.n_stripes - 1))
    if over == "rows":
        return Task(0, tuple(draw(rows)), (), -1)
    if over == "cols":
        return Task(0, (), tuple(layout.stripe(stripe)), stripe)
    if over == "once":
        return Task(0, (), tuple(range(layout.n_col_blocks)), -1)
    return Task(0, tuple(draw(rows)), tuple(layout.stripe(stripe)), stripe)


@given(layout=layouts(), seed=seeds)
def test_rows_seen_ahead_are_seen_by_all_columns_before_they_are_visited(layout, seed):
    pass_ = Pass("pass", "tiles", "kernel", reads=("col",), writes=("col", "row", "cell"), ahead=True)
    strata = sub_epochs(pass_, layout, SPECS, seed)
    tiles = sorted(itertools.product(range(layout.n_row_blocks), range(layout.n_stripes)))
    tasks = [task for stratum in strata for task in stratum]
    assert [task.index for task in tasks] == list(range(len(tasks)))
    assert sorted((p, task.stripe) for task in tasks for p in task.rows) == tiles
    assert sorted((p, task.stripe) for task in tasks for p in task.ahead) == tiles
    seen = []
    for stratum in strata:
        for a, b in itertools.combinations(stratum, 2):
            assert not conflict(footprint(pass_, a, layout, SPECS), footprint(pass_, b, layout, SPECS))
        for task in stratum:
            for p in task.rows:
                assert {(p, s) for s in range(layout.n_stripes)} <= set(seen)
        seen += [(p, task.stripe) for task in stratum for p in task.ahead]


@given(data=st.data(), layout=layouts(), pass_=passes())
def test_the_conflict_rule_is_what_visiting_block_by_block_says(data, layout, pass_):
    a, b = (data.draw(some_tasks(layout, pass_.over)) for _ in "ab")
    (a_read, a_stored), (b_read, b_stored) = uses(pass_, a, layout), uses(pass_, b, layout)
    expected = any(
        (block in a_stored and block in b_read | b_stored) or (block in b_stored and block in a_read)
        for block in a_read | b_read | a_stored | b_stored
    )
    prints = [footprint(pass_, task, layout, SPECS) for task in (a, b)]
    assert conflict(*prints) == expected
    assert conflict(*prints[::-1]) == expected, "conflicts are mutual"


@given(n_rows=st.integers(1, 9), n_cols=st.integers(1, 9), seed=seeds)
def test_a_latin_square_holds_every_pair_once_and_no_row_or_column_twice_in_a_stratum(n_rows, n_cols, seed):
    strata = latin_strata(n_rows, n_cols, np.random.default_rng(seed))
    pairs = [pair for stratum in strata for pair in stratum]
    assert sorted(pairs) == list(itertools.product(range(n_rows), range(n_cols)))
    assert len(strata) == max(n_rows, n_cols), "as few strata as there can be"
    for stratum in strata:
        assert len(stratum) == min(n_rows, n_cols)
        assert len({r for r, _ in stratum}) == len({c for _, c in stratum}) == len(stratum)


def test_latin_squares_are_shuffled_anew():
    rng = np.random.default_rng(0)
    squares = {str(latin_strata(4, 4, rng)) for _ in range(20)}
    assert len(squares) > 15


def rows_per_column(pass_, layout, seed):
    order = {q: [] for q in range(layout.n_col_blocks)}
    for stratum in sub_epochs(pass_, layout, SPECS, seed):
        for task in stratum:
            for q in task.cols:
                order[q] += task.rows
    return list(order.values())


@given(data=st.data(), layout=layouts(), seed=seeds, sweeps=st.sampled_from([1, 3]))
def test_columns_see_their_rows_in_one_order_however_they_are_cut(data, layout, seed, sweeps):
    pass_ = Pass("pass", "tiles", "kernel", reads=("row",), writes=("col", "cell"), sweeps=sweeps)
    order = rows_per_column(pass_, layout, seed)
    assert all(rows == order[0] for rows in order)
    col_bounds = data.draw(rising(layout.col_bounds[-1]))
    other = dataclasses.replace(
        layout, col_bounds=col_bounds, stripe_bounds=data.draw(rising(len(col_bounds) - 1))
    )
    assert rows_per_column(pass_, other, seed)[0] == order[0]


def test_the_order_of_rows_changes_with_the_seed():

    cut = tuple(range(7))
    layout = Layout(cut, cut, (0, 1), (0, 1), (0, 3, 6), (0, 6))
    pass_ = Pass("pass", "tiles", "kernel", writes=("col",))
    assert len({str(rows_per_column(pass_, layout, seed)) for seed in range(30)}) > 20
