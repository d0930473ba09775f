"""Words and their columns: counting words while text streams by, and finding the column of each afterwards.

Words live as bytes in one array (``letters``) behind an open-addressing hash table, so that millions of them need
neither Python objects nor a width common to all. Two words are the same only if their bytes are.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from oocml.data.tokens import Tokens, hash_spans
from oocml.errors import UsageError
from oocml.kernels.jit import jit
from oocml.types import Csr, Int32Array, Int64Array

MAX_WORDS = 4_000_000
"""Distinct words a count may hold (about 170 MB) before rare ones are pruned."""
NAMES_AT_ONCE = 1 << 18
"""Words that are Python objects at a time while a table is made of them."""


class WordTable:
    """Distinct words in order of first sight, with the number of times each was added."""

    def __init__(self, n_words: int = 0, n_letters: int = 0) -> None:
        self.n_words = 0
        self._hash = np.empty(max(n_words, 64), np.uint64)
        self._offset = np.zeros(self._hash.size + 1, np.int64)
        self._counts = np.zeros(self._hash.size, np.int64)
        self._letters = np.empty(max(n_letters, 1024), np.uint8)
        self._slots = _empty_slots(self._hash.size)

    @property
    def counts(self) -> Int64Array:
        """Shape (n_words,)."""
        return self._counts[: self.n_words]

    def add(self, tokens: Tokens) -> Int32Array:
        """Count the tokens, one each; the position of each one's word."""
        return self._add(tokens, np.ones(1, np.int64))

    def merge(self, other: WordTable) -> Int32Array:
        """Add the other table's words and counts to this one; the position here of each of its words."""
        return self._add(other.tokens(), other.counts)

    def tokens(self) -> Tokens:
        """The words, once each, as tokens (of one document)."""
        n = self.n_words
        return Tokens(
            self._letters,
            self._offset[:n],
            self._offset[1 : n + 1],
            self._hash[:n],
            np.array([0, n], np.int64),
        )

    def _add(self, tokens: Tokens, times: Int64Array) -> Int32Array:
        found = np.empty(tokens.start.size, np.int32)
        done = 0
        while True:
            done, self.n_words = add_words(
                tokens.block, tokens.start, tokens.stop, tokens.hash, times, done, self.n_words,
                self._slots, self._hash, self._offset, self._letters, self._counts, found,
            )  # fmt: skip
            if done == found.size:
                return found
            self._grow(int(tokens.stop[done] - tokens.start[done]))

    def _grow(self, n_letters: int) -> None:
        used = int(self._offset[self.n_words])
        if used + n_letters > self._letters.size:
            self._letters = np.resize(self._letters[:used], max(2 * used, used + n_letters, 1024))
        if self.n_words == self._hash.size:
            size = 2 * self._hash.size
            self._hash = _longer(self._hash, size)
            self._counts = _longer(self._counts, size)
            self._offset = _longer(self._offset, size + 1)
            self._slots = _empty_slots(size)
            fill_slots(self._hash[: self.n_words], self._slots)

    def find(self, tokens: Tokens) -> Int32Array:
        """Position of each token's word, -1 for words that are not in the table."""
        return find_words(
            tokens.block, tokens.start, tokens.stop, tokens.hash,
            self._slots, self._hash, self._offset, self._letters,
        )  # fmt: skip

    def text(self) -> tuple[npt.NDArray[np.uint8], Int64Array]:
        """The words end to end, in order of first sight, and where each begins, shape (n_words + 1,)."""
        offset = self._offset[: self.n_words + 1]
        return self._letters[: offset[-1]], offset

    def words(self, keep: npt.NDArray[np.bool_] | None = None) -> list[str]:
        """The words (or those where ``keep`` is True) in order of first sight."""
        letters, offset = self._letters, self._offset
        chosen = range(self.n_words) if keep is None else np.flatnonzero(keep).tolist()
        return [letters[offset[i] : offset[i + 1]].tobytes().decode() for i in chosen]

    def prune(self, max_words: int = MAX_WORDS) -> int:
        """If there are more words than ``max_words``, drop the rarest, down to half of it; say how many went.

        Words of equal counts go together, so the result doesn't depend on the order they were seen in. Later counts
        of a dropped word start again from 0: what is kept after pruning is right for words that are frequent in
        every part of the text.
        """
        if self.n_words <= max_words:
            return 0
        counts = self.counts
        wanted = max(max_words // 2, 1)
        # The count of the first word beyond those wanted.
        floor = np.partition(counts, counts.size - wanted - 1)[counts.size - wanted - 1]
        keep = np.flatnonzero(counts > floor)
        if keep.size == 0:
            keep = np.arange(wanted)
        dropped = counts.size - keep.size
        start, stop, times = self._offset[keep], self._offset[keep + 1], counts[keep]
        kept = Tokens(self._letters, start, stop, self._hash[keep], np.array([0, keep.size]))
        self.__init__(keep.size, int((stop - start).sum()))  # type: ignore[misc]
        self._add(kept, times)
        return int(dropped)

    def __getstate__(self) -> dict[str, Any]:
        n = self.n_words
        return {
            "n_words": n,
            "_hash": self._hash[:n].copy(),
            "_offset": self._offset[: n + 1].copy(),
            "_counts": self._counts[:n].copy(),
            "_letters": self._letters[: self._offset[n]].copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        if state["n_words"]:
            self.__dict__.update(state)
            self._slots = _empty_slots(self._hash.size)
            fill_slots(self._hash, self._slots)


def table_of(words: Iterable[str]) -> WordTable:
    """A table in which each word's position is its position in ``words`` (which must be distinct)."""
    table, n_given, more = WordTable(), 0, iter(words)
    while encoded := [word.encode() for word in islice(more, NAMES_AT_ONCE)]:
        block = np.frombuffer(bytearray(b"".join(encoded) + b"\0"), np.uint8)
        offset = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(word) for word in encoded], out=offset[1:])
        hashes = hash_spans(block, offset[:-1], offset[1:])
        table.add(Tokens(block, offset[:-1], offset[1:], hashes, np.array([0, len(encoded)])))
        n_given += len(encoded)
    if table.n_words != n_given:
        raise UsageError(f"{n_given - table.n_words} of {n_given} words occur twice; give each one once")
    return table


