"""Factorization machines of second order: row-wise steps on a tile, and sums over features.

    f(x) = w0 + sum_j w_j x_j + [ |a|^2 - q ] / 2,     a = sum_j x_j v_j,     q = sum_j x_j^2 |v_j|^2

(Rendle 2010). What a row needs of the features outside a tile are its ``sums``, (a, sum_j w_j x_j, q) in K + 2 floats:
with those of the other features given, a tile's features can be stepped by itself, exactly. The loss is (f - t)^2 / 2
with the standardised target t, or log(1 + exp(-t f)) with t = -1, +1. The ridge comes by occurrence: every entry brings
[ l2_factors |v_j|^2 + l2_linear w_j^2 ] / 2 times the share of its feature.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.exp import exp32
from oocml.kernels.jit import inlined, jit
from oocml.kernels.prefetch import prefetch
from oocml.kernels.vectors import add_row, descend_row
from oocml.types import Float32Array, Float64Array, Int32Array, Int64Array

LINE = np.intp(16)
"""Floats in a cache line."""
IN_CACHE = 2**17
"""Floats that the second-level cache surely holds: asking for them ahead would cost a third of a visit."""
FACTORS_IN_PRODUCT = 512
"""Numbers up to 2 that are multiplied before a logarithm is taken: 2^512 is well within float64."""

LOGISTIC_CURVATURE = np.float32(0.25)
"""Largest second derivative of the log loss."""

_ZERO = np.float32(0)
_ONE = np.float32(1)
_HALF = np.float32(0.5)


class TargetRows(NamedTuple):
    """A tile as the kernels read it."""

    indptr: Int64Array
    indices: Int32Array
    data: Float32Array
    """Values divided by their feature's root mean square."""
    t: Float64Array
    """Shape (n_rows,): targets as given, or -1 and +1; NaN where there is none."""


class FeatureBlock(NamedTuple):
    """The parameters of a range of features."""

    V: Float32Array
    """Shape (n, K)."""
    w: Float32Array
    """Shape (n,)."""
    h: Float32Array
    """Shape (n, 2): sums of squared gradients of w and of v (mean over K); unused by plain steps."""
    share: Float32Array
    """Shape (n,): of the ridge, for every occurrence of the feature."""


class Step(NamedTuple):
    eta: np.float32
    l2_linear: np.float32
    l2_factors: np.float32
    adagrad: bool
    logistic: bool
    center: np.float64
    inverse_scale: np.float64
    """Of the target, for the squared loss."""


@inlined
def slope_of(f, t, step):
    """Derivative of the loss with respect to f."""
    if not step.logistic:
        return f - np.float32((t - step.center) * step.inverse_scale)
    e, t = exp32(-abs(f)), np.float32(t)
    # 1 / (1 + exp(t f)), from exp(-|f|) <= 1
    return -t * (e if t * f > _ZERO else _ONE) / (_ONE + e)


@inlined
def score(sums, i, n_factors, w0):
    """f from the sums of row i."""
    a = _ZERO
    for k in range(n_factors):
        a += sums[i, k] * sums[i, k]
    return w0 + sums[i, n_factors] + _HALF * (a - sums[i, n_factors + 1])


@inlined
def sum_of_losses(scores, t, step):
    """Sum of the losses of rows with a target; many logarithms are taken at once, of a product."""
    # i=row
    total, product, n = 0.0, 1.0, 0
    for i in range(len(t)):
        if t[i] != t[i]:
            continue
        f = np.float64(scores[i])
        if not step.logistic:
            e = f - (t[i] - step.center) * step.inverse_scale
            total += e * e / 2
            continue
        total += max(-t[i] * f, 0.0)
        product *= 1.0 + np.float64(exp32(np.float32(-abs(f))))
        n += 1
        if n == FACTORS_IN_PRODUCT:
            total, product, n = total + np.log(product), 1.0, 0
    return total + np.log(product)


@inlined
def add_features(tile, i, block, a, step):
    """Add the tile's features of row i to ``a``; returns its linear part, q, sum of x^2, and ridge by occurrence."""
    # j=feature, e=entry
    linear = q = xx = ridge = _ZERO
    for e in range(tile.indptr[i], tile.indptr[i + 1]):
        j, x = np.intp(tile.indices[e]), tile.data[e]
        vv, w = add_row(a, x, block.V, j), block.w[j]
        linear += x * w
        xx += x * x
        q += x * x * vv
        ridge += block.share[j] * (step.l2_factors * vv + step.l2_linear * w * w)
    return linear, q, xx, ridge


@jit
def fm_accumulate(tile, block, sums, step):
    """Add the tile's features to the rows' sums, shape (n_rows, K + 2).

    Returns the ridge that the entries of rows with a target bring.
    """
    # i=row
    K, total = block.V.shape[1], 0.0
    for i in range(len(tile.indptr) - 1):
        linear, q, _, ridge = add_features(tile, i, block, sums[i, :K], step)
        sums[i, K] += linear
        sums[i, K + 1] += q
        if tile.t[i] == tile.t[i]:
            total += ridge
    return total / 2


@inlined
def prefetch_row(tile, i, block, sums, features):
    """Ask for the sums of a row, and if wanted for the parameters of its features."""
    K = block.V.shape[1]
    for k in range(0, K + 2, LINE):
        prefetch(sums, np.intp(i), k)
    if not features:
        return
    for e in range(tile.indptr[i], tile.indptr[i + 1]):
        j = np.intp(tile.indices[e])
        prefetch(block.h, j, np.intp(0))
        for k in range(0, K, LINE):
            prefetch(block.V, j, k)


