"""Stand-ins for documents: word counts of a latent Dirichlet allocation with known topics.

A document's length is log-normal. Each of its tokens takes the topic of a token before it, or with probability
``CONCENTRATION / (CONCENTRATION + tokens before)`` a new one from power-law topic sizes: the same as drawing the
document's topic proportions from a Dirichlet distribution of that concentration first (Polya's urn). With probability
`BACKGROUND` the word then comes from the Zipf-Mandelbrot popularity of `planted_classes`; else from the topic: among
every `GROUP` words of nearly the same popularity a topic uses one, its own, as often as all of them together. So words
have a power law of frequencies in every topic and in all, and topics differ in which words they use.

All of it is hashed from (seed, number): no table of topics x words is needed, and any document can be made alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oocml.data import planted_classes
from oocml.kernels.planted_rows import CELLS, count_tokens
from oocml.kernels.planted_topics import add_topics, draw_documents
from oocml.types import Csr, Float64Array, Panel

if TYPE_CHECKING:
    from oocml.data.synth import Shape

TOPICS = 64
"""Topics that are planted unless another number is asked for."""
CONCENTRATION = 2.0
"""Sum of the parameters of the Dirichlet distribution of a document's topics."""
BACKGROUND = 0.2
"""Share of tokens whose word does not depend on the topic."""
GROUP = 8
"""Words of nearly the same popularity of which a topic uses one."""


class Topics(NamedTuple):
    """All that a document depends on besides its number; small, whatever the size of the data (numba takes it)."""

    n_cols: int
    stream: np.uint64
    """Seed of the split's documents."""
    structure: np.uint64
    """Seed of the topics, which the splits share."""
    topic_cdf: Float64Array
    """Shape (topics,): upper end of each topic's share."""
    ranks: Float64Array
    """Popularity rank at evenly spaced quantiles."""
    multiplier: np.uint64
    offset: np.uint64
    """Column of rank r is (multiplier r + offset) mod n_cols."""
    tokens: float
    """Mean tokens per document."""
    lengths: Float64Array
    """Quantiles of (length / mean length)."""
    concentration: float = CONCENTRATION
    background: float = BACKGROUND
    group: int = GROUP


def make_topics(
    shape: tuple[int, int], nnz_per_row: float, *, seed: int, split: str, exponent: float
) -> Topics:
    """Work out the recipe for (words, topics), including how many tokens make ``nnz_per_row`` different words."""
    n_cols, n_topics = shape
    seeds = planted_classes.split_seeds(seed, split, n_cols)
    recipe = Topics(
        n_cols=n_cols,
        **seeds._asdict(),
        topic_cdf=planted_classes.class_shares(n_topics, None),
        ranks=planted_classes.popularity_quantiles(n_cols, CELLS, exponent),
        tokens=nnz_per_row,
        lengths=planted_classes.length_quantiles(),
    )
    n_pilots = max(200, min(4000, int(400_000 / nnz_per_row)))

    def mean_nnz(tokens: float) -> float:
        X = make_documents(recipe._replace(tokens=tokens), 0, n_pilots)
        return float(X.indptr[-1]) / n_pilots

    return recipe._replace(tokens=planted_classes.find_tokens(mean_nnz, nnz_per_row))


def make_documents(recipe: Topics, lo: int, hi: int) -> Csr:
    """Documents ``lo:hi``."""
    indptr = np.zeros(hi - lo + 1, np.int64)
    capacity = count_tokens(recipe, lo, hi)
    indices, data = np.empty(capacity, np.int32), np.empty(capacity, np.float32)
    nnz = draw_documents(recipe, lo, indptr, indices, data)
    return Csr(indptr, indices[:nnz].copy(), data[:nnz].copy())


def word_probabilities(recipe: Topics) -> Float64Array:
    """The planted topics: shape (topics, words), rows of sum 1. For small numbers of both."""
    cells = np.linspace(0.0, 1.0, len(recipe.ranks))
    mass = np.diff(np.interp(np.arange(recipe.n_cols + 1), recipe.ranks, cells))
    phi = np.zeros((len(recipe.topic_cdf), recipe.n_cols))
    add_topics(recipe, mass, phi)
    return phi


class PlantedTopics:
    """Documents, for `oocml.data.synth`."""

    label_kind = "none"
    n_classes: int | None = None

    def __init__(self, shape: Shape, seed: int, split: str) -> None:
        size = shape.cols, shape.classes
        self._recipe = make_topics(size, shape.nnz_per_row, seed=seed, split=split, exponent=shape.exponent)

    def __call__(self, lo: int, hi: int) -> Panel:
        return Panel(make_documents(self._recipe, lo, hi), None, np.arange(lo, hi))

    def labels(self) -> Any:
        return None
