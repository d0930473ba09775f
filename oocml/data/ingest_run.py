"""One ingest, step by step: what is on record already, what is still to do, on which threads or workers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oocml.data import transforms
from oocml.data.arguments import recorded
from oocml.data.bounded_map import bounded_map
from oocml.data.dataset import Dataset
from oocml.data.deal import bucket_cuts, dense_panel_rows, write_splits
from oocml.data.gather import gather_panels, gathered_attrs, plan_gathering
from oocml.data.ingest_job import BucketRecord, Job, PartFacts, PartRecord, Plan, load, map_path, save
from oocml.data.ingest_panels import fit_spill, form_panels
from oocml.data.ingest_parts import hash_source, read_part
from oocml.data.ingest_refusals import (
    bad_line,
    check_disk,
    check_memory,
    check_unchanged,
    fewer_columns,
    nothing_left,
)
from oocml.data.ingest_schema import checked, label_kind_of, totals_of
from oocml.data.partial import empty
from oocml.data.readers import Part, Schema, Totals, make_reader
from oocml.data.source_files import fingerprint, source_bytes
from oocml.data.writer import DatasetWriter
from oocml.errors import InputError

MIN_PART_BYTES, MAX_PART_BYTES = 4 << 20, 32 << 20

Progress = Callable[[str, int, int], None]
"""Called with a stage ("read", "fit", "write"), what is done and the total, in bytes of source or rows."""


@dataclass(frozen=True)
class Limits:
    """What an ingest may use; decides nothing about the bytes of the dataset."""

    workers: int
    memory: int
    """Bytes for everything, also for what grows with the number of columns."""
    client: Any = None
    """A Dask client whose workers see the same paths; tasks then run there."""

    @property
    def n_threads(self) -> int:
        return self.workers if self.client is None else sum(self.client.nthreads().values())


@dataclass
class IngestRun:
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
            file.unlink(missing_ok=True)
            empty(self.work)
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
            "more": [self.transform, self.n_cols, job.draw],
        }

    def _arguments(self) -> dict[str, Any]:
        job = self.job
        asked = {"max_bad": job.max_bad, "keep_order": job.keep_order, "panel_bytes": job.panel_bytes}
        return {**job.options, **asked, "transform": self.transform, "n_cols": self.n_cols}

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
        with self._executor() as pool:
            hashes = [pool.submit(hash_source, self.job, n, path) for n, path in enumerate(self.paths)]
            tasks = ((read_part, self.job, part, sources[part.path]) for part in todo)
            for record in bounded_map(
                pool, tasks, 2 * self.limits.n_threads, stop=lambda: self._too_many(bad)
            ):
                if record.bad.count:
                    bad.append(record)
                done(record.part)
            if self._too_many(bad):
                raise self._bad_input(bad)
            for future in hashes:
                future.result()
        records = [load(self.job.record("parts", part.index)) for part in self.parts]
        bad = [record for record in records if record.bad.count]
        if self._too_many(bad):
            raise self._bad_input(bad)
        return records

    def _too_many(self, bad: list[PartRecord]) -> bool:
        return sum(record.bad.count for record in bad) > self.job.max_bad

    def _bad_input(self, failed: list[PartRecord]) -> InputError:
        """Names the first bad line that is known."""
        record = min(failed, key=lambda r: r.part)
        return bad_line(self.parts[record.part], record.bad, self.job.max_bad)

    # -- between ----------------------------------------------------------------------------------------

    def plan(self, records: list[PartRecord]) -> tuple[Plan, Schema, Totals]:
        """What columns and labels are, and how spilled rows are cut into buckets."""
        check_unchanged(self.job, self.paths)
        totals = totals_of(records)
        if not totals.n_rows:
            raise nothing_left(self.paths[0], self.job)
        if totals.has_qid and self.job.keep_order:
            raise InputError(
                f"{self.paths[0]} has queries, whose rows are stored together; leave out --keep-order "
                "(predictions come in the order of the source)"
            )
        reader = make_reader(self.job.format, self.job.options)
        facts = PartFacts(self.job, len(records))
        schema = checked(reader.merge(self.parts, facts, totals, self.like), totals, self.n_cols, self.paths)
        fewer = fewer_columns(self.job) if self.like is None else None
        check_memory(schema, self.paths[0], self.limits.memory, fewer)
        for part in self.parts:
            for what, mapping in (("cols", schema.column_map), ("labels", schema.label_map)):
                values = mapping(part.index)
                if values is not None:
                    np.save(map_path(self.work, part.index, what), values)
        kind, labels = label_kind_of(schema, totals, self.paths[0])
        spills = [info for record in records for info in record.spills]
        check_disk(self.work, sum(info.n_bytes for info in spills))
        panel_rows = dense_panel_rows(schema.n_cols, self.job.panel_bytes) if totals.dense else 0
        folder = self.work / "spills"
        if schema.rows is not None:
            gather, cuts = plan_gathering(self.job, schema.rows, self.like, spills)
        else:
            gather = None
            cuts = bucket_cuts(folder, spills, keep_order=self.job.keep_order, panel_rows=panel_rows)
        sizes = write_splits(folder, spills, cuts, self.work / "splits")
        if gather is not None:
            sizes = np.resize(sizes, gather.n_buckets)
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
            gather=gather,
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
                    for part in bounded_map(pool, tasks, self.limits.n_threads):
                        state = transforms.merge(state, part)
                        done += part.n_rows
                        self.progress("fit", done, total)
            fitted = transforms.finish(state, plan.n_cols)
        save(self.work / "transform.pickle", fitted)

    # -- stage 2 ----------------------------------------------------------------------------------------

    def form(self, plan: Plan, writer: DatasetWriter) -> list[BucketRecord]:
        """Form the panels of all buckets not on record."""
        rows = np.diff(plan.bucket_first_row)
        todo = [b for b in range(plan.n_buckets) if not self.job.record("buckets", b).exists()]
        done = int(rows.sum() - rows[todo].sum())
        task = form_panels if plan.gather is None else gather_panels
        with self._executor() as pool:
            tasks = ((task, self.job, b, writer) for b in todo)
            for record in bounded_map(pool, tasks, 2 * self.limits.n_threads):
                done += int(rows[record.bucket])
                self.progress("write", done, int(rows.sum()))
        return [load(self.job.record("buckets", b)) for b in range(plan.n_buckets)]

    def finish(
        self, writer: DatasetWriter, schema: Schema, totals: Totals, buckets: list[BucketRecord]
    ) -> None:
        """Let the dataset appear."""
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
                **gathered_attrs(schema.rows, self.like, buckets),
                **({} if self.job.draw is None else {"split": self.job.draw._asdict()}),
                "format": self.job.format,
                "arguments": recorded(self.job.format, self._arguments()),
                "index_base": schema.index_base,
                "source": source,
                "sha256": hashes[0] if len(hashes) == 1 else _hash_of(hashes),
                "bad_lines": totals.n_bad,
                "dropped_features": sum(record.dropped for record in buckets) if schema.drop_unseen else 0,
                "seed": None if self.job.keep_order else self.job.seed,
            },
            labels=schema.labels,
            label_names=schema.label_names,
            feature_names=schema.feature_names,
            row_names=None if schema.rows is None else schema.rows.names,
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


def _hash_of(hashes: Sequence[str]) -> str:
    """sha256 over the hex digests of several sources, in order."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
