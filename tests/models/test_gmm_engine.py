"""Mixtures trained from disk by the engine: against the same program on arrays, and whoever runs the tasks."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from oocml import api
from oocml.data.writer import DatasetWriter
from oocml.engine.in_memory import InMemory, problem_of
from oocml.models.gmm import GMM
from oocml.models.protocol import Problem
from oocml.schedule.cost import PanelSizes
from oocml.schedule.panel_layout import UNPINNED, choose_panel_layout
from oocml.types import Panel
from tests.models.tiled import csr

N_PANELS = 6
BASE = {"n_components": 10, "batch_rows": 100, "sub_epoch_width": 1}
SETTINGS = {
    "esvi": {},
    "top_k": {"store_z": True, "top_k": 3, "z_dtype": "float16"},
    "subset": {"inference": "subset"},
    "svi": {"inference": "svi"},
    "vi": {"inference": "vi"},
}


def write(path, X):
    writer = DatasetWriter(str(path), n_cols=X.shape[1], label_kind="none")
    bounds = cuts(len(X))
    for p, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        writer.write_panel(p, Panel(csr(X[lo:hi]), None, np.arange(lo, hi)))
    writer.finish(n_panels=N_PANELS, attrs={})
    return path


def cuts(n_rows):
    return tuple(np.linspace(0, n_rows, N_PANELS + 1).astype(int).tolist())


@pytest.fixture(scope="module")
def digits():
    rows = load_digits().data.astype(np.float32)
    return rows[:1000], rows[1000:]


@pytest.fixture(scope="module")
def stored(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gmm")
    return write(folder / "train.zarr", digits[0]), write(folder / "test.zarr", digits[1])


def trained(data, path, **options):
    given = {"epochs": 4, "schedule": "serial", "settings": BASE, "row_blocks": N_PANELS, "col_blocks": 2}
    return api.train("gmm", data, path, **given | options)


@pytest.mark.parametrize("name", SETTINGS)
def test_engine_agrees_with_the_program_run_on_arrays(digits, stored, tmp_path, name):
    settings = BASE | SETTINGS[name]
    run = trained(stored[0], tmp_path / "run.zarr", settings=settings)
    panel = Panel(csr(digits[0]), None, np.arange(1000))
    problem = problem_of(GMM(), panel, 64, None, 0, **settings)
    n = settings["n_components"]
    expected = InMemory(GMM(), problem, panel, cuts(1000), (0, -(-n // 2), n)).run(4)
    assert [r["objective"] for r in run.history] == pytest.approx(
        [epoch.objective for epoch in expected.epochs], rel=1e-5
    )
    assert run.summary()["objective"] == pytest.approx(expected.finals[0].objective, rel=1e-5)
    found = {name: array.compute() for name, array in run.arrays().items()}
    for key in ("weights", "means"):
        np.testing.assert_allclose(found[key], expected.joined(key), rtol=1e-2, atol=1e-3)


def test_evaluate_knows_the_objective_and_later_epochs_improve_it(stored, tmp_path):
    run = trained(stored[0], tmp_path / "run.zarr")
    reached = run.summary()["objective"]
    assert run.evaluate(stored[0])["objective"] == pytest.approx(reached, rel=1e-6)
    api.resume(tmp_path / "run.zarr", epochs=3)
    assert run.summary()["objective"] < reached


def test_responsibilities_are_predicted_in_the_order_of_the_source(stored, tmp_path):
    run = trained(stored[0], tmp_path / "run.zarr")
    run.predict(stored[1], tmp_path / "top.txt", top=2)
    lines = (tmp_path / "top.txt").read_text().splitlines()
    pairs = np.array([[[float(part) for part in pair.split(":")] for pair in line.split()] for line in lines])
    assert pairs.shape == (797, 2, 2)
    assert set(np.unique(pairs[:, :, 0])) <= set(range(10))
    share = pairs[:, :, 1]
    assert (share[:, 0] >= share[:, 1]).all()
    assert (share.sum(axis=1) <= 1 + 1e-5).all()


def test_rows_are_visited_in_tasks_that_take_a_while():
    def n_tasks(n_panels):
        panels = PanelSizes(np.full(n_panels, 16_000), np.full(n_panels, 8 * 2**20))
        n_rows = 16_000 * n_panels
        sums = np.full(64, n_rows), np.full(64, float(n_rows))
        settings = GMM().defaults() | {"n_components": 256}
        problem = Problem(n_rows, 64, 64 * n_rows, *sums, None, "none", settings, 0)
        layout, _ = choose_panel_layout(GMM(), problem, panels, 2**26, UNPINNED)
        return len(layout.row_task_bounds) - 1

    assert n_tasks(2) == 1  # what tasks that run together can't see of each other costs more than it gains
    assert 8 <= n_tasks(60) <= 60


@pytest.mark.long
@pytest.mark.parametrize("name", ["esvi", "subset", "vi"])
def test_schedules_and_workers_reach_the_same(stored, tmp_path, name):
    settings = BASE | SETTINGS[name] | {"sub_epoch_width": 3}
    reached = []
    for schedule, workers in [("serial", None), ("sync", 1), ("sync", 2), ("async", 2)]:
        path = tmp_path / f"{schedule}{workers}.zarr"
        run = trained(stored[0], path, settings=settings, epochs=10, schedule=schedule, workers=workers)
        reached.append(run.evaluate(stored[1])["log_likelihood_per_row"])
    assert np.ptp(reached) < 0.02
