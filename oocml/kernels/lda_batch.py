"""Latent Dirichlet allocation: visits of a tile that keep no responsibilities.

With gamma and lambda of the iteration before, an entry's responsibilities follow from them; their sums, over a document
and over a word, are what the next iteration needs. Documents keep c_ik = gamma_ik - alpha, which starts at 0.

Mean field: z_ek in proportion to exp(psi(gamma_ik) + psi(lambda_jk) - psi(Lambda_k)). The weights of a tile's words
are made once a visit. CVB0 wants gamma and lambda without the token's own responsibility. That is estimated by what it
would be with it, gamma_ik lambda_jk / Lambda_k normalised. Without any estimate topics come apart as well, but fit the
training documents too closely (AP, 128 topics, 40 iterations: bound -8.46 instead of -8.15).
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.digamma import LN2, fill_exp_digamma, shift_of
from oocml.kernels.jit import inlined, jit
from oocml.kernels.lda import AHEAD, buffers, draw, invert, invert_plainly, prefetch_row
from oocml.kernels.lda_batch_entry import add_both, add_products, excluding, products
from oocml.kernels.lda_entry import log_of
from oocml.kernels.planted_rows import mix
from oocml.kernels.vectors import add_row, inner_product
from oocml.types import Float32Array

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_ZERO, _ONE = np.float32(0), np.float32(1)
_LEAST = np.float32(1e-37)

# i=document, j=word, k=topic, t=entry, e=weights of one entry, g=gamma of one document


class Weights(NamedTuple):
    """exp(psi(lambda_jk)) 2^shift_j of the words of a tile, made when a word is first met."""

    F: Float32Array
    """Shape (words, K)."""
    shift: Float32Array
    """Shape (words,); 0 for those not yet met."""


class Sums(NamedTuple):
    """Where responsibilities go; arrays without rows where nobody wants them."""

    documents: Float32Array
    """Shape (documents, K) or (0, K)."""
    words: Float32Array
    """Shape (words, K) or (0, K)."""


@inlined
def _gamma(counts, i, alpha, g):
    for k in range(g.shape[1]):
        g[0, k] = counts[i, k] + alpha


@jit
def lda_batch(tile, counts, topic_word, totals, alpha, weights, sums):
    """Mean-field responsibilities of every entry, added up.

    Parameters
    ----------
    counts : shape (documents, K): gamma - alpha of the iteration before; or (0, K): the same for all topics.
    topic_word, totals : lambda and Lambda of the iteration before.
    alpha : float32.
    weights : Weights. Filled.
    sums : Sums. Added to.

    Returns
    -------
    Sum over tokens of the log of the weights' sum, as `oocml.kernels.lda.lda_visit`.
    """
    n_topics, log_sum = len(totals), 0.0
    _, factors, _ = buffers(n_topics)
    g, E, h = (
        np.ones((1, n_topics), np.float32),
        np.ones((1, n_topics), np.float32),
        np.empty(n_topics, np.float32),
    )
    log_scale = log_of(invert(totals, factors))
    for i in range(len(tile.indptr) - 1):
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if lo == hi:
            continue
        if len(counts):
            _gamma(counts, i, alpha, g)
            fill_exp_digamma(E, 0, g, 0, _ZERO)
            _multiply(E, factors)
        else:
            E[0] = factors[0, :n_topics]
        h[:] = 0
        for t in range(lo, hi):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            if t + AHEAD < len(tile.indices):
                prefetch_row(weights.F, tile.indices[t + AHEAD])
            if weights.shift[j] == 0:
                weights.shift[j] = shift_of(topic_word, j)
                fill_exp_digamma(weights.F, j, topic_word, j, weights.shift[j])
            total = inner_product(E, 0, weights.F, j) + _LEAST
            log_sum += n * (log_of(total) - log_scale - weights.shift[j] * LN2)
            if len(sums.documents):
                add_row(h, n / total, weights.F, j)
            if len(sums.words):
                add_products(sums.words, j, n / total, E, weights.F)
        if len(sums.documents):
            _add_shares(sums.documents, i, E, h)
    return log_sum


@inlined
def _multiply(E, factors):
    for k in range(E.shape[1]):
        E[0, k] *= factors[0, k]


@inlined
def _add_shares(documents, i, E, h):
    for k in range(len(h)):
        documents[i, k] += E[0, k] * h[k]


@jit
def lda_batch_cvb0(tile, counts, topic_word, totals, alpha, sums):
    """CVB0 responsibilities of every entry, by an estimate of what they were, added up; see `lda_batch`."""
    n_topics, log_sum = len(totals), 0.0
    e, factors, _ = buffers(n_topics)
    inverse, g = factors[0], np.ones((1, n_topics), np.float32)
    invert_plainly(totals, factors)
    for i in range(len(tile.indptr) - 1):
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if lo < hi:
            _gamma(counts, i, alpha, g)
        for t in range(lo, hi):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            if t + AHEAD < len(tile.indices):
                prefetch_row(topic_word, tile.indices[t + AHEAD])
                prefetch_row(sums.words, tile.indices[t + AHEAD])
            total = products(e, g, 0, topic_word, j, inverse)
            total = excluding(e, _ONE / total, g, 0, topic_word, j, inverse)
            log_sum += n * log_of(total)
            add_both(e, n / total, sums.documents, i, sums.words, j)
    return log_sum


@jit
def lda_draw_words(word, seed, shape, topic_word):
    """Fill rows with numbers of mean 1, drawn nearly from a gamma distribution for (seed, number of the word, k)."""
    n_topics = topic_word.shape[1]
    e, _, _ = buffers(n_topics)
    for j in range(len(word)):
        draw(e, n_topics, mix(_U(seed) + mix(_U(word[j]) * _GOLDEN)), shape)
        for k in range(n_topics):
            topic_word[j, k] = e[k]
