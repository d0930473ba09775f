"""Before a model's first training another process compiles what it needs."""

import pytest

from oocml import first_use
from oocml.engine.compilation import APART
from oocml.errors import InputError
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


def refusing(*accepted):
    """Stand-in for `train_from_disk`: takes only some data; lists what it was given."""
    asked = []

    def train(reference, settings, folder, **data):
        asked.append((data["n_labels"], data["queries"]))
        if asked[-1] not in accepted:
            raise InputError("these rows are not for me")

    return asked, train


def test_data_are_tried_until_some_can_be_trained_on(monkeypatch):
    monkeypatch.setattr(first_use, "rehearse", lambda *_: None)
    asked, train = refusing((2, False))
    monkeypatch.setattr(first_use, "train_from_disk", train)
    first_use.main("mlr", {})
    assert asked[-1] == (2, False)
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("error", [InputError("not for me"), TypeError("a fault")])
def test_where_nothing_can_be_trained_the_process_fails(monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(first_use, "rehearse", lambda *_: None)
    monkeypatch.setattr(first_use, "train_from_disk", refuse)
    with pytest.raises(type(error)):
        first_use.main("mlr", {})
