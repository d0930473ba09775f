"""LETOR / SVMrank text: rows that belong to queries, each with its grade.

A line is ``grade qid:query index:value ... [# comment]``. Rows of one query may stand anywhere in the sources: they
are stored together, in the order of the source, and never cut apart. Indices and values are those of libsvm text.
"""

from __future__ import annotations

from collections.abc import Iterator

from oocml.data.libsvm import Grammar, LibsvmReader, parse_block
from oocml.data.parts import iter_blocks
from oocml.data.readers import BadLines, Part, RowBatch

RANKED = Grammar(is_ranked=1)


class LetorReader(LibsvmReader):
    """``grade qid:query index:value ... [# comment]``, a line per row."""

    def read(self, part: Part, bad: BadLines) -> Iterator[RowBatch]:
        line = 0
        for block in iter_blocks(part):
            batch, n_lines = parse_block(block, bad, line, part.path, RANKED)
            line += n_lines
            yield batch
