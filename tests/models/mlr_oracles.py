"""What the batch solvers of MLR are held against, in float64 and by other people's code."""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from oocml.data.writer import DatasetWriter
from oocml.types import Panel
from tests.models.test_mlr import csr


def write_panels(path: Path, X, y, n_panels=6) -> Path:
    writer = DatasetWriter(str(path), n_cols=X.shape[1], label_kind="number")
    for p, rows in enumerate(np.array_split(np.arange(len(X)), n_panels)):
        writer.write_panel(p, Panel(csr(X[rows]), y[rows], rows))
    writer.finish(n_panels=n_panels, attrs={}, labels=np.unique(y))
    return path


def optimum(X, y, l2, fit_intercept=True):
    """The objective scikit-learn gets to."""
    fitted = LogisticRegression(C=1 / (len(X) * l2), fit_intercept=fit_intercept, tol=1e-7, max_iter=10_000)
    X = X.astype(np.float64)
    fitted.fit(X, y)
    losses = -fitted.predict_log_proba(X)[np.arange(len(X)), np.searchsorted(fitted.classes_, y)]
    return losses.mean() + l2 / 2 * (fitted.coef_**2).sum()


def randomise(run, seed=0, exact=True):
    """Weights, and a log a that fits them or does not."""
    rng = np.random.default_rng(seed)
    for (name, _, _), block in run.state.items():
        if name in ("W", "intercept"):
            block[...] = 0.3 * rng.normal(size=block.shape)
    X = rows_of(run)
    Z = X @ run.joined("W").astype(np.float64) + run.joined("intercept")
    log_a = -np.log(np.exp(Z).sum(axis=1)) + (0 if exact else rng.normal(size=len(X)))
    for p, rows in enumerate(run.rows):
        run.state["log_a", p, 0][...] = log_a[rows.lo : rows.hi]
    return log_a


def rows_of(run):
    """The data as a dense matrix."""
    X = np.zeros((run.problem.n_rows, run.problem.n_features))
    indptr, indices, data = run.panel.X
    X[np.repeat(np.arange(len(X)), np.diff(indptr)), indices] = data
    return X


def numeric_gradient(function, W, c, h=1e-5):
    """Central differences of a function of (W, c), as one array with the intercepts last."""
    point = np.concatenate([W, c[None]]).astype(np.float64)
    gradient = np.zeros_like(point)
    for index in np.ndindex(*point.shape):
        ends = []
        for sign in (1, -1):
            moved = point.copy()
            moved[index] += sign * h
            ends.append(function(moved[:-1], moved[-1]))
        gradient[index] = (ends[0] - ends[1]) / (2 * h)
    return gradient
