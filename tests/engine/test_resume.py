"""A run that is stopped at any moment, and resumed, ends with the bits of one that was not."""

from __future__ import annotations

from typing import Any

import pytest

from oocml.engine.driver import Validation
from oocml.engine.outputs import RunArrays
from oocml.errors import InputError, NonFinite, OocmlError
from oocml.store.run import RunStore
from tests.engine.faulty_disk import FaultyDisk, Killed
from tests.engine.toys import ToyRun, chunk_files, drive, fingerprint, named_files, state_bytes

SHAPE: dict[str, Any] = {"row_blocks": 3, "col_blocks": 3, "epochs": 2, "caches": False}


def judged(toy: ToyRun, best: int, patience: int | None = None) -> Validation:
    """Epochs that get better until number ``best``, and worse from then on."""

    def score() -> dict[str, float]:
        seen = state_bytes(toy.run)  # what is on disk when an epoch is judged
        epoch = len(toy.run.read_ledger().history) + 1
        return {"distance": float(abs(epoch - best)), "sum": float(sum(map(sum, seen.values())))}

    return Validation(score, "distance", False, patience)


def train(toy: ToyRun, disk: FaultyDisk | None = None) -> None:
    if disk is None:
        drive(toy, validation=judged(toy, 2))
        return
    with disk.installed():
        drive(toy, validation=judged(toy, 2))


@pytest.fixture(scope="module")
def undisturbed(_begun: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.engine.toys import copy_run

    toy = copy_run(_begun(**SHAPE), tmp_path_factory.mktemp("undisturbed") / "run.zarr")
    train(toy)
    return fingerprint(toy.run)


def count_moments(toy: ToyRun) -> int:
    disk = FaultyDisk()
    train(toy, disk)
    return len(disk.log)


def assert_sound(run: RunStore) -> None:
    """Whatever the ledgers name is there, bit for bit."""
    state_bytes(run)
    for name in run.read_ledger().kept:
        state_bytes(run, name)


def strike(toy: ToyRun, at: int, kind: str) -> None:
    disk = FaultyDisk(at, kind)
    with pytest.raises(Killed if kind == "kill" else OocmlError):
        train(toy, disk)
    assert disk.struck
    assert_sound(toy.run)


def check_every(new_run: Any, undisturbed: Any, kind: str, first: int, step: int) -> None:
    for at in range(first, count_moments(new_run(**SHAPE)), step):
        toy = new_run(**SHAPE)
        strike(toy, at, kind)
        train(toy)
        assert fingerprint(toy.run) == undisturbed, f"{kind} at moment {at}"
        kept = set().union(*(checkpoint_files(toy.run, name) for name in toy.run.read_ledger().kept))
        assert chunk_files(toy.run) == named_files(toy.run) | kept, "nothing stays behind"


def checkpoint_files(run: RunStore, name: str) -> set[str]:
    exported = RunArrays(run, name).names
    return {key for key in named_files(run, run.read_ledger(name)) if key.split("/")[1] in exported}


@pytest.mark.parametrize(("kind", "first", "step"), [("kill", 1, 67), ("error", 17, 131), ("full", 41, 131)])
def test_a_fault_at_some_moments_changes_no_bit(new_run, undisturbed, kind, first, step):
    check_every(new_run, undisturbed, kind, first, step)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["kill", "error", "full"])
def test_a_fault_at_any_moment_changes_no_bit(new_run, undisturbed, kind):
    check_every(new_run, undisturbed, kind, 0, 1)


def check_twice(new_run: Any, undisturbed: Any, pairs: list[tuple[int, int]]) -> None:
    for first, second in pairs:
        toy = new_run(**SHAPE)
        strike(toy, first, "kill")
        disk = FaultyDisk(second, "kill")
        try:
            train(toy, disk)
        except Killed:
            assert_sound(toy.run)
            train(toy)
        assert fingerprint(toy.run) == undisturbed, f"killed at moments {first} and {second}"


def test_a_second_fault_while_resuming_changes_no_bit(new_run, undisturbed):
    check_twice(new_run, undisturbed, [(5, 0), (100, 4), (250, 31), (330, 60)])


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_any_second_fault_while_resuming_changes_no_bit(new_run, undisturbed):
    pairs = [(first, second) for first in range(2, 400, 11) for second in (0, 1, 2, 3, 5, 9, 14, 27, 50)]
    check_twice(new_run, undisturbed, pairs)


def test_a_ledger_written_in_batches_changes_no_bit(new_run, undisturbed, monkeypatch):
    monkeypatch.setattr("oocml.engine.journal.BATCHED_LEDGER_BYTES", 0)
    monkeypatch.setattr("oocml.engine.journal.BATCH_S", 1e9)
    toy = new_run(**SHAPE)
    train(toy)
    assert fingerprint(toy.run) == undisturbed
    n_moments = count_moments(new_run(**SHAPE))
    for at in range(7, n_moments, 53):
        toy = new_run(**SHAPE)
        strike(toy, at, "kill")
        train(toy)
        assert fingerprint(toy.run) == undisturbed, f"killed at moment {at}"


def test_training_longer_is_the_same_whether_or_not_it_was_killed(new_run):
    plain, killed = new_run(epochs=1), new_run(epochs=1)
    for toy in (plain, killed):
        drive(toy)
    drive(plain, more_epochs=2)
    with FaultyDisk(3, "kill").installed(), pytest.raises(Killed):
        drive(killed, more_epochs=2)
    if killed.run.read_ledger().segments == [1, 2]:
        assert not killed.run.read_ledger().finished, "an extension that was begun is not finished"
        drive(killed)
    else:
        drive(killed, more_epochs=2)
    assert fingerprint(killed.run) == fingerprint(plain.run)
    assert len(plain.run.read_ledger().history) == 3


@pytest.mark.parametrize("at", range(0, 12))
def test_an_extension_is_added_once_or_not_at_all(new_run, at):
    toy = new_run(epochs=1)
    drive(toy)
    with FaultyDisk(at, "kill").installed(), pytest.raises(Killed):
        drive(toy, more_epochs=1)
    ledger = toy.run.read_ledger()
    assert (ledger.segments, ledger.finished) in (([1], True), ([1, 1], False))
