from __future__ import annotations

import csv

from oocml.errors import NonFinite
from pipelines import methods
from pipelines.methods import Experiment, Method, compare, last_lines, lengths


def experiment(folder, *epochs):
    settings = {"n_factors": 4}
    return Experiment("mf", folder, epochs, ("rmse",), options={"seed": 1}, settings=settings)


METHODS = [Method("planned"), Method("pinned", settings={"step": "constant"}, row_blocks=3, col_blocks=2)]


def test_every_length_of_every_method_gets_a_line(rated, tmp_path):
    rows = compare([rated], METHODS, experiment(tmp_path, 1, 4))
    assert [(row["method"], row["epochs"]) for row in rows] == [
        (name, n) for name in ("planned", "pinned") for n in (1, 4)
    ]
    assert [(row["row_blocks"], row["col_blocks"]) for row in rows[2:]] == [(3, 2)] * 2
    for first, last in (rows[:2], rows[2:]):
        assert last["objective"] < first["objective"]
        assert last["rmse"] < first["rmse"] < 3
    with (tmp_path / "mf.csv").open(newline="") as file:
        assert [float(row["rmse"]) for row in csv.DictReader(file)] == [row["rmse"] for row in rows]
    assert not (tmp_path / "run.zarr").exists()
    assert [row["epochs"] for row in last_lines(rows, ("method", "epochs"))] == [4, 4]


def test_pairs_that_are_not_wanted_are_left_out(rated, tmp_path):
    rows = compare([rated], METHODS, experiment(tmp_path, 1), lambda splits, method: method.name != "planned")
    assert [row["method"] for row in rows] == ["pinned"]


def test_a_training_that_fails_is_noted_and_longer_ones_are_not_tried(rated, tmp_path, monkeypatch):
    real = methods.train

    def train(splits, method, experiment, n_epochs):
        if n_epochs > 1:
            raise NonFinite("it became infinite")
        return real(splits, method, experiment, n_epochs)

    monkeypatch.setattr(methods, "train", train)
    rows = methods.lines(rated, METHODS[0], experiment(tmp_path, 1, 2, 5))
    assert [row["epochs"] for row in rows] == [1, 2]
    assert rows[0]["rmse"] > 0
    assert rows[1]["note"] == "it became infinite"


def test_lengths_grow_and_end_with_the_longest():
    assert lengths(10) == [1, 2, 5, 10]
    assert lengths(30) == [1, 2, 5, 10, 20, 30]
    assert lengths(20, (1,)) == [1, 10, 20]
    assert lengths(1) == [1]
