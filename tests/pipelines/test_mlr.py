from __future__ import annotations

import csv
import itertools

import pytest
from click.testing import CliRunner

from pipelines import mlr
from pipelines.plots import objective_against_time


def invoke(*arguments):
    return CliRunner().invoke(mlr.main, [str(argument) for argument in arguments])


def table(folder):
    with (folder / "mlr.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_method_gets_its_lines_and_its_curve(splits, tmp_path):
    sizes = ["--epochs", 4, "--polish", 1, "--iterations", 4, "--l2", 1e-3, "--budget", 1]
    done = invoke("--data", splits[0], "--test", splits[1], "--out", tmp_path, *sizes)
    assert done.exit_code == 0, done.output
    rows = table(tmp_path)
    by_method = {name: list(found) for name, found in itertools.groupby(rows, key=lambda row: row["method"])}
    assert set(by_method) == set(mlr.METHODS)
    assert [int(row["step"]) for row in by_method["ds"]] == [1, 2, 4]
    for row in rows:
        assert float(row["seconds"]) > 0
        assert 0 < float(row["accuracy"]) <= 1
        assert 0 < float(row["f1_macro"]) <= 1
    ends = {name: float(found[-1]["objective"]) for name, found in by_method.items() if name != "sklearn-sgd"}
    optimum = ends["sklearn-newton-cg"]
    assert min(ends.values()) >= optimum * (1 - 1e-5)
    assert ends["ds+polish"] <= optimum * 1.1
    assert by_method["sklearn-sgd"][-1]["objective"] == ""  # it minimises another one
    assert not (tmp_path / "run.zarr").exists()
    assert (tmp_path / "mlr.png").read_bytes().startswith(b"\x89PNG")


def test_what_does_not_fit_is_left_out_and_says_so(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(mlr.softmax, "bytes_needed", lambda *sizes: 2**60)
    methods = ["--method", "sklearn-lbfgs", "--method", "ds", "--epochs", 1]
    done = invoke("--data", splits[0], "--out", tmp_path, *methods)
    assert done.exit_code == 0, done.output
    left_out, trained = table(tmp_path)
    assert "memory" in left_out["note"]
    assert float(trained["objective"]) > 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--spec", "nosuch"], "nosuch"),
        (["--spec", "clef"], "by hand"),
        (["--spec", "news20@much"], "scale"),
        (["--test", "."], "--data"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, why):
    done = invoke("--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert why in done.output
    assert done.output.count("\n") == 1


def test_a_plot_leaves_out_what_has_no_objective(tmp_path):
    rows = [
        {"dataset": name, "method": "m", "seconds": seconds, "objective": objective}
        for name in "abcd"
        for seconds, objective in ((0.1, 2.0), (0.2, 1.0), (0.3, None), (0.4, float("nan")))
    ]
    path = objective_against_time(
        [*rows, {"dataset": "e", "method": "m", "note": "too large"}], tmp_path / "p.png"
    )
    assert path.stat().st_size > 1000
