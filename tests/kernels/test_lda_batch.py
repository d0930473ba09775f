import numpy as np
import pytest
from scipy.special import digamma

from oocml.kernels.lda_batch import Sums, Weights, lda_batch, lda_batch_cvb0, lda_draw_words
from tests.kernels.counted import counts, rows_of

ALPHA = np.float32(0.3)


def state(tile, n_topics, seed=1):
    rng, n_words = np.random.default_rng(seed), int(tile.indices.max()) + 1
    c = rng.gamma(2, size=(len(tile.indptr) - 1, n_topics)).astype(np.float32)
    topic_word = rng.gamma(1, size=(n_words, n_topics)).astype(np.float32) + np.float32(0.05)
    return c, topic_word, topic_word.sum(axis=0, dtype=np.float64)


def nothing(n_topics):
    return np.zeros((0, n_topics), np.float32)


def empty_weights(topic_word):
    return Weights(np.zeros_like(topic_word), np.zeros(len(topic_word), np.float32))


def expected(tile, z, like, places):
    total = np.zeros(like.shape)
    np.add.at(total, places, tile.data[:, None] * z)
    return total


def geometric(x):
    return np.exp(digamma(x.astype(np.float64)))


@pytest.mark.parametrize("n_topics", [2, 16, 21])
@pytest.mark.parametrize("fresh", [False, True])
def test_mean_field_sums_are_those_of_the_definition(n_topics, fresh):
    tile = counts()
    c, topic_word, totals = state(tile, n_topics)
    sums, weights = Sums(np.zeros_like(c), np.zeros_like(topic_word)), empty_weights(topic_word)
    given = nothing(n_topics) if fresh else c
    log_sum = lda_batch(tile, given, topic_word, totals, ALPHA, weights, sums)
    w = (geometric(topic_word) / geometric(totals))[tile.indices]
    w = w if fresh else w * geometric(c + ALPHA)[rows_of(tile)]
    z = w / w.sum(axis=1, keepdims=True)
    assert log_sum == pytest.approx(tile.data @ np.log(w.sum(axis=1)), rel=1e-4, abs=1e-3)
    np.testing.assert_allclose(sums.documents, expected(tile, z, c, rows_of(tile)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sums.words, expected(tile, z, topic_word, tile.indices), rtol=1e-4, atol=1e-5)


def test_sums_that_nobody_wants_are_not_made():
    tile = counts()
    c, topic_word, totals = state(tile, 5)
    both = Sums(np.zeros_like(c), np.zeros_like(topic_word))
    log_sum = lda_batch(tile, c, topic_word, totals, ALPHA, empty_weights(topic_word), both)
    for wanted in (Sums(np.zeros_like(c), nothing(5)), Sums(nothing(5), np.zeros_like(topic_word))):
        found = lda_batch(tile, c, topic_word, totals, ALPHA, empty_weights(topic_word), wanted)
        assert found == log_sum
        for one, other in zip(wanted, both, strict=True):
            if len(one):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_topics", [2, 16, 21])
def test_cvb0_excludes_what_it_estimates(n_topics):
    tile = counts()
    c, topic_word, totals = state(tile, n_topics)
    c += 1
    topic_word += 1
    sums = Sums(np.zeros_like(c), np.zeros_like(topic_word))
    log_sum = lda_batch_cvb0(tile, c, topic_word, totals, ALPHA, sums)
    g, w = (c + ALPHA)[rows_of(tile)].astype(np.float64), topic_word[tile.indices].astype(np.float64)
    estimate = g * w / totals
    estimate /= estimate.sum(axis=1, keepdims=True)
    z = (g - estimate) * (w - estimate) / totals
    assert log_sum == pytest.approx(tile.data @ np.log(z.sum(axis=1)), rel=1e-4, abs=1e-3)
    z /= z.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sums.documents, expected(tile, z, c, rows_of(tile)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sums.words, expected(tile, z, topic_word, tile.indices), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [10, 100])
def test_random_topics_have_the_moments_of_a_gamma_distribution(shape):
    out = np.empty((500, 40), np.float32)
    lda_draw_words(np.arange(500, dtype=np.int32), np.uint64(5), np.float32(shape), out)
    assert out.mean() == pytest.approx(1, abs=0.01)
    assert out.std() == pytest.approx(shape**-0.5, rel=0.03)
    assert (out > 0).all()
    some = np.empty((2, 40), np.float32)
    lda_draw_words(np.array([7, 3], np.int32), np.uint64(5), np.float32(shape), some)
    np.testing.assert_array_equal(some, out[[7, 3]])
