"""Visits of a factorization machine that both of its solvers need, and the state they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.kernels.fm import FeatureBlock, TargetRows, fm_accumulate, fm_slopes
from oocml.kernels.noise import fill_noise
from oocml.models.fm_settings import SPREAD, is_classification, n_factors, shares, step_of
from oocml.models.protocol import Array, Parts, Pass, Problem, StateSpec, Visit, derive_seed
from oocml.types import Bounds, Panel

HUGE = 3e38
"""Beyond every target."""
FACTOR_SEED = 1
FEATURES_AT_ONCE = 1 << 18
"""Features whose statistics are in memory at a time."""


def initial_factors(problem: Problem, bounds: Bounds) -> Array:
    """Small random numbers (0 would stay 0 for ever); 0 for features that never occur."""
    k = n_factors(problem)
    per_row = max(problem.nnz / max(problem.n_rows, 1), 1.0)
    V = np.empty((bounds.size, k), np.float32)
    fill_noise(V, derive_seed(problem.seed, FACTOR_SEED), bounds.lo, np.sqrt(SPREAD / (per_row * np.sqrt(k))))
    V[problem.feature_nnz[bounds.lo : bounds.hi] == 0] = 0
    return V


def initial_bias(problem: Problem, bounds: Bounds) -> Array:
    del problem, bounds
    return np.array([0, 1], np.float32)


def initial_target(problem: Problem, bounds: Bounds) -> Array:
    del problem, bounds
    return np.array([0, 1, HUGE, -HUGE], np.float64)


def parameters(problem: Problem) -> tuple[str, ...]:
    """The column arrays that steps change."""
    factors = ("V",) if n_factors(problem) else ()
    return (*factors, "w", *(("squares",) if problem.settings["step"] == "adagrad" else ()))


def fixed(problem: Problem) -> tuple[str, ...]:
    """What kernels must know of each column beside."""
    return () if problem.settings["weighted_l2"] else ("share",)


def state(problem: Problem) -> list[StateSpec]:
    f32, k = "float32", n_factors(problem)
    specs = [
        StateSpec("w", "col", ("cols",), f32, "linear weights, of scaled features", export=True),
        StateSpec(
            "w0",
            "shared",
            (2,),
            f32,
            "intercept, its squared gradients",
            initial_bias,
            export=True,
            merge=True,
        ),
        scale_state(),
        StateSpec("total", "row", ("rows", k + 2), f32, "sums over all features: a, linear, q"),
    ]
    if k:
        specs.append(StateSpec("V", "col", ("cols", k), f32, "factors", initial_factors, export=True))
    if problem.settings["step"] == "adagrad":
        specs.append(StateSpec("squares", "col", ("cols", 2), f32, "squared gradients of w, V", init=1.0))
    if not problem.settings["weighted_l2"]:
        specs.append(StateSpec("share", "col", ("cols",), f32, "of the ridge, by occurrence", shares))
    if not is_classification(problem):
        specs.append(target_state())
    return specs


def target_state() -> StateSpec:
    doc = "center, scale, lowest, highest"
    return StateSpec("target", "shared", (4,), "float64", doc, initial_target, export=True)


def inverse_rms(problem: Problem, cols: Bounds) -> Array:
    """What each feature's values are multiplied by: 1 over their root mean square, over entries."""
    found = np.zeros(cols.size, np.float32)
    for lo in range(cols.lo, cols.hi, FEATURES_AT_ONCE):
        hi = min(lo + FEATURES_AT_ONCE, cols.hi)
        nnz, squares = problem.feature_nnz[lo:hi], problem.feature_sumsq[lo:hi]
        known = (nnz > 0) & (squares > 0)
        ratio = np.divide(nnz, squares, out=np.zeros(hi - lo), where=known)
        found[lo - cols.lo : hi - cols.lo] = np.sqrt(ratio, out=ratio)
    return found


def scale_state() -> StateSpec:
    """`inverse_rms` for those who use weights outside: no pass reads it, and no block of it is ever stored."""
    doc = "what features are multiplied by"
    return StateSpec("scale", "col", ("cols",), "float32", doc, inverse_rms, export=True)


def prepare(panel: Panel, problem: Problem, cols: Bounds) -> TargetRows:
    X = panel.X
    y = np.full(len(X.indptr) - 1, np.nan) if panel.y is None else np.asarray(panel.y, np.float64)
    if is_classification(problem):
        assert problem.labels is not None
        first, second = problem.labels
        y = np.where(y == second, 1.0, np.where(y == first, -1.0, np.nan))
    return TargetRows(X.indptr, X.indices, X.data * inverse_rms(problem, cols)[X.indices], y)


def feature_block(col: Mapping[str, Array]) -> FeatureBlock:
    """The parameters of a column block; those the settings do without are made up."""
    n = len(col["w"])
    V, h, share = col.get("V"), col.get("squares"), col.get("share")
    return FeatureBlock(
        np.zeros((n, 0), np.float32) if V is None else V,
        col["w"],
        np.ones((n, 2), np.float32) if h is None else h,
        np.ones(n, np.float32) if share is None else share,
    )


def moments(v: Visit) -> Parts:
    """Number, sum and squares of the targets; their range goes to ``target``, one task after another."""
    t = v.data.t[~np.isnan(v.data.t)]
    if "target" in v.shared and t.size:
        target = v.shared["target"]
        target[2], target[3] = min(target[2], t.min()), max(target[3], t.max())
    return {"n": t.size, "total": t.sum(), "squares": (t**2).sum()}


def settle(v: Visit) -> None:
    v.shared["target"][:2] = v.params["center"], v.params["scale"]


def gathered(v: Visit) -> Array:
    """Where sums over all features are gathered anew."""
    return v.row["fresh"] if "fresh" in v.row else v.row["total"]


def collect(v: Visit) -> Parts:
    return {"ridge": fm_accumulate(v.data, feature_block(v.col), gathered(v), step_of(v.params))}


def judge(v: Visit) -> Parts:
    slopes = np.empty(v.n_rows, np.float32)
    _, loss = fm_slopes(gathered(v), v.shared["w0"][0], v.data.t, slopes, step_of(v.params))
    return {"loss": loss}


def exact_passes(problem: Problem, params: Mapping[str, Any], into: str) -> tuple[Pass, Pass]:
    """Sums over all features into a row array, and the losses that follow from them."""
    reads = (*(name for name in parameters(problem) if name != "squares"), *fixed(problem))
    return (
        Pass("collect", "tiles", "collect", reads=reads, writes=(into,), data=True, params=params),
        Pass("judge", "rows", "judge", reads=(into, "w0"), data=True, params=params),
    )
