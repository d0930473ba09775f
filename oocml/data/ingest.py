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

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oocml.config import parse_size
from oocml.data import transforms
from oocml.data.bounded_map import bounded_map
from oocml.data.dataset import Dataset
from oocml.data.deal import bucket_cuts, dense_panel_rows, write_splits
from oocml.data.ingest_tasks import (
    BucketRecord,
    Job,
    PartFacts,
    PartRecord,
    Plan,
    fit_spill,
    form_panels,
    hash_source,
    load,
    map_path,
    read_part,
    save,
)
from oocml.data.parts import compression, count_lines
from oocml.data.readers import Part, Schema, Totals, inherited_options, make_reader
from oocml.data.source_files import fingerprint, source_bytes
from oocml.data.writer import MAX_LABELS, DatasetWriter, check_target, claim, partial_of
from oocml.errors import DoesNotFit, InputError, OocmlError, UsageError

PANEL_BYTES = 8 << 20
MIN_PART_BYTES, MAX_PART_BYTES = 4 << 20, 32 << 20
BASE_BYTES = 220 << 20
"""Memory of the process itself, libraries and compiled kernels included."""
WORKER_BYTES = 200 << 20
"""Memory of one worker: rows of a spill file or a bucket, read, joined and sorted."""

Progress = Callable[[str, int, int], None]
"""Called with a stage ("read", "fit", "write"), what is done and the total, in bytes of source or rows."""


@dataclass(frozen=True)
class Limits:
    """What an ingest may use; decides nothing about the bytes of the dataset."""

    workers: int
    client: Any = None
    """A Dask client whose workers see the same paths; then `workers` is not used."""


