r"""Words of a text, found at the speed of the disk: lines, class fields and tokens of a block of bytes.

A block is a run of whole lines. ``split`` finds its documents (and its lines that are none), ``tokenize`` their
words: maximal runs of at least ``min_token`` word characters (``\w``), lower-cased first, as scikit-learn's default
``(?u)\b\w\w+\b`` finds them. Lines that are plain ASCII are only ever seen by the kernels; any other line is first
rewritten by Python's own ``re`` and ``str.lower`` into its words with spaces between, so that both see the same words.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.kernels.jit import jit
from oocml.types import Int64Array

BytesArray = npt.NDArray[np.uint8]

BOM = "\ufeff".encode()
TAB, NEWLINE, RETURN = 9, 10, 13


def _folding() -> BytesArray:
    """Lower-case form of every byte of a word, 0 for bytes that separate words."""
    fold = np.zeros(256, np.uint8)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum() or byte == ord("_"):
            fold[byte] = ord(chr(byte).lower()) if byte < 128 else byte
    return fold


FOLD = _folding()
KEEP = np.arange(256, dtype=np.uint8)
"""Folding for text that is to be hashed as it is: class names."""

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
SHIFT = np.uint64(33)


class BadLine(NamedTuple):
    line: int
    """Number of the line within its block, from 0."""
    reason: str


class Documents(NamedTuple):
    """The documents of a block, in order; offsets into ``block``."""

    block: BytesArray
    line: Int64Array
    """Shape (n_docs,): number of its line within the block, from 0 (empty lines count, but are no documents)."""
    class_start: Int64Array
    class_stop: Int64Array
    """Shape (n_docs,): the class field without surrounding blanks; empty where a document has none."""
    text_start: Int64Array
    text_stop: Int64Array
    n_lines: int
    bad: list[BadLine]
    min_token: int


class Tokens(NamedTuple):
    """Tokens in order of the text; offsets into ``block``, which has been lower-cased in place."""

    block: BytesArray
    start: Int64Array
    stop: Int64Array
    hash: npt.NDArray[np.uint64]
    """A 64-bit hash of each token's bytes: FNV-1a, then the finaliser of MurmurHash3."""
    indptr: Int64Array
    """Shape (n_docs + 1,); document i owns tokens ``indptr[i]:indptr[i + 1]``."""


def has_class_field(first_lines: bytes) -> bool:
    """Whether the first line that is not blank has a TAB: the default guess for "class TAB text"."""
    for line in first_lines.removeprefix(BOM).split(b"\n"):
        if line.strip():
            return b"\t" in line
    return False


def split(raw: bytes, *, classed: bool, min_token: int = 2, encoding: str = "utf-8") -> Documents:
    """The documents of a block of whole lines. Lines that are no text or lack their class are in ``bad``."""
    bad: list[BadLine] = []
    if not raw.isascii():
        raw, bad = _rewritten(raw, classed, min_token, encoding)
    block = np.frombuffer(bytearray(raw), np.uint8)
    n_lines = raw.count(b"\n") + (bool(raw) and not raw.endswith(b"\n"))
    fields = np.empty((5, n_lines), np.int64)
    missing = np.empty(n_lines, np.int64)
    n_docs, n_missing = find_documents(block, classed, fields, missing)
    bad += [
        BadLine(line, "there is no TAB between a class and a text") for line in missing[:n_missing].tolist()
    ]
    return Documents(block, *(field[:n_docs] for field in fields), n_lines, sorted(bad), min_token)


def _rewritten(raw: bytes, classed: bool, min_token: int, encoding: str) -> tuple[bytes, list[BadLine]]:
    """The block with every line that is not ASCII replaced by its class and its words; undecodable ones emptied."""
    find = _pattern(min_token).findall
    lines, bad = raw.split(b"\n"), []
    for number, line in enumerate(lines):
        if line.isascii():
            continue
        head, tab, body = line.partition(b"\t") if classed else (b"", b"", line)
        try:
            # A class field may come in another encoding too, but its bytes are kept as UTF-8 like the words'.
            name = head.decode(encoding)
            words = " ".join(find(body.decode(encoding).lower()))
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            bad.append(BadLine(number, f"byte 0x{byte:02x} is not {encoding} (try encoding=latin-1)"))
            lines[number] = b""
            continue
        # A document keeps its row even if none of its characters is part of a word.
        lines[number] = name.encode() + tab + (words.encode() or b"-")
    return b"\n".join(lines), bad


