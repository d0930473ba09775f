"""Kernels of the column partition: columns dealt to blocks, rows cut into tiles."""

import numpy as np

from oocml.kernels.jit import jit

# i=row, j=column within its block, q=column block, e=stored entry, f=entry of the output

LONG = 32
"""Rows of a tile with more entries are sorted by a sort that is fast for many."""


@jit
def order_light(nnz, light, order):  # type: ignore[no-untyped-def]
    """Columns of fewer than ``light`` entries by falling entries, then by number, from the end of ``order`` back."""
    ends = np.zeros(light + 1, np.int64)
    for c in range(len(nnz)):
        if nnz[c] < light:
            ends[nnz[c]] += 1
    at = np.int64(len(order))
    for n in range(light):  # the fewest entries come last
        at -= ends[n]
        ends[n] = at
    for c in range(len(nnz)):
        n = nnz[c]
        if n < light:
            order[ends[n]] = c
            ends[n] += 1


@jit
def sift_down(heap, size):  # type: ignore[no-untyped-def]
    """Put the root of a heap where it belongs."""
    at = 0
    key = heap[0]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if key <= heap[child]:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key


@jit
def deal(order, nnz, bounds, dealt):  # type: ignore[no-untyped-def]
    """Give each column of ``order`` to the block of least load that has room; a column weighs 1 or its entries."""
    n_blocks = len(bounds) - 1
    bits = np.int64(0)
    while (1 << bits) < n_blocks:
        bits += 1
    ends = bounds[:-1].copy()
    heap = np.empty(n_blocks, np.int64)  # load and number of a block in one word
    size = 0
    for q in range(n_blocks):
        if bounds[q + 1] > bounds[q]:
            heap[size] = q
            size += 1
    for r in range(len(order)):
        q = heap[0] & ((1 << bits) - 1)
        dealt[ends[q]] = order[r]
        ends[q] += 1
        heap[0] += max(nnz[order[r]], 1) << bits
        if ends[q] == bounds[q + 1]:
            size -= 1
            heap[0] = heap[size]
        if size > 1:
            sift_down(heap, size)


@jit
def block_of(place, bounds, scale):  # type: ignore[no-untyped-def]
    """Column block of a place in the run's order: a guess that is right for equal widths, then a short walk.

    ``scale`` is blocks per place; the division is the caller's, once.
    """
    q = np.int64(place * scale)
    while place < bounds[q]:
        q -= 1
    while place >= bounds[q + 1]:
        q += 1
    return q


@jit
def blocks_per_place(bounds):  # type: ignore[no-untyped-def]
    """A little less than blocks / columns, so that no place is taken for one past the last block."""
    n_blocks = len(bounds) - 1
    return n_blocks * (1.0 - 1e-12) / max(bounds[n_blocks], 1)


@jit
def count_blocks(indices, position, bounds, nnz):  # type: ignore[no-untyped-def]
    """Add the entries of each column block to ``nnz``."""
    scale = blocks_per_place(bounds)
    for e in range(len(indices)):
        nnz[block_of(position[indices[e]], bounds, scale)] += 1


@jit
def cut_rows(  # type: ignore[no-untyped-def]
    indptr, indices, data, lo, hi, position, bounds, ends, row_nnz, out_indices, out_data
):
    """Sort the entries of rows ``lo:hi`` by column block, then row, then column.

    ``row_nnz`` (blocks, rows) must be zero and gets the entries of each row in each block, ``ends`` (blocks,) where
    the entries of each block end.
    """
    n_blocks = len(bounds) - 1
    scale = blocks_per_place(bounds)
    origin = indptr[lo]
    places = np.empty(indptr[hi] - origin, np.int32)
    ends[:] = 0
    for i in range(lo, hi):
        for e in range(indptr[i], indptr[i + 1]):
            place = position[indices[e]]
            places[e - origin] = place
            q = block_of(place, bounds, scale)
            row_nnz[q, i - lo] += 1
            ends[q] += 1
    total = np.int64(0)
    for q in range(n_blocks):
        n = ends[q]
        ends[q] = total
        total += n
    begins = np.zeros(n_blocks, np.int64)
    row_of = np.full(n_blocks, -1, np.int64)
    for i in range(lo, hi):
        any_long = False
        for e in range(indptr[i], indptr[i + 1]):
            place = places[e - origin]
            q = block_of(place, bounds, scale)
            j = np.int32(place - bounds[q])
            f = ends[q]
            ends[q] += 1
            if row_of[q] != i:
                row_of[q] = i
                begins[q] = f
            if row_nnz[q, i - lo] > LONG:
                any_long = True
            else:
                while f > begins[q] and out_indices[f - 1] > j:
                    out_indices[f] = out_indices[f - 1]
                    out_data[f] = out_data[f - 1]
                    f -= 1
            out_indices[f] = j
            out_data[f] = data[e]
        if any_long:
            for q in range(n_blocks):
                if row_nnz[q, i - lo] > LONG:
                    order = np.argsort(out_indices[begins[q] : ends[q]])
                    out_indices[begins[q] : ends[q]] = out_indices[begins[q] : ends[q]][order]
                    out_data[begins[q] : ends[q]] = out_data[begins[q] : ends[q]][order]


@jit
def fill_indptr(row_nnz, indptr):  # type: ignore[no-untyped-def]
    """Row pointers from the entries of each row; returns their sum."""
    at = np.int64(0)
    indptr[0] = 0
    for i in range(len(row_nnz)):
        at += row_nnz[i]
        indptr[i + 1] = at
    return at
