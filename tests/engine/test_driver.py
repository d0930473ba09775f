"""What a driver does and refuses, on the toy model."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oocml
from oocml.data.dataset import Dataset
from oocml.engine import events, journal
from oocml.engine.executors import Completion, Lost
from oocml.engine.in_process import InProcess
from oocml.engine.judging import Validation
from oocml.engine.outputs import RunArrays
from oocml.errors import DamagedStore, InputError, NonFinite, UsageError, WorkersLost
from oocml.run import Run
from oocml.schedule.affordable import PREPARED_SHARE
from oocml.schedule.cost import PanelSizes
from oocml.schedule.plan import _pinned_bytes
from oocml.store.run import RunStore
from tests.engine.toys import OTHER, TILES, TOY, begin, drive, fingerprint, state_bytes, write_dataset

pytestmark = pytest.mark.usefixtures("every_commit_on_disk")


def edited(path: Path, source: str, *edits: tuple[str, str]) -> str:
    """A copy of a test model with some text replaced; its reference."""
    file, _, name = source.rpartition(":")
    text = Path(file).read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return f"{path}:{name}"


def test_a_toy_result_is_what_visiting_in_order_by_hand_gives(new_run):
    """One row block, one column block: every pass is one kernel call per panel, which is easily done by hand."""
    toy = new_run(row_blocks=1, col_blocks=1)
    driver = drive(toy)
    arrays, journal = RunArrays(toy.run, None), driver.journal
    assert journal.ledger.finished
    V, M = arrays.whole("V"), arrays.whole("M")
    assert np.array_equal(M, V), "the last pass copies V"
    assert journal.ledger.objective == journal.ledger.history[-1]["objective"] + float((V**2).sum())
    assert arrays.whole("R").sum() == pytest.approx(journal.ledger.history[-1]["objective"])


@pytest.mark.parametrize("reference", [TOY, OTHER, TILES], ids=["toy", "other", "tiles"])
@pytest.mark.parametrize("blocks", [(1, 1), (3, 4)])
def test_caches_change_no_bit(new_run, reference, blocks):
    shape = {"row_blocks": blocks[0], "col_blocks": blocks[1], "epochs": 2, "reference": reference}
    plain, cold = new_run(**shape), new_run(**shape, caches=False)
    for toy in (plain, cold):
        drive(toy)
    assert fingerprint(plain.run) == fingerprint(cold.run)
    read = [toy.run.read_ledger().totals["read_bytes"] for toy in (plain, cold)]
    assert read[0] < read[1], "the caches were used"


@pytest.mark.parametrize(
    ("reference", "blocks"), [(TOY, (1, 1)), (TOY, (3, 2)), (TOY, (5, 4)), (OTHER, (3, 2)), (TILES, (3, 2))]
)
def test_planned_bytes_are_those_measured_where_nothing_is_cached(new_run, reference, blocks):
    toy = new_run(row_blocks=blocks[0], col_blocks=blocks[1], epochs=2, reference=reference, caches=False)
    totals = drive(toy).journal.ledger.totals
    assert totals["planned_write_bytes"] == totals["write_bytes"]
    if reference == TOY:
        assert totals["planned_read_bytes"] == totals["read_bytes"]
    else:  # its sweeps may end early
        assert 0.5 * totals["planned_read_bytes"] < totals["read_bytes"] <= totals["planned_read_bytes"]


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8, 1.0])
def test_a_cache_holds_as_many_panels_as_were_planned(tmp_path, share):
    data = write_dataset(tmp_path / "d.zarr", (40,) * 12)
    toy = begin(tmp_path / "run.zarr", data, row_blocks=2, col_blocks=3, epochs=2, caches=False)
    panels = PanelSizes.of(Dataset.open(data))
    room = math.ceil(share * panels.bytes.sum() * PREPARED_SHARE)
    cached = _pinned_bytes(panels, room)
    assert (cached == panels.bytes.sum()) == (share == 1)
    some = dataclasses.replace(toy.plan, panel_cache_bytes=room, cached_data_bytes=cached)
    totals = drive(toy._replace(plan=some)).journal.ledger.totals
    # which panels it holds is a matter of their order, and their sizes differ a little
    assert totals["read_bytes"] == pytest.approx(totals["planned_read_bytes"], rel=0.02)


@pytest.mark.parametrize("reference", [TOY, TILES])
def test_what_a_resumed_run_reads_from_disk_is_planned(new_run, reference):
    toy = new_run(row_blocks=1, col_blocks=1, epochs=2, reference=reference)
    roomy = dataclasses.replace(
        toy.plan, panel_cache_bytes=10**6, cached_data_bytes=toy.plan.data_bytes, block_cache_bytes=10**6
    )
    toy = toy._replace(plan=roomy)
    for more_epochs in (0, 3, 0, 1):
        totals = drive(toy, more_epochs=more_epochs).journal.ledger.totals
        assert totals["planned_read_bytes"] == totals["read_bytes"]


def test_epochs_added_later_follow_on(new_run):
    toy = new_run(epochs=2)
    drive(toy)
    first = fingerprint(toy.run)
    ledger = drive(toy, more_epochs=3).journal.ledger
    assert [record["epoch"] for record in ledger.history] == [1, 2, 3, 4, 5]
    assert ledger.segments == [2, 3]
    assert fingerprint(toy.run)["history"][:2] == first["history"], "what was, stays"
    again = new_run(epochs=2)
    for _ in range(2):
        drive(again)  # nothing is left to do the second time
    drive(again, more_epochs=3)
    assert fingerprint(again.run) == fingerprint(toy.run)


def scores(*values: float) -> Any:
    """Validation that gives these scores, one an epoch."""
    left = list(values)
    return lambda: {"m": left.pop(0)}


def test_early_stopping_keeps_the_best_epoch_and_finishes_as_after_the_last(new_run):
    stopped, short = new_run(epochs=9), new_run(epochs=4)
    ledger = drive(stopped, validation=Validation(scores(3, 1, 2, 2), "m", False, patience=2)).journal.ledger
    assert [record["valid"]["m"] for record in ledger.history] == [3, 1, 2, 2]
    assert ledger.kept == {"best": 2}
    assert ledger.finished
    drive(short)
    assert state_bytes(stopped.run) == state_bytes(short.run), "stopping at 4 is training for 4"


def test_a_score_that_is_no_number_ends_the_training_with_one_line(new_run):
    with pytest.raises(InputError, match="m of the validation data is NaN after epoch 2") as caught:
        drive(new_run(epochs=4), validation=Validation(scores(3, math.nan), "m", False, None))
    assert "\n" not in str(caught.value)


def test_a_higher_score_is_better_where_it_is(new_run):
    toy = new_run(epochs=4)
    ledger = drive(toy, validation=Validation(scores(1, 3, 2, 3), "m", True, None)).journal.ledger
    assert ledger.kept == {"best": 2}, "a later epoch must be better, not as good"


def test_the_best_state_is_the_state_of_its_epoch_and_survives_later_ones(new_run):
    toy, short = new_run(epochs=2), new_run(epochs=1)
    seen: list[Any] = []

    def watch(event: Any) -> None:
        if isinstance(event, events.EpochDone) and event.best:
            seen.append(state_bytes(toy.run))

    drive(toy, monitors=[watch], validation=Validation(scores(1, 2, 3), "m", False, None))
    drive(toy, more_epochs=1, validation=Validation(scores(4), "m", False, None))
    best = state_bytes(toy.run, "best")
    assert best == {name: seen[0][name] for name in best}
    run = Run(toy.run.path)
    assert run.checkpoints == {"best": 1}
    for at in ("best", 1, "1", None):
        assert run.arrays(at=at)["V"].compute().tobytes() == best["V"]
    assert run.arrays(at="last")["V"].compute().tobytes() == state_bytes(toy.run)["V"] != best["V"]
    with pytest.raises(UsageError, match="best"):
        run.arrays(at=2)
    for deep in (False, True):
        info = run.info(deep=deep)
        assert info["whole"], info["problem"]
    assert short is not toy


@pytest.mark.parametrize(
    "edit",
    [
        ("yield Epoch(number, total)", "yield Epoch(number + 1, total)"),
        ("yield gather_pass\n", "pass\n"),
        ("for pass_ in self.epoch_passes(problem)", "for pass_ in self.epoch_passes(problem)[::-1]"),
        ("yield Final(total", "yield Epoch(number, total"),
        ("for n_epochs in segments", "for n_epochs in ()"),
    ],
    ids=lambda edit: edit[1],
)
def test_a_changed_program_is_refused(new_run, edit):
    toy = new_run(epochs=2)
    drive(toy)
    edited(toy.run.path / "model.py", f"{toy.run.path / 'model.py'}:Toy", edit)
    with pytest.raises(InputError, match="model.py was changed"):
        oocml.resume(toy.run.path, epochs=1, schedule="serial")
    # as if the model had come from a package, of which nobody knows that it is another version
    toy.run.config["model_sha256"] = hashlib.sha256((toy.run.path / "model.py").read_bytes()).hexdigest()
    before = len(toy.run.read_ledger().results)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oocml.engine.context.RunStore", lambda path: toy.run)
        with pytest.raises(InputError, match="no longer yields"):
            drive(toy, more_epochs=1)
    assert len(toy.run.read_ledger().results) == before


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_fewer_than_one_epoch_is_added(new_run, epochs):
    toy = new_run()
    with pytest.raises(UsageError, match="at least 1"):
        oocml.resume(toy.run.path, epochs=epochs, schedule="serial")
    assert toy.run.read_ledger().segments == [1]


@pytest.mark.parametrize("where", ["V[:] = 0.9", 'v.row["R"][:] = ', 'v.col["V"][:] *= '])
def test_a_state_that_becomes_nan_stops_the_run_and_leaves_the_last_good_one(new_run, tmp_path, where):
    broken = where.replace("= ", "= np.nan * ").replace("= np.nan * 0.9", "= np.nan * 0.9")
    toy = new_run(epochs=2, reference=edited(tmp_path / "nan.py", TOY, (where, broken)))
    with pytest.raises(NonFinite) as caught:
        drive(toy)
    follows_epochs = "*=" in where
    kept = "the last good state is kept" if follows_epochs else "no epoch was done"
    assert f"; {kept}; try " in str(caught.value)
    assert "\n" not in str(caught.value)
    for block in state_bytes(toy.run).values():
        assert np.isfinite(np.frombuffer(block, np.float32 if len(block) == 12 else np.float64)).all()


def test_a_sum_of_deltas_that_becomes_infinite_stops_the_run(new_run, tmp_path):
    reference = edited(tmp_path / "inf.py", TOY, ("float(U.sum())]) * 1e-3", "float(U.sum())]) * np.inf"))
    toy = new_run(reference=reference)
    with pytest.raises(NonFinite, match="'L'.*; no epoch was done; try"):
        drive(toy)
    assert not np.isinf(RunArrays(toy.run, None).whole("L")).any()


@pytest.mark.parametrize("value", ["np.nan", "-np.inf"])
def test_an_objective_that_is_not_finite_stops_the_run(new_run, tmp_path, value):
    toy = new_run(
        reference=edited(
            tmp_path / "nan.py", TOY, ("yield Epoch(number, total)", f"yield Epoch(number, {value})")
        )
    )
    with pytest.raises(NonFinite, match="objective"):
        drive(toy)
    ledger = toy.run.read_ledger()
    assert ledger.history == []
    assert [result["pass"] for result in ledger.results] == ["visit", "fold"]


class Unlucky(InProcess):
    """Loses the first dispatches."""

    def __init__(self, n_losses: int, was_running: bool) -> None:
        super().__init__()
        self.n_losses, self.was_running = n_losses, was_running

    def wait(self, at_most: float | None = None) -> list[Completion]:
        if self.n_losses:
            self.n_losses -= 1
            return [Completion(self._queue.popleft(), Lost("tcp://gone:1", self.was_running))]
        return super().wait()


def test_a_task_that_kills_three_workers_ends_the_run_in_one_line(new_run):
    with pytest.raises(WorkersLost) as caught:
        drive(new_run(), Unlucky(3, True))
    assert "\n" not in str(caught.value)
    plain = new_run()
    drive(plain)
    for bad_luck in (Unlucky(2, True), Unlucky(20, False)):
        toy = new_run()
        drive(toy, bad_luck)
        assert fingerprint(toy.run) == fingerprint(plain.run)


def test_events_tell_the_story_in_order(new_run):
    toy, seen = new_run(epochs=2, caches=False), []
    drive(
        toy, Unlucky(1, False), monitors=[seen.append], validation=Validation(scores(2, 1), "m", False, None)
    )
    kinds = [type(event).__name__ for event in seen]
    assert kinds[:3] == ["PassStarted", "TaskLost", "TaskDone"]
    story = [(type(e).__name__, getattr(e, "name", getattr(e, "number", None))) for e in seen]
    assert [entry for entry in story if entry[0] in ("PassStarted", "PassDone", "EpochDone")] == [
        *(("PassStarted", "visit"), ("PassDone", "visit"), ("PassStarted", "fold"), ("PassDone", "fold")),
        ("EpochDone", 1),
        *(("PassStarted", "visit"), ("PassDone", "visit"), ("PassStarted", "fold"), ("PassDone", "fold")),
        ("EpochDone", 2),
        *(("PassStarted", "scale"), ("PassDone", "scale"), ("PassStarted", "gather"), ("PassDone", "gather")),
    ]
    left = 0
    for event in seen:
        if isinstance(event, events.PassStarted):
            assert left == 0
            left = event.n_tasks
        left -= isinstance(event, events.TaskDone)
    assert left == 0
    done = [event for event in seen if isinstance(event, events.TaskDone)]
    totals = toy.run.read_ledger().totals
    assert sum(event.updates for event in done) == totals["updates"]
    merges = totals["write_bytes"] - sum(event.write_bytes for event in done)
    assert 0 < merges < 1000, "the driver itself writes only the sums of deltas"
    assert [event.best for event in seen if isinstance(event, events.EpochDone)] == [True, True]


def test_a_damaged_block_is_named_before_it_is_used(new_run):
    toy = new_run(epochs=1)
    drive(toy)
    chunk = sorted((toy.run.path / "state" / "V").glob("c.*"))[0]
    content = bytearray(chunk.read_bytes())
    content[3] ^= 1
    chunk.write_bytes(content)
    assert not Run(toy.run.path).info(deep=True)["whole"]
    with pytest.raises(DamagedStore, match="'V'"):
        drive(toy, more_epochs=1)


class Idle(InProcess):
    """Has nothing to report while the ledger on disk lacks a commit, and looks whether it is then written."""

    def __init__(self, run: RunStore) -> None:
        super().__init__()
        self.run, self.asked = run, False
        self.found: list[tuple[int, int]] = []

    def wait(self, at_most: float | None = None) -> list[Completion]:
        if self.asked:
            ledger = self.run.read_ledger()
            self.found.append((len(ledger.results), len(ledger.done)))
        self.asked = at_most is not None and not self.asked
        return [] if self.asked else super().wait()


def test_a_commit_that_was_not_written_at_once_is_written_when_nothing_happens(new_run, monkeypatch):
    monkeypatch.setattr(journal, "BATCHED_LEDGER_BYTES", 0)
    monkeypatch.setattr(journal, "BATCH_S", 3600.0)
    toy = new_run(row_blocks=3, col_blocks=3, epochs=1)
    executor = Idle(toy.run)
    drive(toy, executor)
    assert len(executor.found) > 3
    assert sorted(set(executor.found)) == executor.found, (
        "every commit is on disk before the next task is waited for"
    )
