"""What passes will read and write, one after another, caches filling on the way. Pure arithmetic."""

from __future__ import annotations

from oocml.models.protocol import Pass
from oocml.schedule.cost import Sizes, pass_cost
from oocml.schedule.plan import Plan


class Forecast:
    """The passes of one driver, in their order."""

    def __init__(self, plan: Plan, sizes: Sizes) -> None:
        self.plan, self.sizes = plan, sizes
        self._warm_workers = 0

    def pass_bytes(self, pass_: Pass, initial: frozenset[str]) -> tuple[int, int]:
        """(read, written) by the next pass; ``initial`` are the arrays still at their initial values."""
        plan, tiles = self.plan, self.sizes.tiles
        cost = pass_cost(pass_, self.sizes, initial)
        n_caches = max(1, plan.workers) if tiles else 1  # tiles have homes, panels are wanted everywhere
        cached = min(n_caches * plan.panel_cache_bytes, plan.data_bytes)
        read = cost.data_scans * (plan.data_bytes - cached)
        if cost.data_scans:
            # each worker fills its cache in the first pass with a task for it
            reached = 1 if tiles else max(1, min(plan.workers, cost.n_tasks))
            if "labels" in plan.residency.kinds:  # read once by every worker, not with every tile
                spared = plan.layout.n_col_blocks - min(max(1, plan.workers), cost.n_tasks)
                cached = max(0, cached - self.sizes.label_bytes() * max(0, spared))
            read += cached * max(0, reached - self._warm_workers)
            self._warm_workers = max(self._warm_workers, reached)
        return int(read + plan.residency.read_bytes(cost)), cost.write_bytes
