"""Where held-out items rank among all that a user may be shown, counted while blocks of scores stream by."""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.kernels.log2 import log2_32
from oocml.kernels.robirank_implicit import exp2
from oocml.kernels.vectors import inner_product
from oocml.types import Float32Array, Float64Array, Int64Array

FEW = 48
"""Up to so many pairs of a row all are compared with each score."""


class Tally(NamedTuple):
    """What is counted for a batch of rows."""

    indptr: Int64Array
    """Row i owns pairs ``indptr[i]:indptr[i + 1]``, in increasing order of their scores."""
    score: Float32Array
    """Shape (pairs,): of the held-out pairs."""
    above: Int64Array
    """Shape (pairs,): items that are neither held out nor seen whose scores reach the pair's."""
    n_shut: Int64Array
    """Shape (rows,): items that are held out or seen."""
    Z: Float64Array
    """Shape (rows,): weighted sum of 2^score over the others."""
    S: Float64Array
    """Shape (pairs,): weighted sum of log2(1 + 2^(score - own score)) over them."""


@jit
def score_pairs(tile, U, V, b, out):
    """Scores of a tile's pairs; returns the sum of |u|^2 + |v|^2 over them."""
    # i=user, j=item, e=pair
    squares = 0.0
    for i in range(len(tile.indptr) - 1):
        uu = inner_product(U, i, U, i)
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j = np.intp(tile.indices[e])
            out[e] = inner_product(U, i, V, j) + b[j]
            squares += uu + inner_product(V, j, V, j)
    return squares


@inlined
def shut(scores, r, lo, indptr, indices, i):
    """Make scores of row i's entries in columns lo, lo + 1, ... NaN; returns how many were not before."""
    # e=entry
    first, last = indptr[i], indptr[i + 1]
    e = first + np.searchsorted(indices[first:last], lo)
    n = 0
    while e < last and indices[e] < lo + scores.shape[1]:
        value = scores[r, indices[e] - lo]
        n += value == value
        scores[r, indices[e] - lo] = np.nan
        e += 1
    return n


@jit
def shut_seen(scores, rows, lo, seen):
    """Make scores of seen items NaN; as for `tally_scores`."""
    for r in range(len(rows)):
        shut(scores, r, lo, seen.indptr, seen.indices, rows[r])


@jit
def tally_scores(scores, rows, lo, seen, given, tally):
    """Count a block of scores; those of seen and held-out items become NaN.

    Parameters
    ----------
    scores : float32 (rows, items)
        Of items lo, lo + 1, ... of a column block; changed.
    rows : places of its rows in the batch.
    seen, given : Csr over the block's columns, by rows of the batch.
    tally : changed in place.
    """
    # r=row of scores, i=row of the batch
    for r in range(len(rows)):
        i = rows[r]
        tally.n_shut[i] += shut(scores, r, lo, seen.indptr, seen.indices, i)
        tally.n_shut[i] += shut(scores, r, lo, given.indptr, given.indices, i)
        first, last = tally.indptr[i], tally.indptr[i + 1]
        if last - first <= FEW:
            count_few(scores[r], tally.score[first:last], tally.above[first:last])
        else:
            count_many(scores[r], tally.score[first:last], tally.above[first:last])


@inlined
def count_few(scores, bars, above):
    """Add to ``above`` how many scores reach each bar: a vectorised comparison for each."""
    # j=item, p=bar
    for p in range(len(bars)):
        n = np.int32(0)
        for j in range(len(scores)):
            n += np.int32(scores[j] >= bars[p])
        above[p] += n


@inlined
def count_many(scores, bars, above):
    """`count_few` by bisection; ``bars`` increase."""
    # j=item, p=bar
    reached = np.zeros(len(bars) + 1, np.int64)
    for j in range(len(scores)):
        if scores[j] >= bars[0]:
            reached[np.searchsorted(bars, scores[j], side="right")] += 1
    n = 0
    for p in range(len(bars) - 1, -1, -1):
        n += reached[p + 1]
        above[p] += n


@jit
def add_losses(scores, rows, sample, softmax, tally):
    """Add the items of a sample to ``Z``, or else to ``S``; after `tally_scores`.

    ``sample``: items as columns of ``scores``, and their weights.
    """
    # r=row of scores, i=row of the batch, j=item, p=pair, q=place in the sample
    for r in range(len(rows)):
        i = rows[r]
        for q in range(len(sample.items)):
            s, w = scores[r, sample.items[q]], sample.weight[q]
            if s != s:
                continue
            E = exp2(s)
            if softmax:
                tally.Z[i] += w * E
                continue
            for p in range(tally.indptr[i], tally.indptr[i + 1]):
                tally.S[p] += w * log2_32(np.float32(1) + E * exp2(-tally.score[p]))
