from __future__ import annotations

import pytest

from pipelines.training import discard, measure


def test_a_measured_training_counts_passes_and_bytes(splits, tmp_path):
    seen = []
    options = {"epochs": 3, "schedule": "serial", "also": [seen.append]}
    done = measure(splits[0], tmp_path / "run.zarr", {"l2": 1e-3}, **options)
    points, end = done.recorder.points, done.recorder.end
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.passes for point in points] == pytest.approx([1, 2, 4])  # the last also scores
    assert end.passes == pytest.approx(4)
    assert (end.objective, end.seconds) == (done.objective, done.seconds)
    assert end.write_bytes == done.summary["write_bytes"] > 0
    assert done.recorder.seconds_by_pass["visit"]["kernel_s"] > 0
    assert seen


def test_a_run_can_be_measured_again_in_the_same_place(splits, tmp_path):
    first, second = (
        measure(splits[0], tmp_path / "run.zarr", {}, epochs=1, schedule="serial").objective for _ in range(2)
    )
    assert first == second
    discard(tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()
