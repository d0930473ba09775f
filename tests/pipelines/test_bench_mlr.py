from __future__ import annotations

import csv
import math
import os

import pytest
from click.testing import CliRunner

from oocml.models import mlr as mlr_model
from pipelines import (
    bench_mlr,
    bench_mlr_epoch,
    bench_mlr_ingest,
    bench_mlr_kernel,
    bench_mlr_memory,
    bench_mlr_steps,
    bench_mlr_time_to,
)
from pipelines.bench_mlr_time_to import Budget, Race, Timed
from pipelines.bench_options import Options, interleaved, one_thread
from pipelines.datasets import Splits


def invoke(*arguments):
    return CliRunner().invoke(bench_mlr.main, [str(argument) for argument in arguments])


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def options(tmp_path):
    return Options(out=tmp_path, full=False, repeats=1, data_dir=None, memcap=None)


@pytest.fixture
def small_real(monkeypatch, splits):
    """Every real data set is the small stand-in."""
    for module in (bench_mlr_time_to, bench_mlr_steps):
        monkeypatch.setattr(module.datasets, "real", lambda name, *rest: Splits(name, *splits))


def test_kernel_rates_stand_beside_the_roof(options, monkeypatch, tmp_path):
    monkeypatch.setattr(bench_mlr_kernel, "TILES", (16, 256))
    monkeypatch.setattr(bench_mlr_kernel, "LARGE_FEATURES", 2000)
    monkeypatch.setattr(
        bench_mlr_kernel.BareKernel.__init__, "__kwdefaults__", {"power_law": False, "updates": 10**5}
    )
    section = bench_mlr_kernel.run(options)
    assert len(section.rows) == 6
    assert all(0 < row["G_updates_per_s"] < 100 for row in section.rows)
    assert all(row["of_sgemm"] < 1 for row in section.rows)
    assert [finding.goal for finding in section.findings] == [1.5] * 3


def test_the_bare_kernel_learns():
    kernel = bench_mlr_kernel.BareKernel(200, 16, 10, updates=50_000)
    fits = [kernel.kernel(kernel.visit)["fit"] for _ in range(3)]
    assert fits[0] < fits[1] < fits[2]


@pytest.mark.long
def test_an_epoch_is_timed_on_both_sides(options, monkeypatch):
    monkeypatch.setattr(bench_mlr_epoch, "ROWS", {False: 200})
    monkeypatch.setattr(bench_mlr_epoch, "COLS", 500)
    monkeypatch.setattr(bench_mlr_epoch, "CLASSES", 8)
    monkeypatch.setattr(bench_mlr_epoch, "NNZ_PER_ROW", 10)
    monkeypatch.setattr(bench_mlr_epoch, "SOME_CLASSES", 3)
    section = bench_mlr_epoch.run(options)
    assert {row["method"] for row in section.rows} == {"ds-mlr", "SGDClassifier"}
    assert all(row["epoch_s"] > 0 for row in section.rows)
    assert section.rows[-1]["classes_fitted"] == 4


@pytest.mark.long
def test_out_of_core_holds_what_was_planned_against_what_was_measured(options, monkeypatch):
    case = bench_mlr_memory.Case("tiny", 500, 2000, 64, 10, "600MiB", "800M")
    monkeypatch.setattr(bench_mlr_memory, "CASES", {False: (case,)})
    section = bench_mlr_memory.run(options)
    (row,) = section.rows
    assert row["memory_of_planned"] < 1
    assert row["write_of_planned"] == pytest.approx(1, rel=0.1)
    assert not options.scratch.exists()


@pytest.mark.long
def test_all_methods_race_to_the_same_bars(options, monkeypatch, small_real):
    monkeypatch.setattr(bench_mlr_time_to, "L2S", (1e-2,))
    monkeypatch.setattr(bench_mlr_time_to, "BARS", (0.5, 0.05))
    section = bench_mlr_time_to.run(options)
    assert len(section.rows) == 2 * 5
    for row in section.rows:
        if "gap" in row:
            assert row["gap"] <= float(row["bar"].rstrip("%")) / 100
    saga = [row for row in section.rows if row["method"] == "saga"]
    assert all("max_iter" in row["budget"] for row in saga)


class Made(Race):
    """A race whose objectives are given: 1 + 1/steps, halved by every Newton pass."""

    optimum = 1.0

    def __init__(self, options):
        self.l2, self.options, self.taken, self.checked = 1e-4, options, {}, 0.0

    def take(self, budget):
        timed = Timed(0.1 * budget.steps + budget.polish, 0.0, 1 + 0.5**budget.polish / budget.steps)
        self.taken.setdefault(budget, []).append(timed)
        return timed


