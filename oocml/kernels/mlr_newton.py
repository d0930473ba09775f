"""Kernels of the Newton passes of multinomial logistic regression: one conjugate-gradient solver per class.

Within a class the Hessian is X^T diag(p (1 - p)) X / N + l2, so classes share no number but the rows' log a, and the
result doesn't depend on how they are cut into blocks. All arrays of a class block are (n_features, n_classes), and
those of its intercepts (n_classes,). An estimate of the Hessian's diagonal preconditions and damps,
(H + mu M) v = -gradient: M_jk = mean_i x_ij^2 mean_i p_ik (1 - p_ik) + l2, as if features told nothing of classes. The
diagonal itself takes another array of the size of W and a second scatter per row, and no fewer steps.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.exp import exp32
from oocml.kernels.jit import inlined, jit
from oocml.kernels.mlr import _FIRST, _ONE, _ZERO, CHUNK, add_scores, longest_row, prefetch_row, score_row
from oocml.types import Float32Array, Float64Array

LEAST = np.float32(1e-12)
"""Added to the diagonal: features that never occur may have none."""


class Solver(NamedTuple):
    """Conjugate gradients of a class block; the row for the intercept comes last, (n_features + 1, n_classes)."""

    V: Float32Array
    """The step so far, (n_features, n_classes)."""
    v0: Float32Array
    """The intercept's step so far, (n_classes,)."""
    residual: Float32Array
    direction: Float32Array
    product: Float32Array
    variances: Float32Array
    """Shape (n_classes,): mean of p (1 - p) over rows."""
    norms: Float64Array
    """Shape (n_classes, 2): squared residual (preconditioned) now, and at the start."""
    mean_squares: Float32Array
    """Shape (n_features,): mean of x^2 over rows."""


@inlined
def damped_diagonal(solver, j, k, l2, mu):
    """1 + mu times the estimate for feature j, or for the intercept, which has no L2."""
    if j < len(solver.mean_squares):
        return (_ONE + mu) * (solver.mean_squares[j] * solver.variances[k] + l2) + LEAST
    return (_ONE + mu) * solver.variances[k] + LEAST


@inlined
def scatter_row(rows, i, scale, E, c0, n, out):
    """out[j, c0:c0 + n] += scale E[:n] for the features of row i, two at a time; ``scale`` has one per feature."""
    # e=nonzero, f=nonzero of the row, j*=column, k=class of the chunk
    e, stop, f = rows.indptr[i], rows.indptr[i + 1], 0
    while e + 1 < stop:
        j0, j1, scale0, scale1 = rows.indices[e], rows.indices[e + 1], scale[f], scale[f + 1]
        for k in range(n):
            g = E[k]
            out[j0, c0 + k] += scale0 * g
            out[j1, c0 + k] += scale1 * g
        e += 2
        f += 2
    if e < stop:
        j0, scale0 = rows.indices[e], scale[f]
        for k in range(n):
            out[j0, c0 + k] += scale0 * E[k]


@jit
def newton_gradient(rows, block, log_a, inverse_n, solver, work):
    """Add minus the gradient of the mean loss to ``residual``, and the means of p (1 - p) to ``variances``.

    Without L2, which `newton_begin` adds. ``work``: float32, (2, CHUNK).
    """
    # i=row, e=nonzero, f=nonzero of the row, k=class of the chunk, S=scores then p (1 - p), E=t - p
    S, E = work[0], work[1]
    n_classes = np.uint64(block.W.shape[1])
    intercept = np.uint64(block.W.shape[0])
    R = solver.residual
    x = np.empty(longest_row(rows), np.float32)
    n_rows = len(rows.indptr) - 1
    for i in range(n_rows):
        first, last = rows.label_indptr[i], rows.label_indptr[i + 1]
        if first == last:
            continue
        start = rows.indptr[i]
        for f in range(rows.indptr[i + 1] - start):
            x[f] = rows.data[start + f] * inverse_n
        for c0 in range(_FIRST, n_classes, CHUNK):
            n = min(CHUNK, n_classes - c0)
            score_row(rows, i, block.W, block.intercept, c0, n, S)
            for k in range(n):
                p = exp32(min(S[k] + log_a[i], _ZERO))
                E[k] = -p
                S[k] = p * (_ONE - p)
            for label in rows.labels[first:last]:
                k = label - block.lo - np.int64(c0)
                if 0 <= k < np.int64(n):
                    E[k] += rows.weight[i]
            if i + 1 < n_rows:
                prefetch_row(rows, i + 1, block.W, c0, n)
                prefetch_row(rows, i + 1, R, c0, n)
            scatter_row(rows, i, x, E, c0, n, R)
            for k in range(n):
                R[intercept, c0 + k] += inverse_n * E[k]
                solver.variances[c0 + k] += inverse_n * S[k]


