"""Where mixtures begin: means at rows drawn at random, or spread out among them as k-means++ does.

Each component then counts as N / K rows around its mean, with the features' variances made smaller as if the
components had shared the volume. The first epoch scores every row with these made-up ones, and forgets them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.kernels.gmm import gmm_draw, gmm_moments
from oocml.models.gmm_posterior import Prior
from oocml.models.gmm_rows import Frame, frame, prior_of
from oocml.models.protocol import Array, Pass, Problem, StateSpec, Visit, derive_seed
from oocml.types import Float64Array

SAMPLE_BYTES = 8 * 2**20
SAMPLE_PER_COMPONENT = {"random": 4, "k-means++": 20}
"""Rows that are drawn, to choose from."""
NO_KEY = 2.0
JITTER = 1e-3
"""Noise of means, in standard deviations: components that begin at equal rows must part."""


def sample_size(problem: Problem) -> int:
    """Places for rows that are drawn."""
    n_components = int(problem.settings["n_components"])
    most = SAMPLE_BYTES // (8 * problem.n_features)
    return max(n_components, min(SAMPLE_PER_COMPONENT[problem.settings["init"]] * n_components, most))


def shared_state(problem: Problem) -> tuple[StateSpec, ...]:
    """What the start leaves where the means of all components are one array."""
    n, n_features = sample_size(problem), problem.n_features
    n_components = int(problem.settings["n_components"])
    return (
        StateSpec("keys", "shared", (n,), "float64", "keys of drawn rows", init=NO_KEY, merge=True),
        StateSpec("drawn", "shared", (n, n_features), "float64", "drawn rows", merge=True),
        StateSpec("start_means", "shared", (n_components, n_features), "float64", "standardised means"),
    )


def moments_spec(problem: Problem) -> StateSpec:
    doc = "sums of x and of x^2"
    return StateSpec("moments", "shared", (2, problem.n_features), "float64", doc, export=True, merge=True)


def passes(problem: Problem) -> tuple[Pass, ...]:
    return draw_pass(problem), choose_pass(problem)


def start(problem: Problem) -> Generator[Any, Any, float]:
    """Choose means; returns what log densities have for the units of the data."""
    yield draw_pass(problem)
    chosen = yield choose_pass(problem)
    return float(chosen["log_density"])


def draw_pass(problem: Problem) -> Pass:
    """Features' sums, and rows drawn for all components. Rows come one task after another: each sees what was drawn."""
    names = ("moments", "keys", "drawn")
    params, working = {"seed": derive_seed(problem.seed, 1)}, 3 * drawn_bytes(problem)
    return Pass(
        "draw", "rows", "draw", writes=names, data=True, params=params, at_once=1, working_bytes=working
    )


def choose_pass(problem: Problem) -> Pass:
    params = {"seed": derive_seed(problem.seed, 2), "spread": problem.settings["init"] == "k-means++"}
    reads, working = ("moments", "keys", "drawn"), 5 * drawn_bytes(problem)
    return Pass(
        "choose",
        "once",
        "choose",
        reads=reads,
        writes=("start_means",),
        params=params,
        working_bytes=working,
    )


def drawn_bytes(problem: Problem) -> int:
    return 8 * sample_size(problem) * problem.n_features


def draw(v: Visit) -> Mapping[str, Any]:
    moments = np.zeros_like(v.shared["moments"])
    gmm_moments(v.data.X, moments)
    keys, drawn = v.shared["keys"].copy(), v.shared["drawn"].copy()
    gmm_draw(
        v.data.X,
        v.data.row_ids,
        np.uint64(v.params["seed"]),
        0,
        len(keys),
        v.shared["keys"],
        v.shared["drawn"],
    )
    v.shared["moments"][...] += moments
    return {"moments": moments, "keys": v.shared["keys"] - keys, "drawn": v.shared["drawn"] - drawn}


def choose(v: Visit) -> Mapping[str, float]:
    """Means of all components; returns what log densities have for the units of the data."""
    if v.cols.lo > 0:  # the shared arrays are all it needs
        return {}
    prior = prior_of(v)
    here = frame(v.shared["moments"], prior.n_rows)
    rng = np.random.default_rng(v.params["seed"])
    keys, n = v.shared["keys"], prior.n_components
    rows = standardised(v.shared["drawn"], keys, here, rng)
    best = np.argsort(keys >= NO_KEY, kind="stable")  # places that have a row come first
    rows = rows[best[: max(n, np.count_nonzero(keys < NO_KEY))]]
    chosen = spread_out(rows, n, rng) if v.params["spread"] else rng.permutation(len(rows))[:n]
    v.shared["start_means"][...] = rows[chosen]
    return {"log_density": here.log_density}


def standardised(drawn: Array, keys: Array, here: Frame, rng: np.random.Generator) -> Float64Array:
    """Drawn rows, standardised and a little apart; noise where there are fewer rows than places."""
    noise = rng.standard_normal(drawn.shape)
    rows = (drawn - here.center) * here.inverse_sd
    return np.where((keys < NO_KEY)[:, None], rows + JITTER * noise, noise)


def spread_out(rows: Float64Array, n: int, rng: np.random.Generator) -> Array:
    """Indices of ``n`` rows, each drawn in proportion to its squared distance to the nearest one before.

    Of a few such rows it is each time the one that leaves the smallest sum of squared distances (Arthur and
    Vassilvitskii, SODA 2007, with their greedy remark).
    """
    squares, tries = np.square(rows).sum(axis=1), 2 + int(np.log(n))
    chosen = [int(rng.integers(len(rows)))]
    nearest = np.square(rows - rows[chosen[0]]).sum(axis=1)
    while len(chosen) < n:
        total = np.cumsum(nearest)
        drawn = np.minimum(np.searchsorted(total, rng.random(tries) * total[-1]), len(rows) - 1)
        distance = squares - 2 * (rows[drawn] @ rows.T) + squares[drawn, None]
        left = np.minimum(nearest, np.maximum(distance, 0))
        best = int(left.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        nearest = left[best]
        nearest[chosen] = 0
    return np.array(chosen)


def made_up(means: Float64Array, prior: Prior) -> Float64Array:
    """Statistics, shape (components, width), of N / K rows for each component around its mean."""
    n, n_features = prior.n_rows / prior.n_components, prior.n_features
    variance = prior.n_components ** (-2 / n_features)
    if prior.full:
        rows, cols = np.triu_indices(n_features)
        products = means[:, rows] * means[:, cols] + variance * (rows == cols)
    else:
        products = means**2 + variance
    return n * np.hstack([np.ones((len(means), 1)), means, products])
