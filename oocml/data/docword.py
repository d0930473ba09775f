"""The UCI repository's bags of words: three header lines D, W and NNZ, then ``document word count``, an entry a line.

Documents and words are numbered from 1, and the lines of a document follow one another, documents in order. Documents
without lines are rows without entries. Counts are natural numbers; those of a word that occurs twice in a document are
added up.

A part owns the documents whose first line lies in its bytes. So it passes over the lines of the document that was begun
before it, and reads on behind its end until its last document is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from oocml.data.parts import Block, BytesArray, body_parts, iter_blocks, open_stream, undamaged
from oocml.data.readers import BadLines, Part, RowBatch, Schema, Totals
from oocml.data.word_list import read_words, word_schema
from oocml.errors import InputError
from oocml.kernels import documents
from oocml.types import Csr, Float32Array, Int32Array, Int64Array

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

ROWS_AT_ONCE = 1 << 16
FEW, MOST_EMPTY = 1 << 16, 1000
"""Documents that a file may promise: a few, and so many for each entry."""
TAIL_BYTES = 1 << 18
"""Read at a time behind the end of a part, and before its beginning."""
REASONS = {
    documents.NOT_NUMBERS: "{line!r} is not 'document word count'",
    documents.NO_DOCUMENT: "document of {line!r} is not one of 1 .. {n_documents}",
    documents.NO_WORD: "word of {line!r} is not one of 1 .. {n_words}",
    documents.OUT_OF_RANGE: "a number of {line!r} is out of range",
}


class DocwordHeader(NamedTuple):
    n_documents: int
    n_words: int
    n_entries: int
    n_lines: int
    """Lines before the first entry."""
    n_bytes: int
    """Bytes before the first entry."""


class Entries(NamedTuple):
    """Entries in the order of their documents."""

    document: Int64Array
    """From 1."""
    word: Int32Array
    """From 1."""
    number: Float32Array
    """How often the word occurs in the document."""


NOTHING = Entries(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


class DocwordReader:
    """Reads files of the UCI repository's format, plain (in parts) or compressed (each as a whole).

    Parameters
    ----------
    vocab
        A file with a word a line, as many as the header says, which names the columns.
    """

    def __init__(self, *, vocab: str | None = None) -> None:
        self._vocab = vocab
        self._n_given = 0

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        headers = {path: read_header(path) for path in paths}
        first = paths[0]
        for path, header in headers.items():
            if header.n_words != headers[first].n_words:
                raise InputError(
                    f"{path} has {header.n_words} words, {first} has {headers[first].n_words}; they must agree"
                )
        if self._vocab is not None and len(read_words(self._vocab)) != headers[first].n_words:
            raise InputError(
                f"{self._vocab} has {len(read_words(self._vocab))} words, {first} {headers[first].n_words}; "
                "they must agree"
            )
        found = body_parts(paths, part_bytes, lambda path: headers[path].n_bytes)
        whole = {part.path for part in found}
        for path in paths:  # all documents of a file may be empty
            if path not in whole:
                found.append(Part(len(found), path, headers[path].n_bytes, headers[path].n_bytes + 1))
        return found

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        header = read_header(part.path)
        self._n_given = 0
        before = _document_before(part, header) if part.lo > header.n_bytes else 0
        last, pending = before, NOTHING
        for entries in self._own(part, header, before, bad):
            # the last document may go on in the next block
            if not len(entries.document):
                continue
            entries = _joined(pending, entries)
            final = int(entries.document[-1])
            n_whole = int(np.searchsorted(entries.document, final))
            yield from _rows(entries, 0, n_whole, last, final - 1)
            last, pending = final - 1, _some(entries, n_whole, None)
        if len(pending.document):
            final = int(pending.document[0])
            pending = _joined(pending, *self._tail(part, header, final))
            yield from _rows(pending, 0, len(pending.document), last, final)
            last = final
        if part.hi < 0 or part.hi >= os.path.getsize(part.path):
            yield from _rows(NOTHING, 0, 0, last, header.n_documents)

    def _own(self, part: Part, header: DocwordHeader, before: int, bad: BadLines) -> Iterator[Entries]:
        """The entries of the part's own lines, but for those of document ``before``."""
        previous = before
        line, skip = (header.n_lines, header.n_lines) if part.hi < 0 else (0, 0)
        for block in iter_blocks(part):
            text = block.text
            while skip and len(text):
                text, skip = text[int(np.argmax(text == ord("\n"))) + 1 :], skip - 1
            if not len(text):
                continue
            entries, n_lines, n_given = parse_block(text, header, previous, bad, line)
            line, self._n_given = line + n_lines, self._n_given + n_given
            if len(entries.document):
                previous = int(entries.document[-1])
                n_before = int(np.searchsorted(entries.document, before, side="right"))
                yield _some(entries, n_before, None)

    def _tail(self, part: Part, header: DocwordHeader, document: int) -> list[Entries]:
        """What is left of a part's last document behind the part's end."""
        found: list[Entries] = []
        if part.hi < 0:
            return found
        ignored = BadLines(limit=1 << 62)  # the part they lie in counts them
        for block in iter_blocks(part._replace(lo=part.hi, hi=1 << 62), TAIL_BYTES):
            entries, _, _ = parse_block(block.text, header, document, ignored, 0)
            n_more = int(np.searchsorted(entries.document, document, side="right"))
            found.append(_some(entries, 0, n_more))
            if n_more < len(entries.document):
                break
        return found

    def facts(self) -> int:
        """Lines of the part that have fields."""
        return self._n_given

    def merge(
        self, parts: Sequence[Part], facts: Sequence[int], totals: Totals, like: Dataset | None
    ) -> Schema:
        given: dict[str, int] = {}
        for part in parts:
            given[part.path] = given.get(part.path, 0) + facts[part.index]
        for path, n in given.items():
            promised = read_header(path).n_entries
            if n != promised:
                raise InputError(
                    f"{path} promises {promised} entries and has {n}; "
                    f"is it {'cut short' if n < promised else 'more than one file'}?"
                )
        words = None if self._vocab is None else read_words(self._vocab)
        return word_schema(totals, like, words, n_cols=read_header(parts[0].path).n_words, base=1)


