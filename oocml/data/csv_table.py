"""Tables of numbers as text: a row a line, a number a field, and perhaps one field that is the row's label.

What the caller doesn't say is found out from the first line: the separator is a TAB, a comma or a semicolon, whichever
it has, else blanks; it is a header if none of its fields is a number. Every value must be there and finite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np

from oocml.data.array_rows import ArrayFacts, ArrayReader
from oocml.data.classes import ClassNumbers
from oocml.data.parts import Block, BytesArray, body_parts, iter_blocks, open_stream, undamaged
from oocml.data.ratings_layout import BOM, LINE_BYTES, check_sep, split_fields
from oocml.data.readers import BadLines, LabelLists, Part, RowBatch
from oocml.errors import InputError, UsageError
from oocml.kernels import csv_table

SEPARATORS = (b"\t", b",", b";")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
REASONS = {
    csv_table.BAD_VALUE: "value {!r} of {} is not a finite number",
    csv_table.OUT_OF_RANGE: "value {!r} of {} is out of range",
    csv_table.OPEN_QUOTE: "the quote before {!r} has no end in this line",
    csv_table.AFTER_QUOTE: "there is more after the quoted field {!r}",
}


class TableLayout(NamedTuple):
    """How a file is laid out."""

    sep: bytes
    """Empty for runs of blanks."""
    n_lines: int
    """Lines before the first row, and how many bytes they are."""
    n_bytes: int
    names: tuple[str, ...]
    """Of all fields, if there is a header."""
    n_fields: int
    label: int
    """The field of the labels, from 0; -1 for none."""
    named: bool
    """Whether labels are names rather than numbers."""

    @property
    def quoted(self) -> bool:
        """Whether fields may be in double quotes."""
        return len(self.sep) == 1

    @property
    def n_cols(self) -> int:
        """Fields but for the label."""
        return self.n_fields - (self.label >= 0)


class CsvReader(ArrayReader):
    """Reads dense tables of numbers, plain (in parts) or compressed.

    Parameters
    ----------
    sep
        Between fields: one or more characters, ``tab`` or ``space``; default: found out.
    header
        Lines before the first row, the last of which names the columns; default: found out.
    y
        The column of the labels: its name in the header, or its number from 1. Labels are numbers or names.
    """

    def __init__(
        self, *, sep: str | None = None, header: int | str | None = None, y: str | None = None
    ) -> None:
        self._sep = check_sep(sep)
        try:
            self._header = None if header is None else int(header)
        except ValueError:
            raise UsageError(f"header={header!r} is not a number of lines") from None
        self._y = y

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        layouts = {path: self._layout(path) for path in paths}
        return body_parts(paths, part_bytes, lambda path: layouts[path].n_bytes)

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        layout = self._layout(part.path)
        classes = ClassNumbers()
        line, skip = (layout.n_lines, layout.n_lines) if part.hi < 0 else (0, 0)
        for block in iter_blocks(part):
            text, position = block.text, block.position
            while skip and len(text):
                n_bytes = int(np.argmax(text == ord("\n"))) + 1
                text, position, skip = text[n_bytes:], position + n_bytes, skip - 1
            if len(text):
                batch, n_lines = _parse(Block(text, position), layout, classes, bad, line)
                line += n_lines
                yield batch
        names = [name for k, name in enumerate(layout.names) if k != layout.label]
        self._facts = ArrayFacts(
            n_cols=layout.n_cols,
            labelled=layout.label >= 0,
            n_label_columns=0,
            class_names=classes.names if layout.named else None,
            label_names=None,
            feature_names=names or None,
        )

    def _layout(self, path: str) -> TableLayout:
        """Look at the first lines of a file."""
        with open_stream(path) as file, undamaged(path):
            before = [file.readline(LINE_BYTES) for _ in range(self._header or 0)]
            names = before[-1] if before else b""
            first = _next_line(file, before)
            sep = next((s for s in SEPARATORS if s in first), b"") if self._sep is None else self._sep
            fields = _fields(first, sep)
            if self._header is None and not any(_NUMBER.fullmatch(field) for field in fields):
                before.append(first)
                names, fields = first, _fields(_next_line(file, []), sep)
        if not any(fields):
            if not any(line.strip() for line in before):
                raise InputError(f"{path} is empty")
            raise InputError(f"{path} has no rows, only {len(before)} lines before them")
        texts = tuple(name.decode("utf-8", "replace") for name in _fields(names, sep)) if names else ()
        if texts and len(texts) != len(fields):
            raise InputError(
                f"{path} names {len(texts)} columns and has {len(fields)} in its first row; "
                "give --header (lines to skip) or --sep"
            )
        label = self._label(texts, len(fields), path)
        named = label >= 0 and not _NUMBER.fullmatch(fields[label])
        return TableLayout(sep, len(before), sum(map(len, before)), texts, len(fields), label, named)

    def _label(self, names: Sequence[str], n_fields: int, path: str) -> int:
        """The field of the labels, from 0; -1 where there is none."""
        if self._y is None:
            return -1
        if self._y in names:
            return list(names).index(self._y)
        number = int(self._y) if self._y.isdecimal() else 0
        if not 1 <= number <= n_fields:
            raise InputError(
                f"{path} has no column {self._y!r} among its {n_fields}; give its name or number"
            )
        if n_fields == 1:
            raise InputError(f"{path} has one column, which can't be the label alone; leave out --y")
        return number - 1


def _next_line(file: IO[bytes], before: list[bytes]) -> bytes:
    """The next line that isn't blank; blank ones are appended to ``before``."""
    while line := file.readline(LINE_BYTES):
        if line.strip(b" \t\r\n" + BOM):
            return line
        before.append(line)
    return b""


