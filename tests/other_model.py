"""A model that uses what the toy does not: a contract test of the engine, not a method of learning.

Arrays that start every pass anew, a shared array that tasks write in turn, one that is only added up, sweeps with
scratch that end early, rows passes with data, integers, scalars and empty arrays; and a program that computes with
its results and changes them in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.models.protocol import Epoch, Final, Kernel, Pass, Problem, Scratch, StateSpec, Visit

N_COLS = 7


def some_numbers(problem: Problem, bounds: Any) -> np.ndarray:
    return np.sin(np.arange(bounds.lo, bounds.hi) + 1.0)


def both(v: Visit) -> Mapping[str, Any]:
    v.row["n"][:] += v.row["n"] % 5 + 1
    v.col["w"][:] = (0.9 * v.col["w"] + np.float32(1e-3) * (v.row["n"].sum() % 97) + v.data.sum()).astype(
        "f4"
    )
    return {"turned": np.array([v.col["w"].sum() * 1e-3, 1 / 3])}


def anew(v: Visit) -> Mapping[str, Any]:
    v.col["acc"][:] = v.col["acc"] * 1.01 + v.data.sum() + v.shared["t"]
    return {"m": v.col["acc"].sum() / 7, "spread": np.exp(v.col["acc"].mean() * 1e-2)}


def rows_alone(v: Visit) -> Mapping[str, Any]:
    v.row["x"][:] = 0.5 * v.row["x"] + v.col["acc"].mean() + v.shared["m"]
    return {"x": v.row["x"].sum()}


def sweep(v: Visit) -> Mapping[str, Any]:
    v.scratch["old"][:] = v.col["w"]
    v.scratch["whole"][: v.n_rows] += v.data
    v.col["w"][:] = np.tanh(v.col["w"] + v.scratch["whole"].mean())
    if v.last:
        v.cell["c"][:] = v.col["w"].sum() + v.data
    return {"sweeps": 1.0}


def end_sweep(v: Visit) -> Mapping[str, Any]:
    return {"ends": float(v.sweep), "moved": np.abs(v.scratch["old"] - v.col["w"]).sum()}


def settled(v: Visit) -> bool:
    return v.sweep >= 1 and v.cols.lo % 2 == 0


def take_turns(v: Visit) -> None:
    v.shared["t"][...] = 0.7 * v.shared["t"] + v.col["w"].sum() * 1e-2


def fold(v: Visit) -> Mapping[str, Any]:
    v.row["x"][:] += v.cell["c"].sum(axis=0) + v.data
    return {"late": v.row["x"].sum() * 1e-3, "seed": v.seed % 1000 / 1000}


def finish(v: Visit) -> Mapping[str, Any]:
    v.col["w"][:] *= v.params["by"]
    return {"norm": np.square(v.col["w"].astype(np.float64)).sum(), "vector": v.col["acc"].sum(axis=0)}


class Other:
    """All that the toy leaves out."""

    name = "other"
    epochs = 3
    col_axis = "things"
    block_cols = (1, 2)
    tiles = False
    kernels = {
        "both": Kernel(both),
        "anew": Kernel(anew),
        "rows_alone": Kernel(rows_alone),
        "sweep": Kernel(sweep, end_sweep, settled),
        "take_turns": Kernel(take_turns),
        "fold": Kernel(fold),
        "finish": Kernel(finish),
    }

    def defaults(self) -> Mapping[str, Any]:
        return {}

    def check(self, problem: Problem) -> None:
        pass

    def n_cols(self, problem: Problem) -> int:
        return N_COLS

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        return (
            StateSpec("n", "row", ("rows",), "int64", "whole numbers", init=1, export=True),
            StateSpec("x", "row", ("rows",), "float64", "numbers", init=some_numbers, export=True),
            StateSpec("w", "col", ("cols",), "float32", "weights", init=0.5, export=True),
            StateSpec("acc", "col", ("cols", 2), "float64", "begun anew in every pass", init=3.0),
            StateSpec("none", "col", ("cols", 0), "float32", "nothing at all", export=True),
            StateSpec("c", "cell", ("rows",), "float64", "cells"),
            StateSpec(
                "t", "shared", (), "float64", "a scalar that tasks write in turn", init=1.0, export=True
            ),
            StateSpec("m", "shared", (), "float64", "a sum of one pass", merge=True, export=True),
            StateSpec("late", "shared", (1,), "float64", "a sum of all passes", merge=True),
        )

    def constants(self, problem: Problem) -> Mapping[str, Any]:
        return {}

    def prepare(self, panel: Any, problem: Problem, cols: Any) -> Any:
        return np.cos(panel.row_ids.astype(np.float64))

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        scratch = (Scratch("old", ("cols",)), Scratch("whole", (64,), "float64"))
        return (
            Pass("both", "tiles", "both", reads=("n", "w", "none"), writes=("n", "w", "none"), data=True),
            Pass("anew", "tiles", "anew", reads=("w", "t"), writes=("acc", "m"), data=True),
            Pass("rows", "tiles", "rows_alone", reads=("x", "acc", "m"), writes=("x",), data=True),
            Pass("sweep", "tiles", "sweep", ("w",), ("w", "c"), data=True, sweeps=5, scratch=scratch),
            Pass("turns", "tiles", "take_turns", reads=("t", "w"), writes=("t",), data=True),
            Pass("fold", "rows", "fold", reads=("x", "c", "late"), writes=("x", "late"), data=True),
        )

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (Pass("finish", "cols", "finish", reads=("w", "acc"), writes=("w",), params={"by": 0.5}),)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Any:
        number, by = 0, 0.5
        for n_epochs in segments:
            for _ in range(n_epochs):
                number += 1
                total = 0.0
                for pass_ in self.epoch_passes(problem):
                    result = yield pass_
                    total += sum(float(np.sum(value)) for value in result.values())
                    for value in result.values():
                        if np.ndim(value):
                            value *= 0.5  # results are the program's own
                verdict = yield Epoch(number, total)
                if verdict.stop:
                    break
                by = 1 / (1 + abs(total) % 3)
            result = yield Pass(
                "finish", "cols", "finish", reads=("w", "acc"), writes=("w",), params={"by": by}
            )
            result["vector"] += 1
            yield Final(float(result["norm"]) + float(result["vector"].sum()))
