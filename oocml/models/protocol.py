"""What a model is: frozen declarations and pure functions. The engine knows nothing else.

A model declares its state arrays and the passes of its training; kernels compute in place on the
blocks the engine hands them. No model does I/O, knows Dask, or reads a clock.

The program of a training is a generator. It yields `Pass`es and receives each one's reduced parts
(sums over all visits, in float64, in task order), an `Epoch` at the end of every epoch, and a `Final` at the
end of every segment.
Since results are kept in the ledger, an interrupted program is resumed by replaying them into a fresh
generator: a program must therefore be a pure function of (problem, results).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from oocml.models.scoring import Scoring
from oocml.types import Bounds, Float64Array, Panel

Array = npt.NDArray[Any]
Dim = str | int
"""An axis length: a number, or "rows" (of the row block), "cols" (of the column block), "features".

Cell arrays of models of tiles may have "entries" first: the stored entries of the tile, in the order of its data. Row
arrays of models of panels may have "batches" first: see `StateSpec.batch_rows`.
"""
Parts = Mapping[str, Any]
"""Small float64 scalars or vectors; the engine adds them up by name."""
Settings = Mapping[str, Any]


class Problem(NamedTuple):
    """What a model may know of its data before training.

    Models of tiles have more features than memory holds numbers: what belongs to each feature is read by ranges
    (``problem.feature_nnz[cols.lo : cols.hi]``), in the run's order of columns, and nothing else can be done with it.
    Before there is an order (`Model.check`, the plan) it is the dataset's.
    """

    n_rows: int
    n_features: int
    nnz: int
    feature_nnz: Array
    """Shape (n_features,), int64: stored entries per feature."""
    feature_sumsq: Float64Array
    """Shape (n_features,): sum of squares per feature."""
    labels: Array | None
    """Distinct labels in increasing order (numbers), or None for unlabelled or real-valued data."""
    label_kind: Literal["none", "number", "sets"]
    settings: Settings
    seed: int
    n_used_features: int = 0
    """Features that have entries."""
    max_feature_nnz: int = 0
    """Entries of the most frequent feature."""
    feature_ids: Array | None = None
    """Shape (n_features,): columns of the dataset, in the run's order; None if that is the dataset's."""
    tile_nnz: Array | None = None
    """Shape (row blocks, column blocks), int64: stored entries of each tile, once there are tiles."""
    n_queries: int = 0
    """Queries that rows belong to; 0: rows have none (of a spec alone, 1 says that there are some)."""


@dataclass(frozen=True)
class StateSpec:
    """One state array: the only source for its store, its share of the plan and its documentation."""

    name: str
    kind: Literal["row", "col", "cell", "shared"]
    dims: tuple[Dim, ...]
    """Axes of one block. Row and cell arrays have "rows" first; cell blocks belong to (row block, stripe)."""
    dtype: str
    doc: str
    init: Callable[[Problem, Bounds], Array | float] | float = 0.0
    """Value at stamp 0, or a pure function of the problem and row or column bounds.

    Blocks are filled in parts where rows or columns come first: what a row or column gets is a matter of its number.
    """
    export: bool = False
    """Whether exports hold it (as one plain array, blocks joined along "rows" or "cols")."""
    merge: bool = False
    """Shared arrays only: tasks return deltas (parts of the same name) that the driver adds, in task order.

    What a visit gets is its task's own copy: a kernel may add its delta there, so that the task's next visits see it.
    """
    batch_rows: int = 1
    """Of row arrays with "batches" first: an item for every so many rows of a panel in order (the last has fewer)."""


@dataclass(frozen=True)
class Scratch:
    """A work array a task keeps while it runs; zeroed at the start of the task, never stored.

    ``dims`` may use "cols" and "features": one array per column block of the task's stripe.
    """

    name: str
    dims: tuple[Dim, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Pass:
    """One purpose for which blocks are visited.

    over
        ``"tiles"``: every (row block, column block), with data. ``"rows"``: every row block, with data if
        ``data`` is set. ``"cols"``: every column block. ``"once"``: one task that sees every column block in
        order with the shared arrays resident.
    reads, writes
        Names of state arrays. An array in ``writes`` but not in ``reads`` starts the pass from its initial
        value; one in both is updated in place. A "rows" pass that reads a cell array gets all stripes of its row
        block, stacked on a leading axis.
    kernel
        Name in the model's ``kernels``.
    sweeps
        A task streams its rows up to this many times with its columns resident (inner iterations). With more
        than one, a task sees all rows, and row and cell outputs are stored in the last sweep only.
    params
        Small values handed to the kernels.
    ahead
        "tiles" passes that visit rows whose column blocks depend on one another: a visit of row block p also sees the
        row block that comes after it in the same lane (`Visit.ahead`), so that what p' needs from every column block
        is gathered while those blocks are in memory anyway. Before the first row block of a lane there is a visit
        that has only the one ahead. A row block is visited when all its columns have seen it ahead.
    consumes
        Cell arrays that are wanted by the visit of their row block alone: with its commit they are at their initial
        value again, and take no room.
    at_once
        At most so many tasks run between two merges of shared arrays (0: no limit), which bounds how stale those are.
        With 1 every task sees what all before it have added. Such passes have barriers under every schedule.
    share
        (i, n): only row blocks p with p % n == i are visited (of fewer than n row blocks each is a share, and they
        take turns). Rows are dealt at random, so that each share is a random sample. Of what a pass writes anew,
        blocks of other row blocks stay as they were.
    working_bytes
        What kernels take for arrays of their own while they work, the parts they return included. For the plan: say
        it where it may be more than a few MiB.
    per_entry
        Elementary updates that count for each stored entry visited; each visit of a panel by a column block counts as
        many times as the block has columns, too. For the rates that are told.
    """

    name: str
    over: Literal["tiles", "rows", "cols", "once"]
    kernel: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    data: bool = False
    sweeps: int = 1
    scratch: tuple[Scratch, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    ahead: bool = False
    consumes: tuple[str, ...] = ()
    at_once: int = 0
    share: tuple[int, int] = (0, 1)
    working_bytes: int = 0
    per_entry: int = 1


@dataclass(frozen=True)
class Epochs:
    """A "tiles" pass repeated, an epoch each: nothing waits at their ends unless the schedule or validation does.

    Without barriers a column block that ends an epoch (`Kernel.end_sweep`) may have begun the next one on some rows.

    The program receives a list with the reduced parts of every epoch that was run (fewer than asked for if early
    stopping ended the training before the last one); ``stopped`` among them is 1 where it ended with that epoch, else
    0. The driver makes the `Epoch`s itself, with ``ends``.
    """

    pass_: Pass
    params: tuple[Mapping[str, Any], ...]
    """Of every epoch: they are added to those of the pass."""
    ends: Callable[[int, Parts], Epoch]
    """The record of an epoch, from its position (0 for the first of ``params``) and its reduced parts."""


@dataclass(frozen=True)
class Epoch:
    """Yielded at the end of an epoch; the program receives a `Verdict`."""

    number: int
    """1-based, counted over the whole life of the run."""
    objective: float
    """The running objective, free with the epoch (may lag by one visit)."""
    exact: bool = False
    """Whether ``objective`` is the exact objective of the current state."""
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Final:
    """Yielded once at the end of every segment (each is a whole training), after its last pass."""

    objective: float | None
    """The exact objective of the state as it stands; None where nobody asked for it."""
    extra: Mapping[str, float] = field(default_factory=dict)
    notice: str = ""
    """What whoever trains should know of the result, in one line."""


class Verdict(NamedTuple):
    stop: bool
    """True when early stopping ends the training (the program then finishes as after its last epoch)."""


class Ahead(NamedTuple):
    """The row block that a visit of an ``ahead`` pass sees beside its own."""

    p: int
    data: Any
    n_rows: int
    row: Mapping[str, Array]
    cell: Mapping[str, Array]


class Visit(NamedTuple):
    """What one kernel call gets. Arrays are views: kernels write in place."""

    p: int
    """Row block, or -1."""
    q: int
    """Column block, or -1."""
    sweep: int
    last: bool
    """Whether this is the task's last sweep: the only one whose row and cell outputs are stored."""
    data: Any
    """What ``prepare`` made of the panel or tile (None for passes without data)."""
    n_rows: int
    cols: Bounds
    """Global columns of block q."""
    row: Mapping[str, Array]
    """Row arrays, restricted to the panel's rows."""
    cell: Mapping[str, Array]
    """Cell arrays, restricted to the panel's rows (stacked by stripe in a "rows" pass)."""
    col: Mapping[str, Array]
    shared: Mapping[str, Array]
    scratch: Mapping[str, Array]
    params: Mapping[str, Any]
    constants: Mapping[str, Array]
    seed: int
    """Drawn from (run seed, pass number, epoch, panel or row block): the same for every column block."""
    ahead: Ahead | None = None
    """In ``ahead`` passes, the next row block of the lane, if there is one."""