def _fields(line: bytes, sep: bytes) -> list[bytes]:
    return split_fields(line, sep, len(sep) == 1)


def _parse(
    block: Block, layout: TableLayout, classes: ClassNumbers, bad: BadLines, line: int
) -> tuple[RowBatch, int]:
    """The rows of a block, and how many lines it has."""
    text = block.text.copy()
    if block.position == 0 and text[: len(BOM)].tobytes() == BOM:
        text[: len(BOM)] = ord(" ")
    n_most = int(np.count_nonzero(text == ord("\n")))
    values, labels = np.empty((n_most, layout.n_cols), np.float32), np.empty(n_most)
    spans, row_at = np.empty((2, n_most), np.int64), np.empty(n_most, np.int64)
    wrong, hard = np.empty((n_most, 4), np.int64), np.empty((n_most * layout.n_fields, 3), np.int64)
    how = (layout.quoted, layout.n_fields, layout.label, layout.named)
    n, n_lines, n_wrong, n_hard = csv_table.parse_rows(
        text, np.frombuffer(layout.sep, np.uint8), how, values, labels, spans, row_at, wrong, hard
    )
    for at, problem, lo, hi in wrong[:n_wrong].tolist():
        bad.add(line + at, _reason(problem, lo, hi, text, layout))
    for place, lo, hi in hard[:n_hard].tolist():
        number = float(text[lo:hi].tobytes())
        if place < 0:
            labels[-1 - place] = number
        else:
            values.flat[place] = number
    if layout.named:
        found = [text[lo:hi].tobytes().decode("utf-8", "replace") for lo, hi in spans[:, :n].T.tolist()]
        labels[:n] = classes.of(np.array(found))
    lists = None
    if layout.label >= 0:
        given = ~np.isnan(labels[:n])
        lists = LabelLists(np.concatenate([[0], np.cumsum(given)]), labels[:n][given])
    return RowBatch(values[:n].copy(), row_at[:n] + block.position, lists), n_lines


def _reason(problem: int, lo: int, hi: int, text: BytesArray, layout: TableLayout) -> str:
    if problem == csv_table.WRONG_COUNT:
        return f"there are {lo} fields, not {layout.n_fields} as in the first line"
    if problem == csv_table.EMPTY:
        return f"field {lo} is empty"
    value = text[lo : min(hi, lo + 40)].tobytes().decode("utf-8", "replace")
    return REASONS[problem].format(value, _column(lo, hi, text, layout))


def _column(lo: int, hi: int, text: BytesArray, layout: TableLayout) -> str:
    """What a user calls the column whose field is ``text[lo:hi]``."""
    before = text[max(0, lo - LINE_BYTES) : lo].tobytes().rpartition(b"\n")[2]
    field = len(_fields(before + text[lo:hi].tobytes(), layout.sep))
    name = layout.names[field - 1] if field <= len(layout.names) else None
    return f"column {field}" + (f" ({name})" if name else "")
