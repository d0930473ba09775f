"""Stand-ins for rows to be grouped: dense rows of a mixture of diagonal normal distributions.

Clusters have power-law sizes (those of the classes of `planted_classes`) and each row belongs to one. A cluster's mean
in a column lies evenly within sqrt(3) of 0, times a scale that makes two clusters `DISTANCE` apart on average whatever
the number of columns; its standard deviation is between 0.5 and 1.5. All of it is hashed from (seed, cluster, column).
The label of a row is its cluster, for who wants to compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oocml.data import planted_classes
from oocml.kernels.planted_clusters import draw_values, place_of
from oocml.kernels.planted_rows import draw_classes
from oocml.types import Csr, Float32Array, Float64Array, Int64Array, Panel

if TYPE_CHECKING:
    from oocml.data.synth import Shape

CLUSTERS = 16
"""Clusters that are planted unless another number is asked for."""
DISTANCE = 6.0
"""Root mean square distance of two clusters' means; standard deviations are about 1."""


class Clusters(NamedTuple):
    """All that a row depends on besides its number."""

    classes: planted_classes.Recipe
    """Which cluster each row belongs to."""
    n_cols: int
    scale: float
    """Of the means."""


def make_clusters(shape: tuple[int, int, int], *, seed: int, split: str) -> Clusters:
    """Work out everything for (rows, columns, clusters)."""
    n_rows, n_cols, n_clusters = shape
    classes = planted_classes.make_recipe((n_rows, 1, n_clusters), 1.0, seed=seed, split=split)
    return Clusters(classes, n_cols, DISTANCE / np.sqrt(2.0 * n_cols))


def make_cluster_rows(recipe: Clusters, lo: int, hi: int) -> tuple[Float32Array, Int64Array]:
    """Rows ``lo:hi``, shape (rows, columns), and the cluster of each."""
    clusters = np.empty(hi - lo, np.int64)
    draw_classes(recipe.classes, lo, np.empty(hi - lo), clusters)
    values = np.empty((hi - lo, recipe.n_cols), np.float32)
    draw_values(recipe.classes.structure, recipe.classes.stream, recipe.scale, lo, clusters, values)
    return values, clusters


def true_mixture(recipe: Clusters) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Weights (clusters,), means and standard deviations (clusters, columns) of the mixture."""
    cdf, ids = recipe.classes.class_cdf, recipe.classes.class_ids
    weights = np.zeros(len(cdf))
    weights[ids] = np.diff(np.concatenate([[0.0], cdf]))
    places = np.array(
        [
            [place_of(recipe.classes.structure, k, c, recipe.scale) for c in range(recipe.n_cols)]
            for k in range(len(cdf))
        ]
    )
    return weights, places[:, :, 0], places[:, :, 1]


class PlantedClusters:
    """Dense rows, for `oocml.data.synth`."""

    label_kind = "number"

    def __init__(self, shape: Shape, seed: int, split: str) -> None:
        self.n_classes: int | None = shape.classes
        self._recipe = make_clusters((shape.rows, shape.cols, shape.classes), seed=seed, split=split)

    def __call__(self, lo: int, hi: int) -> Panel:
        values, clusters = make_cluster_rows(self._recipe, lo, hi)
        n_cols = values.shape[1]
        no_indices = np.zeros(0, np.int32)  # of dense panels
        X = Csr(np.arange(0, values.size + 1, n_cols), no_indices, values.reshape(-1))
        return Panel(X, clusters.astype(np.float64), np.arange(lo, hi))

    def labels(self) -> Any:
        return np.arange(self.n_classes or 0, dtype=np.float64)
