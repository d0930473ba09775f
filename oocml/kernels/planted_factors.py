"""Kernels that plant factors in rows; `oocml.data.planted_factors` says what and why.

Every number that belongs to a column, a row or a pair is drawn by hashing its name, so no table is ever made.
"""

from __future__ import annotations

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.kernels.planted_rows import mix

_U = np.uint64
_NAME = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_UNIT = 2.0**-53

# i=row, c=column, e=stored entry, f=entry of the output, k=factor, z=64 random bits


@inlined
def word_of(key, number):
    """64 bits that belong to a row, column or pair."""
    return mix(key + _U(number) * _NAME)


@inlined
def spread(z):
    """A number of mean 0 and variance 1, evenly distributed."""
    return ((np.int64(z >> _U(11)) + 0.5) * _UNIT - 0.5) * np.sqrt(12.0)


@inlined
def weight(word):
    """The weight or bias of a row or column."""
    return spread(mix(word))


@inlined
def factor(word, k):
    """Factor ``k`` of a row or column."""
    return spread(mix(word + _U(k + 1) * _FACTOR))


@inlined
def normal(z):
    """A normally distributed number (Box and Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log((np.int64(z >> _U(11)) + 0.5) * _UNIT))
    return radius * np.cos(2.0 * np.pi * np.int64(mix(z) >> _U(11)) * _UNIT)


@jit
def second_order(indptr, indices, data, structure, rank, linear, pairs):
    """``sum_c w_c x_c`` and ``sum_{b<c} (v_b . v_c) x_b x_c`` of every row."""
    sums = np.empty(rank)
    for i in range(len(indptr) - 1):
        sums[:] = 0
        line = squares = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            word = word_of(structure, indices[e])
            x = np.float64(data[e])
            line += weight(word) * x
            for k in range(rank):
                v = factor(word, k) * x
                sums[k] += v
                squares += v * v
        total = 0.0
        for k in range(rank):
            total += sums[k] * sums[k]
        linear[i] = line
        pairs[i] = (total - squares) / 2


@jit
def add_noise(stream, lo, sigma, y):
    for i in range(len(y)):
        y[i] += sigma * normal(mix(word_of(stream, lo + i)))


@jit
def flip_coins(stream, lo, steepness, y):
    """Turn scores into -1 or +1, which comes with probability 1 / (1 + exp(-steepness score))."""
    for i in range(len(y)):
        coin = np.int64(mix(word_of(stream, lo + i)) >> _U(11)) * _UNIT
        y[i] = 1.0 if coin < 1.0 / (1.0 + np.exp(-steepness * y[i])) else -1.0


@jit
def rate(recipe, lo, indptr, indices, out_indptr, out_indices, out_data):
    """Keep the entries of one split and give them stars; returns their number.

    The output may be the input.
    """
    p = np.empty(recipe.rank)
    scale = recipe.factors / np.sqrt(recipe.rank)
    f = 0
    start = indptr[0]
    out_indptr[0] = 0
    for i in range(len(indptr) - 1):
        stop = indptr[i + 1]
        user = word_of(recipe.users, lo + i)
        for k in range(recipe.rank):
            p[k] = factor(user, k)
        for e in range(start, stop):
            c = indices[e]
            pair = word_of(user, c)
            if (np.int64(pair >> _U(11)) * _UNIT < recipe.test_share) != recipe.test:
                continue
            item = word_of(recipe.items, c)
            match = 0.0
            for k in range(recipe.rank):
                match += p[k] * factor(item, k)
            stars = recipe.mean + recipe.user_bias * weight(user) + recipe.item_bias * weight(item)
            stars += scale * match + recipe.noise * normal(mix(pair))
            out_indices[f] = c
            out_data[f] = min(max(np.rint(2.0 * stars) / 2.0, 0.5), 5.0)
            f += 1
        start = stop
        out_indptr[i + 1] = f
    return f
