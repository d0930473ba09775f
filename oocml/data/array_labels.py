"""Labels that come as an array: numbers, text, or a matrix of 0 and 1."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from oocml.data.classes import ClassNumbers
from oocml.data.npy_stream import NpyArray
from oocml.data.readers import LabelLists
from oocml.errors import InputError


class LabelSource(Protocol):
    """The labels of rows, wherever they come from."""

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
        self.n_columns = source.shape[1] if len(source.shape) == 2 and source.shape[1] != 1 else 0
        """Columns of a matrix of 0 and 1, else 0."""
        self.text = source.dtype.kind in "US"
        if self.n_columns and self.text:
            raise InputError(f"{what} holds texts in {source.shape[1]} columns; give one label per row")

    @property
    def class_names(self) -> list[str] | None:
        """Classes in order of first sight, where labels are text."""
        return self._classes.names if self.text else None

    def read(self, lo: int, hi: int) -> LabelLists:
        values = self._source.read(lo, hi)
        if self.n_columns:
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
