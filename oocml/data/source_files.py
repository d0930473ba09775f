"""A source as the file, or the folder of files (an AnnData store), that it is: size, fingerprint, contents."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from oocml.errors import InputError


def iter_files(path: str) -> Iterator[str]:
    """The file itself, or all files below a folder in a fixed order."""
    if not os.path.isdir(path):
        yield path
        return
    for where, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(where, name)


def source_bytes(path: str) -> int:
    """Size of a source."""
    return sum(os.path.getsize(file) for file in iter_files(path))


def fingerprint(path: str) -> list[Any]:
    """Path, size and time of the last change: what tells that a source is still the same.

    Raises
    ------
    InputError
        It is missing or unreadable.
    """
    try:
        stats = [os.stat(file) for file in iter_files(path)]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return [
        os.path.abspath(path),
        sum(stat.st_size for stat in stats),
        max((stat.st_mtime_ns for stat in stats), default=0),
    ]
