"""State arrays on disk: stamped, write-once blocks.

Every state array is a Zarr array with axes (block, stamp, ...). A block at a stamp is one or more chunks; all are
written once and never changed. Stamp 0 means "still at its initial value" and has no chunks.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
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

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes on disk of a block of ``shape``, padding included."""
        n_chunks = math.prod(math.ceil(n / c) for n, c in zip(shape, self.chunk_shape, strict=True))
        return n_chunks * math.prod(self.chunk_shape) * np.dtype(self.dtype).itemsize

    def keys(self, index: int, stamp: int, shape: tuple[int, ...]) -> list[str]:
        """Keys of the chunks that cover a block of ``shape``."""
        return [key for key, _ in self._chunks(index, stamp, shape)]

    def _chunks(
        self, index: int, stamp: int, shape: tuple[int, ...]
    ) -> Iterator[tuple[str, tuple[slice, ...]]]:
        if 0 in shape:
            return
        counts = [math.ceil(n / c) for n, c in zip(shape, self.chunk_shape, strict=True)]
        for grid in itertools.product(*map(range, counts)):
            where = tuple(
                slice(g * c, min((g + 1) * c, n))
                for g, c, n in zip(grid, self.chunk_shape, shape, strict=True)
            )
            yield f"state/{self.name}/c.{'.'.join(map(str, (index, stamp, *grid)))}", where

    def write(self, chunks: Chunks, index: int, stamp: int, block: Array) -> tuple[int, int]:
        """Store a block; returns its checksum and the bytes written."""
        crc, n_bytes = self._identity_crc(index, stamp), 0
        padding: dict[str, Array] = {}

        def parts() -> Iterator[Part]:
            nonlocal crc
            for key, where in self._chunks(index, stamp, block.shape):
                part = block[(*where, ...)]  # an array even of a scalar
                if part.shape != self.chunk_shape or not part.flags.c_contiguous:
                    padded = PADDED.take(self.chunk_shape, self.dtype)
                    padded[...] = 0
                    padded[tuple(slice(n) for n in part.shape)] = part
                    part = padding[key] = padded
                view = _bytes_of(part)
                crc = crc32c.crc32c(view, crc)
                yield key, view

        for key, view in transfer(chunks.put, parts(), together=self._is_cut_whole(block)):
            n_bytes += len(view)
            if key in padding:
                PADDED.give(padding.pop(key))
        return crc, n_bytes

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
            for key, where in self._chunks(index, stamp, shape):
                part = buffer = block[(*where, ...)]
                if part.shape != self.chunk_shape or not part.flags.c_contiguous:
                    buffer = aligned_empty(self.chunk_shape, self.dtype)
                buffers.append((part, buffer))
                yield key, _bytes_of(buffer)

        got, n_bytes = self._identity_crc(index, stamp), 0
        for _, view in transfer(chunks.read_into, parts(), together=self._is_cut_whole(block)):
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

    def _is_cut_whole(self, block: Array) -> bool:
        """Whether a block has several chunks, all but the last parts of its memory; others are padded."""
        several = block.shape[:1] > self.chunk_shape[:1]
        return several and block.flags.c_contiguous and block.shape[1:] == self.chunk_shape[1:]

    def _identity_crc(self, index: int, stamp: int) -> int:
        # the identity is part of the sum, so that a chunk in another's place is recognised
        return crc32c.crc32c(f"{self.name}/{index}/{stamp}".encode())


def _bytes_of(array: Array) -> memoryview:
    return memoryview(array.reshape(-1)).cast("B")
