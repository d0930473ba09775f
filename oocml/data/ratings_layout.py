"""How a file of ratings is laid out: separator, header, and which fields are user, item and value.

What the caller doesn't say is found out from the first lines:

- the separator: ``::``, a TAB, a comma, a semicolon, whichever the first line has, else blanks;
- a header: a first line that names a user and an item, or in which no field of three or more is a number;
- columns: by their names in the header if it names a user and an item, else user, item, value.

A Matrix Market file says it all itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from oocml.data.mtx import read_header
from oocml.data.parts import open_stream, undamaged
from oocml.errors import InputError, UsageError
from oocml.kernels.delimited import NEWLINE, find_field, skip_blanks

BOM = "\ufeff".encode()
LINE_BYTES = 1 << 20
SEPARATORS = (b"::", b"\t", b",", b";")
SPELLED = {"tab": "\t", "\\t": "\t", "space": "", "blank": "", " ": "", "comma": ","}
USER = ("user", "userid", "uid")
ITEM = ("item", "itemid", "iid", "movie", "movieid")
VALUE = ("value", "rating", "score")
TIME = ("time", "timestamp", "date", "datetime")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Columns(NamedTuple):
    n_fields: int
    user: int
    item: int
    value: int
    """-1 where there is none and every value is 1."""


class RatingsLayout(NamedTuple):
    sep: bytes
    """Empty for runs of blanks."""
    quoted: bool
    columns: Columns
    n_lines: int
    """Lines before the first rating, and how many bytes they are."""
    n_bytes: int
    n_promised: int = -1
    """How many ratings a Matrix Market file says it has."""


class Given(NamedTuple):
    """What the caller says; None: find out."""

    sep: bytes | None = None
    header: int | None = None
    """Lines before the first rating; the last of them may name the columns."""
    columns: tuple[str, ...] | None = None


def check_sep(sep: str | None) -> bytes | None:
    """The separator as bytes, none for blanks.

    Raises
    ------
    UsageError
        It could be part of a number, or of a line end.
    """
    if sep is None:
        return None
    sep = SPELLED.get(sep, sep)
    if re.search(r"[\w+\-.\"\r\n]", sep):
        raise UsageError(f"sep={sep!r} can't part numbers; give for instance ',', '::', tab or space")
    return sep.encode()


def check_columns(columns: str | None) -> tuple[str, ...] | None:
    """The names of a file's columns in order: user, item, value; any other name is passed over."""
    if columns is None:
        return None
    names = tuple("value" if name.strip() == "rating" else name.strip() for name in columns.split(","))
    wrong = [name for name in ("user", "item", "value") if names.count(name) > 1]
    if wrong or "user" not in names or "item" not in names:
        raise UsageError(
            f"columns={columns!r} must name user and item, and may name value, once each; "
            "for instance user,item,value,time"
        )
    return names


def find_layout(path: str, given: Given = Given()) -> RatingsLayout:  # noqa: B008 (immutable)
    """Look at the first lines of a file.

    Raises
    ------
    InputError
        There are no lines, or no two fields in one.
    """
    with open_stream(path) as file, undamaged(path):
        first = file.readline(LINE_BYTES)
        if first.removeprefix(BOM).lower().startswith(b"%%matrixmarket"):
            return _market_layout(path)
    with open_stream(path) as file, undamaged(path):
        header = [file.readline(LINE_BYTES) for _ in range(given.header or 0)]
        blank = []
        while (first := file.readline(LINE_BYTES)) and not first.strip(b" \t\r\n" + BOM):
            blank.append(first)
    if not first:
        raise InputError(f"{path} has no ratings, only {len(header) + len(blank)} lines before them")
    sep = _guess_sep(first) if given.sep is None else given.sep
    quoted = len(sep) == 1
    fields = split_fields(first, sep, quoted)
    where = f"{path} line {len(header) + len(blank) + 1}"
    if len(fields) < 2:
        text = first.decode("utf-8", "replace").strip()[:40]
        raise InputError(f"{where}: {text!r} has no user and item; is there another separator (--sep)?")
    names = split_fields(header[-1], sep, quoted) if header else []
    if given.header is None and _is_header(fields):
        header, names = [*blank, first], fields
    columns = _find_columns(len(fields), names, given.columns, where)
    return RatingsLayout(sep, quoted, columns, len(header), sum(map(len, header)))


def split_fields(line: bytes, sep: bytes, quoted: bool) -> list[bytes]:
    """The fields of a line as ingest sees them."""
    text = np.frombuffer(bytearray(line.removeprefix(BOM).rstrip(b"\r\n") + b"\n"), np.uint8)
    by = np.frombuffer(sep, np.uint8)
    fields: list[bytes] = []
    at = 0
    while True:
        start, stop, at, problem = find_field(text, at, by, quoted)
        fields.append(text[start:stop].tobytes())
        if not sep:
            at = skip_blanks(text, at, by)
        if problem or text[at] == NEWLINE:
            return fields
        at += len(sep)


def _guess_sep(line: bytes) -> bytes:
    return next((sep for sep in SEPARATORS if sep in line), b"")


def _plain(name: bytes) -> str:
    """A column's name without its RecBole type, case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.decode("utf-8", "replace").split(":")[0].lower())


def _place(names: Sequence[str], known: Sequence[str]) -> int:
    return next((k for k, name in enumerate(names) if name in known), -1)


def _is_header(fields: Sequence[bytes]) -> bool:
    names = [_plain(field) for field in fields]
    if _place(names, USER) >= 0 and _place(names, ITEM) >= 0:
        return True
    # a line of empty fields is a row of a table without any rating
    return len(fields) > 2 and any(fields) and not any(_NUMBER.fullmatch(field) for field in fields)


def _find_columns(
    n_fields: int, header: Sequence[bytes], given: tuple[str, ...] | None, where: str
) -> Columns:
    if given is not None:
        if len(given) > n_fields:
            raise InputError(f"{where} has {n_fields} fields, --columns names {len(given)}")
        return Columns(n_fields, given.index("user"), given.index("item"), _place(given, ("value",)))
    names = [_plain(name) for name in header]
    user, item, value = (_place(names, known) for known in (USER, ITEM, VALUE))
    if user < 0 or item < 0:
        return Columns(n_fields, 0, 1, 2 if n_fields > 2 else -1)
    if value < 0:
        others = [k for k, name in enumerate(names) if k not in (user, item) and name not in TIME]
        value = others[0] if others else -1
    return Columns(n_fields, user, item, value)


def _market_layout(path: str) -> RatingsLayout:
    header = read_header(path)
    if header.mirror:
        raise InputError(f"{path} is a symmetric matrix, which holds half of its ratings; ingest it as mtx")
    columns = Columns(2, 0, 1, -1) if header.pattern else Columns(3, 0, 1, 2)
    return RatingsLayout(b"", False, columns, header.n_lines, header.n_bytes, header.n_entries)
