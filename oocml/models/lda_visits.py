"""Visits of latent Dirichlet allocation: what its passes do to blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from oocml.kernels.lda import lda_cvb0, lda_entropy, lda_esvi, lda_start
from oocml.kernels.topk import merge_topk
from oocml.models.lda_bound import slices
from oocml.models.protocol import Array, Parts, Problem, Visit
from oocml.types import Bounds, Csr, Int64Array

TOP_WORDS = 10
"""Words by which a topic is known."""


class Documents(NamedTuple):
    """Entries of some documents in some words."""

    X: Csr
    number: Int64Array
    """Of each document in the dataset, or its source when it is scored."""


def kept(array: Array) -> Array:
    """Responsibilities as kernels take them: float16 by its bits."""
    return array.view(np.uint16) if array.dtype == np.float16 else array


def word_numbers(problem: Problem, bounds: Bounds) -> Array:
    """Columns of the dataset."""
    ids = problem.feature_ids
    return np.arange(*bounds) if ids is None else ids[bounds.lo : bounds.hi]


def initial_topic_word(problem: Problem, bounds: Bounds) -> Array:
    """eta; words without entries are no part of the model, which 0 stands for."""
    used = problem.feature_nnz[bounds.lo : bounds.hi] > 0
    eta = np.where(used, problem.settings["eta"], 0).astype(np.float32)
    return np.broadcast_to(eta[:, None], (bounds.size, int(problem.settings["n_topics"])))


def start(v: Visit) -> Parts:
    seed = np.uint64(v.params["seed"])
    z, gamma, topic_word = kept(v.cell["z"]), v.row["gamma"], v.col["topic_word"]
    tokens, n_bad = lda_start(v.data.X, v.data.number, v.col["word"], seed, z, gamma, topic_word)
    return {"tokens": tokens, "bad": n_bad}


def visit(v: Visit) -> Parts:
    before = v.shared["totals"].copy()
    kernel = lda_cvb0 if v.params["kind"] == "cvb0" else lda_esvi
    totals = v.shared["totals"]
    log_sum = kernel(v.data.X, kept(v.cell["z"]), v.row["gamma"], v.col["topic_word"], totals)
    return {"log_sum": log_sum, "totals": totals - before}


def entropy(v: Visit) -> Parts:
    return {"entropy": lda_entropy(v.data.X, kept(v.cell["z"]))}


def top_words(v: Visit) -> None:
    """Take a column block into the rankings of the topics' words."""
    topic_word, totals = v.col["topic_word"], v.shared["totals"]
    n_topics = len(totals)
    places = np.full((n_topics, TOP_WORDS), -1, np.int64)
    weights = np.zeros((n_topics, TOP_WORDS), np.float32)
    for words in slices(*topic_word.shape):
        merge_topk(places, weights, np.ascontiguousarray(topic_word[words].T), words.start)
    found = np.where(places >= 0, v.col["word"][np.maximum(places, 0)], -1)
    shares = np.where(places >= 0, weights / totals[:, None], -1)
    ids = np.concatenate([v.shared["top_words"], found], axis=1)
    both = np.concatenate([v.shared["top_weights"], shares.astype(np.float32)], axis=1)
    order = np.lexsort((ids, -both), axis=1)[:, :TOP_WORDS]
    v.shared["top_words"][...] = np.take_along_axis(ids, order, axis=1)
    v.shared["top_weights"][...] = np.take_along_axis(both, order, axis=1)
