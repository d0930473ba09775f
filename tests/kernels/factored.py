"""Small tiles for factorization machines, and float64 references."""

import numpy as np

from oocml.kernels.fm import FeatureBlock, Step, TargetRows


def csr_of(X):
    rows, cols = X.nonzero()
    indptr = np.searchsorted(rows, np.arange(len(X) + 1)).astype(np.int64)
    return indptr, cols.astype(np.int32), X[rows, cols].astype(np.float32)


def problem(seed=0, n_rows=9, n_cols=6, n_factors=5, logistic=True, density=0.6):
    """X, tile and block; the first row is empty, the second has no target, the first feature never occurs."""
    rng = np.random.default_rng(seed)
    X = (rng.random((n_rows, n_cols)) < density) * rng.normal(size=(n_rows, n_cols))
    X[0], X[:, 0] = 0, 0
    X = X.astype(np.float32)
    t = rng.choice([-1.0, 1.0], n_rows) if logistic else rng.normal(3, 2, n_rows)
    t[1] = np.nan
    block = FeatureBlock(
        (rng.normal(size=(n_cols, n_factors)) / max(n_factors, 1) ** 0.5).astype(np.float32),
        rng.normal(size=n_cols).astype(np.float32),
        rng.uniform(1, 3, (n_cols, 2)).astype(np.float32),
        rng.uniform(0.5, 2, n_cols).astype(np.float32),
    )
    return X.astype(np.float64), TargetRows(*csr_of(X), t), block


def step_of(eta=0.1, l2_linear=0.2, l2_factors=0.3, adagrad=True, logistic=True):
    rates = (np.float32(value) for value in (eta, l2_linear, l2_factors))
    return Step(*rates, adagrad, logistic, 3.0, 0.5)


def sums_of(X, V, w):
    return np.hstack([X @ V, (X @ w)[:, None], (X**2 @ (V**2).sum(axis=1))[:, None]])


def machine(X, V, w, w0):
    """f by its definition, pair by pair."""
    f = w0 + X @ w
    for j in range(X.shape[1]):
        for k in range(j):
            f = f + X[:, j] * X[:, k] * (V[j] @ V[k])
    return f


def losses(f, t, step):
    if step.logistic:
        return np.logaddexp(0, -t * f)
    return (f - (t - step.center) * step.inverse_scale) ** 2 / 2


def ridge_of(X, V, w, share, step):
    each = share * (step.l2_factors * (V**2).sum(axis=1) + step.l2_linear * w**2)
    return ((X != 0) @ each).sum() / 2


def slope_in_numpy(f, t, step):
    if step.logistic:
        return -t / (1 + np.exp(t * f))
    return f - (t - step.center) * step.inverse_scale


def visit_in_numpy(X, t, order, rest, block, bias, step):
    """The visit as its docstring has it, row by row; returns V, w, h, bias, and sums of losses and ridge."""
    V, w, h, share = (array.astype(np.float64) for array in block)
    bias, total, ridge, K = bias.astype(np.float64), 0.0, 0.0, block.V.shape[1]
    for i in order:
        if np.isnan(t[i]):
            continue
        x = X[i]
        sums = rest[i] + sums_of(x[None], V, w)[0]
        f = bias[0] + sums[K] + (sums[:K] @ sums[:K] - sums[K + 1]) / 2
        total += losses(f, t[i], step)
        ridge += ridge_of(x[None], V, w, share, step)
        g = slope_in_numpy(f, t[i], step)
        curvature = (1 + x @ x * (1 + sums[:K] @ sums[:K])) * (0.25 if step.logistic else 1)
        eta = step.eta / max(1, step.eta * curvature / 2)
        if len(bias) > 1:
            bias[0] -= eta * g / np.sqrt(bias[1])
            bias[1] += g * g if step.adagrad else 0
        for j in np.flatnonzero(x):
            rate = eta / np.sqrt(h[j]) if step.adagrad else np.full(2, eta)
            g_w = g * x[j] + min(share[j] * step.l2_linear, 1 / rate[0]) * w[j]
            pull = min(share[j] * step.l2_factors, 1 / rate[1])
            g_v = g * x[j] * (sums[:K] - x[j] * V[j]) + pull * V[j]
            w[j] -= rate[0] * g_w
            V[j] -= rate[1] * g_v
            if step.adagrad:
                h[j] += [g_w**2, (g_v**2).sum() / max(K, 1)]
    return V, w, h, bias, (total, ridge)
