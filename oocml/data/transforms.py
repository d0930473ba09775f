"""Transforms of feature values, fitted while rows stream by: none, binary, log1p, tfidf.

Fitting is a fold: ``fit_start`` makes an empty state, ``accumulate`` adds the rows of a part to it, ``merge`` joins
the states of two parts (any order, any grouping: the counts are integers), ``finish`` makes the fitted `Transform`.
``apply`` needs nothing but the fitted transform, so that test data can be given the training set's (``--like``).

tfidf is the sublinear one: ``(1 + ln tf) * idf`` with the smooth ``idf = ln((1 + n) / (1 + df)) + 1``, rows scaled to
length 1 afterwards (Salton and Buckley 1988; the same numbers as scikit-learn's
``TfidfTransformer(sublinear_tf=True)``). Stored zeros count as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from oocml.errors import InputError, UsageError
from oocml.kernels.jit import jit
from oocml.types import Csr, Float32Array, Float64Array, Int64Array

Kind = Literal["none", "binary", "log1p", "tfidf"]
KINDS: tuple[Kind, ...] = ("none", "binary", "log1p", "tfidf")


class FitState(NamedTuple):
    """What ``finish`` will need of the rows seen so far."""

    kind: Kind
    n_rows: int
    df: Int64Array
    """Shape (columns seen so far,): rows with a non-zero entry in each column; empty unless the kind is tfidf."""


class Transform(NamedTuple):
    """A fitted transform. ``attrs()`` and ``arrays()`` are what a dataset stores of it."""

    kind: Kind
    n_rows: int
    """Rows it was fitted on."""
    idf: Float64Array
    """Shape (n_cols,); empty unless the kind is tfidf."""

    def attrs(self) -> dict[str, Any]:
        return {"kind": self.kind, "n_rows": self.n_rows}

    def arrays(self) -> dict[str, Float64Array]:
        return {"idf": self.idf} if self.kind == "tfidf" else {}


def from_stored(attrs: Mapping[str, Any], arrays: Mapping[str, Any]) -> Transform:
    """The fitted transform that ``attrs`` and ``arrays`` describe; the inverse of ``Transform.attrs/arrays``."""
    kind = check_kind(attrs.get("kind", "none"))
    idf = np.zeros(0)
    if kind == "tfidf":
        if "idf" not in arrays:
            raise InputError("the stored tfidf transform has no idf array; ingest the training data again")
        idf = np.ascontiguousarray(arrays["idf"], dtype=np.float64)
    return Transform(kind, int(attrs.get("n_rows", 0)), idf)


def check_kind(kind: str) -> Kind:
    """Return ``kind`` if it names a transform, else raise `UsageError`."""
    for known in KINDS:
        if kind == known:
            return known
    raise UsageError(f"no transform named {kind!r}; use one of {', '.join(KINDS)}")


def needs_fit(kind: str) -> bool:
    """Whether ``accumulate`` must see every row before ``apply`` can be called."""
    return check_kind(kind) == "tfidf"


def fit_start(kind: str, n_cols: int = 0) -> FitState:
    """An empty state. ``n_cols`` may be a guess (or 0): the state grows with the columns it meets."""
    known = check_kind(kind)
    return FitState(known, 0, np.zeros(n_cols if known == "tfidf" else 0, np.int64))


def accumulate(state: FitState, X: Csr) -> FitState:
    """The state after the rows of ``X`` too. ``state`` must not be used again: its counts may be updated in place."""
    n_rows = state.n_rows + X.indptr.size - 1
    if state.kind != "tfidf":
        return state._replace(n_rows=n_rows)
    df = _padded(state.df, int(X.indices.max()) + 1 if X.indices.size else 0)
    accumulate_df(X.indices, X.data, df)
    return FitState(state.kind, n_rows, df)


def merge(a: FitState, b: FitState) -> FitState:
    """The state of the rows of both. Neither is changed."""
    if a.kind != b.kind:
        raise UsageError(f"cannot merge a {a.kind} fit with a {b.kind} fit")
    df = _padded(a.df, b.df.size)
    if df is a.df:
        df = df.copy()
    df[: b.df.size] += b.df
    return FitState(a.kind, a.n_rows + b.n_rows, df)


def finish(state: FitState, n_cols: int | None = None) -> Transform:
    """The fitted transform, over ``n_cols`` columns (default: those the state knows)."""
    if state.kind != "tfidf":
        return Transform(state.kind, state.n_rows, np.zeros(0))
    if n_cols is not None and n_cols < state.df.size and state.df[n_cols:].any():
        raise InputError(f"tfidf was fitted on {state.df.size} columns but the data has {n_cols}")
    df = _padded(state.df, n_cols or 0)[:n_cols]
    return Transform(state.kind, state.n_rows, np.log((1.0 + state.n_rows) / (1.0 + df)) + 1.0)


def apply(transform: Transform, X: Csr, row_ids: Int64Array | None = None) -> Csr:
    """The transformed rows; ``X.data`` is overwritten where it can be.

    Parameters
    ----------
    row_ids : shape (n_rows,), optional
        The rows' numbers in the source from 0, to name (from 1) the row of a value that cannot be transformed.

    Raises
    ------
    InputError
        A value below 0 for tfidf, at or below -1 for log1p, or a column the transform was not fitted on.
    """
    if transform.kind == "none" or X.data.size == 0:
        return X
    data = X.data if X.data.flags.writeable and X.data.dtype == np.float32 else X.data.astype(np.float32)
    bad = -1
    if transform.kind == "binary":
        np.not_equal(data, 0, out=data, casting="unsafe")
    elif transform.kind == "log1p":
        bad = update_log1p(data)
    else:
        if int(X.indices.max()) >= transform.idf.size:
            raise InputError(
                f"column {int(X.indices.max())} was not there when tfidf was fitted on {transform.idf.size} columns; "
                "drop it or fit again"
            )
        bad = update_tfidf(X.indptr, X.indices, data, transform.idf)
    if bad >= 0:
        raise InputError(_bad_value(transform.kind, X, bad, row_ids))
    return Csr(X.indptr, X.indices, data)


def _bad_value(kind: Kind, X: Csr, entry: int, row_ids: Int64Array | None) -> str:
    row = int(np.searchsorted(X.indptr, entry, side="right")) - 1
    row = row if row_ids is None else int(row_ids[row])
    least = "above -1" if kind == "log1p" else "0 or more"
    return (
        f"row {row + 1}, column {int(X.indices[entry])}: value {X.data[entry]:g} is not {least}, as {kind} needs; "
        "use --transform none or binary"
    )


def _padded(counts: Int64Array, size: int) -> Int64Array:
    """``counts`` itself if it has ``size`` entries or more, else a longer copy (doubling, so growth stays linear)."""
    if counts.size >= size:
        return counts
    longer = np.zeros(max(size, min(2 * counts.size, size + (1 << 20))), np.int64)
    longer[: counts.size] = counts
    return longer


@jit
def accumulate_df(indices, data, df):
    """Add the non-zero entries of each column to ``df``."""
    # e=nonzero
    for e in range(indices.size):
        if data[e] != 0:
            df[indices[e]] += 1


@jit
def update_log1p(data) -> int:
    """Replace each value by ln(1 + value); stop at the first that has none and return its position, else -1."""
    # e=nonzero
    for e in range(data.size):
        if not data[e] > -1.0:
            return e
        data[e] = np.log1p(np.float64(data[e]))
    return -1


@jit
def update_tfidf(indptr, indices, data: Float32Array, idf) -> int:
    """Weigh and normalise each row in float64; stop at the first negative value and return its position, else -1."""
    # i=row, e=nonzero
    for i in range(indptr.size - 1):
        norm = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            tf = np.float64(data[e])
            if not tf >= 0.0:
                return e
            if tf > 0.0:
                weight = (1.0 + np.log(tf)) * idf[indices[e]]
                norm += weight * weight
        if norm == 0.0:
            continue
        scale = 1.0 / np.sqrt(norm)
        for e in range(indptr[i], indptr[i + 1]):
            tf = np.float64(data[e])
            if tf > 0.0:
                data[e] = (1.0 + np.log(tf)) * idf[indices[e]] * scale
    return -1
