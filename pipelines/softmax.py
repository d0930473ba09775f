"""The softmax problem in memory: the exact objective in double precision, and scikit-learn's solvers on it.

scikit-learn minimises C sum(loss) + |w|^2 / 2, so C = 1 / (N l2) gives our mean(loss) + (l2 / 2) |w|^2. For two
classes it keeps one vector where a softmax has two opposite halves of it, which halves the penalty: C doubles.
"""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from oocml.data.dataset import Dataset
from oocml.errors import UsageError
from oocml.metrics.classification import label_codes
from oocml.types import Float64Array, Int64Array

BATCH_ROWS = 4096


class InMemory(NamedTuple):
    """A dataset with one class per row."""

    X: sp.csr_matrix
    """Shape (n_rows, n_features), rows in stored order."""
    y: Int64Array
    """Class number of each row; -1 for a class that the training set doesn't have."""
    n_classes: int


class Linear(NamedTuple):
    """A linear classifier in memory."""

    W: npt.NDArray[Any]
    """Shape (n_features, n_classes)."""
    intercept: npt.NDArray[Any]
    """Shape (n_classes,)."""


class Fit(NamedTuple):
    seconds: float
    """Of the call of ``fit`` alone."""
    model: Linear
    n_iter: int
    converged: bool
    """Whether it ended by its own rule, not by ``max_iter``."""


class Solver(NamedTuple):
    copies: float
    """Memory, in double-precision copies of the model."""
    passes_per_step: float
    """Least passes over the data that a step takes; 0 where the solver doesn't tell."""


SOLVERS = {
    "newton-cg": Solver(10, 0),
    "lbfgs": Solver(40, 1),
    "saga": Solver(5, 1),
    "sgd": Solver(2.2, 1),
}
"""scikit-learn's solvers for many classes. Copies: the largest model each fitted under a limit of 2 GiB."""


def load(path: str | Path, like: str | Path | None = None, dtype: Any = np.float64) -> InMemory:
    """Read a whole dataset; with ``like`` its classes are numbered as the training set's.

    Raises
    ------
    UsageError
        Rows have no class, or sets of them.
    """
    dataset = Dataset.open(path)
    labels = (dataset if like is None else Dataset.open(like)).labels
    if dataset.label_kind != "number" or labels is None:
        raise UsageError(f"{path} does not have one class per row; scikit-learn's solvers need that")
    panels = [dataset.read_panel(p) for p in range(dataset.n_panels)]
    blocks = [
        sp.csr_matrix((panel.X.data.astype(dtype), panel.X.indices, panel.X.indptr), (rows, dataset.n_cols))
        for panel in panels
        for rows in [len(panel.X.indptr) - 1]
    ]
    y = [label_codes(panel.y, np.asarray(labels, np.float64)) for panel in panels]
    return InMemory(sp.vstack(blocks, format="csr"), np.concatenate(y), len(labels))


def objective(problem: InMemory, l2: float, model: Linear) -> float:
    """Mean log loss + (l2 / 2) |W|^2, exact to double precision; the intercept isn't penalised."""
    W, total = model.W.astype(np.float64), 0.0
    for lo in range(0, len(problem.y), BATCH_ROWS):
        y = problem.y[lo : lo + BATCH_ROWS]
        Z = problem.X[lo : lo + BATCH_ROWS] @ W + model.intercept
        top = Z.max(axis=1)
        lse = top + np.log(np.exp(Z - top[:, None]).sum(axis=1))
        total += float((lse - Z[np.arange(len(y)), y]).sum())
    return total / len(problem.y) + l2 / 2 * float((W * W).sum())


def distance(problem: InMemory, l2: float, model: Linear) -> float:
    """At most how far the objective is above its minimum: |gradient|^2 / (2 l2), by strong convexity in W.

    The intercept has no such bound of its own; its gradient is counted with the others.
    """
    W = model.W.astype(np.float64)
    gradient, of_intercept = l2 * W, np.zeros(problem.n_classes)
    for lo in range(0, len(problem.y), BATCH_ROWS):
        X, y = problem.X[lo : lo + BATCH_ROWS], problem.y[lo : lo + BATCH_ROWS]
        Z = X @ W + model.intercept
        P = np.exp(Z - Z.max(axis=1, keepdims=True))
        P /= P.sum(axis=1, keepdims=True)
        P[np.arange(len(y)), y] -= 1
        gradient += X.T @ P / len(problem.y)
        of_intercept += P.sum(axis=0) / len(problem.y)
    return float((gradient**2).sum() + (of_intercept**2).sum()) / (2 * l2)


def scores(problem: InMemory, model: Linear) -> dict[str, float]:
    """Accuracy and macro F1."""
    from sklearn.metrics import f1_score

    best = np.concatenate(
        [
            np.argmax(problem.X[lo : lo + BATCH_ROWS] @ model.W + model.intercept, axis=1)
            for lo in range(0, len(problem.y), BATCH_ROWS)
        ]
    )
    f1 = f1_score(problem.y, best, average="macro", zero_division=0.0)
    return {"accuracy": float((best == problem.y).mean()), "f1_macro": float(f1)}


def bytes_needed(solver: str, n_rows: int, n_features: int, n_classes: int, nnz: int) -> int:
    """About what a solver takes: copies of the model, the data, and for all but SGD rows x classes twice."""
    rows = 0 if solver == "sgd" else 16 * n_rows * n_classes
    return int(SOLVERS[solver].copies * 8 * n_features * n_classes + 12 * nnz + rows)


def fit(solver: str, problem: InMemory, l2: float, max_iter: int, tol: float = 1e-10, jobs: int = 1) -> Fit:
    """Fit once from zero, for at most ``max_iter`` iterations (epochs for saga and sgd)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    n_rows, binary = len(problem.y), problem.n_classes == 2
    if solver == "sgd":
        estimator = SGDClassifier(
            loss="log_loss", alpha=l2, max_iter=max_iter, tol=None, random_state=0, n_jobs=jobs
        )
    else:
        C = (2 if binary else 1) / (n_rows * l2)
        estimator = LogisticRegression(C=C, solver=solver, max_iter=max_iter, tol=tol, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # scipy's line search says so where the objective can't fall any further in double precision
        warnings.filterwarnings("ignore", message=".*[Ll]ine [Ss]earch.*")
        began = time.perf_counter()
        estimator.fit(problem.X, problem.y)
        seconds = time.perf_counter() - began
    n_iter = int(np.max(estimator.n_iter_))
    W, intercept = estimator.coef_.T, estimator.intercept_
    if binary:
        W, intercept = np.hstack([-W / 2, W / 2]), np.hstack([-intercept / 2, intercept / 2])
    present = np.unique(problem.y)
    if len(present) < problem.n_classes:  # a class of the training set's list that no row has
        W, intercept = _spread(W, intercept, present, problem.n_classes)
    return Fit(seconds, Linear(W, intercept), n_iter, solver != "sgd" and n_iter < max_iter)


def _spread(W: Float64Array, intercept: Float64Array, present: Int64Array, n_classes: int) -> tuple[Any, Any]:
    whole, offsets = np.zeros((W.shape[0], n_classes)), np.full(n_classes, -math.inf)
    whole[:, present], offsets[present] = W, intercept
    return whole, offsets
