"""State arrays on disk: stamped, write-once blocks.

Every state array is a Zarr array with axes (block, stamp, ...). A block at a stamp is one or more chunks; all are
written once and never changed. Stamp 0 means "still at its initial value" and has no chunks.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt

from oocml.errors import DamagedStore
from oocml.store.buffers import BufferPool, aligned_empty
from oocml.store.chunks import Chunks
from oocml.store.transfers import Part, transfer

Array = npt.NDArray[Any]
MAX_STAMP = 2**62
CHUNK_BYTES = 4 * 2**20
"""Large enough for the disk, and small beside a block: a chunk that is not full is padded in memory."""
PAGE_BYTES = 4096
PADDED = BufferPool(2 * CHUNK_BYTES)
"""For chunks that are not full: mapping memory for each of them costs as much as filling it."""
CHUNKS_OF_TYPICAL = 4
"""At least, of a block whose length is its own: the last one is half empty on average."""


@dataclass(frozen=True)
class StoredArray:
    """Where and how the blocks of one state array are stored."""

    name: str
    n_blocks: int
    block_shape: tuple[int, ...]
    """Shape of the largest block; smaller ones leave their last chunk padded."""
    dtype: str
    typical: int | None = None
    """Length of a usual block, where blocks differ so much in length that the largest is no measure of a chunk."""

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Whole rows of the block, about as many as `CHUNK_BYTES` hold."""
        if not self.block_shape:
            return ()
        row_bytes = max(1, math.prod(self.block_shape[1:]) * np.dtype(self.dtype).itemsize)
        rest = tuple(max(1, n) for n in self.block_shape[1:])
        if self.typical is not None:
            n_chunks = max(math.ceil(self.typical * row_bytes / CHUNK_BYTES), CHUNKS_OF_TYPICAL)
            return (max(1, math.ceil(self.typical / n_chunks)), *rest)
        n_chunks = math.ceil(self.block_shape[0] * row_bytes / CHUNK_BYTES)
        if n_chunks <= 1:
            return (max(1, self.block_shape[0]), *rest)
        # nearly equal chunks waste the least on padding; whole pages where that adds little: direct I/O needs them
        rows = math.ceil(self.block_shape[0] / n_chunks)
        round_rows = PAGE_BYTES // math.gcd(row_bytes, PAGE_BYTES)
        if round_rows * row_bytes <= CHUNK_BYTES // 8:
            rows = math.ceil(rows / round_rows) * round_rows
        return (rows, *rest)

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk_shape) * np.dtype(self.dtype).itemsize

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes on disk of a block of ``shape``, padding included."""
        n_chunks = math.prod(math.ceil(n / c) for n, c in zip(shape, self.chunk_shape, strict=True))
        return n_chunks * self.chunk_bytes

    def keys(self, index: int, stamp: int, shape: tuple[int, ...]) -> list[str]:
        """Keys of the chunks that cover a block of ``shape``."""
        return [key for key, _ in self.chunks_of(index, stamp, shape)]

    def chunks_of(
        self, index: int, stamp: int, shape: tuple[int, ...]
    ) -> Iterator[tuple[str, tuple[slice, ...]]]:
        """(key, part of the block) of each chunk."""
        if 0 in shape:
            return
        counts = [math.ceil(n / c) for n, c in zip(shape, self.chunk_shape, strict=True)]
        for grid in itertools.product(*map(range, counts)):
            where = tuple(
                slice(g * c, min((g + 1) * c, n))
                for g, c, n in zip(grid, self.chunk_shape, shape, strict=True)
            )
            yield f"state/{self.name}/c.{'.'.join(map(str, (index, stamp, *grid)))}", where

    def write(
        self, chunks: Chunks, index: int, stamp: int, block: Array, spares: list[str] | None = None
    ) -> tuple[int, int]:
        """Store a block, in files of ``spares`` (chunks of this array) where there are; returns its checksum and the
        bytes written."""
        return write_blocks(chunks, [(self, index, stamp, block)], {self.name: spares or []})[0]

    def read(
        self,
        chunks: Chunks,
        index: int,
        stamp: int,
        shape: tuple[int, ...],
        crc: int,
        take: Callable[[tuple[int, ...], str], Array] = aligned_empty,
    ) -> tuple[Array, int]:
        """The block at ``stamp`` and the bytes read; `DamagedStore` if it is not what was committed.

        ``take`` makes the array that is filled.
        """
        block = take(shape, self.dtype)
        buffers: deque[tuple[Array, Array]] = deque()

        def parts() -> Iterator[Part]:
            for key, where in self.chunks_of(index, stamp, shape):
                part = buffer = block[(*where, ...)]
                if part.shape != self.chunk_shape or not part.flags.c_contiguous:
                    buffer = aligned_empty(self.chunk_shape, self.dtype)
                buffers.append((part, buffer))
                yield key, _bytes_of(buffer)

        got, n_bytes = self.identity_crc(index, stamp), 0
        for _, view in transfer(chunks.read_into, parts(), together=self.is_cut_whole(block)):
            got = crc32c.crc32c(view, got)
            n_bytes += len(view)
            part, buffer = buffers.popleft()
            if buffer is not part:
                part[...] = buffer[tuple(slice(n) for n in part.shape)]
        if got != crc:
            raise DamagedStore(
                f"block {index} of {self.name!r} (stamp {stamp}) does not match its checksum; restore it or train again"
            )
        return block, n_bytes

    def is_cut_whole(self, block: Array) -> bool:
        """Whether a block has several chunks, all but the last parts of its memory; others are padded."""
        several = block.shape[:1] > self.chunk_shape[:1]
        return several and block.flags.c_contiguous and block.shape[1:] == self.chunk_shape[1:]

    def identity_crc(self, index: int, stamp: int) -> int:
        """What a block's checksum begins with, so that a chunk in another's place is recognised."""
        return crc32c.crc32c(f"{self.name}/{index}/{stamp}".encode())


class _Write:
    """A block that is being stored."""

    def __init__(self, array: StoredArray, index: int, stamp: int, block: Array) -> None:
        self.array, self.index, self.stamp, self.block = array, index, stamp, block
        self.crc, self.n_bytes = array.identity_crc(index, stamp), 0
        self._padding: dict[str, Array] = {}

    @property
    def is_one_chunk(self) -> bool:
        """Whether the block fills one chunk and no more."""
        return self.block.shape == self.array.chunk_shape and self.block.flags.c_contiguous

    def parts(self) -> Iterator[Part]:
        for key, where in self.array.chunks_of(self.index, self.stamp, self.block.shape):
            part = self.block[(*where, ...)]  # an array even of a scalar
            if part.shape != self.array.chunk_shape or not part.flags.c_contiguous:
                padded = PADDED.take(self.array.chunk_shape, self.array.dtype)
                padded[...] = 0
                padded[tuple(slice(n) for n in part.shape)] = part
                part = self._padding[key] = padded
            view = _bytes_of(part)
            self.crc = crc32c.crc32c(view, self.crc)
            yield key, view

    def moved(self, key: str, view: memoryview) -> None:
        self.n_bytes += len(view)
        if key in self._padding:
            PADDED.give(self._padding.pop(key))


def write_blocks(
    chunks: Chunks,
    blocks: Sequence[tuple[StoredArray, int, int, Array]],
    spares: Mapping[str, list[str]],
) -> list[tuple[int, int]]:
    """Store (array, index, stamp, block)s; returns the checksum and the bytes written of each, in their order.

    Blocks of one full chunk move together, and with a larger one: small files cost more than their bytes.

    Parameters
    ----------
    spares
        By array, keys of chunks that nobody wants any more; those whose files are used are taken from the lists.
    """
    writes = [_Write(*block) for block in blocks]
    small = [write for write in writes if write.is_one_chunk]
    large = [write for write in writes if not write.is_one_chunk]
    first = large.pop(0) if large and large[0].array.is_cut_whole(large[0].block) else None
    _write_together(chunks, small if first is None else [*small, first], spares)
    for write in large:  # one by one: each may have a padded chunk
        _write_together(chunks, [write], spares)
    return [(write.crc, write.n_bytes) for write in writes]


def _write_together(chunks: Chunks, writes: Sequence[_Write], spares: Mapping[str, list[str]]) -> None:
    owners: deque[_Write] = deque()
    spare_of: dict[str, str | None] = {}

    def parts() -> Iterator[Part]:
        for write in writes:
            unused = spares.get(write.array.name)
            for key, view in write.parts():
                owners.append(write)
                spare_of[key] = unused.pop() if unused else None
                yield key, view

    def put(key: str, view: memoryview) -> None:
        chunks.put(key, view, spare_of[key])

    together = len(writes) > 1 or any(write.array.is_cut_whole(write.block) for write in writes)
    for key, view in transfer(put, parts(), together=together):
        owners.popleft().moved(key, view)


def _bytes_of(array: Array) -> memoryview:
    return memoryview(array.reshape(-1)).cast("B")
