"""How well the top words of topics go together: normalised pointwise mutual information of pairs of words.

NPMI of words v and w, from the shares of documents that have each and both (Bouma 2009; as a measure of topics: Aletras
and Stevenson 2013): ln(p_vw / (p_v p_w)) / -ln(p_vw), which is 1 for words that only occur together, 0 for independent
ones and -1 for words that never do.

Counts are of batches of documents and add up. K = topics, T = top words per topic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from oocml.types import Float64Array, Int64Array


class Cooccurrence(NamedTuple):
    """In how many documents top words occur, alone and in pairs."""

    n_documents: int
    df: Int64Array
    """Shape (K, T)."""
    codf: Int64Array
    """Shape (K, T, T)."""


def merge(a: Cooccurrence, b: Cooccurrence) -> Cooccurrence:
    """Counts of the documents of both."""
    return Cooccurrence(a.n_documents + b.n_documents, a.df + b.df, a.codf + b.codf)


def npmi(counts: Cooccurrence) -> Float64Array:
    """Shape (K,): each topic's mean over pairs of its top words.

    Pairs with a word that no document has say nothing and are left out; a topic without pairs has NaN.
    """
    n_topics, top = counts.df.shape
    one, other = np.triu_indices(top, 1)
    both = counts.codf[:, one, other]
    known = (counts.df[:, one] > 0) & (counts.df[:, other] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.log(both / max(counts.n_documents, 1))
        apart = np.log(counts.df[:, one] / counts.n_documents) + np.log(
            counts.df[:, other] / counts.n_documents
        )
        values = (log_p - apart) / -log_p
    values = np.where(both == 0, -1.0, np.where(both == counts.n_documents, 1.0, values))
    n_pairs = known.sum(axis=1)
    totals = np.where(known, values, 0.0).sum(axis=1)
    result: Float64Array = np.full(n_topics, np.nan)
    result[n_pairs > 0] = totals[n_pairs > 0] / n_pairs[n_pairs > 0]
    return result


def mean_npmi(counts: Cooccurrence) -> float:
    """Mean of `npmi` over the topics that have one, NaN without any."""
    of_topics = npmi(counts)
    of_topics = of_topics[~np.isnan(of_topics)]
    return float(of_topics.mean()) if len(of_topics) else float("nan")
