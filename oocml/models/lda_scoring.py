"""Evaluating and predicting with latent Dirichlet allocation: words stream by, each batch keeps those it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from oocml.errors import InputError
from oocml.kernels.digamma import sum_divergence
from oocml.kernels.lda_fold_in import count_pairs, lda_fold_in, lda_halve, lda_log_likelihood
from oocml.metrics import coherence
from oocml.models.lda_bound import free_document_terms, in_use, slices, total_divergence
from oocml.models.lda_visits import TOP_WORDS, Documents, rank_words
from oocml.models.protocol import Array, Problem, derive_seed
from oocml.types import Bounds, Csr, Float32Array, Float64Array, Int32Array, Int64Array

SPLIT_SEED = 2
STEPS = 100
"""Most steps of the fixed points."""
MOST_COHERENT = 4096
"""Topics whose top words are counted in pairs: 800 bytes each, for every batch on its way."""
ROWS_AT_ONCE = 2**20
"""Numbers of gamma that are in memory at a time, in rows."""


class Words(NamedTuple):
    """A batch's entries in one column block."""

    row: Int32Array
    """Within the batch."""
    place: Int64Array
    """In the batch's gathered words."""
    number: Int32Array
    """Column of the dataset."""
    count: Float32Array


class Gathered(NamedTuple):
    """What is kept of a batch of documents."""

    totals: Float32Array
    alpha: float
    eta: float
    training_tokens: float
    words: list[Words]
    """One for each column block so far."""
    topic_word: list[Float32Array]
    """Their words' rows, those that occur."""


class Counted(NamedTuple):
    tokens: float
    bound: float
    """The documents' share of the evidence lower bound."""
    held_out: float
    """Tokens of second halves."""
    log_likelihood: float
    """Of second halves."""
    pairs: coherence.Cooccurrence
    divergence: float
    training_tokens: float


