"""Interactions of users who like items near them."""

import numpy as np

from oocml.models.robirank_implicit import RobirankImplicit
from tests.models.tiled import begin, csr


def planted(n_users=80, n_items=60, per_user=8, rank=3, seed=0):
    """(who likes what, a held-out quarter of it): softmax choices by planted factors; the last item is nobody's."""
    rng = np.random.default_rng(seed)
    S = 1.5 * rng.normal(size=(n_users, rank)) @ rng.normal(size=(rank, n_items))
    S += rng.gumbel(size=S.shape)
    S[:, -1] = -np.inf
    liked = np.sort(S, axis=1)[:, [-per_user]] <= S
    held_out = liked & (rng.random(S.shape) < 0.25)
    return liked & ~held_out, held_out


def training(liked, *, blocks=(3, 2), seed=0, **settings):
    settings = {"n_factors": 4, "n_negatives": 32} | settings
    return begin(RobirankImplicit(), csr(liked), liked.shape[1], blocks=blocks, seed=seed, **settings)


def scores_of(run):
    U, V = (run.joined(name).astype(np.float64) for name in ("U", "V"))
    U[run.joined("row_count") == 0] = 0
    return U @ V.T + run.joined("col_bias")