@jit
def fm_visit(tile, order, rest, block, bias, step):
    """One step per row with a target, on the features of this tile.

    Parameters
    ----------
    order : rows in the sequence of their visits.
    rest : float32, shape (n_rows, K + 2)
        The rows' sums over all other features.
    block : FeatureBlock. Changed in place.
    bias : float32, shape (2,)
        w0 and its sum of squared gradients, changed in place; of length 0 if it isn't this tile's to change: then
        ``bias`` has shape (1,) and holds w0.

    Returns
    -------
    Sum of the losses of the rows in ``order``, and the ridge their entries bring, just before their steps.
    """
    # i=row, j=feature, k=factor, e=entry
    K = block.V.shape[1]
    a, inverse_k = np.empty(K, np.float32), _ONE / np.float32(max(K, 1))
    curvature = LOGISTIC_CURVATURE if step.logistic else _ONE
    far = block.V.size > IN_CACHE
    scores, targets, ridge = np.empty(len(order), np.float32), np.empty(len(order)), 0.0
    for ii in range(len(order)):
        i = np.intp(order[ii])
        if ii + 1 < len(order):
            prefetch_row(tile, order[ii + 1], block, rest, far)
        t = targets[ii] = tile.t[i]
        if t != t:
            continue
        aa = _ZERO
        for k in range(K):
            a[k] = rest[i, k]
        linear, q, xx, brought = add_features(tile, i, block, a, step)
        ridge += brought
        for k in range(K):
            aa += a[k] * a[k]
        f = scores[ii] = bias[0] + rest[i, K] + linear + _HALF * (aa - rest[i, K + 1] - q)
        g = slope_of(f, t, step)
        # |df|^2 is about this: a longer step would end further from the row's own optimum than it began
        eta = step.eta / max(_ONE, step.eta * _HALF * curvature * (_ONE + xx * (_ONE + aa)))
        inverse_eta = _ONE / eta
        if len(bias) > 1:
            bias[0] -= eta / np.sqrt(bias[1]) * g
            bias[1] += g * g if step.adagrad else _ZERO
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j, x, share = np.intp(tile.indices[e]), tile.data[e], block.share[tile.indices[e]]
            root_w = root_v = _ONE
            if step.adagrad:
                root_w, root_v = np.sqrt(block.h[j, 0]), np.sqrt(block.h[j, 1])
            step_w, step_v = eta / root_w, eta / root_v
            gx, w = g * x, block.w[j]
            # a ridge shrinks to nothing at most: the plain one may be large for rare features
            g_w = gx + min(share * step.l2_linear, root_w * inverse_eta) * w
            block.w[j] = w - step_w * g_w
            own = min(share * step.l2_factors, root_v * inverse_eta) - gx * x
            square = descend_row(block.V, j, own, gx, a, step_v)
            if step.adagrad:
                block.h[j, 0] += g_w * g_w
                block.h[j, 1] += square * inverse_k
    return sum_of_losses(scores, targets, step), ridge / 2


@inlined
def fm_scores(sums, w0, scores):
    """scores[i] = f of every row, from its sums over all features."""
    for i in range(len(scores)):
        scores[i] = score(sums, i, sums.shape[1] - 2, w0)


@jit
def fm_slopes(sums, w0, t, slopes, step):
    """slopes[i] = derivative of the loss of every row (0 without a target).

    Returns the sum of the slopes, and that of the losses.
    """
    scores, total = np.empty(len(t), np.float32), 0.0
    fm_scores(sums, w0, scores)
    for i in range(len(t)):
        slopes[i] = slope_of(scores[i], t[i], step) if t[i] == t[i] else _ZERO
        total += slopes[i]
    return total, sum_of_losses(scores, t, step)


@jit
def fm_columns(tile, block, sums, slopes, gradient, step):
    """DS-FACTO's step: the tile's features against their gradient over its rows, given the rows' sums and slopes.

    Plain steps take the mean over the tile's rows; AdaGrad's scale themselves.

    gradient : float32, shape (n, K), zeros; left as it was found.
    """
    # i=row, j=feature, k=factor, e=entry
    n, K = block.V.shape
    linear, own, count = np.zeros((3, n), np.float32)
    for i in range(len(tile.indptr) - 1):
        if tile.t[i] != tile.t[i]:
            continue
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j, x = np.intp(tile.indices[e]), tile.data[e]
            gx = slopes[i] * x
            linear[j] += gx
            own[j] += gx * x
            count[j] += _ONE
            add_row(gradient[j], gx, sums, i)
    inverse_k = _ONE / np.float32(max(K, 1))
    for j in range(n):
        if count[j] == 0:
            continue
        g_w = linear[j] + count[j] * block.share[j] * step.l2_linear * block.w[j]
        ridge, square = count[j] * block.share[j] * step.l2_factors - own[j], _ZERO
        for k in range(K):
            gradient[j, k] += ridge * block.V[j, k]
            square += gradient[j, k] * gradient[j, k]
        step_w = step_v = step.eta / np.float32(len(tile.t))
        if step.adagrad:
            block.h[j, 0] += g_w * g_w
            block.h[j, 1] += square * inverse_k
            step_w, step_v = step.eta / np.sqrt(block.h[j, 0]), step.eta / np.sqrt(block.h[j, 1])
        block.w[j] -= step_w * g_w
        for k in range(K):
            block.V[j, k] -= step_v * gradient[j, k]
            gradient[j, k] = _ZERO
