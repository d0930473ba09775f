"""What ingest does with a reader, in memory and in order: the oracle that reader tests compare with other libraries."""

import numpy as np
import scipy.sparse as sp

from oocml.data.readers import BadLines, Totals


class Assembled:
    """Rows of all parts in order, columns and labels as the schema says."""

    def __init__(self, reader, paths, *, part_bytes=1 << 20, like=None, max_bad=0):
        self.parts = reader.parts([str(path) for path in paths], part_bytes)
        self.bad = [BadLines(max_bad) for _ in self.parts]
        facts, batches = [], []
        for part, bad in zip(self.parts, self.bad, strict=True):
            batches.append(list(reader.read(part, bad)))
            facts.append(reader.facts())
        flat = [batch for of_part in batches for batch in of_part]
        self.dense = bool(flat) and isinstance(flat[0].X, np.ndarray)
        self.schema = reader.merge(self.parts, facts, self._totals(flat), like)
        self.n_dropped = 0
        self.X = sp.csr_matrix((0, self.schema.n_cols), dtype=np.float32)
        self.labels, self.position = [], []
        for part, of_part in zip(self.parts, batches, strict=True):
            for batch in of_part:
                self._add(part.index, batch)

    def _totals(self, batches):
        indices = np.concatenate([np.zeros(0, int)] + [b.X.indices for b in batches if not self.dense])
        return Totals(
            n_rows=sum(len(batch.position) for batch in batches),
            nnz=indices.size,
            min_index=int(indices.min(initial=1 << 40)) if indices.size else 0,
            max_index=int(indices.max(initial=-1)),
            n_labels=0,
            max_labels=0,
            labels=np.unique(np.concatenate([np.zeros(0)] + [b.labels.values for b in batches if b.labels])),
            has_qid=False,
            dense=self.dense,
        )

    def _add(self, part, batch):
        self.position += batch.position.tolist()
        n_rows = len(batch.position)
        if self.dense:
            assert batch.X.dtype == np.float32
            self.X = sp.vstack([self.X, sp.csr_matrix(batch.X)])
        else:
            assert (batch.X.indptr.dtype, batch.X.indices.dtype, batch.X.data.dtype) == (
                np.int64,
                np.int32,
                np.float32,
            )
            columns_of = self.schema.column_map(part)
            columns = batch.X.indices - self.schema.index_base
            if columns_of is not None:
                columns = columns_of[batch.X.indices]
            rows = np.repeat(np.arange(n_rows), np.diff(batch.X.indptr))
            keep = (columns >= 0) & (columns < self.schema.n_cols)
            self.n_dropped += int((~keep).sum())
            entries = (batch.X.data[keep], (rows[keep], columns[keep]))
            more = sp.coo_matrix(entries, shape=(n_rows, self.schema.n_cols)).tocsr()
            self.X = sp.vstack([self.X, more]).tocsr()
        if batch.labels is not None:
            values = batch.labels.values
            label_of = self.schema.label_map(part)
            if label_of is not None:
                values = label_of[values.astype(int)]
            of_row = np.split(values, batch.labels.indptr[1:-1]) if n_rows else []
            self.labels += [row.tolist() for row in of_row]

    @property
    def classes(self):
        """The name of each row's class, None where it has none."""
        name_of = dict(zip(self.schema.labels.tolist(), self.schema.label_names, strict=True))
        return [name_of[row[0]] if row else None for row in self.labels]


def assert_reads(got, want):
    """Whether a matrix was read whole: values, shape, order of rows."""
    want = sp.csr_matrix(want)
    assert got.X.shape == want.shape
    np.testing.assert_array_equal(got.X.toarray(), want.toarray().astype(np.float32))
    assert got.position == list(range(want.shape[0]))
