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

from oocml.models.protocol import Array, Parts, Visit
from oocml.types import Float64Array

NUMBERS_AT_ONCE = 2**18
"""Numbers whose log gammas are in memory at a time."""
LEAST = 1e-6


def slices(n: int, n_topics: int, at_once: int = NUMBERS_AT_ONCE) -> list[slice]:
    """Rows of a (n, K) matrix, a few at a time."""
    some = max(1, at_once // n_topics)
    return [slice(lo, min(lo + some, n)) for lo in range(0, n, some)]


def in_use(topic_word: Array) -> Array:
    """Which words occur: the others have nothing but zeros."""
    return np.asarray(topic_word.any(axis=1))


def used_rows(parameters: Array) -> Float64Array:
    """Rows of Dirichlet parameters that are part of the model; rounding may not take these to 0."""
    return np.maximum(parameters[in_use(parameters)].astype(np.float64), LEAST)


def lengths(v: Visit) -> Parts:
    """Sum over documents of their tokens times the log of the sum of gamma, from gamma or from counts."""
    array = v.row[v.params["array"]]
    n_prior, total = float(v.params["alpha"]) * array.shape[1], 0.0
    for rows in slices(*array.shape):
        tokens = array[rows].sum(axis=1, dtype=np.float64) - n_prior * (v.params["array"] == "gamma")
        total += float(np.dot(tokens, np.log(tokens + n_prior)))
    return {"log_lengths": total}


def document_terms(v: Visit) -> Parts:
    gamma, alpha = v.row["gamma"], float(v.params["alpha"])
    n_topics, total = gamma.shape[1], 0.0
    for rows in slices(*gamma.shape):
        some = used_rows(gamma[rows])
        total += float(gammaln(some).sum() - gammaln(some.sum(axis=1)).sum())
    return {"documents": total + len(gamma) * (gammaln(n_topics * alpha) - n_topics * gammaln(alpha))}


def free_document_terms(gamma: Array, tokens: Array, alpha: float) -> float:
    """Share of documents in the bound, beside the tokens' log sums, for any gamma."""
    g, n_topics = np.maximum(gamma.astype(np.float64), LEAST), gamma.shape[1]
    whole = g.sum(axis=1)
    expected = digamma(g) - digamma(whole)[:, None]
    terms = gammaln(g).sum() - gammaln(whole).sum() + ((alpha - g) * expected).sum()
    constant = len(g) * (gammaln(n_topics * alpha) - n_topics * gammaln(alpha))
    return float(constant + terms - tokens @ digamma(whole))


def batch_document_terms(v: Visit) -> Parts:
    counts, alpha, total = v.row[v.params["counts"]], float(v.params["alpha"]), 0.0
    for rows in slices(*counts.shape):
        tokens = counts[rows].sum(axis=1, dtype=np.float64)
        total += free_document_terms(counts[rows] + np.float32(alpha), tokens, alpha)
    return {"documents": total}


def batch_word_terms(v: Visit) -> Parts:
    return {"words": topic_divergence(v.col["topic_word"], float(v.params["eta"]))}


def word_terms(v: Visit) -> Parts:
    """Also Lambda, summed exactly: as the shared array, and for the program."""
    topic_word = v.col["topic_word"]
    total, sums = 0.0, np.zeros(topic_word.shape[1])
    for words in slices(*topic_word.shape):
        some = used_rows(topic_word[words])
        sums += some.sum(axis=0)
        if v.params["bound"]:
            total += float(gammaln(some).sum())
    return {"totals": sums, "sums": sums, "words": total}


def stored_bound(terms: float, totals: Array, eta: float, n_words: int) -> float:
    """The bound of a state that keeps responsibilities, in nats, from the sum of all terms but Lambda's."""
    constant = len(totals) * (gammaln(n_words * eta) - n_words * gammaln(eta))
    return float(terms + constant - gammaln(totals).sum())


def topic_divergence(topic_word: Array, eta: float) -> float:
    """Share of some words in the divergence of topics from their prior, sum_k KL; see `total_divergence`."""
    total = 0.0
    for words in slices(*topic_word.shape):
        some = used_rows(topic_word[words])
        total += float(((some - eta) * digamma(some) - gammaln(some)).sum())
    return total


def total_divergence(totals: Array, eta: float, n_words: int) -> float:
    """What that divergence has beside: log G(Lambda) - (Lambda - V eta) psi(Lambda) - log G(V eta) + V log G(eta)."""
    big, whole = totals.astype(np.float64), n_words * eta
    terms = gammaln(big) - (big - whole) * digamma(big) - gammaln(whole) + n_words * gammaln(eta)
    return float(terms.sum())


VISITS: tuple[Callable[[Visit], Parts], ...] = (
    lengths,
    document_terms,
    word_terms,
    batch_document_terms,
    batch_word_terms,
)
"""Kernels go by these functions' names."""
