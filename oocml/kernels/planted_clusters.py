"""Kernels that fill dense rows of planted clusters; `oocml.data.planted_clusters` says what and why."""

from __future__ import annotations

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.kernels.planted_factors import normal, spread, word_of
from oocml.kernels.planted_rows import mix

# i=row, k=cluster, c=column


@inlined
def place_of(structure, k, c, scale):
    """Mean and standard deviation of cluster ``k`` in column ``c``."""
    word = word_of(word_of(structure, k), c)
    # spread() lies within sqrt(3) of 0
    return scale * spread(word), 1.0 + 0.5 * spread(mix(word)) / np.sqrt(3.0)


@jit
def draw_values(structure, stream, scale, lo, clusters, values):
    """Fill rows with normally distributed numbers around the means of their clusters."""
    for i in range(len(clusters)):
        row = word_of(stream, lo + i)
        for c in range(values.shape[1]):
            mean, deviation = place_of(structure, clusters[i], c, scale)
            values[i, c] = mean + deviation * normal(mix(word_of(row, c)))
