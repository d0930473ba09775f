import subprocess
import sys
import time

import psutil
import pytest

from oocml.engine.events import RunStopped, TaskDone
from oocml.types import Bounds
from oocml.watch.memory import MemorySampler, tree_bytes

MIB = 2**20
CHILD = """
import sys
block = bytearray(200 * 2**20)
block[::4096] = b"x" * len(block[::4096])
print("ready", flush=True)
sys.stdin.readline()
"""
TASK = TaskDone("visit", 1, Bounds(0, 1), Bounds(0, 1), "driver", 0.1, 0.0, 0.0, 0.0, 0, 0, 1, 1)


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def child_of_200_mib():
    # The grandchild shows that the whole tree counts.
    spawn = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {CHILD!r}]))"
    with subprocess.Popen(
        [sys.executable, "-c", spawn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        yield child
        if child.poll() is None:
            child.communicate("\n", timeout=10)


def test_peak_has_what_a_grandchild_allocated_even_after_it_is_gone(child_of_200_mib):
    with MemorySampler() as sampler:
        before = sampler.sample()
        assert child_of_200_mib.stdout.readline() == "ready\n"
        wait_until(lambda: sampler.peak_bytes - before >= 195 * MIB)
        child_of_200_mib.communicate("\n", timeout=10)
        wait_until(lambda: sampler.sample() <= sampler.peak_bytes - 195 * MIB)
    assert max(sampler.largest_at_peak.values()) >= 195 * MIB


def test_samples_agree_with_full_readings(child_of_200_mib):
    child_of_200_mib.stdout.readline()
    sampler = MemorySampler()
    quick, full = sampler.sample(), sum(tree_bytes().values())
    assert quick == pytest.approx(full, rel=0.05)


def test_growth_between_full_readings_is_seen():
    sampler = MemorySampler()
    before = sampler.sample()
    block = bytearray(64 * MIB)
    block[::4096] = b"x" * len(block[::4096])
    assert sampler.sample() - before >= 60 * MIB
    del block


def test_samples_are_taken_all_the_time_and_cheaply():
    with MemorySampler(interval_s=0.02) as sampler:
        thread_id, spent = sampler._thread.native_id, 0.0
        deadline = time.monotonic() + 60
        while sampler.n_samples < 50:
            assert time.monotonic() < deadline, f"{sampler.n_samples} samples in a minute"
            time.sleep(0.05)
            thread = next(t for t in psutil.Process().threads() if t.id == thread_id)
            spent = thread.user_time + thread.system_time
    assert spent / 50 < 0.005  # with five samples a second 2.5 % of a core; its promise is 2


def test_every_finished_task_is_a_sample():
    sampler = MemorySampler()
    sampler(TASK)
    sampler(RunStopped("interrupted"))
    assert sampler.n_samples == 1


def test_a_process_that_vanishes_is_no_error():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        sampler = MemorySampler()
        sampler.sample()
        child.kill()
        child.wait()
        assert sampler.sample() > 0
        assert child.pid not in sampler._tree.read()


def test_closing_twice_or_unstarted_is_fine():
    MemorySampler().close()
    sampler = MemorySampler().start()
    sampler.close()
    sampler.close()
