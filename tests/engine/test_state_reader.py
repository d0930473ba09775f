"""A reader gets whole blocks from a run whose training goes on, or says why not."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import oocml
from oocml.engine.state_reader import ATTEMPTS, MovedOn, StateReader
from oocml.errors import DamagedStore, InputError
from oocml.run import Run
from oocml.store.chunks import LocalChunks
from tests.engine.test_resume import judged
from tests.engine.toys import TOY, ToyRun, drive


@pytest.fixture
def trained(new_run: Callable[..., ToyRun]) -> ToyRun:
    """A run whose every epoch was better than the one before: its checkpoint is replaced by the next."""
    toy = new_run(epochs=1)
    drive(toy, validation=judged(toy, 100))
    return toy


def train_on(toy: ToyRun) -> None:
    drive(toy, more_epochs=1, validation=judged(toy, 100))


@pytest.mark.parametrize("checkpoint", [None, "best"])
def test_a_reader_follows_a_run_that_is_trained_meanwhile(trained, checkpoint):
    reader = StateReader(trained.run, checkpoint)
    first = reader.block("V", 0)
    train_on(trained)
    second = reader.block("V", 1)
    now = StateReader(trained.run, checkpoint)
    assert np.array_equal(second, now.block("V", 1))
    assert np.array_equal(reader.block("V", 0), now.block("V", 0))
    assert not np.array_equal(first, now.block("V", 0))


def test_a_reader_that_must_not_follow_says_so(trained):
    reader = StateReader(trained.run, follow=False)
    reader.block("V", 0)
    train_on(trained)
    with pytest.raises(MovedOn):
        reader.block("V", 1)


def test_lazy_arrays_follow_too(trained):
    run = Run(trained.run.path)
    lazy = {at: run.arrays(at=at)["V"] for at in ("best", "last")}
    train_on(trained)
    for at, array in lazy.items():
        assert np.array_equal(array.compute(scheduler="threads"), run.arrays(at=at)["V"].compute())


@pytest.mark.parametrize("deep", [False, True])
def test_info_of_a_run_that_is_trained_meanwhile_finds_no_damage(trained, monkeypatch, deep):
    name = "read_into" if deep else "check_size"
    look, left = getattr(LocalChunks, name), [3]

    def slow(*args: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            with monkeypatch.context() as patch:
                patch.setattr(LocalChunks, name, look)
                train_on(trained)
        look(*args)

    monkeypatch.setattr(LocalChunks, name, slow)
    told = Run(trained.run.path).info(deep=deep)
    assert left[0] < 0
    assert told["whole"], told["problem"]


def test_a_run_that_was_replaced_is_not_read_on(trained):
    reader = StateReader(trained.run)
    shutil.rmtree(trained.run.path / "state")
    oocml.train(
        TOY, trained.run.config["dataset"], trained.run.path, epochs=1, schedule="serial", overwrite=True
    )
    with pytest.raises(InputError, match="was replaced while it was being read"):
        reader.block("V", 0)


def test_a_run_that_moves_on_at_every_look_is_given_up_in_one_line(trained, monkeypatch):
    reader = StateReader(trained.run)
    looks = []

    def gone(chunks: LocalChunks, key: str, buffer: memoryview) -> None:
        looks.append(key)
        newer = copy.deepcopy(trained.run.read_ledger())
        newer.stamps["V"] += len(looks)
        monkeypatch.setattr(reader.run, "read_ledger", lambda checkpoint=None: newer)
        raise DamagedStore("gone")

    monkeypatch.setattr(LocalChunks, "read_into", gone)
    with pytest.raises(InputError, match="trained faster than it can be read"):
        reader.block("V", 0)
    assert len(looks) == ATTEMPTS


@pytest.mark.parametrize("harm", ["missing", "short", "long"])
def test_info_finds_chunks_of_the_wrong_size_without_reading_them(trained, harm):
    chunk = sorted((trained.run.path / "state" / "C").glob("c.*"))[0]
    content = chunk.read_bytes()
    chunk.unlink()
    if harm != "missing":
        chunk.write_bytes(content[:-1] if harm == "short" else content + b"0")
    told = Run(trained.run.path).info()
    assert not told["whole"]
    assert chunk.name in told["problem"]
