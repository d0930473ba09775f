"""Latent Dirichlet allocation by extreme stochastic variational inference (ESVI), and its relatives.

Rows are documents, columns are words, entries are counts. Updates: `kernels.lda`; the bound: `lda_bound`. ESVI from a
random start freezes within an epoch (words with few tokens decide at once, and then see their own decision in gamma
and lambda), so CVB0 comes first, which counts without the token in question. Raman et al. keep the words travelling
between workers; here a tile is visited with its documents and words in memory, and Lambda is merged after every
sub-epoch.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from oocml.errors import InputError
from oocml.kernels.lda import lda_cvb0, lda_entropy, lda_esvi, lda_start
from oocml.models import lda_bound, lda_settings
from oocml.models.lda_settings import kind_of
from oocml.models.protocol import (
    Array,
    Epoch,
    Epochs,
    Final,
    Kernel,
    Parts,
    Pass,
    Problem,
    Program,
    Settings,
    StateSpec,
    Visit,
    derive_seed,
)
from oocml.types import Bounds, Csr, Int64Array, Panel

START_SEED = 1


class Documents(NamedTuple):
    """Entries of some documents in some words."""

    X: Csr
    number: Int64Array
    """Of each document in the dataset, or its source when it is scored."""


def kept(array: Array) -> Array:
    """Responsibilities as kernels take them: float16 by its bits."""
    return array.view(np.uint16) if array.dtype == np.float16 else array


def initial_topic_word(problem: Problem, bounds: Bounds) -> Array:
    """eta; words without entries are no part of the model, which 0 stands for."""
    used = problem.feature_nnz[bounds.lo : bounds.hi] > 0
    eta = np.where(used, problem.settings["eta"], 0).astype(np.float32)
    return np.broadcast_to(eta[:, None], (bounds.size, int(problem.settings["n_topics"])))


def start(v: Visit) -> Parts:
    seed = np.uint64(v.params["seed"])
    z, gamma, topic_word = kept(v.cell["z"]), v.row["gamma"], v.col["topic_word"]
    tokens, n_bad = lda_start(v.data.X, v.data.number, v.cols.lo, seed, z, gamma, topic_word)
    return {"tokens": tokens, "bad": n_bad}


def visit(v: Visit) -> Parts:
    before = v.shared["totals"].copy()
    kernel = lda_cvb0 if v.params["kind"] == "cvb0" else lda_esvi
    totals = v.shared["totals"]
    log_sum = kernel(v.data.X, kept(v.cell["z"]), v.row["gamma"], v.col["topic_word"], totals)
    return {"log_sum": log_sum, "totals": totals - before}


def entropy(v: Visit) -> Parts:
    return {"entropy": lda_entropy(v.data.X, kept(v.cell["z"]))}


class LDA:
    """Latent Dirichlet allocation."""

    name = "lda"
    epochs = 40
    col_axis = "words"
    block_cols = (1, 2**31 - 1)
    tiles = True
    kernels: Mapping[str, Kernel] = {
        "start": Kernel(start),
        "visit": Kernel(visit),
        "entropy": Kernel(entropy),
        "lengths": Kernel(lda_bound.lengths),
        "document_terms": Kernel(lda_bound.document_terms),
        "word_terms": Kernel(lda_bound.word_terms),
    }

    def defaults(self) -> Settings:
        """See `lda_settings.defaults`."""
        return lda_settings.defaults()

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without entries, `UsageError` for settings without a meaning."""
        lda_settings.check(problem)

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        settings, f32 = problem.settings, "float32"
        k = int(settings["n_topics"])
        return (
            StateSpec(
                "gamma",
                "row",
                ("rows", k),
                f32,
                "Dirichlet parameters of documents",
                init=float(settings["alpha"]),
            ),
            StateSpec(
                "topic_word",
                "col",
                ("cols", k),
                f32,
                "Dirichlet parameters of topics, by word",
                initial_topic_word,
                export=True,
            ),
            StateSpec(
                "totals", "shared", (k,), "float64", "sums of topic_word over words", export=True, merge=True
            ),
            StateSpec("z", "cell", ("entries", k), settings["z_dtype"], "responsibilities of topics"),
        )

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Documents:
        return Documents(panel.X, panel.row_ids)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (visit_pass(problem),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return start_pass(problem), lengths_pass(problem), *bound_passes(problem)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """Random responsibilities; then per segment its epochs and the exact bound."""
        found = yield start_pass(problem)
        if found["bad"]:
            raise InputError(
                f"{int(found['bad'])} counts are negative or not finite; lda needs counts of words, not weights"
            )
        yield words_pass(bound=False)
        tokens = float(found["tokens"])
        log_lengths = (yield lengths_pass(problem))["log_lengths"]
        number = 0
        for n_epochs in segments:
            yield from train(problem, number, n_epochs, partial(epoch_of, tokens, float(log_lengths)))
            number += n_epochs
            bound = yield from measure(problem)
            yield Final(-bound / tokens, extra={"elbo": bound / tokens})

    def scoring(self, problem: Problem, top: int) -> Any:
        raise NotImplementedError


def epoch_of(tokens: float, log_lengths: float, number: int, parts: Parts) -> Epoch:
    return Epoch(number, (log_lengths - float(parts["log_sum"])) / tokens)


def train(problem: Problem, before: int, n_epochs: int, epoch_of: Any) -> Generator[Any, Any, None]:
    """Epochs before + 1 to before + n_epochs; neighbours of one kind need not wait for one another."""
    kinds = [kind_of(problem.settings, before + n + 1, before + n_epochs) for n in range(n_epochs)]
    first = 0
    while first < n_epochs:
        kind = kinds[first]
        n = next((n for n in range(first, n_epochs) if kinds[n] != kind), n_epochs) - first
        pass_ = replace(visit_pass(problem), params={"kind": kind})
        number = before + first + 1
        done = yield Epochs(pass_, ({},) * n, lambda m, parts, number=number: epoch_of(number + m, parts))
        if len(done) < n:
            return
        first += n


def measure(problem: Problem) -> Generator[Any, Any, float]:
    """The exact bound; Lambda is summed anew on the way."""
    results = []
    for pass_ in bound_passes(problem):
        results.append((yield pass_))
    return lda_bound.stored_bound(problem, *results)


def start_pass(problem: Problem) -> Pass:
    params = {"seed": derive_seed(problem.seed, START_SEED)}
    return Pass("start", "tiles", "start", writes=("gamma", "topic_word", "z"), data=True, params=params)


def visit_pass(problem: Problem) -> Pass:
    changed = ("gamma", "topic_word", "totals", "z")
    at_once = int(problem.settings["sub_epoch_width"])
    return Pass("visit", "tiles", "visit", reads=changed, writes=changed, data=True, at_once=at_once)


def lengths_pass(problem: Problem) -> Pass:
    return Pass("lengths", "rows", "lengths", reads=("gamma",), params={"alpha": problem.settings["alpha"]})


def words_pass(bound: bool) -> Pass:
    """Sum Lambda, exactly."""
    return Pass(
        "words", "cols", "word_terms", reads=("topic_word",), writes=("totals",), params={"bound": bound}
    )


def bound_passes(problem: Problem) -> tuple[Pass, Pass, Pass]:
    params = {"alpha": problem.settings["alpha"]}
    return (
        Pass("entropy", "tiles", "entropy", reads=("z",), data=True),
        Pass("documents", "rows", "document_terms", reads=("gamma",), params=params),
        words_pass(bound=True),
    )
