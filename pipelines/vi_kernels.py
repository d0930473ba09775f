"""Rates of the bare kernels of variational inference, one thread, everything in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from oocml.kernels.lda import lda_start, lda_visit
from oocml.store.buffers import aligned_empty
from oocml.types import Csr

from .bench_mlr_kernel import cpu_seconds
from .bench_options import Options, interleaved, median, one_thread
from .table import Section

TOPICS = (64, 128, 256)
DOCUMENTS, WORDS, WORDS_PER_DOCUMENT = 2000, 10_000, 135
"""As many as AP has."""
GOALS = {"esvi": 1.0, "cvb0": 1.4}
"""G (entries x topics)/s at 128 topics, of the faster of the two formats of z."""


class BareVisit:
    """One tile with its state.

    Parameters
    ----------
    dtype
        Of the responsibilities: float32, or float16, which kernels take as its bits.
    """

    def __init__(self, kind: str, n_topics: int, dtype: str) -> None:
        rng = np.random.default_rng(0)
        popular = rng.permutation(WORDS)[
            (WORDS * rng.random((DOCUMENTS, WORDS_PER_DOCUMENT)) ** 3).astype(int)
        ]
        rows = [np.unique(row) for row in popular]
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        indices = np.concatenate(rows).astype(np.int32)
        counts = (1 + rng.geometric(0.7, len(indices))).astype(np.float32)
        self.X = Csr(indptr.astype(np.int64), indices, counts)
        self.n_topics, self.exact = n_topics, kind == "esvi"
        self.gamma, self.topic_word = filled((DOCUMENTS, n_topics), 0.1), filled((WORDS, n_topics), 0.01)
        self.z = aligned_empty((len(indices), n_topics), dtype)
        if dtype == "float16":
            self.z = self.z.view(np.uint16)
        numbers, words = np.arange(DOCUMENTS), np.arange(WORDS, dtype=np.int32)
        lda_start(self.X, numbers, words, np.uint64(0), self.z, self.gamma, self.topic_word)
        self.totals = self.topic_word.sum(axis=0, dtype=np.float64)
        for _ in range(3):
            self.visit()

    def visit(self) -> Any:
        return lda_visit(self.X, self.z, self.gamma, self.topic_word, self.totals, self.exact)

    def rate(self) -> float:
        """Entries x topics per second of processor time."""
        return len(self.X.data) * self.n_topics / cpu_seconds(self.visit)


def filled(shape: tuple[int, int], value: float) -> np.ndarray:
    array = aligned_empty(shape, "float32")
    array[...] = value
    return array


def kernel(options: Options) -> Section:
    """Rates by number of topics and format of the responsibilities."""
    section = Section("kernel", "the bare visit of topics, one thread, G (entries x topics)/s")
    with one_thread():
        for n_topics in TOPICS:
            visits = {
                (kind, dtype): BareVisit(kind, n_topics, dtype)
                for kind in GOALS
                for dtype in ("float32", "float16")
            }
            taken = interleaved({key: visit.rate for key, visit in visits.items()}, options.repeats)
            for (kind, dtype), rates in taken.items():
                spread = {"median": median(rates) / 1e9, "worst": min(rates) / 1e9, "best": max(rates) / 1e9}
                section.rows.append({"topics": n_topics, "kernel": kind, "z": dtype, **spread})
    for kind, goal in GOALS.items():
        best = max(r["median"] for r in section.rows if (r["topics"], r["kernel"]) == (128, kind))
        section.add(f"G (entries x topics)/s per core, {kind}, 128 topics", best, goal)
    section.notes.append("per second of processor time: what else runs on the machine matters little")
    return section
