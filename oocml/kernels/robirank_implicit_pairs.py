"""Visits of users to a tile where each pair has a weight of its own: the logistic surrogate, BPR and WARP.

With the surrogate sigma(t) = log2(1 + 2^-t) (base 2, so that it bounds the indicator t < 0) the rank of item y is
at most S_xy = sum of sigma(s_xy - s_xy'). A concave rho of it lies below its tangent, whose slope xi_xy weighs the
pair: 1 / (1 + S) for rho1(S) = log2(1 + S), 1 / ((S + 2) log2(S + 2)^2) for rho2(S) = 1 - 1 / log2(S + 2) (constant
factors are left to the step). xi comes from the negatives of the visit, or is kept per pair and refreshed from
exact sums (`oocml.kernels.robirank_implicit_sums`); as it may then be out of date, at most ``cap`` is used of it.

BPR (Rendle, Freudenthaler, Gantner and Schmidt-Thieme 2009) weighs all pairs alike. WARP (Weston, Bengio and
Usunier 2011) draws negatives of a pair until one violates the margin of 1, and weighs it by the logarithm of the
rank that the number of draws tells of, here divided by that of the number of items.

Negatives, ridge and steps are those of `oocml.kernels.robirank_implicit`.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.kernels.log2 import log2_32
from oocml.kernels.planted_rows import mix
from oocml.kernels.robirank_implicit import (
    count_others,
    count_pairs,
    draw_item,
    draw_negatives,
    exp2,
    mark_positives,
    move_user,
    pull_item,
    push_item,
    score_items,
    shrink_user,
    weigh_draws,
)
from oocml.kernels.robirank_implicit_sums import lose_pair, weigh_pair
from oocml.kernels.vectors import inner_product, inner_products

_U = np.uint64
_GOLDEN = _U(0x9E3779B97F4A7C15)
_ZERO = np.float32(0)
_ONE = np.float32(1)
MARGIN = np.float32(1)


class Rule(NamedTuple):
    """How pairs are weighed."""

    rho: int
    """1, 2; 0: all alike."""
    stored: bool
    """Whether xi is read from the pairs' state, not found from the negatives."""
    cap: np.float32
    """The largest xi times the number of items."""


@inlined
def surrogates(E, P, weight, D):
    """D[q] = the slope of negative q's surrogate times its weight; returns the sums of surrogates and of slopes."""
    # q=place among the negatives
    total = slope = _ZERO
    for q in range(len(E)):
        z = P * E[q]
        total += weight[q] * log2_32(_ONE + z)
        D[q] = weight[q] * z / (_ONE + z)
        slope += D[q]
    return total, slope


@jit
def robirank_pairs_visit(tile, order, seed, users, items, xi, draws, step, rule):
    """One step of every user that has positives here, on them and on negatives of its own.

    Parameters
    ----------
    order : rows that have positives here, in the sequence of their visits.
    xi : float32 (pairs,)
        The pairs' weights, if the rule has them stored.
    users, items, draws, step
        As for `robirank_exp_visit`.

    Returns ------- Sums over the pairs just before their steps: rho(S_xy) as estimated (S_xy over the number of
    items if all weigh alike), times the pair's weight, and the ridge.
    """
    # i=user, j=item, k=factor, e=pair, q=place among the negatives
    loss, ridge, here = 0.0, 0.0, len(draws.mark)
    count_pairs(tile.indices, draws.pairs)
    draws.mark[:] = 0
    chosen, E, D = np.empty(step.n, np.int32), np.empty(step.n, np.float32), np.empty(step.n, np.float32)
    push, weight = np.empty(step.n, np.float32), np.empty(step.n, np.float32)
    g = np.empty((1, users.F.shape[1]), np.float32)
    for ii in range(len(order)):
        i = np.intp(order[ii])
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if hi - lo == here:
            continue  # no negatives
        mark_positives(tile.indices[lo:hi], draws.mark, i + 1)
        z = mix(_U(seed) + _U(i) * _GOLDEN)
        others = count_others(draws.pairs, tile.indices[lo:hi], len(tile.indices))
        draw_negatives(z, tile.indices, draws.mark, i + 1, others, items.F, chosen)
        weigh_draws(draws.pairs, chosen, hi - lo, others, weight)
        score_items(users, i, items, chosen, E)
        for q in range(step.n):
            E[q] = exp2(E[q])
        for q in range(step.n):
            weight[q] *= step.n_items / np.float32(here)
            push[q] = _ZERO
        shrink_user(users, i, step.l2 * np.float32(hi - lo), g)
        uu = _ZERO
        for e in range(lo, hi):
            j = np.intp(tile.indices[e])
            uv, uu, vv = inner_products(users.F, i, items.F, j)
            S, slope = surrogates(E, exp2(-uv - items.b[j]), weight, D)
            value = tile.data[e] if step.weighted else _ONE
            if rule.rho == 0:
                omega = value / step.n_items
                loss += value * S / step.n_items
            else:
                own = xi[e] if rule.stored else np.float32(weigh_pair(S, rule.rho))
                omega = value * min(own, rule.cap / step.n_items)
                loss += value * lose_pair(S, rule.rho)
            ridge += uu + vv
            for q in range(step.n):
                push[q] += omega * D[q]
            pull_item(users, i, items, j, omega * slope, (uv, uu, vv), step, g)
        for q in range(step.n):
            push_item(users, i, items, np.intp(chosen[q]), push[q], uu, step.eta, g)
        move_user(users, i, g, step.eta)
    return loss, step.l2 * ridge / 2


@jit
def warp_visit(tile, order, seed, users, items, draws, step):
    """One step for every pair of the tile, on the first of at most ``step.n`` negatives that violates the margin.

    Parameters as for `robirank_pairs_visit`. Returns the sum of the weights of the violators that were found, and the
    ridge.
    """
    # i=user, j=item, k=factor, e=pair
    loss, ridge, here = 0.0, 0.0, len(draws.mark)
    draws.mark[:] = 0
    g = np.empty((1, users.F.shape[1]), np.float32)
    whole = np.log(step.n_items + _ONE)
    for ii in range(len(order)):
        i = np.intp(order[ii])
        lo, hi = tile.indptr[i], tile.indptr[i + 1]
        if hi - lo == here:
            continue  # no negatives
        mark_positives(tile.indices[lo:hi], draws.mark, i + 1)
        z = mix(_U(seed) + _U(i) * _GOLDEN)
        for e in range(lo, hi):
            j = np.intp(tile.indices[e])
            products = inner_products(users.F, i, items.F, j)
            ridge += products[1] + products[2]
            bar, tries, other = products[0] + items.b[j] - MARGIN, 0, np.intp(0)
            while tries < step.n:
                z += _GOLDEN
                other = draw_item(mix(z), here, tile.indices, False)
                while draws.mark[other] == i + 1:
                    other = (other + 1) % here
                tries += 1
                if inner_product(users.F, i, items.F, other) + items.b[other] > bar:
                    break
            else:
                continue
            w = np.float32(np.log(max(step.n_items // tries, _ONE)) / whole)
            w *= tile.data[e] if step.weighted else _ONE
            loss += w
            shrink_user(users, i, step.l2, g)
            pull_item(users, i, items, j, w, products, step, g)
            push_item(users, i, items, other, w, products[1], step.eta, g)
            move_user(users, i, g, step.eta)
    return loss, step.l2 * ridge / 2
