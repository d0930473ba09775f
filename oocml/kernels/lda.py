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
from oocml.kernels.jit import jit
from oocml.kernels.lda_entry import cvb0_weights, entropy_row, esvi_weights, largest_exponent, log_of, renew
from oocml.kernels.planted_rows import mix

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_LOW = _U(0xFFFF)
_MEAN = np.float32(2 * 65535)
_INVERSE_SD = np.float32(1 / np.sqrt(4 * (2.0**32 - 1) / 12))
_ZERO, _ONE = np.float32(0), np.float32(1)
_LEAST_SUM = np.float32(2.0**-60)
# a gamma distribution of shape 10 is nearly 10 (1 - 1/90 + x / sqrt 90)^3 of a normal x (Wilson and Hilferty 1931)
_CENTER = np.float32(1 - 1 / 90)
_SPREAD = np.float32(1 / np.sqrt(90))

# i=document, j=word, k=topic, t=entry, e=weights of one entry


@jit
def _buffers(n_topics):
    """Zeros for the weights of an entry and for factors of topics, rounded up to whole vectors; a copy of a row."""
    padded = -(-n_topics // LANES) * LANES
    return np.zeros(padded, np.float32), np.zeros((1, padded), np.float32), np.empty(n_topics, np.float32)


@jit
def _keep(before, g):
    for k in range(len(before)):
        before[k] = g[k]


@jit
def _add_change(totals, g, before):
    for k in range(len(totals)):
        totals[k] += np.float64(g[k] - before[k])


@jit
def lda_cvb0(tile, z, gamma, topic_word, totals):
    """One CVB0 visit of every entry.

    Parameters
    ----------
    z : shape (nnz, K), float32 or uint16. Changed, like all that follow.
    gamma : shape (documents, K).
    topic_word : shape (words, K).
    totals : shape (K,), float64: Lambda.

    Returns
    -------
    Sum over tokens of the log of the weights' sum: the log likelihood of every token given all others, but for the
    length of its document.
    """
    n_topics = len(totals)
    e, factors, before = _buffers(n_topics)
    inverse = factors[0]
    log_sum = 0.0
    for i in range(len(tile.indptr) - 1):
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if lo == hi:
            continue
        for k in range(n_topics):
            inverse[k] = _ONE / np.float32(totals[k])
        _keep(before, gamma[i])
        for t in range(lo, hi):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            total = cvb0_weights(e, z, t, gamma, i, topic_word, j, inverse)
            log_sum += n * log_of(total)
            renew(e, _ONE / total, n, z, t, gamma, i, topic_word, j)
        _add_change(totals, gamma[i], before)
    return log_sum


@jit
def _invert(totals, factors):
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
def lda_esvi(tile, z, gamma, topic_word, totals):
    """One exact visit of every entry: coordinate ascent of the evidence lower bound but for Lambda within a document.

    Parameters and result are those of `lda_cvb0`, with geometric means in place of probabilities.
    """
    n_topics = len(totals)
    e, factors, before = _buffers(n_topics)
    inverse = factors[0]
    log_sum = 0.0
    for i in range(len(tile.indptr) - 1):
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if lo == hi:
            continue
        log_scale = log_of(_invert(totals, factors))
        _keep(before, gamma[i])
        for t in range(lo, hi):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            shift = _ZERO
            total = esvi_weights(e, gamma, i, topic_word, j, inverse, shift)
            if total < _LEAST_SUM:
                shift = -largest_exponent(gamma, i, topic_word, j)
                total = esvi_weights(e, gamma, i, topic_word, j, inverse, shift)
            log_sum += n * (log_of(total) - log_scale - shift * LN2)
            renew(e, _ONE / total, n, z, t, gamma, i, topic_word, j)
        _add_change(totals, gamma[i], before)
    return log_sum


@jit
def _draw(e, n_topics, key):
    """e = numbers distributed nearly as a gamma distribution of shape 10 and mean 1, drawn for (key, k)."""
    total = _ZERO
    for k in range(n_topics):
        bits = mix(key + _U(k) * _GOLDEN)
        sum_of_four = (bits & _LOW) + ((bits >> _U(16)) & _LOW) + ((bits >> _U(32)) & _LOW) + (bits >> _U(48))
        root = _CENTER + _SPREAD * (np.float32(np.int64(sum_of_four)) - _MEAN) * _INVERSE_SD
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
    e, _, _ = _buffers(n_topics)
    tokens, n_bad = 0.0, 0
    for i in range(len(tile.indptr) - 1):
        document = mix(_U(seed) + mix(_U(number[i]) * _GOLDEN))
        for t in range(tile.indptr[i], tile.indptr[i + 1]):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            if not (n >= 0 and n < np.inf):
                n_bad += 1
                continue
            total = _draw(e, n_topics, mix(document + _U(word[j]) * _GOLDEN))
            renew(e, _ONE / total, n, z, t, gamma, i, topic_word, j)
            tokens += n
    return tokens, n_bad


@jit
def lda_entropy(tile, z):
    """Minus the sum over tokens of z log z."""
    total = 0.0
    for t in range(len(tile.data)):
        total += tile.data[t] * entropy_row(z, t)
    return total
