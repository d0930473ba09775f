"""RoBiRank's loss of whole queries, for scores that are linear in the features, and its gradient.

With f = <x, u> the score of a row, v its gain and c the weight of its query, a query's loss is

    c sum_y v_y rho(S_y),   S_y = sum over the query's other rows y' of log2(1 + 2^(f_y' - f_y))

(Yun, Raman and Vishwanathan, "Ranking via robust binary classification", NIPS 2014). A row's own term would be 1,
which is the 1 that rho wants: with T = 1 + S, the sum over all rows, rho_1(S) = log2 T and
rho_2(S) = 1 - 1 / log2(T + 1); rho_0(S) = S is the plain pairwise loss.
"""

from typing import NamedTuple

import numpy as np

from oocml.kernels.jit import inlined, jit
from oocml.types import Csr, Float64Array, Int64Array

LN2 = 0.6931471805599453
MOST_DOUBLINGS = 960.0
"""Products of terms stay below 2 to this: doubles end at 2^1024."""
MOST_TERMS = 64
"""Multiplied before a logarithm is taken."""

# x=query, y=row, z=another row of its query, j=column, e=entry, a=step


class RankedRows(NamedTuple):
    """A panel of whole queries, as kernels read it."""

    X: Csr
    gain: Float64Array
    """Shape (n_rows,): 2^grade - 1."""
    start: Int64Array
    """Shape (n_queries + 1,): first row of each query."""
    weight: Float64Array
    """Shape (n_queries,): of each query's loss; 0 where no row is relevant."""
    grade: Float64Array
    """Shape (n_rows,)."""
    qid: Int64Array
    """Shape (n_queries,): the queries' numbers."""


@jit
def explicit_scores(X: Csr, lo: int, hi: int, u: np.ndarray, scores: np.ndarray) -> None:
    """Scores of rows lo:hi, into ``scores[: hi - lo]``. ``u``: shape (n_features,), float64."""
    for y in range(lo, hi):
        total = 0.0
        for e in range(X.indptr[y], X.indptr[y + 1]):
            total += X.data[e] * u[X.indices[e]]
        scores[y - lo] = total


@inlined
def scores_and_moves(
    X: Csr, lo: int, hi: int, u: np.ndarray, v: np.ndarray, scores: np.ndarray, moves: np.ndarray
) -> None:
    """Scores of rows lo:hi with two vectors, from reading the rows once."""
    for y in range(lo, hi):
        score = move = 0.0
        for e in range(X.indptr[y], X.indptr[y + 1]):
            value, j = np.float64(X.data[e]), X.indices[e]
            score += value * u[j]
            move += value * v[j]
        scores[y - lo], moves[y - lo] = score, move


@inlined
def powers_of_two(f: np.ndarray, n: int, powers: np.ndarray) -> int:
    """Fill ``powers`` with 2^f over a common factor; returns how many terms may be multiplied, 0 for none.

    Then the spread of f is too large for powers of it.
    """
    low = high = f[0]
    for y in range(n):
        low = min(low, f[y])
        high = max(high, f[y])
    if not high - low < MOST_DOUBLINGS - 1:
        return 0
    middle = low + (high - low) / 2
    for y in range(n):
        powers[y] = 2.0 ** (f[y] - middle)
    return min(MOST_TERMS, int(MOST_DOUBLINGS / (high - low + 1)))


@inlined
def sum_of_losses(f: np.ndarray, powers: np.ndarray, n: int, n_terms: int, y: int) -> float:
    """T of row y: the sum over all n rows of log2(1 + 2^(f_z - f_y))."""
    total = 0.0
    if n_terms == 0:
        for z in range(n):
            t = f[z] - f[y]
            total += max(t, 0.0) + np.log1p(2.0 ** -abs(t)) / LN2
        return total
    inverse = 1 / powers[y]
    for first in range(0, n, n_terms):
        product = 1.0
        for z in range(first, min(first + n_terms, n)):
            product *= 1 + powers[z] * inverse
        total += np.log2(product)
    return total


@inlined
def transformed(T: float, rho: int) -> float:
    """rho(S), for T = 1 + S."""
    if rho == 0:
        return T - 1
    if rho == 1:
        return np.log2(T)
    return 1 - 1 / np.log2(T + 1)


@inlined
def transformed_slope(T: float, rho: int) -> float:
    """The derivative of rho at S, for T = 1 + S."""
    if rho == 0:
        return 1.0
    if rho == 1:
        return 1 / (T * LN2)
    log = np.log(T + 1)
    return LN2 / ((T + 1) * log * log)


@inlined
def query_loss(f: np.ndarray, powers: np.ndarray, gain: np.ndarray, rho: int) -> float:
    """Loss of one query, without its weight."""
    n, total = len(gain), 0.0
    n_terms = powers_of_two(f, n, powers)
    for y in range(n):
        if gain[y] > 0:
            total += gain[y] * transformed(sum_of_losses(f, powers, n, n_terms, y), rho)
    return total


