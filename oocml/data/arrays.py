"""NumPy and scipy files: dense ``.npy``, and ``.npz`` with a scipy sparse matrix or named arrays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from oocml.data.array_labels import ArrayLabels, LabelSource, open_labels
from oocml.data.array_rows import (
    BATCH_ENTRIES,
    ArrayFacts,
    ArrayReader,
    check_dtype,
    check_matrix,
    dense_batch,
)
from oocml.data.entry_spill import EntrySpill
from oocml.data.npy_stream import NpyArray, NpzFile, open_npy
from oocml.data.readers import BadLines, Part, RowBatch
from oocml.data.sparse_source import Compressed, Triples, coo_entries, csc_entries, csr_rows, spilled_entries
from oocml.errors import InputError, UsageError

SPARSE_MEMBERS = {
    "csr": ("shape", "indptr", "indices", "data"),
    "csc": ("shape", "indptr", "indices", "data"),
    "coo": ("shape", "row", "col", "data"),
}


class NpyReader(ArrayReader):
    """Reads a dense matrix, a range of rows at a time, in either order of storage.

    Parameters
    ----------
    y
        A ``.npy`` file of labels: one number (NaN: none) or text per row, or a (rows, labels) matrix of 0 and 1;
        or a ``.npz`` file of such a matrix from scipy, which is held in memory.
    """

    def __init__(self, *, y: str | None = None) -> None:
        self._y = y

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        check_single(paths, self._y)
        parts: list[Part] = []
        for path in paths:
            X = _opened(path)
            check_dtype(X.dtype, path)
            n_rows, n_cols = check_matrix(X.shape, path)
            parts += row_parts(len(parts), path, n_rows, 4 * n_cols * n_rows, part_bytes)
            if self._y is not None:
                open_labels(self._y, n_rows)
        return parts

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        X = _opened(part.path)
        n_rows, n_cols = check_matrix(X.shape, part.path)
        labels = None if self._y is None else open_labels(self._y, n_rows)
        yield from dense_rows(X, labels, part, bad)
        self._facts = facts_of(n_cols, labels)


class NpzReader(ArrayReader):
    """Reads ``scipy.sparse.save_npz`` files (csr, csc, coo) and files with named arrays ``X`` and, if any, ``y``.

    Beside either, ``y`` holds labels as for `NpyReader`, ``label_names`` names for the labels 0, 1, ..., and
    ``feature_names`` names for the columns. Files written uncompressed are read in parallel; compressed ones as
    a stream. csc and coo go through temporary files of 16 bytes an entry.

    Parameters
    ----------
    y
        A file of labels as for `NpyReader`, instead of an array inside.
    temp
        Folder for temporary files (default: the system's; an ingest gives its own).
    """

    def __init__(self, *, y: str | None = None, temp: str | None = None) -> None:
        self._y = y
        self._temp = temp

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        check_single(paths, self._y)
        parts: list[Part] = []
        for path in paths:
            with NpzFile(path) as file:
                layout = _layout(file)
                n_rows, n_cols = _shape(file, layout)
                self._labels(file, n_rows)
                data = file.array("X" if layout == "dense" else "data")
            check_dtype(data.dtype, data.path)
            n_bytes = 4 * n_rows * n_cols if layout == "dense" else 8 * len(data)
            if layout in ("csc", "coo") or not data.random_access:
                n_bytes = 0
            parts += row_parts(len(parts), path, n_rows, n_bytes, part_bytes)
        return parts

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        with NpzFile(part.path) as file:
            yield from self._read(file, part, bad)

    def _read(self, file: NpzFile, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        layout = _layout(file)
        n_rows, n_cols = _shape(file, layout)
        labels = self._labels(file, n_rows)
        if layout == "dense":
            yield from dense_rows(file.array("X"), labels, part, bad)
        elif layout == "csr":
            yield from csr_rows(_compressed(file), n_cols, labels, part, bad)
        else:
            entries = coo_entries(_triples(file)) if layout == "coo" else csc_entries(_compressed(file))
            with tempfile.TemporaryDirectory(prefix="oocml-", dir=self._temp) as folder:
                spill = EntrySpill(folder, 0, n_rows, n_cols, len(file.array("data")))
                yield from spilled_entries(entries, spill, (n_rows, n_cols), labels, part, bad)
        self._facts = facts_of(n_cols, labels)._replace(
            label_names=_names(file, "label_names"), feature_names=_names(file, "feature_names", n_cols)
        )

    def _labels(self, file: NpzFile, n_rows: int) -> LabelSource | None:
        if self._y is not None:
            return open_labels(self._y, n_rows)
        return ArrayLabels(file.array("y"), n_rows) if "y" in file else None


def check_single(paths: Sequence[str], y: str | None) -> None:
    """One file of labels goes with one source."""
    if y is not None and len(paths) != 1:
        raise UsageError(
            f"y={y} goes with one source, not {len(paths)}; put X and y together into .npz files"
        )


def row_parts(first: int, path: str, n_rows: int, n_bytes: int, part_bytes: int) -> list[Part]:
    """Ranges of rows of about ``part_bytes``, numbered from ``first``."""
    cuts = np.linspace(0, n_rows, min(n_rows, max(1, round(n_bytes / part_bytes))) + 1).astype(np.int64)
    return [
        Part(first + k, path, int(lo), int(hi))
        for k, (lo, hi) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]


def facts_of(n_cols: int, labels: LabelSource | None) -> ArrayFacts:
    """What a part knows when its labels have been read."""
    if labels is None:
        return ArrayFacts(n_cols, False, 0, None, None, None)
    return ArrayFacts(n_cols, True, labels.n_columns, labels.class_names, None, None)


def dense_rows(X: NpyArray, labels: LabelSource | None, part: Part, bad: BadLines) -> Iterator[RowBatch]:
    """The rows of a part of a dense array."""
    step = max(1, BATCH_ENTRIES // max(1, X.shape[1]))
    for lo in range(part.lo, part.hi, step):
        hi = min(lo + step, part.hi)
        y = None if labels is None else labels.read(lo, hi)
        yield dense_batch(X.read(lo, hi), lo, y, bad, part.lo)


def _opened(path: str) -> NpyArray:
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, not a .npy file")
    return open_npy(path)


def _layout(file: NpzFile) -> str:
    """``dense``, or the scipy format of the matrix in the file."""
    if "format" in file:
        layout = file.whole("format").reshape(-1)[0]
        layout = layout.decode() if isinstance(layout, bytes) else str(layout)
        if layout not in SPARSE_MEMBERS:
            raise InputError(f"{file.path} holds a {layout} matrix; save it as csr")
    elif "X" in file:
        layout = "dense"
    else:
        layout = "coo" if "row" in file else "csr"
    missing = [name for name in SPARSE_MEMBERS.get(layout, ()) if name not in file]
    if missing:
        raise InputError(
            f"{file.path} has the arrays {', '.join(file.names[:8]) or 'none'}: neither X nor a scipy sparse matrix "
            f"({missing[0]} is missing)"
        )
    return layout


def _shape(file: NpzFile, layout: str) -> tuple[int, int]:
    if layout == "dense":
        return check_matrix(file.array("X").shape, f"{file.path}[X]")
    return check_matrix(file.whole("shape").tolist(), file.path)


def _names(file: NpzFile, name: str, wanted: int | None = None) -> list[str] | None:
    if name not in file:
        return None
    names: list[str] = file.whole(name).astype(str).tolist()
    if wanted is not None and len(names) != wanted:
        raise InputError(f"{file.path} has {len(names)} {name} for {wanted} columns; they must agree")
    return names


def _compressed(file: NpzFile) -> Compressed:
    return Compressed(file.array("indptr"), file.array("indices"), file.array("data"))


def _triples(file: NpzFile) -> Triples:
    return Triples(file.array("row"), file.array("col"), file.array("data"))
