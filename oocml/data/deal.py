"""Which row goes where: the order in which rows are dealt, and the cuts of that order into buckets.

Every row has a 64-bit key, and stored order is the order of keys. The key is a seeded bijection of (source, place in
the source), so neither the division into parts nor the number of workers matters; all rows of one query share the
query's key; with ``keep_order`` the key is the place itself. Files of rows sorted by key (`oocml.data.spill`) are then
cut at common keys into buckets that fit in memory, which is an external sort without a merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oocml.data.spill import SpillInfo, UInt64Array, read_keys
from oocml.types import Int64Array

BUCKET_BYTES = 32 << 20
"""Rows that are in memory at a time while panels are formed."""
SOURCE_SHIFT = 48
"""Bits of a place in a source; the source's number is above."""
HISTOGRAM_BITS = 20


def deal_keys(
    source: int, position: Int64Array, qid: Int64Array | None, *, seed: int, keep_order: bool
) -> UInt64Array:
    """Keys of rows.

    Parameters
    ----------
    source
        Which source, from 0.
    position
        Shape (n_rows,): place within the source, below 2**48.
    qid
        Queries, where the data has them.
    """
    place = position.astype(np.uint64) | np.uint64(source << SOURCE_SHIFT)
    if keep_order:
        return place
    salt = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    if qid is not None:
        return mix(qid.astype(np.uint64) ^ salt[1])
    return mix(place ^ salt[0])


def name_keys(hashes: UInt64Array, *, seed: int) -> UInt64Array:
    """Keys of rows that have names: functions of name and seed, so that any set with the same names deals alike."""
    return mix(hashes ^ np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])


def mix(x: UInt64Array) -> UInt64Array:
    """A bijection of 64-bit words that spreads them evenly (the finaliser of SplitMix64: Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def dense_panel_rows(n_cols: int, panel_bytes: int) -> int:
    """Rows of every panel but the last of dense data."""
    return max(1, panel_bytes // (4 * max(n_cols, 1)))


def bucket_cuts(
    folder: Path, infos: Sequence[SpillInfo], *, keep_order: bool, panel_rows: int
) -> UInt64Array:
    """Keys at which one bucket ends and the next begins: increasing, one fewer than buckets.

    Parameters
    ----------
    panel_rows
        Dense data: buckets then hold whole panels of this many rows. 0 for sparse data.
    """
    if panel_rows:
        n_rows = sum(info.n_rows for info in infos)
        row_bytes = max(1, sum(info.n_bytes for info in infos) // n_rows)
        step = panel_rows * max(1, BUCKET_BYTES // (panel_rows * row_bytes))
        ranks = np.arange(step, n_rows, step, dtype=np.int64)
        return _keys_in_order(folder, infos, ranks) if keep_order else _keys_at(folder, infos, ranks)
    if keep_order:
        return _cuts_between_spills(folder, infos)
    n_buckets = -(-sum(info.n_bytes for info in infos) // BUCKET_BYTES)
    return np.array([(b << 64) // n_buckets for b in range(1, n_buckets)], np.uint64)


def write_splits(folder: Path, infos: Sequence[SpillInfo], cuts: UInt64Array, path: Path) -> Int64Array:
    """Where every bucket begins in every spill file, int64 (files, buckets + 1) written to ``path``.

    Returns the rows of each bucket.
    """
    sizes = np.zeros(len(cuts) + 1, np.int64)
    with open(path, "wb") as file:
        for info in infos:
            inner = np.searchsorted(read_keys(folder, info), cuts, side="left")
            bounds = np.concatenate([[0], inner, [info.n_rows]]).astype(np.int64)
            sizes += np.diff(bounds)
            file.write(bounds.tobytes())
    return sizes


def read_splits(path: Path, n_spills: int, n_buckets: int, bucket: int) -> Int64Array:
    """Shape (files, 2): first and last row of a bucket in every spill file."""
    bounds = np.empty((n_spills, 2), np.int64)
    with open(path, "rb") as file:
        for n in range(n_spills):
            file.seek(8 * (n * (n_buckets + 1) + bucket))
            bounds[n] = np.frombuffer(file.read(16), np.int64)
    return bounds


def _cuts_between_spills(folder: Path, infos: Sequence[SpillInfo]) -> UInt64Array:
    """Keys follow the files' order: a bucket is a few whole files."""
    cuts: list[np.uint64] = []
    held = 0
    for info in infos:
        if held and held + info.n_bytes > BUCKET_BYTES:
            cuts.append(read_keys(folder, info)[0])
            held = 0
        held += info.n_bytes
    return np.array(cuts, np.uint64)


def _keys_in_order(folder: Path, infos: Sequence[SpillInfo], ranks: Int64Array) -> UInt64Array:
    """Keys of the rows of given ranks, where keys follow the files' order."""
    starts = np.concatenate([[0], np.cumsum([info.n_rows for info in infos])])
    cuts = np.empty(len(ranks), np.uint64)
    for n, info in enumerate(infos):
        mine = (ranks >= starts[n]) & (ranks < starts[n + 1])
        if mine.any():
            cuts[mine] = read_keys(folder, info)[ranks[mine] - starts[n]]
    return cuts


def _keys_at(folder: Path, infos: Sequence[SpillInfo], ranks: Int64Array) -> UInt64Array:
    """Keys of the rows of given ranks, where keys are spread evenly: a histogram, then the few cells that matter."""
    shift = np.uint64(64 - HISTOGRAM_BITS)
    counts = np.zeros(1 << HISTOGRAM_BITS, np.int64)
    for info in infos:
        cells = (read_keys(folder, info) >> shift).astype(np.int64)
        counts += np.bincount(cells, minlength=len(counts))
    ends = np.cumsum(counts)
    cell_of = np.searchsorted(ends, ranks, side="right")
    wanted = np.zeros(len(counts), bool)
    wanted[cell_of] = True
    found = [np.zeros(0, np.uint64)]
    for info in infos:
        keys = read_keys(folder, info)
        found.append(keys[wanted[(keys >> shift).astype(np.int64)]])
    known = np.sort(np.concatenate(found))
    below = np.concatenate([[0], np.cumsum(np.where(wanted, 0, counts))])[cell_of]
    return known[ranks - below]
