"""Multinomial logistic regression: the fused DS-MLR visit and its companions.

A visit sees a panel of rows and a block of classes. Given log a_i = -log sum_k exp(z_ik) of the last epoch, the loss
of row i is a sum over classes, exp(z_ik + log a_i) - t_ik z_ik with z_ik = x_i . w_k + c_k and t_i the row's labels
as a distribution; so every class block can be visited on its own.
Maths: docs/design.md on DS-MLR; Raman et al., "DS-MLR", KDD 2019; the step is an implicit one (Kulis and Bartlett
2010), exact for classes with t > 0 and linearised for the others.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np
from numba import njit

from oocml.kernels.exp import exp32
from oocml.kernels.jit import inlined, jit
from oocml.kernels.prefetch import prefetch, prefetch_element
from oocml.kernels.row_strips import step_rows, weighted_rows
from oocml.kernels.topk import rank_scores
from oocml.types import Float32Array, Int32Array, Int64Array

CHUNK = np.uint64(512)
"""Classes handled at a time: a row's scores and gradients stay in the first-level cache."""
LINE = np.uint64(16)
"""Floats in a cache line."""
NEWTON_STEPS = 3
EMPTY = np.float32(-1e30)
"""Maximum of no scores; -inf would make inf - inf."""
HIGHEST = np.float32(60)
"""Of a score plus log a where the loss before an update is summed: sums over all classes stay within float32."""

_ZERO = np.float32(0)
_ONE = np.float32(1)
# class indices are unsigned: a signed c0 + k could wrap around for all that numba knows, and would not vectorise
_FIRST = np.uint64(0)


class LabelledRows(NamedTuple):
    """A panel as the kernels read it: rows in CSR, and each row's labels."""

    indptr: Int64Array
    indices: Int32Array
    data: Float32Array
    label_indptr: Int64Array
    """Shape (n_rows + 1,). A row without labels takes no part in training."""
    labels: Int64Array
    """Class numbers; negative ones were never seen in training and match nothing."""
    weight: Float32Array
    """Shape (n_rows,): 1 / number of labels, the probability of each of them."""


class ClassBlock(NamedTuple):
    """The parameters of a range of classes."""

    W: Float32Array
    """Shape (n_features, n_classes of the block)."""
    intercept: Float32Array
    """Shape (n_classes of the block,)."""
    lo: int
    """Number of the block's first class."""


class Step(NamedTuple):
    rates: Float32Array
    """Shape (n_features, 2): each feature's relative step d_j and, in the same cache line, d_j l2 N / n_j,
    which makes L2 shrinkage unbiased when only visited features shrink."""
    eta: np.float32
    d_intercept: np.float32
    """Relative step of the intercept; 0 where there is none."""


@njit(nogil=True, cache=True, error_model="numpy", fastmath=True, forceinline=True)
def largest(S, n):
    """Largest of S[:n]. Assumes no NaN (the exponentials that follow carry it on), so that it vectorises."""
    best = np.float32(-3e38)
    for k in range(n):
        best = max(best, S[k])
    return best


@inlined
def merge_lse(lse, i, m, s):
    """Add s * exp(m) to the sum that lse[i] = (maximum, sum of exp(. - maximum)) stands for."""
    if m > lse[i, 0]:
        lse[i, 1] = lse[i, 1] * np.exp(lse[i, 0] - m) + s
        lse[i, 0] = m
    else:
        lse[i, 1] += s * np.exp(m - lse[i, 0])


@inlined
def add_scores(lse, i, S, n):
    """Merge the scores S[:n] into the log-sum-exp of row i."""
    m = largest(S, n)
    s = _ZERO
    for k in range(n):
        s += exp32(S[k] - m)
    merge_lse(lse, i, m, s)


@inlined
def score_row(rows, i, W, offset, c0, n, S):
    """S[:n] = offset[c0:c0 + n] + x_i W[:, c0:c0 + n]."""
    weighted_rows(S, offset, W, c0, n, rows.indices, rows.data, rows.indptr[i], rows.indptr[i + 1])