@jit
def newton_begin(W, l2, mu, fit_intercept, solver):
    """Complete the gradient by L2, and set the first direction."""
    # j=column, k=class
    R, P = solver.residual, solver.direction
    n_features = W.shape[0]
    solver.norms[:] = 0
    for j in range(n_features + 1):
        for k in range(W.shape[1]):
            if j < n_features:
                R[j, k] -= l2 * W[j, k]
            elif not fit_intercept:
                R[j, k] = _ZERO
            P[j, k] = R[j, k] / damped_diagonal(solver, j, k, l2, mu)
            solver.norms[k, 0] += R[j, k] * P[j, k]
    for k in range(W.shape[1]):
        solver.norms[k, 1] = solver.norms[k, 0]


@jit
def newton_product(rows, block, log_a, inverse_n, solver, work):
    """Add X^T diag(p (1 - p)) X / N times ``direction`` to ``product``. ``work``: float32, (2, CHUNK)."""
    # i=row, k=class of the chunk, S=scores, E=x_i . direction, then p (1 - p) times it
    S, E = work[0], work[1]
    n_classes = np.uint64(block.W.shape[1])
    intercept = block.W.shape[0]
    n_rows = len(rows.indptr) - 1
    for i in range(n_rows):
        if rows.label_indptr[i] == rows.label_indptr[i + 1]:
            continue
        for c0 in range(_FIRST, n_classes, CHUNK):
            n = min(CHUNK, n_classes - c0)
            score_row(rows, i, block.W, block.intercept, c0, n, S)
            score_row(rows, i, solver.direction, solver.direction[intercept], c0, n, E)
            for k in range(n):
                p = exp32(min(S[k] + log_a[i], _ZERO))
                E[k] = p * (_ONE - p) * E[k]
                E[k] *= inverse_n
            if i + 1 < n_rows:
                prefetch_row(rows, i + 1, block.W, c0, n)
                prefetch_row(rows, i + 1, solver.direction, c0, n)
                prefetch_row(rows, i + 1, solver.product, c0, n)
            scatter_row(rows, i, rows.data[rows.indptr[i] :], E, c0, n, solver.product)
            for k in range(n):
                solver.product[np.uint64(intercept), c0 + k] += E[k]


@jit
def newton_advance(l2, mu, fit_intercept, tolerance, solver):
    """One conjugate-gradient step of every class that isn't done; clears ``product``.

    A class is done once its residual's norm is ``tolerance`` times the first one.
    """
    # j=column, k=class
    R, P, A = solver.residual, solver.direction, solver.product
    n_features, n_classes = solver.V.shape
    curvature = np.zeros(n_classes)
    damping = mu / (_ONE + mu)
    for j in range(n_features + 1):
        ridge = l2 if j < n_features else _ZERO
        for k in range(n_classes):
            A[j, k] += (ridge + damping * damped_diagonal(solver, j, k, l2, mu)) * P[j, k]
            curvature[k] += P[j, k] * A[j, k]
    length = np.zeros(n_classes, np.float32)
    for k in range(n_classes):
        now, first = solver.norms[k]
        if now > tolerance * tolerance * first and curvature[k] > 0:
            length[k] = now / curvature[k]
    squared = np.zeros(n_classes)
    for j in range(n_features + 1):
        if j == n_features and not fit_intercept:
            break
        for k in range(n_classes):
            if j < n_features:
                solver.V[j, k] += length[k] * P[j, k]
            else:
                solver.v0[k] += length[k] * P[j, k]
            R[j, k] -= length[k] * A[j, k]
            squared[k] += R[j, k] * R[j, k] / damped_diagonal(solver, j, k, l2, mu)
    momentum = np.zeros(n_classes, np.float32)
    for k in range(n_classes):
        if length[k] > 0:
            momentum[k] = squared[k] / solver.norms[k, 0]
            solver.norms[k, 0] = squared[k]
    for j in range(n_features + 1):
        for k in range(n_classes):
            P[j, k] = R[j, k] / damped_diagonal(solver, j, k, l2, mu) + momentum[k] * P[j, k]
            A[j, k] = _ZERO


