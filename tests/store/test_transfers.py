"""Chunks that move together arrive in order, and nothing moves once the caller has gone on."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from oocml.errors import DamagedStore
from oocml.store import arrays, transfers
from oocml.store.arrays import StoredArray
from oocml.store.buffers import BufferPool
from oocml.store.transfers import transfer
from tests.store.memory import MemoryChunks

PARTS = [(str(n), memoryview(bytes(n))) for n in range(9)]


@pytest.mark.parametrize("together", [False, True])
def test_parts_are_yielded_in_order_and_moved_once(together):
    moved = []

    def move(key, view):
        time.sleep(0.002 * (9 - len(view)))
        moved.append(key)

    assert list(transfer(move, iter(PARTS), together=together)) == PARTS
    assert sorted(moved) == [key for key, _ in PARTS]


def test_parts_move_at_the_same_time():
    both = threading.Barrier(2, timeout=10)
    list(transfer(lambda key, view: both.wait() and None, PARTS[:2], together=True))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("failing", ["0", "3", "8"])
def test_a_failure_is_raised_once_nothing_is_on_its_way(together, failing):
    on_its_way = set()

    def move(key, view):
        on_its_way.add(key)
        time.sleep(0 if key == failing else 0.01)
        on_its_way.discard(key)
        if key == failing:
            raise DamagedStore(key)

    with pytest.raises(DamagedStore, match=failing):
        list(transfer(move, PARTS, together=together))
    assert not on_its_way


def test_a_caller_that_leaves_early_leaves_nothing_on_its_way():
    on_its_way = set()

    def move(key, view):
        on_its_way.add(key)
        time.sleep(0.01)
        on_its_way.discard(key)

    moving = transfer(move, PARTS, together=True)
    next(moving)
    moving.close()
    assert not on_its_way


@pytest.mark.parametrize("columns", [4, 3])
def test_one_padded_chunk_is_in_memory_at_a_time(monkeypatch, columns):
    """All chunks of a block narrower than the widest are padded; of a wide one only the last is."""
    alive = weakref.WeakSet()
    most = 0

    class Buffer(np.ndarray):
        """An array that weak sets can hold."""

        __hash__ = object.__hash__

    def counted(shape, dtype):
        nonlocal most
        buffer = np.empty(shape, dtype).view(Buffer)
        alive.add(buffer)
        most = max(most, len(alive))
        return buffer

    monkeypatch.setattr(arrays, "CHUNK_BYTES", 64)
    array, chunks = StoredArray("a", 1, (41, 4), "float32"), MemoryChunks()
    block = np.arange(41.0 * columns, dtype=np.float32).reshape(41, columns)
    monkeypatch.setattr(arrays, "aligned_empty", counted)
    monkeypatch.setattr(arrays, "PADDED", SimpleNamespace(take=counted, give=lambda buffer: None))
    crc, _ = array.write(chunks, 0, 1, block)
    assert len(chunks.files) > 4
    found, _ = array.read(chunks, 0, 1, block.shape, crc, take=np.empty)
    assert np.array_equal(found, block)
    assert 1 <= most <= 2  # a generator lets go of a buffer when it has the next one


def test_padding_is_used_again_and_holds_nothing_of_the_chunk_before(monkeypatch):
    monkeypatch.setattr(
        arrays, "PADDED", BufferPool(8 * 2**20)
    )  # other tests of this process have used that one
    array, chunks = StoredArray("a", 2, (2, 2**19), "float32"), MemoryChunks()
    for index, n in ((0, 2**19 - 1), (1, 2**18)):
        block = np.full((2, n), 1 + index, np.float32)
        crc, _ = array.write(chunks, index, 1, block)
        assert arrays.PADDED.alive_bytes == 4 * 2**20
        assert np.array_equal(array.read(chunks, index, 1, block.shape, crc, take=np.empty)[0], block)
    last = max(chunks.files)
    stored = np.frombuffer(chunks.files[last], np.float32).reshape(2, 2**19)
    assert not stored[:, 2**18 :].any()


def test_however_often_it_is_interrupted_nothing_is_on_its_way_afterwards(monkeypatch):
    on_its_way, left, wait = set(), [2], transfers.wait

    def interrupted(moved):
        if left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        wait(moved)

    def move(key, view):
        on_its_way.add(key)
        time.sleep(0.02)
        on_its_way.discard(key)

    monkeypatch.setattr(transfers, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(transfer(move, PARTS, together=True))
    assert left == [0]
    assert not on_its_way


def test_first_transfers_at_the_same_time_share_their_threads(monkeypatch):
    made = []

    def slow(*arguments, **options):
        made.append(ThreadPoolExecutor(*arguments, **options))
        time.sleep(0.02)  # long enough for the other one to find none
        return made[-1]

    transfers._made.cache_clear()
    monkeypatch.setattr(transfers, "ThreadPoolExecutor", slow)
    both = threading.Barrier(2, timeout=10)

    def first(key):
        both.wait()
        return transfers._threads()

    try:
        with ThreadPoolExecutor(2) as callers:
            found = list(callers.map(first, "ab"))
        assert found[0] is found[1]
        assert len(made) == 1
    finally:
        transfers._made.cache_clear()
        for pool in made:
            pool.shutdown()
