"""``overwrite``: what becomes of the run that is replaced, however the new one ends."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import oocml
from oocml.engine.driver import Driver
from oocml.engine.events import Event, RunStarted
from oocml.errors import DoesNotFit, InputError, NonFinite, OocmlError, UsageError, WorkersLost
from oocml.store.replacing import set_aside
from oocml.store.run import RunStore
from tests.cli.conftest import call
from tests.engine.toys import TOY, ToyRun, drive, fingerprint

SERIAL: dict[str, Any] = {"epochs": 1, "schedule": "serial"}


@pytest.fixture
def trained(new_run) -> ToyRun:
    toy = new_run()
    drive(toy)
    return toy


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stop_at_start(event: Event) -> None:
    if isinstance(event, RunStarted):
        raise KeyboardInterrupt


def fail_in_first_epoch(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(driver: Driver) -> None:
        raise error

    monkeypatch.setattr(Driver, "train", fail)


def replace_and_stop(toy: ToyRun, dataset: Path) -> Path:
    """Ctrl-C as soon as a new run began in a trained one's place; returns where that is now."""
    with pytest.raises(KeyboardInterrupt):
        oocml.train(TOY, dataset, toy.run.path, overwrite=True, monitors=[stop_at_start], **SERIAL)
    return set_aside(toy.run.path)


