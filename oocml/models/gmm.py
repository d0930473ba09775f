"""Gaussian mixtures, Bayesian: conjugate priors, the posterior by variational inference.

Rows are data rows, columns are components. ``gmm_posterior`` has the model, ``gmm_esvi`` the default inference (all
components at once, nothing kept of a row and a component) and Hoffman's stochastic one, ``gmm_vi`` batch inference
whose components come in blocks. The objective is the negative evidence lower bound per row, in units of the data.

An epoch under ``inference="esvi"`` is

    visit    rows   batches of rows: responsibilities, statistics replaced
    settle   cols   weights, means, precisions, and the evidence
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.models import gmm_esvi, gmm_exports, gmm_start, gmm_vi
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

SUM_EVERY = 10
"""Epochs after which statistics are summed anew."""


class GMM:
    """Gaussian mixtures."""

    name = "gmm"
    epochs = 20
    col_axis = "components"
    block_cols = (16, 2**31 - 1)
    tiles = False
    kernels: Mapping[str, Kernel] = {
        "draw": Kernel(gmm_start.draw),
        "choose": Kernel(gmm_start.choose),
        "begin": Kernel(gmm_esvi.begin),
        "first_visit": Kernel(gmm_esvi.first_visit),
        "visit": Kernel(gmm_esvi.visit),
        "sum": Kernel(gmm_esvi.sum_batches),
        "svi": Kernel(gmm_esvi.svi),
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
        specs = (gmm_start.moments_spec(problem), *gmm_exports.state(problem))
        blocks = problem.settings["inference"] == "vi"
        specs += gmm_vi.state(problem) if blocks else gmm_esvi.state(problem)
        return specs + (gmm_start.shared_state(problem) if fits_shared(problem) else gmm_vi.start_state())

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {"prior": np.array(Prior.of(problem), np.float64)}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Rows:
        return Rows(panel.X, panel.row_ids)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        settle = gmm_exports.settle_pass(problem)
        if problem.settings["inference"] == "vi":
            return gmm_vi.scores_pass(), gmm_vi.join_pass(), gmm_vi.collect_pass(), settle
        if problem.settings["inference"] == "svi":
            return gmm_esvi.svi_pass(problem), settle
        return gmm_esvi.visit_pass(problem, first=False), settle

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        inference = problem.settings["inference"]
        if fits_shared(problem):
            start = (gmm_start.draw_pass(problem), gmm_start.choose_pass(problem))
        else:
            start = (gmm_vi.moments_pass(), gmm_vi.draw_pass(problem))
        if inference == "vi":
            return (*start, gmm_vi.begin_pass(fits_shared(problem)))
        common = (*start, gmm_esvi.measure_pass())
        if inference == "svi":
            return (*common, gmm_esvi.begin_pass())
        return (*common, gmm_esvi.visit_pass(problem, first=True), gmm_esvi.sum_pass())

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """The start; then per segment the epochs, and the bound with the best responsibilities."""
        here = yield from self.start(problem)
        number = 0
        settled: Parts = {}
        for n_epochs in segments:
            for _ in range(n_epochs):
                number += 1
                objective, settled = yield from self.epoch(problem, number, here)
                every, exact = problem.settings["exact_every"], False
                if every and number % every == 0:
                    objective, exact = (yield from self.measured(problem, settled, here)), True
                verdict = yield Epoch(number, objective, exact=exact, extra={"elbo": -objective})
                if verdict.stop:
                    break
            objective = yield from self.measured(problem, settled, here)
            yield Final(objective, extra={"elbo": -objective})

    def start(self, problem: Problem) -> Generator[Any, Any, float]:
        """Draw means; returns what log densities have for the units of the data."""
        inference = problem.settings["inference"]
        if fits_shared(problem):
            yield gmm_start.draw_pass(problem)
            begun = yield gmm_start.choose_pass(problem)
        else:
            yield gmm_vi.moments_pass()
            yield gmm_vi.draw_pass(problem)
        if inference == "vi":
            begun = yield gmm_vi.begin_pass(fits_shared(problem))
        elif inference == "svi":
            yield gmm_esvi.begin_pass()
        return float(begun["log_density"])

    def epoch(self, problem: Problem, number: int, units: float) -> Generator[Any, Any, tuple[float, Parts]]:
        """One epoch; returns its running objective and what came of settling the parameters."""
        prior, inference = Prior.of(problem), problem.settings["inference"]
        if inference == "vi":
            yield gmm_vi.scores_pass()
            yield gmm_vi.join_pass()
            found = yield gmm_vi.collect_pass()
        elif inference == "svi":
            found = yield gmm_esvi.svi_pass(problem)
        else:
            found = yield gmm_esvi.visit_pass(problem, first=number == 1)
            if number % SUM_EVERY == 0:
                yield gmm_esvi.sum_pass()
        settled = yield gmm_exports.settle_pass(problem)
        if inference == "svi":
            return self.objective(problem, float(found["lse"]), settled, units), settled
        bound = float(found["entropy"]) + float(settled["evidence"]) + evidence_constant(prior)
        return -bound / problem.n_rows - units, settled

    def measured(self, problem: Problem, settled: Parts, units: float) -> Generator[Any, Any, float]:
        """The objective of the state as it stands, with the best responsibilities."""
        if problem.settings["inference"] == "vi":
            yield gmm_vi.scores_pass()
            found = yield gmm_vi.join_pass()
        else:
            found = yield gmm_esvi.measure_pass()
        return self.objective(problem, float(found["lse"]), settled, units)

    @staticmethod
    def objective(problem: Problem, lse: float, settled: Parts, units: float) -> float:
        prior = Prior.of(problem)
        bound = lse - float(settled["divergence"]) + evidence_constant(prior)
        return -bound / problem.n_rows - units

    def scoring(self, problem: Problem, top: int) -> GmmScoring:
        return GmmScoring(problem, top)
