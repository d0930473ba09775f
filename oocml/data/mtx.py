"""Matrix Market coordinate files, which are mostly sorted by column: rows are gathered through temporary files.

Header and size line are read here; scipy's parser reads the entries, some megabytes at a time. Only where it refuses
a piece are the lines looked at one by one, to name the bad one.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.io

from oocml.data.array_labels import LabelSource, open_labels
from oocml.data.array_rows import ArrayReader, check_matrix
from oocml.data.arrays import check_single, facts_of
from oocml.data.entry_spill import EntrySpill
from oocml.data.parts import compression, iter_blocks, open_stream, undamaged
from oocml.data.readers import BadLines, Part, RowBatch
from oocml.data.sparse_source import spilled_rows
from oocml.errors import InputError

BLOCK_BYTES = 4 << 20
MAX_COMMENT_LINES = 100_000


class MtxHeader(NamedTuple):
    pattern: bool
    """Whether entries have no value (and mean 1)."""
    mirror: float
    """Sign of the entry across the diagonal that stands for each one off it; 0 for general matrices."""
    n_rows: int
    n_cols: int
    n_entries: int
    n_lines: int
    """Lines before the first entry."""
    n_bytes: int
    """Bytes before the first entry."""


class Entries(NamedTuple):
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


class MtxReader(ArrayReader):
    """Reads coordinate files (real, integer or pattern; general, symmetric or skew-symmetric), plain or compressed.

    Entries of one place are added up, as scipy does. Takes temporary files of 16 bytes an entry; memory stays below
    some 200 MiB however the file is sorted.

    Parameters
    ----------
    transposed
        Whether the file's columns are the rows wanted.
    y
        A file of labels, as for `oocml.data.arrays.NpyReader`.
    temp
        Folder for temporary files (default: the system's; an ingest gives its own).
    """

    def __init__(
        self, *, transposed: bool | str = False, y: str | None = None, temp: str | None = None
    ) -> None:
        self._transposed = str(transposed).lower() in ("true", "yes", "1")
        self._y = y
        self._temp = temp

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        del part_bytes
        check_single(paths, self._y)
        for path in paths:
            n_rows, _ = self._shape(read_header(path), path)
            self._labels(n_rows)
        return [
            Part(k, path, 0, os.path.getsize(path) if compression(path) is None else -1)
            for k, path in enumerate(paths)
        ]

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        header = read_header(part.path)
        n_rows, n_cols = self._shape(header, part.path)
        labels = self._labels(n_rows)
        with tempfile.TemporaryDirectory(prefix="oocml-", dir=self._temp) as folder:
            n_stored = header.n_entries * (2 if header.mirror else 1)
            spill = EntrySpill(folder, 0, n_rows, n_cols, n_stored)
            for entries in iter_entries(part.path, header, bad):
                rows, columns, values = _mirrored(entries, header.mirror)
                if self._transposed:
                    rows, columns = columns, rows
                spill.add(rows, columns, values)
            yield from spilled_rows(spill, labels, bad)
        self._facts = facts_of(n_cols, labels)

    def _shape(self, header: MtxHeader, path: str) -> tuple[int, int]:
        shape = (header.n_rows, header.n_cols)
        return check_matrix(shape[::-1] if self._transposed else shape, path)

    def _labels(self, n_rows: int) -> LabelSource | None:
        return None if self._y is None else open_labels(self._y, n_rows)


def read_header(path: str) -> MtxHeader:
    """Banner, comments and size line.

    Raises
    ------
    InputError
        The file is missing, empty, no Matrix Market file, or one of another kind than the reader reads.
    """
    compression(path)
    with open_stream(path) as file, undamaged(path):
        banner = file.readline(1000)
        words = banner.decode("latin-1").lower().split()
        if len(words) != 5 or words[0] != "%%matrixmarket":
            raise InputError(f"{path} is not a Matrix Market file (no %%MatrixMarket in its first line)")
        _, what, layout, field, symmetry = words
        if (what, layout) != ("matrix", "coordinate"):
            raise InputError(
                f"{path} holds a {what} {layout}, not a matrix coordinate; save it as a sparse matrix, or as .npy"
            )
        if field not in ("real", "double", "integer", "unsigned-integer", "pattern"):
            raise InputError(f"{path} holds {field} numbers; only real, integer and pattern ones are read")
        if symmetry not in ("general", "symmetric", "skew-symmetric"):
            raise InputError(f"{path} is {symmetry}; only general and symmetric matrices are read")
        n_lines, n_bytes = 1, len(banner)
        for line in islice(_lines(file), MAX_COMMENT_LINES):
            n_lines, n_bytes = n_lines + 1, n_bytes + len(line)
            if line.strip() and not line.startswith(b"%"):
                sizes = line.split()
                if len(sizes) != 3 or not all(size.isdigit() for size in sizes):
                    raise InputError(f"{path} line {n_lines}: {line[:40]!r} is not 'rows columns entries'")
                n_rows, n_cols, n_entries = map(int, sizes)
                mirror = {"general": 0.0, "symmetric": 1.0, "skew-symmetric": -1.0}[symmetry]
                return MtxHeader(field == "pattern", mirror, n_rows, n_cols, n_entries, n_lines, n_bytes)
    raise InputError(f"{path} ends before its size line 'rows columns entries'")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(1 << 20):
        yield line


def iter_entries(path: str, header: MtxHeader, bad: BadLines) -> Iterator[Entries]:
    """The entries in file order, places from 0. Bad lines go to ``bad`` and are left out.

    Raises
    ------
    InputError
        The file holds fewer or more entries than its size line promises.
    """
    n_lines = skip = header.n_lines
    n_seen = 0
    for block in iter_blocks(Part(0, path, 0, -1), BLOCK_BYTES):
        text = block.text.tobytes()
        for _ in range(skip):
            text = text[text.find(b"\n") + 1 :]
            skip -= 1
            if not text:
                break
        if not text:
            continue
        entries, n_given = _parse(text, header, bad, n_lines)
        n_lines += text.count(b"\n")
        n_seen += n_given
        yield entries
    if n_seen != header.n_entries:
        raise InputError(
            f"{path} promises {header.n_entries} entries and has {n_seen}; "
            f"is it {'cut short' if n_seen < header.n_entries else 'more than one file'}?"
        )


def _parse(text: bytes, header: MtxHeader, bad: BadLines, first_line: int) -> tuple[Entries, int]:
    """The good entries of whole lines, and how many lines claim to be one."""
    n_given = text.count(b"\n")
    field = "pattern" if header.pattern else "real"
    size = f"%%MatrixMarket matrix coordinate {field} general\n{header.n_rows} {header.n_cols} {n_given}\n"
    try:
        M = scipy.io.mmread(io.BytesIO(size.encode() + text), spmatrix=False)
    except (ValueError, OverflowError):
        return _parse_lines(text, header, bad, first_line)
    with np.errstate(over="ignore"):
        values = np.asarray(M.data).astype(np.float32)
    if not np.isfinite(values).all():
        return _parse_lines(text, header, bad, first_line)
    return Entries(M.row.astype(np.int64), M.col.astype(np.int64), values), n_given


def _parse_lines(text: bytes, header: MtxHeader, bad: BadLines, first_line: int) -> tuple[Entries, int]:
    """As `_parse`, slowly: for pieces with blank or bad lines."""
    good: list[tuple[int, int, float]] = []
    n_given = 0
    for number, line in enumerate(text.split(b"\n")):
        fields = line.split()
        if not fields:
            continue
        n_given += 1
        try:
            good.append(_entry(fields, header))
        except ValueError as error:
            bad.add(first_line + number, str(error))
    rows, columns, values = zip(*good, strict=True) if good else ((), (), ())
    return Entries(
        np.array(rows, np.int64) - 1, np.array(columns, np.int64) - 1, np.array(values, np.float32)
    ), n_given


def _entry(fields: list[bytes], header: MtxHeader) -> tuple[int, int, float]:
    wanted = 2 if header.pattern else 3
    text = b" ".join(fields)[:40].decode("utf-8", "replace")
    if len(fields) < wanted:
        raise ValueError(f"{text!r} is not '{'row column' if header.pattern else 'row column value'}'")
    try:
        row, column = int(fields[0]), int(fields[1])
        value = 1.0 if header.pattern else float(fields[2])
    except ValueError:
        raise ValueError(f"{text!r} is not {'two' if header.pattern else 'three'} numbers") from None
    if not (1 <= row <= header.n_rows and 1 <= column <= header.n_cols):
        raise ValueError(f"{text!r} lies outside a matrix of {header.n_rows} x {header.n_cols}")
    if not abs(value) <= float(np.finfo(np.float32).max):
        raise ValueError(f"{text!r}: the value is not finite or too large for float32")
    return row, column, value


def _mirrored(entries: Entries, sign: float) -> tuple[Any, Any, Any]:
    """The entries, and for each one off the diagonal of a symmetric matrix the other it stands for."""
    if sign == 0.0:
        return entries
    rows, columns, values = entries
    off = rows != columns
    return (
        np.concatenate([rows, columns[off]]),
        np.concatenate([columns, rows[off]]),
        np.concatenate([values, np.float32(sign) * values[off]]),
    )
