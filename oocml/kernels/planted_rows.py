"""Kernels that fill rows of a stand-in; `oocml.data.planted_classes` says what they plant and why.

A recipe is a NamedTuple of numbers and small arrays (see there). Random bits come from splitmix64 (Steele, Lea and
Flood 2014) seeded per row, so that any row can be made alone.
"""

from __future__ import annotations

import numpy as np

from oocml.kernels.jit import inlined, jit

LABEL_NOISE = 0.05
"""Share of rows whose label is drawn without regard to their features."""
CELLS, PREFERENCES, LENGTHS = 2048, 256, 1024
"""Cells of the tables of popularity, preference and length; powers of 2, the kernels index them with raw bits."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_U = np.uint64
_TO_UNIT = 2.0**-53

# i=row, k=class, c=column, t=token, b=bucket, e=stored entry, z=64 random bits


@inlined
def mix(z):
    z = (z ^ (z >> _U(30))) * _MIX1
    z = (z ^ (z >> _U(27))) * _MIX2
    return z ^ (z >> _U(31))


@inlined
def shuffled(i, n, key):
    """Place of i in a permutation of range(n): four Feistel rounds, walking on while outside the range."""
    half = _U(1)
    while (_U(1) << (half + half)) < _U(n):
        half += _U(1)
    mask = (_U(1) << half) - _U(1)
    x = _U(i)
    while True:
        left, right = x >> half, x & mask
        for r in range(4):
            left, right = right, left ^ (mix(right + key + _U(r) * _GOLDEN) & mask)
        x = (left << half) | right
        if x < _U(n):
            return np.int64(x)


@jit
def draw_classes(recipe, lo, y, classes):
    """Class of each row, and its label, which is another's with probability LABEL_NOISE.

    Rows take the midpoints of ``n_rows`` equal parts of [0, 1] in shuffled order, so that each class gets its
    share of rows to within one. Where the recipe says so, the first row of each class keeps its label.
    """
    n = recipe.n_rows
    n_classes = len(recipe.class_cdf)
    for i in range(len(y)):
        place = shuffled(lo + i, n, recipe.stream)
        k = min(np.searchsorted(recipe.class_cdf, (place + 0.5) / n), n_classes - 1)
        classes[i] = recipe.class_ids[k]
        y[i] = classes[i]
        z = mix(recipe.stream ^ mix(_U(lo + i) * _GOLDEN + _U(1)))
        if np.int64(z >> _U(11)) * _TO_UNIT < LABEL_NOISE:
            before = np.searchsorted(recipe.class_cdf, (place - 0.5) / n)
            if not recipe.keep_first or (place > 0 and before == k):
                other = np.int64(mix(z) >> _U(11)) * _TO_UNIT
                y[i] = recipe.class_ids[min(np.searchsorted(recipe.class_cdf, other), n_classes - 1)]


@inlined
def scattered(rank, n_cols, multiplier, offset, inverse):
    """Column of a rank: (multiplier rank + offset) mod n_cols, by a multiplication that is off by one at most.

    The quotient is below 2**31, so that float64 has bits to spare.
    """
    x = _U(rank) * multiplier + offset
    quotient = _U(np.int64(np.float64(np.int64(x)) * inverse))
    left = np.int64(x - quotient * _U(n_cols))
    if left < 0:
        left += n_cols
    elif left >= n_cols:
        left -= n_cols
    return _U(left)


@inlined
def row_seed(stream, i):
    return mix(stream + mix(_U(i) + _GOLDEN))


@inlined
def row_tokens(state, tokens, lengths):
    """Tokens of a row: its length, rounded up or down at random, at least 1."""
    z = mix(state)
    length = tokens * lengths[np.int64(z & _U(LENGTHS - 1))]
    return max(np.int64(1), np.int64(length + np.int64(z >> _U(11)) * _TO_UNIT))


@jit
def count_tokens(recipe, lo, hi):
    total = 0
    for i in range(lo, hi):
        total += row_tokens(row_seed(recipe.stream, i), recipe.tokens, recipe.lengths)
    return total


@jit
def draw_tokens(recipe, lo, classes, indptr, indices, data):
    """Fill rows from tokens; returns the number of entries.

    Columns are close to evenly spread (ranks are scattered over them), so sorting into as many buckets as
    there are tokens leaves an almost sorted row, which insertion finishes in linear time.
    """
    n_cols = _U(recipe.n_cols)
    multiplier, offset, inverse = recipe.multiplier, recipe.offset, 1.0 / recipe.n_cols
    signal = _U(recipe.signal * 65536)
    buffer = np.empty(1, np.int64)
    row = np.empty(1, np.int64)
    ends = np.empty(1, np.int64)
    e = 0
    for i in range(len(classes)):
        state = row_seed(recipe.stream, lo + i)
        n = row_tokens(state, recipe.tokens, recipe.lengths)
        if n > len(row):
            buffer, row, ends = (
                np.empty(2 * n, np.int64),
                np.empty(2 * n, np.int64),
                np.empty(2 * n, np.int64),
            )
        taste = mix(recipe.structure + _U(classes[i]) * _GOLDEN)
        ends[:n] = 0
        scale = (_U(n) << _U(32)) // n_cols
        for t in range(n):
            state += _GOLDEN
            z = mix(state)
            fraction = np.int64((z >> _U(16)) & _U(0xFFFFFFFF)) * 2.0**-32
            if (z & _U(0xFFFF)) < signal:
                b = np.int64(z >> _U(56))
                first = recipe.preferences[b]
                j = np.int64(first + fraction * (recipe.preferences[b + 1] - first))
                c = ((mix(taste + _U(j) * _MIX1) >> _U(32)) * n_cols) >> _U(32)
            else:
                b = np.int64(z >> _U(53))
                first = recipe.ranks[b]
                rank = min(np.int64(first + fraction * (recipe.ranks[b + 1] - first)), recipe.n_cols - 1)
                c = scattered(rank, recipe.n_cols, multiplier, offset, inverse)
            buffer[t] = np.int64(c)
            ends[np.int64((c * scale) >> _U(32))] += 1
        sort_evenly_spread(buffer, row, ends, n, scale)
        first_entry = e
        e = store_counts(row, n, recipe.counts, indices, data, e)
        if recipe.normalise:
            scale_row(data, first_entry, e)
        indptr[i + 1] = e
    return e


@inlined
def sort_evenly_spread(values, out, ends, n, scale):
    """Sort ``values[:n]`` into ``out``; ``ends`` holds the size of each bucket (c scale >> 32)."""
    at = 0
    for b in range(n):
        at += ends[b]
        ends[b] = at
    for t in range(n):
        b = np.int64((_U(values[t]) * scale) >> _U(32))
        ends[b] -= 1
        out[ends[b]] = values[t]
    for t in range(1, n):
        c = out[t]
        at = t
        while at > 0 and out[at - 1] > c:
            out[at] = out[at - 1]
            at -= 1
        out[at] = c


@inlined
def store_counts(row, n, counts, indices, data, e):
    """Merge equal columns of a sorted row into entries from ``e`` on; returns their end."""
    t = 0
    while t < n:
        c = row[t]
        count = 1
        while t + count < n and row[t + count] == c:
            count += 1
        indices[e] = c
        data[e] = count if counts or count == 1 else 1.0 + np.log(count)
        e += 1
        t += count
    return e


@inlined
def scale_row(data, lo, hi):
    """Give entries ``lo:hi`` unit length."""
    sumsq = 0.0
    for e in range(lo, hi):
        sumsq += np.float64(data[e]) * data[e]
    scale = np.float32(1 / np.sqrt(sumsq)) if sumsq > 0 else np.float32(1)
    for e in range(lo, hi):
        data[e] *= scale


@jit
def visit_columns(recipe, lo, classes, indptr, indices, data):
    """Fill rows by visiting every column; values lie in (0, 1], half of each is its class's mean."""
    multiplier, offset, inverse = recipe.multiplier, recipe.offset, 1.0 / recipe.n_cols
    e = 0
    for i in range(len(classes)):
        state = row_seed(recipe.stream, lo + i)
        taste = mix(recipe.structure + _U(classes[i]) * _GOLDEN)
        first = e
        for c in range(recipe.n_cols):
            state += _GOLDEN
            z = mix(state)
            rank = np.int64(scattered(c, recipe.n_cols, multiplier, offset, inverse))
            if np.int64(z & _U(0xFFFFFF)) * 2.0**-24 >= recipe.stored[rank] or e >= len(indices):
                continue
            mean = np.int64(mix(taste + _U(c) * _MIX1) >> _U(40)) * 2.0**-24
            noise = np.int64((z >> _U(24)) & _U(0xFFFFFF)) * 2.0**-24
            indices[e] = c
            data[e] = (mean + noise + 1e-6) / 2
            e += 1
        if recipe.normalise:
            scale_row(data, first, e)
        indptr[i + 1] = e
    return e
