"""libsvm / svmlight text, and the batches of rows that formats with its lines are made of.

Decided here: indices count from 0 if an index 0 occurs anywhere, else from 1. Labels may be several (``1,5,7``, a
blank after a comma is allowed), missing, or real. Blank lines and comments are no rows. Explicit zeros are left out.
An index that occurs twice in a line makes it a bad line: adding up and taking the last are both in use elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from oocml.data.parts import Block, BytesArray, iter_blocks, text_parts
from oocml.data.readers import BadLines, LabelLists, Part, RowBatch, Schema, Totals, numeric_schema
from oocml.errors import InputError
from oocml.kernels import svmlight
from oocml.types import Csr, Int64Array

REASONS = {
    svmlight.BAD_LABEL: "label {!r} is not a number",
    svmlight.BAD_INDEX: "{!r} is not index:value",
    svmlight.BAD_VALUE: "value {!r} is not a finite number",
    svmlight.OUT_OF_RANGE: "number {!r} is out of range",
    svmlight.LARGE_INDEX: "index of {!r} is beyond {max_index}",
    svmlight.UNKNOWN_LABEL: "label {!r} is not one of the {n_labels} labels 0, 1, ...",
    svmlight.BAD_QUERY: "{!r} is not a query number, or not the first",
    svmlight.NO_LABEL: "no label before {!r}",
    svmlight.MANY_LABELS: "{!r} begins with several labels",
    svmlight.MISSING_QUERY: "no qid",
}


class Grammar(NamedTuple):
    """What formats with svmlight lines differ in."""

    blank_is_row: int = 0
    """1 where an empty line is a row without labels and features."""
    max_index: int = svmlight.MAX_INDEX
    n_labels: int = -1
    """Labels are 0 .. n_labels - 1; -1: any numbers."""
    is_ranked: int = 0
    """1 where every row must have one label and a query."""


PLAIN = Grammar()


class LibsvmReader:
    """``label[,label ...] [qid:n] index:value ... [# comment]``, a line per row."""

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        return text_parts(paths, part_bytes)

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        line = 0
        for block in iter_blocks(part):
            batch, n_lines = parse_block(block, bad, line, part.path)
            line += n_lines
            yield batch

    def facts(self) -> Any:
        return None

    def merge(self, parts: Sequence[Part], facts: Iterable[Any], totals: Totals, like: Any) -> Schema:
        del parts, facts
        return numeric_schema(totals, like, index_base=0 if totals.min_index == 0 else 1)


def parse_block(
    block: Block, bad: BadLines, line: int, path: str, grammar: Grammar = PLAIN
) -> tuple[RowBatch, int]:
    """The rows of a block of svmlight lines, and how many lines it has.

    Parameters
    ----------
    line
        Lines of the part before this block.
    """
    text = block.text
    n_lines, n_colons, n_commas = svmlight.count_marks(text)
    indptr = np.empty(n_lines + 1, np.int64)
    indices = np.empty(n_colons, np.int32)
    data = np.empty(n_colons, np.float32)
    label_indptr = np.empty(n_lines + 1, np.int64)
    labels = np.empty(n_lines + n_commas, np.float64)
    row_at = np.empty(n_lines, np.int64)
    qid = np.empty(n_lines, np.int64)
    wrong = np.empty((n_lines, 3), np.int64)
    hard = np.empty((n_colons + n_lines + n_commas, 3), np.int64)
    n_rows, _, n_wrong, n_hard, lowest, highest, n_queries = svmlight.parse_lines(
        text, tuple(grammar), indptr, indices, data, label_indptr, labels, row_at, qid, wrong, hard
    )
    for n, problem, at in wrong[:n_wrong].tolist():
        bad.add(line + n, _reason(problem, at, text, grammar))
    nnz, n_labels = int(indptr[n_rows]), int(label_indptr[n_rows])
    X = Csr(indptr[: n_rows + 1], indices[:nnz].copy(), data[:nnz].copy())
    lists = LabelLists(label_indptr[: n_rows + 1], labels[:n_labels].copy())
    if n_hard:
        _convert_hard(hard[:n_hard], text, X, lists, path)
    batch = RowBatch(
        X=X,
        position=row_at[:n_rows] + block.position,
        labels=lists,
        qid=qid[:n_rows] if n_queries else None,
        index_range=(int(lowest), int(highest)),
    )
    return batch, n_lines


def _reason(problem: int, at: int, text: BytesArray, grammar: Grammar) -> str:
    if problem == svmlight.DUPLICATE:
        return f"index {at} occurs twice"
    return REASONS[problem].format(_field(text, at), **grammar._asdict())


def _field(text: BytesArray, at: int) -> str:
    """The blank-separated field that begins at ``at``, cut at 40 characters."""
    found = re.match(rb"\S*", text[at : at + 200].tobytes())
    whole = found.group().decode("utf-8", "replace") if found else ""
    return whole if len(whole) <= 40 else whole[:40] + "..."


def _convert_hard(hard: Int64Array, text: BytesArray, X: Csr, labels: LabelLists, path: str) -> None:
    """Put in the numbers that the kernel left to Python, then sort their rows."""
    for kind, place, at in hard.tolist():
        token = text[at : at + 4096].tobytes().split(maxsplit=1)[0]
        value = float(token.split(b"#")[0].split(b",")[0])
        if kind == svmlight.LABEL:
            labels.values[place] = value
            continue
        if abs(value) >= svmlight.FLOAT32_OVERFLOW:
            raise InputError(f"{path}: value {value!r} is out of range")
        X.data[place] = value
    for place in hard[hard[:, 0] == svmlight.VALUE, 1]:
        row = int(np.searchsorted(X.indptr, place, side="right")) - 1
        lo, hi = X.indptr[row : row + 2]
        svmlight.sort_row(X.indices, X.data, lo, hi)
        twice = np.flatnonzero(np.diff(X.indices[lo:hi]) == 0)
        if len(twice):
            raise InputError(f"{path}: index {X.indices[lo + twice[0]]} occurs twice in a line")
