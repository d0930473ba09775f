"""How well rows are ranked within their queries, streamed: ``accumulate`` a batch, ``merge``, read off ``scores``.

Gains are 2^grade - 1, the row at rank t = 1, 2, ... is discounted by log2(1 + t), and NDCG divides by what the query's
own grades could have (Järvelin and Kekäläinen 2002; the form of Burges et al. 2005). Average precision, reciprocal rank
and precision take rows with a grade above 0 as relevant. Where scores are equal, the lowest grades come first: a model
gets nothing for a tie. Precision at k counts ranks that a short query doesn't have as not relevant.

Queries without a relevant row have no NDCG: they are left out of all means, and counted.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.types import Float64Array, Int64Array

RANKS = (1, 5, 10, 20)
NAMES = (
    *(f"ndcg_at_{k}" for k in RANKS),
    "map",
    "mrr",
    *(f"precision_at_{k}" for k in RANKS),
)
HIGHEST_GRADE = 30
"""Gains of higher grades are those of this one."""
MOST_KEPT = 2**17
"""Queries whose scores are kept one by one; of more, a random sample."""
DRAWS = 2000
"""Of the bootstrap."""
LEVEL = 0.95


class QueryScores(NamedTuple):
    """The scores of some queries."""

    qid: Int64Array
    """Shape (n,)."""
    n_rows: Int64Array
    n_relevant: Int64Array
    values: Float64Array
    """Shape (n, len(NAMES)); 0 where no row is relevant."""


class Rankings(NamedTuple):
    """What is kept of the queries seen so far."""

    n_queries: int
    n_ranked: int
    """Queries with a relevant row."""
    sums: Float64Array
    """Shape (len(NAMES),)."""
    kept: QueryScores
    """All queries, or a sample of them."""


def gains(grades: Float64Array) -> Float64Array:
    """2^grade - 1; 0 for grades below 0."""
    return np.asarray(np.exp2(np.clip(grades, 0, HIGHEST_GRADE)) - 1)


def max_dcg(gain: Float64Array, start: Int64Array) -> Float64Array:
    """Shape (n_queries,): the greatest DCG that each query's rows can have.

    Parameters
    ----------
    gain
        Shape (n_rows,).
    start
        Shape (n_queries + 1,): first row of each query; none is empty.
    """
    query, rank = _places(start)
    best = gain[np.lexsort((-gain, query))]
    return _sums(best * _discount(rank), start)


def score_queries(
    scores: Float64Array, grades: Float64Array, start: Int64Array, qid: Int64Array
) -> QueryScores:
    """Scores of whole queries. ``scores`` and ``grades``: shape (n_rows,); NaN grades are 0."""
    query, rank = _places(start)
    grades = np.where(np.isnan(grades), 0.0, grades)
    order = np.lexsort((grades, -np.asarray(scores, np.float64), query))
    gain, relevant = gains(grades[order]), grades[order] > 0
    discounted, best = gain * _discount(rank), gains(grades[np.lexsort((-grades, query))]) * _discount(rank)
    n_relevant = _sums(relevant, start)
    found_before: Float64Array = np.cumsum(relevant) - np.repeat(
        np.cumsum(n_relevant) - n_relevant, np.diff(start)
    )
    first = np.minimum.reduceat(np.where(relevant, rank, np.inf), start[:-1]) if len(qid) else np.zeros(0)
    values = [_ratio(_sums(discounted * (rank <= k), start), _sums(best * (rank <= k), start)) for k in RANKS]
    values.append(_ratio(_sums(relevant * found_before / rank, start), n_relevant))
    values.append(1 / first)
    values += [_sums(relevant & (rank <= k), start) / k for k in RANKS]
    return QueryScores(
        np.asarray(qid, np.int64),
        np.diff(start).astype(np.int64),
        n_relevant.astype(np.int64),
        np.column_stack(values),
    )


def accumulate(scores: Float64Array, grades: Float64Array, start: Int64Array, qid: Int64Array) -> Rankings:
    """What is kept of one batch of whole queries; arguments as for `score_queries`."""
    found = score_queries(scores, grades, start, qid)
    n_ranked = int(np.count_nonzero(found.n_relevant))
    return Rankings(len(found.qid), n_ranked, found.values.sum(axis=0), _sample(found))


def merge(a: Rankings, b: Rankings) -> Rankings:
    joined = QueryScores(*(np.concatenate(both) for both in zip(a.kept, b.kept, strict=True)))
    return Rankings(a.n_queries + b.n_queries, a.n_ranked + b.n_ranked, a.sums + b.sums, _sample(joined))


def scores(total: Rankings) -> dict[str, float]:
    """Means over the queries with a relevant row, by the names of `NAMES`.

    ``ndcg_at_K_all`` counts the others as 0; ``n_queries`` and ``n_queries_left_out`` tell how many there are.
    """
    found = dict(zip(NAMES, (total.sums / total.n_ranked).tolist(), strict=True)) if total.n_ranked else {}
    found = found or dict.fromkeys(NAMES, math.nan)
    for name, value in zip(NAMES, total.sums.tolist(), strict=True):
        if name.startswith("ndcg"):
            found[f"{name}_all"] = value / total.n_queries if total.n_queries else math.nan
    left_out = float(total.n_queries - total.n_ranked)
    return found | {"n_queries": float(total.n_queries), "n_queries_left_out": left_out}


def intervals(total: Rankings, seed: int = 0) -> dict[str, float]:
    """``NAME_low`` and ``NAME_high`` of 95 % bootstrap intervals for the means over queries with a relevant row."""
    values = total.kept.values[total.kept.n_relevant > 0]
    low, high = bootstrap_interval(values, population=total.n_ranked, seed=seed)
    found = {}
    for name, *ends in zip(NAMES, low.tolist(), high.tolist(), strict=True):
        found[f"{name}_low"], found[f"{name}_high"] = ends
    return found


def per_query(total: Rankings) -> list[dict[str, Any]]:
    """A record for each query that is kept, by number of the query; None where no row is relevant."""
    kept, records = total.kept, []
    for i in np.argsort(kept.qid, kind="stable").tolist():
        record: dict[str, Any] = {name: int(getattr(kept, name)[i]) for name in QueryScores._fields[:3]}
        values = kept.values[i].tolist() if kept.n_relevant[i] else [None] * len(NAMES)
        records.append(record | dict(zip(NAMES, values, strict=True)))
    return records


def bootstrap_interval(
    values: npt.NDArray[np.floating],
    *,
    population: int | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[Float64Array, Float64Array]:
    """Percentile bootstrap of means over the leading axis: the lower and the upper end of the interval.

    Parameters
    ----------
    values
        Shape (n, ...). With one value there is no spread and both ends are the mean; without, they are NaN.
    population
        How many there are of which ``values`` is a random sample (default: these); deviations shrink accordingly.
    """
    if not len(values):
        nothing = np.full(values.shape[1:], math.nan)
        return nothing, nothing
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    rng, n, mean = np.random.default_rng(seed), len(flat), flat.mean(axis=0)
    means = np.empty((draws, flat.shape[1]))
    for i in range(draws):
        means[i] = np.bincount(rng.integers(n, size=n), minlength=n) @ flat / n
    shrink = math.sqrt(n / max(n, population or n))
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = (mean + shrink * (end - mean) for end in ends)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def _places(start: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The query of each row, and places 1, 2, ... within queries."""
    sizes = np.diff(start)
    query = np.repeat(np.arange(len(sizes)), sizes)
    return query, np.arange(1, int(start[-1]) + 1) - start[query]


def _discount(rank: Int64Array) -> Float64Array:
    return np.asarray(1 / np.log2(1.0 + rank))


def _sums(values: npt.NDArray[Any], start: Int64Array) -> Float64Array:
    """Sums over the rows of each query."""
    if len(start) == 1:
        return np.zeros(0)
    return np.asarray(np.add.reduceat(values.astype(np.float64), start[:-1]))


def _ratio(a: Float64Array, b: Float64Array) -> Float64Array:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _sample(found: QueryScores) -> QueryScores:
    """The queries whose numbers have the smallest hashes: the same ones however they were merged."""
    if len(found.qid) <= MOST_KEPT:
        return found
    hashes = found.qid.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    chosen = np.argpartition(hashes, MOST_KEPT)[:MOST_KEPT]
    return QueryScores(*(values[chosen] for values in found))  # type: ignore[arg-type]
