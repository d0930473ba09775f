"""Two small models: state that belongs to entries of tiles, and to batches of a panel's rows; shares and turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oocml.models.protocol import Epoch, Final, Kernel, Pass, Problem, StateSpec, Visit
from oocml.types import Csr

BATCH_ROWS = 3
N_SHARES = 2


def remember(v: Visit) -> Mapping[str, Any]:
    """Keep every entry, and add what was kept of it before; the task's own copy of the sum is up to date."""
    assert v.cell["kept"].shape == (len(v.data.data), 2)
    v.cell["kept"][:, 0] += v.data.data
    v.cell["kept"][:, 1] = v.data.indices + v.cols.lo
    total = float(v.cell["kept"][:, 0].sum())
    seen = float(v.shared["sum"][0])
    v.shared["sum"] += total
    return {"sum": np.array([total]), "seen": seen, "total": total}


def sums(v: Visit) -> Mapping[str, Any]:
    """Keep the sum of each batch of rows in place of the one before."""
    starts = np.arange(0, v.n_rows, BATCH_ROWS)
    assert v.row["sums"].shape == (len(starts), 2)
    for b, lo in enumerate(starts):
        hi = min(lo + BATCH_ROWS, v.n_rows)
        new = v.data.data[v.data.indptr[lo] : v.data.indptr[hi]].sum()
        v.row["sums"][b] = new, hi - lo
    return {"rows": float(v.n_rows)}


def add(v: Visit) -> Mapping[str, Any]:
    return {"sums": v.row["sums"].sum(axis=0)}


class Entries:
    """Cells with an item for every entry."""

    name, epochs, col_axis, tiles, block_cols = "entries", 3, "features", True, (1, 2**31)
    kernels: Mapping[str, Kernel] = {"remember": Kernel(remember)}

    def defaults(self) -> Mapping[str, Any]:
        return {"at_once": 0}

    def check(self, problem: Problem) -> None:
        pass

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        return (
            StateSpec("kept", "cell", ("entries", 2), "float32", "of every entry"),
            StateSpec("sum", "shared", (1,), "float64", "sum of all", merge=True, export=True),
        )

    def constants(self, problem: Problem) -> Mapping[str, Any]:
        return {}

    def prepare(self, panel: Any, problem: Problem, cols: Any) -> Csr:
        return panel.X

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        both, at_once = ("kept", "sum"), problem.settings["at_once"]
        return (Pass("remember", "tiles", "remember", both, both, data=True, at_once=at_once),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return ()

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Any:
        for number in range(1, sum(segments) + 1):
            found = yield self.epoch_passes(problem)[0]
            yield Epoch(number, found["total"], extra={"seen": found["seen"]})
        yield Final(found["total"])


class Batches(Entries):
    """Rows in batches, a share of them at a time."""

    name, tiles = "batches", False
    kernels = {"sums": Kernel(sums), "add": Kernel(add)}

    def n_cols(self, problem: Problem) -> int:
        return 1

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        return (
            StateSpec(
                "sums", "row", ("batches", 2), "float64", "of every batch", init=0.0, batch_rows=BATCH_ROWS
            ),
        )

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return tuple(
            Pass("sums", "tiles", "sums", writes=("sums",), data=True, share=(i, N_SHARES))
            for i in range(N_SHARES)
        )

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (Pass("add", "rows", "add", reads=("sums",)),)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Any:
        for number in range(1, sum(segments) + 1):
            rows = []
            for share in self.epoch_passes(problem):
                found = yield share
                rows.append(found["rows"])
            totals = yield self.other_passes(problem)[0]
            total, n_rows = totals["sums"].tolist()
            yield Epoch(number, total, extra={"n_rows": n_rows, "first": rows[0], "second": rows[1]})
        yield Final(total)
