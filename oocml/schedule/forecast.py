"""What passes will read and write, one after another, caches filling on the way. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

from oocml.models.protocol import Pass
from oocml.schedule.cost import Sizes, pass_cost
from oocml.schedule.plan import Plan
from oocml.schedule.tasks import sub_epochs


class Forecast:
    """The passes of one driver, in their order."""

    def __init__(self, plan: Plan, sizes: Sizes) -> None:
        self.plan, self.sizes = plan, sizes
        self._warm_workers = 0
        self._held: set[str] = set()
        """State arrays that caches have from an earlier pass."""

    def pass_bytes(self, pass_: Pass, initial: frozenset[str]) -> tuple[int, int]:
        """(read, written) by the next pass; ``initial`` are the arrays still at their initial values."""
        plan, tiles = self.plan, self.sizes.tiles
        cost = pass_cost(pass_, self.sizes, initial)
        cached = plan.cached_data_bytes
        read = cost.data_scans * (plan.data_bytes - cached)
        if cost.data_scans:
            # each worker fills its cache in the first pass with a task for it: tiles have homes, panels do not
            reached = 1 if tiles else max(1, min(plan.workers, cost.n_tasks))
            if "labels" in plan.residency.kinds:  # read once by every worker, not with every tile
                spared = plan.layout.n_col_blocks - min(max(1, plan.workers), cost.n_tasks)
                cached = max(0, cached - self.sizes.label_bytes() * max(0, spared))
            read += cached * max(0, reached - self._warm_workers)
            self._warm_workers = max(self._warm_workers, reached)
        read += plan.residency.read_bytes(cost) + self._fetched_bytes(pass_, cost.n_tasks, initial)
        return int(read), cost.write_bytes

    def rest_bytes(self, stored: Mapping[str, float]) -> int:
        """Read by the rest of a pass that an earlier driver began, beside what was planned then: state that is to stay.

        ``stored``: the share of each of its arrays that is on disk (`oocml.engine.journal.Journal.stored_shares`).
        """
        specs, kinds = self.sizes.specs, self.plan.residency.kinds
        cold = {name for name in stored if specs[name].kind in kinds} - self._held
        self._held |= {name for name in cold if not specs[name].merge}
        return int(sum(self.sizes.stored_bytes(name) * stored[name] for name in cold))

    def _fetched_bytes(self, pass_: Pass, n_tasks: int, initial: frozenset[str]) -> int:
        """State that stays in memory but is not there yet: what a resumed run left, and what the driver merged."""
        specs, kinds, total = self.sizes.specs, self.plan.residency.kinds, 0
        for name in {*pass_.reads, *pass_.writes}:
            spec = specs[name]
            if spec.kind not in kinds:
                continue
            times = int(name in pass_.reads and name not in initial | self._held)
            self._held.add(name)
            if spec.merge and name in pass_.writes:  # each merge leaves the workers with what was
                times += len(sub_epochs(pass_, self.sizes.layout, specs, seed=0)) - 1
                self._held.remove(name)
            readers = min(max(1, self.plan.workers), n_tasks) if spec.kind == "shared" else 1
            total += self.sizes.stored_bytes(name) * times * readers
        return total
