"""What a training tells the outside world: frozen events, sent by the driver to a list of monitors.

Events are only a log. Nothing that decides a result depends on them, and a monitor may come late or miss
some. They hold names, counts and seconds, never blocks, so that any monitor can keep, print or ship them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Protocol, TypeAlias, get_args, get_type_hints

from oocml.errors import InputError
from oocml.types import Bounds


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The layout is known and the store is ready; nothing was dispatched yet."""

    run: str
    """Path or URL of the run store."""
    model: str
    n_rows: int
    n_features: int
    n_cols: int
    """Length of the model's column axis (classes, components, ...)."""
    nnz: int
    n_row_blocks: int
    n_col_blocks: int
    n_panels: int
    tasks_per_epoch: int
    """As planned for a typical epoch."""
    epochs: int
    """Epochs of the whole run, those before a resume included."""
    n_workers: int
    memory_bytes: int
    """What ``--memory`` allows the process tree on one host."""
    worker_memory_bytes: int
    """The share of one worker process, its base included."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """The keys of ``oocml plan --json``."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The model's settings as they are used."""
    given: list[str] = field(default_factory=list)
    """Names of the settings that the user gave."""
    chosen: list[str] = field(default_factory=list)
    """Names of those that the model chose from the data."""
    dashboard: str | None = None
    """Link to the Dask dashboard, if one is served."""
    resumed_from: int | None = None
    """Number of the last finished epoch when this run was resumed, None for a fresh run."""
    seconds_before: float = 0.0
    """Training time of the run's earlier drivers."""
    metric: str | None = None
    """The score by which epochs are compared, if they are validated."""


@dataclass(frozen=True, slots=True)
class PassStarted:
    number: int
    """Counted from 1 over the life of the run."""
    name: str
    epoch: int
    """The epoch under way, from 1."""
    n_tasks: int
    """Tasks left to do in this pass (fewer than all of them just after a resume)."""


@dataclass(frozen=True, slots=True)
class TaskDone:
    """One task's blocks are stored and its result is committed."""

    pass_name: str
    epoch: int
    p: Bounds | None
    """Row blocks of the rectangle; None where the pass has no rows."""
    q: Bounds | None
    """Column blocks of the rectangle; None where the pass has no columns."""
    worker: str
    """Address of the worker process; "driver" when there is none."""
    kernel_s: float
    """Seconds in kernels and in preparing panels for them."""
    read_s: float
    """Seconds the kernels waited for reads (what overlaps with them is not counted)."""
    write_s: float
    """Seconds spent, or waited, on writes."""
    idle_s: float
    """Seconds between the end of the worker's previous task and the start of this one."""
    read_bytes: int
    """Bytes asked of the store; cache hits excluded."""
    write_bytes: int
    updates: int
    """Elementary updates, for instance nnz x classes."""
    visits: int
    """Kernel calls."""


@dataclass(frozen=True, slots=True)
class TaskLost:
    """A task's worker went away, or the task must run again for another reason."""

    worker: str
    task: str
    """The task's key as text."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class PassDone:
    number: int
    name: str
    epoch: int
    n_tasks: int
    seconds: float
    """From the pass's first dispatch to its last commit."""


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch has ended. Where one process holds all state it may be on disk up to a second later, but the first."""

    number: int
    """1-based, counted over the whole life of the run."""
    seconds: float
    """Training time so far: since the first dispatch, with the time of the run's earlier drivers."""
    objective: float
    exact: bool
    """Whether ``objective`` is exact for the current state, or the running one that came with the visits."""
    read_bytes: int
    """In this epoch, cache hits excluded."""
    write_bytes: int
    """In this epoch."""
    updates: int
    """In this epoch."""
    valid: Mapping[str, float] | None = None
    """Metrics of the validation set."""
    best: bool = False
    """Whether this is the best epoch so far, by the validation metric."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """What the model adds."""


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What one worker did in one pass: sums over its tasks. Written by the event log instead of every task."""

    pass_name: str
    epoch: int
    worker: str
    n_tasks: int
    kernel_s: float
    read_s: float
    write_s: float
    idle_s: float
    read_bytes: int
    write_bytes: int
    updates: int
    visits: int


@dataclass(frozen=True, slots=True)
class RunDone:
    epochs: int
    """Epochs finished over the life of the run."""
    seconds: float
    """From the first dispatch to the last commit, with the time of the run's earlier drivers."""
    startup_seconds: float
    """Of this driver, before its first dispatch."""
    objective: float | None
    """Exact, at the end; None where that was not asked for."""
    peak_memory_bytes: int
    """Largest sampled PSS of the process tree on the driver's host."""


@dataclass(frozen=True, slots=True)
class RunStopped:
    """The training ended before its last epoch; the run can be resumed."""

    reason: str
    """One line: "early stopping ...", "interrupted", or the error."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One line that the user should read once (idle workers, a fallback taken, a slow start)."""

    text: str


Event: TypeAlias = (
    RunStarted
    | PassStarted
    | TaskDone
    | TaskLost
    | PassDone
    | EpochDone
    | WorkerShare
    | RunDone
    | RunStopped
    | Notice
)

EVENT_TYPES: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}


class Monitor(Protocol):
    """A subscriber. May have a ``close()``, called once when the driver ends, however it ends.

    Monitors are called in the driver's loop: what takes more than a millisecond belongs in a thread.
    """

    def __call__(self, event: Event) -> None: ...


def emit(monitors: Iterable[Monitor], event: Event) -> None:
    """Send an event to every monitor, in order."""
    for monitor in monitors:
        monitor(event)


def close(monitors: Iterable[Monitor]) -> None:
    """Close the monitors that can be closed, all of them even if one of them fails."""
    with ExitStack() as closing:
        for monitor in reversed(list(monitors)):
            if hasattr(monitor, "close"):
                closing.callback(monitor.close)


def to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object: its fields under their names, and its type's name under ``event``."""
    names = [field.name for field in dataclasses.fields(event)]
    return {"event": type(event).__name__, **{name: getattr(event, name) for name in names}}


def from_json(record: Mapping[str, Any]) -> Event:
    """The event of a JSON object; fields that this version doesn't know are dropped.

    Raises
    ------
    InputError
        For an unknown event, or one with fields missing.
    """
    kind = EVENT_TYPES.get(str(record.get("event")))
    if kind is None:
        raise InputError(f"no event {record.get('event')!r}; known: {', '.join(EVENT_TYPES)}")
    hints = get_type_hints(kind)
    values = {name: _as_bounds(hints[name], record[name]) for name in hints if name in record}
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"event {record['event']} is incomplete: {error}") from None


def _as_bounds(hint: Any, value: Any) -> Any:
    is_bounds = isinstance(hint, UnionType) and Bounds in get_args(hint)
    return Bounds(*value) if is_bounds and value is not None else value
