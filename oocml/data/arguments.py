"""What an ingest was asked for, as its dataset records it: a repeated one can tell whether it is asked the same."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from typing import Any

from oocml.data.readers import reader_class

NOT_RECORDED = {
    # decide nothing about the rows
    *("memory", "workers", "client", "progress", "temp"),
    # recorded as the dataset's split
    *("share", "fraction", "split_seed"),
}


FILES = {
    "docword": ("vocab",),
    "ldac": ("vocab",),
    "npy": ("y",),
    "npz": ("y",),
    "mtx": ("y",),
}
"""Arguments by format that name other files; elsewhere ``y`` is the name of a column."""


def recorded(format: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an ingest that decide what is stored, those of its reader with their defaults.

    Another file that an argument names is known by its ``name`` without folders, its ``bytes`` and ``sha256``: a
    dataset says nothing of folders, and what decides the rows is what was in it. Of one that is gone only the name is.
    """
    parameters = inspect.signature(reader_class(format)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    asked = {name: value for name, value in {**defaults, **options}.items() if name not in NOT_RECORDED}
    files = FILES.get(format, ())
    return {
        name: _of_file(value) if name in files else _plain(value)
        for name, value in sorted(asked.items())
        if value is not None
    }


def difference(format: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    """The first argument that is another one than on record, in words; None if all are the same."""
    asked = recorded(format, options)
    for name in sorted({*known, *asked}):
        before, now = known.get(name), asked.get(name)
        if not _same(before, now):
            return f"{name}={_shown(before)}, not {_shown(now)}"
    return None


def _of_file(path: Any) -> dict[str, Any]:
    name = os.path.basename(os.fspath(path))
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"name": name, "bytes": file.tell(), "sha256": digest}
    except OSError:  # whoever reads it will say so
        return {"name": name}


def _same(before: Any, now: Any) -> bool:
    """Whether two values on record mean the same: files do if their bytes are, or one is gone and their names are."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return bool(before == now)
    key = "sha256" if "sha256" in before and "sha256" in now else "name"
    return bool(before[key] == now[key])


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    more = f" ({value['bytes']} bytes, sha256 {value['sha256'][:8]}...)" if "sha256" in value else ""
    return f"{value['name']}{more}"


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return os.fspath(value) if isinstance(value, str | os.PathLike) else str(value)