@inlined
def prefetch_row(rows, i, W, c0, n):
    """Ask for W[j, c0:c0 + n] of every feature j of row i."""
    # e=nonzero, k=class
    for e in range(rows.indptr[i], rows.indptr[i + 1]):
        for k in range(c0, c0 + n, LINE):
            prefetch(W, np.intp(rows.indices[e]), np.intp(k))


@inlined
def prefetch_ahead(rows, rates, following, beyond):
    """Ask for the rates of the features of row ``following``, and the entries of row ``beyond`` (< 0: no such row)."""
    # e=nonzero
    if following >= 0:
        for e in range(rows.indptr[following], rows.indptr[following + 1]):
            prefetch(rates, np.intp(rows.indices[e]), np.intp(0))
    if beyond >= 0:
        for e in range(rows.indptr[beyond], rows.indptr[beyond + 1], np.int64(LINE)):
            prefetch_element(rows.indices, np.intp(e))
            prefetch_element(rows.data, np.intp(e))


@inlined
def update_row(rows, i, W, c0, n, E, keep, scale, following):
    """W[j, c0:c0 + n] = keep W[j, ...] + scale E[:n] for the features of row i.

    ``keep`` and ``scale`` hold a number per feature of the row, in order. The lines of W that row ``following`` will
    need are asked for first (following < 0: none), so that they arrive meanwhile.
    """
    if following >= 0:
        prefetch_row(rows, following, W, c0, n)
    step_rows(W, c0, n, E, rows.indices, rows.indptr[i], rows.indptr[i + 1], keep, scale)


@inlined
def longest_row(rows):
    longest = np.int64(0)
    for i in range(len(rows.indptr) - 1):
        longest = max(longest, rows.indptr[i + 1] - rows.indptr[i])
    return longest


@inlined
def implicit_residual(z, q, t):
    """t - exp(u) at the fixed point u = z + q (t - exp(u)), u <= 0: the gradient after its own step.

    ``z`` is score plus log a. With v = q exp(u) and y = log q + z + q t the equation is v + log v = y (so v is
    Lambert's W of exp(y)); three Newton steps from either asymptote settle float32.
    """
    q, rhs = np.float64(q), np.float64(z) + np.float64(q) * t
    if rhs >= q:
        return np.float32(t - 1.0)
    if q < 1e-30:
        return np.float32(t - np.exp(rhs))
    y = np.log(q) + rhs
    if y < -20.0:
        return np.float32(t - np.exp(rhs))
    v = y - np.log(y) if y > 1.5 else np.exp(y) / (1.0 + np.exp(y))
    for _ in range(NEWTON_STEPS):
        v *= (1.0 + y - np.log(v)) / (1.0 + v)
    return np.float32(t - v / q)


