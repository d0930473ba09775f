"""Kernels of the column partition: columns dealt to blocks, rows cut into tiles."""

from typing import NamedTuple

import numpy as np

from oocml.kernels.jit import jit
from oocml.types import Int32Array, Int64Array

# i=row, j=column within its block, q=column block, e=stored entry, f=entry of the output

LONG = 32
"""Rows of a tile with more entries are sorted by a sort that is fast for many."""
MOST_HEAVY = 1 << 20
"""Columns that are dealt one by one."""
COLUMNS_AT_ONCE = 1 << 20
"""Columns whose entries are looked at at a time."""
SLICE_COUNTS = 1 << 22
"""Rows x column blocks that are cut at a time."""
_U = np.uint64


def order_bytes(n_cols: int) -> int:
    """Memory of an order of columns, for looking places up."""
    return 8 * min(n_cols, MOST_HEAVY) + (n_cols // 5 if n_cols > MOST_HEAVY else 0)


def dealing_bytes(n_cols: int) -> int:
    """Memory that it takes to deal columns, and to write what belongs to them in their new order."""
    return order_bytes(n_cols) + 40 * min(n_cols, MOST_HEAVY) + 48 * min(n_cols, COLUMNS_AT_ONCE)


def cutting_bytes(panel_bytes: int, panel_rows: int, n_blocks: int) -> int:
    """Memory that it takes to cut panels of at most that size into tiles, however many they are, beside the order.

    The last panel, the next one twice while it is read, places and the cut entries; and counts by row and column block.
    """
    counts = 4 * min(max(SLICE_COUNTS, n_blocks), panel_rows * n_blocks)
    return 5 * panel_bytes + counts + 64 * n_blocks


class Places(NamedTuple):
    """Where each column of a dataset is in a run's order, in little memory; `oocml.data.column_order` says how."""

    heavy: Int32Array
    """Place of each heavy column, by number."""
    marks: np.ndarray
    """uint64: bit c is set if column c is heavy; empty if all are."""
    ranks: Int32Array
    """Heavy columns before the first column of each word of ``marks``."""
    first: Int64Array
    """Place of the first light column of each block, blocks by falling room."""
    light: Int64Array
    """First light column of each phase, counted among light ones."""
    turn: Int64Array
    """First turn of each phase."""
    blocks: Int64Array
    """Blocks that have room throughout each phase: the first ones."""


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
def deal(order, nnz, bounds, places, ends):  # type: ignore[no-untyped-def]
    """Give each column of ``order`` to the block of least load that has room; a column weighs 1 or its entries.

    ``places`` gets the place of each column, ``ends`` (blocks,) the one after the last that was given in each block.
    """
    n_blocks = len(bounds) - 1
    bits = np.int64(0)
    while (1 << bits) < n_blocks:
        bits += 1
    ends[:] = bounds[:-1]
    heap = np.empty(n_blocks, np.int64)  # load and number of a block in one word
    size = 0
    for q in range(n_blocks):
        if bounds[q + 1] > bounds[q]:
            heap[size] = q
            size += 1
    for r in range(len(order)):
        q = heap[0] & ((1 << bits) - 1)
        places[order[r]] = ends[q]
        ends[q] += 1
        heap[0] += max(nnz[order[r]], 1) << bits
        if ends[q] == bounds[q + 1]:
            size -= 1
            heap[0] = heap[size]
        if size > 1:
            sift_down(heap, size)


@jit
def bits_set(word):  # type: ignore[no-untyped-def]
    """How many bits of a word are set."""
    word -= (word >> _U(1)) & _U(0x5555555555555555)
    word = (word & _U(0x3333333333333333)) + ((word >> _U(2)) & _U(0x3333333333333333))
    word = (word + (word >> _U(4))) & _U(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * _U(0x0101010101010101)) >> _U(56))


def shift_of(turn, n_blocks):  # type: ignore[no-untyped-def]
    """By how much the blocks are shifted in a turn (turn < 2^31): hashed, so that no pattern of columns meets it."""
    return (((turn * 2654435761) & 0xFFFFFFFF) * n_blocks) >> 32


_shift_of = jit(shift_of)


@jit
def find_places(places, columns, found):  # type: ignore[no-untyped-def]
    """Place of each of ``columns`` in the run's order."""
    # c=column, t=column among the light ones, i=block by falling room
    if len(places.marks) == 0:
        for e in range(len(columns)):
            found[e] = places.heavy[columns[e]]
        return
    for e in range(len(columns)):
        c = np.int64(columns[e])
        mask, bit = places.marks[c >> 6], _U(c & 63)
        before = places.ranks[c >> 6] + bits_set(mask & ((_U(1) << bit) - _U(1)))
        if (mask >> bit) & _U(1):
            found[e] = places.heavy[before]
            continue
        t = c - before
        phase = 0
        while phase + 1 < len(places.light) and t >= places.light[phase + 1]:
            phase += 1
        n_blocks = places.blocks[phase]
        t -= places.light[phase]
        turn = t // n_blocks
        i = t - turn * n_blocks
        turn += places.turn[phase]
        i += _shift_of(turn, n_blocks)
        if i >= n_blocks:
            i -= n_blocks
        found[e] = places.first[i] + turn


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
def count_blocks(indices, places, bounds, nnz):  # type: ignore[no-untyped-def]
    """Add the entries of each column block to ``nnz``."""
    scale = blocks_per_place(bounds)
    found = np.empty(len(indices), np.int32)
    find_places(places, indices, found)
    for e in range(len(indices)):
        nnz[block_of(found[e], bounds, scale)] += 1


@jit
def sort_by_block(places, bounds, ends, order):  # type: ignore[no-untyped-def]
    """Numbers of the places that aren't negative, by block, then as they were; ``ends`` says where each block's end."""
    scale = blocks_per_place(bounds)
    ends[:] = 0
    for i in range(len(places)):
        if places[i] >= 0:
            ends[block_of(places[i], bounds, scale)] += 1
    total = np.int64(0)
    for q in range(len(ends)):
        n = ends[q]
        ends[q] = total
        total += n
    for i in range(len(places)):
        if places[i] >= 0:
            q = block_of(places[i], bounds, scale)
            order[ends[q]] = i
            ends[q] += 1


@jit
def cut_rows(  # type: ignore[no-untyped-def]
    indptr, indices, data, lo, hi, places, bounds, ends, row_nnz, out_indices, out_data
):
    """Sort the entries of rows ``lo:hi`` by column block, then row, then column.

    ``row_nnz`` (blocks, rows) must be zero and gets the entries of each row in each block, ``ends`` (blocks,) where
    the entries of each block end.
    """
    n_blocks = len(bounds) - 1
    scale = blocks_per_place(bounds)
    origin = indptr[lo]
    found = np.empty(indptr[hi] - origin, np.int32)
    find_places(places, indices[origin : indptr[hi]], found)
    ends[:] = 0
    for i in range(lo, hi):
        for e in range(indptr[i], indptr[i + 1]):
            q = block_of(found[e - origin], bounds, scale)
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
            place = found[e - origin]
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
