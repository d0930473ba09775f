"""DS-MLR: multinomial logistic regression whose classes needn't fit in memory, nor its data.

The objective is mean log loss + (l2 / 2) sum W^2; the intercept isn't penalised. Column blocks are class blocks; given
each row's log a_i = -log sum_k exp(z_ik) of the epoch before, no class needs another. An epoch is

    visit    tiles  every (row block, class block): fused score, update, log-sum-exp part per (row block, stripe)
    finish   rows   log a from the parts

The last epoch of a segment begins with the class means taken out of W (the loss doesn't change, L2 falls) and out of
log a, by the passes ``class_means`` and ``shift``. Its visits score all rows once more while they have the block: that
gives the exact objective and exact log a for nothing but the scores, which ``exact_objective`` false spares. Newton
passes end a segment if ``polish`` asks for them.
Steps: ``mlr_steps``; Newton passes: ``mlr_polish``; other solvers: ``mlr_lbfgs``, ``mlr_lc``.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from oocml.errors import InputError
from oocml.kernels.mlr import CHUNK, EMPTY, ClassBlock, LabelledRows, Step, mlr_scores, mlr_visit
from oocml.kernels.mlr_finish import (
    mlr_center,
    mlr_class_sums,
    mlr_finish_rows,
    mlr_losses_before,
    mlr_row_scales,
    mlr_shift_rows,
)
from oocml.metrics.classification import Truth, label_codes, set_truth, single_truth
from oocml.models import mlr_lbfgs, mlr_lc, mlr_polish
from oocml.models.mlr_scoring import MlrScoring
from oocml.models.mlr_settings import DEFAULTS, check
from oocml.models.mlr_steps import FIRST_RATE, HISTOGRAM_BINS, StepSizes, feature_rates, median_scale
from oocml.models.protocol import (
    Array,
    Epoch,
    Final,
    Kernel,
    Pass,
    Problem,
    Program,
    Settings,
    StateSpec,
    Visit,
)
from oocml.types import Bounds, LabelSets, Panel

BATCH_SOLVERS: Mapping[str, Any] = {"lbfgs": mlr_lbfgs, "lc": mlr_lc}
"""Modules that train with passes of their own."""
STOCHASTIC_RATE = 0.5
"""Step of log a under ``log_a = "stochastic"``; 1 would be a Newton step."""
SCALED_ROWS = 512
"""Labelled rows of a panel, at most, whose scales the step is chosen from."""
BLOCK = ("W", "intercept")


def empty_lse(problem: Problem | None = None, bounds: Any = None) -> Array:
    del problem, bounds
    return np.array([EMPTY, 0, 0], np.float32)


def initial_log_a(problem: Problem, bounds: Any) -> float:
    del bounds
    return -float(np.log(n_classes(problem)))


def n_classes(problem: Problem) -> int:
    return 0 if problem.labels is None else len(problem.labels)


def ends_exact(problem: Problem) -> bool:
    """Whether the visits of a segment's last epoch make the objective exact."""
    return problem.settings["exact_objective"] and not problem.settings["polish"]


def class_block(v: Visit) -> ClassBlock:
    return ClassBlock(v.col["W"], v.col["intercept"], v.cols.lo)


def work() -> Array:
    return np.empty((2, int(CHUNK)), np.float32)


def start(v: Visit) -> Mapping[str, Any]:
    histogram = np.zeros(HISTOGRAM_BINS)
    d_intercept = np.float32(v.params["fit_intercept"])
    labelled = np.flatnonzero(v.data.weight)
    some = np.random.default_rng(v.seed).permutation(labelled)[:SCALED_ROWS]
    mlr_row_scales(v.data, some, v.constants["rates"], d_intercept, histogram)
    stand_for = len(labelled) / max(1, len(some))
    return {"histogram": stand_for * histogram, "n_labelled": len(labelled)}


def visit(v: Visit) -> Mapping[str, Any] | None:
    exact = v.params["exact"]
    if exact and v.last:
        return scores(v)
    # what the updates found is not kept where scores follow
    lse = np.tile(empty_lse(), (v.n_rows, 1)) if exact else v.cell["lse"]
    order = np.random.default_rng(v.seed).permutation(v.n_rows)
    eta = np.float32(v.params["eta"])
    step = Step(v.constants["rates"], eta, np.float32(v.params["fit_intercept"]))
    fit = mlr_visit(v.data, order, v.row["log_a"], class_block(v), lse, step, work())
    return None if exact else {"fit": fit}


def begin_visit(v: Visit) -> None:
    if v.params["center"]:
        mlr_center(v.col["W"], v.shared["w_bar"])


def end_visit(v: Visit) -> Mapping[str, Any] | None:
    if not v.last:
        return None
    return {"squares": mlr_class_sums(v.col["W"], v.col["w_sum"])}


