"""What a process needs to work on a run, opened once: model, problem, layout, dataset, caches."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from oocml.data.dataset import Dataset
from oocml.data.tiles import Tiles, tiles_path
from oocml.engine.kept_columns import kept_features, kept_numbers
from oocml.engine.messages import WorkerSetup
from oocml.errors import InputError
from oocml.models.protocol import Array, Kernel, Model, Problem, StateSpec
from oocml.models.registry import load_model
from oocml.schedule.layout import Layout, block_bounds, block_shape, stored_array
from oocml.store.arrays import PADDED, StoredArray
from oocml.store.buffers import BufferPool, aligned_empty
from oocml.store.cache import PinnedCache
from oocml.store.chunks import LocalChunks
from oocml.store.run import TILE_NNZ, RunStore
from oocml.types import Bounds

INITIAL_BYTES = 2**22
"""Initial values that are made at a time."""


@dataclass
class RunContext:
    """A run as one process sees it."""

    chunks: LocalChunks
    model: Model
    problem: Problem
    layout: Layout
    specs: Mapping[str, StateSpec]
    arrays: Mapping[str, StoredArray]
    dataset: Dataset
    constants: Mapping[str, Array]
    kernels: Mapping[str, Kernel]
    panel_cache: PinnedCache
    block_cache: PinnedCache
    pool: BufferPool
    last_end_s: float
    """When the last task of this process ended, by its clock."""
    compute: threading.BoundedSemaphore
    """Held while kernels run: other tasks of the process read or write meanwhile."""
    reader: ThreadPoolExecutor
    """A thread for each task that computes: it reads the next panel while a kernel works on this one."""

    @functools.cached_property
    def tiles(self) -> Tiles:
        """The dataset's tiles; they are there once the driver has made them."""
        return Tiles.open(tiles_path(self.dataset, self.layout.row_panels, self.layout.col_bounds))


_stopped: set[str] = set()
"""Drivers that want nothing more of their tasks."""
_opening = threading.Lock()
_pinned: dict[WorkerSetup, RunContext] = {}
_pools: weakref.WeakSet[BufferPool] = weakref.WeakSet()


def run_context(setup: WorkerSetup) -> RunContext:
    """The context of a run; the last one opened is kept, with its caches."""
    with _opening:  # the tasks of a process share one context
        return _pinned.get(setup) or _open_context(setup)


@contextmanager
def pinned_context(setup: WorkerSetup) -> Iterator[RunContext]:
    """Keep a context whose caches hold what is nowhere else, whatever other contexts are opened meanwhile."""
    _pinned[setup] = run_context(setup)
    try:
        yield _pinned[setup]
    finally:
        del _pinned[setup]


@functools.lru_cache(maxsize=1)
def _open_context(setup: WorkerSetup) -> RunContext:
    run = RunStore(setup.run_path)
    if run.config["run_id"] != setup.run_id:
        raise InputError(f"{setup.run_path} was replaced while it was being trained; train again")
    model, problem = load_model(run.model_reference), problem_of(run)
    specs = {spec.name: spec for spec in model.state(problem)}
    layout = Layout.from_dict(run.config["layout"])
    pool = BufferPool(setup.pool_bytes)
    _pools.add(pool)
    return RunContext(
        chunks=LocalChunks(run.path, durable=setup.durable),
        model=model,
        problem=problem,
        layout=layout,
        specs=specs,
        arrays={name: stored_array(spec, layout, problem) for name, spec in specs.items()},
        dataset=Dataset.open(run.config["dataset"]),
        constants=model.constants(problem),
        kernels=model.kernels,
        panel_cache=PinnedCache(setup.panel_cache_bytes),
        block_cache=PinnedCache(setup.block_cache_bytes),
        pool=pool,
        last_end_s=time.perf_counter(),
        compute=threading.BoundedSemaphore(setup.computing),
        reader=_begun(ThreadPoolExecutor(setup.computing, thread_name_prefix="oocml-reader")),
    )


def _begun(threads: ThreadPoolExecutor) -> ThreadPoolExecutor:
    """With its first thread there already, for which the first task would wait."""
    threads.submit(int)
    return threads


def problem_of(run: RunStore) -> Problem:
    """What a run's model may know of its training data; needs the run alone."""
    held, config = run.held_arrays(), run.config
    features: dict[str, Any] = {
        name: held[name] if name in held else kept_features(run, name)
        for name in ("feature_nnz", "feature_sumsq")
    }
    return Problem(
        **config["problem"],
        **features,
        labels=held.get("labels"),
        # settings that came after the run was begun are at their defaults
        settings={**load_model(run.model_reference).defaults(), **config["settings"]},
        seed=config["seed"],
        feature_ids=kept_numbers(run),  # type: ignore[arg-type]
        tile_nnz=held.get(TILE_NNZ),
    )


def initial_block(
    spec: StateSpec,
    layout: Layout,
    problem: Problem,
    index: int,
    take: Callable[[tuple[int, ...], str], Array] = aligned_empty,
) -> Array:
    """A block at stamp 0; ``take`` makes the array that is filled."""
    block = take(block_shape(spec, layout, problem, index), spec.dtype)
    bounds, init = block_bounds(spec, layout, index), spec.init
    if not callable(init):
        block[...] = init
    elif spec.dims[:1] not in (("rows",), ("cols",)):
        block[...] = init(problem, bounds)
    else:
        step = max(1, INITIAL_BYTES * bounds.size // max(1, block.nbytes))
        for lo in range(bounds.lo, bounds.hi, step):
            part = Bounds(lo, min(lo + step, bounds.hi))
            block[lo - bounds.lo : part.hi - bounds.lo] = init(problem, part)
    return block


def stop_tasks(driver: str) -> None:
    """Let the tasks of a driver that run in this process end soon: it wants nothing more of them."""
    _stopped.add(driver)


def is_stopped(driver: str) -> bool:
    """Whether that was said of a driver."""
    return driver in _stopped


def trim_pools() -> None:
    """Let go of the memory this process keeps for the blocks of its next tasks."""
    for pool in (*_pools, PADDED):
        pool.trim()


def forget_context() -> None:
    """Drop the cached context (and its caches) of this process."""
    _open_context.cache_clear()


def nbytes(value: Any) -> int:
    """Bytes of the arrays in a (nested) tuple of arrays."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    return sum(map(nbytes, value)) if isinstance(value, tuple) else 0
