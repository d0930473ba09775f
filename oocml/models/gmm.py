"""Gaussian mixtures, Bayesian: conjugate priors, the posterior by variational inference.

Rows are data rows, columns are components. ``gmm_posterior`` has the model, ``gmm_esvi`` the default inference (all
components at once, nothing kept of a row and a component) and Hoffman's stochastic one, ``gmm_vi`` batch inference
whose components come in blocks. The objective is the negative evidence lower bound per row, in units of the data.

An epoch under ``inference="esvi"`` is

    visit    rows   batches of rows: responsibilities, statistics replaced
    settle   cols   weights, means, precisions, and the evidence
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.models import gmm_esvi, gmm_exports, gmm_start, gmm_stored, gmm_svi, gmm_vi
from oocml.models.gmm_posterior import Prior, evidence_constant
from oocml.models.gmm_rows import Rows, fits_shared
from oocml.models.gmm_scoring import GmmScoring
from oocml.models.gmm_settings import DEFAULTS, check
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
)
from oocml.types import Bounds, Panel


class GMM:
    """Gaussian mixtures."""

    name = "gmm"
    epochs = 20
    col_axis = "components"
    block_cols = (16, 256)
    tiles = False
    kernels: Mapping[str, Kernel] = {
        "draw": Kernel(gmm_start.draw),
        "choose": Kernel(gmm_start.choose),
        "first_visit": Kernel(gmm_esvi.first_visit),
        "visit": Kernel(gmm_esvi.visit),
        "sum": Kernel(gmm_esvi.sum_batches),
        "first_z": Kernel(gmm_stored.first_visit),
        "visit_z": Kernel(gmm_stored.visit),
        "sum_z": Kernel(gmm_stored.sum_rows),
        "begin": Kernel(gmm_svi.begin),
        "svi": Kernel(gmm_svi.visit),
        "measure": Kernel(gmm_esvi.measure),
        "settle": Kernel(gmm_exports.settle),
        "moments": Kernel(gmm_vi.moments),
        "draw_cols": Kernel(gmm_vi.draw),
        "begin_cols": Kernel(gmm_vi.begin),
        "scores": Kernel(gmm_vi.score),
        "join": Kernel(gmm_vi.join),
        "collect": Kernel(gmm_vi.collect),
    }

    def defaults(self) -> Settings:
        """Settings and their defaults; ``docs/gmm.md`` tells what they mean."""
        return DEFAULTS

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without rows or features, `UsageError` for settings without a meaning."""
        check(problem)

    def n_cols(self, problem: Problem) -> int:
        return int(problem.settings["n_components"])

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        shared = gmm_start.shared_state(problem) if fits_shared(problem) else ()
        return (
            gmm_start.moments_spec(problem),
            *shared,
            *gmm_exports.state(problem),
            *inference(problem).state(problem),
        )

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {"prior": np.array(Prior.of(problem), np.float64)}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Rows:
        return Rows(panel.X, panel.row_ids)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return *inference(problem).epoch_passes(problem), gmm_exports.settle_pass(problem)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return tuple(inference(problem).other_passes(problem))

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """The start; then per segment the epochs, and the bound with the best responsibilities."""
        method, every, number = inference(problem), problem.settings["exact_every"], 0
        units = yield from method.start(problem)
        settled: Parts = {}
        for n_epochs in segments:
            for _ in range(n_epochs):
                number += 1
                found = yield from method.epoch(problem, number)
                settled = yield gmm_exports.settle_pass(problem)
                exact = bool(every) and number % every == 0
                if exact:
                    found = yield from method.measured(problem)
                objective = negative_bound(problem, found, settled, units)
                verdict = yield Epoch(number, objective, exact=exact, extra={"elbo": -objective})
                if verdict.stop:
                    break
            objective = negative_bound(problem, (yield from method.measured(problem)), settled, units)
            yield Final(objective, extra={"elbo": -objective})

    def scoring(self, problem: Problem, top: int) -> GmmScoring:
        return GmmScoring(problem, top)


def inference(problem: Problem) -> Any:
    """The module that says how the posterior is found."""
    if problem.settings["inference"] == "esvi":
        return gmm_stored if problem.settings["store_z"] else gmm_esvi
    return {"subset": gmm_stored, "svi": gmm_svi, "vi": gmm_vi}[problem.settings["inference"]]


def negative_bound(problem: Problem, found: Parts, settled: Parts, units: float) -> float:
    """The objective, from the entropy of z or, with the best z, from the rows' log-sum-exps."""
    if "entropy" in found:
        bound = float(found["entropy"]) + float(settled["evidence"])
    else:
        bound = float(found["lse"]) - float(settled["divergence"])
    return -(bound + evidence_constant(Prior.of(problem))) / problem.n_rows - units
