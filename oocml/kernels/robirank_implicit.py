"""Latent collaborative retrieval: users' visits to a tile of their positive items, with the exponential surrogate.

A user x scores item y by s_xy = u_x . v_y + b_y. With the surrogate 2^-t for the indicator t < 0, the rank of a
positive item among all that are not is at most S_xy = 2^-s_xy Z_x with Z_x the sum of 2^s_xy' over those items, and
the objective is the sum of log2(1 + S_xy): a softmax, in which one number per user couples the items. With r_xy =
S_xy / (1 + S_xy) and R_x the sum of r_xy over the user's positive items, the gradients (times ln 2, uphill) are

    of v_y:  r_xy u_x,    of v_y', not positive:  -R_x 2^s_xy' / Z_x u_x,    of u_x: the sum of both with v for u.

Z_x and R_x are sums over items, so that items may be cut into column blocks: a visit of one block renews its own
share of both (kept per user and block) and uses the totals. The share of Z_x is estimated from negatives drawn,
half of them uniformly and half by their frequency among the tile's pairs, weighted by the inverse of how often they
are drawn (both halves together: the balance heuristic of Veach and Guibas 1995). The pushes of a visit add up to at
most R_x.

All gradients are those at the user's factors before its step. The ridge is count-weighted: every pair brings l2 / 2
(|u|^2 + |v|^2). AdaGrad keeps one sum of squared gradients per vector (the mean over its factors), one per bias.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.exp import exp32
from oocml.kernels.factor_rows import exchange, four_products
from oocml.kernels.jit import inlined, jit
from oocml.kernels.planted_rows import mix
from oocml.kernels.prefetch import prefetch
from oocml.kernels.vectors import inner_product, inner_products
from oocml.types import Float32Array, Float64Array, Int32Array

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_32 = _U(32)
LINE = np.intp(16)
"""Floats in a cache line."""
LIMIT = np.float32(40)
"""Scores are used within +-40: 2^40 of them is as good as infinity."""
TRIES = 64
"""Draws of one negative that may hit positives before the next item that is none is taken."""
_LN2 = np.float32(np.log(2))
_ZERO = np.float32(0)
_ONE = np.float32(1)
_TWO = np.float32(2)


class Users(NamedTuple):
    """State of the rows of a tile."""

    F: Float32Array
    """Shape (n, K): factors."""
    h: Float32Array
    """Shape (n,): sum of squared gradients."""
    totals: Float64Array
    """Shape (n, 3): Z_x and R_x of the column blocks visited so far, and how many items these have."""


class Items(NamedTuple):
    """State of the columns of a tile."""

    F: Float32Array
    b: Float32Array
    """Shape (n,): biases."""
    h: Float32Array
    """Shape (n, 2): sums of squared gradients, of the factors and of the bias."""


class Draws(NamedTuple):
    """Work arrays of the items of a tile."""

    pairs: Float32Array
    """Shape (n,): the tile's pairs of each item."""
    mark: Int32Array
    """Shape (n,): 1 + the last row that had the item; 0 at first."""


class Step(NamedTuple):
    eta: np.float32
    l2: np.float32
    n: int
    """Negatives per visit of a user."""
    n_items: np.float32
    """Of all tiles."""
    weighted: bool
    """Whether the data's values weigh the pairs."""


@inlined
def exp2(x):
    return exp32(min(max(x, -LIMIT), LIMIT) * _LN2)


@inlined
def count_pairs(indices, pairs):
    """pairs[j] = the tile's pairs of item j; ``indices`` are the items of all its pairs."""
    # j=item, e=pair
    pairs[:] = _ZERO
    for e in range(len(indices)):
        pairs[indices[e]] += _ONE


@inlined
def count_others(pairs, positives, n_pairs):
    """The tile's pairs of items that aren't among the positives."""
    # e=positive
    others = np.float32(n_pairs)
    for e in range(len(positives)):
        others -= pairs[positives[e]]
    return others


