"""Real processes, really killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from distributed import Client

import oocml
from tests.faults.torture import (
    NOTHING,
    ROOT,
    Driver,
    Job,
    in_peace,
    kill_drivers,
    kill_workers,
    outcome,
    progress,
    until_progress,
)


def test_killing_a_worker_and_then_everything_changes_no_bit(job: Job):
    job.epochs = 2
    expected, out = in_peace(job), job.folder / "run.zarr"
    driver = Driver(job.folder, verb="train", **job.train(out, workers=2))
    until_progress(driver, out, NOTHING)
    victim = driver.workers()[0]
    victim.kill()
    before = progress(out)
    until_progress(driver, out, before)
    assert driver.alive, driver.failure()
    driver.kill()
    assert not oocml.open_run(out).store.read_ledger().finished
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE
    oocml.resume(out, schedule="serial")
    assert outcome(out) == expected


def test_killing_a_driver_with_its_worker_inside_changes_no_bit(job: Job):
    """So little memory that one worker is in the driver's process: tasks in flight die with it, whatever they write."""
    job.epochs = 2
    expected, out, one_worker = in_peace(job), job.folder / "run.zarr", {"memory": 300 << 20}
    driver = Driver(job.folder, verb="train", **job.train(out, **one_worker))
    until_progress(driver, out, NOTHING)
    assert driver.alive, driver.failure()
    assert not driver.workers()
    driver.kill()
    assert not oocml.open_run(out).store.read_ledger().finished
    oocml.resume(out, **one_worker)
    assert outcome(out) == expected


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_thirty_killed_workers_change_no_bit(job: Job):
    job.epochs = 10
    report = kill_workers(job, 30, random.Random(1), every_s=0.5)
    print(report)
    assert report.kills >= 30


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_thirty_workers_killed_without_barriers_lose_nothing_and_do_nothing_twice(job: Job):
    job.model, job.epochs, job.options["settings"] = (
        f"{ROOT / 'tests/tile_toy.py'}:TileToy",
        10,
        {"sleep": 0.05},
    )
    report = kill_workers(job, 30, random.Random(3), every_s=0.5, schedule="async")
    print(report)
    assert report.kills >= 30


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_thirty_killed_drivers_change_no_bit(job: Job):
    job.epochs = 10
    report = kill_drivers(job, 30, random.Random(2))
    print(report)
    assert report.kills >= 30


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_killed_while_it_is_created_is_begun_again(job: Job):
    """Kills at moments spread over the creation; whatever is there, training again works."""
    job.epochs, job.options["settings"] = 1, {}
    expected, rng, states = in_peace(job), random.Random(3), set()
    for number in range(12):
        out = job.folder / f"run-{number}.zarr"
        driver = Driver(job.folder, verb="train", **job.train(out, schedule="serial"))
        while driver.alive and not list(job.folder.glob(f"{out.name}*")):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.15))
        driver.kill()
        left = {path.name.removeprefix(out.name) for path in job.folder.glob(f"{out.name}*")}
        states.add("whole" if "" in left else "half" if left else "nothing")
        if out.exists():
            oocml.resume(out)
        else:
            with pytest.raises(oocml.errors.InputError):
                oocml.open_run(out)
            oocml.train(**job.train(out, schedule="serial"))
        assert outcome(out) == expected
        assert [path.name for path in job.folder.glob(f"{out.name}*")] == [out.name]
    assert "half" in states, "no creation was hit half-way"


@contextlib.contextmanager
def cluster_without_nannies(n_workers: int) -> Iterator[tuple[str, list[psutil.Popen]]]:
    """A scheduler that gives silent workers up after 5 s, and workers that nobody restarts; they come first."""
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1s", "PYTHONPATH": str(ROOT)}
    port_file = ["--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *port_file],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    workers: list[psutil.Popen] = []
    try:
        assert scheduler.stderr is not None
        address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at:" in line)
        for _ in range(n_workers):
            command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny"]
            command += ["--nthreads", "1", "--no-dashboard"]
            workers.append(psutil.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        yield address, [*workers, scheduler]  # type: ignore[list-item]
    finally:
        for process in [*workers, scheduler]:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        scheduler.stderr.close()  # type: ignore[union-attr]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_worker_that_comes_back_from_the_dead_changes_no_bit(job: Job):
    """Stopped until the scheduler gave it up and others did its work, then let go on: it writes late."""
    job.options["settings"] = {"sleep": 0.2}
    expected, out = in_peace(job), job.folder / "run.zarr"
    with cluster_without_nannies(3) as (address, workers):
        driver = Driver(job.folder, verb="train", **job.train(out, scheduler=address))
        until_progress(driver, out, NOTHING)
        with Client(address) as client:
            for victim in workers[:2]:
                n_known = len(client.scheduler_info()["workers"])
                os.kill(victim.pid, signal.SIGSTOP)
                deadline = time.monotonic() + 60
                while len(client.scheduler_info()["workers"]) >= n_known and time.monotonic() < deadline:
                    time.sleep(0.1)
                assert len(client.scheduler_info()["workers"]) < n_known, "it was never given up"
                seen = progress(out)
                os.kill(victim.pid, signal.SIGCONT)
                until_progress(driver, out, seen)
        failure = driver.failure()
    assert failure is None, failure
    assert outcome(out) == expected


@pytest.mark.long
@pytest.mark.timeout(900)
def test_workers_that_outlive_their_driver_do_not_disturb_the_next_one(job: Job):
    """A cluster of its own goes on with what a killed driver had dispatched, while the next driver runs."""
    job.options["settings"] = {"sleep": 0.1}
    expected, out = in_peace(job), job.folder / "run.zarr"
    with cluster_without_nannies(2) as (address, _):
        arguments = {"verb": "train"} | job.train(out, scheduler=address)
        for _ in range(4):
            driver = Driver(job.folder, **arguments)
            until_progress(driver, out, progress(out))
            if not driver.alive:
                break
            driver.kill()
            arguments = {"verb": "resume", "path": str(out), "scheduler": address}
        # and a run that takes the place of one whose workers still write
        driver = Driver(job.folder, verb="train", **job.train(out, scheduler=address, overwrite=True))
        failure = driver.failure()
    assert failure is None, failure
    assert outcome(out) == expected


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("who", ["scheduler", "workers"])
def test_a_cluster_that_is_gone_ends_the_training_in_one_line(job: Job, who: str):
    job.options["settings"] = {"sleep": 0.1}
    expected, out = in_peace(job), job.folder / "run.zarr"
    with cluster_without_nannies(2) as (address, processes):
        driver = Driver(job.folder, verb="train", **job.train(out, scheduler=address))
        until_progress(driver, out, NOTHING)
        for process in processes[2:] if who == "scheduler" else processes[:2]:
            process.kill()
        failure = driver.failure()
    assert failure is not None
    assert failure.splitlines()[-1].startswith("WorkersLost: ")
    oocml.resume(out, schedule="serial")
    assert outcome(out) == expected
