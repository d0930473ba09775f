"""The local cluster."""

import contextlib
import gc
import os
import signal
import socket
import time
import urllib.request
import warnings
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
from distributed import Status

import oocml
from oocml.engine import cluster
from oocml.engine.events import RunStarted
from oocml.errors import UsageError
from oocml.models.registry import load_model
from tests.engine.toys import TOY


@contextlib.contextmanager
def one_worker():
    with cluster.local_client(1, "poly", dict(load_model("poly").defaults())) as client:
        yield client


def test_a_dashboard_whose_port_is_taken_is_served_elsewhere_without_a_word(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        port = server.getsockname()[1]
        monkeypatch.setattr(cluster, "DASHBOARD_PORT", port)
        with one_worker() as client:
            assert f":{port}/" not in client.dashboard_link
        gc.collect()  # of the socket that Dask leaves open
    assert not [warning for warning in said if "Port" in str(warning.message)]


def test_the_scheduler_keeps_nothing_of_tasks_that_are_done():
    with one_worker() as client:
        scheduler = client.cluster.scheduler
        for n in range(3):
            assert client.submit(abs, -n, key=("absolute", n), pure=False).result() == n
        assert client.submit(len, "end").result() == 3
        spans = scheduler.extensions["spans"]
        assert not getattr(spans, "spans", None)
        assert {group for group in scheduler.task_groups if "absolute" in group} == set()


def test_a_second_training_is_refused_the_worker_of_the_first(tmp_path, toy_dataset):
    """Settings of Dask and limits of threads belong to the process."""
    refused: list[str] = []

    def train_too(event: Any) -> None:
        if isinstance(event, RunStarted):
            with pytest.raises(UsageError) as caught:
                oocml.train(TOY, toy_dataset, tmp_path / "other.zarr", workers=1, epochs=1)
            refused.append(str(caught.value))

    before = dask.config.get("distributed.worker.memory")
    oocml.train(TOY, toy_dataset, tmp_path / "one.zarr", workers=1, epochs=1, monitors=[train_too])
    assert "wait for it" in refused[0]
    assert not (tmp_path / "other.zarr").exists()
    assert dask.config.get("distributed.worker.memory") == before


def test_a_worker_in_this_process_serves_nobody_else():
    with one_worker() as client:
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        assert urllib.request.urlopen(client.dashboard_link).status == 200
        own = [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert own
        assert {c.laddr.ip for c in own} == {"127.0.0.1"}


def test_a_worker_that_was_suspended_with_its_scheduler_is_not_lost():
    with one_worker() as client:
        assert "worker-ttl" not in client.cluster.scheduler.periodic_callbacks


def test_hosts_are_planned_for_the_fullest_of_them():
    hosts = {"tcp://a:1": "a", "tcp://b:1": "b", "tcp://a:2": "a", "tcp://c:1": "c"}
    info = {"workers": {address: {"host": host} for address, host in hosts.items()}}
    client = SimpleNamespace(wait_for_workers=lambda n, timeout: None, scheduler_info=lambda n_workers: info)
    assert cluster.workers_per_host(client) == 2  # type: ignore[arg-type]


def test_a_worker_that_dask_gives_up_is_replaced():
    """It does so where a worker is not back within some time: 15 s, here at once."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}),
        cluster.local_client(2, "poly", dict(load_model("poly").defaults())) as client,
    ):
        workers, until = client.cluster.workers, time.monotonic() + 60
        for name in (0, 1, 1):  # the last one is itself a replacement
            nanny = workers[name]
            while workers.get(name) is nanny:  # it may be back so fast that nobody saw it go
                assert time.monotonic() < until, "it was never given up"
                if nanny.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(nanny.pid, signal.SIGKILL)
                time.sleep(0.1)
            while workers.get(name) in (None, nanny) or workers[name].status is not Status.running:
                assert time.monotonic() < until, "no worker took its place"
                time.sleep(0.01)
            assert nanny.status in (Status.closing, Status.closed)
        client.wait_for_workers(2, timeout=30)
        assert sorted(client.run(os.getpid).values()) == sorted(nanny.pid for nanny in workers.values())
