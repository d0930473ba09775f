"""Alternating least squares of the library ``implicit``, where it is installed, scored by the code that scores ours."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from oocml.engine.in_memory import problem_of
from oocml.models.robirank_implicit import RobirankImplicit
from oocml.types import Bounds, Csr, Panel

from .datasets import Splits
from .ranking_interactions import in_memory

NAME = "implicit: ALS"
SETTINGS = ((0.05, 10.0), (50.0, 5.0), (50.0, 10.0), (10.0, 30.0))
"""(regularisation, alpha) that are tried, on a tenth of the training data: the best of a wider grid on several sets."""
CHOOSING = 15
"""Iterations of each of them."""
CRITERION = "ndcg_at_10"


def is_installed() -> bool:
    return importlib.util.find_spec("implicit") is not None


def als_lines(splits: Splits, n_factors: int, lengths: Sequence[int], seed: int) -> Iterator[dict[str, Any]]:
    """A line for each number of iterations, with the settings that did best on a tenth of the training data."""
    assert splits.test is not None
    train, test = in_memory(splits.train), in_memory(splits.test)
    kept, asked = drawn_apart(train, seed)
    n_items = max(int(train.indices.max()), int(test.indices.max())) + 1

    def quality(setting: tuple[float, float]) -> float:
        found, _ = fitted(kept, asked, n_items, setting, n_factors, CHOOSING, seed)
        return float(found[CRITERION])

    best = max(SETTINGS, key=quality)
    for n in lengths:
        found, seconds = fitted(train, test, n_items, best, n_factors, n, seed)
        note = f"regularization {best[0]:g}, alpha {best[1]:g}"
        yield {
            "dataset": splits.name,
            "method": NAME,
            "epochs": n,
            "cpu_seconds": seconds,
            "note": note,
            **found,
        }


def fitted(
    train: Csr,
    test: Csr,
    n_items: int,
    setting: tuple[float, float],
    n_factors: int,
    n_iterations: int,
    seed: int,
) -> tuple[dict[str, float], float]:
    """Metrics, and seconds of processor time of the fit."""
    from implicit.als import AlternatingLeastSquares

    regularization, alpha = setting
    model = AlternatingLeastSquares(
        factors=n_factors,
        regularization=regularization,
        alpha=alpha,
        iterations=n_iterations,
        num_threads=1,
        random_state=seed,
    )
    ones = np.ones(len(train.data), np.float32)
    matrix = sp.csr_matrix((ones, train.indices, train.indptr), shape=(len(train.indptr) - 1, n_items))
    start = time.process_time()
    model.fit(matrix, show_progress=False)
    seconds = time.process_time() - start
    return scores_of(train, test, np.asarray(model.user_factors), np.asarray(model.item_factors)), seconds


def scores_of(train: Csr, test: Csr, U: Any, V: Any) -> dict[str, float]:
    """Metrics of factors; users beyond those of the training have none."""
    n_rows = len(train.indptr) - 1
    n_asked = test.indptr[n_rows]
    asked = Csr(test.indptr[: n_rows + 1], test.indices[:n_asked], test.data[:n_asked])
    model, n_items = RobirankImplicit(), len(V)
    problem = problem_of(model, Panel(train, None, np.arange(n_rows)), n_items, None)
    scoring = model.scoring(problem, 0)
    state = {"U": np.asarray(U[:n_rows], np.float32), "row_count": np.diff(train.indptr)}
    batch = scoring.begin(asked, n_rows, state)
    col = {"V": np.asarray(V, np.float32), "col_bias": np.zeros(n_items, np.float32)}
    for _ in range(scoring.streams):
        scoring.visit(batch, asked, Bounds(0, n_items), col, train)
    found = scoring.scores(scoring.metrics(batch, asked))
    return {name: value for name, value in found.items() if name != "objective"}


def drawn_apart(X: Csr, seed: int) -> tuple[Csr, Csr]:
    """Nine tenths of the entries, and the rest."""
    out = np.random.default_rng(seed).random(len(X.data)) < 0.1
    rows = np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr))
    parts = []
    for chosen in (~out, out):
        indptr = np.searchsorted(rows[chosen], np.arange(len(X.indptr))).astype(np.int64)
        parts.append(Csr(indptr, X.indices[chosen], X.data[chosen]))
    return parts[0], parts[1]
