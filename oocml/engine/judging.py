"""How epochs are judged on held-out data: which is the best, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from oocml.errors import InputError, UsageError
from oocml.metrics.directions import check_metric_of, higher_is_better
from oocml.models.protocol import Model, Problem


class Validation(NamedTuple):
    """How epochs are judged on held-out data."""

    score: Callable[[], dict[str, float]]
    """Metrics of the current state."""
    metric: str
    higher_is_better: bool
    patience: int | None


def check_metric_name(model: Model, problem: Problem, metric: str) -> None:
    """Refuse a metric before anything can be scored, as far as the model tells which ones it has.

    Raises
    ------
    UsageError
        With the metrics that the model has, or with all that there are.
    """
    names = getattr(model.scoring(problem, 0), "metric_names", None)
    if names is None:
        higher_is_better(metric)
    else:
        check_metric_of(model.name, metric, names)


def judge(
    validation: Validation,
    history: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    segment_start: int,
) -> tuple[bool, bool]:
    """Whether to stop, and whether this epoch is the best so far.

    Parameters
    ----------
    history, record
        Epochs before this one, and this one; their ``valid`` has the metrics.
    segment_start
        The last epoch before the current segment: each is a training of its own, and patience counts from its start.
    """
    metric = validation.metric
    if metric not in record["valid"]:
        raise UsageError(f"the model has no metric {metric!r}; it has {', '.join(sorted(record['valid']))}")
    if math.isnan(record["valid"][metric]):
        raise InputError(
            f"{metric} of the validation data is NaN after epoch {record['epoch']}: nothing in them can be scored by "
            "it; train again with other data or another --metric"
        )
    sign = 1 if validation.higher_is_better else -1
    judged = [past for past in history if past.get("valid")]
    scores = [sign * past["valid"][metric] for past in judged]
    score = sign * record["valid"][metric]
    best = math.isfinite(score) and score > max(filter(math.isfinite, scores), default=-math.inf)
    if validation.patience is None or best:
        return False, best
    since = [s for past, s in zip(judged, scores, strict=True) if past["epoch"] > segment_start]
    since.append(score)
    return len(since) - 1 - since.index(max(since)) >= validation.patience, False
