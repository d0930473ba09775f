"""A small training as its events: 3 x 4 blocks, 2 workers, 3 epochs, one worker lost."""

import pytest

from oocml.engine.events import (
    EpochDone,
    Event,
    Notice,
    PassDone,
    PassStarted,
    RunDone,
    RunStarted,
    TaskDone,
    TaskLost,
)
from oocml.types import Bounds

ROW_BLOCKS, COL_BLOCKS, EPOCHS = 3, 4, 3
OBJECTIVES = (1.25, 0.75, 0.5)
WORKERS = ("tcp://127.0.0.1:4001", "tcp://127.0.0.1:4002")


def run_started(**changes) -> RunStarted:
    fields = {
        "run": "/data/my run.zarr",
        "model": "mlr",
        "n_rows": 300,
        "n_features": 50,
        "n_cols": 40,
        "nnz": 6000,
        "n_row_blocks": ROW_BLOCKS,
        "n_col_blocks": COL_BLOCKS,
        "n_panels": 3,
        "tasks_per_epoch": ROW_BLOCKS * COL_BLOCKS,
        "epochs": EPOCHS,
        "n_workers": 2,
        "memory_bytes": 700 * 2**20,
        "worker_memory_bytes": 200 * 2**20,
        "plan": {"bytes_total": 600 * 2**20, "read_bytes_per_epoch": 12_000, "write_bytes_per_epoch": 6_000},
        "config": {"l2": 1e-5, "epochs": EPOCHS},
        "dashboard": "http://127.0.0.1:8787/oocml",
    }
    return RunStarted(**{**fields, **changes})


def task_done(epoch: int, p: int, q: int, **changes) -> TaskDone:
    fields = {
        "pass_name": "visit",
        "epoch": epoch,
        "p": Bounds(p, p + 1),
        "q": Bounds(q, q + 1),
        "worker": WORKERS[(p + q) % 2],
        "kernel_s": 0.5,
        "read_s": 0.25,
        "write_s": 0.125,
        "idle_s": 0.125,
        "read_bytes": 1_000,
        "write_bytes": 500,
        "updates": 20_000,
        "visits": 1,
    }
    return TaskDone(**{**fields, **changes})


def epoch_events(epoch: int, n_passes_before: int) -> list[Event]:
    n_tasks = ROW_BLOCKS * COL_BLOCKS
    number = n_passes_before + 1
    events: list[Event] = [PassStarted(number, "visit", epoch, n_tasks)]
    events += [task_done(epoch, p, q) for p in range(ROW_BLOCKS) for q in range(COL_BLOCKS)]
    events.append(PassDone(number, "visit", epoch, n_tasks, 6.0))
    events.append(
        EpochDone(
            epoch,
            seconds=6.0 * epoch,
            objective=OBJECTIVES[epoch - 1],
            exact=epoch == EPOCHS,
            read_bytes=12_000,
            write_bytes=6_000,
            updates=240_000,
            valid={"accuracy": 0.5 + epoch / 10},
            best=True,
        )
    )
    return events


@pytest.fixture
def recorded() -> list[Event]:
    events: list[Event] = [run_started(), Notice("1 worker idles: a sub-epoch has 1 task")]
    for epoch in range(1, EPOCHS + 1):
        events += epoch_events(epoch, epoch - 1)
        if epoch == 1:
            events.append(TaskLost(WORKERS[1], "('mlr-visit-epoch1', 0, 1, 7)", "worker died"))
    events.append(RunDone(EPOCHS, 18.0, 1.5, OBJECTIVES[-1], 512 * 2**20))
    return events
