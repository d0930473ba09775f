"""Latent Dirichlet allocation: visits of a tile of documents x words that keep responsibilities.

Every entry e (document i, word j, count n) keeps its topics' responsibilities z_ek, which sum to 1. Their sums are

    gamma_ik = alpha + sum_e n z_ek,     lambda_jk = eta + sum_e n z_ek,     Lambda_k = sum_j lambda_jk

and a visit of an entry renews z, then gamma and lambda by what changed. Weights before normalising:

    CVB0   (gamma_ik - z_ek) (lambda_jk - z_ek) / Lambda_k      (Asuncion, Welling, Smyth and Teh 2009)
    ESVI   exp(psi(gamma_ik) + psi(lambda_jk) - psi(Lambda_k)), which is coordinate ascent of the evidence lower bound

Lambda is renewed at the end of each document. Responsibilities are float32, or float16 as the bits of uint16; changes
are those of the rounded numbers, so that gamma and lambda stay the sums of what is kept.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.digamma import LN2, fill_exp_digamma
from oocml.kernels.float_vectors import LANES
from oocml.kernels.jit import inlined, jit
from oocml.kernels.lda_batch_entry import add_both
from oocml.kernels.lda_entry import (
    cvb0_weights,
    entropy_row,
    esvi_weights,
    largest_exponent,
    log_of,
    renew,
    unpack,
)
from oocml.kernels.planted_rows import mix
from oocml.kernels.prefetch import prefetch

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_LOW = _U(0xFFFF)
_MEAN = np.float32(2 * 65535)
_INVERSE_SD = np.float32(1 / np.sqrt(4 * (2.0**32 - 1) / 12))
_ZERO, _ONE = np.float32(0), np.float32(1)
_LEAST_SUM = np.float32(2.0**-60)
_NINE = np.float32(9)
SHAPE = np.float32(10)
"""Of the gamma distribution that responsibilities are drawn from. Wider ones come apart sooner, to worse ends."""

AHEAD = 2
"""Entries whose words are asked for before their turn."""
_LINE = 16
"""Floats in a cache line."""

# i=document, j=word, k=topic, t=entry, e=weights of one entry


@inlined
def buffers(n_topics):
    """Zeros for the weights of an entry and for factors of topics, rounded up to whole vectors; a copy of a row."""
    padded = -(-n_topics // LANES) * LANES
    return np.zeros(padded, np.float32), np.zeros((1, padded), np.float32), np.empty(n_topics, np.float32)


@inlined
def prefetch_row(A, j):
    for k in range(0, A.shape[1], _LINE):
        prefetch(A, np.intp(j), np.intp(k))


@inlined
def keep(before, g):
    for k in range(len(before)):
        before[k] = g[k]


@inlined
def add_change(totals, g, before):
    for k in range(len(totals)):
        totals[k] += np.float64(g[k] - before[k])


@inlined
def invert_plainly(totals, factors):
    """factors[0] = 1 / Lambda; returns 1."""
    for k in range(len(totals)):
        factors[0, k] = _ONE / np.float32(totals[k])
    return _ONE


@inlined
def invert(totals, factors):
    """factors[0] = c / exp(psi(Lambda)); returns c, which keeps the numbers near 1."""
    inverse = factors[0]
    scale = np.float32(totals[0])
    for k in range(len(totals)):
        inverse[k] = np.float32(totals[k])
        scale = min(scale, inverse[k])
    fill_exp_digamma(factors, 0, factors, 0, _ZERO)
    for k in range(len(totals)):
        inverse[k] = scale / inverse[k]
    return scale


@jit
def lda_visit(tile, z, gamma, topic_word, totals, exact):
    """One visit of every entry: of ESVI if ``exact``, else of CVB0.

    ESVI is coordinate ascent of the evidence lower bound but for Lambda within a document.

    Parameters
    ----------
    z : shape (nnz, K), float32 or uint16. Changed, like all that follow.
    gamma : shape (documents, K).
    topic_word : shape (words, K).
    totals : shape (K,), float64: Lambda.

    Returns
    -------
    Sum over tokens of the log of the weights' sum: for CVB0 the log likelihood of every token given all others, but for
    the length of its document; for ESVI the same with geometric means in place of probabilities.
    """
    e, factors, before = buffers(len(totals))
    inverse, log_sum = factors[0], 0.0
    for i in range(len(tile.indptr) - 1):
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if lo == hi:
            continue
        log_scale = log_of(invert(totals, factors) if exact else invert_plainly(totals, factors))
        keep(before, gamma[i])
        for t in range(lo, hi):
            j, n, shift = np.intp(tile.indices[t]), tile.data[t], _ZERO
            if t + AHEAD < len(tile.indices):
                prefetch_row(topic_word, tile.indices[t + AHEAD])
            if exact:
                total = esvi_weights(e, gamma, i, topic_word, j, inverse, shift)
                if total < _LEAST_SUM:
                    shift = -largest_exponent(gamma, i, topic_word, j)
                    total = esvi_weights(e, gamma, i, topic_word, j, inverse, shift)
            else:
                total = cvb0_weights(e, z, t, gamma, i, topic_word, j, inverse)
            log_sum += n * (log_of(total) - log_scale - shift * LN2)
            renew(e, _ONE / total, n, z, t, gamma, i, topic_word, j)
        add_change(totals, gamma[i], before)
    return log_sum


@inlined
def draw(e, n_topics, key, shape):
    """e = numbers drawn for (key, k), nearly of a gamma distribution of that shape and mean 1; returns their sum.

    Such a number is nearly (1 - 1 / (9 shape) + x / sqrt(9 shape))^3 of a normal x (Wilson and Hilferty 1931).
    """
    center, spread, total = _ONE - _ONE / (_NINE * shape), _ONE / np.sqrt(_NINE * shape), _ZERO
    for k in range(n_topics):
        bits = mix(key + _U(k) * _GOLDEN)
        sum_of_four = (bits & _LOW) + ((bits >> _U(16)) & _LOW) + ((bits >> _U(32)) & _LOW) + (bits >> _U(48))
        root = center + spread * ((np.float32(np.int64(sum_of_four)) - _MEAN) * _INVERSE_SD)
        e[k] = root * root * root
        total += e[k]
    return total


@jit
def lda_start(tile, number, word, seed, z, gamma, topic_word):
    """Draw responsibilities for (seed, number of the document, number of the word) and add them to gamma and lambda.

    Returns
    -------
    Number of tokens, and of entries that are negative or not finite.
    """
    n_topics = gamma.shape[1]
    e, _, _ = buffers(n_topics)
    tokens, n_bad = 0.0, 0
    for i in range(len(tile.indptr) - 1):
        document = mix(_U(seed) + mix(_U(number[i]) * _GOLDEN))
        for t in range(tile.indptr[i], tile.indptr[i + 1]):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            if not (n >= 0 and n < np.inf):
                n_bad += 1
                continue
            total = draw(e, n_topics, mix(document + _U(word[j]) * _GOLDEN), SHAPE)
            renew(e, _ONE / total, n, z, t, gamma, i, topic_word, j)
            tokens += n
    return tokens, n_bad


@jit
def lda_recount(tile, z, gamma, topic_word):
    """Add responsibilities, times tokens, to gamma and lambda; returns minus the sum over tokens of z log z."""
    e, _, _ = buffers(z.shape[1])
    entropy = 0.0
    for i in range(len(tile.indptr) - 1):
        for t in range(tile.indptr[i], tile.indptr[i + 1]):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            if t + AHEAD < len(tile.indices):
                prefetch_row(topic_word, tile.indices[t + AHEAD])
            unpack(e, z, t)
            add_both(e, n, gamma, i, topic_word, j)
            entropy += n * entropy_row(z, t)
    return entropy
