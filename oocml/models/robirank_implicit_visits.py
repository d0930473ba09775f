"""What visits of implicit RoBiRank do: from the engine's arrays to kernels and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from oocml.kernels.noise import visiting_order
from oocml.kernels.robirank_implicit import Draws, Items, Step, Users, robirank_exp_visit
from oocml.kernels.robirank_implicit_pairs import Rule, robirank_pairs_visit, warp_visit
from oocml.kernels.robirank_implicit_sums import (
    Factors,
    Nodes,
    Sample,
    add_partition,
    add_rank_sums,
    find_nodes,
    measure_pairs,
    measure_softmax,
    refresh_xi,
    sample_of,
)
from oocml.models.protocol import Kernel, Parts, Visit, derive_seed

NOTHING = np.zeros((0, 3))
NO_PAIRS = np.zeros(0, np.float32)


def count(v: Visit) -> None:
    v.row["row_count"] += np.diff(v.data.indptr).astype(np.float32)


def users_of(v: Visit) -> Users:
    return Users(v.row["U"], v.row["row_squares"], v.row.get("totals", NOTHING))


def items_of(v: Visit) -> Items:
    return Items(v.col["V"], v.col["col_bias"], v.col["col_squares"])


def draws_of(v: Visit) -> Draws:
    return Draws(v.scratch["pairs"], v.scratch["mark"])


def step_of(v: Visit) -> Step:
    params = v.params
    share = round(params["n_negatives"] * v.cols.size / params["n_items"])
    return Step(
        eta=np.float32(params["learning_rate"]),
        l2=np.float32(params["l2"]),
        n=max(min(params["least"], params["n_negatives"]), share),
        n_items=np.float32(params["n_items"]),
        weighted=bool(params["weighted"]),
    )


def parts_of(sums: tuple[float, float]) -> Parts:
    loss, ridge = sums
    return {"loss": loss, "ridge": ridge}


def visit_softmax(v: Visit) -> Parts:
    order = visiting_order(np.arange(v.n_rows + 1), v.seed)
    seed = derive_seed(v.seed, v.q)
    own = v.cell["shares"]
    return parts_of(
        robirank_exp_visit(v.data, order, seed, users_of(v), items_of(v), own, draws_of(v), step_of(v))
    )


def visit_pairs(v: Visit) -> Parts:
    order, seed = visiting_order(v.data.indptr, v.seed), derive_seed(v.seed, v.q)
    xi = v.cell.get("xi", NO_PAIRS)
    rule = Rule(int(v.params["rho"]), bool(v.params["stored"]), np.float32(v.params["cap"]))
    state = users_of(v), items_of(v), xi, draws_of(v)
    return parts_of(robirank_pairs_visit(v.data, order, seed, *state, step_of(v), rule))


def visit_warp(v: Visit) -> Parts:
    order, seed = visiting_order(v.data.indptr, v.seed), derive_seed(v.seed, v.q)
    step = step_of(v)._replace(n=int(v.params["n_negatives"]))
    return parts_of(warp_visit(v.data, order, seed, users_of(v), items_of(v), draws_of(v), step))


def factors_of(v: Visit) -> Factors:
    return Factors(v.row["U"], v.col["V"], v.col["col_bias"])


def nodes_of(v: Visit) -> Nodes:
    return Nodes(v.row["extent"], v.row["nodes"])


def summed_items(v: Visit) -> Sample:
    weight = v.col["measured"]
    return sample_of(np.ones_like(weight) if v.params["every_item"] else weight)


def collect_nodes(v: Visit) -> None:
    find_nodes(v.data, factors_of(v), nodes_of(v))


def sum_ranks(v: Visit) -> None:
    add_rank_sums(v.data, factors_of(v), summed_items(v), v.scratch["mark"], nodes_of(v), v.row["node_sums"])


def refresh(v: Visit) -> None:
    refresh_xi(v.data, factors_of(v), nodes_of(v), v.row["node_sums"], v.params["rho"], v.cell["xi"])


def sum_partition(v: Visit) -> None:
    add_partition(v.data, factors_of(v), sample_of(v.col["measured"]), v.scratch["mark"], v.row["partition"])


def measure(v: Visit) -> Parts:
    """The sums that the objective is made of."""
    params, factors = v.params, factors_of(v)
    if "partition" in v.row:
        loss, squares = measure_softmax(v.data, factors, v.row["partition"], params["weighted"])
    else:
        sums, rho = v.row["node_sums"], params["rho"]
        loss, squares = measure_pairs(v.data, factors, nodes_of(v), sums, rho, params["weighted"])
        if rho == 0:
            loss /= params["n_items"]
    return {"loss": loss, "ridge": params["l2"] * squares / 2}


KERNELS: Mapping[str, Kernel] = {
    "count": Kernel(count),
    "visit_softmax": Kernel(visit_softmax),
    "visit_pairs": Kernel(visit_pairs),
    "visit_warp": Kernel(visit_warp),
    "collect_nodes": Kernel(collect_nodes),
    "sum_ranks": Kernel(sum_ranks),
    "refresh": Kernel(refresh),
    "sum_partition": Kernel(sum_partition),
    "measure": Kernel(measure),
}
