"""Loading and storing the blocks of one task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from oocml.engine.advice import smaller_steps, what_is_kept
from oocml.engine.context import RunContext, initial_block, nbytes
from oocml.engine.messages import TaskMessage, TaskResult
from oocml.errors import NonFinite
from oocml.kernels.finite import all_finite
from oocml.models.protocol import Array, derive_seed
from oocml.schedule.affordable import PREPARED_SHARE
from oocml.schedule.layout import block_shape
from oocml.types import Bounds, Csr, Panel


class TaskBlocks:
    """The blocks of one dispatch: read at the stamps it was given, written at its own fresh stamp."""

    def __init__(self, context: RunContext, message: TaskMessage) -> None:
        self.context = context
        self.message = message
        self.result = TaskResult()
        self._spares = {name: list(keys) for name, keys in message.spares.items()}
        self._refs = {
            name: dict(
                zip(
                    refs.index.tolist(), zip(refs.stamp.tolist(), refs.crc.tolist(), strict=True), strict=True
                )
            )
            for name, refs in message.inputs.items()
        }

    def load(self, name: str, index: int) -> Array:
        """A block at its current stamp, or its initial value; writeable if the pass writes it."""
        ctx, usage = self.context, self.result.usage
        stamp, crc = self._refs.get(name, {}).get(index, (0, 0))
        if stamp == 0:
            return initial_block(ctx.specs[name], ctx.layout, ctx.problem, index, ctx.pool.take)
        lookup = ctx.block_cache.take if name in self.message.pass_.writes else ctx.block_cache.get
        block = lookup((name, index), stamp)
        if block is None:
            start = time.perf_counter()
            shape = block_shape(ctx.specs[name], ctx.layout, ctx.problem, index)
            block, n_bytes = ctx.arrays[name].read(ctx.chunks, index, stamp, shape, crc, ctx.pool.take)
            usage.read_s += time.perf_counter() - start
            usage.read_bytes += n_bytes
            if name not in self.message.pass_.writes:
                self._keep(name, index, stamp, block)
        return block

    def _keep(self, name: str, index: int, stamp: int, block: Array) -> bool:
        kinds = self.message.setup.cached_kinds
        if self.context.model.tiles and self.context.specs[name].kind not in kinds:
            return False
        return self.context.block_cache.put((name, index), block, block.nbytes, stamp)

    def done_with(self, name: str, index: int, block: Array) -> None:
        """A block that was read only; its memory is used again unless the cache holds it."""
        if self.context.block_cache.holds((name, index), block):
            return
        self.context.pool.give(block)

    def store(self, name: str, index: int, block: Array) -> None:
        """Write a block at the dispatch's stamp and remember its checksum, or leave it for later in the cache."""
        ctx, message, usage = self.context, self.message, self.result.usage
        start = time.perf_counter()
        if block.dtype.kind == "f" and not all_finite(block):
            raise NonFinite(self._non_finite(name, index))
        if message.setup.put_off and self._keep(name, index, message.out_stamp, block):
            self.result.put_off.setdefault(name, []).append(index)
            return
        spares = self._spares.get(name)
        crc, n_bytes = ctx.arrays[name].write(ctx.chunks, index, message.out_stamp, block, spares)
        usage.write_s += time.perf_counter() - start
        usage.write_bytes += n_bytes
        indices, crcs = self.result.written.setdefault(name, ([], []))
        indices.append(index)
        crcs.append(crc)
        if not self._keep(name, index, message.out_stamp, block):
            ctx.pool.give(block)

    def _non_finite(self, name: str, index: int) -> str:
        message = self.message
        advice = smaller_steps(self.context.problem.settings, message.pass_.params.get("learning_rate"))
        return (
            f"{self.context.model.name}: block {index} of {name!r} became NaN or infinite in epoch {message.epoch} "
            f"(pass {message.pass_.name}); {what_is_kept(message.epochs_done)}; try {advice}"
        )

    def panels(self, p: int) -> Iterator[tuple[int, object, int]]:
        """(panel, prepared data, nnz) of a row block in the pass's order, reading one ahead."""
        ctx, message = self.context, self.message
        rng = np.random.default_rng(derive_seed(ctx.problem.seed, *message.seeds, p))
        order = rng.permutation(np.asarray(ctx.layout.panels(p))).tolist()
        # the second is on its way while this thread reads the first; no third one is in memory
        asked = [self._ask_for(panel, now=n == 0) for n, panel in enumerate(order[:2])]
        for position, panel in enumerate(order):
            start = time.perf_counter()
            data, nnz, read = asked.pop(0)()
            self.result.usage.read_s += time.perf_counter() - start
            self.result.usage.read_bytes += read
            if 0 < position < len(order) - 1:
                asked.append(self._ask_for(order[position + 1]))
            yield panel, data, nnz

    def tile(self, p: int, q: int) -> tuple[Any, int]:
        """(prepared data, nnz) of a row block's entries in one column block."""
        ctx, usage = self.context, self.result.usage
        found = ctx.panel_cache.get((p, q))
        if found is None:
            start = time.perf_counter()
            X = ctx.tiles.read(p, q)
            usage.read_bytes += ctx.tiles.tile_bytes(p, q)
            found = self._prepared(p, X, ctx.layout.cols(q))
            ctx.panel_cache.put((p, q), found, nbytes(found[0]))
            usage.read_s += time.perf_counter() - start
        return found  # type: ignore[no-any-return]

    def labels(self, p: int) -> Any:
        """What a pass over rows gets as its data: labels without entries."""
        n_rows = self.context.layout.rows(p).size
        nothing = Csr(np.zeros(n_rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
        return self._prepared(p, nothing, Bounds(0, 0))[0]

    def _prepared(self, p: int, X: Csr, cols: Bounds) -> tuple[Any, int]:
        ctx, rows = self.context, self.context.layout.rows(p)
        y = ctx.panel_cache.get(("labels", p))
        if y is None and ctx.dataset.label_kind != "none":
            y = ctx.tiles.read_labels(p)
            self.result.usage.read_bytes += nbytes(y)
            ctx.panel_cache.put(("labels", p), y, nbytes(y))
        return ctx.model.prepare(Panel(X, y, np.arange(*rows)), ctx.problem, cols), len(X.data)

    def _ask_for(self, panel: int, *, now: bool = False) -> Callable[[], tuple[object, int, int]]:
        """Begin to read a panel unless it is at hand (a thread costs more than finding it); call for the rest.

        One that is wanted ``now`` is read by this thread.
        """
        cached = self.context.panel_cache.get(panel)
        if cached is not None:
            return lambda: (*cached, 0)
        if now:
            return lambda: self._read_panel(panel)
        return self.context.reader.submit(self._read_panel, panel).result

    def _read_panel(self, panel: int) -> tuple[object, int, int]:
        ctx = self.context
        raw = ctx.dataset.read_panel(panel)
        entry = (ctx.model.prepare(raw, ctx.problem, Bounds(0, ctx.problem.n_features)), len(raw.X.data))
        stored = ctx.dataset.panel_bytes(panel)
        # no less than was planned for it: the cache then holds as many panels as the plan has it hold
        ctx.panel_cache.put(panel, entry, max(nbytes(entry[0]), int(stored * PREPARED_SHARE)))
        return (*entry, stored)
