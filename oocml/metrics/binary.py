"""Scores of a binary classifier, streamed: ``accumulate`` a batch of rows, ``merge`` batches, read off ``scores``.

The classifier says f, the log odds of the second label. For the area under the ROC curve rows are counted by f in bins
of width 2^-14 (f beyond +-32 goes to the outermost bins): only bins that occur are kept, a million at most, and rows
of one bin count as ties. ``auc_error`` bounds what that can be off: half the share of pairs that fell into one bin.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.types import Float64Array, Int64Array

BINS_PER_UNIT = 2**14
WIDEST = 32.0


class BinaryCounts(NamedTuple):
    """What is kept of the rows seen so far."""

    n_rows: int
    """Rows with one of the two labels."""
    n_unlabelled: int
    """Rows without a label, or with another one."""
    correct: int
    loss: float
    """Sum of log losses, natural log."""
    bins: Int64Array
    """Increasing; those that occur."""
    negative: Int64Array
    """Rows of the first label by bin."""
    positive: Int64Array
    """Rows of the second label by bin."""


def accumulate(log_odds: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> BinaryCounts:
    """Score one batch; ``truth`` is -1 or +1, anything else a row without a label. Both of shape (n_rows,)."""
    known = np.abs(truth) == 1
    f, t = np.asarray(log_odds[known], np.float64), np.asarray(truth[known], np.float64)
    place = np.floor(np.clip(f, -WIDEST, WIDEST) * BINS_PER_UNIT).astype(np.int64)
    bins, where = np.unique(place, return_inverse=True)
    return BinaryCounts(
        n_rows=f.size,
        n_unlabelled=int(known.size - f.size),
        correct=int(((f > 0) == (t > 0)).sum()),
        loss=float(np.logaddexp(0, -t * f).sum()),
        bins=bins,
        negative=np.bincount(where, t < 0, minlength=bins.size).astype(np.int64),
        positive=np.bincount(where, t > 0, minlength=bins.size).astype(np.int64),
    )


def merge(a: BinaryCounts, b: BinaryCounts) -> BinaryCounts:
    bins, where = np.unique(np.concatenate([a.bins, b.bins]), return_inverse=True)

    def added(one: Int64Array, other: Int64Array) -> Int64Array:
        return np.bincount(where, np.concatenate([one, other]), minlength=bins.size).astype(np.int64)

    return BinaryCounts(
        n_rows=a.n_rows + b.n_rows,
        n_unlabelled=a.n_unlabelled + b.n_unlabelled,
        correct=a.correct + b.correct,
        loss=a.loss + b.loss,
        bins=bins,
        negative=added(a.negative, b.negative),
        positive=added(a.positive, b.positive),
    )


METRICS = ("log_loss", "accuracy", "auc")
"""Of the `scores`, those that a model can be judged by."""


def scores(counts: BinaryCounts) -> dict[str, float]:
    """``log_loss``, ``accuracy``, ``auc``, ``auc_error``, ``n_unlabelled``; NaN where no row says anything."""
    auc, error = area(counts.negative.astype(np.float64), counts.positive.astype(np.float64))
    n = counts.n_rows
    return {
        "log_loss": counts.loss / n if n else math.nan,
        "accuracy": counts.correct / n if n else math.nan,
        "auc": auc,
        "auc_error": error,
        "n_unlabelled": counts.n_unlabelled,
    }


def area(negative: Float64Array, positive: Float64Array) -> tuple[float, float]:
    """Area under the ROC curve from counts by increasing score, and half the share of tied pairs."""
    pairs = negative.sum() * positive.sum()
    if pairs == 0:
        return math.nan, math.nan
    below = np.cumsum(negative) - negative
    tied = float(negative @ positive) / 2
    return (float(below @ positive) + tied) / float(pairs), tied / float(pairs)
