"""What a panel takes in memory while it is scored."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from oocml.data.dataset import Dataset
from oocml.data.tiles import COUNT_BYTES
from oocml.engine.kept_rows import KeptRows
from oocml.models.protocol import Scoring, StateSpec
from oocml.schedule.cost import PANELS_IN_FLIGHT
from oocml.store.run import RunStore

ENTRY_BYTES = 40
"""Of an entry with its prediction, as predictions leave a batch: twice, in pieces and joined."""
RANKED_BYTES = 36
"""Of a column in a row's ranking: so far, and twice as it leaves."""
SEEN_BYTES = 16
"""Of an entry that the training had: as kept, and cut into column blocks."""
PIECE_SLACK = 1.15
"""The largest piece of a panel against the mean one; rows are dealt at random."""


def kept_bytes(scoring: Scoring, nnz: int, n_features: int) -> int:
    """What the model keeps of a batch's entries and of their columns until the batch is done."""
    of_columns = getattr(scoring, "column_bytes", 0) * min(nnz, n_features)
    return int(of_columns + getattr(scoring, "entry_bytes", 0) * nnz)


def n_pieces(scoring: Scoring, size: int, nnz: int, n_features: int, room: int, n_rows: int) -> int:
    """Into how many pieces by rows a panel of ``size`` bytes goes, so that each takes at most ``room``."""
    fixed = size - kept_bytes(scoring, nnz, n_features)
    for n in range(1, n_rows + 1):
        piece = nnz if n == 1 else int(PIECE_SLACK * nnz / n)
        if fixed + kept_bytes(scoring, piece, n_features) <= room:
            return n
    return max(1, n_rows)


def scored_bytes(
    run: RunStore,
    dataset: Dataset,
    scoring: Scoring,
    specs: Mapping[str, StateSpec],
    top: int,
    n_tiles: int,
) -> list[int]:
    """Bytes that each panel takes from when it is read until its batch is done.

    Parameters
    ----------
    top
        Length of rankings.
    n_tiles
        Column blocks that panels are cut into; 0 where they stay whole.
    """
    rows = [specs[name] for name in scoring.reads if specs[name].kind == "row"]
    # as stored, and as the model has it
    per_row = 2 * sum(np.dtype(s.dtype).itemsize * math.prod(int(d) for d in s.dims[1:]) for s in rows)
    per_row += RANKED_BYTES * top + COUNT_BYTES * n_tiles * (1 + scoring.seen)
    seen = KeptRows(run).panel_nnz if scoring.seen else np.zeros(0, np.int64)
    n_rows, sizes = np.diff(dataset.panel_bounds).tolist(), []
    for p, nnz in enumerate(dataset.panel_nnz.tolist()):
        size = PANELS_IN_FLIGHT * dataset.panel_bytes(p) + per_row * n_rows[p]
        size += ENTRY_BYTES * nnz if scoring.per_entry else 0
        size += SEEN_BYTES * int(seen[p]) if p < len(seen) else 0
        size += kept_bytes(scoring, nnz, dataset.n_cols)
        sizes.append(size)
    return sizes
