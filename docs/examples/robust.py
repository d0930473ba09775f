"""Robust binary classification: one classifier per label, which rows with a wrong label cannot bend far.

Row i has t_ik = +1 if it carries label k and -1 if it doesn't; m_ik = t_ik (x_i . w_k) is its margin. The objective is

    f(W) = (1 / N) sum_i sum_k rho(log(1 + exp(-m_ik))) + (l2 / 2) sum W^2,    rho(s) = log(1 + s)

With ``loss=logistic`` rho(s) = s, ordinary logistic regression. rho grows so slowly that a row far on the wrong side
counts less and less (Yun, Raman and Vishwanathan, "Ranking via robust binary classification", 2014).

Every term belongs to one row and one label: the objective is doubly separable, and a visit needs nothing but the
rows of its panel and the classifiers of its column block.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from oocml.errors import InputError, UsageError
from oocml.metrics import classification
from oocml.models.protocol import Epoch, Final, Kernel, Pass, Problem, StateSpec, Visit
from oocml.models.setting_bounds import require_above_zero
from oocml.types import Bounds, Csr, LabelSets, Panel

BATCH_ROWS = 64
"""Rows whose summed gradient makes one step."""
LOSSES = ("robust", "logistic")


class Rows(NamedTuple):
    """A panel as the kernels read it: arrays only, so that the engine can tell its size."""

    X: Csr
    truth: classification.Truth
    """Labels of each row as column numbers."""


def signs(data: Rows, rows: slice, cols: Any) -> np.ndarray:
    """t_ik of some rows and columns: +1 where the row has the label, else -1."""
    t = np.full((rows.stop - rows.start, cols.size), -1, np.float32)
    bounds = data.truth.indptr[rows.start : rows.stop + 1]
    row = np.repeat(np.arange(len(t)), np.diff(bounds))
    ids = data.truth.ids[bounds[0] : bounds[-1]]
    mine = (ids >= cols.lo) & (ids < cols.hi)
    t[row[mine], ids[mine] - cols.lo] = 1
    return t


def loss_and_slope(margin: np.ndarray, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """The loss at each margin, and its derivative."""
    logistic = np.logaddexp(0, -margin)
    slope = -np.exp(-margin - logistic)
    if loss == "logistic":
        return logistic, slope
    return np.log1p(logistic), slope / (1 + logistic)


def batches(data: Rows, n_rows: int, n_features: int) -> Iterator[tuple[slice, csr_matrix]]:
    """A few rows at a time, so that no array of rows x columns gets large."""
    X = csr_matrix((data.X.data, data.X.indices, data.X.indptr), (n_rows, n_features))
    for lo in range(0, n_rows, BATCH_ROWS):
        rows = slice(lo, min(lo + BATCH_ROWS, n_rows))
        yield rows, X[rows]


def update(v: Visit) -> Mapping[str, float]:
    """A step per batch of rows; returns the loss of each row just before its step."""
    W, eta, total = v.col["W"], np.float32(v.params["eta"]), 0.0
    for rows, x in batches(v.data, v.n_rows, len(W)):
        t = signs(v.data, rows, v.cols)
        used, where = np.unique(x.indices, return_inverse=True)
        x = csr_matrix((x.data, where, x.indptr), (x.shape[0], len(used)))
        loss, slope = loss_and_slope(t * (x @ W[used]), v.params["loss"])
        W[used] -= eta * (x.T @ (t * slope))
        total += float(loss.sum(dtype=np.float64))
    return {"loss": total}


def shrink(v: Visit) -> Mapping[str, float]:
    """The L2 term, once a column block has seen all rows: an implicit step, which cannot overshoot."""
    v.col["W"][:] /= np.float32(1 + v.params["eta"] * v.params["l2"] * v.params["n_rows"])
    return squares(v)


def measure(v: Visit) -> Mapping[str, float]:
    W, total = v.col["W"], 0.0
    for rows, x in batches(v.data, v.n_rows, len(W)):
        loss, _ = loss_and_slope(signs(v.data, rows, v.cols) * (x @ W), v.params["loss"])
        total += float(loss.sum(dtype=np.float64))
    return {"loss": total}


def squares(v: Visit) -> Mapping[str, float]:
    return {"squares": float(np.square(v.col["W"], dtype=np.float64).sum())}


class Robust:
    """The declaration that the engine reads."""

    name = "robust"
    epochs = 10
    col_axis = "labels"
    block_cols = (1, 1024)
    tiles = False
    kernels = {"update": Kernel(update, end_sweep=shrink), "measure": Kernel(measure, end_sweep=squares)}

    def defaults(self) -> Mapping[str, Any]:
        return {"l2": 1e-4, "learning_rate": 1.0, "loss": "robust"}

    def check(self, problem: Problem) -> None:
        if problem.labels is None:
            raise InputError("robust needs labels and the dataset has none; ingest a file with labels")
        if problem.settings["loss"] not in LOSSES:
            raise UsageError(f"loss is {problem.settings['loss']!r}; robust has {', '.join(LOSSES)}")
        require_above_zero(problem.settings, "learning_rate", most=100, advice="try 1")

    def n_cols(self, problem: Problem) -> int:
        return len(problem.labels)

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        return (StateSpec("W", "col", ("features", "cols"), "float32", "weights", export=True),)

    def constants(self, problem: Problem) -> Mapping[str, Any]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Rows:
        if isinstance(panel.y, LabelSets):
            return Rows(panel.X, classification.set_truth(panel.y))
        return Rows(panel.X, classification.single_truth(classification.label_codes(panel.y, problem.labels)))

    def update_pass(self, problem: Problem, eta: float) -> Pass:
        settings = problem.settings
        params = {"eta": eta, "l2": settings["l2"], "loss": settings["loss"], "n_rows": problem.n_rows}
        return Pass("update", "tiles", "update", reads=("W",), writes=("W",), data=True, params=params)

    def measure_pass(self, problem: Problem) -> Pass:
        params = {"loss": problem.settings["loss"]}
        return Pass("measure", "tiles", "measure", reads=("W",), data=True, params=params)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (self.update_pass(problem, 0.0),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (self.measure_pass(problem),)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Any:
        def objective(result: Mapping[str, float]) -> float:
            return result["loss"] / problem.n_rows + problem.settings["l2"] / 2 * result["squares"]

        # the second derivative of either loss is at most 1/4: this is a safe step along one direction
        mean_square = max(float(problem.feature_sumsq.sum()) / problem.n_rows, 1e-30)
        rate = problem.settings["learning_rate"] * 4 / (BATCH_ROWS * mean_square)
        number = 0
        for n_epochs in segments:
            for epoch in range(n_epochs):
                number += 1
                eta = rate * (1 - epoch / n_epochs)
                result = yield self.update_pass(problem, eta)
                verdict = yield Epoch(number, objective(result))
                if verdict.stop:
                    break
            result = yield self.measure_pass(problem)
            yield Final(objective(result))

    def scoring(self, problem: Problem, top: int) -> "Scoring":
        return Scoring(problem, top or classification.DEPTH)


class Ranked(NamedTuple):
    """What is kept of a batch of rows while column blocks stream by."""

    ids: np.ndarray
    """Shape (n_rows, top): best labels so far, best first, -1 for none."""
    best: np.ndarray
    """Their scores."""
    loss: np.ndarray
    """Shape (n_rows,): loss over all labels so far."""


class Counted(NamedTuple):
    """What is kept of the rows seen so far."""

    classified: classification.Classified
    loss: float
    squares: float


class Scoring:
    """Each row's labels with the largest scores, and the objective."""

    reads = ("W",)
    seen = False
    per_entry = False

    def __init__(self, problem: Problem, top: int) -> None:
        self.labels, self.top = problem.labels, min(top, len(problem.labels))
        self.settings = problem.settings
        self.squares: dict[int, float] = {}

    def begin(self, data: Rows, n_rows: int, state: Mapping[str, np.ndarray]) -> Ranked:
        best = np.full((n_rows, self.top), -np.inf, np.float32)
        return Ranked(np.full((n_rows, self.top), -1, np.int64), best, np.zeros(n_rows))

    def visit(
        self, accumulator: Ranked, data: Rows, cols: Bounds, col: Mapping[str, np.ndarray], seen: Any = None
    ) -> None:
        W, n_rows = col["W"], len(accumulator.ids)
        self.squares[cols.lo] = float(np.square(W, dtype=np.float64).sum())
        for rows, x in batches(data, n_rows, len(W)):
            score = x @ W
            losses, _ = loss_and_slope(signs(data, rows, cols) * score, self.settings["loss"])
            accumulator.loss[rows] += losses.sum(axis=1, dtype=np.float64)
            ids = np.broadcast_to(np.arange(cols.lo, cols.hi), score.shape)
            ids, best = np.hstack([accumulator.ids[rows], ids]), np.hstack([accumulator.best[rows], score])
            order = np.argsort(-best, axis=1, kind="stable")[:, : self.top]
            accumulator.ids[rows] = np.take_along_axis(ids, order, axis=1)
            accumulator.best[rows] = np.take_along_axis(best, order, axis=1)

    def metrics(self, accumulator: Ranked, data: Rows) -> Counted:
        counts = classification.accumulate(accumulator.ids, data.truth)
        return Counted(counts, float(accumulator.loss.sum()), sum(self.squares.values()))

    def merge(self, a: Counted, b: Counted) -> Counted:
        return Counted(classification.merge([a.classified, b.classified]), a.loss + b.loss, a.squares)

    def scores(self, total: Counted) -> dict[str, float]:
        scores = classification.scores(total.classified)
        del scores["log_loss"]  # margins of one classifier per label are no distribution over labels
        n_rows = max(1, total.classified.n_rows + total.classified.n_unlabelled)
        return scores | {"objective": total.loss / n_rows + self.settings["l2"] / 2 * total.squares}

    def predictions(self, accumulator: Ranked, data: Rows) -> dict[str, np.ndarray]:
        labels = np.where(accumulator.ids >= 0, self.labels[accumulator.ids], -1)
        return {"labels": labels, "scores": 1 / (1 + np.exp(-accumulator.best))}
