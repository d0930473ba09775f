"""Rows on their way through a mixture, a few at a time: made dense and standardised, scored, added to statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from oocml.kernels.gmm import gmm_fill
from oocml.models.gmm_posterior import Prior
from oocml.models.protocol import Array, Problem, Visit
from oocml.types import Csr, Float64Array, Int64Array

WORK_BYTES = 2**20
"""Of each of the two work arrays: rows x components and rows x numbers of a row."""


MOST_SHARED_BYTES = 16 * 2**20
"""Of an array that every task has copies of."""
NUMBERS_AT_ONCE, PIECE_ARRAYS = 2**18, 6
"""Of parameters while they become others, and how many arrays that takes."""


class Rows(NamedTuple):
    """A panel as the kernels read it."""

    X: Csr
    row_ids: Int64Array


class Frame(NamedTuple):
    """What makes features standardised."""

    center: Float64Array
    """Shape (n_features,): their means."""
    inverse_sd: Float64Array
    """One over their standard deviations; 1 where a feature never changes."""

    @property
    def log_density(self) -> float:
        """What log densities of rows have beside those of standardised rows."""
        return float(np.log(self.inverse_sd).sum())


def frame(moments: Float64Array, n_rows: int) -> Frame:
    """From the sums of x and x^2 by feature, shape (2, n_features)."""
    mean, square = moments / max(1, n_rows)
    variance = square - mean**2
    changes = variance > 1e-12 * square
    return Frame(mean, np.divide(1, np.sqrt(variance, where=changes, out=np.ones_like(mean))))


class Work:
    """Work arrays of a visit, and the products made in them.

    In single precision unless asked for, or covariances are full: the many terms of theirs cancel each other.
    """

    def __init__(
        self,
        prior: Prior,
        here: Frame,
        n_components: int,
        scratch: Mapping[str, Array] = MappingProxyType({}),
    ) -> None:
        """``scratch`` may have some of the arrays."""
        self.full, self.frame, self.dtype = prior.full, here, np.dtype(work_dtype(prior))
        self.step = rows_at_once(prior, n_components)

        def array(name: str, *shape: int) -> Array:
            return scratch[name] if name in scratch else np.empty(shape, self.dtype)

        self.scores = array("scores", self.step, n_components)
        self.phi = array("phi", self.step, prior.width)
        self.sums = array("sums", n_components, prior.width)

    def chunks(self, X: Csr, rows: slice) -> Iterator[tuple[slice, Array]]:
        """Some of the rows at a time: which, and their numbers, shape (rows, width)."""
        for lo in range(rows.start, rows.stop, self.step):
            hi = min(lo + self.step, rows.stop)
            gmm_fill(X, lo, hi, *self.frame, self.full, self.phi)
            yield slice(lo, hi), self.phi[: hi - lo]

    def product(self, phi: Array, coefficients: Array) -> Array:
        """Shape (rows, components): scores of rows, for coefficients of shape (components, width)."""
        return np.matmul(phi, coefficients.T, out=self.scores[: len(phi), : len(coefficients)])

    def add(self, total: Float64Array, Z: Array, phi: Array) -> None:
        """Add the statistics of rows with weights ``Z`` (rows, components) to ``total`` (components, width)."""
        total += np.matmul(Z.T, phi, out=self.sums[: Z.shape[1]])


def work_dtype(prior: Prior) -> str:
    return "float64" if prior.double else "float32"


def rows_at_once(prior: Prior, n_components: int) -> int:
    """Rows of work arrays."""
    return max(16, WORK_BYTES // (max(n_components, prior.width) * np.dtype(work_dtype(prior)).itemsize))


def pieces(n_components: int, prior: Prior) -> list[slice]:
    """Components whose parameters are worked out at a time, for memory's sake."""
    step = max(4, NUMBERS_AT_ONCE // (prior.n_features**2 if prior.full else prior.width))
    return [slice(lo, min(lo + step, n_components)) for lo in range(0, n_components, step)]


def working_bytes(problem: Problem, n_stats: int, n_products: int) -> int:
    """What a visit takes, for the plan, that holds so many arrays of all components' statistics and so many in the
    precision that rows are worked on in; both count what is returned once more, as it is sent."""
    prior = Prior.of(problem)
    n_numbers, itemsize = prior.n_components * prior.width, np.dtype(work_dtype(prior)).itemsize
    a_piece = min(n_numbers, NUMBERS_AT_ONCE)
    return (8 * n_stats + itemsize * n_products) * n_numbers + PIECE_ARRAYS * 8 * a_piece + 4 * WORK_BYTES


def prior_of(v: Visit) -> Prior:
    return Prior.of_array(v.constants["prior"])


def fits_shared(problem: Problem) -> bool:
    """Whether the statistics of all components may be one shared array."""
    return statistics_bytes(problem) <= MOST_SHARED_BYTES


def statistics_bytes(problem: Problem) -> int:
    prior = Prior.of(problem)
    return 8 * prior.n_components * prior.width
