import json
import os
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from distributed import Client, LocalCluster
from distributed.utils import open_port

from oocml.engine.events import EpochDone, RunStopped
from oocml.watch.dashboard import Dashboard, install


def get(url: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.read()


def facts_of(link: str) -> dict:
    return json.loads(get(f"{link}.json")[1])


def run_tasks(client: Client, n: int = 6, sleep_s: float = 0.0) -> None:
    futures = [
        client.submit(time.sleep, sleep_s, key=("mlr-visit-epoch1", p, 2 * q, 100 + p), pure=False)
        for p in range(n // 2)
        for q in range(2)
    ]
    client.gather(futures)


def wait_for(link: str, **expected) -> dict:
    deadline = time.monotonic() + 10
    while True:
        facts = facts_of(link)
        if all(facts.get(name) == value for name, value in expected.items()):
            return facts
        assert time.monotonic() < deadline, facts
        time.sleep(0.05)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=1, threads_per_worker=3, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def link(client):
    return install(client)


def test_page_and_json_are_served_and_count_tasks(client, link, recorded):
    assert get(link)[0] == 200
    run_tasks(client)
    monitor = Dashboard(client, period_s=0.01)
    for event in recorded:
        monitor(event)
    monitor.close()
    facts = wait_for(link, state="done")
    assert facts["tasks_done"] == {"mlr-visit-epoch1": 6}
    assert facts["in_flight"] == []
    assert facts["model"] == "mlr"
    assert facts["lost"] == 1
    assert facts["read_bytes"] == 36_000
    assert facts["write_bytes"] == 18_000
    assert facts["grid"]["epochs"] == [[3] * 4] * 3
    assert [row["objective"] for row in facts["history"]] == [1.25, 0.75, 0.5]
    assert len(facts["workers"]) == 1
    assert facts["workers"][0]["memory_bytes"] > 2**20
    assert facts["workers"][0]["budget_bytes"] == 200 * 2**20


def test_tasks_in_flight_are_shown_and_strangers_are_not(client, link, recorded):
    monitor = Dashboard(client, period_s=0.01)
    monitor(recorded[0])
    stranger = client.submit(time.sleep, 0.6, key="somebody-elses-task")
    futures = [client.submit(time.sleep, 0.6, key=("mlr-visit-epoch1", 1, 2, 7))]
    futures += [client.submit(time.sleep, 0.6, key=("mlr-finish-epoch1", 2, -1, 7))]
    facts = wait_for(link, in_flight=[[1, 2, 2, 3], [2, 3, 0, 4]])
    assert facts["run"] == "/data/my run.zarr"
    client.gather([stranger, *futures])
    wait_for(link, in_flight=[])
    monitor.close()


def test_a_second_run_on_the_same_scheduler_starts_a_clean_page(client, link, recorded):
    for run in ("/data/one.zarr", "/data/two.zarr"):
        assert install(client) == link
        monitor = Dashboard(client, period_s=0.01)
        monitor(replace(recorded[0], run=run))
        monitor(next(event for event in recorded if isinstance(event, EpochDone)))
        monitor(RunStopped("interrupted"))
        monitor.close()
    facts = wait_for(link, run="/data/two.zarr", state="stopped: interrupted")
    assert len(facts["history"]) == 1


def test_the_page_draws_what_the_json_says(client, link, recorded):
    from bokeh.client import pull_session
    from bokeh.models import ColumnDataSource

    monitor = Dashboard(client, period_s=0.01)
    for event in recorded:
        monitor(event)
    monitor.close()
    wait_for(link, state="done")

    def pull() -> dict[str, Any]:
        session = pull_session(url=link)
        sources = [model for model in session.document.models if isinstance(model, ColumnDataSource)]
        session.close()
        return {name: source.data[name] for source in sources for name in source.data}

    with ThreadPoolExecutor(
        1
    ) as aside:  # Bokeh's client wants a loop of its own; the main thread's is deprecated
        columns = aside.submit(pull).result()
    assert list(columns["objective"]) == [1.25, 0.75, 0.5]
    assert columns["image"][0].shape == (3, 4)
    assert list(columns["budget"]) == [200]  # MiB


def test_without_dasks_dashboard_there_is_json_and_a_monitor_outlives_its_scheduler(recorded):
    without_page = {"dashboard": False}
    with (
        LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", scheduler_kwargs=without_page
        ) as cluster,
        Client(cluster) as client,
    ):
        assert install(client).endswith("/oocml.json")
        monitor = Dashboard(client, period_s=0.01)
    for event in recorded:
        monitor(event)
    monitor.close()


@pytest.mark.long
def test_the_page_is_shipped_to_a_scheduler_without_oocml(recorded, tmp_path):
    address, page = f"127.0.0.1:{open_port()}", f"127.0.0.1:{open_port()}"
    host, port = address.split(":")
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", host, "--port", port]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [*command, "--dashboard-address", page], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    ) as scheduler:
        try:
            with Client(f"tcp://{address}", timeout=20) as client:

                def has_oocml() -> bool:
                    import importlib.util

                    return importlib.util.find_spec("oocml") is not None

                if client.run_on_scheduler(has_oocml):
                    pytest.skip("oocml is installed, so the scheduler has it")
                link = install(client)
                assert get(link)[0] == 200
                monitor = Dashboard(client, period_s=0.01)
                for event in recorded:
                    monitor(event)
                monitor.close()
                assert facts_of(link)["state"] == "done"
        finally:
            scheduler.terminate()
