"""Step sizes of stochastic gradient methods by epoch, and the epochs that take them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from oocml.models.protocol import Epoch, Epochs, Parts, Pass

KINDS = ("adagrad", "nomad", "bold_driver", "inverse_sqrt", "constant")
NOMAD_DECAY = 0.05
BOLD_UP, BOLD_DOWN = 1.05, 0.5
"""What the bold driver multiplies its step by after an epoch that lowered, or raised, the objective."""

EpochOf = Callable[[int, Parts, float], Epoch]
"""The record of an epoch from its number, its parts and its step."""


def learning_rates(kind: str, first: float, n_epochs: int) -> list[float]:
    """The step of each epoch of a segment (of the bold driver: of the first, every time).

    adagrad's, which is divided by root sums of squared gradients besides, falls linearly to 0. nomad is that of Yun
    et al. 2014: 1.5 a / (1 + b t^1.5) with t counted from 1.
    """
    t = np.arange(n_epochs, dtype=np.float64)
    shape = {
        "adagrad": 1 - t / max(n_epochs, 1),
        "nomad": 1.5 / (1 + NOMAD_DECAY * (t + 1) ** 1.5),
        "bold_driver": np.ones(n_epochs),
        "inverse_sqrt": (t + 1) ** -0.5,
        "constant": np.ones(n_epochs),
    }[kind]
    return [float(rate) for rate in first * shape]


def epochs(
    pass_: Pass, kind: str, first: float, before: int, n_epochs: int, epoch_of: EpochOf
) -> Generator[Any, Any, int]:
    """Repeat a pass with its parameter ``learning_rate`` set; returns how many epochs were run.

    ``before`` is the number of epochs so far. Only the bold driver has to know the end of an epoch to begin the next.
    """
    if kind == "bold_driver":
        return (yield from _bold_driver(pass_, first, before, n_epochs, epoch_of))
    rates = learning_rates(kind, first, n_epochs)
    params = tuple({"learning_rate": rate} for rate in rates)
    results = yield Epochs(pass_, params, lambda n, parts: epoch_of(before + n + 1, parts, rates[n]))
    return len(results)


def _bold_driver(
    pass_: Pass, rate: float, before: int, n_epochs: int, epoch_of: EpochOf
) -> Generator[Any, Any, int]:
    last = np.inf
    for n in range(n_epochs):
        parts = yield replace(pass_, params={**pass_.params, "learning_rate": rate})
        epoch = epoch_of(before + n + 1, parts, rate)
        if (yield epoch).stop:
            return n + 1
        rate *= BOLD_UP if epoch.objective <= last else BOLD_DOWN
        last = epoch.objective
    return n_epochs
