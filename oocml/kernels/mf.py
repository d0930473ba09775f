"""Matrix factorization: stochastic gradient steps on a tile of ratings.

A rating r of row i and column j is predicted by b_i + c_j + u_i . v_j on a standardised scale, that of
z = (r - center) / scale. Its share of the objective is

    f_ij = [ e^2 + l_i |u_i|^2 + l_j |v_j|^2 + (l_i b_i^2 + l_j c_j^2) / 10 ] / 2,     e = z - (b_i + c_j + u_i . v_j)

with l_i = l_j = l2 for the count-weighted ridge, l_i = l2 / (ratings of row i) for the plain one. A step touches row i
and column j alone. AdaGrad keeps one sum of squared gradients per vector (the mean over its factors) and one per bias
(after Chin, Zhuang, Juan and Lin 2015, whose vectors have two).
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.kernels.prefetch import prefetch
from oocml.kernels.vectors import combine_rows, inner_product, inner_products
from oocml.types import Float32Array

BIAS_SHARE = np.float32(0.1)
"""Ridge of a bias relative to that of a factor."""
LINE = np.intp(16)
"""Floats in a cache line."""
AHEAD = 2
"""Rows whose factors are asked for before their turn."""

_ZERO = np.float32(0)
_ONE = np.float32(1)
_TWO = np.float32(2)


class Side(NamedTuple):
    """Parameters of the rows, or of the columns, of a tile."""

    F: Float32Array
    """Shape (n, K): factors."""
    b: Float32Array
    """Shape (n,): biases."""
    h: Float32Array
    """Shape (n, 2): sums of squared gradients, of the factors (mean over K) and of the bias; unused by plain steps."""
    count: Float32Array
    """Shape (n,): ratings in the whole training data."""


class Step(NamedTuple):
    eta: np.float32
    l2: np.float32
    floor: np.float32
    """Least value of any parameter: 0, or -inf."""
    adagrad: bool
    biases: bool
    weighted: bool
    """Whether every rating brings the whole ridge of its row and column (else a share)."""
    center: np.float32
    inverse_scale: np.float32


@inlined
def prefetch_factors(side, i):
    for k in range(0, side.F.shape[1], LINE):
        prefetch(side.F, np.intp(i), k)


@jit
def mf_visit(tile, order, rows, cols, step):
    """One step per rating, row by row.

    Parameters
    ----------
    order : rows that have ratings here, in the sequence of their visits.
    rows, cols : Side. Changed in place.

    Returns
    -------
    Sum of e^2 / 2 just before each step, and the rows' share of the ridge after theirs.
    """
    # i=row, j=column, e=rating
    loss, ridge = 0.0, 0.0
    inverse_k = _ONE / np.float32(rows.F.shape[1])
    eta, floor = step.eta, step.floor
    step_b = step_c = step_u = step_v = eta
    for ii in range(len(order)):
        i = np.intp(order[ii])
        if ii + AHEAD < len(order):
            prefetch_factors(rows, order[ii + AHEAD])
        l_i = step.l2 if step.weighted else step.l2 / rows.count[i]
        b, h_u, h_b = rows.b[i], rows.h[i, 0], rows.h[i, 1]
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j = np.intp(tile.indices[e])
            l_j = step.l2 if step.weighted else step.l2 / cols.count[j]
            c = cols.b[j]
            if step.adagrad:
                uv, uu, vv = inner_products(rows.F, i, cols.F, j)
                h_v, h_c = cols.h[j, 0], cols.h[j, 1]
                step_u, step_v = eta / np.sqrt(h_u), eta / np.sqrt(h_v)
                step_b, step_c = eta / np.sqrt(h_b), eta / np.sqrt(h_c)
            else:
                uv = inner_product(rows.F, i, cols.F, j)
            r = (tile.data[e] - step.center) * step.inverse_scale - b - c - uv
            loss += r * r
            # a ridge shrinks to nothing at most: the plain one may be large where there are few ratings
            keep_u, keep_v = max(_ONE - step_u * l_i, _ZERO), max(_ONE - step_v * l_j, _ZERO)
            combine_rows(rows.F, i, cols.F, j, keep_u, step_u * r, keep_v, step_v * r, floor)
            g_b, g_c = r - BIAS_SHARE * l_i * b, r - BIAS_SHARE * l_j * c
            if step.adagrad:
                # |r v - l u|^2 = r (r v.v - 2 l u.v) + l^2 u.u, which rounding could make negative
                h_u += max(r * (r * vv - _TWO * l_i * uv) + l_i * l_i * uu, _ZERO) * inverse_k
                cols.h[j, 0] = h_v + max(r * (r * uu - _TWO * l_j * uv) + l_j * l_j * vv, _ZERO) * inverse_k
                h_b += g_b * g_b
                cols.h[j, 1] = h_c + g_c * g_c
            if step.biases:
                b = max(max(_ONE - step_b * BIAS_SHARE * l_i, _ZERO) * b + step_b * r, floor)
                cols.b[j] = max(max(_ONE - step_c * BIAS_SHARE * l_j, _ZERO) * c + step_c * r, floor)
        rows.b[i], rows.h[i, 0], rows.h[i, 1] = b, h_u, h_b
        n = tile.indptr[i + 1] - tile.indptr[i]
        ridge += n * l_i * (inner_product(rows.F, i, rows.F, i) + BIAS_SHARE * b * b)
    return loss / 2, ridge / 2


@jit
def mf_column_ridge(cols, step):
    """The columns' share of the ridge, summed over all ratings."""
    # j=column
    ridge = 0.0
    for j in range(len(cols.b)):
        if cols.count[j] > 0:
            n = cols.count[j] if step.weighted else _ONE
            ridge += n * step.l2 * (inner_product(cols.F, j, cols.F, j) + BIAS_SHARE * cols.b[j] * cols.b[j])
    return ridge / 2


@jit
def mf_measure(tile, rows, cols, step, predicted):
    """Score a tile's ratings: fills ``predicted``, shape (nnz,), on the standardised scale.

    Returns the sum of e^2 / 2, and the ridge that these ratings bring.
    """
    # i=row, j=column, e=rating
    loss, ridge = 0.0, 0.0
    for i in range(len(tile.indptr) - 1):
        b = rows.b[i]
        l_i = step.l2 if step.weighted else step.l2 / max(rows.count[i], _ONE)
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j = np.intp(tile.indices[e])
            c = cols.b[j]
            l_j = step.l2 if step.weighted else step.l2 / max(cols.count[j], _ONE)
            uv, uu, vv = inner_products(rows.F, i, cols.F, j)
            predicted[e] = b + c + uv
            r = (tile.data[e] - step.center) * step.inverse_scale - predicted[e]
            loss += r * r
            ridge += l_i * (uu + BIAS_SHARE * b * b) + l_j * (vv + BIAS_SHARE * c * c)
    return loss / 2, ridge / 2


@jit
def mf_moments(tile, count, extremes):
    """Add each row's ratings to ``count`` and widen the columns' ``extremes`` (lowest, highest).

    Returns the sum, the sum of squares and the number of negative ones of all ratings.
    """
    # i=row, j=column, e=rating
    total, squares, n_negative = 0.0, 0.0, 0
    for i in range(len(tile.indptr) - 1):
        count[i] += np.float32(tile.indptr[i + 1] - tile.indptr[i])
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j, r = tile.indices[e], tile.data[e]
            extremes[j, 0] = min(extremes[j, 0], r)
            extremes[j, 1] = max(extremes[j, 1], r)
            total += r
            squares += np.float64(r) * r
            n_negative += r < 0
    return total, squares, n_negative
