import numpy as np
from numba import njit

from oocml.kernels.log2 import log2_32


@njit
def log2_all(x, out):
    for i in range(len(x)):
        out[i] = log2_32(x[i])


def log2_of(x):
    x = np.asarray(x, np.float32)
    out = np.empty_like(x)
    log2_all(x, out)
    return out


def test_error_is_that_of_rounding_over_all_magnitudes():
    x = np.exp2(np.random.default_rng(0).uniform(-126, 127.9, 400_000)).astype(np.float32)
    exact = np.log2(x.astype(np.float64))
    assert (np.abs(log2_of(x) - exact) <= 2e-7 * np.maximum(np.abs(exact), 1)).all()


def test_relative_error_is_small_where_the_logarithm_is():
    x = (1 + np.linspace(-0.25, 0.25, 100_001)).astype(np.float32)
    x = x[x != 1]
    assert np.abs(log2_of(x) / np.log2(x.astype(np.float64)) - 1).max() < 3e-7


def test_powers_of_two_are_exact():
    np.testing.assert_array_equal(log2_of(np.exp2(np.arange(-126.0, 128))), np.arange(-126.0, 128))
