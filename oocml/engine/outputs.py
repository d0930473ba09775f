"""The state of a run as plain arrays, in the dataset's order of columns and the source's order of rows."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr

from oocml.engine.kept_rows import KeptRows
from oocml.engine.out_path import making, size_of
from oocml.engine.spool import RowSpool
from oocml.engine.state_reader import MovedOn, StateReader, pruned
from oocml.errors import OocmlError, UsageError
from oocml.models.protocol import Array
from oocml.schedule.layout import block_bounds, n_blocks, stored_array
from oocml.store.run import RunStore
from oocml.types import Bounds

if TYPE_CHECKING:
    import dask.array

EXPORT_ATTEMPTS = 5
"""How often an export is begun anew because training moved on."""
AXES = {"row": "rows", "col": "cols"}
"""Along which axis the blocks of an array are joined."""


class Order(NamedTuple):
    """Where the entries of a joined axis belong."""

    ids: Callable[[Bounds], npt.NDArray[np.integer[Any]]]
    """Their places, for a range of entries in the run's order."""
    length: int
    """Of the ordered axis; places that nothing belongs to hold zeros."""


class RunArrays(StateReader):
    """The exported state of a run, block by block.

    A run of tiles has an order of columns of its own, and a run that keeps its rows has them in stored order: what
    leaves here is in the dataset's order of columns and the source's order of rows.
    """

    def __init__(self, run: RunStore, checkpoint: str | None, *, follow: bool = True) -> None:
        super().__init__(run, checkpoint, follow=follow)
        self.specs = {name: spec for name, spec in self.specs.items() if spec.export}
        self._held = run.held_arrays()

    @property
    def names(self) -> list[str]:
        return list(self.specs)

    def attributes(self) -> dict[str, Any]:
        return {"model": self.run.config["model"], "settings": self.run.config["settings"]}

    def held(self) -> dict[str, Array]:
        return {name: self._held[name] for name in ("labels", "label_names") if name in self._held}

    def axis(self, name: str) -> int | None:
        """The axis along which the blocks of an array are joined, if there are several."""
        spec = self.specs[name]
        return spec.dims.index(AXES[spec.kind]) if spec.kind in AXES else None

    def order(self, name: str) -> Order | None:
        """The order of an array's joined axis, if it is not the run's."""
        kind, columns, rows = self.specs[name].kind, self.column_order, self._kept_rows
        if kind == "col" and columns is not None:
            return Order(lambda bounds: columns.columns(*bounds), columns.n_cols)
        if kind == "row" and rows is not None:
            return Order(lambda bounds: rows.row_ids(*bounds), self._n_source_rows)
        return None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the joined array."""
        n_cols = self.layout.col_bounds[-1]
        sizes = {"features": self.problem.n_features, "rows": self.problem.n_rows, "cols": n_cols}
        shape = [sizes[d] if isinstance(d, str) else d for d in self.specs[name].dims]
        axis, order = self.axis(name), self.order(name)
        if axis is not None and order is not None:
            shape[axis] = order.length
        return tuple(shape)

    def is_matrix(self, name: str) -> bool:
        """Whether it has a column for every column of the model, which pruning can make sparse."""
        spec = self.specs[name]
        return spec.kind == "col" and len(spec.dims) == 2 and spec.dims[1] == "cols"

    def piece(self, name: str, index: int, prune: float = 0.0) -> Array:
        """A block with its features in the dataset's order, without weights smaller than ``prune``."""
        spec, columns = self.specs[name], self.column_order
        block = self.block(name, index)
        if spec.kind == "col":
            block = pruned(spec, block, prune)
        if columns is not None and "features" in spec.dims:
            block = put(
                np.empty_like(block), spec.dims.index("features"), columns.columns(0, columns.n_cols), block
            )
        return block

    def pieces(self, name: str, prune: float = 0.0) -> Iterator[tuple[Bounds, Array]]:
        """(range of the joined axis in the run's order, piece) of all blocks."""
        spec = self.specs[name]
        for index in range(n_blocks(spec, self.layout)):
            yield block_bounds(spec, self.layout, index), self.piece(name, index, prune)

    def whole(self, name: str, prune: float = 0.0) -> Array:
        """The joined array in memory."""
        axis, order = self.axis(name), self.order(name)
        joined = np.zeros(self.shape(name), self.specs[name].dtype)
        for bounds, block in self.pieces(name, prune):
            if axis is None:
                return block
            put(joined, axis, order.ids(bounds) if order else slice(*bounds), block)
        return joined

    def sparse(self, name: str, prune: float) -> dict[str, Array]:
        """The joined matrix as CSC arrays, without entries smaller than ``prune``."""
        import scipy.sparse

        order = self.order(name)
        parts, ids = [], []
        for bounds, block in self.pieces(name):
            columns, rows = np.nonzero(np.abs(block.T) >= prune)
            indptr = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=block.shape[1]))])
            values = (block[rows, columns], rows.astype(np.int32), indptr)
            parts.append(scipy.sparse.csc_array(values, shape=block.shape))
            ids.append(order.ids(bounds) if order else np.arange(*bounds))
        joined = scipy.sparse.hstack(parts, format="csc")
        if order:
            joined = joined[:, np.argsort(np.concatenate(ids))]
        return {
            "data": joined.data,
            "indices": joined.indices.astype(np.int32),
            "indptr": joined.indptr.astype(np.int64),
            "shape": np.array(self.shape(name)),
        }

    def windows(self, name: str, folder: Path, prune: float) -> Iterator[tuple[tuple[slice, ...], Array]]:
        """(place in the joined array, values) in memory of one block or window; ``folder`` is for scratch files."""
        axis, order, n_dims = self.axis(name), self.order(name), len(self.specs[name].dims)
        if axis is None or order is None:
            for bounds, block in self.pieces(name, prune):
                yield _place(n_dims, axis, slice(*bounds)), block
            return
        spool = RowSpool(folder)
        for bounds, block in self.pieces(name, prune):
            spool.add(np.asarray(order.ids(bounds), np.int64), {name: np.moveaxis(block, axis, 0)})
        for lo, window in spool.windows(order.length):
            values = np.moveaxis(window[name], 0, axis)
            yield _place(n_dims, axis, slice(lo, lo + values.shape[axis])), values

    def lazy(self, name: str) -> dask.array.Array:
        """The joined array as a Dask array; where there is an order, an index of the joined axis is in memory."""
        import dask
        import dask.array as da

        spec, axis, order = self.specs[name], self.axis(name), self.order(name)
        read, shape = dask.delayed(self.piece, pure=False), list(self.shape(name))
        pieces = []
        for index in range(n_blocks(spec, self.layout)):
            if axis is not None:
                shape[axis] = block_bounds(spec, self.layout, index).size
            pieces.append(da.from_delayed(read(name, index), tuple(shape), spec.dtype))
        joined = pieces[0] if axis is None else da.concatenate(pieces, axis=axis)
        if axis is None or order is None:
            return joined
        n = joined.shape[axis]
        places = np.full(order.length, n)
        places[order.ids(Bounds(0, n))] = np.arange(n)
        if (places == n).any():
            shape[axis] = 1
            joined = da.concatenate([joined, da.zeros(shape, dtype=joined.dtype)], axis=axis)
        return da.take(joined, places, axis=axis)

    @functools.cached_property
    def _kept_rows(self) -> KeptRows | None:
        return KeptRows(self.run) if (self.run.path / "rows").exists() else None

    @functools.cached_property
    def _n_source_rows(self) -> int:
        assert self._kept_rows is not None
        blocks = (self.layout.rows(p) for p in range(self.layout.n_row_blocks))
        return max((int(self._kept_rows.row_ids(*rows).max(initial=-1)) + 1 for rows in blocks), default=0)


