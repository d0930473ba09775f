"""A trained run is never lost: whenever a kill comes, it is under its name or set aside, and comes back."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest

from oocml.errors import RunBusy
from oocml.store import replacing
from oocml.store.ledger import Ledger, write_ledger
from oocml.store.replacing import (
    beside,
    bring_back,
    held_lock,
    let_go,
    put_in_place,
    remove_leftovers,
    set_aside,
)


class Killed(BaseException):
    pass


def write_run(path, name, *, epochs):
    path.mkdir(exist_ok=True)
    (path / "name").write_text(name)
    write_ledger(path / "ledger", Ledger({}, {}, [9], history=[{"epoch": n} for n in range(1, epochs + 1)]))


def name_of(path):
    """Which run is there; None for none, or if something of it is missing."""
    there = (path / "name").exists() and (path / "ledger").exists()
    return (path / "name").read_text() if there else None


@contextlib.contextmanager
def killed_at(n, monkeypatch):
    """A process that dies at its n-th change of a folder: a removal is half done then, and nothing follows.

    Yields how many changes were left, in a list.
    """
    left = [n]

    def dies(function, half):
        def call(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                half(*args)
            if left[0] <= 0:
                raise Killed
            return function(*args, **options)

        return call

    def half_removed(folder, *_):
        (folder / "ledger").unlink(missing_ok=True)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dies(os.rename, lambda *_: None))
        patch.setattr(shutil, "rmtree", dies(shutil.rmtree, half_removed))
        with contextlib.suppress(Killed):
            yield left


def replaced(path):
    write_run(beside(path), "new", epochs=0)
    put_in_place(beside(path), path)


def trained(path):
    replaced(path)
    write_run(path, "new", epochs=1)
    let_go(path)


def withdrawn(path):
    replaced(path)
    replacing.withdraw(path)


def replaced_again(path):
    replaced(path)
    replaced(path)


@pytest.mark.parametrize("do", [replaced, trained, withdrawn, replaced_again])
def test_a_trained_run_outlives_a_kill_at_any_moment(tmp_path, monkeypatch, do):
    for n in range(1, 100):
        path = tmp_path / f"{n}" / "run.zarr"
        path.parent.mkdir()
        write_run(path, "old", epochs=3)
        with killed_at(n, monkeypatch) as left:
            do(path)
        if left[0] > 0:
            break
        bring_back(path)
        remove_leftovers(path)
        trained_ones = [run for run in (path, set_aside(path)) if name_of(run) and replacing.has_epoch(run)]
        assert trained_ones, f"killed at change {n}"
        assert name_of(path) is not None
        let_go(path)
        assert set_aside(path).exists() == (not replacing.has_epoch(path))
    assert n > 2, "it was killed"
    end = (name_of(path), name_of(set_aside(path)))
    assert end == {"withdrawn": ("old", None), "trained": ("new", None)}.get(do.__name__, ("new", "old"))
    assert set(path.parent.iterdir()) <= {path, set_aside(path)}


def test_a_run_is_not_brought_back_over_one_that_is_there_or_by_two(tmp_path):
    path = tmp_path / "run.zarr"
    write_run(set_aside(path), "old", epochs=1)
    with held_lock(set_aside(path)):
        bring_back(path)
        assert not path.exists(), "who holds the old one is about to put the new one in place"
    write_run(path, "new", epochs=0)
    bring_back(path)
    assert name_of(path) == "new"


def test_only_a_run_without_an_epoch_keeps_the_one_it_replaces(tmp_path):
    path = tmp_path / "run.zarr"
    write_run(set_aside(path), "old", epochs=1)
    write_run(path, "new", epochs=0)
    let_go(path)
    assert name_of(set_aside(path)) == "old"
    (path / "ledger").write_text("damaged")
    let_go(path)
    assert name_of(set_aside(path)) == "old"
    write_run(path, "new", epochs=1)
    let_go(path)
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_other_runs_and_of_the_living_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / "run[1].zarr"
    mine = [f"{path.name}.partial-{dead.pid}", f"{path.name}.partial-gone-{dead.pid}"]
    others = [f"run1.zarr.partial-{dead.pid}", beside(path).name, set_aside(path).name]
    for name in mine + others:
        (tmp_path / name).mkdir()
    remove_leftovers(path)
    assert {left.name for left in tmp_path.iterdir()} == set(others)


def test_a_lock_is_held_once(tmp_path):
    with held_lock(tmp_path), pytest.raises(RunBusy), held_lock(tmp_path):
        pass
