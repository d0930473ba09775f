"""The figures of the report, as Bokeh models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, Span
from bokeh.plotting import figure

from oocml.watch.report import COLOURS

SIZE = {"height": 300, "sizing_mode": "stretch_width", "toolbar_location": None}

Row = Mapping[str, Any]


def plots(rows: Sequence[Row], summary: Mapping[str, Any]) -> list[Any]:
    """Objective against time and epoch, validation metrics against epoch, bytes and seconds of each epoch."""
    if not rows:
        return []
    drawn = [
        objective_plot(rows, "seconds", "seconds since the first dispatch"),
        objective_plot(rows, "epoch", "epoch"),
    ]
    metrics = dict.fromkeys(name for row in rows for name in row.get("valid") or {})
    drawn += [valid_plot(rows, name) for name in metrics]
    if any(row.get("read_bytes") is not None for row in rows):
        drawn.append(bytes_plot(rows, summary))
    drawn.append(seconds_plot(rows))
    return drawn


def objective_plot(rows: Sequence[Row], x: str, label: str) -> Any:
    plot = figure(title=f"objective by {x}", x_axis_label=label, tools="", **SIZE)
    source = ColumnDataSource(
        {name: [row[name] for row in rows] for name in ("epoch", "seconds", "objective")}
    )
    _line(plot, source, x, "objective", COLOURS["kernel"])
    tips = [("epoch", "@epoch"), ("seconds", "@seconds{0.0}"), ("objective", "@objective{0.000000}")]
    plot.add_tools(HoverTool(tooltips=tips))
    return plot


def valid_plot(rows: Sequence[Row], metric: str) -> Any:
    """One metric of the validation set; the best epoch has a ring."""
    known = [row for row in rows if (row.get("valid") or {}).get(metric) is not None]
    source = ColumnDataSource(
        {
            "epoch": [row["epoch"] for row in known],
            "value": [row["valid"][metric] for row in known],
        }
    )
    plot = figure(title=f"validation: {metric}", x_axis_label="epoch", tools="", **SIZE)
    _line(plot, source, "epoch", "value", COLOURS["read"])
    best = [row for row in known if row.get("best")]
    if best:
        x, y = best[-1]["epoch"], best[-1]["valid"][metric]
        plot.scatter([x], [y], size=15, fill_alpha=0, line_width=2, line_color=COLOURS["write"])
    plot.add_tools(HoverTool(tooltips=[("epoch", "@epoch"), (metric, "@value{0.00000}")]))
    return plot


def bytes_plot(rows: Sequence[Row], summary: Mapping[str, Any]) -> Any:
    """Bytes of every epoch in MB, with the plan's mean as dashed lines."""
    plot = figure(
        title="bytes per epoch (dashed: as planned)",
        x_axis_label="epoch",
        y_axis_label="MB",
        tools="",
        **SIZE,
    )
    known = [row for row in rows if row.get("read_bytes") is not None]
    epochs = [row["epoch"] for row in known]
    for shift, kind, name in ((-0.2, "read", "read_bytes"), (0.2, "write", "write_bytes")):
        sizes = [row.get(name, 0) / 1e6 for row in known]
        plot.vbar([e + shift for e in epochs], top=sizes, width=0.36, color=COLOURS[kind], legend_label=kind)
        planned = (summary.get("plan") or {}).get(f"{name}_per_epoch")
        if planned is None and summary.get(f"planned_{name}") is not None:
            planned = summary[f"planned_{name}"] / max(1, len(rows))
        if planned is not None:
            line = Span(
                location=planned / 1e6, dimension="width", line_color=COLOURS[kind], line_dash="dashed"
            )
            plot.add_layout(line)
    plot.y_range.start = 0
    _legend(plot)
    return plot


def seconds_plot(rows: Sequence[Row]) -> Any:
    """Training seconds of every epoch."""
    ends = [row["seconds"] for row in rows]
    seconds = [end - begin for begin, end in zip([0.0, *ends[:-1]], ends, strict=True)]
    plot = figure(title="seconds per epoch", x_axis_label="epoch", tools="", **SIZE)
    plot.vbar([row["epoch"] for row in rows], top=seconds, width=0.8, color=COLOURS["kernel"])
    plot.y_range.start = 0
    return plot


def _line(plot: Any, source: ColumnDataSource, x: str, y: str, colour: str) -> None:
    plot.line(x, y, source=source, line_width=2, color=colour)
    plot.scatter(x, y, source=source, size=6, color=colour)


def _legend(plot: Any) -> None:
    plot.legend.orientation = "horizontal"
    plot.legend.background_fill_alpha = 0.6
    plot.add_layout(plot.legend[0], "above")
