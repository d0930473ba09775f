"""Whether a dataset is whole: shapes and chunk files against the bounds, or all that is in them.

Checksums cover the entries of panels, so that any change of them is found. All else is read and looked at for what
cannot be: label sets whose pointers fall or pass the labels there are, labels out of order, row numbers below 0,
column statistics that do not add up to the entries, names that are no text. What was altered into something else that
can be (the label of a row, say) is not found.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from oocml.data.column_order import column_ranges
from oocml.data.strict_store import unreadable
from oocml.errors import DamagedStore
from oocml.types import LabelSets

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset


def find_problem(dataset: Dataset, *, deep: bool = False) -> str | None:
    """The first thing found wrong with ``dataset`` in one line, or None.

    Raises
    ------
    InputError
        A file may not be read, so that there is no telling.
    """
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
        chunk = f"{dataset.path}: chunk {name}/c/{'/'.join(map(str, place))}"
        try:
            n_bytes = os.stat(file).st_size
        except PermissionError as error:
            raise unreadable(error) from None
        except OSError:
            raise DamagedStore(f"{chunk} is missing") from None
        if n_bytes != chunk_bytes:
            raise DamagedStore(f"{chunk} has {n_bytes} bytes, not {chunk_bytes}")


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
        _check_rows(dataset, p)
    _check_columns(dataset)
    _check_names(dataset)
    _ = dataset.transform  # reads its arrays


def _check_rows(dataset: Dataset, p: int) -> None:
    """Labels, row numbers and queries of a panel."""
    y = dataset.read_labels(p)
    if isinstance(y, LabelSets):
        n_labels = 0 if dataset.labels is None else len(dataset.labels)
        if (np.diff(y.indptr) < 0).any() or y.indptr[-1] != dataset._panel_label_nnz[p]:
            raise DamagedStore(f"{dataset.path}: pointers to the labels of panel {p} are wrong")
        if len(y.indices) and not (y.indices.min() >= 0 and y.indices.max() < n_labels):
            raise DamagedStore(f"{dataset.path}: panel {p} has labels outside 0..{n_labels - 1}")
    if dataset.read_row_ids(p).min(initial=0) < 0:
        raise DamagedStore(f"{dataset.path}: panel {p} has row numbers below 0")
    dataset.read_qid(p)


def _check_columns(dataset: Dataset) -> None:
    """Statistics of columns, a range at a time."""
    total = 0
    for lo, hi in column_ranges(dataset.n_cols):
        nnz, sumsq = (dataset._read(name, slice(lo, hi)) for name in ("feature_nnz", "feature_sumsq"))
        if nnz.min() < 0 or not (sumsq >= 0).all():
            raise DamagedStore(f"{dataset.path}: statistics of columns {lo}..{hi - 1} are wrong")
        total += int(nnz.sum())
    if total != dataset.nnz:
        raise DamagedStore(f"{dataset.path}: columns have {total} entries, panels {dataset.nnz}")


def _check_names(dataset: Dataset) -> None:
    """Labels and the names of all there is, a chunk of them at a time."""
    labels = dataset.labels
    if labels is not None and not (labels[1:] > labels[:-1]).all():
        raise DamagedStore(f"{dataset.path}: labels are not in increasing order")
    wanted = {"feature_names": ("columns", dataset.n_cols)}
    if labels is not None:
        wanted["label_names"] = ("labels", len(labels))
    for name in ("label_names", "row_names", "feature_names", "vocab"):
        n_names = sum(1 for _ in dataset.iter_names(name) or ())
        what, n = wanted.get(name, ("", n_names))
        if n_names not in (0, n):
            raise DamagedStore(f"{dataset.path}: {n_names} {what} have names, not {n}")
