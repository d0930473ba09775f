"""A cache bounded in bytes that never evicts what it took in: right for cyclic scans, and predictable.

Passes scan the same panels and blocks in a cycle; an LRU smaller than the cycle would never hit. Taking in the first
that come and keeping them gives a hit rate of capacity / total, which is what the plan predicts.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any


class PinnedCache:
    """Values by key, each with a version: another version of the key replaces the old one."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()
        self._entries: dict[Hashable, tuple[Any, Any, int]] = {}

    def get(self, key: Hashable, version: Any = None) -> Any | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] == version else None

    def take(self, key: Hashable, version: Any = None) -> Any | None:
        """Get and forget: the caller may change the value in place."""
        with self._lock:
            value = self.get(key, version)
            self._drop(key)
        return value

    def put(self, key: Hashable, value: Any, n_bytes: int, version: Any = None) -> bool:
        """Keep a value if there is room; returns whether it is kept."""
        with self._lock:
            held = self._entries.get(key)
            if held is not None and held[0] == version:
                return held[1] is value  # somebody may be reading what is held
            self._drop(key)
            if self.used_bytes + n_bytes > self.capacity_bytes:
                return False
            self._entries[key] = (version, value, n_bytes)
            self.used_bytes += n_bytes
            return True

    def holds(self, key: Hashable, value: Any) -> bool:
        """Whether this very value is kept."""
        entry = self._entries.get(key)
        return entry is not None and entry[1] is value

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry[2]
