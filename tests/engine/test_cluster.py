"""The local cluster."""

from oocml.engine.cluster import local_client
from oocml.models.registry import load_model


def test_the_scheduler_keeps_nothing_of_tasks_that_are_done():
    with local_client(1, "poly", dict(load_model("poly").defaults())) as client:
        scheduler = client.cluster.scheduler
        for n in range(3):
            assert client.submit(abs, -n, key=("absolute", n), pure=False).result() == n
        assert client.submit(len, "end").result() == 3
        spans = scheduler.extensions["spans"]
        assert not getattr(spans, "spans", None)
        assert {group for group in scheduler.task_groups if "absolute" in group} == set()
