"""Sums over items that belong to users or to pairs, accumulated while column blocks pass: Z_x and the rank sums S_xy.

With the logistic surrogate log2(1 + 2^-t) the bound on the rank of a positive item y of user x is a value of one
function,

    S_xy = F_x(s_xy),        F_x(t) = sum of log2(1 + 2^(s_xy' - t)) over the items y' that are not positive.

So a user needs F_x at as many scores as it has positives, or, if these are more than `NODES`, at the `NODES`
Chebyshev points between the lowest and the highest of them: log F_x is so smooth that interpolation between them is
right to 1e-6 for scores up to 24 apart and 1e-5 for 32, and the tour of partial sums takes a number of values per
user that does not depend on the data. Every item counts with a weight; those of weight 0 are left out.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.kernels.log2 import log2_32
from oocml.kernels.robirank_implicit import exp2
from oocml.kernels.vectors import inner_product
from oocml.types import Float32Array, Int32Array

NODES = 32
LOWEST = np.float32(1e-30)
"""Sums are taken to be at least this much, so that they have logarithms."""
_ONE = np.float32(1)
_TWO = np.float32(2)


class Factors(NamedTuple):
    """What scores the pairs of a tile."""

    U: Float32Array
    V: Float32Array
    b: Float32Array
    """Biases of items."""


class Nodes(NamedTuple):
    """Where each row's F_x is wanted."""

    extent: Float32Array
    """Shape (n, 3): lowest and highest score of the row's positives, and how many there are."""
    own: Float32Array
    """Shape (n, NODES): scores of its first positives."""


class Sample(NamedTuple):
    """Items of a tile that are summed over."""

    items: Int32Array
    weight: Float32Array
    """Of each of them."""


def sample_of(weight: Float32Array) -> Sample:
    """The items whose weight isn't 0."""
    items = np.flatnonzero(weight)
    return Sample(items.astype(np.int32), weight[items])


@inlined
def score(factors, i, j):
    return inner_product(factors.U, np.intp(i), factors.V, np.intp(j)) + factors.b[j]


@jit
def find_nodes(tile, factors, nodes):
    """Take the scores of a tile's positives into their rows' nodes."""
    # i=user, e=pair
    for i in range(len(tile.indptr) - 1):
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            s = score(factors, i, tile.indices[e])
            n = np.int64(nodes.extent[i, 2])
            nodes.extent[i, 0] = min(nodes.extent[i, 0], s)
            nodes.extent[i, 1] = max(nodes.extent[i, 1], s)
            nodes.extent[i, 2] = n + 1
            if n < nodes.own.shape[1]:
                nodes.own[i, n] = s


@inlined
def fill_nodes(nodes, i, t):
    """Put the scores at which row i is wanted into ``t``, and return how many they are."""
    # c=node
    n, most = np.int64(nodes.extent[i, 2]), nodes.own.shape[1]
    if n <= most:
        t[:n] = nodes.own[i, :n]
        return n
    lo, hi = nodes.extent[i, 0], nodes.extent[i, 1]
    for c in range(most):
        t[c] = (lo + hi) / 2 + (hi - lo) / 2 * np.cos(np.pi * c / (most - 1))
    return most


@inlined
def rank_sum(nodes, sums, i, s, t):
    """F_x(s) of row i; ``t`` as `fill_nodes` left it."""
    # c=node
    most = nodes.own.shape[1]
    if nodes.extent[i, 2] <= most:
        for c in range(np.int64(nodes.extent[i, 2])):
            if t[c] == s:
                return np.float64(sums[i, c])
    above, below = 0.0, 0.0  # barycentric
    for c in range(most):
        apart = np.float64(s) - t[c]
        if apart == 0:
            return np.float64(sums[i, c])
        w = (1.0 if c % 2 == 0 else -1.0) * (0.5 if c in (0, most - 1) else 1.0) / apart
        above += w * np.log(max(sums[i, c], LOWEST))
        below += w
    return np.exp(above / below)


