"""However tasks are run, the bits are those of running them one after another."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, KilledWorker, LocalCluster

import oocml
from oocml.engine import executors as module
from oocml.engine.executors import Completion, Lost, OnDask
from oocml.engine.messages import TaskMessage
from oocml.engine.task import run_task
from oocml.errors import WorkersLost
from oocml.schedule.plan import TASKS_AT_ONCE
from oocml.schedule.tasks import Task
from oocml.store import buffers
from tests.engine.toys import OTHER, TOY, drive, fingerprint


class InThreads:
    """Several tasks at once in this process, which share one context with its caches and its memory."""

    n_workers = 1

    def __init__(self, n_threads: int) -> None:
        self.n_slots = n_threads + 1
        self.pool = ThreadPoolExecutor(n_threads)
        self.ended: queue.Queue[Any] = queue.Queue()

    def submit(self, message: TaskMessage) -> None:
        future = self.pool.submit(run_task, message)
        future.add_done_callback(lambda future: self.ended.put((message, future)))

    def wait(self) -> list[Completion]:
        message, future = self.ended.get(timeout=60)
        return [Completion(message, future.result())]

    def forget(self) -> None:
        self.pool.shutdown()


@pytest.mark.parametrize("reference", [TOY, OTHER], ids=["toy", "other"])
@pytest.mark.parametrize("pooled_bytes", [1, 2**20])
def test_tasks_that_share_a_process_do_not_disturb_each_other(new_run, monkeypatch, reference, pooled_bytes):
    monkeypatch.setattr(buffers, "POOLED_BYTES", pooled_bytes)
    monkeypatch.setattr(buffers, "ROUND_BYTES", 64)
    shape = {"row_blocks": 3, "col_blocks": 3, "epochs": 1, "reference": reference}
    plain = new_run(**shape)
    drive(plain)
    for caches in (True, False):
        toy, threads = new_run(**shape, caches=caches), InThreads(3)
        drive(toy, threads)
        threads.forget()
        assert fingerprint(toy.run) == fingerprint(plain.run)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers in this process, as somebody's own cluster might be."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("reference", [TOY, OTHER], ids=["toy", "other"])
def test_training_on_the_callers_cluster_is_training_serially(client, tmp_path, toy_dataset, reference):
    options: dict[str, Any] = {"epochs": 2, "row_blocks": 3, "col_blocks": 3}
    for schedule in ("serial", "sync"):
        oocml.train(reference, toy_dataset, tmp_path / f"{schedule}.zarr", schedule=schedule, **options)
        oocml.resume(tmp_path / f"{schedule}.zarr", epochs=1)
    serial, sync = (oocml.open_run(tmp_path / f"{schedule}.zarr").store for schedule in ("serial", "sync"))
    assert fingerprint(sync) == fingerprint(serial)
    assert client.scheduler_info()["workers"], "a client that is not ours stays open"


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_no_bit(tmp_path, toy_dataset, workers):
    options: dict[str, Any] = {"epochs": 3, "row_blocks": 4, "col_blocks": 3}
    for reference in (TOY, OTHER):
        oocml.train(
            reference, toy_dataset, tmp_path / "serial.zarr", schedule="serial", overwrite=True, **options
        )
        oocml.train(
            reference, toy_dataset, tmp_path / "sync.zarr", workers=workers, overwrite=True, **options
        )
        serial, sync = (oocml.open_run(tmp_path / f"{name}.zarr") for name in ("serial", "sync"))
        assert fingerprint(sync.store) == fingerprint(serial.store)


class FakeFuture:
    def __init__(self, key: Any, worker: str) -> None:
        self.key, self.worker, self.status = key, worker, "pending"
        self.value: Any = None
        self.cancelled = False

    def add_done_callback(self, callback: Any) -> None:
        self.callback = callback

    def end(self, value: Any, status: str = "finished") -> None:
        self.value, self.status = value, status
        self.callback(self)

    def die(self) -> None:
        self.end(KilledWorker(str(self.key), SimpleNamespace(address=self.worker), 0), "error")  # type: ignore[arg-type]

    def result(self, timeout: float | None = None) -> Any:
        if self.status == "pending":
            raise TimeoutError
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def cancel(self) -> None:
        self.cancelled = True

    def release(self) -> None:
        pass


class FakeClient:
    """Dask as far as the executor sees it; the test decides what happens."""

    def __init__(self, *workers: str) -> None:
        self.workers = list(workers)
        self.futures: list[FakeFuture] = []
        self.running: dict[str, list[Any]] = {}

    def scheduler_info(self, n_workers: int = -1) -> dict[str, Any]:
        return {"workers": dict.fromkeys(self.workers)}

    def submit(self, function: Any, message: Any, *, key: Any, workers: Any, **options: Any) -> FakeFuture:
        assert options["retries"] == 0
        self.futures.append(FakeFuture(key, workers[0] if workers else ""))
        return self.futures[-1]

    def processing(self) -> dict[str, list[Any]]:
        return self.running


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "REFRESH_S", -1.0)

    def make(*workers: str) -> tuple[FakeClient, OnDask]:
        client = FakeClient(*workers)
        return client, OnDask(client, "toy")  # type: ignore[arg-type]

    return make


def message(stamp: int, q: int = 0) -> Any:
    return SimpleNamespace(
        task=Task(stamp, (0,), (q,), q), out_stamp=stamp, epoch=1, pass_=SimpleNamespace(name="visit")
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_only_tasks_that_ran_are_counted_against_a_dead_worker(fake, at_once):
    """However its losses come in, one by one or together."""
    client, executor = fake("w")
    n_tasks = TASKS_AT_ONCE + 2
    for stamp in range(1, n_tasks + 1):
        executor.submit(message(stamp))
    found = {}
    order = list(reversed(client.futures)) if at_once else client.futures
    for future in order:
        future.die()
        if not at_once:
            found |= {c.message.out_stamp: c.outcome.was_running for c in executor.wait()}
    while len(found) < n_tasks:
        found |= {c.message.out_stamp: c.outcome.was_running for c in executor.wait()}
    assert found == {stamp: stamp <= TASKS_AT_ONCE for stamp in range(1, n_tasks + 1)}


def test_a_result_that_died_with_its_worker_is_lost_and_ends_nothing(fake):
    client, executor = fake("a", "b")
    for stamp in (1, 2, 3):
        executor.submit(message(stamp, stamp))
    first, second, third = client.futures
    first.end("result")
    first.status = "pending"  # Dask runs it again
    second.end("result")
    second.value = KilledWorker("k", SimpleNamespace(address="b"), 0)  # type: ignore[arg-type]
    third.end("result")
    outcomes = [completion.outcome for completion in executor.wait()]
    assert [type(outcome) for outcome in outcomes] == [Lost, Lost, str]
    assert first.cancelled


def test_a_task_bound_to_a_dead_worker_is_sent_anew(fake, monkeypatch):
    client, executor = fake("a")
    executor.submit(message(1))
    executor.submit(message(2))
    client.workers = ["b"]
    client.running = {"b": [client.futures[1].key]}  # Dask itself found another place for this one

    waits = iter([queue.Empty, "go"])

    def get(timeout: float) -> Any:
        if next(waits) is queue.Empty:
            raise queue.Empty
        client.futures[-1].end("late")
        return get_ended(timeout=timeout)

    get_ended = executor._ended.get
    monkeypatch.setattr(executor._ended, "get", get)
    [completion] = executor.wait()
    assert completion == Completion(completion.message, "late")  # type: ignore[arg-type]
    assert completion.message.out_stamp == 1
    first, other, again = client.futures
    assert (first.cancelled, other.cancelled) == (True, False)
    assert again.worker == ""
    assert len({future.key for future in client.futures}) == 3
    assert all(isinstance(part, int) for future in client.futures for part in future.key[1:])


def test_a_cancelled_task_that_ends_late_is_ignored(fake, monkeypatch):
    client, executor = fake("a")
    executor.submit(message(1))
    stale = FakeFuture("stale", "a")
    executor._ended.put(stale)  # type: ignore[arg-type]
    client.futures[0].end("result")
    assert [completion.outcome for completion in executor.wait()] == ["result"]


def test_a_cluster_without_workers_is_given_up_in_one_line(fake, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 10.0)
    client, executor = fake("a")
    executor.submit(message(1))
    client.workers = []

    def nothing(timeout: float) -> Any:
        raise queue.Empty

    monkeypatch.setattr(executor._ended, "get", nothing)
    with pytest.raises(WorkersLost, match="no worker has been alive for 10 s"):
        executor.wait()


def test_tasks_return_to_the_worker_that_has_their_columns(fake):
    client, executor = fake("a", "b")
    for stamp, q in [(1, 0), (2, 1), (3, 0), (4, 1)]:
        executor.submit(message(stamp, q))
    homes = [future.worker for future in client.futures]
    assert homes[0] == homes[2] != homes[1] == homes[3]
