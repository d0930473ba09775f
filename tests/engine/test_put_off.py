"""Blocks that one process writes late: what faults, errors and other trainings beside it make of them."""

import threading

import numpy as np
import pytest

from oocml import api
from oocml.engine.events import EpochDone
from oocml.engine.executors import Completion
from oocml.engine.in_process import InProcess
from oocml.errors import NonFinite, OocmlError
from tests.engine.faulty_disk import FaultyDisk, Killed
from tests.engine.test_resume import assert_sound
from tests.engine.toys import OTHER, TOY, chunk_files, copy_run, drive, fingerprint, named_files

SHAPE = {"row_blocks": 2, "col_blocks": 3, "epochs": 2, "reference": OTHER}


class Spoiled(InProcess):
    """Fails in the middle of a task, whose blocks have changed already."""

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.n_left = n_tasks

    def wait(self, at_most: float | None = None) -> list[Completion]:
        self.n_left -= 1
        completions = super().wait()
        if self.n_left < 0:
            raise OocmlError("spoiled")
        return completions


def test_blocks_that_are_put_off_change_no_bit(new_run, monkeypatch):
    plain, toy, struck = new_run(**SHAPE), new_run(**SHAPE), new_run(**SHAPE)
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 0.0)
    drive(plain)
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 1e9)
    disk = FaultyDisk()
    with disk.installed():
        drive(toy)
    assert fingerprint(toy.run) == fingerprint(plain.run)
    before, after = (one.run.read_ledger().totals for one in (plain, toy))
    assert (
        after["write_bytes"] + after["spared_write_bytes"]
        == before["write_bytes"]
        == before["planned_write_bytes"]
    )
    assert after["write_bytes"] < 0.6 * before["write_bytes"], "once after the first epoch, once at the end"
    for at in range(len(disk.log)):
        again = copy_run(struck, struck.run.path.with_name(f"struck{at}.zarr"))
        with FaultyDisk(at, "kill").installed(), pytest.raises(Killed):
            drive(again)
        assert_sound(again.run)
        drive(again)
        assert fingerprint(again.run) == fingerprint(plain.run), f"killed at moment {at}"
        assert chunk_files(again.run) == named_files(again.run)


def test_files_that_may_be_used_again_do_not_pile_up(new_run, monkeypatch):
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 0.0)
    monkeypatch.setattr("oocml.engine.journal.SPARED_BYTES", 1)
    toy, counts = new_run(**{**SHAPE, "epochs": 6}), []
    drive(toy, monitors=[lambda event: counts.append(len(chunk_files(toy.run)))])
    assert max(counts) <= 2 * len(named_files(toy.run)) + 4, "a current file and a spare one of each"


def test_what_was_put_off_is_lost_with_the_task_that_spoiled_it(new_run, monkeypatch):
    plain, toy = new_run(**SHAPE), new_run(**SHAPE)
    drive(plain)
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 1e9)
    for n_tasks in (2, 5, 11):
        with pytest.raises(OocmlError, match="spoiled"):
            drive(toy, Spoiled(n_tasks))
        assert_sound(toy.run)
    drive(toy, forget=False)
    assert fingerprint(toy.run) == fingerprint(plain.run)


@pytest.fixture
def ratings(tmp_path):
    rng = np.random.default_rng(0)
    pairs = rng.permutation(40 * 30)[:600]
    lines = [f"u{pair // 30},i{pair % 30},{1 + pair % 5}" for pair in pairs]
    (tmp_path / "r.csv").write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    api.ingest("ratings", tmp_path / "r.csv", tmp_path / "r.zarr")
    return tmp_path / "r.zarr"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_training_that_fails_after_its_first_epoch_leaves_it(ratings, tmp_path, monkeypatch, overwrite):
    out, options = tmp_path / "run.zarr", {"schedule": "serial", "settings": {"n_factors": 4}}
    if overwrite:
        api.train("mf", ratings, out, epochs=1, **options)
    done = []

    def watch(event):
        if isinstance(event, EpochDone):
            done.append(event.number)

    monkeypatch.setattr("oocml.engine.blocks.all_finite", lambda block: len(done) < 3)
    with pytest.raises(NonFinite):
        api.train("mf", ratings, out, epochs=6, overwrite=overwrite, monitors=[watch], **options)
    left = api.open_run(out)
    assert left.config["epochs"] == 6
    assert 1 <= len(left.history) <= len(done) == 3
    assert np.isfinite(left.arrays()["U"].compute()).all()
    assert [path.name for path in tmp_path.glob("*run.zarr*")] == ["run.zarr"]
    monkeypatch.undo()
    assert len(api.resume(out).history) == 6


def test_the_first_epoch_is_on_disk_when_it_is_told_of(new_run):
    toy, found = new_run(epochs=3), []

    def look(event):
        if isinstance(event, EpochDone):
            found.append(len(toy.run.read_ledger().history))

    drive(toy, monitors=[look])
    assert found[0] == 1


def test_trainings_side_by_side_in_one_process_keep_what_is_theirs(new_run, monkeypatch):
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 1e9)
    plain, toys = new_run(epochs=20, reference=TOY), [new_run(epochs=20, reference=TOY) for _ in range(2)]
    drive(plain)
    threads = [threading.Thread(target=drive, args=(toy,), kwargs={"forget": False}) for toy in toys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for toy in toys:
        assert fingerprint(toy.run) == fingerprint(plain.run)
