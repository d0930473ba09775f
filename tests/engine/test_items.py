"""State that belongs to entries or to batches of rows, passes over a share of rows, and tasks that take turns."""

from pathlib import Path

import numpy as np
import pytest

from oocml import api
from oocml.data.writer import DatasetWriter
from oocml.engine.in_memory import InMemory, problem_of
from oocml.types import Csr, Panel
from tests.sampled_model import Batches, Entries

MODELS = Path(__file__).parents[1] / "sampled_model.py"
PANEL_ROWS = (7, 4, 1, 9, 5, 8)
N_COLS = 10


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    X = rng.integers(1, 9, (sum(PANEL_ROWS), N_COLS)) * (rng.random((sum(PANEL_ROWS), N_COLS)) < 0.4)
    return X.astype(np.float32)


def csr(X):
    rows, cols = np.nonzero(X)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(X)))])
    return Csr(indptr.astype(np.int64), cols.astype(np.int32), X[rows, cols])


@pytest.fixture(scope="module")
def stored(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("items") / "rows.zarr"
    writer = DatasetWriter(str(path), n_cols=N_COLS, label_kind="none")
    bounds = np.cumsum([0, *PANEL_ROWS])
    for p, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        writer.write_panel(p, Panel(csr(rows[lo:hi]), None, np.arange(lo, hi)))
    writer.finish(n_panels=len(PANEL_ROWS), attrs={}, labels=None)
    return path


def trained(stored, tmp_path, model, **given):
    options = {"epochs": 3, "schedule": "serial", "row_blocks": 3, "col_blocks": 4} | given
    return api.train(f"{MODELS}:{model}", stored, tmp_path / "run.zarr", **options)


@pytest.mark.parametrize("schedule", ["serial", "sync", "async"])
def test_entries_keep_what_is_theirs_from_epoch_to_epoch(stored, rows, tmp_path, schedule):
    workers = {} if schedule == "serial" else {"workers": 2}
    run = trained(stored, tmp_path, "Entries", schedule=schedule, **workers)
    expected = rows.sum() * np.array([1, 2, 3])
    assert [epoch["objective"] for epoch in run.history] == pytest.approx(expected)
    assert run.arrays()["sum"].compute() == pytest.approx([expected.sum()])


def test_with_one_task_at_a_time_each_sees_what_all_before_it_added(stored, tmp_path):
    seen = {}
    for at_once in (0, 1):
        path = tmp_path / str(at_once)
        path.mkdir()
        run = trained(stored, path, "Entries", settings={"at_once": at_once}, epochs=1)
        seen[at_once] = run.history[0]["seen"]
    assert 0 < seen[0] < seen[1]


def test_the_oracle_agrees_about_entries(rows):
    panel = Panel(csr(rows), None, np.arange(len(rows)))
    found = InMemory(
        Entries(), problem_of(Entries(), panel, N_COLS, None), panel, (0, 9, 34), (0, 4, 10)
    ).run(2)
    assert [epoch.objective for epoch in found.epochs] == pytest.approx([rows.sum(), 2 * rows.sum()])


def test_batches_belong_to_their_panels_and_shares_make_up_all_rows(stored, rows, tmp_path):
    run = trained(stored, tmp_path, "Batches")
    for epoch in run.history:
        assert epoch["objective"] == pytest.approx(rows.sum())
        assert epoch["n_rows"] == len(rows)
        assert epoch["first"] == sum(PANEL_ROWS[:2]) + sum(PANEL_ROWS[4:])
        assert epoch["first"] + epoch["second"] == len(rows)


def test_the_oracle_agrees_about_batches_and_shares(rows):
    panel = Panel(csr(rows), None, np.arange(len(rows)))
    problem = problem_of(Batches(), panel, N_COLS, None)
    found = InMemory(Batches(), problem, panel, tuple(np.cumsum([0, *PANEL_ROWS])), (0, 1)).run(2)
    for epoch in found.epochs:
        assert epoch.objective == pytest.approx(rows.sum())
        assert epoch.extra["first"] == sum(PANEL_ROWS[::2])


def test_more_shares_than_row_blocks_take_turns(stored, rows, tmp_path):
    run = trained(stored, tmp_path, "Batches", row_blocks=1)
    assert run.history[-1]["first"] == run.history[-1]["second"] == len(rows)
