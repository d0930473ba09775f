"""Predictions of a run, in the order of the source's rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import zarr

from oocml.engine.out_path import making
from oocml.engine.spool import RowSpool
from oocml.models.protocol import Array
from oocml.store.arrays import CHUNK_BYTES

CHUNK_ROWS = 2**20
"""Most rows of a chunk."""

Batch = tuple[npt.NDArray[np.int64], dict[str, Array]]


class RowSink(Protocol):
    """Takes predictions in row order."""

    def write(self, lo: int, outputs: Mapping[str, Array]) -> None: ...

    def close(self) -> None: ...


class ZarrSink:
    """One Zarr array per prediction, rows on the leading axis."""

    def __init__(self, path: Path) -> None:
        self.group = zarr.create_group(str(path), attributes={"oocml": {"kind": "predictions", "schema": 1}})

    def write(self, lo: int, outputs: Mapping[str, Array]) -> None:
        for name, values in outputs.items():
            if name not in self.group:
                chunk = max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, values[:1].nbytes)))
                self.group.create_array(
                    name, shape=(0, *values.shape[1:]), chunks=(chunk, *values.shape[1:]), dtype=values.dtype
                )
            array = self.group[name]
            assert isinstance(array, zarr.Array)
            array.resize((lo + len(values), *values.shape[1:]))
            array[lo:] = values

    def close(self) -> None:
        pass


class TextSink:
    """A row a line: ``label:score`` pairs, best first."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "w")  # noqa: SIM115

    def write(self, lo: int, outputs: Mapping[str, Array]) -> None:
        for labels, scores in zip(outputs["labels"].tolist(), outputs["scores"].tolist(), strict=True):
            pairs = (f"{label:.10g}:{score:.6g}" for label, score in zip(labels, scores, strict=True))
            self.file.write(" ".join(pairs) + "\n")

    def close(self) -> None:
        self.file.close()


def write_predictions(
    batches: Iterator[Batch], out: str | os.PathLike[str], *, overwrite: bool = False
) -> int:
    """Write predictions in source order to ``.zarr`` or text; returns the number of rows of the source.

    Rows of the source that the dataset left out hold zeros (label -1). Batches are spooled by window of rows, so
    memory holds one window at a time whatever the number of rows.
    """
    path = Path(os.path.abspath(out))
    with (
        making(path, "predictions", overwrite=overwrite) as beside,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-spool-") as folder,
    ):
        spool = RowSpool(Path(folder), {"labels": -1})
        for row_ids, outputs in batches:
            spool.add(row_ids, outputs)
        sink: RowSink = ZarrSink(beside) if path.suffix == ".zarr" else TextSink(beside)
        with closing(sink):
            for lo, window in spool.windows():
                sink.write(lo, window)
    return spool.n_rows
