from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from oocml.engine.events import TaskDone
from oocml.types import Bounds
from pipelines import datasets, steady
from pipelines.steady import Clock, Commit, Enough, Phase, Throttle, rate, train_for


def commit(at, updates=10, worker="a"):
    return Commit(at, worker, updates, 0.5, 0.25)


def test_a_rate_counts_what_was_committed_between_the_edges_of_a_span():
    found = rate([commit(at, worker="ab"[at % 2]) for at in range(10)], [(2, 6)], 1)
    assert (found.seconds, found.n_tasks, found.updates) == (4, 4, 40)
    assert found.per_s == 10
    assert found.by_worker == {"a": 20, "b": 20}
    assert (found.kernel_s, found.wait_s) == (2, 1)


def test_spans_end_with_whole_units_and_add_up():
    commits = [commit(at) for at in range(20)]
    assert rate(commits, [(0, 12)], 4).seconds == 8  # commits 4 to 12, numbered from 1
    assert rate(commits, [(0, 12), (12, 19)], 4).seconds == 8 + 4
    nothing = rate(commits, [(5, 6)], 4)
    assert nothing.updates == 0
    assert nothing.per_s != nothing.per_s


def done(epoch, pass_name="visit"):
    numbers = dict.fromkeys(("kernel_s", "read_s", "write_s", "idle_s"), 0.0)
    counts = dict.fromkeys(("read_bytes", "write_bytes", "updates", "visits"), 1)
    return TaskDone(pass_name, epoch, Bounds(0, 1), Bounds(0, 1), "w", **numbers, **counts)


def test_phases_are_entered_in_time_after_the_first_epoch_and_then_it_is_enough(monkeypatch):
    now, entered = [100.0], []
    monkeypatch.setattr(steady.time, "perf_counter", lambda: now[0])
    phases = [Phase(name, 2.0, lambda name=name: entered.append(name)) for name in ("x", "y", "x")]
    clock = Clock("visit", phases)
    for event in (done(1), done(2, "measure")):
        clock(event)
    assert not clock.commits
    now[0] = 200.0
    clock(done(2))
    assert entered == ["x"]
    now[0] = 203.0
    clock(done(3))
    assert entered == ["x", "y"]
    now[0] = 206.0
    with pytest.raises(Enough):
        clock(done(4))
    assert [at for at, *_ in clock.commits] == [0, 3, 6]
    assert clock.of("x") == [(0, 2), (4, 6)]


def test_a_training_ends_when_the_clock_has_had_enough(tmp_path):
    shape = {"rows": 60, "cols": 40, "nnz_per_row": 10.0}
    made = datasets.planted("ml_100k", tmp_path, task="factors", **shape)
    clock = Clock("visit", [Phase("free", 0.05)])
    train_for(clock, "mf", made.train, tmp_path / "run.zarr", schedule="serial")
    assert clock.commits[-1].at >= 0.05
    assert all(commit.updates > 0 for commit in clock.commits)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_a_throttled_process_is_stopped_again_and_again_and_runs_in_the_end():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        throttle = Throttle(process.pid, 0.25, period_s=0.04)
        throttle.start()
        try:
            states = {state_at(process.pid, 0.002 * n) for n in range(100)}
        finally:
            throttle.stop()
        assert states >= {"T", "R"}
        assert {state_at(process.pid, 0.01) for _ in range(5)} <= {"R", "S"}
        throttle.stop()
        process.kill()


def state_at(pid, pause):
    time.sleep(pause % 0.01)
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_that_is_gone_needs_no_throttle():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    throttle = Throttle(process.pid, 0.5, period_s=0.01)
    throttle.start()
    throttle.stop()
