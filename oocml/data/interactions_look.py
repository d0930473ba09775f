"""Whether a file of interactions rather looks like one of ratings, whose values would all be taken for items."""

from __future__ import annotations

import re

from oocml.data.parts import open_stream, undamaged
from oocml.data.ratings_layout import check_sep, split_fields
from oocml.errors import InputError

N_LINES = 200
FEWEST_LINES = 5
LINE_BYTES = 1 << 16
FEW_VALUES = 10
"""Of a scale of stars, where items differ far more."""
_ADVICE = "all fields but the first become items; for values use `oocml ingest ratings`"
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def warning_of(path: str, sep: str | None = None) -> str | None:
    """What to tell whoever ingests a file as ``user item item ...`` lines; None where nothing is odd about it.

    Lists of items differ in length. Ratings have three or four fields in every line, the third a number, and give
    themselves away by a header, by fractions, by few distinct values beside many items, or by users that come back
    line after line. A file that cannot be read is left for ingest to refuse.
    """
    by = check_sep(sep) or b""
    try:
        with open_stream(path) as file, undamaged(path):
            read = (file.readline(LINE_BYTES) for _ in range(N_LINES))
            lines = [line for line in read if line.strip()]
    except (OSError, InputError):
        return None
    fields = [split_fields(line, by, False) for line in lines]
    if len(fields) <= FEWEST_LINES:
        return None
    if is_header(fields[0]) and all(map(is_number, (field for line in fields[1:] for field in line))):
        shown = lines[0].decode("utf-8", "replace").strip()[:60]
        return f"{path} begins with {shown!r}, which seems to be a header but is taken for interactions; {_ADVICE}"
    if are_ratings(fields):
        return f"{path} seems to have a user, an item and a value in every line; {_ADVICE}"
    return None


def are_ratings(fields: list[list[bytes]]) -> bool:
    """Whether lines of fields are users, items, values and maybe times."""
    n_fields = len(fields[0])
    if n_fields not in (3, 4) or any(len(line) != n_fields or not is_number(line[2]) for line in fields):
        return False
    users, items, values = (set(column) for column in list(zip(*fields, strict=True))[:3])
    fractions = any(not value.lstrip(b"+-").isdigit() for value in values)
    stars = len(values) <= FEW_VALUES and 4 * len(values) <= len(items)
    return fractions or stars or 2 * len(users) <= len(fields)


def is_number(field: bytes) -> bool:
    return _NUMBER.fullmatch(field) is not None


def is_header(fields: list[bytes]) -> bool:
    """Whether a line has several fields, and none is a number."""
    return len(fields) > 1 and not any(map(is_number, fields))
