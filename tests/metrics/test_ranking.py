import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.metrics import ranking

DISCOUNT = [1 / np.log2(t + 1) for t in range(1, 200)]


def judged(queries):
    """Scores, grades, starts and numbers of [(score, grade), ...] by query."""
    rows = [row for query in queries for row in query]
    start = np.cumsum([0, *map(len, queries)])
    scores, grades = np.array(rows, np.float64).reshape(-1, 2).T
    return scores, grades, start, 100 + np.arange(len(queries))


def by_hand(query):
    """The metrics of one query, worst order among ties."""
    grades = [grade for _, grade in sorted(query, key=lambda row: (-row[0], row[1]))]
    best, found = sorted(grades, reverse=True), {}
    relevant = [grade > 0 for grade in grades]
    for k in ranking.RANKS:
        dcg, top = (
            sum((2**g - 1) * d for g, d in zip(order[:k], DISCOUNT, strict=False)) for order in (grades, best)
        )
        found[f"ndcg_at_{k}"] = dcg / top
        found[f"precision_at_{k}"] = sum(relevant[:k]) / k
    places = [t for t, is_relevant in enumerate(relevant, 1) if is_relevant]
    found["map"] = np.mean([n / t for n, t in enumerate(places, 1)])
    found["mrr"] = 1 / places[0]
    return found


rows = st.tuples(st.integers(-3, 3), st.sampled_from([0, 0, 1, 2, 4, 0.5]))
some_queries = st.lists(st.lists(rows, min_size=1, max_size=25), min_size=1, max_size=6)


@given(some_queries)
def test_means_are_those_of_the_definitions(queries):
    told = ranking.scores(ranking.accumulate(*judged(queries)))
    found = [by_hand(query) for query in queries if any(grade > 0 for _, grade in query)]
    assert told["n_queries"] == len(queries)
    assert told["n_queries_left_out"] == len(queries) - len(found)
    for name in ranking.NAMES:
        if found:
            assert told[name] == pytest.approx(np.mean([one[name] for one in found]), abs=1e-12)
        else:
            assert np.isnan(told[name])
    for k in ranking.RANKS:
        total = sum(one[f"ndcg_at_{k}"] for one in found)
        assert told[f"ndcg_at_{k}_all"] == pytest.approx(total / len(queries), abs=1e-12)


@given(some_queries, st.integers(0, 6))
def test_batches_merge_to_the_whole(queries, cut):
    whole = ranking.accumulate(*judged(queries))
    parts = [part for part in (queries[:cut], queries[cut:]) if part]
    total = ranking.accumulate(*judged(parts[0]))
    for part in parts[1:]:
        scores, grades, start, qid = judged(part)
        total = ranking.merge(total, ranking.accumulate(scores, grades, start, qid + cut))
    assert ranking.scores(total) == pytest.approx(ranking.scores(whole), nan_ok=True)
    assert ranking.per_query(total) == ranking.per_query(whole)


def test_ties_gain_nothing_and_grades_that_are_missing_or_negative_are_not_relevant():
    grades = np.array([0, 2, np.nan, -1.0])
    told = ranking.scores(ranking.accumulate(np.zeros(4), grades, np.array([0, 4]), np.zeros(1)))
    assert told["mrr"] == 0.25
    assert told["ndcg_at_5"] == pytest.approx(1 / np.log2(5))


def test_best_orders_have_the_greatest_dcg():
    gain = ranking.gains(np.array([0, 2.0, 1, 0]))
    best = ranking.max_dcg(gain, np.array([0, 3, 4]))
    assert best.tolist() == pytest.approx([3 + 1 / np.log2(3), 0])


def test_records_of_queries_come_by_their_numbers():
    scores, grades, start, _ = judged([[(1, 0)], [(2, 1), (1, 0)]])
    first, second = ranking.per_query(ranking.accumulate(scores, grades, start, np.array([9, 4])))
    assert (first["qid"], first["n_rows"], first["n_relevant"], first["map"]) == (4, 2, 1, 1.0)
    assert (second["qid"], second["n_relevant"], second["map"]) == (9, 0, None)


def test_intervals_cover_the_mean_of_normal_numbers_as_often_as_they_should():
    rng, n = np.random.default_rng(0), 50
    values = rng.normal(size=(n, 400))
    low, high = ranking.bootstrap_interval(values, draws=400)
    covered = np.mean((low < 0) & (high > 0))
    assert 0.9 < covered < 0.98
    np.testing.assert_allclose((high - low).mean(), 2 * 1.96 / np.sqrt(n), rtol=0.05)


def test_a_sample_of_more_has_the_narrower_interval_of_all():
    values = np.random.default_rng(0).normal(size=(500, 1))
    low, high = ranking.bootstrap_interval(values)
    lower, higher = ranking.bootstrap_interval(values, population=4 * 500)
    assert higher - lower == pytest.approx((high - low) / 2)


def test_an_interval_of_little_or_nothing():
    assert [end.tolist() for end in ranking.bootstrap_interval(np.ones((1, 2)))] == [[1, 1], [1, 1]]
    assert np.isnan(ranking.bootstrap_interval(np.zeros((0, 2)))).all()


def test_of_many_queries_a_sample_is_kept_that_does_not_depend_on_the_order(monkeypatch):
    monkeypatch.setattr(ranking, "MOST_KEPT", 50)
    rng = np.random.default_rng(0)
    queries = [[(rng.normal(), g) for g in rng.integers(0, 3, 5)] for _ in range(400)]
    scores, grades, start, qid = judged(queries)
    whole = ranking.accumulate(scores, grades, start, qid)
    halves = [
        ranking.accumulate(
            scores[start[lo] : start[hi]],
            grades[start[lo] : start[hi]],
            start[lo : hi + 1] - start[lo],
            qid[lo:hi],
        )
        for lo, hi in ((200, 400), (0, 200))
    ]
    both = ranking.merge(*halves)
    assert ranking.per_query(both) == ranking.per_query(whole)
    assert len(whole.kept.qid) == 50
    assert ranking.scores(both) == pytest.approx(ranking.scores(whole))
    assert both.n_queries == 400
    assert np.ptp(whole.kept.qid) > 300, "from all over"
    ends = ranking.intervals(both)
    assert ends["map_low"] < ends["map_high"]
