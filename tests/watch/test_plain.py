import io
import shlex
from dataclasses import replace

import pytest

from oocml.engine.events import EpochDone, PassStarted, RunStopped, TaskDone
from oocml.watch.plain import PlainLines, format_fields


def lines_of(events, **settings) -> list[dict[str, str]]:
    stream = io.StringIO()
    monitor = PlainLines(stream, **settings)
    for event in events:
        monitor(event)
    text = stream.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    # shlex undoes the quotes that values with blanks have.
    return [dict(part.split("=", 1) for part in shlex.split(line)) for line in text.splitlines()]


def test_one_line_an_epoch_with_rates_objective_and_time_left(recorded):
    epochs = [line for line in lines_of(recorded) if "epoch" in line]
    assert [line["epoch"] for line in epochs] == ["1/3", "2/3", "3/3"]
    assert [float(line["objective"]) for line in epochs] == [1.25, 0.75, 0.5]
    second = {name: float(value) for name, value in epochs[1].items() if name not in ("epoch", "best")}
    assert second["seconds"] == 12.0
    assert second["updates_per_s"] == 240_000 / 6
    assert second["nnz_per_s"] == 6000 / 6
    assert second["read_MB_per_s"] == pytest.approx(0.002)
    assert second["write_MB_per_s"] == pytest.approx(0.001)
    assert second["eta_s"] == 6.0
    assert second["valid_accuracy"] == pytest.approx(0.7)
    assert "eta_s" not in epochs[2]
    assert epochs[2]["exact"] == "true"


def test_of_many_scores_only_the_one_compared_is_on_the_line(recorded):
    scores = {"accuracy": 0.5, "log_loss": 0.25}
    events = [replace(event, valid=scores) if isinstance(event, EpochDone) else event for event in recorded]
    events[0] = replace(recorded[0], metric="log_loss")
    for line in (line for line in lines_of(events) if "epoch" in line):
        assert [name for name in line if name.startswith("valid_")] == ["valid_log_loss"]


def test_first_line_tells_the_plan_and_where_to_watch(recorded):
    first = lines_of(recorded[:1])[0]
    assert first["dashboard"] == "http://127.0.0.1:8787/oocml"
    assert first["memory"] == "700 MiB"
    assert first["planned_memory"] == "600 MiB"
    assert first["run"] == "/data/my run.zarr"


def test_lost_workers_notices_and_the_end_have_their_lines(recorded):
    lines = lines_of([*recorded, RunStopped("early stopping after 3 epochs")])
    assert [line["lost_worker"] for line in lines if "lost_worker" in line] == ["tcp://127.0.0.1:4002"]
    assert [line["notice"] for line in lines if "notice" in line] == [
        "1 worker idles: a sub-epoch has 1 task"
    ]
    assert lines[-2]["peak_memory"] == "512 MiB"
    assert lines[-1] == {"stopped": "early stopping after 3 epochs"}


def test_a_long_epoch_still_shows_life(recorded):
    time = iter(range(10_000))
    lines = lines_of(recorded, quiet_s=4, clock=lambda: float(next(time)))
    alive = [line for line in lines if "tasks" in line and "pass" in line]
    assert alive[0] == {"pass": "visit", "of_epoch": "1", "tasks": "4/12"}
    assert len([line for line in lines if "epoch" in line]) == 3


def test_tasks_are_counted_within_their_pass(recorded):
    """An epoch may have several passes, and passes before its own."""
    task = next(event for event in recorded if isinstance(event, TaskDone))
    start = [PassStarted(1, "start", 1, 2), *[replace(task, pass_name="start")] * 2]
    visit = [PassStarted(2, "visit", 1, 3), *[replace(task, pass_name="visit")] * 3]
    lines = lines_of([recorded[0], *start, *visit], quiet_s=0)
    shown = [(line["pass"], line["tasks"]) for line in lines if "tasks" in line]
    assert shown == [("start", "1/2"), ("start", "2/2"), ("visit", "1/3"), ("visit", "2/3"), ("visit", "3/3")]


def test_the_first_epoch_of_a_resumed_run_has_the_rates_of_its_own_driver(recorded):
    later = [event for event in recorded[1:] if getattr(event, "number", 2) >= 2]
    first = next(event for event in later if isinstance(event, EpochDone))
    resumed = replace(recorded[0], resumed_from=1, seconds_before=first.seconds - 0.5)
    epochs = [line for line in lines_of([resumed, *later]) if "epoch" in line]
    assert float(epochs[0]["updates_per_s"]) == pytest.approx(first.updates / 0.5, rel=1e-5)
    assert "nnz_per_s" not in epochs[0], "a part of it may have been done before"
    assert "eta_s" not in epochs[0]
    assert "nnz_per_s" in epochs[1]


def test_an_epoch_that_an_earlier_driver_did_has_no_rates(recorded):
    later = [event for event in recorded[1:] if getattr(event, "number", 2) >= 2]
    at = next(i for i, event in enumerate(later) if isinstance(event, EpochDone))
    later[at] = replace(later[at], updates=0, read_bytes=0, write_bytes=0, extra={"loss": 0.5})
    resumed = replace(recorded[0], resumed_from=1, seconds_before=later[at].seconds)
    epochs = [line for line in lines_of([resumed, *later]) if "epoch" in line]
    assert not [name for name in epochs[0] if name.endswith("_per_s")]
    assert epochs[0]["loss"] == "0.5"
    assert "updates_per_s" in epochs[1]


def test_the_first_line_tells_all_settings_and_who_decided_them(recorded):
    settings = {"l2": 1e-5, "solver": "ds", "learning_rate": 4.0, "polish": 2}
    start = replace(recorded[0], config=settings, given=["l2", "polish"], chosen=["learning_rate"])
    [first] = lines_of([start])
    assert first["given"] == "l2=1e-05 polish=2"
    assert first["chosen"] == "learning_rate=4"
    assert first["defaults"] == "solver=ds"


def test_values_keep_to_one_line_and_one_word():
    assert format_fields({"a": "x\ny", "b": "", "c": 'q"', "d": 1e-9}) == r'a="x\ny" b="" c="q\"" d=1e-09'
