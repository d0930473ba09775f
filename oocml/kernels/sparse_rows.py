"""Kernels over rows of a sparse matrix, used where datasets are written."""

from oocml.kernels.jit import jit


@jit
def add_feature_stats(indices, data, nnz, sumsq):  # type: ignore[no-untyped-def]
    """Add the entries and squares of each column to ``nnz`` and ``sumsq``, in storage order."""
    # e=nonzero, j=column
    for e in range(len(indices)):
        j = indices[e]
        nnz[j] += 1
        sumsq[j] += float(data[e]) * float(data[e])