@inlined
def weigh_draws(pairs, chosen, n_positives, others, weight):
    """weight[q] = 1 / (n q_j) of the chosen item j, q_j being its chance in a draw of one that isn't positive.

    The sum over draws of weight times a function of the item is, on average, its sum over the items that aren't
    positive. ``pairs`` and ``others`` are as `count_pairs` and `count_others` made them.
    """
    # q=place among the negatives
    n = np.float32(len(chosen))
    popular = np.float32(n_popular(len(chosen), others))
    uniform = (n - popular) / np.float32(len(pairs) - n_positives)
    by_pairs = popular / max(others, _ONE)
    for q in range(len(chosen)):
        weight[q] = pairs[chosen[q]]
    for q in range(len(chosen)):
        weight[q] = _ONE / (uniform + by_pairs * weight[q])


@inlined
def n_popular(n, others):
    """How many of n negatives are drawn by frequency; none where nobody else has an item."""
    return n // 2 if others > 0 else 0


@inlined
def draw_item(z, n_items, indices, popular):
    """Item of 64 random bits: uniform, or that of a uniform pair."""
    if popular:
        return np.intp(indices[np.intp((z >> _32) * _U(len(indices)) >> _32)])
    return np.intp((z >> _32) * _U(n_items) >> _32)


@inlined
def mark_positives(indices, mark, stamp):
    """Mark a user's items, so that they are not drawn as its negatives."""
    # e=pair
    for e in range(len(indices)):
        mark[indices[e]] = stamp


@inlined
def shrink_user(users, i, weight, g):
    """Begin a user's gradient with that of its ridge, of this weight."""
    # k=factor
    for k in range(g.shape[1]):
        g[0, k] = -weight * users.F[i, k]


@inlined
def draw_negatives(z, indices, mark, stamp, others, V, chosen):
    """Fill ``chosen`` with items that are not marked with ``stamp``, and ask for their factors."""
    # j=item, q=place among the negatives, z=64 random bits
    n_items, first_uniform = len(mark), n_popular(len(chosen), others)
    for q in range(len(chosen)):
        popular = q < first_uniform
        z += _GOLDEN
        j = draw_item(mix(z), n_items, indices, popular)
        tries = 1
        while mark[j] == stamp:
            z += _GOLDEN
            # a user may have all pairs of the tile, and all but one of its items
            j = draw_item(mix(z), n_items, indices, popular) if tries < TRIES else (j + 1) % n_items
            tries += 1
        chosen[q] = j
        for k in range(0, V.shape[1], LINE):
            prefetch(V, j, k)


@inlined
def score_items(users, i, items, chosen, scores):
    """scores[q] of the chosen items for user i."""
    # q=place
    n = len(chosen)
    for q in range(0, n - 3, 4):
        a, b = np.intp(chosen[q]), np.intp(chosen[q + 1])
        c, d = np.intp(chosen[q + 2]), np.intp(chosen[q + 3])
        scores[q], scores[q + 1], scores[q + 2], scores[q + 3] = four_products(
            users.F, np.intp(i), items.F, a, b, c, d
        )
    for q in range(n - n % 4, n):
        scores[q] = inner_product(users.F, np.intp(i), items.F, np.intp(chosen[q]))
    for q in range(n):
        scores[q] += items.b[chosen[q]]


@inlined
def move_bias(items, j, g, eta):
    items.h[j, 1] += g * g
    items.b[j] += eta * g / np.sqrt(items.h[j, 1])


@inlined
def move_user(users, i, g, eta):
    # k=factor
    squares = inner_product(g, np.intp(0), g, np.intp(0))
    users.h[i] += squares / np.float32(g.shape[1])
    rate = eta / np.sqrt(users.h[i])
    for k in range(g.shape[1]):
        users.F[i, k] += rate * g[0, k]


@inlined
def pull_item(users, i, items, j, r, products, step, g):
    """An item's step with its pull r, and its share of the user's gradient; ``products`` (u . v, u . u, v . v)."""
    uv, uu, vv = products
    # |r u - l2 v|^2, which rounding could make negative
    squares = max(r * (r * uu - _TWO * step.l2 * uv) + step.l2 * step.l2 * vv, _ZERO)
    items.h[j, 0] += squares / np.float32(items.F.shape[1])
    rate = step.eta / np.sqrt(items.h[j, 0])
    keep = max(_ONE - rate * step.l2, _ZERO)
    exchange(g[0], r, items.F, np.intp(j), keep, rate * r, users.F, np.intp(i))
    move_bias(items, j, r, step.eta)


