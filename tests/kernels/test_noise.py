import numpy as np

from oocml.kernels.noise import fill_noise, visiting_order


def noise(n, k, seed=3, lo=0, scale=1.0):
    out = np.empty((n, k), np.float32)
    fill_noise(out, seed, lo, scale)
    return out


def test_noise_has_mean_0_the_given_scale_and_no_correlation():
    X = noise(4000, 16, scale=0.5).astype(np.float64)
    assert abs(X.mean()) < 4 * 0.5 / np.sqrt(X.size)
    np.testing.assert_allclose(X.std(), 0.5, rtol=0.01)
    np.testing.assert_allclose(np.corrcoef(X.T) - np.eye(16), 0, atol=5 / np.sqrt(4000))
    np.testing.assert_allclose(np.corrcoef(X[:16]) - np.eye(16), 0, atol=0.95)
    assert 2.5 < ((X / 0.5) ** 4).mean() < 2.9


def test_noise_does_not_depend_on_how_rows_are_cut():
    whole = noise(50, 5)
    np.testing.assert_array_equal(whole[20:37], noise(17, 5, lo=20))
    assert (whole != noise(50, 5, seed=4)).mean() > 0.99


def test_visiting_order_holds_every_row_with_entries_once():
    indptr = np.array([0, 0, 2, 3, 3, 4, 9, 9])
    orders = [visiting_order(indptr, seed) for seed in range(300)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), [1, 2, 4, 5])
    np.testing.assert_array_equal(orders[7], visiting_order(indptr, 7))
    first = np.bincount([order[0] for order in orders], minlength=6)[[1, 2, 4, 5]]
    assert (np.abs(first - 75) < 35).all()  # 75 +- 7.5 expected


def test_visiting_order_of_nothing_is_empty():
    assert len(visiting_order(np.zeros(4, np.int64), 0)) == 0
