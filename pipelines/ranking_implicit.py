"""RoBiRank on interactions, beside BPR and WARP on the same kernels and alternating least squares.

``implicit`` trains every method for several numbers of epochs, each from the start, and compares them at the time
that RoBiRank's default number takes, in processor time on one thread; precision against it is drawn. ``noise`` gives
users a fifth as many random items again to train on, and tells what each loss makes of it; small sets get several
draws.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from oocml import api
from oocml.engine.events import Event, RunDone, RunStarted
from oocml.models.robirank_implicit import RobirankImplicit

from .bench_options import one_thread
from .datasets import Splits
from .methods import Experiment, Method, Row, compare, lines, train
from .plots import Panel, curves
from .ranking_als import NAME as ALS
from .ranking_als import als_lines, is_installed
from .ranking_interactions import SETS, find_sets, noisy
from .ranking_options import Chosen
from .table import Finding, Section, write_csv

DEFAULT = "RoBiRank"
LOSSES: Mapping[str, Mapping[str, Any]] = {
    DEFAULT: {},
    "RoBiRank, logistic": {"surrogate": "logistic"},
    "BPR": {"loss": "bpr"},
    "WARP": {"loss": "warp"},
}
MORE_LOSSES: Mapping[str, Mapping[str, Any]] = {
    "RoBiRank, logistic, exact xi": {"surrogate": "logistic", "xi": "exact"},
    "RoBiRank, logistic, rho 2": {"surrogate": "logistic", "rho": 2},
}
SCORES = ("precision_at_1", "precision_at_10", "recall_at_20", "ndcg_at_10", "map", "auc")
COLUMNS = ("dataset", "method", "epochs", "cpu_seconds", "seconds", *SCORES, "note")
EPOCHS = (1, 2, 5, 15, 30)
MORE_EPOCHS = (1, 2, 3, 5, 8, 15, 30, 60)
BLOCKS = 4
CUT = 16
CRITERION = "ndcg_at_10"
GOALS = {("gowalla", CRITERION): 0.115, ("gowalla", "recall_at_20"): 0.160, ("lastfm_2k", CRITERION): 0.22}
LEAST_OF_BLOCKS, APART = 0.98, 0.02
"""What items in 16 blocks must reach of one block, and how far schedules may be apart."""
SMALL = 500_000
"""Interactions up to which noise is drawn several times."""
NOISE_GOALS = {DEFAULT: (0.04, False), "BPR": (0.07, True)}
"""How much of NDCG@10 random items may, or must at least, cost."""


def implicit(options: Chosen) -> Section:
    """The section: a line for every set and method, at equal time."""
    section = Section("implicit", "items for users: the longest training in the time of RoBiRank's default")
    lengths = MORE_EPOCHS if options.full else EPOCHS
    once = Experiment(
        "robirank-implicit", options.out, (RobirankImplicit.epochs,), SCORES, options={"seed": options.seed}
    )
    sets = list(find_sets(options.sets or SETS, options.data, options.data_dir, options.seed))
    rows = timed(sets, losses(options.full), replace(once, epochs=lengths))
    rows += compare(sets, cuts(), once)
    if is_installed():
        with one_thread():
            for splits in sets:
                rows += als_lines(splits, RobirankImplicit().defaults()["n_factors"], lengths, options.seed)
    else:
        section.notes.append(f"{ALS} left out: implicit is not installed")
    write_csv(rows, options.out / "implicit-curves.csv")
    names = [splits.name for splits in sets]
    panels = [
        Panel(name, "cpu_seconds", y, log=False)
        for y in ("precision_at_1", "precision_at_10")
        for name in names
    ]
    if panels:
        curves(rows, panels, options.out / "implicit.png", n_columns=len(names))
    for name in names:
        at_equal_time = longest_within([row for row in rows if row["dataset"] == name])
        section.rows += [{column: row.get(column) for column in COLUMNS} for row in at_equal_time]
        judge(name, at_equal_time, section)
    return section


class ProcessorTime:
    """A monitor that measures the processor time of a training in this process."""

    def __init__(self) -> None:
        self.seconds = self._began = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._began, self.seconds = time.process_time(), math.nan  # of a training that fails
        elif isinstance(event, RunDone):
            self.seconds = time.process_time() - self._began


def timed(sets: Sequence[Splits], methods: Sequence[Method], experiment: Experiment) -> list[Row]:
    """`compare` for methods of this process, with the processor time of every line; the table is written after each."""
    clock, rows = ProcessorTime(), []
    experiment = replace(experiment, options={**experiment.options, "also": (clock,)})
    for splits in sets:
        for method in methods:
            train(splits, method, experiment, 1)  # compiles what is missing
            for n_epochs in experiment.epochs:
                for row in lines(splits, method, replace(experiment, epochs=(n_epochs,))):
                    rows.append({**row, "cpu_seconds": clock.seconds})
            write_csv(rows, experiment.table)
    return rows


def losses(full: bool) -> list[Method]:
    """All in one process."""
    found = {**LOSSES, **MORE_LOSSES} if full else LOSSES
    return [Method(name, settings=settings) for name, settings in found.items()]


def cuts() -> list[Method]:
    """RoBiRank with items in one block and in many, and with workers."""
    found = [Method(f"{DEFAULT}, one block", row_blocks=1, col_blocks=1)]
    found.append(Method(f"{DEFAULT}, {CUT} blocks", row_blocks=1, col_blocks=CUT))
    for schedule, workers in (("sync", 1), ("sync", 2), ("async", 2)):
        blocks: Row = {"row_blocks": BLOCKS, "col_blocks": CUT}
        found.append(Method(f"{DEFAULT}, {schedule}, workers: {workers}", schedule, workers, **blocks))
    return found


def longest_within(rows: Sequence[Row]) -> list[Row]:
    """Of every loss the longest training that took no longer than the default one; the shortest if all did.

    Blocks and workers are shown as they are, whatever they took.
    """
    n_epochs, cut = RobirankImplicit.epochs, {method.name for method in cuts()}
    budget = next(
        (r["cpu_seconds"] for r in rows if r["method"] == DEFAULT and r["epochs"] == n_epochs), float("inf")
    )
    chosen: dict[str, Row] = {}
    for row in rows:
        name = row["method"]
        if name in cut or name == DEFAULT:
            fits = row["epochs"] == n_epochs
        else:
            fits = row.get("cpu_seconds", 0.0) <= budget
        if fits or name not in chosen:
            chosen[name] = row
    return list(chosen.values())


def judge(name: str, rows: Sequence[Row], section: Section) -> None:
    """Hold a set's lines against the goals."""
    by = {row["method"]: row for row in rows if row.get(CRITERION) is not None}
    if DEFAULT not in by:
        return
    for (of_set, metric), goal in GOALS.items():
        if of_set == name:
            section.add(f"{name}: {metric} of {DEFAULT}", by[DEFAULT][metric], goal)
    whole, cut = (by.get(f"{DEFAULT}, {blocks}") for blocks in ("one block", f"{CUT} blocks"))
    if whole and cut:
        of = cut[CRITERION] / whole[CRITERION]
        section.add(f"{name}: {CRITERION} with {CUT} blocks of items over that with one", of, LEAST_OF_BLOCKS)
    sync, nomad = (by.get(f"{DEFAULT}, {schedule}, workers: 2") for schedule in ("sync", "async"))
    if sync and nomad:
        apart = abs(nomad[CRITERION] / sync[CRITERION] - 1)
        section.findings.append(
            Finding(f"{name}: {CRITERION} of async apart from sync", apart, APART, at_least=False)
        )
    if ALS in by:
        section.add(
            f"{name}: {CRITERION} of {DEFAULT} over that of {ALS}",
            by[DEFAULT][CRITERION] / by[ALS][CRITERION],
        )


