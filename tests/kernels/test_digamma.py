import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma, gammaln

from oocml.kernels.digamma import fill_exp_digamma, shift_of, sum_digamma, sum_divergence, sum_log_gamma
from oocml.kernels.jit import jit
from oocml.kernels.lda_entry import esvi_weights, largest_exponent, log_of


@jit
def fill(out, x, shift):
    for i in range(len(x)):
        fill_exp_digamma(out, i, x, i, shift)


@jit
def shifts(x, out):
    for i in range(len(x)):
        out[i] = shift_of(x, i)


@jit
def weigh(e, g, w, inverse, shift):
    return esvi_weights(e, g, 0, w, 0, inverse, shift)


@jit
def exponent(g, w):
    return largest_exponent(g, 0, w, 0)


@jit
def logs(x, out):
    for i in range(len(x)):
        out[i] = log_of(x[i])


def row(values):
    return np.asarray(values, np.float32).reshape(1, -1)


@pytest.mark.parametrize("n", [1, 7, 16, 33])
def test_exp_digamma_is_that_of_scipy(n):
    x = np.geomspace(0.02, 1e9, 50 * n).astype(np.float32).reshape(50, n)
    out = np.empty_like(x)
    fill(out, x, np.float32(0))
    np.testing.assert_allclose(out, np.exp(digamma(x.astype(np.float64))), rtol=1e-5)


def test_a_shift_brings_small_numbers_into_range():
    x = np.geomspace(1e-3, 5e-3, 20).astype(np.float32).reshape(1, 20)
    shift, out = np.empty(1, np.float32), np.empty_like(x)
    shifts(x, shift)
    fill(out, x, shift[0])
    exact = digamma(x.astype(np.float64)) + shift[0] * np.log(2)
    near = exact > -60
    assert near.sum() >= 3
    np.testing.assert_allclose(out[near], np.exp(exact[near]), rtol=2e-4)


@given(
    n=st.integers(1, 70),
    scale=st.sampled_from([0.5, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**31),
)
def test_weights_are_products_whatever_the_number_of_topics(n, scale, seed):
    rng = np.random.default_rng(seed)
    g, w = (row(0.05 + scale * rng.gamma(0.5, size=n)) for _ in range(2))
    padded = -(-n // 16) * 16
    e, inverse = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
    inverse[:n] = rng.random(n)
    total = weigh(e, g, w, inverse, np.float32(0))
    wanted = np.exp(digamma(g.astype(float)) + digamma(w.astype(float)))[0] * inverse[:n]
    np.testing.assert_allclose(e[:n], wanted, rtol=3e-5, atol=1e-28)
    assert total == pytest.approx(e.sum(dtype=np.float64), rel=1e-5)
    assert not e[n:].any()


def test_products_of_huge_parameters_stay_finite():
    g, w = row([1e6, 5e-5, 1e6]), row([1e9, 5e-5, 5e-5])
    e, inverse = np.zeros(16, np.float32), np.ones(16, np.float32)
    weigh(e, g, w, inverse, np.float32(0))
    assert np.isfinite(e).all()
    assert e[0] == pytest.approx(1e15, rel=1e-4)
    assert 0 < e[1] < 1e-25


def test_weights_that_are_all_small_keep_their_ratios_with_a_shift():
    g, w = row([0.01, 0.011, 0.012]), row([0.012, 0.0115, 0.0125])
    e, inverse = np.zeros(16, np.float32), np.ones(16, np.float32)
    total = weigh(e, g, w, inverse, np.float32(-exponent(g, w)))
    logs_ = digamma(g.astype(float)) + digamma(w.astype(float))
    wanted = np.exp(logs_ - logs_.max())[0]
    np.testing.assert_allclose(e[:3] / total, wanted / wanted.sum(), rtol=1e-4)


def test_logarithm():
    x = np.geomspace(1.2e-38, 3e38, 1001).astype(np.float32)
    out = np.empty_like(x)
    logs(x, out)
    np.testing.assert_allclose(out, np.log(x.astype(np.float64)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [1, 21])
def test_sums_over_dirichlet_parameters_are_those_of_scipy(n):
    A = np.geomspace(1e-4, 1e8, 100 * n).astype(np.float32).reshape(100, n)
    A[:, 0] = np.random.default_rng(0).permutation(A[:, 0])
    A[7] = 0  # not in use
    a = np.delete(A, 7, axis=0).astype(np.float64)
    for found, terms in (
        (sum_log_gamma(A), gammaln(a)),
        (sum_digamma(A, 0.5), digamma(a) - 0.5),
        (sum_divergence(A, 0.2), (a - 0.2) * digamma(a) - gammaln(a)),
    ):
        assert found == pytest.approx(terms.sum(), abs=3e-6 * np.maximum(1, np.abs(terms)).sum())
