"""Stand-ins: datasets of any size with a spec's shape and something planted that its task can learn.

Panels are made one at a time by each worker and written at once, so memory doesn't depend on the size; every row
follows from (arguments, seed, its number) alone, so neither the number of workers nor their timing matters.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from oocml.data import planted_classes, planted_clusters, planted_factors, planted_topics
from oocml.data.bounded_map import bounded_map
from oocml.data.dataset_info import stored_bytes
from oocml.data.feature_stats import COLUMNS_IN_MEMORY
from oocml.data.planted_classes import PlantedClasses
from oocml.data.planted_clusters import PlantedClusters
from oocml.data.planted_factors import PlantedRatings, PlantedTargets
from oocml.data.planted_topics import PlantedTopics
from oocml.data.specs import Spec, load_spec
from oocml.data.writer import DatasetWriter
from oocml.errors import DoesNotFit, InputError, UsageError
from oocml.types import Panel

PANEL_BYTES = 8 << 20
"""Target size of one panel in memory."""
MAX_ROWS = MAX_COLS = 2**31 - 1
"""Column numbers are stored as int32; row numbers are permuted in 62 bits."""

Progress = Callable[[str, int, int], None]
"""Called with ("write", rows written, rows in all), from the calling thread."""


@dataclass(frozen=True)
class Shape:
    """What a stand-in is to look like."""

    rows: int
    cols: int
    classes: int
    """Classes, topics, clusters, or factors that are planted."""
    nnz_per_row: float
    dense: bool
    """Stored as a plain array."""
    values: str
    """``"log_counts"`` (1 + ln count) or ``"counts"``; visited columns (see `planted_classes`) ignore it."""
    normalise: bool
    """Whether rows have unit length."""
    exponent: float
    """Of the power law of feature popularity."""


class Planter(Protocol):
    """Makes the rows of one task. Other tasks join by an entry in `PLANTERS`."""

    label_kind: str
    n_classes: int | None

    def __call__(self, lo: int, hi: int) -> Panel:
        """Rows ``lo:hi``."""

    def labels(self) -> Any:
        """The table of labels, the same for every split; None where they are numbers of any kind."""


def synth(
    spec: str | Path | Spec,
    out: str | Path,
    *,
    task: str | None = None,
    rows: int | None = None,
    cols: int | None = None,
    classes: int | None = None,
    nnz_per_row: float | None = None,
    seed: int = 0,
    split: str = "train",
    workers: int | None = None,
    overwrite: bool = False,
    panel_bytes: int = PANEL_BYTES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a stand-in for a data set.

    Parameters
    ----------
    spec
        Name of a spec, path of a spec's TOML file, or a `Spec`. Only its shape is used, no data.
    out
        The dataset to make. It appears only when whole.
    task
        What to plant instead of the spec's task, a key of `PLANTERS`.
    rows, cols, classes, nnz_per_row
        Override the spec's shape. ``nnz_per_row`` is the mean number of stored entries (rows of clusters are
        dense). ``classes`` is the number of what is planted: topics (default 64), clusters (16), or factors (8).
    seed
        Equal seeds and shapes give equal bytes.
    split
        ``"train"`` or ``"test"``: the same planted structure, other rows. Give the splits the same
        ``cols``, ``classes``, ``nnz_per_row`` and ``seed``. With ``rows`` >= ``classes`` every class
        occurs in the training split. Splits of ratings have the same rows, so give them the same ``rows``
        too: they differ in the ratings, nine to one.
    workers
        Threads (default: one per CPU); they change the time only. Each holds one panel and its raw tokens.
    progress
        Called with ("write", rows written, rows in all) after every panel.

    Returns
    -------
    dict
        The keys of ``oocml ingest --json``.

    Raises
    ------
    UsageError
        If the shape means nothing, or the spec's task has nothing to plant yet.
    InputError
        If ``out`` cannot be written.
    DoesNotFit
        If the disk is too small.
    """
    started = time.perf_counter()
    spec = spec if isinstance(spec, Spec) else load_spec(spec)
    task = spec.task if task is None else task
    workers = (os.cpu_count() or 1) if workers is None else workers
    _check_asked(spec, task, split, workers=workers, panel_bytes=panel_bytes, seed=seed)
    given = {"rows": rows, "cols": cols, "classes": classes, "nnz_per_row": nnz_per_row}
    shape = make_shape(spec, split, given, task)
    _check_disk(out, shape)
    planter = PLANTERS[task](shape, seed, split)
    facts = {"spec": spec.name, "task": task, "split": split, "seed": seed, **asdict(shape)}
    writer = DatasetWriter(
        out, n_cols=shape.cols, label_kind=planter.label_kind, sparse=not shape.dense, overwrite=overwrite
    )
    try:
        step = max(1, int(panel_bytes / (8 * shape.nnz_per_row + 24)))
        n_panels, nnz = _write_panels(writer, planter, shape, step, workers, progress)
        path = writer.finish(n_panels=n_panels, labels=planter.labels(), attrs={"source": [{"synth": facts}]})
    except OSError as error:
        writer.discard()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DoesNotFit(
                f"no space left on the disk of {out}; give fewer --rows or another disk"
            ) from None
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    except BaseException:
        writer.discard()
        raise
    return {
        "kind": "dataset",
        "n_rows": shape.rows,
        "n_cols": shape.cols,
        "nnz": nnz,
        "n_classes": planter.n_classes,
        "n_row_blocks": n_panels,
        "bytes": stored_bytes(path),
        "bad_lines": 0,
        "seconds": time.perf_counter() - started,
        "whole": True,
    }


