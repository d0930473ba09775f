"""What an ingest was asked to do, and the records its tasks leave in the work folder for a resumed one to find."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.data.draw import Draw
from oocml.data.readers import BadLines
from oocml.data.spill import SpillInfo
from oocml.types import Float64Array, Int64Array


@dataclass(frozen=True)
class Job:
    """What an ingest was asked to do; picklable."""

    format: str
    options: Mapping[str, Any]
    work: Path
    """Folder of everything temporary."""
    max_bad: int
    seed: int
    keep_order: bool
    panel_bytes: int
    draw: Draw | None = None
    """Rows that are wanted; None: all."""

    @property
    def stop_file(self) -> Path:
        """Exists once the ingest has been given up."""
        return self.work / "stop"

    def record(self, kind: str, number: int) -> Path:
        return self.work / kind / f"{number}.pickle"


@dataclass(frozen=True)
class PartRecord:
    """What a finished part leaves behind, next to its spill files."""

    part: int
    n_rows: int
    nnz: int
    index_range: tuple[int, int]
    n_labels: int
    max_labels: int
    labels: Float64Array | None
    """Distinct labels, or None if one isn't a whole number."""
    n_queries: int
    """Rows with a query."""
    dense: bool
    bad: BadLines
    too_many_bad: bool
    spills: list[SpillInfo]


class GatherPlan(NamedTuple):
    """How stage 2 gathers rows from entries."""

    n_cuts: int
    """Ranges of keys: buckets, or two buckets each where there are rows beside the training set's (those first)."""
    n_buckets: int
    n_known: int
    """Rows of the training set."""
    like: str | None
    """Path of the training set."""
    known_panels: Int64Array
    """Shape (n_cuts + 1,): first of the training set's panels in each bucket."""


@dataclass(frozen=True)
class Plan:
    """What stage 2 knows once all parts are read; written as ``plan.pickle``."""

    n_cols: int
    index_base: int
    label_kind: str
    labels: npt.NDArray[Any] | None
    """Label ids that sets index."""
    part_first_row: Int64Array
    """Shape (parts,): number of each part's first row."""
    spills: list[SpillInfo]
    n_buckets: int
    panel_rows: int
    """Dense data: rows per panel; else 0."""
    bucket_first_row: Int64Array
    """Shape (buckets + 1,): stored rows before each bucket (fragments, where rows are gathered)."""
    gather: GatherPlan | None = None


@dataclass(frozen=True)
class BucketRecord:
    bucket: int
    panels: list[int]
    dropped: int
    """Entries dropped because their column is unknown."""
    duplicates: int = 0
    """Entries that a later one of the same place replaced."""


class PartFacts(Sequence[Any]):
    """What each part's reader knows of it, read from disk when asked for."""

    def __init__(self, job: Job, n_parts: int) -> None:
        self._job = job
        self._n_parts = n_parts

    def __len__(self) -> int:
        return self._n_parts

    def __getitem__(self, part: Any) -> Any:
        if not 0 <= part < self._n_parts:
            raise IndexError(part)
        return load(self._job.record("facts", part))


def save(path: Path, value: Any) -> None:
    """Pickle atomically."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(pickle.dumps(value))
    os.replace(temporary, path)


def load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


class Stopped(Exception):
    """The ingest was given up while this task ran."""


def check_going_on(job: Job) -> None:
    """Raise `Stopped` once the driver has given up; asked between batches."""
    if job.stop_file.exists():
        raise Stopped


def read_plan(job: Job) -> Plan:
    """The plan of stage 2, kept in memory."""
    return _load_plan(job.work / "plan.pickle", (job.work / "plan.pickle").stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load_plan(path: Path, version: int) -> Plan:
    del version
    plan: Plan = load(path)
    return plan


def map_path(work: Path, part: int | str, what: str) -> Path:
    """Where the column or label map of a part is kept, if it has one, or the row numbers of a spill file."""
    return work / "maps" / f"{part}.{what}.npy"


def read_map(job: Job, part: int, what: str) -> Any:
    """The column or label map of a part, or None."""
    path = map_path(job.work, part, what)
    return np.load(path) if path.exists() else None
