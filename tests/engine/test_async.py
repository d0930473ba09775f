"""Without barriers too, what was committed is what running the same tasks one after another gives."""

import random
from typing import Any

import pytest

from oocml.engine import dispatch
from oocml.engine.context import forget_context, run_context
from oocml.engine.driver import Driver
from oocml.engine.events import EpochDone, Event
from oocml.engine.in_process import InProcess
from oocml.store.run import RunStore
from tests.engine.test_simulation import Cluster, Killed, MemoryChunks, attach, one_setup, state_in
from tests.engine.toys import OTHER, TILES, TOY, ToyRun, drive, fingerprint
from tests.replay import Replay, recorded_orders

__all__ = ["one_setup"]
pytestmark = pytest.mark.usefixtures("every_commit_on_disk")


def simulate(seed: int, toy: ToyRun, first_ledger: bytes, patch: pytest.MonkeyPatch) -> tuple[object, list]:
    """Train without barriers on workers that die, under drivers that are killed; the end, and the orders."""
    rng, disk, zombies = random.Random(seed), MemoryChunks(), []
    toy.run.ledger_path.write_bytes(first_ledger)
    for _ in range(50):
        driver = Driver(toy.run, toy.plan, None, schedule="async")  # type: ignore[arg-type]
        attach(driver, disk)
        driver.dispatcher.executor = cluster = Cluster(rng, disk, run_context(driver.setup), patch, zombies)
        try:
            driver.train()
        except Killed:
            zombies = cluster.abandon()
            continue
        while cluster.zombies:
            cluster.let_a_zombie_work()
        return state_in(driver, disk), recorded_orders(driver.journal.ledger.results)
    raise AssertionError("fifty drivers were not enough")


def test_the_recorded_order_replayed_serially_gives_the_same_bits(new_run, one_setup, monkeypatch):
    # of a model whose visits read no merged array: those they see as it was when they were dispatched
    shape = {"row_blocks": 3, "col_blocks": 3, "epochs": 3, "reference": TILES}
    toy = new_run(**shape)
    first_ledger = toy.run.ledger_path.read_bytes()
    for seed in range(4):
        forget_context()
        with monkeypatch.context() as patch:
            state, orders = simulate(seed, toy, first_ledger, patch)
        forget_context()
        again = new_run(**shape)
        with monkeypatch.context() as patch:
            Replay.orders = iter(orders)
            patch.setattr(dispatch, "Nomad", Replay)
            driver = Driver(again.run, again.plan, InProcess(), schedule="async")
            driver.train()
            assert state == state_in(driver, driver.journal.chunks), f"seed {seed}"  # type: ignore[arg-type]


@pytest.mark.parametrize("reference", [TOY, OTHER, TILES], ids=["toy", "other", "tiles"])
def test_epochs_visit_every_tile_once_and_end_in_order(new_run, reference):
    toy = new_run(row_blocks=3, col_blocks=3, epochs=3, reference=reference)
    drive(toy, schedule="async")
    ledger = toy.run.read_ledger()
    assert [record["epoch"] for record in ledger.history] == [1, 2, 3]
    for result in ledger.results:
        if "order" in result:
            n_epochs = result.get("epochs", 1)
            assert sorted(result["order"]) == list(range(len(result["order"])))
            assert len(result["order"]) % n_epochs == 0


class Struck(Exception):
    """The driver dies just after a ledger was written."""


def strike_after(patch: pytest.MonkeyPatch, n: int) -> None:
    written = iter(range(n))
    write = RunStore.write_ledger

    def dies(self: RunStore, *args: Any, **options: Any) -> int:
        size = write(self, *args, **options)
        if next(written, None) is None:
            raise Struck
        return size

    patch.setattr(RunStore, "write_ledger", dies)


EVERY = [13, pytest.param(2, marks=pytest.mark.long)]
"""Writes from one strike to the next."""


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("segments", [None, (0, 3, 5)], ids=["tiles", "segments"])
def test_struck_after_any_write_it_goes_on_and_can_be_replayed(new_run, monkeypatch, merged, segments, every):
    shape = {
        "row_blocks": 5 if segments else 3,
        "col_blocks": 2,
        "epochs": 2,
        "reference": TILES,
        "settings": {"merged": merged},
        "segments": segments,
    }
    for at in range(3, 60, every):
        toy, again = new_run(**shape), new_run(**shape)
        with monkeypatch.context() as patch:
            strike_after(patch, at)
            try:
                drive(toy, schedule="async")
                break
            except Struck:
                pass
        drive(toy, schedule="async")
        with monkeypatch.context() as patch:
            Replay.orders = iter(recorded_orders(toy.run.read_ledger().results))
            patch.setattr(dispatch, "Nomad", Replay)
            drive(again, schedule="async")
        assert fingerprint(again.run) == fingerprint(toy.run), f"struck after write {at}"
    assert at > 20


@pytest.mark.parametrize("n_done", [1, 2])
def test_epochs_after_a_resume_visit_the_row_blocks_of_a_segment_in_the_order_of_those_before(
    new_run, n_done
):
    """All epochs of a pass without barriers have the same tasks, whichever of them a driver begins with."""
    shape = {"row_blocks": 5, "col_blocks": 2, "epochs": 3, "reference": TILES, "segments": (0, 3, 5)}
    toy, again = new_run(**shape), new_run(**shape)

    def strike(event: Event) -> None:
        if isinstance(event, EpochDone) and event.number == n_done:
            raise Struck

    with pytest.raises(Struck):
        drive(toy, schedule="async", monitors=[strike])
    begun_with = len(toy.run.read_ledger().epoch_parts)
    assert begun_with == n_done
    drive(toy, schedule="async")
    with pytest.MonkeyPatch.context() as patch:
        Replay.orders = iter(recorded_orders(toy.run.read_ledger().results))
        patch.setattr(dispatch, "Nomad", Replay)
        drive(again, schedule="async")
    assert fingerprint(again.run) == fingerprint(toy.run)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("first", ["async", "sync"])
def test_columns_are_closed_once_an_epoch_whatever_schedule_goes_on(new_run, monkeypatch, first, every):
    other = {"async": "sync", "sync": "async"}[first]
    shape = {"row_blocks": 3, "col_blocks": 2, "epochs": 2, "reference": TILES, "settings": {"merged": False}}
    for at in range(3, 40, every):
        toy = new_run(**shape)
        with monkeypatch.context() as patch:
            strike_after(patch, at)
            try:
                drive(toy, schedule=first)
                break
            except Struck:
                pass
        drive(toy, schedule=other)
        [epochs] = [result for result in toy.run.read_ledger().results if "epochs" in result]
        assert [parts["ends"] for parts in epochs["parts"]] == [2.0, 2.0], f"struck after write {at}"
        nnz = toy.run.config["problem"]["nnz"]
        assert [parts["n"] for parts in epochs["parts"]] == [nnz, nnz]
    assert at > 10


def test_a_run_may_go_on_under_another_schedule(new_run):
    toy = new_run(row_blocks=3, col_blocks=3, epochs=3, reference=TILES)

    class StopsAfter(InProcess):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.left = n

        def wait(self, at_most=None):  # type: ignore[no-untyped-def]
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().wait()

    schedules = ["async", "sync"] * 20
    for schedule in schedules:
        try:
            drive(toy, StopsAfter(7), schedule=schedule)
            break
        except KeyboardInterrupt:
            continue
    ledger = toy.run.read_ledger()
    assert ledger.finished
    [epochs] = [result for result in ledger.results if "epochs" in result]
    assert [parts["n"] for parts in epochs["parts"]] == [toy.run.config["problem"]["nnz"]] * 3
