"""RoBiRank on LETOR sets, beside gradient boosted trees and a linear support vector machine.

Of every fold the ridge is chosen on the validation part by NDCG@10, from independent trainings. Scores are of queries
with a relevant row, means over the folds; ``all`` counts the others as 0. Intervals are 95 % bootstrap intervals over
the test queries of all folds, ``difference`` is that of the default method's NDCG@10 less the line's, paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oocml import api
from oocml.metrics import ranking
from oocml.metrics.ranking import NAMES, QueryScores, bootstrap_interval

from .bench_options import one_thread, say
from .ranking_folds import Fold, Graded, folds, in_memory
from .ranking_options import Chosen
from .ranking_peers import PEERS, installed
from .table import Section
from .training import discard

SETS = ("mq2008",)
DEFAULT = "RoBiRank"
WAYS: Mapping[str, Mapping[str, Any]] = {
    DEFAULT: {},
    "all pairs (rho 0)": {"rho": 0},
}
MORE_WAYS: Mapping[str, Mapping[str, Any]] = {
    "RoBiRank, rho 2": {"rho": 2},
    "RoBiRank, queries weigh as much": {"max_dcg": False},
}
RIDGES = (1.0, 0.1, 0.01, 0.001)
MORE_RIDGES = tuple(10 ** (0.5 - i / 2) for i in range(10))
CRITERION = "ndcg_at_10"
GOALS = {"mq2008": (0.695, 0.500)}
"""NDCG@10 without and with the queries that have nothing relevant."""
TREES, LINEAR = "LightGBM lambdarank", "linear RankSVM"
NEAR = 0.003
"""How far the best linear peer may be ahead."""
SHOWN = ("ndcg_at_1", "ndcg_at_5", CRITERION, "map", "precision_at_10")


@dataclass
class Judged:
    """What a method scored, fold by fold."""

    scores: list[QueryScores] = field(default_factory=list)
    ridges: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """Processor time of the fits, all that were made to choose one among them."""

    def means(self, name: str, *, every: bool = False) -> float:
        """Over folds of the means over queries with a relevant row, or over every query."""
        found = []
        for scores in self.scores:
            values = scores.values[:, NAMES.index(name)]
            found.append(values.mean() if every else values[scores.n_relevant > 0].mean())
        return float(np.mean(found))

    def by_query(self, name: str) -> np.ndarray:
        """Of all test queries with a relevant row, in an order that all methods share."""
        found = []
        for scores in self.scores:
            order = np.argsort(scores.qid, kind="stable")
            order = order[scores.n_relevant[order] > 0]
            found.append(scores.values[order, NAMES.index(name)])
        return np.concatenate(found)


def explicit(options: Chosen) -> Section:
    """The section: a line for every set and method."""
    section = Section("explicit", "graded rows of queries: means over folds, one thread")
    for name in sorted(set(PEERS) - set(installed())):
        section.notes.append(f"{name} left out: {PEERS[name][0]} is not installed")
    for name in options.sets or SETS:
        found = folds(name, options.data, options.data_dir)
        with one_thread():
            judged = judge(name, found, options, section)
        section.rows += [line(name, method, one, judged[DEFAULT]) for method, one in judged.items()]
        hold_against_goals(name, judged, section)
    return section


def judge(name: str, found: Sequence[Fold], options: Chosen, section: Section) -> dict[str, Judged]:
    """All methods on all folds; one that fails is noted and left out."""
    ways = {**WAYS, **(MORE_WAYS if options.full else {})}
    judged = {method: Judged() for method in ways}
    for fold in found:
        for method, settings in ways.items():
            say(f"{name} fold {fold.number}: {method}")
            train_and_choose(fold, settings, options, judged[method])
    for method in installed():
        one = Judged()
        try:
            for fold in found:
                say(f"{name} fold {fold.number}: {method}")
                fit_peer(PEERS[method][1], fold, options.seed, one)
        except Exception as error:  # another library's, of whatever kind
            section.notes.append(f"{name}: {method} left out: {type(error).__name__}: {error}")
            continue
        judged[method] = one
    return judged


def train_and_choose(fold: Fold, settings: Mapping[str, Any], options: Chosen, judged: Judged) -> None:
    """Train with every ridge, and score the test part with the one that validation likes best."""
    best, chosen, began = -np.inf, (0.0, None), time.process_time()
    for l2 in MORE_RIDGES if options.full else RIDGES:
        run = api.train(
            "robirank",
            str(fold.train),
            options.scratch,
            settings={**settings, "l2": l2},
            schedule="serial",
            seed=options.seed,
            overwrite=True,
        )
        value = run.evaluate(fold.valid)[CRITERION]
        if value > best:
            best, chosen = value, (l2, run.evaluate(fold.test, per_query=True)["per_query"])
    discard(options.scratch)
    judged.seconds += time.process_time() - began
    judged.ridges.append(chosen[0])
    judged.scores.append(of_records(chosen[1]))  # type: ignore[arg-type]


def of_records(records: Sequence[Mapping[str, Any]]) -> QueryScores:
    """The scores of queries from what `evaluate` tells of them."""
    qid, n_rows, n_relevant = (
        np.array([record[name] for record in records], np.int64) for name in QueryScores._fields[:3]
    )
    values = np.array([[record[name] or 0.0 for name in NAMES] for record in records])
    return QueryScores(qid, n_rows, n_relevant, values)


def fit_peer(fit: Callable[..., Any], fold: Fold, seed: int, judged: Judged) -> None:
    train, valid, test = (in_memory(path) for path in fold[1:])
    began = time.process_time()
    scores = fit(train, valid, test, seed)
    judged.seconds += time.process_time() - began
    judged.scores.append(scored(scores, test))


def scored(scores: np.ndarray, test: Graded) -> QueryScores:
    return ranking.score_queries(scores, test.grade, test.start, test.qid)


def line(name: str, method: str, judged: Judged, default: Judged) -> dict[str, Any]:
    """A line of the table."""
    values = judged.by_query(CRITERION)
    low, high = (float(end) for end in bootstrap_interval(values))
    row: dict[str, Any] = {"dataset": name, "method": method}
    row |= {shown: judged.means(shown) for shown in SHOWN}
    row |= {"ndcg_at_10_all": judged.means(CRITERION, every=True), "low": low, "high": high}
    if judged is not default:
        apart = default.by_query(CRITERION) - values
        low, high = (float(end) for end in bootstrap_interval(apart))
        row |= {"difference": float(apart.mean()), "difference_low": low, "difference_high": high}
    row["cpu_seconds"] = judged.seconds
    row["l2"] = " ".join(f"{l2:.2g}" for l2 in judged.ridges)
    return row


def hold_against_goals(name: str, judged: Mapping[str, Judged], section: Section) -> None:
    ours = judged[DEFAULT]
    value = ours.means(CRITERION)
    if name in GOALS:
        goal, goal_of_all = GOALS[name]
        section.add(f"{name}: NDCG@10", value, goal)
        section.add(f"{name}: NDCG@10, other queries as 0", ours.means(CRITERION, every=True), goal_of_all)
    if TREES in judged:
        section.add(f"{name}: NDCG@10 above {TREES}", value - judged[TREES].means(CRITERION), 0.0)
    if LINEAR in judged:
        section.add(f"{name}: NDCG@10 above {LINEAR}", value - judged[LINEAR].means(CRITERION), -NEAR)
