"""What mixtures do row by row: numbers that matrix products take, and what becomes of the products.

The products themselves are numpy's. A row's numbers are 1, its standardised features and their products (squares
alone where covariances are diagonal): with them the expected log density under every component is one product, and
the statistics of all components are another.
"""

from typing import Any

import numpy as np

from oocml.kernels.exp import exp32
from oocml.kernels.jit import inlined, jit
from oocml.types import Csr

EMPTY = -1e300
"""The maximum of a log-sum-exp over nothing."""
NOTHING = np.float32(-60.0)
"""Log of what counts as 0: smaller shares would make matrix products handle denormal numbers."""

# i=row of the panel, r=row of the work array, j=l=feature, k=component, e=entry


@jit
def gmm_fill(
    X: Csr, lo: int, hi: int, center: np.ndarray, inverse_sd: np.ndarray, full: bool, phi: np.ndarray
) -> None:
    """Fill ``phi`` with 1, x and x^2 (or all products x_j x_l, j <= l) of rows ``lo`` to ``hi``, x standardised.

    Parameters
    ----------
    center, inverse_sd
        Shape (n_features,), float64.
    phi
        Shape (at least hi - lo, 1 + 2 n_features), or 1 + n_features (n_features + 3) / 2 columns if ``full``.
    """
    n = len(center)
    empty = -center * inverse_sd
    x = np.empty(n, phi.dtype)  # apart from where it's written: loops vectorise
    for i in range(lo, hi):
        x[:] = empty
        for e in range(X.indptr[i], X.indptr[i + 1]):
            j = X.indices[e]
            x[j] = (X.data[e] - center[j]) * inverse_sd[j]
        row = phi[i - lo]
        row[0] = 1
        row[1 : 1 + n] = x
        if full:
            place = 1 + n
            for j in range(n):
                products = row[place : place + n - j]
                for l in range(n - j):  # noqa: E741
                    products[l] = x[j] * x[j + l]
                place += n - j
        else:
            squares = row[1 + n :]
            for j in range(n):
                squares[j] = x[j] * x[j]


@inlined
def softmax_row(L: np.ndarray) -> tuple[float, float, float]:
    """Turn scores into exponentials of what they lack to the largest: (largest, sum s, sum of exponential x lack)."""
    m = L[0]
    for k in range(len(L)):
        m = max(m, L[k])
    s = np.float32(0)
    t = np.float32(0)
    for k in range(len(L)):
        d = max(np.float32(L[k] - m), np.float32(-87))
        p = exp32(d) if d > NOTHING else np.float32(0)
        s += p
        t += p * d
        L[k] = p
    return np.float64(m), np.float64(s), np.float64(t)


@jit
def gmm_responsibilities(L: np.ndarray, n: int) -> tuple[float, float]:
    """Turn scores of ``n`` rows into responsibilities; returns the sums of log-sum-exps and of entropies.

    Parameters
    ----------
    L
        Shape (at least n, components): expected log densities in, responsibilities out.
    """
    lse = 0.0
    entropy = 0.0
    for r in range(n):
        m, s, t = softmax_row(L[r])
        log_s = np.log(s)
        lse += m + log_s
        entropy += log_s - t / s
        scale = np.float32(1 / s)
        for k in range(L.shape[1]):
            L[r, k] *= scale
    return lse, entropy


@jit
def gmm_subset(L: np.ndarray, Z: np.ndarray, subset: np.ndarray, scale: np.ndarray) -> float:
    """Share the mass that rows have on a subset of components anew, which leaves that mass as it is.

    Normalising the subset to 1 instead would give rows more than their due. Returns the sum of -z log z over rows and
    subset.

    Parameters
    ----------
    L
        Shape (rows, subset): expected log densities in; overwritten.
    Z
        Shape (rows, components): responsibilities; those of the subset are replaced.
    subset
        Components, int64.
    scale
        Shape (rows,): factors that bring the rows' whole masses to 1.
    """
    entropy = 0.0
    for r in range(len(L)):
        mass = 0.0
        for k in range(len(subset)):
            mass += Z[r, subset[k]]
        mass *= scale[r]
        if mass <= 0:
            continue
        _, s, t = softmax_row(L[r])
        entropy += mass * (np.log(s) - t / s - np.log(mass))
        share = np.float32(mass / s)
        for k in range(len(subset)):
            Z[r, subset[k]] = L[r, k] * share
    return entropy


