"""The scheduler's side of the dashboard: the page ``/oocml`` and the same facts as ``/oocml.json``.

This module and `oocml.watch.run_view` are pickled by value and shipped to the scheduler, which may run where oocml
isn't installed. So they import nothing else of oocml, and Bokeh only if the scheduler serves Dask's own dashboard.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from distributed.diagnostics.plugin import SchedulerPlugin

from oocml.watch.run_view import RunView

TOPIC = "oocml"
MAX_GROUPS = 64
"""Task groups counted, newest first to stay."""
PERIOD_MS = 500


class TrainingPage(SchedulerPlugin):
    """Follows oocml's tasks on the scheduler, hears the driver on a topic, and serves both."""

    name = "oocml"
    idempotent = True

    def __init__(self) -> None:
        self.view = RunView()
        self.in_flight: dict[Any, tuple[int, int]] = {}
        """First row and column block of every task handed to a worker, by key."""
        self.done: dict[str, int] = {}
        """Tasks finished, by group (the model, the pass and the epoch)."""
        self.scheduler: Any = None
        self.app: Any = None

    async def start(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        scheduler.http_application.add_handlers(r".*", [(r"/oocml\.json", json_handler(self))])
        # Dask's own dashboard means that Bokeh is loaded already: it costs some 20 MB of memory.
        if any(hasattr(app, "app_paths") for app in scheduler.http_application.applications):
            self.app = serve_page(self, scheduler)

    async def close(self) -> None:
        if self.app is not None:
            self.app.stop()

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        if not is_task(key):
            return
        if finish == "processing":
            self.in_flight[key] = key[1:3]
        elif start == "processing":
            self.in_flight.pop(key, None)
            if finish == "memory":
                self.done[key[0]] = self.done.get(key[0], 0) + 1
                while len(self.done) > MAX_GROUPS:
                    del self.done[next(iter(self.done))]

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == TOPIC:
            self.view.apply(msg)

    def workers(self) -> list[dict[str, Any]]:
        """Address, resident bytes and budget of every worker on the scheduler."""
        budget = self.view.start.get("worker_memory_bytes", 0)
        return [
            {
                "address": address,
                "memory_bytes": int(state.metrics.get("memory", 0)),
                "budget_bytes": budget,
                "tasks": len(state.processing),
            }
            for address, state in self.scheduler.workers.items()
        ]

    def facts(self) -> dict[str, Any]:
        """What ``/oocml.json`` answers."""
        view = self.view
        return {
            **view.start,
            **view.progress,
            "grid": {"epochs": view.grid.tolist(), "blocks_per_cell": list(view.scale)},
            "in_flight": [list(view.rectangle(*block)) for block in self.in_flight.values()],
            "tasks_done": dict(self.done),
            "history": list(view.history),
            "workers": self.workers(),
        }


def served_name(dask_scheduler: Any) -> str:
    """What to ask a scheduler for that has the plugin: the page, or the JSON where there is no page."""
    return "oocml" if dask_scheduler.plugins[TrainingPage.name].app is not None else "oocml.json"


def is_task(key: Any) -> bool:
    """Whether a key is ours: (model-pass-epochN, first row block, first column block, stamp)."""
    return (
        isinstance(key, tuple)
        and len(key) == 4
        and isinstance(key[0], str)
        and "-epoch" in key[0]
        and all(isinstance(part, int) for part in key[1:])
    )


def json_handler(page: TrainingPage) -> type:
    from tornado.web import RequestHandler

    class Facts(RequestHandler):
        def get(self) -> None:
            self.write(page.facts())

    return Facts


def serve_page(page: TrainingPage, scheduler: Any) -> Any:
    """Add the Bokeh page beside Dask's own; None where Bokeh's server can't be had."""
    try:
        from distributed.dashboard.core import BokehApplication
        from tornado.ioloop import IOLoop
    except ImportError:
        return None

    def document(scheduler: Any, extra: Any, doc: Any) -> None:
        del scheduler, extra
        fill_document(page, doc)

    app = BokehApplication({"/oocml": document}, scheduler, prefix="")
    scheduler.http_application.add_application(app)
    app.initialize(IOLoop.current())
    app.start()
    return app


def fill_document(page: TrainingPage, doc: Any) -> None:
    """Four plots that follow the training: grid, objective, bytes per second, memory of the workers."""
    from bokeh.layouts import column, gridplot
    from bokeh.models import Div

    plots = [grid_plot(), curve_plot(), bytes_plot(), memory_plot()]
    title = Div(sizing_mode="stretch_width")

    def update() -> None:
        title.text = headline(page)
        for _, refresh in plots:
            refresh(page)

    update()
    figures = [figure for figure, _ in plots]
    grid = gridplot([figures[:2], figures[2:]], sizing_mode="stretch_both", toolbar_location=None)
    doc.title = "oocml"
    doc.add_root(column(title, grid, sizing_mode="stretch_both"))
    doc.add_periodic_callback(update, PERIOD_MS)


def headline(page: TrainingPage) -> str:
    from html import escape

    start, progress = page.view.start, page.view.progress
    if not start:
        return "<b>oocml</b>: no training has begun on this scheduler"
    history = page.view.history
    parts = [
        f"<b>{escape(start['model'])}</b> {escape(start['run'])}",
        f"epoch {progress.get('epoch', 0)} of {start['epochs']}",
        escape(progress.get("state", "running")),
        f"{len(page.in_flight)} tasks in flight",
        f"{progress.get('lost', 0)} lost",
    ]
    if history:
        parts.append(f"objective {history[-1]['objective']:.6g}")
    return " · ".join(parts)


def grid_plot() -> tuple[Any, Any]:
    """Row blocks by column blocks: blue by how far a cell is behind the newest epoch, orange in flight."""
    from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper
    from bokeh.plotting import figure

    cells = ColumnDataSource({"image": [], "epoch": [], "width": [], "height": []})
    busy = ColumnDataSource({"left": [], "right": [], "top": [], "bottom": []})
    plot = figure(
        title="blocks by epoch: darkest is the newest; orange is in flight",
        x_axis_label="column block",
        y_axis_label="row block",
        tools="",
    )
    plot.y_range.flipped = True
    plot.x_range.range_padding = plot.y_range.range_padding = 0
    mapper = LinearColorMapper(["#f4f4f4", "#dfe9f2", "#c3d9eb", "#8fbadb", "#1f6aa8"], low=0, high=4)
    image = plot.image("image", x=0, y=0, dw="width", dh="height", color_mapper=mapper, source=cells)
    plot.quad(
        "left",
        "right",
        "top",
        "bottom",
        source=busy,
        fill_alpha=0.85,
        fill_color="#e8871e",
        line_color="#e8871e",
    )
    plot.add_tools(HoverTool(tooltips=[("last epoch", "@epoch")], renderers=[image]))

    def refresh(page: TrainingPage) -> None:
        view = page.view
        behind = view.grid.max() - view.grid
        size = {"width": [view.start.get("n_col_blocks", 1)], "height": [view.start.get("n_row_blocks", 1)]}
        # 0 for a cell never visited, 4 for the newest epoch, 1 for three epochs ago and older.
        shade = np.where(view.grid == 0, 0, np.maximum(1, 4 - behind))
        cells.data = {"image": [shade], "epoch": [view.grid], **size}
        boxes = np.array([view.rectangle(*block) for block in page.in_flight.values()], int).reshape(-1, 4)
        busy.data = {"top": boxes[:, 0], "bottom": boxes[:, 1], "left": boxes[:, 2], "right": boxes[:, 3]}

    return plot, refresh


def curve_plot() -> tuple[Any, Any]:
    from bokeh.models import ColumnDataSource, HoverTool
    from bokeh.plotting import figure

    source = ColumnDataSource({"seconds": [], "objective": [], "epoch": []})
    plot = figure(
        title="objective", x_axis_label="seconds since the first dispatch", tools="pan,wheel_zoom,reset"
    )
    plot.line("seconds", "objective", source=source, line_width=2, color="#1f6aa8")
    dots = plot.scatter("seconds", "objective", source=source, size=6, color="#1f6aa8")
    plot.add_tools(
        HoverTool(tooltips=[("epoch", "@epoch"), ("objective", "@objective{0.000000}")], renderers=[dots])
    )

    def refresh(page: TrainingPage) -> None:
        history = list(page.view.history)
        source.data = {name: [row[name] for row in history] for name in ("seconds", "objective", "epoch")}

    return plot, refresh


def bytes_plot() -> tuple[Any, Any]:
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

    source = ColumnDataSource({"seconds": [], "read": [], "write": []})
    plot = figure(
        title="bytes asked of the store",
        x_axis_label="seconds since the driver's start",
        y_axis_label="MB per second",
        tools="pan,wheel_zoom,reset",
    )
    plot.line("seconds", "read", source=source, legend_label="read", line_width=2, color="#1f6aa8")
    plot.line("seconds", "write", source=source, legend_label="write", line_width=2, color="#e8871e")
    plot.y_range.start = 0
    plot.legend.location = "top_left"
    plot.legend.background_fill_alpha = 0.5

    def refresh(page: TrainingPage) -> None:
        source.data = page.view.megabytes_per_s()

    return plot, refresh


def memory_plot() -> tuple[Any, Any]:
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

    source = ColumnDataSource({"worker": [], "memory": [], "budget": [], "colour": []})
    plot = figure(
        title="resident memory of each worker and its budget", x_axis_label="MiB", y_range=[], tools=""
    )
    plot.hbar("worker", right="memory", height=0.6, source=source, color="colour")
    plot.scatter(
        "budget",
        "worker",
        marker="dash",
        angle=np.pi / 2,
        size=40,
        line_width=3,
        source=source,
        color="#c0392b",
    )
    plot.x_range.start = 0

    def refresh(page: TrainingPage) -> None:
        workers = page.workers()
        names = [w["address"] for w in workers]
        if plot.y_range.factors != names:
            plot.y_range.factors = names
        over = [w["budget_bytes"] and w["memory_bytes"] > w["budget_bytes"] for w in workers]
        source.data = {
            "worker": names,
            "memory": [w["memory_bytes"] / 2**20 for w in workers],
            "budget": [w["budget_bytes"] / 2**20 for w in workers],
            "colour": ["#c0392b" if too_much else "#5a9bcb" for too_much in over],
        }

    return plot, refresh
