"""Beginning, replacing and holding runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import oocml
from oocml.data.specs import load_spec
from oocml.data.writer import DatasetWriter
from oocml.engine.start import problem_of_spec
from oocml.errors import NonFinite, RunBusy, UsageError
from oocml.models.registry import load_model
from oocml.types import Csr, Panel
from tests.engine.toys import TESTS, TOY, drive, fingerprint


def test_a_run_has_one_driver(new_run):
    toy = new_run()
    hold = (
        "import sys, oocml.store.run as r\n"
        "with r.RunStore(sys.argv[1]).lock():\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", hold, str(toy.run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=TESTS.parent,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "held\n"
        before = toy.run.ledger_path.read_bytes()
        with pytest.raises(RunBusy, match="another process"):
            drive(toy)
        with pytest.raises(RunBusy):
            oocml.train(TOY, toy.run.config["dataset"], toy.run.path, schedule="serial", overwrite=True)
        assert toy.run.ledger_path.read_bytes() == before
        child.kill()
    drive(toy)
    assert toy.run.read_ledger().finished


def test_training_into_an_existing_run_is_refused_unless_it_may_be_replaced(new_run, toy_dataset):
    toy = new_run(epochs=1)
    drive(toy)
    before = fingerprint(toy.run)
    options: dict[str, Any] = {"epochs": 1, "schedule": "serial"}
    with pytest.raises(UsageError, match="--overwrite"):
        oocml.train(TOY, toy_dataset, toy.run.path, **options)
    assert fingerprint(toy.run) == before
    oocml.train(TOY, toy_dataset, toy.run.path, overwrite=True, **options)
    beside = [path.name for path in toy.run.path.parent.iterdir() if path.name.startswith(toy.run.path.name)]
    assert beside == [toy.run.path.name], "nothing is left beside it"


def test_a_run_that_replaces_another_does_not_share_its_stamps(new_run, toy_dataset):
    toy = new_run()
    old = toy.run.read_ledger().next_stamp
    oocml.train(TOY, toy_dataset, toy.run.path, epochs=1, schedule="serial", overwrite=True)
    new = toy.run.read_ledger()
    assert abs(new.next_stamp - old) >= 2**39, (
        "late writes of the old run's workers must not be taken for its own"
    )


def test_what_killed_creations_left_is_removed(tmp_path, toy_dataset):
    out = tmp_path / "run.zarr"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for left in (f"run.zarr.partial-{dead.pid}", f"run.zarr.partial-gone-{dead.pid}"):
        (tmp_path / left / "state").mkdir(parents=True)
    oocml.train(TOY, toy_dataset, out, epochs=1, schedule="serial")
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_a_creation_that_failed_can_be_tried_again_in_the_same_process(tmp_path, toy_dataset, monkeypatch):
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    options: dict[str, Any] = {"epochs": 1, "schedule": "serial"}
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(oocml.errors.OocmlError, match="the disk is full"):
            oocml.train(TOY, toy_dataset, tmp_path / "run.zarr", **options)
    assert list(tmp_path.iterdir()) == []
    oocml.train(TOY, toy_dataset, tmp_path / "run.zarr", **options)


@pytest.mark.parametrize("left", [[], [".lock"]], ids=["empty", "with a lock"])
def test_an_empty_folder_is_replaced_even_if_a_killed_creation_left_its_lock(tmp_path, toy_dataset, left):
    out = tmp_path / "run.zarr"
    out.mkdir()
    for name in left:
        (out / name).touch()
    oocml.train(TOY, toy_dataset, out, epochs=1, schedule="serial")
    assert oocml.open_run(out).info(deep=True)["whole"]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("kind", ["a file", "a folder with other things"])
def test_what_is_not_a_run_is_never_replaced(tmp_path, toy_dataset, kind):
    out = tmp_path / "out"
    if kind == "a file":
        out.write_text("precious")
    else:
        out.mkdir()
        (out / "precious").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not a run"):
            oocml.train(TOY, toy_dataset, out, epochs=1, schedule="serial", overwrite=overwrite)
    assert (out if kind == "a file" else out / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    "settings",
    [{"l2": "abc"}, {"n_factors": float("nan")}, {"n_factors": None}, {"learning_rate": True}, {"biases": 3}],
)
def test_settings_of_another_type_are_refused_before_anything_is_written(tmp_path, toy_dataset, settings):
    (name,) = settings
    with pytest.raises(UsageError, match=name):
        oocml.train("mf", toy_dataset, tmp_path / "run.zarr", schedule="serial", settings=settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"patience": 3}, {"metric": "rmse"}])
def test_judging_epochs_without_a_dataset_to_judge_on_is_refused(tmp_path, toy_dataset, options):
    with pytest.raises(UsageError, match=next(iter(options)) + " needs a dataset"):
        oocml.train(TOY, toy_dataset, tmp_path / "run.zarr", schedule="serial", **options)
    assert not list(tmp_path.iterdir())


def test_no_patience_at_all_is_refused(tmp_path, toy_dataset):
    with pytest.raises(UsageError, match="patience is 0"):
        oocml.train(TOY, toy_dataset, tmp_path / "run.zarr", valid=toy_dataset, patience=0)


@pytest.mark.parametrize(
    ("task", "kind"),
    [("regression", "number"), ("classification", "number"), ("multilabel", "sets"), ("factors", "none")],
)
def test_labels_of_a_spec_are_those_of_its_task(task, kind):
    model = SimpleNamespace(name="any", defaults=dict, check=lambda problem: None)
    problem, _ = problem_of_spec(replace(load_spec("clef"), task=task), model, {}, 0)
    assert problem.label_kind == kind


def test_a_training_for_numbers_is_planned_by_a_spec_of_them():
    assert oocml.plan("fm", spec="housing", workers=1).disk_bytes > 0


@pytest.mark.parametrize(("model", "rate"), [("mf", 0.01), ("fm", 0.01)])
def test_advice_for_a_state_of_nan_is_a_step_of_a_tenth(tmp_path, monkeypatch, model, rate):
    rng = np.random.default_rng(0)
    writer = DatasetWriter(str(tmp_path / "d.zarr"), n_cols=3, label_kind="number")
    X = Csr(np.arange(0, 13, 3), np.tile(np.arange(3, dtype=np.int32), 4), rng.random(12).astype(np.float32))
    y = rng.random(4)
    writer.write_panel(0, Panel(X, y, np.arange(4)))
    writer.finish(n_panels=1, attrs={}, labels=y)
    found = load_model(model)
    spoiled = {**found.kernels, "visit": found.kernels["visit"]._replace(visit=spoil)}
    monkeypatch.setattr(type(found), "kernels", spoiled)
    with pytest.raises(NonFinite, match=f"--set learning_rate={rate:g}$"):
        oocml.train(
            model, tmp_path / "d.zarr", tmp_path / "run.zarr", schedule="serial", settings={"n_factors": 2}
        )


def spoil(v):
    v.col["V"][:] = np.nan
    return {"loss": 0.0, "ridge": 0.0, "w0": np.zeros(2)}
