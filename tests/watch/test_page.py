import numpy as np
import pytest

from oocml.watch.page import MAX_GROUPS, TrainingPage, is_task
from oocml.watch.run_view import MAX_CELLS, RunView

START = {"run": "/data/run.zarr", "model": "mlr", "n_row_blocks": 3, "n_col_blocks": 4, "epochs": 5}


@pytest.fixture
def view() -> RunView:
    view = RunView()
    view.apply({"start": START})
    return view


def test_grid_holds_the_last_epoch_of_every_block(view):
    view.apply({"tasks": [(1, 0, 3, 0, 4), (2, 1, 2, 0, 2)]})
    assert view.grid.tolist() == [[1, 1, 1, 1], [2, 2, 1, 1], [1, 1, 1, 1]]


def test_a_large_grid_is_drawn_with_few_cells():
    view = RunView()
    view.apply({"start": {**START, "n_row_blocks": 10_000, "n_col_blocks": 129}})
    view.apply({"tasks": [(1, 9_999, 10_000, 128, 129)]})
    assert max(view.grid.shape) <= MAX_CELLS
    assert np.argwhere(view.grid).tolist() == [[n - 1 for n in view.grid.shape]]


def test_tasks_in_flight_cover_what_the_same_task_covered_before(view):
    assert view.rectangle(1, 2) == (1, 2, 2, 3)
    view.apply({"tasks": [(1, 1, 3, 2, 4)]})
    assert view.rectangle(1, 2) == (1, 3, 2, 4)


def test_tasks_without_rows_or_columns_cover_the_whole_axis(view):
    assert view.rectangle(-1, 2) == (0, 3, 2, 3)
    assert view.rectangle(2, -1) == (2, 3, 0, 4)


def test_rates_are_differences_of_totals(view):
    for at, read in ((0.0, 0), (2.0, 10_000_000), (3.0, 10_000_000)):
        view.apply({"progress": {"at": at, "read_bytes": read, "write_bytes": 2 * read}})
    rates = view.megabytes_per_s()
    assert rates == {"seconds": [2.0, 3.0], "read": [5.0, 0.0], "write": [10.0, 0.0]}


def test_no_rates_without_messages(view):
    assert view.megabytes_per_s() == {"seconds": [], "read": [], "write": []}


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        (("mlr-visit-epoch3", 0, 4, 17), True),
        (("mlr-finish_row-epoch3", 2, -1, 17), True),
        (("mlr-visit-epoch3", 0, 4), False),
        (("sum-aggregate", 0, 4, 1), False),
        (("x-epoch3", "a", 4, 1), False),
        ("mlr-visit-epoch3", False),
    ],
)
def test_only_our_keys_are_followed(key, ours):
    assert is_task(key) is ours


def test_a_lost_task_leaves_flight_without_being_counted():
    page = TrainingPage()
    key = ("mlr-visit-epoch1", 0, 0, 1)
    page.transition(key, "waiting", "processing")
    assert list(page.in_flight) == [key]
    page.transition(key, "processing", "released")
    assert page.in_flight == {}
    assert page.done == {}


def test_groups_counted_are_bounded_and_the_newest_stay():
    page = TrainingPage()
    for epoch in range(1000):
        page.transition((f"mlr-visit-epoch{epoch}", 0, 0, epoch), "processing", "memory")
    assert len(page.done) == MAX_GROUPS
    assert page.done["mlr-visit-epoch999"] == 1
