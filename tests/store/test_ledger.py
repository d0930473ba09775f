"""The ledger: one record that is whole or not there, and stamps that are never given twice."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.errors import DamagedStore, OocmlError
from oocml.store.ledger import Ledger, read_ledger, write_ledger

names = st.text(max_size=5)
finite = st.floats(allow_nan=False)
parts = st.dictionaries(names, st.one_of(finite, st.lists(finite, max_size=4).map(np.array)), max_size=3)
ledgers = st.builds(
    Ledger,
    stamps=st.dictionaries(
        names, st.lists(st.integers(0, 2**62), max_size=4).map(lambda x: np.array(x, np.int64)), max_size=3
    ),
    crcs=st.dictionaries(
        names,
        st.lists(st.integers(0, 2**32 - 1), max_size=4).map(lambda x: np.array(x, np.uint32)),
        max_size=3,
    ),
    segments=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    incarnation=st.integers(0, 1000),
    next_stamp=st.integers(1, 2**62),
    results=st.lists(
        st.one_of(st.just({"final": True}), st.builds(lambda p: {"pass": "p", "parts": p}, parts)), max_size=3
    ),
    done=st.dictionaries(st.integers(0, 100), parts, max_size=3),
    epoch_parts=st.lists(st.builds(lambda p, s: {"parts": p, "stop": s}, parts, st.booleans()), max_size=2),
    order=st.lists(st.integers(0, 100), max_size=4),
    history=st.lists(st.fixed_dictionaries({"epoch": st.integers(1, 9), "objective": finite}), max_size=3),
    objective=st.none() | finite,
    totals=st.dictionaries(names, finite, max_size=3),
    kept=st.dictionaries(names, st.integers(1, 9), max_size=2),
    finished=st.booleans(),
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


@given(ledgers)
def test_a_ledger_comes_back_as_it_was_packed(ledger):
    found = Ledger.unpack(ledger.pack(), "here")
    for name, value in vars(ledger).items():
        assert same(value, getattr(found, name)), name
    assert found.pack() == ledger.pack()
    for array in [*found.stamps.values(), *found.crcs.values()]:
        assert array.flags.writeable


@given(ledger=ledgers, data=st.data())
def test_a_ledger_that_is_not_whole_is_recognised(ledger, data):
    record = ledger.pack()
    at = data.draw(st.integers(0, len(record) - 1))
    flipped = record[:at] + bytes([record[at] ^ data.draw(st.integers(1, 255))]) + record[at + 1 :]
    for damaged in (
        record[:at],
        flipped,
        b"",
        record[: len(record) // 2] + bytes(len(record) - len(record) // 2),
    ):
        if damaged != record:
            with pytest.raises(DamagedStore, match="here"):
                Ledger.unpack(damaged, "here")


@pytest.mark.parametrize(
    "value", [np.float32(1.5), np.float64(0.1), np.int64(3), np.zeros((2, 0)), np.float64(np.inf)]
)
def test_numpy_values_survive(value):
    ledger = Ledger({}, {}, [1], results=[{"pass": "p", "parts": {"x": value}}])
    found = Ledger.unpack(ledger.pack(), "here").results[0]["parts"]["x"]
    assert np.shape(found) == np.shape(value)
    assert np.array_equal(found, value)


def test_what_a_ledger_cannot_hold_is_named():
    with pytest.raises(TypeError, match="set"):
        Ledger({}, {}, [1], results=[{"x": {1, 2}}]).pack()


@given(st.lists(st.integers(0, 5), max_size=8))
def test_no_stamp_is_ever_given_twice(drivers):
    ledger, given_out = Ledger({}, {}, [1]), []
    for n_dispatches in drivers:
        stamps = iter(ledger.reserve_stamps())
        ledger = Ledger.unpack(ledger.pack(), "here")  # committed before the first is handed out
        given_out += [next(stamps) for _ in range(n_dispatches)]
        given_out.append(ledger.next_stamp - 1)  # the last that this driver could ever give
    assert sorted(set(given_out)) == given_out
    assert ledger.incarnation == len(drivers)
    assert min(given_out, default=1) > 0, "stamp 0 is the initial value"


def test_there_is_room_for_as_many_drivers_as_anybody_starts():
    ledger = Ledger({}, {}, [1], next_stamp=2**61)
    for _ in range(10_000):
        ledger.reserve_stamps()
    assert ledger.next_stamp < 2**62
    assert Ledger.unpack(ledger.pack(), "here").next_stamp == ledger.next_stamp


def test_a_ledger_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path, first, second = tmp_path / "ledger", Ledger({}, {}, [1]), Ledger({}, {}, [2])
    write_ledger(path, first, durable=True)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OocmlError, match="the disk is full"):
            write_ledger(path, second)
    assert read_ledger(path).segments == [1]
    assert write_ledger(path, second) == path.stat().st_size
    assert read_ledger(path).segments == [2]


def test_a_missing_ledger_is_damage(tmp_path):
    with pytest.raises(DamagedStore, match="missing"):
        read_ledger(tmp_path / "ledger")
