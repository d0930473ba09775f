"""What a file format is: a `Reader` that cuts sources into parts and reads each part as batches of rows.

Formats whose lines are single entries, of rows in any order, read `EntryBatch`es instead, and their schema says which
entries make a row (`GatheredRows`).

How ingest uses a reader
------------------------
1. ``reader.parts(paths, part_bytes)`` cuts the sources into parts, the same ones whatever the number of workers.
2. For every part, in any order and process, a fresh reader: ``for batch in reader.read(part, bad)``, then
   ``reader.facts()``. Rows go to disk as they are read; nothing may depend on another part.
3. Once: ``reader.merge(parts, facts, totals, like)`` makes the `Schema`: how many columns there are, what they are
   called, and which column each raw index of a part means.
4. Panels are formed. Raw indices go through ``schema.column_map(part)`` (or have ``index_base`` taken off), those
   that map to -1 or beyond ``n_cols`` are dropped and counted, rows are sorted by column, entries that fall on one
   column are added up, and the transform (`oocml.data.transforms`) is applied: the source is read once.

A reader is made anew from (format, options) wherever it is needed, so options must be picklable and ``__init__``
cheap. It is a class with keyword-only options; what it doesn't know is refused by `make_reader`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from oocml.errors import InputError, UsageError
from oocml.types import Csr, Float32Array, Float64Array, Int32Array, Int64Array

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

READERS = {
    "libsvm": "oocml.data.libsvm:LibsvmReader",
    "xmc": "oocml.data.xmc:XmcReader",
    "letor": "oocml.data.letor:LetorReader",
    "text": "oocml.data.text:TextReader",
    "docword": "oocml.data.docword:DocwordReader",
    "ldac": "oocml.data.ldac:LdacReader",
    "csv": "oocml.data.csv_table:CsvReader",
    "npy": "oocml.data.arrays:NpyReader",
    "npz": "oocml.data.arrays:NpzReader",
    "mtx": "oocml.data.mtx:MtxReader",
    "anndata": "oocml.data.anndata:AnndataReader",
    "ratings": "oocml.data.ratings:RatingsReader",
    "ratings-matrix": "oocml.data.ratings_matrix:RatingsMatrixReader",
    "interactions": "oocml.data.interactions:InteractionsReader",
}
"""Module and class of each format, imported when asked for."""


class Part(NamedTuple):
    """A share of one source that is read on its own."""

    index: int
    """Place among all parts, in source order."""
    path: str
    lo: int
    hi: int
    """Range of bytes (text) or rows (arrays); ``hi`` = -1 means to the end, as for compressed streams."""


class LabelLists(NamedTuple):
    """Labels as read: any number per row."""

    indptr: Int64Array
    """Shape (n_rows + 1,)."""
    values: Float64Array
    """Label numbers, or positions in the part's own list of classes (see ``Schema.label_map``)."""


class RowBatch(NamedTuple):
    """Consecutive rows of a part; a batch should stay below some 16 MiB."""

    X: Csr | Float32Array
    """Raw indices, in any order within a row, no two alike; or a dense (rows, cols) array (then all batches are)."""
    position: Int64Array
    """Shape (n_rows,), increasing: where each row begins in its file (byte of the decompressed text, or row number).

    It must not depend on how the file was cut into parts: rows are dealt to panels by it.
    """
    labels: LabelLists | None = None
    """None where the format has no labels; rows may have none, one or many."""
    qid: Int64Array | None = None
    """Query of each row, -1 for none; all rows of a dataset have one, or none has."""
    index_range: tuple[int, int] | None = None
    """Smallest and largest raw index, counting entries that were left out (zeros), (-1, -1) for no entry at all;
    None: that of X."""


class EntryBatch(NamedTuple):
    """Consecutive entries of a part, whose rows are named and come in any order.

    Readers of such formats have an attribute ``gathers`` that is true. A later entry replaces an earlier one of the
    same row and column.
    """

    row: Int32Array
    """Shape (n_entries,): the part's own number of each entry's row."""
    hash: npt.NDArray[np.uint64]
    """Shape (n_entries,): of the name of each entry's row, evenly spread; rows are dealt by it."""
    column: Int32Array
    """Raw indices."""
    value: Float32Array


class TooManyBad(Exception):
    """Raised inside a part when bad lines exceed the limit; ingest turns it into an `InputError`."""


@dataclass
class BadLines:
    """Counts bad lines (or rows) of a part and remembers the first."""

    limit: int
    count: int = 0
    first_line: int = -1
    """Line of the first bad one, from 0, counted from the part's first line."""
    first_reason: str = ""
    unit: str = "line"
    """What ``first_line`` counts."""

    def add(self, line: int, reason: str, unit: str = "line") -> None:
        """Note a bad line (from 0, counted from the part's first line); it is skipped unless over the limit.

        ``reason`` is what is wrong with it, for instance "value 'nan' is not finite". ``unit`` is "row" for formats
        whose parts are ranges of rows.
        """
        if self.count == 0:
            self.first_line, self.first_reason, self.unit = line, reason, unit
        self.count += 1
        if self.count > self.limit:
            raise TooManyBad


class Totals(NamedTuple):
    """What ingest saw in the rows of all parts."""

    n_rows: int
    nnz: int
    min_index: int
    max_index: int
    """Smallest and largest raw index; -1 if there is no entry."""
    n_labels: int
    """Labels over all rows."""
    max_labels: int
    """Most labels of one row."""
    labels: npt.NDArray[np.float64] | None
    """Distinct labels, increasing; None if one isn't an integer or there are more than 2**22 in single-label data."""
    has_qid: bool
    dense: bool
    n_bad: int = 0
    """Bad lines, which are no rows."""


