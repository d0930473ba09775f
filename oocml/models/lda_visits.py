"""Visits of latent Dirichlet allocation: what its passes do to blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import digamma

from oocml.kernels.digamma import sum_digamma
from oocml.kernels.lda import lda_recount, lda_start, lda_visit
from oocml.kernels.lda_batch import Sums, Weights, lda_batch, lda_batch_cvb0, lda_draw_words
from oocml.kernels.lda_fold_in import lda_fold_in
from oocml.kernels.lda_support import lda_outside, lda_recount_support, lda_truncate, lda_visit_support
from oocml.kernels.topk import merge_topk
from oocml.models.lda_bound import in_use, slices
from oocml.models.lda_settings import stores_z
from oocml.models.protocol import Array, Parts, Problem, Visit, derive_seed
from oocml.types import Bounds, Csr, Int64Array

TOP_WORDS = 10
"""Words by which a topic is known."""
WORD_SEED = 3
SHAPES = {True: 100, False: 10}
"""Of the gamma distribution that topics are drawn from, for variational inference (Hoffman's) and for CVB0."""


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
    return np.arange(*bounds, dtype=np.int32) if ids is None else ids[bounds.lo : bounds.hi]


def initial_topic_word(problem: Problem, bounds: Bounds) -> Array:
    """eta; or random numbers where no responsibilities begin. Words without entries are 0: no part of the model."""
    settings, nnz = problem.settings, problem.feature_nnz[bounds.lo : bounds.hi]
    n_topics, eta = int(settings["n_topics"]), float(settings["eta"])
    if stores_z(settings):
        column = np.where(nnz > 0, eta, 0).astype(np.float32)
        return np.broadcast_to(column[:, None], (bounds.size, n_topics))
    is_baseline = settings["inference"] in ("vi", "svi")
    mean = np.where(nnz > 0, 1.0 if is_baseline else nnz / n_topics + eta, 0)
    drawn = np.empty((bounds.size, n_topics), np.float32)
    seed = np.uint64(derive_seed(problem.seed, WORD_SEED))
    lda_draw_words(word_numbers(problem, bounds), seed, np.float32(SHAPES[is_baseline]), drawn)
    drawn *= mean[:, None].astype(np.float32)
    return drawn


def start(v: Visit) -> Parts:
    seed = np.uint64(v.params["seed"])
    z, gamma, topic_word = kept(v.cell["z"]), v.row["gamma"], v.col["topic_word"]
    tokens, n_bad = lda_start(v.data.X, v.data.number, v.col["word"], seed, z, gamma, topic_word)
    return {"tokens": tokens, "bad": n_bad, "row_blocks": v.q == 0}


def count(v: Visit) -> Parts:
    n = v.data.X.data
    n_bad = np.count_nonzero(~((n >= 0) & (n < np.inf)))
    return {"tokens": n.sum(dtype=np.float64), "bad": n_bad, "row_blocks": v.q == 0}


def visit(v: Visit) -> Parts:
    totals, before = v.shared["totals"], v.shared["totals"].copy()
    exact, blocks = v.params["kind"] == "esvi", (v.row["gamma"], v.col["topic_word"], totals)
    if "z" in v.cell:
        log_sum = lda_visit(v.data.X, kept(v.cell["z"]), *blocks, exact)
    else:
        index, value = v.cell["z_index"], kept(v.cell["z_value"])
        log_sum = lda_visit_support(v.data.X, index, value, *blocks, exact)
    return {"log_sum": log_sum, "totals": totals - before}


def outside(v: Visit) -> Parts:
    size, every = int(v.params["size"]), int(v.params["every"])
    left_out, tokens = lda_outside(v.data.X, kept(v.cell["z"]), size, every)
    return {"outside": left_out, "tokens": tokens}


def truncate(v: Visit) -> Parts:
    index, value = v.cell["z_index"], kept(v.cell["z_value"])
    outside = lda_truncate(v.data.X, kept(v.cell["z"]), index, value, v.row["gamma"], v.col["topic_word"])
    return {"outside": outside}


def recount(v: Visit) -> Parts:
    """Gamma and lambda as the sums of what is kept, without what rounding did to them."""
    blocks = v.row["gamma"], v.col["topic_word"]
    if "z" in v.cell:
        return {"entropy": lda_recount(v.data.X, kept(v.cell["z"]), *blocks)}
    return {"entropy": lda_recount_support(v.data.X, v.cell["z_index"], kept(v.cell["z_value"]), *blocks)}


def batch(v: Visit) -> Parts:
    """Add up responsibilities of a tile; the names of what is read and written are in the parameters."""
    n_topics, params = len(v.shared["totals"]), v.params
    nothing = np.zeros((0, n_topics), np.float32)
    counts = nothing if params["fresh"] else v.row[params["counts"]]
    sums = Sums(v.row.get(params["into"], nothing), v.col.get("word_counts", nothing))
    alpha, topic_word, totals = np.float32(params["alpha"]), v.col["topic_word"], v.shared["totals"]
    if params["kind"] == "cvb0":
        log_sum = lda_batch_cvb0(v.data.X, counts, topic_word, totals, alpha, sums)
    else:
        weights = Weights(v.scratch["weights"], v.scratch["shift"])
        log_sum = lda_batch(v.data.X, counts, topic_word, totals, alpha, weights, sums)
    return {"log_sum": log_sum, "tokens": v.data.X.data.sum(dtype=np.float64)}


def infer(v: Visit) -> Parts:
    """One iteration of documents; all of them at once where the tile has whole documents."""
    params = v.params
    if v.cols.size == params["n_features"]:
        gamma, alpha = v.row[params["into"]], np.float32(params["alpha"])
        totals = v.shared["totals"].astype(np.float32)
        log_sum = lda_fold_in(v.data.X, v.col["topic_word"], totals, alpha, int(params["inner"]), gamma)
        gamma -= alpha
        return {"log_sum": log_sum, "whole": 1.0}
    return {**batch(v), "whole": 0.0}


def changes(v: Visit) -> Parts:
    """How far documents moved, summed over topics."""
    one, other = (v.row[name] for name in ("counts", "counts_next"))
    return {"change": sum(float(np.abs(one[r] - other[r]).sum(dtype=np.float64)) for r in slices(*one.shape))}


def step(v: Visit) -> Parts:
    """Move topics to what the responsibilities of a batch say; also Lambda, summed exactly."""
    topic_word, found, rho = v.col["topic_word"], v.col["word_counts"], np.float32(v.params["rho"])
    scale, eta = np.float32(v.params["scale"]), np.float32(v.params["eta"])
    sums = np.zeros(topic_word.shape[1])
    for words in slices(*topic_word.shape):
        wanted = (eta + scale * found[words]) * in_use(topic_word[words])[:, None]
        topic_word[words] += rho * (wanted - topic_word[words])
        sums += topic_word[words].sum(axis=0, dtype=np.float64)
    return {"totals": sums}


def document_priors(v: Visit) -> Parts:
    """Terms of the fixed point for alpha (Minka 2000): numerator, and denominator over K."""
    gamma, alpha = v.row["gamma"], float(v.params["alpha"])
    whole = gamma.sum(axis=1, dtype=np.float64)
    weight = float((digamma(whole) - digamma(gamma.shape[1] * alpha)).sum())
    return {"numerator": sum_digamma(gamma, digamma(alpha)), "denominator": weight}


def word_priors(v: Visit) -> Parts:
    return {"numerator": sum_digamma(v.col["topic_word"], digamma(v.params["eta"]))}


def shift_documents(v: Visit) -> None:
    v.row["gamma"] += np.float32(v.params["by"])


def shift_words(v: Visit) -> Parts:
    topic_word, sums = v.col["topic_word"], np.zeros(v.col["topic_word"].shape[1])
    for words in slices(*topic_word.shape):
        topic_word[words] += np.float32(v.params["by"]) * in_use(topic_word[words])[:, None]
        sums += topic_word[words].sum(axis=0, dtype=np.float64)
    return {"totals": sums}


def keep_priors(v: Visit) -> None:
    v.shared["priors"][:] = v.params["priors"]


def top_words(v: Visit) -> None:
    """Take a column block into the rankings of the topics' words."""
    ranked = v.shared["top_words"], v.shared["top_weights"]
    rank_words(v.col["topic_word"], v.col["word"], v.shared["totals"], *ranked)


def rank_words(topic_word: Array, word: Array, totals: Array, top_words: Array, top_weights: Array) -> None:
    """Take words into rankings of the topics' words, shape (K, `TOP_WORDS`); of equal ones the first."""
    n_topics = len(totals)
    places = np.full((n_topics, TOP_WORDS), -1, np.int64)
    weights = np.zeros((n_topics, TOP_WORDS), np.float32)
    for words in slices(*topic_word.shape):
        merge_topk(places, weights, np.ascontiguousarray(topic_word[words].T), words.start)
    found = np.where(places >= 0, word[np.maximum(places, 0)], -1)
    shares = np.where(places >= 0, weights / totals[:, None], -1)
    ids = np.concatenate([top_words, found], axis=1)
    both = np.concatenate([top_weights, shares.astype(np.float32)], axis=1)
    order = np.lexsort((ids, -both), axis=1)[:, :TOP_WORDS]
    top_words[...] = np.take_along_axis(ids, order, axis=1)
    top_weights[...] = np.take_along_axis(both, order, axis=1)


VISITS: tuple[Callable[[Visit], Parts | None], ...] = (
    start,
    count,
    visit,
    outside,
    truncate,
    recount,
    batch,
    infer,
    changes,
    step,
    document_priors,
    word_priors,
    shift_documents,
    shift_words,
    keep_priors,
    top_words,
)
"""Kernels go by these functions' names."""
