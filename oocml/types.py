"""The words of the project as types. Glossary: ``docs/design.md``, section 2."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


class Csr(NamedTuple):
    """A sparse matrix by rows, in the dtypes every kernel expects."""

    indptr: Int64Array
    """Shape (n_rows + 1,); row i owns entries ``indptr[i]:indptr[i + 1]``."""
    indices: Int32Array
    """Shape (nnz,); column of each entry, strictly increasing within a row."""
    data: Float32Array
    """Shape (nnz,)."""


class LabelSets(NamedTuple):
    """A set of label ids per row, by rows (ids index ``Dataset.labels``)."""

    indptr: Int64Array
    indices: Int32Array


class Panel(NamedTuple):
    """All data of a range of consecutive stored rows."""

    X: Csr
    y: Float64Array | LabelSets | None
    """Numbers as given (NaN where a row has none), label sets, or nothing."""
    row_ids: Int64Array
    """Shape (n_rows,); number of each row in the source, from 0."""
    qid: Int64Array | None = None
    """Shape (n_rows,): query of each row, where rows have queries. Rows of one query are consecutive, and all here."""


class Bounds(NamedTuple):
    """A half-open range."""

    lo: int
    hi: int

    @property
    def size(self) -> int:
        return self.hi - self.lo
