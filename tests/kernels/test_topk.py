from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oocml.kernels.topk import merge_topk


def rank(scores, k, cuts):
    ids, best = np.full((len(scores), k), -1, np.int64), np.zeros((len(scores), k), np.float32)
    bounds = [0, *sorted(cuts), scores.shape[1]]
    for lo, hi in pairwise(bounds):
        merge_topk(ids, best, np.ascontiguousarray(scores[:, lo:hi]), lo)
    return ids, best


@given(st.data())
def test_merging_blocks_is_a_stable_sort_of_all_columns(data):
    n_cols = data.draw(st.integers(1, 12))
    k = data.draw(st.integers(1, n_cols))
    # few distinct values, so that ties are common
    values = st.lists(st.integers(-2, 2), min_size=n_cols, max_size=n_cols)
    scores = np.array(data.draw(st.lists(values, min_size=1, max_size=4)), np.float32)
    cuts = data.draw(st.lists(st.integers(0, n_cols), max_size=3))
    ids, best = rank(scores, k, cuts)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(best, np.take_along_axis(scores, expected, axis=1))


def test_rankings_longer_than_the_columns_end_in_minus_one():
    ids, _ = rank(np.array([[1.0, 3.0]], np.float32), 4, [1])
    np.testing.assert_array_equal(ids, [[1, 0, -1, -1]])


def test_nan_never_ranks():
    ids, _ = rank(np.array([[np.nan, 1.0, np.nan, -5.0]], np.float32), 3, [2])
    np.testing.assert_array_equal(ids, [[1, 3, -1]])
