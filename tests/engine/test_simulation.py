"""Thousands of bad days: a simulated cluster whose workers are slow, die, rise again and do things twice.

Everything random comes from one seed, which a failure names. The disk is a dictionary that is write-once and
remembers who wrote what, so a chunk written twice with different bytes fails at once.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from oocml.engine import journal as journal_module
from oocml.engine import task as task_module
from oocml.engine.context import RunContext, forget_context, run_context
from oocml.engine.driver import Driver
from oocml.engine.executors import Completion, Lost
from oocml.engine.in_process import InProcess
from oocml.engine.judging import Validation
from oocml.engine.messages import TaskMessage, TaskResult
from oocml.engine.task import run_task
from oocml.errors import DamagedStore
from oocml.schedule.layout import block_shape
from oocml.store import buffers
from oocml.store.buffers import BufferPool
from oocml.store.cache import PinnedCache
from tests.engine.faulty_disk import Killed
from tests.engine.toys import OTHER, TILES, TOY, ToyRun
from tests.store.memory import MemoryChunks

Put = tuple[str, bytes, str | None]


class HeldBack:
    """The disk as one execution sees it: what it writes arrives later."""

    def __init__(self, disk: MemoryChunks) -> None:
        self.disk = disk
        self.read_into = disk.read_into
        self.puts: list[Put] = []

    def put(self, key: str, buffer: memoryview, spare: str | None = None) -> None:
        self.puts.append((key, bytes(buffer), spare))


class Execution:
    """One run of one dispatch on one worker; a dispatch may have several."""

    def __init__(self, message: TaskMessage, context: RunContext) -> None:
        self.message, self.context = message, context
        self.result: TaskResult | None = None
        self.puts: list[Put] = []
        self.dead = False

    def step(self, disk: MemoryChunks, patch: pytest.MonkeyPatch) -> None:
        """Compute (read everything at this moment), or let one write arrive."""
        if self.result is None:
            held = HeldBack(disk)
            context = dataclasses.replace(self.context, chunks=held)  # type: ignore[arg-type]
            patch.setattr(task_module, "run_context", lambda setup: context)
            self.result, self.puts = run_task(self.message), held.puts
        elif self.puts:
            disk.put(*self.puts.pop(0))

    @property
    def ended(self) -> bool:
        return self.result is not None and not self.puts


class AtOnce:
    """A reader that reads when it is asked: nothing here depends on threads."""

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


class Cluster:
    """An executor over simulated workers.

    Parameters
    ----------
    zombies
        Executions of an earlier driver, or of workers that were declared dead: they go on as they like.
    """

    def __init__(
        self,
        rng: random.Random,
        disk: MemoryChunks,
        base: RunContext,
        patch: pytest.MonkeyPatch,
        zombies: list[Execution],
    ) -> None:
        self.rng, self.disk, self.base, self.patch, self.zombies = rng, disk, base, patch, zombies
        self.n_slots = rng.randint(1, 6)
        self.n_workers = rng.randint(1, 3)
        self.workers = [self.new_worker() for _ in range(self.n_workers)]
        self.flying: dict[int, list[Execution]] = {}
        self.lost: dict[tuple[int, int], int] = {}
        self.kill_in = rng.choice([None, None, rng.randint(0, 60)])

    def new_worker(self) -> RunContext:
        capacity = self.rng.choice([0, 500, 2**20])
        return dataclasses.replace(
            self.base,
            reader=AtOnce(),  # type: ignore[arg-type]
            panel_cache=PinnedCache(self.rng.choice([0, 200, 2**20])),
            block_cache=PinnedCache(capacity),
            pool=BufferPool(self.rng.choice([0, 2**14, 2**20])),
        )

    def submit(self, message: TaskMessage, worker: str | None = None) -> None:
        self.flying[message.out_stamp] = [Execution(message, self.rng.choice(self.workers))]

    def free(self) -> list[str]:
        return ["a", "b"] if len(self.flying) < self.n_slots else []

    def map(self, function: Any, messages: Any, at_once: int | None = None) -> Any:
        return map(function, messages)

    def forget(self) -> None:
        pass

    def abandon(self) -> list[Execution]:
        """Everything that may still write when this driver is gone."""
        return self.zombies + [one for several in self.flying.values() for one in several]

    def wait(self, at_most: float | None = None) -> list[Completion]:
        completions: list[Completion] = []
        while not completions:
            if self.kill_in is not None:
                self.kill_in -= 1
                if self.kill_in < 0:
                    raise Killed("driver")
            choice = self.rng.random()
            if choice < 0.05 and self.zombies:
                self.let_a_zombie_work()
            elif choice < 0.08:
                completions = self.lose_worker()
            elif choice < 0.12:
                several = self.rng.choice(list(self.flying.values()))
                several.append(Execution(several[0].message, self.rng.choice(self.workers)))
            else:
                several = self.rng.choice(list(self.flying.values()))
                one = self.rng.choice(several)
                one.step(self.disk, self.patch)
                if one.ended:
                    completions = [self.finish(one)]
        while self.rng.random() < 0.3 and any(
            one.ended for several in self.flying.values() for one in several
        ):
            ended = [one for several in self.flying.values() for one in several if one.ended]
            completions.append(self.finish(self.rng.choice(ended)))
        return completions

    def finish(self, one: Execution) -> Completion:
        others = self.flying.pop(one.message.out_stamp)
        self.zombies += [other for other in others if other is not one]
        assert one.result is not None
        return Completion(one.message, one.result)

    def lose_worker(self) -> list[Completion]:
        """Declare a worker dead; it may be dead indeed, or go on."""
        worker = self.rng.choice(self.workers)
        self.workers[self.workers.index(worker)] = self.new_worker()
        completions = []
        for stamp, several in list(self.flying.items()):
            if several[0].context is not worker:
                continue
            message = several[0].message
            key = (message.pass_number, message.task.index)
            was_running = self.rng.random() < 0.5 and self.lost.get(key, 0) < 2
            self.lost[key] = self.lost.get(key, 0) + was_running
            if self.rng.random() < 0.7:
                self.zombies += several
            del self.flying[stamp]
            completions.append(Completion(message, Lost("worker", was_running)))
        return completions

    def let_a_zombie_work(self) -> None:
        one = self.rng.choice(self.zombies)
        try:
            one.step(self.disk, self.patch)
        except DamagedStore:
            one.dead = True  # what it should read is superseded and gone
        if one.dead or one.ended:
            self.zombies.remove(one)


def attach(driver: Driver, disk: MemoryChunks) -> None:
    driver.journal.chunks = disk  # type: ignore[assignment]
    driver.run.sweep = disk.sweep  # type: ignore[method-assign]


def state_in(driver: Driver, disk: MemoryChunks) -> dict[str, Any]:
    """Every block of the state and of the kept checkpoint, as bytes."""
    journal, found = driver.journal, {}
    ledgers = {"": journal.ledger} | {name: driver.run.read_ledger(name) for name in journal.ledger.kept}
    for kept, ledger in ledgers.items():
        for name, array in journal.arrays.items():
            if kept and not journal.specs[name].export:
                continue
            for index, stamp in enumerate(ledger.stamps[name].tolist()):
                shape = block_shape(journal.specs[name], journal.layout, journal.problem, index)
                crc = int(ledger.crcs[name][index])
                block = array.read(disk, index, stamp, shape, crc)[0] if stamp else np.zeros(0)
                found[kept, name, index] = block.tobytes()
    found["objective"] = journal.ledger.objective
    found["history"] = [record["objective"] for record in journal.ledger.history]
    return found


def validation(driver: Driver) -> Validation:
    return Validation(lambda: {"m": abs(len(driver.journal.ledger.history) - 0.6)}, "m", False, None)


@pytest.fixture
def one_setup(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    # the toy's blocks are small: pool them all, so that memory which is used too early shows
    monkeypatch.setattr(buffers, "POOLED_BYTES", 1)
    monkeypatch.setattr(buffers, "ROUND_BYTES", 64)
    forget_context()
    return monkeypatch


def simulate(seed: int, toy: ToyRun, first_ledger: bytes, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Train to the end under a new driver each time one is killed; what the disk says then."""
    rng, disk, zombies = random.Random(seed), MemoryChunks(), []
    patch.setattr(journal_module, "SPARED_BYTES", rng.choice([1, 2**20]))
    patch.setattr(journal_module, "SPARE_BLOCKS", rng.randint(1, 4))
    toy.run.ledger_path.write_bytes(first_ledger)
    for _ in range(50):
        driver = Driver(toy.run, toy.plan, None)  # type: ignore[arg-type]
        attach(driver, disk)
        driver.validation = validation(driver)
        driver.dispatcher.executor = cluster = Cluster(rng, disk, run_context(driver.setup), patch, zombies)
        try:
            driver.train()
        except Killed:
            zombies = cluster.abandon()
            continue
        while cluster.zombies:
            cluster.let_a_zombie_work()
        return state_in(driver, disk)
    raise AssertionError("fifty drivers were not enough")


@pytest.fixture(params=[TOY, OTHER, TILES], ids=["toy", "other", "tiles"])
def check(request: Any, new_run: Any, one_setup: pytest.MonkeyPatch) -> Any:
    shape = {"row_blocks": 3, "col_blocks": 3, "epochs": 2, "reference": request.param}
    toy: ToyRun = new_run(**shape)
    first_ledger = toy.run.ledger_path.read_bytes()
    plain: ToyRun = new_run(**shape)
    forget_context()
    driver = Driver(plain.run, plain.plan, None)  # type: ignore[arg-type]
    driver.dispatcher.executor, driver.validation = InProcess(), validation(driver)
    driver.train()
    expected = state_in(driver, driver.journal.chunks)  # type: ignore[arg-type]

    def run(seeds: Iterable[int]) -> None:
        forget_context()
        for seed in seeds:
            try:
                assert simulate(seed, toy, first_ledger, one_setup) == expected
            except BaseException:
                print(f"failing seed: {seed}")
                raise
        forget_context()

    return run


def test_bad_days_change_no_bit(check):
    check(range(3))


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", range(10))
def test_thousands_of_bad_days_change_no_bit(check, part):
    check(range(1000 + 400 * part, 1000 + 400 * (part + 1)))
