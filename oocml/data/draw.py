"""A random part of a source's rows: those to train on, or all the others.

Whether a row is drawn depends on its place in its source and the seed alone (rows of one query stay together), not on
how sources are cut into parts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from oocml.data.deal import deal_keys
from oocml.data.readers import LabelLists, RowBatch
from oocml.kernels.sparse_rows import gather_lists, gather_rows
from oocml.types import Csr, Float32Array


class Draw(NamedTuple):
    """Which rows are wanted."""

    share: str
    """``"train"``: the rows drawn; ``"test"``: all the others."""
    fraction: float
    """Mean share of the rows that are drawn."""
    seed: int


def drawn(draw: Draw, source: int, batch: RowBatch) -> RowBatch:
    """The rows of a batch that are wanted. The range of indices stays that of all rows."""
    seed = int(np.random.SeedSequence([draw.seed, 2]).generate_state(1, np.uint64)[0])
    keys = deal_keys(source, batch.position, batch.qid, seed=seed, keep_order=False)
    train = keys < np.uint64(draw.fraction * 2.0**64)
    order = np.flatnonzero(train if draw.share == "train" else ~train)
    X: Csr | Float32Array
    if isinstance(batch.X, Csr):
        nnz = int(np.diff(batch.X.indptr)[order].sum())
        X = Csr(np.empty(len(order) + 1, np.int64), np.empty(nnz, np.int32), np.empty(nnz, np.float32))
        gather_rows(order, *batch.X, *X)
    else:
        X = batch.X[order]
    labels = batch.labels
    if labels is not None:
        n_labels = int(np.diff(labels.indptr)[order].sum())
        labels = LabelLists(np.empty(len(order) + 1, np.int64), np.empty(n_labels))
        gather_lists(order, *batch.labels, *labels)
    return batch._replace(
        X=X,
        position=batch.position[order],
        labels=labels,
        qid=None if batch.qid is None else batch.qid[order],
        index_range=index_range(batch),
    )


def index_range(batch: RowBatch) -> tuple[int, int]:
    """Smallest and largest raw index of a batch, (-1, -1) without entries."""
    if batch.index_range is not None:
        return batch.index_range
    if not isinstance(batch.X, Csr):
        return 0, batch.X.shape[1] - 1
    if not len(batch.X.indices):
        return -1, -1
    return int(batch.X.indices.min()), int(batch.X.indices.max())
