"""Matrix factorization: ratings of rows (users) for columns (items), by stochastic gradient steps on tiles.

A rating is predicted as center + scale (b_i + c_j + u_i . v_j), center and scale being the mean and the standard
deviation of the training's ratings. The objective is the mean over ratings of

    [ e^2 + l2 (|u_i|^2 + |v_j|^2) + l2 / 10 (b_i^2 + c_j^2) ] / 2,     e = (r - predicted) / scale

so every row and column is shrunk in proportion to its ratings (the count-weighted ridge); without ``weighted_l2`` it's
[ sum e^2 + l2 (sum U^2 + sum V^2) + ... ] / 2 over the number of ratings. A visit changes its row block and its column
block alone: tiles that share neither may be visited at once (DSGD: Gemulla et al. 2011; NOMAD: Yun et al. 2014), and
no epoch needs to wait for another. Kernels: ``kernels.mf``; steps: ``step_sizes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from oocml.errors import InputError, UsageError
from oocml.kernels.mf import Side, Step, mf_column_ridge, mf_measure, mf_moments, mf_visit
from oocml.kernels.noise import visiting_order
from oocml.models.initial_factors import col_factors, row_factors
from oocml.models.mf_scoring import MfScoring
from oocml.models.mf_steps import RATES, first_rate, ridge
from oocml.models.protocol import (
    Array,
    Epoch,
    Final,
    Kernel,
    Parts,
    Pass,
    Problem,
    Program,
    Settings,
    StateSpec,
    Visit,
)
from oocml.models.setting_bounds import (
    CHOSEN,
    LARGEST,
    MOST_FACTORS,
    require_above_zero,
    require_count,
    require_not_below_zero,
)
from oocml.models.step_sizes import epochs
from oocml.types import Bounds, Csr, Panel

HUGE = 3e38
"""Beyond every rating."""
SPREAD = 0.1
"""Variance of the factors at the start, times the square root of their number."""


def initial_row_factors(problem: Problem, bounds: Bounds) -> Array:
    return _of_sign(problem, row_factors(problem, bounds, _spread(problem)))


def initial_col_factors(problem: Problem, bounds: Bounds) -> Array:
    return _of_sign(problem, col_factors(problem, bounds, _spread(problem)))


def _spread(problem: Problem) -> float:
    return float(np.sqrt(SPREAD / np.sqrt(int(problem.settings["n_factors"]))))


def _of_sign(problem: Problem, F: Array) -> Array:
    return np.abs(F, out=F) if problem.settings["non_negative"] else F


def col_counts(problem: Problem, bounds: Bounds) -> Array:
    return problem.feature_nnz[bounds.lo : bounds.hi]


def initial_extremes(problem: Problem, bounds: Bounds) -> Array:
    del problem, bounds
    return np.array([HUGE, -HUGE], np.float32)


def side(arrays: Mapping[str, Array], factors: str, kind: str, count: Array) -> Side:
    """Parameters of rows or columns; those the settings do without are neutral."""
    n = len(arrays[factors])
    b, h = arrays.get(f"{kind}_bias"), arrays.get(f"{kind}_squares")
    return Side(
        arrays[factors],
        np.zeros(n, np.float32) if b is None else b,
        np.ones((n, 2), np.float32) if h is None else h,
        count,
    )


def row_side(v: Visit) -> Side:
    return side(v.row, "U", "row", v.row["row_count"])


def col_side(v: Visit) -> Side:
    return side(v.col, "V", "col", v.col["col_count"])


def step_of(params: Mapping[str, Any]) -> Step:
    return Step(
        eta=np.float32(params["learning_rate"]),
        l2=np.float32(params["l2"]),
        floor=np.float32(0 if params["non_negative"] else -np.inf),
        adagrad=bool(params["adagrad"]),
        biases=bool(params["biases"]),
        weighted=bool(params["weighted_l2"]),
        center=np.float32(params["center"]),
        inverse_scale=np.float32(1 / params["scale"]),
    )


def moments(v: Visit) -> Parts:
    total, squares, n_negative = mf_moments(v.data, v.row["row_count"], v.col["extremes"])
    return {"total": total, "squares": squares, "negative": n_negative}


def settle(v: Visit) -> None:
    """Collect the target's (center, scale, lowest, highest)."""
    target, extremes = v.shared["target"], v.col["extremes"]
    target[:2] = v.params["center"], v.params["scale"]
    target[2] = min(target[2], extremes[:, 0].min())
    target[3] = max(target[3], extremes[:, 1].max())


