"""RoBiRank on interactions: latent collaborative retrieval, by stochastic gradient steps on tiles.

User x scores item y by u_x . v_y + b_y. The objective is the mean over the observed pairs of

    rho(S_xy) + l2 / 2 (|u_x|^2 + |v_y|^2),        S_xy = sum over y' of sigma(s_xy - s_xy')

with y' all items that are not positive for x. Here sigma bounds the indicator of a negative number, so that S
bounds the rank, and rho is concave, so that pairs that are hopeless have little weight (Yun, Raman and
Vishwanathan, NIPS 2014). sigma(t) = 2^-t (``surrogate=exp``) couples the items through one number per user,
sigma(t) = log2(1 + 2^-t) through one weight xi per pair. ``loss`` bpr and warp are the usual baselines on the same
state and kernels. A visit changes its row block and its column block alone, so tiles that share neither may be
visited at once. Mathematics: ``kernels.robirank_implicit`` and its neighbours.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from oocml.kernels.robirank_implicit_sums import NODES
from oocml.models.initial_factors import col_factors, row_factors
from oocml.models.protocol import (
    Array,
    Epoch,
    Epochs,
    Final,
    Kernel,
    Parts,
    Pass,
    Problem,
    Program,
    Scratch,
    Settings,
    StateSpec,
)
from oocml.models.robirank_implicit_scoring import RobirankImplicitScoring
from oocml.models.robirank_implicit_settings import (
    DEFAULTS,
    LEAST_NEGATIVES,
    check_settings,
    first_rate,
    is_softmax,
    keeps_xi,
    measured_weights,
    n_negatives,
    rank_loss,
    ridge,
    uses_xi,
)
from oocml.models.robirank_implicit_visits import KERNELS
from oocml.models.step_sizes import learning_rates
from oocml.types import Bounds, Csr, Panel

SPREAD = 0.8
"""Standard deviation of the factors at the start, times the root of their number."""
FIRST_SQUARES = 0.01
CACHED_COLS = 4096
"""Of a column block whose factors stay in the second-level cache."""
WIDE_COLS = 2**16
"""Of a column block that takes more than any cache."""
WARM_SHARE = 0.5
"""Share of the epochs that train rho1 before rho2, whose weights say nothing while all ranks are bad."""
MARK = Scratch("mark", ("cols",), "int32")
DRAWS = (Scratch("pairs", ("cols",)), MARK)
SCORED = ("U", "V", "col_bias")


def initial_row_factors(problem: Problem, bounds: Bounds) -> Array:
    return row_factors(problem, bounds, _spread(problem))


def initial_col_factors(problem: Problem, bounds: Bounds) -> Array:
    return col_factors(problem, bounds, _spread(problem))


def _spread(problem: Problem) -> float:
    return float(SPREAD / np.sqrt(int(problem.settings["n_factors"])))


def not_visited(problem: Problem, bounds: Bounds) -> Array:
    del problem, bounds
    return np.array([-1, 0], np.float32)


def no_extent(problem: Problem, bounds: Bounds) -> Array:
    del problem, bounds
    return np.array([np.finfo(np.float32).max, np.finfo(np.float32).min, 0], np.float32)


class RobirankImplicit:
    """RoBiRank on interactions."""

    name = "robirank-implicit"
    epochs = 15
    col_axis = "items"
    block_cols = (1, 2**31 - 1)
    tiles = True
    kernels: Mapping[str, Kernel] = KERNELS

    def defaults(self) -> Settings:
        """Settings and their defaults.

        ``n_factors`` 64. ``loss`` robirank, bpr or warp. ``surrogate`` exp or logistic; of logistic also ``rho`` 1
        or 2 and ``xi`` sampled (found in each visit) or exact (kept per pair, and renewed every ``refresh`` epochs;
        at most ``weight_cap`` over the number of items is used of it). ``n_negatives`` (None: 256, and 512 of more
        than 10,000 items) per user over all items. ``l2`` (None: see `robirank_implicit_settings.ridge`) per pair.
        ``learning_rate`` (None: 0.2) of AdaGrad, falling linearly to 0. ``weighted``: pairs count as often as their
        values say. ``measured_items``: how many are in the sums of the objective (a fixed sample).
        """
        return DEFAULTS

    def chosen_settings(self, problem: Problem) -> Settings:
        """The ridge, the first step and the number of negatives."""
        return {
            "l2": ridge(problem),
            "learning_rate": first_rate(problem),
            "n_negatives": n_negatives(problem),
        }

    def check(self, problem: Problem) -> None:
        """Raise `InputError` for data without interactions, `UsageError` for settings without a meaning."""
        check_settings(problem)

    def notice(self, problem: Problem) -> str | None:
        """What to say of data that are probably not interactions."""
        if problem.label_kind == "none":
            return None
        return (
            "robirank of items takes every feature of a row for an item that a user had, and has no use for the rows' "
            "labels; to rank rows by them, ingest the data as letor"
        )

    def n_cols(self, problem: Problem) -> int:
        return problem.n_features

    def epoch_elements(self, problem: Problem, col_blocks: int) -> float:
        """Numbers of column state that an epoch touches with so many column blocks, for the plan."""
        per_item = float(problem.settings["n_factors"]) + 3
        if problem.settings["loss"] == "warp":
            return 2.0 * problem.nnz * per_item
        wanted = n_negatives(problem)
        drawn = max(wanted, col_blocks * min(LEAST_NEGATIVES, wanted))
        visits = float(problem.n_rows) * drawn
        if not is_softmax(problem):  # of users without positives in a tile it sees nothing
            visits = min(visits, float(problem.nnz) * drawn / col_blocks)
        return (problem.nnz + visits) * per_item

    def fewest_col_blocks(self, problem: Problem) -> int:
        """As many as fit the cache, but not so many that visits would draw more negatives than they were to.

        Where even those would be too wide for any cache, their number is left to what they cost to move.
        """
        most = max(1, n_negatives(problem) // LEAST_NEGATIVES)
        if problem.n_features > most * WIDE_COLS:
            return 1
        return min(-(-problem.n_features // CACHED_COLS), most)

    def state(self, problem: Problem) -> tuple[StateSpec, ...]:
        f32, k = "float32", int(problem.settings["n_factors"])
        squares = "sums of squared gradients, of the factors (mean)"
        specs = [
            StateSpec("U", "row", ("rows", k), f32, "factors of users", initial_row_factors, export=True),
            StateSpec("V", "col", ("cols", k), f32, "factors of items", initial_col_factors, export=True),
            StateSpec("col_bias", "col", ("cols",), f32, "biases of items", export=True),
            StateSpec("row_count", "row", ("rows",), f32, "positive items of users", export=True),
            StateSpec("row_squares", "row", ("rows",), f32, squares, FIRST_SQUARES),
            StateSpec("col_squares", "col", ("cols", 2), f32, f"{squares} and the bias", FIRST_SQUARES),
            StateSpec("measured", "col", ("cols",), f32, "weights in the objective's sums", measured_weights),
        ]
        if is_softmax(problem):
            doc = "Z_x and R_x of the items so far, and their number"
            specs += [
                StateSpec("totals", "row", ("rows", 3), "float64", doc),
                StateSpec("shares", "cell", ("rows", 2), f32, "share of Z_x and of R_x", not_visited),
                StateSpec("partition", "row", ("rows",), "float64", "Z_x as measured"),
            ]
            return tuple(specs)
        doc = "lowest and highest score of positives, their number"
        specs += [
            StateSpec("extent", "row", ("rows", 3), f32, doc, no_extent),
            StateSpec("nodes", "row", ("rows", NODES), f32, "scores of the first positives"),
            StateSpec("node_sums", "row", ("rows", NODES), f32, "rank sums at the nodes"),
        ]
        if keeps_xi(problem):
            specs.append(StateSpec("xi", "cell", ("entries",), f32, "weights of pairs", init=1.0))
        return tuple(specs)

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        return {}

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Csr:
        return panel.X

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        return (visit_pass(problem),)

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        passes = [COUNT, measure_pass(problem)]
        if is_softmax(problem):
            passes.append(PARTITION)
        else:
            passes += [COLLECT, sums_pass(every_item=False)]
        if keeps_xi(problem):
            passes += [sums_pass(every_item=True), refresh_pass(1)]
        return tuple(passes)

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """Count positives; then per segment the epochs (with tours of rank sums if xi is kept) and the objective."""
        yield COUNT
        number = 0
        train = epochs_with_tours if keeps_xi(problem) else epochs_at_once
        for n_epochs in segments:
            number += yield from train(problem, number, n_epochs)
            if is_softmax(problem):
                yield PARTITION
            else:
                yield COLLECT
                yield sums_pass(every_item=False)
            measured = yield measure_pass(problem)
            yield Final(mean_objective(problem, measured), extra={"loss": measured["loss"] / problem.nnz})

    def scoring(self, problem: Problem, top: int) -> RobirankImplicitScoring:
        return RobirankImplicitScoring(problem, top)


COUNT = Pass("count", "tiles", "count", writes=("row_count",), data=True)
PARTITION = Pass(
    "partition",
    "tiles",
    "sum_partition",
    reads=(*SCORED, "measured"),
    writes=("partition",),
    data=True,
    scratch=(MARK,),
)
COLLECT = Pass("nodes", "tiles", "collect_nodes", reads=SCORED, writes=("extent", "nodes"), data=True)


def sums_pass(*, every_item: bool) -> Pass:
    return Pass(
        "rank sums",
        "tiles",
        "sum_ranks",
        reads=(*SCORED, "measured", "extent", "nodes"),
        writes=("node_sums",),
        data=True,
        scratch=(MARK,),
        params={"every_item": every_item},
    )


def refresh_pass(rho: int) -> Pass:
    reads = (*SCORED, "extent", "nodes", "node_sums")
    return Pass("refresh", "tiles", "refresh", reads=reads, writes=("xi",), data=True, params={"rho": rho})


def measure_pass(problem: Problem) -> Pass:
    sums = ("partition",) if is_softmax(problem) else ("extent", "nodes", "node_sums")
    params = {
        "l2": ridge(problem),
        "rho": rank_loss(problem),
        "n_items": problem.n_features,
        "weighted": bool(problem.settings["weighted"]),
    }
    return Pass("measure", "tiles", "measure", reads=(*SCORED, *sums), data=True, params=params)


def visit_pass(problem: Problem) -> Pass:
    """An epoch; ``learning_rate`` and ``rho`` are still to be added to its ``params``."""
    settings = problem.settings
    changed: tuple[str, ...] = ("U", "row_squares", "V", "col_bias", "col_squares")
    kernel = "visit_warp" if settings["loss"] == "warp" else "visit_pairs"
    if is_softmax(problem):
        changed += ("totals", "shares")
        kernel = "visit_softmax"
    params = {
        "learning_rate": 0.0,
        "rho": rank_loss(problem),
        "stored": keeps_xi(problem),
        "cap": float(settings["weight_cap"]) if keeps_xi(problem) else np.finfo(np.float32).max.item(),
        "l2": ridge(problem),
        "n_items": problem.n_features,
        "n_negatives": n_negatives(problem),
        "least": LEAST_NEGATIVES,
        "weighted": bool(settings["weighted"]),
    }
    reads = (*changed, "xi") if keeps_xi(problem) else changed
    return Pass("visit", "tiles", kernel, reads, changed, data=True, scratch=DRAWS, params=params)


def rho_of(problem: Problem, epoch: int, n_epochs: int) -> int:
    """The rho of an epoch (from 0) of a segment: rho2 is begun with rho1."""
    rho = rank_loss(problem)
    return 1 if uses_xi(problem) and epoch < WARM_SHARE * n_epochs else rho


def epochs_at_once(problem: Problem, before: int, n_epochs: int) -> Generator[Any, Any, int]:
    """Epochs of which none waits for another; returns how many were run."""
    rates = learning_rates("adagrad", first_rate(problem), n_epochs)
    params = tuple(
        {"learning_rate": rate, "rho": rho_of(problem, e, n_epochs)} for e, rate in enumerate(rates)
    )
    ends = partial(epoch_of, problem, before, rates)
    results = yield Epochs(visit_pass(problem), params, ends)
    return len(results)


def epochs_with_tours(problem: Problem, before: int, n_epochs: int) -> Generator[Any, Any, int]:
    """Epochs with a tour of rank sums every ``refresh`` of them; the first ones have xi = 1."""
    rates = learning_rates("adagrad", first_rate(problem), n_epochs)
    pass_, every = visit_pass(problem), int(problem.settings["refresh"])
    for e, rate in enumerate(rates):
        rho = rho_of(problem, e, n_epochs)
        if before + e and e % every == 0:
            yield COLLECT
            yield sums_pass(every_item=True)
            yield refresh_pass(rho)
        parts = yield replace(pass_, params={**pass_.params, "learning_rate": rate, "rho": rho})
        if (yield epoch_of(problem, before, rates, e, parts)).stop:
            return e + 1
    return n_epochs


def mean_objective(problem: Problem, parts: Parts) -> float:
    return (float(parts["loss"]) + float(parts["ridge"])) / problem.nnz


def epoch_of(problem: Problem, before: int, rates: list[float], position: int, parts: Parts) -> Epoch:
    """The record of an epoch, whose sums are as its visits estimated them."""
    extra = {"loss": float(parts["loss"]) / problem.nnz, "learning_rate": rates[position]}
    return Epoch(before + position + 1, mean_objective(problem, parts), extra=extra)
