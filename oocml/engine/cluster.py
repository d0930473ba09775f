"""A local Dask cluster sized by the plan, or the caller's own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any

import dask
import distributed.utils
import threadpoolctl
from distributed import Client, LocalCluster, Scheduler, Status, Worker, WorkerPlugin, get_client
from tornado.ioloop import PeriodicCallback

from oocml.engine.malloc import MMAP_THRESHOLD, TRIM_THRESHOLD, limit_malloc
from oocml.engine.rehearsal import rehearse
from oocml.errors import UsageError, WorkersLost
from oocml.models.protocol import Settings
from oocml.models.registry import load_model
from oocml.schedule.crew import TASKS_AT_ONCE

WORKER_ARENAS = 2
"""Of malloc: what Zarr's threads have freed would else be kept once per thread."""
WORKER_ENVIRONMENT = {
    # Dask's own value switches off malloc's dynamic threshold: every chunk would be mapped afresh, 4-5 times slower
    "MALLOC_TRIM_THRESHOLD_": str(TRIM_THRESHOLD),
    "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD),
    "MALLOC_ARENA_MAX": str(WORKER_ARENAS),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
REHEARSE = "OOCML_REHEARSE"
"""Environment variable that tells `oocml.engine.preload` the model to compile: JSON of reference and settings."""
DASHBOARD_PORT = 8787
"""Dask's usual one."""
CONNECT_S = 10.0
LOOPBACK = {"protocol": "tcp://", "host": "127.0.0.1"}
"""For a worker in this process: else its server of metrics listens everywhere, and the dashboard's link is wrong."""
HERE = {"distributed.scheduler.worker-ttl": None}
"""Settings of a worker in this process: one that was suspended with its scheduler for minutes is not lost."""
_here = threading.Lock()
"""Held by the training whose worker is in this process: settings and limits of threads are the process's."""
JOIN_S = 30.0
"""How long a cluster of the caller's own may be without its first worker."""
REPLACE_S = 1.0
"""Between two looks for workers that nobody restarts any more."""
PR_SET_PDEATHSIG = 1
"""From Linux's ``sys/prctl.h``."""
SETTINGS = {
    # workers are forked from one process that has imported everything: they share those pages, and start in 0.1 s
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    # the driver re-dispatches lost tasks itself, under new stamps
    "distributed.scheduler.allowed-failures": 0,
    # memory is bounded by the plan; Dask must neither spill nor pause
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.large-graph-warning-threshold": "1GiB",
    # what processes keep of the past must not grow with a training: a worker's profile alone is 80 KB a cycle
    "distributed.worker.profile.cycle": "10s",
    # beside a worker in this process its loop takes the time of kernels: 23 % of a core by default, 12 % like this
    "distributed.worker.profile.interval": "100ms",
    "distributed.admin.tick.interval": "200ms",
    "distributed.admin.low-level-log-length": 50,
    "distributed.admin.system-monitor.log-length": 500,
}


@contextlib.contextmanager
def local_client(
    n_workers: int, reference: str, settings: Settings, at_once: int = TASKS_AT_ONCE
) -> Iterator[Client]:
    """A client of a new cluster on this host, whose workers can use the model ``reference`` at once.

    A single worker is a part of this process and has ``at_once`` tasks in memory at a time: nothing is imported
    twice, and blocks get the room. More are processes, with two tasks each.
    """
    with (
        _worker_here(at_once, reference, settings)
        if n_workers == 1
        else _worker_processes(n_workers, reference, settings) as client
    ):
        yield client


@contextlib.contextmanager
def _worker_here(at_once: int, reference: str, settings: Settings) -> Iterator[Client]:
    if not _here.acquire(blocking=False):
        raise UsageError(
            "another training has its worker in this process; wait for it, or train with --workers 2 or more"
        )
    with contextlib.ExitStack() as stack:
        stack.callback(_here.release)
        limit_malloc()
        rehearse(load_model(reference), settings)
        stack.enter_context(dask.config.set({**SETTINGS, **HERE}))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="oocml-dask-"))
        # one thread for each task, as in worker processes: with more, sums may differ in their last bits
        stack.enter_context(threadpoolctl.threadpool_limits(1))
        cluster = stack.enter_context(
            _cluster(1, folder, threads_per_worker=at_once, processes=False, **LOOPBACK)
        )
        yield stack.enter_context(Client(cluster, set_as_default=False))


