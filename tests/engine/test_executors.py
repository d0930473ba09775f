"""Tasks on Dask: where they are sent, what becomes of those whose worker dies, and when waiting ends."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import KilledWorker

from oocml.engine import executors as module
from oocml.engine.executors import Completion, Lost, OnDask
from oocml.engine.task import run_task
from oocml.errors import WorkersLost
from oocml.schedule.crew import TASKS_AT_ONCE
from oocml.schedule.tasks import Task


class FakeFuture:
    def __init__(self, key: Any, worker: str) -> None:
        self.key, self.worker, self.status = key, worker, "pending"
        self.value: Any = None
        self.cancelled = False

    def add_done_callback(self, callback: Any) -> None:
        self.callback = callback

    def callback(self, future: FakeFuture) -> None:
        pass

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
        self.ends: list[Any] = []
        """How the next calls end."""
        self.calls: list[tuple[Any, ...]] = []

    def scheduler_info(self, n_workers: int = -1) -> dict[str, Any]:
        return {"workers": dict.fromkeys(self.workers)}

    def submit(self, *call: Any, key: Any, workers: Any = None, **options: Any) -> FakeFuture:
        assert options["retries"] == 0
        self.calls.append(call)
        self.futures.append(FakeFuture(key, workers[0] if workers else ""))
        if self.ends:
            value = self.ends.pop(0)
            self.futures[-1].end(value, "error" if isinstance(value, Exception) else "finished")
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
        task=Task(stamp, (0,), (q,), q),
        out_stamp=stamp,
        epoch=1,
        pass_=SimpleNamespace(name="visit"),
        setup=SimpleNamespace(home="col", driver="driver"),
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


def test_a_tasks_own_timeout_is_an_error_and_no_loss(fake):
    client, executor = fake("a")
    executor.submit(message(1))
    client.futures[0].end(TimeoutError("the store did not answer"), "error")
    with pytest.raises(TimeoutError, match="did not answer"):
        executor.wait()


def results_of(executor: OnDask, n: int) -> Iterator[Any]:
    return executor.map(run_task, list(range(n)))


def test_a_map_is_given_up_when_no_worker_is_left(fake, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 10.0)
    client, executor = fake("a")
    results = results_of(executor, 5)
    client.workers = []
    with pytest.raises(WorkersLost, match="no worker has been alive for 10 s"):
        next(results)
    assert client.futures
    assert all(future.cancelled for future in client.futures)


def test_a_maps_own_timeout_ends_it(fake):
    client, executor = fake("a")
    results = results_of(executor, 5)
    client.ends = [TimeoutError("the store did not answer")]
    with pytest.raises(TimeoutError, match="did not answer"):
        next(results)
    assert all(future.cancelled for future in client.futures)


def test_a_caller_that_wants_no_more_results_leaves_nothing_running(fake):
    client, executor = fake("a")
    results = results_of(executor, 20)
    client.ends = list(range(10, 14))
    assert [next(results), next(results)] == [10, 11]
    left = client.futures[2:]
    assert left
    assert not any(future.cancelled for future in left)
    results.close()
    assert all(future.cancelled for future in left[1:])


def test_calls_that_kill_three_workers_end_a_map(fake):
    client, executor = fake("a")
    killed = KilledWorker("k", SimpleNamespace(address="a"), 0)  # type: ignore[arg-type]
    client.ends = [killed, *range(executor.n_slots - 1), killed, 7]
    results = results_of(executor, executor.n_slots)
    assert next(results) == 7, "the third attempt"
    client.ends = [killed] * 6
    with pytest.raises(WorkersLost, match="3 workers died running run_task"):
        next(results_of(executor, 2))
    assert len(client.futures) == executor.n_slots + 2 + 2 + 2


@pytest.mark.parametrize("at_once", [TASKS_AT_ONCE, 3])
@pytest.mark.parametrize("call", ["run_on_worker", "call_on_worker"])
def test_a_process_holds_no_more_tasks_than_the_plan_has_room_for(monkeypatch, call, at_once):
    """Even where a cluster has more threads."""
    resident, most = 0, []

    def work(message: Any) -> Any:
        nonlocal resident
        resident += 1
        most.append(resident)
        time.sleep(0.01)
        resident -= 1
        return SimpleNamespace(worker="")

    monkeypatch.setattr(module, "run_task", work)
    monkeypatch.setattr(module, "get_worker", lambda: SimpleNamespace(address="w"))
    run = module.run_on_worker if call == "run_on_worker" else partial(module.call_on_worker, work)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(run, at_once=at_once), range(16)))
    assert max(most) == at_once


def test_tasks_return_to_the_worker_that_has_their_columns(fake):
    client, executor = fake("a", "b")
    for stamp, q in [(1, 0), (2, 1), (3, 0), (4, 1)]:
        executor.submit(message(stamp, q))
    homes = [future.worker for future in client.futures]
    assert homes[0] == homes[2] != homes[1] == homes[3]


def test_no_more_is_scored_at_a_time_than_there_is_room_for(fake):
    client, executor = fake("a")
    for asked, allowed in ((None, TASKS_AT_ONCE), (1, 1), (5, TASKS_AT_ONCE)):
        client.ends = [0]
        assert list(executor.map(run_task, ["batch"], asked)) == [0]
        assert client.calls[-1][-1] == allowed


def test_forgetting_stops_tasks_of_this_process(fake, monkeypatch):
    stopped: list[str] = []
    monkeypatch.setattr(module, "stop_tasks", stopped.append)
    _, executor = fake("a")
    executor.submit(message(1))
    executor.forget()
    assert stopped == ["driver"]
