"""The local cluster."""

import contextlib
import socket
import warnings

from distributed import Client

from oocml.engine.cluster import DASHBOARD_PORT, local_client
from oocml.models.registry import load_model


@contextlib.contextmanager
def one_worker():
    with local_client(1, "poly", dict(load_model("poly").defaults())) as client:
        yield client


def test_a_dashboard_whose_port_is_taken_is_served_elsewhere_without_a_word():
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # or another process has it
            stack.enter_context(socket.create_server(("127.0.0.1", DASHBOARD_PORT)))
        said = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        client: Client = stack.enter_context(one_worker())
        assert f":{DASHBOARD_PORT}/" not in client.dashboard_link
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
