import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

from oocml.engine.events import EpochDone, RunStarted, TaskDone
from oocml.watch.jsonl import JsonLines
from oocml.watch.report import time_shares, worker_shares, write_report

SUMMARY = {
    "model": "mlr",
    "run": "/data/<my> run.zarr",
    "epochs": 3,
    "seconds": 18.0,
    "startup_seconds": 1.5,
    "objective": 0.5,
    "read_bytes": 36_000_000,
    "write_bytes": 18_000_000,
    "planned_read_bytes": 36_000_000,
    "planned_write_bytes": 15_000_000,
    "peak_memory_bytes": 512 * 2**20,
    "planned_memory_bytes": 600 * 2**20,
    "updates_per_s": 40_000.0,
    "config": {
        "l2": 1e-5,
        "solver": "ds",
        "task_memory": 2**27,
        "layout": {"col_bounds": list(range(0, 90, 10))},
    },
}


class Page(HTMLParser):
    """Text of every table row, tags that are open at the end, and what would be fetched from elsewhere."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == name)


def history_of(recorded) -> list[dict]:
    keys = ("seconds", "objective", "valid", "best")
    return [
        {"epoch": e.number, **{key: asdict(e)[key] for key in keys}}
        for e in recorded
        if isinstance(e, EpochDone)
    ]


@pytest.fixture
def page(recorded, tmp_path) -> Page:
    path = write_report(SUMMARY, history_of(recorded), recorded, tmp_path / "new" / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def test_page_is_whole_and_asks_for_nothing_elsewhere(page):
    assert page.open == []
    assert page.fetched == []


def test_predicted_stands_beside_measured(page):
    assert page.row("memory") == ["memory", "600 MiB", "512 MiB", "0.853"]
    assert page.row("read")[3] == "1.000"
    assert page.row("written")[3] == "1.200"


def test_what_exceeds_its_prediction_is_marked(recorded, tmp_path):
    path = write_report(SUMMARY, history_of(recorded), recorded, tmp_path / "report.html")
    assert re.findall(r'class="over">([\d.]+)<', path.read_text()) == ["1.200"]


def test_epochs_settings_layout_and_lost_workers_are_there(page):
    assert page.row("2")[:4] == ["2", "12.00", "0.75", "0.7"]
    assert page.row("l2") == ["l2", "1e-05"]
    assert page.row("task_memory") == ["task_memory", "128 MiB"]
    assert page.row("layout.col_bounds") == ["layout.col_bounds", "0, 10, ..., 80 (9 in all)"]
    assert page.row("n_row_blocks") == ["n_row_blocks", "3"]
    assert page.row("memory_bytes") == ["memory_bytes", "700 MiB"]
    lost = next(row for row in page.rows if "worker died" in row)
    assert lost == ["tcp://127.0.0.1:4002", "('mlr-visit-epoch1', 0, 1, 7)", "worker died"]


def test_settings_are_shown_as_they_are_used(recorded, tmp_path):
    config = {
        "settings": {"l2": 1e-5, "polish": 0, "learning_rate": None},
        "given_settings": ["l2"],
        "chosen_settings": {"learning_rate": 4.0},
    }
    path = write_report({**SUMMARY, "config": config}, [], recorded, tmp_path / "report.html")
    found = Page(path.read_text())
    for name, text in (("l2", "1e-05 (given)"), ("polish", "0"), ("learning_rate", "4 (chosen)")):
        assert found.row(f"settings.{name}") == [f"settings.{name}", text]
    assert "chosen_settings" not in "".join(found.text)


def test_worker_time_is_shared_out(page, recorded):
    assert time_shares(recorded) == {"kernel": 0.5, "read": 0.25, "write": 0.125, "idle": 0.125}
    assert page.row("tcp://127.0.0.1:4001")[1:6] == ["18", "9.0", "4.5", "2.2", "2.2"]
    assert "kernel 50.0 %" in "".join(page.text)


def test_a_log_with_every_task_counts_none_twice(recorded, tmp_path):
    log = JsonLines(tmp_path / "events.jsonl", every_task=True)
    for event in recorded:
        log(event)
    log.close()
    path = write_report(SUMMARY, history_of(recorded), log.path, tmp_path / "report.html")
    assert Page(path.read_text()).row("tcp://127.0.0.1:4001")[1] == "18"


def test_names_from_outside_are_escaped(page):
    assert "/data/<my> run.zarr" in "".join(page.text)


def test_a_run_without_epochs_events_or_plan_still_has_a_page(tmp_path):
    path = write_report({"epochs": 0}, [], tmp_path / "no_log.jsonl", tmp_path / "report.html")
    text = "".join(Page(path.read_text()).text)
    assert "0 epochs" in text
    assert "None." in text


def test_nothing_timed_is_no_share(recorded):
    assert time_shares([]) == {}
    idle = [
        replace(e, kernel_s=0, read_s=0, write_s=0, idle_s=0) for e in recorded if isinstance(e, TaskDone)
    ]
    assert time_shares(idle) == {}
    assert worker_shares([e for e in recorded if isinstance(e, RunStarted)]) == {}
