"""Committing: one ledger record at a time, old stamps removed only after the ledger that supersedes them.

Where one process holds all state, its blocks may wait with the ledger that names them, for `PUT_OFF_S`: a block that is
changed again meanwhile is never written. A kill takes the run back to the ledger on disk, whose blocks all are.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from oocml.engine.advice import smaller_steps, what_is_kept
from oocml.engine.context import initial_block
from oocml.engine.messages import BlockRefs, TaskMessage, TaskResult
from oocml.errors import NonFinite
from oocml.models.protocol import Pass, Problem, StateSpec
from oocml.schedule.crew import SPARE_BLOCKS
from oocml.schedule.layout import Layout, block_shape, stored_array
from oocml.schedule.tasks import Task, blocks_of
from oocml.store.arrays import write_blocks
from oocml.store.cache import PinnedCache
from oocml.store.chunks import LocalChunks
from oocml.store.ledger import Ledger, write_ledger
from oocml.store.run import RunStore

BATCHED_LEDGER_BYTES = 2**20
BATCH_S = 0.25
SPARED_BYTES = 2**20
"""Of a chunk, at least, whose file is used again."""
PUT_OFF_S = 1.0
"""Of blocks: the most that a kill may cost."""


class Journal:
    """The ledger of a run under way; held by the driver alone."""

    def __init__(
        self,
        run: RunStore,
        specs: Mapping[str, StateSpec],
        layout: Layout,
        problem: Problem,
        *,
        durable: bool,
    ) -> None:
        self.run, self.specs, self.layout, self.problem = run, specs, layout, problem
        self.held: PinnedCache | None = None
        """Has the blocks that tasks put off writing, if they do."""
        self._put_off: dict[tuple[str, int], int] = {}
        """Stamps of blocks that are current but not on disk."""
        self.durable = durable
        self.ledger: Ledger = run.read_ledger()
        self.chunks = LocalChunks(run.path, durable=durable)
        self.arrays = {name: stored_array(spec, layout, problem) for name, spec in specs.items()}
        self._kept: dict[str, set[tuple[str, int, int]]] = {
            name: self._exported_blocks(run.read_ledger(name)) for name in self.ledger.kept
        }
        self._superseded: list[tuple[str, int, int]] = []
        self._spares: dict[str, list[str]] = {name: [] for name in specs}
        """Chunks of superseded blocks, whose files may be used again."""
        self._being_read: Counter[tuple[str, int, int]] = Counter()
        """Merged blocks that dispatches in flight may read, while others already supersede them."""
        self._ledger_bytes = 0
        self._last_write = 0.0
        self._unwritten = False

    def open(self) -> None:
        """Remove what no ledger names, then reserve stamps that no driver of this run has used."""
        self._sweep()
        self._stamps: Iterator[int] = iter(self.ledger.reserve_stamps())
        if not self.ledger.done:
            self.ledger.pass_first_stamp = self.ledger.next_stamp - 1
        self.flush(force=True)

    def close(self) -> None:
        """Write the ledger, then remove what dispatches that were lost left behind."""
        self.flush(force=True)
        self._sweep()

    def _sweep(self) -> None:
        live: dict[str, set[str]] = {name: set() for name in self.specs}
        current = {
            (name, index, stamp)
            for name, stamps in self.ledger.stamps.items()
            for index, stamp in enumerate(stamps.tolist())
            if stamp
        }
        for name, index, stamp in current.union(*self._kept.values()):
            live[name].update(self._keys(name, index, stamp))
        self.run.sweep(live)

    def fresh_stamp(self) -> int:
        return next(self._stamps)

    def begin_pass(self, pass_: Pass) -> None:
        """Blocks written from here on belong to a new pass, unless tasks of it are done already."""
        if not self.ledger.done:
            self.ledger.pass_name, self.ledger.pass_first_stamp = pass_.name, self.fresh_stamp()

    def inputs(self, pass_: Pass, task: Task) -> dict[str, BlockRefs]:
        """The stamps a task must read: blocks its pass only writes start from their initial value."""
        refs = {}
        for name in dict.fromkeys((*pass_.reads, *pass_.writes)):
            blocks = blocks_of(self.specs[name], task, self.layout, all_stripes=pass_.over == "rows")
            index = np.fromiter(blocks, np.int64)
            stamp, crc = self.ledger.stamps[name][index], self.ledger.crcs[name][index]
            if name not in pass_.reads:
                stamp = np.where(stamp >= self.ledger.pass_first_stamp, stamp, 0)
            refs[name] = BlockRefs(index, stamp, crc)
        return refs

    def stored_shares(self, pass_: Pass) -> dict[str, float]:
        """What tasks of the pass under way find on disk: the share of the blocks of each of its arrays."""
        shares: dict[str, float] = {}
        for name in dict.fromkeys((*pass_.reads, *pass_.writes)):
            stamps = self.ledger.stamps[name]
            first = 1 if name in pass_.reads else self.ledger.pass_first_stamp
            shares[name] = np.count_nonzero(stamps >= first) / len(stamps)
        return shares

    def dispatched(self, message: TaskMessage) -> None:
        """A dispatch may read its inputs until it has landed."""
        self._being_read.update(self._merged_inputs(message))

    def landed(self, message: TaskMessage) -> None:
        self._being_read -= Counter(self._merged_inputs(message))

    def _merged_inputs(self, message: TaskMessage) -> list[tuple[str, int, int]]:
        return [
            (name, 0, int(refs.stamp[0])) for name, refs in message.inputs.items() if self.specs[name].merge
        ]

    def commit_task(self, message: TaskMessage, result: TaskResult, key: int, *, recorded: bool) -> None:
        """Make a dispatch's blocks the current ones.

        Parameters
        ----------
        key
            What its task is called in ``ledger.done``.
        recorded
            Whether to keep the order of commits; it is kept on if it was begun for this pass.
        """
        if recorded or self.ledger.order:
            self.ledger.order.append(key)
        for name, (indices, crcs) in result.written.items():
            for index, crc in zip(indices, crcs, strict=True):
                self._advance(name, index, message.out_stamp, crc)
        for name, indices in result.put_off.items():
            for index in indices:
                self._advance(name, index, message.out_stamp, 0)
                self._put_off[name, index] = message.out_stamp
        self._drop_consumed(message)
        self.ledger.done[key] = result.parts
        usage = result.usage
        self.add(read_bytes=usage.read_bytes, write_bytes=usage.write_bytes, updates=usage.updates)
        self.flush()

    def _drop_consumed(self, message: TaskMessage) -> None:
        """Set what a task has consumed back to its initial value."""
        own = message.task._replace(ahead=())
        for name in message.pass_.consumes:
            for index in blocks_of(self.specs[name], own, self.layout, all_stripes=False):
                self._advance(name, index, 0, 0)

    def merge_shared(self, pass_: Pass, keys: Sequence[int]) -> None:
        """Add the deltas that committed tasks returned to the shared arrays, in the order of ``keys``.

        A delta is in the ledger until it was added, so that none is added twice.
        """
        names = [name for name in pass_.writes if self.specs[name].merge]
        for name in names:
            deltas = [self.ledger.done[key].pop(name) for key in keys if name in self.ledger.done[key]]
            if not deltas:
                continue
            shape = block_shape(self.specs[name], self.layout, self.problem, 0)
            stamp, n_read = int(self.ledger.stamps[name][0]), 0
            if stamp and (name in pass_.reads or stamp >= self.ledger.pass_first_stamp):
                crc = int(self.ledger.crcs[name][0])
                block, n_read = self.arrays[name].read(self.chunks, 0, stamp, shape, crc)
            else:
                block = initial_block(self.specs[name], self.layout, self.problem, 0)
            total = block.astype(np.float64)
            for delta in deltas:
                total += delta
            block = total.astype(block.dtype)
            if not np.isfinite(block).all():  # not a kernel: numba would take 25 MiB of the driver
                raise NonFinite(
                    f"{name!r} became NaN or infinite in pass {pass_.name}; "
                    f"{what_is_kept(len(self.ledger.history))}; try {smaller_steps(self.problem.settings)}"
                )
            stamp = self.fresh_stamp()
            crc, n_written = self.arrays[name].write(self.chunks, 0, stamp, block)
            self._advance(name, 0, stamp, crc)
            self.add(read_bytes=n_read, write_bytes=n_written)
        if names:
            self.flush()

    def reduce(self, keys: Iterable[int]) -> dict[str, Any]:
        """The sum of the parts of committed tasks, in the order of their keys, as plain floats and arrays."""
        parts: dict[str, Any] = {}
        for key in sorted(keys):
            for name, value in self.ledger.done[key].items():
                parts[name] = parts.get(name, 0.0) + np.asarray(value, np.float64)
        return {name: value if np.ndim(value) else float(value) for name, value in parts.items()}

    def end_pass(self, pass_: Pass) -> dict[str, Any]:
        """Make the reduced parts of a finished pass the program's next result."""
        parts = self.reduce(self.ledger.done)
        self.ledger.results.append({"pass": pass_.name, "parts": parts} | self._taken_order())
        self.ledger.done = {}
        self.flush()
        return copy.deepcopy(parts)  # what a program does to its results must not reach the ledger

    def end_epoch_of_pass(self, keys: Iterable[int], *, stop: bool) -> None:
        """Keep the reduced parts of the next epoch of a repeated pass, in place of those of its tasks."""
        self.ledger.epoch_parts.append({"parts": self.reduce(keys), "stop": stop})
        for key in keys:
            del self.ledger.done[key]

    def end_repeated_pass(self, mark: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Make the parts of all epochs of a repeated pass the program's next result."""
        parts = [{**entry["parts"], "stopped": float(entry["stop"])} for entry in self.ledger.epoch_parts]
        self.ledger.results.append({**mark, "parts": parts} | self._taken_order())
        self.ledger.epoch_parts, self.ledger.done, self.ledger.predicted_epochs = [], {}, 0
        self.flush()
        return copy.deepcopy(parts)

    def _taken_order(self) -> dict[str, Any]:
        """The order of a finished pass, if it was recorded, for its result."""
        order, self.ledger.order = self.ledger.order, []
        return {"order": np.asarray(order, np.int32)} if order else {}

    def add(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            self.ledger.totals[name] = self.ledger.totals.get(name, 0) + amount

    def keep(self, name: str, epoch: int) -> None:
        """Keep the exported state as it is now under a name (a checkpoint: a kept ledger, no copy)."""
        self.run.require_in_place()
        old = self._kept.get(name, set())
        write_ledger(self.run.checkpoint_path(name), self.ledger, durable=self.durable)
        self.ledger.kept[name] = epoch
        self._kept[name] = self._exported_blocks(self.ledger)
        self._superseded += [
            (array, index, stamp) for array, index, stamp in old if self.ledger.stamps[array][index] != stamp
        ]

    def flush(self, *, force: bool = False) -> None:
        """Write the ledger (a large one not at every commit), then remove the stamps it supersedes."""
        now = time.monotonic()
        if not force and now - self._last_write < self._least_interval_s:
            self._unwritten = True
            return
        self._unwritten = False
        self.run.require_in_place()
        self._write_put_off()
        self._ledger_bytes = self.run.write_ledger(self.ledger, durable=self.durable)
        self._last_write = now
        kept = set().union(*self._kept.values())
        for name, index, stamp in self._superseded:
            if (name, index, stamp) not in kept and (name, index, stamp) not in self._being_read:
                self._discard(name, self._keys(name, index, stamp))
        self._superseded = [block for block in self._superseded if block in self._being_read]

    def _discard(self, name: str, keys: list[str]) -> None:
        """Remove the chunks of a superseded block, or keep their files to be used again."""
        array, spares = self.arrays[name], self._spares[name]
        if array.chunk_bytes >= SPARED_BYTES and len(spares) < SPARE_BLOCKS * len(keys):
            spares += keys
        else:
            self.chunks.delete(keys)

    def spares(self, pass_: Pass, task: Task) -> dict[str, tuple[str, ...]]:
        """For a dispatch: chunks that nobody wants any more, as many as it writes. None is given away twice."""
        given: dict[str, tuple[str, ...]] = {}
        if self.held is not None:  # what is put off is written here, into these files
            return given
        for name in pass_.writes:
            if not self._spares[name]:
                continue
            blocks = blocks_of(self.specs[name], task, self.layout, all_stripes=pass_.over == "rows")
            wanted = sum(len(self._keys(name, index, 0)) for index in blocks)
            left = max(0, len(self._spares[name]) - wanted)
            given[name] = tuple(self._spares[name][left:])
            del self._spares[name][left:]
        return given

    @property
    def _least_interval_s(self) -> float:
        """Between two writes of the ledger that nobody forces."""
        of_blocks = 0.0 if self.held is None else PUT_OFF_S
        of_ledger = BATCH_S if self._ledger_bytes > BATCHED_LEDGER_BYTES else 0.0
        return max(of_blocks, of_ledger)

    def _write_put_off(self) -> None:
        """Bring the blocks that the ledger is about to name to the disk."""
        blocks = []
        for (name, index), stamp in self._put_off.items():
            assert self.held is not None
            block = self.held.get((name, index), stamp)
            if block is None:
                raise AssertionError(
                    f"block {index} of {name!r} (stamp {stamp}) was neither written nor kept"
                )
            blocks.append((self.arrays[name], index, stamp, block))
        written = write_blocks(self.chunks, blocks, self._spares)
        for (name, index), (crc, n_written) in zip(self._put_off, written, strict=True):
            self.ledger.crcs[name][index] = crc
            self.add(write_bytes=n_written)
        self._put_off.clear()

    @property
    def write_due_s(self) -> float | None:
        """Seconds after which a commit that is not on disk yet should be, if nothing else is committed; or None."""
        due = self._last_write + self._least_interval_s
        return max(0.0, due - time.monotonic()) if self._unwritten else None

    def _advance(self, name: str, index: int, stamp: int, crc: int) -> None:
        old = int(self.ledger.stamps[name][index])
        if self._put_off.pop((name, index), None) is not None:
            shape = block_shape(self.specs[name], self.layout, self.problem, index)
            self.add(spared_write_bytes=self.arrays[name].stored_bytes(shape))
        elif old:
            self._superseded.append((name, index, old))
        self.ledger.stamps[name][index] = stamp
        self.ledger.crcs[name][index] = crc

    def _keys(self, name: str, index: int, stamp: int) -> list[str]:
        shape = block_shape(self.specs[name], self.layout, self.problem, index)
        return self.arrays[name].keys(index, stamp, shape)

    def _exported_blocks(self, ledger: Ledger) -> set[tuple[str, int, int]]:
        return {
            (name, index, stamp)
            for name, spec in self.specs.items()
            if spec.export
            for index, stamp in enumerate(ledger.stamps[name].tolist())
            if stamp
        }
