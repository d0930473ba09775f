"""Stand-ins in which factors are planted: targets of a factorization machine, and ratings.

**Targets.** Rows are those of `planted_classes` without classes. With weights w and factors V of rank r that are
drawn per column,

    z = w0 + sum_c w_c x_c + sum_{b<c} (v_b . v_c) x_b x_c

is scaled so that linear part and pairs have the same variance and z has mean 0 and variance 1 - `NOISE_SHARE` (on
pilot rows, which all splits share). A real target is z with normal noise of variance `NOISE_SHARE`; a binary one is +1
with probability 1 / (1 + exp(-STEEPNESS z)) and else -1.

**Ratings.** User i gives item c

    MEAN + USER_BIAS b_i + ITEM_BIAS b_c + FACTORS p_i . q_c / sqrt(r) + NOISE n_ic

stars, rounded to half stars from 0.5 to 5. Items are as popular as features of `planted_classes`. Both splits have the
same users and items; every tenth rating, drawn by (user, item), belongs to the test split.

All of these are hashed from (seed, number), so that 64 M columns need no table, and any row can be made alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oocml.data import planted_classes
from oocml.data.planted_classes import Recipe
from oocml.kernels.planted_factors import add_noise, flip_coins, rate, second_order
from oocml.types import Csr, Float64Array, Panel

if TYPE_CHECKING:
    from oocml.data.synth import Shape

RANK = 8
"""Factors that are planted unless another number is asked for."""
NOISE_SHARE = 0.1
"""Of the variance of a real target."""
STEEPNESS = 4.0
PILOT_ROWS = 4000
MEAN, USER_BIAS, ITEM_BIAS, FACTORS, NOISE = 3.5, 0.35, 0.45, 0.6, 0.5
TEST_SHARE = 0.1


class Targets(NamedTuple):
    """All that the target of a row depends on besides the row."""

    rows: Recipe
    structure: np.uint64
    """Seed of weights and factors, which the splits share."""
    stream: np.uint64
    """Seed of the noise."""
    rank: int
    mean_linear: float
    mean_pairs: float
    scale_linear: float
    scale_pairs: float
    binary: bool


def make_targets(
    shape: tuple[int, int, int],
    nnz_per_row: float,
    *,
    seed: int,
    split: str,
    binary: bool,
    exponent: float,
    normalise: bool,
    counts: bool,
) -> Targets:
    """Work out everything for (rows, columns, rank)."""
    n_rows, n_cols, rank = shape
    rows = _rows(n_rows, n_cols, nnz_per_row, seed, exponent, normalise=normalise, counts=counts)
    structure, pilots = _seeds(seed, 0)
    stream, noise = _seeds(seed, 1 if split == "train" else 2)
    X, _ = planted_classes.make_rows(rows._replace(stream=pilots, n_rows=PILOT_ROWS), 0, PILOT_ROWS)
    linear, pairs = _parts(X, structure, rank)
    scale_linear, scale_pairs = _scale(linear), _scale(pairs)
    whole = np.sqrt(1 - NOISE_SHARE) * _scale(scale_linear * linear + scale_pairs * pairs)
    return Targets(
        rows=rows._replace(stream=stream),
        structure=structure,
        stream=noise,
        rank=rank,
        mean_linear=float(linear.mean()),
        mean_pairs=float(pairs.mean()),
        scale_linear=scale_linear * whole,
        scale_pairs=scale_pairs * whole,
        binary=binary,
    )


def make_target_rows(recipe: Targets, lo: int, hi: int) -> tuple[Csr, Float64Array]:
    """Rows ``lo:hi`` and their targets."""
    X, _ = planted_classes.make_rows(recipe.rows, lo, hi)
    y = true_scores(recipe, X)
    if recipe.binary:
        flip_coins(recipe.stream, lo, STEEPNESS, y)
    else:
        add_noise(recipe.stream, lo, np.sqrt(NOISE_SHARE), y)
    return X, y


def true_scores(recipe: Targets, X: Csr) -> Float64Array:
    """The planted function of rows: the best prediction there is."""
    linear, pairs = _parts(X, recipe.structure, recipe.rank)
    score: Float64Array = recipe.scale_linear * (linear - recipe.mean_linear)
    score += recipe.scale_pairs * (pairs - recipe.mean_pairs)
    return score


class Stars(NamedTuple):
    """How a rating follows from the numbers of its user and its item, and which split it belongs to."""

    users: np.uint64
    items: np.uint64
    rank: int
    test: bool
    test_share: float = TEST_SHARE
    mean: float = MEAN
    user_bias: float = USER_BIAS
    item_bias: float = ITEM_BIAS
    factors: float = FACTORS
    noise: float = NOISE


class Ratings(NamedTuple):
    """Which items a user rates, and how."""

    rows: Recipe
    stars: Stars


def make_ratings(
    shape: tuple[int, int, int], nnz_per_row: float, *, seed: int, split: str, exponent: float
) -> Ratings:
    """Work out everything for (users, items, rank); ``nnz_per_row`` is of the training split."""
    n_rows, n_cols, rank = shape
    rows = _rows(n_rows, n_cols, nnz_per_row / (1 - TEST_SHARE), seed, exponent)
    users, items = _seeds(seed, 3)
    return Ratings(rows, Stars(users, items, rank, test=split == "test"))


def make_rating_rows(recipe: Ratings, lo: int, hi: int) -> Csr:
    """Ratings of users ``lo:hi`` in the recipe's split."""
    X, _ = planted_classes.make_rows(recipe.rows, lo, hi)
    nnz = rate(recipe.stars, lo, X.indptr, X.indices, *X)
    return Csr(X.indptr, X.indices[:nnz].copy(), X.data[:nnz].copy())


