import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.kernels.robirank_implicit_sums import (
    NODES,
    Factors,
    Nodes,
    add_partition,
    add_rank_sums,
    fill_nodes,
    find_nodes,
    measure_pairs,
    measure_softmax,
    rank_sum,
    refresh_xi,
    sample_of,
)
from tests.kernels.interacted import pairs, partitions, rank_sums, scores_of, state_of, tile_of


def nodes_of(n_rows):
    far = np.finfo(np.float32).max
    extent = np.tile(np.array([far, -far, 0], np.float32), (n_rows, 1))
    return Nodes(extent, np.zeros((n_rows, NODES), np.float32))


def toured(P, users, items, n_blocks, weight=None):
    """Nodes and their sums after a tour of the blocks of items, each block's tile and its factors."""
    weight = np.ones(P.shape[1], np.float32) if weight is None else weight
    cuts = np.linspace(0, P.shape[1], n_blocks + 1).astype(int)
    blocks = [slice(lo, hi) for lo, hi in zip(cuts[:-1], cuts[1:], strict=True)]
    tiles = [(tile_of(P[:, b]), Factors(users.F, items.F[b], items.b[b])) for b in blocks]
    nodes, sums = nodes_of(len(P)), np.zeros((len(P), NODES), np.float32)
    for tile, factors in tiles:
        find_nodes(tile, factors, nodes)
    for (tile, factors), b in zip(tiles, blocks, strict=True):
        mark = np.zeros(b.stop - b.start, np.int32)
        add_rank_sums(tile, factors, sample_of(weight[b]), mark, nodes, sums)
    return nodes, sums, tiles


@given(n_blocks=st.integers(1, 9), density=st.floats(0.1, 0.9), seed=st.integers(0, 1000))
def test_the_tour_of_rank_sums_is_brute_force(n_blocks, density, seed):
    P = pairs(density=density, seed=seed)
    users, items = state_of(P, seed=seed)
    expected = rank_sums(P, scores_of(users, items))
    nodes, sums, tiles = toured(P, users, items, n_blocks)
    found = []
    for tile, factors in tiles:
        xi = np.empty(len(tile.indices), np.float32)
        refresh_xi(tile, factors, nodes, sums, 1, xi)
        rows = np.repeat(np.arange(len(P)), np.diff(tile.indptr))
        found.append(np.zeros((len(P), len(factors.b))))
        found[-1][rows, tile.indices] = xi
    np.testing.assert_allclose(np.hstack(found), np.where(P, 1 / (1 + expected), 0), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("spread", [0.3, 1, 3])
def test_users_with_many_positives_have_their_sums_interpolated(spread):
    P = np.random.default_rng(0).random((6, 300)) < 0.4
    users, items = state_of(P)
    users.F[:] *= spread
    assert (P.sum(axis=1) > 2 * NODES).all()
    S = rank_sums(P, scores_of(users, items))
    nodes, sums, tiles = toured(P, users, items, 3)
    loss = [measure_pairs(tile, factors, nodes, sums, 1, False)[0] for tile, factors in tiles]
    assert sum(loss) == pytest.approx(np.log2(1 + S[P]).sum(), rel=1e-5)
    t = np.empty(NODES, np.float32)
    for i in range(len(P)):
        fill_nodes(nodes, i, t)
        scores = scores_of(users, items)[i].astype(np.float32)
        found = [rank_sum(nodes, sums, i, s, t) for s in scores[P[i]]]
        np.testing.assert_allclose(found, S[i, P[i]], rtol=1e-4)


def test_a_sample_counts_by_its_weights():
    P = pairs()
    users, items = state_of(P)
    weight = np.array([2, 0, 1, 0, 3, 1, 0, 2, 1], np.float32)
    S = scores_of(users, items)
    nodes, sums, tiles = toured(P, users, items, 2, weight)
    loss = sum(measure_pairs(tile, factors, nodes, sums, 0, False)[0] for tile, factors in tiles)
    terms = np.log2(1 + np.exp2(S[:, None, :] - S[:, :, None])) * weight  # user, positive, other
    assert loss == pytest.approx(np.where(~P[:, None, :], terms, 0).sum(axis=2)[P].sum(), rel=1e-5)
    Z = np.zeros(len(P))
    for (tile, factors), b in zip(tiles, (slice(0, 4), slice(4, 9)), strict=True):
        add_partition(tile, factors, sample_of(weight[b]), np.zeros(len(factors.b), np.int32), Z)
    np.testing.assert_allclose(Z, np.where(P, 0, weight * np.exp2(S)).sum(axis=1), rtol=1e-5)


def test_the_softmax_is_measured_with_values_and_ridge():
    P, values = pairs(), np.random.default_rng(0).integers(1, 5, (7, 9)).astype(np.float64)
    users, items = state_of(P)
    S = scores_of(users, items)
    Z = partitions(P, S)
    tile, factors = tile_of(P, values), Factors(users.F, items.F, items.b)
    loss, squares = measure_softmax(tile, factors, Z, True)
    assert loss == pytest.approx((values * np.log2(1 + Z[:, None] / np.exp2(S)))[P].sum(), rel=1e-5)
    both = (users.F**2).sum(axis=1)[:, None] + (items.F**2).sum(axis=1)
    assert squares == pytest.approx(both[P].sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("rho", "lost", "slope"),
    [
        (1, lambda S: np.log2(1 + S), lambda S: 1 / (1 + S)),
        (2, lambda S: 1 - 1 / np.log2(S + 2), lambda S: 1 / (S + 2) / np.log2(S + 2) ** 2),
    ],
)
def test_weights_are_the_slopes_of_the_losses(rho, lost, slope):
    """Up to one factor: the linearisation lies above the concave loss and touches it."""
    P = pairs()
    users, items = state_of(P)
    S = rank_sums(P, scores_of(users, items))[P]
    nodes, sums, [(tile, factors)] = toured(P, users, items, 1)
    xi = np.empty(len(tile.indices), np.float32)
    refresh_xi(tile, factors, nodes, sums, rho, xi)
    assert measure_pairs(tile, factors, nodes, sums, rho, False)[0] == pytest.approx(lost(S).sum(), rel=1e-5)
    numeric = (lost(S + 1e-5) - lost(S - 1e-5)) / 2e-5
    np.testing.assert_allclose(xi / numeric, (xi / numeric)[0], rtol=1e-3)
    np.testing.assert_allclose(xi, slope(S), rtol=1e-5)
