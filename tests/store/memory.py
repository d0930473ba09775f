"""A write-once disk in memory."""

from __future__ import annotations

from collections.abc import Iterable

from oocml.errors import DamagedStore


class MemoryChunks:
    """Chunks in a dictionary; a chunk that is written twice with different bytes is a failure at once."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read_into(self, key: str, buffer: memoryview) -> None:
        if len(self.files.get(key, b"")) != len(buffer):
            raise DamagedStore(f"no {key}")
        buffer[:] = self.files[key]

    def put(self, key: str, buffer: memoryview | bytes, spare: str | None = None) -> None:
        if spare is not None:
            self.files.pop(spare, None)
        found = self.files.setdefault(key, bytes(buffer))
        assert found == bytes(buffer), f"{key} was written twice, differently"

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.files.pop(key, None)

    def sweep(self, live: dict[str, set[str]]) -> int:
        """What `RunStore.sweep` does to files."""
        named: set[str] = set().union(*live.values())
        orphans = [key for key in self.files if key not in named]
        self.delete(orphans)
        return len(orphans)
