import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from oocml.kernels.gmm import (
    EMPTY,
    gmm_draw,
    gmm_fill,
    gmm_join_lse,
    gmm_keep_largest,
    gmm_lse,
    gmm_moments,
    gmm_responsibilities,
    gmm_shares,
    gmm_subset,
)
from oocml.kernels.gmm_half import narrow, widen
from tests.models.tiled import csr

DTYPES = (np.float32, np.float64)


def scores(n_rows=7, n=37, spread=30.0, dtype=np.float32, seed=0):
    return (spread * np.random.default_rng(seed).normal(size=(n_rows, n)) - 300).astype(dtype)


def entropy(Z):
    return float(-np.sum(Z * np.log(np.where(Z > 0, Z, 1))))


@pytest.mark.parametrize("full", [False, True])
def test_rows_are_one_the_standardised_features_and_their_products(full):
    rng = np.random.default_rng(0)
    X = (rng.random((9, 4)) < 0.5) * rng.normal(size=(9, 4))
    center, inverse_sd = rng.normal(size=4), rng.random(4) + 0.5
    x = (X[2:7].astype(np.float32) - center) * inverse_sd
    products = np.array([np.outer(row, row)[np.triu_indices(4)] for row in x]) if full else x**2
    phi = np.full((6, 1 + 4 + products.shape[1]), np.nan)
    gmm_fill(csr(X), 2, 7, center, inverse_sd, full, phi)
    np.testing.assert_allclose(phi[:5], np.hstack([np.ones((5, 1)), x, products]), rtol=1e-12)
    assert np.isnan(phi[5]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_responsibilities_are_a_softmax(dtype):
    L = scores(dtype=dtype)
    expected = softmax(L.astype(np.float64), axis=1)
    total, spread = gmm_responsibilities(Z := L.copy(), len(L))
    np.testing.assert_allclose(Z, expected, rtol=1e-5, atol=1e-20)
    np.testing.assert_allclose(Z.sum(axis=1, dtype=np.float64), 1, atol=1e-6)
    assert total == pytest.approx(logsumexp(L.astype(np.float64), axis=1).sum(), rel=1e-7)
    assert spread == pytest.approx(entropy(expected), rel=1e-5)


def test_hopeless_components_get_exactly_nothing():
    gmm_responsibilities(L := np.array([[0, -59, -61, -1e30]], np.float32), 1)
    assert L[0, 1] > 0
    assert (L[0, 2:] == 0).all()


def test_a_subset_shares_the_mass_that_it_had():
    L, rng = scores(spread=2), np.random.default_rng(1)
    Z = rng.dirichlet(np.ones(37), 7).astype(np.float32)
    Z[3, 4:] = 0
    subset = np.array([5, 6, 20, 36])
    before, mass = Z.copy(), Z[:, subset].sum(axis=1, dtype=np.float64)
    spread = gmm_subset(L[:, subset].copy(), Z, subset, np.ones(7))
    expected = mass[:, None] * softmax(L[:, subset].astype(np.float64), axis=1)
    np.testing.assert_allclose(Z[:, subset], expected, rtol=1e-5)
    others = np.setdiff1d(np.arange(37), subset)
    np.testing.assert_array_equal(Z[:, others], before[:, others])
    assert spread == pytest.approx(entropy(expected), rel=1e-5)


def test_masses_are_brought_to_one_on_the_way():
    L, Z, subset = scores(spread=2), np.full((7, 37), 0.03, np.float32), np.arange(37)
    gmm_subset(L, Z, subset, 1 / Z.sum(axis=1))
    np.testing.assert_allclose(Z.sum(axis=1, dtype=np.float64), 1, atol=1e-6)


def test_log_sum_exps_join_over_blocks_and_stripes():
    L = scores(n=50)
    parts = np.zeros((2, 7, 2))
    parts[:, :, 0] = EMPTY
    for stripe, cuts in enumerate([(0, 10, 30), (30, 50)]):
        for lo, hi in zip(cuts[:-1], cuts[1:], strict=True):
            gmm_lse(L[:, lo:hi].copy(), 7, parts[stripe])
    lse = np.empty(7)
    total = gmm_join_lse(parts, lse)
    expected = logsumexp(L.astype(np.float64), axis=1)
    np.testing.assert_allclose(lse, expected, rtol=1e-7)
    assert total == pytest.approx(expected.sum(), rel=1e-7)
    Z = L[:, 10:30].copy()
    spread = gmm_shares(Z, 7, lse)
    np.testing.assert_allclose(Z, softmax(L.astype(np.float64), axis=1)[:, 10:30], rtol=1e-4, atol=1e-20)
    assert spread == pytest.approx(entropy(Z.astype(np.float64)), rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_responsibilities_are_kept_in_proportion(dtype):
    Z = np.random.default_rng(2).dirichlet(np.full(20, 0.3), 50).astype(dtype)
    order = np.sort(np.argsort(-Z, axis=1)[:, :4], axis=1)
    expected = np.zeros_like(Z)
    np.put_along_axis(expected, order, np.take_along_axis(Z, order, axis=1), axis=1)
    expected /= expected.sum(axis=1, keepdims=True)
    values, components = np.empty((50, 4), dtype), np.empty((50, 4), np.int32)
    spread = gmm_keep_largest(Z, 50, values, components)
    np.testing.assert_allclose(Z, expected, rtol=1e-5)
    np.testing.assert_array_equal(np.sort(components, axis=1), order)
    np.testing.assert_array_equal(np.take_along_axis(Z, components.astype(int), axis=1), values)
    assert spread == pytest.approx(entropy(expected.astype(np.float64)), rel=1e-5)


def test_moments_are_sums_of_values_and_squares():
    X = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    gmm_moments(csr(X), moments := np.zeros((2, 5)))
    X = X.astype(np.float64)
    np.testing.assert_allclose(moments, [X.sum(axis=0), (X**2).sum(axis=0)], rtol=1e-12)


def drawn(X, ids, slots=(0, 8), cuts=(), seed=5):
    keys, rows = np.full(slots[1] - slots[0], 2.0), np.zeros((slots[1] - slots[0], X.shape[1]))
    bounds = [0, *cuts, len(X)]
    for lo, hi in zip(bounds[:-1], bounds[1:], strict=True):
        gmm_draw(csr(X[lo:hi]), ids[lo:hi], np.uint64(seed), slots[0], 8, keys, rows)
    return keys, rows


def test_drawn_rows_depend_on_neither_order_nor_cuts_and_none_is_drawn_twice():
    rng = np.random.default_rng(3)
    X, ids = rng.normal(size=(200, 3)).astype(np.float32), np.arange(1000, 1200)
    keys, rows = drawn(X, ids)
    assert len(np.unique(rows[:, 0])) == 8
    assert np.isin(rows, X).all()
    order = rng.permutation(200)
    np.testing.assert_array_equal(drawn(X[order], ids[order], cuts=(7, 90))[1], rows)
    np.testing.assert_array_equal(drawn(X, ids, slots=(2, 5))[0], keys[2:5])
    assert not np.array_equal(drawn(X, ids, seed=6)[1], rows)


def test_every_row_is_as_likely_to_be_drawn():
    X, ids = np.arange(1, 41, dtype=np.float32)[:, None], np.arange(40)
    counts = np.zeros(41)
    for seed in range(500):
        keys, rows = drawn(X, ids, seed=seed)
        counts[rows[keys < 1, 0].astype(int)] += 1
    assert counts[1:].min() > 60  # 8 of 40 rows, 500 times: 100 each
    assert counts[1:].max() < 140


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_precision_is_numpys(dtype):
    values = np.random.default_rng(0).random((5, 70)).astype(np.float32) ** 20
    stored = np.zeros((9, 70), np.float16)
    rounded = values.astype(dtype)
    narrow(rounded, stored[2:7])
    np.testing.assert_array_equal(stored[2:7], values.astype(np.float16))
    np.testing.assert_array_equal(rounded, stored[2:7].astype(dtype))
    assert (stored[[0, 1, 7, 8]] == 0).all()
    widen(stored[2:7], again := np.empty((5, 70), dtype))
    np.testing.assert_array_equal(again, rounded)
