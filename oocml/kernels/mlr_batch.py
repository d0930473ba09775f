"""Kernels of the batch solvers of multinomial logistic regression: full gradients, and L-BFGS one class at a time.

Vectors of a class block are (n_features + 1, n_classes); the last row belongs to the intercepts. Sums over them are
float64.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.exp import exp32
from oocml.kernels.jit import jit
from oocml.kernels.mlr import _FIRST, CHUNK, score_row
from oocml.kernels.mlr_newton import scatter_row


@jit
def class_gradients(rows, block, log_a, cap, inverse_n, G, values, work):
    """Gradient and value, for each class on its own, of the mean over rows of sum_k exp(z_ik + log a_i) - t_ik z_ik.

    With an exact log a that is the gradient of the mean log loss.

    Parameters
    ----------
    cap
        Exponents are cut off here.
    inverse_n
        One over the number of rows with labels, in all panels.
    G : float32, shape (n_features + 1, n_classes)
        Gradients are added to it.
    values : float64, shape (n_classes,)
        Values are added to it.
    work : float32, shape (2, CHUNK)
    """
    # i=row, k=class of the chunk, c0=first class of the chunk, S=scores, E=(exp(score + log a) - t) / N
    S, E = work[0], work[1]
    n_classes = np.uint64(block.W.shape[1])
    intercept = np.uint64(block.W.shape[0])
    for i in range(len(rows.indptr) - 1):
        first, last = rows.label_indptr[i], rows.label_indptr[i + 1]
        if first == last:
            continue
        for c0 in range(_FIRST, n_classes, CHUNK):
            n = min(CHUNK, n_classes - c0)
            score_row(rows, i, block.W, block.intercept, c0, n, S)
            for k in range(n):
                E[k] = exp32(min(S[k] + log_a[i], cap))
                values[c0 + k] += np.float64(inverse_n * E[k])
            for label in rows.labels[first:last]:
                k = label - block.lo - np.int64(c0)
                if 0 <= k < np.int64(n):
                    E[k] -= rows.weight[i]
                    values[c0 + np.uint64(k)] -= np.float64(inverse_n * rows.weight[i] * S[k])
            for k in range(n):
                E[k] *= inverse_n
                G[intercept, c0 + k] += E[k]
            scatter_row(rows, i, rows.data[rows.indptr[i] :], E, c0, n, G)


@jit
def dot64(a, b):
    """Inner product of two float32 vectors."""
    # e=element
    total = 0.0
    for e in range(len(a)):
        total += np.float64(a[e]) * np.float64(b[e])
    return total


@jit
def add64(total, scale, a):
    """total += scale a, with a float32 and the rest float64."""
    # e=element
    for e in range(len(a)):
        total[e] += scale * np.float64(a[e])


@jit
def class_dots(A, B, out):
    """out[k] = sum_j A[j, k] B[j, k]."""
    # j=column, k=class
    out[:] = 0
    for j in range(A.shape[0]):
        for k in range(A.shape[1]):
            out[k] += np.float64(A[j, k]) * np.float64(B[j, k])


@jit
def class_add(A, scale, B):
    """A[j, k] += scale[k] B[j, k]."""
    # j=column, k=class
    for j in range(A.shape[0]):
        for k in range(A.shape[1]):
            A[j, k] += scale[k] * B[j, k]


@jit
def class_accept(accepted, at, trial, pair):
    """Go to the trial point where it is accepted, and note the step and what it did to the gradient (else zeros).

    Parameters
    ----------
    accepted : bool, shape (n_classes,)
    at, trial : (W, intercept (1, n_classes), G)
        Point and gradient now, and on trial; the trial's point comes as (n_features + 1, n_classes) in its first
        entry.
    pair : (step, change of the gradient)
    """
    # j=column, k=class
    W, intercept, G = at
    T, A = trial
    S, Y = pair
    n_features = W.shape[0]
    for j in range(n_features + 1):
        point = W[j] if j < n_features else intercept
        for k in range(W.shape[1]):
            S[j, k] = T[j, k] - point[k] if accepted[k] else np.float32(0)
            Y[j, k] = A[j, k] - G[j, k] if accepted[k] else np.float32(0)
            point[k] = T[j, k] if accepted[k] else point[k]
            G[j, k] = A[j, k] if accepted[k] else G[j, k]


@jit
def class_trial(W, intercept, T, keep, scale, A):
    """The next trial point, T <- W + keep (T - W) - scale A; clears A."""
    # j=column, k=class
    n_features = W.shape[0]
    for j in range(n_features + 1):
        point = W[j] if j < n_features else intercept
        for k in range(W.shape[1]):
            T[j, k] = point[k] + (keep[k] * (T[j, k] - point[k]) - scale[k] * A[j, k])
            A[j, k] = np.float32(0)