@pytest.mark.parametrize(("bar", "smallest"), [(0.5, 2), (0.1001, 10), (0.09, 12), (2.0, 1), (1 / 33, 33)])
def test_the_smallest_max_iter_is_found(options, bar, smallest):
    assert Made(options).smallest_theirs(bar, "lbfgs") == Budget("lbfgs", smallest)


def test_a_solver_that_takes_too_long_is_given_up(options):
    assert Made(options).smallest_theirs(1 / 33, "lbfgs", limit_s=1.0) is None


def test_the_fewest_epochs_are_found_for_every_number_of_newton_passes(options):
    race = Made(options)
    assert race.smallest_ours(0.1001, 0) == Budget("ds", 10)
    assert race.smallest_ours(0.1001, 1) == Budget("ds+polish", 5, 1)
    assert race.smallest_ours(1e-3, 0) is None
    found = race.candidates(0.1001)
    assert found["ds+polish"] == [Budget("ds+polish", 5, 1), Budget("ds+polish", 3, 2)]
    assert set(bench_mlr_time_to.worth_repeating(race, {0.1001: found})) >= {
        *found["ds+polish"],
        Budget("saga", 10),
    }


def test_a_grid_grows_until_its_best_is_inside(options):
    class Bowl(bench_mlr_steps.Grid):
        def with_steps(self, name, c):
            return abs(math.log2(c) - 9) + 1

    assert Bowl(options.out, options).best("constant") == (2.0**9, 1.0)


def test_steps_are_replaced_for_a_while(splits, options):
    own = mlr_model.StepSizes
    grid = bench_mlr_steps.Grid(splits[0], options)
    small, large = (grid.with_steps("constant", c) for c in (2.0**-12, 1.0))
    assert small > large
    assert mlr_model.StepSizes is own
    assert grid.with_steps("default shape", 4.0) == pytest.approx(
        grid.objective(learning_rate=4.0), rel=1e-12
    )


@pytest.mark.long
def test_default_steps_stand_beside_grids(options, monkeypatch, small_real):
    monkeypatch.setattr(bench_mlr_steps, "FIRST_GRID", (-1, 1))
    monkeypatch.setattr(bench_mlr_steps, "DATA", {"digits": "none"})
    section = bench_mlr_steps.run(options)
    assert [row["schedule"] for row in section.rows] == ["default", "constant", "default shape"]
    assert section.findings[0].goal == 1.05


def test_reading_is_timed_on_both_sides(options, monkeypatch):
    monkeypatch.setattr(bench_mlr_ingest, "ROWS", {False: 300})
    section = bench_mlr_ingest.run(options)
    assert {row["method"] for row in section.rows} == {"tokenizer", "load_svmlight_file", "whole ingest"}
    assert all(row["MB_per_s"] > 0 for row in section.rows)


def test_both_readers_see_the_same_rows(tmp_path):
    from sklearn.datasets import load_svmlight_file

    bench_mlr_ingest.write_svmlight(tmp_path / "a.svm", 50, "%.6g")
    X, y = load_svmlight_file(str(tmp_path / "a.svm"))
    ours = list(bench_mlr_ingest.batches(tmp_path / "a.svm"))
    assert sum(len(batch.X.data) for batch in ours) == X.nnz
    assert sum(len(batch.X.indptr) - 1 for batch in ours) == len(y) == 50


def test_contenders_take_turns():
    calls = []
    turns = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert interleaved(turns, 2) == {"a": [1, 3], "b": [2, 4]}
    assert calls == ["a", "b", "a", "b"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin threads")
def test_one_thread_is_one_cpu_and_ends():
    before = os.sched_getaffinity(0)
    with one_thread():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_chosen_sections_run_and_their_findings_are_written(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_mlr_ingest, "ROWS", {False: 100})
    done = invoke("--out", tmp_path, "--only", "ingest", "--repeats", 1)
    assert done.exit_code == 0, done.output
    assert len(table(tmp_path / "ingest.csv")) >= 6
    assert {row["section"] for row in table(tmp_path / "findings.csv")} == {"ingest"}


def test_an_unknown_section_is_one_line(tmp_path):
    done = invoke("--out", tmp_path, "--only", "kernel,nosuch")
    assert done.exit_code == 2
    assert done.output.startswith("error: no section 'nosuch'")
    assert done.output.count("\n") == 1
