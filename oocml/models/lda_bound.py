"""The evidence lower bound of latent Dirichlet allocation, from sums that passes return.

With responsibilities z, gamma = alpha + sum n z over a document, lambda = eta + sum n z over a word and Lambda the sum
of lambda over words, the expectations cancel and what is left of the bound (Blei, Ng and Jordan 2003, with Dirichlet
topics) is

    - sum n z log z
    + sum_i [log G(K alpha) - K log G(alpha) + sum_k log G(gamma_ik) - log G(sum_k gamma_ik)]
    + sum_k [log G(V eta) - V log G(eta) + sum_j log G(lambda_jk) - log G(Lambda_k)]

G being the gamma function, V the number of words that occur.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import digamma, gammaln

from oocml.kernels.digamma import sum_divergence, sum_log_gamma
from oocml.models.protocol import Array, Parts, Visit

NUMBERS_AT_ONCE = 2**18
"""Numbers of a matrix that are taken at a time where that needs more memory."""


def slices(n: int, n_topics: int, at_once: int = NUMBERS_AT_ONCE) -> list[slice]:
    """Rows of a (n, K) matrix, a few at a time."""
    some = max(1, at_once // n_topics)
    return [slice(lo, min(lo + some, n)) for lo in range(0, n, some)]


def in_use(topic_word: Array) -> Array:
    """Which words occur: the others have nothing but zeros."""
    return np.asarray(topic_word.any(axis=1))


def lengths(v: Visit) -> Parts:
    """Sum over documents of their tokens times the log of the sum of gamma, from gamma or from counts."""
    array = v.row[v.params["array"]]
    n_prior = float(v.params["alpha"]) * array.shape[1]
    tokens = array.sum(axis=1, dtype=np.float64) - n_prior * (v.params["array"] == "gamma")
    return {"log_lengths": float(np.dot(tokens, np.log(tokens + n_prior)))}


def document_terms(v: Visit) -> Parts:
    gamma, alpha = v.row["gamma"], float(v.params["alpha"])
    total = sum_log_gamma(gamma) - gammaln(gamma.sum(axis=1, dtype=np.float64)).sum()
    return {"documents": total + len(gamma) * log_normaliser(gamma.shape[1], alpha)}


def log_normaliser(n: int, prior: float) -> float:
    """Of a symmetric Dirichlet distribution."""
    return float(gammaln(n * prior) - n * gammaln(prior))


def free_document_terms(gamma: Array, tokens: Array, alpha: float) -> float:
    """Share of documents in the bound, beside the tokens' log sums, for any gamma."""
    whole, n_topics = gamma.sum(axis=1, dtype=np.float64), gamma.shape[1]
    terms = -sum_divergence(gamma, alpha) - gammaln(whole).sum()
    terms -= ((n_topics * alpha - whole + tokens) * digamma(whole)).sum()
    return float(terms + len(gamma) * log_normaliser(n_topics, alpha))


def batch_document_terms(v: Visit) -> Parts:
    counts, alpha, total = v.row[v.params["counts"]], float(v.params["alpha"]), 0.0
    for rows in slices(*counts.shape):
        tokens = counts[rows].sum(axis=1, dtype=np.float64)
        total += free_document_terms(counts[rows] + np.float32(alpha), tokens, alpha)
    return {"documents": total}


def batch_word_terms(v: Visit) -> Parts:
    return {"words": sum_divergence(v.col["topic_word"], float(v.params["eta"]))}


def word_terms(v: Visit) -> Parts:
    """Also Lambda, summed exactly: as the shared array, and for the program."""
    topic_word = v.col["topic_word"]
    sums = topic_word.sum(axis=0, dtype=np.float64)
    total = sum_log_gamma(topic_word) if v.params["bound"] else 0.0
    return {"totals": sums, "sums": sums, "words": total}


def stored_bound(terms: float, totals: Array, eta: float, n_words: int) -> float:
    """The bound of a state that keeps responsibilities, in nats, from the sum of all terms but Lambda's."""
    return float(terms + len(totals) * log_normaliser(n_words, eta) - gammaln(totals).sum())


def total_divergence(totals: Array, eta: float, n_words: int) -> float:
    """What the divergence of topics from their prior, sum_k KL, has beside `sum_divergence` of all lambda."""
    big = totals.astype(np.float64)
    terms = gammaln(big) - (big - n_words * eta) * digamma(big) - log_normaliser(n_words, eta)
    return float(terms.sum())


VISITS: tuple[Callable[[Visit], Parts], ...] = (
    lengths,
    document_terms,
    word_terms,
    batch_document_terms,
    batch_word_terms,
)
"""Kernels go by these functions' names."""
