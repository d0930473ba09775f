"""What an opened run refuses before it writes anything, and the words in which it tells of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import oocml
from oocml.engine.events import Notice
from oocml.errors import InputError, UsageError
from oocml.run import Run
from tests.engine.toys import write_dataset

SERIAL: dict[str, Any] = {"epochs": 1, "schedule": "serial"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    here = tmp_path_factory.mktemp("run")
    write_dataset(here / "data.zarr")
    write_dataset(here / "narrow.zarr", n_cols=5)
    return here


@pytest.fixture(scope="module")
def mlr(folder) -> Run:
    return oocml.train("mlr", folder / "data.zarr", folder / "mlr.zarr", **SERIAL)


@pytest.fixture(scope="module")
def poly(folder) -> Run:
    return oocml.train("poly", folder / "data.zarr", folder / "poly.zarr", **SERIAL)


@pytest.mark.parametrize("name", ["p.npz", "p.csv", "p.ZARR", "p", "p.zarr.gz"])
def test_predictions_are_not_written_in_a_format_that_is_not_asked_for(folder, mlr, name):
    before = set(folder.iterdir())
    with pytest.raises(UsageError, match=r"\.zarr .*\.txt, \.tsv"):
        mlr.predict(folder / "data.zarr", folder / name)
    assert set(folder.iterdir()) == before


def test_there_is_no_best_of_one_number_a_row(folder, poly):
    before = set(folder.iterdir())
    with pytest.raises(UsageError, match="poly predicts one number for a row .* --top"):
        poly.predict(folder / "data.zarr", folder / "p.txt", top=3)
    assert set(folder.iterdir()) == before
    assert "top" not in poly.predict(folder / "data.zarr", folder / "p.txt", overwrite=True)


def test_the_best_that_were_asked_for_are_told(folder, mlr):
    assert mlr.predict(folder / "data.zarr", folder / "best.tsv", top=2)["top"] == 2


@pytest.mark.parametrize(
    ("error", "options"),
    [(UsageError, {"data": "data.zarr"}), (InputError, {"data": "narrow.zarr", "prune": 0.1})],
)
def test_an_export_that_cannot_be_scored_as_asked_is_not_written(folder, mlr, error, options):
    before = set(folder.iterdir())
    with pytest.raises(error):
        mlr.export(folder / "w.npz", **{**options, "data": folder / options["data"]})
    assert set(folder.iterdir()) == before


def test_columns_of_a_model_are_called_what_they_are(mlr, poly):
    assert mlr.info()["n_classes"] == 3
    assert "n_classes" not in poly.info()


def test_ratings_with_labels_are_wondered_at(folder):
    told: list[Any] = []
    how: dict[str, Any] = {**SERIAL, "monitors": [told.append], "settings": {"n_factors": 2}}
    oocml.train("mf", folder / "data.zarr", folder / "mf.zarr", **how)
    [line] = [event.text for event in told if isinstance(event, Notice) and "labels" in event.text]
    assert line.startswith("mf takes the values of the features for ratings")
