import numpy as np
import pytest
from scipy.special import digamma

from oocml.kernels.lda import lda_recount, lda_start, lda_visit
from oocml.kernels.lda_support import lda_outside, lda_recount_support, lda_truncate, lda_visit_support
from oocml.types import Csr
from tests.kernels.counted import counts, rows_of

ALPHA, ETA = 0.3, 0.2


def drawn(tile, n_topics, dtype=np.float32, seed=3, numbers=None):
    n_words = int(tile.indices.max()) + 1
    z = np.zeros((len(tile.data), n_topics), dtype)
    gamma = np.full((len(tile.indptr) - 1, n_topics), ALPHA, np.float32)
    topic_word = np.full((n_words, n_topics), ETA, np.float32)
    number = np.arange(len(gamma)) if numbers is None else numbers
    found = lda_start(tile, number, np.arange(n_words, dtype=np.int32), np.uint64(seed), z, gamma, topic_word)
    return found, z, gamma, topic_word


def sums(tile, z, shape, prior, places):
    total = np.full(shape, prior)
    np.add.at(total, places, tile.data[:, None] * z.astype(np.float64))
    return total


def floats(z):
    return z.view(np.float16).astype(np.float64) if z.dtype == np.uint16 else z.astype(np.float64)


def by_definition(tile, z, gamma, topic_word, totals, exact):
    """One visit in float64; returns the sum of logs."""
    log_sum = 0.0
    for i in range(len(tile.indptr) - 1):
        before, Lambda = gamma[i].copy(), totals.copy()
        for t in range(tile.indptr[i], tile.indptr[i + 1]):
            j, n = tile.indices[t], tile.data[t]
            if exact:
                weights = np.exp(digamma(gamma[i]) + digamma(topic_word[j]) - digamma(Lambda))
            else:
                weights = (gamma[i] - z[t]) * (topic_word[j] - z[t]) / Lambda
            log_sum += n * np.log(weights.sum())
            change = n * (weights / weights.sum() - z[t])
            z[t] = weights / weights.sum()
            gamma[i] += change
            topic_word[j] += change
        totals += gamma[i] - before
    return log_sum