class Kernel(NamedTuple):
    """The functions one pass calls."""

    visit: Callable[[Visit], Parts | None]
    """Called for every panel of the task's rows x every column block of its stripe."""
    end_sweep: Callable[[Visit], Parts | None] | None = None
    """Called per column block when it has seen all rows, once a sweep, without data (parts of all sweeps add up)."""
    begin: Callable[[Visit], Parts | None] | None = None
    """Called per column block before it sees its first row of a "tiles" pass, without data."""
    settled: Callable[[Visit], bool] | None = None
    """Asked per column block after each sweep but the last two: if all say yes, the task jumps to its last sweep."""


Item = Pass | Epochs | Epoch | Final
Program = Generator[Item, Any, None]


class Model(Protocol):
    """A model module's or class's public face."""

    name: str
    epochs: int
    """Of a training that isn't told how many."""
    col_axis: str
    """What columns are: "classes", "components", "features", ..."""
    tiles: bool
    """Whether columns are columns of the data: visits then get tiles (a row block's entries in one column block,
    numbered from the block's first column) instead of panels, and everything per feature (``Problem.feature_nnz``,
    ``init``, ``constants``) is in the run's own order of columns, which deals them out evenly over the blocks."""
    block_cols: tuple[int, int]
    """(multiple, maximum): widths of column blocks are multiples of the first and at most the second.

    Two functions are for plans of models of tiles that have them: ``epoch_elements(problem, col_blocks)``, numbers of
    column state that an epoch touches with so many column blocks (else those of each entry's column, once), and
    ``fewest_col_blocks(problem)``."""

    def defaults(self) -> Settings:
        """Settings with their default values.

        What is None is left to the model, which may tell what it came to: ``chosen_settings(problem)``, by name.
        """

    def check(self, problem: Problem) -> None:
        """Raise `InputError` or `UsageError` if the model cannot train on this.

        A model that can, but probably was not meant to, may say so: ``notice(problem)``, a line or None.
        """

    def n_cols(self, problem: Problem) -> int: ...

    def state(self, problem: Problem) -> tuple[StateSpec, ...]: ...

    def constants(self, problem: Problem) -> Mapping[str, Array]:
        """Read-only arrays that every worker derives once: of O(n_features), or small for models of tiles (which may
        have a column array that no pass writes, for what a kernel must know of each column)."""

    def prepare(self, panel: Panel, problem: Problem, cols: Bounds) -> Any:
        """What kernels get as ``visit.data``; called once per panel or tile read, then cached.

        ``cols`` are the data's columns that it holds: all of them, or one block's for models of tiles (none at all
        for "rows" passes and `Scoring.begin`).
        """

    def epoch_passes(self, problem: Problem) -> tuple[Pass, ...]:
        """The passes of a typical epoch, for the plan."""

    def other_passes(self, problem: Problem) -> tuple[Pass, ...]:
        """Every other pass its program may yield (start, finish, polish ...): they must fit the memory too."""

    def program(self, problem: Problem, segments: tuple[int, ...]) -> Program:
        """Drive a training of ``sum(segments)`` epochs; each segment ends as a whole training does."""

    def scoring(self, problem: Problem, top: int) -> Scoring:
        """How to evaluate and predict; ``top`` is the length of rankings (0: no more than metrics need)."""

    @property
    def kernels(self) -> Mapping[str, Kernel]: ...


def derive_seed(*parts: int) -> int:
    """A 63-bit seed that depends on every part and their order."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
