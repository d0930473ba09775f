"""How well the items that a user turned out to want are ranked among all that it might have been shown.

Everything follows from the places of the wanted items in the user's ranking: counts of batches of users are added
up, and scores are means over users. Users without a wanted item are left out.

    precision at k   wanted items among the first k, over k
    recall at k      wanted items among the first k, over all wanted ones
    NDCG at k        sum of 1 / log2(1 + place) over wanted items among the first k, over the largest it could be
    MAP              mean over wanted items of the precision at their places
    AUC              mean over wanted items of the share of other items that are ranked below
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from oocml.types import Float64Array, Int64Array

PRECISION_AT = (1, 10)
RECALL_AT = (10, 20)
NDCG_AT = (10, 20)
NAMES = (
    *(f"precision_at_{k}" for k in PRECISION_AT),
    *(f"recall_at_{k}" for k in RECALL_AT),
    *(f"ndcg_at_{k}" for k in NDCG_AT),
    "map",
    "auc",
)


class Counts(NamedTuple):
    n_users: int
    """Users that want an item."""
    sums: Float64Array
    """Shape (len(NAMES),): over these users."""


def accumulate(indptr: Int64Array, above: Int64Array, n_others: Int64Array) -> Counts:
    """Counts of a batch of users.

    Parameters
    ----------
    indptr
        Shape (n_users + 1,); user i has wanted items ``indptr[i]:indptr[i + 1]``, in increasing order of their
        scores.
    above
        Shape (items,): how many other items, not wanted, are ranked above each wanted one.
    n_others
        Shape (n_users,): how many other items each user has.
    """
    n_wanted = np.diff(indptr)
    better = np.repeat(indptr[1:], n_wanted) - 1 - np.arange(len(above))
    """Wanted items ranked above each wanted one."""
    user = np.repeat(np.arange(len(n_wanted)), n_wanted)
    sums = list(_per_item(user, n_wanted, above + better, better, above / np.maximum(n_others, 1)[user]))
    return Counts(int(np.count_nonzero(n_wanted)), np.array([float(values.sum()) for values in sums]))


def _per_item(
    user: Int64Array, n_wanted: Int64Array, place: Int64Array, better: Int64Array, overtaken: Float64Array
) -> Iterator[Float64Array]:
    """What each wanted item adds to each metric of its user; ``place`` counts from 0."""
    n = n_wanted[user].astype(np.float64)
    for k in PRECISION_AT:
        yield (place < k) / float(k)
    for k in RECALL_AT:
        yield (place < k) / n
    for k in NDCG_AT:
        gains = 1 / np.log2(np.arange(k) + 2.0)
        ideal = np.cumsum(gains)[np.minimum(n_wanted[user], k) - 1]
        yield np.where(place < k, gains[np.minimum(place, k - 1)], 0.0) / ideal
    yield (better + 1) / (place + 1) / n
    yield (1 - overtaken) / n


def merge(a: Counts, b: Counts) -> Counts:
    return Counts(a.n_users + b.n_users, a.sums + b.sums)


def scores(counts: Counts) -> dict[str, float]:
    """Means over the users that want an item; NaN without any."""
    n = counts.n_users
    return {
        name: float(total) / n if n else float("nan") for name, total in zip(NAMES, counts.sums, strict=True)
    }
