"""Rows of a stand-in for classification: power-law features in which the classes have left their marks.

Model of a row (a bag of tokens, as of a text): its class is drawn from power-law class sizes; its length from a
log-normal; each token comes with probability ``signal`` from the features its class prefers, else from a
Zipf-Mandelbrot popularity over all columns. A feature's value is 1 + ln(count), rows are scaled to unit length.
Where more than a fifth of all entries is stored, a row is instead a visit to every column: stored with a
probability that follows the same popularity, with a value around its class's mean.

Everything about row i follows from (seed, split, i) and everything about class k from (seed, k), so rows can be
made in any order, by any number of workers, in memory that depends on neither rows nor columns times classes.
No method costs O(columns) per row: popularity is sampled by its inverse distribution function, tabulated.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from oocml.kernels.jit import jit
from oocml.types import Csr, Float64Array

EXPONENT, OFFSET = 1.05, 2.7
"""Popularity of the feature of rank r is proportional to (r + OFFSET) ** -EXPONENT."""
CLASS_EXPONENT = 0.7
SIGNAL = 0.15
"""Share of tokens that come from the class's own features."""
LABEL_NOISE = 0.05
"""Share of rows whose label is drawn without regard to their features."""
LENGTH_SIGMA = 0.5
VISIT_DENSITY = 0.2
"""From this share of stored entries on, rows visit every column."""

_CELLS = 2048
_LENGTHS = 1024
_PREFERENCES = 256
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_U = np.uint64
_TO_UNIT = 2.0**-53


class Recipe(NamedTuple):
    """All that a row depends on besides its number; small, whatever the size of the data (numba takes it)."""

    n_rows: int
    n_cols: int
    stream: np.uint64
    """Seed of the split's rows."""
    structure: np.uint64
    """Seed of what the splits share: what each class prefers."""
    class_cdf: Float64Array
    """Shape (classes,): upper end of each class's share, by size rank."""
    class_ids: npt.NDArray[np.int64]
    """Label of the class of each size rank."""
    ranks: Float64Array
    """Popularity rank at evenly spaced quantiles."""
    preferences: Float64Array
    """The same for the features that one class prefers."""
    multiplier: np.uint64
    """Column of rank r is (multiplier r + offset) mod n_cols, which takes each column once."""
    offset: np.uint64
    tokens: float
    """Mean tokens per row."""
    lengths: Float64Array
    """Quantiles of (length / mean length)."""
    stored: Float64Array
    """Visits: probability that each column is stored; else empty."""
    normalise: bool
    counts: bool
    """Whether values are the counts themselves."""


