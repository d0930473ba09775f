"""The command line as a user meets it: real stores, and a model from the user's own file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOY = f"{ROOT / 'tests' / 'toy_model.py'}:Toy"
LAYOUT = ["--row-blocks", "3", "--col-blocks", "4"]
SERIAL = ["--schedule", "serial"]

TRAIN_KEYS = {
    "epochs", "seconds", "startup_seconds", "objective", "history", "read_bytes", "write_bytes",
    "planned_read_bytes", "planned_write_bytes", "peak_memory_bytes", "planned_memory_bytes", "updates_per_s",
    "config",
}  # fmt: skip
PLAN_KEYS = {
    "n_row_blocks", "n_col_blocks", "tasks_per_epoch", "bytes_per_worker", "bytes_total", "read_bytes_per_epoch",
    "write_bytes_per_epoch", "model_bytes", "fits", "traversal",
}  # fmt: skip
INGEST_KEYS = {
    "kind", "n_rows", "n_cols", "nnz", "n_classes", "n_row_blocks", "bytes", "bad_lines", "seconds", "whole",
}  # fmt: skip


@pytest.fixture(scope="module")
def answer(run_cli):
    """The JSON object of a command that succeeds."""

    def ask(*args):
        done = run_cli(*args, "--json")
        assert done.code == 0, done.err
        return done.json

    return ask


@pytest.fixture(scope="module")
def refusal(run_cli):
    """Exit code and line of a command that fails on purpose, with nothing on standard output."""

    def ask(*args):
        done = run_cli(*args)
        assert done.out == ""
        [line] = (line for line in done.err.splitlines() if not line.startswith("notice="))
        assert line.startswith("error: ")
        assert "unexpected" not in done.err
        return done.code, line

    return ask


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A small svmlight file; every panel gets a few of its rows."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("text") / "small.svm"
    lines = []
    for _ in range(240):
        columns = np.sort(rng.choice(40, 6, replace=False)) + 1
        lines.append(f"{rng.integers(4)} " + " ".join(f"{j}:{rng.random():.3f}" for j in columns))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def dataset(text):
    from oocml import api

    path = text.parent / "small.zarr"
    api.ingest("libsvm", [text], str(path), panel_bytes=2000)
    return path


@pytest.fixture(scope="module")
def run(answer, dataset):
    path = dataset.parent / "run.zarr"
    answer("train", TOY, dataset, path, "--epochs", 2, *LAYOUT, *SERIAL)
    return path


def test_ingest_and_info_print_the_keys_of_the_design(answer, text, tmp_path):
    made = answer("ingest", "libsvm", text, tmp_path / "d.zarr")
    assert made.keys() >= INGEST_KEYS
    told = answer("info", tmp_path / "d.zarr")
    assert told.keys() >= INGEST_KEYS
    same = INGEST_KEYS - {"seconds"}
    assert {name: told[name] for name in same} == {name: made[name] for name in same}
    assert (told["kind"], told["n_rows"], told["whole"]) == ("dataset", 240, True)


def test_train_and_report_print_the_keys_of_the_design(answer, dataset, tmp_path):
    run = tmp_path / "r.zarr"
    trained = answer("train", TOY, dataset, run, "--epochs", 3, *LAYOUT, *SERIAL, "--set", "by=0.25")
    assert trained.keys() >= TRAIN_KEYS
    assert [epoch["epoch"] for epoch in trained["history"]] == [1, 2, 3]
    assert trained["config"]["settings"]["by"] == 0.25
    page = tmp_path / "report.html"
    reported = answer("report", run, "--out", page)
    assert {name: reported[name] for name in TRAIN_KEYS} == {name: trained[name] for name in TRAIN_KEYS}
    assert "<html" in page.read_text()


def test_progress_is_one_plain_line_an_epoch_on_stderr(run_cli, dataset, tmp_path):
    done = run_cli("train", TOY, dataset, tmp_path / "r.zarr", "--epochs", 2, *SERIAL)
    epochs = [line for line in done.err.splitlines() if line.startswith("epoch=")]
    assert [line.split()[0] for line in epochs] == ["epoch=1/2", "epoch=2/2"]
    assert "objective=" in epochs[0]


def test_export_is_described_by_its_arrays(answer, run, tmp_path):
    exported = answer("export", run, tmp_path / "w.zarr")
    told = answer("info", exported["out"])
    assert told["kind"] == "export"
    arrays = {array["name"]: (array["shape"], array["dtype"]) for array in told["arrays"]}
    assert arrays["V"] == ([13], "float64")
    assert arrays["U"] == ([240], "float64")
    assert told["bytes"] > 0


def test_plan_prints_the_keys_of_the_design_and_writes_nothing(answer, dataset):
    before = sorted(dataset.parent.iterdir())
    assert answer("plan", TOY, dataset, "--memory", "1GiB").keys() >= PLAN_KEYS
    assert sorted(dataset.parent.iterdir()) == before


def test_what_does_not_fit_is_refused_before_any_work(refusal, dataset, tmp_path):
    code, line = refusal("train", TOY, dataset, tmp_path / "r.zarr", "--memory", "10MiB")
    assert code == 3
    assert "--memory" in line
    assert not (tmp_path / "r.zarr").exists()
    assert refusal("plan", TOY, dataset, "--memory", "10MiB")[0] == 3


def test_existing_run_is_not_overwritten_unasked(refusal, dataset, run):
    code, line = refusal("train", TOY, dataset, run)
    assert code == 2
    assert "--overwrite" in line


def test_stores_of_the_wrong_kind_are_refused(refusal, dataset, run, tmp_path):
    assert refusal("train", TOY, run, tmp_path / "r.zarr")[0] == 4
    for verb in ("resume", "report"):
        assert refusal(verb, dataset)[0] == 4
    assert refusal("export", dataset, tmp_path / "w.npz")[0] == 4
    assert refusal("info", tmp_path)[0] == 4
    assert refusal("report", tmp_path / "nothing.zarr")[0] == 4
    assert refusal("train", TOY, tmp_path / "nothing.zarr", tmp_path / "r.zarr")[0] == 4


def test_places_that_cannot_be_written_are_refused(refusal, dataset, text, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "r.zarr", tmp_path / "nowhere" / "r.zarr"):
        assert refusal("train", TOY, dataset, out, *SERIAL)[0] == 4
        assert refusal("ingest", "libsvm", text, out)[0] == 4


@pytest.mark.parametrize(
    ("content", "word"), [("", "empty"), ("0 1:1\n1 2:x\n", "line 2"), ("0 1:1\n1 2:nan\n", "line 2")]
)
def test_bad_text_is_one_line_and_leaves_nothing(refusal, tmp_path, content, word):
    source = tmp_path / "bad.svm"
    source.write_text(content)
    code, line = refusal("ingest", "libsvm", source, tmp_path / "d.zarr")
    assert code == 4
    assert "bad.svm" in line
    assert word in line
    assert sorted(tmp_path.iterdir()) == [source]


def test_damage_is_named_and_info_tells_it(run_cli, answer, text, tmp_path):
    dataset = tmp_path / "d.zarr"
    answer("ingest", "libsvm", text, dataset)
    chunk = next(path for path in sorted(dataset.rglob("panels/0/X/data/c/*")) if path.is_file())
    os.truncate(chunk, chunk.stat().st_size // 2)
    told = answer("info", dataset)
    assert told["whole"] is False
    assert told["problem"]
    trained = run_cli("train", TOY, dataset, tmp_path / "r.zarr", *SERIAL)
    assert trained.code == 4
    assert trained.err.splitlines()[-1].startswith(f"error: chunk {chunk} is truncated")


def interrupt_after(epoch, *args, how=signal.SIGINT):
    """Start a command in its own process group and interrupt that, as a terminal does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "oocml.cli", *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stderr:
        if line.startswith(f"epoch={epoch}/"):
            os.killpg(process.pid, how)
            break
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("schedule", ["serial", pytest.param("sync", marks=pytest.mark.long)])
def test_ctrl_c_leaves_a_run_that_resume_finishes_with_the_same_bits(answer, dataset, tmp_path, schedule):
    options = ["--epochs", 40, *LAYOUT, "--schedule", schedule]
    whole, halved = tmp_path / "whole.zarr", tmp_path / "halved.zarr"
    answer("train", TOY, dataset, whole, *options)
    code, out, err = interrupt_after(3, "train", TOY, dataset, halved, *options)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == f"error: interrupted; `oocml resume {halved}` finishes the run"
    assert "Traceback" not in err
    left = answer("report", halved)
    assert 3 <= left["epochs"] < 40
    assert answer("resume", halved)["epochs"] == 40
    exports = [answer("export", run, tmp_path / f"{run.stem}.npz")["out"] for run in (whole, halved)]
    assert Path(exports[0]).read_bytes() == Path(exports[1]).read_bytes()


def test_resume_adds_epochs_to_a_finished_run(answer, dataset, tmp_path):
    run = tmp_path / "r.zarr"
    answer("train", TOY, dataset, run, "--epochs", 2, *SERIAL)
    assert answer("resume", run)["epochs"] == 2
    assert answer("resume", run, "--epochs", "+3")["epochs"] == 5