@contextlib.contextmanager
def _worker_processes(n_workers: int, reference: str, settings: Settings) -> Iterator[Client]:
    """They are forked from a process that has loaded the model and compiled its kernels."""
    # a nanny lets the environment it was started in win over its settings, so it must hold them too
    os.environ.update(WORKER_ENVIRONMENT)
    prepare_forkserver(reference, settings)
    with (
        dask.config.set({**SETTINGS, "distributed.worker.preload": ["oocml.engine.worker_setup"]}),
        tempfile.TemporaryDirectory(prefix="oocml-dask-") as folder,
        _cluster(n_workers, folder, threads_per_worker=TASKS_AT_ONCE, processes=True) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(DieWithParent())
        with _lost_workers_replaced(cluster):
            yield client


def _cluster(n_workers: int, folder: str, **workers: Any) -> LocalCluster:
    with warnings.catch_warnings():
        # two began at once: it takes any other port, and the link that a training prints has the right one
        warnings.filterwarnings("ignore", r"\s*Port [0-9]+ is already in use", UserWarning)
        return LocalCluster(
            n_workers=n_workers,
            **workers,
            memory_limit=0,
            dashboard_address=f"127.0.0.1:{_dashboard_port()}",
            local_directory=folder,
            silence_logs=50,
            scheduler_kwargs={"extensions": {"spans": NoSpans}},
        )


@contextlib.contextmanager
def _lost_workers_replaced(cluster: LocalCluster) -> Iterator[None]:
    """Start workers anew that Dask has given up: those that were not back 15 s after they died."""

    async def replace() -> None:
        for name, nanny in list(cluster.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
                del cluster.workers[name]
        if cluster.status is Status.running and len(cluster.workers) < len(cluster.worker_spec):
            # one that does not start either is tried again; if none ever does, the driver tells of it
            with contextlib.suppress(Exception):
                await cluster

    looks = PeriodicCallback(replace, 1000 * REPLACE_S)
    cluster.loop.add_callback(looks.start)
    try:
        yield
    finally:
        cluster.loop.add_callback(looks.stop)


class NoSpans:
    """In place of the scheduler's record of spans, which keeps about 8 KB for ever of every task that is sent alone."""

    def __init__(self, scheduler: Scheduler) -> None:
        del scheduler

    def observe_tasks(self, tasks: Any, **facts: Any) -> dict[Any, Any]:
        del tasks, facts
        return {}

    def heartbeat(self, worker: Any, data: Any) -> None:
        """Workers report times by span; there are none."""


class DieWithParent(WorkerPlugin):
    """Ends a worker when the process it was forked from ends: nobody would restart or stop it any more."""

    name = "oocml-die-with-parent"

    def setup(self, worker: Worker) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def remote_client(address: str) -> Iterator[Client]:
    """A client of the scheduler at ``address``; `UsageError` if none answers."""
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {address} ({error}); check --scheduler") from None
    with client:
        yield client


def running_client() -> Client | None:
    """The caller's own Dask client, if there is one."""
    try:
        return get_client()
    except ValueError:
        return None


def workers_per_host(client: Client) -> int:
    """How many workers the host with the most of them has; waits for the first worker of a cluster."""
    try:
        client.wait_for_workers(1, timeout=JOIN_S)
    except TimeoutError:
        raise WorkersLost(
            f"the Dask cluster at {client.scheduler.address} has no worker, and none joined in {JOIN_S:.0f} s; "
            "start some"
        ) from None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return max(Counter(worker["host"] for worker in workers).values())


def prepare_forkserver(reference: str, settings: Settings) -> None:
    """Start the process that workers are forked from, and wait until it has imported and compiled what they need."""
    # without the flag Dask would choose the imports itself, and import pandas into the driver to do so
    distributed.utils._forkserver_preload_set = True
    multiprocessing.set_forkserver_preload(["oocml.engine.preload"])
    os.environ[REHEARSE] = json.dumps([reference, dict(settings)])
    # Ctrl-C is the driver's affair: the new process, and those forked from it, would print tracebacks
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    first = multiprocessing.get_context("forkserver").Process(target=int)
    first.start()
    first.join()


def _dashboard_port() -> int:
    """Dask's usual port if it is free, else any."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", DASHBOARD_PORT))
        except OSError:
            return 0
    return DASHBOARD_PORT
