"""Defaults of matrix factorization that depend on the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from oocml.models.protocol import Problem

RATES: Mapping[str, float] = {
    "adagrad": 0.1,
    "nomad": 0.012,
    "bold_driver": 0.012,
    "inverse_sqrt": 0.05,
    "constant": 0.02,
}
"""Kinds of steps, with the default ``learning_rate`` of each."""
L2_RANGE = (0.03, 0.09)
FEW_RATINGS = 100.0
"""Ratings per row or column, whichever has fewer of them, from which on less and less ridge is needed."""


def first_rate(problem: Problem) -> float:
    rate = problem.settings["learning_rate"]
    return RATES[problem.settings["step"]] if rate is None else float(rate)


def ridge(problem: Problem) -> float:
    """The ``l2`` to train with.

    Where it isn't set: 0.09 per rating while the shorter side has up to 100 ratings per row or column, then less, with
    the fourth root, down to 0.03. The two ends were found by validation on MovieLens-100K (106 ratings a user; the
    same for 32, 64 and 128 factors) and Jester (18,000 a joke); what lies between is interpolation. The plain ridge
    gets as much for the average vector.
    """
    l2 = problem.settings["l2"]
    if l2 is not None:
        return float(l2)
    n_rated = max(1, problem.n_used_features)
    density = problem.nnz / max(1, min(problem.n_rows, n_rated))
    low, high = L2_RANGE
    l2 = float(np.clip(high * (FEW_RATINGS / max(density, 1.0)) ** 0.25, low, high))
    if problem.settings["weighted_l2"]:
        return l2
    return l2 * 2 * problem.nnz / max(1, problem.n_rows + n_rated)
