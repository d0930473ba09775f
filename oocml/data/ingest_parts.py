"""Stage 1 of an ingest: a part is read into spill files. Any thread or process may run these functions."""

from __future__ import annotations

import hashlib
import os

import numpy as np

from oocml.data.deal import deal_keys
from oocml.data.draw import drawn, index_range
from oocml.data.gather import rows_of_entries
from oocml.data.ingest_job import Job, PartRecord, check_going_on, save
from oocml.data.readers import BadLines, EntryBatch, LabelLists, Part, RowBatch, TooManyBad, make_reader
from oocml.data.source_files import iter_files
from oocml.data.spill import Rows, SpillInfo, UInt64Array, rows_of_batches, sort_rows, write_spill
from oocml.types import Csr, Float64Array

SPILL_BYTES = 40 << 20
"""Rows of a part that are in memory at a time."""
HASH_BYTES = 8 << 20


def read_part(job: Job, part: Part, source: int) -> PartRecord:
    """Read a part into spill files.

    Parameters
    ----------
    source
        Which of the sources the part belongs to, from 0.
    """
    reader = make_reader(job.format, job.options)
    bad = BadLines(limit=job.max_bad)
    tally = _PartTally()
    spills: list[SpillInfo] = []
    held: list[RowBatch] = []
    entries: list[EntryBatch] = []
    keys: list[UInt64Array] = []
    first_row = held_bytes = 0

    def spill() -> None:
        nonlocal held_bytes, first_row
        if entries:
            rows = rows_of_entries(entries, job.seed)
            tally.add_fragments(rows)
        else:
            rows = sort_rows(rows_of_batches(held, keys, first_row))
        for done in (held, entries, keys):
            done.clear()
        first_row, held_bytes = first_row + rows.n_rows, 0
        spills.append(write_spill(job.work / "spills", part.index, len(spills), rows))

    too_many = False
    try:
        for batch in reader.read(part, bad):
            check_going_on(job)
            if isinstance(batch, EntryBatch):
                if len(batch.row):
                    entries.append(batch)
                    held_bytes += sum(values.nbytes for values in batch)
            elif len(batch.position):
                if job.draw is not None:
                    batch = drawn(job.draw, source, batch)
                tally.add(batch)
                held.append(batch)
                keys.append(
                    deal_keys(source, batch.position, batch.qid, seed=job.seed, keep_order=job.keep_order)
                )
                held_bytes += _batch_bytes(batch)
            if held_bytes >= SPILL_BYTES:
                spill()
        if held_bytes:
            spill()
    except TooManyBad:
        too_many = True
    record = tally.record(part.index, bad, too_many, spills)
    if not too_many:
        save(job.record("facts", part.index), reader.facts())
        save(job.record("parts", part.index), record)
    return record


class _PartTally:
    """Counts over the batches of a part."""

    def __init__(self) -> None:
        self.n_rows = self.nnz = self.n_labels = self.max_labels = self.n_queries = 0
        self.lowest = self.highest = -1
        self.labels: Float64Array | None = np.zeros(0)
        self.dense = False

    def add(self, batch: RowBatch) -> None:
        self.n_rows += len(batch.position)
        lowest, highest = index_range(batch)
        if highest >= 0:
            self.lowest = lowest if self.lowest < 0 else min(self.lowest, lowest)
            self.highest = max(self.highest, highest)
        if isinstance(batch.X, Csr):
            self.nnz += len(batch.X.data)
        else:
            self.nnz += batch.X.size
            self.dense = True
        if batch.labels is not None:
            self._add_labels(batch.labels)
        if batch.qid is not None:
            self.n_queries += int(np.count_nonzero(batch.qid >= 0))

    def add_fragments(self, rows: Rows) -> None:
        """Count rows made of entries: how many fragments there are, not how many rows."""
        self.n_rows += rows.n_rows
        self.nnz += len(rows.X.data) if isinstance(rows.X, Csr) else 0

    def _add_labels(self, labels: LabelLists) -> None:
        self.n_labels += len(labels.values)
        self.max_labels = max(self.max_labels, int(np.diff(labels.indptr).max(initial=0)))
        if self.labels is not None:
            new = np.unique(labels.values)
            whole = bool((new == np.rint(new)).all())
            self.labels = np.union1d(self.labels, new) if whole else None

    def record(self, part: int, bad: BadLines, too_many: bool, spills: list[SpillInfo]) -> PartRecord:
        return PartRecord(
            part=part,
            n_rows=self.n_rows,
            nnz=self.nnz,
            index_range=(self.lowest, self.highest),
            n_labels=self.n_labels,
            max_labels=self.max_labels,
            labels=self.labels,
            n_queries=self.n_queries,
            dense=self.dense,
            bad=bad,
            too_many_bad=too_many,
            spills=spills,
        )


def _batch_bytes(batch: RowBatch) -> int:
    entries = 8 * len(batch.X.data) if isinstance(batch.X, Csr) else batch.X.nbytes
    return entries + 40 * len(batch.position)


def hash_source(job: Job, number: int, path: str) -> None:
    """Write the sha256 of a source, unless it is on record."""
    record = job.work / "hashes" / str(number)
    if record.exists():
        return
    digest = hashlib.sha256()
    for name in iter_files(path):
        with open(name, "rb", buffering=0) as file:
            while piece := file.read(HASH_BYTES):
                check_going_on(job)
                digest.update(piece)
    temporary = record.with_suffix(".tmp")
    temporary.write_text(digest.hexdigest())
    os.replace(temporary, record)
