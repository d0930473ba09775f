"""Ctrl-C between tasks: a task of this process changes blocks in place, and a commit takes several steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WAITING = b"\nstopping after the task under way; press Ctrl-C again to stop now and lose the last second\n"


class Stopped(KeyboardInterrupt):
    """A Ctrl-C that waited until nothing was half done."""


class Interrupts:
    """Keeps the first Ctrl-C back until a moment at which nothing is half done; the second one does not wait."""

    def __init__(self) -> None:
        self._caught = False

    @contextmanager
    def kept_back(self) -> Iterator[None]:
        """One that comes too late, when all is done, has no effect."""
        # Python's signals are for the main thread; who has another answer to Ctrl-C keeps it
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not usual or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._caught = False
        signal.signal(signal.SIGINT, self._notice)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._caught = False

    def _notice(self, *_: Any) -> None:
        if self._caught:
            raise KeyboardInterrupt
        self._caught = True
        os.write(2, WAITING)  # what is buffered may be half written

    def let_through(self) -> None:
        """Raise `Stopped` if there was a Ctrl-C."""
        if self._caught:
            self._caught = False
            raise Stopped