@inlined
def push_item(users, i, items, j, w, uu, eta, g):
    """As `pull_item`, of a negative with push w."""
    items.h[j, 0] += w * w * uu / np.float32(items.F.shape[1])
    rate = eta / np.sqrt(items.h[j, 0])
    exchange(g[0], -w, items.F, np.intp(j), _ONE, -rate * w, users.F, np.intp(i))
    move_bias(items, j, -w, eta)


@inlined
def estimate_share(users, i, items, weight, chosen, E):
    """E[q] = what each chosen item adds to the estimate of Z_x; returns their sum."""
    # q=place
    score_items(users, i, items, chosen, E)
    for q in range(len(E)):
        E[q] = exp2(E[q])
    share = _ZERO
    for q in range(len(E)):
        E[q] *= weight[q]
        share += E[q]
    return share


@inlined
def renew(totals, own, i, what, value):
    """Replace a block's share in a row's total."""
    totals[i, what] += np.float64(value) - own[i, what]
    own[i, what] = value


@inlined
def extrapolated(totals, own, i, what, n_items):
    """A total of the blocks so far as one of all items; rounding must not leave less than the block's own share."""
    return np.float32(max(totals[i, what], own[i, what]) * (n_items / totals[i, 2]))


@jit
def robirank_exp_visit(tile, order, seed, users, items, own, draws, step):
    """One step of every user, on its positives here and on negatives of its own.

    Parameters
    ----------
    order : rows in the sequence of their visits; those without positives are skipped while they have no R_x.
    seed : of the draws; a user's depend on its row, too.
    users, items : changed in place.
    own : float32 (n, 2)
        Shares of this tile in Z_x (-1: not visited yet) and R_x; changed in place.
    draws : Draws

    Returns
    -------
    Sums over the pairs just before their steps: log2(1 + S_xy) as estimated, times the pair's weight, and the ridge.
    """
    # i=user, j=item, k=factor, e=pair, q=place among the negatives
    loss, ridge, here = 0.0, 0.0, len(draws.mark)
    count_pairs(tile.indices, draws.pairs)
    draws.mark[:] = 0
    chosen, weight, E = np.empty(step.n, np.int32), np.empty(step.n, np.float32), np.empty(step.n, np.float32)
    g = np.empty((1, users.F.shape[1]), np.float32)
    for ii in range(len(order)):
        i = np.intp(order[ii])
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if hi - lo == here or (lo == hi and users.totals[i, 1] <= 0):
            continue  # no negatives, or no positives so far
        mark_positives(tile.indices[lo:hi], draws.mark, i + 1)
        others = count_others(draws.pairs, tile.indices[lo:hi], len(tile.indices))
        z = mix(_U(seed) + _U(i) * _GOLDEN)
        draw_negatives(z, tile.indices, draws.mark, i + 1, others, items.F, chosen)
        weigh_draws(draws.pairs, chosen, hi - lo, others, weight)
        share = estimate_share(users, i, items, weight, chosen, E)
        if own[i, 0] < 0:
            own[i, 0] = _ZERO
            users.totals[i, 2] += here
        renew(users.totals, own, i, 0, share)
        Z = extrapolated(users.totals, own, i, 0, step.n_items)
        shrink_user(users, i, step.l2 * np.float32(hi - lo), g)
        R, uu = _ZERO, inner_product(users.F, i, users.F, i)
        for e in range(lo, hi):
            j = np.intp(tile.indices[e])
            uv, _, vv = inner_products(users.F, i, items.F, j)
            E_y = exp2(uv + items.b[j])
            value = tile.data[e] if step.weighted else _ONE
            r = value * Z / (E_y + Z)
            R += r
            loss += value * np.log2(_ONE + Z / E_y)
            ridge += uu + vv
            pull_item(users, i, items, j, r, (uv, uu, vv), step, g)
        renew(users.totals, own, i, 1, R)
        push = extrapolated(users.totals, own, i, 1, step.n_items) / Z
        for q in range(step.n):
            push_item(users, i, items, np.intp(chosen[q]), push * E[q], uu, step.eta, g)
        move_user(users, i, g, step.eta)
    return loss, step.l2 * ridge / 2
