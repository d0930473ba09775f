"""Compile what a model needs, in a process that ends afterwards: ``python -m oocml.first_use MODEL SETTINGS``.

`oocml.engine.compilation` starts it before the first training of an installation. A rehearsal in memory compiles the
model's own kernels. A training from disk then compiles the others: those that cut tiles, look for NaN and score. If
no such training works this process fails: what it left out is not to be taken for compiled.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from oocml import api
from oocml.data.writer import DatasetWriter
from oocml.engine.rehearsal import made_up_panel, rehearse
from oocml.errors import OocmlError
from oocml.models.protocol import Settings
from oocml.models.registry import load_model

N_COLS = 3
"""Of the made-up rows."""
MADE_UP = ((3, False), (3, True), (2, False))
"""Numbers of labels, and whether there are queries, in the order tried: what one model wants another refuses."""


def train_from_disk(
    reference: str, settings: Settings, folder: Path, *, queries: bool, n_labels: int = 3
) -> None:
    """Train on the made-up rows as stored data and score every epoch. Raises what a training raises."""
    panel = made_up_panel(n_labels)
    counts = (1 + np.arange(len(panel.X.data)) % 3).astype(np.float32)  # which every model takes
    panel = panel._replace(X=panel.X._replace(data=counts))
    writer = DatasetWriter(folder / "rows.zarr", n_cols=N_COLS, label_kind="number")
    writer.write_panel(0, panel, qid=panel.qid if queries else None)
    data = writer.finish(n_panels=1)
    how: dict[str, Any] = {"epochs": 2, "schedule": "serial", "settings": settings}
    api.train(reference, data, folder / "run.zarr", valid=data, **how)


def main(reference: str, settings: Settings) -> None:
    """Compile what a training uses; raises the last refusal if nothing could be trained from disk."""
    rehearse(load_model(reference), settings)
    refused: OocmlError | None = None
    for n_labels, queries in MADE_UP:
        try:
            with tempfile.TemporaryDirectory(prefix="oocml-") as folder:
                train_from_disk(reference, settings, Path(folder), queries=queries, n_labels=n_labels)
            return
        except OocmlError as error:
            refused = error
    assert refused is not None
    raise refused


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