@inlined
def query_gradient(
    f: np.ndarray, powers: np.ndarray, gain: np.ndarray, rho: int, goal: int, by_score: np.ndarray
) -> tuple[float, float]:
    """Losses of one query under ``rho`` and under ``goal``; ``by_score[:n]`` gets the first one's derivatives."""
    n, loss, loss_of_goal = len(gain), 0.0, 0.0
    n_terms = powers_of_two(f, n, powers)
    by_score[:n] = 0
    for y in range(n):
        if gain[y] == 0:
            continue
        T = sum_of_losses(f, powers, n, n_terms, y)
        loss += gain[y] * transformed(T, rho)
        loss_of_goal += gain[y] * transformed(T, goal)
        push = gain[y] * transformed_slope(T, rho)
        total = 0.0
        if n_terms == 0:
            for z in range(n):
                share = push / (1 + 2.0 ** (f[y] - f[z]))
                by_score[z] += share
                total += share
        else:
            own = powers[y]
            for z in range(n):
                share = push * (powers[z] / (own + powers[z]))
                by_score[z] += share
                total += share
        by_score[y] -= total
    return loss, loss_of_goal


@jit
def explicit_visit(
    data: RankedRows,
    u: np.ndarray,
    v: np.ndarray,
    steps: np.ndarray,
    rho: int,
    goal: int,
    losses: np.ndarray,
    gradient: np.ndarray,
) -> tuple[float, float]:
    """Losses at u + step v for several steps, and the gradient at the first of them.

    Parameters
    ----------
    data : RankedRows
    u, v : float64 (n_features,)
    steps : float64 (n_steps,)
    rho, goal : int
        The loss, and another one that is told of the first step.
    losses : float64 (n_steps,)
        Added to: sums of the queries' weighted losses.
    gradient : float64 (n_features,)
        Added to.

    Returns
    -------
    The loss under ``goal`` at the first step, and the derivative of the loss along v there.
    """
    X, gain, start, weight, _, _ = data
    longest = 1
    for x in range(len(weight)):
        longest = max(longest, start[x + 1] - start[x])
    scores, moves, f = np.empty(longest), np.empty(longest), np.empty(longest)
    powers, by_score = np.empty(longest), np.empty(longest)
    loss_of_goal = slope = 0.0
    for x in range(len(weight)):
        if weight[x] == 0:
            continue
        lo, hi = start[x], start[x + 1]
        n = hi - lo
        scores_and_moves(X, lo, hi, u, v, scores, moves)
        gains = gain[lo:hi]
        for a in range(1, len(steps)):
            for y in range(n):
                f[y] = scores[y] + steps[a] * moves[y]
            losses[a] += weight[x] * query_loss(f, powers, gains, rho)
        for y in range(n):
            f[y] = scores[y] + steps[0] * moves[y]
        loss, other = query_gradient(f, powers, gains, rho, goal, by_score)
        losses[0] += weight[x] * loss
        loss_of_goal += weight[x] * other
        for y in range(n):
            push = weight[x] * by_score[y]
            slope += push * moves[y]
            if push != 0:
                for e in range(X.indptr[lo + y], X.indptr[lo + y + 1]):
                    gradient[X.indices[e]] += push * X.data[e]
    return loss_of_goal, slope


@jit
def scale_queries(X: Csr, start: np.ndarray, n_features: int) -> None:
    """Stretch every feature of every query to a range of 1, in place; features that don't vary there become 0.

    What subtracting the least value would add is the same for all rows of a query, so ranks don't know of it.
    """
    low, high = np.zeros(n_features), np.zeros(n_features)
    count = np.zeros(n_features, np.int64)
    for x in range(len(start) - 1):
        first, last = X.indptr[start[x]], X.indptr[start[x + 1]]
        n = start[x + 1] - start[x]
        for e in range(first, last):
            j, value = X.indices[e], np.float64(X.data[e])
            if count[j] == 0:
                low[j] = high[j] = value
            low[j] = min(low[j], value)
            high[j] = max(high[j], value)
            count[j] += 1
        for e in range(first, last):
            j = X.indices[e]
            if 0 < count[j] < n:  # the other rows have 0
                low[j], high[j], count[j] = min(low[j], 0.0), max(high[j], 0.0), n
            spread = high[j] - low[j]
            X.data[e] = 0 if spread == 0 else np.float32(X.data[e] / spread)
        for e in range(first, last):
            count[X.indices[e]] = 0


@jit
def squares_within(X: Csr, start: np.ndarray, squares: np.ndarray) -> None:
    """Add the sums over queries of (x - the query's mean)^2 by feature. ``squares``: float64 (n_features,)."""
    total, square = np.zeros(len(squares)), np.zeros(len(squares))
    for x in range(len(start) - 1):
        n = start[x + 1] - start[x]
        first, last = X.indptr[start[x]], X.indptr[start[x + 1]]
        for e in range(first, last):
            j, value = X.indices[e], np.float64(X.data[e])
            total[j] += value
            square[j] += value * value
        for e in range(first, last):
            j = X.indices[e]
            spread = square[j] - total[j] * total[j] / n
            if spread > 1e-12 * square[j]:  # less is rounding
                squares[j] += spread
            total[j] = square[j] = 0.0
