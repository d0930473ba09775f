"""A toy model of tiles that can say which columns weigh most."""

import numpy as np

from oocml.models.protocol import Epoch, Final, Kernel, Pass, StateSpec
from oocml.models.top_columns import TopColumns
from tests.tile_toy import TileToy

TOP = 3


def rank(v):
    """Column sums of the block against the best so far."""
    columns = np.concatenate([v.shared["top"][0], np.arange(v.cols.lo, v.cols.hi)])
    weights = np.concatenate([v.shared["weights"][0], v.col["V"]])
    best = np.argsort(-weights, kind="stable")[:TOP]
    v.shared["top"][:] = [columns[best], [-1] * TOP]
    v.shared["weights"][:] = [weights[best], [0] * TOP]
    return {}


class RankingToy(TileToy):
    name = "rankingtoy"
    kernels = {"rank": Kernel(rank)}
    summary_reads = ("top", "weights")

    def state(self, problem):
        return (
            StateSpec("V", "col", ("cols",), "float64", "entries", init=self.entries, export=True),
            StateSpec("top", "shared", (2, TOP), "int64", "weightiest columns", init=-1, export=True),
            StateSpec("weights", "shared", (2, TOP), "float64", "theirs", init=-1.0, export=True),
        )

    @staticmethod
    def entries(problem, cols):
        return np.asarray(problem.feature_nnz[cols.lo : cols.hi], np.float64)

    def epoch_passes(self, problem):
        names = ("top", "weights")
        return (Pass("rank", "once", "rank", reads=("V", *names), writes=names),)

    def other_passes(self, problem):
        return ()

    def program(self, problem, segments):
        for number in range(1, len(segments) + 1):
            yield self.epoch_passes(problem)[0]
            yield Epoch(number, 0.0)
            yield Final(0.0)

    def summary(self, problem, state):
        ids = np.asarray(problem.feature_ids[0 : problem.n_features])
        columns = np.where(state["top"] < 0, -1, ids[state["top"]])
        return TopColumns("parts", np.array([0.25, 0.75]), columns, state["weights"])