@jit
def gmm_lse(L: np.ndarray, n: int, lse: np.ndarray) -> None:
    """Merge the scores of ``n`` rows into log-sum-exps.

    ``lse``: shape (n, 2), the maximum so far and the sum of exp(score - maximum).
    """
    for r in range(n):
        m, s, _ = softmax_row(L[r])
        top = max(m, lse[r, 0])
        lse[r, 1] = lse[r, 1] * np.exp(lse[r, 0] - top) + s * np.exp(m - top)
        lse[r, 0] = top


@jit
def gmm_join_lse(parts: np.ndarray, lse: np.ndarray) -> float:
    """Join log-sum-exps over stripes; returns their sum over rows.

    Parameters
    ----------
    parts
        Shape (stripes, rows, 2).
    lse
        Shape (rows,): result.
    """
    total = 0.0
    for i in range(parts.shape[1]):
        top = parts[0, i, 0]
        for q in range(1, parts.shape[0]):
            top = max(top, parts[q, i, 0])
        s = 0.0
        for q in range(parts.shape[0]):
            s += parts[q, i, 1] * np.exp(parts[q, i, 0] - top)
        lse[i] = top + np.log(s)
        total += lse[i]
    return total


@jit
def gmm_shares(L: np.ndarray, n: int, lse: np.ndarray) -> float:
    """Turn scores of some components into responsibilities, given log-sum-exps over all.

    Returns the sum of -z log z.
    """
    entropy = 0.0
    for r in range(n):
        t = np.float32(0)
        for k in range(L.shape[1]):
            d = min(max(np.float32(L[r, k] - lse[r]), np.float32(-87)), np.float32(0))
            p = exp32(d) if d > NOTHING else np.float32(0)
            t -= p * d
            L[r, k] = p
        entropy += np.float64(t)
    return entropy


@jit
def gmm_keep_largest(Z: np.ndarray, n: int, values: np.ndarray, components: np.ndarray) -> float:
    """Keep each row's largest responsibilities alone, in proportion; returns the sum of their entropies.

    Parameters
    ----------
    Z
        Shape (at least n, components): normalised rows in; out, 0 but for the largest.
    values, components
        Shape (n, kept): the largest and where they are, in no order.
    """
    kept = values.shape[1]
    best = np.empty(kept, Z.dtype)
    entropy = 0.0
    for r in range(n):
        for c in range(kept):
            best[c] = Z[r, c]
            components[r, c] = c
        least = best.argmin()
        for k in range(kept, Z.shape[1]):
            if Z[r, k] > best[least]:
                best[least] = Z[r, k]
                components[r, least] = k
                least = best.argmin()
        scale = 1 / best.sum()
        for k in range(Z.shape[1]):
            Z[r, k] = 0
        for c in range(kept):
            z = best[c] * scale
            values[r, c] = z
            Z[r, components[r, c]] = z
            if z > 0:
                entropy -= z * np.log(z)
    return entropy


@inlined
def mixed(x: Any) -> Any:
    """A 64-bit number that looks random and depends on every bit of ``x`` (the finaliser of SplitMix64)."""
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def gmm_draw(
    X: Csr, row_ids: np.ndarray, seed: np.uint64, first: int, n_slots: int, keys: np.ndarray, rows: np.ndarray
) -> None:
    """Draw a row for each of some slots: every row has a slot and a key by its number, the smallest key wins.

    So no row is drawn twice, and neither order nor cut of the data matters.

    Parameters
    ----------
    first, n_slots
        Number of the first slot that ``keys`` holds, and of all slots.
    keys
        Shape (slots,): smallest so far; 1 or more where there is none.
    rows
        Shape (slots, n_features), float64: what was drawn.
    """
    for i in range(len(row_ids)):
        h = mixed(mixed(np.uint64(row_ids[i])) ^ seed)
        slot = int(h % np.uint64(n_slots)) - first
        if slot < 0 or slot >= len(keys):
            continue
        key = np.float64(mixed(h) >> np.uint64(11)) / 9007199254740992.0
        if key < keys[slot]:
            keys[slot] = key
            rows[slot] = 0
            for e in range(X.indptr[i], X.indptr[i + 1]):
                rows[slot, X.indices[e]] = X.data[e]


@jit
def gmm_moments(X: Csr, moments: np.ndarray) -> None:
    """Add the sums of x and of x^2 by feature. ``moments``: shape (2, n_features), float64."""
    for e in range(len(X.data)):
        j = X.indices[e]
        x = np.float64(X.data[e])
        moments[0, j] += x
        moments[1, j] += x * x
