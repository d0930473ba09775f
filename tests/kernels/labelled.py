"""Small labelled problems for the kernels of multinomial logistic regression, and numpy references."""

import numpy as np

from oocml.kernels.mlr import CHUNK, EMPTY, LabelledRows


def labelled_rows(rng, n_rows=30, n_features=12, n_classes=7, density=0.4, max_labels=2):
    """Random rows, the first without features and the second without labels."""
    X = (rng.random((n_rows, n_features)) < density) * rng.normal(size=(n_rows, n_features))
    X[0] = 0
    X = X.astype(np.float32)
    rows, cols = X.nonzero()
    indptr = np.searchsorted(rows, np.arange(n_rows + 1)).astype(np.int64)
    sets = [
        np.sort(rng.choice(n_classes, rng.integers(1, min(max_labels, n_classes) + 1), replace=False))
        for _ in range(n_rows)
    ]
    sets[1] = np.zeros(0, np.int64)
    sizes = np.array([len(s) for s in sets])
    label_indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    weight = np.divide(1, sizes, out=np.zeros(n_rows), where=sizes > 0).astype(np.float32)
    labels = np.concatenate(sets).astype(np.int64)
    T = np.zeros((n_rows, n_classes))
    T[np.repeat(np.arange(n_rows), sizes), labels] = np.repeat(weight, sizes)
    data = LabelledRows(indptr, cols.astype(np.int32), X[rows, cols], label_indptr, labels, weight)
    return data, X.astype(np.float64), T


def empty_lse(n_rows):
    lse = np.zeros((n_rows, 3), np.float32)
    lse[:, 0] = EMPTY
    return lse


def log_sum_exp(Z):
    m = Z.max(axis=1)
    return m + np.log(np.exp(Z - m[:, None]).sum(axis=1))


def work(n=3):
    return np.empty((n, int(CHUNK)), np.float32)