def noise(options: Chosen) -> Section:
    """The section: what random items among the training's cost each loss."""
    section = Section("noise", "a fifth as many random items again: cost in NDCG@10, items in one block")
    experiment = Experiment(
        "robirank-implicit", options.out, (RobirankImplicit.epochs,), SCORES, options={"seed": options.seed}
    )
    whole: Row = {"row_blocks": 1, "col_blocks": 1}
    tried = [Method(name, settings=settings, **whole) for name, settings in LOSSES.items()]
    for clean in find_sets(options.sets or SETS, options.data, options.data_dir, options.seed):
        n_draws = options.repeats if api.open_dataset(clean.train).nnz < SMALL else 1
        worse = [noisy(clean, options.data, options.seed + draw) for draw in range(n_draws)]
        found = defaultdict(list)
        for row in compare([clean, *worse], tried, experiment):
            found[row["method"], row["dataset"] == clean.name].append(row.get(CRITERION, float("nan")))
        for name in LOSSES:
            before, after = fmean(found[name, True]), fmean(found[name, False])
            section.rows.append(
                {
                    "dataset": clean.name,
                    "method": name,
                    "draws": n_draws,
                    "clean": before,
                    "noisy": after,
                    "cost": 1 - after / before,
                }
            )
            if name in NOISE_GOALS:
                goal, at_least = NOISE_GOALS[name]
                what = f"{clean.name}: cost of noise with {name}"
                section.findings.append(Finding(what, 1 - after / before, goal, at_least=at_least))
    return section
