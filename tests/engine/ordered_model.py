"""A model of data columns that never trains: every entry of its state says where it stands in the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.models.protocol import Kernel, Pass, Problem, Program, StateSpec
from oocml.types import Bounds


def rows(problem: Problem, bounds: Bounds) -> np.ndarray:
    return np.arange(bounds.lo, bounds.hi)[:, None] + np.array([0.0, 0.5]) + 1


def columns(problem: Problem, bounds: Bounds) -> np.ndarray:
    return np.arange(bounds.lo, bounds.hi)[:, None] + np.array([0.0, 0.25, 0.5]) + 1


def pairs(problem: Problem, bounds: Bounds) -> np.ndarray:
    return 100.0 * np.arange(problem.n_features)[:, None] + np.arange(bounds.lo, bounds.hi) + 1


def features(problem: Problem, bounds: Bounds) -> np.ndarray:
    return np.arange(problem.n_features) + 1.0


class Ordered:
    name = "ordered"
    epochs = 1
    col_axis = "items"
    block_cols = (1, 1000)
    tiles = True
    kernels: Mapping[str, Kernel] = {}

    def defaults(self) -> Mapping[str, Any]:
        return {}

    def check(self, problem: Problem) -> None:
        pass

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        return (
            StateSpec("U", "row", ("rows", 2), "float64", "row state", init=rows, export=True),
            StateSpec("V", "col", ("cols", 3), "float32", "column state", init=columns, export=True),
            StateSpec("W", "col", ("features", "cols"), "float32", "of pairs", init=pairs, export=True),
            StateSpec("b", "shared", ("features",), "float64", "of features", init=features, export=True),
            StateSpec("none", "col", ("cols", 0), "float32", "nothing at all", export=True),
        )

    def constants(self, problem: Problem) -> Mapping[str, Any]:
        return {}

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (Pass("touch", "cols", "touch", reads=("V",), writes=("V",)),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return ()

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        yield from ()
