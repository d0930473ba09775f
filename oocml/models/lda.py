"""Latent Dirichlet allocation by extreme stochastic variational inference (ESVI), and its relatives.

Rows are documents, columns are words, entries are counts. Updates: `kernels.lda`; the bound: `lda_bound`. ESVI from a
random start freezes within an epoch (words with few tokens decide at once, and then see their own decision in gamma
and lambda), so CVB0 comes first, which counts without the token in question. Raman et al. keep the words travelling
between workers; here a tile is visited with its documents and words in memory, and Lambda is merged after every
sub-epoch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from oocml.models import lda_bound, lda_passes, lda_settings, lda_visits
from oocml.models.lda_scoring import LdaScoring
from oocml.models.lda_settings import in_batches, inner_iterations, starts_cold, stores_z, support_size
from oocml.models.lda_training import Training
from oocml.models.lda_visits import TOP_WORDS, Documents, initial_topic_word, word_numbers
from oocml.models.protocol import Array, Kernel, Pass, Problem, Program, Settings, StateSpec
from oocml.models.top_columns import TopColumns
from oocml.types import Bounds, Panel


class LDA:
    """Latent Dirichlet allocation."""

    name = "lda"
    epochs = 40
    col_axis = "words"
    block_cols = (1, 2**31 - 1)
    tiles = True
    summary_reads = ("totals", "top_words", "top_weights")
    kernels: Mapping[str, Kernel] = {
        **{function.__name__: Kernel(function) for function in lda_visits.VISITS},
        **{function.__name__: Kernel(function) for function in lda_bound.VISITS},
    }

    def defaults(self) -> Settings:
        """See `lda_settings.defaults`."""
        return lda_settings.defaults()

    def chosen_settings(self, problem: Problem) -> Settings:
        """How training starts, the size of supports, and the most iterations of a document.

        The other epochs' numbers depend on how many there are; a training that starts cold has none of the first.
        """
        settings = problem.settings
        first: Settings = {"start": "cold", "cvb0_epochs": 0} if starts_cold(settings) else {"start": "cvb0"}
        return {**first, "top_k": support_size(settings), "inner": inner_iterations(settings)}

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without entries, `UsageError` for settings without a meaning."""
        lda_settings.check(problem)

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        settings, f32 = problem.settings, "float32"
        k, z_type, size = int(settings["n_topics"]), str(settings["z_dtype"]), support_size(settings)
        top, rows, cols = (k, TOP_WORDS), ("rows", k), ("cols", k)
        specs = [
            StateSpec("topic_word", "col", cols, f32, "topics, by word", initial_topic_word, export=True),
            StateSpec("word", "col", ("cols",), "int32", "column of the dataset", word_numbers, export=True),
            StateSpec("totals", "shared", (k,), "float64", "sums over words", export=True, merge=True),
            StateSpec("priors", "shared", (3,), "float64", "alpha, eta, tokens", initial_priors, export=True),
            StateSpec("top_words", "shared", top, "int64", "topics' most probable words", -1.0, export=True),
            StateSpec("top_weights", "shared", top, f32, "their probabilities", -1.0, export=True),
        ]
        if stores_z(settings):
            specs += [
                StateSpec("gamma", "row", rows, f32, "topics of documents", float(settings["alpha"])),
                StateSpec("z", "cell", ("entries", k), z_type, "responsibilities of topics"),
            ]
        if size:
            index = "uint8" if k <= 256 else "uint16"
            specs += [
                StateSpec("z_index", "cell", ("entries", size), index, "topics that entries keep"),
                StateSpec("z_value", "cell", ("entries", size), z_type, "their responsibilities"),
            ]
        if in_batches(settings):
            specs += [StateSpec(name, "row", rows, f32, "gamma - alpha") for name in lda_passes.COUNTS]
            specs.append(StateSpec("word_counts", "col", cols, f32, "sums of responsibilities"))
        return tuple(specs)

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Documents:
        return Documents(panel.X, panel.row_ids)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return lda_passes.of_epochs(problem)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return lda_passes.others(problem)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """See `lda_training.Training`."""
        return Training(problem).program(segments)

    def scoring(self, problem: Problem, top: int) -> LdaScoring:
        return LdaScoring(problem, top)

    def summary(self, problem: Problem, state: Mapping[str, Array]) -> TopColumns:
        """Topics by their most probable words, and how much of all tokens each has."""
        share = state["totals"] / state["totals"].sum()
        return TopColumns("topics", share, state["top_words"], state["top_weights"])


def initial_priors(problem: Problem, bounds: Bounds) -> Array:
    del bounds
    return np.array([problem.settings["alpha"], problem.settings["eta"], 0])
