"""Ranges of plain Zarr arrays are read as Zarr reads them; others are not taken for plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from oocml.data.flat_arrays import find_flat
from oocml.errors import DamagedStore


@given(
    length=st.integers(0, 20),
    chunk=st.integers(1, 25),
    dtype=st.sampled_from(["uint8", "int64", "float32"]),
    bounds=st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted),
)
def test_ranges_are_those_that_zarr_reads(tmp_path_factory, length, chunk, dtype, bounds):
    path = str(tmp_path_factory.mktemp("flat") / "a")
    values = np.arange(length).astype(dtype)
    array = zarr.create_array(
        path,
        shape=(length,),
        dtype=dtype,
        chunks=(chunk,),
        compressors=None,
        config={"write_empty_chunks": True},
    )
    array[:] = values
    lo, hi, _ = slice(*bounds).indices(length)
    found = np.full(max(0, hi - lo), 77, dtype)
    flat = find_flat(path)
    assert flat is not None
    flat.read_into(lo, found)
    assert np.array_equal(found, values[lo:hi])


@pytest.mark.parametrize(
    "other",
    [
        {"shape": (4, 4), "chunks": (2, 2)},
        {"compressors": zarr.codecs.ZstdCodec()},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
        {"chunk_key_encoding": {"name": "default", "separator": "."}},
        {"shards": (4,)},
        {"dtype": str},
        {"zarr_format": 2},
    ],
)
def test_arrays_that_are_not_plain_are_left_to_zarr(tmp_path, other):
    made = {"shape": (4,), "chunks": (2,), "dtype": "float32", "compressors": None} | other
    zarr.create_array(str(tmp_path / "a"), **made)
    assert find_flat(str(tmp_path / "a")) is None


def test_what_is_no_array_is_not_found(tmp_path):
    zarr.create_group(str(tmp_path / "group"))
    (tmp_path / "zarr.json").write_text("[]")
    assert [find_flat(str(path)) for path in (tmp_path / "group", tmp_path, tmp_path / "nothing")] == [
        None
    ] * 3


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damage_is_noticed(tmp_path, damage):
    array = zarr.create_array(str(tmp_path / "a"), shape=(4,), dtype="float32", chunks=(4,), compressors=None)
    array[:] = 1
    file = tmp_path / "a" / "c" / "0"
    file.unlink() if damage == "missing" else file.write_bytes(bytes(7))
    flat = find_flat(str(tmp_path / "a"))
    assert flat is not None
    with pytest.raises(DamagedStore, match=damage):
        flat.read_into(0, np.empty(4, np.float32))
