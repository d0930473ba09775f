"""Rows of arrays as batches: in the dtypes of the store, finite, duplicates added up, zeros left out.

Shared by every format whose source is arrays rather than lines: npy, npz, mtx and AnnData.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from oocml.data.classes import PartMap, label_maps, no_map, number_classes
from oocml.data.readers import BadLines, LabelLists, Part, RowBatch, Schema, Totals
from oocml.errors import InputError
from oocml.types import Csr, Float32Array

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

BATCH_ENTRIES = 1 << 20
"""Entries (sparse) or values (dense) of one batch: 8 or 4 MiB."""
MAX_COLS = (1 << 31) - 1


class ArrayFacts(NamedTuple):
    """What a part knows of its source."""

    n_cols: int
    labelled: bool
    n_label_columns: int
    """Columns of labels that came as a matrix of 0 and 1, else 0."""
    class_names: list[str] | None
    """Classes in order of first sight, where labels are text."""
    label_names: list[str] | None
    """Names of the labels 0, 1, ..., where the source gives them."""
    feature_names: list[str] | None


def sparse_batch(M: Any, first: int, labels: LabelLists | None, bad: BadLines, origin: int) -> RowBatch:
    """A batch of the rows of a scipy CSR matrix (which may be changed).

    Parameters
    ----------
    first
        Number of the batch's first row in the file.
    origin
        Number of the part's first row in the file.
    """
    if M.dtype not in (np.float32, np.float64):
        M = M.astype(np.float64)
    M.sum_duplicates()
    M.eliminate_zeros()
    data = _as_float32(M.data)
    wrong = np.flatnonzero(~np.isfinite(data))
    rows = np.arange(M.shape[0], dtype=np.int64)
    if wrong.size:
        row_of = np.searchsorted(M.indptr, wrong, side="right") - 1
        for row, at in zip(*np.unique(row_of, return_index=True), strict=True):
            entry = wrong[at]
            bad.add(first + int(row) - origin, _not_finite(M.data[entry], int(M.indices[entry])), "row")
        rows = np.delete(rows, np.unique(row_of))
        M = sp.csr_matrix((data, M.indices, M.indptr), shape=M.shape)[rows]
        data, labels = M.data, _rows_of(labels, rows)
    X = Csr(M.indptr.astype(np.int64), M.indices.astype(np.int32, copy=False), data)
    return RowBatch(X, first + rows, labels)


def dense_batch(
    values: npt.NDArray[Any], first: int, labels: LabelLists | None, bad: BadLines, origin: int
) -> RowBatch:
    """A batch of the rows of a dense array, shape (rows, cols)."""
    X: Float32Array = np.ascontiguousarray(_as_float32(values))
    rows = np.arange(len(X), dtype=np.int64)
    # A sum is finite only if every value is (or is too large for the sum: looked at again).
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(X.sum(dtype=np.float64))
    if suspect:
        wrong = ~np.isfinite(X)
        for row in np.flatnonzero(wrong.any(axis=1)).tolist():
            column = int(np.argmax(wrong[row]))
            bad.add(first + row - origin, _not_finite(values[row, column], column), "row")
        rows = np.flatnonzero(~wrong.any(axis=1))
        X, labels = X[rows], _rows_of(labels, rows)
    return RowBatch(X, first + rows, labels)


def check_dtype(dtype: np.dtype[Any], what: str) -> None:
    """Refuse values that aren't real numbers."""
    if dtype.kind not in "biuf":
        raise InputError(f"{what} holds {dtype}, not real numbers; convert it to float32")


def check_matrix(shape: Sequence[int], what: str) -> tuple[int, int]:
    """Rows and columns of ``what``; refuses anything but a matrix with rows that fits the store's indices."""
    if len(shape) != 2:
        raise InputError(f"{what} has shape {tuple(shape)}, not (rows, columns)")
    if shape[0] == 0:
        raise InputError(f"{what} has no rows")
    if shape[1] > MAX_COLS:
        raise InputError(f"{what} has {shape[1]} columns, more than {MAX_COLS}; hash them to fewer")
    return int(shape[0]), int(shape[1])


