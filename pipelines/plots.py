"""Plots of the experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STYLES = ("-", "--", ":", "-.")
N_COLOURS = 10


class Panel(NamedTuple):
    """One set of axes: the rows of a dataset, a line per method."""

    dataset: str
    x: str
    y: str
    log: bool = True
    """Whether axes are logarithmic; then only positive values are drawn."""


def objective_against_time(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """A panel per dataset, a line per method, both axes logarithmic; rows as `pipelines.mlr` writes them."""
    names = dict.fromkeys(row["dataset"] for row in rows)
    return curves(rows, [Panel(name, "seconds", "objective") for name in names], path)


def curves(
    rows: Sequence[Mapping[str, Any]], panels: Sequence[Panel], path: Path, n_columns: int = 3
) -> Path:
    """Panels in lines of ``n_columns``; a method has the same style in all of them.

    Rows have ``dataset`` and ``method``, and points of a line are drawn in their order.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(row["method"] for row in rows))
    n_columns = min(n_columns, len(panels))
    n_lines = math.ceil(len(panels) / n_columns)
    figure = Figure(figsize=(5 * n_columns, 4 * n_lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid, panels, strict=False):
        for number, method in enumerate(methods):
            _draw_line(axes, number, method, points_of(rows, panel, method))
        axes.set(title=panel.dataset, xlabel=panel.x, ylabel=panel.y)
        if panel.log:
            axes.set(xscale="log", yscale="log")
        if axes.has_data():
            axes.legend(fontsize="x-small")
    figure.savefig(path, dpi=120)
    return path


def points_of(rows: Sequence[Mapping[str, Any]], panel: Panel, method: str) -> list[tuple[float, float]]:
    """What is drawn of a method in a panel."""
    drawn = []
    for row in rows:
        if row["dataset"] == panel.dataset and row["method"] == method:
            x, y = row.get(panel.x), row.get(panel.y)
            if all(_is_number(v) and (v > 0 or not panel.log) for v in (x, y)):
                drawn.append((float(x), float(y)))  # type: ignore[arg-type]
    return drawn


def _draw_line(axes: Any, number: int, method: str, points: list[tuple[float, float]]) -> None:
    if not points:
        return
    theirs = method.startswith("sklearn-")
    axes.plot(
        *zip(*points, strict=True),
        "--" if theirs else STYLES[number // N_COLOURS % len(STYLES)],
        marker="x" if theirs else "o",
        markersize=3,
        color=f"C{number % N_COLOURS}",
        label=method,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
