"""Kernels that fill documents of planted topics; `oocml.data.planted_topics` says what and why."""

from __future__ import annotations

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.kernels.planted_rows import mix, row_seed, row_tokens, scattered, sort_evenly_spread, store_counts

_U = np.uint64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_GROUP = np.uint64(0xBF58476D1CE4E5B9)
_UNIT = 2.0**-53

# i=row, t=token, k=topic, g=group of words, c=column, e=stored entry, z=64 random bits


@inlined
def unit(z):
    """A number in [0, 1)."""
    return np.int64(z >> _U(11)) * _UNIT


@inlined
def chosen_rank(rank, k, structure, group, n_cols):
    """The word of topic ``k`` among those of nearly the same popularity as ``rank``."""
    g = rank // group
    first = g * group
    size = min(group, n_cols - first)
    word = mix(structure + _U(k) * _GOLDEN + _U(g) * _GROUP)
    return first + np.int64(((word >> _U(32)) * _U(size)) >> _U(32))


@inlined
def draw_topic(t, z, topics, concentration, cdf):
    """Topic of token ``t`` given those before: a new one from ``cdf``, or that of a token before (Polya's urn)."""
    at = unit(z) * (concentration + t)
    if at < t:
        return topics[np.int64(at)]
    return min(np.searchsorted(cdf, (at - t) / concentration), len(cdf) - 1)


@jit
def draw_documents(recipe, lo, indptr, indices, data):
    """Fill documents from ``lo`` on; returns the number of entries."""
    n_cols = _U(recipe.n_cols)
    inverse = 1.0 / recipe.n_cols
    background = _U(recipe.background * 65536)
    topics = np.empty(1, np.int64)
    buffer = np.empty(1, np.int64)
    row = np.empty(1, np.int64)
    ends = np.empty(1, np.int64)
    e = 0
    for i in range(len(indptr) - 1):
        state = row_seed(recipe.stream, lo + i)
        n = row_tokens(state, recipe.tokens, recipe.lengths)
        if n > len(row):
            topics, buffer = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
            row, ends = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
        ends[:n] = 0
        scale = (_U(n) << _U(32)) // n_cols
        for t in range(n):
            state += _GOLDEN
            k = draw_topic(t, mix(state), topics, recipe.concentration, recipe.topic_cdf)
            topics[t] = k
            state += _GOLDEN
            z = mix(state)
            fraction = np.int64((z >> _U(16)) & _U(0xFFFFFFFF)) * 2.0**-32
            b = np.int64(z >> _U(53))
            first = recipe.ranks[b]
            rank = min(np.int64(first + fraction * (recipe.ranks[b + 1] - first)), recipe.n_cols - 1)
            if (z & _U(0xFFFF)) >= background:
                rank = chosen_rank(rank, k, recipe.structure, recipe.group, recipe.n_cols)
            c = scattered(rank, recipe.n_cols, recipe.multiplier, recipe.offset, inverse)
            buffer[t] = np.int64(c)
            ends[np.int64((c * scale) >> _U(32))] += 1
        sort_evenly_spread(buffer, row, ends, n, scale)
        e = store_counts(row, n, True, indices, data, e)
        indptr[i + 1] = e
    return e


@jit
def add_topics(recipe, mass, phi):
    """Probability of every word in every topic, given that of every rank."""
    for k in range(phi.shape[0]):
        for rank in range(recipe.n_cols):
            of_topic = chosen_rank(rank, k, recipe.structure, recipe.group, recipe.n_cols)
            for place, share in ((rank, recipe.background), (of_topic, 1.0 - recipe.background)):
                c = scattered(place, recipe.n_cols, recipe.multiplier, recipe.offset, 1.0 / recipe.n_cols)
                phi[k, np.int64(c)] += share * mass[rank]
