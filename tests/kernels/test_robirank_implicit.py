import numpy as np
import pytest

from oocml.kernels.robirank_implicit import (
    count_others,
    count_pairs,
    draw_negatives,
    robirank_exp_visit,
    weigh_draws,
)
from tests.kernels.interacted import copied, pairs, partitions, scores_of, state_of, step_of, tile_of, work_of

NOT_YET = np.array([-1, 0], np.float32)
RATE = 1e-6
"""Of a step of 1, with the sums of squares that the states begin with."""


def fresh_shares(P):
    return np.tile(NOT_YET, (len(P), 1))


def drawn(P, i, n, seed):
    tile, work = tile_of(P), work_of(P)
    count_pairs(tile.indices, work.pairs)
    work.mark[P[i]] = 1
    others = count_others(work.pairs, np.flatnonzero(P[i]).astype(np.int32), len(tile.indices))
    chosen, weight = np.empty(n, np.int32), np.empty(n, np.float32)
    draw_negatives(
        np.uint64(seed), tile.indices, work.mark, 1, others, np.zeros((P.shape[1], 4), np.float32), chosen
    )
    weigh_draws(work.pairs, chosen, int(P[i].sum()), others, weight)
    return chosen, weight


@pytest.mark.parametrize("i", [0, 2, 3])
def test_weighted_draws_add_up_to_every_item_that_is_not_positive(i):
    P = pairs()
    chosen, weight = drawn(P, i, 100_000, 5)
    counted = np.bincount(chosen, weight, P.shape[1])
    np.testing.assert_allclose(counted, ~P[i], atol=0.03)


def test_draws_of_the_only_user_of_a_tile_are_uniform():
    P = pairs()[:1]
    chosen, weight = drawn(P, 0, 50_000, 6)
    np.testing.assert_allclose(np.bincount(chosen, weight, P.shape[1]), ~P[0], atol=0.05)


def exp_visit(P, users, items, own, n=200_000, seed=3, **step):
    order = np.arange(len(P), dtype=np.int32)
    return robirank_exp_visit(
        tile_of(P, step.pop("values", None)),
        order,
        seed,
        users,
        items,
        own,
        work_of(P),
        step_of(P, n, **step),
    )


def softmax_gradients(P, users, items, i, l2, values=None):
    """Uphill gradients of -log2(1 + S) ln 2 - ridge for one user: of its factors, of items' factors and biases."""
    S = scores_of(users, items)[i]
    Z = np.where(P[i], 0, np.exp2(S)).sum()
    v = np.ones(P.shape[1]) if values is None else values[i]
    r = np.where(P[i], v * Z / (np.exp2(S) + Z), 0)
    g = r - np.where(P[i], 0, r.sum() * np.exp2(S) / Z)
    u, V = users.F[i].astype(np.float64), items.F.astype(np.float64)
    return g @ V - l2 * P[i].sum() * u, np.outer(g, u) - l2 * np.where(P[i, :, None], V, 0), g


@pytest.mark.parametrize("weighted", [False, True])
def test_a_visit_steps_along_the_gradient(weighted):
    P = pairs()[[0]]
    values = np.random.default_rng(2).integers(1, 5, P.shape).astype(np.float64)
    users, items = state_of(P)
    before = copied(users, items)
    gradients = softmax_gradients(P, *before, 0, 0.1, values if weighted else None)
    # an item is pushed once for every draw: not so often, and so little, that rounding hides it
    given = {"values": values, "weighted": weighted, "eta": 1e4}
    loss, ridge = exp_visit(P, users, items, fresh_shares(P), n=40_000, **given)
    moved = users.F[0] - before[0].F[0], items.F - before[1].F, items.b - before[1].b
    for change, gradient in zip(moved, gradients, strict=True):
        np.testing.assert_allclose(change / (1e4 * RATE), gradient, rtol=0.02, atol=0.05)
    S = np.exp2(-scores_of(*before)[0]) * partitions(P, scores_of(*before))[0]
    terms = np.log2(1 + S[P[0]]) * (values[0, P[0]] if weighted else 1)
    assert loss == pytest.approx(terms.sum(), rel=0.01)
    squares = P.sum() * (before[0].F[0] ** 2).sum() + (before[1].F[P[0]] ** 2).sum()
    assert ridge == pytest.approx(0.1 / 2 * squares, rel=1e-5)


