"""mf and fm trained from disk by the engine: whoever runs the tasks, and against the same program on arrays."""

import numpy as np
import pytest
import zarr

from oocml import api
from oocml.data.writer import DatasetWriter
from oocml.types import Panel
from tests.models.machines import planted as planted_machine
from tests.models.test_mf import planted as planted_ratings
from tests.models.tiled import csr

N_PANELS = 6
SETTINGS = {
    "mf": {"n_factors": 4, "l2": 0.1},
    "mf-bold": {"n_factors": 4, "step": "bold_driver"},
    "fm": {"n_factors": 3},
    "dsfacto": {"n_factors": 3, "solver": "dsfacto", "tour": "two_pass"},
}


def write(path, X, y, known=None):
    writer = DatasetWriter(
        str(path), n_cols=X.shape[1], label_kind="none" if y is None else "number", overwrite=True
    )
    bounds = np.linspace(0, len(X), N_PANELS + 1).astype(int)
    for p, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        part = csr(X[lo:hi], None if known is None else known[lo:hi])
        writer.write_panel(p, Panel(part, None if y is None else y[lo:hi], np.arange(lo, hi)))
    writer.finish(n_panels=N_PANELS, attrs={}, labels=None if y is None else np.unique(y))
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiled")
    R, known = planted_ratings(n_rows=120, n_cols=40)
    X, y = planted_machine()
    return {
        "mf": write(folder / "ratings.zarr", R, None, known),
        "fm": write(folder / "rows.zarr", X, y),
    }


def model_of(name):
    return "mf" if name.startswith("mf") else "fm"


def trained(stored, name, path, **options):
    given = {"epochs": 4, "schedule": "serial", "settings": SETTINGS[name], "row_blocks": 3, "col_blocks": 4}
    return api.train(model_of(name), stored[model_of(name)], path, **given | options)


def arrays(run):
    return {name: array.compute() for name, array in run.arrays().items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_objective_of_evaluate_is_that_of_the_training(stored, tmp_path, name):
    run = trained(stored, name, tmp_path / "run.zarr")
    objective = run.summary()["objective"]
    assert run.evaluate(stored[model_of(name)])["objective"] == pytest.approx(objective, rel=1e-5)
    assert objective < run.history[0]["objective"]


@pytest.mark.parametrize("name", SETTINGS)
def test_quality_is_that_of_a_single_block(stored, tmp_path, name):
    cut, whole = (
        trained(stored, name, tmp_path / f"{n}.zarr", row_blocks=n, col_blocks=n, epochs=20) for n in (3, 1)
    )
    close = 0.1 if name == "dsfacto" else 0.03
    assert cut.summary()["objective"] == pytest.approx(whole.summary()["objective"], rel=close)


@pytest.mark.parametrize("name", ["mf", "fm"])
def test_workers_do_not_decide_bits(stored, tmp_path, name):
    alone = arrays(trained(stored, name, tmp_path / "serial.zarr"))
    together = arrays(trained(stored, name, tmp_path / "sync.zarr", schedule="sync", workers=2))
    assert alone.keys() == together.keys()
    for array, values in alone.items():
        np.testing.assert_array_equal(values, together[array])


@pytest.mark.long
@pytest.mark.parametrize("name", ["mf", "fm"])
def test_asynchronous_trainings_are_as_good(stored, tmp_path, name):
    waiting, free = (
        trained(stored, name, tmp_path / f"{schedule}.zarr", schedule=schedule, workers=2, epochs=12)
        for schedule in ("sync", "async")
    )
    assert free.summary()["objective"] == pytest.approx(waiting.summary()["objective"], rel=0.02)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_resumes_into_a_second_segment(stored, tmp_path, name):
    run = trained(stored, name, tmp_path / "run.zarr", epochs=2)
    first = run.summary()["objective"]
    run = api.resume(tmp_path / "run.zarr", epochs=3)
    assert [record["epoch"] for record in run.history] == [1, 2, 3, 4, 5]
    assert run.summary()["objective"] < 1.05 * first


@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.parametrize("how", ["npz", "arrays", "best"])
def test_predictions_follow_from_an_export(tmp_path, classify, how):
    X, y = planted_machine(classify=classify)
    data = write(tmp_path / "d.zarr", X, y)
    judged = {"valid": data, "metric": "objective"} if how == "best" else {}
    settings = {"n_factors": 3}
    options = {"epochs": 3, "schedule": "serial", "row_blocks": 3, "col_blocks": 4, "settings": settings}
    run = api.train("fm", data, tmp_path / "run.zarr", **options, **judged)
    if how == "npz":
        run.export(tmp_path / "model.npz")
        model = dict(np.load(tmp_path / "model.npz"))
    else:
        model = arrays(run)
    Z = X.astype(np.float64) * model["scale"]
    V = model["V"].astype(np.float64)
    f = model["w0"][0] + Z @ model["w"] + ((Z @ V) ** 2 - Z**2 @ V**2).sum(axis=1) / 2
    run.predict(data, tmp_path / "p.zarr")
    predicted = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")
    if classify:
        second = 1 / (1 + np.exp(-f))
        np.testing.assert_allclose(predicted["scores"][:, 0], np.maximum(second, 1 - second), rtol=1e-5)
        np.testing.assert_array_equal(predicted["labels"][:, 0], np.where(f > 0, 7, 2))
    else:
        center, scale, lowest, highest = model["target"]
        np.testing.assert_allclose(
            predicted["values"][:], np.clip(center + scale * f, lowest, highest), rtol=1e-5
        )


def test_the_exported_scale_is_in_the_order_of_the_data(stored, tmp_path):
    found = arrays(trained(stored, "fm", tmp_path / "run.zarr", epochs=1))["scale"]
    X, _ = planted_machine()
    X = X.astype(np.float64)
    rms = np.sqrt((X**2).sum(axis=0) / np.maximum((X != 0).sum(axis=0), 1))
    np.testing.assert_allclose(found, np.divide(1, rms, out=np.zeros(len(rms)), where=rms > 0), rtol=1e-6)
