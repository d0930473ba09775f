"""Benchmarks of matrix factorization: the bare kernel, in memory against out of core, and time to a test error.

    python -m pipelines.bench_mf                          everything, small: two minutes
    python -m pipelines.bench_mf --only kernel,time_to
    python -m pipelines.bench_mf --full --data-dir FILES --memcap PROGRAM

Every section prints a table and writes a CSV file; figures with a goal go to a second one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from oocml import api
from oocml.kernels.mf import Side, Step, mf_visit
from oocml.kernels.noise import visiting_order
from oocml.store.buffers import aligned_empty
from oocml.types import Csr

from . import datasets, movielens
from .bench_mlr_kernel import cpu_seconds
from .bench_options import Options, interleaved, median, one_thread, say
from .process import train_alone
from .sections import benchmark
from .table import Finding, Section
from .training import discard, measure

FACTORS = (32, 64, 128)
TILES = {"tile of 1,000 x 1,000": (1000, 1000, 100), "all of 40,000 x 20,000": (40_000, 20_000, 50)}
"""Rows, columns and ratings per row."""
UPDATES = 2_000_000
"""Of one timed call."""
GOALS = {("adagrad", 32): 28.0, ("adagrad", 64): 28.0, ("plain", 32): 45.0, ("plain", 64): 45.0}
"""M ratings/s of one core on the first of `TILES`."""
SHAPES = {
    False: {"rows": 120_000, "cols": 30_000, "nnz_per_row": 1000.0},
    True: {"rows": 200_000, "cols": 40_000, "nnz_per_row": 1000.0},
}
IN_MEMORY, OUT_OF_CORE = "6GiB", "700MiB"
LIMIT = "1G"
"""Of the memory cgroup, as `memcap` takes it."""
EPOCHS, TURNS = 3, 2
GOAL_SHARE = 0.75
GOAL_RMSE, GOAL_S = 0.905, 0.5


class BareTile:
    """The kernel's visit of one tile, all in memory, with biases.

    Parameters
    ----------
    shape
        Rows, columns, ratings per row.
    adagrad
        Else plain steps.
    """

    def __init__(self, shape: tuple[int, int, int], n_factors: int, *, adagrad: bool) -> None:
        n_rows, n_cols, per_row = shape
        rng = np.random.default_rng(0)
        columns = np.sort(rng.integers(n_cols, size=(n_rows, per_row)), axis=1)
        ratings = rng.integers(1, 6, size=n_rows * per_row).astype(np.float32)
        self.tile = Csr(np.arange(n_rows + 1) * per_row, columns.astype(np.int32).ravel(), ratings)
        self.order = visiting_order(self.tile.indptr, 0)
        self.rows, self.cols = (random_side(rng, n, n_factors) for n in (n_rows, n_cols))
        self.step = Step(
            eta=np.float32(0.01),
            l2=np.float32(0.05),
            floor=np.float32(-np.inf),
            adagrad=adagrad,
            biases=True,
            weighted=True,
            center=np.float32(3),
            inverse_scale=np.float32(0.7),
        )

    def visit(self) -> float:
        """Mean loss just before each step."""
        loss, _ = mf_visit(self.tile, self.order, self.rows, self.cols, self.step)
        return float(loss) / len(self.tile.data)

    def rate(self) -> float:
        """Ratings per second of processor time."""
        n = max(1, UPDATES // len(self.tile.data))
        return n * len(self.tile.data) / cpu_seconds(lambda: [self.visit() for _ in range(n)])


def random_side(rng: np.random.Generator, n: int, n_factors: int) -> Side:
    F = aligned_empty((n, n_factors), "float32")
    F[...] = rng.normal(scale=0.1, size=F.shape)
    return Side(F, np.zeros(n, np.float32), np.ones((n, 2), np.float32), np.full(n, 50, np.float32))


def kernel(options: Options) -> Section:
    """Ratings/s by number of factors and kind of step, on a tile that fits the caches and on one that doesn't."""
    section = Section("kernel", "the bare visit with biases, one thread, M ratings/s (median)")
    with one_thread():
        for name, shape in TILES.items():
            for n_factors in FACTORS:
                tiles = {k: BareTile(shape, n_factors, adagrad=k == "adagrad") for k in ("adagrad", "plain")}
                for tile in tiles.values():
                    tile.rate()  # compiles, and touches every page
                taken = interleaved({k: tile.rate for k, tile in tiles.items()}, options.repeats)
                for step, rates in taken.items():
                    row = {"ratings": name, "factors": n_factors, "step": step}
                    spread = {"worst": min(rates) / 1e6, "best": max(rates) / 1e6}
                    section.rows.append({**row, "M_ratings_per_s": median(rates) / 1e6, **spread})
                    if shape == next(iter(TILES.values())) and (step, n_factors) in GOALS:
                        what = f"M ratings/s per core, {step}, {n_factors} factors, {name}"
                        section.add(what, median(rates) / 1e6, GOALS[step, n_factors])
    section.notes.append("per second of processor time: what else runs on the machine matters little")
    return section