def test_blocks_of_items_see_the_totals_of_all():
    """Two tiles, visited twice with steps too small to matter: shares add up, and pushes follow the whole softmax."""
    P = pairs()
    users, items = state_of(P)
    halves = [slice(0, 5), slice(5, 9)]
    own = [fresh_shares(P), fresh_shares(P)]
    Z, S = partitions(P, scores_of(users, items)), scores_of(users, items)
    R = np.where(P, Z[:, None] / (np.exp2(S) + Z[:, None]), 0).sum(axis=1)
    b = items.b.copy()
    for tour in range(2):
        for half, shares in zip(halves, own, strict=True):
            b[:] = items.b
            part = type(items)(*(array[half] for array in items))
            exp_visit(P[:, half], users, part, shares, n=20_000, seed=tour, n_items=9, eta=1e-3)
    seen = np.arange(len(P)) != 2  # has nothing, and is never visited
    np.testing.assert_allclose(users.totals[seen], np.stack([Z, R, np.full(7, 9.0)], axis=1)[seen], rtol=0.05)
    np.testing.assert_array_equal(users.totals[2], 0)
    np.testing.assert_allclose(own[0][seen] + own[1][seen], users.totals[seen, :2], rtol=1e-5)
    assert (own[0][:, 0] < np.where(P, 0, np.exp2(S))[:, halves[0]].sum(axis=1) * 1.2 + 1e-6).all()


def test_half_of_the_items_stand_for_all_until_the_others_were_seen():
    P = pairs()
    users, items = state_of(P)
    loss, _ = exp_visit(P[:, :5], users, type(items)(*(a[:5] for a in items)), fresh_shares(P), n_items=9)
    S = scores_of(users, items)[:, :5]
    Z = partitions(P[:, :5], S) * 9 / 5
    expected = np.where(P[:, :5], np.log2(1 + np.exp2(-S) * Z[:, None]), 0).sum()
    assert loss == pytest.approx(expected, rel=0.01)


def test_squared_gradients_are_kept_and_divide_the_steps():
    P = pairs()[[0]]
    users, items = state_of(P, squares=0.01)
    before = copied(users, items)
    exp_visit(P, users, items, fresh_shares(P), n=4, eta=0.1)
    for new, old in ((users, before[0]), (items, before[1])):
        change = ((new.F - old.F) ** 2).mean(axis=1)
        touched = new.h.reshape(len(new.F), -1)[:, 0] > 0.01
        assert (change[touched] <= 0.1**2 * 8).all()  # at most eta an own step; an item may have several
        assert (change[~touched] == 0).all()
    g = softmax_gradients(P, *before, 0, 0.1)[0]
    assert users.h[0] > 0.01 + 0.2 * (g**2).mean()


def test_equal_seeds_give_equal_bits_and_others_do_not():
    P, found = pairs(), []
    for seed in (1, 1, 2):
        users, items = state_of(P, squares=0.01)
        exp_visit(P, users, items, fresh_shares(P), n=16, seed=seed)
        found.append(items.F)
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_who_has_every_item_learns_nothing():
    P = np.ones((1, 4), bool)
    users, items = state_of(P)
    before = copied(users, items)
    assert exp_visit(P, users, items, fresh_shares(P), n=8, eta=1e6) == (0, 0)
    np.testing.assert_array_equal(items.F, before[1].F)
    np.testing.assert_array_equal(users.F, before[0].F)
