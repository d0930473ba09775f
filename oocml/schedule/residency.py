"""Traversal: which blocks stay in workers' memory from task to task, chosen by the bytes it saves. Pure arithmetic.

Models of panels keep whatever fits: their column blocks are visited by one worker from the first row to the last.
Tasks of models of tiles take a row block and a column block; with more than one worker only one of the two can have a
home, a worker to which all its tasks go. The other side travels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from oocml.schedule.cost import PassCost, Sizes

SPARE_HOMES = 1
"""Blocks beyond its even share that a worker's cache has room for: homes move when workers come and go."""
NAMES = {"col": "columns resident, rows streamed", "row": "rows resident, columns streamed"}


class Residency(NamedTuple):
    kinds: tuple[str, ...]
    """Kinds of state (and "labels") that stay in memory once they were read or written."""
    home: str
    """"col" or "row": the side whose tasks all go to one worker."""
    cache_bytes: int
    """Per worker, for these blocks."""

    @property
    def traversal(self) -> str:
        """In words."""
        if {"row", "col"} <= set(self.kinds):
            return "all state resident"
        sides = [NAMES[kind] for kind in self.kinds if kind in NAMES]
        return sides[0] if sides else "rows and columns streamed"

    def read_bytes(self, cost: PassCost) -> int:
        """State that a pass asks of the store."""
        return sum(n_bytes for kind, n_bytes in cost.reads.items() if kind not in self.kinds)


def choose_residency(
    epoch: Sequence[PassCost], sizes: Sizes, capacity: int, workers: int, ahead: bool
) -> Residency:
    """What stays in memory, for a model of tiles.

    Parameters
    ----------
    epoch
        Costs of the passes of an epoch.
    capacity
        Bytes that each worker has to spare.
    workers
        At most 1: every block has the same home.
    ahead
        Whether rows are seen ahead: by whoever has the columns, so columns are what can have a home.
    """
    stored = dict.fromkeys(("row", "col", "cell", "shared"), 0)
    for name, spec in sizes.specs.items():
        stored[spec.kind] += sizes.stored_bytes(name)
    saved = {kind: sum(cost.reads.get(kind, 0) for cost in epoch) for kind in stored}
    everything = sum(stored.values())
    if workers <= 1 and everything <= capacity:
        return Residency(tuple(stored), "col", everything)
    n_blocks = {"col": sizes.layout.n_col_blocks, "row": sizes.layout.n_segments}
    if (
        max(n_blocks.values()) == 1 and everything <= capacity
    ):  # one task at a time, which finds its worker again
        return Residency(tuple(stored), "col", everything)

    def share(kind: str) -> int:
        n = n_blocks[kind]
        homes = min(n, -(-n // max(1, workers)) + SPARE_HOMES)
        return -(-stored[kind] * homes // n)

    sides = ("col",) if ahead else ("col", "row")
    fitting = [kind for kind in sides if share(kind) <= capacity and saved[kind]]
    if not fitting:
        return Residency((), "col" if ahead or saved["col"] >= saved["row"] else "row", 0)
    best = max(fitting, key=lambda kind: saved[kind])
    return Residency((best,), best, share(best))
