"""The Extreme Classification repository's format: a header ``N D L``, then one svmlight line per row.

Labels and features count from 0; a row may lack either or both, so an empty line is a row too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from oocml.data.libsvm import Grammar, parse_block
from oocml.data.parts import Block, iter_blocks, open_stream, text_parts, undamaged
from oocml.data.readers import BadLines, Part, RowBatch, Schema, Totals, numeric_schema
from oocml.errors import InputError


class Header(NamedTuple):
    n_rows: int
    n_cols: int
    n_labels: int


class XmcReader:
    """``N D L`` once per file, then ``label,label,... index:value ...``, a line per row."""

    def __init__(self) -> None:
        self._rows_promised = 0

    def parts(self, paths: Sequence[str], part_bytes: int) -> list[Part]:
        parts = text_parts(paths, part_bytes)
        headers = [read_header(path) for path in paths]
        for path, header in zip(paths, headers, strict=True):
            if header[1:] != headers[0][1:]:
                raise InputError(
                    f"{path} has {header.n_cols} features and {header.n_labels} labels, "
                    f"{paths[0]} has {headers[0].n_cols} and {headers[0].n_labels}"
                )
        return parts

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        header = read_header(part.path)
        grammar = Grammar(1, header.n_cols - 1, header.n_labels)
        line = 0
        for block in iter_blocks(part):
            if block.position == 0:
                self._rows_promised, line = header.n_rows, 1
                block = _without_first_line(block)
            batch, n_lines = parse_block(block, bad, line, part.path, grammar)
            line += n_lines
            yield batch

    def facts(self) -> Any:
        return self._rows_promised

    def merge(self, parts: Sequence[Part], facts: Iterable[Any], totals: Totals, like: Any) -> Schema:
        header = read_header(parts[0].path)
        promised = sum(facts)
        if totals.n_rows + totals.n_bad != promised:
            raise InputError(
                f"{parts[0].path}: the header promises {promised} rows, {totals.n_rows + totals.n_bad} lines follow"
            )
        if like is not None and like.n_cols != header.n_cols:
            raise InputError(
                f"{parts[0].path} has {header.n_cols} features, the training set {like.path} has {like.n_cols}"
            )
        schema = numeric_schema(totals, like, n_cols=header.n_cols, index_base=0)
        return replace(schema, label_kind="sets", labels=np.arange(header.n_labels, dtype=np.int64))


def read_header(path: str) -> Header:
    """The three numbers of the first line.

    Raises
    ------
    InputError
        The first line is something else.
    """
    with open_stream(path) as file, undamaged(path):
        first = file.readline(200)
    fields = first.split()
    if len(fields) != 3 or not all(field.isdigit() for field in fields):
        text = first.decode("utf-8", "replace").strip()[:40]
        raise InputError(
            f"{path} line 1: {text!r} is not a header 'rows features labels'; is it format libsvm?"
        )
    return Header(*map(int, fields))


def _without_first_line(block: Block) -> Block:
    begin = int(np.argmax(block.text == ord("\n"))) + 1
    return Block(block.text[begin:], block.position + begin)
