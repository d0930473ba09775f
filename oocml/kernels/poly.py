"""Polynomial regression of second order with a weight for every pair: scores and gradients of a block of features.

    f(x) = w0 + sum_j' x_j' [ w_j' + sum_{j < j'} W_j'j x_j ]

A block holds features [lo, lo + n) as the j'; rows are whole, with increasing columns.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.jit import inlined, jit


@inlined
def first_at(rows, i, lo):
    """The first entry of row i whose column is at least ``lo``."""
    e, stop = rows.indptr[i], rows.indptr[i + 1]
    while e < stop:
        middle = (e + stop) // 2
        if rows.indices[middle] < lo:
            e = middle + 1
        else:
            stop = middle
    return e


@jit
def poly_scores(rows, W, w, lo, scores):
    """Add the block's share of f to every row's score."""
    # i=row, e=entry in the block, d=entry before it, c=column of the block
    for i in range(len(rows.indptr) - 1):
        total = np.float32(0)
        for e in range(first_at(rows, i, lo), first_at(rows, i, lo + len(w))):
            c = rows.indices[e] - lo
            inner = w[c]
            for d in range(rows.indptr[i], e):
                inner += W[c, rows.indices[d]] * rows.data[d]
            total += rows.data[e] * inner
        scores[i] += total


@jit
def poly_gradient(rows, slopes, lo, G, g):
    """Add sum_i slope_i df/dW and sum_i slope_i df/dw to G, shape (n, n_features), and g, shape (n,)."""
    # i=row, e=entry in the block, d=entry before it, c=column of the block
    for i in range(len(rows.indptr) - 1):
        for e in range(first_at(rows, i, lo), first_at(rows, i, lo + len(g))):
            c, gx = rows.indices[e] - lo, slopes[i] * rows.data[e]
            g[c] += gx
            for d in range(rows.indptr[i], e):
                G[c, rows.indices[d]] += gx * rows.data[d]


@jit
def poly_norms(rows):
    """Sum over rows with a target of |df/d(all weights)|^2, the intercept's 1 included."""
    # i=row, e=entry
    total = 0.0
    for i in range(len(rows.indptr) - 1):
        if rows.t[i] != rows.t[i]:
            continue
        squares, fourths = 0.0, 0.0
        for e in range(rows.indptr[i], rows.indptr[i + 1]):
            square = np.float64(rows.data[e]) * rows.data[e]
            squares += square
            fourths += square * square
        total += 1 + squares + (squares * squares - fourths) / 2
    return total
