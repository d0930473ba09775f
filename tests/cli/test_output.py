import json
import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oocml.cli.output import plain, show_table, show_training, show_values, to_json

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_everything_becomes_strict_json(value):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(to_json({"value": value}), parse_constant=refuse) == {"value": plain(value)}


def test_numpy_and_paths_become_plain():
    value = {
        "a": np.float32(0.5),
        "b": np.arange(2),
        "c": np.int64(3),
        "d": Path("x"),
        "e": (np.bool_(True),),
        4: math.inf,
    }
    assert plain(value) == {"a": 0.5, "b": [0, 1], "c": 3, "d": "x", "e": [True], "4": None}


def test_values_for_people(capsys):
    show_values(
        {
            "n_rows": 12345,
            "peak_memory_bytes": 3 * 2**29,
            "bytes_total": 2**20,
            "objective": 0.36612345678,
            "whole": True,
            "log_loss": math.nan,
            "config": {"l2": 1e-5, "solver": "ds"},
            "history": [{"epoch": 1, "valid": None}, {"epoch": 2, "objective": 0.25}],
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "n_rows             12,345",
        "peak_memory_bytes  1.50 GiB",
        "bytes_total        1.00 MiB",
        "objective          0.366123",
        "whole              yes",
        "log_loss           -",
        "config             l2=1e-05 solver=ds",
        "",
        "history",
        "epoch  valid  objective",
        "    1      -          -",
        "    2      -       0.25",
    ]


def test_nothing_is_a_dash(capsys):
    show_values({"checkpoints": {}, "names": [], "metric": None, "n": 0})
    assert capsys.readouterr().out.splitlines() == [
        "checkpoints  -",
        "names        -",
        "metric       -",
        "n            0",
    ]


def test_training_is_shown_with_its_settings_and_the_score_it_compared(capsys):
    show_training(
        {
            "objective": 0.5,
            "history": [{"epoch": 1, "valid": {"accuracy": 0.75, "log_loss": 1.0}}],
            "config": {"model": "mlr", "validation": {"metric": "accuracy"}},
            "settings": {"l2": 0.1, "polish": 0, "task": None, "learning_rate": 4.0},
            "given_settings": ["l2"],
            "chosen_settings": ["learning_rate"],
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "objective          0.5",
        "set l2             0.1 (given)",
        "set polish         0",
        "set task           auto",
        "set learning_rate  4 (chosen)",
        "",
        "history",
        "epoch  valid accuracy",
        "    1            0.75",
    ]


def test_table_keeps_to_the_columns_asked_for(capsys):
    show_table([{"name": "clef", "rows": 10_000, "x": 1}, {"name": "ap", "rows": None}], ["name", "rows"])
    assert capsys.readouterr().out.splitlines() == ["name    rows", "clef  10,000", "ap         -"]
