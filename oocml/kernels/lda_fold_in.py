"""Inferring the topics of documents with the topics' words fixed, halving documents, and counting word pairs."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.digamma import LN2, fill_exp_digamma, shift_of
from oocml.kernels.jit import inlined, jit
from oocml.kernels.lda_entry import log_of
from oocml.kernels.planted_rows import mix
from oocml.kernels.vectors import add_row, inner_product

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_ZERO = np.float32(0)
_LEAST = np.float32(1e-37)
_BITS = 64
CHANGE = np.float32(1e-3)
"""Documents whose gamma changes by less than this on average are done."""

# i=document, j=word, k=topic, t=entry, B=weights of a document's words, E=weights of its topics


@jit
def lda_halve(number, indptr, word, count, seed, observed):
    """Share out tokens: each goes to one half or the other by a random bit for (seed, document, word, its number).

    Parameters
    ----------
    number : of each document in its source.
    word : of each entry, in the dataset.
    observed : shape (nnz,). Filled with the tokens of the first half.
    """
    for i in range(len(indptr) - 1):
        document = mix(_U(seed) + mix(_U(number[i]) * _GOLDEN))
        for t in range(indptr[i], indptr[i + 1]):
            key = mix(document + _U(word[t]) * _GOLDEN)
            left, found = np.int64(count[t]), 0
            while left > 0:
                bits = key
                if left < _BITS:
                    bits &= (_U(1) << _U(left)) - _U(1)
                while bits:
                    bits &= bits - _U(1)
                    found += 1
                left -= _BITS
                key = mix(key + _GOLDEN)
            observed[t] = found


@inlined
def _weights(B, topic_word, inverse, word, lo, hi):
    """B[t - lo] = exp(psi(lambda_j) - psi(Lambda)) 2^shift for each entry t; returns the shifts."""
    shift = np.empty(hi - lo, np.float32)
    for t in range(lo, hi):
        j = np.intp(word[t])
        shift[t - lo] = shift_of(topic_word, j)
        fill_exp_digamma(B, t - lo, topic_word, j, shift[t - lo])
        row = B[t - lo]
        for k in range(len(inverse)):
            row[k] *= inverse[k]
    return shift


@inlined
def _infer(B, count, lo, hi, alpha, steps, g, E, h):
    """Gamma of one document, from equal shares on. E is left as the weights that belong to it."""
    n_topics, tokens = len(g), _ZERO
    for t in range(lo, hi):
        tokens += count[t]
    for k in range(n_topics):
        g[k] = alpha + tokens / np.float32(n_topics)
    as_row = g.reshape(1, n_topics)
    fill_exp_digamma(E, 0, as_row, 0, _ZERO)
    for _ in range(steps):
        h[:] = 0
        for t in range(lo, hi):
            if count[t] > 0:
                add_row(h, count[t] / (inner_product(E, 0, B, t - lo) + _LEAST), B, t - lo)
        change = _ZERO
        for k in range(n_topics):
            new = alpha + E[0, k] * h[k]
            change += abs(new - g[k])
            g[k] = new
        fill_exp_digamma(E, 0, as_row, 0, _ZERO)
        if change < CHANGE * np.float32(n_topics):
            break


@inlined
def _inverse_weights(totals):
    """1 / exp(psi(Lambda))."""
    rows = np.empty((1, len(totals)), np.float32)
    rows[0] = totals
    fill_exp_digamma(rows, 0, rows, 0, _ZERO)
    return np.float32(1) / rows[0]


@jit
def lda_fold_in(documents, topic_word, totals, alpha, steps, gamma):
    """Infer documents by fixed points of mean-field updates.

    Parameters
    ----------
    documents : Csr with the rows of ``topic_word`` as columns, and tokens as data.
    topic_word : shape (words, K): lambda.
    totals : shape (K,), float32: Lambda.
    alpha : float32.
    steps : at most so many for each document.
    gamma : shape (documents, K). Filled.

    Returns
    -------
    Sum over documents and tokens of log sum_k exp(E log theta_ik + E log phi_kj), but for psi of the sums of gamma.
    """
    indptr, count, n_topics = documents.indptr, documents.data, len(totals)
    longest = 0
    for i in range(len(indptr) - 1):
        longest = max(longest, indptr[i + 1] - indptr[i])
    B, E, h = (
        np.empty((longest, n_topics), np.float32),
        np.empty((1, n_topics), np.float32),
        np.empty(n_topics, np.float32),
    )
    inverse, log_sum = _inverse_weights(totals), 0.0
    for i in range(len(indptr) - 1):
        lo, hi = indptr[i], indptr[i + 1]
        shift = _weights(B, topic_word, inverse, documents.indices, lo, hi)
        _infer(B, count, lo, hi, alpha, steps, gamma[i], E, h)
        for t in range(lo, hi):
            if count[t] > 0:
                total = inner_product(E, 0, B, t - lo) + _LEAST
                log_sum += count[t] * (log_of(total) - shift[t - lo] * LN2)
    return log_sum


@jit
def lda_log_likelihood(documents, topic_word, totals, gamma):
    """Sum over documents and tokens of log sum_k theta_ik phi_kj, theta and phi being the posterior means."""
    n_topics, log_sum = len(totals), 0.0
    theta = np.empty((1, n_topics), np.float32)
    for i in range(len(documents.indptr) - 1):
        whole = _ZERO
        for k in range(n_topics):
            whole += gamma[i, k]
        for k in range(n_topics):
            theta[0, k] = gamma[i, k] / (whole * totals[k])
        for t in range(documents.indptr[i], documents.indptr[i + 1]):
            if documents.data[t] > 0:
                j = np.intp(documents.indices[t])
                log_sum += documents.data[t] * np.log(inner_product(theta, 0, topic_word, j) + _LEAST)
    return log_sum


@jit
def count_pairs(row, place, first, topic, rank, counts):
    """Count in how many documents a topic's top words occur, and occur together.

    Parameters
    ----------
    row, place : document and place among the distinct top words, of every occurrence, sorted by document.
    first, topic, rank : word w is number ``rank[m]`` of topic ``topic[m]`` for m from first[w] to first[w + 1] - 1.
    counts : shape (K, n, n), int64. Added to.
    """
    n_topics, n = counts.shape[0], counts.shape[1]
    here, n_here = np.empty((n_topics, n), np.int64), np.zeros(n_topics, np.int64)
    touched, n_touched, lo = np.empty(n_topics, np.int64), 0, 0
    while lo < len(row):
        hi = lo
        while hi < len(row) and row[hi] == row[lo]:
            for m in range(first[place[hi]], first[place[hi] + 1]):
                k = topic[m]
                if n_here[k] == 0:
                    touched[n_touched] = k
                    n_touched += 1
                here[k, n_here[k]] = rank[m]
                n_here[k] += 1
            hi += 1
        for one in range(n_touched):
            k = touched[one]
            for a in range(n_here[k]):
                for b in range(n_here[k]):
                    counts[k, here[k, a], here[k, b]] += 1
            n_here[k] = 0
        n_touched, lo = 0, hi
