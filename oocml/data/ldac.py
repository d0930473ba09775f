"""LDA-C documents: ``length word:count ...``, a document a line, where length is how many different words follow.

Words are numbered from 0. Counts are natural numbers; those of a word that occurs twice in a line are added up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from oocml.data.parts import Block, BytesArray, iter_blocks, text_parts
from oocml.data.readers import BadLines, Part, RowBatch, Schema, Totals
from oocml.data.word_list import read_words, word_schema
from oocml.kernels import documents
from oocml.kernels.svmlight import count_marks
from oocml.types import Csr

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

REASONS = {
    documents.NO_LENGTH: "{field!r} is not the number of words that follow",
    documents.NOT_NUMBERS: "{field!r} is not word:count",
    documents.NO_WORD: "word of {field!r} is beyond the vocabulary, whose last is {last}",
    documents.OUT_OF_RANGE: "number of {field!r} is out of range",
}


class LdacReader:
    """Reads LDA-C files, plain or compressed.

    Parameters
    ----------
    vocab
        A file with a word a line, which names the columns and says how many there are (default: as many as occur).
    """

    def __init__(self, *, vocab: str | None = None) -> None:
        self._vocab = vocab

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        self._words()
        return text_parts(paths, part_bytes)

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        words = self._words()
        n_words = -1 if words is None else len(words)
        line = 0
        for block in iter_blocks(part):
            batch, n_lines = _parse(block, n_words, bad, line)
            line += n_lines
            yield batch

    def facts(self) -> Any:
        return None

    def merge(
        self, parts: Sequence[Part], facts: Iterable[Any], totals: Totals, like: Dataset | None
    ) -> Schema:
        del parts, facts
        words = self._words()
        return word_schema(totals, like, words, n_cols=None if words is None else len(words), base=0)

    def _words(self) -> list[str] | None:
        return None if self._vocab is None else read_words(self._vocab)


def _parse(block: Block, n_words: int, bad: BadLines, line: int) -> tuple[RowBatch, int]:
    """The documents of a block, and how many lines it has."""
    text = block.text
    n_lines, n_colons, _ = count_marks(text)
    indptr, row_at = np.empty(n_lines + 1, np.int64), np.empty(n_lines, np.int64)
    indices, data = np.empty(n_colons, np.int32), np.empty(n_colons, np.float32)
    wrong = np.empty((n_lines, 4), np.int64)
    n_rows, _, n_wrong, highest = documents.parse_ldac(text, n_words, indptr, indices, data, row_at, wrong)
    for n, problem, at, found in wrong[:n_wrong].tolist():
        bad.add(line + n, _reason(problem, at, found, text, n_words))
    nnz = int(indptr[n_rows])
    X = Csr(indptr[: n_rows + 1], indices[:nnz].copy(), data[:nnz].copy())
    span = (-1, -1) if highest < 0 else (0, int(highest))
    return RowBatch(X, row_at[:n_rows] + block.position, index_range=span), n_lines


def _reason(problem: int, at: int, found: int, text: BytesArray, n_words: int) -> str:
    if problem == documents.WRONG_LENGTH:
        return f"{at} words are promised and {found} follow"
    start = re.match(rb"\S*", text[at : at + 200].tobytes())
    field = start.group().decode("utf-8", "replace") if start else ""
    return REASONS[problem].format(field=field if len(field) <= 40 else field[:40] + "...", last=n_words - 1)
