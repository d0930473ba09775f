"""Compiles a model's kernels before the clock starts: a few rows of made-up data go through every pass.

It starts no thread, so workers may be forked afterwards.
"""

from __future__ import annotations

import numpy as np

from oocml.engine.in_memory import InMemory, problem_of
from oocml.errors import OocmlError
from oocml.models.protocol import Model, Settings
from oocml.types import Csr, Panel


def rehearse(model: Model, settings: Settings) -> None:
    """Train a model on six rows of made-up data, so that its kernels are compiled and loaded in this process.

    A model that cannot train on such data is left to compile when it is first used.
    """
    for n_labels in (3, 2):
        panel = made_up_panel(n_labels)
        problem = problem_of(model, panel, 3, np.arange(float(n_labels)), **settings)
        try:
            model.check(problem)
        except OocmlError:
            continue
        InMemory(model, problem, panel, (0, 3, 6), (0, model.n_cols(problem))).run(2)
        return


def made_up_panel(n_labels: int) -> Panel:
    """Six rows with two of three features each, of two queries, with the labels 0, 1, ..."""
    X = Csr(
        np.arange(0, 13, 2),
        np.tile(np.array([0, 1, 1, 2], np.int32), 3),
        np.linspace(0.5, 1, 12, dtype=np.float32),
    )
    return Panel(X, np.arange(6) % float(n_labels), np.arange(6), np.arange(6) // 3)
