"""Small tiles of ratings, and a float64 reference of matrix factorization."""

import numpy as np

from oocml.kernels.mf import BIAS_SHARE, Side, Step
from oocml.types import Csr


def csr(R, present):
    rows, cols = present.nonzero()
    indptr = np.searchsorted(rows, np.arange(len(R) + 1)).astype(np.int64)
    return Csr(indptr, cols.astype(np.int32), R[rows, cols].astype(np.float32))


def problem(seed=0, n_rows=9, n_cols=7, n_factors=5, density=0.5):
    """A tile, its present entries, and both sides; the first row and column have no rating."""
    rng = np.random.default_rng(seed)
    present = rng.random((n_rows, n_cols)) < density
    present[0], present[:, 0] = False, False
    R = np.where(present, rng.integers(1, 6, present.shape), 0)
    sides = []
    for n, count in ((n_rows, present.sum(axis=1)), (n_cols, present.sum(axis=0))):
        F = (rng.normal(size=(n, n_factors)) / n_factors**0.5).astype(np.float32)
        b, h = rng.normal(size=n).astype(np.float32), rng.uniform(1, 3, (n, 2)).astype(np.float32)
        sides.append(Side(F, b, h, count.astype(np.float32)))
    return csr(R, present), present, *sides


def step_of(eta=0.1, l2=0.3, floor=-np.inf, adagrad=True, biases=True, weighted=True):
    numbers = [np.float32(value) for value in (eta, l2, floor)]
    return Step(*numbers, adagrad, biases, weighted, np.float32(3), np.float32(0.8))


def doubled(side):
    return Side(*(array.astype(np.float64) for array in side))


def objective(tile, rows, cols, step):
    """(sum of e^2 / 2, rows' ridge, columns' ridge) from the definition."""
    loss, ridges = 0.0, np.zeros(2)
    for i in range(len(tile.indptr) - 1):
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j = tile.indices[e]
            z = (tile.data[e] - step.center) * np.float64(step.inverse_scale)
            loss += (z - rows.b[i] - cols.b[j] - rows.F[i] @ cols.F[j]) ** 2 / 2
            for s, (side, n) in enumerate(((rows, i), (cols, j))):
                l2 = step.l2 if step.weighted else step.l2 / side.count[n]
                ridges[s] += l2 / 2 * (side.F[n] @ side.F[n] + BIAS_SHARE * side.b[n] ** 2)
    return loss, *ridges


def visit_in_numpy(tile, order, rows, cols, step):
    """The visit as its docstring has it, rating by rating; returns the sides and the loss before the steps."""
    rows, cols, loss = doubled(rows), doubled(cols), 0.0
    for i in order:
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j = tile.indices[e]
            z = (tile.data[e] - step.center) * np.float64(step.inverse_scale)
            r = z - rows.b[i] - cols.b[j] - rows.F[i] @ cols.F[j]
            loss += r * r / 2
            before = rows.F[i].copy(), cols.F[j].copy()
            for side, n, other in ((rows, i, before[1]), (cols, j, before[0])):
                l2 = step.l2 if step.weighted else step.l2 / side.count[n]
                rate = step.eta / np.sqrt(side.h[n]) if step.adagrad else np.full(2, step.eta)
                keep = np.maximum(1 - rate * l2 * [1, BIAS_SHARE], 0)
                g, g_b = l2 * side.F[n] - r * other, BIAS_SHARE * l2 * side.b[n] - r
                side.F[n] = np.maximum(keep[0] * side.F[n] + rate[0] * r * other, step.floor)
                if step.adagrad:
                    side.h[n] += [(g**2).mean(), g_b**2]
                if step.biases:
                    side.b[n] = max(keep[1] * side.b[n] + rate[1] * r, step.floor)
    return rows, cols, loss
