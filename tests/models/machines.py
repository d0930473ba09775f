"""Planted data for factorization machines, and their objective by definition."""

import numpy as np

from oocml.models.fm import FM
from oocml.models.fm_settings import ridges
from tests.kernels.factored import machine
from tests.models.tiled import begin, csr


def planted(n_rows=300, n_cols=25, rank=2, density=0.3, seed=0, classify=True):
    """Sparse rows whose target comes from a machine, with noise; one row is empty, one feature never occurs."""
    rng = np.random.default_rng(seed)
    X = (rng.random((n_rows, n_cols)) < density) * rng.gamma(2, size=(n_rows, n_cols))
    X[5], X[:, 3] = 0, 0
    X = X.astype(np.float32)
    f = machine(X / 2, 0.5 * rng.normal(size=(n_cols, rank)), 0.5 * rng.normal(size=n_cols), 0.3)
    if classify:
        return X, np.where(f + rng.logistic(size=n_rows) > np.median(f), 7.0, 2.0)
    return X, 50 + 10 * (f - f.mean()) / f.std() + rng.normal(size=n_rows)


def training(X, y, **settings):
    return begin(FM(), csr(X), X.shape[1], y, **({"n_factors": 3} | settings))


def scaled(X):
    """Features over their root mean square over entries."""
    X = X.astype(np.float64)
    count = np.maximum((X != 0).sum(axis=0), 1)
    rms = np.sqrt((X**2).sum(axis=0) / count)
    return X / np.where(rms > 0, rms, 1)


def output(run, X):
    """f of every row, in float64, from the definition."""
    V = run.joined("V").astype(np.float64) if "V" in run.specs else np.zeros((X.shape[1], 1))
    return machine(scaled(X), V, run.joined("w").astype(np.float64), float(run.state["w0", 0, 0][0]))


def losses_of(run, X, y):
    """Of rows of the training (features are scaled as they were there); anything where there is no target."""
    f = output(run, X)
    if "target" in run.specs:
        center, scale = run.state["target", 0, 0][:2]
        return (f - (y - center) / scale) ** 2 / 2
    return np.logaddexp(0, np.where(y == run.problem.labels[1], -f, f))


def objective(run, X, y):
    """Mean loss of rows with a target, and the ridge of their entries (or of every feature)."""
    kept = ~np.isnan(y)
    losses = losses_of(run, X, y)[kept]
    linear, factors = ridges(run.problem)
    each = linear * run.joined("w").astype(np.float64) ** 2
    if "V" in run.specs:
        each = each + factors * (run.joined("V").astype(np.float64) ** 2).sum(axis=1)
    times = (X[kept] != 0).sum(axis=0) / kept.sum()
    if not run.problem.settings["weighted_l2"]:
        times = (X != 0).any(axis=0)
    return losses.mean() + times @ each / 2
