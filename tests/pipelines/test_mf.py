from __future__ import annotations

import csv

import pytest
from click.testing import CliRunner

from pipelines import mf


def invoke(*arguments):
    return CliRunner().invoke(mf.main, [str(argument) for argument in arguments])


def table(folder):
    with (folder / "mf.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_kind_of_step_gets_its_lines_and_its_curves(rated, tmp_path):
    sizes = ["--epochs", 4, "--n-factors", 4, "--schedule", "serial"]
    done = invoke("--data", rated.train, "--test", rated.test, "--out", tmp_path, *sizes)
    assert done.exit_code == 0, done.output
    rows = table(tmp_path)
    assert [(row["method"], row["epochs"]) for row in rows] == [
        (f"serial {step}", n) for step in mf.STEPS for n in ("1", "4")
    ]
    for first, last in zip(rows[::2], rows[1::2], strict=True):
        assert float(last["objective"]) < float(first["objective"])
        assert 0 < float(last["mae"]) < float(last["rmse"]) < 3
    assert (tmp_path / "mf.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_schedules_end_at_the_same_test_error(rated, tmp_path):
    sizes = ["--epochs", 10, "--n-factors", 4, "--step", "adagrad", "--blocks", 3]
    done = invoke("--data", rated.train, "--test", rated.test, "--out", tmp_path, *sizes)
    assert done.exit_code == 0, done.output
    ends = {row["schedule"]: row for row in table(tmp_path)}
    assert set(ends) == {"serial", "sync", "async"}
    assert (ends["async"]["row_blocks"], ends["async"]["col_blocks"]) == ("3", "3")
    errors = [float(row["rmse"]) for row in ends.values()]
    assert max(errors) < 1.03 * min(errors)
    assert "apart from that of one process" in done.output


def test_a_set_that_cannot_be_had_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(mf, "PLANTED", {"rows": 50, "cols": 30, "nnz_per_row": 10.0})
    (tmp_path / "given").mkdir()
    sizes = ["--epochs", 1, "--n-factors", 2, "--schedule", "serial", "--step", "nomad"]
    done = invoke("--out", tmp_path, "--data-dir", tmp_path / "given", *sizes)
    assert done.exit_code == 0, done.output
    assert "ml_100k left out" in done.output
    assert [row["dataset"] for row in table(tmp_path)] == ["planted 50x30"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["--test", "."], "--data"), (["--data", ".", "--set", "planted"], "not both")],
)
def test_a_mistake_is_one_line(tmp_path, arguments, why):
    done = invoke("--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert why in done.output
    assert done.output.count("\n") == 1