def out_of_core(options: Options) -> Section:
    """Whole trainings on the same ratings, all cached and hardly anything cached, in turns."""
    title = f"epochs after the first of {EPOCHS}, one worker, 64 factors"
    section = Section("out_of_core", title)
    splits = datasets.planted("ml_100k", options.data, task="factors", **SHAPES[options.full])
    nnz = api.open_dataset(splits.train).nnz
    caps = {"in memory": (IN_MEMORY, ()), "out of core": (OUT_OF_CORE, ())}
    if options.memcap:
        caps["out of core, limited"] = (OUT_OF_CORE, (options.memcap, LIMIT))
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in caps}
    for _ in range(TURNS):
        for name, (memory, under) in caps.items():
            say(f"out_of_core: {name}")
            train = {"epochs": EPOCHS, "memory": memory, "workers": 1}
            what = ("mf", splits.train)
            taken[name].append(train_alone(what, options.scratch, train, {"n_factors": 64}, under))
    for name, summaries in taken.items():
        section.rows.append(training_row(name, caps[name][0], nnz, summaries))
    rates = {row["case"]: row["M_ratings_per_s"] for row in section.rows}
    for name in [name for name in rates if name != "in memory"]:
        section.add(f"rate {name} / in memory", rates[name] / rates["in memory"], GOAL_SHARE)
    if not options.memcap:
        section.notes.append("no --memcap PROGRAM given: the page cache was not limited")
    section.notes.append("both write their factors to disk; in memory nothing is read after the first epoch")
    return section


def training_row(name: str, memory: str, nnz: int, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """The best of the turns: what disturbs a training only ever makes it slower."""
    last = summaries[-1]
    layout = last["config"]["layout"]
    spans = [s["history"][-1]["seconds"] - s["history"][0]["seconds"] for s in summaries]
    return {
        "case": name,
        "memory": memory,
        "row_blocks": len(layout["row_bounds"]) - 1,
        "col_blocks": len(layout["col_bounds"]) - 1,
        "M_ratings_per_s": nnz * (EPOCHS - 1) / min(spans) / 1e6,
        "worst": nnz * (EPOCHS - 1) / max(spans) / 1e6,
        "read_MiB_per_epoch": last["history"][-1]["read_bytes"] / 2**20,
        "write_MiB_per_epoch": last["history"][-1]["write_bytes"] / 2**20,
        "peak_MiB": max(s["peak_memory_bytes"] for s in summaries) / 2**20,
    }


def time_to(options: Options) -> Section:
    """MovieLens 100K with all defaults, nine ratings in ten, in one process."""
    section = Section(
        "time_to", "MovieLens 100K, defaults, one process: seconds from first dispatch to last commit"
    )
    splits = movielens.ratings(options.data, options.data_dir)
    seconds, scores = [], {}
    for turn in range(1 + options.repeats):
        done = measure(splits.train, options.scratch, {}, model="mf", schedule="serial")
        if turn:  # the first one compiles
            seconds.append(done.seconds)
        else:
            scores = done.run.evaluate(str(splits.test))
        discard(options.scratch)
    row = {"epochs": done.summary["epochs"], "seconds": median(seconds), "best": min(seconds)}
    section.rows.append({**row, "rmse": scores["rmse"], "mae": scores["mae"]})
    section.findings.append(Finding("test RMSE", scores["rmse"], GOAL_RMSE, at_least=False))
    section.findings.append(Finding("seconds of training", median(seconds), GOAL_S, at_least=False))
    return section


SECTIONS: dict[str, Callable[[Options], Section]] = {
    "kernel": kernel,
    "out_of_core": out_of_core,
    "time_to": time_to,
}


main = benchmark(
    "matrix factorization",
    SECTIONS,
    folder="oocml-bench-mf",
    full="The sizes of the goals: 200 M ratings, 1.6 GB.",
    files="ml-100k/ml-100k.inter",
)

if __name__ == "__main__":
    main()
