"""Kernels over rows of a sparse matrix, used where datasets are written."""

import numpy as np

from oocml.kernels.jit import jit


@jit
def add_feature_stats(indices, data, nnz, sumsq):  # type: ignore[no-untyped-def]
    """Add the entries and squares of each column to ``nnz`` and ``sumsq``, in storage order."""
    # e=nonzero, j=column
    for e in range(len(indices)):
        j = indices[e]
        nnz[j] += 1
        sumsq[j] += float(data[e]) * float(data[e])


@jit
def gather_rows(order, indptr, indices, data, out_indptr, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Rows ``order`` of a sparse matrix, one after another."""
    # i=row of the output, e=nonzero of the input, f=nonzero of the output
    f = 0
    out_indptr[0] = 0
    for i in range(len(order)):
        for e in range(indptr[order[i]], indptr[order[i] + 1]):
            out_indices[f] = indices[e]
            out_data[f] = data[e]
            f += 1
        out_indptr[i + 1] = f


@jit
def gather_lists(order, indptr, values, out_indptr, out_values):  # type: ignore[no-untyped-def]
    """Rows ``order`` of lists by row, one after another."""
    # i=row of the output, e=value of the input, f=value of the output
    f = 0
    out_indptr[0] = 0
    for i in range(len(order)):
        for e in range(indptr[order[i]], indptr[order[i] + 1]):
            out_values[f] = values[e]
            f += 1
        out_indptr[i + 1] = f


@jit
def map_columns(indptr, indices, data, column_map, base, n_cols):  # type: ignore[no-untyped-def]
    """Rename columns in place, drop those that map outside 0..n_cols-1, and close the gaps.

    ``column_map`` of length 0 means: index minus ``base``. Returns entries left and whether every row is still in
    strictly increasing order.
    """
    # i=row, e=nonzero before, f=nonzero after, j=column
    f = 0
    in_order = True
    start = indptr[0]
    for i in range(len(indptr) - 1):
        stop = indptr[i + 1]
        previous = np.int64(-1)
        for e in range(start, stop):
            j = np.int64(indices[e])
            if len(column_map):
                j = np.int64(column_map[j]) if j < len(column_map) else np.int64(-1)
            else:
                j -= base
            if 0 <= j < n_cols:
                in_order = in_order and j > previous
                previous = j
                indices[f] = j
                data[f] = data[e]
                f += 1
        start = stop
        indptr[i + 1] = f
    return f, in_order


@jit
def sort_and_add(indptr, indices, data):  # type: ignore[no-untyped-def]
    """Sort every row by column in place and add up entries of one column. Returns entries left."""
    # i=row, e=nonzero before, f=nonzero after
    f = 0
    start = indptr[0]
    for i in range(len(indptr) - 1):
        stop = indptr[i + 1]
        order = np.argsort(indices[start:stop], kind="mergesort")
        row_indices = indices[start:stop][order]
        row_data = data[start:stop][order]
        first = f
        for e in range(len(order)):
            if f > first and indices[f - 1] == row_indices[e]:
                data[f - 1] += row_data[e]
            else:
                indices[f] = row_indices[e]
                data[f] = row_data[e]
                f += 1
        start = stop
        indptr[i + 1] = f
    return f


@jit
def sort_sets(indptr, ids):  # type: ignore[no-untyped-def]
    """Sort the ids of every row in place and drop repetitions. Returns ids left."""
    # i=row, e=id before, f=id after
    f = 0
    start = indptr[0]
    for i in range(len(indptr) - 1):
        stop = indptr[i + 1]
        row = np.sort(ids[start:stop])
        first = f
        for e in range(len(row)):
            if f == first or ids[f - 1] != row[e]:
                ids[f] = row[e]
                f += 1
        start = stop
        indptr[i + 1] = f
    return f


@jit
def gather_last(order, starts, indptr, indices, data, out_indptr, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Join fragments of rows; where a row has several entries of one column, the last stands.

    Output row i is made of the fragments ``order[starts[i]:starts[i + 1]]``, later ones last; its columns increase.
    Returns entries written.
    """
    # i=row of the output, g=fragment, e=nonzero of the input, f=nonzero of the output
    f = 0
    out_indptr[0] = 0
    for i in range(len(starts) - 1):
        first = f
        in_order = True
        for g in range(starts[i], starts[i + 1]):
            for e in range(indptr[order[g]], indptr[order[g] + 1]):
                out_indices[f], out_data[f] = indices[e], data[e]
                in_order = in_order and (f == first or out_indices[f - 1] < out_indices[f])
                f += 1
        if not in_order:
            sorted_ = np.argsort(out_indices[first:f], kind="mergesort")
            row_indices = out_indices[first:f][sorted_]
            row_data = out_data[first:f][sorted_]
            f = first
            for e in range(len(row_indices)):
                if f > first and out_indices[f - 1] == row_indices[e]:
                    f -= 1
                out_indices[f], out_data[f] = row_indices[e], row_data[e]
                f += 1
        out_indptr[i + 1] = f
    return f
