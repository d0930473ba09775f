"""Reading the state of a run that somebody may be training meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from oocml.data.column_order import ColumnOrder
from oocml.engine.context import initial_block, problem_of
from oocml.engine.kept_columns import kept_order
from oocml.errors import DamagedStore, InputError
from oocml.models.protocol import Array, Problem, StateSpec
from oocml.models.registry import load_model
from oocml.schedule.layout import Layout, block_shape, stored_array
from oocml.store.chunks import LocalChunks
from oocml.store.ledger import Ledger
from oocml.store.run import RunStore

ATTEMPTS = 8
"""How often a block is looked for while training moves on."""
T = TypeVar("T")


class MovedOn(Exception):
    """A block was superseded while it was wanted as it had been."""


class StateReader:
    """Blocks of a run as its ledger, or a checkpoint, has them.

    Training removes a block some time after the ledger names a newer one. A reader whose block is gone reads the
    ledger again, so that blocks read one after another may be of different moments.

    Parameters
    ----------
    checkpoint
        Name of a kept ledger; None for the current one.
    problem
        Of the run; read from it if not given.
    follow
        False: raise `MovedOn` rather than go over to a newer ledger.
    """

    def __init__(
        self,
        run: RunStore,
        checkpoint: str | None = None,
        *,
        problem: Problem | None = None,
        follow: bool = True,
    ) -> None:
        self.run, self.checkpoint, self.follow = run, checkpoint, follow
        self.model = load_model(run.model_reference)
        self.problem = problem or problem_of(run)
        self.layout = Layout.from_dict(run.config["layout"])
        self.specs: dict[str, StateSpec] = {spec.name: spec for spec in self.model.state(self.problem)}
        self.chunks = LocalChunks(run.path)
        self.ledger: Ledger = run.read_ledger(checkpoint)

    def __reduce__(self) -> tuple[Any, ...]:
        # a worker opens the run itself: a user's model has no name that it could be pickled by
        return type(self), (self.run, self.checkpoint)

    @functools.cached_property
    def column_order(self) -> ColumnOrder | None:
        """The order of the run's columns; None if it is the dataset's."""
        return kept_order(self.run)

    def block(self, name: str, index: int) -> Array:
        """Block ``index`` of a state array.

        Raises
        ------
        DamagedStore
            If it is not what the ledger says.
        """
        spec = self.specs[name]

        def read(stamp: int, crc: int) -> Array:
            if stamp == 0:
                return initial_block(spec, self.layout, self.problem, index)
            array = stored_array(spec, self.layout, self.problem)
            shape = block_shape(spec, self.layout, self.problem, index)
            return array.read(self.chunks, index, stamp, shape, crc)[0]

        return self._at_ledger(name, index, read)

    def check_files(self, name: str, index: int) -> None:
        """Raise `DamagedStore` unless all chunks of a block are there in their size."""
        spec = self.specs[name]
        array = stored_array(spec, self.layout, self.problem)

        def check(stamp: int, crc: int) -> None:
            del crc
            if stamp:
                shape = block_shape(spec, self.layout, self.problem, index)
                for key in array.keys(index, stamp, shape):
                    self.chunks.check_size(key, array.chunk_bytes)

        self._at_ledger(name, index, check)

    def _at_ledger(self, name: str, index: int, look: Callable[[int, int], T]) -> T:
        """What ``look`` makes of the block's stamp and checksum; anew where the ledger has moved on."""
        for _ in range(ATTEMPTS):
            stamp, crc = int(self.ledger.stamps[name][index]), int(self.ledger.crcs[name][index])
            try:
                return look(stamp, crc)
            except DamagedStore:
                newer = self._newer_ledger()
                if newer.stamps[name][index] == stamp:
                    raise
            if not self.follow:
                raise MovedOn
            self.ledger = newer
        raise InputError(f"{self.run.path} is trained faster than it can be read; wait, or stop the training")

    def _newer_ledger(self) -> Ledger:
        if RunStore(self.run.path).config["run_id"] != self.run.config["run_id"]:
            raise InputError(f"{self.run.path} was replaced while it was being read; start again")
        return self.run.read_ledger(self.checkpoint)


def pruned(spec: StateSpec, block: Array, prune: float) -> Array:
    """The block with zeros for smaller weights; vectors stay as they are."""
    if not prune or len(spec.dims) < 2:
        return block
    return np.where(np.abs(block) < prune, 0, block).astype(spec.dtype)
