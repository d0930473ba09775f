import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

EVALUATE_KEYS = {
    "accuracy", "f1_macro", "f1_micro", "precision_at_1", "precision_at_3", "precision_at_5", "log_loss", "objective",
}  # fmt: skip


def test_steps_and_flat_answer(run_cli, api, monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr("oocml.data.fetch.fetch", lambda spec, to: fetched.append((spec.name, to)))
    monkeypatch.setattr("oocml.cli.quickstart.progress", lambda: ("<monitor>",))
    monkeypatch.setattr("oocml.cli.quickstart.write_html", lambda run, out: out.write_text("<html>"))
    monkeypatch.setattr(
        "oocml.cli.quickstart.ProcessPoolExecutor", lambda n, mp_context: ThreadPoolExecutor(n)
    )
    api.answers["evaluate"] = {"accuracy": 0.85, "objective": 1.0}
    api.answers["summary"] = {"epochs": 4, "objective": 0.4}
    done = run_cli("quickstart", "--to", tmp_path, "--epochs", "4", "--memory", "1GiB", "--json")
    assert done.code == 0, done.err
    assert fetched == [("news20", tmp_path / "raw")]
    train, test = ([str(tmp_path / f"{split}.zarr")] for split in ("train", "test"))
    ingests = [(args[2:], options) for name, args, options in api.calls if name == "ingest"]
    assert [args for args, _ in ingests] == [tuple(train), tuple(test)]
    assert [options.get("like") for _, options in ingests] == [None, *train]
    assert api.options("train")["epochs"] == 4
    assert api.options("train")["memory"] == 2**30
    assert (tmp_path / "report.html").exists()
    assert done.json == {
        "accuracy": 0.85,
        "objective": 0.4,
        "epochs": 4,
        "run": str(tmp_path / "run.zarr"),
        "report": str(tmp_path / "report.html"),
    }


@pytest.mark.long
def test_quickstart_learns_news20(tmp_path):
    command = [sys.executable, "-m", "oocml.cli", "quickstart", "--to", str(tmp_path), "--json"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    if "pip" in done.stderr and done.returncode == 1:
        pytest.skip(f"the package index does not answer: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer.keys() >= EVALUATE_KEYS | {"seconds", "peak_memory_bytes", "planned_memory_bytes"}
    assert answer["accuracy"] >= 0.84
    assert answer["objective"] <= 1.05 * 0.366
    assert answer["peak_memory_bytes"] <= answer["planned_memory_bytes"]
    assert (tmp_path / "report.html").stat().st_size > 10_000