def _no_map(part: int) -> None:
    del part


@dataclass(frozen=True)
class GatheredRows:
    """What the rows of a dataset are that is made of entries."""

    n_rows: int
    row_map: Callable[[int], Int32Array]
    """Row of the dataset for each of a part's own rows, by part index."""
    names: Sequence[str]
    """Name of each row; they are distinct."""
    hashes: npt.NDArray[np.uint64]
    """Shape (n_rows,): of the names."""
    n_known: int = 0
    """Rows that are the training set's (``like``); they come first."""


@dataclass(frozen=True)
class Schema:
    """What the columns and labels of the whole dataset are."""

    n_cols: int
    index_base: int = 0
    """Taken off every raw index where a part has no column map."""
    column_map: Callable[[int], Int32Array | None] = _no_map
    """Column of each raw index of a part (by part index), -1 to drop it; None: index minus base."""
    label_kind: str | None = None
    """"none", "number", "sets"; None: worked out from the labels."""
    label_map: Callable[[int], Float64Array | None] = _no_map
    """Label of each raw label of a part; None: as it is."""
    labels: npt.NDArray[Any] | None = None
    """Distinct labels in increasing order, or None: those that occur."""
    label_names: Sequence[str] | None = None
    """Name of each of ``labels``."""
    feature_names: Sequence[str] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """More attributes of the dataset: plain JSON values, no times, no absolute paths."""
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """More arrays of the dataset's root group."""
    drop_unseen: bool = False
    """Whether entries without a column are the training set's unseen ones, to be counted (``like``)."""
    rows: GatheredRows | None = None
    """Where batches are of entries."""


class Reader(Protocol):
    """One file format with its options."""

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        """Cut the sources, in order, into parts of about ``part_bytes``.

        Raises
        ------
        InputError
            A source is missing, empty or not of this format.
        """

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch] | Iterator[EntryBatch]:
        """The rows (or entries) of a part, in order. Bad ones go to ``bad.add`` and are left out."""

    def facts(self) -> Any:
        """What ``merge`` must know of the part just read (picklable and small), or None."""

    def merge(
        self, parts: Sequence[Part], facts: Sequence[Any], totals: Totals, like: Dataset | None
    ) -> Schema:
        """The schema of everything. ``facts`` reads each part's facts from disk when asked for them."""


NOT_ASKED_FOR = {"temp", "share", "fraction", "split_seed"}
"""Options of readers that are not the user's to give."""


def make_reader(format: str, options: Mapping[str, Any]) -> Reader:
    """The reader of a format.

    Raises
    ------
    UsageError
        No such format, or an option it doesn't have.
    """
    reader = reader_class(format)
    known = inspect.signature(reader).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        name, *others = (name.replace("_", "-") for name in (unknown[0], *sorted(set(known) - NOT_ASKED_FOR)))
        own = f"its own are {', '.join(others)}" if others else "it has none of its own"
        raise UsageError(f"format {format} has no option {name!r}; {own}")
    made: Reader = reader(**options)
    return made


def default_options(format: str, train: Dataset | None, temp: str) -> dict[str, Any]:
    """Options that are not the user's to think of.

    The training set, if it was made of the same format, decides those that a reader lists in ``INHERITED``; their
    values are in ``attrs[format]`` of the reader's schema. ``temp`` is the folder of temporary files for readers
    with an option of that name.
    """
    reader = reader_class(format)
    chosen = {"temp": temp} if "temp" in inspect.signature(reader).parameters else {}
    if train is not None:
        stored = train.attrs.get(format, {})
        names = getattr(reader, "INHERITED", ())
        chosen |= {name: stored[name] for name in names if stored.get(name) is not None}
    return chosen


def reader_class(format: str) -> Any:
    """The reader of a format; its options are the parameters of its ``__init__``."""
    if format not in READERS:
        raise UsageError(f"unknown format {format!r}; known are {', '.join(sorted(READERS))}")
    module, name = READERS[format].split(":")
    return getattr(importlib.import_module(module), name)


def numeric_schema(
    totals: Totals, like: Dataset | None, *, n_cols: int | None = None, index_base: int
) -> Schema:
    """The schema of formats whose columns are numbers.

    With ``like`` columns, names and index base are the training set's.
    """
    if like is None:
        found = totals.max_index + 1 - index_base
        if n_cols is not None and found > n_cols:
            raise InputError(
                f"index {totals.max_index} is beyond the {n_cols} columns asked for; give n_cols {found} or none"
            )
        return Schema(n_cols=found if n_cols is None else n_cols, index_base=index_base)
    if totals.max_index >= 0 and totals.min_index < like.index_base:
        raise InputError(
            f"index {totals.min_index} but the training set {like.path} counts from {like.index_base}; "
            "write both files with the same base"
        )
    labels = None
    if like.label_names is not None and totals.labels is not None and like.labels is not None:
        # names belong to labels: the training set's are taken over if they cover what occurs
        labels = like.labels if np.isin(totals.labels, like.labels).all() else None
    return Schema(
        n_cols=like.n_cols,
        index_base=like.index_base,
        label_kind="sets" if like.label_kind == "sets" else None,
        labels=labels,
        label_names=None if labels is None else like.label_names,
        feature_names=like.feature_names,
        drop_unseen=True,
    )