def read_header(path: str) -> DocwordHeader:
    """Numbers of documents, words and entries.

    Raises
    ------
    InputError
        The file is missing, empty, or its first three lines are something else.
    """
    numbers: list[int] = []
    n_bytes = 0
    with open_stream(path) as file, undamaged(path):
        for n, what in enumerate(("documents", "words", "entries"), start=1):
            line = file.readline(200)
            n_bytes += len(line)
            if not line.strip().isdigit():
                raise InputError(
                    f"{path} line {n}: {line[:40]!r} is not the number of {what}; is it docword?"
                )
            numbers.append(int(line))
    for number, what in zip(numbers, ("documents", "words"), strict=False):
        if not 1 <= number <= documents.MAX_COUNT:
            raise InputError(f"{path} promises {number} {what}; 1 to {documents.MAX_COUNT} are possible")
    n_documents, n_words, n_entries = numbers
    if n_documents > FEW + MOST_EMPTY * n_entries:  # each would be a row
        raise InputError(
            f"{path} promises {n_documents} documents but only {n_entries} entries, so that nearly all documents "
            "would be empty; correct its first line"
        )
    return DocwordHeader(n_documents, n_words, n_entries, 3, n_bytes)


def parse_block(
    text: BytesArray, header: DocwordHeader, previous: int, bad: BadLines, line: int
) -> tuple[Entries, int, int]:
    """The good entries of whole lines, how many lines there are, and how many of them have fields.

    Parameters
    ----------
    previous
        Document of the last good line before, 0 for none.
    line
        Lines of the part before these.
    """
    n_most = int(np.count_nonzero(text == ord("\n")))
    document, word = np.empty(n_most, np.int64), np.empty(n_most, np.int32)
    count, wrong = np.empty(n_most, np.float32), np.empty((n_most, 3), np.int64)
    sizes = (header.n_documents, header.n_words, previous)
    n, n_lines, n_wrong, n_given = documents.parse_docword(text, sizes, document, word, count, wrong)
    for number, problem, at in wrong[:n_wrong].tolist():
        bad.add(line + number, _reason(problem, at, text, header))
    return Entries(document[:n], word[:n], count[:n]), n_lines, n_given


def _reason(problem: int, at: int, text: BytesArray, header: DocwordHeader) -> str:
    if problem == documents.NOT_SORTED:
        return f"its document comes before {at}, that of the line before; sort the lines by document"
    line = text[at : at + 200].tobytes().split(b"\n")[0].strip()[:40].decode("utf-8", "replace")
    return REASONS[problem].format(line=line, n_documents=header.n_documents, n_words=header.n_words)


def _rows(entries: Entries, lo: int, hi: int, after: int, last: int) -> Iterator[RowBatch]:
    """Documents ``after + 1 .. last`` as rows, of which entries ``lo:hi`` are all."""
    document = entries.document[lo:hi]
    for first in range(after + 1, last + 1, ROWS_AT_ONCE):
        numbers = np.arange(first, min(first + ROWS_AT_ONCE, last + 1), dtype=np.int64)
        ends = np.searchsorted(document, numbers, side="right")
        begin = int(np.searchsorted(document, first))
        indptr = np.concatenate([[begin], ends]) - begin
        own = slice(lo + begin, lo + begin + int(indptr[-1]))
        yield RowBatch(Csr(indptr, entries.word[own].copy(), entries.number[own].copy()), numbers - 1)


def _some(entries: Entries, lo: int, hi: int | None) -> Entries:
    return Entries(entries.document[lo:hi], entries.word[lo:hi], entries.number[lo:hi])


def _joined(*pieces: Entries) -> Entries:
    return Entries(*(np.concatenate(values) for values in zip(*pieces, strict=True)))


def _document_before(part: Part, header: DocwordHeader) -> int:
    """Document of the last good line before a part of a plain file, 0 for none."""
    hi, n_bytes = part.lo, TAIL_BYTES
    while True:
        lo = max(hi - n_bytes, header.n_bytes)
        ignored = BadLines(limit=1 << 62)
        for block in _last_lines(part, lo):
            entries, _, _ = parse_block(block.text, header, 0, ignored, 0)
            if len(entries.document):
                return int(entries.document[-1])
        if lo == header.n_bytes:
            return 0
        n_bytes *= 4


def _last_lines(part: Part, lo: int) -> list[Block]:
    return list(iter_blocks(part._replace(lo=lo, hi=part.lo)))[::-1]
