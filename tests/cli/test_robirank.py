"""RoBiRank for graded rows of queries from the command line, under the name that it shares."""

import json

import numpy as np
import pytest

from tests.data.svmlight_text import put

SERIAL = ["--schedule", "serial"]


def graded(n_queries, seed):
    """Lines of queries whose rows come in any order; the first two of four features decide the grade."""
    rng = np.random.default_rng(seed)
    lines = []
    for query in range(n_queries):
        for x in rng.normal(size=(rng.integers(1, 12), 4)):
            grade = int(np.clip(np.round(x[0] - x[1] + 0.3 * rng.normal()), 0, 2))
            entries = " ".join(f"{j}:{value:.5f}" for j, value in enumerate(x, 1))
            lines.append(f"{grade} qid:{query} {entries} # row {len(lines)}\n")
    return "".join(lines[i] for i in rng.permutation(len(lines)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_cli):
    here = tmp_path_factory.mktemp("robirank")
    train, test = put(here / "train.txt", graded(60, 0)), put(here / "test.txt", graded(40, 1))
    for command in (
        ["ingest", "letor", train, here / "train.zarr"],
        ["ingest", "letor", test, here / "test.zarr", "--like", here / "train.zarr"],
        ["train", "robirank", here / "train.zarr", here / "run.zarr", "--set", "l2=0.1", *SERIAL],
    ):
        done = run_cli(*command)
        assert done.code == 0, done.err
    return here


def test_the_run_keeps_the_model_that_the_name_stood_for(run_cli, folder):
    told = run_cli("report", folder / "run.zarr", "--json").json
    assert told["model"] == "robirank-explicit"
    assert told["finished"]
    assert told["epochs"] < 200, "the gradient vanished"
    plan = run_cli("plan", "robirank", folder / "train.zarr", "--memory", "1GiB", "--json")
    assert plan.json["fits"]
    assert run_cli("plan", "robirank", "--spec", "mslr_web30k", "--memory", "1GiB", "--json").json["fits"]


def test_predictions_come_in_the_order_of_the_file_and_have_the_scores_that_evaluate_tells(run_cli, folder):
    out = folder / "scores.txt"
    assert run_cli("predict", folder / "run.zarr", folder / "test.zarr", out).code == 0
    values = np.loadtxt(out)
    fields = [line.split(maxsplit=2) for line in (folder / "test.txt").read_text().splitlines()]
    assert len(values) == len(fields)
    assert np.corrcoef(values, [float(grade) for grade, *_ in fields])[0, 1] > 0.5
    told = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--per-query", "--json").json
    found = {}
    for query in {field[1] for field in fields}:
        ranked = sorted((-v, float(f[0])) for v, f in zip(values, fields, strict=True) if f[1] == query)
        dcg, best = (
            sum((2**grade - 1) / np.log2(t + 2) for t, grade in enumerate(grades[:10]))
            for grades in ([g for _, g in ranked], sorted((g for _, g in ranked), reverse=True))
        )
        found[int(query.removeprefix("qid:"))] = dcg / best if best else None
    assert {record["qid"]: record["ndcg_at_10"] for record in told["per_query"]} == pytest.approx(found)
    counted = [value for value in found.values() if value is not None]
    assert told["ndcg_at_10"] == pytest.approx(np.mean(counted))
    assert told["ndcg_at_10_all"] == pytest.approx(sum(counted) / len(found))
    assert told["n_queries_left_out"] == len(found) - len(counted) > 0
    assert told["ndcg_at_10_low"] < told["ndcg_at_10"] < told["ndcg_at_10_high"]
    assert told["ndcg_at_10"] > 0.8


def test_scores_are_the_exported_weights_times_the_features(run_cli, folder):
    assert run_cli("export", folder / "run.zarr", folder / "model.npz").code == 0
    weights = np.load(folder / "model.npz")["weights"]
    run_cli("predict", folder / "run.zarr", folder / "test.zarr", folder / "scores.zarr")
    X = [
        [float(entry.split(":")[1]) for entry in line.split("#")[0].split()[2:]]
        for line in (folder / "test.txt").read_text().splitlines()
    ]
    run_cli("predict", folder / "run.zarr", folder / "test.zarr", folder / "again.txt")
    np.testing.assert_allclose(np.loadtxt(folder / "again.txt"), X @ weights, rtol=1e-5, atol=1e-5)
    assert weights[0] > 0 > weights[1]


def test_two_workers_reach_the_same_bits_and_a_resumed_run_goes_on(run_cli, folder):
    for name, more in (("sync", ["--workers", 2]), ("serial", [])):
        done = run_cli(
            *("train", "robirank", folder / "train.zarr", folder / f"{name}.zarr"),
            *("--epochs", 3, "--schedule", name, *more),
        )
        assert done.code == 0, done.err
    told = [run_cli("report", folder / f"{name}.zarr", "--json").json for name in ("sync", "serial")]
    assert told[0]["objective"] == told[1]["objective"]
    assert run_cli("resume", folder / "serial.zarr", "--epochs", "+4").code == 0
    longer = run_cli("report", folder / "serial.zarr", "--json").json
    assert longer["objective"] < told[1]["objective"]
    assert longer["epochs"] == 7


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["robirank-explicit", "plain.zarr"], 4, "the dataset has no queries; ingest it as letor"),
        (["robirank", "train.zarr", "--set", "rho=3"], 2, "rho is 3 but must be a whole number from 0 to 2"),
        (["robirank", "train.zarr", "--set", "l2=-1"], 2, "l2 is -1.0 but must be 0 or more"),
        (["robirank", "train.zarr", "--set", "k=1"], 2, "robirank-explicit has no setting k"),
        (["robirank", "train.zarr", "--set", "normalize=rows"], 2, "there are none, query"),
        (["robirank", "gone.zarr"], 4, "gone.zarr does not exist"),
        (["robirank", "train.zarr", "--valid", "plain.zarr"], 4, "need queries and grades"),
        (["robirank", "high.zarr"], 4, "grades go from 1 to 31"),
        (["robirank", "empty.zarr"], 4, "no row has a grade above 0"),
    ],
)
def test_what_cannot_be_trained_is_said_at_once(run_cli, folder, monkeypatch, arguments, code, message):
    monkeypatch.chdir(folder)
    if not (folder / "plain.zarr").exists():
        rest = "1:1 2:1 3:1 4:1\n"
        for name, format, text in (
            ("plain", "libsvm", f"1 {rest}0 {rest}"),
            ("high", "letor", f"1 qid:1 {rest}31 qid:1 {rest}"),
            ("empty", "letor", f"0 qid:1 {rest}0 qid:2 {rest}"),
        ):
            run_cli("ingest", format, put(folder / f"{name}.txt", text), folder / f"{name}.zarr")
    done = run_cli("train", *arguments[:2], "refused.zarr", *arguments[2:], *SERIAL)
    assert (done.code, done.out) == (code, "")
    assert message in done.err.strip().splitlines()[-1]
    assert not (folder / "refused.zarr").exists()


def test_other_models_score_no_queries(run_cli, folder):
    assert (
        run_cli("train", "poly", folder / "train.zarr", folder / "poly.zarr", "--epochs", 1, *SERIAL).code
        == 0
    )
    done = run_cli("evaluate", folder / "poly.zarr", folder / "test.zarr", "--per-query")
    assert done.code == 2
    assert "leave out per_query" in done.err


def test_it_is_told_whether_queries_are_a_sample(run_cli, folder, monkeypatch):
    command = ["evaluate", folder / "run.zarr", folder / "test.zarr", "--per-query", "--json"]
    told = run_cli(*command).json
    assert (told["per_query_sampled"], len(told["per_query"])) == (False, told["n_queries"])
    monkeypatch.setattr("oocml.metrics.ranking.MOST_KEPT", 2)
    told = run_cli(*command).json
    assert (told["per_query_sampled"], len(told["per_query"])) == (True, 2)


def test_per_query_scores_are_a_table_for_people(run_cli, folder):
    done = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--per-query")
    lines = done.out.splitlines()
    assert lines[lines.index("per_query") + 1].split()[:3] == ["qid", "n_rows", "n_relevant"]
    assert (
        json.loads(run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--json").out).get(
            "per_query"
        )
        is None
    )
