import numpy as np
import pytest

from oocml.errors import UsageError
from oocml.models.setting_bounds import require_above_zero, require_count, require_not_below_zero

NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), "1", None, True]


@pytest.mark.parametrize("value", [1e-30, 3, np.float32(0.5), 100.0])
def test_numbers_above_zero_pass(value):
    require_above_zero({"step": value}, "step", 100, "try 1")


@pytest.mark.parametrize("value", [0, -1e-30, 100.1, 1e30, *NO_NUMBERS])
def test_all_else_is_refused_with_the_bounds_and_the_advice(value):
    with pytest.raises(UsageError) as caught:
        require_above_zero({"step": value}, "step", 100, "try 1")
    assert str(caught.value) == f"step is {value!r} but must be > 0 and at most 100; try 1"


@pytest.mark.parametrize("value", [0, 0.0, np.float32(0.5), 100])
def test_zero_passes_where_it_may(value):
    require_not_below_zero({"l2": value}, "l2", 100, "try 1")


@pytest.mark.parametrize("value", [-1e-30, 101, 10**400, *NO_NUMBERS])
def test_below_zero_is_refused_with_the_bounds_and_the_advice(value):
    with pytest.raises(UsageError) as caught:
        require_not_below_zero({"l2": value}, "l2", 100, "try 1")
    assert str(caught.value) == f"l2 is {value!r} but must be 0 or more and at most 100; try 1"


@pytest.mark.parametrize("value", [2, 3.0, np.int64(1000)])
def test_counts_pass(value):
    require_count({"pairs": value}, "pairs", 2, 1000)


@pytest.mark.parametrize("value", [1, 2.5, 1001, 1e30, *NO_NUMBERS])
def test_other_counts_are_refused(value):
    with pytest.raises(UsageError, match=r"pairs is .* but must be a whole number from 2 to 1,000$"):
        require_count({"pairs": value}, "pairs", 2, 1000)