class ArrayReader:
    """What readers of arrays share: the facts of the part that was read last, and the schema of all of them."""

    _facts: ArrayFacts | None = None

    def facts(self) -> ArrayFacts | None:
        return self._facts

    def merge(
        self, parts: Sequence[Part], facts: Sequence[ArrayFacts], totals: Totals, like: Dataset | None
    ) -> Schema:
        return array_schema(parts, facts, totals, like)


def array_schema(
    parts: Sequence[Part], facts: Sequence[ArrayFacts], totals: Totals, like: Dataset | None
) -> Schema:
    """The schema of all parts."""
    path, fact, found = _agreed(parts, facts)
    if like is not None and like.n_cols != fact.n_cols:
        raise InputError(
            f"{path} has {fact.n_cols} columns, the training set {like.path} has {like.n_cols}; they must agree"
        )
    kind = "none"
    maps: PartMap = no_map
    labels: Any = None
    names: Sequence[str] | None = None
    if fact.labelled:
        kind = (
            "sets" if fact.n_label_columns or (like is not None and like.label_kind == "sets") else "number"
        )
        if fact.class_names is not None:
            names, labels = number_classes(found, like)
            maps = label_maps(lambda part: facts[part].class_names or [], names, labels)
        elif fact.n_label_columns:
            labels = np.arange(fact.n_label_columns, dtype=np.int64)
        names = names or fact.label_names
        if names is None and like is not None and like.label_names is not None:
            names, labels = like.label_names, like.labels
        if names is not None and labels is None:
            labels = np.arange(len(names), dtype=np.float64)
            if totals.labels is not None and not np.isin(totals.labels, labels).all():
                raise InputError(f"{path} names {len(names)} labels but holds label {totals.labels.max():g}")
    return Schema(
        n_cols=fact.n_cols,
        label_kind=kind,
        label_map=maps,
        labels=labels,
        label_names=names,
        feature_names=fact.feature_names if like is None else like.feature_names,
        drop_unseen=like is not None,
    )


def _agreed(parts: Sequence[Part], facts: Sequence[ArrayFacts]) -> tuple[str, ArrayFacts, list[str]]:
    """A source and its facts that all parts agree with, and the class names of all."""
    first: tuple[str, ArrayFacts] | None = None
    found: dict[str, None] = {}
    for part, fact in zip(parts, facts, strict=True):
        first = first or (part.path, fact)
        if fact.n_cols != first[1].n_cols:
            raise InputError(
                f"{part.path} has {fact.n_cols} columns, {first[0]} has {first[1].n_cols}; they must agree"
            )
        if _label_form(fact) != _label_form(first[1]):
            raise InputError(f"{part.path} and {first[0]} have labels of different kinds; give all or none")
        found |= dict.fromkeys(fact.class_names or ())
    if first is None:
        raise InputError("no source was given")
    return *first, list(found)


def _label_form(fact: ArrayFacts) -> tuple[bool, bool, int]:
    return fact.labelled, fact.class_names is None, fact.n_label_columns


def _as_float32(values: npt.NDArray[Any]) -> Float32Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _not_finite(value: Any, column: int) -> str:
    if np.isfinite(value):
        return f"value {value!s} in column {column} is too large for float32"
    return f"value {value!s} in column {column} is not finite"


def _rows_of(labels: LabelLists | None, rows: npt.NDArray[np.int64]) -> LabelLists | None:
    if labels is None:
        return None
    pieces = [labels.values[labels.indptr[row] : labels.indptr[row + 1]] for row in rows]
    indptr = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([piece.size for piece in pieces], out=indptr[1:])
    return LabelLists(indptr, np.concatenate([np.zeros(0), *pieces]))
