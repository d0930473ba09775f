"""Kill real processes while they train, and compare what comes out with a training that nobody touched.

    python -m tests.faults.torture --model mlr --data news20.zarr --kills 30 --who driver

trains the same thing twice: once in peace and once with its workers (or its driver with all its processes) killed
with SIGKILL at random moments after progress was seen; some workers are only stopped for a while. Both exports must
have the same bytes. The seed is printed; it repeats the choices, though not the moments.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

import oocml
from oocml.config import parse_settings
from oocml.errors import DamagedStore
from oocml.models.registry import load_model
from oocml.store.ledger import Ledger, read_ledger
from tests.replay import replayed

ROOT = Path(__file__).resolve().parents[2]
STUCK_S = 150.0
"""Longer than a driver waits for workers."""


@dataclasses.dataclass
class Job:
    """A training, and where to put it."""

    model: str
    data: str
    folder: Path
    epochs: int = 3
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """More arguments of `oocml.train`: settings, memory, row_blocks ..."""

    def train(self, out: Path, **more: Any) -> dict[str, Any]:
        return (
            {"model": self.model, "data": self.data, "out": str(out), "epochs": self.epochs}
            | self.options
            | more
        )


@dataclasses.dataclass
class Report:
    kills: int = 0
    stops: int = 0
    drivers: int = 0
    """Drivers that were started."""
    trainings: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return ", ".join(f"{value:.4g} {name}" for name, value in dataclasses.asdict(self).items())


class Driver:
    """A driver in a process of its own."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.errors = folder / "errors.txt"
        command = [sys.executable, "-m", "tests.faults.child", json.dumps(arguments)]
        with open(self.errors, "w") as errors:
            self.process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def tree(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def workers(self) -> list[psutil.Process]:
        """Worker processes: what a fork server forked, or what was spawned."""
        found = []
        for process in self.tree()[1:]:
            with contextlib.suppress(psutil.Error):
                command, parent = " ".join(process.cmdline()), process.parent()
                forked = parent is not None and "forkserver" in " ".join(parent.cmdline())
                if forked or "spawn_main" in command:
                    found.append(process)
        return found

    def kill(self, *, alone: bool = False) -> None:
        """SIGKILL the driver with all of its processes, or leave the others behind."""
        for process in [self.process] if alone else self.tree():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stacks(self) -> str:
        """Where every thread of the driver is; kills it."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(1.0)
        self.kill()
        return self.errors.read_text()

    def failure(self) -> str | None:
        """What it said if it failed."""
        code = self.process.wait()
        text = self.errors.read_text().strip()
        return text or f"exit code {code}" if code else None


def digest(export: Path) -> str:
    """One sum over the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(path for path in export.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(export)).encode() + path.read_bytes())
    return total.hexdigest()


