"""Rows of a stand-in for classification: power-law features in which the classes have left their marks.

Model of a row (a bag of tokens, as of a text): its class is drawn from power-law class sizes; its length from a
log-normal; each token comes with probability ``SIGNAL`` from the features its class prefers, else from a
Zipf-Mandelbrot popularity over all columns. A feature's value is 1 + ln(count), rows are scaled to unit length.
Where more than a fifth of all entries is stored, a row is instead a visit to every column: stored with a
probability that follows the same popularity, with a value around its class's mean.

Everything about row i follows from (seed, split, i) and everything about class k from (seed, k), so rows can be
made in any order, by any number of workers, in memory that depends on neither rows nor columns times classes.
No method costs O(columns) per row: popularity is sampled by its inverse distribution function, tabulated.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from oocml.kernels.planted_rows import (
    CELLS,
    LENGTHS,
    PREFERENCES,
    count_tokens,
    draw_classes,
    draw_tokens,
    visit_columns,
)
from oocml.types import Csr, Float64Array, Panel

if TYPE_CHECKING:
    from oocml.data.synth import Shape

SIGNAL = 0.15
"""Share of tokens that come from the class's own features."""
EXPONENT, OFFSET = 1.05, 2.7
"""Popularity of the feature of rank r is proportional to (r + OFFSET) ** -EXPONENT."""
CLASS_EXPONENT = 0.7
LENGTH_SIGMA = 0.5
VISIT_DENSITY = 0.2
"""From this share of stored entries on, rows visit every column."""


class Recipe(NamedTuple):
    """All that a row depends on besides its number; small, whatever the size of the data (numba takes it)."""

    n_rows: int
    n_cols: int
    keep_first: bool
    """Whether the first row of each class keeps its label, so that none goes missing: in the training split."""
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
    signal: float
    """Share of tokens that come from these."""
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


class Seeds(NamedTuple):
    """What follows from seed and split: see `Recipe`."""

    stream: np.uint64
    structure: np.uint64
    multiplier: np.uint64
    offset: np.uint64


def split_seeds(seed: int, split: str, cols: int) -> Seeds:
    """Streams of random bits, and where the features of each rank are."""
    streams = np.random.SeedSequence([seed, 0 if split == "train" else 1]).generate_state(1, np.uint64)
    structure, scatter, shift = np.random.SeedSequence(seed).generate_state(3, np.uint64)
    multiplier = np.uint64(_coprime(int(scatter) % cols, cols))
    return Seeds(streams[0], structure, multiplier, np.uint64(int(shift) % cols))


def make_recipe(
    shape: tuple[int, int, int],
    nnz_per_row: float,
    *,
    seed: int,
    split: str,
    exponent: float = EXPONENT,
    normalise: bool = True,
    counts: bool = False,
    signal: float = SIGNAL,
) -> Recipe:
    """Work out the recipe for (rows, columns, classes), including how many tokens make ``nnz_per_row``."""
    rows, cols, classes = shape
    seeds = split_seeds(seed, split, cols)
    per_class = min(cols, max(32, min(256, 4 * cols // classes)))
    visits = nnz_per_row >= VISIT_DENSITY * cols
    recipe = Recipe(
        n_rows=rows,
        n_cols=cols,
        keep_first=split == "train",
        stream=seeds.stream,
        structure=seeds.structure,
        class_cdf=class_shares(classes, rows if split == "train" else None),
        class_ids=np.random.default_rng(seeds.structure).permutation(classes),
        ranks=popularity_quantiles(cols, CELLS, exponent),
        preferences=popularity_quantiles(per_class, PREFERENCES, 0.8),
        signal=signal,
        multiplier=seeds.multiplier,
        offset=seeds.offset,
        tokens=float(nnz_per_row),
        lengths=length_quantiles(),
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


def length_quantiles() -> Float64Array:
    """Shape (LENGTHS,): lengths of rows at evenly spaced quantiles, of mean 1."""
    u = (np.arange(LENGTHS) + 0.5) / LENGTHS
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

    def mean_nnz(tokens: float) -> float:
        X, _ = make_rows(pilot._replace(tokens=tokens), 0, pilot.n_rows)
        return float(X.indptr[-1]) / pilot.n_rows

    return recipe._replace(tokens=find_tokens(mean_nnz, nnz_per_row))


def find_tokens(mean_nnz: Callable[[float], float], nnz_per_row: float) -> float:
    """The mean number of tokens with which rows have ``nnz_per_row`` distinct features on average."""
    lo, hi = nnz_per_row / 2, nnz_per_row * 2
    while mean_nnz(hi) < nnz_per_row and hi < 64 * nnz_per_row:
        lo, hi = hi, hi * 2
    for _ in range(8):
        tokens = (lo + hi) / 2
        lo, hi = (tokens, hi) if mean_nnz(tokens) < nnz_per_row else (lo, tokens)
    return (lo + hi) / 2


def _coprime(start: int, n: int) -> int:
    """The first number from ``start`` on that shares no factor with ``n``, away from the trivial 0 and 1."""
    found = max(start, min(n // 3, 2))
    while gcd(found, n) != 1:
        found += 1
    return found


class PlantedClasses:
    """Rows for classification."""

    label_kind = "number"

    def __init__(self, shape: Shape, seed: int, split: str) -> None:
        self.n_classes: int | None = shape.classes
        self._recipe = make_recipe(
            (shape.rows, shape.cols, shape.classes),
            shape.nnz_per_row,
            seed=seed,
            split=split,
            exponent=shape.exponent,
            normalise=shape.normalise,
            counts=shape.values == "counts",
        )

    def __call__(self, lo: int, hi: int) -> Panel:
        X, y = make_rows(self._recipe, lo, hi)
        return Panel(X, y, np.arange(lo, hi))

    def labels(self) -> Any:
        return np.arange(self.n_classes, dtype=np.float64)