def visit(v: Visit) -> Parts:
    order = visiting_order(v.data.indptr, v.seed)
    loss, row_ridge = mf_visit(v.data, order, row_side(v), col_side(v), step_of(v.params))
    return {"loss": loss, "ridge": row_ridge}


def end_visit(v: Visit) -> Parts:
    return {"ridge": mf_column_ridge(col_side(v), step_of(v.params))}


def measure(v: Visit) -> Parts:
    predicted = np.empty(len(v.data.data), np.float32)
    loss, whole_ridge = mf_measure(v.data, row_side(v), col_side(v), step_of(v.params), predicted)
    return {"loss": loss, "ridge": whole_ridge}


class MF:
    """Matrix factorization."""

    name = "mf"
    epochs = 20
    col_axis = "items"
    block_cols = (1, 2**31 - 1)
    tiles = True
    kernels: Mapping[str, Kernel] = {
        "moments": Kernel(moments),
        "settle": Kernel(settle),
        "visit": Kernel(visit, end_visit),
        "measure": Kernel(measure),
    }

    def defaults(self) -> Settings:
        """Settings and their defaults.

        ``n_factors`` 64. ``l2`` (None: 0.03 to 0.09 per rating, see `mf_steps.ridge`), in proportion to the ratings of
        a row or column with ``weighted_l2``. ``biases``. ``non_negative``: every parameter is, and nothing is taken
        off the ratings. ``step`` adagrad, nomad, bold_driver, inverse_sqrt or constant, from ``learning_rate`` (None:
        see `mf_steps.RATES`) on.
        """
        return {
            "n_factors": 64,
            "l2": None,
            "weighted_l2": True,
            "biases": True,
            "non_negative": False,
            "step": "adagrad",
            "learning_rate": None,
        }

    def chosen_settings(self, problem: Problem) -> Settings:
        """The ridge and the first step."""
        return {"l2": ridge(problem), "learning_rate": first_rate(problem)}

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without ratings, `UsageError` for settings without a meaning."""
        settings = problem.settings
        if problem.nnz == 0:
            raise InputError(
                "mf needs ratings and the dataset has none; ingest a file of (user, item, rating)"
            )
        require_count(settings, "n_factors", 1, MOST_FACTORS)
        if settings["l2"] is not None:
            require_not_below_zero(settings, "l2", LARGEST, CHOSEN)
        if settings["learning_rate"] is not None:
            require_above_zero(settings, "learning_rate", LARGEST, CHOSEN)
        if settings["step"] not in RATES:
            raise UsageError(f"step is {settings['step']!r}; mf has {', '.join(RATES)}")

    def notice(self, problem: Problem) -> str | None:
        """What to say of data that are probably not ratings."""
        if problem.label_kind == "none":
            return None
        return (
            "mf takes the values of the features for ratings of columns by rows, and has no use for the rows' labels; "
            "mlr and fm predict these"
        )

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        settings, f32 = problem.settings, "float32"
        k = int(settings["n_factors"])
        specs = [
            StateSpec("U", "row", ("rows", k), f32, "factors of rows", initial_row_factors, export=True),
            StateSpec("V", "col", ("cols", k), f32, "factors of columns", initial_col_factors, export=True),
            StateSpec("row_count", "row", ("rows",), f32, "ratings of rows", export=True),
            StateSpec("col_count", "col", ("cols",), f32, "ratings of columns", col_counts),
            StateSpec("extremes", "col", ("cols", 2), f32, "lowest and highest rating", initial_extremes),
            StateSpec(
                "target", "shared", (4,), f32, "center, scale, lowest, highest", initial_target, export=True
            ),
        ]
        for kind, axis in (("row", "rows"), ("col", "cols")):
            if settings["biases"]:
                doc = f"biases of {axis}"
                specs.append(StateSpec(f"{kind}_bias", kind, (axis,), f32, doc, export=True))  # type: ignore[arg-type]
            if settings["step"] == "adagrad":
                doc = "sums of squared gradients, of the factors (mean) and the bias"
                specs.append(StateSpec(f"{kind}_squares", kind, (axis, 2), f32, doc, init=1.0))  # type: ignore[arg-type]
        return tuple(specs)

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Csr:
        return panel.X

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (self.visit_pass(problem, 0.0, 1.0),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return self.moments_pass(), self.settle_pass(0.0, 1.0), self.measure_pass(problem, 0.0, 1.0)

    def moments_pass(self) -> Pass:
        return Pass("moments", "tiles", "moments", writes=("row_count", "extremes"), data=True)

    def settle_pass(self, center: float, scale: float) -> Pass:
        params = {"center": center, "scale": scale}
        return Pass("settle", "once", "settle", reads=("extremes",), writes=("target",), params=params)

    def visit_pass(self, problem: Problem, center: float, scale: float) -> Pass:
        """An epoch; the step ``learning_rate`` is still to be added to its ``params``."""
        changed, params = parameters(problem), step_params(problem, center, scale)
        reads = (*changed, "row_count", "col_count")
        return Pass("visit", "tiles", "visit", reads=reads, writes=changed, data=True, params=params)

    def measure_pass(self, problem: Problem, center: float, scale: float) -> Pass:
        reads = tuple(name for name in parameters(problem) if not name.endswith("_squares"))
        params = step_params(problem, center, scale)
        return Pass(
            "measure", "tiles", "measure", reads=(*reads, "row_count", "col_count"), data=True, params=params
        )

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """The ratings' moments; then per segment the epochs and the exact objective."""
        found = yield self.moments_pass()
        center, scale = standard(problem, found)
        yield self.settle_pass(center, scale)
        number = 0
        for n_epochs in segments:
            number += yield from epochs(
                self.visit_pass(problem, center, scale),
                problem.settings["step"],
                first_rate(problem),
                number,
                n_epochs,
                partial(epoch_of, problem, scale),
            )
            measured = yield self.measure_pass(problem, center, scale)
            yield Final(mean_objective(problem, measured), extra={"rmse": rmse_of(problem, measured, scale)})

    def scoring(self, problem: Problem, top: int) -> MfScoring:
        return MfScoring(problem, top, ridge(problem))


