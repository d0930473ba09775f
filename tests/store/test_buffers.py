"""Memory that is used again is never in two hands at a time."""

from __future__ import annotations

import gc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oocml.store.buffers import POOLED_BYTES, BufferPool, aligned_empty


@settings(max_examples=10)
@given(
    limit=st.sampled_from([0, 2**22, 2**24]),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(0, 20)), max_size=25),
)
def test_lent_arrays_never_share_memory(limit, steps):
    pool, lent = BufferPool(limit), []
    for number, (take, mib, which) in enumerate(steps):
        if take or not lent:
            array = pool.take((mib * 2**18, 1), "float32")
            array[...] = number
            lent.append((array, number))
        else:
            array, value = lent.pop(which % len(lent))
            assert (array == value).all()
            pool.give(array)
            del array
        assert all((array[:: 2**12] == value).all() for array, value in lent)
    for array, value in lent:
        assert (array == value).all()


def test_memory_comes_back():
    pool = BufferPool(2**24)
    first = pool.take((POOLED_BYTES,), "uint8")
    address = first.ctypes.data
    pool.give(first)
    del first
    again = pool.take((POOLED_BYTES // 8,), "float64")
    assert again.ctypes.data == address
    del again
    gc.collect()
    assert pool.alive_bytes == 0, "what nobody holds is let go of"


def test_a_view_gives_the_whole_back_and_foreign_arrays_are_ignored():
    pool = BufferPool(2**24)
    array = pool.take((2**18,), "float64").reshape(2, -1)
    address = array.ctypes.data
    pool.give(array)
    pool.give(np.zeros(2**20))
    pool.give(np.zeros(3))
    assert pool.take((2**18,), "float64").ctypes.data == address
    assert pool.take((2**18,), "float64").ctypes.data != address


def test_large_arrays_start_at_a_page():
    for take in (aligned_empty, BufferPool(2**24).take):
        array = take((2**20 + 5,), "uint8")
        assert array.ctypes.data % 4096 == 0
        assert array.flags.writeable
        assert take((), "float64").shape == ()
        assert take((3, 0), "float64").shape == (3, 0)
