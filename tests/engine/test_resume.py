"""A run that is stopped at any moment, and resumed, ends with the bits of one that was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from oocml.engine.judging import Validation
from oocml.engine.outputs import RunArrays
from oocml.errors import InputError, OocmlError
from oocml.store.ledger import write_ledger
from oocml.store.run import RunStore
from tests.engine.faulty_disk import FaultyDisk, Killed
from tests.engine.toys import (
    OTHER,
    TILES,
    ToyRun,
    chunk_files,
    copy_run,
    drive,
    fingerprint,
    named_files,
    state_bytes,
)

pytestmark = pytest.mark.usefixtures("every_commit_on_disk")
SHAPES: dict[str, dict[str, Any]] = {
    "toy": {"row_blocks": 3, "col_blocks": 3, "epochs": 2, "caches": False},
    "other": {"row_blocks": 2, "col_blocks": 3, "epochs": 2, "reference": OTHER},
    "tiles": {"row_blocks": 2, "col_blocks": 3, "epochs": 2, "reference": TILES},
}


def judged(toy: ToyRun, best: int, patience: int | None = None) -> Validation:
    """Epochs that get better until number ``best``, and worse from then on."""

    def score() -> dict[str, float]:
        seen = state_bytes(toy.run)  # what is on disk when an epoch is judged
        epoch = len(toy.run.read_ledger().history) + 1
        return {"distance": float(abs(epoch - best)), "sum": float(sum(map(sum, seen.values())))}

    return Validation(score, "distance", False, patience)


def train(toy: ToyRun, disk: FaultyDisk | None = None, *, forget: bool = True) -> None:
    if disk is None:
        drive(toy, validation=judged(toy, 2), forget=forget)
        return
    with disk.installed():
        drive(toy, validation=judged(toy, 2))


class Case(NamedTuple):
    """A kind of run, what it ends with when nothing happens, and how many moments there are to strike."""

    new: Callable[[], ToyRun]
    undisturbed: dict[str, Any]
    n_moments: int


@pytest.fixture(scope="module", params=list(SHAPES))
def case(request: Any, _begun: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    def new() -> ToyRun:
        return copy_run(_begun(**SHAPES[request.param]), tmp_path_factory.mktemp("case") / "run.zarr")

    plain, watched, disk = new(), new(), FaultyDisk()
    train(plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oocml.engine.journal.PUT_OFF_S", 0.0)  # see every_commit_on_disk
        train(watched, disk)
    return Case(new, fingerprint(plain.run), len(disk.log))


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


def check_every(case: Case, kind: str, first: int, step: int) -> None:
    for at in range(first, case.n_moments, step):
        toy = case.new()
        strike(toy, at, kind)
        train(toy, forget=kind == "kill")  # after an error a notebook goes on in the same process
        assert fingerprint(toy.run) == case.undisturbed, f"{kind} at moment {at}"
        kept = set().union(*(checkpoint_files(toy.run, name) for name in toy.run.read_ledger().kept))
        assert chunk_files(toy.run) == named_files(toy.run) | kept, "nothing stays behind"


def checkpoint_files(run: RunStore, name: str) -> set[str]:
    exported = RunArrays(run, name).names
    return {key for key in named_files(run, run.read_ledger(name)) if key.split("/")[1] in exported}


@pytest.mark.parametrize(
    ("kind", "first", "step"), [("kill", 1, 117), ("error", 17, 231), ("full", 141, 231)]
)
def test_a_fault_at_some_moments_changes_no_bit(case, kind, first, step):
    check_every(case, kind, first, step)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["kill", "error", "full"])
def test_a_fault_at_any_moment_changes_no_bit(case, kind):
    check_every(case, kind, 0, 1)


def check_twice(case: Case, pairs: list[tuple[int, int]]) -> None:
    for first, second in pairs:
        toy = case.new()
        strike(toy, first, "kill")
        disk = FaultyDisk(second, "kill")
        try:
            train(toy, disk)
        except Killed:
            assert_sound(toy.run)
            train(toy)
        assert fingerprint(toy.run) == case.undisturbed, f"killed at moments {first} and {second}"


def test_a_second_fault_while_resuming_changes_no_bit(case):
    check_twice(case, [(5, 0), (100, 4), (270, 31)])


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_any_second_fault_while_resuming_changes_no_bit(case):
    pairs = [
        (first, second) for first in range(2, case.n_moments, 11) for second in (0, 1, 2, 3, 5, 9, 14, 27, 50)
    ]
    check_twice(case, pairs)


def test_a_ledger_written_in_batches_changes_no_bit(case, monkeypatch):
    monkeypatch.setattr("oocml.engine.journal.BATCHED_LEDGER_BYTES", 0)
    monkeypatch.setattr("oocml.engine.journal.BATCH_S", 1e9)
    toy = case.new()
    train(toy)
    assert fingerprint(toy.run) == case.undisturbed
    for at in range(7, 160, 71):
        toy = case.new()
        strike(toy, at, "kill")
        train(toy)
        assert fingerprint(toy.run) == case.undisturbed, f"killed at moment {at}"


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


@pytest.mark.parametrize("at", range(12))
def test_an_extension_is_added_once_or_not_at_all(new_run, at):
    toy = new_run(epochs=1)
    drive(toy)
    with FaultyDisk(at, "kill").installed(), pytest.raises(Killed):
        drive(toy, more_epochs=1)
    ledger = toy.run.read_ledger()
    assert (ledger.segments, ledger.finished) in (([1], True), ([1, 1], False))


def test_a_program_that_was_changed_is_refused_with_nothing_changed(new_run):
    toy = new_run(epochs=1)
    drive(toy)
    ledger = toy.run.read_ledger()
    next(result for result in ledger.results if "pass" in result)["pass"] = "another"
    write_ledger(toy.run.ledger_path, ledger)
    before = toy.run.ledger_path.read_bytes()
    with pytest.raises(InputError, match="no longer yields what it did at step 0"):
        drive(toy, more_epochs=3)
    assert toy.run.ledger_path.read_bytes() == before


def test_tasks_of_another_pass_are_not_taken_for_those_of_this_one(new_run):
    toy = new_run(**SHAPES["toy"])
    for at in range(20, 200):
        with FaultyDisk(at, "kill").installed(), pytest.raises(Killed):
            drive(toy)
        if toy.run.read_ledger().done:
            break
    ledger = toy.run.read_ledger()
    assert ledger.pass_name
    ledger.pass_name = "another"
    write_ledger(toy.run.ledger_path, ledger)
    before = toy.run.ledger_path.read_bytes()
    with pytest.raises(InputError, match="no longer yields"):
        drive(toy)
    assert toy.run.ledger_path.read_bytes() == before
