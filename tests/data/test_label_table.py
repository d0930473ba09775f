import numpy as np
import pytest

from oocml.data.label_table import EXACT, LabelTable


def labels_of(*parts):
    table = LabelTable()
    for part in parts:
        table.add(np.array(part))
    return table.labels


def test_labels_of_all_parts_are_distinct_and_sorted():
    np.testing.assert_array_equal(labels_of([3.0, -1.0, np.nan], [3.0, 7.0]), [-1, 3, 7])


def test_the_largest_exact_label_is_one():
    np.testing.assert_array_equal(labels_of([EXACT - 1, 1 - EXACT]), [1 - EXACT, EXACT - 1])


@pytest.mark.parametrize("number", [0.5, np.inf, EXACT, -EXACT, 1e30])
def test_numbers_that_are_not_exactly_whole_are_no_labels(number):
    """9007199254740993 reads as 9007199254740992: two classes would silently be one."""
    assert labels_of([1.0, number], [2.0]) is None
