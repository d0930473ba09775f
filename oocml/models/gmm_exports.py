"""The parameters of a mixture as its users see them: in units of the data. The posterior follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from oocml.models.gmm_posterior import Posterior, Prior, divergence, evidence, expected, posterior
from oocml.models.gmm_rows import Frame, frame, pieces, prior_of
from oocml.models.protocol import Array, Pass, Problem, StateSpec, Visit
from oocml.types import Bounds

Score = Callable[[Posterior, Prior], Array]
PARAMETERS = ("weights", "means", "precisions")


def state(problem: Problem) -> tuple[StateSpec, ...]:
    full, f64 = Prior.of(problem).full, "float64"
    matrix = ("cols", "features", "features") if full else ("cols", "features")
    doc = f"posterior means of precision{' matrices' if full else 's'}"
    return (
        StateSpec("weights", "col", ("cols",), f64, "posterior means of weights", export=True),
        StateSpec("means", "col", ("cols", "features"), f64, "posterior means of means", export=True),
        StateSpec("precisions", "col", matrix, f64, doc, init=identity if full else 1.0, export=True),
    )


def identity(problem: Problem, bounds: Bounds) -> Array:
    del bounds
    return np.eye(problem.n_features)


def settle_pass(problem: Problem) -> Pass:
    """The parameters from the statistics, and the components' share of the evidence."""
    stats = "component_stats" if problem.settings["inference"] == "vi" else "stats"
    return Pass("settle", "cols", "settle", reads=("moments", stats), writes=PARAMETERS)


def settle(v: Visit) -> Mapping[str, float]:
    prior = prior_of(v)
    here, found, product = frame(v.shared["moments"], prior.n_rows), 0.0, 0.0
    T = v.shared["stats"][v.cols.lo : v.cols.hi] if "stats" in v.shared else v.col["component_stats"]
    for some in pieces(v.cols.size, prior):
        q = posterior(T[some], prior)
        to_exports(q, here, prior, {name: array[some] for name, array in v.col.items()})
        found += evidence(q, prior)
        product += float((expected(q, prior) * T[some]).sum())
    return {"evidence": found, "divergence": product - found}


def to_exports(q: Posterior, here: Frame, prior: Prior, col: Mapping[str, Array]) -> None:
    """Write a posterior of standardised features into arrays in units of the data."""
    col["weights"][...] = (prior.alpha + q.n) / prior.alpha_sum
    col["means"][...] = here.center + q.mean / here.inverse_sd
    col["precisions"][...] = q.precision * units(here, prior)


def of_exports(col: Mapping[str, Array], here: Frame, prior: Prior) -> Posterior:
    """The posterior of standardised features that `to_exports` had."""
    n = np.maximum(col["weights"] * prior.alpha_sum - prior.alpha, 0)
    mean = (col["means"] - here.center) * here.inverse_sd
    return Posterior(n, mean, col["precisions"] / units(here, prior))


def fill_scored_with(
    col: Mapping[str, Array], here: Frame, prior: Prior, out: Array, score: Score = expected
) -> None:
    """What rows are scored with, shape (components, width), given exports."""
    for some, q in in_pieces(col, here, prior):
        out[some] = score(q, prior)


def divergence_of(col: Mapping[str, Array], here: Frame, prior: Prior) -> float:
    """See `gmm_posterior.divergence`, given exports."""
    return sum(divergence(q, prior) for _, q in in_pieces(col, here, prior))


def in_pieces(col: Mapping[str, Array], here: Frame, prior: Prior) -> Iterator[tuple[slice, Posterior]]:
    for some in pieces(len(col["weights"]), prior):
        yield some, of_exports({name: col[name][some] for name in PARAMETERS}, here, prior)


def units(here: Frame, prior: Prior) -> Array:
    """Precisions in units of the data, where they are 1 for standardised features."""
    return np.outer(here.inverse_sd, here.inverse_sd) if prior.full else here.inverse_sd**2
