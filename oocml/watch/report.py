"""The report of a run: one HTML file that holds everything it shows and works offline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

from tqdm import tqdm

from oocml.config import format_size, used_settings
from oocml.engine.events import EpochDone, Event, Notice, RunStarted, TaskDone, TaskLost, WorkerShare
from oocml.engine.summary import top_text
from oocml.watch.jsonl import Logged, read_events

KINDS = ("kernel", "read", "write", "idle")
COLOURS = {"kernel": "#1f6aa8", "read": "#5fb0a5", "write": "#e8871e", "idle": "#d5dbe1"}
MAX_LOST = 200
"""Lost workers listed; the rest is counted."""

Row = Mapping[str, Any]


def write_report(
    summary: Mapping[str, Any],
    history: Sequence[Row],
    events: Iterable[Event | Logged] | str | PathLike[str],
    out: str | PathLike[str],
) -> Path:
    """Write a run's report as one HTML file.

    Parameters
    ----------
    summary
        The keys of ``oocml train --json`` (``epochs``, ``seconds``, ``objective``, ``peak_memory_bytes``,
        ``planned_memory_bytes``, ...), and where known ``model``, ``run``, ``layout`` and ``plan``; what is missing
        is left out of the page. ``top_columns``: `oocml.engine.summary.summarize`.
    history
        A row for every epoch: ``epoch``, ``seconds``, ``objective``, ``valid`` (metrics by name, or None), and
        where known ``read_bytes`` and ``write_bytes`` (else they come from the events).
    events
        The run's events, or the path of its event log.
    out
        The file to write.

    Returns
    -------
    Path
        Of the file written.
    """
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment
    from markupsafe import Markup

    # Here, not above: Bokeh costs time and memory that a training shouldn't pay for its report's time shares.
    from oocml.watch.report_plots import plots

    log = _events(events)
    rows = _epoch_rows(history, log)
    shares = worker_shares(log)
    figures = plots(rows, summary)
    script, divs = components(figures, wrap_script=True) if figures else ("", ())
    template = Environment(autoescape=True).from_string(
        files("oocml.watch").joinpath("report.html").read_text(encoding="utf-8")
    )
    started = next((e for e in reversed(log) if isinstance(e, RunStarted)), None)
    model = summary.get("model") or (started.model if started else "training")
    lost = [event for event in log if isinstance(event, TaskLost)]
    page = template.render(
        title=f"{model}: {summary.get('epochs', len(rows))} epochs",
        run=summary.get("run") or (started.run if started else ""),
        # Only the core of BokehJS: widgets and tables would triple the file.
        resources=Markup(Resources(mode="inline", components=["bokeh"]).render()),
        script=Markup(script),
        plots=[Markup(div) for div in divs],
        cards=_cards(summary, rows),
        predictions=_predictions(summary),
        shares=_bar(shares),
        workers=_worker_rows(shares),
        lost=_lost_rows(lost),
        parts=_part_tables(summary.get("top_columns") or {}),
        notices=dict.fromkeys(event.text for event in log if isinstance(event, Notice)),
        **_epoch_table(rows),
        config=_flat(_config(summary, started)),
        layout=_flat(_layout(summary, started)),
    )
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def worker_shares(events: Iterable[Event]) -> dict[str, WorkerShare]:
    """What every worker did in all passes together, by address, from its shares or its single tasks."""
    log = list(events)
    # A log written with every task holds their sums as well: only one of the two may count.
    kind = WorkerShare if any(isinstance(event, WorkerShare) for event in log) else TaskDone
    total: dict[str, WorkerShare] = {}
    for event in log:
        if not isinstance(event, kind):
            continue
        now = total.get(event.worker) or WorkerShare("", 0, event.worker, 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0)
        added = {name: getattr(now, name) + getattr(event, name) for name in _SUMS}
        n_tasks = event.n_tasks if isinstance(event, WorkerShare) else 1
        total[event.worker] = dataclasses.replace(now, n_tasks=now.n_tasks + n_tasks, **added)
    return total


_SUMS = ("kernel_s", "read_s", "write_s", "idle_s", "read_bytes", "write_bytes", "updates", "visits")


def time_shares(events: Iterable[Event]) -> dict[str, float]:
    """Fractions of all workers' time in ``kernel``, ``read``, ``write`` and ``idle``; empty if nothing was timed."""
    seconds = dict.fromkeys(KINDS, 0.0)
    for share in worker_shares(events).values():
        for kind in KINDS:
            seconds[kind] += getattr(share, f"{kind}_s")
    total = sum(seconds.values())
    return {kind: value / total for kind, value in seconds.items()} if total > 0 else {}


def _events(events: Iterable[Event | Logged] | str | PathLike[str]) -> list[Event]:
    given = read_events(events) if isinstance(events, str | PathLike) else events
    return [item.event if isinstance(item, Logged) else item for item in given]


def _epoch_rows(history: Sequence[Row], log: Iterable[Event]) -> list[dict[str, Any]]:
    """The history, with what it doesn't hold of the last event of each epoch."""
    told = {event.number: event for event in log if isinstance(event, EpochDone)}
    names = ("read_bytes", "write_bytes", "best")
    extra = {number: {name: getattr(event, name) for name in names} for number, event in told.items()}
    return [{**extra.get(row["epoch"], {}), **row} for row in history]


