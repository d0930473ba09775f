"""Mixtures whose responsibilities are kept, out of core: for subsets of the components at a time.

The thesis's method visits a subset of the components and shares the mass that a row has on them anew, with weights and
parameters of the same subset following at once; the row's other responsibilities stay (`gmm_subset`). The components
are dealt into groups anew every epoch, since fixed groups never exchange mass. With one group of all components this
is the default method but for what it keeps: rows x components, or the ``top_k`` largest of each row, in proportion.

What is stored is rounded first, so that statistics are always those of what is stored.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.kernels.gmm import gmm_keep_largest, gmm_responsibilities, gmm_subset
from oocml.kernels.gmm_half import narrow, widen
from oocml.models import gmm_start
from oocml.models.gmm_esvi import (
    SUM_EVERY,
    batches,
    coefficients,
    measure_pass,
    measured,
    stats_spec,
    summed_at_once,
    work_of,
)
from oocml.models.gmm_rows import prior_of, working_bytes
from oocml.models.gmm_start import made_up
from oocml.models.protocol import Array, Parts, Pass, Problem, StateSpec, Visit, derive_seed

__all__ = ["measured"]


def kept_arrays(problem: Problem) -> tuple[str, ...]:
    return ("z", "z_components") if problem.settings["top_k"] else ("z",)


def state(problem: Problem) -> tuple[StateSpec, ...]:
    settings, stats = problem.settings, stats_spec(problem)
    dtype, top_k = str(settings["z_dtype"]), int(settings["top_k"])
    if not top_k:
        shape = ("rows", int(settings["n_components"]))
        return stats, StateSpec("z", "row", shape, dtype, "responsibilities")
    return (
        stats,
        StateSpec("z", "row", ("rows", top_k), dtype, "largest responsibilities"),
        StateSpec("z_components", "row", ("rows", top_k), "int32", "whose they are"),
    )


def epoch_passes(problem: Problem) -> tuple[Pass, ...]:
    return (visit_pass(problem, 0),)


def other_passes(problem: Problem) -> tuple[Pass, ...]:
    return *gmm_start.passes(problem), first_pass(problem), sum_pass(problem), measure_pass(problem)


start = gmm_start.start


def epoch(problem: Problem, number: int) -> Generator[Any, Any, Parts]:
    """Returns the entropy of z."""
    found = yield first_pass(problem) if number == 1 else visit_pass(problem, number)
    if number % SUM_EVERY == 0:
        yield sum_pass(problem)
    return found  # type: ignore[no-any-return]


def first_pass(problem: Problem) -> Pass:
    """The first epoch: all components, scored with the start."""
    writes = ("stats", *kept_arrays(problem))
    return Pass(
        "first_z",
        "rows",
        "first_z",
        reads=("moments", "start_means"),
        writes=writes,
        data=True,
        at_once=summed_at_once(problem),
        working_bytes=working_bytes(problem, 4, 2),
        per_entry=int(problem.settings["n_components"]),
    )


def visit_pass(problem: Problem, epoch: int) -> Pass:
    names, settings = ("stats", *kept_arrays(problem)), problem.settings
    params = {
        "batch_rows": int(settings["batch_rows"]),
        "n_groups": int(settings["n_groups"]) if settings["inference"] == "subset" else 1,
        "seed": derive_seed(problem.seed, 3, epoch),
    }
    return Pass(
        "visit_z",
        "rows",
        "visit_z",
        reads=("moments", *names),
        writes=names,
        data=True,
        params=params,
        at_once=int(settings["sub_epoch_width"]),
        working_bytes=working_bytes(problem, 3, 3),
        per_entry=int(problem.settings["n_components"]),
    )


def sum_pass(problem: Problem) -> Pass:
    reads = ("moments", *kept_arrays(problem))
    return Pass(
        "sum_z",
        "rows",
        "sum_z",
        reads=reads,
        writes=("stats",),
        data=True,
        at_once=summed_at_once(problem),
        working_bytes=working_bytes(problem, 2, 1),
    )


def first_visit(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    work, delta, entropy = work_of(v, prior.n_components), np.zeros_like(v.shared["stats"]), 0.0
    scored_with = coefficients(made_up(v.shared["start_means"], prior), prior, work)
    for rows, phi in work.chunks(v.data.X, slice(0, v.n_rows)):
        Z = work.product(phi, scored_with)
        more = gmm_responsibilities(Z, len(Z))[1]
        truncated = store(v.row, rows, Z)
        entropy += more if truncated is None else truncated
        work.add(delta, Z, phi)
    return {"stats": delta, "entropy": entropy}


def visit(v: Visit) -> Mapping[str, Any]:
    prior = prior_of(v)
    T, work, entropy = v.shared["stats"], work_of(v, prior.n_components), 0.0
    before, groups = T.copy(), dealt(prior.n_components, v.params["n_groups"], v.params["seed"])
    for batch in batches(v.n_rows, v.params["batch_rows"]):
        found, delta = coefficients(T, prior, work), np.zeros_like(T)
        scored_with = [found[group] for group in groups]
        for rows, phi in work.chunks(v.data.X, batch):
            old = load(v.row, rows, prior.n_components, work.dtype)
            Z, scale = old.copy(), 1 / np.maximum(old.sum(axis=1), 1e-30)
            more = sum(
                gmm_subset(work.product(phi, some), Z, group, scale)
                for some, group in zip(scored_with, groups, strict=True)
            )
            truncated = store(v.row, rows, Z)
            entropy += more if truncated is None else truncated
            Z -= old
            work.add(delta, Z, phi)
        T += delta
    return {"stats": np.subtract(T, before, out=before), "entropy": entropy}


def sum_rows(v: Visit) -> Mapping[str, Any]:
    """The statistics from all that is stored, so that rounding doesn't add up over the epochs."""
    prior = prior_of(v)
    work, total = work_of(v, prior.n_components), np.zeros_like(v.shared["stats"])
    for rows, phi in work.chunks(v.data.X, slice(0, v.n_rows)):
        work.add(total, load(v.row, rows, prior.n_components, work.dtype), phi)
    return {"stats": total}


def dealt(n: int, n_groups: int, seed: int) -> list[Array]:
    """Components dealt into groups of nearly equal size."""
    order = np.random.default_rng(seed).permutation(n) if n_groups > 1 else np.arange(n)
    return [np.sort(group) for group in np.array_split(order, n_groups)]


def load(row: Mapping[str, Array], rows: slice, n_components: int, dtype: np.dtype[Any]) -> Array:
    """Responsibilities of some rows, shape (rows, components)."""
    stored = row["z"][rows]
    values = np.empty(stored.shape, dtype)
    if stored.dtype == np.float16:
        widen(stored, values)
    else:
        values[...] = stored
    if "z_components" not in row:
        return values
    Z = np.zeros((len(stored), n_components), dtype)
    np.put_along_axis(Z, row["z_components"][rows].astype(np.int64), values, axis=1)
    return Z


def store(row: Mapping[str, Array], rows: slice, Z: Array) -> float | None:
    """Store responsibilities, and round them to what is stored; the entropy if that's the largest only."""
    stored, values, entropy = row["z"][rows], Z, None
    if "z_components" in row:
        values = np.empty(stored.shape, Z.dtype)
        entropy = float(gmm_keep_largest(Z, len(Z), values, row["z_components"][rows]))
    if stored.dtype == np.float16:
        narrow(values, stored)
    else:
        stored[...] = values
        values[...] = stored
    if "z_components" in row:
        np.put_along_axis(Z, row["z_components"][rows].astype(np.int64), values, axis=1)
    return entropy
