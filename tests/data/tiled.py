"""Small datasets with several panels, and what their tiles must be."""

import numpy as np
import scipy.sparse as sp

from oocml.data.dataset import Dataset
from oocml.data.writer import DatasetWriter
from oocml.types import Csr, LabelSets, Panel


def random_rows(rng, n_rows, n_cols, density=0.3):
    """A random matrix with empty rows, and columns whose frequencies differ."""
    popular = rng.random(n_cols) ** 2 * 2 * density
    dense = rng.random((n_rows, n_cols)) < popular
    dense[rng.random(n_rows) < 0.1] = False
    return sp.csr_matrix(np.where(dense, rng.standard_normal((n_rows, n_cols)), 0).astype(np.float32))


def write(path, X, panel_bounds, label_kind="number", sparse=True):
    """A dataset with rows of ``X`` in panels; labels are row numbers, row ids their tenfold."""
    writer = DatasetWriter(path, n_cols=X.shape[1], label_kind=label_kind, sparse=sparse)
    for p, (lo, hi) in enumerate(zip(panel_bounds[:-1], panel_bounds[1:], strict=True)):
        part = X[lo:hi].tocsr()
        rows = np.arange(lo, hi, dtype=np.int64)
        y = {
            "none": None,
            "number": rows.astype(np.float64),
            "sets": LabelSets(np.arange(hi - lo + 1, dtype=np.int64), (rows % 5).astype(np.int32)),
        }[label_kind]
        csr = Csr(part.indptr.astype(np.int64), part.indices.astype(np.int32), part.data)
        panel = Panel(csr, y, 10 * rows)
        if sparse:
            writer.write_panel(p, panel)
        else:
            writer.write_dense_panel(p, part.toarray(), panel, lo)
    labels = np.arange(5) if label_kind == "sets" else None
    return Dataset.open(writer.finish(n_panels=len(panel_bounds) - 1, labels=labels))


def even_bounds(n, blocks):
    return [q * n // blocks for q in range(blocks + 1)]


def assert_is(tile, wanted):
    """A tile is the given scipy matrix."""
    wanted = wanted.tocsr()
    wanted.sort_indices()
    np.testing.assert_array_equal(tile.indptr, wanted.indptr)
    np.testing.assert_array_equal(tile.indices, wanted.indices)
    np.testing.assert_array_equal(tile.data, wanted.data)
    assert [values.dtype for values in tile] == [np.int64, np.int32, np.float32]
