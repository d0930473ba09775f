"""What travels between driver and workers: names, stamps and tiny results, never blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.models.protocol import Pass
from oocml.schedule.tasks import Task


class BlockRefs(NamedTuple):
    """Blocks of one state array at the stamps a task must read."""

    index: npt.NDArray[np.int64]
    stamp: npt.NDArray[np.int64]
    crc: npt.NDArray[np.uint32]


class WorkerSetup(NamedTuple):
    """What a worker needs to open a run; equal for all tasks of a driver."""

    run_path: str
    run_id: str
    driver: str
    """Differs from driver to driver: tasks that outlive theirs share no memory with those of the next one."""
    panel_cache_bytes: int
    block_cache_bytes: int
    cached_kinds: tuple[str, ...]
    """Kinds of state that models of tiles keep in memory."""
    home: str
    """"col" or "row": tasks go to the worker that last had their column block, or their row block."""
    pool_bytes: int
    computing: int
    """Tasks of a worker that may compute at a time, while another one reads or writes."""
    put_off: bool
    """Whether blocks that stay in memory are left for the journal to write: driver and worker are one process."""
    durable: bool


@dataclass(frozen=True)
class TaskMessage:
    """One dispatch. ``out_stamp`` is a number no other dispatch of the run was ever given."""

    setup: WorkerSetup
    pass_: Pass
    pass_number: int
    repeat: int
    """Position of its epoch in a repeated pass, else -1."""
    epoch: int
    task: Task
    inputs: Mapping[str, BlockRefs]
    out_stamp: int
    epochs_done: int = 0
    """In the ledger, when it was dispatched."""
    spares: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Per state array, chunks that nobody wants any more: it may write into their files."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """What all visits of a pass, or of one of its epochs, have in common."""
        return (self.pass_number,) if self.repeat < 0 else (self.pass_number, self.repeat)


@dataclass
class Usage:
    """What a task took."""

    read_s: float = 0.0
    wait_s: float = 0.0
    """Waiting for another task of the process to finish computing."""
    kernel_s: float = 0.0
    write_s: float = 0.0
    total_s: float = 0.0
    idle_s: float = 0.0
    """Between the end of the process's previous task and the start of this one."""
    read_bytes: int = 0
    write_bytes: int = 0
    updates: int = 0
    """Stored entries visited times columns."""
    visits: int = 0


@dataclass
class TaskResult:
    """What a task wrote and found."""

    written: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    """Per state array: block indices and their checksums, at the message's ``out_stamp``."""
    put_off: dict[str, list[int]] = field(default_factory=dict)
    """Per state array: blocks that are in memory alone as yet."""
    parts: dict[str, Any] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    worker: str = "worker"
