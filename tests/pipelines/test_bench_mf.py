from __future__ import annotations

import csv

import pytest
from click.testing import CliRunner

from oocml.errors import OocmlError
from pipelines import bench_mf
from pipelines.bench_options import Options
from pipelines.process import train_alone


@pytest.fixture
def options(tmp_path):
    return Options(out=tmp_path, full=False, repeats=1, data_dir=None, memcap=None)


@pytest.mark.parametrize("adagrad", [True, False])
def test_the_bare_tile_learns(adagrad):
    tile = bench_mf.BareTile((50, 40, 10), 8, adagrad=adagrad)
    losses = [tile.visit() for _ in range(5)]
    assert losses == sorted(losses, reverse=True)


def test_kernel_rates_are_held_against_their_goals(options, monkeypatch):
    monkeypatch.setattr(bench_mf, "TILES", {"small": (50, 40, 10), "larger": (90, 80, 10)})
    monkeypatch.setattr(bench_mf, "UPDATES", 10_000)
    section = bench_mf.kernel(options)
    assert len(section.rows) == 2 * 3 * 2
    assert all(0 < row["M_ratings_per_s"] < 1000 for row in section.rows)
    assert [finding.goal for finding in section.findings] == [28, 45, 28, 45]


@pytest.mark.long
def test_out_of_core_stands_beside_in_memory(options, monkeypatch):
    monkeypatch.setattr(bench_mf, "SHAPES", {False: {"rows": 400, "cols": 200, "nnz_per_row": 50.0}})
    monkeypatch.setattr(bench_mf, "TURNS", 1)
    section = bench_mf.out_of_core(options)
    assert [row["case"] for row in section.rows] == ["in memory", "out of core"]
    assert all(row["M_ratings_per_s"] > 0 for row in section.rows)
    assert section.rows[0]["read_MiB_per_epoch"] == 0
    (finding,) = section.findings
    assert finding.goal == 0.75
    assert not options.scratch.exists()


def test_time_to_a_test_error_is_that_of_a_default_training(options, monkeypatch, rated):
    monkeypatch.setattr(bench_mf.movielens, "ratings", lambda folder, data_dir: rated)
    section = bench_mf.time_to(options)
    (row,) = section.rows
    assert row["epochs"] == 20
    assert 0 < row["best"] <= row["seconds"]
    assert [finding.goal for finding in section.findings] == [0.905, 0.5]


@pytest.mark.long
def test_a_training_of_its_own_that_fails_says_why(tmp_path, rated):
    with pytest.raises(OocmlError, match="exit 2.*nosuch"):
        train_alone(("mf", rated.train), tmp_path / "run.zarr", {"epochs": 1}, {"nosuch": 1})
    assert not (tmp_path / "run.zarr").exists()


def test_chosen_sections_run_and_their_findings_are_written(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_mf, "TILES", {"small": (50, 40, 10)})
    monkeypatch.setattr(bench_mf, "UPDATES", 1000)
    arguments = ["--out", str(tmp_path), "--only", "kernel", "--repeats", "1"]
    done = CliRunner().invoke(bench_mf.main, arguments)
    assert done.exit_code == 0, done.output
    with (tmp_path / "findings.csv").open(newline="") as file:
        assert {row["section"] for row in csv.DictReader(file)} == {"kernel"}
