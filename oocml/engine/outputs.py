"""What leaves a run: predictions in the order of the source's rows, and plain arrays of its state."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import zarr

from oocml.engine.state_reader import StateReader
from oocml.errors import UsageError
from oocml.models.protocol import Array
from oocml.schedule.layout import n_blocks, stored_array
from oocml.store.arrays import CHUNK_BYTES
from oocml.store.chunks import PARTIAL
from oocml.store.run import RunStore

WINDOW_ROWS = 2**20
"""Rows put in order at a time."""

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
                chunk = max(1, min(WINDOW_ROWS, CHUNK_BYTES // max(1, values[:1].nbytes)))
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
    path = Path(out).absolute()
    _refuse_existing(path, overwrite)
    beside = path.with_name(f"{path.name}{PARTIAL}-{os.getpid()}")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-spool-") as folder:
        spool = _Spool(Path(folder))
        for row_ids, outputs in batches:
            spool.add(row_ids, outputs)
        sink: RowSink = ZarrSink(beside) if path.suffix == ".zarr" else TextSink(beside)
        with ExitStack() as leaving:
            leaving.callback(_remove, beside)
            leaving.callback(sink.close)
            for lo, window in spool.windows():
                sink.write(lo, window)
            leaving.pop_all()
    sink.close()
    _replace(beside, path)
    return spool.n_rows


class _Spool:
    """Predictions on disk by window of source rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_rows = 0
        self._kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}

    def add(self, row_ids: npt.NDArray[np.int64], outputs: Mapping[str, Array]) -> None:
        self._kinds = {name: (values.dtype, values.shape[1:]) for name, values in outputs.items()}
        self.n_rows = max(self.n_rows, int(row_ids.max(initial=-1)) + 1)
        windows = row_ids // WINDOW_ROWS
        for window in np.unique(windows):
            mine = windows == window
            for name, values in {"row_ids": row_ids, **outputs}.items():
                with open(self.folder / f"{window}.{name}", "ab") as file:
                    np.ascontiguousarray(values[mine]).tofile(file)

    def windows(self) -> Iterator[tuple[int, dict[str, Array]]]:
        for lo in range(0, self.n_rows, WINDOW_ROWS):
            stem = self.folder / str(lo // WINDOW_ROWS)
            size = min(WINDOW_ROWS, self.n_rows - lo)
            ids_path = stem.with_name(f"{stem.name}.row_ids")
            at = np.fromfile(ids_path, np.int64) - lo if ids_path.exists() else np.zeros(0, np.int64)
            outputs = {}
            for name, (dtype, shape) in self._kinds.items():
                values = np.full((size, *shape), -1 if name == "labels" else 0, dtype)
                if len(at):
                    values[at] = np.fromfile(stem.with_name(f"{stem.name}.{name}"), dtype).reshape(-1, *shape)
                outputs[name] = values
            yield lo, outputs


def export_run(
    run: RunStore,
    out: str | os.PathLike[str],
    *,
    checkpoint: str | None,
    prune: float = 0.0,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write a run's exported state as plain arrays; returns bytes and non-zeros.

    ``.zarr`` gives a group of arrays, ``.npz`` a numpy archive; with ``prune`` two-dimensional arrays become
    sparse (AnnData-style ``csc_matrix`` groups, or the three arrays of scipy's). The same state gives the same bytes.
    """
    path = Path(out).absolute()
    if path.suffix not in (".zarr", ".npz"):
        raise UsageError(f"cannot tell the format of {path.name}; end it in .zarr or .npz")
    _refuse_existing(path, overwrite)
    beside = path.with_name(f"{path.stem}{PARTIAL}-{os.getpid()}{path.suffix}")
    arrays = RunArrays(run, checkpoint)
    nonzeros = 0
    if path.suffix == ".zarr":
        group = zarr.create_group(
            str(beside), attributes={"oocml": {"kind": "export", **arrays.attributes()}}
        )
        for name in arrays.names:
            nonzeros += _export_zarr(group, arrays, name, prune)
        for name, values in arrays.held().items():
            group.create_array(name, data=values)
    else:
        parts: dict[str, Array] = dict(arrays.held())
        for name in arrays.names:
            whole = arrays.sparse(name, prune) if prune and arrays.is_matrix(name) else arrays.whole(name)
            if isinstance(whole, dict):
                parts |= {f"{name}_{key}": value for key, value in whole.items()}
                nonzeros += len(whole["data"])
            else:
                parts[name] = whole
                nonzeros += int(np.count_nonzero(whole))
        with open(beside, "wb") as file:
            np.savez(file, **parts)
    _replace(beside, path)
    return {"bytes": _size(path), "nonzeros": nonzeros}


class RunArrays(StateReader):
    """The exported state of a run, block by block."""

    def __init__(self, run: RunStore, checkpoint: str | None, *, follow: bool = True) -> None:
        super().__init__(run, checkpoint, follow=follow)
        self.specs = {name: spec for name, spec in self.specs.items() if spec.export}

    @property
    def names(self) -> list[str]:
        return list(self.specs)

    def attributes(self) -> dict[str, Any]:
        return {"model": self.run.config["model"], "settings": self.run.config["settings"]}

    def held(self) -> dict[str, Array]:
        held = self.run.held_arrays()
        return {name: held[name] for name in ("labels", "label_names") if name in held}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the joined array."""
        n_cols = self.layout.col_bounds[-1]
        sizes = {"features": self.problem.n_features, "rows": self.problem.n_rows, "cols": n_cols}
        return tuple(sizes[d] if isinstance(d, str) else d for d in self.specs[name].dims)

    def is_matrix(self, name: str) -> bool:
        return len(self.specs[name].dims) == 2 and self.specs[name].kind == "col"

    def blocks(self, name: str) -> Iterator[tuple[tuple[slice, ...], Array]]:
        """(place in the joined array, block)."""
        spec = self.specs[name]
        for index in range(n_blocks(spec, self.layout)):
            where = [slice(None)] * len(spec.dims)
            if spec.kind != "shared":
                bounds = self.layout.cols(index) if spec.kind == "col" else self.layout.rows(index)
                where[spec.dims.index("cols" if spec.kind == "col" else "rows")] = slice(*bounds)
            yield tuple(where), self.block(name, index)

    def whole(self, name: str) -> Array:
        joined = np.empty(self.shape(name), self.specs[name].dtype)
        for where, block in self.blocks(name):
            joined[where] = block
        return joined

    def sparse(self, name: str, prune: float) -> dict[str, Array]:
        """The joined matrix as CSC arrays, without entries smaller than ``prune``."""
        data, indices, counts = [], [], [np.zeros(1, np.int64)]
        for _, block in self.blocks(name):
            columns, rows = np.nonzero(np.abs(block.T) >= prune)
            data.append(block[rows, columns])
            indices.append(rows.astype(np.int32))
            counts.append(np.bincount(columns, minlength=block.shape[1]))
        return {
            "data": np.concatenate(data),
            "indices": np.concatenate(indices),
            "indptr": np.cumsum(np.concatenate(counts)),
            "shape": np.array(self.shape(name)),
        }


def _export_zarr(group: zarr.Group, arrays: RunArrays, name: str, prune: float) -> int:
    if prune and arrays.is_matrix(name):
        sparse = arrays.sparse(name, prune)
        child = group.create_group(
            name,
            attributes={
                "encoding-type": "csc_matrix",
                "encoding-version": "0.1.0",
                "shape": sparse.pop("shape").tolist(),
            },
        )
        for key, values in sparse.items():
            child.create_array(key, data=values)
        return len(sparse["data"])
    stored = stored_array(arrays.specs[name], arrays.layout, arrays.problem)
    shape = arrays.shape(name)
    chunks = tuple(max(1, min(c, n)) for c, n in zip(stored.chunk_shape, shape, strict=True))
    array = group.create_array(
        name, shape=shape, chunks=chunks, dtype=arrays.specs[name].dtype, compressors=None, filters=None
    )
    nonzeros = 0
    for where, block in arrays.blocks(name):
        array[where] = block
        nonzeros += int(np.count_nonzero(block))
    return nonzeros


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; give another name or --overwrite")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; make it first")


def _replace(beside: Path, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(beside, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
