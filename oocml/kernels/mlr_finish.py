"""What DS-MLR does between visits: log a and losses of rows from the stripes, scales of rows, sums of classes."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.jit import jit
from oocml.kernels.mlr import merge_lse

LEAST = np.float32(1e-30)
_ZERO = np.float32(0)
_ONE = np.float32(1)


@jit
def mlr_finish_rows(lse, log_a, rate):
    """From the stripes' log-sum-exps of each row, (n_stripes, n_rows, 2 or more), renew log a in place.

    rate <= 0 sets log a = -lse; otherwise log a takes one stochastic step, log a -= rate (exp(lse + log a) - 1), with
    the bracket capped at 1. Returns the sum of the log-sum-exps; rows without labels have none.
    """
    # i=row, s=stripe
    total = 0.0
    for i in range(lse.shape[1]):
        for s in range(1, lse.shape[0]):
            merge_lse(lse[0], i, lse[s, i, 0], lse[s, i, 1])
        if lse[0, i, 1] == 0:
            continue
        value = lse[0, i, 0] + np.log(lse[0, i, 1])
        total += value
        if rate > 0:
            log_a[i] -= rate * (np.exp(min(value + log_a[i], np.float32(0.6931472))) - _ONE)
        else:
            log_a[i] = -value
    return total


@jit
def mlr_losses_before(lse, log_a):
    """Sum of the rows' log-sum-exps as `mlr_visit` found them, from its ``lse`` of all stripes and the log a it had.

    Shapes (n_stripes, n_rows, 3) and (n_rows,). Rows without labels have none.
    """
    # i=row, s=stripe
    total = 0.0
    for i in range(lse.shape[1]):
        found, before = _ZERO, _ZERO
        for s in range(lse.shape[0]):
            found += lse[s, i, 1]
            before += lse[s, i, 2]
        if found > 0:
            total += np.log(max(before, LEAST)) - log_a[i]
    return total


@jit
def mlr_row_scales(rows, some, rates, d_intercept, histogram):
    """Count rows in a histogram of log2 r_i in steps of 1/16, r_i = sum_j d_j x_ij^2 + d_intercept.

    Only the rows ``some`` are looked at, which have labels. ``rates`` as in `oocml.kernels.mlr.Step`.
    """
    # i=row, e=nonzero
    half = len(histogram) // 2
    for i in some:
        total = np.float64(d_intercept)
        for e in range(rows.indptr[i], rows.indptr[i + 1]):
            total += np.float64(rates[rows.indices[e], 0]) * rows.data[e] * rows.data[e]
        if total > 0:
            histogram[min(max(np.int64(16 * np.log2(total)) + half, 0), len(histogram) - 1)] += 1


@jit
def mlr_shift_rows(rows, w_bar, log_a):
    """log_a[i] += x_i . w_bar: what it is once ``w_bar`` is taken out of every class's weights."""
    # i=row, e=nonzero
    for i in range(len(rows.indptr) - 1):
        shift = _ZERO
        # unsigned, as numba looks at each signed index for one from the end: 3 times as fast
        for e in range(np.uint64(rows.indptr[i]), np.uint64(rows.indptr[i + 1])):
            shift += w_bar[np.uint32(rows.indices[e])] * rows.data[e]
        log_a[i] += shift


@jit
def mlr_class_sums(W, w_sum):
    """w_sum[j] = sum_k W[j, k]; returns sum of squares of W."""
    # j=column, k=class
    squares = 0.0
    for j in range(W.shape[0]):
        total, square = _ZERO, _ZERO
        for k in range(W.shape[1]):
            total += W[j, k]
            square += W[j, k] * W[j, k]
        w_sum[j] = total
        squares += square
    return squares


@jit
def mlr_center(W, w_bar):
    """W[j, k] -= w_bar[j]; returns the sum of squares of the new W."""
    # j=column, k=class
    squares = 0.0
    for j in range(W.shape[0]):
        shift, square = w_bar[j], _ZERO
        for k in range(W.shape[1]):
            w = W[j, k] - shift
            W[j, k] = w
            square += w * w
        squares += square
    return squares