def finish(v: Visit) -> Mapping[str, Any]:
    before = mlr_losses_before(v.cell["lse"], v.row["log_a"]) if v.params["visited"] else 0.0
    return {
        "before": before,
        "lse": mlr_finish_rows(v.cell["lse"], v.row["log_a"], np.float32(v.params["rate"])),
    }


def mean(v: Visit) -> None:
    v.shared["w_bar"][:] += v.col["w_sum"] / np.float32(v.params["n_classes"])


def shift(v: Visit) -> None:
    mlr_shift_rows(v.data, v.shared["w_bar"], v.row["log_a"])


def center(v: Visit) -> Mapping[str, Any]:
    return {"squares": mlr_center(v.col["W"], v.shared["w_bar"])}


def scores(v: Visit) -> Mapping[str, Any]:
    return {"fit": mlr_scores(v.data, class_block(v), v.cell["lse"], work())}


class MLR:
    """Multinomial logistic regression."""

    name = "mlr"
    epochs = 10
    col_axis = "classes"
    block_cols = (16, 1024)
    tiles = False
    kernels: Mapping[str, Kernel] = {
        "start": Kernel(start),
        "visit": Kernel(visit, end_visit, begin_visit),
        "finish": Kernel(finish),
        "mean": Kernel(mean),
        "shift": Kernel(shift),
        "center": Kernel(center),
        "scores": Kernel(scores),
        **mlr_polish.KERNELS,
        **mlr_lbfgs.KERNELS,
        **mlr_lc.KERNELS,
    }

    def defaults(self) -> Settings:
        """Settings and their defaults; `oocml.models.mlr_settings` tells what they mean."""
        return DEFAULTS

    def chosen_settings(self, problem: Problem) -> Settings:
        """The first step of solver ds; later ones follow the loss."""
        return {"learning_rate": FIRST_RATE} if problem.settings["solver"] not in BATCH_SOLVERS else {}

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without classes, `UsageError` for settings without a meaning."""
        check(problem)

    def n_cols(self, problem: Problem) -> int:
        return n_classes(problem)

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        features_cols, f32 = ("features", "cols"), "float32"
        specs = [
            StateSpec("W", "col", features_cols, f32, "weights", export=True),
            StateSpec("intercept", "col", ("cols",), f32, "intercept per class", export=True),
            StateSpec("log_a", "row", ("rows",), f32, "-log sum_k exp(z_ik)", init=initial_log_a),
        ]
        if problem.settings["solver"] in BATCH_SOLVERS:
            return (*specs, *BATCH_SOLVERS[problem.settings["solver"]].state(problem))
        specs += [
            StateSpec("w_sum", "col", ("features",), f32, "sum of W over the block's classes"),
            StateSpec("w_bar", "shared", ("features",), f32, "mean of W over all classes"),
            StateSpec(
                "lse", "cell", ("rows", 3), f32, "(max, sum) of scores; sum before updates", init=empty_lse
            ),
        ]
        if problem.settings["polish"]:
            specs += mlr_polish.state()
        return tuple(specs)

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {
            "rates": feature_rates(problem),
            **(mlr_polish.constants(problem) if problem.settings["polish"] else {}),
        }

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> LabelledRows:
        n_rows = len(panel.X.indptr) - 1
        truth = read_truth(panel, problem)
        counts = np.diff(truth.indptr)
        weight = np.divide(1, counts, out=np.zeros(n_rows, np.float32), where=counts > 0)
        X = panel.X
        return LabelledRows(X.indptr, X.indices, X.data, truth.indptr, truth.ids, weight.astype(np.float32))

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        if problem.settings["solver"] in BATCH_SOLVERS:
            return BATCH_SOLVERS[problem.settings["solver"]].epoch_passes(problem)  # type: ignore[no-any-return]
        return self.visit_pass(problem, 0.0), self.finish_pass(problem)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        if problem.settings["solver"] in BATCH_SOLVERS:
            return BATCH_SOLVERS[problem.settings["solver"]].other_passes(problem)  # type: ignore[no-any-return]
        common = (
            self.start_pass(problem),
            self.mean_pass(problem),
            self.shift_pass(),
            self.visit_pass(problem, 0.0, center=True, exact=ends_exact(problem)),
            self.scores_pass(),
        )
        return common + (
            (self.center_pass(), *mlr_polish.passes(problem)) if problem.settings["polish"] else ()
        )

    def start_pass(self, problem: Problem) -> Pass:
        params = {"fit_intercept": bool(problem.settings["fit_intercept"])}
        return Pass("start", "rows", "start", data=True, params=params)

    def visit_pass(
        self, problem: Problem, rate: float, scale: float = 1.0, *, center: bool = False, exact: bool = False
    ) -> Pass:
        """The visits of an epoch; with ``center`` each block first loses the class means, as log a has done.

        With ``exact`` each block scores all rows once more at its end, and what is returned and stored is of those.
        """
        fit_intercept = bool(problem.settings["fit_intercept"])
        params = {
            "learning_rate": rate,
            "eta": rate / scale,
            "center": center,
            "exact": exact,
            "fit_intercept": fit_intercept,
        }
        reads, writes = (*BLOCK, "log_a", *(("w_bar",) if center else ())), (*BLOCK, "w_sum", "lse")
        name, sweeps = ("visit_exact", 2) if exact else ("visit", 1)
        return Pass(name, "tiles", "visit", reads, writes, data=True, sweeps=sweeps, params=params)

    def finish_pass(self, problem: Problem, visited: bool = True) -> Pass:
        """Log a from the log-sum-exps of visits (``visited``) or of a pass over scores."""
        stochastic = problem.settings["log_a"] == "stochastic" and visited
        params = {"rate": STOCHASTIC_RATE if stochastic else 0.0, "visited": visited}
        return Pass("finish", "rows", "finish", reads=("lse", "log_a"), writes=("log_a",), params=params)

    def mean_pass(self, problem: Problem) -> Pass:
        params = {"n_classes": n_classes(problem)}
        return Pass("class_means", "once", "mean", reads=("w_sum",), writes=("w_bar",), params=params)

    def shift_pass(self) -> Pass:
        return Pass("shift", "rows", "shift", reads=("log_a", "w_bar"), writes=("log_a",), data=True)

    def center_pass(self) -> Pass:
        return Pass("center", "cols", "center", reads=("W", "w_bar"), writes=("W",))

    def scores_pass(self) -> Pass:
        return Pass("scores", "tiles", "scores", reads=BLOCK, writes=("lse",), data=True)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """Start; then per segment: epochs, and what makes the objective exact or better."""
        if problem.settings["solver"] in BATCH_SOLVERS:
            yield from BATCH_SOLVERS[problem.settings["solver"]].program(problem, segments)
            return
        begun = yield self.start_pass(problem)
        n_labelled = int(begun["n_labelled"])
        if n_labelled == 0:
            raise InputError("no row of the dataset has a label; mlr has nothing to learn from")
        scale = median_scale(begun["histogram"])
        steps, number = StepSizes(problem.settings["learning_rate"]), 0
        for segment, n_epochs in enumerate(segments):
            end = number + n_epochs
            for epoch in range(n_epochs):
                rate = steps.step(number, end, resumed=segment > 0)
                number, last = number + 1, epoch == n_epochs - 1
                # the loss doesn't know the class means, L2 does: take them out before the last, small steps
                center, exact = epoch > 0 and last, last and ends_exact(problem)
                if center:
                    yield self.mean_pass(problem)
                    yield self.shift_pass()
                visited = yield self.visit_pass(problem, rate, scale, center=center, exact=exact)
                finished = yield self.finish_pass(problem, visited=not exact)
                lse = finished["lse" if exact else "before"]
                loss = (float(lse) - float(visited["fit"])) / n_labelled
                steps.learn(loss, exact=exact)
                objective = loss + problem.settings["l2"] / 2 * float(visited["squares"])
                verdict = yield Epoch(number, objective, exact, extra={"loss": loss, "learning_rate": rate})
                if verdict.stop:
                    break
            if exact:
                yield Final(objective, extra={"loss": loss})
            elif not problem.settings["exact_objective"]:
                yield Final(None)
            else:
                yield from self.finish_segment(problem, n_labelled, float(visited["squares"]))

    def finish_segment(self, problem: Problem, n_labelled: int, squares: float) -> Generator[Any, Any, None]:
        """The end of a segment whose last epoch has not made its objective exact. ``squares`` is the sum of W^2."""
        if problem.settings["polish"]:  # Newton steps stall on what the last epoch added to the class means
            yield self.mean_pass(problem)
            squares = float((yield self.center_pass())["squares"])
        scored = yield self.scores_pass()
        finished = yield self.finish_pass(problem, visited=False)
        loss = (float(finished["lse"]) - float(scored["fit"])) / n_labelled
        objective = loss + problem.settings["l2"] / 2 * squares
        extra = {"loss": loss}
        if problem.settings["polish"]:
            loss, objective, passes = yield from mlr_polish.tours(problem, n_labelled)
            extra = {"loss": loss, "polish_passes": float(passes)}
        yield Final(objective, extra=extra)

    def scoring(self, problem: Problem, top: int) -> MlrScoring:
        return MlrScoring(problem, top)


def read_truth(panel: Panel, problem: Problem) -> Truth:
    """Each row's classes; codes of classes unseen in training are negative."""
    if isinstance(panel.y, LabelSets):
        return set_truth(panel.y)
    if panel.y is None or problem.labels is None:
        return Truth(np.zeros(len(panel.X.indptr), np.int64), np.zeros(0, np.int64))
    return single_truth(label_codes(panel.y, np.asarray(problem.labels, np.float64)))
