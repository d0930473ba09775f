from __future__ import annotations

import pytest
from click.testing import CliRunner

from pipelines import scaling
from pipelines.scaling import Options
from pipelines.steady import Clock, Commit, Phase


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Everything small and short."""
    monkeypatch.setattr(scaling, "TILE", (20, 10, 5))
    monkeypatch.setattr(scaling, "BLOCKS", 5)
    monkeypatch.setattr(scaling, "N_FACTORS", 4)
    monkeypatch.setattr(scaling, "STRAGGLERS", (("async", 5, 1), ("sync", 2, 2)))
    monkeypatch.setattr(scaling, "PANEL_BYTES", 2**10)
    monkeypatch.setattr(scaling, "FM_SHAPE", {"rows": 300, "cols": 40, "nnz_per_row": 10.0})
    monkeypatch.setattr(scaling, "FM_BLOCKS", (8, 2))
    monkeypatch.setattr(scaling, "FM_FACTORS", 4)
    return Options(tmp_path, full=False, seconds=1.0, memory=2**31)


@pytest.mark.long
def test_every_model_and_schedule_is_timed_with_one_worker_and_with_two(options):
    section = scaling.speed_up(options)
    assert {(row["model"], row["schedule"], row["workers"]) for row in section.rows} == {
        (model, *how) for model in ("mf", "fm") for how in (("sync", 1), ("sync", 2), ("async", 2))
    }
    for row in section.rows:
        assert row["M_updates_per_s"] > 0
        assert 0 < row["busy"] < 1.5
    assert [finding.goal for finding in section.findings] == [1.6] * 4
    assert not (options.out / "run.zarr").exists()


@pytest.mark.long
def test_a_slow_worker_is_measured_against_the_ideal(options):
    section = scaling.stragglers(options)
    assert [(row["schedule"], row["blocks"]) for row in section.rows] == [
        ("async", "5 x 5"),
        ("sync", "2 x 2"),
    ]
    assert [finding.goal for finding in section.findings] == [0.85, None]


def test_shares_are_of_the_free_rate_and_of_what_two_workers_of_unequal_speed_could_do():
    phases = [Phase("free", 10), Phase("pause", 5), Phase("slowed", 10), Phase("pause", 5), Phase("free", 10)]
    every = {"free": 0.5, "pause": 0.5, "slowed": 1.0}
    clock, at = Clock("visit", phases), 0.0
    while at <= 40:
        name = next(
            p.name for n, p in enumerate(phases) if at < sum(q.seconds for q in phases[: n + 1]) + 1e-9
        )
        clock.commits.append(Commit(at, "slow" if len(clock.commits) % 4 == 0 else "fast", 7, 0.1, 0.0))
        at += every[name]
    row = scaling.straggler_row("async", 1, clock, "slow")
    assert row["of_free"] == pytest.approx(0.5, rel=0.1)
    assert row["of_ideal"] == pytest.approx(0.8, rel=0.1)
    assert row["share_of_slow_worker"] == pytest.approx(0.25, abs=0.1)
    assert row["free_M_per_s"] == pytest.approx(14e-6, rel=0.1)


def test_an_unknown_section_is_one_line(tmp_path):
    done = CliRunner().invoke(scaling.main, ["--out", str(tmp_path), "--only", "nosuch"])
    assert done.exit_code == 2
    assert done.output.startswith("error: no section 'nosuch'")
    assert done.output.count("\n") == 1
