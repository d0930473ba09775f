"""A model is found, or one line says why not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oocml.errors import InputError, OocmlError, UsageError
from oocml.models.registry import BUILTIN, BY_DATA, load_model, of_data


def written(folder: Path, text: str) -> Path:
    path = folder / f"model_{abs(hash(text))}.py"
    path.write_text(text)
    return path


def test_a_name_that_stands_for_two_models_stands_for_built_in_ones():
    assert {name for names in BY_DATA.values() for name in names} <= set(BUILTIN)
    assert not set(BY_DATA) & set(BUILTIN)


@pytest.mark.parametrize(
    ("reference", "kind", "words"),
    [
        ("nosuch", UsageError, "no model 'nosuch'; there are mlr"),
        ("robirank", UsageError, "robirank is robirank-explicit for data with queries and"),
        ("nosuch:Model", UsageError, "there is no module 'nosuch'"),
        ("oocml.nosuch.deep:Model", UsageError, "there is no module 'oocml.nosuch.deep'"),
        ("oocml.errors:Nothing", UsageError, "oocml.errors has no 'Nothing'"),
        ("nosuch.py:Model", UsageError, "cannot read the model file nosuch.py"),
    ],
)
def test_what_is_not_there_is_named(reference, kind, words):
    with pytest.raises(kind) as caught:
        load_model(reference)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("import nosuch_dependency", InputError, "does not load: ModuleNotFoundError"),
        ("1 / 0", InputError, "does not load: ZeroDivisionError"),
        ("class M(", InputError, "does not load: SyntaxError"),
        ("class Other: pass", UsageError, "has no 'M'"),
        ("class M: name = 'half'", InputError, "has no 'epochs'"),
        (
            "class M:\n def __init__(self): self.nothing",
            InputError,
            "cannot be made: AttributeError: 'M' object",
        ),
        ("class M:\n def __init__(self, x): pass", InputError, "cannot be made: TypeError"),
        ("from oocml.errors import UsageError\ndef M(): raise UsageError('own')", UsageError, "own"),
    ],
)
def test_faults_of_a_users_model_are_told_as_what_they_are(tmp_path, monkeypatch, text, kind, words):
    path = written(tmp_path, text)
    monkeypatch.syspath_prepend(tmp_path)
    for reference in (f"{path}:M", f"{path.stem}:M"):
        with pytest.raises(OocmlError) as caught:
            load_model(reference)
        assert isinstance(caught.value, kind)
        assert words in str(caught.value)


def test_threads_that_load_a_file_together_find_all_of_it(tmp_path):
    text = "from oocml.models.mlr import MLR\nimport time\ntime.sleep(0.1)\nclass M(MLR): name = 'late'"
    path = written(tmp_path, text)

    def load(after: float) -> str:
        time.sleep(after)
        return load_model(f"{path}:M").name

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, [0, 0.03, 0.06, 0.09])) == ["late"] * 4


def test_a_name_that_stands_for_two_models_is_told_apart_by_the_data():
    assert of_data("robirank", queries=True) == "robirank-explicit"
    assert of_data("robirank", queries=False) == "robirank-implicit"
    assert {of_data(name, queries=queries) for name in ("mlr", "x.py:M") for queries in (True, False)} == {
        "mlr",
        "x.py:M",
    }
