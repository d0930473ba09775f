"""Random factors that models of rows and columns begin with: the same numbers however rows and columns are cut."""

from __future__ import annotations

import numpy as np

from oocml.kernels.noise import fill_noise
from oocml.models.protocol import Array, Problem, derive_seed
from oocml.types import Bounds

ROW_STREAM, COL_STREAM = 1, 2


def row_factors(problem: Problem, bounds: Bounds, scale: float) -> Array:
    """Factors of rows, of this standard deviation; shape (rows, n_factors), float32."""
    return _factors(problem, bounds, ROW_STREAM, scale)


def col_factors(problem: Problem, bounds: Bounds, scale: float) -> Array:
    """As `row_factors`, of columns; those without entries are 0: what is predicted for them rests on the row alone."""
    V = _factors(problem, bounds, COL_STREAM, scale)
    V[problem.feature_nnz[bounds.lo : bounds.hi] == 0] = 0
    return V


def _factors(problem: Problem, bounds: Bounds, stream: int, scale: float) -> Array:
    F = np.empty((bounds.size, int(problem.settings["n_factors"])), np.float32)
    fill_noise(F, derive_seed(problem.seed, stream), bounds.lo, scale)
    return F
