"""A dataset put back into source order: what round-trip tests compare."""

import numpy as np
import scipy.sparse as sp

from oocml.data.dataset import Dataset


class Stored:
    """All of a dataset in memory, rows in source order."""

    def __init__(self, path):
        self.dataset = Dataset.open(path)
        panels = [self.dataset.read_panel(p) for p in range(self.dataset.n_panels)]
        shape = (-1, self.dataset.n_cols)
        blocks = [
            sp.csr_matrix((p.X.data, p.X.indices, p.X.indptr), (len(p.row_ids), shape[1])) for p in panels
        ]
        self.row_ids = np.concatenate([p.row_ids for p in panels])
        order = np.argsort(self.row_ids)
        self.X = sp.vstack(blocks).tocsr()[order]
        self.y = None
        if self.dataset.label_kind == "number":
            self.y = np.concatenate([p.y for p in panels])[order]
        elif self.dataset.label_kind == "sets":
            sets = [
                set(self.dataset.labels[p.y.indices[p.y.indptr[i] : p.y.indptr[i + 1]]].tolist())
                for p in panels
                for i in range(len(p.row_ids))
            ]
            self.y = [sets[i] for i in order]
        qids = [self.dataset.read_qid(p) for p in range(self.dataset.n_panels)]
        self.qid = None if qids[0] is None else np.concatenate(qids)[order]
