"""Moving the chunks of a block, several at a time.

While kernels compute on every core, a thread whose request has ended waits for its turn before it makes the next one,
and the disk waits with it. With several requests on their way it has work meanwhile: measured with two cores that
compute, chunks of 4 MiB read and written by turns moved 1.15 GB/s one at a time, 1.5 to 1.8 two and 1.6 to 1.9 four at
a time.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

AT_ONCE = 4
"""Chunks of a process on their way at a time."""

Part = tuple[str, memoryview]


def transfer(
    move: Callable[[str, memoryview], None], parts: Iterable[Part], *, together: bool
) -> Iterator[Part]:
    """Move the parts, one at a time or several ``together``; yields each in its turn, once it has been moved.

    Parts are asked for in the calling thread, all of them while the first ones are on their way if they move together.
    Whether this ends, fails or is closed, nothing is on its way afterwards: the memory may be used again.
    """
    if not together:
        for key, view in parts:
            move(key, view)
            yield key, view
        return
    moving: list[tuple[Part, Future[None]]] = []
    try:
        for part in parts:
            moving.append((part, _threads().submit(move, *part)))
        for part, moved in moving:
            moved.result()
            yield part
    finally:
        _wait_out([moved for _, moved in moving])


def _wait_out(moving: list[Future[None]]) -> None:
    """Cancel what has not begun and wait for the rest; what interrupts that is raised afterwards."""
    try:
        for moved in moving:
            moved.cancel()
        wait(moving)
    except BaseException:
        _wait_out(moving)
        raise


_lock = threading.Lock()


def _threads() -> ThreadPoolExecutor:
    with _lock:
        return _made()


@functools.cache
def _made() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="oocml-transfer")


def _after_fork() -> None:
    """Threads stay with the parent, and so does whoever held the lock."""
    global _lock
    _lock = threading.Lock()
    _made.cache_clear()


os.register_at_fork(after_in_child=_after_fork)
