"""What can be set of a ranking of rows within queries, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oocml.errors import InputError, UsageError
from oocml.metrics.ranking import HIGHEST_GRADE
from oocml.models.protocol import Problem
from oocml.models.setting_bounds import LARGEST, require_above_zero, require_count, require_not_below_zero

MOST_PAIRS = 100
NORMALIZE = ("none", "query")

DEFAULTS: Mapping[str, Any] = {
    "l2": 0.01,
    "rho": 1,
    "warm_start": True,
    "max_dcg": True,
    "normalize": "none",
    "history": 10,
    "tolerance": 1e-6,
}


def check(problem: Problem) -> None:
    """Raise `InputError` for data that isn't graded rows of queries, `UsageError` for settings without a meaning."""
    settings, labels = problem.settings, problem.labels
    if problem.n_queries == 0:
        raise InputError(
            "robirank-explicit ranks the rows of queries and the dataset has no queries; ingest it as letor"
        )
    if problem.label_kind != "number":
        raise InputError(
            f"robirank-explicit needs a grade for every row and the dataset has "
            f"{'no labels' if problem.label_kind == 'none' else 'sets of labels'}; ingest it as letor"
        )
    if problem.n_features == 0:
        raise InputError("robirank-explicit needs features and the dataset has none")
    if labels is not None and len(labels) and not 0 <= labels[0] <= labels[-1] <= HIGHEST_GRADE:
        raise bad_grades(f"from {labels[0]:g} to {labels[-1]:g}")
    if labels is not None and len(labels) and labels[-1] == 0:
        raise nothing_relevant()
    require_not_below_zero(settings, "l2", LARGEST, "0.01 is usual")
    require_count(settings, "rho", 0, 2)
    require_count(settings, "history", 1, MOST_PAIRS)
    require_above_zero(settings, "tolerance", 1, "1e-6 is usual")
    if settings["normalize"] not in NORMALIZE:
        raise UsageError(f"normalize is {settings['normalize']!r}; there are {', '.join(NORMALIZE)}")


def bad_grades(what: str) -> InputError:
    return InputError(
        f"grades go {what} but gains are 2^grade - 1, so grades must be 0 to {HIGHEST_GRADE}; write 0 for rows "
        "that are not relevant"
    )


def nothing_relevant() -> InputError:
    return InputError(
        "no row has a grade above 0, so there is nothing to rank; give relevant rows grades from 1 on"
    )
