from __future__ import annotations

import contextlib
import csv

import numpy as np
import pytest
from click.testing import CliRunner

from oocml.errors import UsageError
from oocml.metrics import ranking
from pipelines import ranking as pipeline
from pipelines import ranking_explicit as explicit
from pipelines.ranking_folds import folds, in_memory
from pipelines.ranking_options import Chosen
from pipelines.ranking_peers import differences


def part(number, n_queries=8):
    rng = np.random.default_rng(number)
    lines = []
    for query in range(n_queries):
        for x in rng.normal(size=(6, 3)):
            grade = int(np.clip(np.round(x[0] + 0.5 * rng.normal()), 0, 2)) if query else 0
            entries = " ".join(f"{j}:{value:.4f}" for j, value in enumerate(x, 1))
            lines.append(f"{grade} qid:{100 * number + query} {entries}\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    here = tmp_path_factory.mktemp("letor")
    for name in ("five", "one"):
        (here / name).mkdir()
    for number in range(1, 6):
        (here / "five" / f"S{number}.txt").write_text(part(number))
    for number, name in enumerate(("train", "vali", "test")):
        (here / "one" / f"{name}.txt").write_text(part(number))
    return here


def test_five_parts_rotate_and_are_ingested_once(tmp_path, data_dir):
    made = folds("five", tmp_path, data_dir)
    seen = [[set((in_memory(path).qid // 100).tolist()) for path in fold[1:]] for fold in made]
    assert seen[0] == [{1, 2, 3}, {4}, {5}]
    assert seen[4] == [{5, 1, 2}, {3}, {4}]
    before = (tmp_path / "five-1-train.zarr" / "zarr.json").stat().st_mtime_ns
    assert folds("five", tmp_path, data_dir) == made
    assert (tmp_path / "five-1-train.zarr" / "zarr.json").stat().st_mtime_ns == before


def test_a_set_that_is_not_there_is_named(tmp_path, data_dir):
    with pytest.raises(UsageError, match="two/S1.txt"):
        folds("two", tmp_path, data_dir)


def test_pairs_are_of_one_query_and_of_unequal_grades(tmp_path, data_dir):
    data = in_memory(folds("one", tmp_path, data_dir)[0].train)
    count = 0
    for lo, hi in zip(data.start[:-1], data.start[1:], strict=True):
        grades = data.grade[lo:hi]
        count += int((grades[:, None] > grades).sum())
    assert differences(data).shape == (count, 3)


def test_methods_get_their_lines_and_goals(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(explicit, "installed", lambda: iter([explicit.LINEAR, explicit.TREES]))
    monkeypatch.setattr(explicit, "RIDGES", (1.0, 0.01))
    monkeypatch.setattr(explicit, "WAYS", {explicit.DEFAULT: {}})
    found = {
        explicit.LINEAR: ("numpy", lambda train, valid, test, seed: test.X[:, 0]),
        explicit.TREES: ("numpy", lambda train, valid, test, seed: 1 / 0),
    }
    monkeypatch.setattr(explicit, "PEERS", found)
    arguments = ["--data-dir", data_dir, "--set", "one", "--only", "explicit", "--out", tmp_path]
    done = CliRunner().invoke(pipeline.main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "LightGBM lambdarank left out: ZeroDivisionError" in done.output
    with (tmp_path / "explicit.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*explicit.WAYS, explicit.LINEAR]
    test = in_memory(tmp_path / "data" / "one-1-test.zarr")
    told = ranking.scores(ranking.accumulate(test.X[:, 0], *test[1:]))
    for name in (*explicit.SHOWN, "ndcg_at_10_all"):
        assert float(rows[explicit.LINEAR][name]) == pytest.approx(told[name])
    ours = rows[explicit.DEFAULT]
    assert float(ours["low"]) <= float(ours["ndcg_at_10"]) <= float(ours["high"])
    assert float(ours["l2"]) in (1.0, 0.01)
    apart = float(ours["ndcg_at_10"]) - told["ndcg_at_10"]
    assert float(rows[explicit.LINEAR]["difference"]) == pytest.approx(apart)
    assert "one: NDCG@10 above linear RankSVM" in done.output


@pytest.mark.long
def test_mq2008_is_ranked_as_well_as_it_should_be(tmp_path, shared_data, monkeypatch):
    monkeypatch.setattr(explicit, "WAYS", {explicit.DEFAULT: {}})
    monkeypatch.setattr(explicit, "RIDGES", (0.1, 0.01))
    monkeypatch.setattr(explicit, "one_thread", contextlib.nullcontext)
    monkeypatch.setattr(explicit, "installed", lambda: iter([]))
    folder = shared_data("mq2008").parent
    section = explicit.explicit(Chosen(tmp_path, False, 1, folder, None))
    assert len(section.findings) == 2
    assert all(finding.met for finding in section.findings), section.findings


def test_a_whole_run_gives_every_section_the_sets_that_belong_to_it(monkeypatch):
    got = {}
    for name in ("explicit", "implicit", "noise"):
        monkeypatch.setitem(
            pipeline.SECTIONS, name, lambda options, name=name: got.setdefault(name, options.sets)
        )
    options = Chosen(None, False, 1, None, None, sets=())
    for sets in (("mq2008", "planted", "ml_100k"), ("planted",)):
        for run in pipeline.sections_of(sets).values():
            run(options)
    assert got == {
        "explicit": ("mq2008",),
        "implicit": ("planted", "ml_100k"),
        "noise": ("planted", "ml_100k"),
    }
    assert list(pipeline.sections_of(("planted",))) == ["implicit", "noise"]
    assert pipeline.sections_of(()) is pipeline.SECTIONS
