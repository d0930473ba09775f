"""Compile what a model needs, in a process that ends afterwards: ``python -m oocml.first_use MODEL SETTINGS``.

`oocml.engine.compilation` starts it before the first training of an installation. A rehearsal in memory compiles the
model's own kernels. A training from disk then compiles the others: those that cut tiles, look for NaN and score.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from oocml import api
from oocml.data.writer import DatasetWriter
from oocml.engine.rehearsal import made_up_panel, rehearse
from oocml.models.protocol import Settings
from oocml.models.registry import load_model

N_COLS = 3
"""Of the made-up rows."""


def train_from_disk(reference: str, settings: Settings, folder: Path, *, queries: bool) -> None:
    """Train on the made-up rows as stored data and score every epoch. Raises what a training raises."""
    panel = made_up_panel(n_labels=3)
    counts = (1 + np.arange(len(panel.X.data)) % 3).astype(np.float32)  # which every model takes
    panel = panel._replace(X=panel.X._replace(data=counts))
    writer = DatasetWriter(folder / "rows.zarr", n_cols=N_COLS, label_kind="number")
    writer.write_panel(0, panel, qid=panel.qid if queries else None)
    data = writer.finish(n_panels=1)
    how: dict[str, Any] = {"epochs": 2, "schedule": "serial", "settings": settings}
    api.train(reference, data, folder / "run.zarr", valid=data, **how)


def main(reference: str, settings: Settings) -> None:
    rehearse(load_model(reference), settings)
    for queries in (False, True):  # some models want them, others refuse them
        # what neither data can train is compiled where it is called first
        with contextlib.suppress(Exception), tempfile.TemporaryDirectory(prefix="oocml-") as folder:
            train_from_disk(reference, settings, Path(folder), queries=queries)
            return


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