def test_a_run_that_cannot_be_replaced_after_all_comes_back(new_run, toy_dataset, monkeypatch):
    toy = new_run()
    before = fingerprint(toy.run)
    rename = os.rename

    def fail(source: Any, target: Any) -> None:
        if target == toy.run.path and not str(source).endswith(".partial-old"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr("oocml.store.replacing.os.rename", fail)
    with pytest.raises(OocmlError, match="Input/output error"):
        oocml.train(TOY, toy_dataset, toy.run.path, epochs=1, schedule="serial", overwrite=True)
    assert fingerprint(toy.run) == before


@pytest.mark.parametrize("error", [InputError, NonFinite])
def test_data_that_cannot_be_trained_on_leave_the_run_that_was_there_or_none(
    new_run, toy_dataset, tmp_path, monkeypatch, error
):
    toy = new_run()
    drive(toy)
    before = fingerprint(toy.run)

    def fail(driver: Driver) -> None:
        assert fingerprint(driver.run) != before, "the new run is in place"
        raise error("a negative number of words")

    monkeypatch.setattr(Driver, "train", fail)
    for out in (toy.run.path, tmp_path / "new.zarr"):
        there = set(out.parent.iterdir())
        with pytest.raises(error, match="negative"):
            oocml.train(TOY, toy_dataset, out, epochs=1, schedule="serial", overwrite=True)
        assert set(out.parent.iterdir()) == there
    assert fingerprint(toy.run) == before


def test_a_run_is_kept_aside_until_the_one_in_its_place_has_an_epoch(new_run, toy_dataset):
    toy = new_run()
    aside: dict[str, bool] = {}

    def look(event: Event) -> None:
        kept = set_aside(toy.run.path).exists()
        aside.setdefault(type(event).__name__, kept)

    oocml.train(TOY, toy_dataset, toy.run.path, epochs=1, schedule="serial", overwrite=True, monitors=[look])
    assert (aside["RunStarted"], aside["EpochDone"], aside["RunDone"]) == (True, True, False)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        WorkersLost("three workers"),
        MemoryError(),
        OocmlError("the disk is full"),
        SystemExit(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_else_stops_the_first_epoch_keeps_both_runs(trained, toy_dataset, monkeypatch, error):
    before = fingerprint(trained.run)
    with monkeypatch.context() as patch:
        fail_in_first_epoch(patch, error)
        with pytest.raises(type(error)):
            oocml.train(TOY, toy_dataset, trained.run.path, overwrite=True, **SERIAL)
    assert fingerprint(RunStore(set_aside(trained.run.path))) == before
    assert len(oocml.resume(trained.run.path).history) == 1
    assert names(trained.run.path.parent) == {trained.run.path.name}


def test_a_resumed_run_that_cannot_be_trained_gives_way_to_the_old_one(trained, toy_dataset, monkeypatch):
    before = fingerprint(trained.run)
    replace_and_stop(trained, toy_dataset)
    fail_in_first_epoch(monkeypatch, NonFinite("nan"))
    with pytest.raises(NonFinite):
        oocml.resume(trained.run.path)
    assert fingerprint(trained.run) == before
    assert names(trained.run.path.parent) == {trained.run.path.name}


def test_a_resumed_run_stays_where_none_comes_back(new_run, monkeypatch):
    toy = new_run()
    fail_in_first_epoch(monkeypatch, InputError("not today"))
    with pytest.raises(InputError, match="not today"):
        oocml.resume(toy.run.path)
    assert toy.run.path.exists()


def test_a_trained_run_outlives_several_attempts_to_replace_it(trained, toy_dataset, monkeypatch):
    before = fingerprint(trained.run)
    old = replace_and_stop(trained, toy_dataset)
    with pytest.raises(DoesNotFit):
        oocml.train(TOY, toy_dataset, trained.run.path, overwrite=True, memory=1 << 20, **SERIAL)
    assert fingerprint(RunStore(old)) == before
    replace_and_stop(trained, toy_dataset)
    assert fingerprint(RunStore(old)) == before
    with monkeypatch.context() as patch:
        fail_in_first_epoch(patch, NonFinite("nan"))
        with pytest.raises(NonFinite):
            oocml.train(TOY, toy_dataset, trained.run.path, overwrite=True, **SERIAL)
    assert fingerprint(trained.run) == before
    assert names(trained.run.path.parent) == {trained.run.path.name}


@pytest.mark.parametrize("verb", ["evaluate", "predict", "report", "info", "export"])
def test_verbs_that_read_find_a_run_that_a_kill_left_without_its_name(trained, toy_dataset, tmp_path, verb):
    path, old = trained.run.path, set_aside(trained.run.path)
    before = fingerprint(trained.run)
    os.rename(path, old)
    more = {
        "evaluate": [toy_dataset],
        "predict": [toy_dataset, tmp_path / "p.txt"],
        "export": [tmp_path / "e.npz"],
    }
    found = call(verb, path, *more.get(verb, []), "--json")
    note = f"note: {path} was to be replaced by a training that was killed; it has its name again\n"
    assert found.err.startswith(note)
    assert fingerprint(trained.run) == before
    assert not old.exists()


def test_verbs_that_read_leave_a_run_aside_while_another_takes_its_place(trained):
    path, old = trained.run.path, set_aside(trained.run.path)
    os.rename(path, old)
    with RunStore(old).lock():
        found = call("report", path)
    assert (found.code, old.exists(), path.exists()) == (4, True, False)
    assert found.err.startswith(
        f"error: {path} is not there; the run that was to be replaced is kept as {old}"
    )


def test_verbs_that_read_tell_of_the_run_that_one_without_an_epoch_replaces(trained, toy_dataset):
    before = fingerprint(trained.run)
    kept = replace_and_stop(trained, toy_dataset)
    note = f"{trained.run.path} has no epoch yet; the run that it replaces is kept as {kept}"
    for verb in ("report", "info"):
        found = call(verb, trained.run.path, "--json")
        assert found.err.startswith(f"note: {note}")
        assert found.json["epochs"] == 0
    shutil.rmtree(trained.run.path)
    assert fingerprint(oocml.open_run(trained.run.path).store) == before
    assert "note:" not in call("report", trained.run.path).err


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_run_that_a_kill_left_without_its_name_gets_it_back(trained, toy_dataset, verb):
    before = fingerprint(trained.run)
    os.rename(trained.run.path, set_aside(trained.run.path))
    if verb == "train":
        with pytest.raises(UsageError, match="--overwrite"):
            oocml.train(TOY, toy_dataset, trained.run.path, **SERIAL)
    else:
        with contextlib.suppress(InputError):
            oocml.resume(trained.run.path)
    assert fingerprint(trained.run) == before
    assert names(trained.run.path.parent) == {trained.run.path.name}


@pytest.mark.parametrize(("epoch", "left"), [(1, "no epoch was done"), (2, "the last good state is kept")])
def test_what_a_training_to_nan_says_is_kept_is_kept(trained, toy_dataset, tmp_path, epoch, left):
    before = fingerprint(trained.run)
    source, model = Path(TOY.partition(":")[0]).read_text(), tmp_path / "model" / "nan.py"
    model.parent.mkdir()
    model.write_text(
        source.replace("Epoch(number, total)", f"Epoch(number, total if number < {epoch} else np.nan)")
    )
    with pytest.raises(NonFinite, match=f"in epoch {epoch}; {left}; try "):
        oocml.train(
            f"{model}:Toy", toy_dataset, trained.run.path, overwrite=True, schedule="serial", epochs=3
        )
    assert not set_aside(trained.run.path).exists()
    if epoch == 1:
        assert fingerprint(trained.run) == before
    else:
        assert len(oocml.open_run(trained.run.path).history) == epoch - 1
