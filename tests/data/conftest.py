"""Fixtures of the readers and of ingest."""

import pytest

from oocml.data import array_rows, deal, entry_spill, ingest_parts, sparse_source


@pytest.fixture
def tiny_batches(monkeypatch):
    """Batches and ranges so small that every matrix needs many."""
    for module in (array_rows, sparse_source):
        monkeypatch.setattr(module, "BATCH_ENTRIES", 7)
    monkeypatch.setattr("oocml.data.arrays.BATCH_ENTRIES", 50)
    monkeypatch.setattr(entry_spill, "BUFFER_ENTRIES", 40)
    monkeypatch.setattr(entry_spill, "RANGE_ENTRIES", 16)
    monkeypatch.setattr(entry_spill, "RANGE_ROWS", 9)


@pytest.fixture
def small(monkeypatch):
    """Many parts, spill files, buckets and panels from a few hundred rows."""
    monkeypatch.setattr("oocml.data.ingest_run.MIN_PART_BYTES", 500)
    monkeypatch.setattr("oocml.data.ingest_run.MAX_PART_BYTES", 2000)
    monkeypatch.setattr(ingest_parts, "SPILL_BYTES", 1500)
    monkeypatch.setattr(deal, "BUCKET_BYTES", 4000)
    monkeypatch.setattr("oocml.data.parts.BLOCK_BYTES", 300)
