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
from typing import Any

import numpy as np

from oocml.errors import InputError
from oocml.models import lda_bound, lda_settings, lda_visits
from oocml.models.lda_scoring import LdaScoring
from oocml.models.lda_settings import kind_of
from oocml.models.lda_visits import TOP_WORDS, Documents, initial_topic_word, word_numbers
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
    derive_seed,
)
from oocml.models.top_columns import TopColumns
from oocml.types import Bounds, Panel


START_SEED = 1


class LDA:
    """Latent Dirichlet allocation."""

    name = "lda"
    epochs = 40
    col_axis = "words"
    block_cols = (1, 2**31 - 1)
    tiles = True
    summary_reads = ("totals", "top_words", "top_weights")
    kernels: Mapping[str, Kernel] = {
        "start": Kernel(lda_visits.start),
        "visit": Kernel(lda_visits.visit),
        "entropy": Kernel(lda_visits.entropy),
        "lengths": Kernel(lda_bound.lengths),
        "document_terms": Kernel(lda_bound.document_terms),
        "word_terms": Kernel(lda_bound.word_terms),
        "top_words": Kernel(lda_visits.top_words),
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
        top = (k, TOP_WORDS)
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
            StateSpec("word", "col", ("cols",), "int32", "column of the dataset", word_numbers, export=True),
            StateSpec("priors", "shared", (2,), "float64", "alpha, eta", initial_priors, export=True),
            StateSpec(
                "top_words", "shared", top, "int64", "topics' most probable words", init=-1.0, export=True
            ),
            StateSpec("top_weights", "shared", top, f32, "their probabilities", init=-1.0, export=True),
            StateSpec("z", "cell", ("entries", k), settings["z_dtype"], "responsibilities of topics"),
        )

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Documents:
        return Documents(panel.X, panel.row_ids)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (visit_pass(problem),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return start_pass(problem), lengths_pass(problem), *bound_passes(problem), top_words_pass()

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
            yield top_words_pass()
            yield Final(-bound / tokens, extra={"elbo": bound / tokens})

    def scoring(self, problem: Problem, top: int) -> LdaScoring:
        return LdaScoring(problem, top)

    def summary(self, problem: Problem, state: Mapping[str, Array]) -> TopColumns:
        """Topics by their most probable words, and how much of all tokens each has."""
        share = state["totals"] / state["totals"].sum()
        return TopColumns("topics", share, state["top_words"], state["top_weights"])


def initial_priors(problem: Problem, bounds: Bounds) -> Array:
    del bounds
    return np.array([problem.settings["alpha"], problem.settings["eta"]])


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
    writes = ("gamma", "topic_word", "z")
    return Pass("start", "tiles", "start", reads=("word",), writes=writes, data=True, params=params)


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


def top_words_pass() -> Pass:
    reads, writes = ("topic_word", "word", "totals"), ("top_words", "top_weights")
    return Pass("top_words", "once", "top_words", reads=reads, writes=writes)
