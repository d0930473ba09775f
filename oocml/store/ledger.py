"""The ledger: which stamp of every block is current, and everything else that decides bits.

It is one record, replaced in one atomic rename; only the driver writes it. A run is in exactly the state that its
ledger says: chunks that no ledger names do not exist as far as anyone is concerned.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from oocml.errors import DamagedStore
from oocml.store.chunks import sync_directory, write_failed

STAMPS_PER_DRIVER = 2**40
"""Every driver start reserves this many stamps, so that no two dispatches of a run ever share one."""
_MAGIC = b"oocml-ledger-1\n"


@dataclass
class Ledger:
    """The state of a run. Mutable: the driver changes it in memory and then commits it whole."""

    stamps: dict[str, npt.NDArray[np.int64]]
    """Per state array, shape (n_blocks,): the current stamp of each block (0: initial value)."""
    crcs: dict[str, npt.NDArray[np.uint32]]
    """Per state array, shape (n_blocks,): checksum of each block at its current stamp."""
    segments: list[int]
    """Epochs asked for: the original count, then what each extension added."""
    incarnation: int = 0
    """Number of driver starts."""
    next_stamp: int = 1
    """No driver of this run has used this stamp or a later one."""
    results: list[Any] = field(default_factory=list)
    """What the program was sent so far: reduced parts of finished passes and verdicts of finished epochs."""
    pass_name: str = ""
    """Of the current pass."""
    pass_first_stamp: int = 1
    """Blocks with this stamp or a later one were written by the current pass."""
    done: dict[int, Any] = field(default_factory=dict)
    """Tasks of the current pass that are committed, with their parts; a shared delta is there until it was added.

    The key is the task's index, plus the number of tasks for every earlier epoch of a repeated pass.
    """
    epoch_parts: list[dict[str, Any]] = field(default_factory=list)
    """Finished epochs of the repeated pass under way: reduced ``parts``, and whether to ``stop`` there."""
    predicted_epochs: int = 0
    """Epochs of the repeated pass under way whose I/O the totals have as planned."""
    order: list[int] = field(default_factory=list)
    """Tasks of the pass under way in the order in which an asynchronous schedule committed them."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One record per finished epoch."""
    objective: float | None = None
    """The exact objective at the end of the last whole segment."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums over the run's life: seconds, bytes read and written, updates ..."""
    kept: dict[str, int] = field(default_factory=dict)
    """Checkpoints by name, with their epoch."""
    finished: bool = False
    """Whether the program has ended for the current segments."""

    def pack(self) -> bytes:
        body: bytes = msgpack.packb(vars(self), default=_encode)
        return _MAGIC + zlib.crc32(body).to_bytes(4, "big") + body

    @classmethod
    def unpack(cls, record: bytes, where: str) -> Ledger:
        """The ledger in ``record``; `DamagedStore` naming ``where`` if it is not whole."""
        head = len(_MAGIC) + 4
        body = record[head:]
        if (
            record[: len(_MAGIC)] != _MAGIC
            or zlib.crc32(body).to_bytes(4, "big") != record[len(_MAGIC) : head]
        ):
            raise DamagedStore(f"{where} is not a whole ledger; restore it or train again")
        return cls(**msgpack.unpackb(body, object_hook=_decode, strict_map_key=False))

    @property
    def within_epoch(self) -> bool:
        """Whether the state is ahead of the last epoch's: passes have ended since, or tasks of one have written."""
        if self.results and "pass" in self.results[-1] and "epochs" not in self.results[-1]:
            return True
        written = any((stamps >= self.pass_first_stamp).any() for stamps in self.stamps.values())
        return bool(self.done) and written

    def reserve_stamps(self) -> range:
        """A range of stamps no driver has used; the ledger must be committed before the first is handed out."""
        first = self.next_stamp
        self.incarnation += 1
        self.next_stamp = first + STAMPS_PER_DRIVER
        return range(first, self.next_stamp)


def read_ledger(path: Path) -> Ledger:
    try:
        record = path.read_bytes()
    except FileNotFoundError:
        raise DamagedStore(
            f"{path} is missing; nothing was begun there, or the run was moved in part"
        ) from None
    return Ledger.unpack(record, str(path))


def write_ledger(path: Path, ledger: Ledger, *, durable: bool = False) -> int:
    """Replace the ledger in one rename; returns its size in bytes."""
    record = ledger.pack()
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(record)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise write_failed(error, path) from error
    if durable:
        sync_directory(path.parent)
    return len(record)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"__array__": [value.dtype.str, list(value.shape), value.tobytes()]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a ledger cannot hold a {type(value).__name__}")


def _decode(value: dict[Any, Any]) -> Any:
    if "__array__" in value:
        dtype, shape, raw = value["__array__"]
        return np.frombuffer(raw, dtype).reshape(shape).copy()
    return value
