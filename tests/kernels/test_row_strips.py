"""Sparse rows times wide weights, and back: every width, any part of the columns, and nothing beside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import TypingError, njit

from oocml.kernels.row_strips import step_rows, weighted_rows

UNTOUCHED = np.float32(7)


@njit
def weigh(out, offset, W, c0, n, indices, data, start, stop):
    weighted_rows(out, offset, W, c0, n, indices, data, start, stop)


@njit
def step(W, c0, n, E, indices, start, stop, keep, scale):
    step_rows(W, c0, n, E, indices, start, stop, keep, scale)


@st.composite
def rows(draw):
    """(W, first column, columns, indices, first entry, end of entries, generator)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n, c0, beyond = draw(st.integers(0, 150)), draw(st.integers(0, 70)), draw(st.integers(0, 20))
    n_entries, before, after = draw(st.integers(0, 12)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    W = rng.normal(size=(20, c0 + n + beyond)).astype(np.float32)
    indices = rng.permutation(20)[: before + n_entries + after].astype(np.int32)
    before = min(before, len(indices))
    return W, c0, n, indices, before, min(before + n_entries, len(indices)), rng


@given(rows())
def test_weighted_rows_are_what_numpy_sums(given_rows):
    W, c0, n, indices, start, stop, rng = given_rows
    data, offset = rng.normal(size=(2, max(len(indices), W.shape[1]))).astype(np.float32)
    out = np.full(n + 5, UNTOUCHED)
    weigh(out, offset, W, np.uint64(c0), np.uint64(n), indices, data, start, stop)
    part = W[indices[start:stop], c0 : c0 + n].astype(np.float64)
    np.testing.assert_allclose(out[:n], offset[c0 : c0 + n] + data[start:stop] @ part, rtol=1e-5, atol=1e-5)
    assert (out[n:] == UNTOUCHED).all()


@given(rows())
def test_stepped_rows_are_what_numpy_makes_of_them(given_rows):
    W, c0, n, indices, start, stop, rng = given_rows
    keep, scale = rng.normal(size=(2, 20)).astype(np.float32)
    E = rng.normal(size=n + 3).astype(np.float32)
    expected = W.astype(np.float64)
    for f, j in enumerate(indices[start:stop]):
        expected[j, c0 : c0 + n] = keep[f] * expected[j, c0 : c0 + n] + scale[f] * E[:n]
    step(W, np.uint64(c0), np.uint64(n), E, indices, start, stop, keep, scale)
    np.testing.assert_allclose(W, expected, rtol=1e-5, atol=1e-5)
    beside = np.delete(np.arange(W.shape[1]), np.s_[c0 : c0 + n])
    assert np.array_equal(W[:, beside], expected[:, beside].astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_lost(value):
    W = np.ones((2, 23), np.float32)
    W[1, 22] = value
    out = np.empty(23, np.float32)
    ids, ones = np.array([0, 1], np.int32), np.ones(23, np.float32)
    weigh(out, ones, W, np.uint64(0), np.uint64(23), ids, ones, 0, 2)
    assert not np.isfinite(out[22])
    assert np.isfinite(out[:22]).all()


@given(rows(), st.integers(0, 150))
def test_a_column_steps_alike_wherever_blocks_of_columns_end(given_rows, cut):
    W, c0, n, indices, start, stop, rng = given_rows
    keep, scale = rng.normal(size=(2, 20)).astype(np.float32)
    E = rng.normal(size=n).astype(np.float32)
    cut, whole, parts = min(cut, n), W.copy(), W.copy()
    step(whole, np.uint64(c0), np.uint64(n), E, indices, start, stop, keep, scale)
    for lo, hi in ((0, cut), (cut, n)):
        step(parts, np.uint64(c0 + lo), np.uint64(hi - lo), E[lo:hi], indices, start, stop, keep, scale)
    assert np.array_equal(whole, parts)


@pytest.mark.parametrize("argument", range(6))
def test_arrays_of_other_kinds_are_refused_when_compiling(argument):
    ones = np.ones((3, 8), np.float32)
    ids, place = np.arange(3, dtype=np.int32), np.uint64(0)
    read_only = ones.copy()
    read_only.flags.writeable = False
    wide = {
        0: (ones[0].astype(np.float64), ones[1], ones),
        1: (ones[0], ones[1].astype(np.float64), ones),
        2: (ones[0], ones[1, ::2], ones),
        3: (read_only[0], ones[1], ones),
        4: (ones[0], ones[1], ones.astype(np.float64)),
    }
    with pytest.raises(TypingError):
        if argument in wide:
            out, offset, W = wide[argument]
            weigh(out, offset, W, place, np.uint64(4), ids, ones[2], 0, 3)
        else:
            step(read_only, place, np.uint64(4), ones[0], ids, 0, 3, ones[1], ones[2])
