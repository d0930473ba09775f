"""Small tiles of word counts."""

import numpy as np

from oocml.types import Csr
from tests.models.tiled import csr


def counts(n_documents=12, n_words=9, density=0.6, seed=0) -> Csr:
    """Documents x words; the third document is empty, some counts are large."""
    rng = np.random.default_rng(seed)
    N = (rng.random((n_documents, n_words)) < density) * (1 + rng.poisson(1.5, (n_documents, n_words)))
    N[2] = 0
    return csr(N.astype(np.float32))


def rows_of(tile: Csr) -> np.ndarray:
    """Document of each entry."""
    return np.repeat(np.arange(len(tile.indptr) - 1), np.diff(tile.indptr))