def export_run(
    run: RunStore,
    out: str | os.PathLike[str],
    *,
    checkpoint: str | None,
    prune: float = 0.0,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write a run's exported state as plain arrays; returns bytes and non-zeros.

    ``.zarr`` gives a group of arrays, written a block or a window at a time, ``.npz`` a numpy archive that is built
    in memory. With ``prune``, matrices with a column for each of the model's become sparse (AnnData-style
    ``csc_matrix`` groups, or the three arrays of scipy's), and other weights zero. All blocks are of one ledger, and
    the same state gives the same bytes.
    """
    path = Path(os.path.abspath(out))
    writers = {".zarr": _write_zarr, ".npz": _write_npz}
    if path.suffix not in writers:
        raise UsageError(f"cannot tell the format of {path.name}; end it in .zarr or .npz")
    for _ in range(EXPORT_ATTEMPTS):
        arrays = RunArrays(run, checkpoint, follow=False)
        try:
            with making(path, "export", overwrite=overwrite) as beside:
                nonzeros = writers[path.suffix](beside, arrays, prune)
        except MovedOn:
            continue
        return {"bytes": size_of(path), "nonzeros": nonzeros}
    raise OocmlError(
        f"{run.path} was trained on while it was exported, {EXPORT_ATTEMPTS} times; wait for its end, or validate its "
        "epochs and export --at best"
    )


def _write_zarr(path: Path, arrays: RunArrays, prune: float) -> int:
    group = zarr.create_group(str(path), attributes={"oocml": {"kind": "export", **arrays.attributes()}})
    nonzeros = 0
    for name in arrays.names:
        if prune and arrays.is_matrix(name):
            nonzeros += _write_csc(group, name, arrays.sparse(name, prune))
            continue
        shape, dtype = arrays.shape(name), arrays.specs[name].dtype
        stored = stored_array(arrays.specs[name], arrays.layout, arrays.problem)
        chunks = tuple(max(1, min(c, n)) for c, n in zip(stored.chunk_shape, shape, strict=True))
        array = group.create_array(
            name, shape=shape, chunks=chunks, dtype=dtype, compressors=None, filters=None
        )
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-spool-") as folder:
            for where, values in arrays.windows(name, Path(folder), prune):
                array[where] = values
                nonzeros += int(np.count_nonzero(values))
    for name, values in arrays.held().items():
        group.create_array(name, data=values)
    return nonzeros


def _write_csc(group: zarr.Group, name: str, sparse: dict[str, Array]) -> int:
    encoding = {"encoding-type": "csc_matrix", "encoding-version": "0.1.0"}
    child = group.create_group(name, attributes={**encoding, "shape": sparse["shape"].tolist()})
    for key in ("data", "indices", "indptr"):
        child.create_array(key, data=sparse[key])
    return len(sparse["data"])


def _write_npz(path: Path, arrays: RunArrays, prune: float) -> int:
    parts: dict[str, Array] = dict(arrays.held())
    nonzeros = 0
    for name in arrays.names:
        if prune and arrays.is_matrix(name):
            sparse = arrays.sparse(name, prune)
            parts |= {f"{name}_{key}": values for key, values in sparse.items()}
            nonzeros += len(sparse["data"])
        else:
            parts[name] = arrays.whole(name, prune)
            nonzeros += int(np.count_nonzero(parts[name]))
    with open(path, "wb") as file:
        np.savez(file, **parts)
    return nonzeros


def put(joined: Array, axis: int, places: slice | npt.NDArray[np.integer[Any]], block: Array) -> Array:
    """``joined`` with ``block`` at some places of an axis."""
    joined[(*(slice(None),) * axis, places)] = block
    return joined


def _place(n_dims: int, axis: int | None, entries: slice) -> tuple[slice, ...]:
    return tuple(entries if i == axis else slice(None) for i in range(n_dims))