def outcome(out: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on who was killed."""
    run = oocml.open_run(out)
    info = run.info(deep=True)
    assert info["whole"], info["problem"]
    assert info["finished"]
    export = out.with_suffix(".export.zarr")
    run.export(export, at="last", overwrite=True)
    ledger = run.store.read_ledger()
    return {
        "export": digest(export),
        "objective": ledger.objective,
        "history": [(record["epoch"], record["objective"]) for record in ledger.history],
    }


def in_peace(job: Job) -> dict[str, Any]:
    """What the job ends with when nobody disturbs it."""
    out = job.folder / "peace.zarr"
    oocml.train(**job.train(out, schedule="serial", overwrite=True))
    return outcome(out)


NOTHING = (0, 0, 0)


def progress(out: Path) -> tuple[int, int, int]:
    """How far the ledger is: finished steps, epochs of a repeated pass, tasks of the current one."""
    with contextlib.suppress(DamagedStore):
        ledger: Ledger = read_ledger(out / "ledger")
        return len(ledger.results), len(ledger.epoch_parts), len(ledger.done)
    return NOTHING


def until_progress(driver: Driver, out: Path, since: tuple[int, int, int]) -> None:
    """Wait until the driver commits something (or ends)."""
    waited = 0.0  # not by the clock: this process may be stopped too
    while driver.alive and progress(out) <= since:
        if waited > STUCK_S:
            raise AssertionError(f"nothing was committed in {STUCK_S:.0f} s at {since}: {driver.stacks()}")
        time.sleep(0.02)
        waited += 0.02


def kill_workers(
    job: Job, n_kills: int, rng: random.Random, *, every_s: float = 1.0, schedule: str = "sync"
) -> Report:
    """Kill or stop a random worker every second or so until enough were killed.

    What an asynchronous training ends with is compared with the same commits made one after another in peace.
    """
    report, began = Report(), time.monotonic()
    expected = in_peace(job) if schedule == "sync" else None
    while report.kills < n_kills:
        out = job.folder / f"killed-{report.trainings}.zarr"
        report.trainings += 1
        arguments = {"verb": "train"} | job.train(out, schedule=schedule, workers=rng.randint(2, 3))
        while True:
            driver = Driver(job.folder, **arguments)
            report.drivers += 1
            _harass(driver, out, report, rng, every_s)
            failure = driver.failure()
            if failure is None:
                break
            assert "WorkersLost" in failure, failure  # three in a row hit the same task: that may happen
            arguments = {"verb": "resume", "path": str(out)}
        if schedule == "async":
            again = out.with_name(f"replayed-{report.trainings}.zarr")
            replayed(out, again, job.train(again))
            expected = outcome(again)
        assert outcome(out) == expected, f"training {report.trainings} differs"
    report.seconds = time.monotonic() - began
    return report


def _harass(driver: Driver, out: Path, report: Report, rng: random.Random, every_s: float) -> None:
    seen = progress(out)
    while driver.alive:
        until_progress(driver, out, seen)
        seen = progress(out)
        time.sleep(rng.uniform(0, 2 * every_s))
        workers = driver.workers()
        if not workers or not driver.alive:
            continue
        victim = rng.choice(workers)
        with contextlib.suppress(psutil.Error):
            if rng.random() < 0.2:
                victim.suspend()
                time.sleep(rng.uniform(0, 2.0))
                victim.resume()
                report.stops += 1
            else:
                victim.kill()
                report.kills += 1


def kill_drivers(job: Job, n_kills: int, rng: random.Random, *, within_s: float = 2.0) -> Report:
    """Kill the driver at random moments after it committed something; resume on another number of workers."""
    report, expected, began = Report(), in_peace(job), time.monotonic()
    while report.kills < n_kills:
        out = job.folder / f"killed-{report.trainings}.zarr"
        report.trainings += 1
        while True:
            driver = _next_driver(job, out, rng)
            report.drivers += 1
            until_progress(driver, out, progress(out))
            time.sleep(rng.uniform(0, within_s))
            if not driver.alive:
                failure = driver.failure()
                assert failure is None, failure
                break
            if report.kills >= n_kills:
                failure = driver.failure()
                assert failure is None, failure
                break
            driver.kill(alone=rng.random() < 0.25)
            report.kills += 1
        assert outcome(out) == expected, f"training {report.trainings} differs"
    report.seconds = time.monotonic() - began
    return report


def _next_driver(job: Job, out: Path, rng: random.Random) -> Driver:
    schedule = rng.choice(["sync", "sync", "sync", "serial"])
    workers = rng.randint(1, 3) if schedule == "sync" else None
    if (out / "ledger").exists():
        return Driver(job.folder, verb="resume", path=str(out), schedule=schedule, workers=workers)
    return Driver(job.folder, verb="train", **job.train(out, schedule=schedule, workers=workers))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--who", choices=["workers", "driver"], default="workers")
    parser.add_argument("--schedule", choices=["sync", "async"], default="sync", help="of --who workers")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--memory", type=int, help="bytes")
    parser.add_argument("--task-memory", type=int, help="bytes")
    parser.add_argument("--row-blocks", type=int)
    parser.add_argument("--col-blocks", type=int)
    parser.add_argument("--every", type=float, default=1.0, help="mean seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where to work (default: with temporary files)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oocml-torture-", dir=given.folder) as folder:
        options = {
            name: getattr(given, name) for name in ("memory", "task_memory", "row_blocks", "col_blocks")
        }
        model = load_model(given.model)
        options["settings"] = parse_settings(given.settings, model.defaults(), model.name)
        job = Job(given.model, given.data, Path(folder), given.epochs, options)
        kill = kill_workers if given.who == "workers" else kill_drivers
        pace: dict[str, Any] = {"within_s": 2 * given.every}
        if given.who == "workers":
            pace = {"every_s": given.every, "schedule": given.schedule}
        print(f"seed {given.seed}", flush=True)
        print(f"same bytes: {kill(job, given.kills, random.Random(given.seed), **pace)}")


if __name__ == "__main__":
    main()
