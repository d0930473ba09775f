"""A run is put in place when all is ready, and goes on with what it was begun with."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

import oocml
from oocml import training
from oocml.engine.driver import Driver
from oocml.engine.events import Event, Notice, RunStarted, TaskDone
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.training import open_workplace
from tests.engine.toys import TOY, write_dataset

SERIAL: dict[str, Any] = {"epochs": 2, "schedule": "serial"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data.zarr")


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "valid.zarr", panel_rows=(4, 2))


def tree(folder: Path) -> dict[str, str]:
    """Checksums of all files by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (UsageError, {"schedule": "sync", "scheduler": "tcp://127.0.0.1:9"}),
        (DoesNotFit, {"memory": 10 * 2**20}),
        (UsageError, {"metric": "rmse"}),
        (UsageError, {"metric": "nonsense"}),
        (UsageError, {"schedule": "eager"}),
        (UsageError, {"workers": 2}),
        (UsageError, {"scheduler": "tcp://127.0.0.1:9"}),
        (UsageError, {"schedule": "sync", "scheduler": "tcp://127.0.0.1:9", "workers": 2}),
        (InputError, {"data": "nowhere.zarr"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_training_that_cannot_begin_leaves_the_run_it_would_replace(
    tmp_path, data, valid, monkeypatch, kind, options
):
    monkeypatch.setattr("oocml.engine.cluster.CONNECT_S", 0.3)
    out = tmp_path / "run.zarr"
    oocml.train("mlr", data, out, **SERIAL)
    before, beside = tree(out), set(tmp_path.iterdir())
    with pytest.raises(kind) as caught:
        oocml.train(
            **{"model": "mlr", "data": data, "out": out, "valid": valid} | SERIAL | options, overwrite=True
        )
    assert "\n" not in str(caught.value)
    assert tree(out) == before
    assert set(tmp_path.iterdir()) == beside


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        ("rmse", "mlr has no metric 'rmse'; it has accuracy, .*objective"),
        ("acc", r"mlr has no metric 'acc' \(did you mean accuracy\?\); it has accuracy, .*objective"),
        ("n_unseen", "mlr has no metric 'n_unseen'; it has ((?!n_rows|n_un).)*$"),
    ],
)
def test_a_metric_that_the_model_lacks_is_found_before_anything_is_started(
    tmp_path, data, valid, monkeypatch, metric, line
):
    monkeypatch.setattr("oocml.api.open_workplace", lambda *_, **__: pytest.fail("workers are started"))
    with pytest.raises(UsageError, match=line):
        oocml.train("mlr", data, tmp_path / "run.zarr", valid=valid, metric=metric, **SERIAL)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    ("metric", "line", "begins"),
    [("acuracy", "unknown metric 'acuracy'", False), ("rmse", "has no metric 'rmse'; it has", True)],
)
def test_the_metrics_of_a_model_that_does_not_tell_them_are_known_once_a_few_rows_are_scored(
    tmp_path, data, valid, monkeypatch, metric, line, begins
):
    monkeypatch.delattr("oocml.models.mlr_scoring.MlrScoring.metric_names")
    opened = []
    monkeypatch.setattr(
        "oocml.api.open_workplace", lambda *a, **o: opened.append(1) or open_workplace(*a, **o)
    )
    with pytest.raises(UsageError, match=line):
        oocml.train("mlr", data, tmp_path / "run.zarr", valid=valid, metric=metric, **SERIAL)
    assert bool(opened) == begins
    assert not (tmp_path / "run.zarr").exists()


def test_a_run_tells_the_settings_that_it_used(tmp_path, data):
    events: list[Any] = []
    run = oocml.train(
        "mlr", data, tmp_path / "run.zarr", settings={"l2": "1e-2"}, monitors=[events.append], **SERIAL
    )
    [start] = [event for event in events if isinstance(event, RunStarted)]
    assert (start.given, start.chosen) == (["l2"], ["learning_rate"])
    assert start.config == run.summary()["settings"]
    for told in (run.summary(), run.info()):
        assert told["settings"]["l2"] == 0.01
        assert told["settings"]["solver"] == "ds"
        assert told["settings"]["learning_rate"] == 4.0
        assert told["given_settings"] == ["l2"]
        assert told["chosen_settings"] == ["learning_rate"]
    run = oocml.train("fm", data, tmp_path / "fm.zarr", settings={"n_factors": 2}, **SERIAL)
    chosen = run.summary()["chosen_settings"]
    assert chosen == ["l2_linear", "l2_factors", "task", "learning_rate"]
    assert None not in run.summary()["settings"].values()


