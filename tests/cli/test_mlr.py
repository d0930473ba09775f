"""The verbs on the model that most users meet first."""

import hashlib
import json
import re

import numpy as np
import pytest
from sklearn import metrics as reference

SERIAL = ["--schedule", "serial"]
EVALUATE_KEYS = {
    "accuracy", "f1_macro", "f1_micro", "precision_at_1", "precision_at_3", "precision_at_5", "log_loss", "objective",
}  # fmt: skip


def write_svmlight(path, rng, labels):
    """Rows with a few random entries and some that tell the label."""
    lines = []
    for label in labels:
        columns = np.unique(np.concatenate((rng.choice(30, 4), [30 + label % 7, 37 + label % 5])))
        lines.append(f"{label} " + " ".join(f"{j + 1}:{rng.random() + 0.5:.4f}" for j in columns))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_cli):
    """A training set, a test set with a class that training never saw, and a run."""
    here, rng = tmp_path_factory.mktemp("mlr"), np.random.default_rng(8)
    write_svmlight(here / "train.svm", rng, rng.integers(0, 6, 300))
    write_svmlight(here / "test.svm", rng, rng.integers(0, 7, 120))
    valid = ["--epochs", 8, "--col-blocks", 2, "--valid", here / "test.zarr", "--metric", "accuracy"]
    for command in (
        ["ingest", "libsvm", here / "train.svm", here / "train.zarr"],
        ["ingest", "libsvm", here / "test.svm", here / "test.zarr", "--like", here / "train.zarr"],
        ["train", "mlr", here / "train.zarr", here / "run.zarr", "--set", "l2=1e-3", *SERIAL, *valid],
    ):
        done = run_cli(*command)
        assert done.code == 0, done.err
    return here


def labels_of(path):
    return [int(line.split()[0]) for line in path.read_text().splitlines()]


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(bytes(p.relative_to(folder)) + p.read_bytes() for p in files)).hexdigest()


def test_scores_are_those_of_the_predictions_in_the_files_order(run_cli, folder, tmp_path):
    told = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--json").json
    assert told.keys() >= EVALUATE_KEYS
    before = fingerprint(folder / "run.zarr")
    done = run_cli("predict", folder / "run.zarr", folder / "test.zarr", tmp_path / "best.txt", "--top", 3)
    assert done.code == 0, done.err
    assert fingerprint(folder / "run.zarr") == before
    truth = labels_of(folder / "test.svm")
    rows = [
        [int(pair.split(":")[0]) for pair in line.split()]
        for line in (tmp_path / "best.txt").read_text().splitlines()
    ]
    best = [row[0] for row in rows]
    assert told["accuracy"] == pytest.approx(reference.accuracy_score(truth, best))
    assert told["f1_macro"] == pytest.approx(reference.f1_score(truth, best, average="macro"))
    hits = np.mean([label in row for label, row in zip(truth, rows, strict=True)])
    assert told["precision_at_3"] == pytest.approx(hits / 3)
    assert told["n_unseen"] == truth.count(6) > 0
    assert told["accuracy"] > 0.5


def test_history_holds_every_score_and_best_is_kept(run_cli, folder):
    told = run_cli("report", folder / "run.zarr", "--json").json
    scores = [epoch["valid"]["accuracy"] for epoch in told["history"]]
    best = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--at", "best", "--json").json
    last = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--at", "last", "--json").json
    unasked = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--json").json
    assert best["accuracy"] == pytest.approx(max(scores))
    assert last["accuracy"] == pytest.approx(scores[-1])
    assert unasked == best
    used = [(told["checkpoint"], told["epoch"]) for told in (best, last)]
    assert used == [("best", 1 + scores.index(max(scores))), ("last", len(scores))]


def test_predictions_and_exports_tell_the_state_they_are_of(run_cli, folder, tmp_path):
    kept = run_cli("report", folder / "run.zarr", "--json").json["checkpoints"]["best"]
    for verb in (["predict", folder / "run.zarr", folder / "test.zarr"], ["export", folder / "run.zarr"]):
        told = run_cli(*verb, tmp_path / f"{verb[0]}.zarr", "--json").json
        assert (told["checkpoint"], told["epoch"]) == ("best", kept)


def test_epoch_that_was_not_kept_is_refused(run_cli, folder):
    done = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--at", "1000")
    assert (done.code, done.out) == (2, "")
    assert "best" in done.err


