import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.config import (
    UNITS,
    complete_settings,
    format_size,
    parse_settings,
    parse_size,
    split_settings,
    used_settings,
)
from oocml.errors import UsageError

DEFAULTS = {
    "learning_rate": None,
    "l2": 1e-5,
    "solver": "ds",
    "polish": 0,
    "fit_intercept": True,
}


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("700MiB", 700 * 2**20),
        ("2GiB", 2**31),
        ("2GB", 2 * 10**9),
        ("1.5 gib", 3 * 2**29),
        (" 10 kB ", 10_000),
        (".5KiB", 512),
        ("17B", 17),
        (4096, 4096),
    ],
)
def test_sizes_with_binary_and_decimal_units(text, n_bytes):
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["700", "1e9", "12 parsecs", "", "MiB", "-1MiB", "nanMiB", "2G", "0B", "0.1B", 0]
)
def test_size_without_meaning_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["700", "2G", "3 Mb/s"])
def test_refused_size_names_a_unit_that_works(text):
    with pytest.raises(UsageError, match="MiB"):
        parse_size(text)


@given(st.integers(1, 2**62))
def test_large_whole_sizes_are_exact(n):
    assert parse_size(f"{n}B") == n
    assert parse_size(f"{n}MiB") == n * 2**20


@given(st.integers(1, 2**59))
def test_formatted_size_reads_back_within_its_digits(n):
    text = format_size(n)
    assert parse_size(text) == pytest.approx(n, rel=0.006)
    assert len(re.sub(r"[^0-9]", "", text)) <= 3


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "0.98 KiB"), (700 * 2**20, "700 MiB"), (1_570_000_000, "1.46 GiB")],
)
def test_formatted_sizes(n, text):
    assert format_size(n) == text


def test_units_are_named_once_each():
    assert len({name.lower() for name in UNITS}) == len(UNITS)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("l2=1", 1.0),
        ("l2=1e-4", 1e-4),
        ("polish=2e1", 20),
        ("fit_intercept=no", False),
        ("fit-intercept=True", True),
        ("solver=lbfgs", "lbfgs"),
        ("learning_rate=none", None),
        ("learning_rate=0.5", 0.5),
        ("learning_rate=bold=driver", "bold=driver"),
    ],
)
def test_setting_takes_the_type_of_its_default(pair, expected):
    (value,) = parse_settings([pair], DEFAULTS, "mlr").values()
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "pair",
    ["l2=small", "l2=nan", "l2=inf", "polish=1.5", "polish=true!", "fit_intercept=2", "learning_rate=inf"],
)
def test_value_of_the_wrong_type_is_refused_by_name(pair):
    with pytest.raises(UsageError, match=pair.partition("=")[0]):
        parse_settings([pair], DEFAULTS, "mlr")


def test_unknown_setting_names_the_known_ones_and_the_nearest():
    with pytest.raises(
        UsageError, match="mlr has no setting learn_rate; did you mean learning_rate"
    ) as caught:
        complete_settings({"learn_rate": 1}, DEFAULTS, "mlr")
    assert all(name in str(caught.value) for name in DEFAULTS)


@pytest.mark.parametrize("pairs", [["l2"], ["=3"], ["l2=1", "l2=2"]])
def test_pairs_that_are_no_settings_are_refused(pairs):
    with pytest.raises(UsageError):
        split_settings(pairs)


def test_settings_are_completed_in_the_order_of_the_defaults():
    complete = complete_settings({"solver": "lc", "l2": "1e-3"}, DEFAULTS, "mlr")
    assert list(complete) == list(DEFAULTS)
    assert complete == {**DEFAULTS, "solver": "lc", "l2": 1e-3}


@pytest.mark.parametrize(
    "given",
    [
        {"solver": 3},
        {"polish": None},
        {"l2": True},
        {"fit_intercept": "maybe"},
        {"polish": 10**400},
        {"l2": 10**400},
        {"learning_rate": float("nan")},
        {"learning_rate": 10**400},
    ],
)
def test_python_values_are_checked_as_well(given):
    with pytest.raises(UsageError):
        complete_settings(given, DEFAULTS, "mlr")


def test_settings_are_told_as_they_are_used_with_who_decided():
    used = used_settings(
        {
            "settings": {"l2": 0.1, "solver": "ds", "learning_rate": None, "task": None, "step": None},
            "given_settings": ["l2", "step"],
            "chosen_settings": {"learning_rate": 4.0, "step": 3.0, "l2": 9.0},
        }
    )
    assert {name: str(setting) for name, setting in used.items()} == {
        "l2": "0.1 (given)",
        "solver": "ds",
        "learning_rate": "4 (chosen)",
        "task": "auto",
        "step": "3 (chosen)",
    }


def test_runs_that_do_not_say_who_decided_have_their_settings_all_the_same():
    assert used_settings({"settings": {"l2": 0.1, "task": None}}) == {
        "l2": (0.1, "default"),
        "task": (None, "default"),
    }


@pytest.mark.parametrize("name", ["learning_rate", "l2"])
def test_numbers_of_numpy_become_those_of_python(name):
    assert type(complete_settings({name: np.float32(0.5)}, DEFAULTS, "mlr")[name]) is float


def test_whole_numbers_keep_all_their_digits():
    complete = complete_settings({"polish": np.int64(2**62 + 1), "learning_rate": 2**62 + 1}, DEFAULTS, "mlr")
    assert complete["polish"] == complete["learning_rate"] == 2**62 + 1
