"""Default steps of DS-MLR: per feature from its counts, overall from a typical row, over epochs from the loss.

The figures come from grids over NEWS20 (tf-idf, raw and log counts), CLEF, digits, Fashion-MNIST and Reuters-52;
``docs/design.md`` has them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oocml.models.protocol import Problem
from oocml.types import Float32Array

FIRST_RATE = 4.0
POWER = 1.5
"""Steps fall as (1 - e/T) ** POWER over T epochs."""
SHORT = 10
"""Trainings of more epochs also divide steps by (1 + e / HALVED) ** (1 - SHORT / T), as long steps lead far astray."""
HALVED = 2
LOSS_AT_REST = 0.7
"""Below this mean loss steps grow again."""
LARGEST_BOOST = 32.0
RISE = 1.02
"""Steps are halved when the loss of an epoch exceeds the smallest so far by this factor."""
HISTOGRAM_BINS = 4096
"""Of log2 r in steps of 1/16: 2**-128 .. 2**128, the range of float32."""


def feature_rates(problem: Problem) -> Float32Array:
    """(d_j, decay_j) by feature: its step, and its share of the L2 shrinkage per visit of the feature.

    d_j = (N / n_j)^(1/4) / s_j^2 with n_j the stored entries of feature j and s_j^2 the mean of their squares: rare
    features move further, and the unit a feature is measured in drops out. A feature is visited n_j times an
    epoch, so each visit shrinks it by l2 N / n_j steps (implicitly: by 1 / (1 + decay)), and an epoch by l2 N.
    """
    count = problem.feature_nnz.astype(np.float64)
    used = (count > 0) & (problem.feature_sumsq > 0)
    count = np.where(used, count, 1.0)
    mean_square = np.where(used, problem.feature_sumsq, 1.0) / count
    d = np.where(used, (problem.n_rows / count) ** 0.25 / mean_square, 0.0)
    decay = d * problem.settings["l2"] * problem.n_rows / count
    rates = np.empty((len(d), 2), np.float32)
    rates[:, 0], rates[:, 1] = d, decay
    return rates


def median_scale(histogram: npt.NDArray[np.float64]) -> float:
    """Median of r from its log2 histogram (to 4 %); 1 if no row has a feature."""
    total = float(np.sum(histogram))
    if total == 0:
        return 1.0
    middle = int(np.searchsorted(np.cumsum(histogram), total / 2))
    return float(2.0 ** ((middle - HISTOGRAM_BINS // 2 + 0.5) / 16))


class StepSizes:
    """Step of every epoch, in units where a typical row's own scores move by step x gradient.

    Steps fall over the epochs, and follow the loss that epochs report, each row's just before its own update. Where it
    is small the classes are nearly separable, gradients vanish, and longer steps are wanted; where it rises, steps
    are too long.
    """

    def __init__(self, given: float | None) -> None:
        """``given`` is the first step, which then only falls over the epochs; None chooses it, and follows the loss."""
        self.given = given
        self.boost = 1.0
        self.caution = 1.0
        self.least = {False: np.inf, True: np.inf}
        """The smallest loss of an epoch so far, of those that are exact and of those that are not."""

    def learn(self, loss: float, *, exact: bool = False) -> None:
        """Take in the mean loss of an epoch.

        An ``exact`` loss, of all rows when the epoch is over, is below what rows told before their updates; so it is
        only held against others of its kind.
        """
        if loss > RISE * self.least[exact]:
            self.caution /= 2
        self.least[exact] = min(self.least[exact], loss)
        if exact:
            return
        self.boost = float(np.clip((LOSS_AT_REST / max(loss, 1e-6)) ** POWER, 1.0, LARGEST_BOOST))

    def step(self, epoch: int, n_epochs: int, *, resumed: bool) -> float:
        """The step of an epoch.

        Parameters
        ----------
        epoch
            From 0, over the whole life of the run.
        n_epochs
            That the run will have at the end of this segment: a later segment goes on where a training of so many
            epochs would be.
        resumed
            Whether this is a later segment. It must not lose what has been learnt, so small losses don't lengthen its
            steps.
        """
        fall = (1 - epoch / n_epochs) ** POWER
        if self.given is not None:
            return self.given * fall
        harmonic = max(0.0, 1 - SHORT / n_epochs)
        fall /= (1 + epoch / HALVED) ** harmonic
        return FIRST_RATE * fall * self.caution * (1.0 if resumed else self.boost)