@jit
def mlr_visit(rows, order, log_a, block, lse, step, work):
    """One pass of rows over a block of classes: score, update, and merge the scores after the row's own update.

    Both the loss of the row and the L2 term are stepped implicitly, so that no step overshoots: the weights of
    feature j become (w + eta d_j x_ij g) / (1 + eta decay_j). A unit of g moves the row's own score by eta r_i,
    r_i = sum_j d_j x_ij^2 / (1 + eta decay_j).

    Rows come in random order, and their features are scattered over arrays that no cache holds: what the next rows
    need is asked for ahead. Where W has 262,144 features that makes visits of 48 and 96 classes 1.4 times as fast.

    Parameters
    ----------
    order : shape (n_rows,)
        Sequence in which rows are visited.
    log_a : float32, shape (n_rows,)
        Minus the log-sum-exp of each row's scores, as of the last epoch.
    lse : float32, shape (n_rows, 3)
        Log-sum-exp of each row's scores after its updates so far, as (maximum, sum); and the sum of exp(z + log a)
        before them, from which `mlr_losses_before` makes the rows' losses.
    work : float32, shape (2, CHUNK)

    Returns
    -------
    sum_ik t_ik z_ik over these rows and classes, before the updates.
    """
    # i=row, f=nonzero of the row, j=column, k=class of the chunk, c0=first class of the chunk,
    # S=scores, E=eta times minus the gradient
    S, E = work[0], work[1]
    n_classes = np.uint64(block.W.shape[1])
    eta = step.eta
    fit = 0.0
    longest = longest_row(rows)
    keep, scale = np.empty(longest, np.float32), np.empty(longest, np.float32)
    for ii in range(len(order)):
        i = order[ii]
        first, last = rows.label_indptr[i], rows.label_indptr[i + 1]
        if first == last:
            continue
        t = rows.weight[i]
        following = order[ii + 1] if ii + 1 < len(order) else np.int64(-1)
        prefetch_ahead(rows, step.rates, following, order[ii + 2] if ii + 2 < len(order) else np.int64(-1))
        r, b, start = step.d_intercept, log_a[i], rows.indptr[i]
        for f in range(rows.indptr[i + 1] - start):
            j, x = rows.indices[start + f], rows.data[start + f]
            keep[f] = _ONE / (_ONE + eta * step.rates[j, 1])
            scale[f] = keep[f] * step.rates[j, 0] * x
            r += scale[f] * x
        q, before = eta * r, _ZERO
        for c0 in range(_FIRST, n_classes, CHUNK):
            n = min(CHUNK, n_classes - c0)
            score_row(rows, i, block.W, block.intercept, c0, n, S)
            for k in range(n):
                p = exp32(min(S[k] + b, HIGHEST))
                before += p
                p = min(p, _ONE)
                E[k] = -eta * p / (_ONE + q * p)
            for label in rows.labels[first:last]:
                k = label - block.lo - np.int64(c0)
                if 0 <= k < np.int64(n):
                    fit += t * S[k]
                    E[k] = eta * implicit_residual(S[k] + b, q, t)
            for k in range(n):
                S[k] += r * E[k]
            update_row(rows, i, block.W, c0, n, E, keep, scale, following)
            for k in range(n):
                block.intercept[c0 + k] += step.d_intercept * E[k]
            add_scores(lse, i, S, n)
        lse[i, 2] += before
    return fit


@jit
def mlr_scores(rows, block, lse, work):
    """Merge the scores of a block of classes into the rows' log-sum-exps; returns sum_ik t_ik z_ik."""
    # i=row, k=class of the chunk, c0=first class of the chunk
    S = work[0]
    n_classes = np.uint64(block.W.shape[1])
    fit = 0.0
    for i in range(len(rows.indptr) - 1):
        first, last = rows.label_indptr[i], rows.label_indptr[i + 1]
        if first == last:
            continue
        for c0 in range(_FIRST, n_classes, CHUNK):
            n = min(CHUNK, n_classes - c0)
            if i + 2 < len(rows.indptr):
                prefetch_row(rows, i + 1, block.W, c0, n)
            score_row(rows, i, block.W, block.intercept, c0, n, S)
            for label in rows.labels[first:last]:
                k = label - block.lo - np.int64(c0)
                if 0 <= k < np.int64(n):
                    fit += rows.weight[i] * S[k]
            add_scores(lse, i, S, n)
    return fit


@jit
def mlr_rank(rows, block, ids, best, lse, fit, work):
    """Take a block of classes into rows' rankings, log-sum-exps and the mean scores of their own labels (``fit``)."""
    # i=row, k=class of the chunk, c0=first class of the chunk
    S = work[0]
    n_classes = np.uint64(block.W.shape[1])
    for i in range(len(rows.indptr) - 1):
        for c0 in range(_FIRST, n_classes, CHUNK):
            n = min(CHUNK, n_classes - c0)
            if i + 2 < len(rows.indptr):
                prefetch_row(rows, i + 1, block.W, c0, n)
            score_row(rows, i, block.W, block.intercept, c0, n, S)
            for label in rows.labels[rows.label_indptr[i] : rows.label_indptr[i + 1]]:
                k = label - block.lo - np.int64(c0)
                if 0 <= k < np.int64(n):
                    fit[i] += rows.weight[i] * S[k]
            add_scores(lse, i, S, n)
            rank_scores(ids, best, i, S, n, block.lo + np.int64(c0))
