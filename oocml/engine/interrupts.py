"""Ctrl-C between tasks: a task of this process changes blocks in place, and a commit takes several steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupts:
    """Keeps Ctrl-C back until a moment at which nothing is half done."""

    def __init__(self) -> None:
        self._caught = False

    @contextmanager
    def kept_back(self) -> Iterator[None]:
        """Only notice Ctrl-C; one that nobody asked for is raised at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python's signals are for the main thread
            return
        self._caught = False
        before = signal.signal(signal.SIGINT, self._notice)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        self.let_through()

    def _notice(self, *_: Any) -> None:
        self._caught = True

    def let_through(self) -> None:
        """Raise `KeyboardInterrupt` if there was a Ctrl-C."""
        if self._caught:
            self._caught = False
            raise KeyboardInterrupt
