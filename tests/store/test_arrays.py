"""Blocks come back as they were stored, are recognised when damaged, and are ordinary Zarr."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from oocml.errors import DamagedStore
from oocml.store import arrays as module
from oocml.store.arrays import CHUNK_BYTES, StoredArray, write_blocks
from oocml.store.chunks import LocalChunks
from oocml.store.run import _create_state_array
from tests.store.memory import MemoryChunks

DTYPES = ["float32", "float64", "int64", "uint8"]


@st.composite
def arrays_and_shapes(draw):
    """A stored array and the shape of one of its blocks."""
    full = tuple(draw(st.lists(st.integers(0, 9), max_size=3)))
    shape = tuple(draw(st.integers(0, n)) for n in full)
    return StoredArray("a", 3, full, draw(st.sampled_from(DTYPES))), draw(st.sampled_from([full, shape]))


def random_block(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype).reshape(shape)


@given(
    array_and_shape=arrays_and_shapes(),
    chunk_bytes=st.sampled_from([1, 16, 100, 2**20]),
    page_bytes=st.sampled_from([1, 8]),
)
def test_a_block_comes_back_as_it_was_stored(array_and_shape, chunk_bytes, page_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(module, "PAGE_BYTES", page_bytes)
        array, shape = array_and_shape
        chunks, block = MemoryChunks(), random_block(shape, array.dtype)
        crc, n_written = array.write(chunks, 2, 5, block)
        found, n_read = array.read(chunks, 2, 5, shape, crc)
        assert found.shape == shape
        assert found.dtype == array.dtype
        assert found.flags.c_contiguous
        assert found.flags.writeable
        assert np.array_equal(found, block)
        assert n_read == n_written == array.stored_bytes(shape) == sum(map(len, chunks.files.values()))
        assert sorted(array.keys(2, 5, shape)) == sorted(chunks.files)


@given(
    several=st.lists(arrays_and_shapes(), max_size=6),
    chunk_bytes=st.sampled_from([1, 16, 100, 2**20]),
)
def test_blocks_written_together_are_stored_as_each_by_itself(several, chunk_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk_bytes)
        blocks = []
        for n, (array, shape) in enumerate(several):
            blocks.append((replace(array, name=f"a{n}"), n % 3, 5 + n, random_block(shape, array.dtype, n)))
        together, apart = MemoryChunks(), MemoryChunks()
        spares = {
            array.name: [f"{array.name}/{s}" for s in range(n % 4)] for n, (array, *_) in enumerate(blocks)
        }
        for key in itertools.chain(*spares.values()):
            together.put(key, b"")
        n_spares = len(together.files)
        crcs = write_blocks(together, blocks, spares)
        left = set(itertools.chain(*spares.values()))
        assert crcs == [array.write(apart, *block) for array, *block in blocks]
        assert together.files == {**apart.files, **dict.fromkeys(left, b"")}
        assert n_spares - len(left) == sum(
            min(n % 4, len(array.keys(index, stamp, block.shape)))
            for n, (array, index, stamp, block) in enumerate(blocks)
        )


@pytest.mark.parametrize("order", ["F", "strided"])
def test_blocks_of_any_memory_order_are_stored(order):
    array, chunks, block = (
        StoredArray("a", 1, (6, 4), "float32"),
        MemoryChunks(),
        random_block((6, 4), "float32"),
    )
    given = np.asfortranarray(block) if order == "F" else np.repeat(block, 2, axis=1)[:, ::2]
    crc, _ = array.write(chunks, 0, 1, given)
    assert np.array_equal(array.read(chunks, 0, 1, (6, 4), crc)[0], block)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize(
    "damage", ["flipped", "zeroed", "truncated", "longer", "missing", "swapped", "older", "other"]
)
def test_damage_is_recognised(tmp_path, monkeypatch, dtype, damage):
    monkeypatch.setattr(module, "CHUNK_BYTES", 64)
    monkeypatch.setattr(module, "PAGE_BYTES", 8)
    array, chunks = StoredArray("a", 2, (40, 2), dtype), LocalChunks(tmp_path)
    (tmp_path / "state" / "a").mkdir(parents=True)
    block = random_block((40, 2), dtype) + 1
    crc, _ = array.write(chunks, 0, 7, block)
    array.write(chunks, 0, 6, block)  # the same content at another stamp
    array.write(chunks, 1, 7, block)  # and in another block
    keys = array.keys(0, 7, (40, 2))
    path, content = tmp_path / keys[1], (tmp_path / keys[1]).read_bytes()
    if damage == "flipped":
        path.write_bytes(content[:5] + bytes([content[5] ^ 4]) + content[6:])
    elif damage == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "longer":
        path.write_bytes(content + b"x")
    elif damage == "missing":
        path.unlink()
    elif damage == "swapped":
        (tmp_path / keys[2]).rename(tmp_path / "aside")
        path.rename(tmp_path / keys[2])
        (tmp_path / "aside").rename(path)
    read_as = {"older": (0, 6), "other": (1, 7)}.get(damage, (0, 7))
    with pytest.raises(DamagedStore) as caught:
        array.read(chunks, *read_as, (40, 2), crc)
    assert "\n" not in str(caught.value)
    if damage in ("older", "other"):
        array.read(chunks, 0, 7, (40, 2), crc)


@pytest.mark.parametrize(
    ("full", "shape"), [((7, 5), (7, 5)), ((7, 5), (4, 5)), ((5,), (3,)), ((), ()), ((9, 2, 3), (8, 2, 2))]
)
def test_plain_zarr_reads_a_block_at_its_stamp(tmp_path, monkeypatch, full, shape):
    monkeypatch.setattr(module, "CHUNK_BYTES", 60)
    monkeypatch.setattr(module, "PAGE_BYTES", 8)
    array, chunks, stamp = StoredArray("a", 3, full, "float64"), LocalChunks(tmp_path), 2**61 + 5
    _create_state_array(zarr.create_group(str(tmp_path)), array)
    block = random_block(shape, "float64")
    array.write(chunks, 1, stamp, block)
    plain = zarr.open_group(str(tmp_path), mode="r")["state/a"]
    where = tuple(slice(n) for n in shape)
    assert np.array_equal(plain[(1, stamp, *where)], block)
    assert not np.any(plain[(2, stamp, *where)])


@given(
    rows=st.integers(1, 10**7), columns=st.integers(1, 10**7), dtype=st.sampled_from(["float32", "float64"])
)
def test_chunks_are_neither_large_nor_padded_much(rows, columns, dtype):
    array, row_bytes = StoredArray("a", 1, (rows, columns), dtype), columns * np.dtype(dtype).itemsize
    assert array.chunk_shape[1] == columns
    assert array.chunk_shape[0] * row_bytes <= max(CHUNK_BYTES * 9 // 8 + row_bytes, row_bytes)
    block_bytes, stored_bytes = rows * row_bytes, array.stored_bytes((rows, columns))
    assert (
        block_bytes
        <= stored_bytes
        <= block_bytes + math.ceil(rows / array.chunk_shape[0]) * (2**20 + row_bytes)
    )


@pytest.mark.parametrize("columns", [32, 64, 96, 1000])
def test_large_blocks_of_round_widths_are_stored_in_whole_pages(columns):
    array = StoredArray("a", 1, (123_457, columns), "float32")
    assert array.chunk_shape[0] * columns * 4 % 4096 == 0
