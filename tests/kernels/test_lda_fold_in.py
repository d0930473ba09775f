import numpy as np
import pytest
from scipy.special import digamma

from oocml.kernels.lda_fold_in import count_pairs, lda_fold_in, lda_halve, lda_log_likelihood
from oocml.types import Csr
from tests.kernels.counted import counts, rows_of

ALPHA = np.float32(0.3)


def topics(tile, n_topics, seed=1):
    rng = np.random.default_rng(seed)
    topic_word = rng.gamma(0.5, 3, (int(tile.indices.max()) + 1, n_topics)).astype(np.float32) + np.float32(
        0.01
    )
    return topic_word, topic_word.sum(axis=0)


def test_documents_end_at_a_fixed_point():
    tile = counts()
    topic_word, totals = topics(tile, 7)
    gamma = np.empty((12, 7), np.float32)
    log_sum = lda_fold_in(tile, topic_word, totals, ALPHA, 1000, gamma)
    E = np.exp(digamma(gamma.astype(np.float64)))
    w = (
        E[rows_of(tile)]
        * np.exp(digamma(topic_word.astype(float)) - digamma(totals.astype(float)))[tile.indices]
    )
    again = np.full((12, 7), float(ALPHA))
    np.add.at(again, rows_of(tile), tile.data[:, None] * w / w.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(gamma, again, atol=0.02)
    assert log_sum == pytest.approx(tile.data @ np.log(w.sum(axis=1)), rel=1e-4)
    np.testing.assert_allclose(gamma[2], ALPHA, rtol=1e-6)  # has no words


def test_steps_bound_the_iterations():
    tile = counts()
    topic_word, totals = topics(tile, 7)
    gamma = np.empty((12, 7), np.float32)
    lda_fold_in(tile, topic_word, totals, ALPHA, 1, gamma)
    w = np.exp(digamma(topic_word.astype(float)) - digamma(totals.astype(float)))[tile.indices]
    wanted = np.full((12, 7), float(ALPHA))
    np.add.at(wanted, rows_of(tile), tile.data[:, None] * w / w.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(gamma, wanted, rtol=1e-4)


def test_log_likelihood_is_that_of_the_mixture():
    tile = counts()
    topic_word, totals = topics(tile, 7)
    gamma = np.random.default_rng(2).gamma(1, size=(12, 7)).astype(np.float32)
    theta, phi = gamma / gamma.sum(axis=1, keepdims=True), topic_word / totals
    p = (theta[rows_of(tile)] * phi[tile.indices]).sum(axis=1)
    assert lda_log_likelihood(tile, topic_word, totals, gamma) == pytest.approx(
        tile.data @ np.log(p), rel=1e-5
    )


def halved(tile, numbers, words, seed=7):
    observed = np.empty(len(tile.data), np.float32)
    lda_halve(numbers, tile.indptr, words, tile.data, np.uint64(seed), observed)
    return observed


def test_halves_depend_on_document_and_word_alone():
    tile = counts(30, 20, seed=3)
    words = tile.indices + 100
    observed = halved(tile, np.arange(30), words)
    assert ((observed >= 0) & (observed <= tile.data) & (observed == np.rint(observed))).all()
    one = Csr(
        np.array([0, tile.indptr[9] - tile.indptr[8]]),
        *(a[tile.indptr[8] : tile.indptr[9]] for a in tile[1:]),
    )
    turned = Csr(one.indptr, one.indices[::-1].copy(), one.data[::-1].copy())
    again = halved(turned, np.array([8]), turned.indices + 100)
    np.testing.assert_array_equal(again[::-1], observed[tile.indptr[8] : tile.indptr[9]])
    assert (halved(tile, np.arange(30), words, seed=8) != observed).any()


def test_tokens_are_halved_one_by_one():
    n = 20_000
    tile = Csr(np.array([0, n]), np.arange(n, dtype=np.int32), np.full(n, 150, np.float32))
    observed = halved(tile, np.zeros(1, np.int64), tile.indices)
    assert observed.mean() == pytest.approx(75, abs=0.3)
    assert observed.std() == pytest.approx(np.sqrt(150) / 2, rel=0.03)


def test_pairs_are_counted_as_by_a_table_of_presences():
    rng = np.random.default_rng(4)
    present = rng.random((40, 15)) < 0.4
    top = np.array([rng.choice(15, 5, replace=False) for _ in range(6)])
    wanted = np.array([present[:, own].astype(int).T @ present[:, own] for own in top])
    topic, rank = np.divmod(np.argsort(top, axis=None, kind="stable"), 5)
    first = np.searchsorted(np.sort(top, axis=None), np.arange(16))
    counted = np.zeros((6, 5, 5), np.int64)
    count_pairs(*np.nonzero(present), first, topic, rank, counted)
    np.testing.assert_array_equal(counted, wanted)
