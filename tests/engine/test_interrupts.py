"""Ctrl-C in a training of one process ends it between two tasks, with everything committed on disk."""

import os
import signal

import pytest

from oocml.engine.blocks import TaskBlocks
from oocml.engine.executors import Completion
from oocml.engine.in_process import InProcess
from oocml.engine.interrupts import Interrupts, Stopped
from tests.engine.toys import drive, fingerprint, state_bytes


class Signalled(InProcess):
    """Gets a Ctrl-C, or two, in the middle of its n-th task."""

    def __init__(self, n: int, times: int = 1) -> None:
        super().__init__()
        self.n_left, self.times = n, times

    def wait(self, at_most: float | None = None) -> list[Completion]:
        self.n_left -= 1
        if self.n_left == 0:
            self.interrupts.let_through()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(TaskBlocks, "store", self._interrupting(TaskBlocks.store))
                return super().wait(at_most)
        return super().wait(at_most)

    def _interrupting(self, store):
        def wrapped(blocks, name, index, block):
            while self.times:
                self.times -= 1
                os.kill(os.getpid(), signal.SIGINT)
            store(blocks, name, index, block)

        return wrapped


@pytest.mark.parametrize("n", [1, 4, 7])
def test_what_was_committed_is_on_disk(new_run, monkeypatch, n):
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 1e9)
    plain, toy = new_run(epochs=2), new_run(epochs=2)
    drive(plain)
    with pytest.raises(Stopped):
        drive(toy, Signalled(n))
    ledger = toy.run.read_ledger()
    assert len(ledger.done) + 9 * len(ledger.results) >= n
    state_bytes(toy.run)
    drive(toy, forget=False)
    assert fingerprint(toy.run) == fingerprint(plain.run)


def test_the_second_one_does_not_wait_and_costs_what_was_put_off(new_run, monkeypatch):
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 1e9)
    plain, toy = new_run(epochs=2), new_run(epochs=2)
    drive(plain)
    with pytest.raises(KeyboardInterrupt) as caught:
        drive(toy, Signalled(5, times=2))
    assert not isinstance(caught.value, Stopped)
    state_bytes(toy.run)
    drive(toy, forget=False)
    assert fingerprint(toy.run) == fingerprint(plain.run)


def test_a_signal_that_comes_too_late_has_no_effect():
    before, interrupts = signal.getsignal(signal.SIGINT), Interrupts()
    with interrupts.kept_back():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.let_through()


def test_other_answers_to_signals_are_left_alone(new_run):
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        drive(new_run(), Signalled(1))
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [True]
