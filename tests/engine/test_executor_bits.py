"""However tasks are run, the bits are those of running them one after another."""

from __future__ import annotations

import dataclasses
import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from distributed import Client, LocalCluster

import oocml
from oocml.engine.context import stop_tasks
from oocml.engine.events import RunStarted
from oocml.engine.executors import Completion
from oocml.engine.messages import TaskMessage
from oocml.engine.task import run_task
from oocml.errors import DoesNotFit, UsageError, WorkersLost
from oocml.schedule.crew import MOST_AT_ONCE
from oocml.store import buffers
from tests.engine.toys import OTHER, TILES, TOY, drive, fingerprint


class InThreads:
    """Several tasks at once in this process, which share one context with its caches and its memory."""

    n_workers = 1

    def __init__(self, n_threads: int) -> None:
        self.n_slots = n_threads + 1
        self.pool = ThreadPoolExecutor(n_threads)
        self.ended: queue.Queue[Any] = queue.Queue()

    def submit(self, message: TaskMessage, worker: str | None = None) -> None:
        future = self.pool.submit(run_task, message)
        future.add_done_callback(lambda future: self.ended.put((message, future)))

    def wait(self, at_most: float | None = None) -> list[Completion]:
        message, future = self.ended.get(timeout=60)
        return [Completion(message, future.result())]

    def forget(self) -> None:
        self.pool.shutdown()


@pytest.mark.parametrize("reference", [TOY, OTHER, TILES], ids=["toy", "other", "tiles"])
@pytest.mark.parametrize("pooled_bytes", [1, 2**20])
def test_tasks_that_share_a_process_do_not_disturb_each_other(new_run, monkeypatch, reference, pooled_bytes):
    monkeypatch.setattr(buffers, "POOLED_BYTES", pooled_bytes)
    monkeypatch.setattr(buffers, "ROUND_BYTES", 64)
    shape = {"row_blocks": 3, "col_blocks": 3, "epochs": 1, "reference": reference}
    plain = new_run(**shape)
    drive(plain)
    for caches, at_once in ((True, 3), (False, 3), (False, 2)):
        toy, threads = new_run(**shape, caches=caches), InThreads(3)
        drive(toy._replace(plan=dataclasses.replace(toy.plan, at_once=at_once)), threads)
        threads.forget()
        assert fingerprint(toy.run) == fingerprint(plain.run)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_no_bit(tmp_path, toy_dataset, workers):
    options: dict[str, Any] = {"epochs": 3, "row_blocks": 4, "col_blocks": 3}
    for reference in (TOY, OTHER, TILES):
        oocml.train(
            reference, toy_dataset, tmp_path / "serial.zarr", schedule="serial", overwrite=True, **options
        )
        oocml.train(
            reference, toy_dataset, tmp_path / "sync.zarr", workers=workers, overwrite=True, **options
        )
        serial, sync = (oocml.open_run(tmp_path / f"{name}.zarr") for name in ("serial", "sync"))
        assert fingerprint(sync.store) == fingerprint(serial.store)


@pytest.mark.parametrize("reference", [TOY, OTHER, TILES], ids=["toy", "other", "tiles"])
def test_a_worker_in_the_drivers_process_trains_to_the_same_bits(tmp_path, toy_dataset, reference):
    """With two computing threads: what is planned where memory leaves room for one worker, and nobody asked for it."""
    options: dict[str, Any] = {"epochs": 2, "row_blocks": 3, "col_blocks": 3}
    serial, one = tmp_path / "serial.zarr", tmp_path / "one.zarr"
    oocml.train(reference, toy_dataset, serial, schedule="serial", **options)
    events: list[Any] = []
    oocml.train(reference, toy_dataset, one, memory=300 << 20, monitors=[events.append], **options)
    [started] = [event for event in events if isinstance(event, RunStarted)]
    assert (started.n_workers, started.plan["at_once"]) == (
        1,
        MOST_AT_ONCE if os.cpu_count() != 1 else 2,
    )
    assert fingerprint(oocml.open_run(one).store) == fingerprint(oocml.open_run(serial).store)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers in this process, as somebody's own cluster might be."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("reference", [TOY, OTHER, TILES], ids=["toy", "other", "tiles"])
def test_training_on_the_callers_cluster_is_training_serially(client, tmp_path, toy_dataset, reference):
    options: dict[str, Any] = {"epochs": 2, "row_blocks": 3, "col_blocks": 3}
    for schedule in ("serial", "sync"):
        oocml.train(reference, toy_dataset, tmp_path / f"{schedule}.zarr", schedule=schedule, **options)
        oocml.resume(tmp_path / f"{schedule}.zarr", epochs=1)
    serial, sync = (oocml.open_run(tmp_path / f"{schedule}.zarr").store for schedule in ("serial", "sync"))
    assert fingerprint(sync) == fingerprint(serial)
    assert client.scheduler_info()["workers"], "a client that is not ours stays open"


def test_the_callers_cluster_is_planned_for_the_workers_it_has(client, tmp_path, toy_dataset):
    seen: list[Any] = []
    options: dict[str, Any] = {"epochs": 1, "memory": 2**30, "monitors": [seen.append]}
    oocml.train(TOY, toy_dataset, tmp_path / "run.zarr", **options)
    [started] = [event for event in seen if isinstance(event, RunStarted)]
    assert (started.n_workers, started.plan["workers"]) == (2, 2)
    assert 2 * started.worker_memory_bytes < started.plan["bytes_total"] <= 2**30
    with pytest.raises(UsageError, match="--workers is for a cluster that is started here"):
        oocml.train(TOY, toy_dataset, tmp_path / "other.zarr", workers=1, **options)
    with pytest.raises(DoesNotFit):
        oocml.train(TOY, toy_dataset, tmp_path / "other.zarr", **options | {"memory": 320 * 2**20})
    assert not (tmp_path / "other.zarr").exists()


def test_tasks_of_a_stopped_training_end_at_their_next_visit(new_run):
    toy = new_run(row_blocks=3, col_blocks=2, epochs=1)
    sent: list[Any] = []

    class Stopping(InThreads):
        def submit(self, message: Any, worker: str | None = None) -> None:
            stop_tasks(message.setup.driver)
            sent.append(message)
            super().submit(message, worker)

    threads = Stopping(2)
    with pytest.raises(WorkersLost, match="the training was stopped"):
        drive(toy, threads)
    threads.forget()
    assert sent
