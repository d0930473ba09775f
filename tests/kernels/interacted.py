"""Small tiles of interactions, state for them, and float64 references."""

import numpy as np

from oocml.kernels.robirank_implicit import Draws, Items, Step, Users
from oocml.types import Csr

FIXED = 1e12
"""A sum of squared gradients that no step changes: then steps are plain gradient steps of eta / 1e6."""


def pairs(n_rows=7, n_cols=9, density=0.4, seed=0):
    """Who has what; row 2 has nothing, row 3 all but one, column 4 belongs to nobody."""
    P = np.random.default_rng(seed).random((n_rows, n_cols)) < density
    P[2], P[3], P[3, -1], P[:, 4] = False, True, False, False
    return P


def tile_of(P, values=None):
    rows, cols = P.nonzero()
    data = np.ones(len(rows)) if values is None else values[rows, cols]
    indptr = np.searchsorted(rows, np.arange(len(P) + 1)).astype(np.int64)
    return Csr(indptr, cols.astype(np.int32), data.astype(np.float32))


def state_of(P, n_factors=5, squares=FIXED, seed=1):
    rng = np.random.default_rng(seed)
    n, m = P.shape

    def noise(*shape):
        return rng.normal(scale=0.7, size=shape).astype(np.float32)

    users = Users(noise(n, n_factors), np.full(n, squares, np.float32), np.zeros((n, 3)))
    return users, Items(noise(m, n_factors), noise(m), np.full((m, 2), squares, np.float32))


def work_of(P):
    return Draws(np.zeros(P.shape[1], np.float32), np.zeros(P.shape[1], np.int32))


def step_of(P, n=64, eta=1.0, l2=0.1, n_items=None, weighted=False):
    n_items = P.shape[1] if n_items is None else n_items
    return Step(np.float32(eta), np.float32(l2), n, np.float32(n_items), weighted)


def copied(*tuples):
    return [type(arrays)(*map(np.copy, arrays)) for arrays in tuples]


def scores_of(users, items):
    return users.F.astype(np.float64) @ items.F.T.astype(np.float64) + items.b


def partitions(P, S):
    """Z_x: sum of 2^score over what a user doesn't have."""
    return np.where(P, 0, np.exp2(S)).sum(axis=1)


def rank_sums(P, S):
    """S_xy at the pairs, 0 elsewhere, with the logistic surrogate; by brute force."""
    found = np.zeros(P.shape)
    for i, j in zip(*P.nonzero(), strict=True):
        found[i, j] = sum(np.log2(1 + 2 ** (S[i, k] - S[i, j])) for k in np.flatnonzero(~P[i]))
    return found
