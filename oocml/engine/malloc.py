"""What glibc's malloc keeps of memory that was freed, bounded.

Each thread that finds malloc busy gets an arena of its own, eight per core at most, and `malloc_trim` gives back what
is free at the end of the first arena only. What threads have freed at the end of the others stays: measured, 74 MiB of
a training whose seven arenas were there before their number was bounded.
"""

from __future__ import annotations

import sys
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = 2**28, 2**25
"""In bytes: what tasks free they soon want again, and mapping it afresh costs 4 to 5 times as much as reading it."""
ARENAS = 1
"""Of a process that trains by itself, all of whose free memory can be given back."""
OPTIONS = {-1: TRIM_THRESHOLD, -3: MMAP_THRESHOLD, -8: ARENAS}
"""By their numbers in glibc's ``malloc.h``."""


def limit_malloc() -> None:
    """Bound what malloc keeps in this process, for good.

    Arenas that are there already stay: call it before there are threads.
    """
    libc = _libc()
    if hasattr(libc, "mallopt"):
        for option, value in OPTIONS.items():
            libc.mallopt(option, value)


def give_back_memory() -> None:
    """Return what malloc holds but nobody uses; its trim threshold is high so that panels are read fast."""
    libc = _libc()
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _libc() -> Any:
    """The C library; None where it is not Linux's."""
    if sys.platform != "linux":
        return None
    import ctypes  # only here: `oocml --help` has no use for it

    return ctypes.CDLL(None)