def test_pruned_export_tells_bytes_and_scores_before_and_after(run_cli, folder, tmp_path):
    out = tmp_path / "w.npz"
    told = run_cli(
        "export", folder / "run.zarr", out, "--prune", "0.05", "--data", folder / "test.zarr", "--json"
    ).json
    assert told["nonzeros"] < 42 * 6  # all weights of all classes
    assert told["bytes"] == out.stat().st_size
    assert EVALUATE_KEYS <= told["before"].keys() == told["after"].keys()
    text = run_cli(
        "export", folder / "run.zarr", out, "--prune", "0.05", "--data", folder / "test.zarr", "--overwrite"
    ).out
    lines = {words[0]: words[1:] for words in map(str.split, text.splitlines()) if words}
    assert lines["score"] == ["before", "after"]
    assert lines["accuracy"] == [f"{told[when]['accuracy']:.6g}" for when in ("before", "after")]


@pytest.mark.parametrize("content", ["2 1:1.5\n", "2 1:1.5\n2 2:1\n"], ids=["one row", "one class"])
def test_smallest_data_trains(run_cli, tmp_path, content):
    (tmp_path / "d.svm").write_text(content)
    assert run_cli("ingest", "libsvm", tmp_path / "d.svm", tmp_path / "d.zarr").code == 0
    done = run_cli("train", "mlr", tmp_path / "d.zarr", tmp_path / "r.zarr", "--epochs", 1, *SERIAL, "--json")
    if done.code:
        assert done.code == 4
        assert done.err.splitlines()[-1].startswith("error: ")
    else:
        told = run_cli("evaluate", tmp_path / "r.zarr", tmp_path / "d.zarr", "--json").json
        assert told["accuracy"] == 1.0


def test_data_that_has_no_classes_is_refused(run_cli, tmp_path):
    (tmp_path / "d.svm").write_text("0.5 1:1\n1.25 2:1\n")
    assert run_cli("ingest", "libsvm", tmp_path / "d.svm", tmp_path / "d.zarr").code == 0
    done = run_cli("train", "mlr", tmp_path / "d.zarr", tmp_path / "r.zarr", *SERIAL)
    assert (done.code, done.out) == (4, "")
    assert not (tmp_path / "r.zarr").exists()


def test_test_data_of_another_shape_is_refused(run_cli, folder, tmp_path):
    (tmp_path / "d.svm").write_text("0 500:1\n1 2:1\n")
    assert run_cli("ingest", "libsvm", tmp_path / "d.svm", tmp_path / "d.zarr").code == 0
    for command in (
        ["evaluate", folder / "run.zarr", tmp_path / "d.zarr"],
        ["predict", folder / "run.zarr", tmp_path / "d.zarr", tmp_path / "p.txt"],
    ):
        done = run_cli(*command)
        assert (done.code, done.out) == (4, "")
        assert "--like" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.svm", "d.zarr"]


def test_one_unknown_setting_or_value_is_one_line(run_cli, folder, tmp_path):
    for setting in ("l2=-1", "solver=sgd", "learning_rate=0", "l=1", "polish=-3"):
        done = run_cli("train", "mlr", folder / "train.zarr", tmp_path / "r.zarr", "--set", setting, "--json")
        assert done.code == 2, (setting, done.err)
        assert json.loads(done.out)["exit_code"] == 2
        assert done.err.count("\n") == 1
    assert not (tmp_path / "r.zarr").exists()


def test_serial_training_on_a_cluster_is_refused(run_cli, folder, tmp_path):
    where = ["--scheduler", "tcp://127.0.0.1:9"]
    done = run_cli("train", "mlr", folder / "train.zarr", tmp_path / "r.zarr", *SERIAL, *where)
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: --schedule serial uses no cluster; leave out --scheduler or choose sync\n"
    assert not (tmp_path / "r.zarr").exists()


def test_little_memory_for_scoring_is_told_in_units_that_fit(run_cli, folder):
    done = run_cli("evaluate", folder / "run.zarr", folder / "test.zarr", "--memory", "1KiB")
    assert (done.code, done.out) == (3, "")
    assert re.search(r"needs [1-9][\d.]* KiB a worker but has 1\.00 KiB; raise --memory", done.err), done.err
