"""Before a model's first training another process compiles what it needs."""

import pytest

from oocml.engine.compilation import APART
from oocml.first_use import train_from_disk
from oocml.models.registry import BUILTIN, load_model

SOME = {"mf", "robirank-explicit"}
"""One on tiles, and one that wants queries; the others take a while."""


@pytest.mark.parametrize(
    "model", [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in BUILTIN]
)
def test_every_model_can_be_trained_and_scored_on_the_made_up_rows(tmp_path, monkeypatch, model):
    monkeypatch.setenv(APART, "1")
    train_from_disk(model, load_model(model).defaults(), tmp_path, queries=model == "robirank-explicit")
    assert (tmp_path / "run.zarr" / "ledger").exists()
