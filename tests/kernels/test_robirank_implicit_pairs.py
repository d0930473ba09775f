import numpy as np
import pytest

from oocml.kernels.robirank_implicit_pairs import Rule, robirank_pairs_visit, warp_visit
from tests.kernels.interacted import copied, pairs, rank_sums, scores_of, state_of, step_of, tile_of, work_of

RATE = 1e-6
NO_CAP = np.float32(1e30)


def pairs_visit(P, users, items, rule, xi=None, n=40_000, n_items=None, **step):
    xi = np.zeros(0, np.float32) if xi is None else xi
    order = np.flatnonzero(P.any(axis=1)).astype(np.int32)
    step = step_of(P, n, n_items=n_items, **step)
    return robirank_pairs_visit(tile_of(P), order, 3, users, items, xi, work_of(P), step, rule)


def pair_gradients(P, S, omega):
    """Downhill slopes of each score of one user if pair y weighs omega[y]: of the positives, of the others."""
    z = 1 / (1 + np.exp2(S[:, None] - S[None, :]))  # positive, other
    slopes = np.where(P[:, None] & ~P[None, :], omega[:, None] * z, 0)
    return slopes.sum(axis=1) - slopes.sum(axis=0)


@pytest.mark.parametrize("kind", ["bpr", "sampled rho 1", "sampled rho 2", "stored", "capped"])
def test_a_visit_steps_along_the_gradient_of_weighed_pairs(kind):
    P = pairs()[[0]]
    users, items = state_of(P)
    before = copied(users, items)
    scores, n_items = scores_of(users, items), P.shape[1]
    S, xi, cap = rank_sums(P, scores)[0], None, NO_CAP
    if kind == "bpr":
        rule, omega, expected = Rule(0, False, cap), np.full(n_items, 1 / n_items), S / n_items
    elif kind == "sampled rho 2":
        rule, omega = Rule(2, False, cap), 1 / ((S + 2) * np.log2(S + 2) ** 2)
        expected = 1 - 1 / np.log2(S + 2)
    else:
        rule, omega, expected = Rule(1, kind != "sampled rho 1", cap), 1 / (1 + S), np.log2(1 + S)
    if kind in ("stored", "capped"):
        omega = np.linspace(0.1, 1, n_items)
        xi = omega[P[0]].astype(np.float32)
    if kind == "capped":
        rule, omega = rule._replace(cap=np.float32(0.5 * n_items)), np.minimum(omega, 0.5)
    loss, _ = pairs_visit(P, users, items, rule, xi, eta=1e4)
    g = pair_gradients(P[0], scores[0], omega)
    u, V = before[0].F[0].astype(np.float64), before[1].F.astype(np.float64)
    np.testing.assert_allclose((items.b - before[1].b) / (1e4 * RATE), g, atol=0.05)
    expected_v = np.outer(g, u) - 0.1 * np.where(P[0, :, None], V, 0)
    np.testing.assert_allclose((items.F - before[1].F) / (1e4 * RATE), expected_v, atol=0.05)
    expected_u = g @ V - 0.1 * P.sum() * u
    np.testing.assert_allclose((users.F[0] - before[0].F[0]) / (1e4 * RATE), expected_u, atol=0.05)
    assert loss == pytest.approx(expected[P[0]].sum(), rel=0.02)


def test_a_block_stands_for_all_items():
    P = pairs()[:, :5]
    users, items = state_of(P)
    loss, _ = pairs_visit(P, users, items, Rule(1, False, NO_CAP), n=100_000, n_items=50)
    S = 10 * rank_sums(P, scores_of(*state_of(P)))
    assert loss == pytest.approx(np.log2(1 + S[P & ~P.all(axis=1, keepdims=True)]).sum(), rel=0.02)


def warp(P, users, items, n=64, **step):
    order = np.flatnonzero(P.any(axis=1)).astype(np.int32)
    return warp_visit(tile_of(P), order, 3, users, items, work_of(P), step_of(P, n, **step))


def test_warp_leaves_alone_what_is_a_margin_above_the_rest():
    P = np.zeros((1, 6), bool)
    P[0, 2] = True
    users, items = state_of(P)
    items.F[:], items.b[:] = 0, 0
    items.b[2] = 1.01
    before = copied(users, items)
    assert warp(P, users, items, eta=1e6)[0] == 0
    np.testing.assert_array_equal(items.b, before[1].b)
    items.b[2] = 0.99
    loss, _ = warp(P, users, items, eta=1e4)
    assert loss == pytest.approx(np.log(6) / np.log(7), rel=1e-5)  # the first draw violates the margin
    moved = items.b - before[1].b
    assert moved[2] > -0.02
    assert np.count_nonzero(np.delete(moved, 2)) == 1


def test_warp_weighs_by_the_rank_that_the_number_of_draws_tells_of():
    P = np.zeros((200, 101), bool)
    P[:, 0] = True
    users, items = state_of(P, squares=1e30)
    items.F[:], items.b[:] = 0, -10
    items.b[:11] = 0  # the positive item, and ten violators among a hundred
    loss, _ = warp(P, users, items, n=10_000)
    tries = np.random.default_rng(0).geometric(0.1, 100_000)
    assert loss / 200 == pytest.approx(np.mean(np.log(np.maximum(101 // tries, 1))) / np.log(102), rel=0.08)


def test_warp_gives_up_after_so_many_tries():
    P = np.zeros((50, 400), bool)
    P[:, 0] = True
    users, items = state_of(P, squares=1e30)
    items.F[:], items.b[:] = 0, -10
    items.b[:2] = 0
    assert 0 <= warp(P, users, items, n=4)[0] < 5


@pytest.mark.parametrize("visit", [warp, lambda P, u, i: pairs_visit(P, u, i, Rule(1, False, NO_CAP))])
def test_who_has_every_item_or_none_learns_nothing(visit):
    P = np.array([[True] * 4, [False] * 4])
    users, items = state_of(P)
    before = copied(users, items)
    assert visit(P, users, items) == (0, 0)
    np.testing.assert_array_equal(items.F, before[1].F)
    np.testing.assert_array_equal(users.F, before[0].F)