def ingest(
    format: str,  # noqa: A002
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
    limits = Limits(_worker_count(memory, workers), client)
    options = {**inherited_options(format, train), **options}
    make_reader(format, options)
    check_target(out, overwrite=overwrite)
    work = partial_of(out)
    lock = claim(work, resume=True)
    job = Job(format, options, work, max_bad, seed, keep_order, panel_bytes)
    run = _Run(job, paths, train, kind, n_cols, limits, progress or _silent)
    try:
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
        buckets = run.form(plan, writer)
        run.finish(writer, schema, totals, buckets)
    except OSError as error:
        _unlock(lock)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DoesNotFit(
                f"no space left on the disk of {out}; make room and run it again to go on"
            ) from None
        raise
    except OocmlError as error:
        if isinstance(error, InputError):
            shutil.rmtree(work, ignore_errors=True)
        _unlock(lock)
        raise
    except BaseException:
        _unlock(lock)
        raise
    info = Dataset.open(out).info()
    return {**info, "seconds": time.perf_counter() - started, "resumed_parts": run.resumed_parts}


@dataclass
class _Run:
    """One ingest from start to finish."""

    job: Job
    paths: list[str]
    like: Dataset | None
    transform: transforms.Kind
    n_cols: int | None
    limits: Limits
    progress: Progress
    resumed_parts: int = 0

    @property
    def work(self) -> Path:
        return self.job.work

    # -- before -----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Go on with a folder made by the same arguments from the same files, or start afresh."""
        identity = json.dumps(self._identity(), sort_keys=True, default=str)
        file = self.work / "job.json"
        if not file.exists() or file.read_text() != identity:
            for entry in self.work.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
            for name in ("parts", "facts", "spills", "maps", "buckets", "hashes"):
                (self.work / name).mkdir()
            file.write_text(identity)
        self.job.stop_file.unlink(missing_ok=True)

    def _identity(self) -> dict[str, Any]:
        job, like = self.job, self.like
        return {
            "sources": [fingerprint(path) for path in self.paths],
            "like": None if like is None else [like.path, os.stat(f"{like.path}/zarr.json").st_mtime_ns],
            "arguments": [
                job.format,
                dict(job.options),
                job.max_bad,
                job.seed,
                job.keep_order,
                job.panel_bytes,
            ],
            "more": [self.transform, self.n_cols],
        }

    # -- stage 1 ----------------------------------------------------------------------------------------

    def read(self) -> list[PartRecord]:
        """Read all parts not on record."""
        total = sum(source_bytes(path) for path in self.paths)
        part_bytes = int(np.clip(total // 16, MIN_PART_BYTES, MAX_PART_BYTES))
        self.parts = make_reader(self.job.format, self.job.options).parts(self.paths, part_bytes)
        sources = {path: n for n, path in enumerate(self.paths)}
        todo = [part for part in self.parts if not self.job.record("parts", part.index).exists()]
        self.resumed_parts = len(self.parts) - len(todo)
        done = self._progress_of("read", total, self.parts)
        for part in self.parts:
            if self.job.record("parts", part.index).exists():
                done(part.index)
        bad: list[PartRecord] = []
        n_bad, failed = 0, False
        with self._executor() as pool:
            hashes = [pool.submit(hash_source, self.job, n, path) for n, path in enumerate(self.paths)]
            tasks = ((read_part, self.job, part, sources[part.path]) for part in todo)
            for record in bounded_map(pool, tasks, 2 * self.limits.workers, stop=lambda: failed):
                n_bad += record.bad.count
                if record.bad.count:
                    bad.append(record)
                failed = failed or record.too_many_bad or n_bad > self.job.max_bad
                done(record.part)
            if failed:
                raise self._bad_input(bad)
            for future in hashes:
                future.result()
        records = [load(self.job.record("parts", part.index)) for part in self.parts]
        bad = [record for record in records if record.bad.count]
        if sum(record.bad.count for record in bad) > self.job.max_bad:
            raise self._bad_input(bad)
        return records

    def _bad_input(self, failed: list[PartRecord]) -> InputError:
        """Names the first bad line that is known."""
        record = min(failed, key=lambda r: r.part)
        part, bad = self.parts[record.part], record.bad
        line = bad.first_line + 1
        if bad.unit == "row":
            line += part.lo
        elif part.lo and compression(part.path) is None:
            line += count_lines(part.path, part.lo)
            with open(part.path, "rb") as file:
                file.seek(part.lo - 1)
                line += file.read(1) != b"\n"
        more = ""
        if self.job.max_bad:
            more = f"; more than {self.job.max_bad} bad lines (--max-bad)"
        return InputError(f"{part.path} {bad.unit} {line}: {bad.first_reason}{more}")

    # -- between ----------------------------------------------------------------------------------------

    def plan(self, records: list[PartRecord]) -> tuple[Plan, Schema, Totals]:
        """What columns and labels are, and how spilled rows are cut into buckets."""
        self._check_unchanged()
        totals = _totals(records)
        if not totals.n_rows:
            raise InputError(f"{self.paths[0]} has no rows")
        reader = make_reader(self.job.format, self.job.options)
        facts = PartFacts(self.job, len(records))
        schema = _checked(reader.merge(self.parts, facts, totals, self.like), totals, self.n_cols, self.paths)
        for part in self.parts:
            for what, mapping in (("cols", schema.column_map), ("labels", schema.label_map)):
                values = mapping(part.index)
                if values is not None:
                    np.save(map_path(self.work, part.index, what), values)
        kind, labels = _label_kind(schema, totals, self.paths[0])
        spills = [info for record in records for info in record.spills]
        self._check_disk(sum(info.n_bytes for info in spills))
        panel_rows = dense_panel_rows(schema.n_cols, self.job.panel_bytes) if totals.dense else 0
        folder = self.work / "spills"
        cuts = bucket_cuts(folder, spills, keep_order=self.job.keep_order, panel_rows=panel_rows)
        sizes = write_splits(folder, spills, cuts, self.work / "splits")
        plan = Plan(
            n_cols=schema.n_cols,
            index_base=schema.index_base,
            label_kind=kind,
            labels=labels,
            part_first_row=np.cumsum([0, *(record.n_rows for record in records)])[:-1],
            spills=spills,
            n_buckets=len(sizes),
            panel_rows=panel_rows,
            bucket_first_row=np.concatenate([[0], np.cumsum(sizes)]),
        )
        save(self.work / "plan.pickle", plan)
        self._fit(plan)
        return plan, replace(schema, label_kind=kind, labels=labels), totals

    def _fit(self, plan: Plan) -> None:
        """Fit the transform on the spilled rows, or take the training set's."""
        if (self.work / "transform.pickle").exists():
            return
        if self.like is not None:
            stored = self.like.transform
            fitted = transforms.from_stored(self.like.attrs["transform"], stored)
        else:
            state = transforms.fit_start(self.transform, plan.n_cols)
            if transforms.needs_fit(self.transform):
                done, total = 0, sum(info.n_rows for info in plan.spills)
                with self._executor() as pool:
                    tasks = ((fit_spill, self.job, info, self.transform) for info in plan.spills)
                    for part in bounded_map(pool, tasks, self.limits.workers):
                        state = transforms.merge(state, part)
                        done += part.n_rows
                        self.progress("fit", done, total)
            fitted = transforms.finish(state, plan.n_cols)
        save(self.work / "transform.pickle", fitted)

    def _check_unchanged(self) -> None:
        known = json.loads((self.work / "job.json").read_text())["sources"]
        for path, before in zip(self.paths, known, strict=True):
            if fingerprint(path) != before:
                raise InputError(f"{path} changed while it was read; ingest it again")

    def _check_disk(self, n_bytes: int) -> None:
        free = shutil.disk_usage(self.work).free
        if n_bytes > free:
            raise DoesNotFit(
                f"the dataset needs {n_bytes >> 20} MiB more on the disk of {self.work.parent}, "
                f"which has {free >> 20} MiB free; make room and run it again to go on"
            )

    # -- stage 2 ----------------------------------------------------------------------------------------

    def form(self, plan: Plan, writer: DatasetWriter) -> list[BucketRecord]:
        """Form the panels of all buckets not on record."""
        rows = np.diff(plan.bucket_first_row)
        todo = [b for b in range(plan.n_buckets) if not self.job.record("buckets", b).exists()]
        done = int(rows.sum() - rows[todo].sum())
        with self._executor() as pool:
            tasks = ((form_panels, self.job, b, writer) for b in todo)
            for record in bounded_map(pool, tasks, 2 * self.limits.workers):
                done += int(rows[record.bucket])
                self.progress("write", done, int(rows.sum()))
        return [load(self.job.record("buckets", b)) for b in range(plan.n_buckets)]

    def finish(
        self, writer: DatasetWriter, schema: Schema, totals: Totals, buckets: list[BucketRecord]
    ) -> None:
        panels = [p for record in buckets for p in record.panels]
        hashes = [(self.work / "hashes" / str(n)).read_text() for n in range(len(self.paths))]
        source = [
            {"name": os.path.basename(path), "bytes": source_bytes(path), "sha256": digest}
            for path, digest in zip(self.paths, hashes, strict=True)
        ]
        fitted = load(self.work / "transform.pickle")
        writer.finish(
            n_panels=len(panels),
            panels=panels,
            attrs={
                **schema.attrs,
                "format": self.job.format,
                "index_base": schema.index_base,
                "source": source,
                "sha256": hashes[0]
                if len(hashes) == 1
                else hashlib.sha256("".join(hashes).encode()).hexdigest(),
                "bad_lines": totals.n_bad,
                "dropped_features": sum(record.dropped for record in buckets),
                "seed": None if self.job.keep_order else self.job.seed,
            },
            labels=schema.labels,
            label_names=schema.label_names,
            feature_names=schema.feature_names,
            transform={**fitted.attrs(), **fitted.arrays()},
            arrays=schema.arrays,
        )

    # -- running ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _executor(self) -> Iterator[Executor]:
        pool: Executor
        if self.limits.client is not None:
            pool = self.limits.client.get_executor(pure=False, retries=0)
        else:
            pool = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="ingest")
        try:
            yield pool
        except BaseException:
            self.job.stop_file.touch()
            raise
        finally:
            pool.shutdown(wait=True)

    def _progress_of(self, stage: str, total: int, parts: Sequence[Part]) -> Callable[[int], None]:
        """A function to call with each part done, which counts as its share of its source."""
        length: dict[str, int] = {}
        for part in parts:
            length[part.path] = length.get(part.path, 0) + part.hi - part.lo
        bytes_of = {path: source_bytes(path) for path in length}
        seen = 0.0

        def done(index: int) -> None:
            nonlocal seen
            part = parts[index]
            seen += bytes_of[part.path] * (part.hi - part.lo) / length[part.path]
            self.progress(stage, min(round(seen), total), total)

        return done


def _totals(records: Sequence[PartRecord]) -> Totals:
    seen = [record.index_range for record in records if record.index_range[1] >= 0]
    n_rows, n_queries = sum(r.n_rows for r in records), sum(r.n_queries for r in records)
    if 0 < n_queries < n_rows:
        raise InputError(f"{n_rows - n_queries} of {n_rows} rows have no qid; give every row one, or none")
    max_labels = max((r.max_labels for r in records), default=0)
    return Totals(
        n_rows=n_rows,
        nnz=sum(r.nnz for r in records),
        n_bad=sum(r.bad.count for r in records),
        min_index=min((low for low, _ in seen), default=-1),
        max_index=max((high for _, high in seen), default=-1),
        n_labels=sum(r.n_labels for r in records),
        max_labels=max_labels,
        labels=_distinct([r.labels for r in records], single=max_labels <= 1),
        has_qid=n_queries > 0,
        dense=any(r.dense for r in records),
    )


def _distinct(labels: Sequence[npt.NDArray[Any] | None], *, single: bool) -> npt.NDArray[Any] | None:
    known: npt.NDArray[Any] = np.zeros(0)
    for found in labels:
        if found is None:
            return None
        known = np.union1d(known, found)
        if single and len(known) > MAX_LABELS:
            return None
    return known


def _checked(schema: Schema, totals: Totals, n_cols: int | None, paths: Sequence[str]) -> Schema:
    """The schema, widened to the columns asked for."""
    if n_cols is not None:
        if schema.n_cols > n_cols:
            raise InputError(f"{paths[0]} has {schema.n_cols} columns, more than the {n_cols} asked for")
        schema = replace(schema, n_cols=n_cols)
    if schema.n_cols < 1:
        raise InputError(f"{paths[0]} has no features in any of {totals.n_rows} rows")
    if totals.dense and totals.max_index + 1 != schema.n_cols:
        raise InputError(f"{paths[0]} has {totals.max_index + 1} columns, not {schema.n_cols}")
    return schema


def _label_kind(schema: Schema, totals: Totals, path: str) -> tuple[str, npt.NDArray[Any] | None]:
    """Kind of labels, and the label ids that sets index."""
    kind = schema.label_kind
    if kind is None:
        kind = "sets" if totals.max_labels > 1 else "number" if totals.n_labels else "none"
    if kind != "sets":
        return kind, schema.labels
    if schema.labels is not None:
        return kind, schema.labels
    if totals.labels is None:
        raise InputError(f"{path}: rows with several labels need whole numbers as labels, some are not")
    return kind, totals.labels.astype(np.int64)


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
        raise UsageError("the number of columns is the training set's; leave out n_cols")
    return train


def _worker_count(memory: int | str | None, workers: int | None) -> int:
    wanted = workers or os.cpu_count() or 1
    if memory is None:
        return wanted
    memory = parse_size(memory)
    fit = (memory - BASE_BYTES) // WORKER_BYTES
    if fit < 1:
        need = (BASE_BYTES + WORKER_BYTES) >> 20
        raise DoesNotFit(
            f"ingest needs {need} MiB of memory, {memory >> 20} MiB given; raise --memory to {need}MiB"
        )
    return min(wanted, fit)


def _unlock(lock: int) -> None:
    with contextlib.suppress(OSError):
        os.close(lock)


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total
