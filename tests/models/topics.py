"""Documents with planted topics, and the evidence lower bound of latent Dirichlet allocation by definition."""

import numpy as np
from scipy.special import digamma, gammaln

from oocml.models.lda import LDA
from oocml.types import Csr
from tests.kernels.counted import rows_of
from tests.models.tiled import begin, csr


def planted(n_documents=120, n_words=60, n_topics=4, length=60, seed=0) -> Csr:
    """Documents of a few topics with words of their own; one document is empty, one word never occurs."""
    rng = np.random.default_rng(seed)
    phi = rng.dirichlet(np.full(n_words, 0.08), n_topics)
    theta = rng.dirichlet(np.full(n_topics, 0.2), n_documents)
    N = np.array([rng.multinomial(rng.poisson(length), p) for p in theta @ phi]).astype(np.float32)
    N[5], N[:, 7] = 0, 0
    return csr(N)


def training(X: Csr, n_words=60, **settings):
    return begin(LDA(), X, n_words, **({"n_topics": 4, "top_k": 0} | settings))


def cells(run, name):
    """A cell array in the order of the whole data's entries (rows of blocks, tile after tile)."""
    X = run.panel.X
    row, found = rows_of(X), {}
    for p, rows in enumerate(run.rows):
        for q, cols in enumerate(run.cols):
            inside = (row >= rows.lo) & (row < rows.hi) & (X.indices >= cols.lo) & (X.indices < cols.hi)
            found[p, q] = np.flatnonzero(inside), run.state[name, p, q]
    one = next(iter(found.values()))[1]
    whole = np.zeros((len(X.data), *one.shape[1:]), one.dtype)
    for places, block in found.values():
        whole[places] = block
    return whole


def responsibilities(run):
    """Shape (nnz, K), float64, whether entries keep all topics or a few."""
    if not any(pass_.name == "truncate" for pass_, _ in run.passes):
        return cells(run, "z").astype(np.float64)
    index, value = cells(run, "z_index"), cells(run, "z_value").astype(np.float64)
    z = np.zeros((len(index), run.problem.settings["n_topics"]))
    np.put_along_axis(z, index.astype(np.int64), value, axis=1)
    return z


def dirichlet(parameters, prior):
    """Sum over rows of E log p - E log q for symmetric priors, rows being distributions."""
    n = parameters.shape[1]
    whole = parameters.sum(axis=1)
    expected = digamma(parameters) - digamma(whole)[:, None]
    log_p = len(parameters) * (gammaln(n * prior) - n * gammaln(prior)) + ((prior - 1) * expected).sum()
    log_q = gammaln(whole).sum() - gammaln(parameters).sum() + ((parameters - 1) * expected).sum()
    return log_p - log_q


def bound(X, z, gamma, topic_word, alpha, eta):
    """In nats, of any mean-field state."""
    used = topic_word.any(axis=1)
    theta = digamma(gamma) - digamma(gamma.sum(axis=1, keepdims=True))
    phi = np.zeros_like(topic_word)
    phi[used] = digamma(topic_word[used]) - digamma(topic_word.sum(axis=0))
    log_z = np.log(np.maximum(z, 1e-300))
    tokens = X.data @ (z * (theta[rows_of(X)] + phi[X.indices] - log_z)).sum(axis=1)
    return tokens + dirichlet(gamma, alpha) + dirichlet(topic_word[used].T, eta)


def best_responsibilities(X, gamma, topic_word):
    """Those that maximise the bound, given all else."""
    log_w = digamma(gamma)[rows_of(X)] + digamma(topic_word[X.indices]) - digamma(topic_word.sum(axis=0))
    w = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    return w / w.sum(axis=1, keepdims=True)
