"""What a model tells about itself is shown in the data's words, whatever the run's order of columns."""

import json
from pathlib import Path

import numpy as np
import pytest

from oocml import api
from oocml.data.ingest import ingest
from oocml.engine.summary import top_text
from tests import ranking_toy
from tests.cli.conftest import call

FREQUENT = {"pear": 30, "fig": 20, "kiwi": 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Thirty documents; words in an order that is not that of their frequencies."""
    folder = tmp_path_factory.mktemp("words")
    words = ["fig", "lime", "kiwi", "plum", "pear"]
    rows = [
        " ".join(str(part) for part in [len(own), *(f"{j}:1" for j in own)])
        for i in range(30)
        for own in [[j for j, word in enumerate(words) if i < FREQUENT.get(word, 2)]]
    ]
    (folder / "x").write_text("\n".join(rows) + "\n")
    (folder / "v").write_text("\n".join(words) + "\n")
    ingest("ldac", folder / "x", folder / "named.zarr", vocab=str(folder / "v"))
    ingest("ldac", folder / "x", folder / "plain.zarr")
    return folder


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    model = f"{Path(ranking_toy.__file__)}:RankingToy"
    return {
        name: api.train(
            model,
            str(data / f"{name}.zarr"),
            folder / f"{name}.zarr",
            epochs=1,
            schedule="serial",
            col_blocks=3,
        )
        for name in ("named", "plain")
    }


def test_columns_have_their_names_and_parts_come_the_largest_first(runs):
    ((what, parts),) = runs["named"].top_columns().items()
    assert what == "parts"
    assert [(part["number"], part["share"]) for part in parts] == [(1, 0.75), (0, 0.25)]
    assert parts[0]["top"] == []
    assert [(item["column"], item["name"], item["weight"]) for item in parts[1]["top"]] == [
        (4, "pear", 30.0),
        (0, "fig", 20.0),
        (2, "kiwi", 10.0),
    ]
    assert top_text(parts[1]["top"]) == "pear 30, fig 20, kiwi 10"


def test_columns_without_names_have_numbers(runs):
    part = runs["plain"].top_columns()["parts"][1]
    assert [(item["column"], item["name"]) for item in part["top"]] == [(4, None), (0, None), (2, None)]
    assert top_text(part["top"]) == "4 30, 0 20, 2 10"


def test_report_and_info_show_them(runs, tmp_path):
    path = runs["named"].path
    for verb in ("report", "info"):
        told = json.loads(call(verb, path, "--json").out)
        assert told["top_columns"] == runs["named"].top_columns()
        assert "0   0.25  pear 30, fig 20, kiwi 10" in call(verb, path).out
    call("report", path, "--out", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<td>25.000%</td><td>pear 30, fig 20, kiwi 10</td>" in page


def test_models_without_a_summary_have_none(data, tmp_path):
    run = api.train("mf", str(data / "named.zarr"), tmp_path / "r.zarr", epochs=1, schedule="serial")
    assert run.top_columns() == {}
    assert np.isfinite(run.summary()["objective"])
