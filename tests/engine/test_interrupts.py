"""Ctrl-C in a training of one process ends it between two tasks, with everything committed on disk."""

import os
import signal

import pytest

from oocml.engine.executors import Completion
from oocml.engine.in_process import InProcess
from oocml.engine.interrupts import Interrupts
from tests.engine.toys import drive, fingerprint, state_bytes


class Signalled(InProcess):
    """Gets a Ctrl-C while its n-th task runs."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n_left = n

    def wait(self, at_most: float | None = None) -> list[Completion]:
        completions = super().wait(at_most)
        self.n_left -= 1
        if self.n_left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return completions


@pytest.mark.parametrize("n", [1, 4, 7])
def test_what_was_committed_is_on_disk(new_run, monkeypatch, n):
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 1e9)
    plain, toy = new_run(epochs=2), new_run(epochs=2)
    drive(plain)
    with pytest.raises(KeyboardInterrupt):
        drive(toy, Signalled(n))
    ledger = toy.run.read_ledger()
    assert len(ledger.done) + 9 * len(ledger.results) >= n
    state_bytes(toy.run)
    drive(toy, forget=False)
    assert fingerprint(toy.run) == fingerprint(plain.run)


def test_a_signal_that_nobody_asked_for_is_raised_at_the_end():
    before, interrupts = signal.getsignal(signal.SIGINT), Interrupts()
    with pytest.raises(KeyboardInterrupt), interrupts.kept_back():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.let_through()
