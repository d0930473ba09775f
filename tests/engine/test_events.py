import json

import pytest

from oocml.engine.events import EVENT_TYPES, Notice, TaskDone, close, emit, from_json, to_json
from oocml.errors import InputError
from oocml.types import Bounds

TASK = TaskDone("visit", 1, Bounds(0, 2), None, "driver", 0.1, 0.0, 0.0, 0.0, 10, 20, 30, 4)


def test_an_event_survives_json():
    assert from_json(json.loads(json.dumps(to_json(TASK)))) == TASK


def test_fields_of_a_later_version_are_dropped():
    assert from_json({"event": "Notice", "text": "hello", "later": 1}) == Notice("hello")


@pytest.mark.parametrize("record", [{"event": "Nothing"}, {}, {"event": "TaskDone", "epoch": 1}])
def test_what_is_no_event_is_refused_in_one_line(record):
    with pytest.raises(InputError) as caught:
        from_json(record)
    assert "\n" not in str(caught.value)


def test_events_are_frozen():
    with pytest.raises(AttributeError):
        TASK.epoch = 2
    assert all("__slots__" in vars(kind) for kind in EVENT_TYPES.values())


def test_every_monitor_is_closed_even_if_one_fails():
    closed = []

    class Fails:
        def __call__(self, event):
            closed.append(event)

        def close(self):
            raise OSError("disk full")

    class Works(Fails):
        def close(self):
            closed.append("works")

    monitors = [Works(), Fails(), lambda event: None, Works()]
    emit(monitors, Notice("hello"))
    with pytest.raises(OSError, match="disk full"):
        close(monitors)
    assert closed.count("works") == 2
