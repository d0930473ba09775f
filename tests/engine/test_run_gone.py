"""A run's folder that is removed, moved or replaced under a training: it stops in one line and harms nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import oocml
from oocml.engine.events import EpochDone, Event, RunStarted
from oocml.errors import InputError
from oocml.store.run import RunStore
from tests.engine.toys import TOY, ToyRun, drive

GONE = "was removed, moved or replaced while it was being trained"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def moved(run: Path) -> None:
    os.rename(run, run.with_name("moved.zarr"))


def replaced(run: Path) -> None:
    """With a run of the same model that has done nothing yet, as one whose training has just begun."""
    shutil.rmtree(run)
    shutil.copytree(run.with_name("other.zarr"), run)


@pytest.mark.parametrize("when", [RunStarted, EpochDone])
@pytest.mark.parametrize("strike", [shutil.rmtree, moved, replaced])
def test_a_training_whose_run_is_gone_stops_and_leaves_what_is_there(
    new_run, toy_dataset, tmp_path, when, strike: Callable[[Path], None]
):
    other, out = tmp_path / "other.zarr", tmp_path / "run.zarr"
    os.rename(new_run().run.path, other)
    there: dict[str, bytes] = {}

    def at_once(event: Event) -> None:
        if isinstance(event, when) and not there:
            strike(out)
            there.update({"": b""} | contents(tmp_path))

    with pytest.raises(InputError, match=GONE) as caught:
        oocml.train(TOY, toy_dataset, out, epochs=3, schedule="serial", monitors=[at_once])
    assert "\n" not in str(caught.value)
    log = {name for name in there if name.endswith("events.jsonl")}  # the open one moves with its run
    assert {name: data for name, data in contents(tmp_path).items() if name not in log} == {
        name: data for name, data in there.items() if name and name not in log
    }


def test_a_run_that_was_moved_goes_on_where_it_is(new_run, toy_dataset, tmp_path):
    out = tmp_path / "run.zarr"

    def move(event: Event) -> None:
        if isinstance(event, EpochDone):
            moved(out)

    with pytest.raises(InputError, match="resume it where it is now"):
        oocml.train(TOY, toy_dataset, out, epochs=2, schedule="serial", monitors=[move])
    assert oocml.resume(tmp_path / "moved.zarr").info()["finished"]


def test_a_copy_in_the_place_of_a_run_is_that_run(new_run):
    toy: ToyRun = new_run(epochs=2)
    copy = toy.run.path.with_name("copy.zarr")

    def swap(event: Event) -> None:
        if isinstance(event, EpochDone) and event.number == 1:
            shutil.copytree(toy.run.path, copy)
            shutil.rmtree(toy.run.path)
            os.rename(copy, toy.run.path)

    drive(toy, monitors=[swap])
    assert RunStore(toy.run.path).read_ledger().finished
