"""Visits of a tile whose entries keep responsibilities for a few topics each; see `oocml.kernels.lda`.

An entry's support is fixed once it has been chosen. What the support's topics have in gamma, lambda and Lambda is
gathered into short rows, visited there as all topics are, and put back.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.digamma import LN2
from oocml.kernels.float_vectors import LANES
from oocml.kernels.jit import inlined, jit
from oocml.kernels.lda import AHEAD, add_change, buffers, invert, invert_plainly, keep, prefetch_row
from oocml.kernels.lda_entry import entropy_row, esvi_weights, largest_exponent, log_of, unpack
from oocml.kernels.lda_support_entry import (
    count_above,
    cvb0_weights_on,
    esvi_weights_on,
    flags_above,
    lowest_flag,
    renew_on,
)

_ZERO, _ONE = np.float32(0), np.float32(1)
_LEAST_SUM = np.float32(2.0**-60)
_MOST, _LIKELY = (np.int32(np.float32(x).view(np.int32)) for x in (2, 1e-5))

# i=document, j=word, k=topic, s=place in the support, t=entry, e=weights of one entry


@inlined
def _small_weights(e, index, t, gamma, i, topic_word, j, inverse):
    """The weights' sum, brought into range, and by which power of two; see `oocml.kernels.lda.lda_visit`."""
    size = index.shape[1]
    rows, by = np.empty((2, size), np.float32), np.zeros(len(e), np.float32)
    for s in range(size):
        k = np.intp(index[t, s])
        rows[0, s], rows[1, s], by[s] = gamma[i, k], topic_word[j, k], inverse[k]
    shift = -largest_exponent(rows, 0, rows, 1)
    return esvi_weights(e, rows, 0, rows, 1, by, shift), shift


@jit
def lda_visit_support(tile, index, value, gamma, topic_word, totals, exact):
    """One visit of every entry, of ESVI if ``exact``, else of CVB0.

    Parameters
    ----------
    index : shape (nnz, k): topics of each entry's support.
    value : shape (nnz, k), float32 or uint16: their responsibilities. Changed, like all that follow.
    gamma, topic_word, totals : as for `oocml.kernels.lda.lda_visit`, and so is the result.
    """
    size = index.shape[1]
    _, factors, before = buffers(len(totals))
    e, _, _ = buffers(size)
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
                total = esvi_weights_on(e, index, t, gamma, i, topic_word, j, inverse)
                if total < _LEAST_SUM:
                    total, shift = _small_weights(e, index, t, gamma, i, topic_word, j, inverse)
            else:
                total = cvb0_weights_on(e, index, value, t, gamma, i, topic_word, j, inverse)
            log_sum += n * (log_of(total) - log_scale - shift * LN2)
            renew_on(e, _ONE / total, n, index, value, t, gamma, i, topic_word, j)
        add_change(totals, gamma[i], before)
    return log_sum


@inlined
def _choose(e, n_topics, chosen):
    """The topics with the largest weights, in increasing order; of equal ones the first.

    Weights from 0 to 1 are ordered as their bits are. Bisection takes a fifth of the time of keeping a list. ``e`` has
    zeros after its ``n_topics`` weights.
    """
    size, lo, hi = len(chosen), np.int32(-1), _MOST
    middle = _LIKELY  # for most weights are far smaller
    while hi - lo > 1:
        n_above = count_above(e, middle)
        if n_above == size:
            lo = hi = middle
        elif n_above > size:
            lo = middle
        else:
            hi = middle
        middle = np.int32((lo + hi) >> 1)
    n_left, s = size - count_above(e, hi), 0
    for k in range(0, n_topics, LANES):
        flags = flags_above(e, k, hi)
        equal = flags_above(e, k, lo) & ~flags if n_left > 0 else 0
        while equal and n_left > 0:
            flags |= equal & -equal
            equal &= equal - 1
            n_left -= 1
        while flags:
            chosen[s] = k + lowest_flag(flags)
            flags &= flags - 1
            s += 1


@jit
def lda_truncate(tile, z, index, value, gamma, topic_word):
    """Choose each entry's support, its largest responsibilities, and share out all mass among them.

    Parameters
    ----------
    z : shape (nnz, K), float32 or uint16.
    index, value : shape (nnz, k). Filled.
    gamma, topic_word : what is kept is added, times tokens.

    Returns
    -------
    Sum over tokens of the mass outside of the supports.
    """
    size, n_topics = index.shape[1], z.shape[1]
    chosen = np.zeros(size, np.int64)
    (e, _, _), (few, _, _) = buffers(n_topics), buffers(size)
    outside = 0.0
    for i in range(len(tile.indptr) - 1):
        for t in range(tile.indptr[i], tile.indptr[i + 1]):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            if t + AHEAD < len(tile.indices):
                prefetch_row(topic_word, tile.indices[t + AHEAD])
            everything = unpack(e, z, t)
            _choose(e, n_topics, chosen)
            total = _ZERO
            for s in range(size):
                index[t, s], value[t, s] = chosen[s], 0
                few[s] = e[chosen[s]]
                total += few[s]
            renew_on(few, _ONE / total, n, index, value, t, gamma, i, topic_word, j)
            outside += n * (everything - total)
    return outside


@jit
def lda_outside(tile, z, size, every):
    """What supports of ``size`` topics would leave out, by every so manieth document.

    Returns
    -------
    Sum over tokens of the mass outside of the largest responsibilities, and the number of these tokens.
    """
    n_topics = z.shape[1]
    chosen = np.zeros(size, np.int64)
    e, _, _ = buffers(n_topics)
    outside, tokens = 0.0, 0.0
    for i in range(0, len(tile.indptr) - 1, every):
        for t in range(tile.indptr[i], tile.indptr[i + 1]):
            everything = unpack(e, z, t)
            _choose(e, n_topics, chosen)
            for s in range(size):
                everything -= e[chosen[s]]
            outside += tile.data[t] * everything
            tokens += tile.data[t]
    return outside, tokens


@jit
def lda_recount_support(tile, index, value, gamma, topic_word):
    """Add what is kept, times tokens, to gamma and lambda; returns minus the sum over tokens of z log z."""
    e, _, _ = buffers(index.shape[1])
    entropy = 0.0
    for i in range(len(tile.indptr) - 1):
        for t in range(tile.indptr[i], tile.indptr[i + 1]):
            j, n = np.intp(tile.indices[t]), tile.data[t]
            unpack(e, value, t)
            for s in range(index.shape[1]):
                k = np.intp(index[t, s])
                gamma[i, k] += n * e[s]
                topic_word[j, k] += n * e[s]
            entropy += n * entropy_row(value, t)
    return entropy
