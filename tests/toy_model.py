"""A model that writes row, col, cell and shared state: a contract test of the engine, not a method of learning.

Every visit changes the row sums U by the columns V and the reverse, so that a visit done twice, lost, or done at
the same time as a conflicting one changes the result.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.models.protocol import Epoch, Final, Kernel, Pass, Problem, StateSpec, Visit

N_COLS = 13


def initial_u(problem: Problem, bounds: Any) -> np.ndarray:
    return np.arange(bounds.lo, bounds.hi, dtype=np.float64) % 7 + 1.0


def visit(v: Visit) -> Mapping[str, Any]:
    rows, X = v.data
    time.sleep(v.params["sleep"])
    U, V = v.row["U"], v.col["V"]
    rng = np.random.default_rng(v.seed)
    for i in rng.permutation(v.n_rows):
        V[:] = 0.9 * V + 0.01 * U[i] * X[i]
        U[i] = 0.9 * U[i] + 0.01 * V.sum() + 1e-3 * v.shared["L"].sum()
    v.cell["C"][:] += U
    return {"seen": float(v.n_rows * V.size), "L": np.array([V.sum(), float(U.sum())]) * 1e-3}


def fold(v: Visit) -> Mapping[str, Any]:
    v.row["R"][:] = v.cell["C"].sum(axis=0)
    return {"total": float(v.row["R"].sum())}


def scale(v: Visit) -> Mapping[str, Any]:
    v.col["V"][:] *= v.params["by"]
    v.col["s"][:] = v.col["V"].sum()
    return {"norm": float((v.col["V"] ** 2).sum())}


def gather(v: Visit) -> Mapping[str, Any]:
    v.shared["M"][v.cols.lo : v.cols.hi] = v.col["V"]
    return {"blocks": 1.0}


class Toy:
    """All four kinds of state, all four kinds of pass."""

    name = "toy"
    epochs = 3
    col_axis = "things"
    block_cols = (1, 1000)
    tiles = False
    kernels = {"visit": Kernel(visit), "fold": Kernel(fold), "scale": Kernel(scale), "gather": Kernel(gather)}

    def defaults(self) -> Mapping[str, Any]:
        return {"by": 0.5, "learning_rate": None, "sleep": 0.0}

    def check(self, problem: Problem) -> None:
        pass

    def n_cols(self, problem: Problem) -> int:
        return N_COLS

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        return (
            StateSpec("U", "row", ("rows",), "float64", "row state", init=initial_u, export=True),
            StateSpec("R", "row", ("rows",), "float64", "sum of the row's cells", export=True),
            StateSpec("V", "col", ("cols",), "float64", "column state", init=1.0, export=True),
            StateSpec("s", "col", (1,), "float32", "a scalar per block"),
            StateSpec("C", "cell", ("rows",), "float64", "what a stripe saw of the row"),
            StateSpec("L", "shared", (2,), "float64", "sums everyone sees late", merge=True, export=True),
            StateSpec("M", "shared", (N_COLS,), "float64", "a copy of V made by one task", export=True),
        )

    def constants(self, problem: Problem) -> Mapping[str, Any]:
        return {}

    def prepare(self, panel: Any, problem: Problem, cols: Any) -> Any:
        sums = np.add.reduceat(np.append(panel.X.data, 0.0), panel.X.indptr[:-1]) * (
            np.diff(panel.X.indptr) > 0
        )
        return panel.row_ids, np.ascontiguousarray(sums, np.float64)

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        both, slow = ("U", "V", "L"), {"sleep": problem.settings["sleep"]}  # so that tests can kill what runs
        return (
            Pass("visit", "tiles", "visit", reads=both, writes=("U", "V", "C", "L"), data=True, params=slow),
            Pass("fold", "rows", "fold", reads=("C",), writes=("R",)),
        )

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (
            Pass(
                "scale",
                "cols",
                "scale",
                reads=("V",),
                writes=("V", "s"),
                params={"by": problem.settings["by"]},
            ),
            Pass("gather", "once", "gather", reads=("V",), writes=("M",)),
        )

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Any:
        number = 0
        scale_pass, gather_pass = self.other_passes(problem)
        for n_epochs in segments:
            total = 0.0
            for _ in range(n_epochs):
                number += 1
                for pass_ in self.epoch_passes(problem):
                    result = yield pass_
                total = float(result["total"])
                verdict = yield Epoch(number, total)
                if verdict.stop:
                    break
            result = yield scale_pass
            yield gather_pass
            yield Final(total + float(result["norm"]))
