"""Fixtures of the readers."""

import pytest

from oocml.data import array_rows, entry_spill, sparse_source


@pytest.fixture
def tiny_batches(monkeypatch):
    """Batches and ranges so small that every matrix needs many."""
    for module in (array_rows, sparse_source):
        monkeypatch.setattr(module, "BATCH_ENTRIES", 7)
    monkeypatch.setattr("oocml.data.arrays.BATCH_ENTRIES", 50)
    monkeypatch.setattr(entry_spill, "BUFFER_ENTRIES", 40)
    monkeypatch.setattr(entry_spill, "RANGE_ENTRIES", 16)
    monkeypatch.setattr(entry_spill, "RANGE_ROWS", 9)
