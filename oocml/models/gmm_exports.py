"""The parameters of a mixture as its users see them: in units of the data. The posterior follows from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from oocml.models.gmm_posterior import Posterior, Prior, evidence, expected, posterior
from oocml.models.gmm_rows import Frame, frame, prior_of
from oocml.models.protocol import Array, Pass, Problem, StateSpec, Visit

PARAMETERS = ("weights", "means", "precisions")


def state(problem: Problem) -> tuple[StateSpec, ...]:
    f64 = "float64"
    matrix = ("cols", "features", "features") if Prior.of(problem).full else ("cols", "features")
    doc = (
        "posterior means of precision matrices" if Prior.of(problem).full else "posterior means of precisions"
    )
    return (
        StateSpec("weights", "col", ("cols",), f64, "posterior means of weights", export=True),
        StateSpec("means", "col", ("cols", "features"), f64, "posterior means of means", export=True),
        StateSpec("precisions", "col", matrix, f64, doc, init=1.0, export=True),
    )


def settle_pass(problem: Problem) -> Pass:
    """The parameters from the statistics, and the components' share of the evidence."""
    stats = "component_stats" if problem.settings["inference"] == "vi" else "stats"
    return Pass("settle", "cols", "settle", reads=("moments", stats), writes=PARAMETERS)


def settle(v: Visit) -> Mapping[str, float]:
    prior = prior_of(v)
    T = v.shared["stats"][v.cols.lo : v.cols.hi] if "stats" in v.shared else v.col["component_stats"]
    q = posterior(T, prior)
    to_exports(q, frame(v.shared["moments"], prior.n_rows), prior, v.col)
    found = evidence(q, prior)
    return {"evidence": found, "divergence": float((expected(q, prior) * T).sum()) - found}


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


def units(here: Frame, prior: Prior) -> Array:
    """Precisions in units of the data, where they are 1 for standardised features."""
    return np.outer(here.inverse_sd, here.inverse_sd) if prior.full else here.inverse_sd**2
