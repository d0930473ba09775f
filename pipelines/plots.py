"""Plots of the experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def objective_against_time(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """A panel per dataset, a line per method, both axes logarithmic; rows as `pipelines.mlr` writes them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [row for row in rows if _is_positive(row.get("objective")) and _is_positive(row.get("seconds"))]
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in drawn))
    n_columns = min(3, len(names))
    n_lines = math.ceil(len(names) / n_columns)
    figure = Figure(figsize=(5 * n_columns, 4 * n_lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, names, strict=False):
        for number, method in enumerate(methods):
            points = [row for row in drawn if row["dataset"] == name and row["method"] == method]
            if points:
                ours = not method.startswith("sklearn-")
                axes.plot(
                    [row["seconds"] for row in points],
                    [row["objective"] for row in points],
                    "-" if ours else "--",
                    marker="o" if ours else "x",
                    markersize=3,
                    color=f"C{number}",
                    label=method,
                )
        axes.set(title=name, xlabel="seconds", ylabel="objective", xscale="log", yscale="log")
        if axes.has_data():
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    return path


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