def test_responsibilities_begin_as_shares_that_add_up():
    tile = counts()
    (tokens, n_bad), z, gamma, topic_word = drawn(tile, 5)
    assert (tokens, n_bad) == (tile.data.sum(), 0)
    np.testing.assert_allclose(z.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(gamma, sums(tile, z, gamma.shape, ALPHA, rows_of(tile)), rtol=1e-5)
    np.testing.assert_allclose(topic_word, sums(tile, z, topic_word.shape, ETA, tile.indices), rtol=1e-5)
    assert 0.25 < (z * 5).std() < 0.4  # that of a gamma distribution of shape 10 is 0.32


def test_what_an_entry_begins_with_is_a_matter_of_its_document_and_word():
    tile = counts()
    _, z, _, _ = drawn(tile, 5)
    lo = tile.indptr[6]
    half = Csr(tile.indptr[6:] - lo, tile.indices[lo:], tile.data[lo:])
    _, again, _, _ = drawn(half, 5, numbers=np.arange(6, 12))
    np.testing.assert_array_equal(z[lo:], again)
    assert (drawn(tile, 5, seed=4)[1] != z).all(axis=1).any()


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_counts_that_are_none_are_counted(bad):
    tile = counts()
    tile.data[[3, 8]] = bad
    assert drawn(tile, 3)[0][1] == 2


@pytest.mark.parametrize("n_topics", [2, 16, 21, 40])
@pytest.mark.parametrize("exact", [True, False])
def test_a_visit_is_that_of_the_definition(n_topics, exact):
    tile = counts()
    _, z, gamma, topic_word = drawn(tile, n_topics)
    totals = topic_word.sum(axis=0, dtype=np.float64)
    wanted = [array.astype(np.float64) for array in (z, gamma, topic_word, totals)]
    for _ in range(2):
        log_sum = lda_visit(tile, z, gamma, topic_word, totals, exact)
        wanted_log = by_definition(tile, *wanted, exact)
        assert log_sum == pytest.approx(wanted_log, rel=1e-4)
    for found, value in zip((z, gamma, topic_word, totals), wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_rounded_responsibilities_are_what_sums_are_made_of(exact):
    tile = counts(seed=5)
    _, z, gamma, topic_word = drawn(tile, 21, np.uint16)
    totals = topic_word.sum(axis=0, dtype=np.float64)
    for _ in range(3):
        lda_visit(tile, z, gamma, topic_word, totals, exact)
    np.testing.assert_allclose(floats(z).sum(axis=1), 1, atol=2e-3)
    np.testing.assert_allclose(gamma, sums(tile, floats(z), gamma.shape, ALPHA, rows_of(tile)), rtol=1e-5)
    np.testing.assert_allclose(
        topic_word, sums(tile, floats(z), topic_word.shape, ETA, tile.indices), rtol=1e-5
    )
    np.testing.assert_allclose(totals, topic_word.sum(axis=0), rtol=1e-5)


def test_weights_below_the_range_of_floats_are_visited_right():
    tile = Csr(np.array([0, 1]), np.array([0], np.int32), np.array([1], np.float32))
    rng, n_topics = np.random.default_rng(0), 30
    gamma, topic_word = (rng.uniform(0.005, 0.008, (1, n_topics)).astype(np.float32) for _ in range(2))
    totals, z = np.full(n_topics, 50.0), np.zeros((1, n_topics), np.float32)
    wanted = [array.astype(np.float64) for array in (z, gamma, topic_word, totals)]
    log_sum = lda_visit(tile, z, gamma, topic_word, totals, True)
    assert log_sum == pytest.approx(by_definition(tile, *wanted, True), rel=1e-5)
    np.testing.assert_allclose(z, wanted[0], rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_recounting_gives_the_sums_and_the_entropy(dtype):
    tile = counts()
    _, z, gamma, topic_word = drawn(tile, 21, dtype)
    again = np.full_like(gamma, ALPHA), np.full_like(topic_word, ETA)
    entropy = lda_recount(tile, z, *again)
    np.testing.assert_allclose(again[0], gamma, rtol=1e-5)
    np.testing.assert_allclose(again[1], topic_word, rtol=1e-5)
    x = floats(z)
    assert entropy == pytest.approx(-(tile.data @ (x * np.log(x)).sum(axis=1)), rel=1e-5)


def truncated(tile, n_topics, size, dtype=np.float32):
    _, z, gamma, topic_word = drawn(tile, n_topics, dtype)
    z[:] = z**3 / (z**3).sum(axis=1, keepdims=True) if dtype == np.float32 else z
    index, value = np.zeros((len(z), size), np.uint8), np.zeros((len(z), size), dtype)
    fresh = np.full_like(gamma, ALPHA), np.full_like(topic_word, ETA)
    outside = lda_truncate(tile, z, index, value, *fresh)
    return z, index, value, *fresh, outside


def test_supports_are_the_largest_responsibilities_with_all_mass():
    tile = counts()
    z, index, value, gamma, topic_word, outside = truncated(tile, 21, 8)
    largest = np.sort(np.argsort(-z, axis=1, kind="stable")[:, :8], axis=1)
    np.testing.assert_array_equal(index, largest)
    inside = np.take_along_axis(z, largest, axis=1)
    np.testing.assert_allclose(value, inside / inside.sum(axis=1, keepdims=True), rtol=1e-5)
    assert outside == pytest.approx(tile.data @ (1 - inside.sum(axis=1)), rel=1e-4)
    dense = np.zeros_like(z)
    np.put_along_axis(dense, largest, value, axis=1)
    np.testing.assert_allclose(gamma, sums(tile, dense, gamma.shape, ALPHA, rows_of(tile)), rtol=1e-5)
    np.testing.assert_allclose(topic_word, sums(tile, dense, topic_word.shape, ETA, tile.indices), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_what_supports_would_leave_out_is_what_they_do(dtype):
    tile = counts()
    z, *_, outside = truncated(tile, 21, 8, dtype)
    assert lda_outside(tile, z, 8, 1) == pytest.approx((outside, tile.data.sum()), rel=1e-4)
    some = np.isin(rows_of(tile), np.arange(0, len(tile.indptr) - 1, 3))
    left_out = 1 - np.sort(floats(z), axis=1)[:, -8:].sum(axis=1)
    assert lda_outside(tile, z, 8, 3) == pytest.approx(
        (tile.data[some] @ left_out[some], tile.data[some].sum()), rel=1e-3
    )


def test_equal_responsibilities_are_chosen_from_the_first_on():
    tile = Csr(np.array([0, 1]), np.array([0], np.int32), np.array([2], np.float32))
    z = np.full((1, 20), 0.05, np.float32)
    index, value = np.zeros((1, 8), np.uint8), np.zeros((1, 8), np.float32)
    rows = np.zeros((1, 20), np.float32), np.zeros((1, 20), np.float32)
    lda_truncate(tile, z, index, value, *rows)
    np.testing.assert_array_equal(index[0], np.arange(8))
    np.testing.assert_allclose(value, 1 / 8, rtol=1e-6)


@pytest.mark.parametrize(("n_topics", "n_values"), [(37, 3), (37, 40), (16, 2), (70, 5)])
def test_supports_are_the_largest_whatever_is_equal_or_0(n_topics, n_values):
    draw, n = np.random.default_rng(n_values), 50
    tile = Csr(np.array([0, n]), np.arange(n, dtype=np.int32), np.ones(n, np.float32))
    z = draw.choice(np.geomspace(1, 1e-9, n_values) * (np.arange(n_values) < n_values - 1), (n, n_topics))
    z[0, 1:], z[0, 0] = 0, 1  # fewer than a support has
    z = (z / np.maximum(z.sum(axis=1, keepdims=True), 1e-30)).astype(np.float32)
    index, value = np.zeros((n, 8), np.uint8), np.zeros((n, 8), np.float32)
    lda_truncate(
        tile, z, index, value, np.zeros((1, n_topics), np.float32), np.zeros((n, n_topics), np.float32)
    )
    largest = np.sort(np.argsort(-z, axis=1, kind="stable")[:, :8], axis=1)
    np.testing.assert_array_equal(index[z.any(axis=1)], largest[z.any(axis=1)])


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_supports_of_all_topics_are_visited_as_topics_are(exact, dtype):
    tile = counts(seed=2)
    _, z, gamma, topic_word = drawn(tile, 16, dtype)
    totals = topic_word.sum(axis=0, dtype=np.float64)
    index, value = np.tile(np.arange(16, dtype=np.uint8), (len(z), 1)), z.copy()
    other = gamma.copy(), topic_word.copy(), totals.copy()
    logs = lda_visit(tile, z, gamma, topic_word, totals, exact)
    assert lda_visit_support(tile, index, value, *other, exact) == pytest.approx(logs, rel=1e-5)
    np.testing.assert_allclose(floats(value), floats(z), rtol=1e-2, atol=1e-5)
    for one, two in zip(other, (gamma, topic_word, totals), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3)


def test_topics_outside_of_supports_keep_what_they_have():
    tile = counts(seed=2)
    _, index, value, gamma, topic_word, _ = truncated(tile, 21, 8)
    totals = topic_word.sum(axis=0, dtype=np.float64)
    before = index.copy()
    for exact in (False, True):
        lda_visit_support(tile, index, value, gamma, topic_word, totals, exact)
    np.testing.assert_array_equal(index, before)
    np.testing.assert_allclose(value.sum(axis=1), 1, rtol=1e-5)
    again = np.full_like(gamma, ALPHA), np.full_like(topic_word, ETA)
    entropy = lda_recount_support(tile, index, value, *again)
    np.testing.assert_allclose(gamma, again[0], rtol=1e-4)
    np.testing.assert_allclose(topic_word, again[1], rtol=1e-4)
    x = np.maximum(value.astype(np.float64), 1e-30)
    assert entropy == pytest.approx(-(tile.data @ (x * np.log(x)).sum(axis=1)), rel=1e-5)


def test_small_weights_of_supports_are_visited_right():
    tile = Csr(np.array([0, 1]), np.array([0], np.int32), np.array([1], np.float32))
    rng = np.random.default_rng(0)
    gamma, topic_word = (rng.uniform(0.005, 0.008, (1, 16)).astype(np.float32) for _ in range(2))
    totals, z = np.full(16, 50.0), np.zeros((1, 16), np.float32)
    wanted = [array.astype(np.float64) for array in (z, gamma, topic_word, totals)]
    index = np.arange(16, dtype=np.uint8).reshape(1, 16)
    log_sum = lda_visit_support(tile, index, z, gamma, topic_word, totals, True)
    assert log_sum == pytest.approx(by_definition(tile, *wanted, True), rel=1e-5)
    np.testing.assert_allclose(z, wanted[0], rtol=2e-3, atol=1e-7)
