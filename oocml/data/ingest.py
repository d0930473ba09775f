"""Files to a dataset: streaming, parallel, resumable, in bounded memory.

::

    sources --parts--> read_part --> spill files, sorted by deal key      (stage 1, one record per part)
                       merge     --> plan: columns, labels, transform     (the source is not needed any more)
    spill files ------> form_panels, one bucket of keys at a time         (stage 2, one record per bucket)
    panels -----------> finish, rename

Everything temporary is in ``<out>.partial``. An ingest that was killed goes on from the parts and buckets on record
when it is called again with the same arguments and unchanged sources; bad input removes the folder. Disk needed
meanwhile: the dataset twice.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

import psutil

from oocml.config import parse_size
from oocml.data import transforms
from oocml.data.dataset import Dataset
from oocml.data.draw import Draw
from oocml.data.ingest_job import Job
from oocml.data.ingest_run import IngestRun, Limits, Progress
from oocml.data.partial import Lock, check_target, claim, partial_of
from oocml.data.readers import default_options, make_reader
from oocml.data.writer import DatasetWriter
from oocml.errors import DoesNotFit, InputError, UsageError

PANEL_BYTES = 8 << 20
BASE_BYTES = 220 << 20
"""Memory of the process itself, libraries and compiled kernels included."""
WORKER_BYTES = 200 << 20
"""Memory of one worker: rows of a spill file or a bucket, read, joined and sorted."""


def ingest(
    format: str,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
    transform: str | None = None,
    max_bad: int = 0,
    keep_order: bool = False,
    seed: int = 0,
    n_cols: int | None = None,
    panel_bytes: int = PANEL_BYTES,
    memory: int | str | None = None,
    workers: int | None = None,
    client: Any = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    draw: Draw | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Turn files into a dataset.

    Parameters
    ----------
    format
        A key of `oocml.data.readers.READERS`.
    sources
        One or more files, read in this order.
    out
        Path of the dataset; must not exist, unless ``overwrite`` and it is a dataset.
    like
        A training set: columns, names, label kind, index base and fitted transform are taken from it, entries
        of columns it doesn't have are dropped and counted.
    transform
        ``none`` (default), ``binary``, ``log1p`` or ``tfidf``.
    max_bad
        Bad lines to skip and count before giving up.
    keep_order
        Keep rows in file order instead of dealing them to panels at random.
    seed
        Of the deal. Same files, same arguments: same bytes, whatever the number of workers.
    n_cols
        Columns to make, if more than occur.
    panel_bytes
        Size of a panel in memory.
    memory
        What the whole ingest may use, in bytes or as ``"700MiB"``; lowers ``workers``.
    workers
        Threads; default: one per CPU.
    client
        A Dask client to run on instead of threads.
    draw
        Which of the rows are wanted (default: all).
    options
        Of the format.

    Returns
    -------
    The keys of ``oocml ingest --json``.

    Raises
    ------
    InputError
        A file is missing, empty, damaged or has bad lines; names file and line. Nothing is left behind.
    UsageError
        Unknown format, option or combination.
    DoesNotFit
        Less memory or disk than needed.
    """
    started = time.perf_counter()
    paths = [os.fspath(s) for s in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    if not paths:
        raise UsageError("no source file given")
    out = os.path.abspath(out)
    train = _open_like(like, transform, n_cols)
    kind = transforms.check_kind(transform or "none")
    limits = _limits(memory, workers, client)
    work = partial_of(out)
    options = {**default_options(format, train, str(work)), **options}
    if getattr(make_reader(format, options), "gathers", False):
        seed = _check_gathering(format, train, kind, n_cols, keep_order, seed)
    check_target(out, overwrite=overwrite)
    lock = claim(work)
    job = Job(format, options, work, max_bad, seed, keep_order, panel_bytes, draw)
    run = IngestRun(job, paths, train, kind, n_cols, limits, progress or _silent)
    try:
        _carry_out(run, out, overwrite, lock)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DoesNotFit(
                f"no space left on the disk of {out}; make room and run it again to go on"
            ) from None
        raise
    except InputError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        lock.release()
    info = Dataset.open(out).info()
    return {**info, "seconds": time.perf_counter() - started, "resumed_parts": run.resumed_parts}


def _carry_out(run: IngestRun, out: str, overwrite: bool, lock: Lock) -> None:
    run.prepare()
    records = run.read()
    plan, schema, totals = run.plan(records)
    writer = DatasetWriter(
        out,
        n_cols=plan.n_cols,
        label_kind=plan.label_kind,
        sparse=not plan.panel_rows,
        overwrite=overwrite,
        lock=lock,
    )
    run.finish(writer, schema, totals, run.form(plan, writer))


def _open_like(
    like: str | os.PathLike[str] | None, transform: str | None, n_cols: int | None
) -> Dataset | None:
    if like is None:
        return None
    train = Dataset.open(like)
    kind = train.attrs["transform"]["kind"]
    if transform is not None and transform != kind:
        raise UsageError(
            f"--transform {transform} contradicts --like {like}, whose transform is {kind}; leave it out"
        )
    if n_cols is not None:
        raise UsageError("the number of columns is the training set's; leave out --n-cols")
    return train


def _check_gathering(
    format: str, train: Dataset | None, kind: str, n_cols: int | None, keep_order: bool, seed: int
) -> int:
    """The seed of the deal; refuses what means nothing where rows are gathered from entries."""
    if keep_order:
        raise UsageError(
            f"rows of {format} are gathered from all of the sources, which have no order to keep"
        )
    if n_cols is not None:
        raise UsageError(f"the columns of {format} are the items that occur; leave out --n-cols")
    if kind == "tfidf":
        raise UsageError(f"tfidf counts rows, which {format} are not; use --transform none, binary or log1p")
    if train is None:
        return seed
    if "rows_like" in train.attrs or train.iter_names("row_names") is None:
        what = "test data of another set" if "rows_like" in train.attrs else "not made of ratings"
        raise InputError(f"{train.path} is {what}; give --like a training set made of ratings")
    return int(train.attrs["seed"])


def _limits(memory: int | str | None, workers: int | None, client: Any) -> Limits:
    """As many workers as asked for (or CPUs) and as fit the memory given (or free)."""
    wanted = workers or os.cpu_count() or 1
    if memory is None:
        return Limits(wanted, psutil.virtual_memory().available, client)
    memory = parse_size(memory)
    fit = (memory - BASE_BYTES) // WORKER_BYTES
    if fit < 1:
        need = (BASE_BYTES + WORKER_BYTES) >> 20
        raise DoesNotFit(
            f"ingest needs {need} MiB of memory, {memory >> 20} MiB given; raise --memory to {need}MiB"
        )
    return Limits(min(wanted, fit), memory, client)


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total
