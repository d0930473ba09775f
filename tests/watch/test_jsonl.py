import json
from pathlib import Path

import pytest

from oocml.engine.events import EpochDone, PassDone, RunDone, TaskDone, WorkerShare
from oocml.watch.jsonl import JsonLines, read_events


def write(path, events, **settings):
    log = JsonLines(path, **settings)
    for event in events:
        log(event)
    log.close()
    log.close()


def test_what_is_written_is_read_back_but_tasks_are_summed(recorded, tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, recorded)
    events = [logged.event for logged in read_events(path)]
    assert [e for e in events if not isinstance(e, WorkerShare)] == [
        e for e in recorded if not isinstance(e, TaskDone)
    ]
    shares = [e for e in events if isinstance(e, WorkerShare)]
    tasks = [e for e in recorded if isinstance(e, TaskDone)]
    assert len(shares) == 2 * 3  # two workers, three epochs
    assert sum(s.n_tasks for s in shares) == len(tasks)
    for name in ("kernel_s", "idle_s", "read_bytes", "updates", "visits"):
        assert sum(getattr(s, name) for s in shares) == sum(getattr(t, name) for t in tasks)


def test_every_task_is_written_when_asked(recorded, tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, recorded, every_task=True)
    read = [logged.event for logged in read_events(path)]
    assert [e for e in read if isinstance(e, TaskDone)] == [e for e in recorded if isinstance(e, TaskDone)]


def test_every_line_is_one_json_object_with_a_time(recorded, tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, recorded)
    times = [json.loads(line)["at"] for line in path.read_text().splitlines()]
    assert times == sorted(times)
    assert times[0] > 1.6e9


def test_tasks_of_an_unfinished_pass_are_kept_at_the_end(recorded, tmp_path):
    path = tmp_path / "events.jsonl"
    unfinished = recorded[: next(i for i, e in enumerate(recorded) if isinstance(e, PassDone))]
    write(path, unfinished)
    assert sum(e.event.n_tasks for e in read_events(path) if isinstance(e.event, WorkerShare)) == 12


def test_a_torn_line_costs_itself_only(recorded, tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, recorded)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    write(path, recorded[-1:])
    events = [logged.event for logged in read_events(path)]
    assert events.count(recorded[-1]) == 1
    assert isinstance(events[-1], RunDone)
    assert sum(isinstance(e, EpochDone) for e in events) == 3


def test_unknown_events_and_a_missing_log_are_no_error(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"at": 1, "event": "FromTheFuture"}\n[1]\n{"at": 1, "event": "Notice", "text": "hello"}\n'
    )
    assert [e.event.text for e in read_events(path)] == ["hello"]
    assert list(read_events(tmp_path / "none.jsonl")) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_log_stops_nobody(recorded, tmp_path):
    log = JsonLines(tmp_path / "events.jsonl")
    log._file.close()
    log._file = open("/dev/full", "w")  # noqa: SIM115
    for event in recorded:
        log(event)
    log.close()
    log.close()
