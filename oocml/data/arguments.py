"""What an ingest was asked for, as its dataset records it: a repeated one can tell whether it is asked the same."""

from __future__ import annotations

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


def recorded(format: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an ingest that decide what is stored, those of its reader with their defaults.

    Other files that an argument names are known by their names alone: a dataset says nothing of folders.
    """
    parameters = inspect.signature(reader_class(format)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    asked = {name: value for name, value in {**defaults, **options}.items() if name not in NOT_RECORDED}
    return {name: _plain(value) for name, value in sorted(asked.items()) if value is not None}


def difference(format: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    """The first argument that is another one than on record, in words; None if all are the same."""
    asked = recorded(format, options)
    for name in sorted({*known, *asked}):
        if known.get(name) != asked.get(name):
            return f"{name}={known.get(name)}, not {asked.get(name)}"
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else str(value)
    return os.path.basename(text) if os.path.isfile(text) else text