@lru_cache(maxsize=8)
def _pattern(min_token: int) -> re.Pattern[str]:
    return re.compile(rf"\w{{{min_token},}}")


def tokenize(documents: Documents) -> Tokens:
    """The words of each document. Lower-cases the block in place, but for its class fields."""
    n_bytes = int((documents.text_stop - documents.text_start).sum())
    min_token = documents.min_token
    most = n_bytes // (min_token + 1) + documents.line.size
    spans = np.empty((2, most), np.int64)
    hashes = np.empty(most, np.uint64)
    indptr = np.zeros(documents.line.size + 1, np.int64)
    n = find_tokens(
        documents.block, documents.text_start, documents.text_stop, FOLD, min_token, spans, hashes, indptr
    )
    return Tokens(documents.block, spans[0, :n], spans[1, :n], hashes[:n], indptr)


def class_tokens(documents: Documents) -> Tokens:
    """The class fields as tokens: one for each document that has one, none for the others."""
    start, stop = documents.class_start, documents.class_stop
    given = stop > start
    hashes = hash_spans(documents.block, start[given], stop[given])
    return Tokens(documents.block, start[given], stop[given], hashes, np.r_[0, np.cumsum(given)])


@jit
def find_documents(block, classed, fields, missing):
    """Fill ``fields`` (line, class start and stop, text start and stop) per document and ``missing``, the bad lines.

    Returns how many of each there are.
    """
    n_docs, n_missing, line, begin = 0, 0, 0, 0
    while begin < block.size:
        end = begin
        blank = True
        tab = -1
        while end < block.size and block[end] != 10:
            if block[end] > 32:
                blank = False
            elif block[end] == 9 and tab < 0:
                tab = end
            end += 1
        if not blank:
            if not classed:
                tab = begin - 1
            if classed and tab < 0:
                missing[n_missing] = line
                n_missing += 1
            else:
                lo, hi = begin, tab
                while lo < hi and block[lo] <= 32:
                    lo += 1
                while hi > lo and block[hi - 1] <= 32:
                    hi -= 1
                fields[0, n_docs] = line
                fields[1, n_docs] = lo
                fields[2, n_docs] = max(hi, lo)
                fields[3, n_docs] = tab + 1
                fields[4, n_docs] = end
                n_docs += 1
        line += 1
        begin = end + 1
    return n_docs, n_missing


@jit
def find_tokens(block, text_start, text_stop, fold, min_token, spans, hashes, indptr):
    """Write the tokens of each document and return how many there are."""
    # i=document, e=byte
    n = 0
    for i in range(text_start.size):
        e = text_start[i]
        stop = text_stop[i]
        while e < stop:
            while e < stop and fold[block[e]] == 0:
                e += 1
            begin = e
            h = FNV_OFFSET
            while e < stop and fold[block[e]] != 0:
                block[e] = fold[block[e]]
                h = (h ^ np.uint64(block[e])) * FNV_PRIME
                e += 1
            if e - begin >= min_token:
                spans[0, n] = begin
                spans[1, n] = e
                hashes[n] = finish_hash(h)
                n += 1
        indptr[i + 1] = n
    return n


@jit
def hash_spans(block, start, stop):
    """The hash of each span of bytes, as ``find_tokens`` hashes tokens."""
    # i=span, e=byte
    hashes = np.empty(start.size, np.uint64)
    for i in range(start.size):
        h = FNV_OFFSET
        for e in range(start[i], stop[i]):
            h = (h ^ np.uint64(block[e])) * FNV_PRIME
        hashes[i] = finish_hash(h)
    return hashes


@jit
def finish_hash(h):
    """Spread the bits of a hash, so that any of them may choose a bucket."""
    h = (h ^ (h >> SHIFT)) * MIX_1
    h = (h ^ (h >> SHIFT)) * MIX_2
    return h ^ (h >> SHIFT)
