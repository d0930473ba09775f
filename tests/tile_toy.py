"""A small model of tiles: rows and columns change together, rows are seen ahead, a shared number is merged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from oocml.models.protocol import Epoch, Epochs, Final, Kernel, Pass, Problem, StateSpec, Visit
from oocml.types import Bounds, Csr, Panel


class Tile(NamedTuple):
    row: np.ndarray
    col: np.ndarray
    x: np.ndarray
    y: np.ndarray


def entries(X: Csr) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr)), X.indices


def end_meet(v: Visit) -> Mapping[str, Any]:
    """Once a column block and epoch, whatever the order of its tiles."""
    v.col["draws"][:] *= 2
    return {"ends": 1.0}


def meet(v: Visit) -> Mapping[str, Any]:
    """Rows and columns pull at each other: the result depends on the order of visits, by its last bits and more."""
    U, V, step = v.row["U"], v.col["V"], v.params["step"]
    loss = 0.0
    for i, j, x in zip(v.data.row, v.data.col, v.data.x, strict=True):
        error = x - U[i] * V[j]
        loss += error * error
        U[i], V[j] = U[i] + step * error * V[j], V[j] + step * error * U[i]
    time.sleep(v.params["sleep"])  # so that tests can kill what runs
    order = np.random.default_rng(v.seed).random()
    v.col["draws"] += order
    parts = {"loss": loss, "n": float(len(v.data.x))}
    return {**parts, "L": np.array([loss, 1.0])} if v.params["merged"] else parts


def partial(tile: Tile, V: np.ndarray, n_rows: int) -> np.ndarray:
    return np.bincount(tile.row, tile.x * V[tile.col], minlength=n_rows)


def ahead(v: Visit) -> Mapping[str, Any]:
    """Rows' sums over all columns, taken when each column passed by; then each column moves, knowing them."""
    V = v.col["V"]
    parts = {"wrong": 0.0, "visits": 0.0}
    if v.params["merged"]:
        parts["L"] = np.array([0.0, 0.001])
    if v.data is not None:
        parts["visits"] = 1.0
        rest = v.row["total"] - v.cell["partial"]
        if v.params["exact"]:
            own = partial(v.data, V, v.n_rows)
            parts["wrong"] = float(np.abs(own - v.cell["partial"]).max(initial=0) > 1e-9)
        np.add.at(V, v.data.col, 0.01 * np.tanh(v.data.x * (v.data.y - rest)[v.data.row]))
        v.row["total"][:] = rest + partial(v.data, V, v.n_rows)
    if v.ahead is not None:
        v.ahead.cell["partial"][:] = partial(v.ahead.data, V, v.ahead.n_rows)
        v.ahead.row["total"] += v.ahead.cell["partial"]
    return parts


def residual(v: Visit) -> Mapping[str, Any]:
    v.row["total"] += partial(v.data, v.col["V"], v.n_rows)
    return {}


def fold(v: Visit) -> Mapping[str, Any]:
    return {"loss": float(((v.row["total"] - v.data.y) ** 2).sum())}


class TileToy:
    name = "tiletoy"
    epochs = 3
    col_axis = "features"
    tiles = True
    block_cols = (1, 2**31)
    kernels = {
        "meet": Kernel(meet, end_meet),
        "ahead": Kernel(ahead),
        "residual": Kernel(residual),
        "fold": Kernel(fold),
    }

    def defaults(self) -> Mapping[str, Any]:
        return {"exact": False, "sleep": 0.0, "merged": True}

    def check(self, problem: Problem) -> None:
        pass

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        def frequent(problem: Problem, cols: Bounds) -> np.ndarray:
            return 1 + np.sqrt(np.asarray(problem.feature_nnz[cols.lo : cols.hi], np.float64))

        return (
            StateSpec("U", "row", ("rows",), "float64", "row state", init=0.5, export=True),
            StateSpec("V", "col", ("cols",), "float64", "column state", init=frequent, export=True),
            StateSpec("draws", "col", (1,), "float64", "sum of the seeds' draws"),
            StateSpec("total", "row", ("rows",), "float64", "sums over columns"),
            StateSpec("partial", "cell", ("rows",), "float64", "a row's sum in one column block"),
            StateSpec("L", "shared", (2,), "float64", "sums everyone sees late", merge=True, export=True),
        )

    def constants(self, problem: Problem) -> Mapping[str, Any]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Tile:
        assert len(panel.X.indices) == 0 or panel.X.indices.max() < cols.size
        row, col = entries(panel.X)
        y = np.zeros(len(panel.X.indptr) - 1) if panel.y is None else panel.y
        return Tile(row, col, panel.X.data.astype(np.float64), y)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        shared = ("L",) if problem.settings["merged"] else ()
        together = ("U", "V", "draws", *shared)
        params = {"exact": problem.settings["exact"], "merged": bool(shared)}
        return (
            Pass("meet", "tiles", "meet", reads=together, writes=together, data=True, params=params),
            Pass(
                "ahead",
                "tiles",
                "ahead",
                reads=("V", *shared),
                writes=("V", "total", "partial", *shared),
                data=True,
                params=params,
                ahead=True,
                consumes=("partial",),
            ),
        )

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (
            Pass("residual", "tiles", "residual", reads=("V",), writes=("total",), data=True),
            Pass("fold", "rows", "fold", reads=("total",), data=True),
        )

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Any:
        number = 0
        meeting, looking = self.epoch_passes(problem)
        residual_pass, fold_pass = self.other_passes(problem)
        for n_epochs in segments:
            sleep = problem.settings["sleep"]
            params = tuple({"step": 0.05 / (number + n + 1), "sleep": sleep} for n in range(n_epochs))
            first = number + 1
            results = yield Epochs(
                meeting, params, lambda n, parts, first=first: Epoch(first + n, parts["loss"])
            )
            number += len(results)
            yield looking
            yield residual_pass
            result = yield fold_pass
            yield Final(float(result["loss"]))