def choose_words(table: WordTable, min_count: int = 1, max_features: int | None = None) -> list[str]:
    """Words that occur at least ``min_count`` times, the most frequent ``max_features`` of them, sorted.

    Ties at the limit go to the words that come first in the sorted order.
    """
    counts = table.counts
    keep = counts >= min_count
    if max_features is None or int(keep.sum()) <= max_features:
        return sorted(table.words(keep))
    limit = -int(np.partition(-counts[keep], max_features - 1)[max_features - 1])
    above, at = counts > limit, counts == limit
    tied = sorted(table.words(keep & at))[: max_features - int((keep & above).sum())]
    return sorted(table.words(keep & above) + tied)


def count_rows(words: Int32Array, indptr: Int64Array, n_words: int) -> Csr:
    """Words of tokens by document -> how often each word occurs in each document, in order of first sight."""
    out_indptr = np.zeros_like(indptr)
    out_words = np.empty_like(words)
    data = np.empty(words.size, np.float32)
    n = gather_counts(words, indptr, np.full(n_words, -1, np.int64), out_indptr, out_words, data)
    return Csr(out_indptr, out_words[:n], data[:n])


def hashed_columns(tokens: Tokens, n_buckets: int) -> Int32Array:
    """The bucket of each token; ``n_buckets`` is a power of 2."""
    return (tokens.hash & np.uint64(n_buckets - 1)).astype(np.int32)


def _empty_slots(n_words: int) -> Int32Array:
    return np.full(1 << (2 * n_words - 1).bit_length(), -1, np.int32)


def _longer(array: Any, size: int) -> Any:
    longer = np.zeros(size, array.dtype)
    longer[: array.size] = array
    return longer


@jit
def add_words(
    block, start, stop, hashes, times, first, n_words, slots, hash_, offset, letters, counts, found
):
    """Count tokens from ``first`` on until one needs room that isn't there; return where, and the number of words.

    ``found`` gets the word of each token.
    """
    # t=token, s=slot, w=word, e=byte
    mask = np.uint64(slots.size - 1)
    for t in range(first, start.size):
        size = stop[t] - start[t]
        s = hashes[t] & mask
        while True:
            w = slots[s]
            if w < 0:
                if n_words == hash_.size or offset[n_words] + size > letters.size:
                    return t, n_words
                w = n_words
                slots[s] = w
                hash_[w] = hashes[t]
                for e in range(size):
                    letters[offset[w] + e] = block[start[t] + e]
                offset[w + 1] = offset[w] + size
                counts[w] = 0
                n_words += 1
                break
            if hash_[w] == hashes[t] and same_bytes(block, start[t], size, letters, offset[w], offset[w + 1]):
                break
            s = (s + np.uint64(1)) & mask
        counts[w] += times[t] if times.size > 1 else times[0]
        found[t] = w
    return start.size, n_words


@jit
def find_words(block, start, stop, hashes, slots, hash_, offset, letters):
    """The word of each token, or -1."""
    # t=token, s=slot, w=word
    found = np.empty(start.size, np.int32)
    mask = np.uint64(slots.size - 1)
    for t in range(start.size):
        size = stop[t] - start[t]
        s = hashes[t] & mask
        while True:
            w = slots[s]
            if w < 0 or (
                hash_[w] == hashes[t] and same_bytes(block, start[t], size, letters, offset[w], offset[w + 1])
            ):
                break
            s = (s + np.uint64(1)) & mask
        found[t] = w
    return found


@jit
def same_bytes(block, start, size, letters, lo, hi):
    """Whether a token and a word are the same."""
    # e=byte
    if hi - lo != size:
        return False
    for e in range(size):  # noqa: SIM110 (numba has no all())
        if block[start + e] != letters[lo + e]:
            return False
    return True


@jit
def fill_slots(hashes, slots):
    """Enter distinct words, whose positions are their numbers, into empty slots."""
    # s=slot, w=word
    mask = np.uint64(slots.size - 1)
    for w in range(hashes.size):
        s = hashes[w] & mask
        while slots[s] >= 0:
            s = (s + np.uint64(1)) & mask
        slots[s] = w


@jit
def gather_counts(words, indptr, place, out_indptr, out_words, data):
    """Count equal words of each row; return how many entries there are. ``place`` is -1 everywhere."""
    # i=row, t=token, n=entry, w=word
    n = 0
    for i in range(indptr.size - 1):
        first = n
        for t in range(indptr[i], indptr[i + 1]):
            w = words[t]
            if place[w] >= first:
                data[place[w]] += 1
            else:
                place[w] = n
                out_words[n] = w
                data[n] = 1
                n += 1
        out_indptr[i + 1] = n
    return n
