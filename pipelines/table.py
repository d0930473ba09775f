"""What a pipeline leaves behind: tables on the screen, CSV files, and figures held against their goals."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One figure that somebody set a goal for."""

    what: str
    value: float
    goal: float | None = None
    at_least: bool = True
    """Whether the goal is a lower bound."""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def row(self) -> Row:
        sign = ">=" if self.at_least else "<="
        goal = "" if self.goal is None else f"{sign} {self.goal:g}"
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return {"what": self.what, "value": self.value, "goal": goal, "met": met}


@dataclass
class Section:
    """The outcome of one part of a benchmark."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, value: float, goal: float | None = None) -> None:
        """Hold a figure against its goal, a lower bound."""
        self.findings.append(Finding(what, value, goal))

    def show(self) -> None:
        click.echo(f"\n== {self.name}: {self.title}")
        show_rows(self.rows)
        if self.findings:
            click.echo("")
            show_rows([finding.row() for finding in self.findings])
        for note in self.notes:
            click.echo(f"note: {note}")

    def write(self, folder: Path) -> list[Path]:
        """``NAME.csv`` and, where there are goals, ``NAME-findings.csv``."""
        written = [write_csv(self.rows, folder / f"{self.name}.csv")]
        if self.findings:
            rows = [finding.row() for finding in self.findings]
            written.append(write_csv(rows, folder / f"{self.name}-findings.csv"))
        return written


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Every key, in the order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write_csv(rows: Sequence[Row], path: Path) -> Path:
    """Write rows under the union of their keys; what a row lacks stays empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns_of(rows))
        writer.writeheader()
        writer.writerows(rows)
    return path


def show_rows(rows: Sequence[Row]) -> None:
    """Print rows as a table with aligned columns."""
    names = columns_of(rows)
    cells = [names, *([cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def cell(value: Any) -> str:
    """A value as the tables show it: four significant digits."""
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
