"""Labels that come as an array: numbers, text, or a matrix of 0 and 1."""

from __future__ import annotations

import functools
import os
import zipfile
import zlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from oocml.data.classes import ClassNumbers
from oocml.data.npy_stream import NpyArray, open_npy
from oocml.data.readers import LabelLists
from oocml.errors import InputError


class LabelSource(Protocol):
    """The labels of rows, wherever they come from."""

    @property
    def n_columns(self) -> int:
        """Columns of a matrix of labels; 0 if every row has one label at most."""

    @property
    def class_names(self) -> list[str] | None:
        """Classes in order of first sight, where labels are text."""

    def read(self, lo: int, hi: int) -> LabelLists: ...


class ArrayLabels:
    """Reads the labels of a range of rows; one per part.

    One number per row (NaN: none), one text per row (empty: none), or a (rows, labels) matrix whose non-zero
    entries are the labels of a row.
    """

    def __init__(self, source: NpyArray, n_rows: int) -> None:
        self._source = source
        self._classes = ClassNumbers()
        what = source.path
        if len(source) != n_rows or not source.shape:
            raise InputError(f"{what} has {len(source)} labels for {n_rows} rows; they must agree")
        if len(source.shape) > 2 or source.dtype.kind not in "biufUS":
            raise InputError(f"{what} of shape {source.shape} and type {source.dtype} is no array of labels")
        self._n_columns = source.shape[1] if len(source.shape) == 2 and source.shape[1] != 1 else 0
        self.text = source.dtype.kind in "US"
        if self._n_columns and self.text:
            raise InputError(f"{what} holds texts in {source.shape[1]} columns; give one label per row")

    @property
    def n_columns(self) -> int:
        return self._n_columns

    @property
    def class_names(self) -> list[str] | None:
        return self._classes.names if self.text else None

    def read(self, lo: int, hi: int) -> LabelLists:
        values = self._source.read(lo, hi)
        if self._n_columns:
            return sets_of(values)
        values = values.reshape(hi - lo)
        if self.text:
            return one_each(self._classes.of(self._as_text(values)))
        numbers = values.astype(np.float64)
        if np.isinf(numbers).any():
            row = lo + int(np.argmax(np.isinf(numbers)))
            raise InputError(f"{self._source.path} row {row + 1}: the label is infinite; use NaN for none")
        return one_each(numbers)

    def _as_text(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        except UnicodeDecodeError:
            raise InputError(
                f"{self._source.path} holds texts that are not utf-8; save them as str"
            ) from None


class SparseLabels:
    """Labels from a scipy sparse matrix (rows, labels), all of it in memory: its non-zero entries are the labels."""

    def __init__(self, path: str, n_rows: int) -> None:
        try:
            self._matrix = _load_matrix(path, os.stat(path).st_mtime_ns)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{path} is not a scipy sparse matrix of labels: {reason}") from None
        if self._matrix.shape[0] != n_rows:
            raise InputError(f"{path} has {self._matrix.shape[0]} labels for {n_rows} rows; they must agree")

    @property
    def n_columns(self) -> int:
        return int(self._matrix.shape[1])

    @property
    def class_names(self) -> list[str] | None:
        return None

    def read(self, lo: int, hi: int) -> LabelLists:
        rows = self._matrix[lo:hi]
        return LabelLists(rows.indptr.astype(np.int64), rows.indices.astype(np.float64))


@functools.lru_cache(maxsize=2)
def _load_matrix(path: str, version: int) -> Any:
    del version
    matrix = sp.csr_matrix(sp.load_npz(path))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def open_labels(path: str, n_rows: int) -> LabelSource:
    """The labels in a ``.npy`` file, or in the ``.npz`` file of a sparse matrix.

    Raises
    ------
    InputError
        Missing, damaged, or not one label or row of labels for each of ``n_rows`` rows.
    """
    return SparseLabels(path, n_rows) if path.endswith(".npz") else ArrayLabels(open_npy(path), n_rows)


def one_each(values: npt.NDArray[np.float64]) -> LabelLists:
    """One label for each row, none where it is NaN."""
    given = ~np.isnan(values)
    indptr = np.zeros(len(values) + 1, np.int64)
    np.cumsum(given, out=indptr[1:])
    return LabelLists(indptr, values[given])


def sets_of(values: npt.NDArray[Any]) -> LabelLists:
    """The columns of the non-zero entries of each row."""
    rows, columns = np.nonzero(values)
    indptr = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(values)), out=indptr[1:])
    return LabelLists(indptr, columns.astype(np.float64))