class LdaScoring:
    """See `oocml.models.protocol.Scoring`.

    Metrics, words being tokens whose word the training had:

    - ``heldout_log_likelihood_per_word`` by document completion: every token of a document goes to one of two halves
      by a random bit; topics are inferred from the first half, and the mean log likelihood of the second is taken
      under the posterior means of both. ``perplexity`` is the exponential of its negative.
    - ``elbo_per_word``: the evidence lower bound at the topics of the training, the documents inferred anew, the
      divergence of topics from their prior counted as in training. ``objective`` is its negative.
    - ``coherence_npmi`` of topics' top words, by the documents that have them (`metrics.coherence`); of very many
      topics, some evenly spaced ones have to do.
    """

    metric_names = (
        "heldout_log_likelihood_per_word",
        "perplexity",
        "elbo_per_word",
        "coherence_npmi",
        "objective",
    )

    seen = False
    per_entry = False
    reads = ("topic_word", "word", "totals", "priors")
    entry_bytes = 80
    """Kept of an entry with its document, word and halves, and while these are put in order."""

    def __init__(self, problem: Problem, top: int) -> None:
        self.n_topics, self.n_words = int(problem.settings["n_topics"]), problem.n_used_features
        self.seed = derive_seed(problem.seed, SPLIT_SEED)
        self.top = min(top, self.n_topics)
        self.column_bytes = 8 * self.n_topics
        """Of a batch, for each column that it has: its row of topic_word, and once more as the rows are joined."""
        self.divergences: dict[int, float] = {}
        """Of topics from their prior, by the first word of the block."""
        self.step = -(-self.n_topics // MOST_COHERENT)
        shape = len(range(0, self.n_topics, self.step)), TOP_WORDS
        self.ranked = np.full(shape, -1, np.int64), np.full(shape, -1, np.float32)
        """Top words of every so manieth topic among the blocks so far, and their probabilities."""

    def begin(self, data: Documents, n_rows: int, state: Mapping[str, Array]) -> Gathered:
        # a run that has no epoch yet is scored to see whether it can be
        alpha, eta, tokens = map(float, state["priors"])
        totals = np.maximum(state["totals"], eta * max(1, self.n_words)).astype(np.float32)
        return Gathered(totals, alpha, eta, tokens, [], [])

    def visit(
        self,
        accumulator: Gathered,
        data: Documents,
        cols: Bounds,
        col: Mapping[str, Array],
        seen: Csr | None = None,
    ) -> None:
        topic_word, X = np.ascontiguousarray(col["topic_word"], np.float32), data.X
        if cols.lo not in self.divergences:
            self.divergences[cols.lo] = sum_divergence(topic_word, accumulator.eta)
            if accumulator.training_tokens:  # else no word is more probable than another
                some = topic_word[:, :: self.step], col["word"], accumulator.totals[:: self.step]
                rank_words(*some, *self.ranked)
        wrong = np.count_nonzero(~(X.data >= 0) | np.isinf(X.data))
        if wrong:
            raise InputError(
                f"{wrong} counts of a batch are negative or not finite; lda scores counts of words"
            )
        rows = np.repeat(np.arange(len(X.indptr) - 1, dtype=np.int32), np.diff(X.indptr))
        known = in_use(topic_word)[X.indices] & (X.data > 0)
        row, index, count = rows[known], X.indices[known], X.data[known]
        words, place = np.unique(index, return_inverse=True)
        n_before = sum(map(len, accumulator.topic_word))
        numbers = col["word"][index]
        accumulator.words.append(Words(row, place + n_before, numbers, count))
        accumulator.topic_word.append(topic_word[words])

    def metrics(self, accumulator: Gathered, data: Documents) -> Counted:
        documents, numbers = self._documents(accumulator, data)
        broken = np.count_nonzero(documents.data != np.floor(documents.data))
        if broken:
            raise InputError(
                f"{broken} counts of a batch are no whole numbers, and held-out likelihood takes documents apart into "
                "words; ingest counts, without --transform"
            )
        observed = np.empty(len(numbers), np.float32)
        lda_halve(data.number, documents.indptr, numbers, documents.data, np.uint64(self.seed), observed)
        topic_word = self._topic_word(accumulator)
        tokens, bound, log_likelihood = float(documents.data.sum(dtype=np.float64)), 0.0, 0.0
        for rows in slices(len(data.number), self.n_topics, ROWS_AT_ONCE):
            whole = rows_of(documents, rows, documents.data)
            gamma, log_sum = self._infer(whole, topic_word, accumulator)
            bound += log_sum + free_document_terms(gamma, tokens_of(whole), accumulator.alpha)
            gamma, _ = self._infer(rows_of(documents, rows, observed), topic_word, accumulator)
            rest = rows_of(documents, rows, documents.data - observed)
            log_likelihood += lda_log_likelihood(rest, topic_word, accumulator.totals, gamma)
        return Counted(
            tokens,
            bound,
            tokens - float(observed.sum(dtype=np.float64)),
            log_likelihood,
            self._pairs(documents, numbers),
            total_divergence(accumulator.totals, accumulator.eta, self.n_words)
            + sum(self.divergences.values()),
            accumulator.training_tokens,
        )

    def merge(self, a: Counted, b: Counted) -> Counted:
        sums = (x + y for x, y in zip(a[:4], b[:4], strict=True))
        return Counted(*sums, coherence.merge(a.pairs, b.pairs), a.divergence, a.training_tokens)

    def scores(self, total: Counted) -> dict[str, float]:
        """See the class; NaN where there is nothing to score."""
        nan = float("nan")
        mean = total.log_likelihood / total.held_out if total.held_out else nan
        elbo = total.bound / total.tokens if total.tokens else nan
        elbo -= total.divergence / max(1.0, total.training_tokens)
        return {
            "heldout_log_likelihood_per_word": mean,
            "perplexity": float(np.exp(-mean)),
            "elbo_per_word": elbo,
            "coherence_npmi": coherence.mean_npmi(total.pairs),
            "objective": -elbo,
        }

    def predictions(self, accumulator: Gathered, data: Documents) -> dict[str, Array]:
        """``proportions`` of all topics, or with ``top`` of the largest ones, whose numbers are ``topics``."""
        documents, _ = self._documents(accumulator, data)
        topic_word, n_rows = self._topic_word(accumulator), len(data.number)
        proportions = np.empty((n_rows, self.top or self.n_topics), np.float32)
        topics = np.empty((n_rows, self.top), np.int32)
        for rows in slices(n_rows, self.n_topics, ROWS_AT_ONCE):
            gamma, _ = self._infer(rows_of(documents, rows, documents.data), topic_word, accumulator)
            theta = gamma / gamma.sum(axis=1, keepdims=True)
            if self.top:
                topics[rows] = np.argsort(-theta, axis=1, kind="stable")[:, : self.top]
                theta = np.take_along_axis(theta, topics[rows], axis=1)
            proportions[rows] = theta
        return ({"topics": topics} if self.top else {}) | {"proportions": proportions}

    def _documents(self, accumulator: Gathered, data: Documents) -> tuple[Csr, Int32Array]:
        """The batch by documents with the gathered words as columns, and each entry's column of the dataset."""
        row, place, number, count = (
            np.concatenate(arrays) for arrays in zip(*accumulator.words, strict=True)
        )
        order = np.lexsort((number, row))
        indptr = np.searchsorted(row[order], np.arange(len(data.number) + 1)).astype(np.int64)
        return Csr(indptr, place[order].astype(np.int32), count[order]), number[order]

    def _topic_word(self, accumulator: Gathered) -> Float32Array:
        if len(accumulator.topic_word) > 1:
            accumulator.topic_word[:] = [np.concatenate(accumulator.topic_word)]
        return accumulator.topic_word[0]

    def _infer(self, documents: Csr, topic_word: Float32Array, kept: Gathered) -> tuple[Float32Array, float]:
        gamma = np.empty((len(documents.indptr) - 1, self.n_topics), np.float32)
        alpha = np.float32(kept.alpha)
        return gamma, lda_fold_in(documents, topic_word, kept.totals, alpha, STEPS, gamma)

    def _pairs(self, documents: Csr, numbers: Int32Array) -> coherence.Cooccurrence:
        top, n_documents = self.ranked[0], len(documents.indptr) - 1
        found = np.isin(numbers, top)
        row = np.repeat(np.arange(n_documents, dtype=np.int32), np.diff(documents.indptr))[found]
        topic, rank = np.nonzero(top >= 0)
        words, place = np.unique(top[topic, rank], return_inverse=True)
        by_word = np.argsort(place, kind="stable")
        first = np.searchsorted(place[by_word], np.arange(len(words) + 1))
        counts = np.zeros((*top.shape, top.shape[1]), np.int64)
        places = np.searchsorted(words, numbers[found])
        count_pairs(row, places, first, topic[by_word], rank[by_word], counts)
        return coherence.Cooccurrence(n_documents, np.einsum("ktt->kt", counts).copy(), counts)


def tokens_of(documents: Csr) -> Float64Array:
    """Of each document."""
    sums = np.add.reduceat(np.append(documents.data, 0), documents.indptr[:-1], dtype=np.float64)
    return np.where(np.diff(documents.indptr) > 0, sums, 0)


def rows_of(documents: Csr, rows: slice, data: Float32Array) -> Csr:
    """Some documents, with ``data`` for counts."""
    lo, hi = documents.indptr[rows.start], documents.indptr[rows.stop]
    return Csr(documents.indptr[rows.start : rows.stop + 1] - lo, documents.indices[lo:hi], data[lo:hi])
