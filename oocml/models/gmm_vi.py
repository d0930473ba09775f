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
from oocml.models.gmm_exports import PARAMETERS, fill_scored_with, to_exports
from oocml.models.gmm_posterior import Prior, posterior
from oocml.models.gmm_rows import Work, fits_shared, frame, pieces, prior_of, work_dtype
from oocml.models.gmm_start import NO_KEY, made_up, standardised
from oocml.models.protocol import Array, Parts, Pass, Problem, Scratch, StateSpec, Visit, derive_seed


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
    return scores_pass(problem), join_pass(), collect_pass(problem)


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
    del number
    yield scores_pass(problem)
    yield join_pass()
    found = yield collect_pass(problem)
    return found  # type: ignore[no-any-return]


def measured(problem: Problem) -> Generator[Any, Any, Parts]:
    """Returns the rows' log-sum-exps with the parameters as they stand."""
    yield scores_pass(problem)
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


def scratch(problem: Problem, *names: str) -> tuple[Scratch, ...]:
    """Work arrays of visits, which the plan counts; ``scored_with`` is made for all rows at once."""
    prior = Prior.of(problem)
    dtype, width = work_dtype(prior), prior.width
    arrays = {
        "ready": Scratch("ready", (1,)),
        "scored_with": Scratch("scored_with", ("cols", width), dtype),
        "sums": Scratch("sums", ("cols", width), dtype),
    }
    return tuple(arrays[name] for name in names)


def scores_pass(problem: Problem) -> Pass:
    return Pass(
        "scores",
        "tiles",
        "scores",
        reads=("moments", *PARAMETERS),
        writes=("stripe_lse",),
        data=True,
        scratch=scratch(problem, "ready", "scored_with"),
    )


def score(v: Visit) -> None:
    work, scored_with = block_of(v)
    for rows, phi in work.chunks(v.data.X, slice(0, v.n_rows)):
        L = work.product(phi, scored_with)
        gmm_lse(L, len(L), v.cell["stripe_lse"][rows])


def join_pass() -> Pass:
    return Pass("join", "rows", "join", reads=("stripe_lse",), writes=("lse",))


def join(v: Visit) -> Mapping[str, Any]:
    return {"lse": gmm_join_lse(v.cell["stripe_lse"], v.row["lse"])}


def collect_pass(problem: Problem) -> Pass:
    return Pass(
        "collect",
        "tiles",
        "collect",
        reads=("moments", *PARAMETERS, "lse"),
        writes=("component_stats",),
        data=True,
        scratch=scratch(problem, "ready", "scored_with", "sums"),
    )


def collect(v: Visit) -> Mapping[str, Any]:
    work, scored_with = block_of(v)
    entropy = 0.0
    for rows, phi in work.chunks(v.data.X, slice(0, v.n_rows)):
        Z = work.product(phi, scored_with)
        entropy += gmm_shares(Z, len(Z), v.row["lse"][rows])
        work.add(v.col["component_stats"], Z, phi)
    return {"entropy": entropy}


def block_of(v: Visit) -> tuple[Work, Array]:
    """Work arrays of a visit, and what its column block scores rows with: made at the task's first visit."""
    prior, here = prior_of(v), frame(v.shared["moments"], prior_of(v).n_rows)
    scored_with = v.scratch["scored_with"]
    if not v.scratch["ready"][0]:
        fill_scored_with(v.col, here, prior, scored_with)
        v.scratch["ready"][0] = 1
    return Work(prior, here, v.cols.size, v.scratch), scored_with


def begin_pass(shared: bool) -> Pass:
    """The start's parameters, from means of all components in one array or of those of each block."""
    reads = ("moments", *(("start_means",) if shared else ("keys", "drawn")))
    return Pass("begin_cols", "cols", "begin_cols", reads=reads, writes=PARAMETERS)


def begin(v: Visit) -> Mapping[str, float]:
    """Parameters of the made-up start; returns what log densities have for the units of the data."""
    prior = prior_of(v)
    here, start = frame(v.shared["moments"], prior.n_rows), v.shared.get("start_means")
    for some in pieces(v.cols.size, prior):
        first = v.cols.lo + some.start
        if start is None:
            rng = np.random.default_rng(first)
            means = standardised(v.col["drawn"][some], v.col["keys"][some], here, rng)
        else:
            means = start[first : v.cols.lo + some.stop]
        q = posterior(made_up(means, prior), prior)
        to_exports(q, here, prior, {name: v.col[name][some] for name in PARAMETERS})
    return {"log_density": here.log_density} if v.cols.lo == 0 else {}