def _check_asked(spec: Spec, task: str, split: str, *, workers: int, panel_bytes: int, seed: int) -> None:
    if task not in PLANTERS:
        known = ", ".join(PLANTERS)
        raise UsageError(
            f"{spec.name}: no stand-in for {task} yet, only for {known}; give one of them as --task"
        )
    if split not in ("train", "test"):
        raise UsageError(f"split is {split!r}; it must be train or test")
    if workers < 1 or panel_bytes < 1:
        raise UsageError(f"workers is {workers}, panel_bytes {panel_bytes}; both must be at least 1")
    if seed < 0:
        raise UsageError(f"seed is {seed}; it must be 0 or more")


def make_shape(spec: Spec, split: str, given: dict[str, Any], task: str = "classification") -> Shape:
    """The spec's shape with what the user gave instead.

    Raises `UsageError` where neither knows a number, or a number is out of range.
    """
    of_split = "train" if task == "factors" else split  # both splits have the same users
    n_rows = spec.splits[of_split].rows if of_split in spec.splits else None
    planted = {
        "classification": spec.classes,
        "topics": planted_topics.TOPICS,
        "clusters": planted_clusters.CLUSTERS,
    }
    classes = planted.get(task, planted_factors.RANK)
    stated = {"rows": n_rows, "cols": spec.cols, "classes": classes, "nnz_per_row": spec.nnz_per_row}
    if task == "clusters":
        if given["nnz_per_row"] is not None:
            raise UsageError("rows of clusters are dense; leave out --nnz-per-row")
        stated["nnz_per_row"] = spec.cols if given["cols"] is None else given["cols"]
    shape: dict[str, Any] = {key: stated[key] if value is None else value for key, value in given.items()}
    for key, value in shape.items():
        option = f"--{key.replace('_', '-')}"
        if value is None:
            raise UsageError(f"{spec.name} states no {key} for its {split} split; give {option}")
        if not value >= 1:
            raise UsageError(f"{option} is {value}; it must be at least 1")
    for key, most in (("rows", MAX_ROWS), ("cols", MAX_COLS)):
        if shape[key] > most:
            raise UsageError(f"--{key} is {shape[key]}; at most {most} are possible")
    cols, entries = int(shape["cols"]), float(shape["nnz_per_row"])
    most = cols * {"factors": 1 - planted_factors.TEST_SHARE, "topics": 0.5}.get(task, 1.0)
    if entries > most:
        if given["nnz_per_row"] is not None:
            raise UsageError(
                f"--nnz-per-row is {entries:g}, but there are {cols} columns; give at most {most:g}"
            )
        entries = most
    values = str(spec.synth.get("values", "log_counts"))
    if values not in ("log_counts", "counts"):
        raise InputError(f"{spec.name}: synth.values is {values!r}; it must be log_counts or counts")
    return Shape(
        rows=int(shape["rows"]),
        cols=cols,
        classes=int(shape["classes"]),
        nnz_per_row=entries,
        dense=task == "clusters" or (entries == cols and task not in ("factors", "topics")),
        values="counts" if task == "topics" else values,
        normalise=task not in ("topics", "clusters") and bool(spec.synth.get("normalise", True)),
        exponent=float(spec.synth.get("exponent", planted_classes.EXPONENT)),
    )


PLANTERS: dict[str, Callable[[Shape, int, str], Planter]] = {
    "classification": PlantedClasses,
    "regression": functools.partial(PlantedTargets, binary=False),
    "binary": functools.partial(PlantedTargets, binary=True),
    "factors": PlantedRatings,
    "topics": PlantedTopics,
    "clusters": PlantedClusters,
}
"""What is planted for each task: classes, targets of a factorization machine, ratings, documents, dense clusters."""


def _write_panels(
    writer: DatasetWriter, planter: Planter, shape: Shape, step: int, workers: int, progress: Progress | None
) -> tuple[int, int]:
    """Make and write all panels, at most one per worker at a time; returns (panels, entries)."""

    def work(p: int) -> tuple[int, int]:
        lo, hi = p * step, min(shape.rows, (p + 1) * step)
        panel = planter(lo, hi)
        if shape.dense:
            writer.write_dense_panel(p, panel.X.data.reshape(hi - lo, shape.cols), panel, lo)
        else:
            writer.write_panel(p, panel)
        return hi - lo, len(panel.X.data)

    n_panels = -(-shape.rows // step)
    done = nnz = 0
    with ThreadPoolExecutor(workers, thread_name_prefix="synth") as pool:
        for rows, entries in bounded_map(pool, ((work, p) for p in range(n_panels)), workers):
            done, nnz = done + rows, nnz + entries
            if progress is not None:
                progress("write", done, shape.rows)
    return n_panels, nnz


def _check_disk(out: str | Path, shape: Shape) -> None:
    folder = Path(out).absolute().parent
    entry = 4 if shape.dense else 8
    if shape.cols > COLUMNS_IN_MEMORY:
        entry *= 2  # while columns are counted
    per_row, of_columns = entry * shape.nnz_per_row + 24, 16 * shape.cols
    needed = int(shape.rows * per_row) + of_columns
    free = shutil.disk_usage(folder).free if folder.is_dir() else needed
    if needed > free:
        fewer = int((free - of_columns) / per_row * 0.9)
        raise DoesNotFit(
            f"{out} needs about {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free; "
            f"give {f'--rows {fewer}' if fewer > 0 else 'fewer --cols'} or another disk"
        )