def initial_target(problem: Problem, bounds: Bounds) -> Array:
    del problem, bounds
    return np.array([0, 1, HUGE, -HUGE], np.float32)


def parameters(problem: Problem) -> tuple[str, ...]:
    """The arrays that steps change."""
    names = ["U", "V"]
    if problem.settings["biases"]:
        names += ["row_bias", "col_bias"]
    if problem.settings["step"] == "adagrad":
        names += ["row_squares", "col_squares"]
    return tuple(names)


def step_params(problem: Problem, center: float, scale: float) -> dict[str, Any]:
    settings = problem.settings
    return {
        "learning_rate": 0.0,
        "l2": ridge(problem),
        "center": center,
        "scale": scale,
        "adagrad": settings["step"] == "adagrad",
        **{name: bool(settings[name]) for name in ("weighted_l2", "biases", "non_negative")},
    }


def standard(problem: Problem, found: Parts) -> tuple[float, float]:
    """Center and scale of the ratings: mean (0 if nothing may be negative) and standard deviation."""
    mean, square = float(found["total"]) / problem.nnz, float(found["squares"]) / problem.nnz
    # ratings that are all the same have a variance of rounding errors
    variance = square - mean * mean
    scale = float(np.sqrt(variance)) if variance > 1e-12 * square else 1.0
    if not problem.settings["non_negative"]:
        return mean, scale
    if found["negative"]:
        n_negative = int(found["negative"])
        raise InputError(
            f"{n_negative} ratings are below 0 and non_negative cannot predict them; leave it out"
        )
    return 0.0, scale


def mean_objective(problem: Problem, parts: Parts) -> float:
    return (float(parts["loss"]) + float(parts["ridge"])) / problem.nnz


def rmse_of(problem: Problem, parts: Parts, scale: float) -> float:
    return float(scale * np.sqrt(2 * float(parts["loss"]) / problem.nnz))


def epoch_of(problem: Problem, scale: float, number: int, parts: Parts, rate: float) -> Epoch:
    extra = {"rmse": rmse_of(problem, parts, scale), "learning_rate": rate}
    return Epoch(number, mean_objective(problem, parts), extra=extra)
