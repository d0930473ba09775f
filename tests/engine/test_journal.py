"""The journal against a dictionary: whatever happens in whatever order, the ledger on disk names what it should.

The model of the state is the content of every block. Steps are what a driver, its workers and bad luck do: dispatch,
write, commit, lose, finish a pass, keep a checkpoint, die and start again; the ledger may be written in batches.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oocml.engine import journal as module
from oocml.engine.context import initial_block
from oocml.engine.journal import Journal
from oocml.engine.messages import TaskResult
from oocml.models.protocol import Pass, Problem, StateSpec
from oocml.schedule.layout import Layout, block_shape, n_blocks, stored_array
from oocml.schedule.tasks import Task, conflict, footprint
from oocml.store.ledger import Ledger, read_ledger, write_ledger
from tests.store.memory import MemoryChunks

ROWS, COLS = 3, 3
LAYOUT = Layout(*[tuple(range(ROWS + 1))] * 2, *[tuple(range(COLS + 1))] * 2, (0, ROWS), (0, ROWS))
PROBLEM = Problem(ROWS, 1, 1, np.ones(1, int), np.ones(1), None, "none", {}, 0)
SPECS = {
    spec.name: spec
    for spec in (
        StateSpec("row", "row", ("rows",), "int64", "", export=True),
        StateSpec("col", "col", ("cols",), "int64", "", init=5, export=True),
        StateSpec("new", "col", ("cols",), "int64", "begun anew in every pass", init=7),
        StateSpec("sum", "shared", (), "float64", "", merge=True, export=True),
    )
}
PASS = Pass("pass", "tiles", "k", reads=("row", "col", "sum"), writes=("row", "col", "new", "sum"))
ARRAYS = {name: stored_array(spec, LAYOUT, PROBLEM) for name, spec in SPECS.items()}
BLOCKS = [(name, index) for name, spec in SPECS.items() for index in range(n_blocks(spec, LAYOUT))]


class MemoryRun:
    """What a journal needs of a run; remembers the model of the state whenever the ledger is written."""

    def __init__(self, folder: Path) -> None:
        self.path, self.chunks = folder, MemoryChunks()
        self.model: Any = None
        self.written: Any = None
        zeros = {name: np.zeros(array.n_blocks, np.int64) for name, array in ARRAYS.items()}
        write_ledger(
            folder / "ledger", Ledger(zeros, {n: z.astype(np.uint32) for n, z in zeros.items()}, [1])
        )

    def checkpoint_path(self, name: str) -> Path:
        return self.path / f"ledger.{name}"

    def read_ledger(self, name: str | None = None) -> Ledger:
        return read_ledger(self.checkpoint_path(name) if name else self.path / "ledger")

    def require_in_place(self) -> None:
        """Nobody takes its folder away."""

    def write_ledger(self, ledger: Ledger, *, durable: bool = False) -> int:
        size = write_ledger(self.path / "ledger", ledger, durable=durable)
        self.written = copy.deepcopy(self.model())
        return size

    def sweep(self, live: dict[str, set[str]]) -> int:
        return self.chunks.sweep(live)


class JournalMachine(RuleBasedStateMachine):
    """Values are whole numbers; a task adds something to every block that it writes."""

    @initialize(batched=st.booleans())
    def start(self, batched: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        if batched:
            self.patch.setattr(module, "BATCHED_LEDGER_BYTES", 0)
            self.patch.setattr(module, "BATCH_S", 1e9)
        self.folder = Path(tempfile.mkdtemp())
        self.run = MemoryRun(self.folder)
        self.values = {block: self.first_value(block) for block in BLOCKS}
        self.best: dict[Any, float] | None = None
        self.in_pass: set[Any] = set()
        self.done: dict[int, float] = {}
        self.n_results = self.next_epoch = 0
        self.stamps: set[int] = set()
        self.zombies: list[Any] = []
        self.flying: dict[int, Any] = {}
        self.run.model = lambda: (
            self.values,
            self.best,
            self.in_pass,
            self.done,
            self.n_results,
        )
        self.open()

    def first_value(self, block: Any) -> float:
        return float(initial_block(SPECS[block[0]], LAYOUT, PROBLEM, block[1]).reshape(-1)[0])

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.patch.undo()
            shutil.rmtree(self.folder)

    def open(self) -> None:
        self.journal = Journal(self.run, SPECS, LAYOUT, PROBLEM, durable=False)  # type: ignore[arg-type]
        self.journal.chunks = self.run.chunks  # type: ignore[assignment]
        self.journal.open()
        self.journal.begin_pass(PASS)

    def fresh(self) -> int:
        stamp = self.journal.fresh_stamp()
        assert stamp not in self.stamps, "a stamp was given twice"
        self.stamps.add(stamp)
        return stamp

    def read(self, ledger: Ledger, name: str, index: int) -> float:
        stamp, crc = int(ledger.stamps[name][index]), int(ledger.crcs[name][index])
        if stamp == 0:
            return self.first_value((name, index))
        shape = block_shape(SPECS[name], LAYOUT, PROBLEM, index)
        return float(ARRAYS[name].read(self.run.chunks, index, stamp, shape, crc)[0].reshape(-1)[0])

    def free_tasks(self) -> list[int]:
        """Tiles that are neither done nor in flight nor in the way of one that is."""
        busy = [footprint(PASS, flight.message.task, LAYOUT, SPECS) for flight in self.flying.values()]
        return [
            number
            for number in range(ROWS * COLS)
            if number not in self.done
            and not any(conflict(footprint(PASS, tile(number), LAYOUT, SPECS), other) for other in busy)
        ]

    @precondition(lambda self: self.free_tasks())
    @rule(data=st.data())
    def dispatch(self, data: Any) -> None:
        task = tile(data.draw(st.sampled_from(self.free_tasks())))
        message = SimpleNamespace(task=task, out_stamp=self.fresh(), pass_=PASS)
        inputs, outputs = self.journal.inputs(PASS, task), {}  # type: ignore[arg-type]
        for name, refs in inputs.items():
            for index, stamp, crc in zip(*refs, strict=True):
                block = (name, int(index))
                anew = name == "new" and block not in self.in_pass
                expected = self.first_value(block) if anew else self.values[block]
                found = self.read(one_ledger(name, int(index), int(stamp), int(crc)), name, int(index))
                assert found == expected, f"{block} should be {expected}"
                if not SPECS[name].merge:
                    outputs[block] = found + task.index + 1
        self.flying[message.out_stamp] = SimpleNamespace(message=message, outputs=outputs, crcs={})

    @precondition(lambda self: self.flying or self.zombies)
    @rule(data=st.data())
    def write(self, data: Any) -> None:
        """One more block of a dispatch arrives on disk, alive or not."""
        flight = data.draw(st.sampled_from([*self.flying.values(), *self.zombies]))
        left = [block for block in flight.outputs if block not in flight.crcs]
        if left:
            self.write_block(flight, left[0])

    def write_block(self, flight: Any, block: Any) -> None:
        name, index = block
        shape = block_shape(SPECS[name], LAYOUT, PROBLEM, index)
        content = np.full(shape, flight.outputs[block], SPECS[name].dtype)
        crc, _ = ARRAYS[name].write(self.run.chunks, index, flight.message.out_stamp, content)
        flight.crcs[block] = crc

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def commit(self, data: Any) -> None:
        stamp = data.draw(st.sampled_from(sorted(self.flying)))
        flight = self.flying.pop(stamp)
        for block in flight.outputs:
            if block not in flight.crcs:
                self.write_block(flight, block)
        number, result = flight.message.task.index, TaskResult(parts={"sum": 0.5 * (number_of(flight) + 1)})
        for (name, index), crc in flight.crcs.items():
            indices, crcs = result.written.setdefault(name, ([], []))
            indices.append(index)
            crcs.append(crc)
        self.values |= flight.outputs
        self.in_pass |= set(flight.outputs)
        self.done[number] = result.parts["sum"]
        self.journal.commit_task(flight.message, result, number, recorded=False)  # type: ignore[arg-type]

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def lose(self, data: Any) -> None:
        self.zombies.append(self.flying.pop(data.draw(st.sampled_from(sorted(self.flying)))))

    @precondition(lambda self: len(self.done) == ROWS * COLS)
    @rule()
    def finish_the_pass(self) -> None:
        tasks = [tile(number) for number in range(ROWS * COLS)]
        self.values["sum", 0] += sum(self.done[task.index] for task in tasks)
        self.journal.merge_shared(PASS, [task.index for task in tasks])
        self.done, self.in_pass, self.n_results = {}, set(), self.n_results + 1
        result = self.journal.end_pass(PASS)
        assert result == {}, "what was merged is no result"
        assert len(self.journal.ledger.results) == self.n_results
        self.journal.begin_pass(PASS)

    @precondition(lambda self: not self.flying)
    @rule()
    def keep_the_best(self) -> None:
        self.next_epoch += 1
        self.best = {block: value for block, value in self.values.items() if SPECS[block[0]].export}
        self.journal.keep("best", self.next_epoch)
        self.journal.flush(force=True)

    @rule()
    def flush(self) -> None:
        self.journal.flush(force=True)

    @rule()
    def tidy(self) -> None:
        if not self.flying:
            self.journal.close()

    @rule()
    def die_and_start_again(self) -> None:
        """What was not written to the ledger on disk did not happen."""
        values, best, in_pass, done, n_results = copy.deepcopy(self.run.written)
        self.values, self.best, self.in_pass, self.done, self.n_results = (
            values,
            best,
            in_pass,
            done,
            n_results,
        )
        self.zombies += self.flying.values()
        self.flying = {}
        self.open()
        assert list(self.journal.ledger.done) == list(self.done)

    @invariant()
    def both_ledgers_name_what_they_should(self) -> None:
        if not hasattr(self, "journal"):
            return
        for ledger, (values, best, *_) in (
            (self.journal.ledger, self.run.model()),
            (self.run.read_ledger(), self.run.written),
        ):
            assert {block: self.read(ledger, *block) for block in BLOCKS} == values
            assert ledger.kept.keys() == ({"best"} if best else set())
        if self.run.written[1]:
            kept = self.run.read_ledger("best")
            assert {block: self.read(kept, *block) for block in self.best} == self.best

    @invariant()
    def superseded_blocks_do_not_pile_up(self) -> None:
        if hasattr(self, "journal"):
            n_flights = len(self.flying) + len(self.zombies)
            waiting = len(self.journal._superseded)
            assert len(self.run.chunks.files) <= 2 * len(BLOCKS) + 3 * n_flights + waiting


def tile(number: int) -> Task:
    p, q = divmod(number, COLS)
    return Task(number, (p,), (q,), q)


def number_of(flight: Any) -> int:
    return int(flight.message.task.index)


def one_ledger(name: str, index: int, stamp: int, crc: int) -> Ledger:
    stamps, crcs = np.zeros(9, np.int64), np.zeros(9, np.uint32)
    stamps[index], crcs[index] = stamp, crc
    return Ledger({name: stamps}, {name: crcs}, [1])


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_parts_and_deltas_are_added_in_the_order_of_tasks_however_they_end(tmp_path, order):
    run = MemoryRun(tmp_path)
    run.model = dict
    journal = Journal(run, SPECS, LAYOUT, PROBLEM, durable=False)  # type: ignore[arg-type]
    journal.chunks = run.chunks  # type: ignore[assignment]
    journal.open()
    journal.begin_pass(PASS)
    parts = [1e16, -1e16, 1.0]  # any other order gives something else
    for number in order:
        message = SimpleNamespace(task=tile(number), out_stamp=journal.fresh_stamp(), pass_=PASS)
        result = TaskResult(parts={"x": parts[number], "sum": parts[number]})
        journal.commit_task(message, result, number, recorded=False)  # type: ignore[arg-type]
    journal.merge_shared(PASS, range(3))
    stamp, crc = int(journal.ledger.stamps["sum"][0]), int(journal.ledger.crcs["sum"][0])
    assert ARRAYS["sum"].read(run.chunks, 0, stamp, (), crc)[0] == 1.0
    assert journal.end_pass(PASS) == {"x": 1.0}