@jit
def newton_line(rows, block, solver, steps, line, work):
    """Merge the log-sum-exps of z + step u for every step length; u = x_i V + v0.

    Parameters
    ----------
    steps : float32, shape (n_steps,)
    line : float32, shape (n_rows, n_steps + 1, 2)
        (maximum, sum) per step length; the last entry's first number adds up the row's u.
    work : float32, shape (3, CHUNK)

    Returns
    -------
    sum_ik t_ik z_ik and sum_ik t_ik u_ik.
    """
    # i=row, k=class of the chunk, a=step length, S=scores, U=x_i V + v0, Z=scores after the step
    S, U, Z = work[0], work[1], work[2]
    n_classes = np.uint64(block.W.shape[1])
    fit, fit_step = 0.0, 0.0
    n_rows = len(rows.indptr) - 1
    for i in range(n_rows):
        first, last = rows.label_indptr[i], rows.label_indptr[i + 1]
        if first == last:
            continue
        for c0 in range(_FIRST, n_classes, CHUNK):
            n = min(CHUNK, n_classes - c0)
            score_row(rows, i, block.W, block.intercept, c0, n, S)
            score_row(rows, i, solver.V, solver.v0, c0, n, U)
            for label in rows.labels[first:last]:
                k = label - block.lo - np.int64(c0)
                if 0 <= k < np.int64(n):
                    fit += rows.weight[i] * S[k]
                    fit_step += rows.weight[i] * U[k]
            if i + 1 < n_rows:
                prefetch_row(rows, i + 1, block.W, c0, n)
                prefetch_row(rows, i + 1, solver.V, c0, n)
            for a in range(len(steps)):
                for k in range(n):
                    Z[k] = S[k] + steps[a] * U[k]
                add_scores(line[:, a], i, Z, n)
            total = _ZERO
            for k in range(n):
                total += U[k]
            line[i, len(steps), 0] += total
    return fit, fit_step


@jit
def newton_norms(W, V, v_sum):
    """(sum W^2, sum W V, sum V^2); fills v_sum[j] = sum_k V[j, k]."""
    # j=column, k=class
    ww, wv, vv = 0.0, 0.0, 0.0
    for j in range(W.shape[0]):
        a, b, c, total = _ZERO, _ZERO, _ZERO, _ZERO
        for k in range(W.shape[1]):
            a += W[j, k] * W[j, k]
            b += W[j, k] * V[j, k]
            c += V[j, k] * V[j, k]
            total += V[j, k]
        v_sum[j] = total
        ww += a
        wv += b
        vv += c
    return ww, wv, vv


@jit
def newton_move(W, V, v_bar, step):
    """W[j, k] += step (V[j, k] - v_bar[j]); returns the sum of squares of the new W."""
    # j=column, k=class
    squares = 0.0
    for j in range(W.shape[0]):
        shift, square = v_bar[j], _ZERO
        for k in range(W.shape[1]):
            w = W[j, k] + step * (V[j, k] - shift)
            W[j, k] = w
            square += w * w
        squares += square
    return squares


@jit
def newton_losses(line, losses):
    """Join the stripes' lines, (n_stripes, n_rows, n_steps + 1, 2), into line[0]; add each step's log-sum-exps."""
    # s=stripe, i=row, a=step length
    n_steps = line.shape[2] - 1
    for i in range(line.shape[1]):
        for s in range(1, line.shape[0]):
            line[0, i, n_steps, 0] += line[s, i, n_steps, 0]
            for a in range(n_steps):
                m, t = line[s, i, a]
                here = line[0, i, a]
                top = max(here[0], m)
                here[1] = here[1] * np.exp(here[0] - top) + t * np.exp(m - top)
                here[0] = top
        if line[0, i, 0, 1] > 0:
            for a in range(n_steps):
                losses[a] += line[0, i, a, 0] + np.log(line[0, i, a, 1])
