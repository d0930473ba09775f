"""Training a model that does not fit, where the kernel kills whoever takes more memory than was planned."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import oocml
from oocml.data.dataset import Dataset
from oocml.data.synth import synth
from tests.cgroup import MemoryCgroup, NoCgroup, memory_cgroup

MIB = 2**20
MEMORY_MIB, LIMIT = 600, 780 * MIB
"""``--memory``, and the group's limit: 1.3 times as much, since that also counts page cache."""
FEATURES, CLASSES = 131_072, 4096
MODEL_BYTES = 4 * FEATURES * CLASSES
MANY_FEATURES, FACTORS = 2**24, 16
DISK_BYTES = 8 * 10**9


@pytest.fixture
def group() -> Iterator[MemoryCgroup]:
    try:
        with memory_cgroup(LIMIT) as made:
            yield made
    except NoCgroup as reason:
        pytest.skip(str(reason))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for two copies of the model, emptied whatever happens."""
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    if mounts[next(folder for folder in tmp_path.parents if folder in mounts)] in ("tmpfs", "ramfs"):
        pytest.skip(f"{tmp_path} is in memory; choose a folder on a disk with --basetemp")
    if (free := shutil.disk_usage(tmp_path).free) < DISK_BYTES:
        pytest.skip(f"{free / 1e9:.1f} GB free at {tmp_path}, {DISK_BYTES / 1e9:.0f} wanted")
    yield tmp_path
    for path in tmp_path.iterdir():
        shutil.rmtree(path)


def run_cli(group: MemoryCgroup, *command: object) -> dict[str, Any]:
    """What a command answers that runs in the group."""
    done = group.run([sys.executable, "-m", "oocml.cli", *map(str, command), "--json"], timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def train(group: MemoryCgroup, model: str, data: Path, *options: str, epochs: int = 1) -> dict[str, Any]:
    """Some epochs in the group; what is planned is what is measured."""
    where = ("--memory", f"{MEMORY_MIB}MiB", "--epochs", epochs)
    summary = run_cli(group, "train", model, data, data.with_name("run.zarr"), *where, *options)
    assert group.oom_kills == 0
    assert summary["finished"]
    assert summary["peak_memory_bytes"] <= summary["planned_memory_bytes"] <= MEMORY_MIB * MIB
    assert summary["read_bytes"] == pytest.approx(summary["planned_read_bytes"], rel=0.1)
    assert summary["write_bytes"] == pytest.approx(summary["planned_write_bytes"], rel=0.1)
    return summary


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_a_model_of_2_gb_trains_in_a_third_of_that(group: MemoryCgroup, disk: Path):
    assert MODEL_BYTES >= 2e9 > 2.4 * group.limit
    data = disk / "data.zarr"
    synth("lshtc1_large", data, rows=2000, cols=FEATURES, classes=CLASSES, nnz_per_row=20, workers=1)
    summary = train(group, "mlr", data, epochs=2)
    assert summary["planned_read_bytes"] >= MODEL_BYTES  # or nothing of this would be about the model


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_validation_takes_no_more_than_training_was_planned_to(group: MemoryCgroup, disk: Path):
    """A whole panel with the topics of all its words would be over the plan."""
    topics, shape = 800, {"rows": 1000, "cols": 60_000, "nnz_per_row": 200}
    assert 8 * topics * shape["cols"] > 0.6 * MEMORY_MIB * MIB
    for split in ("train", "test"):
        synth("enron", disk / f"{split}.zarr", **shape, split=split, workers=1, panel_bytes=2**20)
    assert Dataset.open(disk / "test.zarr").n_panels == 2
    options = ("--memory", f"{MEMORY_MIB}MiB", "--set", f"n_topics={topics}", "--valid", disk / "test.zarr")
    summary = run_cli(group, "train", "lda", disk / "train.zarr", disk / "run.zarr", "--epochs", 1, *options)
    assert group.oom_kills == 0
    assert summary["peak_memory_bytes"] <= summary["planned_memory_bytes"] <= MEMORY_MIB * MIB
    [record] = oocml.open_run(disk / "run.zarr").store.read_ledger().history
    assert record["valid"]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_more_features_than_memory_has_room_for_are_made_trained_and_scored(group: MemoryCgroup, disk: Path):
    """Numbers of 8 bytes for every feature, as few as four in three processes, would be twice the limit."""
    assert 1.9 * group.limit < 3 * 4 * 8 * MANY_FEATURES
    data = disk / "data.zarr"
    shape = ("--task", "binary", "--rows", 4000, "--cols", MANY_FEATURES, "--nnz-per-row", 30)
    run_cli(group, "synth", "news20", data, *shape, "--workers", 1)
    summary = train(group, "fm", data, "--set", f"n_factors={FACTORS}")
    assert summary["planned_write_bytes"] >= 4 * MANY_FEATURES * FACTORS > group.limit
    scores = run_cli(group, "evaluate", disk / "run.zarr", data)
    assert scores["objective"] == pytest.approx(summary["objective"], rel=1e-3)
    assert group.oom_kills == 0


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_the_group_kills_what_takes_more_and_counts_it(group: MemoryCgroup):
    done = group.run([sys.executable, "-c", f"b'x' * {LIMIT}"], timeout=60)
    assert done.returncode == -9
    assert group.oom_kills == 1
