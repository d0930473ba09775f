import numpy as np
from numba import njit

from oocml.kernels.exp import EXP_MAX, EXP_MIN, exp32


@njit
def exp_all(x, out):
    for i in range(len(x)):
        out[i] = exp32(x[i])


def exp_of(x):
    x = np.asarray(x, np.float32)
    out = np.empty_like(x)
    exp_all(x, out)
    return out


def test_relative_error_is_below_2e_7_over_the_range():
    x = np.concatenate([np.linspace(EXP_MIN, EXP_MAX, 400_001), np.linspace(-1, 1, 100_001)]).astype(
        np.float32
    )
    exact = np.exp(x.astype(np.float64))
    assert np.abs(exp_of(x) / exact - 1).max() < 2e-7


def test_arguments_beyond_the_range_are_clamped():
    far = exp_of([-np.inf, -400, 400, np.inf])
    near = exp_of([EXP_MIN, EXP_MIN, EXP_MAX, EXP_MAX])
    np.testing.assert_array_equal(far, near)
    assert np.isfinite(far).all()
    assert (far > 0).all()


def test_nan_stays_nan():
    assert np.isnan(exp_of([np.nan])[0])


def test_exp_of_zero_is_one():
    assert exp_of([0.0])[0] == 1
