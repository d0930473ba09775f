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
"""Steps fall as (1 - e/T) ** POWER over the T epochs of a segment."""
LOSS_AT_REST = 0.4
"""Below this mean loss steps grow again: the classes are separable and gradients small."""
LARGEST_BOOST = 32.0
HISTOGRAM_BINS = 4096
"""Of log2 r in steps of 1/16: 2**-128 .. 2**128, the range of float32."""


def feature_steps(problem: Problem) -> tuple[Float32Array, Float32Array]:
    """(d_j, decay_j): step per feature, and its share of the L2 shrinkage per visit of the feature.

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
    return d.astype(np.float32), decay.astype(np.float32)


def median_scale(histogram: npt.NDArray[np.float64]) -> float:
    """Median of r from its log2 histogram (to 4 %); 1 if no row has a feature."""
    total = float(np.sum(histogram))
    if total == 0:
        return 1.0
    middle = int(np.searchsorted(np.cumsum(histogram), total / 2))
    return float(2.0 ** ((middle - HISTOGRAM_BINS // 2 + 0.5) / 16))


def learning_rate(problem: Problem, epoch: int, n_epochs: int, loss: float | None) -> float:
    """Step of an epoch, in units where a typical row's own scores move by step x gradient.

    Parameters
    ----------
    epoch
        From 0, within its segment of ``n_epochs``.
    loss
        Running mean loss of the epoch before; None before the first.
    """
    given = problem.settings["learning_rate"]
    rate = FIRST_RATE if given is None else float(given)
    boost = 1.0
    if given is None and loss is not None:
        boost = float(np.clip((LOSS_AT_REST / max(loss, 1e-6)) ** POWER, 1.0, LARGEST_BOOST))
    return rate * float(1 - epoch / n_epochs) ** POWER * boost
