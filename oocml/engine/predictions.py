"""Predictions of a run, in the order of the source's rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oocml.data.column_order import ColumnOrder
from oocml.data.dataset import Dataset
from oocml.data.entry_spill import BUFFER_ENTRIES, EntrySpill
from oocml.engine.out_path import making
from oocml.engine.output_names import OutputNames
from oocml.engine.prediction_sinks import Sink, TextSink, ZarrSink
from oocml.engine.spool import RowSpool
from oocml.models.protocol import Array
from oocml.store.run import RunStore

ROW_IDS = 2**20
"""Row numbers that are looked at at a time."""

Batch = tuple[npt.NDArray[np.int64], dict[str, Array]]


def in_data_order(
    outputs: Mapping[str, Array], row_ids: npt.NDArray[np.int64], order: ColumnOrder
) -> dict[str, Array]:
    """What a model of tiles predicts for a batch, with row numbers of the source and columns of the dataset.

    Parameters
    ----------
    row_ids
        Of the batch's rows.
    order
        Of the run's columns.
    """
    found = dict(outputs)
    if "columns" in found:
        place = found["columns"]
        columns = order.columns_at(np.maximum(place, 0)).astype(np.int64)
        found["columns"] = np.where(place >= 0, columns, -1)
    if "rows" in found:
        found["rows"] = row_ids[found["rows"]]
    return found


def write_predictions(
    batches: Iterator[Batch],
    out: str | os.PathLike[str],
    run: RunStore,
    dataset: Dataset,
    *,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write predictions to ``.zarr`` or text; returns the number of rows of the source, and of predicted entries.

    Predictions of rows come in the order of the source, those of entries (outputs with ``rows``) by row and column.
    They are spooled by range of rows, so memory holds one range at a time whatever the number of rows. Rows of the
    source that the dataset left out have label or column -1; their scores are 0 for labels, else NaN.
    """
    path = Path(os.path.abspath(out))
    with (
        making(path, "predictions", overwrite=overwrite) as beside,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-spool-") as folder,
    ):
        scratch = Path(folder)
        sink: Sink = (
            ZarrSink(beside)
            if path.suffix == ".zarr"
            else TextSink(beside, OutputNames(run, dataset, scratch))
        )
        with closing(sink):
            first = next(batches, None)
            if first is None:
                return {"n_rows": 0}
            batches = chain([first], batches)
            if "rows" in first[1]:
                return _write_entries(batches, sink, dataset, scratch)
            return _write_rows(batches, sink, RowSpool(scratch, _fill(first[1])))


def _write_rows(batches: Iterator[Batch], sink: Sink, spool: RowSpool) -> dict[str, int]:
    for row_ids, outputs in batches:
        spool.add(row_ids, outputs)
    for lo, window in spool.windows():
        sink.write(lo, window)
    return {"n_rows": spool.n_rows}


def _write_entries(batches: Iterator[Batch], sink: Sink, dataset: Dataset, folder: Path) -> dict[str, int]:
    n_rows = _n_source_rows(dataset)
    spill = EntrySpill(str(folder / "entries"), 0, n_rows, dataset.n_cols, dataset.nnz)
    for _, outputs in batches:
        for lo in range(0, len(outputs["rows"]), BUFFER_ENTRIES):
            spill.add(*(outputs[name][lo : lo + BUFFER_ENTRIES] for name in ("rows", "columns", "values")))
    n_entries = 0
    for lo, X in spill.iter_rows():
        X.sort_indices()
        rows = lo + np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        entries = {"rows": rows, "columns": X.indices.astype(np.int64), "values": X.data}
        sink.write(n_entries, entries)
        n_entries += len(rows)
    return {"n_rows": n_rows, "n_entries": n_entries}


def _fill(outputs: Mapping[str, Array]) -> dict[str, float]:
    """What rows hold that the dataset left out, by output."""
    fill = {name: -1.0 for name in ("labels", "columns") if name in outputs}
    if "labels" not in outputs:
        fill |= {name: np.nan for name, values in outputs.items() if values.dtype.kind == "f"}
    return fill


def _n_source_rows(dataset: Dataset) -> int:
    """One more than the largest row number."""
    starts = range(0, dataset.n_rows, ROW_IDS)
    return max((int(np.asarray(dataset.row_ids[lo : lo + ROW_IDS]).max()) + 1 for lo in starts), default=0)
