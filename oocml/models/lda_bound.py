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

import numpy as np
from scipy.special import digamma, gammaln

from oocml.models.protocol import Array, Parts, Problem, Visit

NUMBERS_AT_ONCE = 2**18
"""Numbers whose log gammas are in memory at a time."""


def slices(n: int, n_topics: int, at_once: int = NUMBERS_AT_ONCE) -> list[slice]:
    """Rows of a (n, K) matrix, a few at a time."""
    some = max(1, at_once // n_topics)
    return [slice(lo, min(lo + some, n)) for lo in range(0, n, some)]


def lengths(v: Visit) -> Parts:
    """Sum over documents of their tokens times the log of the sum of gamma."""
    n_prior, total = v.params["alpha"] * v.row["gamma"].shape[1], 0.0
    for rows in slices(*v.row["gamma"].shape):
        whole = v.row["gamma"][rows].sum(axis=1, dtype=np.float64)
        total += float(np.dot(whole - n_prior, np.log(whole)))
    return {"log_lengths": total}


def document_terms(v: Visit) -> Parts:
    gamma, alpha = v.row["gamma"], float(v.params["alpha"])
    n_topics, total = gamma.shape[1], 0.0
    for rows in slices(*gamma.shape):
        some = gamma[rows].astype(np.float64)
        total += float(gammaln(some).sum() - gammaln(some.sum(axis=1)).sum())
    return {"documents": total + len(gamma) * (gammaln(n_topics * alpha) - n_topics * gammaln(alpha))}


def word_terms(v: Visit) -> Parts:
    """Also Lambda, summed exactly: as the shared array, and for the program."""
    topic_word = v.col["topic_word"]
    total, sums = 0.0, np.zeros(topic_word.shape[1])
    for words in slices(*topic_word.shape):
        some = topic_word[words].astype(np.float64)
        sums += some.sum(axis=0)
        if v.params["bound"]:
            total += float(gammaln(some[some[:, 0] > 0]).sum())
    return {"totals": sums, "sums": sums, "words": total}


def stored_bound(problem: Problem, entropy: Parts, documents: Parts, words: Parts) -> float:
    """The bound of a state that keeps responsibilities, in nats."""
    n_topics, n_words = int(problem.settings["n_topics"]), problem.n_used_features
    eta = float(problem.settings["eta"])
    topics = n_topics * (gammaln(n_words * eta) - n_words * gammaln(eta)) - gammaln(words["sums"]).sum()
    return float(entropy["entropy"] + documents["documents"] + words["words"] + topics)


def topic_divergence(topic_word: Array, eta: float) -> float:
    """Share of some words in the divergence of topics from their prior, sum_k KL; see `total_divergence`."""
    total = 0.0
    for words in slices(*topic_word.shape):
        some = topic_word[words].astype(np.float64)
        some = some[some[:, 0] > 0]
        total += float(((some - eta) * digamma(some) - gammaln(some)).sum())
    return total


def total_divergence(totals: Array, eta: float, n_words: int) -> float:
    """What that divergence has beside: log G(Lambda) - (Lambda - V eta) psi(Lambda) - log G(V eta) + V log G(eta)."""
    big, whole = totals.astype(np.float64), n_words * eta
    terms = gammaln(big) - (big - whole) * digamma(big) - gammaln(whole) + n_words * gammaln(eta)
    return float(terms.sum())
