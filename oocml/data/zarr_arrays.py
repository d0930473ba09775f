"""How a dataset's arrays are written: uncompressed, whole chunks of at most 16 MiB, empty chunks too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.dtype import VariableLengthUTF8

from oocml.types import Int64Array

CHUNK_BYTES = 16 << 20
"""Largest chunk of any array."""


def rows_per_chunk(bounds: Int64Array) -> int:
    """Chunk length of arrays by row: a panel touches at most two chunks, and a chunk stays below 16 MiB."""
    longest = int(np.diff(bounds).max(initial=1))
    return int(np.clip(longest, min(1 << 14, bounds[-1]), CHUNK_BYTES // 8))


def crc_of(*arrays: npt.NDArray[Any]) -> int:
    """crc32c over the bytes of ``arrays``, in order."""
    value = 0
    for values in arrays:
        value = crc32c.crc32c(values.reshape(-1).view(np.uint8), value)
    return value


def create(group: zarr.Group, name: str, shape: Any, dtype: np.dtype[Any], chunks: Any) -> Any:
    return group.create_array(
        name, shape=shape, dtype=dtype, chunks=chunks, compressors=None, config={"write_empty_chunks": True}
    )


def write_array(group: zarr.Group, name: str, values: npt.NDArray[Any], chunk: int) -> None:
    """Write a one-dimensional array whole, replacing an older one."""
    if name in group:
        del group[name]
    chunk = int(np.clip(chunk, 1, CHUNK_BYTES // values.dtype.itemsize))
    array = create(group, name, values.shape, values.dtype, (chunk,))
    if len(values):
        array[:] = values


def write_names(group: zarr.Group, name: str, texts: Sequence[str]) -> None:
    if name in group:
        del group[name]
    array = group.create_array(
        name,
        shape=(len(texts),),
        dtype=VariableLengthUTF8(),
        chunks=(min(max(len(texts), 1), 1 << 18),),
        compressors=None,
    )
    for lo in range(0, len(texts), array.chunks[0]):
        piece = list(texts[lo : lo + array.chunks[0]])
        array[lo : lo + len(piece)] = np.array(piece, dtype=object)


def write_transform(root: zarr.Group, transform: Mapping[str, Any]) -> dict[str, Any]:
    scalars = {name: v for name, v in transform.items() if not isinstance(v, np.ndarray)}
    arrays = {name: v for name, v in transform.items() if isinstance(v, np.ndarray)}
    if arrays:
        group = root.require_group("transform")
        for name, values in arrays.items():
            write_array(group, name, values, len(values))
    return scalars


def stream(
    group: zarr.Group, name: str, n: int, dtype: np.dtype[Any], chunk: int, pieces: Iterator[npt.NDArray[Any]]
) -> None:
    """Write pieces end to end, whole chunks at a time."""
    if name in group:
        del group[name]
    chunk = max(1, min(chunk, CHUNK_BYTES // dtype.itemsize))
    array = create(group, name, (n,), dtype, (chunk,))
    held: list[npt.NDArray[Any]] = []
    at = size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= chunk:
            joined = np.concatenate(held)
            whole = size - size % chunk
            array[at : at + whole] = joined[:whole]
            at, size, held = at + whole, size - whole, [joined[whole:]]
    if size:
        array[at : at + size] = np.concatenate(held)


def chain(first: npt.NDArray[Any], rest: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    yield first
    yield from rest
