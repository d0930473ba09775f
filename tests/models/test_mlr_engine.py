"""DS-MLR trained from disk by the engine against the same program run on arrays."""

import numpy as np
import pytest

from oocml import api
from oocml.cli.look import write_html
from oocml.engine.in_memory import InMemory
from oocml.models.protocol import derive_seed
from oocml.schedule.layout import Layout
from oocml.schedule.tasks import sub_epochs
from tests.models.mlr_oracles import write_panels
from tests.models.test_mlr import planted, training

N_PANELS = 6
SETTINGS = {"polish": 2, "l2": 1e-3}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    X, y = planted()
    return X, y, write_panels(tmp_path_factory.mktemp("mlr") / "data.zarr", X, y, N_PANELS)


def trained(stored, path, **options):
    given = {"epochs": 4, "schedule": "serial", "settings": SETTINGS, "row_blocks": N_PANELS, "col_blocks": 3}
    return api.train("mlr", stored, path, **given | options)


def weights(run):
    return {name: array.compute() for name, array in run.arrays().items()}


def oracle(X, y, run) -> InMemory:
    """The same training on arrays, with the run's bounds and its order of row blocks."""
    layout = Layout.from_dict(run.config["layout"])
    on_arrays = training(
        X, y, row_bounds=layout.row_bounds[:-1], col_bounds=layout.col_bounds[:-1], **SETTINGS
    )

    def row_order(pass_, number):
        tasks = sub_epochs(pass_, layout, on_arrays.specs, derive_seed(on_arrays.problem.seed, number))
        return [p for sub_epoch in tasks for task in sub_epoch if task.stripe == 0 for p in task.rows]

    on_arrays.row_order = row_order
    return on_arrays.run(4)


def test_engine_agrees_with_the_program_run_on_arrays(stored, tmp_path):
    X, y, path = stored
    run = trained(path, tmp_path / "run.zarr")
    expected = oracle(X, y, run)
    assert [r["objective"] for r in run.history] == pytest.approx(
        [e.objective for e in expected.epochs], rel=1e-6
    )
    assert run.summary()["objective"] == pytest.approx(expected.finals[0].objective, rel=1e-6)
    for name, values in weights(run).items():
        np.testing.assert_allclose(values, expected.joined(name), rtol=1e-4, atol=1e-5)


def test_without_the_exact_objective_weights_are_the_same_and_none_is_told(stored, tmp_path):
    settings = {"l2": 1e-3}
    exact = trained(stored[2], tmp_path / "exact.zarr", settings=settings)
    quick = trained(stored[2], tmp_path / "quick.zarr", settings={**settings, "exact_objective": False})
    assert all(np.array_equal(values, weights(exact)[name]) for name, values in weights(quick).items())
    assert quick.summary()["objective"] is None
    updates = [run.store.read_ledger().totals["updates"] for run in (quick, exact)]
    assert updates[0] < updates[1]
    running, last = (run.history[-1]["objective"] for run in (quick, exact))
    assert last == exact.summary()["objective"] != pytest.approx(running, rel=1e-6)
    quick = api.resume(quick.path, epochs=1, schedule="serial")
    assert quick.summary()["objective"] is None
    write_html(quick, tmp_path / "report.html")


def test_result_does_not_depend_on_the_number_of_class_blocks(stored, tmp_path):
    _, _, path = stored
    one, four = (
        weights(trained(path, tmp_path / f"{n}.zarr", col_blocks=n, settings={"l2": 1e-3})) for n in (1, 4)
    )
    for name, values in one.items():
        np.testing.assert_allclose(values, four[name], rtol=1e-3, atol=1e-4)


def test_objective_of_evaluate_is_that_of_the_training(stored, tmp_path):
    _, _, path = stored
    run = trained(path, tmp_path / "run.zarr")
    assert run.evaluate(path)["objective"] == pytest.approx(run.summary()["objective"], rel=1e-5)
