"""Other libraries' rankers of graded rows, with their defaults, on one thread. Each returns the test rows' scores."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np

from oocml.metrics import ranking
from oocml.types import Float64Array

from .ranking_folds import Graded

Fit = Callable[[Graded, Graded, Graded, int], Float64Array]
"""From training, validation and test data and a seed."""

COSTS = tuple(10.0**p for p in range(-5, 1))
"""Of the linear support vector machine: chosen on the validation data."""


def lightgbm_default(train: Graded, valid: Graded, test: Graded, seed: int) -> Float64Array:
    del valid
    return _lightgbm(train, None, test, seed)


def lightgbm_stopped(train: Graded, valid: Graded, test: Graded, seed: int) -> Float64Array:
    return _lightgbm(train, valid, test, seed)


def _lightgbm(train: Graded, valid: Graded | None, test: Graded, seed: int) -> Float64Array:
    from lightgbm import LGBMRanker, early_stopping

    model = LGBMRanker(n_jobs=1, random_state=seed, verbose=-1, **({"n_estimators": 1000} if valid else {}))
    more = {}
    if valid is not None:
        more = {
            "eval_X": valid.X,
            "eval_y": valid.grade.astype(int),
            "eval_group": [np.diff(valid.start)],
            "eval_at": [10],
            "callbacks": [early_stopping(50, verbose=False)],
        }
    model.fit(train.X, train.grade.astype(int), group=np.diff(train.start), **more)
    return np.asarray(model.predict(test.X), np.float64)


def xgboost_default(train: Graded, valid: Graded, test: Graded, seed: int) -> Float64Array:
    del valid
    return _xgboost(train, None, test, seed)


def xgboost_stopped(train: Graded, valid: Graded, test: Graded, seed: int) -> Float64Array:
    return _xgboost(train, valid, test, seed)


def _xgboost(train: Graded, valid: Graded | None, test: Graded, seed: int) -> Float64Array:
    from xgboost import XGBRanker

    stopping = {"n_estimators": 1000, "early_stopping_rounds": 50} if valid else {}
    model = XGBRanker(
        objective="rank:ndcg", eval_metric="ndcg@10-", n_jobs=1, random_state=seed, verbosity=0, **stopping
    )
    more = {}
    if valid is not None:
        more = {"eval_set": [(valid.X, valid.grade)], "eval_qid": [_query_of_rows(valid)], "verbose": False}
    model.fit(train.X, train.grade, qid=_query_of_rows(train), **more)
    return np.asarray(model.predict(test.X), np.float64)


def linear_svm(train: Graded, valid: Graded, test: Graded, seed: int) -> Float64Array:
    """A linear support vector machine on differences of pairs, features standardised (RankSVM with squared hinge)."""
    from sklearn.svm import LinearSVC

    spread = train.X.std(axis=0)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    pairs = differences(train) * scale
    signs = np.where(np.arange(len(pairs)) % 2, -1.0, 1.0)  # both classes have to occur
    best, scores = -np.inf, np.zeros(len(test.X))
    for cost in COSTS:
        model = LinearSVC(C=cost, fit_intercept=False, dual=False, random_state=seed)
        model.fit(pairs * signs[:, None], signs)
        weights = model.coef_[0] * scale
        found = ranking.scores(ranking.accumulate(valid.X @ weights, *valid[1:]))["ndcg_at_10"]
        if found > best:
            best, scores = found, test.X @ weights
    return scores


def differences(data: Graded) -> Float64Array:
    """x - x' for all pairs of rows of one query of which the first has the higher grade."""
    found = []
    for lo, hi in zip(data.start[:-1], data.start[1:], strict=True):
        better, worse = np.nonzero(data.grade[lo:hi, None] > data.grade[None, lo:hi])
        found.append(data.X[lo + better] - data.X[lo + worse])
    return np.concatenate(found)


def _query_of_rows(data: Graded) -> np.ndarray:
    return np.repeat(np.arange(len(data.qid)), np.diff(data.start))


PEERS: dict[str, tuple[str, Fit]] = {
    "LightGBM lambdarank": ("lightgbm", lightgbm_default),
    "LightGBM lambdarank, stopped early": ("lightgbm", lightgbm_stopped),
    "XGBoost rank:ndcg": ("xgboost", xgboost_default),
    "XGBoost rank:ndcg, stopped early": ("xgboost", xgboost_stopped),
    "linear RankSVM": ("sklearn", linear_svm),
}
"""The package that each needs, and how it is fitted."""


def installed() -> Iterator[str]:
    """Names in `PEERS` that can be run."""
    return (name for name, (package, _) in PEERS.items() if importlib.util.find_spec(package) is not None)
