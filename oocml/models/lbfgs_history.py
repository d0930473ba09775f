"""The two-loop recursion of L-BFGS on coefficients: for vectors that are on disk, and in pieces.

The history is directions V_t and gradients G_t rather than their differences, s_t = step_t V_t and
y_t = G_t+1 - G_t, so that an iteration writes one array of each, when it forms it. All that the recursion needs are
their inner products (Chen, Wang and Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014): its numbers are float64
and few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oocml.types import Float64Array

LEAST_COSINE = 1e-6
"""Pairs with a smaller y.s / (|y| |s|) are left out: nothing but rounding makes one."""


class History:
    """Coefficients of L-BFGS over the stored vectors: all that the program knows of the history.

    Vectors are numbered 0 .. 2 n_slots - 1: directions by slot, then gradients by slot.
    """

    def __init__(self, n_slots: int) -> None:
        self.n = n_slots
        self.iteration = 0
        self.first = 0
        """First iteration whose pair may be used."""
        self.steps: dict[int, float] = {}
        self.gram: Float64Array = np.zeros((2 * n_slots, 2 * n_slots))

    def direction_of(self, iteration: int) -> int:
        return iteration % self.n

    def gradient_of(self, iteration: int) -> int:
        return self.n + iteration % self.n

    def name(self, vector: int) -> str:
        return f"V{vector}" if vector < self.n else f"G{vector - self.n}"

    @property
    def newest(self) -> list[int]:
        """The vectors that no inner product is known of."""
        found = [self.gradient_of(self.iteration)]
        if self.first < self.iteration:
            found.append(self.direction_of(self.iteration - 1))
        return found

    @property
    def kept(self) -> list[int]:
        """The vectors of usable pairs, and the newest gradient."""
        pairs = range(self.first, self.iteration)
        return [
            *(self.direction_of(t) for t in pairs),
            *(self.gradient_of(t) for t in (*pairs, self.iteration)),
        ]

    def learn(self, dots: npt.ArrayLike) -> None:
        """Take in the inner products of the newest vectors with the kept ones."""
        table = np.asarray(dots).reshape(len(self.newest), len(self.kept))
        self.gram[np.ix_(self.newest, self.kept)] = table
        self.gram[np.ix_(self.kept, self.newest)] = table.T

    def quasi_newton(self) -> Float64Array | None:
        """Coefficients of the L-BFGS direction by the two-loop recursion; None without a usable pair."""
        pairs = []
        for t in range(self.first, self.iteration):
            s, y = np.zeros(2 * self.n), np.zeros(2 * self.n)
            s[self.direction_of(t)] = self.steps[t]
            y[self.gradient_of(t + 1)], y[self.gradient_of(t)] = 1.0, -1.0
            sy, ss, yy = s @ self.gram @ y, s @ self.gram @ s, y @ self.gram @ y
            if sy > LEAST_COSINE * np.sqrt(max(ss * yy, 0.0)) and sy > 0:
                pairs.append((s, y, float(sy), float(yy)))
        if not pairs:
            return None
        q = np.zeros(2 * self.n)
        q[self.gradient_of(self.iteration)] = 1.0
        shares = []
        for s, y, sy, _ in reversed(pairs):
            shares.append(float(s @ self.gram @ q) / sy)
            q -= shares[-1] * y
        q *= pairs[-1][2] / pairs[-1][3]
        for (s, y, sy, _), share in zip(pairs, reversed(shares), strict=True):
            q += (share - float(y @ self.gram @ q) / sy) * s
        return -q

    def advance(self, step: float) -> None:
        """The iteration ends with a step."""
        self.steps[self.iteration] = step
        self.iteration += 1
        self.first = max(self.first, self.iteration - self.n + 1)

    def forget(self) -> None:
        self.first = self.iteration
