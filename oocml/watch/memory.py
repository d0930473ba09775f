"""The peak memory of a training: a thread that samples the driver's process tree.

What counts is the sum of PSS (proportional set size) over the driver, its scheduler, nannies and workers, so that
a page shared by several processes counts once. Page cache does not count. Workers on other hosts are not covered.

Reading a process's PSS makes the kernel walk its whole page table, 3 to 15 ms for a worker of 0.1 to 3 GB, too
dear to do five times a second for every process. Its private memory costs 20 microseconds. So every sample reads
the private memory of every process, and takes the rest (libraries, pages shared since a fork) from the last full
reading, which is repeated as often as the allowance permits (each process about once a second).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psutil

from oocml.engine.events import Event, TaskDone

INTERVAL_S = 0.2
"""Time between samples; the promise is at least four a second."""
SCAN_SHARE = 0.006
"""Part of one core that looking for new processes may take."""
FULL_SHARE = 0.01
"""Part of one core that full PSS readings may take."""


class MemorySampler:
    """Samples the memory of a process and all its descendants, and keeps the peak.

    Use it as a context manager or call `start` and `close`. It is a monitor as well: given among the monitors of
    a training it also samples at every task's end.
    """

    def __init__(self, pid: int | None = None, interval_s: float = INTERVAL_S) -> None:
        self.peak_bytes = 0
        """Largest sum seen so far."""
        self.n_samples = 0
        self.largest_at_peak: dict[int, int] = {}
        """Bytes of each process when the peak was seen, by process id."""
        self._interval_s = interval_s
        self._tree = _Tree(psutil.Process(pid))
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oocml-memory", daemon=True)

    def start(self) -> MemorySampler:
        """Take a first sample, the dearest, before anything is timed, and begin the thread."""
        self.sample()
        self._thread.start()
        return self

    def close(self) -> None:
        """Take a last sample and end the thread."""
        if self._thread.is_alive():
            self._closed.set()
            self._thread.join()
            self.sample()

    def __enter__(self) -> MemorySampler:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, TaskDone):
            self.sample()

    def sample(self) -> int:
        """The tree's memory now, in bytes; cheap enough for every task's end."""
        with self._lock:
            sizes = self._tree.read()
            total = sum(sizes.values())
            self.n_samples += 1
            if total > self.peak_bytes:
                self.peak_bytes, self.largest_at_peak = total, sizes
            return total

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            self.sample()


def tree_bytes(pid: int | None = None) -> dict[int, int]:
    """Bytes of PSS of a process and all its descendants by process id, each one read in full."""
    root = psutil.Process(pid)
    sizes = {}
    for process in [root, *root.children(recursive=True)]:
        try:
            sizes[process.pid] = _full_bytes(process)
        except psutil.Error:
            continue
    return sizes


@dataclass
class _Member:
    """A process of the tree. Its memory is ``private now + rest``."""

    process: psutil.Process
    rest_bytes: int | None = None
    """PSS beyond private memory when last read in full; negative where pages are shared since a fork."""

    def private_bytes(self) -> int:
        memory = self.process.memory_info()
        return int(memory.rss) - int(getattr(memory, "shared", 0))

    def read_rest(self) -> None:
        self.rest_bytes = _full_bytes(self.process) - self.private_bytes()


class _Allowance:
    """Says when something may be done again so that it takes at most a share of one core."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._next = 0.0
        self._began = 0.0

    def due(self) -> bool:
        self._began = time.thread_time()
        return time.monotonic() >= self._next

    def done(self) -> None:
        cost = time.thread_time() - self._began
        self._next = time.monotonic() + cost / self._share


class _Tree:
    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._members = {root.pid: _Member(root)}
        self._turn = 0
        self._scan = _Allowance(SCAN_SHARE)
        self._full = _Allowance(FULL_SHARE)

    def read(self) -> dict[int, int]:
        if self._scan.due():
            self._find_members()
            self._scan.done()
        if self._full.due():
            self._refresh_one()
            self._full.done()
        sizes = {}
        for pid, member in list(self._members.items()):
            try:
                if member.rest_bytes is None:
                    member.read_rest()
                sizes[pid] = max(0, member.private_bytes() + (member.rest_bytes or 0))
            except psutil.Error:  # gone, or not ours to read: its memory is gone with it
                del self._members[pid]
        return sizes

    def _find_members(self) -> None:
        try:
            found = self._root.children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        members = {}
        for process in [self._root, *found]:
            member = self._members.get(process.pid)
            # Processes compare by id and start time: a recycled id is a new member.
            if member is None or member.process != process:
                member = _Member(process)
            members[process.pid] = member
        self._members = members

    def _refresh_one(self) -> None:
        members = list(self._members.values())
        if members:
            self._turn = (self._turn + 1) % len(members)
            try:
                members[self._turn].read_rest()
            except psutil.Error:
                return


def _full_bytes(process: psutil.Process) -> int:
    """PSS where the system tells it (Linux), else unique or resident memory."""
    try:
        memory = process.memory_full_info()
    except psutil.AccessDenied:
        memory = process.memory_info()
    return int(getattr(memory, "pss", 0) or getattr(memory, "uss", 0) or memory.rss)
