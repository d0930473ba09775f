"""Batch variational inference for mixtures, in blocks of components: they needn't fit in memory.

    scores   tiles  log-sum-exps of each row over the components of a stripe
    join     rows   over all stripes
    collect  tiles  responsibilities, and from them the statistics of components, anew

Every row is scored twice, and nothing is kept of a row and a component.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.kernels.gmm import EMPTY, gmm_draw, gmm_join_lse, gmm_lse, gmm_moments, gmm_shares
from oocml.models import gmm_start
from oocml.models.gmm_esvi import work_of
from oocml.models.gmm_exports import PARAMETERS, of_exports, to_exports
from oocml.models.gmm_posterior import Prior, expected, posterior
from oocml.models.gmm_rows import Work, fits_shared, frame, prior_of
from oocml.models.gmm_start import NO_KEY, made_up, standardised
from oocml.models.protocol import Array, Parts, Pass, Problem, StateSpec, Visit, derive_seed


def empty_lse(problem: Problem, bounds: Any) -> Array:
    del problem, bounds
    return np.array([EMPTY, 0.0])


def state(problem: Problem) -> tuple[StateSpec, ...]:
    width, f64 = Prior.of(problem).width, "float64"
    return (
        *(() if fits_shared(problem) else start_state()),
        StateSpec("component_stats", "col", ("cols", width), f64, "statistics of components"),
        StateSpec("lse", "row", ("rows",), f64, "log-sum-exp over all components"),
        StateSpec("stripe_lse", "cell", ("rows", 2), f64, "(maximum, sum) of log-sum-exps", init=empty_lse),
    )


def start_state() -> tuple[StateSpec, ...]:
    """What the start needs where means of all components are no one array."""
    return (
        StateSpec("keys", "col", ("cols",), "float64", "keys of drawn rows", init=NO_KEY),
        StateSpec("drawn", "col", ("cols", "features"), "float64", "drawn rows"),
    )


def epoch_passes(problem: Problem) -> tuple[Pass, ...]:
    del problem
    return scores_pass(), join_pass(), collect_pass()


def other_passes(problem: Problem) -> tuple[Pass, ...]:
    if fits_shared(problem):
        return *gmm_start.passes(problem), begin_pass(shared=True)
    return moments_pass(), draw_pass(problem), begin_pass(shared=False)


def start(problem: Problem) -> Generator[Any, Any, float]:
    """Choose means; returns what log densities have for the units of the data."""
    shared = fits_shared(problem)
    if shared:
        yield from gmm_start.start(problem)
    else:
        yield moments_pass()
        yield draw_pass(problem)
    begun = yield begin_pass(shared)
    return float(begun["log_density"])


def epoch(problem: Problem, number: int) -> Generator[Any, Any, Parts]:
    """Returns the entropy of z."""
    del problem, number
    yield scores_pass()
    yield join_pass()
    found = yield collect_pass()
    return found  # type: ignore[no-any-return]


def measured(problem: Problem) -> Generator[Any, Any, Parts]:
    """Returns the rows' log-sum-exps with the parameters as they stand."""
    del problem
    yield scores_pass()
    found = yield join_pass()
    return found  # type: ignore[no-any-return]


def moments_pass() -> Pass:
    return Pass("moments", "rows", "moments", writes=("moments",), data=True)


def moments(v: Visit) -> Mapping[str, Any]:
    found = np.zeros_like(v.shared["moments"])
    gmm_moments(v.data.X, found)
    return {"moments": found}


def draw_pass(problem: Problem) -> Pass:
    """Rows drawn for the components of each block."""
    params = {"seed": derive_seed(problem.seed, 1), "n": int(problem.settings["n_components"])}
    return Pass("draw_cols", "tiles", "draw_cols", writes=("keys", "drawn"), data=True, params=params)


def draw(v: Visit) -> None:
    X, row_ids = v.data
    seed = np.uint64(v.params["seed"])
    gmm_draw(X, row_ids, seed, v.cols.lo, v.params["n"], v.col["keys"], v.col["drawn"])


def drawn_means(v: Visit) -> Array:
    """Standardised means of a column block, from the rows drawn for it."""
    prior = prior_of(v)
    rng = np.random.default_rng(v.cols.lo)
    return standardised(v.col["drawn"], v.col["keys"], frame(v.shared["moments"], prior.n_rows), rng)


def scores_pass() -> Pass:
    reads = ("moments", *PARAMETERS)
    return Pass("scores", "tiles", "scores", reads=reads, writes=("stripe_lse",), data=True)


def score(v: Visit) -> None:
    work, coefficients = block_of(v)
    for rows, phi in work.chunks(v.data.X, slice(0, v.n_rows)):
        L = work.product(phi, coefficients)
        gmm_lse(L, len(L), v.cell["stripe_lse"][rows])


def join_pass() -> Pass:
    return Pass("join", "rows", "join", reads=("stripe_lse",), writes=("lse",))


def join(v: Visit) -> Mapping[str, Any]:
    return {"lse": gmm_join_lse(v.cell["stripe_lse"], v.row["lse"])}


def collect_pass() -> Pass:
    reads = ("moments", *PARAMETERS, "lse")
    return Pass("collect", "tiles", "collect", reads=reads, writes=("component_stats",), data=True)


def collect(v: Visit) -> Mapping[str, Any]:
    work, coefficients = block_of(v)
    entropy = 0.0
    for rows, phi in work.chunks(v.data.X, slice(0, v.n_rows)):
        Z = work.product(phi, coefficients)
        entropy += gmm_shares(Z, len(Z), v.row["lse"][rows])
        work.add(v.col["component_stats"], Z, phi)
    return {"entropy": entropy}


def begin_pass(shared: bool) -> Pass:
    """The start's parameters, from means of all components in one array or of those of each block."""
    reads = ("moments", *(("start_means",) if shared else ("keys", "drawn")))
    return Pass("begin_cols", "cols", "begin_cols", reads=reads, writes=PARAMETERS)


def begin(v: Visit) -> Mapping[str, float]:
    """Parameters of the made-up start; returns what log densities have for the units of the data."""
    prior, here = prior_of(v), frame(v.shared["moments"], prior_of(v).n_rows)
    start = v.shared.get("start_means")
    means = drawn_means(v) if start is None else start[v.cols.lo : v.cols.hi]
    to_exports(posterior(made_up(means, prior), prior), here, prior, v.col)
    return {"log_density": here.log_density} if v.cols.lo == 0 else {}


def block_of(v: Visit) -> tuple[Work, Array]:
    """Work arrays and coefficients of a visit's column block."""
    prior = prior_of(v)
    work = work_of(v, v.cols.size)
    q = of_exports(v.col, work.frame, prior)
    return work, expected(q, prior).astype(work.dtype)
