"""Rankings and log-sum-exps of rows, merged while blocks of scores stream by."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from oocml.kernels.jit import inlined, jit


@inlined
def rank_scores(ids, scores, i, new_scores, n, col_lo):
    """Merge new_scores[:n], of columns col_lo, col_lo + 1, ..., into the ranking of row i; see `merge_topk`."""
    # c=new column, t=place in the ranking
    last = ids.shape[1] - 1
    if last < 0:
        return
    full = ids[i, last] >= 0
    floor = scores[i, last]
    for c in range(n):
        value = new_scores[c]
        if (full and not value > floor) or value != value:
            continue
        t = last
        while t > 0 and (ids[i, t - 1] < 0 or scores[i, t - 1] < value):
            ids[i, t], scores[i, t] = ids[i, t - 1], scores[i, t - 1]
            t -= 1
        ids[i, t], scores[i, t] = col_lo + np.int64(c), value
        full = ids[i, last] >= 0
        floor = scores[i, last]


@jit
def merge_topk(ids, scores, new_scores, col_lo):
    """Merge scores of columns col_lo, col_lo + 1, ... into each row's best columns; ties go to the lower column.

    Parameters
    ----------
    ids : int64, shape (n_rows, k)
        Best columns so far, best first, -1 where there are none yet. In place.
    scores : float32 or float64, shape (n_rows, k)
        Their scores (anything where the id is -1). In place.
    new_scores : of the same kind, shape (n_rows, n_new)
        Blocks must come in increasing order of columns. NaN never ranks.
    """
    for i in range(ids.shape[0]):
        rank_scores(ids, scores, i, new_scores[i], new_scores.shape[1], col_lo)
