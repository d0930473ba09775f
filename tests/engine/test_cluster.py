"""The local cluster."""

import contextlib
import gc
import socket
import warnings

from oocml.engine import cluster
from oocml.models.registry import load_model


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
