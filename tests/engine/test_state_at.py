"""Which state of a run is used is told as it is: also of one that was stopped within an epoch."""

from __future__ import annotations

import pytest

from oocml.engine.events import Event, PassDone, TaskDone
from oocml.run import Run
from tests.engine.toys import ToyRun, drive


def stop_after(toy: ToyRun, kind: type[Event], n: int) -> Run:
    """Train until the n-th event of a kind."""
    left = [n]

    def stop(event: Event) -> None:
        if isinstance(event, kind):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(toy, monitors=[stop])
    return Run(toy.run.path)


@pytest.mark.usefixtures("every_commit_on_disk")
def test_a_state_within_an_epoch_is_told_from_the_epochs_own(new_run):
    toy = new_run(epochs=2)
    assert Run(toy.run.path).state_at() == {"checkpoint": "last", "epoch": 0}
    for when in [(TaskDone, 2), (PassDone, 1)]:
        run = stop_after(toy, *when)
        assert run.state_at() == {"checkpoint": "last", "epoch": 0, "partial": True}, when
    drive(toy)
    assert run.state_at("last") == {"checkpoint": "last", "epoch": 2}


def test_tasks_that_write_nothing_leave_the_state_as_it_was(new_run):
    toy = new_run(epochs=1)
    drive(toy)
    ledger = toy.run.read_ledger()
    ledger.done, ledger.pass_first_stamp = {0: {}}, ledger.next_stamp
    assert not ledger.within_epoch
    ledger.pass_first_stamp = int(max(stamps.max() for stamps in ledger.stamps.values()))
    assert ledger.within_epoch
