"""What verbs print: one JSON object, or text for people. Standard output holds nothing else."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

from oocml.config import UNSET, format_size

INLINE_ITEMS = 12
"""A list or mapping of more items is summed up by its length when printed for people."""
OF_SETTINGS = ("settings", "given_settings", "chosen_settings")
"""Keys of what is told of a run."""
SIZE_NAMES = {"bytes", "memory", "task_memory"}


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """Send whatever is printed inside to standard error, that of child processes and C code too."""
    try:
        real = sys.stdout.fileno()
    except (AttributeError, io.UnsupportedOperation):
        with redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    kept = os.dup(real)
    os.dup2(sys.stderr.fileno(), real)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, real)
        os.close(kept)


def to_json(value: Any) -> str:
    return json.dumps(plain(value), allow_nan=False)


def plain(value: Any) -> Any:
    """``value`` in types that JSON has: numpy scalars and arrays unpacked, non-finite numbers as null."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy, without importing it
        return plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return str(value)


def show_values(values: Mapping[str, Any]) -> None:
    """Print names and values, one a line; lists of records become tables after them."""
    tables = {name: value for name, value in values.items() if _is_table(value)}
    lines = {name: _text(name, value) for name, value in values.items() if name not in tables}
    width = max(map(len, lines), default=0)
    for name, text in lines.items():
        click.echo(f"{name:<{width}}  {text}")
    for name, records in tables.items():
        click.echo(f"\n{name}")
        show_table(records)


def show_training(summary: Mapping[str, Any]) -> None:
    """Print what `train` answers: settings instead of all the configuration, one score an epoch."""
    config = summary.get("config") or {}
    metric = (config.get("validation") or {}).get("metric")
    history = []
    for epoch in summary.get("history", ()):
        scores = epoch.get("valid")
        valid = {f"valid {metric}": scores.get(metric)} if scores else {}
        history.append({name: value for name, value in epoch.items() if name != "valid"} | valid)
    shown = {name: value for name, value in summary.items() if name not in ("config", "history")}
    show_run({**shown, "history": history})


def show_run(values: Mapping[str, Any]) -> None:
    """Print what is told of a run: a line for each setting, with who decided if it was not the default."""
    shown = {name: value for name, value in values.items() if name not in OF_SETTINGS}
    for name, value in values.get("settings", {}).items():
        by = [who for who in ("given", "chosen") if name in values.get(f"{who}_settings", ())]
        value = UNSET if value is None else value
        shown[f"set {name}"] = f"{_text(name, value)} ({by[0]})" if by else value
    show_values(shown)


def show_table(records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Print records under aligned headings; numbers stand to the right."""
    if columns is None:
        columns = list(dict.fromkeys(name for record in records for name in record))
    cells = [[_text(name, record.get(name)) for name in columns] for record in records]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    is_number = [all(isinstance(r.get(name), int | float | None) for r in records) for name in columns]
    for row in [list(columns), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _is_size(name: str) -> bool:
    return name in SIZE_NAMES or name.endswith(("_bytes", "_bytes_per_epoch")) or name.startswith("bytes_")


def _is_table(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _text(name: str, value: Any) -> str:
    value = plain(value)
    if value is None or value == {} or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and _is_size(name):
        return format_size(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        short = len(value) <= INLINE_ITEMS
        return " ".join(f"{k}={_text(k, v)}" for k, v in value.items()) if short else f"{len(value)} entries"
    if isinstance(value, list):
        return (
            ", ".join(_text("", v) for v in value) if len(value) <= INLINE_ITEMS else f"{len(value)} entries"
        )
    return str(value)
