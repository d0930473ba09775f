"""Errors of predicted numbers, streamed: ``accumulate`` a batch, ``merge`` batches, read off ``scores``."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating]


class Errors(NamedTuple):
    """What is kept of the predictions seen so far."""

    n: int
    squared: float
    """Sum of squared errors."""
    absolute: float
    """Sum of absolute errors."""


def accumulate(predicted: Numbers, truth: Numbers) -> Errors:
    """Errors of one batch; both of shape (n,). Pairs whose truth is NaN are left out."""
    error = np.asarray(predicted, np.float64) - np.asarray(truth, np.float64)
    error = error[~np.isnan(truth)]
    return Errors(error.size, float(error @ error), float(np.abs(error).sum()))


def merge(a: Errors, b: Errors) -> Errors:
    return Errors(a.n + b.n, a.squared + b.squared, a.absolute + b.absolute)


METRICS = ("rmse", "mae")
"""Of the `scores`, those that a model can be judged by."""


def scores(errors: Errors) -> dict[str, float]:
    """``rmse`` and ``mae``, in the units of the predictions; NaN where there was nothing to predict."""
    if errors.n == 0:
        return {"rmse": math.nan, "mae": math.nan}
    return {"rmse": math.sqrt(errors.squared / errors.n), "mae": errors.absolute / errors.n}