@jit
def add_rank_sums(tile, factors, sample, mark, nodes, sums):
    """Add what a tile's items bring to F_x at each row's nodes. ``mark``: int32 (items,), work."""
    # i=user, j=item, c=node, q=place in the sample, e=pair
    most = nodes.own.shape[1]
    t, P, total = np.empty(most, np.float32), np.empty(most, np.float32), np.empty(most, np.float32)
    mark[:] = 0
    for i in range(len(tile.indptr) - 1):
        n = fill_nodes(nodes, i, t)
        if n == 0:
            continue
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            mark[tile.indices[e]] = i + 1
        for c in range(n):
            P[c] = exp2(-t[c])
        total[:n] = 0
        for q in range(len(sample.items)):
            j = sample.items[q]
            if mark[j] == i + 1:
                continue
            E, w = exp2(score(factors, i, j)), sample.weight[q]
            for c in range(n):
                total[c] += w * log2_32(_ONE + P[c] * E)
        sums[i, :n] += total[:n]


@jit
def add_partition(tile, factors, sample, mark, Z):
    """Add what a tile's items bring to Z_x. ``mark``: int32 (items,), work."""
    # i=user, j=item, q=place in the sample, e=pair
    mark[:] = 0
    for i in range(len(tile.indptr) - 1):
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            mark[tile.indices[e]] = i + 1
        total = 0.0
        for q in range(len(sample.items)):
            j = sample.items[q]
            if mark[j] != i + 1:
                total += sample.weight[q] * exp2(score(factors, i, j))
        Z[i] += total


@inlined
def weigh_pair(S, rho):
    """xi of a pair with rank sum S: what its surrogates weigh; rho 1, or 2."""
    if rho == 1:
        return 1 / (1 + S)
    return 1 / ((S + 2) * np.log2(S + 2) ** 2)


@inlined
def lose_pair(S, rho):
    """rho(S), and S itself for rho = 0."""
    if rho == 0:
        return S
    return np.log2(1 + S) if rho == 1 else 1 - 1 / np.log2(S + 2)


@jit
def refresh_xi(tile, factors, nodes, sums, rho, xi):
    """Fill xi, shape (pairs,), from the rank sums."""
    # i=user, e=pair
    t = np.empty(nodes.own.shape[1], np.float32)
    for i in range(len(tile.indptr) - 1):
        fill_nodes(nodes, i, t)
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            S = rank_sum(nodes, sums, i, score(factors, i, tile.indices[e]), t)
            xi[e] = weigh_pair(S, rho)


@jit
def measure_pairs(tile, factors, nodes, sums, rho, weighted):
    """Sum of rho(S_xy) over the tile's pairs, each times its value if ``weighted``; and of |u|^2 + |v|^2."""
    # i=user, j=item, e=pair
    loss, squares, t = 0.0, 0.0, np.empty(nodes.own.shape[1], np.float32)
    for i in range(len(tile.indptr) - 1):
        fill_nodes(nodes, i, t)
        uu = inner_product(factors.U, i, factors.U, i)
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j = np.intp(tile.indices[e])
            S = rank_sum(nodes, sums, i, score(factors, i, j), t)
            loss += (tile.data[e] if weighted else _ONE) * lose_pair(S, rho)
            squares += uu + inner_product(factors.V, j, factors.V, j)
    return loss, squares


@jit
def measure_softmax(tile, factors, Z, weighted):
    """As `measure_pairs` with the exponential surrogate: S_xy = 2^-s_xy Z_x."""
    # i=user, j=item, e=pair
    loss, squares = 0.0, 0.0
    for i in range(len(tile.indptr) - 1):
        uu = inner_product(factors.U, i, factors.U, i)
        for e in range(tile.indptr[i], tile.indptr[i + 1]):
            j = np.intp(tile.indices[e])
            S = Z[i] / exp2(score(factors, i, j))
            loss += (tile.data[e] if weighted else _ONE) * np.log2(1 + S)
            squares += uu + inner_product(factors.V, j, factors.V, j)
    return loss, squares