def test_a_plan_is_that_of_the_schedule_and_the_pins_of_a_training(data):
    pinned = oocml.plan("mlr", data, workers=1, row_blocks=3, col_blocks=2).layout
    assert (pinned.n_row_blocks, pinned.n_col_blocks) == (3, 2)
    sync, any_order = (oocml.plan("mlr", data, workers=1, schedule=name) for name in ("sync", "async"))
    assert any_order.to_dict() == {**sync.to_dict(), "disk_free_bytes": any_order.disk_free_bytes}
    serial = oocml.plan("mlr", data, memory="220MiB", schedule="serial")
    assert serial.workers == 0
    with pytest.raises(DoesNotFit):
        oocml.plan("mlr", data, memory="220MiB")
    for wrong in ({"schedule": "serial", "workers": 2}, {"schedule": "eager"}):
        with pytest.raises(UsageError, match="serial"):
            oocml.plan("mlr", data, **wrong)


@pytest.mark.parametrize("model", ["mlr", "fm"])
def test_blocks_that_there_cannot_be_are_told_of(tmp_path, data, model):
    told = []
    pins = {"row_blocks": 99, "col_blocks": 98}
    oocml.train(model, data, tmp_path / "run.zarr", monitors=[told.append], **pins, **SERIAL)
    lines = [event.text for event in told if isinstance(event, Notice) and "blocks" in event.text]
    assert [line.split(":")[0] for line in lines] == [
        "--row-blocks 99 is too many",
        "--col-blocks 98 is too many",
    ]
    assert "5 are used, as the dataset has 5 panels" in lines[0]
    told.clear()
    oocml.train(
        model, data, tmp_path / "2.zarr", monitors=[told.append], row_blocks=5, col_blocks=3, **SERIAL
    )
    assert not [event for event in told if isinstance(event, Notice) and "blocks" in event.text]


class Stop(Exception):
    pass


def begun(monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> None:
    """Train up to where the first epoch would begin."""

    def stop(driver: Driver) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Driver, "train", stop)
        with pytest.raises(Stop):
            oocml.train(*args, **options)


def change(path: Path) -> None:
    write_dataset(path, panel_rows=(3, 3))


@pytest.mark.parametrize("which", ["data", "valid"])
@pytest.mark.parametrize(("harm", "word"), [(shutil.rmtree, "is gone"), (change, "was changed")])
def test_a_run_goes_on_only_with_the_data_it_was_begun_with(
    tmp_path, data, valid, monkeypatch, which, harm, word
):
    out = tmp_path / "run.zarr"
    begun(monkeypatch, "mlr", data, out, valid=valid, **SERIAL)
    harm({"data": data, "valid": valid}[which])
    before = tree(out)
    with pytest.raises(InputError, match=f"{which}.zarr .*{word}"):
        oocml.resume(out)
    assert tree(out) == before


def test_a_finished_run_is_resumed_by_saying_that_it_is_finished(tmp_path, data):
    oocml.train("mlr", data, tmp_path / "run.zarr", **SERIAL)
    before, said = tree(tmp_path), []
    oocml.resume(tmp_path / "run.zarr", monitors=[said.append])
    assert [event.text for event in said] == ["nothing to do: all 2 epochs are done; --epochs +N adds some"]
    assert tree(tmp_path) == before


def test_a_resumed_run_is_as_durable_as_it_was_begun(tmp_path, data, monkeypatch):
    asked: list[bool] = []
    original = Driver.__init__

    def seen(driver: Driver, *args: Any, durable: bool = False, **options: Any) -> None:
        asked.append(durable)
        original(driver, *args, durable=durable, **options)

    monkeypatch.setattr(Driver, "__init__", seen)
    for durable in (True, False):
        out = tmp_path / f"{durable}.zarr"
        oocml.train(TOY, data, out, durable=durable, **SERIAL)
        oocml.resume(out, epochs=1)
        oocml.resume(out, epochs=1, durable=not durable)
    assert asked == [True, True, False, False, False, True]


def test_what_an_interrupted_training_reads_again_is_planned(tmp_path, data):
    left = [11]

    def stop(event: Event) -> None:
        left[0] -= isinstance(event, TaskDone)
        if not left[0]:
            raise KeyboardInterrupt

    out = tmp_path / "run.zarr"
    with pytest.raises(
        KeyboardInterrupt
    ):  # between two tasks of an epoch, with what they keep for one another
        oocml.train("fm", data, out, epochs=3, schedule="serial", row_blocks=3, col_blocks=2, monitors=[stop])
    told = oocml.resume(out).summary()
    assert 0.8 < told["read_bytes"] / told["planned_read_bytes"] < 1.1


def test_serial_training_bounds_malloc_before_it_plans(tmp_path, data, monkeypatch):
    """Before there are threads: the arenas of those that are there already stay."""
    order: list[str] = []
    plan = training.plan_workers

    def planned(*arguments: Any, **asked: Any) -> Any:
        order.append("plan")
        return plan(*arguments, **asked)

    monkeypatch.setattr(training, "limit_malloc", lambda: order.append("malloc"))
    monkeypatch.setattr(training, "plan_workers", planned)
    oocml.train("mlr", data, tmp_path / "run.zarr", **SERIAL)
    assert order == ["malloc", "plan"]
