"""Factorization machines of second order, trained row by row on tiles.

    f(x) = w0 + sum_j w_j x_j + sum_{j < j'} (v_j . v_j') x_j x_j'

for numbers (squared loss (f - t)^2 / 2 on the standardised target) or two labels (log loss). The objective is the mean
loss over rows plus the ridge: (l2_factors |v_j|^2 + l2_linear w_j^2) / 2 for every occurrence of a feature, over the
number of rows; without ``weighted_l2`` once for each feature. Features are divided by their root mean square over the
entries.

The solver ``tiles``: a visit steps the rows of its row block one after another, on the features of its column block
alone, which is exact given the rows' sums over all other features. These sums are gathered while the column blocks
are in memory for the row block before (rows seen ahead), and kept exact from there on:

    ahead    partial[p', q] = the sums over block q;  total[p'] += partial[p', q]
    visit    rest = total[p] - partial[p, q];  steps;  total[p] = rest + the sums over block q after its steps

With a single lane of row blocks nothing is stale, whatever the blocks: the method is that of libFM (Rendle 2012). With
W lanes the sums miss what the other lanes did meanwhile, at most W - 1 row blocks; eight row blocks to a lane are
enough for that not to matter. Kernels: ``kernels.fm``; DS-FACTO's solver: ``fm_dsfacto``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from oocml.kernels.fm import TargetRows, fm_accumulate, fm_visit
from oocml.kernels.noise import visiting_order
from oocml.models import fm_dsfacto, fm_settings, fm_visits
from oocml.models.fm_scoring import FmScoring
from oocml.models.fm_settings import is_classification, n_factors, step_of, step_params
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
from oocml.models.step_sizes import epochs
from oocml.types import Bounds, Panel


def visit(v: Visit) -> Parts:
    """Steps on one row block, and sums for the one after it."""
    block, step = fm_visits.feature_block(v.col), step_of(v.params)
    alone = v.cols.size == v.params["n_features"]  # then there is no rest, and nothing to gather
    parts: dict[str, Any] = {}
    if v.data is not None:
        total, w0 = v.row["total"], v.shared["w0"]
        if not alone:
            total -= v.cell["partial"]
        # the first column block steps the intercept and counts the losses, so it sees every row
        first = v.q == 0
        order = visiting_order(np.arange(v.n_rows + 1) if first else v.data.indptr, v.seed)
        bias = (w0 if first else w0[:1]).copy()
        loss, ridge = fm_visit(v.data, order, total, block, bias, step)
        parts = {"loss": loss if first else 0.0, "ridge": ridge, "w0": np.zeros(2)}
        if first:
            parts["w0"] = bias.astype(np.float64) - w0
        if not alone:
            fm_accumulate(v.data, block, total, step)
    if v.ahead is not None and not alone:
        part = v.ahead.cell["partial"]
        part[...] = 0
        fm_accumulate(v.ahead.data, block, part, step)
        v.ahead.row["total"] += part
    return parts


class FM:
    """Factorization machines."""

    name = "fm"
    epochs = 20
    col_axis = "features"
    block_cols = (1, 2**31 - 1)
    tiles = True
    kernels: Mapping[str, Kernel] = {
        "moments": Kernel(fm_visits.moments),
        "settle": Kernel(fm_visits.settle),
        "visit": Kernel(visit),
        "collect": Kernel(fm_visits.collect),
        "judge": Kernel(fm_visits.judge),
        **fm_dsfacto.KERNELS,
    }

    def defaults(self) -> Settings:
        """Settings and their defaults.

        ``n_factors`` 16 (0: a linear model). ``l2_factors`` (None: 0.03 for labels, 0.06 for numbers) and ``l2_linear``
        (None: a tenth of that), for every occurrence of a feature with ``weighted_l2``. ``task`` regression or
        classification (None: classification for two labels). ``solver`` tiles or dsfacto, the latter with ``tour``
        fused or two_pass. ``step`` adagrad, nomad, bold_driver, inverse_sqrt or constant, from ``learning_rate`` (None:
        0.1 for adagrad, else 0.01; 0.03 for dsfacto) on.
        """
        return fm_settings.DEFAULTS

    def chosen_settings(self, problem: Problem) -> Settings:
        """What is left to the model: the task, the ridges and the first step."""
        return fm_settings.chosen(problem)

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without targets, `UsageError` for settings without a meaning."""
        fm_settings.check(problem)

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        specs = fm_visits.state(problem)
        if problem.settings["solver"] == "dsfacto":
            return (*specs, *fm_dsfacto.state(problem))
        dims = ("rows", n_factors(problem) + 2)
        return (*specs, StateSpec("partial", "cell", dims, "float32", "sums over one column block"))

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> TargetRows:
        return fm_visits.prepare(panel, problem, cols)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        params = step_params(problem, 0.0, 1.0)
        if problem.settings["solver"] == "dsfacto":
            return fm_dsfacto.epoch_passes(problem, params)
        return (self.visit_pass(problem, params),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        settle = () if is_classification(problem) else (self.settle_pass(0.0, 1.0),)
        start = (self.moments_pass(problem), *settle)
        params = step_params(problem, 0.0, 1.0)
        if problem.settings["solver"] == "dsfacto":
            return (*start, *fm_dsfacto.other_passes(problem, params))
        return (*start, *fm_visits.exact_passes(problem, params, "total"))

    def moments_pass(self, problem: Problem) -> Pass:
        writes = () if is_classification(problem) else ("target",)
        return Pass("moments", "rows", "moments", writes=writes, data=True)

    def settle_pass(self, center: float, scale: float) -> Pass:
        params = {"center": center, "scale": scale}
        return Pass("settle", "once", "settle", reads=("target",), writes=("target",), params=params)

    def visit_pass(self, problem: Problem, params: Mapping[str, Any]) -> Pass:
        changed = fm_visits.parameters(problem)
        return Pass(
            "visit",
            "tiles",
            "visit",
            reads=(*changed, *fm_visits.fixed(problem), "w0"),
            writes=(*changed, "w0", "total", "partial"),
            data=True,
            params={**params, "n_features": problem.n_features},
            ahead=True,
            consumes=("partial",),
        )

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """The targets' moments; then per segment the epochs and the exact objective."""
        found = yield self.moments_pass(problem)
        n = int(found["n"])
        if n == 0:
            raise fm_settings.no_targets(self.name)
        center, scale = (0.0, 1.0) if is_classification(problem) else standard(n, found)
        if not is_classification(problem):
            yield self.settle_pass(center, scale)
        params = step_params(problem, center, scale)
        if problem.settings["solver"] == "dsfacto":
            yield from fm_dsfacto.program(problem, segments, params, n)
            return
        number, kind = 0, problem.settings["step"]
        for n_epochs in segments:
            pass_, rate = self.visit_pass(problem, params), fm_settings.first_rate(problem)
            number += yield from epochs(pass_, kind, rate, number, n_epochs, partial(epoch_of, n))
            collect, judge = fm_visits.exact_passes(problem, params, "total")
            collected = yield collect
            judged = yield judge
            loss = float(judged["loss"]) / n
            yield Final(loss + float(collected["ridge"]) / n, extra={"loss": loss})

    def scoring(self, problem: Problem, top: int) -> FmScoring:
        return FmScoring.of(problem, top)


def standard(n: int, found: Parts) -> tuple[float, float]:
    """Mean and standard deviation of the targets."""
    mean, square = float(found["total"]) / n, float(found["squares"]) / n
    # targets that are all the same have a variance of rounding errors
    variance = square - mean * mean
    return mean, float(np.sqrt(variance)) if variance > 1e-12 * square else 1.0


def epoch_of(n: int, number: int, parts: Parts, rate: float) -> Epoch:
    loss = float(parts["loss"]) / n
    return Epoch(number, loss + float(parts["ridge"]) / n, extra={"loss": loss, "learning_rate": rate})
