"""Scores of a classifier, streamed: ``accumulate`` a batch of rows, ``merge`` batches, read off ``scores``.

Everything works from each row's few best classes, so no array of rows x classes is ever made, and per-class
counts hold only the classes that occurred. A row's truth is a set of classes; a single label is a set of one.

- The predicted class is the best one. ``accuracy`` is the share of rows whose best class is in their set, F1
  counts the best class as the only prediction (the usual F1 for single labels).
- ``precision_at_k`` divides by k, however few labels a row has. ``ndcg_at_k`` has gain 1 and discount
  1 / log2(rank + 1), and divides by the best possible value.
- Rows without a label are left out of every mean and counted. A label that training never saw can't be
  predicted: it counts as a miss everywhere except in the log loss, which is then infinite and therefore
  averages only the rows that have one; ``n_unseen`` says how many rows are concerned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.types import Float64Array, Int32Array, Int64Array, LabelSets

LEVELS = (1, 3, 5)
"""Numbers of best classes that precision and nDCG look at."""
DEPTH = max(LEVELS)
UNLABELLED = np.iinfo(np.int64).min
"""Code of a row without a label."""


class Truth(NamedTuple):
    """The classes of each row, by rows."""

    indptr: Int64Array
    """Shape (n_rows + 1,)."""
    ids: Int64Array
    """Class positions, distinct within a row; negative codes are classes that training never saw."""


class ClassCounts(NamedTuple):
    """Counts per class, for the classes that occur. All arrays have shape (n,)."""

    ids: Int64Array
    """Increasing."""
    tp: Int64Array
    fp: Int64Array
    fn: Int64Array


class Classified(NamedTuple):
    """What is kept of the rows seen so far. Arrays by rank have shape (DEPTH,), entry k - 1 for the k best."""

    n_rows: int
    """Rows with a label."""
    n_unlabelled: int
    n_unseen: int
    """Rows with a label that training never saw."""
    hits: Float64Array
    """Hits among the k best, summed over rows."""
    ndcg: Float64Array
    """nDCG of the k best, summed over rows."""
    loss_sum: float
    n_losses: int
    classes: ClassCounts


def single_truth(codes: npt.ArrayLike) -> Truth:
    """Truth from one code per row, `UNLABELLED` where there is none."""
    codes = np.asarray(codes, dtype=np.int64)
    labelled = codes != UNLABELLED
    return Truth(np.concatenate(([0], np.cumsum(labelled))), codes[labelled])


def label_codes(y: Float64Array, labels: Float64Array) -> Int64Array:
    """Position of each label in the increasing, integral ``labels``.

    A label that isn't there gets a negative code of its own (fractions share one), NaN becomes `UNLABELLED`.
    """
    if labels.size and not np.isnan(y).any():
        offset: Int64Array = np.clip(y - labels[0], 0, labels.size - 1).astype(np.int64)
        if np.array_equal(labels[offset], y):  # consecutive labels, all of them known: no search
            return offset
    position = np.searchsorted(labels, y)
    known = position < labels.size
    known[known] = labels[position[known]] == y[known]
    whole = np.where(y == np.trunc(y), np.clip(y, -(2.0**53), 2.0**53), np.nan)
    folded = np.where(whole >= 0, 2 * whole, -2 * whole - 1)  # 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
    codes = np.where(known, position, -2 - np.nan_to_num(folded, nan=-1.0).astype(np.int64))
    return np.where(np.isnan(y), UNLABELLED, codes)


def set_truth(sets: LabelSets, position: Int64Array | Int32Array | None = None) -> Truth:
    """Truth from label sets; ``position`` maps the sets' label ids to the model's classes (negative: unseen)."""
    ids = sets.indices.astype(np.int64)
    return Truth(
        np.asarray(sets.indptr, dtype=np.int64), ids if position is None else position[ids].astype(np.int64)
    )


def accumulate(
    top: npt.NDArray[np.integer],
    truth: Truth,
    losses: Float64Array | None = None,
) -> Classified:
    """Score one batch of rows.

    Parameters
    ----------
    top : shape (n_rows, >= 1)
        Best classes of each row, best first, distinct; -1 where there are fewer classes. Ranks beyond
        `DEPTH` are ignored, missing ones are misses.
    truth
        Of the same rows.
    losses : shape (n_rows,), optional
        Log loss of each row, natural log; NaN where it has none. Rows without a label are ignored.
    """
    size = np.diff(truth.indptr)
    labelled = size > 0
    row = np.repeat(np.arange(size.size, dtype=np.int64), size)
    best = np.asarray(top[:, :DEPTH], dtype=np.int64)
    hit = _is_member(best, row, truth.ids)
    gain = np.zeros(DEPTH)
    gain[: hit.shape[1]] = hit.sum(axis=0)
    losses = np.zeros(0) if losses is None else losses[labelled & ~np.isnan(losses)]
    return Classified(
        n_rows=int(labelled.sum()),
        n_unlabelled=int(size.size - labelled.sum()),
        n_unseen=int(np.unique(row[truth.ids < 0]).size),
        hits=np.cumsum(gain),
        ndcg=_ndcg(hit[labelled], size[labelled]),
        loss_sum=float(losses.sum(dtype=np.float64)),
        n_losses=int(losses.size),
        classes=_count_classes(best[labelled, 0], hit[labelled, 0], truth.ids),
    )


def merge(parts: Iterable[Classified]) -> Classified:
    """The sum of batches, in any grouping (float sums are added in the order given)."""
    parts = list(parts)
    return Classified(
        n_rows=sum(part.n_rows for part in parts),
        n_unlabelled=sum(part.n_unlabelled for part in parts),
        n_unseen=sum(part.n_unseen for part in parts),
        hits=sum((part.hits for part in parts), np.zeros(DEPTH)),
        ndcg=sum((part.ndcg for part in parts), np.zeros(DEPTH)),
        loss_sum=float(sum(part.loss_sum for part in parts)),
        n_losses=sum(part.n_losses for part in parts),
        classes=_add_counts([part.classes for part in parts]),
    )


METRICS = (
    "accuracy",
    "f1_macro",
    "f1_micro",
    *(f"{name}_at_{k}" for name in ("precision", "ndcg") for k in LEVELS),
    "log_loss",
)
"""Of the `scores`, those that a model can be judged by."""


def scores(total: Classified) -> dict[str, float]:
    """The means, under the names the command line prints; NaN where no row has a label (or a loss)."""
    n = total.n_rows or float("nan")
    result = {
        "accuracy": float(total.hits[0] / n),
        "f1_macro": f1_macro(total.classes),
        "f1_micro": f1_micro(total.classes),
    }
    for k in LEVELS:
        result[f"precision_at_{k}"] = float(total.hits[k - 1] / (k * n))
    for k in LEVELS:
        result[f"ndcg_at_{k}"] = float(total.ndcg[k - 1] / n)
    result["log_loss"] = total.loss_sum / total.n_losses if total.n_losses else float("nan")
    return result | {
        "n_rows": total.n_rows,
        "n_unlabelled": total.n_unlabelled,
        "n_unseen": total.n_unseen,
    }


def f1_macro(classes: ClassCounts) -> float:
    """Mean F1 over the classes that occur in the truth or among the predictions."""
    if not classes.ids.size:
        return float("nan")
    return float(np.mean(2 * classes.tp / (2 * classes.tp + classes.fp + classes.fn)))


def f1_micro(classes: ClassCounts) -> float:
    """F1 of the counts summed over classes."""
    tp, wrong = classes.tp.sum(), classes.fp.sum() + classes.fn.sum()
    return float(2 * tp / (2 * tp + wrong)) if tp + wrong else float("nan")


def _is_member(top: Int64Array, row: Int64Array, ids: Int64Array) -> npt.NDArray[np.bool_]:
    """Whether each of the rows' best classes is in its row's set."""
    known = ids >= 0
    if not known.any():
        return np.zeros(top.shape, dtype=bool)
    span = 1 + max(int(top.max(initial=0)), int(ids.max()))
    keys = np.sort(row[known] * span + ids[known])
    wanted = np.arange(len(top), dtype=np.int64)[:, None] * span + top
    found = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.asarray((keys[found] == wanted) & (top >= 0))


def _ndcg(hit: npt.NDArray[np.bool_], size: Int64Array) -> Float64Array:
    """nDCG at 1 .. DEPTH, summed over rows that have at least one label."""
    discount = 1 / np.log2(np.arange(2, DEPTH + 2))
    ranks = hit.shape[1]
    dcg = np.zeros((len(hit), DEPTH))
    dcg[:, :ranks] = hit * discount[:ranks]
    dcg = np.cumsum(dcg, axis=1)
    ideal = np.cumsum(discount)
    best = np.minimum(size[:, None], np.arange(1, DEPTH + 1)) - 1
    return np.asarray((dcg / ideal[best]).sum(axis=0))


def _count_classes(best: Int64Array, is_hit: npt.NDArray[np.bool_], ids: Int64Array) -> ClassCounts:
    """Counts of a batch: its rows' best classes, whether those are right, and the classes of its truth."""
    predicted = best >= 0
    hit_ids, hit_counts = np.unique(best[predicted & is_hit], return_counts=True)
    miss_ids, miss_counts = np.unique(best[predicted & ~is_hit], return_counts=True)
    true_ids, true_counts = np.unique(ids, return_counts=True)
    present = np.unique(np.concatenate((hit_ids, miss_ids, true_ids)))
    tp, fp, fn = np.zeros((3, present.size), dtype=np.int64)
    tp[np.searchsorted(present, hit_ids)] = hit_counts
    fp[np.searchsorted(present, miss_ids)] = miss_counts
    fn[np.searchsorted(present, true_ids)] = true_counts
    return ClassCounts(present, tp, fp, fn - tp)


def _add_counts(parts: list[ClassCounts]) -> ClassCounts:
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return ClassCounts(none, none, none, none)
    ids, position = np.unique(np.concatenate([part.ids for part in parts]), return_inverse=True)
    sums = np.zeros((3, ids.size), dtype=np.int64)
    for total, name in zip(sums, ("tp", "fp", "fn"), strict=True):
        np.add.at(total, position, np.concatenate([getattr(part, name) for part in parts]))
    return ClassCounts(ids, *sums)