def _rows(
    n_rows: int,
    n_cols: int,
    nnz_per_row: float,
    seed: int,
    exponent: float,
    *,
    normalise: bool = False,
    counts: bool = True,
) -> Recipe:
    """Rows without classes, as many entries each in every split."""
    return planted_classes.make_recipe(
        (n_rows, n_cols, 1),
        nnz_per_row,
        seed=seed,
        split="train",
        exponent=exponent,
        normalise=normalise,
        counts=counts,
        signal=0.0,
    )


def _parts(X: Csr, structure: np.uint64, rank: int) -> tuple[Float64Array, Float64Array]:
    linear, pairs = np.empty(len(X.indptr) - 1), np.empty(len(X.indptr) - 1)
    second_order(*X, structure, rank, linear, pairs)
    return linear, pairs


def _scale(part: Float64Array) -> float:
    """What gives a part variance 1; 0 if it does not vary (no row has a pair of columns)."""
    spread = float(part.std())
    return 1 / spread if spread > 1e-9 else 0.0


def _seeds(seed: int, purpose: int) -> tuple[np.uint64, np.uint64]:
    first, second = np.random.SeedSequence([seed, purpose, 2]).generate_state(2, np.uint64)
    return first, second


class PlantedTargets:
    """Rows for factorization machines."""

    label_kind = "number"

    def __init__(self, shape: Shape, seed: int, split: str, *, binary: bool) -> None:
        self.n_classes: int | None = 2 if binary else None
        self._recipe = make_targets(
            (shape.rows, shape.cols, shape.classes),
            shape.nnz_per_row,
            seed=seed,
            split=split,
            binary=binary,
            exponent=shape.exponent,
            normalise=shape.normalise,
            counts=shape.values == "counts",
        )

    def __call__(self, lo: int, hi: int) -> Panel:
        X, y = make_target_rows(self._recipe, lo, hi)
        return Panel(X, y, np.arange(lo, hi))

    def labels(self) -> Any:
        return np.array([-1.0, 1.0]) if self.n_classes else None


class PlantedRatings:
    """Ratings of items by users."""

    label_kind = "none"
    n_classes: int | None = None

    def __init__(self, shape: Shape, seed: int, split: str) -> None:
        size = shape.rows, shape.cols, shape.classes
        self._recipe = make_ratings(size, shape.nnz_per_row, seed=seed, split=split, exponent=shape.exponent)

    def __call__(self, lo: int, hi: int) -> Panel:
        X = make_rating_rows(self._recipe, lo, hi)
        return Panel(X, None, np.arange(lo, hi))

    def labels(self) -> Any:
        return None