def _cards(summary: Mapping[str, Any], rows: Sequence[Row]) -> list[tuple[str, str]]:
    cards = [("epochs", str(summary.get("epochs", len(rows))))]
    if "seconds" in summary:
        cards.append(("seconds of training", f"{summary['seconds']:.1f}"))
    if "startup_seconds" in summary:
        cards.append(("seconds to start", f"{summary['startup_seconds']:.1f}"))
    if summary.get("objective") is not None:
        cards.append(("objective", f"{summary['objective']:.6g}"))
    last_valid = next((row["valid"] for row in reversed(rows) if row.get("valid")), {})
    cards += [(f"valid {name}, last epoch", f"{value:.5g}") for name, value in last_valid.items()][:2]
    if summary.get("updates_per_s"):
        cards.append(("updates per second", tqdm.format_sizeof(summary["updates_per_s"])))
    if summary.get("peak_memory_bytes"):
        cards.append(("peak memory", format_size(summary["peak_memory_bytes"])))
    return cards


def _predictions(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    table = []
    for name, planned, measured, limit in (
        ("memory", "planned_memory_bytes", "peak_memory_bytes", 1.0),
        ("read", "planned_read_bytes", "read_bytes", 1.1),
        ("written", "planned_write_bytes", "write_bytes", 1.1),
    ):
        p, m = summary.get(planned), summary.get(measured)
        spared = summary.get("spared_write_bytes", 0) if name == "written" else 0
        ratio = (m + spared) / p if p and m is not None else None
        table.append(
            {
                "name": name,
                "planned": "" if p is None else format_size(p),
                "measured": ("" if m is None else format_size(m))
                + (f", {format_size(spared)} superseded before they were due" if spared else ""),
                "ratio": "" if ratio is None else f"{ratio:.3f}",
                "over": ratio is not None and ratio > limit,
            }
        )
    return table


def _bar(shares: Mapping[str, WorkerShare]) -> list[dict[str, Any]]:
    return [
        {"name": kind, "percent": f"{100 * part:.1f}", "colour": COLOURS[kind]}
        for kind, part in time_shares(shares.values()).items()
    ]


def _worker_rows(shares: Mapping[str, WorkerShare]) -> list[list[str]]:
    return [
        [worker, str(s.n_tasks)]
        + [f"{getattr(s, f'{kind}_s'):.1f}" for kind in KINDS]
        + [format_size(s.read_bytes), format_size(s.write_bytes)]
        for worker, s in sorted(shares.items())
    ]


def _part_tables(parts: Mapping[str, Sequence[Row]]) -> dict[str, list[list[str]]]:
    return {
        what: [[str(part["number"]), f"{part['share']:.3%}", top_text(part["top"])] for part in found]
        for what, found in parts.items()
    }


def _lost_rows(lost: Sequence[TaskLost]) -> list[tuple[str, str, str]]:
    rows = [(event.worker, event.task, event.reason) for event in lost[:MAX_LOST]]
    more = len(lost) - len(rows)
    return [*rows, (f"and {more} more", "", "")] if more else rows


def _epoch_table(rows: Sequence[Row]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(name for row in rows for name in row.get("valid") or {}))
    sizes = [name for name in ("read_bytes", "write_bytes") if any(name in row for row in rows)]
    table = []
    for row in rows:
        valid = row.get("valid") or {}
        cells = [str(row["epoch"]), f"{row['seconds']:.2f}", f"{row['objective']:.6g}"]
        cells += [f"{valid[name]:.5g}" if name in valid else "" for name in metrics]
        table.append(cells + [format_size(row[name]) if name in row else "" for name in sizes])
    titles = {"read_bytes": "read", "write_bytes": "written"}
    columns = ["epoch", "seconds", "objective", *(f"valid {name}" for name in metrics)]
    return {"epoch_columns": columns + [titles[name] for name in sizes], "epoch_rows": table}


def _config(summary: Mapping[str, Any], started: RunStarted | None) -> Mapping[str, Any]:
    """The configuration, with the settings as they are used and who decided them."""
    config = summary.get("config")
    if not config:
        return started.config if started else {}
    rest = {
        name: value for name, value in config.items() if name not in ("given_settings", "chosen_settings")
    }
    return {**rest, "settings": {name: str(setting) for name, setting in used_settings(config).items()}}


def _layout(summary: Mapping[str, Any], started: RunStarted | None) -> dict[str, Any]:
    names = "n_rows n_features n_cols nnz n_row_blocks n_col_blocks n_panels tasks_per_epoch n_workers "
    names += "memory_bytes worker_memory_bytes"
    layout = {name: getattr(started, name) for name in names.split()} if started else {}
    plan = summary.get("plan") or (started.plan if started else {})
    return {**layout, **plan, **(summary.get("layout") or {})}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values as text, nested names with dots, byte counts with units."""
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            is_size = "bytes" in name or name.endswith("memory")
            lines.append((prefix + name, format_size(value) if is_size else f"{value:,}"))
        elif isinstance(value, float):
            lines.append((prefix + name, f"{value:.6g}"))
        elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 6:
            lines.append((prefix + name, f"{value[0]}, {value[1]}, ..., {value[-1]} ({len(value)} in all)"))
        else:
            lines.append((prefix + name, str(value)))
    return lines