def make_recipe(
    shape: tuple[int, int, int],
    nnz_per_row: float,
    *,
    seed: int,
    split: str,
    exponent: float = EXPONENT,
    normalise: bool = True,
    counts: bool = False,
) -> Recipe:
    """Work out the recipe for (rows, columns, classes), including how many tokens make ``nnz_per_row``."""
    rows, cols, classes = shape
    streams = np.random.SeedSequence([seed, 0 if split == "train" else 1]).generate_state(1, np.uint64)
    structure, scatter, shift = np.random.SeedSequence(seed).generate_state(3, np.uint64)
    per_class = min(cols, max(32, min(256, 4 * cols // classes)))
    visits = nnz_per_row >= VISIT_DENSITY * cols
    recipe = Recipe(
        n_rows=rows,
        n_cols=cols,
        stream=streams[0],
        structure=structure,
        class_cdf=class_shares(classes, rows if split == "train" else None),
        class_ids=np.random.default_rng(structure).permutation(classes),
        ranks=popularity_quantiles(cols, _CELLS, exponent),
        preferences=popularity_quantiles(per_class, _PREFERENCES, 0.8),
        multiplier=_U(_coprime(int(scatter) % cols, cols)),
        offset=_U(int(shift) % cols),
        tokens=float(nnz_per_row),
        lengths=_length_quantiles(),
        stored=_stored_probability(cols, nnz_per_row, exponent) if visits else np.zeros(0),
        normalise=normalise,
        counts=counts,
    )
    return recipe if visits else _calibrated(recipe, nnz_per_row)


def make_rows(recipe: Recipe, lo: int, hi: int) -> tuple[Csr, Float64Array]:
    """Rows ``lo:hi`` and their labels."""
    y = np.empty(hi - lo)
    classes = np.empty(hi - lo, np.int64)
    draw_classes(recipe, lo, y, classes)
    indptr = np.zeros(hi - lo + 1, np.int64)
    if len(recipe.stored):
        capacity = int((hi - lo) * min(recipe.n_cols, recipe.stored.sum() + 8 * np.sqrt(recipe.n_cols) + 64))
        kernel = visit_columns
    else:
        capacity = count_tokens(recipe, lo, hi)
        kernel = draw_tokens
    indices, data = np.empty(capacity, np.int32), np.empty(capacity, np.float32)
    nnz = kernel(recipe, lo, classes, indptr, indices, data)
    return Csr(indptr, indices[:nnz].copy(), data[:nnz].copy()), y


def class_shares(classes: int, rows: int | None) -> Float64Array:
    """Upper ends of power-law class shares; with ``rows`` >= classes each share is at least one row."""
    sizes = (np.arange(classes) + OFFSET) ** -CLASS_EXPONENT
    sizes /= sizes.sum()
    if rows is not None and rows >= classes and sizes[-1] * rows < 1:
        even = (1 - rows * sizes[-1]) / (rows / classes - rows * sizes[-1]) if rows > classes else 1.0
        sizes = (1 - even) * sizes + even / classes
    cdf: Float64Array = np.cumsum(sizes)
    cdf /= cdf[-1]
    return cdf


def popularity_quantiles(n: int, cells: int, exponent: float) -> Float64Array:
    """Ranks in [0, n] at quantiles 0, 1/cells, ..., 1 of the density (rank + OFFSET) ** -exponent."""
    u = np.linspace(0.0, 1.0, cells + 1)
    lo, hi = OFFSET, n + OFFSET
    if abs(exponent - 1) < 1e-9:
        return np.asarray(lo * (hi / lo) ** u - OFFSET)
    power = 1 - exponent
    return np.asarray((lo**power + u * (hi**power - lo**power)) ** (1 / power) - OFFSET)


def _length_quantiles() -> Float64Array:
    u = (np.arange(_LENGTHS) + 0.5) / _LENGTHS
    lengths = np.minimum(np.exp(LENGTH_SIGMA * ndtri(u)), 5.0)
    return np.asarray(lengths / lengths.mean())


def _stored_probability(cols: int, nnz_per_row: float, exponent: float) -> Float64Array:
    """min(1, c popularity) with the c that makes the sum ``nnz_per_row``, by rank."""
    if nnz_per_row >= cols:
        return np.ones(cols)
    popularity = (np.arange(cols) + OFFSET) ** -exponent
    lo, hi = 0.0, 1 / popularity[-1]
    for _ in range(100):
        c = (lo + hi) / 2
        lo, hi = (c, hi) if np.minimum(1, c * popularity).sum() < nnz_per_row else (lo, c)
    return np.asarray(np.minimum(1, hi * popularity))


def _calibrated(recipe: Recipe, nnz_per_row: float) -> Recipe:
    """Find how many tokens leave ``nnz_per_row`` distinct features, by trial on pilot rows."""
    pilot = recipe._replace(n_rows=max(200, min(4000, int(400_000 / nnz_per_row))))
    lo, hi = nnz_per_row / 2, nnz_per_row * 2
    while _mean_nnz(pilot._replace(tokens=hi)) < nnz_per_row and hi < 64 * nnz_per_row:
        lo, hi = hi, hi * 2
    for _ in range(8):
        tokens = (lo + hi) / 2
        lo, hi = (tokens, hi) if _mean_nnz(pilot._replace(tokens=tokens)) < nnz_per_row else (lo, tokens)
    return recipe._replace(tokens=(lo + hi) / 2)


def _mean_nnz(pilot: Recipe) -> float:
    X, _ = make_rows(pilot, 0, pilot.n_rows)
    return float(X.indptr[-1]) / pilot.n_rows


def _coprime(start: int, n: int) -> int:
    """The first number from ``start`` on that shares no factor with ``n``, away from the trivial 0 and 1."""
    found = max(start, min(n // 3, 2))
    while gcd(found, n) != 1:
        found += 1
    return found


# --- kernels: i=row, k=class, c=column, t=token, b=bucket, e=stored entry, z=64 random bits


@jit
def mix(z):
    z = (z ^ (z >> _U(30))) * _MIX1
    z = (z ^ (z >> _U(27))) * _MIX2
    return z ^ (z >> _U(31))


@jit
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
    share of rows to within one. The first row of each class keeps its label: none goes missing.
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
            if place > 0 and before == k:
                other = np.int64(mix(z) >> _U(11)) * _TO_UNIT
                y[i] = recipe.class_ids[min(np.searchsorted(recipe.class_cdf, other), n_classes - 1)]


@jit
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


@jit
def row_seed(stream, i):
    return mix(stream + mix(_U(i) + _GOLDEN))


@jit
def row_tokens(state, tokens, lengths):
    """Tokens of a row: its length, rounded up or down at random, at least 1."""
    z = mix(state)
    length = tokens * lengths[np.int64(z & _U(_LENGTHS - 1))]
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
    signal = _U(SIGNAL * 65536)
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


@jit
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


@jit
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


@jit
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
