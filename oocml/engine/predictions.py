"""Predictions of a run, in the order of the source's rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oocml.data.column_order import ColumnOrder
from oocml.data.dataset import Dataset
from oocml.engine.entry_spool import EntrySpool
from oocml.engine.out_path import making
from oocml.engine.output_names import OutputNames
from oocml.engine.prediction_sinks import Sink, TextSink, ZarrSink
from oocml.engine.spool import RowSpool
from oocml.models.protocol import Array
from oocml.store.run import RunStore

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
    source that the dataset left out have label, column, component or topic -1; their scores are 0 for labels, else NaN.
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
            spool: RowSpool | EntrySpool | None = None
            for row_ids, outputs in batches:
                if spool is None:
                    per_entry = "rows" in outputs
                    spool = EntrySpool(scratch, dataset) if per_entry else RowSpool(scratch, _fill(outputs))
                spool.add(row_ids, outputs)
                del row_ids, outputs  # before the next ones are made
            if spool is None:
                return {"n_rows": 0}
            for lo, window in spool.windows():
                sink.write(lo, window)
    counts = {"n_entries": spool.n_entries} if isinstance(spool, EntrySpool) else {}
    return {"n_rows": spool.n_rows, **counts}


def _fill(outputs: Mapping[str, Array]) -> dict[str, float]:
    """What rows hold that the dataset left out, by output."""
    fill = {name: -1.0 for name in ("labels", "columns", "components", "topics") if name in outputs}
    if "labels" not in outputs:
        fill |= {name: np.nan for name, values in outputs.items() if values.dtype.kind == "f"}
    return fill
