"""Memory for blocks: aligned for direct I/O, on huge pages, and used again.

Mapping a fresh block costs a page fault for every 4 KiB; on virtual machines that is as dear as reading the block
from disk. A task's blocks are as large as the last one's, so their memory is kept for the next.
"""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

POOLED_BYTES = 2**20
"""Smaller arrays come from malloc."""
ROUND_BYTES = 2**21


class BufferPool:
    """Arrays over anonymous maps that come back when they are done with.

    Parameters
    ----------
    limit_bytes
        Unused memory is let go of rather than have more than this alive, lent arrays included.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.alive_bytes = 0
        """Of all maps, lent or free."""
        self._free: list[mmap.mmap] = []
        self._lock = threading.RLock()

    def take(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """An uninitialised C-contiguous array; page-aligned if it has a MiB or more."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if n_bytes < POOLED_BYTES:
            return np.empty(shape, dtype)
        memory = self._find(-(-n_bytes // ROUND_BYTES) * ROUND_BYTES)
        return np.frombuffer(memory, np.uint8, n_bytes).view(dtype).reshape(shape)

    def give(self, array: npt.NDArray[Any]) -> None:
        """Take an array's memory back; nobody may use the array any more. Foreign arrays are fine."""
        memory = _map_of(array)
        if memory is None:
            return
        with self._lock:
            if self.alive_bytes <= self.limit_bytes:
                self._free.append(memory)

    def trim(self) -> None:
        """Let go of all unused memory."""
        with self._lock:
            self._free.clear()

    def _find(self, n_bytes: int) -> mmap.mmap:
        with self._lock:
            fitting = [memory for memory in self._free if n_bytes <= len(memory) <= n_bytes * 5 // 4]
            if fitting:
                best = min(fitting, key=len)
                self._free = [memory for memory in self._free if memory is not best]
                return best
            while self._free and self.alive_bytes + n_bytes > self.limit_bytes:
                self._free.pop(0)
            memory = _map(n_bytes)
            self.alive_bytes += n_bytes
            weakref.finalize(memory, self._gone, n_bytes)
        return memory

    def _gone(self, n_bytes: int) -> None:
        with self._lock:
            self.alive_bytes -= n_bytes


def aligned_empty(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """An uninitialised array outside any pool; page-aligned if it has a MiB or more."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if n_bytes < POOLED_BYTES:
        return np.empty(shape, dtype)
    return np.frombuffer(_map(n_bytes), np.uint8, n_bytes).view(dtype).reshape(shape)


def _map(n_bytes: int) -> mmap.mmap:
    """Fresh memory of this process alone: what is mapped as shared gets no huge pages."""
    memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _map_of(array: Any) -> mmap.mmap | None:
    """The anonymous map under an array, if it has one."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    return array if isinstance(array, mmap.mmap) else None
