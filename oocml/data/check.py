"""Whether a dataset is whole: shapes and chunk files against the bounds, or every byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from oocml.errors import DamagedStore

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset


def find_problem(dataset: Dataset, *, deep: bool = False) -> str | None:
    """The first thing found wrong with ``dataset`` in one line, or None."""
    try:
        _check_bounds(dataset)
        _check_shapes(dataset)
        if deep:
            _check_contents(dataset)
    except DamagedStore as problem:
        return str(problem)
    return None


def _check_bounds(dataset: Dataset) -> None:
    bounds = dataset.panel_bounds
    if bounds[0] != 0 or bounds[-1] != dataset.n_rows or (np.diff(bounds) < 0).any():
        raise DamagedStore(f"{dataset.path}: panel bounds do not cover {dataset.n_rows} rows")
    if dataset.panel_nnz.sum() != dataset.nnz:
        raise DamagedStore(
            f"{dataset.path}: panels hold {dataset.panel_nnz.sum()} entries, not {dataset.nnz}"
        )


def _check_shapes(dataset: Dataset) -> None:
    wanted: dict[str, int] = {"row_ids": dataset.n_rows}
    if dataset.label_kind == "number":
        wanted["y"] = dataset.n_rows
    elif dataset.label_kind == "sets":
        wanted["y/indptr"] = dataset.n_rows + 1
        wanted["y/indices"] = int(dataset._panel_label_nnz.sum())
    for name in ("feature_nnz", "feature_sumsq"):
        wanted[name] = dataset.n_cols
    if dataset.n_queries:
        wanted["qid"] = dataset.n_rows
    if dataset.sparse:
        for p in range(dataset.n_panels):
            rows, nnz = int(np.diff(dataset.panel_bounds[p : p + 2])[0]), int(dataset.panel_nnz[p])
            at = f"panels/{p}/X/"
            wanted |= {at + "indptr": rows + 1, at + "indices": nnz, at + "data": nnz}
    else:
        wanted["X"] = dataset.n_rows
    for name, length in wanted.items():
        _check_array(dataset, name, length)


def _check_array(dataset: Dataset, name: str, length: int) -> None:
    """Length as wanted, and every chunk's file of the size its shape asks for."""
    try:
        array: Any = dataset._child(name)
    except (KeyError, ValueError, OSError):
        raise DamagedStore(f"{dataset.path}: array {name} is missing or unreadable") from None
    if array.shape[0] != length:
        raise DamagedStore(f"{dataset.path}: array {name} has length {array.shape[0]}, not {length}")
    chunk_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
    for place in np.ndindex(*(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))):
        file = os.path.join(dataset.path, name, "c", *map(str, place))
        if not os.path.exists(file):
            raise DamagedStore(f"{dataset.path}: chunk {name}/c/{'/'.join(map(str, place))} is missing")
        if os.path.getsize(file) != chunk_bytes:
            raise DamagedStore(
                f"{dataset.path}: chunk {name}/c/{'/'.join(map(str, place))} has {os.path.getsize(file)} bytes, "
                f"not {chunk_bytes}"
            )


def _check_contents(dataset: Dataset) -> None:
    for p in range(dataset.n_panels):
        if dataset.sparse:
            X = dataset._read_csr(p)  # compares the checksum, as every reading does
            if X.indptr[-1] != len(X.data) or (np.diff(X.indptr) < 0).any():
                raise DamagedStore(f"{dataset.path}: row pointers of panel {p} are wrong")
            if len(X.indices) and not (X.indices.min() >= 0 and X.indices.max() < dataset.n_cols):
                raise DamagedStore(f"{dataset.path}: panel {p} has columns outside 0..{dataset.n_cols - 1}")
        else:
            dataset.read_dense_panel(p)
        dataset.read_labels(p)
