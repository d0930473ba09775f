import numpy as np
import pytest
from numba import njit

from oocml.kernels.vectors import LANES, PIECE, add_rows, update_rows

WIDTHS = (1, LANES - 1, LANES, LANES + 1, 20, PIECE - 1, PIECE)


@njit
def call_add(out, k0, n, W, c0, indices, data, start, stop):
    add_rows(out, np.uint64(k0), np.uint64(n), W, np.uint64(c0), indices, data, start, stop)


@njit
def call_update(W, c0, n, indices, start, stop, keep, scale, E, k0):
    update_rows(W, np.uint64(c0), np.uint64(n), indices, start, stop, keep, scale, E, np.uint64(k0))


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(40, PIECE + 30)).astype(np.float32)
    indices = np.sort(rng.choice(40, 15, replace=False)).astype(np.int32)
    return W, indices, *rng.normal(size=(3, PIECE + 30)).astype(np.float32)


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize(("c0", "k0"), [(0, 0), (7, 3), (30, 30)])
def test_add_rows_is_a_sparse_row_times_a_piece_of_the_matrix(n, c0, k0):
    W, indices, data, out, _ = drawn()
    expected = out.copy()
    expected[k0 : k0 + n] += data[2:14] @ W[indices[2:14], c0 : c0 + n]
    call_add(out, k0, n, W, c0, indices, data, 2, 14)
    np.testing.assert_allclose(out[k0 : k0 + n], expected[k0 : k0 + n], rtol=1e-5, atol=1e-5)
    outside = np.r_[:k0, k0 + n : len(out)]
    np.testing.assert_array_equal(out[outside], expected[outside])


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize(("c0", "k0"), [(0, 0), (7, 3), (30, 30)])
@pytest.mark.parametrize("keeps", [True, False])
def test_update_rows_changes_the_pieces_of_its_rows_and_nothing_else(n, c0, k0, keeps):
    W, indices, scale, E, keep = drawn()
    expected, rows = W.copy(), indices[2:14]
    kept = keep[:12, None] if keeps else 1
    piece = expected[rows, c0 : c0 + n]
    expected[rows, c0 : c0 + n] = kept * piece + scale[:12, None] * E[k0 : k0 + n]
    call_update(W, c0, n, indices, 2, 14, keep if keeps else None, scale, E, k0)
    np.testing.assert_allclose(W, expected, rtol=1e-5, atol=1e-6)
    untouched = np.ones(W.shape, bool)
    untouched[rows, c0 : c0 + n] = False
    np.testing.assert_array_equal(W[untouched], expected[untouched])


def test_an_empty_row_changes_nothing():
    W, indices, data, out, E = drawn()
    before = W.copy(), out.copy()
    call_add(out, 0, 20, W, 0, indices, data, 3, 3)
    call_update(W, 0, 20, indices, 3, 3, None, data, E, 0)
    np.testing.assert_array_equal(W, before[0])
    np.testing.assert_array_equal(out, before[1])
